//go:build realtest

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	computeapi "github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/nacre-cloud/nacre/bus/nats"
	"github.com/nacre-cloud/nacre/internal/realserver"
	"github.com/nacre-cloud/nacre/servers"
	"github.com/nacre-cloud/nacre/servers/conformance"
	"github.com/nacre-cloud/nacre/servers/kit"
	"github.com/nacre-cloud/nacre/servers/parts"
)

// node is a host in a process of its own, with simulated guests.
type node struct {
	t            *testing.T
	name, config string
	binary       string
	cmd          *exec.Cmd
}

func (n *node) start() {
	n.t.Helper()
	n.cmd = exec.Command(n.binary, "-config", n.config)
	n.cmd.Stderr = os.Stderr
	out, err := n.cmd.StdoutPipe()
	require.NoError(n.t, err)
	require.NoError(n.t, n.cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(n.t, err, "it ended before its agents ran")
	require.Contains(n.t, line, "host "+n.name+" serves")
}

func (n *node) kill() {
	require.NoError(n.t, n.cmd.Process.Kill())
	_ = n.cmd.Wait()
}

func (n *node) stop() {
	require.NoError(n.t, n.cmd.Process.Signal(os.Interrupt))
	require.NoError(n.t, n.cmd.Wait())
}

// server is a database or a broker that is stopped and started.
type server interface {
	Stop()
	Start()
}

// spread is a control plane over a database and a broker whose hosts are processes of
// their own.
type spread struct {
	*process
	db, broker server
	// address is the broker's without an account; tell does what an operator does with
	// what `nacre host add` says of the broker, where that is done while it runs.
	address string
	tell    func(lines []string)
	nodes   []*node
	// trust is the file of the certificate that all show; empty is no TLS.
	trust, key string
}

// password is that of every account that must be there before its user.
const password = "a-password-of-a-test"

// rabbitPostgres is a control plane over PostgreSQL and RabbitMQ.
func rabbitPostgres(t *testing.T) *spread {
	rabbit, pg := realserver.RabbitMQ(t), realserver.Postgres(t)
	s := &spread{process: newProcess(t), db: pg, broker: rabbit, address: "amqp://" + strings.SplitN(rabbit.URL(), "@", 2)[1]}
	s.cfg.Engine, s.cfg.EngineURL, s.cfg.Bus, s.cfg.BusURL = "postgres", pg.Areas(t, servers.Areas()...), "amqp", rabbit.URL()
	s.tell = rabbit.Tell
	return s
}

// natsMaria is one over MariaDB and NATS.
func natsMaria(t *testing.T, hosts ...string) *spread {
	users := []realserver.NATSUser{{Name: "control", Password: password}}
	for _, h := range hosts {
		p := nats.HostPermissions("", h, "compute", "network")
		users = append(users, realserver.NATSUser{Name: "host-" + h, Password: password, Publish: p.Publish, Subscribe: p.Subscribe})
	}
	broker, db := realserver.NATS(t, users...), realserver.MariaDB(t)
	s := &spread{process: newProcess(t), db: db, broker: broker, address: broker.URL("", ""), tell: func([]string) {}}
	s.cfg.Engine, s.cfg.EngineURL, s.cfg.Bus, s.cfg.BusURL = "mariadb", db.Areas(t, servers.Areas()...), "nats", broker.URL("control", password)
	return s
}

func build(t *testing.T, dir, what string) string {
	binary := filepath.Join(dir, filepath.Base(what))
	out, err := exec.Command("go", "build", "-o", binary, what).CombinedOutput()
	require.NoError(t, err, string(out))
	return binary
}

// run starts the control plane and its hosts.
func (s *spread) run(t *testing.T, hosts ...string) {
	s.more = []string{"-hosts", kit.None, "-engine", s.cfg.Engine, "-engine-url", s.cfg.EngineURL, "-bus", s.cfg.Bus, "-bus-url", s.cfg.BusURL}
	if s.trust != "" {
		s.more = append(s.more, "-tls-cert", s.trust, "-tls-key", s.key, "-tls-ca", s.trust)
	}
	s.start()
	dir := t.TempDir()
	binary, tool := build(t, dir, "../node"), build(t, dir, "../nacre")
	for _, name := range hosts {
		s.nodes = append(s.nodes, s.addNode(t, dir, binary, tool, name))
	}
	t.Cleanup(func() {
		for _, n := range s.nodes {
			_ = n.cmd.Process.Kill()
			_ = n.cmd.Wait()
		}
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
	})
}

// addNode does what an operator does: nacre host add, the broker's commands, and the
// node with the configuration that it wrote.
func (s *spread) addNode(t *testing.T, dir, binary, tool, name string) *node {
	cmd := exec.Command(tool, "--state-dir", s.state, "-o", "json", "host", "add", name, "--broker", s.address, "--broker-password", password)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, stderr.String())
	var given struct {
		Control    string   `json:"control"`
		HostSecret string   `json:"host_secret"`
		Bus        string   `json:"bus"`
		BusURL     string   `json:"bus_url"`
		Broker     []string `json:"broker_commands"`
	}
	require.NoError(t, json.Unmarshal(out, &given), string(out))
	require.NotEmpty(t, given.Broker)
	s.tell(given.Broker)
	n := &node{t: t, name: name, binary: binary, config: filepath.Join(dir, name+".yaml")}
	conf := map[string]any{"hosts": []string{name}, "control": given.Control, "host_secret": given.HostSecret, "bus": given.Bus, "bus_url": given.BusURL,
		"hypervisor": "fake", "dataplane": "fake", "state_dir": filepath.Join(dir, name)}
	if s.trust != "" {
		conf["tls_ca"] = s.trust
	}
	text, err := yaml.Marshal(conf)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(n.config, text, 0o600))
	n.start()
	return n
}

// up waits until that many hosts are.
func (s *spread) up(want int) {
	s.t.Helper()
	auth := s.auth("nacre-admin")
	require.Eventually(s.t, func() bool {
		admin, err := openstack.AuthenticatedClient(context.Background(), auth)
		if err != nil {
			return false
		}
		c, err := openstack.NewComputeV2(admin, gophercloud.EndpointOpts{Region: "RegionOne"})
		if err != nil {
			return false
		}
		var body struct{ Services []struct{ State string } }
		resp, err := c.Get(context.Background(), c.ServiceURL("os-services"), &body, nil)
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		n := 0
		for _, x := range body.Services {
			if x.State == "up" {
				n++
			}
		}
		return n >= want
	}, time.Minute, 100*time.Millisecond, "hosts that are up")
}

// TestNodes runs the conformance suite on control planes with two hosts in processes of
// their own, and then kills each kind of process, and stops the database and the
// broker, under load: every server comes to rest, and the audit finds nothing.
func TestNodes(t *testing.T) {
	hosts := []string{"compute-1", "compute-2"}
	for name, open := range map[string]func(t *testing.T) *spread{
		"PostgreSQL and RabbitMQ": rabbitPostgres,
		"MariaDB and NATS":        func(t *testing.T) *spread { return natsMaria(t, hosts...) },
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			s.run(t, hosts...)
			s.up(2)
			for _, n := range s.nodes {
				u, err := url.Parse(s.address)
				require.NoError(t, err)
				realserver.SpeaksOnlyTo(t, n.cmd.Process.Pid, u.Host, s.listen)
			}
			t.Run("Conformance", s.conformance)
			t.Run("Kills", s.kills)
		})
	}
}

func (s *spread) conformance(t *testing.T) {
	admin, err := openstack.AuthenticatedClient(t.Context(), s.auth("nacre-admin"))
	require.NoError(t, err)
	user, err := openstack.AuthenticatedClient(t.Context(), s.auth("nacre"))
	require.NoError(t, err)
	conformance.Run(t, conformance.Target{
		Admin: admin, User: user, UserAuth: s.auth("nacre"), Endpoint: gophercloud.EndpointOpts{Region: "RegionOne"}, External: "public", Flavor: "m1.nano",
		Image: func() io.Reader { return bytes.NewReader(make([]byte, 64<<10)) }, ImageFormat: "raw", Timeout: time.Minute, Poll: 20 * time.Millisecond,
		Audit: func(ctx context.Context) error { return s.audited(ctx) },
	})
}

// audited waits until the audit finds nothing, for as long as hosts may take to
// confirm what was deleted.
func (s *spread) audited(ctx context.Context) error {
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		fs, err := servers.AuditLocal(ctx, s.cfg, parts.All)
		if err != nil || len(fs) == 0 {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the audit finds %v", fs)
		}
	}
}

func (s *spread) kills(t *testing.T) {
	image := s.imageID(t.Context())
	for round, fault := range []func(){
		func() { s.nodes[0].kill(); s.nodes[0].start() },
		func() { s.kill(); s.process.start() },
		func() { s.db.Stop(); s.db.Start() },
		func() { s.broker.Stop(); s.broker.Start() },
		func() { s.nodes[1].kill(); s.kill(); s.process.start(); s.nodes[1].start() },
	} {
		ctx, cancel := context.WithCancel(t.Context())
		c := s.client(ctx)
		done := make(chan struct{})
		go func() { defer close(done); s.work(ctx, c, image, round) }()
		require.Eventually(t, func() bool {
			list, err := s.list(ctx, c)
			return err == nil && len(list) >= 5
		}, time.Minute, 20*time.Millisecond, "no work is under way")
		fault()
		cancel()
		<-done
		s.up(2)
		s.settle(t.Context(), round)
	}
	c := s.client(t.Context())
	list, err := s.list(t.Context(), c)
	require.NoError(t, err)
	for _, sv := range list {
		require.NoError(t, computeapi.Delete(t.Context(), c, sv.ID).ExtractErr())
	}
	s.settle(t.Context(), 99)
	for _, n := range s.nodes {
		n.stop()
		left, err := filepath.Glob(filepath.Join(filepath.Dir(n.config), n.name, "hosts", n.name, "guests", "*.json"))
		require.NoError(t, err)
		require.Empty(t, left, "guests left on "+n.name)
	}
	s.process.stop()
}
