package image

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/image/backend"
	"github.com/nacre-cloud/nacre/image/metadefs"
	"github.com/nacre-cloud/nacre/internal/outbox"
	"github.com/nacre-cloud/nacre/internal/policy"
	"github.com/nacre-cloud/nacre/internal/reconcile"
	"github.com/nacre-cloud/nacre/store"
)

// Config of the service. Engine is required, and Backend or Stores.
type Config struct {
	Engine store.Engine
	// Backend is the only store, called "default", where Stores is empty.
	Backend backend.Driver
	// Stores are the places for the bytes of images. The first is the default.
	Stores []Store
	// Staging keeps what is staged until it is imported; nil keeps it in the
	// default store, under keys of its own.
	Staging backend.Driver
	// Policy decides who may do what; nil means the default rules.
	Policy nacre.Enforcer
	// PolicyOptions adjust the default rules when Policy is nil.
	PolicyOptions nacre.PolicyOptions
	IDs           nacre.IDs
	// Publish relays events; nil keeps them until somebody does.
	Publish func(ctx context.Context, e nacre.Event) error
	// MaxSize bounds one image, in bytes; 0 means 1 TiB (glance's image_size_cap).
	MaxSize int64
	// MaxProperties, MaxTags and MaxMembers bound an image; 0 means 128 each.
	// MaxLocations bounds the locations that users add; 0 means 10.
	MaxProperties, MaxTags, MaxMembers, MaxLocations int
	// PageSize is how many things a list shows that says nothing of a limit, MaxPage
	// how many at most; 0 means 25 and 1,000.
	PageSize, MaxPage int
	// DiskFormats and ContainerFormats are the ones that may be declared; nil means
	// the package's lists. Others than those are refused by New: nothing could
	// inspect them.
	DiskFormats, ContainerFormats []string
	// AnyFormat takes bytes that are not of the declared format, as glance with
	// require_image_format_match off. The safety checks stay on.
	AnyFormat bool
	// Limits are unified limits; nil means none.
	Limits Limits
	// StorageQuota bounds what all images of a project hold together, in bytes,
	// copies counted (glance's user_storage_quota); 0 is no bound.
	StorageQuota int64
	// Protections guard properties; nil guards none.
	Protections *Protections
	// Fetcher allows web-download, Remote glance-download, Converter the
	// conversion plug-in; nil is without.
	Fetcher   Fetcher
	Remote    Remote
	Converter Converter
	Import    ImportOptions
	// Keys gives certificates for signed images; without it an image whose
	// signature properties are all set is refused.
	Keys KeyManager
	// ShowLocations shows the locations of images and lets them be patched, for
	// whom policy allows that (glance's show_multiple_locations); ShowDirectURL
	// shows direct_url.
	ShowLocations, ShowDirectURL bool
	// NoSecureHash leaves bytes at added locations unread, so that they have the
	// hash that was given with them or none (glance's do_secure_hash off).
	NoSecureHash bool
	// ScrubAfter keeps the bytes of deleted images for a while, for an operator
	// to save them (glance's delayed_delete and scrub_time). The images
	// themselves are gone at once.
	ScrubAfter time.Duration
	// TaskTTL is how long finished tasks are kept; 0 means 48 h.
	TaskTTL time.Duration
	Cache   CacheOptions
	// UploadTimeout is how long an upload may stand still before it is taken
	// for dead; 0 means 60 s.
	UploadTimeout time.Duration
	// Alone says that no other process serves this area's database.
	Alone bool
	// Instance is a name that no other process has while this one runs: work that one of
	// that name left goes on soon. Empty is none.
	Instance string
	Log      *slog.Logger
}

// Service is image.
type Service struct {
	c          Config
	log        *slog.Logger
	images     *store.Table[Image]
	tags       *store.Table[Tag]
	properties *store.Table[Property]
	members    *store.Table[Member]
	tasks      *store.Table[Task]
	cached     *store.Table[Cached]
	// Metadefs are the metadata definitions, in the same database.
	Metadefs *metadefs.Service
	work     *reconcile.Reconciler
	events   *outbox.Outbox

	stores map[string]*Store

	mu        sync.Mutex
	uploading map[string]bool          // blob keys that this process writes
	askers    map[string]*nacre.Caller // who asked for a glance-download, by task
}

type randomIDs struct{}

func (randomIDs) NewID() string { return uuid.NewString() }

// New makes the service. The Engine's database must be at Schema.
func New(c Config) (*Service, error) {
	if c.Engine == nil {
		return nil, errors.New("image: Config.Engine is missing")
	}
	if c.Backend == nil && len(c.Stores) == 0 {
		return nil, errors.New("image: Config.Backend and Config.Stores are missing")
	}
	if err := c.complete(); err != nil {
		return nil, err
	}
	if c.Policy == nil {
		p, err := DefaultPolicy(c.PolicyOptions, c.Log)
		if err != nil {
			return nil, err
		}
		c.Policy = p
	}
	e := c.Engine
	s := &Service{c: c, log: c.Log.With("area", "image"), uploading: map[string]bool{}, askers: map[string]*nacre.Caller{},
		images: store.NewTable[Image](e, "image"), tags: store.NewTable[Tag](e, "image_tag"), properties: store.NewTable[Property](e, "image_property"),
		members: store.NewTable[Member](e, "image_member"), tasks: store.NewTable[Task](e, "image_task"), cached: store.NewTable[Cached](e, "image_cached"),
		work: reconcile.New(reconcile.Config{Engine: e, Area: "image", Alone: c.Alone, Instance: c.Instance, Workers: 4, Log: c.Log}), events: outbox.New("image", e, c.Log)}
	if err := s.setStores(); err != nil {
		return nil, err
	}
	s.work.Handle(kindBlob, s.blobHandler())
	s.work.Handle(kindImport, s.importHandler())
	s.work.Handle(kindTask, s.taskHandler())
	s.work.Handle(kindCache, s.cacheHandler())
	var err error
	s.Metadefs, err = metadefs.New(metadefs.Config{Engine: e, Policy: c.Policy, IDs: c.IDs, Emit: s.events.Emit})
	return s, err
}

// complete fills in what was left out.
func (c *Config) complete() error {
	if c.IDs == nil {
		c.IDs = randomIDs{}
	}
	c.MaxSize = cmp.Or(c.MaxSize, 1<<40)
	c.MaxProperties, c.MaxTags, c.MaxMembers = cmp.Or(c.MaxProperties, 128), cmp.Or(c.MaxTags, 128), cmp.Or(c.MaxMembers, 128)
	c.MaxLocations, c.PageSize, c.MaxPage = cmp.Or(c.MaxLocations, 10), cmp.Or(c.PageSize, 25), cmp.Or(c.MaxPage, 1000)
	c.UploadTimeout, c.TaskTTL = cmp.Or(c.UploadTimeout, time.Minute), cmp.Or(c.TaskTTL, 48*time.Hour)
	c.Cache.MaxSize = cmp.Or(c.Cache.MaxSize, 10<<30)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	for _, f := range []struct {
		what  string
		have  *[]string
		known []string
	}{{"disk", &c.DiskFormats, DiskFormats}, {"container", &c.ContainerFormats, ContainerFormats}} {
		if *f.have == nil {
			*f.have = f.known
		}
		for _, name := range *f.have {
			if !slices.Contains(f.known, name) {
				return fmt.Errorf("image: %q is no %s format, only %s", name, f.what, strings.Join(f.known, ", "))
			}
		}
	}
	if to := c.Import.ConvertTo; to != "" && !slices.Contains([]string{"raw", "qcow2", "vmdk"}, to) {
		return fmt.Errorf("image: imports can't be converted to %q, only to raw, qcow2 or vmdk", to)
	}
	for _, m := range c.Import.Methods {
		if !slices.Contains([]string{GlanceDirect, WebDownload, GlanceDownload, CopyImage}, m) {
			return fmt.Errorf("image: there is no import method %q", m)
		}
	}
	return nil
}

// Formats are the disk and container formats that may be declared.
func (s *Service) Formats() (disk, container []string) {
	return s.c.DiskFormats, s.c.ContainerFormats
}

// Pages are how many things a list shows when it is not told, and at most.
func (s *Service) Pages() (size, most int) { return s.c.PageSize, s.c.MaxPage }

// steps bring older databases forward.
var steps = []store.Step{{
	// There was one store, and the image's row itself had the key.
	Version: 1, Name: "images in several stores",
	Fill: func(ctx context.Context, e store.Engine) error {
		images := store.NewTable[Image](e, "image")
		old, err := images.Where(ctx, store.Not(store.Eq("blob_key", "")), store.Eq("blob_store", ""))
		if err != nil {
			return err
		}
		for _, im := range old {
			if _, err := images.Update(ctx, im.ID, func(im *Image) error {
				if im.Status == Saving || im.Status == Queued {
					im.BlobStore = "default"
					return nil
				}
				im.Locations, im.BlobKey = []Location{{Store: "default", Key: im.BlobKey}}, ""
				return nil
			}); err != nil {
				return err
			}
		}
		return nil
	},
}}

// Schema is what the area keeps.
func Schema() *store.Schema {
	s := &store.Schema{Area: "image", Version: 1, Steps: steps, Tables: []*store.TableDef{store.Define[Image]("image"), store.Define[Tag]("image_tag"), store.Define[Property]("image_property"),
		store.Define[Member]("image_member"), store.Define[Task]("image_task"), store.Define[Cached]("image_cached"), reconcile.Table(), outbox.Table()}}
	s.Tables = append(s.Tables, metadefs.Tables()...)
	return s
}

// Run removes bytes that nobody needs any more and relays events, until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	if s.c.Publish != nil {
		wg.Go(func() { s.events.Run(ctx, s.c.Publish) })
	}
	if err := s.Metadefs.EnsureStandardTypes(ctx); err != nil {
		s.log.Warn("metadata definitions", "error", err)
	}
	if s.c.Alone {
		// What a process before this one was writing, nobody writes any more.
		if err := s.wakeWatches(ctx); err != nil {
			s.log.Warn("looking at broken uploads", "error", err)
		}
	}
	wg.Go(func() { s.work.Run(ctx) })
	wg.Wait()
	return nil
}

// DefaultPolicy is glance's rules with their defaults, as the options adjust them. log may
// be nil.
func DefaultPolicy(o nacre.PolicyOptions, log *slog.Logger) (nacre.Enforcer, error) {
	return policy.New(policy.Config{Area: "image", Rules: Rules(), EnforceScope: true, EnforceNewDefaults: true,
		Denied: func(rule string) string { return "You are not authorized to complete " + rule + " action." }, Log: log}.With(o))
}

func (s *Service) caller(ctx context.Context) (*nacre.Caller, error) {
	c := nacre.CallerFrom(ctx)
	if c == nil {
		return nil, nacre.Errorf(nacre.Unauthenticated, "", "The request you have made requires authentication.")
	}
	return c, nil
}

// target is what a rule sees of an image. member_id is the caller's project where
// the image is shared with it.
func target(c *nacre.Caller, im *Image, member bool) policy.Map {
	m := policy.Map{"project_id": im.OwnerID, "owner": im.OwnerID, "visibility": im.Visibility, "member_id": "", "user_id": c.UserID, "image_id": im.ID}
	if member {
		m["member_id"] = c.ProjectID
	}
	return m
}

func (s *Service) enforce(ctx context.Context, rule string, im *Image) error {
	c, err := s.caller(ctx)
	if err != nil {
		return err
	}
	member := false
	if im.ID != "" {
		if member, err = s.isMember(ctx, c, im); err != nil {
			return err
		}
	}
	return s.c.Policy.Enforce(ctx, rule, target(c, im, member))
}

// isAdmin is glance's context_is_admin.
func (s *Service) isAdmin(ctx context.Context) bool {
	return s.c.Policy.Enforce(ctx, "context_is_admin", policy.Map{}) == nil
}
