//go:build linux && realtest

package linux_test

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/nacre-cloud/nacre/network/dataplane"
	"github.com/nacre-cloud/nacre/network/dataplane/linux"
)

// outside attaches a machine to the host's external bridge.
func (l *lab) outside(bridge string) guest {
	l.t.Helper()
	sh(l.t, `ip netns add outside && ip link add outside0 type veth peer name eth0 netns outside && ip link set outside0 master %s up
ip -n outside link set lo up && ip -n outside link set eth0 up && ip -n outside addr add 172.24.4.100/24 dev eth0`, bridge)
	l.guests = append(l.guests, "outside")
	return guest{t: l.t, ns: "outside"}
}

func (l *lab) public() dataplane.Network {
	l.t.Helper()
	n := dataplane.Network{
		ID: uuid.NewString(), Generation: 1, Type: "flat", Physical: "public", MTU: 1500, AdminUp: true, External: true,
		Subnets: []dataplane.Subnet{{ID: uuid.NewString(), CIDR: prefix("172.24.4.0/24"), Gateway: addr("172.24.4.1")}},
	}
	require.NoError(l.t, l.ApplyNetwork(l.t.Context(), n))
	return n
}

func (p *project) gateway(public dataplane.Network, outer string, snat bool, fips ...dataplane.FloatingIP) {
	p.l.t.Helper()
	p.router.Generation++
	if p.router.Gateway == nil {
		p.router.Gateway = &dataplane.Gateway{Endpoint: dataplane.Endpoint{
			PortID: uuid.NewString(), NetworkID: public.ID, MAC: fmt.Sprintf("fa:16:3e:%02x:00:03", p.network.Segment),
			Addresses: []netip.Prefix{prefix(outer + "/24")},
		}, NextHops: []netip.Addr{addr("172.24.4.1")}}
	}
	p.router.Gateway.SNAT = snat
	p.router.FloatingIPs = fips
	require.NoError(p.l.t, p.l.ApplyRouter(p.l.t.Context(), p.router))
}

var public = linux.Config{Physical: map[string]linux.Physical{"public": {HostAddresses: []netip.Prefix{netip.MustParsePrefix("172.24.4.1/24")}, Masquerade: true}}}

func TestRouterAndFloatingIPs(t *testing.T) {
	l := newLab(t, public)
	p := l.project(1)
	net0 := l.public()
	x := l.outside("nacre-ex0")
	a, b := p.boot(5), p.boot(6)
	a.pings(false, "10.0.0.1")
	p.gateway(net0, "172.24.4.20", true)
	a.pings(true, "10.0.0.1")
	a.pings(true, "172.24.4.20")

	// Out by SNAT: the host's address, and a machine beside it.
	a.pings(true, "172.24.4.1")
	a.pings(true, "172.24.4.100")
	x.echo(7000)
	c, err := dial(t, a.ns, "172.24.4.100:7000")
	require.NoError(t, err)
	require.True(t, alive(c))
	require.Contains(t, sh(t, "ip netns exec outside ss -tn 2>/dev/null || busybox netstat -tn"), "172.24.4.20")

	// In by floating IP, as far as the group lets it.
	p.gateway(net0, "172.24.4.20", true, dataplane.FloatingIP{ID: "f", External: addr("172.24.4.10"), Fixed: addr("10.0.0.5")})
	x.pings(false, "172.24.4.10")
	p.rules(ping, tcp)
	x.pings(true, "172.24.4.10")
	a.echo(7001)
	in1, err := dial(t, x.ns, "172.24.4.10:7001")
	require.NoError(t, err)
	require.True(t, alive(in1))
	// The host itself reaches it.
	fromHost, err := dial(t, "", "172.24.4.10:7001")
	require.NoError(t, err)
	require.True(t, alive(fromHost))
	// Out it goes as its floating IP, b as the router.
	require.Contains(t, peerSeen(t, x, a, 7000), "172.24.4.10:")
	require.Contains(t, peerSeen(t, x, b, 7000), "172.24.4.20:")
	// Hairpin: a neighbour, and the guest itself, by the floating IP.
	hair, err := dial(t, b.ns, "172.24.4.10:7001")
	require.NoError(t, err)
	require.True(t, alive(hair))
	b.pings(true, "172.24.4.10")
	a.pings(true, "172.24.4.10")

	// Moved to b, what went to a is cut.
	p.gateway(net0, "172.24.4.20", true, dataplane.FloatingIP{ID: "f", External: addr("172.24.4.10"), Fixed: addr("10.0.0.6")})
	require.False(t, alive(in1))
	x.pings(true, "172.24.4.10")
	_, err = dial(t, x.ns, "172.24.4.10:7001")
	require.Error(t, err, "b serves nothing there")

	// Without SNAT and floating IP nothing comes back.
	p.gateway(net0, "172.24.4.20", false, dataplane.FloatingIP{ID: "f", External: addr("172.24.4.10"), Fixed: addr("10.0.0.6")})
	require.False(t, a.ping("172.24.4.100"))
	b.pings(true, "172.24.4.100")

	// No way out to link-local addresses, behind which another cloud may be.
	sh(t, "ip -n outside addr add 169.254.170.2/32 dev eth0; ip route add 169.254.170.2 via 172.24.4.100")
	b.pings(false, "169.254.170.2")
	// Services of the host are shut to guests.
	host, err := net.Listen("tcp4", "172.24.4.1:7777")
	require.NoError(t, err)
	defer host.Close()
	_, err = dial(t, b.ns, "172.24.4.1:7777")
	require.Error(t, err)
	_, err = dial(t, "", "172.24.4.1:7777")
	require.NoError(t, err)

	// Two projects over the external network, by floating IPs.
	q := l.project(2)
	q.gateway(net0, "172.24.4.30", true, dataplane.FloatingIP{ID: "g", External: addr("172.24.4.11"), Fixed: addr("10.0.0.5")})
	other := q.boot(5)
	other.pings(true, "172.24.4.10")
	b.pings(false, "172.24.4.11")
	q.rules(ping)
	b.pings(true, "172.24.4.11")

	// Down is down.
	p.router.Generation++
	p.router.AdminUp = false
	require.NoError(t, l.ApplyRouter(t.Context(), p.router))
	a.pings(false, "10.0.0.1")
	x.pings(false, "172.24.4.10")
}

// peerSeen is who a machine sees when another connects to it.
func peerSeen(t *testing.T, at, from guest, port int) string {
	t.Helper()
	c, err := dial(t, from.ns, fmt.Sprintf("172.24.4.100:%d", port))
	require.NoError(t, err)
	require.True(t, alive(c))
	local := c.LocalAddr().(*net.TCPAddr).Port
	for _, line := range strings.Split(sh(t, "ip netns exec %s busybox netstat -tn", at.ns), "\n") {
		if strings.Contains(line, fmt.Sprintf(":%d ", local)) && strings.Contains(line, fmt.Sprintf(":%d ", port)) {
			return line
		}
	}
	return ""
}

func TestExtraRoutes(t *testing.T) {
	l := newLab(t, linux.Config{})
	p := l.project(1)
	p.router.Routes = []dataplane.Route{{Destination: prefix("192.168.50.0/24"), NextHop: addr("10.0.0.6")}}
	p.router.Generation++
	require.NoError(t, l.ApplyRouter(t.Context(), p.router))
	p.rules(ping)
	a := p.boot(5)
	b := p.boot(6, func(p *dataplane.Port) { p.AllowedPairs = []dataplane.Pair{{Prefix: prefix("192.168.50.0/24")}} })
	sh(t, "ip -n %s addr add 192.168.50.1/32 dev lo; ip netns exec %s sysctl -qw net.ipv4.ip_forward=1", b.ns, b.ns)
	a.pings(true, "192.168.50.1")
	p.router.Routes = nil
	p.router.Generation++
	require.NoError(t, l.ApplyRouter(t.Context(), p.router))
	a.pings(false, "192.168.50.1")
}

func TestRestartKeepsTraffic(t *testing.T) {
	c := public
	metadataService(t, &c)
	l := newLab(t, c)
	p := l.project(1)
	net0 := l.public()
	x := l.outside("nacre-ex0")
	a := p.boot(5)
	p.rules(tcp, ping)
	p.gateway(net0, "172.24.4.20", true, dataplane.FloatingIP{ID: "f", External: addr("172.24.4.10"), Fixed: addr("10.0.0.5")})
	a.echo(7001)
	x.pings(true, "172.24.4.10")
	conn, err := dial(t, x.ns, "172.24.4.10:7001")
	require.NoError(t, err)
	require.True(t, alive(conn))
	require.NoError(t, l.Driver.Close())
	require.True(t, alive(conn), "with no driver")
	x.pings(true, "172.24.4.10")

	// What happens meanwhile is found: a guest goes, and one comes.
	id := uuid.NewString()
	late := a.port
	late.ID, late.Tap, late.MAC, late.Generation = id, "tap"+id[:11], "fa:16:3e:01:01:07", 1
	late.FixedIPs = []dataplane.FixedIP{{SubnetID: p.network.Subnets[0].ID, Address: addr("10.0.0.7")}}
	l.open()
	require.True(t, alive(conn), "with a new driver")
	require.NoError(t, l.ApplyPort(t.Context(), late))
	require.NoError(t, l.Driver.Close())
	l.addTap(late.Tap, late.MAC)
	l.open()
	l.active(late.ID)
	l.active(a.port.ID)
	require.True(t, alive(conn), "after it all")
	require.Equal(t, "10.0.0.7", guest{t, "vm-" + late.Tap, late}.udhcpc()["ip"], "DHCP answers again")
	sh(t, "ip -n %s route add 169.254.169.254 via 10.0.0.2", a.ns)
	require.Equal(t, "you are "+a.port.DeviceID, a.get(""))
	p.rules(ping)
	require.False(t, alive(conn), "and the new driver's rules count")
}

// A tap of a hypervisor: its file descriptor works on after the device moved.
func TestRealTap(t *testing.T) {
	l := newLab(t, linux.Config{})
	p := l.project(1)
	id := uuid.NewString()
	port := dataplane.Port{
		ID: id, NetworkID: p.network.ID, MAC: "fa:16:3e:01:01:09", Tap: "tap" + id[:11], AdminUp: true, PortSecurity: true,
		FixedIPs:       []dataplane.FixedIP{{SubnetID: p.network.Subnets[0].ID, Address: addr("10.0.0.9")}},
		SecurityGroups: []string{p.group.ID},
	}
	require.NoError(t, l.ApplyPort(t.Context(), port))
	open := func() *os.File {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		require.NoError(t, err)
		req, err := unix.NewIfreq(port.Tap)
		require.NoError(t, err)
		req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
		require.NoError(t, unix.IoctlIfreq(fd, unix.TUNSETIFF, req))
		return os.NewFile(uintptr(fd), "tap")
	}
	for range 2 {
		f := open()
		// Not up yet, it is the hypervisor's alone.
		time.Sleep(3 * 50 * time.Millisecond)
		sh(t, "ip link set %s address fe:16:3e:01:01:09", port.Tap)
		s, err := l.Status(t.Context(), id)
		require.NoError(t, err)
		require.False(t, s.Active)
		sh(t, "ip link set %s up", port.Tap)
		l.active(id)
		mac, _ := net.ParseMAC(port.MAC)
		ask := append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, mac...)
		ask = append(ask, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1)
		ask = append(ask, mac...)
		ask = append(ask, 10, 0, 0, 9, 0, 0, 0, 0, 0, 0, 10, 0, 0, 2)
		require.NoError(t, f.SetReadDeadline(time.Now().Add(3*time.Second)))
		_, err = f.Write(ask)
		require.NoError(t, err)
		buf := make([]byte, 2000)
		for {
			n, err := f.Read(buf)
			require.NoError(t, err, "no answer through the moved tap")
			if n >= 42 && buf[12] == 8 && buf[13] == 6 && buf[21] == 2 {
				require.Equal(t, []byte{10, 0, 0, 2}, buf[28:32])
				break
			}
		}
		// A hypervisor that ends takes its tap with it.
		require.NoError(t, f.Close())
		require.Eventually(t, func() bool {
			s, err := l.Status(t.Context(), id)
			return err == nil && !s.Active
		}, 5*time.Second, 10*time.Millisecond)
	}
	// A port that is deleted while its guest runs gives the tap back.
	f := open()
	defer f.Close()
	sh(t, "ip link set %s up", port.Tap)
	l.active(id)
	require.NoError(t, l.Delete(t.Context(), dataplane.KindPort, id))
	require.Contains(t, sh(t, "ip -o link show %s", port.Tap), "state DOWN")
}

func TestForeignBridge(t *testing.T) {
	// What Docker leaves: a bridge, a FORWARD policy of DROP, its own chain.
	sh(t, `ip link add docker0 type bridge && ip addr add 172.17.0.1/16 dev docker0 && ip link set docker0 up
for c in 1 2; do ip netns add c$c; ip link add dk$c type veth peer name eth0 netns c$c; ip link set dk$c master docker0 up; ip -n c$c link set eth0 up; ip -n c$c addr add 172.17.0.1$c/16 dev eth0; done
iptables -P FORWARD DROP; iptables -N DOCKER; iptables -A FORWARD -o docker0 -j DOCKER; iptables -A DOCKER -i docker0 -o docker0 -j ACCEPT`)
	t.Cleanup(func() {
		sh(t, "iptables -F FORWARD; iptables -F DOCKER; iptables -X DOCKER; iptables -P FORWARD ACCEPT; ip link del dk1; ip link del dk2; ip netns del c1; ip netns del c2; ip link del docker0; nft flush ruleset")
	})
	containers := guest{t: t, ns: "c1"}
	containers.pings(true, "172.17.0.12")
	l := newLab(t, public)
	p := l.project(1)
	net0 := l.public()
	// The world beyond the host is another bridge of it.
	sh(t, `ip netns add world && ip link add world0 type veth peer name eth0 netns world && ip addr add 198.51.100.1/24 dev world0 && ip link set world0 up
ip -n world link set eth0 up && ip -n world addr add 198.51.100.2/24 dev eth0`)
	l.guests = append(l.guests, "world")
	x := l.outside("nacre-ex0")
	a := p.boot(5)
	p.rules(ping)
	p.gateway(net0, "172.24.4.20", true, dataplane.FloatingIP{ID: "f", External: addr("172.24.4.10"), Fixed: addr("10.0.0.5")})
	a.pings(true, "172.24.4.1")
	a.pings(true, "198.51.100.2")
	x.pings(true, "172.24.4.10")
	containers.pings(true, "172.17.0.12")
	// Again and again leaves the rules once.
	l.reopen()
	l.reopen()
	require.Equal(t, 2, strings.Count(sh(t, "iptables -S FORWARD"), "--comment nacre"))
	require.Equal(t, "1\n", sh(t, "cat /proc/sys/net/ipv4/ip_forward"))
	a.pings(true, "198.51.100.2")
	containers.pings(true, "172.17.0.12")
}

// A bridge that somebody else made is used, and stays.
func TestBridgeOfOthers(t *testing.T) {
	sh(t, "ip link add br-ex address 02:00:00:00:00:ee type bridge && ip link set br-ex up && ip addr add 172.24.4.1/24 dev br-ex")
	t.Cleanup(func() { sh(t, "ip link del br-ex") })
	l := newLab(t, linux.Config{Physical: map[string]linux.Physical{"public": {Bridge: "br-ex"}}})
	p := l.project(1)
	net0 := l.public()
	a := p.boot(5)
	p.gateway(net0, "172.24.4.20", true)
	a.pings(true, "172.24.4.1")
	require.Empty(t, sh(t, "nft list tables"))
	require.NoError(t, l.Delete(t.Context(), dataplane.KindNetwork, net0.ID))
	require.NotContains(t, sh(t, "ip -o link"), "nu-")
}

// Two hosts share a vxlan network. The other host is made by hand.
func TestTunnel(t *testing.T) {
	sh(t, `ip netns add peer && ip link add under0 type veth peer name under1 netns peer && ip addr add 192.0.2.1/30 dev under0 && ip link set under0 up
ip -n peer addr add 192.0.2.2/30 dev under1 && ip -n peer link set under1 up
ip -n peer link add vx type vxlan id 7 local 192.0.2.2 dstport 4789 && ip -n peer addr add 10.0.0.50/24 dev vx && ip -n peer link set vx up
ip netns exec peer sysctl -qw net.ipv4.conf.all.arp_ignore=1
bridge -n peer fdb append 00:00:00:00:00:00 dev vx dst 192.0.2.1
ip -n peer link add other type vxlan id 8 local 192.0.2.2 dstport 4789 && ip -n peer addr add 10.0.0.51/24 dev other && ip -n peer link set other up`)
	t.Cleanup(func() { sh(t, "ip link del under0; ip netns del peer") })
	l := newLab(t, linux.Config{TunnelAddress: addr("192.0.2.1")})
	p := l.project(7)
	ends := func(to ...string) {
		t.Helper()
		p.network.Generation++
		p.network.Tunnels = nil
		for _, s := range to {
			p.network.Tunnels = append(p.network.Tunnels, addr(s))
		}
		require.NoError(t, l.ApplyNetwork(t.Context(), p.network))
	}
	a := p.boot(5)
	a.pings(false, "10.0.0.50")
	ends("192.0.2.2", "198.51.100.9")
	a.pings(true, "10.0.0.50")
	a.pings(false, "10.0.0.51")
	peer := guest{t: t, ns: "peer"}
	peer.pings(false, "10.0.0.5")
	p.rules(ping)
	peer.pings(true, "10.0.0.5")
	l.reopen()
	peer.pings(true, "10.0.0.5")
	flood := func() int {
		return strings.Count(sh(t, "ip netns exec nacre-n-%s bridge fdb", p.network.ID[:11]), "00:00:00:00:00:00 dev vx0 dst ")
	}
	require.Equal(t, 2, flood())
	// Our DHCP server answers here alone; the other host has one at the same address.
	a.pings(true, "10.0.0.2")
	peer.pings(false, "10.0.0.2")
	// The other host has the network no more, and has it again. As long as it sends,
	// where its addresses are would be learned anew.
	sh(t, "ip -n peer link set under1 down")
	ends("198.51.100.9")
	require.Equal(t, 1, flood())
	require.NotContains(t, sh(t, "ip netns exec nacre-n-%s bridge fdb", p.network.ID[:11]), "192.0.2.2")
	a.pings(false, "10.0.0.50")
	sh(t, "ip -n peer link set under1 up")
	ends("192.0.2.2")
	require.Equal(t, 1, flood())
	a.pings(true, "10.0.0.50")
}

// sentAgain is what network does when the host's first report lacks the router, unless
// another host has it by now.
func (p *project) sentAgain() {
	p.l.t.Helper()
	refs, err := p.l.List(p.l.t.Context())
	require.NoError(p.l.t, err)
	for _, ref := range refs {
		require.NotEqual(p.l.t, p.router.ID, ref.ID)
	}
	require.NoError(p.l.t, p.l.ApplyRouter(p.l.t.Context(), p.router))
}

// What was lost while no driver ran, or half made when one was killed, is made
// whole by the next.
func TestRepairs(t *testing.T) {
	l := newLab(t, public)
	p := l.project(1)
	net0 := l.public()
	x := l.outside("nacre-ex0")
	a, b := p.boot(5), p.boot(6)
	p.rules(ping)
	p.gateway(net0, "172.24.4.20", true, dataplane.FloatingIP{ID: "f", External: addr("172.24.4.10"), Fixed: addr("10.0.0.5")})
	x.pings(true, "172.24.4.10")
	n, r, e := "nacre-n-"+p.network.ID[:11], "nacre-r-"+p.router.ID[:11], "nacre-n-"+net0.ID[:11]
	for _, damage := range []string{
		"ip netns exec " + n + " nft flush ruleset; ip netns exec " + r + " nft flush ruleset; nft delete table inet nacre",
		"ip -n " + n + " link del br0; ip -n " + e + " link del br0",
		"ip -n " + n + " link del pr-" + p.router.Interfaces[0].PortID[:11],
		"ip -n " + r + " link del qg-" + p.router.Gateway.PortID[:11],
		"ip link del nu-" + net0.ID[:11],
		"ip -n " + n + " link set br0 down; ip -n " + n + " addr flush dev br0; ip -n " + r + " route del default",
		"ip -n " + n + " link set " + a.port.Tap + " netns 1; ip link set " + a.port.Tap + " up",
		"ip netns del " + r,
		"umount /run/netns/" + r,
	} {
		require.NoError(t, l.Close())
		// The tests' own host is not process 1's.
		sh(t, "%s", strings.ReplaceAll(damage, "netns 1;", fmt.Sprintf("netns %d;", os.Getpid())))
		l.open()
		l.active(a.port.ID)
		l.active(b.port.ID)
		if strings.HasSuffix(damage, r) {
			p.sentAgain()
		}
		x.pings(true, "172.24.4.10")
		a.pings(true, "10.0.0.6")
		a.pings(true, "172.24.4.100")
		require.Equal(t, "10.0.0.5", a.udhcpc()["ip"], damage)
		p.rules()
		x.pings(false, "172.24.4.10")
		p.rules(ping)
	}
}

func TestCleanWithoutState(t *testing.T) {
	before := everything(t)
	l := newLab(t, public)
	p := l.project(1)
	net0 := l.public()
	p.gateway(net0, "172.24.4.20", true)
	a := p.boot(5)
	a.pings(true, "172.24.4.1")
	require.NoError(t, l.Close())
	require.NoError(t, linux.Clean(t.Context(), ""))
	after := everything(t)
	require.Contains(t, after, a.port.Tap, "a guest's device is not ours")
	require.NotContains(t, after, "nu-")
	require.NotContains(t, after, "nacre-")
	require.Equal(t, strings.Count(before, "table"), strings.Count(after, "table"))
	// And the driver makes everything anew from its state, but the router.
	l.open()
	p.sentAgain()
	l.active(a.port.ID)
	a.pings(true, "172.24.4.1")
}

// What connection tracking knew goes along: a flow whose entry went is dead, and lives
// again once the other host's entries are taken in. What the rules do not allow, or is
// not the server's, does not come in so.
func TestFlowsTravel(t *testing.T) {
	l := newLab(t, public)
	p := l.project(1)
	net0 := l.public()
	x := l.outside("nacre-ex0")
	a, b := p.boot(5), p.boot(6)
	p.rules(tcp)
	p.gateway(net0, "172.24.4.20", true, dataplane.FloatingIP{ID: "f", External: addr("172.24.4.10"), Fixed: addr("10.0.0.5")})
	a.echo(7001)
	b.echo(7002)
	forget := func() {
		t.Helper()
		require.NoError(t, in(t, "nacre-n-"+p.network.ID[:11], func() error { return netlink.ConntrackTableFlush(netlink.ConntrackTable) }))
	}
	from := func(ns, to string) net.Conn {
		t.Helper()
		c, err := dial(t, ns, to)
		require.NoError(t, err)
		require.True(t, alive(c))
		return c
	}
	outer, inner := from(x.ns, "172.24.4.10:7001"), from(b.ns, "10.0.0.5:7001")
	stranger := from(a.ns, "10.0.0.6:7002")
	flows, err := l.Flows(t.Context(), a.port.DeviceID)
	require.NoError(t, err)
	forget()
	require.False(t, alive(outer), "nobody knows of it")
	require.NoError(t, l.AddFlows(t.Context(), a.port.DeviceID, flows))
	require.True(t, alive(outer))
	require.True(t, alive(inner))
	require.True(t, alive(stranger))
	require.NoError(t, l.AddFlows(t.Context(), a.port.DeviceID, flows), "again is no harm")
	big := make([]byte, 1<<20)
	_ = outer.SetDeadline(time.Now().Add(20 * time.Second))
	go func() { _, _ = outer.Write(big) }()
	_, err = io.ReadFull(outer, make([]byte, len(big)))
	require.NoError(t, err, "windows that were agreed on before are no matter")

	forget()
	require.NoError(t, l.AddFlows(t.Context(), b.port.DeviceID, flows))
	require.False(t, alive(outer), "it is none of this server's")
	require.True(t, alive(inner))
	forget()
	p.rules(ping)
	require.NoError(t, l.AddFlows(t.Context(), a.port.DeviceID, flows))
	require.False(t, alive(outer), "it is not allowed any more")
	require.Error(t, l.AddFlows(t.Context(), a.port.DeviceID, []byte("nonsense")))
}

// A router whose machine was started anew stays away until it is applied again: another
// host may have it by now.
func TestRouterAfterABootOfTheMachine(t *testing.T) {
	l := newLab(t, public)
	p := l.project(1)
	net0 := l.public()
	x := l.outside("nacre-ex0")
	a := p.boot(5)
	p.rules(tcp, ping)
	p.gateway(net0, "172.24.4.20", true, dataplane.FloatingIP{ID: "f", External: addr("172.24.4.10"), Fixed: addr("10.0.0.5")})
	x.pings(true, "172.24.4.10")
	require.NoError(t, l.Driver.Close())
	sh(t, "ip netns del nacre-r-%s", p.router.ID[:11])
	l.open()
	x.pings(false, "172.24.4.10")
	l.active(a.port.ID)
	p.sentAgain()
	x.pings(true, "172.24.4.10")
	require.NoError(t, l.Driver.Close())
	l.open()
	x.pings(true, "172.24.4.10")
}

// A router that moved, or whose former host let go of it, tells its neighbours again,
// though nothing else about it changed.
func TestRouterTellsItMoved(t *testing.T) {
	l := newLab(t, public)
	p := l.project(1)
	net0 := l.public()
	x := l.outside("nacre-ex0")
	claims := arpClaims(t, x.ns, "172.24.4.10")
	p.gateway(net0, "172.24.4.20", true, dataplane.FloatingIP{ID: "f", External: addr("172.24.4.10"), Fixed: addr("10.0.0.5")})
	apply := func() {
		t.Helper()
		p.router.Generation++
		require.NoError(t, l.ApplyRouter(t.Context(), p.router))
	}
	quiet := func() int {
		t.Helper()
		for n := -1; ; time.Sleep(6 * time.Second) { // longer than the longest pause between two claims
			if now := int(claims.Load()); now == n {
				return n
			} else {
				n = now
			}
		}
	}
	before := quiet()
	require.Positive(t, before)
	apply()
	require.Equal(t, before, quiet(), "there is no news")
	p.router.Moves++
	apply()
	require.Eventually(t, func() bool { return int(claims.Load()) > before }, 10*time.Second, 20*time.Millisecond)
}

// arpClaims counts who says in a namespace, unasked, that it has an address.
func arpClaims(t *testing.T, ns, address string) *atomic.Int64 {
	t.Helper()
	var fd int
	require.NoError(t, in(t, ns, func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(uint16(unix.ETH_P_ARP)>>8|uint16(unix.ETH_P_ARP&0xff)<<8))
		return err
	}))
	require.NoError(t, unix.SetNonblock(fd, true))
	f := os.NewFile(uintptr(fd), "arp")
	t.Cleanup(func() { _ = f.Close() })
	want := addr(address).As4()
	var n atomic.Int64
	go func() {
		buf := make([]byte, 2000)
		for {
			k, err := f.Read(buf)
			if err != nil {
				return
			}
			if k >= 42 && string(buf[28:32]) == string(want[:]) && string(buf[38:42]) == string(want[:]) {
				n.Add(1)
			}
		}
	}()
	return &n
}
