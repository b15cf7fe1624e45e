package revoke

import (
	"time"

	"github.com/nacre-cloud/nacre/store"
)

// Row says which tokens ended, or (Stale) of which nothing remembered
// may be believed: they must be looked up again.
type Row struct {
	// ID sorts by time.
	ID string    `store:"id,pk"`
	At time.Time `store:"at,index=revocation_at"`
	// One of these is set, or none: then all tokens are meant.
	AuditID   string `store:"audit_id,null"`
	ChainID   string `store:"audit_chain_id,null"`
	UserID    string `store:"user_id,null"`
	ProjectID string `store:"project_id,null"`
	DomainID  string `store:"domain_id,null"`
	// IssuedBefore bounds what ends: tokens issued then or earlier.
	IssuedBefore time.Time `store:"issued_before"`
	Stale        bool      `store:"stale"`
}

func (r *Row) key() string {
	switch {
	case r.AuditID != "":
		return "audit " + r.AuditID
	case r.ChainID != "":
		return "chain " + r.ChainID
	case r.UserID != "":
		return "user " + r.UserID
	case r.ProjectID != "":
		return "project " + r.ProjectID
	case r.DomainID != "":
		return "domain " + r.DomainID
	}
	return ""
}

func newTable(e store.Engine) *store.Table[Row] { return store.NewTable[Row](e, "revocation") }

// Tables are what revocations keep in their parent's database.
func Tables() []*store.TableDef { return []*store.TableDef{newTable(nil).Def()} }
