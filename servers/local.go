package servers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity"
	identityapi "github.com/nacre-cloud/nacre/identity/api"
	"github.com/nacre-cloud/nacre/identity/fernet"
	"github.com/nacre-cloud/nacre/image/backend"
	"github.com/nacre-cloud/nacre/objectstore/blob"
	"github.com/nacre-cloud/nacre/servers/host"
	"github.com/nacre-cloud/nacre/servers/kit"
	"github.com/nacre-cloud/nacre/store"
)

// Parts are the constructors that a program links, by the names that its
// configuration uses.
type Parts struct {
	// Engines open an area's database; path is where a file of it may be, without a
	// suffix.
	Engines map[string]func(cfg kit.Config, area, path string) (store.Engine, error)
	// Images open a store for images. Drivers that are io.Closers are closed at the
	// end.
	Images map[string]func(context.Context, ImageStore) (backend.Driver, error)
	// Objects open the store of objects' bytes.
	Objects map[string]func(dir string) (blob.Store, error)
	// Host has the buses, and the drivers of hosts in this process.
	Host host.Parts
	// Identity reads what the configuration says of federation, directories and the
	// catalog, for Config.IdentitySetup; nil has none of them.
	Identity func(kit.Config) (func(*identity.Config, *identityapi.Config), error)
}

// Local is a cloud on one machine that keeps its state in a directory, or some areas of
// one whose others are in other processes.
type Local struct {
	*Cloud
	// Credentials is the path of clouds.yaml, where identity is served here.
	Credentials string

	state *kit.State
	// shared is what copies of a process share; it is held while it is made.
	shared *kit.State
	closes []func() error
}

// OpenLocal opens the cloud that the configuration's state directory holds, and
// makes it when there is none: databases are migrated, secrets made, drivers
// opened, seeds sown, clouds.yaml written. cfg.URL must be set (kit.Listen does).
// Of areas that are not all, the databases must be there already (nacre db migrate), and
// but for the administrator, the services' users and the flavors nothing is sown.
func OpenLocal(ctx context.Context, cfg kit.Config, parts Parts, log *slog.Logger) (_ *Local, err error) {
	l := &Local{}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Close())
		}
	}()
	if l.state, err = kit.OpenState(cfg.StateDir); err != nil {
		return nil, err
	}
	if l.shared = l.state; cfg.SharedDir != "" {
		if l.shared, err = kit.Shared(ctx, cfg.SharedDir); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, l.letGo()) }()
	}
	secrets, err := l.shared.Secrets("admin_password", "demo_password", "metadata_secret")
	if err != nil {
		return nil, err
	}
	c := Config{URL: cfg.URL, ObjectURL: cfg.ObjectURL, ObjectDomains: cfg.ObjectDomains, Region: cfg.Region, AdminPassword: secrets["admin_password"], RandomPassword: true,
		Areas: cfg.Areas, Alone: len(cfg.Areas) == 0, Metadata: NewMetadata(secrets["metadata_secret"]), Log: log}
	if c.Instance, err = l.state.Instance(); err != nil {
		return nil, err
	}
	if c.PolicyOptions, err = policies(cfg); err != nil {
		return nil, err
	}
	if err = apart(&c, cfg); err != nil {
		return nil, err
	}
	if err = hostLife(&c, cfg); err != nil {
		return nil, err
	}
	seed, err := seedOf(cfg)
	if err != nil {
		return nil, err
	}
	seed.DemoPassword, seed.RandomPassword = secrets["demo_password"], true
	for _, step := range []func() error{
		func() error { return l.openKeys(&c) },
		func() (err error) {
			if parts.Identity != nil && c.serves("identity") {
				c.IdentitySetup, err = parts.Identity(cfg)
			}
			return err
		},
		func() error { return l.openStores(ctx, &c, cfg, parts) },
		func() error { return l.openHosts(ctx, &c, cfg, parts, seed.External, log) },
	} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	if l.Cloud, err = New(ctx, c); err != nil {
		return nil, err
	}
	if len(c.Areas) > 0 {
		seed = seedApart(&c, seed)
	}
	if _, err = l.Seed(ctx, seed); err != nil {
		return nil, err
	}
	if !c.serves("identity") {
		return l, l.state.Own()
	}
	l.Credentials = l.state.Path("clouds.yaml")
	auth := cfg.URL + "/identity/v3"
	if err = kit.WriteClouds(l.Credentials,
		kit.Credentials{Name: "nacre", AuthURL: auth, Region: cfg.Region, Username: "demo", Password: secrets["demo_password"], Project: "demo", CACert: cfg.TLSCA},
		kit.Credentials{Name: "nacre-admin", AuthURL: auth, Region: cfg.Region, Username: "admin", Password: secrets["admin_password"], Project: "admin", CACert: cfg.TLSCA}); err != nil {
		return nil, err
	}
	return l, l.state.Own()
}

// letGo lets other processes have the shared directory.
func (l *Local) letGo() error {
	if l.shared == nil || l.shared == l.state {
		return nil
	}
	shared := l.shared
	l.shared = nil
	return shared.Close()
}

// Close stops the cloud and closes what OpenLocal opened. Guests stay.
func (l *Local) Close() error {
	var err error
	if l.Cloud != nil {
		err = l.Cloud.Close()
	}
	for _, f := range slices.Backward(l.closes) {
		err = errors.Join(err, f())
	}
	l.closes = nil
	if l.state != nil {
		err = errors.Join(err, l.state.Close())
		l.state = nil
	}
	return err
}

func (l *Local) openKeys(c *Config) error {
	if !c.serves("identity") {
		return nil
	}
	for _, k := range []struct {
		name string
		to   **fernet.Keys
		make bool
	}{{"fernet-keys", &c.Keys, true}, {"credential-keys", &c.CredentialKeys, true}, {"receipt-keys", &c.ReceiptKeys, false}} {
		dir := l.shared.Path(k.name)
		if k.make {
			if err := fernet.Init(dir); err != nil {
				return err
			}
		} else if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
			continue
		}
		keys, err := fernet.Open(dir)
		if err != nil {
			return err
		}
		*k.to = keys
	}
	return nil
}

func (l *Local) openStores(ctx context.Context, c *Config, cfg kit.Config, parts Parts) error {
	if c.serves("image") {
		closes, err := openImages(ctx, c, cfg, parts, l.shared.MkdirAll)
		if l.closes = append(l.closes, closes...); err != nil {
			return err
		}
	}
	open, err := host.Choose("engine", cfg.Engine, parts.Engines)
	if err != nil {
		return err
	}
	dir, err := l.state.MkdirAll("db")
	if err != nil {
		return err
	}
	c.Engines = map[string]store.Engine{}
	for _, area := range Areas() {
		if !c.serves(area) {
			continue
		}
		e, err := open(cfg, area, filepath.Join(dir, area))
		if err != nil {
			return fmt.Errorf("the database of %s: %w", area, err)
		}
		l.closes = append(l.closes, e.Close)
		c.Engines[area] = e
	}
	if len(c.Areas) == 0 {
		if err := Migrate(ctx, c.Engines, true); err != nil {
			return err
		}
	}
	transport, err := host.Choose("bus", cfg.Bus, parts.Host.Transports)
	if err != nil {
		return err
	}
	if c.Transport, err = transport(ctx, cfg, c.Log); err != nil || !c.serves("objectstore") {
		return err
	}
	objects, err := host.Choose("objects", cfg.Objects, parts.Objects)
	if err != nil {
		return err
	}
	if dir, err = l.shared.MkdirAll("objects"); err != nil {
		return err
	}
	if cfg.Objects == "fs" {
		held, err := kit.OpenState(dir)
		if err != nil {
			return fmt.Errorf("objects in files are one process's (copies keep them in Ceph, objects: rados): %w", err)
		}
		l.closes = append(l.closes, held.Close)
	}
	if c.Objects, err = objects(dir); err == nil {
		l.closes = append(l.closes, c.Objects.Close)
		if c.ObjectAPI, err = objectAPI(cfg); err != nil {
			return err
		}
		c.ObjectSetup, err = objectSetup(cfg)
	}
	return err
}

func (l *Local) openHosts(ctx context.Context, c *Config, cfg kit.Config, parts Parts, external netip.Prefix, log *slog.Logger) error {
	if slices.Equal(cfg.Hosts, []string{kit.None}) || len(c.Areas) > 0 {
		return nil // they are other processes
	}
	for _, name := range cfg.Hosts {
		if name != filepath.Base(name) || strings.HasPrefix(name, ".") {
			return fmt.Errorf("%q can't be a host's name", name)
		}
		dir, err := l.state.MkdirAll("hosts", name)
		if err != nil {
			return err
		}
		h, done, err := parts.Host.Open(ctx, host.Site{Name: name, Dir: dir, Config: cfg, Metadata: c.Metadata, External: external, Log: log})
		if err != nil {
			return err
		}
		l.closes = append(l.closes, done)
		c.Hosts = append(c.Hosts, Host{Name: name, Hypervisor: h.Hypervisor, Dataplane: h.Dataplane, AgentDir: h.AgentDir})
	}
	return nil
}

// policies are the options of each function that has rules.
func policies(cfg kit.Config) (map[string]nacre.PolicyOptions, error) {
	out, names := map[string]nacre.PolicyOptions{}, append(Areas(), "placement")
	dir := cmp.Or(cfg.PolicyDir, filepath.Join(cfg.StateDir, "policy"))
	for _, list := range [][]string{cfg.PolicyNoScope, cfg.PolicyOldDefaults} {
		for _, name := range list {
			if !slices.Contains(names, name) {
				return nil, fmt.Errorf("policy: there is no area %q, only %s", name, strings.Join(names, ", "))
			}
		}
	}
	if _, err := os.Stat(dir); err != nil && cfg.PolicyDir != "" {
		return nil, fmt.Errorf("policy_dir: %w", err)
	}
	no := false
	for _, name := range names {
		o := nacre.PolicyOptions{File: filepath.Join(dir, name+".yaml")}
		if slices.Contains(cfg.PolicyNoScope, name) {
			o.EnforceScope = &no
		}
		if slices.Contains(cfg.PolicyOldDefaults, name) {
			o.EnforceNewDefaults = &no
		}
		out[name] = o
	}
	return out, nil
}

func seedOf(cfg kit.Config) (Seed, error) {
	s := Seed{Flavors: DefaultFlavors(), DNS: cfg.DNS}
	for _, p := range []struct {
		name, text string
		to         *netip.Prefix
	}{{"external", cfg.External, &s.External}, {"private", cfg.Private, &s.Private}} {
		if p.text == "" {
			continue
		}
		var err error
		if *p.to, err = netip.ParsePrefix(p.text); err != nil {
			return s, fmt.Errorf("%s: %w", p.name, err)
		}
	}
	if cfg.Image != "" {
		base := filepath.Base(cfg.Image)
		s.Image = SeedImage{Name: cmp.Or(cfg.ImageName, strings.TrimSuffix(base, filepath.Ext(base))), DiskFormat: "qcow2",
			Open: func() (io.ReadCloser, error) { return os.Open(cfg.Image) }}
		if ext := filepath.Ext(base); ext == ".raw" || ext == ".img" {
			s.Image.DiskFormat = "raw"
		}
	}
	return s, nil
}

// Main runs a local cloud until it is told to stop (SIGINT, SIGTERM), and exits.
// It writes one line to standard output when the cloud is ready. With areas it serves
// those alone.
func Main(program string, parts Parts, areas ...string) {
	kit.Main(program, func(ctx context.Context, args []string) error { return run(ctx, program, args, parts, areas) })
}

func run(ctx context.Context, program string, args []string, parts Parts, areas []string) (err error) {
	begun := time.Now()
	cfg, err := kit.Load(program, args, os.Getenv, os.Stdout)
	if err != nil {
		return err
	}
	switch {
	case len(areas) > 0 && len(cfg.Areas) > 0 && !slices.Equal(areas, cfg.Areas):
		return fmt.Errorf("areas: %s serves %s", program, strings.Join(areas, ", "))
	case len(areas) > 0:
		cfg.Areas = areas
	}
	log := cfg.Logger(os.Stderr)
	listener, err := kit.Listen(&cfg)
	if err != nil {
		return err
	}
	var objects net.Listener
	if len(cfg.Areas) == 0 || slices.Contains(cfg.Areas, "objectstore") {
		if objects, err = kit.ListenObjects(&cfg); err != nil {
			return errors.Join(err, listener.Close())
		}
	}
	cloud, err := OpenLocal(ctx, cfg, parts, log)
	if err != nil {
		if objects != nil {
			err = errors.Join(err, objects.Close())
		}
		return errors.Join(err, listener.Close())
	}
	defer func() { err = errors.Join(err, cloud.Close()) }()
	served := make(chan error, 2)
	serve, end := context.WithCancel(ctx)
	defer end()
	both := 1
	go func() { served <- kit.Serve(serve, listener, cloud.Handler(), cfg, log) }()
	if objects != nil {
		both++
		go func() { served <- kit.Serve(serve, objects, cloud.ObjectHandler(), cfg, log) }()
	}
	// One that ends takes the other along.
	wait := func() (err error) {
		for range both {
			err = errors.Join(err, <-served)
			end()
		}
		return err
	}
	if err := cloud.Ready(ctx); err != nil {
		end()
		return errors.Join(err, wait())
	}
	if len(cfg.Areas) > 0 {
		fmt.Printf("nacre: %s ready in %s at %s for %s\n", strings.Join(cfg.Areas, ", "), time.Since(begun).Round(time.Millisecond), listener.Addr(), cfg.URL)
		return wait()
	}
	fmt.Printf("nacre: ready in %s at %s (auth URL %s/identity/v3; hypervisor %s, data plane %s); credentials: export OS_CLIENT_CONFIG_FILE=%s OS_CLOUD=nacre (or nacre-admin)\n",
		time.Since(begun).Round(time.Millisecond), cfg.URL, cfg.URL, cfg.Hypervisor, cfg.Dataplane, cloud.Credentials)
	return wait()
}
