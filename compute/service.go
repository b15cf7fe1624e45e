package compute

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/bus"
	"github.com/nacre-cloud/nacre/compute/hypervisor"
	"github.com/nacre-cloud/nacre/compute/placement"
	"github.com/nacre-cloud/nacre/internal/outbox"
	"github.com/nacre-cloud/nacre/internal/policy"
	"github.com/nacre-cloud/nacre/internal/quota"
	"github.com/nacre-cloud/nacre/internal/reconcile"
	"github.com/nacre-cloud/nacre/internal/roster"
	"github.com/nacre-cloud/nacre/store"
)

// Config of the service. Engine, Bus, Images, Networks and Placement are
// required; the zero value of everything else works.
type Config struct {
	Engine    store.Engine
	Bus       *bus.Bus
	Images    Images
	Networks  Networks
	Placement *placement.Service
	// SecurityGroups is the network service behind nova's old proxy of groups; without
	// it the proxy answers 404.
	SecurityGroups SecurityGroups
	// Policy decides who may do what; nil means the default rules.
	Policy nacre.Enforcer
	// PolicyOptions adjust the default rules when Policy is nil.
	PolicyOptions nacre.PolicyOptions
	IDs           nacre.IDs
	// DefaultZone is the availability zone of hosts; empty means "nova".
	DefaultZone string
	// HostTimeout is how long a silent host counts as alive; 0 means 60 s.
	HostTimeout time.Duration
	// BuildTimeout bounds a boot, from the request to ACTIVE; 0 means 10 min.
	BuildTimeout time.Duration
	// WireTimeout bounds the wait for a server's ports; 0 means 5 min (nova's
	// vif_plugging_timeout).
	WireTimeout time.Duration
	// MoveTimeout bounds a cold migration or a resize up to the new host, and a live one
	// until it is called off; 0 means 1 h.
	MoveTimeout time.Duration
	// ConfirmWindow is after which time a resized server is confirmed by itself (nova's
	// resize_confirm_window); 0 means never.
	ConfirmWindow time.Duration
	// StopGrace is how long a guest may take to turn itself off; 0 means 60 s.
	StopGrace time.Duration
	// DNSDomain ends the names of servers in metadata; empty means "novalocal".
	DNSDomain string
	// Workers is how many works go on at once; 0 means 16.
	Workers int
	// Alone says that no other process serves this area's database.
	Alone bool
	// Instance is a name that no other process has while this one runs: work that one of
	// that name left goes on soon. Empty is none.
	Instance string
	Log      *slog.Logger
}

// Service is compute.
type Service struct {
	c   Config
	log *slog.Logger

	servers      *store.Table[Server]
	serverTags   *store.Table[ServerTag]
	flavors      *store.Table[Flavor]
	flavorAccess *store.Table[FlavorAccess]
	keypairs     *store.Table[Keypair]
	groups       *store.Table[ServerGroup]
	aggregates   *store.Table[HostAggregate]
	hosts        *store.Table[Host]
	tombstones   *store.Table[Tombstone]
	actions      *store.Table[Action]
	migrations   *store.Table[Migration]
	quota        *quota.Kit
	work         *reconcile.Reconciler
	events       *outbox.Outbox
	free         freeHint

	mu        sync.Mutex
	runCtx    context.Context
	listening map[string]bool
	// offered is when a host's inventory was last compared with placement's.
	offered map[string]time.Time
}

type randomIDs struct{}

func (randomIDs) NewID() string { return uuid.NewString() }

// New makes the service. The Engine's database must be at Schema.
func New(c Config) (*Service, error) {
	for name, missing := range map[string]bool{"Engine": c.Engine == nil, "Bus": c.Bus == nil, "Images": c.Images == nil, "Networks": c.Networks == nil, "Placement": c.Placement == nil} {
		if missing {
			return nil, fmt.Errorf("compute: Config.%s is missing", name)
		}
	}
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&c.HostTimeout, time.Minute)
	def(&c.BuildTimeout, 10*time.Minute)
	def(&c.WireTimeout, 5*time.Minute)
	def(&c.MoveTimeout, time.Hour)
	def(&c.StopGrace, time.Minute)
	if c.IDs == nil {
		c.IDs = randomIDs{}
	}
	if c.DefaultZone == "" {
		c.DefaultZone = "nova"
	}
	if c.DNSDomain == "" {
		c.DNSDomain = "novalocal"
	}
	if c.Workers == 0 {
		c.Workers = 16
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
		c: c, log: c.Log.With("area", "compute"), listening: map[string]bool{}, offered: map[string]time.Time{},
		servers: store.NewTable[Server](e, "server"), serverTags: store.NewTable[ServerTag](e, "server_tag"), flavors: store.NewTable[Flavor](e, "flavor"),
		flavorAccess: store.NewTable[FlavorAccess](e, "flavor_access"), keypairs: store.NewTable[Keypair](e, "keypair"),
		groups: store.NewTable[ServerGroup](e, "server_group"), aggregates: store.NewTable[HostAggregate](e, "host_aggregate"),
		hosts: store.NewTable[Host](e, "host"), tombstones: store.NewTable[Tombstone](e, "tombstone"), actions: store.NewTable[Action](e, "instance_action"),
		migrations: store.NewTable[Migration](e, "migration"),
		quota:      quota.New(e, defaultQuota),
		work:       reconcile.New(reconcile.Config{Engine: e, Area: "compute", Alone: c.Alone, Instance: c.Instance, Workers: c.Workers, Log: c.Log}),
		events:     outbox.New("compute", e, c.Log),
	}
	s.work.Handle(kindServer, s.serverHandler())
	return s, nil
}

// Schema is what the area keeps.
func Schema() *store.Schema {
	return &store.Schema{Area: "compute", Tables: append([]*store.TableDef{
		store.Define[Server]("server"), store.Define[ServerTag]("server_tag"), store.Define[Flavor]("flavor"), store.Define[FlavorAccess]("flavor_access"),
		store.Define[Keypair]("keypair"), store.Define[ServerGroup]("server_group"), store.Define[HostAggregate]("host_aggregate"), store.Define[Host]("host"), store.Define[Tombstone]("tombstone"), store.Define[Action]("instance_action"), store.Define[Migration]("migration"),
		quota.Table(), reconcile.Table(), outbox.Table(),
	}, placement.Tables()...)}
}

// Run does the area's work until ctx ends: boots and deletes, hears hosts, sends
// events.
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
	if s.c.ConfirmWindow > 0 {
		wg.Go(func() { s.confirmOld(ctx) })
	}
	if !s.c.Alone { // else each host is added here
		wg.Go(func() { hosts.Run(ctx) })
	}
	wg.Wait()
	return nil
}

// listenTo subscribes to a host's reports, once the service runs.
func (s *Service) listenTo(host string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.runCtx == nil || s.listening[host] {
		return nil
	}
	_, err := s.c.Bus.Subscribe(s.runCtx, bus.Queue, "compute.report."+host, "", func(ctx context.Context, body []byte) error {
		var r hypervisor.Report
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

// send hands desired state to a host.
func (s *Service) send(ctx context.Context, host string, ds ...hypervisor.Desired) error {
	if len(ds) == 0 {
		return nil
	}
	return s.c.Bus.Publish(ctx, bus.Queue, "compute.host."+host, ds)
}

func (s *Service) caller(ctx context.Context) (*nacre.Caller, error) {
	c := nacre.CallerFrom(ctx)
	if c == nil {
		return nil, nacre.Errorf(nacre.Unauthenticated, "", "The request you have made requires authentication.")
	}
	return c, nil
}

func (s *Service) enforce(ctx context.Context, rule string, target policy.Map) error {
	if target == nil {
		if c := nacre.CallerFrom(ctx); c != nil {
			target = policy.Map{"project_id": c.ProjectID, "user_id": c.UserID}
		}
	}
	return s.c.Policy.Enforce(ctx, rule, target)
}

func (s *Service) allowed(ctx context.Context, rule string, target policy.Map) bool {
	return s.c.Policy.Enforce(ctx, rule, target) == nil
}

func (s *Service) emit(ctx context.Context, typ, resource, project string, payload any) error {
	return s.events.Emit(ctx, typ, resource, project, payload)
}

// DefaultPolicy is nova's rules with their defaults, as the options adjust them. log may
// be nil.
func DefaultPolicy(o nacre.PolicyOptions, log *slog.Logger) (nacre.Enforcer, error) {
	return policy.New(policy.Config{Area: "compute", Rules: Rules(), EnforceScope: true, EnforceNewDefaults: true,
		Denied: func(rule string) string { return "Policy doesn't allow " + rule + " to be performed." }, Log: log}.With(o))
}

// errIgnored marks an update that found nothing to do.
var errIgnored = errors.New("nothing to do")
