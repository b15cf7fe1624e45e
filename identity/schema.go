package identity

import (
	"context"
	"time"

	"github.com/nacre-cloud/nacre/identity/kit"
	"github.com/nacre-cloud/nacre/internal/outbox"
	"github.com/nacre-cloud/nacre/store"
)

// DefaultDomain is the id of the domain that bootstrap makes.
const DefaultDomain = kit.DefaultDomain

// Ref is an id that may be missing; it is shown as null then.
type Ref = kit.Ref

// Options are a resource's options: "immutable" for projects, domains and roles.
type Options = kit.Options

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

// tables are the typed tables over one engine.
type tables struct {
	projects    *store.Table[Project]
	projectTags *store.Table[projectTag]
	users       *store.Table[User]
	groups      *store.Table[Group]
	members     *store.Table[membership]
	trusts      *store.Table[Trust]
}

func newTables(e store.Engine) tables {
	return tables{
		projects:    store.NewTable[Project](e, "project"),
		projectTags: store.NewTable[projectTag](e, "project_tag"),
		users:       store.NewTable[User](e, "user"),
		groups:      store.NewTable[Group](e, "group"),
		members:     store.NewTable[membership](e, "membership"),
		trusts:      store.NewTable[Trust](e, "trust"),
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
		t.projects.Def(), t.projectTags.Def(), t.users.Def(), t.groups.Def(), t.members.Def(),

		t.trusts.Def(), outbox.Table(),
	}...)}
}
