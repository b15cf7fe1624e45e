package api_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity"
	"github.com/nacre-cloud/nacre/identity/api"
	"github.com/nacre-cloud/nacre/identity/appcred"
	"github.com/nacre-cloud/nacre/identity/assignment"
	"github.com/nacre-cloud/nacre/identity/catalog"
	"github.com/nacre-cloud/nacre/identity/credential"
	"github.com/nacre-cloud/nacre/identity/domainconfig"
	"github.com/nacre-cloud/nacre/identity/federation"
	"github.com/nacre-cloud/nacre/identity/fernet"
	"github.com/nacre-cloud/nacre/identity/limit"
	"github.com/nacre-cloud/nacre/identity/oauth1"
	"github.com/nacre-cloud/nacre/internal/matrix"
	"github.com/nacre-cloud/nacre/internal/policy"
	"github.com/nacre-cloud/nacre/internal/rest"
	"github.com/nacre-cloud/nacre/store"
	"github.com/nacre-cloud/nacre/store/memstore"
)

// dry is an enforcer that lets nobody through: whoever would be allowed gets an
// error of its own, so that one cloud serves all tries.
type dry struct {
	nacre.Enforcer
	on bool
}

func (d *dry) Enforce(ctx context.Context, rule string, target nacre.Target) error {
	if err := d.Enforcer.Enforce(ctx, rule, target); err != nil || !d.on {
		return err
	}
	return nacre.Errorf(nacre.Precondition, "allowed", "allowed")
}

// callers of the matrix, in the order of its columns.
var callers = []string{"anonymous", "stranger", "P.reader", "P.member", "P.manager", "owner", "D.reader", "D.member", "D.manager", "D.admin", "S.reader", "S.member", "P.admin", "S.admin", "service"}

// world is a domain D with a project P and one of each thing, the owner's where
// things have one.
type world struct {
	t      *testing.T
	svc    *identity.Service
	h      http.Handler
	dry    *dry
	tokens map[string]string
	ids    map[string]string // by the path's segment before, or by the variable
}

func newWorld(t *testing.T) *world {
	e := memstore.New(memstore.Options{})
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	require.NoError(t, e.Migrate(t.Context(), identity.Schema(), true))
	rules, err := policy.New(policy.Config{Area: "identity", Rules: identity.Rules(), EnforceScope: true, EnforceNewDefaults: true, Denied: identity.Denied})
	require.NoError(t, err)
	w := &world{t: t, dry: &dry{Enforcer: rules}, tokens: map[string]string{}, ids: map[string]string{}}
	keys := fernet.Memory()
	w.svc, err = identity.New(identity.Config{Engine: e, Keys: keys, CredentialKeys: keys, Policy: w.dry, BcryptCost: 4})
	require.NoError(t, err)
	w.h = rest.Mount("/identity", api.New(w.svc, api.Config{}))
	boot, err := w.svc.Bootstrap(t.Context(), identity.Bootstrap{Password: "secret", Services: []identity.BootstrapService{{Type: "identity", Name: "keystone", Public: base}}})
	require.NoError(t, err)
	w.people(boot)
	w.federation(e, boot)
	w.things(boot)
	return w
}

func (w *world) root() context.Context { return nacre.AsService(w.t.Context(), "test") }

func (w *world) people(boot identity.Bootstrapped) {
	t, root := w.t, w.root()
	domain := func(name string) identity.Project {
		d, err := w.svc.CreateDomain(root, identity.ProjectChange{Name: &name})
		require.NoError(t, err)
		return d
	}
	project := func(name, domain string) identity.Project {
		p, err := w.svc.CreateProject(root, identity.ProjectChange{Name: &name, DomainID: &domain})
		require.NoError(t, err)
		return p
	}
	d, other := domain("D"), domain("elsewhere")
	p, far, services := project("P", d.ID), project("far", other.ID), project("service", "default")
	w.ids["projects"], w.ids["domains"] = p.ID, d.ID
	for _, name := range callers[1:] {
		scope, role, _ := strings.Cut(name, ".")
		home, g := d.ID, assignment.Grant{}
		req := identity.AuthRequest{Methods: []string{"password"}, Password: "pw"}
		switch scope {
		case "stranger":
			home, role, g.ProjectID = other.ID, "member", far.ID
		case "service":
			home, role, g.ProjectID = "default", "service", services.ID
		case "owner":
			role, g.ProjectID = "member", p.ID
		case "P":
			g.ProjectID = p.ID
		case "D":
			g.DomainID = d.ID
		case "S":
			home, g.System = "default", true
		}
		pw := "pw"
		u, err := w.svc.CreateUser(root, identity.UserChange{Name: &name, DomainID: &home, Password: &pw})
		require.NoError(t, err)
		g.UserID, g.RoleID = u.ID, boot.Roles[role]
		require.NoError(t, w.svc.Assignments.CreateGrant(root, g))
		req.User.ID, req.System = u.ID, g.System
		if g.ProjectID != "" {
			req.Project = &identity.NameRef{ID: g.ProjectID}
		}
		if g.DomainID != "" {
			req.Domain = &identity.DomainRef{ID: g.DomainID}
		}
		w.tokens[name], _, err = w.svc.Authenticate(t.Context(), req)
		require.NoError(t, err)
		if name == "owner" {
			w.ids["users"] = u.ID
		}
		if name == "P.reader" {
			w.ids["trustee"] = u.ID
		}
	}
}

func (w *world) things(boot identity.Bootstrapped) {
	t, root := w.t, w.root()
	caller, err := w.svc.ValidateToken(t.Context(), w.tokens["owner"])
	require.NoError(t, err)
	owner := nacre.WithCaller(t.Context(), caller)
	user, project, name := w.ids["users"], w.ids["projects"], "thing"
	w.ids["roles"], w.ids["implies"], w.ids["tags"] = boot.Roles["member"], boot.Roles["reader"], "blue"
	dom := w.ids["domains"]
	g, err := w.svc.CreateGroup(root, identity.GroupChange{Name: &name, DomainID: &dom})
	require.NoError(t, err)
	w.ids["groups"] = g.ID
	require.NoError(t, w.svc.AddToGroup(root, user, g.ID))
	require.NoError(t, w.svc.AddProjectTag(root, project, "blue"))
	for _, gr := range []assignment.Grant{{UserID: user, DomainID: dom}, {UserID: user, System: true}, {UserID: user, ProjectID: project, Inherited: true}, {UserID: user, DomainID: dom, Inherited: true},
		{GroupID: g.ID, ProjectID: project}, {GroupID: g.ID, DomainID: dom}, {GroupID: g.ID, System: true}, {GroupID: g.ID, ProjectID: project, Inherited: true}, {GroupID: g.ID, DomainID: dom, Inherited: true}} {
		gr.RoleID = boot.Roles["member"]
		require.NoError(t, w.svc.Assignments.CreateGrant(root, gr))
	}
	services, err := w.svc.Catalog.ListServices(root, nacre.Query{})
	require.NoError(t, err)
	endpoints, err := w.svc.Catalog.ListEndpoints(root, nacre.Query{})
	require.NoError(t, err)
	w.ids["services"], w.ids["endpoints"], w.ids["regions"] = services[0].ID, endpoints[0].ID, "RegionOne"
	require.NoError(t, w.svc.Catalog.AddEndpointToProject(root, project, endpoints[0].ID))
	eg, err := w.svc.Catalog.CreateEndpointGroup(root, catalog.EndpointGroupChange{Name: &name, Filters: map[string]any{"interface": "public"}})
	require.NoError(t, err)
	w.ids["endpoint_groups"] = eg.ID
	require.NoError(t, w.svc.Catalog.AddEndpointGroupToProject(root, eg.ID, project))
	doc, err := w.svc.Catalog.CreatePolicy(root, catalog.PolicyChange{Type: &name, Blob: &name})
	require.NoError(t, err)
	w.ids["policies"] = doc.ID
	for _, target := range []catalog.PolicyTarget{{EndpointID: endpoints[0].ID}, {ServiceID: services[0].ID}, {ServiceID: services[0].ID, RegionID: "RegionOne"}} {
		require.NoError(t, w.svc.Catalog.AssociatePolicy(root, doc.ID, target))
	}
	reg, err := w.svc.Limits.CreateRegisteredLimits(root, []limit.RegisteredLimit{{ServiceID: services[0].ID, ResourceName: "cores", DefaultLimit: 5}})
	require.NoError(t, err)
	lim, err := w.svc.Limits.CreateLimits(root, []limit.Limit{{ServiceID: services[0].ID, ResourceName: "cores", ResourceLimit: 5, ProjectID: identity.Ref(project)}})
	require.NoError(t, err)
	w.ids["registered_limits"], w.ids["limits"] = reg[0].ID, lim[0].ID

	typ, blob := "cert", "x"
	cred, err := w.svc.Credentials.Create(owner, credential.Change{Type: &typ, Blob: &blob})
	require.NoError(t, err)
	pair, err := w.svc.Credentials.CreateEC2(owner, user, project)
	require.NoError(t, err)
	app, err := w.svc.AppCredentials.Create(owner, user, appcred.Wanted{Name: "robot", AccessRules: []appcred.AccessRule{{Service: "compute", Method: "GET", Path: "/"}}})
	require.NoError(t, err)
	tr, err := w.svc.CreateTrust(owner, identity.Trust{TrustorUserID: user, TrusteeUserID: w.ids["trustee"], ProjectID: project}, []identity.NameRef{{Name: "member"}})
	require.NoError(t, err)
	w.ids["credentials"], w.ids["OS-EC2"], w.ids["application_credentials"], w.ids["access_rules"], w.ids["trusts"] = cred.ID, pair.Access, app.ID, app.AccessRules[0].ID, tr.ID
}

// federation makes what users of elsewhere and OAuth's consumers need, and a domain's
// own configuration.
func (w *world) federation(e store.Engine, boot identity.Bootstrapped) {
	t, root := w.t, w.root()
	_, err := w.svc.Federation.CreateIdentityProvider(root, "idp", federation.IdentityProviderChange{})
	require.NoError(t, err)
	_, err = w.svc.Federation.CreateMapping(root, federation.Mapping{ID: "mapping", Rules: []any{map[string]any{
		"local": []any{map[string]any{"user": map[string]any{"name": "{0}"}}}, "remote": []any{map[string]any{"type": "U"}}}}})
	require.NoError(t, err)
	mapping, at := "mapping", "http://n"
	_, err = w.svc.Federation.CreateProtocol(root, "idp", "openid", federation.ProtocolChange{MappingID: &mapping})
	require.NoError(t, err)
	_, err = w.svc.Federation.CreateServiceProvider(root, "sp", federation.ServiceProviderChange{AuthURL: &at, SPURL: &at})
	require.NoError(t, err)
	consumer, err := w.svc.OAuth.CreateConsumer(root, oauth1.ConsumerChange{})
	require.NoError(t, err)
	require.NoError(t, store.NewTable[oauth1.AccessToken](e, "access_token").Insert(t.Context(), oauth1.AccessToken{
		ID: "access", ConsumerID: consumer.ID, UserID: w.ids["users"], ProjectID: w.ids["projects"], RoleIDs: []string{boot.Roles["member"]}, ExpiresAt: time.Now().Add(time.Hour)}))
	_, _, err = w.svc.DomainConfigs.Put(root, w.ids["domains"], domainconfig.Options{"ldap": {"url": "ldap://n"}})
	require.NoError(t, err)
	w.ids["identity_providers"], w.ids["mappings"], w.ids["protocols"], w.ids["service_providers"] = "idp", mapping, "openid", "sp"
	w.ids["consumers"], w.ids["access_tokens"], w.ids["config"], w.ids["ldap"] = consumer.ID, "access", "ldap", "url"
}

var variable = regexp.MustCompile(`\{[^}]*\}`)

// path fills a template in; what is not known is "missing".
func (w *world) path(template string) string {
	parts := strings.Split(template, "/")
	for i := range parts {
		if !variable.MatchString(parts[i]) {
			continue
		}
		if id, ok := w.ids[parts[i-1]]; ok {
			parts[i] = id
		} else {
			parts[i] = "missing"
		}
	}
	return strings.Join(parts, "/")
}

// body is one that passes the schema.
func (w *world) body(method, template string) string {
	user, project := w.ids["users"], w.ids["projects"]
	fill := strings.NewReplacer("USER", user, "PROJECT", project, "DOMAIN", w.ids["domains"], "SERVICE", w.ids["services"], "TRUSTEE", w.ids["trustee"], "TOKEN", w.tokens["owner"])
	bodies := map[string]string{
		"POST /v3/domains": `{"domain":{"name":"n"}}`, "PATCH /v3/domains/{}": `{"domain":{"description":"n"}}`,
		"POST /v3/projects": `{"project":{"name":"n","domain_id":"DOMAIN"}}`, "PATCH /v3/projects/{}": `{"project":{"description":"n"}}`, "PUT /v3/projects/{}/tags": `{"tags":["red"]}`,
		"POST /v3/users": `{"user":{"name":"n","domain_id":"DOMAIN"}}`, "PATCH /v3/users/{}": `{"user":{"email":"n"}}`,
		"POST /v3/groups": `{"group":{"name":"n","domain_id":"DOMAIN"}}`, "PATCH /v3/groups/{}": `{"group":{"description":"n"}}`,
		"POST /v3/roles": `{"role":{"name":"n"}}`, "PATCH /v3/roles/{}": `{"role":{"description":"n"}}`,
		"POST /v3/services": `{"service":{"type":"n"}}`, "PATCH /v3/services/{}": `{"service":{"name":"n"}}`,
		"POST /v3/endpoints": `{"endpoint":{"service_id":"SERVICE","interface":"admin","url":"http://n"}}`, "PATCH /v3/endpoints/{}": `{"endpoint":{"url":"http://n"}}`,
		"POST /v3/regions": `{"region":{}}`, "PUT /v3/regions/{}": `{"region":{}}`, "PATCH /v3/regions/{}": `{"region":{}}`,
		"POST /v3/policies": `{"policy":{"type":"n","blob":"n"}}`, "PATCH /v3/policies/{}": `{"policy":{"type":"n"}}`,
		"POST /v3/credentials": `{"credential":{"type":"n","blob":"n","user_id":"USER"}}`, "PATCH /v3/credentials/{}": `{"credential":{"blob":"n"}}`,
		"POST /v3/users/{}/credentials/OS-EC2":      `{"tenant_id":"PROJECT"}`,
		"POST /v3/users/{}/application_credentials": `{"application_credential":{"name":"n"}}`,
		"POST /v3/registered_limits":                `{"registered_limits":[{"service_id":"SERVICE","resource_name":"n","default_limit":1}]}`, "PATCH /v3/registered_limits/{}": `{"registered_limit":{"default_limit":1}}`,
		"POST /v3/limits": `{"limits":[{"service_id":"SERVICE","resource_name":"cores","resource_limit":1,"domain_id":"DOMAIN"}]}`, "PATCH /v3/limits/{}": `{"limit":{"resource_limit":1}}`,
		"POST /v3/OS-TRUST/trusts":                  `{"trust":{"trustor_user_id":"USER","trustee_user_id":"TRUSTEE","impersonation":false,"project_id":"PROJECT","roles":[{"name":"member"}]}}`,
		"POST /v3/OS-EP-FILTER/endpoint_groups":     `{"endpoint_group":{"name":"n","filters":{"interface":"admin"}}}`,
		"PATCH /v3/OS-EP-FILTER/endpoint_groups/{}": `{"endpoint_group":{"name":"n"}}`,
		"POST /v3/ec2tokens":                        `{"credentials":{"access":"a","signature":"s"}}`, "POST /v3/s3tokens": `{"credentials":{"access":"a","signature":"s","token":"dA"}}`,
		"PUT /v3/OS-FEDERATION/identity_providers/{}": `{"identity_provider":{}}`, "PATCH /v3/OS-FEDERATION/identity_providers/{}": `{"identity_provider":{}}`,
		"PUT /v3/OS-FEDERATION/identity_providers/{}/protocols/{}": `{"protocol":{"mapping_id":"m"}}`, "PATCH /v3/OS-FEDERATION/identity_providers/{}/protocols/{}": `{"protocol":{"mapping_id":"m"}}`,
		"PUT /v3/OS-FEDERATION/mappings/{}": `{"mapping":{"rules":[{"local":[{"user":{"name":"{0}"}}],"remote":[{"type":"U"}]}]}}`, "PATCH /v3/OS-FEDERATION/mappings/{}": `{"mapping":{"rules":[{"local":[{"user":{"name":"{0}"}}],"remote":[{"type":"U"}]}]}}`,
		"PUT /v3/OS-FEDERATION/service_providers/{}": `{"service_provider":{"auth_url":"http://n","sp_url":"http://n"}}`, "PATCH /v3/OS-FEDERATION/service_providers/{}": `{"service_provider":{"enabled":true}}`,
		"POST /v3/OS-OAUTH1/consumers": `{"consumer":{}}`, "PATCH /v3/OS-OAUTH1/consumers/{}": `{"consumer":{"description":"n"}}`, "PUT /v3/OS-OAUTH1/authorize/{}": `{"roles":[{"id":"n"}]}`,
		"PUT /v3/domains/{}/config": `{"config":{"ldap":{"url":"n"}}}`, "PATCH /v3/domains/{}/config": `{"config":{"ldap":{"url":"n"}}}`,
		"PATCH /v3/domains/{}/config/{}": `{"config":{"ldap":{"url":"n"}}}`, "PATCH /v3/domains/{}/config/{}/{}": `{"config":{"url":"n"}}`,
		"POST /v3/auth/OS-FEDERATION/saml2": `{"auth":{"identity":{"methods":["token"],"token":{"id":"TOKEN"}},"scope":{"service_provider":{"id":"missing"}}}}`,
		"POST /v3/auth/tokens":              `{"auth":{"identity":{"methods":["password"],"password":{"user":{"id":"USER","password":"wrong"}}}}}`,
		"POST /v3/users/{}/password":        `{"user":{"original_password":"wrong","password":"n"}}`,
	}
	return fill.Replace(bodies[method+" "+variable.ReplaceAllString(template, "{}")])
}

// mark is the outcome of one try: "+" allowed, "." forbidden, "!" not
// authenticated, else the status.
func (w *world) mark(op nacre.Operation, caller string) string {
	req, err := http.NewRequestWithContext(w.t.Context(), op.Method, "http://cloud/identity"+w.path(op.Path), bytes.NewReader([]byte(w.body(op.Method, op.Path))))
	require.NoError(w.t, err)
	if token := w.tokens[caller]; token != "" {
		req.Header.Set("X-Auth-Token", token)
	}
	if strings.HasPrefix(op.Path, "/v3/auth/tokens") {
		req.Header.Set("X-Subject-Token", w.tokens["owner"])
	}
	w.dry.on = op.Method != "GET" && op.Method != "HEAD"
	defer func() { w.dry.on = false }()
	resp, err := rest.Transport(w.h).RoundTrip(req)
	require.NoError(w.t, err)
	defer func() { require.NoError(w.t, resp.Body.Close()) }()
	switch code := resp.StatusCode; {
	case code == http.StatusPreconditionFailed, code < 400:
		return "+"
	case code == http.StatusForbidden:
		return "."
	case code == http.StatusUnauthorized:
		return "!"
	default:
		return fmt.Sprint(code)
	}
}

// TestMatrix has each caller try each route on the things of D.
func TestMatrix(t *testing.T) {
	w := newWorld(t)
	m := matrix.New("Who may do what to the things of a domain D with a project P, by Keystone's default rules.\n"+
		"P., D. and S. have a role on P, D and the system; the owner is a member of P whose things they are; the stranger\n"+
		"is a member elsewhere; service has that role in another domain.\n"+
		"+ allowed   . forbidden   ! must authenticate   else the status\n"+
		"HEAD is as GET, where it has no line of its own.", callers...)
	var open []func()
	ops := slices.Clone(api.Operations())
	slices.SortFunc(ops, func(a, b nacre.Operation) int { return strings.Compare(a.Path+" "+a.Method, b.Path+" "+b.Method) })
	for _, op := range ops {
		cells := make([]string, len(callers))
		for i, c := range callers {
			cells[i] = w.mark(op, c)
			if head := op; op.Method == "GET" && op.Path != "/v3/auth/tokens" { // that has a rule of its own
				head.Method = "HEAD"
				require.Equal(t, cells[i], w.mark(head, c), "HEAD %s by %s", op.Path, c)
			}
		}
		name := fmt.Sprintf("%-6s %s", op.Method, op.Path)
		if len(op.Policies) == 0 {
			require.NotContains(t, cells, "500", name)
			open = append(open, func() { m.Row(name, cells...) })
			continue
		}
		require.Equal(t, "!", cells[0], "nobody is let in without a token: %s", name)
		require.NotContains(t, cells, "400", "a body that the schema refuses tests nothing: %s", name)
		require.NotContains(t, cells, "500", name)
		m.Row(name, cells...)
	}
	m.Head("Without a rule: what is shown to everybody, and what asks itself for a password, a signature or a voucher")
	for _, row := range open {
		row()
	}
	m.Check(t)
}

// TestMissingThings is the matrix over what is not there: who may is told so, who may
// not is refused in the same words as for what is, so that nobody learns by asking
// which ids there are.
func TestMissingThings(t *testing.T) {
	w := newWorld(t)
	there := w.ids
	// Keystone finds the first two before it asks the rule; their ids are secrets by
	// themselves. A group or option that no domain has is Forbidden to all.
	first := []string{"/v3/OS-TRUST/trusts/", "/credentials/OS-EC2/", "{group}", "{option}"}
	for _, op := range api.Operations() {
		if len(op.Policies) == 0 || !variable.MatchString(op.Path) || slices.ContainsFunc(first, func(p string) bool { return strings.Contains(op.Path, p) }) {
			continue
		}
		name := fmt.Sprintf("%-6s %s", op.Method, op.Path)
		for _, caller := range callers {
			w.ids = there
			have := w.mark(op, caller)
			w.ids = map[string]string{}
			missing := w.mark(op, caller)
			if have == "." || have == "!" {
				require.Equal(t, have, missing, "%s by %s learns what is there", name, caller)
			}
			if caller == "S.admin" && have == "+" {
				require.Contains(t, []string{"+", "404"}, missing, "%s: who may do all is told that it is not there", name)
			}
		}
	}
}
