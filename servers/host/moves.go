package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"

	"github.com/nacre-cloud/nacre/internal/rest"
	"github.com/nacre-cloud/nacre/servers/kit"
)

// Moves are the ways by which servers move between hosts: what a host's agent serves to
// the others, and how it reaches them.
type Moves struct {
	// Address is this host's, as the others reach it; empty says that no server moves.
	Address string
	// Client reaches others; nil is http.DefaultClient.
	Client *http.Client
	// Serve takes what the agent serves.
	Serve func(http.Handler)
}

// Switchboard joins the hosts of one process without sockets. The zero value is ready.
type Switchboard struct {
	mu    sync.Mutex
	hosts map[string]http.Handler
}

// Of are the ways of one of its hosts.
func (s *Switchboard) Of(name string) Moves {
	return Moves{Address: "http://" + name, Client: &http.Client{Transport: s}, Serve: func(h http.Handler) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.hosts == nil {
			s.hosts = map[string]http.Handler{}
		}
		s.hosts[name] = h
	}}
}

// RoundTrip implements http.RoundTripper.
func (s *Switchboard) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	h := s.hosts[r.URL.Host]
	s.mu.Unlock()
	if h == nil {
		return nil, fmt.Errorf("there is no host %s in this process", r.URL.Host)
	}
	return rest.Transport(h).RoundTrip(r)
}

// listenMoves opens a host's migration listener, if one is configured; run serves on it.
func listenMoves(ctx context.Context, cfg kit.Config, client *http.Client, log *slog.Logger) (m Moves, run func(context.Context) error, err error) {
	if cfg.MigrationListen == "" {
		return m, nil, nil
	}
	at, _, err := net.SplitHostPort(cfg.MigrationListen)
	if err != nil {
		return m, nil, fmt.Errorf("migration_listen: %w", err)
	}
	switch ip, _ := netip.ParseAddr(at); {
	case cfg.MyIP != "":
		at = cfg.MyIP
	case at == "" || ip.IsUnspecified():
		return m, nil, fmt.Errorf("migration_listen: nobody finds this host at %s: it needs an address that others reach, or my_ip", cfg.MigrationListen)
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", cfg.MigrationListen)
	if err != nil {
		return m, nil, fmt.Errorf("migration_listen: %w", err)
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		return m, nil, errors.Join(err, l.Close())
	}
	scheme := "http://"
	if cfg.TLSCert != "" {
		scheme = "https://"
	}
	ready := make(chan http.Handler, 1)
	m = Moves{Address: scheme + net.JoinHostPort(at, port), Client: client, Serve: func(h http.Handler) { ready <- h }}
	return m, func(ctx context.Context) error {
		select {
		case h := <-ready:
			return kit.Serve(ctx, l, h, cfg, log)
		case <-ctx.Done():
			return l.Close()
		}
	}, nil
}
