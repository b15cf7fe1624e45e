package linux

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/nacre-cloud/nacre/network/dataplane"
)

// Bounds of the metadata proxy, for each network.
const (
	proxyConnections = 256
	proxyRequest     = 64 << 10
	proxyResponse    = 16 << 20
	proxyTime        = 30 * time.Second
)

// newProxy makes the metadata proxy: it names the guest to the metadata service
// as Neutron's metadata agent does (neutron/agent/metadata, nova's
// api/metadata/handler.py checks it).
func newProxy(c Config, log *slog.Logger, owner func(netip.Addr) (dataplane.Port, bool)) (*http.Server, error) {
	base, err := url.Parse(c.MetadataURL)
	if err != nil || base.Host == "" {
		return nil, fmt.Errorf("the metadata URL %q is none", c.MetadataURL)
	}
	proxy := &httputil.ReverseProxy{
		Transport: c.Metadata,
		ErrorLog:  slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(base)
			r.Out.Host = base.Host
			// No way up: what lies beside the metadata service is not for guests.
			r.Out.URL.Path = strings.TrimSuffix(base.Path, "/") + rooted(r.In.URL.Path)
			r.Out.URL.RawPath = ""
			// Whatever the guest says of itself is not passed on.
			for name := range r.Out.Header {
				if strings.HasPrefix(name, "X-") || name == "Forwarded" || name == "Via" {
					r.Out.Header.Del(name)
				}
			}
			p := r.In.Context().Value(ownerKey{}).(dataplane.Port)
			mac := hmac.New(sha256.New, []byte(c.MetadataSecret))
			mac.Write([]byte(p.DeviceID))
			from, _, _ := net.SplitHostPort(r.In.RemoteAddr)
			r.Out.Header.Set("X-Forwarded-For", from)
			r.Out.Header.Set("X-Instance-Id", p.DeviceID)
			r.Out.Header.Set("X-Tenant-Id", p.ProjectID)
			r.Out.Header.Set("X-Instance-Id-Signature", hex.EncodeToString(mac.Sum(nil)))
		},
		ModifyResponse: func(r *http.Response) error {
			r.Body = bounded{io.LimitReader(r.Body, proxyResponse), r.Body}
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			log.Warn("the metadata service does not answer", "path", r.URL.Path, "error", err)
			http.Error(w, "The metadata service does not answer just now.", http.StatusServiceUnavailable)
		},
	}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		from, err := netip.ParseAddrPort(r.RemoteAddr)
		p, ok := dataplane.Port{}, false
		if err == nil {
			p, ok = owner(from.Addr().Unmap())
		}
		if !ok || p.DeviceID == "" {
			http.NotFound(w, r)
			return
		}
		if r.ContentLength > proxyRequest {
			http.Error(w, "The request is too large.", http.StatusRequestEntityTooLarge)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, proxyRequest)
		// A small client (busybox nc) closes its side once it has asked; it still
		// reads. net/http takes that for one that went away, so its cancellation is
		// not followed: the time bounds the request.
		ctx, cancel := context.WithTimeout(context.WithValue(context.WithoutCancel(r.Context()), ownerKey{}, p), proxyTime)
		defer cancel()
		proxy.ServeHTTP(w, r.WithContext(ctx))
	})
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       proxyTime,
		WriteTimeout:      2 * proxyTime,
		IdleTimeout:       15 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}, nil
}

// rooted resolves the dots of a path below its root.
func rooted(p string) string {
	clean := path.Clean("/" + p)
	if strings.HasSuffix(p, "/") && clean != "/" {
		clean += "/"
	}
	return clean
}

type ownerKey struct{}

type bounded struct {
	io.Reader
	io.Closer
}

// limit bounds how many connections of a listener are open at once.
func limit(l net.Listener, n int) net.Listener {
	return &limited{Listener: l, free: make(chan struct{}, n), closed: make(chan struct{})}
}

type limited struct {
	net.Listener
	free   chan struct{}
	once   sync.Once
	closed chan struct{}
}

func (l *limited) Accept() (net.Conn, error) {
	select {
	case l.free <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.free
		return nil, err
	}
	return &limitedConn{Conn: c, free: sync.OnceFunc(func() { <-l.free })}, nil
}

func (l *limited) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

type limitedConn struct {
	net.Conn
	free func()
}

func (c *limitedConn) Close() error {
	c.free()
	return c.Conn.Close()
}
