package authn_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity"
	"github.com/nacre-cloud/nacre/identity/api"
	"github.com/nacre-cloud/nacre/identity/appcred"
	"github.com/nacre-cloud/nacre/identity/assignment"
	"github.com/nacre-cloud/nacre/identity/authn"
	"github.com/nacre-cloud/nacre/internal/rest"
	"github.com/nacre-cloud/nacre/store/memstore"
)

// cloud is an identity service behind its API, without a socket.
type cloud struct {
	t    *testing.T
	svc  *identity.Service
	http *http.Client
	down bool
}

func (c *cloud) RoundTrip(r *http.Request) (*http.Response, error) {
	if c.down {
		return nil, context.DeadlineExceeded
	}
	return rest.Transport(rest.Mount("/identity", api.New(c.svc, api.Config{}))).RoundTrip(r)
}

func newCloud(t *testing.T) (*cloud, *authn.Remote) {
	e := memstore.New(memstore.Options{})
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	require.NoError(t, e.Migrate(t.Context(), identity.Schema(), true))
	svc, err := identity.New(identity.Config{Engine: e, BcryptCost: 4})
	require.NoError(t, err)
	ids, err := svc.Bootstrap(t.Context(), identity.Bootstrap{Password: "secret", Services: []identity.BootstrapService{{Type: "identity", Name: "keystone", Public: "http://cloud/identity"}}})
	require.NoError(t, err)
	root := nacre.AsService(t.Context(), "test")
	for name, role := range map[string]string{"nova": "service", "alice": "member"} {
		pw := name + "pw"
		u, err := svc.CreateUser(root, identity.UserChange{Name: &name, Password: &pw})
		require.NoError(t, err)
		require.NoError(t, svc.Assignments.CreateGrant(root, assignment.Grant{UserID: u.ID, ProjectID: ids.ProjectID, RoleID: ids.Roles[role]}))
	}
	c := &cloud{t: t, svc: svc}
	c.http = &http.Client{Transport: c}
	r, err := authn.NewRemote(authn.RemoteConfig{URL: "http://cloud/identity/v3/", Client: c.http, Username: "nova", Password: "novapw", Project: "admin"})
	require.NoError(t, err)
	return c, r
}

func (c *cloud) token(name, pw string) string {
	c.t.Helper()
	d := identity.DomainRef{Name: "Default"}
	text, _, err := c.svc.Authenticate(c.t.Context(), identity.AuthRequest{Methods: []string{"password"}, User: identity.NameRef{Name: name, Domain: d}, Password: pw, Project: &identity.NameRef{Name: "admin", Domain: d}})
	require.NoError(c.t, err)
	return text
}

func TestRemote(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, r := newCloud(t)
		alice := c.token("alice", "alicepw")
		got, err := r.ValidateToken(t.Context(), alice)
		require.NoError(t, err)
		want, err := c.svc.ValidateToken(t.Context(), alice)
		require.NoError(t, err)
		require.Equal(t, want, got, "as if it were in this process")
		d, err := r.Details(t.Context(), alice)
		require.NoError(t, err)
		require.Contains(t, string(d.Catalog), "keystone")
		_, err = r.ValidateToken(t.Context(), "nonsense")
		require.ErrorIs(t, err, nacre.Unauthenticated)

		time.Sleep(61 * time.Minute)
		_, err = r.ValidateToken(t.Context(), alice)
		require.ErrorIs(t, err, nacre.Unauthenticated, "with a token of its own that was renewed")
		got, rules, err := r.InspectToken(t.Context(), alice, true)
		require.NoError(t, err)
		require.Empty(t, rules)
		require.Equal(t, want.UserID, got.UserID)

		nova, err := c.svc.ValidateToken(t.Context(), c.token("nova", "novapw"))
		require.NoError(t, err)
		on := true
		_, err = c.svc.UpdateUser(nacre.AsService(t.Context(), "test"), nova.UserID, identity.UserChange{Password: ref("novapw"), Enabled: &on})
		require.NoError(t, err)
		_, err = r.ValidateToken(t.Context(), c.token("alice", "alicepw"))
		require.NoError(t, err, "its own token was revoked: it gets another")
		c.down = true
		_, err = r.ValidateToken(t.Context(), alice)
		require.ErrorIs(t, err, nacre.Unavailable)
	})
	for _, cfg := range []authn.RemoteConfig{{}, {URL: "http://x"}} {
		_, err := authn.NewRemote(cfg)
		require.Error(t, err)
	}
}

func ref[T any](v T) *T { return &v }

func TestServiceTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, remote := newCloud(t)
		for _, v := range []nacre.TokenValidator{c.svc, remote} {
			var seen http.Header
			var service *nacre.Caller
			h := authn.Middleware(v, authn.Options{Headers: true, Bearer: true})(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				seen, service = r.Header, authn.ServiceFrom(r.Context())
			}))
			try := func(headers ...string) int {
				r := httptest.NewRequest("GET", "/", nil)
				for i := 0; i < len(headers); i += 2 {
					r.Header[headers[i]] = []string{headers[i+1]}
				}
				w := httptest.NewRecorder()
				h.ServeHTTP(w, r)
				return w.Code
			}
			alice, nova := c.token("alice", "alicepw"), c.token("nova", "novapw")
			require.Equal(t, 200, try("X-Auth-Token", alice, "X-User-Id", "root", "X_user_id", "root", "X-Roles", "admin", "X_ROLES", "admin", "x-service-roles", "service", "Openstack-System-Scope", "all"))
			require.Nil(t, service)
			require.Equal(t, "member,reader", seen.Get("X-Roles"))
			require.Equal(t, "alice", seen.Get("X-User-Name"))
			require.Equal(t, "Confirmed", seen.Get("X-Identity-Status"))
			for _, forged := range []string{"X_user_id", "X_ROLES", "x-service-roles", "Openstack-System-Scope", "X-Service-Roles"} {
				require.NotContains(t, seen, forged)
			}
			require.Equal(t, 200, try("Authorization", "Bearer "+alice))
			require.Equal(t, 401, try("Authorization", "Basic "+alice))
			require.Equal(t, 200, try("X-Auth-Token", alice, "X-Service-Token", nova))
			require.Equal(t, "nova", service.UserName)
			require.Equal(t, "service", seen.Get("X-Service-Roles"))
			require.Equal(t, 401, try("X-Auth-Token", alice, "X-Service-Token", "nonsense"), "a bad service token spoils a good one")
			require.Equal(t, 401, try("X-Auth-Token", alice, "X-Service-Token", alice), "no service's")
			require.Equal(t, 401, try("X-Service-Token", nova), "a service's token stands for no user")
			time.Sleep(61 * time.Minute)
			require.Equal(t, 401, try("X-Auth-Token", alice))
			require.Equal(t, 401, try("X-Auth-Token", alice, "X-Service-Token", nova), "the service's own has ended")
			nova = c.token("nova", "novapw")
			require.Equal(t, 200, try("X-Auth-Token", alice, "X-Service-Token", nova), "work that was begun goes on")
			time.Sleep(49 * time.Hour)
			require.Equal(t, 401, try("X-Auth-Token", alice, "X-Service-Token", c.token("nova", "novapw")))
		}
	})
}

// Tokens with access rules, by a validator in this process and over HTTP.
func TestAccessRules(t *testing.T) {
	c, remote := newCloud(t)
	alice, err := c.svc.ValidateToken(t.Context(), c.token("alice", "alicepw"))
	require.NoError(t, err)
	app, err := c.svc.AppCredentials.Create(nacre.WithCaller(t.Context(), alice), alice.UserID, appcred.Wanted{Name: "robot", AccessRules: []appcred.AccessRule{
		{Service: "compute", Method: "GET", Path: "/v2.1/servers"}, {Service: "compute", Method: "GET", Path: "/v2.1/servers/{id}/ips"}}})
	require.NoError(t, err)
	robot, _, err := c.svc.Authenticate(t.Context(), identity.AuthRequest{Methods: []string{"application_credential"}, AppCredID: app.ID, AppCredSecret: app.Secret})
	require.NoError(t, err)
	nova := c.token("nova", "novapw")
	for name, v := range map[string]nacre.TokenValidator{"in process": c.svc, "remote": remote} {
		t.Run(name, func(t *testing.T) {
			_, err := v.ValidateToken(t.Context(), robot)
			require.ErrorIs(t, err, nacre.Unauthenticated, "who asks so does not look at rules")
			try := func(o authn.Options, method, path, service string) int {
				r := httptest.NewRequest(method, path, http.NoBody)
				r.Header.Set("X-Auth-Token", robot)
				if service != "" {
					r.Header.Set("X-Service-Token", service)
				}
				w := httptest.NewRecorder()
				authn.Middleware(v, o)(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})).ServeHTTP(w, r)
				return w.Code
			}
			for _, cache := range []time.Duration{0, time.Minute} {
				compute := authn.Options{ServiceType: "compute", Prefix: "/compute", CacheFor: cache}
				require.Equal(t, 200, try(compute, "GET", "/v2.1/servers?limit=1", ""))
				require.Equal(t, 200, try(compute, "GET", "/v2.1/servers/1/ips", ""))
				require.Equal(t, 401, try(compute, "GET", "/v2.1/servers/1%2f2/ips", ""))
				require.Equal(t, 401, try(compute, "GET", "/v2.1/%73ervers", ""), "not in the rule's words")
				require.Equal(t, 401, try(compute, "POST", "/v2.1/servers", ""))
				require.Equal(t, 200, try(compute, "POST", "/v2.1/servers", nova))
				require.Equal(t, 401, try(compute, "POST", "/v2.1/servers", robot))
				require.Equal(t, 401, try(authn.Options{CacheFor: cache}, "GET", "/v2.1/servers", ""))
				require.Equal(t, 401, try(authn.Options{ServiceType: "image", CacheFor: cache}, "GET", "/v2.1/servers", ""))
			}
		})
	}
}
