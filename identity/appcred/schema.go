package appcred

import (
	"time"

	"github.com/nacre-cloud/nacre/store"
)

// Credential is an application credential: some of a user's roles on one
// project, for a program that shows a secret.
type Credential struct {
	ID          string  `store:"id,pk" json:"id"`
	UserID      string  `store:"user_id,unique=application_credential_name" json:"user_id"`
	Name        string  `store:"name,unique=application_credential_name" json:"name"`
	ProjectID   string  `store:"project_id,index=application_credential_project" json:"project_id"`
	Description *string `store:"description" json:"description"`
	SecretHash  string  `store:"secret_hash" json:"-"`
	// RoleIDs are the roles it was made with; it has those that its user still has.
	RoleIDs []string `store:"role_ids,json" json:"-"`
	// ExpiresAt is nil for one that does not end.
	ExpiresAt *time.Time `store:"expires_at" json:"-"`
	// Unrestricted ones may make and delete application credentials.
	Unrestricted bool `store:"unrestricted" json:"unrestricted"`
	// AccessRules are the only requests that it may make; empty is any.
	AccessRules []AccessRule `store:"access_rules,json" json:"-"`
	// Secret is known at the creation only.
	Secret string `store:"-" json:"secret,omitempty"`
	// Roles are filled in by the methods that show it.
	Roles []Role `store:"-" json:"-"`
}

// Expired says that it has ended.
func (a *Credential) Expired() bool { return a.ExpiresAt != nil && !time.Now().Before(*a.ExpiresAt) }

// AccessRule is a request that an application credential may make. Tokens of one
// that has rules are shown only to a service that says that it enforces them.
type AccessRule struct {
	ID      string `store:"id,pk" json:"id"`
	UserID  string `store:"user_id,unique=access_rule_request" json:"-"`
	Service string `store:"service,unique=access_rule_request" json:"service"`
	Method  string `store:"method,unique=access_rule_request" json:"method"`
	Path    string `store:"path,unique=access_rule_request" json:"path"`
	// Created orders a user's rules.
	Created time.Time `store:"created_at" json:"-"`
}

type tables struct {
	credentials *store.Table[Credential]
	rules       *store.Table[AccessRule]
}

func newTables(e store.Engine) tables {
	return tables{credentials: store.NewTable[Credential](e, "application_credential"), rules: store.NewTable[AccessRule](e, "access_rule")}
}

// Tables are what application credentials keep in their parent's database.
func Tables() []*store.TableDef {
	t := newTables(nil)
	return []*store.TableDef{t.credentials.Def(), t.rules.Def()}
}
