//go:build realtest

package servers_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	computeapi "github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/imagedata"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/images"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/networks"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/subnets"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/nacre-cloud/nacre/internal/realserver"
	"github.com/nacre-cloud/nacre/servers"
	"github.com/nacre-cloud/nacre/servers/conformance"
	"github.com/nacre-cloud/nacre/servers/kit"
	"github.com/nacre-cloud/nacre/servers/parts"
)

// copies is a cloud of two processes for each function, behind HAProxy, over
// PostgreSQL and RabbitMQ, with hosts in processes of their own.
type copies struct {
	t      *testing.T
	dir    string
	url    string
	conf   map[string]any
	rabbit *realserver.Rabbit
	// programs are the running ones by name: "compute-1".
	programs map[string]*program
	cfg      kit.Config
}

// program is a process with its configuration.
type program struct {
	t            *testing.T
	name, binary string
	config       string
	cmd          *exec.Cmd
}

func (p *program) start() {
	p.t.Helper()
	p.cmd = exec.Command(p.binary, "-config", p.config)
	p.cmd.Stderr = os.Stderr
	out, err := p.cmd.StdoutPipe()
	require.NoError(p.t, err)
	require.NoError(p.t, p.cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(p.t, err, "%s ended before it was ready", p.name)
	require.Contains(p.t, line, "nacre: ")
}

func (p *program) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

var functions = []string{"identity", "image", "network", "compute"}

func startCopies(t *testing.T) *copies {
	pg := realserver.Postgres(t)
	c := &copies{t: t, dir: t.TempDir(), rabbit: realserver.RabbitMQ(t), programs: map[string]*program{}}
	out, err := exec.Command("go", "build", "-o", c.dir, "./allinone", "./node", "./nacre").CombinedOutput()
	require.NoError(t, err, string(out))
	proxy, err := os.ReadFile("../deploy/haproxy.cfg")
	require.NoError(t, err)
	conf := string(proxy)
	move := func(from string) string {
		to := "127.0.0.1:" + strconv.Itoa(realserver.Port(t))
		require.Contains(t, conf, " "+from+"\n")
		conf = strings.ReplaceAll(conf, " "+from+"\n", " "+to+"\n")
		return to
	}
	front := move(":5000")
	move(":8080")
	c.url = "http://" + front
	listen := map[string][]string{}
	for name, ports := range map[string]string{"identity": "127.0.0.1:510", "image": "127.0.0.1:511", "network": "127.0.0.1:512", "compute": "127.0.0.1:513"} {
		listen[name] = []string{move(ports + "1"), move(ports + "2")}
	}
	c.conf = map[string]any{"url": c.url, "engine": "postgres", "engine_url": pg.Areas(t, servers.Areas()...), "bus": "amqp", "bus_url": c.rabbit.URL(), "shared_dir": filepath.Join(c.dir, "shared")}
	t.Cleanup(func() {
		for _, p := range c.programs {
			p.kill()
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
	realserver.HAProxy(t, conf, front)
	// Copies start at once, as they would when a machine boots.
	for _, f := range functions {
		var wg sync.WaitGroup
		for _, p := range c.programs {
			if strings.HasPrefix(p.name, f+"-") {
				wg.Go(p.start)
			}
		}
		wg.Wait()
	}
	c.answers()
	for i := range 2 {
		c.node(fmt.Sprintf("host-%d", i+1))
	}
	c.seed()
	c.cfg = kit.Default()
	c.cfg.Engine, c.cfg.EngineURL, c.cfg.SharedDir, c.cfg.StateDir = "postgres", c.conf["engine_url"].(string), c.conf["shared_dir"].(string), filepath.Join(c.dir, "compute-1.state")
	return c
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
	p := &program{t: c.t, name: name, binary: filepath.Join(c.dir, binary), config: filepath.Join(c.dir, name+".yaml")}
	require.NoError(c.t, os.WriteFile(p.config, text, 0o600))
	c.programs[name] = p
	return p
}

func (c *copies) tool(args ...string) []byte {
	c.t.Helper()
	cmd := exec.Command(filepath.Join(c.dir, "nacre"), args...)
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

// node does what an operator does for a new host.
func (c *copies) node(name string) {
	const password = "a-password-of-a-test"
	var given struct {
		Control    string   `json:"control"`
		HostSecret string   `json:"host_secret"`
		Bus        string   `json:"bus"`
		BusURL     string   `json:"bus_url"`
		Broker     []string `json:"broker_commands"`
	}
	out := c.tool("--state-dir", filepath.Join(c.dir, "identity-1.state"), "-o", "json", "host", "add", name, "--broker", "amqp://"+strings.SplitN(c.rabbit.URL(), "@", 2)[1], "--broker-password", password)
	require.NoError(c.t, json.Unmarshal(out, &given), string(out))
	for _, line := range given.Broker {
		line, _, _ = strings.Cut(line, " || ")
		words := strings.Fields(line)
		for i := range words {
			words[i] = strings.Trim(words[i], "'")
		}
		c.rabbit.Ctl(words[1:]...)
	}
	c.add("node", name, map[string]any{"hosts": []string{name}, "control": given.Control, "host_secret": given.HostSecret, "bus": given.Bus, "bus_url": given.BusURL, "hypervisor": "fake", "dataplane": "fake"}).start()
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
		return up >= 4
	}, time.Minute, 100*time.Millisecond, "hosts that are up")
}

// audited waits until the audit finds nothing.
func (c *copies) audited(ctx context.Context) error {
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		fs, err := servers.AuditLocal(ctx, c.cfg, parts.All)
		if err != nil || len(fs) == 0 {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the audit finds %v", fs)
		}
	}
}

// TestCopies runs the conformance suite on two copies of each function, and then kills
// one of each kind in turn under load: what was acknowledged is there, every server
// comes to rest, and the audit finds nothing.
func TestCopies(t *testing.T) {
	c := startCopies(t)
	t.Run("Conformance", func(t *testing.T) {
		conformance.Run(t, conformance.Target{Admin: c.client("admin"), User: c.client("demo"), UserAuth: c.auth("demo"), Endpoint: regionOne, External: "public", Flavor: "m1.nano",
			Image: func() io.Reader { return bytes.NewReader(make([]byte, 64<<10)) }, ImageFormat: "raw", Timeout: time.Minute, Poll: 20 * time.Millisecond, Audit: c.audited})
	})
	t.Run("Kills", c.kills)
}

func (c *copies) kills(t *testing.T) {
	seconds := 20
	if v := os.Getenv("NACRE_KILL_SECONDS"); v != "" {
		var err error
		seconds, err = strconv.Atoi(v)
		require.NoError(t, err)
	}
	image := c.begin(t)
	ctx, stop := context.WithTimeout(t.Context(), time.Duration(seconds)*time.Second)
	defer stop()
	l := &load{c: c, image: image, made: map[string]bool{}}
	var wg sync.WaitGroup
	for range 4 {
		client := c.client("demo")
		wg.Go(func() { l.run(ctx, client) })
	}
	victims := []string{"identity", "image", "network", "compute", "host"}
	for n := 0; ctx.Err() == nil; n++ {
		p := c.programs[fmt.Sprintf("%s-%d", victims[n%len(victims)], 1+rand.IntN(2))]
		p.kill()
		p.start()
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
	wg.Wait()
	t.Logf("%d servers were made and %d requests failed while copies were killed, the first: %s", l.total.Load(), l.failed.Load(), l.first)
	require.Positive(t, l.total.Load())
	l.settle(t)
}

// begin makes what the load needs.
func (c *copies) begin(t *testing.T) string {
	demo := c.client("demo")
	network, err := openstack.NewNetworkV2(demo, regionOne)
	require.NoError(t, err)
	n, err := networks.Create(t.Context(), network, networks.CreateOpts{Name: "load"}).Extract()
	require.NoError(t, err)
	_, err = subnets.Create(t.Context(), network, subnets.CreateOpts{NetworkID: n.ID, CIDR: "10.9.0.0/16", IPVersion: 4}).Extract()
	require.NoError(t, err)
	store, err := openstack.NewImageV2(demo, regionOne)
	require.NoError(t, err)
	im, err := images.Create(t.Context(), store, images.CreateOpts{Name: "load", DiskFormat: "raw", ContainerFormat: "bare"}).Extract()
	require.NoError(t, err)
	require.NoError(t, imagedata.Upload(t.Context(), store, im.ID, bytes.NewReader(make([]byte, 64<<10))).ExtractErr())
	return im.ID
}

// load makes servers and deletes them.
type load struct {
	c             *copies
	image         string
	total, failed atomic.Int64
	first         string

	mu sync.Mutex
	// made are servers whose creation was acknowledged; true says that their deletion
	// was asked for.
	made map[string]bool
}

func (l *load) run(ctx context.Context, p *gophercloud.ProviderClient) {
	compute, err := openstack.NewComputeV2(p, regionOne)
	if err != nil {
		return
	}
	compute.Microversion = "2.37"
	var mine []string
	for ctx.Err() == nil {
		sv, err := computeapi.Create(context.WithoutCancel(ctx), compute, computeapi.CreateOpts{Name: "load", ImageRef: l.image, FlavorRef: "42", Networks: "auto"}, nil).Extract()
		if err != nil {
			if l.failed.Add(1) == 1 {
				l.first = err.Error()
			}
			time.Sleep(20 * time.Millisecond)
		} else {
			l.total.Add(1)
			mine = append(mine, sv.ID)
			l.note(sv.ID, false)
		}
		if len(mine) > 1 {
			if computeapi.Delete(context.WithoutCancel(ctx), compute, mine[0]).ExtractErr() == nil {
				l.note(mine[0], true)
				mine = mine[1:]
			} else {
				l.failed.Add(1)
			}
		}
	}
}

func (l *load) note(id string, deleted bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.made[id] = deleted
}

// settle waits until all is at rest, compares it with what was acknowledged, and
// deletes it.
func (l *load) settle(t *testing.T) {
	compute, err := openstack.NewComputeV2(l.c.client("demo"), regionOne)
	require.NoError(t, err)
	list := func() ([]computeapi.Server, error) {
		pages, err := computeapi.List(compute, computeapi.ListOpts{}).AllPages(t.Context())
		if err != nil {
			return nil, err
		}
		return computeapi.ExtractServers(pages)
	}
	var at []computeapi.Server
	require.Eventually(t, func() bool {
		var err error
		at, err = list()
		return assert.NoError(t, err) && !slices.ContainsFunc(at, func(s computeapi.Server) bool {
			return s.TaskState != "" || s.Status == "BUILD" || l.made[s.ID]
		})
	}, 2*time.Minute, 200*time.Millisecond, "all servers at rest")
	there := map[string]bool{}
	for _, s := range at {
		there[s.ID] = true
		require.Equal(t, "ACTIVE", s.Status, "%s: %s", s.ID, s.Fault.Message)
	}
	for id, deleted := range l.made {
		require.True(t, deleted || there[id], "server %s was acknowledged and is not there", id)
	}
	require.NoError(t, l.c.audited(t.Context()))
	for _, s := range at {
		require.NoError(t, computeapi.Delete(t.Context(), compute, s.ID).ExtractErr())
	}
	require.Eventually(t, func() bool {
		left, err := list()
		return assert.NoError(t, err) && len(left) == 0
	}, time.Minute, 200*time.Millisecond, "all servers gone")
	require.NoError(t, l.c.audited(t.Context()))
}
