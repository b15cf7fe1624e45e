package network

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/bus"
	"github.com/nacre-cloud/nacre/internal/outbox"
	"github.com/nacre-cloud/nacre/internal/policy"
	"github.com/nacre-cloud/nacre/internal/quota"
	"github.com/nacre-cloud/nacre/internal/reconcile"
	"github.com/nacre-cloud/nacre/internal/roster"
	"github.com/nacre-cloud/nacre/network/dataplane"
	"github.com/nacre-cloud/nacre/store"
)

// Config of the service. Engine and Bus are required.
type Config struct {
	Engine store.Engine
	Bus    *bus.Bus
	// Policy decides who may do what; nil means the default rules.
	Policy nacre.Enforcer
	// PolicyOptions adjust the default rules when Policy is nil.
	PolicyOptions nacre.PolicyOptions
	IDs           nacre.IDs
	// Physical are the physical networks that flat networks may use; nil means "public".
	Physical []string
	// MTU of a flat or local network, and of the underlay that vxlan takes 50
	// bytes of; 0 means 1500.
	MTU int
	// DNSDomain ends the names that DHCP and DNS give; empty means "openstacklocal".
	DNSDomain string
	// HostTimeout is how long a silent host counts as alive; 0 means 75 s.
	HostTimeout time.Duration
	// KeepRouters leaves routers on hosts that died. Without it they move to others
	// (neutron's allow_automatic_l3agent_failover), as they do from disabled ones.
	KeepRouters bool
	// Alone says that no other process serves this area's database.
	Alone bool
	// Instance is a name that no other process has while this one runs: work that one of
	// that name left goes on soon. Empty is none.
	Instance string
	Log      *slog.Logger
}

// The names of a [PortEvent], nova's own.
const (
	// VIFPlugged: the port became ACTIVE, or an inactive binding's host wired it.
	VIFPlugged = "network-vif-plugged"
	// VIFUnplugged: the port was ACTIVE and is DOWN.
	VIFUnplugged = "network-vif-unplugged"
	// VIFDeleted: the port is gone.
	VIFDeleted = "network-vif-deleted"
	// NetworkChanged: the port's addresses, or the floating IPs that lead to it, changed.
	NetworkChanged = "network-changed"
)

// PortEvent is a hint that a server's port changed.
type PortEvent struct{ Name, DeviceID, PortID string }

// Hooks are hints to who uses ports: compute. Set them before Run.
type Hooks struct {
	// PortEvent is called after the change, and must not take long. A lost hint costs
	// time only.
	PortEvent func(ctx context.Context, e PortEvent)
}

// Service is network.
type Service struct {
	c     Config
	log   *slog.Logger
	hooks Hooks

	networks      *store.Table[Network]
	subnets       *store.Table[Subnet]
	pools         *store.Table[SubnetPool]
	ports         *store.Table[Port]
	allocations   *store.Table[Allocation]
	members       *store.Table[Membership]
	routers       *store.Table[Router]
	floatingips   *store.Table[FloatingIP]
	groups        *store.Table[SecurityGroup]
	rules         *store.Table[SecurityGroupRule]
	addressGroups *store.Table[AddressGroup]
	hosts         *store.Table[Host]
	places        *store.Table[Place]
	tags          *store.Table[TagRow]
	quota         *quota.Kit
	work          *reconcile.Reconciler
	events        *outbox.Outbox

	// hostNames are hosts that are known to be there.
	hostNames sync.Map
	// sent is what hosts were sent lately.
	sent sendings
	// routersWake has watchRouters look now.
	routersWake chan struct{}

	mu        sync.Mutex
	runCtx    context.Context
	listening map[string]bool
}

type randomIDs struct{}

func (randomIDs) NewID() string { return uuid.NewString() }

// defaultQuota are neutron's defaults.
var defaultQuota = map[string]int64{"network": 100, "subnet": 100, "subnetpool": -1, "port": 500, "router": 10, "floatingip": 50, "security_group": 10, "security_group_rule": 100, "rbac_policy": 10}

// New makes the service. The Engine's database must be at Schema.
func New(c Config) (*Service, error) {
	if c.Engine == nil {
		return nil, errors.New("network: Config.Engine is missing")
	}
	if c.Bus == nil {
		return nil, errors.New("network: Config.Bus is missing")
	}
	if c.IDs == nil {
		c.IDs = randomIDs{}
	}
	if c.Physical == nil {
		c.Physical = []string{"public"}
	}
	if c.MTU == 0 {
		c.MTU = 1500
	}
	if c.DNSDomain == "" {
		c.DNSDomain = "openstacklocal"
	}
	if c.HostTimeout == 0 {
		c.HostTimeout = 75 * time.Second
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Policy == nil {
		p, err := DefaultPolicy(c.PolicyOptions, c.Log)
		if err != nil {
			return nil, err
		}
		c.Policy = p
	}
	e := c.Engine
	s := &Service{
		c: c, log: c.Log.With("area", "network"), listening: map[string]bool{}, routersWake: make(chan struct{}, 1),
		networks: store.NewTable[Network](e, "network"), subnets: store.NewTable[Subnet](e, "subnet"), pools: store.NewTable[SubnetPool](e, "subnetpool"), ports: store.NewTable[Port](e, "port"),
		allocations: store.NewTable[Allocation](e, "ip_allocation"), members: store.NewTable[Membership](e, "port_security_group"),
		routers: store.NewTable[Router](e, "router"), floatingips: store.NewTable[FloatingIP](e, "floatingip"),
		groups: store.NewTable[SecurityGroup](e, "security_group"), rules: store.NewTable[SecurityGroupRule](e, "security_group_rule"),
		addressGroups: store.NewTable[AddressGroup](e, "address_group"),
		hosts:         store.NewTable[Host](e, "host"), places: store.NewTable[Place](e, "place"), tags: store.NewTable[TagRow](e, "tag"),
		quota:  quota.New(e, defaultQuota),
		work:   reconcile.New(reconcile.Config{Engine: e, Area: "network", Alone: c.Alone, Instance: c.Instance, Workers: 8, Log: c.Log}),
		events: outbox.New("network", e, c.Log),
	}
	s.work.Handle(kindHost, reconcile.Handler{Steps: map[string]reconcile.Step{"sync": s.stepSync}, Expire: func(context.Context, *reconcile.Job, error) error { return nil }})
	return s, nil
}

// DNSDomain ends the names that DHCP and DNS give.
func (s *Service) DNSDomain() string { return s.c.DNSDomain }

// SetHooks sets who is told of changes; before Run.
func (s *Service) SetHooks(h Hooks) { s.hooks = h }

// Run does the area's work until ctx ends: sends desired state, hears hosts,
// relays events.
func (s *Service) Run(ctx context.Context) error {
	s.mu.Lock()
	s.runCtx = ctx
	s.mu.Unlock()
	hosts := roster.New(s.hosts, func(h *Host) string { return h.Name }, s.listenTo, s.log)
	if err := hosts.Look(ctx); err != nil {
		return err
	}
	var wg sync.WaitGroup
	wg.Go(func() { s.events.Run(ctx, s.c.Bus.PublishEvent) })
	wg.Go(func() { s.work.Run(ctx) })
	wg.Go(func() { s.watchRouters(ctx) })
	if !s.c.Alone { // else each host is added here
		wg.Go(func() { hosts.Run(ctx) })
	}
	wg.Wait()
	return nil
}

func (s *Service) listenTo(host string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.runCtx == nil || s.listening[host] {
		return nil
	}
	_, err := s.c.Bus.Subscribe(s.runCtx, bus.Queue, "network.report."+host, "", func(ctx context.Context, body []byte) error {
		var r dataplane.Report
		if err := json.Unmarshal(body, &r); err != nil {
			s.log.Warn("report not understood", "host", host, "error", err)
			return nil
		}
		return s.takeReport(ctx, host, r)
	})
	if err == nil {
		s.listening[host] = true
	}
	return err
}

func (s *Service) caller(ctx context.Context) (*nacre.Caller, error) {
	c := nacre.CallerFrom(ctx)
	if c == nil {
		return nil, nacre.Errorf(nacre.Unauthenticated, "", "The request you have made requires authentication.")
	}
	return c, nil
}

func (s *Service) enforce(ctx context.Context, rule string, t policy.Map) error {
	err := s.c.Policy.Enforce(ctx, rule, t)
	var e *nacre.Error
	if errors.As(err, &e) && e.Kind == nacre.Forbidden {
		named := *e
		named.Code = "PolicyNotAuthorized"
		return &named
	}
	return err
}

// Allowed reports whether the caller may do what a rule guards, for views that
// leave fields out.
func (s *Service) Allowed(ctx context.Context, rule string) bool {
	c := nacre.CallerFrom(ctx)
	return c != nil && s.c.Policy.Enforce(ctx, rule, policy.Map{"project_id": c.ProjectID, "tenant_id": c.ProjectID}) == nil
}

func (s *Service) emit(ctx context.Context, typ string, o *Std) error {
	return s.events.Emit(ctx, typ, o.ID, o.ProjectID, map[string]any{"id": o.ID, "name": o.Name, "project_id": o.ProjectID})
}

// DefaultPolicy is neutron's rules with their defaults, as the options adjust them. log may
// be nil.
func DefaultPolicy(o nacre.PolicyOptions, log *slog.Logger) (nacre.Enforcer, error) {
	return policy.New(policy.Config{Area: "network", Rules: Rules(), EnforceScope: true, EnforceNewDefaults: true,
		Denied: func(rule string) string { return "rule:" + rule + " is disallowed by policy" }, Log: log}.With(o))
}

// fresh fills in the standard attributes of a new object.
func (s *Service) fresh(ctx context.Context, o *Std) {
	now := time.Now().UTC().Truncate(time.Second)
	o.ID, o.Created, o.Updated, o.Generation = s.c.IDs.NewID(), now, now, 1
	if c := nacre.CallerFrom(ctx); o.ProjectID == "" && c != nil {
		o.ProjectID = c.ProjectID
	}
	o.Tags = []string{} // UpdateTags sets them
}

// touched notes a change that the user can see.
func touched(o *Std) {
	o.Revision++
	o.Updated = time.Now().UTC().Truncate(time.Second)
}

// pokes are the hosts that a transaction has something for.
type pokes struct{ hosts map[string]bool }

type pokesKey struct{}

// tx runs fn in a transaction of the area. At its end each host that got
// something to do has its work made due, once.
func (s *Service) tx(ctx context.Context, fn func(ctx context.Context) error) error {
	if store.Inside(ctx, s.c.Engine) {
		return store.InTx(ctx, s.c.Engine, fn)
	}
	return store.InTx(ctx, s.c.Engine, func(ctx context.Context) error {
		p := &pokes{hosts: map[string]bool{}}
		if err := fn(context.WithValue(ctx, pokesKey{}, p)); err != nil {
			return err
		}
		return s.work.PokeAll(ctx, kindHost, slices.Sorted(maps.Keys(p.hosts)), reconcile.Begin{Step: "sync"})
	})
}

// Together makes the changes that fn asks this service for all at once, or none of
// them. fn may run again, and does nothing else.
func (s *Service) Together(ctx context.Context, fn func(ctx context.Context) error) error {
	return s.tx(ctx, fn)
}

// poke has a host looked at when the transaction of [Service.tx] ends.
func (s *Service) poke(ctx context.Context, host string) {
	ctx.Value(pokesKey{}).(*pokes).hosts[host] = true
}

// reserve counts use under the project's lock before n more are made.
func (s *Service) reserve(ctx context.Context, resource, project string, n int, count func(ctx context.Context) (int64, error)) error {
	if err := s.quota.Lock(ctx, project); err != nil {
		return err
	}
	used, err := count(ctx)
	if err != nil {
		return err
	}
	over, err := s.quota.Over(ctx, project, map[string]int64{resource: used}, map[string]int64{resource: int64(n)})
	if err == nil && len(over) > 0 {
		err = nacre.Errorf(nacre.QuotaExceeded, "OverQuota", "Quota exceeded for resources: ['%s'].", resource)
	}
	return err
}

type revisionKey struct{}

// IfRevision makes a change of an object hold only while its revision is n
// (standard-attr-revisions' If-Match); else the change is a nacre.Precondition.
func IfRevision(ctx context.Context, n int) context.Context {
	return context.WithValue(ctx, revisionKey{}, n)
}

// withoutRevision is for what else changes along with the object.
func withoutRevision(ctx context.Context) context.Context {
	return context.WithValue(ctx, revisionKey{}, nil)
}

// expected enforces [IfRevision] on the object that is to change.
func (s *Service) expected(ctx context.Context, o *Std) error {
	if n, ok := ctx.Value(revisionKey{}).(int); ok && n != o.Revision {
		return nacre.Errorf(nacre.Precondition, "RevisionNumberConstraintFailed", "Constrained to %d, but current revision is %d", n, o.Revision)
	}
	return nil
}
