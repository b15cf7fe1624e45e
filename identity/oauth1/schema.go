package oauth1

import (
	"time"

	"github.com/nacre-cloud/nacre/store"
)

// Consumer is a program that users may let act for them.
type Consumer struct {
	ID          string  `store:"id,pk" json:"id"`
	Description *string `store:"description" json:"description"`
	// Secret is shown at the creation alone.
	Secret string         `store:"secret" json:"secret,omitempty"`
	Extra  map[string]any `store:"extra,json" json:"-" extra:"true"`
}

// RequestToken is a consumer's wish to act on a project.
type RequestToken struct {
	ID         string `store:"id,pk"`
	Secret     string `store:"request_secret"`
	ConsumerID string `store:"consumer_id,index=request_token_consumer"`
	ProjectID  string `store:"requested_project_id"`
	// Verifier, UserID and RoleIDs are set once a user has authorized it.
	Verifier  string    `store:"verifier"`
	UserID    string    `store:"authorizing_user_id,null,index=request_token_user"`
	RoleIDs   []string  `store:"role_ids,json"`
	ExpiresAt time.Time `store:"expires_at"`
}

// AccessToken lets a consumer act for a user.
type AccessToken struct {
	ID         string    `store:"id,pk"`
	Secret     string    `store:"access_secret"`
	ConsumerID string    `store:"consumer_id,index=access_token_consumer"`
	UserID     string    `store:"authorizing_user_id,index=access_token_user"`
	ProjectID  string    `store:"project_id,index=access_token_project"`
	RoleIDs    []string  `store:"role_ids,json"`
	ExpiresAt  time.Time `store:"expires_at"`
}

// Expired reports whether the token has ended.
func (t *AccessToken) Expired() bool { return !time.Now().Before(t.ExpiresAt) }

// nonce is a signed request that was used.
type nonce struct {
	ID    string    `store:"id,pk"`
	Until time.Time `store:"until,index=oauth_nonce_until"`
}

type tables struct {
	consumers *store.Table[Consumer]
	requests  *store.Table[RequestToken]
	access    *store.Table[AccessToken]
	nonces    *store.Table[nonce]
}

func newTables(e store.Engine) tables {
	return tables{
		consumers: store.NewTable[Consumer](e, "consumer"),
		requests:  store.NewTable[RequestToken](e, "request_token"),
		access:    store.NewTable[AccessToken](e, "access_token"),
		nonces:    store.NewTable[nonce](e, "oauth_nonce"),
	}
}

// Tables are what oauth1 keeps in its parent's database.
func Tables() []*store.TableDef {
	t := newTables(nil)
	return []*store.TableDef{t.consumers.Def(), t.requests.Def(), t.access.Def(), t.nonces.Def()}
}
