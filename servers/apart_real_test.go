//go:build realtest

package servers_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/subnets"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/bus"
	"github.com/nacre-cloud/nacre/bus/amqp"
	"github.com/nacre-cloud/nacre/bus/nats"
	"github.com/nacre-cloud/nacre/internal/realserver"
	"github.com/nacre-cloud/nacre/servers"
	"github.com/nacre-cloud/nacre/servers/conformance"
	"github.com/nacre-cloud/nacre/servers/kit"
	"github.com/nacre-cloud/nacre/servers/parts"
)

// hostPassword is that of hosts' accounts at the broker.
const hostPassword = "a-password-of-a-test"

// hostNames are the hosts of a cloud of copies.
var hostNames = []string{"host-1", "host-2"}

// server is a database or a broker that is stopped and started.
type server interface {
	Stop()
	Start()
}

// beneath is what a cloud of copies stands on.
type beneath struct {
	db, broker                     server
	engine, engineURL, bus, busURL string
	// tell does what an operator does with what `nacre host add` says of the broker,
	// where that is done while it runs.
	tell func(lines []string)
	// open opens the bus with a host's account.
	open func(ctx context.Context, url, host string) (bus.Transport, error)
	// release is the directory of the programs to run; empty are those of this tree.
	release string
}

func onPostgres(t *testing.T) beneath {
	db, broker := realserver.Postgres(t), realserver.RabbitMQ(t)
	return beneath{db: db, broker: broker, engine: "postgres", engineURL: db.Areas(t, servers.Areas()...), bus: "amqp", busURL: broker.URL(), tell: broker.Tell,
		open: func(ctx context.Context, url, host string) (bus.Transport, error) {
			return amqp.Open(ctx, amqp.Options{URL: url, Host: host})
		}}
}

func onMariaDB(t *testing.T) beneath {
	users := []realserver.NATSUser{{Name: "control", Password: hostPassword}}
	for _, h := range hostNames {
		p := nats.HostPermissions("", h, "compute", "network")
		users = append(users, realserver.NATSUser{Name: "host-" + h, Password: hostPassword, Publish: p.Publish, Subscribe: p.Subscribe})
	}
	db, broker := realserver.MariaDB(t), realserver.NATS(t, users...)
	return beneath{db: db, broker: broker, engine: "mariadb", engineURL: db.Areas(t, servers.Areas()...), bus: "nats", busURL: broker.URL("control", hostPassword), tell: func([]string) {},
		open: func(ctx context.Context, url, host string) (bus.Transport, error) {
			return nats.Open(ctx, nats.Options{URL: url, Host: host})
		}}
}

// copies is a cloud of two processes for each function, behind HAProxy, over a database
// server and a broker, with hosts in processes of their own.
type copies struct {
	t   *testing.T
	on  beneath
	dir string
	// bin is where the programs are.
	bin string
	url string
	// conf is what the configurations of the functions have in common.
	conf map[string]any
	// programs are the running ones by name: "compute-1".
	programs map[string]*program
	hosts    map[string]*linked
	cfg      kit.Config
}

// linked is how a host reaches the cloud.
type linked struct {
	control, broker *realserver.TCPRelay
	// account is the broker's address with the host's account.
	account string
}

// program is a process with its configuration.
type program struct {
	name, binary, config, log string
	cmd                       *exec.Cmd
}

// start returns when the program says that it is ready.
func (p *program) start() error {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close() //nolint:errcheck // the program has it
	p.cmd = exec.Command(p.binary, "-config", p.config)
	p.cmd.Stderr, p.cmd.SysProcAttr = log, &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := p.cmd.Start(); err != nil {
		return err
	}
	said := make(chan error, 1)
	go func() {
		line, err := bufio.NewReader(out).ReadString('\n')
		if err != nil || !strings.Contains(line, "nacre: ") {
			err = fmt.Errorf("%s ended before it was ready: %q: %w", p.name, line, err)
		}
		said <- err
	}()
	select {
	case err = <-said:
	case <-time.After(time.Minute):
		err = fmt.Errorf("%s was not ready within a minute", p.name)
	}
	if err != nil {
		p.kill()
	}
	return err
}

func (p *program) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

// startAll starts programs at once, as they would when a machine boots.
func startAll(ps []*program) error {
	var wg sync.WaitGroup
	errs := make([]error, len(ps))
	for i, p := range ps {
		wg.Go(func() { errs[i] = p.start() })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// buildPrograms builds the programs of a cloud of copies; servers is the directory of
// that name.
func buildPrograms(t *testing.T, servers, to string) {
	t.Helper()
	cmd := exec.Command("go", "build", "-o", to+"/", "./allinone", "./node", "./nacre")
	cmd.Dir = servers
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
}

var functions = []string{"identity", "image", "network", "compute"}

// startCopies starts a cloud of copies. What its programs log is kept in the directory
// that NACRE_TEST_LOGS names.
func startCopies(t *testing.T, on beneath) *copies {
	c := &copies{t: t, on: on, dir: t.TempDir(), programs: map[string]*program{}, hosts: map[string]*linked{}}
	if c.bin = on.release; c.bin == "" {
		c.bin = c.dir
		buildPrograms(t, ".", c.bin)
	}
	conf, listen := c.proxied()
	c.conf = map[string]any{"url": c.url, "engine": on.engine, "engine_url": on.engineURL, "bus": on.bus, "bus_url": on.busURL, "shared_dir": filepath.Join(c.dir, "shared")}
	t.Cleanup(func() {
		for _, p := range c.programs {
			if p.cmd != nil && p.cmd.Process != nil {
				p.kill()
			}
		}
	})
	for _, f := range functions {
		for i, l := range listen[f] {
			c.add("allinone", fmt.Sprintf("%s-%d", f, i+1), map[string]any{"areas": []string{f}, "listen": l, "service_password": f + "-password",
				"service_users": []string{"nova=compute-password", "neutron=network-password", "glance=image-password"}})
		}
		c.tool("--config", c.programs[f+"-1"].config, "db", "migrate", "--area", f)
	}
	c.tool("--config", c.programs["identity-1"].config, "db", "migrate", "--area", "objectstore")
	realserver.HAProxy(t, conf, strings.TrimPrefix(c.url, "http://"))
	for _, f := range functions {
		require.NoError(t, startAll(c.both(f)))
	}
	c.answers()
	for _, name := range hostNames {
		c.node(name)
	}
	c.seed()
	c.cfg = kit.Default()
	c.cfg.Engine, c.cfg.EngineURL, c.cfg.SharedDir, c.cfg.StateDir = on.engine, on.engineURL, c.conf["shared_dir"].(string), filepath.Join(c.dir, "compute-1.state")
	return c
}

// proxied is the proxy's configuration as it is handed out, with ports of this test, and
// where the copies of each function listen.
func (c *copies) proxied() (conf string, listen map[string][]string) {
	text, err := os.ReadFile("../deploy/haproxy.cfg")
	require.NoError(c.t, err)
	conf = string(text)
	move := func(from string) string {
		to := "127.0.0.1:" + strconv.Itoa(realserver.Port(c.t))
		require.Contains(c.t, conf, " "+from+"\n")
		conf = strings.ReplaceAll(conf, " "+from+"\n", " "+to+"\n")
		return to
	}
	c.url = "http://" + move(":5000")
	move(":8080")
	listen = map[string][]string{}
	for name, ports := range map[string]string{"identity": "127.0.0.1:510", "image": "127.0.0.1:511", "network": "127.0.0.1:512", "compute": "127.0.0.1:513"} {
		listen[name] = []string{move(ports + "1"), move(ports + "2")}
	}
	return conf, listen
}

// both are the two programs of a function, or of hosts.
func (c *copies) both(of string) []*program {
	return []*program{c.programs[of+"-1"], c.programs[of+"-2"]}
}

// add writes a program's configuration.
func (c *copies) add(binary, name string, more map[string]any) *program {
	conf := map[string]any{"state_dir": filepath.Join(c.dir, name+".state")}
	if binary != "node" {
		for k, v := range c.conf {
			conf[k] = v
		}
	}
	for k, v := range more {
		conf[k] = v
	}
	text, err := yaml.Marshal(conf)
	require.NoError(c.t, err)
	logs := os.Getenv("NACRE_TEST_LOGS")
	if logs == "" {
		logs = c.dir
	}
	p := &program{name: name, binary: filepath.Join(c.bin, binary), config: filepath.Join(c.dir, name+".yaml"), log: filepath.Join(logs, name+".log")}
	require.NoError(c.t, os.WriteFile(p.config, text, 0o600))
	c.programs[name] = p
	return p
}

func (c *copies) tool(args ...string) []byte {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(c.bin, "nacre"), args...)
	cmd.Env = append(os.Environ(), "OS_CLIENT_CONFIG_FILE="+filepath.Join(c.dir, "identity-1.state", "clouds.yaml"))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(c.t, err, "%s", stderr.String())
	return out
}

// answers waits until each function answers through the proxy.
func (c *copies) answers() {
	c.t.Helper()
	client := &http.Client{Timeout: 2 * time.Second}
	for _, path := range []string{"/identity/v3", "/image/versions", "/network/", "/compute/"} {
		require.Eventually(c.t, func() bool {
			resp, err := client.Get(c.url + path)
			if err != nil {
				return false
			}
			_ = resp.Body.Close()
			return resp.StatusCode < 500
		}, 30*time.Second, 50*time.Millisecond, path)
	}
}

// node does what an operator does for a new host. Its ways to the broker and to the
// control plane can be cut.
func (c *copies) node(name string) {
	broker, err := url.Parse(c.on.busURL)
	require.NoError(c.t, err)
	l := &linked{control: realserver.Relay(c.t, strings.TrimPrefix(c.url, "http://")), broker: realserver.Relay(c.t, broker.Host)}
	c.hosts[name] = l
	broker.Host, broker.User = l.broker.Address(), nil
	var given struct {
		HostSecret string   `json:"host_secret"`
		Bus        string   `json:"bus"`
		BusURL     string   `json:"bus_url"`
		Broker     []string `json:"broker_commands"`
	}
	out := c.tool("--state-dir", filepath.Join(c.dir, "identity-1.state"), "-o", "json", "host", "add", name, "--broker", broker.String(), "--broker-password", hostPassword)
	require.NoError(c.t, json.Unmarshal(out, &given), string(out))
	l.account = given.BusURL
	c.on.tell(given.Broker)
	require.NoError(c.t, c.add("node", name, map[string]any{"hosts": []string{name}, "control": "http://" + l.control.Address(), "host_secret": given.HostSecret, "bus": given.Bus, "bus_url": given.BusURL,
		"hypervisor": "fake", "dataplane": "fake"}).start())
}

// auth are a user's options, with the password that the shared directory has.
func (c *copies) auth(user string) gophercloud.AuthOptions {
	text, err := os.ReadFile(filepath.Join(c.dir, "shared", "secrets.json"))
	require.NoError(c.t, err)
	secrets := map[string]string{}
	require.NoError(c.t, json.Unmarshal(text, &secrets))
	return gophercloud.AuthOptions{IdentityEndpoint: c.url + "/identity/v3", Username: user, Password: secrets[user+"_password"], DomainID: "default", TenantName: user, AllowReauth: true}
}

func (c *copies) client(user string) *gophercloud.ProviderClient {
	p, err := openstack.AuthenticatedClient(context.Background(), c.auth(user))
	require.NoError(c.t, err)
	p.HTTPClient.Timeout = time.Minute
	return p
}

var regionOne = gophercloud.EndpointOpts{Region: "RegionOne"}

func (c *copies) seed() {
	c.t.Helper()
	ctx := c.t.Context()
	network, err := openstack.NewNetworkV2(c.client("admin"), regionOne)
	require.NoError(c.t, err)
	var made struct{ Network struct{ ID string } }
	resp, err := network.Post(ctx, network.ServiceURL("networks"), map[string]any{"network": map[string]any{"name": "public", "router:external": true, "provider:network_type": "flat", "provider:physical_network": "public"}}, &made,
		&gophercloud.RequestOpts{OkCodes: []int{201}})
	require.NoError(c.t, err)
	require.NoError(c.t, resp.Body.Close())
	_, err = subnets.Create(ctx, network, subnets.CreateOpts{NetworkID: made.Network.ID, CIDR: "172.24.4.0/24", IPVersion: 4, EnableDHCP: ptr(false)}).Extract()
	require.NoError(c.t, err)
	compute, err := openstack.NewComputeV2(c.client("admin"), regionOne)
	require.NoError(c.t, err)
	require.Eventually(c.t, func() bool {
		var body struct {
			Services []struct{ Binary, State string }
		}
		if resp, err := compute.Get(ctx, compute.ServiceURL("os-services?binary=nova-compute"), &body, nil); err != nil || resp.Body.Close() != nil {
			return false
		}
		up := 0
		for _, s := range body.Services {
			if s.State == "up" {
				up++
			}
		}
		var agents struct{ Agents []struct{ Alive bool } }
		if resp, err := network.Get(ctx, network.ServiceURL("agents"), &agents, nil); err != nil || resp.Body.Close() != nil {
			return false
		}
		for _, a := range agents.Agents {
			if a.Alive {
				up++
			}
		}
		return up >= 2*len(hostNames)
	}, time.Minute, 100*time.Millisecond, "hosts that are up")
}

// audited waits until the audit finds nothing.
func (c *copies) audited(ctx context.Context) error {
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		fs, err := servers.AuditLocal(ctx, c.cfg, parts.All)
		if err == nil && len(fs) == 0 {
			return nil
		}
		// The database may have no connection left for one more process for a while.
		if err != nil && nacre.KindOf(err) != nacre.Unavailable || time.Now().After(deadline) {
			return errors.Join(err, fmt.Errorf("the audit finds %v", fs))
		}
	}
}

func (c *copies) conformance(t *testing.T) {
	conformance.Run(t, conformance.Target{Admin: c.client("admin"), User: c.client("demo"), UserAuth: c.auth("demo"), Endpoint: regionOne, External: "public", Flavor: "m1.nano",
		Image: func() io.Reader { return bytes.NewReader(make([]byte, 64<<10)) }, ImageFormat: "raw", Timeout: time.Minute, Poll: 20 * time.Millisecond, Audit: c.audited})
}

// apart: a host's process speaks to the broker and the control plane and to nothing
// else, a database least of all, and its account at the broker opens no other host's
// queues.
func (c *copies) apart(t *testing.T) {
	for i, name := range hostNames {
		l, other := c.hosts[name], hostNames[1-i]
		require.Contains(t, realserver.SpeaksOnlyTo(t, c.programs[name].cmd.Process.Pid, l.broker.Address(), l.control.Address()), l.broker.Address())
		tr, err := c.on.open(t.Context(), l.account, name)
		require.NoError(t, err)
		from, err := tr.Subscriber(bus.Queue, "")
		require.NoError(t, err)
		b := bus.New(tr, nil)
		for _, area := range []string{"compute", "network"} {
			for _, topic := range []string{area + ".host." + other, area + ".call." + other, area + ".report." + other, area + ".report." + name} {
				_, err := from.Subscribe(t.Context(), topic)
				require.Error(t, err, "%s reads %s", name, topic)
			}
			for _, topic := range []string{area + ".host." + other, area + ".report." + other, area + ".host." + name} {
				require.Error(t, b.Publish(t.Context(), bus.Queue, topic, struct{}{}), "%s writes %s", name, topic)
			}
		}
		require.Error(t, b.Publish(t.Context(), bus.FanOut, "notifications.compute", struct{}{}), "%s writes notifications", name)
		require.NoError(t, b.Close())
	}
}
