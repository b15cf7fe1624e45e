package netguard_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/internal/netguard"
)

func guard(t *testing.T, c netguard.Config) *netguard.Guard {
	g, err := netguard.New(c)
	require.NoError(t, err)
	return g
}

func TestAddresses(t *testing.T) {
	g := guard(t, netguard.Config{AllowPorts: []int{}})
	for _, u := range []string{
		"http://127.0.0.1/", "http://127.1/", "http://2130706433/", "http://0x7f000001/", "http://0x7f.0.0.1/", "http://0177.0.0.1/", "http://017700000001/",
		"http://127.0x0.0.1/", "http://0/", "http://0.0.0.0/", "http://10.0.0.1/", "http://172.16.3.4/", "http://192.168.1.1/", "http://169.254.169.254/latest/meta-data",
		"http://[::1]/", "http://[::]/", "http://[::ffff:127.0.0.1]/", "http://[::ffff:7f00:1]/", "http://[::127.0.0.1]/", "http://[fe80::1]/", "http://[fe80::1%25eth0]/",
		"http://[fc00::1]/", "http://[64:ff9b::7f00:1]/", "http://[2002:7f00:1::]/", "http://[2001:0:1::]/", "http://100.64.0.1/", "http://198.18.0.1/", "http://224.0.0.1/",
		"http://255.255.255.255/", "http://240.0.0.1/", "http://1.2.3/", "http://1.2.3.4.5/", "http://①②⑦.⓪.⓪.①/", "http://127.0.0.1./", "http://%31%32%37.0.0.1/",
		"http://good.example.org\\@127.0.0.1/", "http://user@127.0.0.1/", "http://192.0.2.1/",
	} {
		_, err := g.Check(u)
		require.ErrorIs(t, err, nacre.Invalid, u)
	}
	for _, u := range []string{"http://8.8.8.8/", "https://example.org/x", "http://[2606:4700::1]/", "http://3com.example/", "http://0x7f.example/"} {
		_, err := g.Check(u)
		require.NoError(t, err, u)
	}
}

func TestFilters(t *testing.T) {
	for name, c := range map[string]struct {
		c         netguard.Config
		pass, not []string
	}{
		"defaults": {netguard.Config{}, []string{"http://a.org", "https://a.org:443/x", "HTTP://A.org"},
			[]string{"ftp://a.org/x", "file:///etc/passwd", "http://a.org:22/", "gopher://a.org", "//a.org", "http:a.org", "", "http://", "http://a.org:0/", "http://a.org:99999/"}},
		"hosts":       {netguard.Config{AllowHosts: []string{"A.org"}, DenyHosts: []string{"a.org"}}, []string{"http://a.org/", "http://a.ORG./"}, []string{"http://b.org/", "http://a.org.b.org/"}},
		"not a host":  {netguard.Config{DenyHosts: []string{"a.org"}}, []string{"http://b.org/"}, []string{"http://a.org/", "http://A.ORG./"}},
		"not a port":  {netguard.Config{AllowPorts: []int{}, DenyPorts: []int{443}}, []string{"http://a.org:8080/"}, []string{"https://a.org/"}},
		"not a thing": {netguard.Config{AllowSchemes: []string{}, DenySchemes: []string{"http"}}, []string{"https://a.org/"}, []string{"http://a.org/"}},
	} {
		t.Run(name, func(t *testing.T) {
			g := guard(t, c.c)
			for _, u := range c.pass {
				_, err := g.Check(u)
				require.NoError(t, err, u)
			}
			for _, u := range c.not {
				_, err := g.Check(u)
				require.ErrorIs(t, err, nacre.Invalid, u)
			}
		})
	}
}

// web is a server that a guard reaches by the name "web.test" at a public address;
// dialled tells which addresses were connected to.
func web(t *testing.T, h http.HandlerFunc, lookup func(host string) []string) (*netguard.Guard, *[]string) {
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	dialled := &[]string{}
	return guard(t, netguard.Config{
		Idle: 100 * time.Millisecond,
		Lookup: func(_ context.Context, host string) ([]netip.Addr, error) {
			var out []netip.Addr
			for _, a := range lookup(host) {
				out = append(out, netip.MustParseAddr(a))
			}
			return out, nil
		},
		Dial: func(ctx context.Context, a netip.AddrPort) (net.Conn, error) {
			*dialled = append(*dialled, a.String())
			return (&net.Dialer{}).DialContext(ctx, "tcp", srv.Listener.Addr().String())
		},
	}), dialled
}

func TestGet(t *testing.T) {
	g, dialled := web(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/ok":
			_, _ = io.WriteString(w, "hello")
		case "/to-ok":
			http.Redirect(w, r, "/ok", http.StatusFound)
		case "/loop":
			http.Redirect(w, r, "/loop", http.StatusFound)
		case "/to-file":
			w.Header().Set("Location", "file:///etc/passwd")
			w.WriteHeader(http.StatusFound)
		case "/to-port":
			http.Redirect(w, r, "http://web.test:22/", http.StatusFound)
		case "/to-loopback":
			http.Redirect(w, r, "http://0x7f000001/", http.StatusTemporaryRedirect)
		case "/to-inside":
			http.Redirect(w, r, "http://inside.test/", http.StatusPermanentRedirect)
		case "/stall":
			_, _ = io.WriteString(w, "he")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		default:
			w.WriteHeader(http.StatusTeapot)
		}
	}, func(host string) []string {
		if host == "inside.test" {
			return []string{"10.1.2.3", "::1"}
		}
		return []string{"192.168.0.1", "93.184.216.34"}
	})
	for _, path := range []string{"/ok", "/to-ok"} {
		body, _, err := g.Get(t.Context(), "http://web.test"+path)
		require.NoError(t, err)
		b, err := io.ReadAll(body)
		require.NoError(t, err)
		require.NoError(t, body.Close())
		require.Equal(t, "hello", string(b))
	}
	for _, u := range []string{"http://web.test/loop", "http://web.test/to-file", "http://web.test/to-port", "http://web.test/to-loopback", "http://web.test/to-inside", "http://inside.test/ok", "http://web.test/x"} {
		_, _, err := g.Get(t.Context(), u)
		require.ErrorIs(t, err, nacre.Invalid, u)
	}
	for _, a := range *dialled {
		require.Equal(t, "93.184.216.34:80", a, "only the public address is ever dialled")
	}
	body, _, err := g.Get(t.Context(), "http://web.test/stall")
	require.NoError(t, err)
	_, err = io.ReadAll(body)
	require.ErrorIs(t, err, nacre.Unavailable)
	require.NoError(t, body.Close())
}

// A name whose second answer is an inner address gains nothing: it is asked once
// per connection, and what was checked is dialled.
func TestRebinding(t *testing.T) {
	var n atomic.Int64
	g, dialled := web(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "close")
		_, _ = io.WriteString(w, "x")
	}, func(string) []string {
		if n.Add(1)%2 == 1 {
			return []string{"93.184.216.34"}
		}
		return []string{"127.0.0.1"}
	})
	refused := 0
	for range 6 {
		body, _, err := g.Get(t.Context(), "http://rebind.test/")
		if err != nil {
			require.ErrorIs(t, err, nacre.Invalid)
			refused++
			continue
		}
		require.NoError(t, body.Close())
	}
	require.Equal(t, 3, refused)
	require.Len(t, *dialled, 3)
	for _, a := range *dialled {
		require.Equal(t, "93.184.216.34:80", a)
	}
}

func TestAllowNets(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "local") }))
	t.Cleanup(srv.Close)
	g := guard(t, netguard.Config{AllowPorts: []int{}, AllowNets: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	body, size, err := g.Get(t.Context(), srv.URL)
	require.NoError(t, err)
	require.EqualValues(t, 5, size)
	require.NoError(t, body.Close())
	_, _, err = guard(t, netguard.Config{AllowPorts: []int{}}).Get(t.Context(), srv.URL)
	require.ErrorIs(t, err, nacre.Invalid)
}

func FuzzCheck(f *testing.F) {
	for _, s := range []string{"http://127.1", "http://[::ffff:7f00:1]/", "http://a.org:80", "http://0x7f.1"} {
		f.Add(s)
	}
	g, err := netguard.New(netguard.Config{})
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, s string) {
		u, err := g.Check(s)
		if err != nil {
			return
		}
		host := strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
		if a, err := netip.ParseAddr(host); err == nil {
			require.True(t, a.IsGlobalUnicast() && !a.IsPrivate(), s)
		}
	})
}
