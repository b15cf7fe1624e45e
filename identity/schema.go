package identity

import (
	"encoding/json"
	"time"

	"github.com/nacre-cloud/nacre/internal/outbox"
	"github.com/nacre-cloud/nacre/store"
)

// DefaultDomain is the id of the domain that bootstrap makes.
const DefaultDomain = "default"

// Ref is an id that may be missing; it is shown as null then.
type Ref string

// MarshalJSON shows a missing id as null.
func (r Ref) MarshalJSON() ([]byte, error) {
	if r == "" {
		return []byte("null"), nil
	}
	return json.Marshal(string(r))
}

// Options are a resource's options: "immutable" for projects, domains and roles.
type Options map[string]any

func (o Options) immutable() bool { b, _ := o["immutable"].(bool); return b }

// Project is a project or, with IsDomain, a domain.
type Project struct {
	ID string `store:"id,pk" json:"id"`
	// DomainID and ParentID are empty for a domain. The parent of a project at
	// the top is its domain.
	DomainID    Ref            `store:"domain_id,unique=project_name" json:"domain_id"`
	Name        string         `store:"name,unique=project_name" json:"name"`
	ParentID    Ref            `store:"parent_id,index=project_parent" json:"parent_id"`
	Description string         `store:"description" json:"description"`
	Enabled     bool           `store:"enabled" json:"enabled"`
	IsDomain    bool           `store:"is_domain" json:"is_domain"`
	Tags        []string       `store:"tags,json" json:"tags"`
	Options     Options        `store:"options,json" json:"options"`
	Extra       map[string]any `store:"extra,json" json:"-" extra:"true"`
}

// projectTag is Project.Tags for filters.
type projectTag struct {
	ID        string `store:"id,pk"`
	ProjectID string `store:"project_id,index=project_tag_project"`
	Tag       string `store:"tag,index=project_tag_tag"`
}

// User is somebody who can authenticate.
type User struct {
	ID               string         `store:"id,pk" json:"id"`
	DomainID         string         `store:"domain_id,unique=user_name" json:"domain_id"`
	Name             string         `store:"name,unique=user_name" json:"name"`
	Enabled          bool           `store:"enabled" json:"enabled"`
	DefaultProjectID string         `store:"default_project_id,null" json:"default_project_id,omitempty"`
	PasswordExpires  *time.Time     `store:"-" json:"password_expires_at"`
	Options          Options        `store:"options,json" json:"options"`
	Extra            map[string]any `store:"extra,json" json:"-" extra:"true"`
}

// password is kept apart, so that a User never carries it.
type password struct {
	UserID string    `store:"user_id,pk"`
	Hash   string    `store:"hash"`
	SetAt  time.Time `store:"set_at"`
}

// Group is a set of users of one domain.
type Group struct {
	ID          string         `store:"id,pk" json:"id"`
	DomainID    string         `store:"domain_id,unique=group_name" json:"domain_id"`
	Name        string         `store:"name,unique=group_name" json:"name"`
	Description string         `store:"description" json:"description"`
	Extra       map[string]any `store:"extra,json" json:"-" extra:"true"`
}

type membership struct {
	ID      string `store:"id,pk"`
	GroupID string `store:"group_id,index=membership_group"`
	UserID  string `store:"user_id,index=membership_user"`
}

// Role is a name for what its holders may do. One with a domain is used only as
// a prior role of implications.
type Role struct {
	ID          string         `store:"id,pk" json:"id"`
	DomainID    Ref            `store:"domain_id,unique=role_name" json:"domain_id"`
	Name        string         `store:"name,unique=role_name" json:"name"`
	Description *string        `store:"description" json:"description"`
	Options     Options        `store:"options,json" json:"options"`
	Extra       map[string]any `store:"extra,json" json:"-" extra:"true"`
}

type impliedRole struct {
	ID        string `store:"id,pk"`
	PriorID   string `store:"prior_role_id,index=implied_prior"`
	ImpliedID string `store:"implied_role_id,index=implied_implied"`
}

// Assignment gives a role to a user or group on a project, a domain or the system.
type Assignment struct {
	ID        string `store:"id,pk"`
	UserID    string `store:"user_id,null,index=assignment_user"`
	GroupID   string `store:"group_id,null,index=assignment_group"`
	ProjectID string `store:"project_id,null,index=assignment_project"`
	DomainID  string `store:"domain_id,null,index=assignment_domain"`
	System    bool   `store:"system"`
	RoleID    string `store:"role_id,index=assignment_role"`
	// Inherited assignments hold on the projects below the target, not on it.
	Inherited bool `store:"inherited"`
}

// CatalogService is an entry of the catalog: "compute", "image".
type CatalogService struct {
	ID          string         `store:"id,pk" json:"id"`
	Type        string         `store:"type,index=service_type" json:"type"`
	Name        string         `store:"name" json:"name"`
	Description *string        `store:"description" json:"description,omitempty"`
	Enabled     bool           `store:"enabled" json:"enabled"`
	Extra       map[string]any `store:"extra,json" json:"-" extra:"true"`
}

// Endpoint is where a service is, as one interface ("public", "internal",
// "admin") in one region.
type Endpoint struct {
	ID        string         `store:"id,pk" json:"id"`
	ServiceID string         `store:"service_id,index=endpoint_service" json:"service_id"`
	Interface string         `store:"interface" json:"interface"`
	RegionID  Ref            `store:"region_id,index=endpoint_region" json:"region_id"`
	URL       string         `store:"url" json:"url"`
	Enabled   bool           `store:"enabled" json:"enabled"`
	Extra     map[string]any `store:"extra,json" json:"-" extra:"true"`
}

// Region is a part of the cloud; its id is its name.
type Region struct {
	ID          string         `store:"id,pk" json:"id"`
	Description string         `store:"description" json:"description"`
	ParentID    Ref            `store:"parent_region_id,index=region_parent" json:"parent_region_id"`
	Extra       map[string]any `store:"extra,json" json:"-" extra:"true"`
}

// tables are the typed tables over one engine.
type tables struct {
	projects     *store.Table[Project]
	projectTags  *store.Table[projectTag]
	users        *store.Table[User]
	passwords    *store.Table[password]
	groups       *store.Table[Group]
	members      *store.Table[membership]
	roles        *store.Table[Role]
	implied      *store.Table[impliedRole]
	assignments  *store.Table[Assignment]
	services     *store.Table[CatalogService]
	endpoints    *store.Table[Endpoint]
	regions      *store.Table[Region]
	revocations  *store.Table[revocation]
	appCreds     *store.Table[AppCredential]
	endpointsFor *store.Table[projectEndpoint]
	credentials  *store.Table[Credential]
	rules        *store.Table[AccessRule]
	registered   *store.Table[RegisteredLimit]
	limits       *store.Table[Limit]
	policies     *store.Table[PolicyDocument]
	trusts       *store.Table[Trust]
}

func newTables(e store.Engine) tables {
	return tables{
		projects:     store.NewTable[Project](e, "project"),
		projectTags:  store.NewTable[projectTag](e, "project_tag"),
		users:        store.NewTable[User](e, "user"),
		passwords:    store.NewTable[password](e, "password"),
		groups:       store.NewTable[Group](e, "group"),
		members:      store.NewTable[membership](e, "membership"),
		roles:        store.NewTable[Role](e, "role"),
		implied:      store.NewTable[impliedRole](e, "implied_role"),
		assignments:  store.NewTable[Assignment](e, "assignment"),
		services:     store.NewTable[CatalogService](e, "service"),
		endpoints:    store.NewTable[Endpoint](e, "endpoint"),
		regions:      store.NewTable[Region](e, "region"),
		revocations:  store.NewTable[revocation](e, "revocation"),
		appCreds:     store.NewTable[AppCredential](e, "application_credential"),
		endpointsFor: store.NewTable[projectEndpoint](e, "project_endpoint"),
		credentials:  store.NewTable[Credential](e, "credential"),
		rules:        store.NewTable[AccessRule](e, "access_rule"),
		registered:   store.NewTable[RegisteredLimit](e, "registered_limit"),
		limits:       store.NewTable[Limit](e, "limit"),
		policies:     store.NewTable[PolicyDocument](e, "policy"),
		trusts:       store.NewTable[Trust](e, "trust"),
	}
}

// Schema is what identity keeps in its database.
func Schema() *store.Schema {
	t := newTables(nil)
	return &store.Schema{Area: "identity", Tables: []*store.TableDef{
		t.projects.Def(), t.projectTags.Def(), t.users.Def(), t.passwords.Def(), t.groups.Def(), t.members.Def(),
		t.roles.Def(), t.implied.Def(), t.assignments.Def(), t.services.Def(), t.endpoints.Def(), t.regions.Def(),
		t.revocations.Def(), t.appCreds.Def(), t.endpointsFor.Def(), t.credentials.Def(), t.rules.Def(),
		t.registered.Def(), t.limits.Def(), t.policies.Def(), t.trusts.Def(), outbox.Table(),
	}}
}
