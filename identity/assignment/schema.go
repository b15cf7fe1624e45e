package assignment

import (
	"github.com/nacre-cloud/nacre/identity/kit"
	"github.com/nacre-cloud/nacre/store"
)

// Role is a name for what its holders may do. One with a domain is used only as
// a prior role of implications.
type Role struct {
	ID          string         `store:"id,pk" json:"id"`
	DomainID    kit.Ref        `store:"domain_id,unique=role_name" json:"domain_id"`
	Name        string         `store:"name,unique=role_name" json:"name"`
	Description *string        `store:"description" json:"description"`
	Options     kit.Options    `store:"options,json" json:"options"`
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

type tables struct {
	roles       *store.Table[Role]
	implied     *store.Table[impliedRole]
	assignments *store.Table[Assignment]
}

func newTables(e store.Engine) tables {
	return tables{
		roles:       store.NewTable[Role](e, "role"),
		implied:     store.NewTable[impliedRole](e, "implied_role"),
		assignments: store.NewTable[Assignment](e, "assignment"),
	}
}

// Tables are what assignments keep in their parent's database.
func Tables() []*store.TableDef {
	t := newTables(nil)
	return []*store.TableDef{t.roles.Def(), t.implied.Def(), t.assignments.Def()}
}
