package identity

import (
	"context"
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

func (o Options) immutable() bool { return o.is("immutable") }

// is says whether a truth value among the options is set.
func (o Options) is(name string) bool { b, _ := o[name].(bool); return b }

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
	ID       string `store:"id,pk" json:"id"`
	DomainID string `store:"domain_id,unique=user_local_name" json:"domain_id"`
	Name     string `store:"name,index=user_any_name" json:"name"`
	// LocalName is Name for a user who is kept here. One that an identity provider
	// or a directory vouches for has none: its name need not be its own.
	LocalName string `store:"local_name,null,unique=user_local_name" json:"-"`
	// Source is "directory" where one keeps the user, and this row repeats it.
	Source string `store:"source,null" json:"-"`
	// Federated is how identity providers know the user; GetUser fills it in.
	Federated        []Federated `store:"-" json:"federated,omitempty"`
	Enabled          bool        `store:"enabled" json:"enabled"`
	DefaultProjectID string      `store:"default_project_id,null" json:"default_project_id,omitempty"`
	// PasswordExpires is when the password must have been changed; nil is never.
	PasswordExpires *time.Time `store:"password_expires_at" json:"-"`
	CreatedAt       *time.Time `store:"created_at" json:"-"`
	// LastActive is the day of the last log-in, kept where inactivity matters.
	LastActive *time.Time     `store:"last_active_at" json:"-"`
	Options    Options        `store:"options,json" json:"options"`
	Extra      map[string]any `store:"extra,json" json:"-" extra:"true"`
}

// password is kept apart, so that a User never carries it.
type password struct {
	UserID    string     `store:"user_id,pk"`
	Hash      string     `store:"hash"`
	SetAt     time.Time  `store:"set_at"`
	ExpiresAt *time.Time `store:"expires_at"`
	// SelfService says that the user has set it, not an administrator.
	SelfService bool `store:"self_service"`
}

// oldPassword is one that a user had before, for the history.
type oldPassword struct {
	ID     string    `store:"id,pk"`
	UserID string    `store:"user_id,index=old_password_user"`
	Hash   string    `store:"hash"`
	SetAt  time.Time `store:"set_at"`
}

// failure counts the log-ins that failed since one did not.
type failure struct {
	UserID string    `store:"user_id,pk"`
	Count  int       `store:"failed_auth_count"`
	At     time.Time `store:"failed_auth_at"`
}

// Group is a set of users of one domain.
type Group struct {
	ID          string `store:"id,pk" json:"id"`
	DomainID    string `store:"domain_id,unique=group_name" json:"domain_id"`
	Name        string `store:"name,unique=group_name" json:"name"`
	Description string `store:"description" json:"description"`
	// Source is "directory" where one keeps the group, and this row repeats it.
	Source string         `store:"source,null" json:"-"`
	Extra  map[string]any `store:"extra,json" json:"-" extra:"true"`
}

type membership struct {
	ID      string `store:"id,pk"`
	GroupID string `store:"group_id,index=membership_group"`
	UserID  string `store:"user_id,index=membership_user"`
	// Source is empty, or the identity provider ("idp:" and its id) or the
	// directory ("directory") that says so; ExpiresAt is until when, nil for ever.
	Source    string     `store:"source,null"`
	ExpiresAt *time.Time `store:"expires_at"`
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
	oldPasswords *store.Table[oldPassword]
	failures     *store.Table[failure]
	totpUses     *store.Table[totpUse]
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

	endpointGroups *store.Table[EndpointGroup]
	groupsFor      *store.Table[projectEndpointGroup]
	associations   *store.Table[policyAssociation]
}

func newTables(e store.Engine) tables {
	return tables{
		projects:     store.NewTable[Project](e, "project"),
		projectTags:  store.NewTable[projectTag](e, "project_tag"),
		users:        store.NewTable[User](e, "user"),
		passwords:    store.NewTable[password](e, "password"),
		oldPasswords: store.NewTable[oldPassword](e, "old_password"),
		failures:     store.NewTable[failure](e, "failed_auth"),
		totpUses:     store.NewTable[totpUse](e, "totp_use"),
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

		endpointGroups: store.NewTable[EndpointGroup](e, "endpoint_group"),
		groupsFor:      store.NewTable[projectEndpointGroup](e, "project_endpoint_group"),
		associations:   store.NewTable[policyAssociation](e, "policy_association"),
	}
}

// steps bring older databases forward.
var steps = []store.Step{{
	// Names of users whom others vouch for need not be their own in a domain.
	Version: 1, Name: "users' local names", Drop: []string{"user.user_name"},
	Fill: func(ctx context.Context, e store.Engine) error {
		users := newTables(e).users
		us, err := users.Where(ctx, store.IsNull("local_name"))
		if err != nil {
			return err
		}
		for _, u := range us {
			if _, err := users.UpdateWhere(ctx, store.Eq("id", u.ID), store.Set{"local_name": u.Name}); err != nil {
				return err
			}
		}
		return nil
	},
}}

// Schema is what identity keeps in its database.
func Schema() *store.Schema {
	t := newTables(nil)
	return &store.Schema{Area: "identity", Version: 1, Steps: steps, Tables: append(partTables(), []*store.TableDef{
		t.projects.Def(), t.projectTags.Def(), t.users.Def(), t.passwords.Def(), t.oldPasswords.Def(), t.failures.Def(), t.totpUses.Def(), t.groups.Def(), t.members.Def(),
		t.roles.Def(), t.implied.Def(), t.assignments.Def(), t.services.Def(), t.endpoints.Def(), t.regions.Def(),
		t.revocations.Def(), t.appCreds.Def(), t.endpointsFor.Def(), t.credentials.Def(), t.rules.Def(),
		t.registered.Def(), t.limits.Def(), t.policies.Def(), t.trusts.Def(), t.endpointGroups.Def(), t.groupsFor.Def(), t.associations.Def(), outbox.Table(),
	}...)}
}
