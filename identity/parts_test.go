package identity_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/identity"
	"github.com/nacre-cloud/nacre/identity/federation"
	"github.com/nacre-cloud/nacre/identity/kit"
	"github.com/nacre-cloud/nacre/identity/oauth1"
	"github.com/nacre-cloud/nacre/identity/passhash"
	"github.com/nacre-cloud/nacre/identity/password"
	"github.com/nacre-cloud/nacre/identity/revoke"
	"github.com/nacre-cloud/nacre/internal/policy"
	"github.com/nacre-cloud/nacre/store/memstore"
)

// TestSubAreasSayWhatIsMissing makes sub-areas without each of what they need.
func TestSubAreasSayWhatIsMissing(t *testing.T) {
	e := memstore.New(memstore.Options{})
	defer func() { require.NoError(t, e.Close()) }()
	enforcer, err := policy.New(policy.Config{Area: "identity", Rules: identity.Rules()})
	require.NoError(t, err)
	hasher, err := passhash.New(passhash.Bcrypt, 4)
	require.NoError(t, err)
	whole := kit.Area{Engine: e, Policy: enforcer, Happened: func(context.Context, string, string, string) error { return nil }}
	var (
		passwordParent   struct{ password.Parent }
		federationParent struct{ federation.Parent }
		oauthParent      struct{ oauth1.Parent }
	)
	type parts struct {
		area   kit.Area
		ttl    time.Duration
		hasher passhash.Hasher
	}
	news := map[string]func(parts) error{
		"revoke": func(p parts) error { _, err := revoke.New(revoke.Config{Area: p.area, TTL: p.ttl}); return err },
		"password": func(p parts) error {
			_, err := password.New(password.Config{Area: p.area, Parent: passwordParent, Hasher: p.hasher})
			return err
		},
		"federation": func(p parts) error {
			_, err := federation.New(federation.Config{Area: p.area, Parent: federationParent})
			return err
		},
		"oauth1": func(p parts) error {
			_, err := oauth1.New(oauth1.Config{Area: p.area, Parent: oauthParent})
			return err
		},
	}
	for missing, without := range map[string]func(*parts){
		"":         func(*parts) {},
		"Engine":   func(p *parts) { p.area.Engine = nil },
		"Policy":   func(p *parts) { p.area.Policy = nil },
		"Happened": func(p *parts) { p.area.Happened = nil },
		"TTL":      func(p *parts) { p.ttl = 0 },
		"Hasher":   func(p *parts) { p.hasher = passhash.Hasher{} },
	} {
		for name, make := range news {
			p := parts{whole, time.Hour, hasher}
			without(&p)
			err := make(p)
			if missing == "" || missing == "TTL" && name != "revoke" || missing == "Hasher" && name != "password" {
				require.NoError(t, err, name)
				continue
			}
			require.EqualError(t, err, name+": Config."+missing+" is missing")
		}
	}
	for name, err := range map[string]error{
		"password":   func() error { _, err := password.New(password.Config{Area: whole, Hasher: hasher}); return err }(),
		"federation": func() error { _, err := federation.New(federation.Config{Area: whole}); return err }(),
		"oauth1":     func() error { _, err := oauth1.New(oauth1.Config{Area: whole}); return err }(),
	} {
		require.EqualError(t, err, name+": Config.Parent is missing")
	}
}
