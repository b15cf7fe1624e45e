package api_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity"
	"github.com/nacre-cloud/nacre/identity/api"
	"github.com/nacre-cloud/nacre/identity/assignment"
	"github.com/nacre-cloud/nacre/identity/catalog"
	"github.com/nacre-cloud/nacre/identity/federation"
	"github.com/nacre-cloud/nacre/identity/oauth1"
	"github.com/nacre-cloud/nacre/identity/password"
)

// lockingCloud locks a user out after two wrong passwords.
func lockingCloud(t *testing.T) *cloud {
	return federatedCloud(t, nil, api.FederationConfig{}, func(cfg *identity.Config) { cfg.Compliance = password.Compliance{LockoutAttempts: 2} })
}

func oauthDoesNotWidenInProcess(t *testing.T) {
	c := newCloud(t)
	root := nacre.AsService(t.Context(), "test")
	p, q := c.project("p"), c.project("q")
	alice, token := c.person("alice", "admin", p)
	grant := func(role, project string) assignment.Grant {
		return assignment.Grant{UserID: alice, ProjectID: project, RoleID: c.ids.Roles[role]}
	}
	require.NoError(t, c.svc.Assignments.CreateGrant(root, grant("service", q)))
	consumer, err := c.svc.OAuth.CreateConsumer(root, oauth1.ConsumerChange{})
	require.NoError(t, err)
	n := 0
	signed := func(secret string, more string) *oauth1.Request {
		n++
		return &oauth1.Request{Method: "POST", URL: base + "/v3/auth/tokens", Authorization: fmt.Sprintf(`OAuth oauth_consumer_key="%s",oauth_signature_method="PLAINTEXT",oauth_timestamp="%d",oauth_nonce="n%d",oauth_signature="%s%%26%s"%s`,
			consumer.ID, time.Now().Unix(), n, consumer.Secret, secret, more)}
	}
	request, err := c.svc.OAuth.NewRequestToken(t.Context(), signed("", ""), p)
	require.NoError(t, err)
	_, err = c.svc.OAuth.Authorize(c.as(token), request.ID, []oauth1.Role{{Name: "member"}, {ID: c.ids.Roles["service"]}})
	require.ErrorIs(t, err, nacre.Unauthenticated, "that is hers on another project")
	verifier, err := c.svc.OAuth.Authorize(c.as(token), request.ID, []oauth1.Role{{Name: "member"}})
	require.NoError(t, err)
	access, err := c.svc.OAuth.NewAccessToken(t.Context(), signed(request.Secret, fmt.Sprintf(`,oauth_token="%s",oauth_verifier="%s"`, request.ID, verifier)))
	require.NoError(t, err)
	use := func(project *identity.NameRef) (string, *identity.TokenInfo, error) {
		return c.try(identity.AuthRequest{Methods: []string{"oauth1"}, OAuth: signed(access.Secret, fmt.Sprintf(`,oauth_token="%s"`, access.ID)), Project: project})
	}
	text, info, err := use(nil)
	require.NoError(t, err)
	require.Equal(t, []string{"member", "reader"}, info.Caller().Roles, "and not admin, which she is")
	require.Equal(t, p, info.Caller().ProjectID)
	if _, info, err = use(&identity.NameRef{ID: q}); err == nil {
		require.Equal(t, p, info.Caller().ProjectID, "what was authorized is for one project")
	}
	_, _, err = c.try(byToken(text, q))
	require.ErrorIs(t, err, nacre.Forbidden)
	_, err = c.svc.OAuth.Authorize(c.as(text), request.ID, nil)
	require.ErrorIs(t, err, nacre.Forbidden)
	_, err = c.svc.OAuth.ListAccessTokens(c.as(text), alice)
	require.ErrorIs(t, err, nacre.Forbidden)
	require.NoError(t, c.svc.Assignments.CreateGrant(root, grant("reader", p)))
	require.NoError(t, c.svc.Assignments.DeleteGrant(root, grant("admin", p)))
	_, info, err = use(nil)
	require.NoError(t, err)
	require.Equal(t, []string{"reader"}, info.Caller().Roles, "what she lost, it lost")
}

// CVE-2017-2673: a federated user has the roles of the groups that the mapping names,
// and not those of groups or roles that are called so elsewhere.
func federatedRolesAreNotMixedUp(t *testing.T) {
	i := newIssuer(t)
	c := federatedCloud(t, i, api.FederationConfig{}, nil)
	root := nacre.AsService(t.Context(), "test")
	name, dev := "corp", "dev"
	corp, err := c.svc.CreateDomain(root, identity.ProjectChange{Name: &name})
	require.NoError(t, err)
	c.idp(i.URL, `[{"local":[{"user":{"name":"{0}"}},{"group":{"name":"dev","domain":{"name":"corp"}}}],"remote":[{"type":"OIDC-preferred_username"}]}]`)
	p, secret := c.project("p"), c.project("secret")
	group := func(domain, role, project string) {
		g, err := c.svc.CreateGroup(root, identity.GroupChange{Name: &dev, DomainID: &domain})
		require.NoError(t, err)
		require.NoError(t, c.svc.Assignments.CreateGrant(root, assignment.Grant{GroupID: g.ID, ProjectID: project, RoleID: c.ids.Roles[role]}))
	}
	group(corp.ID, "reader", p)
	group("default", "admin", secret)
	token, m := c.login(i.sign(i.claims("alice")))
	group(dig(m, "user", "domain", "id").(string), "manager", p)
	code, h, m := c.do("POST", "/v3/auth/tokens", "", `{"auth":{"identity":{"methods":["token"],"token":{"id":"`+token+`"}},"scope":{"project":{"id":"`+p+`"}}}}`)
	require.Equal(t, 201, code, m)
	require.Equal(t, []any{map[string]any{"id": c.ids.Roles["reader"], "name": "reader"}}, dig(m, "token", "roles"))
	_, _, m = c.do("GET", "/v3/auth/projects", h.Get("X-Subject-Token"), "")
	require.Len(t, m["projects"], 1)

	text, info, err := c.svc.AuthenticateFederated(t.Context(), "idp", "openid", federation.Proof{Assertion: federation.Assertion{"OIDC-preferred_username": {"alice"}, "OIDC-sub": {"id-alice"}, "HTTP_OIDC_ISS": {i.URL}}})
	require.NoError(t, err)
	require.Empty(t, info.Roles)
	_, info, err = c.try(byToken(text, p))
	require.NoError(t, err)
	require.Equal(t, []string{"reader"}, info.Caller().Roles)
	_, _, err = c.try(byToken(text, secret))
	require.ErrorIs(t, err, nacre.Unauthenticated)
	mine, err := c.svc.AuthProjects(c.as(text), nacre.Query{})
	require.NoError(t, err)
	require.Len(t, mine, 1)
}

func endpointURLTellsNothingInProcess(t *testing.T) {
	c := newCloud(t)
	root := c.as(c.root())
	services, err := c.svc.Catalog.ListServices(root, nacre.Query{})
	require.NoError(t, err)
	face, good := "admin", "http://x/$(project_id)s"
	made, err := c.svc.Catalog.CreateEndpoint(root, catalog.EndpointChange{ServiceID: &services[0].ID, Interface: &face, URL: &good})
	require.NoError(t, err)
	for _, u := range []string{"http://x/$(admin_token)s", "http://x/%(database.connection)s", "http://x/$(password)s", "http://x/%(user_id.__class__)s", "not a url", "", "/relative"} {
		_, err := c.svc.Catalog.CreateEndpoint(root, catalog.EndpointChange{ServiceID: &services[0].ID, Interface: &face, URL: &u})
		require.ErrorIs(t, err, nacre.Invalid, u)
		_, err = c.svc.Catalog.UpdateEndpoint(root, made.ID, catalog.EndpointChange{URL: &u})
		require.ErrorIs(t, err, nacre.Invalid, u)
	}
}
