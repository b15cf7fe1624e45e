package identity_test

import (
	"context"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/bcrypt"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity"
	"github.com/nacre-cloud/nacre/store"
	"github.com/nacre-cloud/nacre/store/bunstore"
	"github.com/nacre-cloud/nacre/store/memstore"
)

// userV0 is a user as the first release kept it.
type userV0 struct {
	ID               string         `store:"id,pk"`
	DomainID         string         `store:"domain_id,unique=user_name"`
	Name             string         `store:"name,unique=user_name"`
	Enabled          bool           `store:"enabled"`
	DefaultProjectID string         `store:"default_project_id,null"`
	Options          map[string]any `store:"options,json"`
	Extra            map[string]any `store:"extra,json"`
}

// TestStepFromV0 brings a database of the first release forward: its users log in,
// keep their names to themselves, and starting again finds the administrator.
func TestStepFromV0(t *testing.T) {
	sqlite, err := bunstore.OpenSQLite(filepath.Join(t.TempDir(), "identity.db"), bunstore.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, sqlite.Close()) })
	for name, e := range map[string]store.Engine{"memstore": memstore.New(memstore.Options{}), "sqlite": sqlite} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			now := identity.Schema()
			old := *now
			old.Version, old.Steps = 0, nil
			old.Tables = slices.Clone(now.Tables)
			for i, def := range old.Tables {
				if def.Name == "user" {
					old.Tables[i] = store.Define[userV0]("user")
				}
			}
			require.NoError(t, e.Migrate(ctx, &old, true))
			require.NoError(t, store.NewTable[userV0](e, "user").Insert(ctx, userV0{ID: "u1", DomainID: identity.DefaultDomain, Name: "admin", Enabled: true, Options: map[string]any{}}))
			require.ErrorIs(t, e.Migrate(ctx, now, false), store.ErrSchema)
			require.NoError(t, e.Migrate(ctx, now, true))
			require.NoError(t, e.Migrate(ctx, now, false))

			svc, err := identity.New(identity.Config{Engine: e, BcryptCost: bcrypt.MinCost})
			require.NoError(t, err)
			for range 2 {
				b, err := svc.Bootstrap(ctx, identity.Bootstrap{Password: "secret", Region: "RegionOne"})
				require.NoError(t, err)
				require.Equal(t, "u1", b.UserID, "the administrator is found, not made again")
			}
			_, _, err = svc.Authenticate(ctx, identity.AuthRequest{Methods: []string{"password"}, User: identity.NameRef{Name: "admin", Domain: identity.DomainRef{ID: identity.DefaultDomain}}, Password: "secret"})
			require.NoError(t, err)
			_, err = svc.CreateUser(nacre.AsService(context.WithoutCancel(ctx), "test"), identity.UserChange{Name: ref("admin"), DomainID: ref(identity.DefaultDomain)})
			require.ErrorIs(t, err, nacre.Conflict)
		})
	}
}
