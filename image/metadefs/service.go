package metadefs

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/internal/policy"
	"github.com/nacre-cloud/nacre/store"
)

// Config of the service. Engine and Policy are required.
type Config struct {
	Engine store.Engine
	Policy nacre.Enforcer
	IDs    nacre.IDs
	// Emit records an event in the context's transaction; nil records none.
	Emit func(ctx context.Context, typ, resource, project string, payload any) error
}

// Service is the catalog.
type Service struct {
	c          Config
	namespaces *store.Table[Namespace]
	items      *store.Table[Item]
	types      *store.Table[ResourceType]
}

// New makes the service. The Engine's database must have Tables.
func New(c Config) (*Service, error) {
	if c.Engine == nil || c.Policy == nil || c.IDs == nil {
		return nil, errors.New("metadefs: Config.Engine, Policy and IDs are needed")
	}
	if c.Emit == nil {
		c.Emit = func(context.Context, string, string, string, any) error { return nil }
	}
	return &Service{c: c, namespaces: store.NewTable[Namespace](c.Engine, "metadef_namespace"), items: store.NewTable[Item](c.Engine, "metadef_item"),
		types: store.NewTable[ResourceType](c.Engine, "metadef_resource_type")}, nil
}

// Tables are what the sub-area keeps.
func Tables() []*store.TableDef {
	return []*store.TableDef{store.Define[Namespace]("metadef_namespace"), store.Define[Item]("metadef_item"), store.Define[ResourceType]("metadef_resource_type")}
}

// Namespace is a set of definitions.
type Namespace struct {
	ID string `store:"id,pk"`
	// Name is unique in the cloud ("OS::Compute::Watchdog").
	Name        string `store:"name,unique=metadef_namespace_name"`
	DisplayName string `store:"display_name"`
	Description string `store:"description"`
	// Visibility is public or private.
	Visibility string    `store:"visibility"`
	Protected  bool      `store:"protected"`
	OwnerID    string    `store:"owner,index=metadef_namespace_owner"`
	Created    time.Time `store:"created_at,index=metadef_namespace_created"`
	Updated    time.Time `store:"updated_at"`
}

// The kinds of items.
const (
	Object      = "object"
	Property    = "property"
	Tag         = "tag"
	Association = "resource_type"
)

// Item is what a namespace holds: an object, a property, a tag or an association
// with a resource type.
type Item struct {
	ID          string `store:"id,pk"`
	NamespaceID string `store:"namespace_id,unique=metadef_item_name"`
	Kind        string `store:"kind,unique=metadef_item_name"`
	// Fold is the name as it is compared: tags without regard to case.
	Fold string `store:"fold,unique=metadef_item_name"`
	Name string `store:"name"`
	// Body is the rest as JSON: an object's description, required and properties;
	// a property's schema; an association's prefix and properties_target.
	Body    map[string]any `store:"body,json"`
	Created time.Time      `store:"created_at"`
	Updated time.Time      `store:"updated_at"`
}

// ResourceType is a kind of thing that definitions are for ("OS::Glance::Image").
type ResourceType struct {
	Name      string    `store:"id,pk"`
	Protected bool      `store:"protected"`
	Created   time.Time `store:"created_at"`
	Updated   time.Time `store:"updated_at"`
}

func (s *Service) newItem(nsID, kind, name string, body map[string]any) Item {
	now := time.Now().UTC()
	if body == nil {
		body = map[string]any{}
	}
	return Item{ID: s.c.IDs.NewID(), NamespaceID: nsID, Kind: kind, Fold: fold(kind, name), Name: name, Body: body, Created: now, Updated: now}
}

func fold(kind, name string) string {
	if kind == Tag {
		return strings.ToLower(name)
	}
	return name
}

func (s *Service) enforce(ctx context.Context, rule string, ns *Namespace) error {
	c := nacre.CallerFrom(ctx)
	if c == nil {
		return nacre.Errorf(nacre.Unauthenticated, "", "The request you have made requires authentication.")
	}
	t := policy.Map{"project_id": c.ProjectID}
	if ns != nil {
		t["project_id"], t["visibility"] = ns.OwnerID, ns.Visibility
	}
	err := s.c.Policy.Enforce(ctx, rule, t)
	if err != nil && nacre.KindOf(err) == nacre.Forbidden && ns != nil && (rule == "get_metadef_namespace" || s.c.Policy.Enforce(ctx, "get_metadef_namespace", t) != nil) {
		return nacre.Errorf(nacre.NotFound, "", "Namespace %s not found", ns.Name)
	}
	return err
}

func (s *Service) isAdmin(ctx context.Context) bool {
	return s.c.Policy.Enforce(ctx, "context_is_admin", policy.Map{}) == nil
}

// namespace reads a namespace that the caller can see and may do rules to. What
// can't be seen is not found.
func (s *Service) namespace(ctx context.Context, name string, rules ...string) (Namespace, error) {
	c := nacre.CallerFrom(ctx)
	if c == nil {
		return Namespace{}, nacre.Errorf(nacre.Unauthenticated, "", "The request you have made requires authentication.")
	}
	none := func() *nacre.Error {
		return nacre.Errorf(nacre.NotFound, "", "Metadata definition namespace=%s was not found.", name)
	}
	ns, err := s.namespaces.One(ctx, store.Eq("name", name))
	if err != nil {
		return ns, store.WrapNotFound(err, none)
	}
	if ns.Visibility != "public" && (c.ProjectID == "" || ns.OwnerID != c.ProjectID) && !s.isAdmin(ctx) {
		return ns, none()
	}
	for _, rule := range rules {
		if err := s.enforce(ctx, rule, &ns); err != nil {
			return ns, err
		}
	}
	return ns, nil
}
