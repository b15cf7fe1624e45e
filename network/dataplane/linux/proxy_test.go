//go:build linux

package linux

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/network/dataplane"
)

type slow struct{}

func (slow) RoundTrip(r *http.Request) (*http.Response, error) {
	select {
	case <-r.Context().Done():
		return nil, r.Context().Err()
	case <-time.After(100 * time.Millisecond):
	}
	return &http.Response{StatusCode: 200, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("of " + r.Header.Get("X-Instance-Id"))), Request: r}, nil
}

// A client that closes its writing side after the request, as busybox nc does,
// still gets its answer.
func TestProxyAnswersHalfClosedClients(t *testing.T) {
	s, err := newProxy(Config{Metadata: slow{}, MetadataURL: "http://metadata/", MetadataSecret: "s"}, slog.New(slog.DiscardHandler), func(netip.Addr) (dataplane.Port, bool) {
		return dataplane.Port{DeviceID: "vm"}, true
	})
	require.NoError(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	go func() { _ = s.Serve(l) }()
	defer s.Close() //nolint:errcheck // at the end
	c, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	defer c.Close() //nolint:errcheck // at the end
	_, err = io.WriteString(c, "GET /openstack HTTP/1.0\r\nHost: 169.254.169.254\r\n\r\n")
	require.NoError(t, err)
	require.NoError(t, c.(*net.TCPConn).CloseWrite())
	require.NoError(t, c.SetReadDeadline(time.Now().Add(5*time.Second)))
	b, err := io.ReadAll(c)
	require.NoError(t, err)
	require.Contains(t, string(b), "200 OK")
	require.Contains(t, string(b), "of vm")
}
