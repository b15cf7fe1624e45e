// Package netguard fetches what users name by URL without letting them reach what
// only the cloud may reach: loopback, private and link-local addresses, metadata
// services, other ports, other schemes.
//
//	g, err := netguard.New(netguard.Config{})
//	body, size, err := g.Get(ctx, "https://example.org/disk.raw")
//
// The filters are those of Glance's import_filtering_opts: for schemes, hosts and
// ports a list of allowed ones or, where that is empty, of forbidden ones. Beyond
// them an address must be a public one, unless Config.AllowNets says otherwise.
//
// What is checked is what is dialled: a name is resolved once, each address is
// checked, and the connection goes to a checked address, so a name that changes its
// answer (DNS rebinding) gains nothing. Each redirect is checked as the first URL
// was. Odd notations of addresses (decimal, octal, hexadecimal, short forms, zones,
// addresses within addresses) are refused. No proxy of the environment is used.
// A server that stops sending is given up after Config.Idle.
//
// What the guard refuses is nacre.Invalid.
package netguard

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nacre-cloud/nacre"
)

// Config says what may be fetched. The zero value allows http and https on ports
// 80 and 443 of all public addresses, as Glance does.
type Config struct {
	// AllowSchemes, AllowHosts and AllowPorts are all that is allowed; where one
	// is empty the Deny list of its kind is looked at instead. Nil schemes and
	// ports mean Glance's defaults; an empty, non-nil list means any.
	AllowSchemes, DenySchemes []string
	AllowHosts, DenyHosts     []string
	AllowPorts, DenyPorts     []int
	// AllowNets are networks that may be reached though they are not public.
	AllowNets []netip.Prefix
	// Redirects is how many are followed; 0 means 5, negative none.
	Redirects int
	// Idle is how long a server may send nothing; 0 means 60 s.
	Idle time.Duration
	// Lookup resolves names; nil asks the system.
	Lookup func(ctx context.Context, host string) ([]netip.Addr, error)
	// Dial connects to an address that was checked; nil uses TCP.
	Dial func(ctx context.Context, addr netip.AddrPort) (net.Conn, error)
}

// Guard fetches. It is safe for concurrent use.
type Guard struct {
	c      Config
	client *http.Client
}

// New makes a Guard.
func New(c Config) (*Guard, error) {
	if c.AllowSchemes == nil {
		c.AllowSchemes = []string{"http", "https"}
	}
	if c.AllowPorts == nil {
		c.AllowPorts = []int{80, 443}
	}
	if c.Redirects == 0 {
		c.Redirects = 5
	}
	if c.Idle == 0 {
		c.Idle = time.Minute
	}
	for _, list := range [][]string{c.AllowHosts, c.DenyHosts} {
		for i, h := range list {
			n, err := normalHost(h)
			if err != nil {
				return nil, fmt.Errorf("netguard: host %q: %w", h, err)
			}
			list[i] = n
		}
	}
	if c.Lookup == nil {
		c.Lookup = func(ctx context.Context, host string) ([]netip.Addr, error) {
			// A name that ends with a dot is never taken for an address, nor
			// completed from the search list.
			return net.DefaultResolver.LookupNetIP(ctx, "ip", strings.TrimSuffix(host, ".")+".")
		}
	}
	if c.Dial == nil {
		d := &net.Dialer{Timeout: 10 * time.Second}
		c.Dial = func(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
			return d.DialContext(ctx, "tcp", addr.String())
		}
	}
	g := &Guard{c: c}
	g.client = &http.Client{
		Transport: &http.Transport{DialContext: g.dial, TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: 30 * time.Second, MaxIdleConns: 4,
			IdleConnTimeout: 10 * time.Second, DisableCompression: true, MaxResponseHeaderBytes: 64 << 10},
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if len(via) > c.Redirects {
				return nacre.Errorf(nacre.Invalid, "", "Too many redirects.")
			}
			// Credentials of the first request are not for others.
			r.Header.Del("Authorization")
			_, err := g.Check(r.URL.String())
			return err
		},
	}
	return g, nil
}

// ParseNets reads networks in CIDR notation, for configurations.
func ParseNets(list []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, s := range list {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, err
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

func refused(what string) error {
	return nacre.Errorf(nacre.Invalid, "", "The URL does not pass filtering: %s", what)
}

// listed applies an allow list or, without one, a deny list.
func listed[T comparable](v T, allow, deny []T) bool {
	if len(allow) > 0 {
		return slices.Contains(allow, v)
	}
	return !slices.Contains(deny, v)
}

// Check applies the filters to a URL, and the rules for addresses where its host
// is one. Names are resolved only when they are dialled.
func (g *Guard) Check(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme == "" || u.Host == "" || u.Opaque != "" {
		return nil, refused("it is malformed")
	}
	u.Scheme = strings.ToLower(u.Scheme)
	if !listed(u.Scheme, g.c.AllowSchemes, g.c.DenySchemes) {
		return nil, refused("scheme " + u.Scheme)
	}
	host, err := normalHost(u.Hostname())
	if err != nil {
		return nil, err
	}
	if !listed(host, g.c.AllowHosts, g.c.DenyHosts) {
		return nil, refused("host " + host)
	}
	port, err := portOf(u)
	if err != nil {
		return nil, err
	}
	if !listed(port, g.c.AllowPorts, g.c.DenyPorts) {
		return nil, refused(fmt.Sprintf("port %d", port))
	}
	if a, err := netip.ParseAddr(host); err == nil && !g.public(a) {
		return nil, refused("address " + host)
	}
	return u, nil
}

func portOf(u *url.URL) (int, error) {
	switch p := u.Port(); {
	case p != "":
		n, err := strconv.Atoi(p)
		if err != nil || n < 1 || n > 65535 {
			return 0, refused("port " + p)
		}
		return n, nil
	case u.Scheme == "https":
		return 443, nil
	case u.Scheme == "http":
		return 80, nil
	}
	return 0, nil
}

// normalHost is a host as it is compared: an address in its one canonical form, or
// a name in lower case. What only looks like a name and would be read as an
// address by some resolver is refused.
func normalHost(h string) (string, error) {
	h = strings.ToLower(strings.TrimSuffix(h, "."))
	if h == "" || strings.ContainsAny(h, "%/\\@?# \t") {
		return "", refused("its host")
	}
	if a, err := netip.ParseAddr(h); err == nil {
		if a.Zone() != "" {
			return "", refused("an address with a zone")
		}
		return a.Unmap().String(), nil
	}
	last := h[strings.LastIndexByte(h, '.')+1:]
	if strings.Contains(h, ":") || numeric(last) {
		return "", refused("a host that is neither an address nor a name")
	}
	for i := range len(h) {
		c := h[i]
		if c != '.' && c != '-' && c != '_' && (c < '0' || c > '9') && (c < 'a' || c > 'z') {
			return "", refused("a host with characters that no name has")
		}
	}
	return h, nil
}

// numeric reports whether a label would be read as a number: "10", "0x7f", "017".
func numeric(label string) bool {
	if hex, ok := strings.CutPrefix(label, "0x"); ok {
		return strings.Trim(hex, "0123456789abcdef") == ""
	}
	return strings.Trim(label, "0123456789") == ""
}

// closed are the networks that no public server is in, beyond what netip knows
// (IANA's special-purpose registries), and those that hold other addresses.
var closed = func() []netip.Prefix {
	var out []netip.Prefix
	for _, p := range []string{"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4",
		"::/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "5f00::/16", "fec0::/10"} {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}()

// public reports whether an address may be reached.
func (g *Guard) public(a netip.Addr) bool {
	a = a.Unmap()
	if slices.ContainsFunc(g.c.AllowNets, func(p netip.Prefix) bool { return p.Contains(a) }) {
		return true
	}
	return a.IsGlobalUnicast() && !a.IsPrivate() && !slices.ContainsFunc(closed, func(p netip.Prefix) bool { return p.Contains(a) })
}

// dial resolves, checks and connects, in this order and to what was checked.
func (g *Guard) dial(ctx context.Context, _, hostport string) (net.Conn, error) {
	h, p, err := net.SplitHostPort(hostport)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(p, 10, 16)
	if err != nil {
		return nil, err
	}
	host, err := normalHost(h)
	if err != nil {
		return nil, err
	}
	addrs := []netip.Addr{}
	if a, err := netip.ParseAddr(host); err == nil {
		addrs = append(addrs, a)
	} else if addrs, err = g.c.Lookup(ctx, host); err != nil {
		return nil, fmt.Errorf("resolving %s: %w", host, err)
	}
	last := refused("host " + host + " has no address")
	for _, a := range addrs {
		// One that is not public is never tried, whatever else the name has.
		if !g.public(a) {
			last = refused("host " + host + " is at an address that is not public")
			continue
		}
		conn, err := g.c.Dial(ctx, netip.AddrPortFrom(a.Unmap(), uint16(port)))
		if err == nil {
			return conn, nil
		}
		last = err
	}
	return nil, last
}

// Client is an HTTP client under the guard, for those who need more than Get. It
// does not check a request's first URL by its filters: call Check. Addresses and
// redirects are checked.
func (g *Guard) Client() *http.Client { return g.client }

// Get fetches a URL. size is -1 when the server does not tell it. The body must be
// closed. An answer other than 200 is nacre.Invalid; a server that can't be
// reached is nacre.Unavailable.
func (g *Guard) Get(ctx context.Context, raw string) (body io.ReadCloser, size int64, err error) {
	u, err := g.Check(raw)
	if err != nil {
		return nil, 0, err
	}
	ctx, cancel := context.WithCancel(ctx)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		cancel()
		return nil, 0, refused("it is malformed")
	}
	res, err := g.client.Do(req)
	if err != nil {
		cancel()
		if k := nacre.KindOf(err); k == nacre.Invalid {
			return nil, 0, err
		}
		return nil, 0, &nacre.Error{Kind: nacre.Unavailable, Message: "The URL can't be fetched: " + u.Redacted(), Err: err}
	}
	if res.StatusCode != http.StatusOK {
		cancel()
		_ = res.Body.Close()
		return nil, 0, nacre.Errorf(nacre.Invalid, "", "The URL can't be fetched: the server answered %d", res.StatusCode)
	}
	w := &watched{body: res.Body, cancel: cancel, idle: g.c.Idle}
	w.timer = time.AfterFunc(g.c.Idle, w.late)
	return w, res.ContentLength, nil
}

// watched is a body whose server must go on sending.
type watched struct {
	body   io.ReadCloser
	cancel context.CancelFunc
	idle   time.Duration
	timer  *time.Timer
	mu     sync.Mutex
	gaveUp bool
}

func (w *watched) late() {
	w.mu.Lock()
	w.gaveUp = true
	w.mu.Unlock()
	w.cancel()
}

func (w *watched) Read(p []byte) (int, error) {
	w.timer.Reset(w.idle)
	n, err := w.body.Read(p)
	w.timer.Stop()
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil && err != io.EOF && w.gaveUp { //nolint:errorlint // readers give io.EOF itself
		err = &nacre.Error{Kind: nacre.Unavailable, Message: "The server stopped sending.", Err: err}
	}
	return n, err
}

func (w *watched) Close() error {
	w.timer.Stop()
	w.cancel()
	return w.body.Close()
}
