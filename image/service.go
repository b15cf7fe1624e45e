package image

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/image/backend"
	"github.com/nacre-cloud/nacre/internal/outbox"
	"github.com/nacre-cloud/nacre/internal/policy"
	"github.com/nacre-cloud/nacre/internal/reconcile"
	"github.com/nacre-cloud/nacre/store"
)

// Config of the service. Engine and Backend are required.
type Config struct {
	Engine  store.Engine
	Backend backend.Driver
	// Policy decides who may do what; nil means the default rules.
	Policy nacre.Enforcer
	// PolicyOptions adjust the default rules when Policy is nil.
	PolicyOptions nacre.PolicyOptions
	IDs           nacre.IDs
	// Publish relays events; nil keeps them until somebody does.
	Publish func(ctx context.Context, e nacre.Event) error
	// MaxSize bounds one image, in bytes; 0 means 1 TiB (glance's image_size_cap).
	MaxSize int64
	// MaxProperties and MaxTags bound an image; 0 means 128 each.
	MaxProperties, MaxTags int
	// AnyFormat takes bytes that are not of the declared format, as glance with
	// require_image_format_match off. The safety checks stay on.
	AnyFormat bool
	// UploadTimeout is how long an upload may stand still before it is taken
	// for dead; 0 means 60 s.
	UploadTimeout time.Duration
	// Alone says that no other process serves this area's database.
	Alone bool
	Log   *slog.Logger
}

// Service is image.
type Service struct {
	c          Config
	log        *slog.Logger
	images     *store.Table[Image]
	tags       *store.Table[Tag]
	properties *store.Table[Property]
	members    *store.Table[Member]
	work       *reconcile.Reconciler
	events     *outbox.Outbox

	mu        sync.Mutex
	uploading map[string]bool // blob keys that this process writes
}

type randomIDs struct{}

func (randomIDs) NewID() string { return uuid.NewString() }

// New makes the service. The Engine's database must be at Schema.
func New(c Config) (*Service, error) {
	if c.Engine == nil {
		return nil, errors.New("image: Config.Engine is missing")
	}
	if c.Backend == nil {
		return nil, errors.New("image: Config.Backend is missing")
	}
	if c.IDs == nil {
		c.IDs = randomIDs{}
	}
	if c.MaxSize == 0 {
		c.MaxSize = 1 << 40
	}
	if c.MaxProperties == 0 {
		c.MaxProperties = 128
	}
	if c.MaxTags == 0 {
		c.MaxTags = 128
	}
	if c.UploadTimeout == 0 {
		c.UploadTimeout = time.Minute
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Policy == nil {
		p, err := DefaultPolicy(c.PolicyOptions)
		if err != nil {
			return nil, err
		}
		c.Policy = p
	}
	e := c.Engine
	s := &Service{c: c, log: c.Log.With("area", "image"), uploading: map[string]bool{},
		images: store.NewTable[Image](e, "image"), tags: store.NewTable[Tag](e, "image_tag"), properties: store.NewTable[Property](e, "image_property"),
		members: store.NewTable[Member](e, "image_member"),
		work:    reconcile.New(reconcile.Config{Engine: e, Area: "image", Alone: c.Alone, Workers: 4, Log: c.Log}), events: outbox.New("image", e, c.Log)}
	s.work.Handle(kindBlob, s.blobHandler())
	return s, nil
}

// Schema is what the area keeps.
func Schema() *store.Schema {
	return &store.Schema{Area: "image", Tables: []*store.TableDef{store.Define[Image]("image"), store.Define[Tag]("image_tag"), store.Define[Property]("image_property"),
		store.Define[Member]("image_member"), reconcile.Table(), outbox.Table()}}
}

// Run removes bytes that nobody needs any more and relays events, until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	if s.c.Publish != nil {
		wg.Go(func() { s.events.Run(ctx, s.c.Publish) })
	}
	wg.Go(func() { s.work.Run(ctx) })
	wg.Wait()
	return nil
}

// DefaultPolicy is glance's rules with their defaults, as the options adjust them.
func DefaultPolicy(o nacre.PolicyOptions) (nacre.Enforcer, error) {
	return policy.New(policy.Config{Area: "image", Rules: Rules(), EnforceScope: true, EnforceNewDefaults: true,
		Denied: func(rule string) string { return "You are not authorized to complete " + rule + " action." }}.With(o))
}

func (s *Service) caller(ctx context.Context) (*nacre.Caller, error) {
	c := nacre.CallerFrom(ctx)
	if c == nil {
		return nil, nacre.Errorf(nacre.Unauthenticated, "", "The request you have made requires authentication.")
	}
	return c, nil
}

func target(c *nacre.Caller, im *Image) policy.Map {
	return policy.Map{"project_id": im.OwnerID, "owner": im.OwnerID, "visibility": im.Visibility, "member_id": "", "user_id": c.UserID}
}

func (s *Service) enforce(ctx context.Context, rule string, im *Image) error {
	c, err := s.caller(ctx)
	if err != nil {
		return err
	}
	return s.c.Policy.Enforce(ctx, rule, target(c, im))
}
