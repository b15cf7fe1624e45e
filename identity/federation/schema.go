package federation

import (
	"time"

	"github.com/nacre-cloud/nacre/store"
)

// IdentityProvider is who vouches for users.
type IdentityProvider struct {
	ID string `store:"id,pk" json:"id"`
	// DomainID is where its users are.
	DomainID    string  `store:"domain_id,index=identity_provider_domain" json:"domain_id"`
	Enabled     bool    `store:"enabled" json:"enabled"`
	Description *string `store:"description" json:"description"`
	// AuthorizationTTL is for how many minutes group memberships that it asserts
	// hold after a login; nil is the cloud's default.
	AuthorizationTTL *int `store:"authorization_ttl" json:"authorization_ttl"`
	// RemoteIDs are the names by which it is known in assertions; none is no check.
	RemoteIDs []string `store:"remote_ids,json" json:"remote_ids"`
}

// remoteID keeps RemoteIDs unique among all identity providers.
type remoteID struct {
	ID    string `store:"remote_id,pk"`
	IdPID string `store:"idp_id,index=idp_remote_ids_idp"`
}

// Protocol is a way by which an identity provider's users come, with the mapping
// that is applied to what it asserts.
type Protocol struct {
	Key       string `store:"key,pk" json:"-"`
	ID        string `store:"id,unique=federation_protocol" json:"id"`
	IdPID     string `store:"idp_id,unique=federation_protocol" json:"-"`
	MappingID string `store:"mapping_id" json:"mapping_id"`
	// RemoteIDAttribute is the assertion's attribute that names the identity
	// provider; nil is the cloud's default.
	RemoteIDAttribute *string `store:"remote_id_attribute" json:"-"`
}

// Mapping turns assertions into users, groups and projects.
type Mapping struct {
	ID            string `store:"id,pk" json:"id"`
	Rules         []any  `store:"rules,json" json:"rules"`
	SchemaVersion string `store:"schema_version" json:"schema_version"`
}

// ServiceProvider is another cloud, where ours vouches for its users.
type ServiceProvider struct {
	ID string `store:"id,pk" json:"id"`
	// AuthURL is where a user of ours gets a token there, SPURL where the assertion
	// is shown.
	AuthURL          string  `store:"auth_url" json:"auth_url"`
	SPURL            string  `store:"sp_url" json:"sp_url"`
	Enabled          bool    `store:"enabled" json:"enabled"`
	Description      *string `store:"description" json:"description"`
	RelayStatePrefix string  `store:"relay_state_prefix" json:"relay_state_prefix"`
}

// shown is an assertion or login that was used and can't be again until it ends.
type shown struct {
	ID    string    `store:"id,pk"`
	Until time.Time `store:"until,index=federation_shown_until"`
}

type tables struct {
	idps      *store.Table[IdentityProvider]
	remotes   *store.Table[remoteID]
	protocols *store.Table[Protocol]
	mappings  *store.Table[Mapping]
	providers *store.Table[ServiceProvider]
	shown     *store.Table[shown]
}

func newTables(e store.Engine) tables {
	return tables{
		idps:      store.NewTable[IdentityProvider](e, "identity_provider"),
		remotes:   store.NewTable[remoteID](e, "idp_remote_ids"),
		protocols: store.NewTable[Protocol](e, "federation_protocol"),
		mappings:  store.NewTable[Mapping](e, "mapping"),
		providers: store.NewTable[ServiceProvider](e, "service_provider"),
		shown:     store.NewTable[shown](e, "federation_shown"),
	}
}

// Tables are what federation keeps in its parent's database.
func Tables() []*store.TableDef {
	t := newTables(nil)
	return []*store.TableDef{t.idps.Def(), t.remotes.Def(), t.protocols.Def(), t.mappings.Def(), t.providers.Def(), t.shown.Def()}
}
