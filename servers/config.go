package servers

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/bus"
	"github.com/nacre-cloud/nacre/compute"
	"github.com/nacre-cloud/nacre/compute/hypervisor"
	"github.com/nacre-cloud/nacre/identity"
	identityapi "github.com/nacre-cloud/nacre/identity/api"
	"github.com/nacre-cloud/nacre/identity/fernet"
	"github.com/nacre-cloud/nacre/image"
	"github.com/nacre-cloud/nacre/image/backend"
	"github.com/nacre-cloud/nacre/image/importer"
	"github.com/nacre-cloud/nacre/network"
	"github.com/nacre-cloud/nacre/network/dataplane"
	"github.com/nacre-cloud/nacre/objectstore"
	objectapi "github.com/nacre-cloud/nacre/objectstore/api"
	"github.com/nacre-cloud/nacre/objectstore/blob"
	"github.com/nacre-cloud/nacre/servers/remote"
	"github.com/nacre-cloud/nacre/store"
)

// Config is what a cloud is made of. Engines and AdminPassword are required; the
// zero value of everything else works.
type Config struct {
	// Areas are those of [Areas] that this process serves; nil is all. What they need of
	// the others they ask Others.
	Areas []string
	// Others are the areas in other processes; nil where all are served here.
	Others *remote.Cloud
	// ServiceUsers are users by name, with their passwords, that identity makes for the
	// services in other processes: with the roles admin and service on the project "service".
	ServiceUsers map[string]string
	// Engines keep each of the areas that are served. No two areas share one. They stay
	// the giver's, to be closed after Close.
	Engines map[string]store.Engine
	// Transport carries messages; nil is the one inside this process. It is
	// closed by Close.
	Transport bus.Transport
	// Images keeps the bytes of images; nil keeps them in memory.
	Images backend.Driver
	// Objects keeps the bytes of objects; nil keeps them in memory. It stays the
	// giver's, to be closed after Close.
	Objects blob.Store
	// Hosts are the hosts whose agents run in this process. They stay the giver's.
	Hosts []Host

	// URL is the cloud's address as clients see it, without a path: it goes into
	// the catalog. Empty means "http://127.0.0.1:5000".
	URL string
	// ObjectURL is the object store's own address, where it has one; empty means
	// below URL, at "/object-store".
	ObjectURL string
	// ObjectDomains are host names below which containers are served as
	// container.account.DOMAIN, and S3's buckets as bucket.DOMAIN.
	ObjectDomains []string
	// Region is the endpoints'; empty means "RegionOne".
	Region string
	// AdminPassword is the administrator's. It is set at each start; RandomPassword
	// says that it holds 128 random bits, so that the cheapest hash is as good as any.
	AdminPassword  string
	RandomPassword bool

	// Keys make and read tokens, CredentialKeys encrypt users' credentials; nil
	// makes some that end with the process. ReceiptKeys make and read receipts of
	// unfinished log-ins; nil is Keys.
	Keys, CredentialKeys, ReceiptKeys *fernet.Keys
	// Metadata answers guests; nil makes one with a random secret. Data planes
	// that carry guests' requests are made with the same one.
	Metadata *Metadata
	// Policy decides, by area; without an entry the area's default rules hold.
	Policy map[string]nacre.Enforcer
	// PolicyOptions adjust the default rules, by area.
	PolicyOptions map[string]nacre.PolicyOptions
	// BcryptCost of new passwords; 0 is identity's own.
	BcryptCost int
	// ReportDelay is how long an agent gathers changes before it reports; 0 is
	// the agents' own.
	ReportDelay time.Duration
	// ReportInterval is the time between full reports of agents; 0 is their own.
	ReportInterval time.Duration
	// MaxImage bounds an image in bytes; 0 is image's own.
	MaxImage int64
	// ImageFetch says which URLs web-download may fetch; the zero value allows
	// public addresses by http and https.
	ImageFetch importer.FetchConfig
	// ImageDefinitions are metadata definitions in Glance's files, added at the start
	// where they are not there yet; nil is none.
	ImageDefinitions fs.FS
	// ImageSetup, if set, changes image's configuration before image is made:
	// further stores, plug-ins of imports, quotas.
	ImageSetup func(*image.Config)
	// IdentitySetup, if set, changes identity's configuration before it is made:
	// federation, directories, a catalog template.
	IdentitySetup func(*identity.Config, *identityapi.Config)
	// ComputeSetup and NetworkSetup, if set, change these configurations before they are
	// made: limits of moves, what becomes of routers.
	ComputeSetup func(*compute.Config)
	NetworkSetup func(*network.Config)
	// ObjectSetup, if set, changes the object store's configuration before it is made:
	// secrets of encryption, limits, delays.
	ObjectSetup func(*objectstore.Config)
	// ObjectAPI, if set, changes the configuration of the object store's API: rates,
	// origins, aliases of host names.
	ObjectAPI func(*objectapi.Config)
	// Alone says that no other process serves these databases, so that work which
	// a killed one had in hand goes on at once.
	Alone bool
	// Instance is a name that no other process has while this one runs: work that one of
	// that name left when it was killed goes on soon. Empty is none.
	Instance string
	Log      *slog.Logger
}

// Host is a machine that runs guests.
type Host struct {
	// Name is what topics, services and the scheduler call it.
	Name       string
	Hypervisor hypervisor.Driver
	// Dataplane is nil for a host that carries no packets.
	Dataplane dataplane.Driver
	// AgentDir is where the compute agent remembers what it reached; empty is
	// nowhere.
	AgentDir string
}

// Areas are the functions of a cloud that keep something, in the order in which
// they are made.
func Areas() []string { return []string{"identity", "image", "compute", "network", "objectstore"} }

// Schema is what an area keeps; nil for a name that is not in Areas.
func Schema(area string) *store.Schema {
	switch area {
	case "identity":
		return identity.Schema()
	case "image":
		return image.Schema()
	case "compute":
		return compute.Schema()
	case "network":
		return network.Schema()
	case "objectstore":
		return objectstore.Schema()
	}
	return nil
}

// Migrate brings each area's database to its schema. With apply false it changes
// nothing, and fails with store.ErrSchema when something is missing. No areas means all
// of them.
func Migrate(ctx context.Context, engines map[string]store.Engine, apply bool, areas ...string) error {
	if len(areas) == 0 {
		areas = Areas()
	}
	for _, area := range areas {
		e := engines[area]
		if e == nil {
			return fmt.Errorf("servers: Config.Engines lacks %s", area)
		}
		if err := e.Migrate(ctx, Schema(area), apply); err != nil {
			return fmt.Errorf("%s: %w", area, err)
		}
	}
	return nil
}

// serves says that an area is in this process.
func (c *Config) serves(area string) bool { return len(c.Areas) == 0 || slices.Contains(c.Areas, area) }

// together checks that what is not served here can be reached.
func (c *Config) together() error {
	for _, a := range c.Areas {
		if !slices.Contains(Areas(), a) {
			return fmt.Errorf("servers: there is no area %q, only %s", a, strings.Join(Areas(), ", "))
		}
	}
	for _, a := range Areas() {
		if !c.serves(a) && c.Others == nil && a != "objectstore" && !slices.Equal(c.Areas, []string{"identity"}) {
			return fmt.Errorf("servers: Config.Others is missing: %s is in another process", a)
		}
	}
	if len(c.Hosts) > 0 && !(c.serves("compute") && c.serves("network")) {
		return errors.New("servers: hosts in this process need compute and network in it")
	}
	return nil
}

func (c *Config) complete() error {
	if err := c.together(); err != nil {
		return err
	}
	if c.URL == "" {
		c.URL = "http://127.0.0.1:5000"
	}
	c.URL = strings.TrimRight(c.URL, "/")
	if c.Region == "" {
		c.Region = "RegionOne"
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Metadata == nil {
		c.Metadata = NewMetadata("")
	}
	if c.Keys == nil {
		c.Keys = fernet.Memory()
	}
	if c.CredentialKeys == nil {
		c.CredentialKeys = fernet.Memory()
	}
	for i, h := range c.Hosts {
		if h.Name == "" || h.Hypervisor == nil {
			return fmt.Errorf("servers: Config.Hosts[%d] lacks a name or a hypervisor", i)
		}
		if slices.ContainsFunc(c.Hosts[:i], func(o Host) bool { return o.Name == h.Name }) {
			return fmt.Errorf("servers: Config.Hosts has %s twice", h.Name)
		}
	}
	return nil
}

// objectPrefix is where the object store is below the main address.
const objectPrefix = "/object-store"

// catalog is what stands at which path.
var catalog = []struct{ typ, name, about, prefix, version string }{
	{"identity", "keystone", "Identity", "/identity", "/v3"},
	{"image", "glance", "Image", "/image", ""},
	{"compute", "nova", "Compute", "/compute", "/v2.1"},
	{"placement", "placement", "Placement", "/placement", ""},
	{"network", "neutron", "Networking", "/network", ""},
	{"object-store", "swift", "Object Storage", objectPrefix, "/v1/AUTH_$(project_id)s"},
}

func (c *Config) services() []identity.BootstrapService {
	var out []identity.BootstrapService
	for _, s := range catalog {
		url := c.URL + s.prefix + s.version
		if s.prefix == objectPrefix && c.ObjectURL != "" {
			url = c.ObjectURL + s.version
		}
		out = append(out, identity.BootstrapService{Type: s.typ, Name: s.name, Description: s.about, Public: url, Internal: url, Admin: url})
	}
	return out
}
