package credential

import (
	"github.com/nacre-cloud/nacre/identity/kit"
	"github.com/nacre-cloud/nacre/store"
)

// Credential is a secret kept for a user: an EC2 key pair, a certificate. The
// blob is encrypted with Config.Keys in the database.
type Credential struct {
	// ID of an EC2 credential is the SHA-256 of its access key.
	ID        string         `store:"id,pk" json:"id"`
	UserID    string         `store:"user_id,index=credential_user" json:"user_id"`
	ProjectID kit.Ref        `store:"project_id,index=credential_project" json:"project_id"`
	Type      string         `store:"type" json:"type"`
	Sealed    string         `store:"encrypted_blob" json:"-"`
	Blob      string         `store:"-" json:"blob"`
	Extra     map[string]any `store:"extra,json" json:"-" extra:"true"`
}

// totpUse is the last period of which a credential's passcode was used, so that
// none is good twice.
type totpUse struct {
	CredentialID string `store:"credential_id,pk"`
	Period       int64  `store:"period"`
}

type tables struct {
	credentials *store.Table[Credential]
	totpUses    *store.Table[totpUse]
}

func newTables(e store.Engine) tables {
	return tables{credentials: store.NewTable[Credential](e, "credential"), totpUses: store.NewTable[totpUse](e, "totp_use")}
}

// Tables are what credentials keep in their parent's database.
func Tables() []*store.TableDef {
	t := newTables(nil)
	return []*store.TableDef{t.credentials.Def(), t.totpUses.Def()}
}
