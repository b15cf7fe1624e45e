//go:build linux && realtest

package linux_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/nacre-cloud/nacre/network/dataplane"
	"github.com/nacre-cloud/nacre/network/dataplane/dataplanetest"
	"github.com/nacre-cloud/nacre/network/dataplane/linux"
)

const inside = "NACRE_DATAPLANE_TEST_INSIDE"

// TestMain runs the tests in network and mount namespaces of their own: what is
// the host's namespace to the driver is nobody else's, and vanishes at the end.
func TestMain(m *testing.M) {
	if os.Getenv(inside) == "" {
		os.Exit(enter())
	}
	for _, step := range []func() error{
		func() error { return unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "") },
		func() error { return os.MkdirAll("/run/netns", 0o755) },
		func() error { return unix.Mount("netns", "/run/netns", "tmpfs", 0, "") },
		func() error { return exec.Command("ip", "link", "set", "lo", "up").Run() },
	} {
		if err := step(); err != nil {
			fmt.Fprintln(os.Stderr, "the tests need root, ip and mount namespaces:", err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

func enter() int {
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "these tests need root")
		return 1
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS, Pdeathsig: unix.SIGKILL}
	runtime.LockOSThread()
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// sh runs a command line and gives what it printed.
func sh(t *testing.T, format string, args ...any) string {
	t.Helper()
	out, err := try(t, format, args...)
	require.NoError(t, err, "%s", out)
	return out
}

func try(t *testing.T, format string, args ...any) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 20*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "sh", "-c", fmt.Sprintf(format, args...)).CombinedOutput()
	return string(out), err
}

// everything is a picture of what a host has that a driver could leave behind.
func everything(t *testing.T) string {
	t.Helper()
	return sh(t, `ip netns list; ip -o link | sed 's/^[0-9]*: //; s/link-netnsid.*//; s/<.*> //; s/ state [A-Z]* / /'
ip -o addr | grep -v 'scope link' | sed 's/^[0-9]*: //; s/valid_lft.*//'
nft -s list ruleset; iptables-save | grep -v '^#' | sed 's/\[.*\]//'; cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/bridge/*`)
}

// lab is a host with a driver on it.
type lab struct {
	t      *testing.T
	dir    string
	config linux.Config
	*linux.Driver
	guests []string
}

func newLab(t *testing.T, c linux.Config) *lab {
	before := everything(t)
	c.StateDir = t.TempDir()
	c.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	l := &lab{t: t, dir: c.StateDir, config: c}
	t.Cleanup(func() {
		require.NoError(t, l.Driver.Close())
		for _, g := range l.guests {
			sh(t, "ip -n %s link del eth0; ip netns del %s", g, g)
		}
		require.NoError(t, linux.Clean(context.Background(), l.dir))
		var after string
		require.Eventually(t, func() bool { after = everything(t); return after == before }, 5*time.Second, 50*time.Millisecond,
			"left behind:\n%s", lazy(func() string { return diff(before, after) }))
	})
	l.open()
	return l
}

func openFiles(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(all)
}

type lazy func() string

func (l lazy) String() string { return l() }

func diff(before, after string) string {
	had := map[string]int{}
	for _, line := range strings.Split(before, "\n") {
		had[line]++
	}
	var b strings.Builder
	for _, line := range strings.Split(after, "\n") {
		if had[line]--; had[line] < 0 {
			b.WriteString("+ " + line + "\n")
		}
	}
	for line, n := range had {
		if n > 0 {
			b.WriteString("- " + line + "\n")
		}
	}
	return b.String()
}

func (l *lab) open() {
	l.t.Helper()
	var err error
	l.Driver, err = linux.New(l.t.Context(), l.config)
	require.NoError(l.t, err)
}

func (l *lab) reopen() {
	l.t.Helper()
	require.NoError(l.t, l.Driver.Close())
	l.open()
}

// addTap makes a guest: a namespace whose eth0 is the other end of the tap.
func (l *lab) addTap(name, mac string) string {
	l.t.Helper()
	guest := "vm-" + name
	sh(l.t, "ip netns add %s && ip -n %s link set lo up", guest, guest)
	sh(l.t, "ip link add %s type veth peer name eth0 netns %s && ip -n %s link set eth0 address %s up && ip link set %s up", name, guest, guest, mac, name)
	l.guests = append(l.guests, guest)
	return guest
}

func (l *lab) removeTap(name string) {
	l.t.Helper()
	guest := "vm-" + name
	sh(l.t, "ip -n %s link del eth0; ip netns del %s", guest, guest)
	for i, g := range l.guests {
		if g == guest {
			l.guests = append(l.guests[:i], l.guests[i+1:]...)
			break
		}
	}
}

// TestCloseLeavesNothingOpen is about this process; newLab's about the host.
func TestCloseLeavesNothingOpen(t *testing.T) {
	c := public
	metadataService(t, &c)
	l := newLab(t, c)
	p := l.project(1)
	p.gateway(l.public(), "172.24.4.20", true)
	p.boot(5)
	require.NoError(t, l.Close())
	goroutines, files := goleak.IgnoreCurrent(), openFiles(t)
	for range 3 {
		l.open()
		q := l.project(2)
		l.active(q.boot(6).port.ID)
		for _, ref := range []dataplane.Ref{{Kind: dataplane.KindNetwork, ID: q.network.ID}, {Kind: dataplane.KindRouter, ID: p.router.ID}} {
			require.NoError(t, l.Delete(t.Context(), ref.Kind, ref.ID))
		}
		require.NoError(t, l.ApplyRouter(t.Context(), p.router))
		require.NoError(t, l.Close())
		_, err := l.List(t.Context())
		require.Error(t, err, "a closed driver says so")
	}
	goleak.VerifyNone(t, goroutines)
	require.LessOrEqual(t, openFiles(t), files, "files are left open")
}

func TestContract(t *testing.T) {
	dataplanetest.Run(t, func(t *testing.T) dataplanetest.Harness {
		l := newLab(t, linux.Config{})
		first := true
		return dataplanetest.Harness{
			Open: func(t *testing.T) dataplane.Driver {
				if !first {
					l.open()
				}
				first = false
				return l.Driver
			},
			AddTap:    func(_ *testing.T, name string) { l.addTap(name, "fa:16:3e:77:00:01") },
			RemoveTap: func(_ *testing.T, name string) { l.removeTap(name) },
		}
	})
}

func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }
func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func num(n int) *int               { return &n }

// project is a tenant with the network 10.0.0.0/24, as every project of the tests
// has it.
type project struct {
	l       *lab
	network dataplane.Network
	group   dataplane.SecurityGroup
	ports   map[string]dataplane.Port
	router  dataplane.Router
}

func (l *lab) project(n byte) *project {
	l.t.Helper()
	network, subnet := uuid.NewString(), uuid.NewString()
	p := &project{l: l, ports: map[string]dataplane.Port{}}
	p.network = dataplane.Network{
		ID: network, Generation: 1, ProjectID: fmt.Sprintf("project%d", n), Type: "vxlan", Segment: int(n), MTU: 1450, AdminUp: true,
		DNSDomain: "example.org.",
		Subnets: []dataplane.Subnet{{
			ID: subnet, CIDR: prefix("10.0.0.0/24"), Gateway: addr("10.0.0.1"), DHCP: true, DNS: []netip.Addr{addr("9.9.9.9")},
			HostRoutes: []dataplane.Route{{Destination: prefix("10.99.0.0/16"), NextHop: addr("10.0.0.77")}},
		}},
		DHCP: &dataplane.Endpoint{PortID: uuid.NewString(), NetworkID: network, MAC: fmt.Sprintf("fa:16:3e:%02x:00:02", n), Addresses: []netip.Prefix{prefix("10.0.0.2/24")}},
	}
	p.group = dataplane.SecurityGroup{ID: uuid.NewString(), Rules: []dataplane.Rule{{ID: "e", Direction: "egress", EtherType: "IPv4"}}}
	p.router = dataplane.Router{
		ID: uuid.NewString(), AdminUp: true,
		Interfaces: []dataplane.Endpoint{{PortID: uuid.NewString(), NetworkID: network, MAC: fmt.Sprintf("fa:16:3e:%02x:00:01", n), Addresses: []netip.Prefix{prefix("10.0.0.1/24")}}},
	}
	require.NoError(l.t, l.ApplyNetwork(l.t.Context(), p.network))
	p.rules()
	return p
}

// rules replaces the group's ingress rules.
func (p *project) rules(rules ...dataplane.Rule) {
	p.l.t.Helper()
	p.group.Generation++
	p.group.Rules = append(p.group.Rules[:1:1], rules...)
	p.group.Members = nil
	for _, port := range p.ports {
		if len(port.SecurityGroups) > 0 && port.SecurityGroups[0] == p.group.ID {
			p.group.Members = append(p.group.Members, port.FixedIPs[0].Address)
		}
	}
	require.NoError(p.l.t, p.l.ApplySecurityGroup(p.l.t.Context(), p.group))
}

var (
	ping = dataplane.Rule{ID: "p", Direction: "ingress", EtherType: "IPv4", Protocol: "icmp"}
	tcp  = dataplane.Rule{ID: "t", Direction: "ingress", EtherType: "IPv4", Protocol: "tcp", PortMin: num(7000), PortMax: num(7009)}
)

// guest is a running machine.
type guest struct {
	t    *testing.T
	ns   string
	port dataplane.Port
}

// boot makes a port and a guest on it, with its address set by hand.
func (p *project) boot(last int, change ...func(*dataplane.Port)) guest {
	p.l.t.Helper()
	g := p.bootBare(last, change...)
	sh(p.l.t, "ip -n %s addr add 10.0.0.%d/24 dev eth0 && ip -n %s route add default via 10.0.0.1", g.ns, last, g.ns)
	return g
}

func (p *project) bootBare(last int, change ...func(*dataplane.Port)) guest {
	p.l.t.Helper()
	id := uuid.NewString()
	port := dataplane.Port{
		ID: id, Generation: 1, NetworkID: p.network.ID, ProjectID: p.network.ProjectID, DeviceID: uuid.NewString(), DeviceOwner: "compute:nova",
		MAC: fmt.Sprintf("fa:16:3e:%02x:01:%02x", p.network.Segment, last), Tap: "tap" + id[:11], AdminUp: true, PortSecurity: true,
		FixedIPs:       []dataplane.FixedIP{{SubnetID: p.network.Subnets[0].ID, Address: addr(fmt.Sprintf("10.0.0.%d", last))}},
		SecurityGroups: []string{p.group.ID}, Hostname: fmt.Sprintf("host-%d", last),
	}
	for _, c := range change {
		c(&port)
	}
	p.ports[id] = port
	ns := p.l.addTap(port.Tap, port.MAC)
	require.NoError(p.l.t, p.l.ApplyPort(p.l.t.Context(), port))
	p.l.active(id)
	return guest{p.l.t, ns, port}
}

func (l *lab) active(id string) {
	l.t.Helper()
	require.Eventually(l.t, func() bool {
		s, err := l.Status(l.t.Context(), id)
		return err == nil && s.Active
	}, 10*time.Second, 10*time.Millisecond)
}

func (g guest) ping(to string) bool {
	_, err := try(g.t, "ip netns exec %s busybox ping -c1 -W1 %s", g.ns, to)
	return err == nil
}

// pings wants pings to get through, or not.
func (g guest) pings(want bool, to string) {
	g.t.Helper()
	if want {
		require.Eventually(g.t, func() bool { return g.ping(to) }, 5*time.Second, 10*time.Millisecond, "%s cannot ping %s", g.ns, to)
		return
	}
	require.False(g.t, g.ping(to), "%s can ping %s", g.ns, to)
}

// metadataService is what stands for compute.
func metadataService(t *testing.T, c *linux.Config) *[]*http.Request {
	var seen []*http.Request
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = append(seen, r)
		_, _ = fmt.Fprintf(w, "you are %s", r.Header.Get("X-Instance-ID"))
	}))
	t.Cleanup(server.Close)
	c.Metadata, c.MetadataURL, c.MetadataSecret = http.DefaultTransport, server.URL+"/compute/metadata", "s3cret"
	return &seen
}

// TestStorm wires many ports of one network at once.
func TestStorm(t *testing.T) {
	l := newLab(t, linux.Config{})
	p := l.project(1)
	p.rules(ping)
	const ports = 60
	start := time.Now()
	var all []dataplane.Port
	for i := range ports {
		id := uuid.NewString()
		port := dataplane.Port{
			ID: id, Generation: 1, NetworkID: p.network.ID, MAC: fmt.Sprintf("fa:16:3e:01:02:%02x", i), Tap: "tap" + id[:11], AdminUp: true, PortSecurity: true,
			FixedIPs:       []dataplane.FixedIP{{SubnetID: p.network.Subnets[0].ID, Address: netip.AddrFrom4([4]byte{10, 0, 0, byte(100 + i)})}},
			SecurityGroups: []string{p.group.ID},
		}
		l.addTap(port.Tap, port.MAC)
		all = append(all, port)
	}
	t.Logf("made %d guests in %v", ports, time.Since(start))
	start = time.Now()
	errs := make(chan error, ports)
	for _, port := range all {
		go func() { errs <- l.ApplyPort(t.Context(), port) }()
	}
	for range ports {
		require.NoError(t, <-errs)
	}
	for _, port := range all {
		l.active(port.ID)
	}
	t.Logf("wired %d ports in %v", ports, time.Since(start))
}
