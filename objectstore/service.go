package objectstore

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/objectstore/blob"
	"github.com/nacre-cloud/nacre/store"
)

// Config of New. Engine and Blobs are required.
type Config struct {
	Engine store.Engine
	// Blobs keeps the bytes. It stays the giver's, to be closed after Run has ended.
	Blobs blob.Store

	// Prefix is the reseller's: what stands before a project's id in an account's
	// name. Empty means "AUTH_".
	Prefix string
	// ServicePrefix begins a second account of each project, in which a service keeps
	// things for the project: to get at it takes the project's own token and, beside it,
	// one of a service (X-Service-Token) with one of ServiceRoles (nil means service).
	// Empty is none.
	ServicePrefix string
	ServiceRoles  []string
	// OperatorRoles own the account of their project; nil means admin, member and
	// swiftoperator. ReaderRoles read it; nil means reader.
	OperatorRoles, ReaderRoles []string
	// ResellerAdmin is the role that owns every account; empty means ResellerAdmin.
	ResellerAdmin string
	// AccountManagement lets the reseller's administrator put and delete accounts.
	AccountManagement bool
	// Policies are the names of storage policies, the default first; nil means
	// "Policy-0". All of them are kept by Blobs.
	Policies []string
	// Limits bound what users send; zero values are Swift's own.
	Limits Limits
	// Secrets encrypt objects at rest; nil encrypts none, and those that are
	// encrypted can't be read.
	Secrets *Secrets
	// Grace is how long a blob that no row names is left, since its object may be
	// on its way; 0 means one hour.
	Grace time.Duration
	// SweepEvery is the time between searches for such blobs; 0 means six hours.
	SweepEvery time.Duration
	// ScrubEvery is the time between readings of all bytes, which find rot; 0 means
	// a week.
	ScrubEvery time.Duration
	// ExpireEvery is the time between looks for expired objects; 0 means 5 seconds.
	ExpireEvery time.Duration
	// Projects tells which projects there are; nil leaves accounts whose project is
	// gone. CompareEvery is the time between looks at all of them; 0 means 10 minutes.
	Projects     Projects
	CompareEvery time.Duration
	// ReapDelay is how long what a deleted account holds is kept; 0 is not at all.
	// Until then, an account whose project comes back is as it was.
	ReapDelay time.Duration
	// Now is the clock; nil is time.Now.
	Now func() time.Time
	Log *slog.Logger
}

// Service is the object store. Methods are safe for concurrent use.
type Service struct {
	c          Config
	log        *slog.Logger
	accounts   *store.Table[Account]
	containers *store.Table[Container]
	objects    *store.Table[Object]
	lines      *store.Table[line]
	rows       *store.Table[row]
	versions   *store.Table[Version]
	garbage    *store.Table[garbage]
	cache      cache
	vault      *vault
	commits    commits
	hint       chan struct{}
}

// New makes the service. The engine must be at Schema.
func New(c Config) (*Service, error) {
	if c.Engine == nil {
		return nil, errors.New("objectstore: Config.Engine is missing")
	}
	if c.Blobs == nil {
		return nil, errors.New("objectstore: Config.Blobs is missing")
	}
	if c.Prefix == "" {
		c.Prefix = "AUTH_"
	}
	if c.ServiceRoles == nil {
		c.ServiceRoles = []string{"service"}
	}
	if c.OperatorRoles == nil {
		c.OperatorRoles = []string{"admin", "member", "swiftoperator"}
	}
	if c.ReaderRoles == nil {
		c.ReaderRoles = []string{"reader"}
	}
	if c.ResellerAdmin == "" {
		c.ResellerAdmin = "ResellerAdmin"
	}
	if len(c.Policies) == 0 {
		c.Policies = []string{"Policy-0"}
	}
	c.Limits.complete()
	for d, def := range map[*time.Duration]time.Duration{&c.Grace: time.Hour, &c.SweepEvery: 6 * time.Hour, &c.ScrubEvery: 7 * 24 * time.Hour, &c.ExpireEvery: 5 * time.Second, &c.CompareEvery: 10 * time.Minute} {
		if *d == 0 {
			*d = def
		}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	s := &Service{c: c, log: c.Log, hint: make(chan struct{}, 1),
		accounts: store.NewTable[Account](c.Engine, "accounts"), containers: store.NewTable[Container](c.Engine, "containers"),
		objects: store.NewTable[Object](c.Engine, "objects"), lines: store.NewTable[line](c.Engine, "objects"), rows: store.NewTable[row](c.Engine, "objects"),
		versions: store.NewTable[Version](c.Engine, "versions"), garbage: store.NewTable[garbage](c.Engine, "garbage")}
	s.cache.now, s.commits.s = c.Now, s
	var err error
	s.vault, err = newVault(c.Secrets)
	return s, err
}

// Limits are the bounds that users meet. /info tells them.
type Limits struct {
	FileSize, MetaName, MetaValue, MetaCount, MetaOverall, HeaderSize int64
	ObjectName, ContainerName, AccountName                            int64
	ContainerListing, AccountListing                                  int64
	Segments, ManifestSize, BulkDeletes, BulkContainers               int64
}

func (l *Limits) complete() {
	for v, def := range map[*int64]int64{&l.FileSize: 5368709122, &l.MetaName: 128, &l.MetaValue: 256, &l.MetaCount: 90, &l.MetaOverall: 4096, &l.HeaderSize: 8192,
		&l.ObjectName: 1024, &l.ContainerName: 256, &l.AccountName: 256, &l.ContainerListing: 10000, &l.AccountListing: 10000,
		&l.Segments: 1000, &l.ManifestSize: 8 << 20, &l.BulkDeletes: 10000, &l.BulkContainers: 10000} {
		if *v == 0 {
			*v = def
		}
	}
}

// Limits are the bounds in force.
func (s *Service) Limits() Limits { return s.c.Limits }

// Policies are the names of the storage policies, the default first.
func (s *Service) Policies() []string { return slices.Clone(s.c.Policies) }

// AccountManagement says that the reseller's administrator may put and delete accounts.
func (s *Service) AccountManagement() bool { return s.c.AccountManagement }

// Prefix is the reseller's prefix.
func (s *Service) Prefix() string { return s.c.Prefix }

// Now is the service's clock.
func (s *Service) Now() time.Time { return s.c.Now() }

// newID is a container's id: 100 random bits that are in no way a name.
func newID() string { return strings.ToLower(rand.Text())[:idLen] }

// Ref names an account, a container or an object: what is not empty.
type Ref struct{ Account, Container, Object string }

func (r Ref) String() string {
	out := r.Account
	for _, p := range []string{r.Container, r.Object} {
		if p != "" {
			out += "/" + p
		}
	}
	return out
}

// cache keeps accounts and containers for a second, so that reading an object is
// one statement. Changes made here are seen at once.
type cache struct {
	now        func() time.Time
	mu         sync.RWMutex
	containers map[Ref]cached[Container]
	accounts   map[string]cached[Account]
	// gen increases with each change, so that what was read before one isn't kept
	// after it.
	gen uint64
}

type cached[T any] struct {
	v  T
	at time.Time
}

const (
	cacheFor = time.Second
	cacheMax = 10000
)

func (c *cache) container(r Ref) (Container, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	h, ok := c.containers[Ref{r.Account, r.Container, ""}]
	return h.v, ok && c.now().Sub(h.at) < cacheFor
}

func (c *cache) account(name string) (Account, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	h, ok := c.accounts[name]
	return h.v, ok && c.now().Sub(h.at) < cacheFor
}

func (c *cache) generation() uint64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.gen
}

func (c *cache) keepContainer(v Container, gen uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if gen != c.gen {
		return
	}
	if c.containers == nil || len(c.containers) >= cacheMax {
		c.containers = map[Ref]cached[Container]{}
	}
	c.containers[Ref{v.Account, v.Name, ""}] = cached[Container]{v, c.now()}
}

func (c *cache) keepAccount(v Account, gen uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if gen != c.gen {
		return
	}
	if c.accounts == nil || len(c.accounts) >= cacheMax {
		c.accounts = map[string]cached[Account]{}
	}
	c.accounts[v.Name] = cached[Account]{v, c.now()}
}

// forget drops what was changed.
func (c *cache) forget(r Ref) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gen++
	delete(c.containers, Ref{r.Account, r.Container, ""})
	delete(c.accounts, r.Account)
}

// forgetAccount drops what is known of an account and of all that it has.
func (c *cache) forgetAccount(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gen++
	delete(c.accounts, name)
	maps.DeleteFunc(c.containers, func(r Ref, _ cached[Container]) bool { return r.Account == name })
}

// live refuses an account that was deleted.
func (s *Service) live(ctx context.Context, name string) error {
	a, err := s.findAccount(ctx, name)
	if err == nil && !a.Deleted.IsZero() {
		err = notFound()
	}
	return err
}

// findContainer is a container's row, maybe a second old, without asking who
// wants it. Its counts are not to be relied on.
func (s *Service) findContainer(ctx context.Context, r Ref) (Container, error) {
	if c, ok := s.cache.container(r); ok {
		return c, nil
	}
	if err := s.live(ctx, r.Account); err != nil {
		return Container{}, err
	}
	gen := s.cache.generation()
	c, err := s.containers.One(ctx, store.Eq("account", r.Account), store.Eq("name", r.Container))
	if err != nil {
		return c, store.WrapNotFound(err, notFound)
	}
	s.cache.keepContainer(c, gen)
	return c, nil
}

// findAccount is an account's row. One that was never used is as good as empty:
// its Created is zero.
func (s *Service) findAccount(ctx context.Context, name string) (Account, error) {
	if a, ok := s.cache.account(name); ok {
		return a, nil
	}
	gen := s.cache.generation()
	a, err := s.accounts.Get(ctx, name)
	if errors.Is(err, store.ErrNoRow) {
		a, err = Account{Name: name}, nil
	}
	if err == nil {
		s.cache.keepAccount(a, gen)
	}
	return a, err
}

func notFound() *nacre.Error {
	return nacre.Errorf(nacre.NotFound, "", "The resource could not be found.")
}
