package host

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/nacre-cloud/nacre/bus"
	"github.com/nacre-cloud/nacre/compute/hypervisor"
	"github.com/nacre-cloud/nacre/network/dataplane"
	"github.com/nacre-cloud/nacre/servers/kit"
)

// Parts are the constructors that a program links, by the names that its
// configuration uses. Those that are io.Closers are closed at the end.
type Parts struct {
	Transports  map[string]func(context.Context, kit.Config, *slog.Logger) (bus.Transport, error)
	Hypervisors map[string]func(context.Context, Site) (hypervisor.Driver, error)
	Dataplanes  map[string]func(context.Context, Site) (dataplane.Driver, error)
}

// Open makes the host that a site describes: its drivers, and where its agent keeps
// what it reached. What it returns besides is to be called at the end.
func (p Parts) Open(ctx context.Context, s Site) (c Config, done func() error, err error) {
	var closes []func() error
	done = func() (err error) {
		for _, f := range slices.Backward(closes) {
			err = errors.Join(err, f())
		}
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, done())
		}
	}()
	hv, err := Choose("hypervisor", s.Config.Hypervisor, p.Hypervisors)
	if err != nil {
		return c, done, err
	}
	dp, err := Choose("dataplane", s.Config.Dataplane, p.Dataplanes)
	if err != nil {
		return c, done, err
	}
	c = Config{Name: s.Name, AgentDir: filepath.Join(s.Dir, "agent"), Log: s.Log}
	if c.Hypervisor, err = hv(ctx, s); err != nil {
		return c, done, fmt.Errorf("the hypervisor of %s: %w", s.Name, err)
	}
	if closer, ok := c.Hypervisor.(io.Closer); ok {
		closes = append(closes, closer.Close)
	}
	if c.Dataplane, err = dp(ctx, s); err != nil {
		return c, done, fmt.Errorf("the data plane of %s: %w", s.Name, err)
	}
	closes = append(closes, c.Dataplane.Close)
	return c, done, nil
}

// Choose is a part by its name; the error names those that there are.
func Choose[T any](what, name string, from map[string]T) (T, error) {
	v, ok := from[name]
	if !ok {
		return v, fmt.Errorf("%s: there is no %q here, only %s", what, name, strings.Join(slices.Sorted(maps.Keys(from)), ", "))
	}
	return v, nil
}

// TLS is what a program trusts when it speaks to a broker or a control plane; nil is
// the system's own.
func TLS(cfg kit.Config) (*tls.Config, error) {
	if cfg.TLSCA == "" {
		return nil, nil
	}
	text, err := os.ReadFile(cfg.TLSCA)
	if err != nil {
		return nil, fmt.Errorf("tls_ca: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("tls_ca: %s holds no certificate", cfg.TLSCA)
	}
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, nil
}

// Main runs a host until it is told to stop (SIGINT, SIGTERM), and exits. Guests go
// on. It writes one line to standard output when its agents run.
func Main(program string, parts Parts) {
	kit.Main(program, func(ctx context.Context, args []string) error { return run(ctx, program, args, parts) })
}

func run(ctx context.Context, program string, args []string, parts Parts) (err error) {
	cfg, err := kit.Load(program, args, os.Getenv, os.Stdout)
	if err != nil {
		return err
	}
	if len(cfg.Hosts) != 1 || cfg.Hosts[0] == kit.None {
		return fmt.Errorf("hosts: one name, this host's")
	}
	state, err := kit.OpenState(cfg.StateDir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, state.Close()) }()
	return serve(ctx, cfg, state, parts)
}

// serve runs the host's agents until ctx ends, or one of them does.
func serve(ctx context.Context, cfg kit.Config, state *kit.State, parts Parts) (err error) {
	name, log := cfg.Hosts[0], cfg.Logger(os.Stderr)
	trust, err := TLS(cfg)
	if err != nil {
		return err
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: trust, Proxy: http.ProxyFromEnvironment}}
	remote, err := NewRemote(cfg.Control, name, cfg.HostSecret, client)
	if err != nil {
		return err
	}
	dir, err := state.MkdirAll("hosts", name)
	if err != nil {
		return err
	}
	s := Site{Name: name, Dir: dir, Config: cfg, Metadata: remote, Log: log}
	if cfg.External != "" {
		if s.External, err = netip.ParsePrefix(cfg.External); err != nil {
			return fmt.Errorf("external: %w", err)
		}
	}
	open, err := Choose("bus", cfg.Bus, parts.Transports)
	if err != nil {
		return err
	}
	transport, err := open(ctx, cfg, log)
	if err != nil {
		return err
	}
	b := bus.New(transport, log)
	defer func() { err = errors.Join(err, b.Close()) }()
	c, done, err := parts.Open(ctx, s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	c.Bus, c.Images = b, remote
	moves, serveMoves, err := listenMoves(ctx, cfg, client, log)
	if err != nil {
		return err
	}
	c.Moves = moves
	work, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel(nil)
	run := func(ctx context.Context, name string, f func(context.Context) error) {
		wg.Go(func() {
			if err := f(ctx); ctx.Err() == nil {
				cancel(fmt.Errorf("%s ended: %w", name, errors.Join(err, errors.New("it should run until the process ends"))))
			}
		})
	}
	if serveMoves != nil {
		run(work, "migration listener", serveMoves)
	}
	if err := Start(work, c, run); err != nil {
		return err
	}
	fmt.Printf("nacre: host %s serves %s (hypervisor %s, data plane %s)\n", name, cfg.Control, cfg.Hypervisor, cfg.Dataplane)
	<-work.Done()
	if ctx.Err() != nil {
		return nil
	}
	return context.Cause(work)
}
