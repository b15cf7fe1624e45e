package linux

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/network/dataplane"
)

type transport func(*http.Request) (*http.Response, error)

func (t transport) RoundTrip(r *http.Request) (*http.Response, error) { return t(r) }

// ask asks a proxy that knows 10.0.0.5 only.
func ask(t *testing.T, c Config, from, method, path string, body io.Reader) *httptest.ResponseRecorder {
	t.Helper()
	server, err := newProxy(c, slog.New(slog.DiscardHandler), func(a netip.Addr) (dataplane.Port, bool) {
		return dataplane.Port{DeviceID: "server", ProjectID: "project"}, a == netip.MustParseAddr("10.0.0.5")
	})
	require.NoError(t, err)
	r := httptest.NewRequest(method, path, body)
	r.RemoteAddr = from
	w := httptest.NewRecorder()
	server.Handler.ServeHTTP(w, r)
	return w
}

func TestProxyBounds(t *testing.T) {
	var got *http.Request
	size := 0
	c := Config{MetadataURL: "http://compute.example/metadata", Metadata: transport(func(r *http.Request) (*http.Response, error) {
		got = r
		if r.Body != nil {
			if _, err := io.ReadAll(r.Body); err != nil {
				return nil, err
			}
		}
		return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(make([]byte, size))), Request: r}, nil
	})}
	require.Equal(t, 404, ask(t, c, "10.0.0.6:1000", "GET", "/", nil).Code, "an address of nobody")
	require.Nil(t, got)
	for asked, want := range map[string]string{
		"/../identity/v3": "/metadata/identity/v3", "/%2e%2e/%2e%2e%2fidentity": "/metadata/identity",
		"/openstack/": "/metadata/openstack/", "/": "/metadata/", "//x//y": "/metadata/x/y",
	} {
		require.Equal(t, 200, ask(t, c, "10.0.0.5:1000", "GET", asked, nil).Code)
		require.Equal(t, want, got.URL.Path)
		require.Empty(t, got.URL.RawPath)
	}
	require.Equal(t, 200, ask(t, c, "10.0.0.5:1000", "GET", "/x?y=1", nil).Code)
	require.Equal(t, "compute.example", got.Host)
	require.Equal(t, "y=1", got.URL.RawQuery)
	require.Equal(t, 413, ask(t, c, "10.0.0.5:1000", "POST", "/", strings.NewReader(strings.Repeat("x", proxyRequest+1))).Code)
	// One that does not say how long it is, is cut at the bound.
	endless := struct{ io.Reader }{strings.NewReader(strings.Repeat("x", proxyRequest+1))}
	require.Equal(t, 503, ask(t, c, "10.0.0.5:1000", "POST", "/", endless).Code)
	size = proxyResponse + 1
	require.Equal(t, proxyResponse, ask(t, c, "10.0.0.5:1000", "GET", "/", nil).Body.Len())
}

func TestProxyFailure(t *testing.T) {
	c := Config{MetadataURL: "http://compute.example", Metadata: transport(func(*http.Request) (*http.Response, error) {
		return nil, errors.New("dial tcp 127.0.0.1:5000: refused")
	})}
	w := ask(t, c, "10.0.0.5:1000", "GET", "/", nil)
	require.Equal(t, 503, w.Code)
	require.NotContains(t, w.Body.String(), "127.0.0.1", "a guest learns nothing of the host")
	_, err := newProxy(Config{MetadataURL: "no url"}, slog.New(slog.DiscardHandler), nil)
	require.Error(t, err)
}
