//go:build linux && realtest

package linux_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/nacre-cloud/nacre/network/dataplane"
	"github.com/nacre-cloud/nacre/network/dataplane/linux"
)

// in runs f on a thread that is in the named namespace.
func in(t *testing.T, name string, f func() error) error {
	t.Helper()
	runtime.LockOSThread()
	home, err := netns.Get()
	require.NoError(t, err)
	defer home.Close()
	there, err := netns.GetFromName(name)
	require.NoError(t, err)
	defer there.Close()
	require.NoError(t, netns.Set(there))
	err = f()
	require.NoError(t, netns.Set(home))
	runtime.UnlockOSThread()
	return err
}

// echo serves TCP echoes in a guest.
func (g guest) echo(port int) {
	g.t.Helper()
	var l net.Listener
	require.NoError(g.t, in(g.t, g.ns, func() (err error) {
		l, err = net.Listen("tcp4", fmt.Sprintf("0.0.0.0:%d", port))
		return err
	}))
	g.t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
}

// dial connects from a namespace; the empty one is the host's.
func dial(t *testing.T, ns, to string) (c net.Conn, err error) {
	t.Helper()
	connect := func() (err error) {
		d := net.Dialer{Timeout: time.Second}
		c, err = d.DialContext(t.Context(), "tcp4", to)
		return err
	}
	if ns == "" {
		err = connect()
	} else {
		err = in(t, ns, connect)
	}
	if err == nil {
		t.Cleanup(func() { _ = c.Close() })
	}
	return c, err
}

// alive says whether a connection still echoes.
func alive(c net.Conn) bool {
	_ = c.SetDeadline(time.Now().Add(700 * time.Millisecond))
	if _, err := c.Write([]byte("hello")); err != nil {
		return false
	}
	buf := make([]byte, 5)
	_, err := io.ReadFull(c, buf)
	return err == nil && string(buf) == "hello"
}

// udhcpc gets a lease as a guest would, and gives what it was told.
func (g guest) udhcpc() map[string]string {
	g.t.Helper()
	script := filepath.Join(g.t.TempDir(), "script")
	require.NoError(g.t, os.WriteFile(script, []byte("#!/bin/sh\n[ \"$1\" = bound ] && env\nexit 0\n"), 0o755))
	out := sh(g.t, "ip netns exec %s busybox udhcpc -i eth0 -n -q -f -t 5 -T 1 -O 121 -O 26 -O 15 -O 12 -O 42 -s %s", g.ns, script)
	told := map[string]string{}
	for _, line := range strings.Split(out, "\n") {
		if k, v, ok := strings.Cut(line, "="); ok {
			told[k] = v
		}
	}
	return told
}

// get asks for metadata, lying about who asks.
func (g guest) get(path string) string {
	g.t.Helper()
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(_ context.Context, _, to string) (net.Conn, error) { return dial(g.t, g.ns, to) },
	}}
	request, err := http.NewRequestWithContext(g.t.Context(), http.MethodGet, "http://169.254.169.254/"+path, nil)
	require.NoError(g.t, err)
	request.Header.Set("X-Instance-ID", "somebody-else")
	request.Header.Set("X-Instance-ID-Signature", "forged")
	request.Header.Set("X-Tenant-ID", "another")
	request.Header.Set("X-Forwarded-For", "1.2.3.4")
	response, err := client.Do(request)
	require.NoError(g.t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(g.t, err)
	return string(body)
}

func TestDHCPAndMetadata(t *testing.T) {
	var c linux.Config
	seen := metadataService(t, &c)
	l := newLab(t, c)
	p := l.project(1)
	g := p.bootBare(5, func(p *dataplane.Port) {
		p.DHCPOptions = map[string]string{"ntp-server": "10.0.0.9", "tftp-server": "boot"}
	})
	told := g.udhcpc()
	require.Equal(t, "10.0.0.5", told["ip"])
	require.Equal(t, "24", told["mask"])
	require.Equal(t, "255.255.255.0", told["subnet"])
	require.Equal(t, "10.0.0.1", told["router"])
	require.Equal(t, "9.9.9.9", told["dns"])
	require.Equal(t, "host-5", told["hostname"])
	require.Equal(t, "example.org", told["domain"])
	require.Equal(t, "1450", told["mtu"])
	require.Equal(t, "86400", told["lease"])
	require.Equal(t, "10.0.0.2", told["serverid"])
	require.Equal(t, "10.0.0.9", told["ntpsrv"])
	fields := strings.Fields(told["staticroutes"])
	require.ElementsMatch(t, []string{"169.254.169.254/32", "10.0.0.2", "0.0.0.0/0", "10.0.0.1", "10.99.0.0/16", "10.0.0.77"}, fields)

	// There is no router here, and metadata answers all the same.
	sh(t, "ip -n %s addr add 10.0.0.5/24 dev eth0; ip -n %s route add 169.254.169.254 via 10.0.0.2", g.ns, g.ns)
	out := g.get("openstack/latest/meta_data.json")
	require.Equal(t, "you are "+g.port.DeviceID, out)
	require.Len(t, *seen, 1)
	r := (*seen)[0]
	require.Equal(t, "/compute/metadata/openstack/latest/meta_data.json", r.URL.Path)
	require.Equal(t, "10.0.0.5", r.Header.Get("X-Forwarded-For"))
	require.Equal(t, p.network.ProjectID, r.Header.Get("X-Tenant-ID"))
	mac := hmac.New(sha256.New, []byte("s3cret"))
	mac.Write([]byte(g.port.DeviceID))
	require.Equal(t, hex.EncodeToString(mac.Sum(nil)), r.Header.Get("X-Instance-ID-Signature"))

	// Nothing else of the namespace or the host can be reached by it.
	for _, to := range []string{"169.254.169.254:22", "10.0.0.2:80", "10.0.0.2:22"} {
		_, err := dial(t, g.ns, to)
		require.Error(t, err, to)
	}
	// A MAC that no port has gets no lease.
	port := g.port
	port.Generation, port.MAC = 2, "fa:16:3e:01:01:99"
	require.NoError(t, l.ApplyPort(t.Context(), port))
	_, err := try(t, "ip netns exec %s busybox udhcpc -i eth0 -n -q -f -t 2 -T 1 -s /bin/true", g.ns)
	require.Error(t, err)
}

func TestSecurityGroups(t *testing.T) {
	l := newLab(t, linux.Config{})
	p := l.project(1)
	a, b := p.boot(5), p.boot(6)
	a.pings(true, "10.0.0.2")
	a.pings(false, "10.0.0.6")
	p.rules(ping)
	a.pings(true, "10.0.0.6")
	b.pings(true, "10.0.0.5")
	p.rules()
	a.pings(false, "10.0.0.6")

	// A group as remote is followed live: members come and go.
	remote := dataplane.Rule{ID: "r", Direction: "ingress", EtherType: "IPv4", RemoteGroup: p.group.ID}
	p.rules(remote)
	a.pings(true, "10.0.0.6")
	p.group.Generation++
	p.group.Members = []netip.Addr{addr("10.0.0.6")}
	require.NoError(t, l.ApplySecurityGroup(t.Context(), p.group))
	a.pings(false, "10.0.0.6")
	b.pings(true, "10.0.0.5")
	c := p.boot(7)
	c.pings(false, "10.0.0.6")
	p.rules(remote)
	c.pings(true, "10.0.0.6")

	// Without egress rules nothing leaves, metadata and DHCP's address included.
	p.group.Rules[0].Direction = "ingress"
	p.rules(ping)
	a.pings(false, "10.0.0.2")
	p.group.Rules[0].Direction = "egress"
	p.rules(ping)
	a.pings(true, "10.0.0.2")

	// Administratively down is silent; port security off is open.
	down := b.port
	down.Generation, down.AdminUp = 2, false
	require.NoError(t, l.ApplyPort(t.Context(), down))
	a.pings(false, "10.0.0.6")
	b.pings(false, "10.0.0.2")
	p.rules()
	down.Generation, down.AdminUp, down.PortSecurity = 3, true, false
	require.NoError(t, l.ApplyPort(t.Context(), down))
	a.pings(true, "10.0.0.6")
	b.pings(false, "10.0.0.5")
	down.Generation, down.PortSecurity = 4, true
	require.NoError(t, l.ApplyPort(t.Context(), down))
	a.pings(false, "10.0.0.6")
}

func TestEstablishedFlowsAreCut(t *testing.T) {
	l := newLab(t, linux.Config{})
	p := l.project(1)
	a, b := p.boot(5), p.boot(6)
	b.echo(7001)
	b.echo(7010)
	_, err := dial(t, a.ns, "10.0.0.6:7001")
	require.Error(t, err)
	p.rules(tcp)
	c, err := dial(t, a.ns, "10.0.0.6:7001")
	require.NoError(t, err)
	require.True(t, alive(c))
	_, err = dial(t, a.ns, "10.0.0.6:7010")
	require.Error(t, err, "a port outside the range")
	// A change that keeps it allowed does not touch it.
	p.rules(tcp, ping)
	require.True(t, alive(c))
	p.rules(ping)
	require.False(t, alive(c), "what the rules no longer allow is cut")
	_, err = dial(t, a.ns, "10.0.0.6:7001")
	require.Error(t, err)

	// Nor does the server, which may send to anybody, bring a cut flow back with
	// what it still sends. The peer is one whose own rules stop nothing.
	open := p.boot(7, func(p *dataplane.Port) { p.PortSecurity = false })
	b.chatter(7002)
	p.rules(tcp)
	c, err = dial(t, open.ns, "10.0.0.6:7002")
	require.NoError(t, err)
	require.True(t, talks(c))
	p.rules(ping)
	for talks(c) {
		// What was under way still arrives.
	}
	require.False(t, talks(c))
	require.False(t, talks(c))
}

// chatter serves connections on which the guest talks without being asked.
func (g guest) chatter(port int) {
	g.t.Helper()
	var l net.Listener
	require.NoError(g.t, in(g.t, g.ns, func() (err error) {
		l, err = net.Listen("tcp4", fmt.Sprintf("0.0.0.0:%d", port))
		return err
	}))
	g.t.Cleanup(func() { _ = l.Close() })
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		for g.t.Context().Err() == nil {
			_ = c.SetWriteDeadline(time.Now().Add(time.Second))
			if _, err := c.Write([]byte("hello")); err != nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	}()
}

// talks says whether anything comes on a connection.
func talks(c net.Conn) bool {
	_ = c.SetReadDeadline(time.Now().Add(time.Second))
	n, err := c.Read(make([]byte, 4096))
	return err == nil && n > 0
}

func TestSpoofing(t *testing.T) {
	l := newLab(t, linux.Config{})
	p := l.project(1)
	p.rules(dataplane.Rule{ID: "all", Direction: "ingress", EtherType: "IPv4"})
	a, b := p.boot(5), p.boot(6, func(p *dataplane.Port) {
		p.AllowedPairs = []dataplane.Pair{{Prefix: prefix("10.0.0.64/28")}, {Prefix: prefix("10.0.0.66/32")}}
	})
	a.pings(true, "10.0.0.6")
	// Another's IP address.
	sh(t, "ip -n %s addr add 10.0.0.40/24 dev eth0", a.ns)
	_, err := try(t, "ip netns exec %s busybox ping -c1 -W1 -I 10.0.0.40 10.0.0.6", a.ns)
	require.Error(t, err)
	// An allowed pair may.
	sh(t, "ip -n %s addr add 10.0.0.65/24 dev eth0", b.ns)
	sh(t, "ip netns exec %s busybox ping -c1 -W2 -I 10.0.0.65 10.0.0.5", b.ns)
	a.pings(true, "10.0.0.65")
	// Another's place in ARP.
	_, err = try(t, "ip netns exec %s busybox arping -c1 -w1 -U -I eth0 -s 10.0.0.40 10.0.0.40", a.ns)
	require.NoError(t, err)
	require.NotContains(t, sh(t, "ip -n %s neigh", b.ns), "10.0.0.40")
	b.pings(false, "10.0.0.40")
	require.NotContains(t, sh(t, "ip -n %s neigh show 10.0.0.40", b.ns), "lladdr", "nobody answered for it")
	// A DHCP server's place.
	sh(t, "ip -n %s addr flush dev eth0", b.ns)
	require.Equal(t, 0, heard(t, b.ns, 68, func() {
		require.NoError(t, in(t, a.ns, func() error {
			c, err := net.DialUDP("udp4", &net.UDPAddr{IP: net.IPv4(10, 0, 0, 5), Port: 67}, &net.UDPAddr{IP: net.IPv4bcast, Port: 68})
			if err != nil {
				return err
			}
			defer c.Close()
			_, err = c.Write([]byte("an offer"))
			return err
		}))
	}))
	sh(t, "ip -n %s addr add 10.0.0.6/24 dev eth0", b.ns)
	a.pings(true, "10.0.0.6")
	// Frames that are neither IP nor ARP, in which rules could be passed by. Port
	// security off lets them through.
	odd := []byte("\xff\xff\xff\xff\xff\xff\xfa\x16\x3e\x01\x01\x05\x88\xb5smuggled")
	odd = append(odd, make([]byte, 60)...)
	require.False(t, frameArrives(t, a, b, odd))
	open := a.port
	open.Generation, open.PortSecurity = 2, false
	require.NoError(t, l.ApplyPort(t.Context(), open))
	require.True(t, frameArrives(t, a, b, odd))
	open.Generation, open.PortSecurity = 3, true
	require.NoError(t, l.ApplyPort(t.Context(), open))
	// Another MAC, last: the guest is deaf and dumb with it.
	sh(t, "ip -n %s link set eth0 address 02:00:00:00:00:01", a.ns)
	a.pings(false, "10.0.0.6")
	a.pings(false, "10.0.0.2")
}

// frameArrives says whether a guest receives the frame that another sends.
func frameArrives(t *testing.T, from, to guest, frame []byte) bool {
	t.Helper()
	open := func(g guest) (fd int) {
		require.NoError(t, in(t, g.ns, func() (err error) {
			link, err := net.InterfaceByName("eth0")
			if err != nil {
				return err
			}
			if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0x0300); err != nil {
				return err
			}
			return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: 0x0300, Ifindex: link.Index})
		}))
		return fd
	}
	hear, say := open(to), open(from)
	defer unix.Close(hear)
	defer unix.Close(say)
	require.NoError(t, unix.SetsockoptTimeval(hear, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 300000}))
	_, err := unix.Write(say, frame)
	require.NoError(t, err)
	buf := make([]byte, 2000)
	for {
		n, err := unix.Read(hear, buf)
		if err != nil {
			return false
		}
		if strings.Contains(string(buf[:n]), "smuggled") {
			return true
		}
	}
}

// heard counts datagrams that arrive at a UDP port while f runs, and for a moment.
func heard(t *testing.T, ns string, port int, f func()) int {
	t.Helper()
	var c net.PacketConn
	require.NoError(t, in(t, ns, func() (err error) {
		c, err = net.ListenPacket("udp4", fmt.Sprintf("0.0.0.0:%d", port))
		return err
	}))
	defer c.Close()
	f()
	_ = c.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
	n := 0
	for {
		if _, _, err := c.ReadFrom(make([]byte, 1500)); err != nil {
			return n
		}
		n++
	}
}

func TestProjectsWithTheSameAddresses(t *testing.T) {
	l := newLab(t, linux.Config{})
	one, two := l.project(1), l.project(2)
	a1, b1 := one.boot(5), one.boot(6)
	a2, b2 := two.boot(5), two.boot(6)
	one.rules(ping, tcp)
	b1.echo(7001)
	b2.echo(7001)
	a1.pings(true, "10.0.0.6")
	a2.pings(false, "10.0.0.6")
	b2.pings(false, "10.0.0.5")
	c, err := dial(t, a1.ns, "10.0.0.6:7001")
	require.NoError(t, err)
	_, err = dial(t, a2.ns, "10.0.0.6:7001")
	require.Error(t, err, "an established flow of the same addresses and ports opens nothing elsewhere")
	one.rules()
	two.rules(tcp)
	require.False(t, alive(c))
	_, err = dial(t, a2.ns, "10.0.0.6:7001")
	require.NoError(t, err)
	_, err = dial(t, a1.ns, "10.0.0.6:7001")
	require.Error(t, err)
	require.NoError(t, l.Delete(t.Context(), dataplane.KindNetwork, one.network.ID))
	require.NotNil(t, b1)
	two.rules(ping)
	a2.pings(true, "10.0.0.6")
}
