package api_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity"
	"github.com/nacre-cloud/nacre/identity/appcred"
)

// OSSA-2020-004: what was made by
// delegation makes nothing that outlives it, over HTTP as in one process.
func delegatedTokensMakeNothingLasting(t *testing.T) {
	c := newCloud(t)
	p := c.project("p")
	alice, token := c.person("alice", "manager", p)
	bob, his := c.person("bob", "member", p)
	with := func(token string) context.Context {
		caller, err := c.svc.ValidateToken(t.Context(), token)
		require.NoError(t, err)
		return nacre.WithCaller(t.Context(), caller)
	}
	robot := func(unrestricted bool) string {
		a, err := c.svc.AppCredentials.Create(with(token), alice, appcred.Wanted{Name: fmt.Sprint("robot-", unrestricted), Unrestricted: unrestricted})
		require.NoError(t, err)
		code, h, m := c.do("POST", "/v3/auth/tokens", "", fmt.Sprintf(`{"auth":{"identity":{"methods":["application_credential"],"application_credential":{"id":%q,"secret":%q}}}}`, a.ID, a.Secret))
		require.Equal(t, 201, code, m)
		return h.Get("X-Subject-Token")
	}
	trust, err := c.svc.CreateTrust(with(token), identity.Trust{TrustorUserID: alice, TrusteeUserID: bob, ProjectID: p, Impersonation: true}, []identity.NameRef{{Name: "member"}})
	require.NoError(t, err)
	code, h, m := c.do("POST", "/v3/auth/tokens", "", fmt.Sprintf(`{"auth":{"identity":{"methods":["token"],"token":{"id":%q}},"scope":{"OS-TRUST:trust":{"id":%q}}}}`, his, trust.ID))
	require.Equal(t, 201, code, m)
	makers := map[string]string{"restricted": robot(false), "unrestricted": robot(true), "trustee": h.Get("X-Subject-Token")}
	for _, try := range []struct {
		name, path, body string
		// may says which of the makers are let through.
		may  []string
		call func(ctx context.Context) error
	}{
		{"application credential", "/v3/users/" + alice + "/application_credentials", `{"application_credential":{"name":"http"}}`, []string{"unrestricted"}, func(ctx context.Context) error {
			_, err := c.svc.AppCredentials.Create(ctx, alice, appcred.Wanted{Name: "in process"})
			return err
		}},
		{"EC2 key", "/v3/users/" + alice + "/credentials/OS-EC2", `{"tenant_id":"` + p + `"}`, []string{"unrestricted"}, func(ctx context.Context) error {
			_, err := c.svc.Credentials.CreateEC2(ctx, alice, p)
			return err
		}},
		{"trust", "/v3/OS-TRUST/trusts", `{"trust":{"trustor_user_id":"` + alice + `","trustee_user_id":"` + bob + `","impersonation":true,"project_id":"` + p + `","roles":[{"name":"member"}]}}`, nil, func(ctx context.Context) error {
			_, err := c.svc.CreateTrust(ctx, identity.Trust{TrustorUserID: alice, TrusteeUserID: bob, ProjectID: p, Impersonation: true}, []identity.NameRef{{Name: "member"}})
			return err
		}},
	} {
		for maker, token := range makers {
			code, _, m := c.do("POST", try.path, token, try.body)
			err := try.call(with(token))
			if len(try.may) > 0 && try.may[0] == maker {
				require.Equal(t, 201, code, "%s by %s: %v", try.name, maker, m)
				require.NoError(t, err, "%s by %s", try.name, maker)
				continue
			}
			require.Equal(t, 403, code, "%s by %s: %v", try.name, maker, m)
			require.ErrorIs(t, err, nacre.Forbidden, "%s by %s", try.name, maker)
		}
	}
}
