package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity"
	"github.com/nacre-cloud/nacre/identity/appcred"
	"github.com/nacre-cloud/nacre/identity/catalog"
	"github.com/nacre-cloud/nacre/internal/rest"
)

func (h *handlers) authRoutes() []rest.Route {
	return []rest.Route{
		{Method: "POST", Path: "/v3/auth/tokens", Status: http.StatusCreated, Public: true, Unknown: rest.Keep, Statements: 30, Op: rest.In(h.issue)},
		{Method: "GET", Path: "/v3/auth/tokens", Policy: id("validate_token"), Statements: 12, Op: rest.Raw(h.showToken)},
		{Method: "HEAD", Path: "/v3/auth/tokens", Policy: id("check_token"), Statements: 12, Op: rest.Raw(h.checkToken)},
		{Method: "DELETE", Path: "/v3/auth/tokens", Policy: id("revoke_token"), Statements: 12, Op: rest.Do(func(r *rest.Request) (any, error) {
			token, err := subject(r)
			if err != nil {
				return nil, err
			}
			return nil, h.svc.RevokeToken(r.Context(), token)
		})},
		{Method: "GET", Path: "/v3/auth/catalog", Policy: id("get_auth_catalog"), Op: rest.Do(func(r *rest.Request) (any, error) {
			c, err := h.svc.Catalog.Own(r.Context())
			return object{"catalog": c, "links": object{"self": here(r), "previous": nil, "next": nil}}, err
		})},
		{Method: "GET", Path: "/v3/auth/projects", Policy: id("get_auth_projects"), Statements: 9, Op: rest.Do(func(r *rest.Request) (any, error) {
			q, err := query(r)
			if err != nil {
				return nil, err
			}
			ps, err := h.svc.AuthProjects(r.Context(), q)
			return collection(r, "projects", q, ps, projectView, projectID), err
		})},
		{Method: "GET", Path: "/v3/auth/domains", Policy: id("get_auth_domains"), Statements: 9, Op: rest.Do(func(r *rest.Request) (any, error) {
			q, err := query(r)
			if err != nil {
				return nil, err
			}
			ds, err := h.svc.AuthDomains(r.Context(), q)
			return collection(r, "domains", q, ds, domainView, projectID), err
		})},
		{Method: "GET", Path: "/v3/auth/system", Policy: id("get_auth_system"), Statements: 9, Op: rest.Do(func(r *rest.Request) (any, error) {
			ok, err := h.svc.AuthSystem(r.Context())
			list := []any{}
			if ok {
				list = append(list, object{"all": true})
			}
			return object{"system": list, "links": object{"self": here(r)}}, err
		})},
	}
}

type domainBody struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

type nameBody struct {
	ID     string      `json:"id"`
	Name   string      `json:"name"`
	Domain *domainBody `json:"domain"`
}

func (n *nameBody) ref() identity.NameRef {
	ref := identity.NameRef{ID: n.ID, Name: n.Name}
	if n.Domain != nil {
		ref.Domain = identity.DomainRef(*n.Domain)
	}
	return ref
}

// check refuses what names nothing.
func (n *nameBody) check(path string) error {
	if n.ID == "" && n.Name == "" {
		return nacre.Errorf(nacre.Invalid, "SchemaValidationError", "Invalid input for field %s: id or name must be present.", path)
	}
	if n.Domain != nil && *n.Domain == (domainBody{}) {
		return nacre.Errorf(nacre.Invalid, "SchemaValidationError", "Invalid input for field %s/domain: id or name must be present.", path)
	}
	return nil
}

type scopeBody struct {
	Project *nameBody   `json:"project"`
	Domain  *domainBody `json:"domain"`
	System  *struct {
		All bool `json:"all"`
	} `json:"system"`
	Trust *struct {
		ID string `json:"id"`
	} `json:"OS-TRUST:trust"`
	Unscoped *struct{} `json:"unscoped"`
}

type authBody struct {
	Auth struct {
		Identity struct {
			Methods  []string `json:"methods" valid:"required"`
			Password *struct {
				User *struct {
					nameBody
					Password string `json:"password"`
				} `json:"user"`
			} `json:"password"`
			Token *struct {
				ID string `json:"id" valid:"required"`
			} `json:"token"`
			AppCred *struct {
				ID     string    `json:"id"`
				Name   string    `json:"name"`
				Secret string    `json:"secret"`
				User   *nameBody `json:"user"`
			} `json:"application_credential"`
			// Extra is what is shown for other methods.
			Extra map[string]any `json:"-" extra:"true"`
		} `json:"identity" valid:"required"`
		Scope json.RawMessage `json:"scope"`
	} `json:"auth" valid:"required"`
}

func missing(attr, in string) error {
	return nacre.Errorf(nacre.Invalid, "ValidationError", "Expecting to find %s in %s. The server could not comply with the request since it is either malformed or otherwise incorrect. The client is assumed to be in error.", attr, in)
}

func (b *authBody) request() (identity.AuthRequest, error) {
	req := identity.AuthRequest{Methods: b.Auth.Identity.Methods}
	for _, m := range req.Methods {
		show := b.other
		switch m {
		case "password":
			show = b.password
		case "token":
			show = b.token
		case "application_credential":
			show = b.appCred
		}
		if err := show(m, &req); err != nil {
			return req, err
		}
	}
	return req, b.scope(&req)
}

// password, token, appCred and other take over what is shown for a method.
func (b *authBody) password(m string, req *identity.AuthRequest) error {
	in := b.Auth.Identity.Password
	if in == nil || in.User == nil {
		return missing(m, "identity")
	}
	u := in.User
	if err := u.check("identity/password/user"); err != nil {
		return err
	}
	if u.ID == "" && u.Domain == nil {
		return missing("domain", "user")
	}
	req.User, req.Password = u.ref(), u.Password
	return nil
}

func (b *authBody) token(m string, req *identity.AuthRequest) error {
	if b.Auth.Identity.Token == nil {
		return missing(m, "identity")
	}
	req.Token = b.Auth.Identity.Token.ID
	return nil
}

func (b *authBody) appCred(m string, req *identity.AuthRequest) error {
	a := b.Auth.Identity.AppCred
	if a == nil {
		return missing(m, "identity")
	}
	if a.ID == "" && (a.Name == "" || a.User == nil) {
		return missing("id or name and user", m)
	}
	req.AppCredID, req.AppCredName, req.AppCredSecret = a.ID, a.Name, a.Secret
	if a.User != nil {
		req.AppCredUser = a.User.ref()
	}
	return nil
}

func (b *authBody) other(m string, req *identity.AuthRequest) error {
	v, ok := b.Auth.Identity.Extra[m]
	if !ok {
		return missing(m, "identity")
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if req.Extra == nil {
		req.Extra = map[string]json.RawMessage{}
	}
	req.Extra[m] = raw
	return nil
}

func (b *authBody) scope(req *identity.AuthRequest) error {
	raw := bytes.TrimSpace(b.Auth.Scope)
	if len(raw) == 0 || bytes.Equal(raw, []byte("null")) {
		return nil
	}
	if bytes.Equal(raw, []byte(`"unscoped"`)) {
		req.Unscoped = true
		return nil
	}
	var s scopeBody
	if err := json.Unmarshal(raw, &s); err != nil {
		return nacre.Errorf(nacre.Invalid, "SchemaValidationError", "Invalid input for field 'scope': it is neither an object nor 'unscoped'")
	}
	if s.Project != nil {
		if err := s.Project.check("scope/project"); err != nil {
			return err
		}
		ref := s.Project.ref()
		req.Project = &ref
	}
	if s.Domain != nil {
		if *s.Domain == (domainBody{}) {
			return nacre.Errorf(nacre.Invalid, "SchemaValidationError", "Invalid input for field scope/domain: id or name must be present.")
		}
		ref := identity.DomainRef(*s.Domain)
		req.Domain = &ref
	}
	if s.Trust != nil {
		req.TrustID = s.Trust.ID
	}
	req.System = s.System != nil && s.System.All
	req.Unscoped = s.Unscoped != nil
	return nil
}

func (h *handlers) issue(r *rest.Request, b *authBody) (any, error) {
	req, err := b.request()
	if err != nil {
		return nil, err
	}
	req.Receipt = r.Header.Get("Openstack-Auth-Receipt")
	if slices.Contains(req.Methods, "oauth1") {
		req.OAuth = signedRequest(r)
	}
	text, info, err := h.svc.Authenticate(r.Context(), req)
	if e := (*identity.ReceiptError)(nil); errors.As(err, &e) {
		return receiptView(r, e), nil
	}
	if err != nil {
		return nil, err
	}
	r.Set("X-Subject-Token", text)
	r.Set("Vary", "X-Auth-Token")
	return h.tokenView(r, info, !r.URL.Query().Has("nocatalog"))
}

// receiptView answers credentials that are good but not enough.
func receiptView(r *rest.Request, e *identity.ReceiptError) any {
	r.Set("Openstack-Auth-Receipt", e.Text)
	r.SetStatus(http.StatusUnauthorized)
	return object{
		"receipt": object{
			"methods": e.Methods, "issued_at": rest.Micros(e.IssuedAt), "expires_at": rest.Micros(e.ExpiresAt),
			"user": placed{ID: e.User.ID, Name: e.User.Name, Domain: idName{e.UserDomain.ID, e.UserDomain.Name}},
		},
		"required_auth_methods": e.Required,
	}
}

// subject is the token that a request is about.
func subject(r *rest.Request) (string, error) {
	token := r.Header.Get("X-Subject-Token")
	if token == "" {
		return "", nacre.Errorf(nacre.NotFound, "TokenNotFound", "Could not find token: .")
	}
	return token, nil
}

func options(r *rest.Request) identity.ShowOptions {
	o := identity.ShowOptions{Expired: expiredToo(r)}
	if v := r.Header["Openstack-Identity-Access-Rules"]; len(v) > 0 {
		version, err := strconv.ParseFloat(v[0], 64)
		o.AccessRules = err == nil && version >= 1
	}
	return o
}

func expiredToo(r *rest.Request) bool {
	if r.URL.RawQuery == "" {
		return false
	}
	switch r.URL.Query().Get("allow_expired") {
	case "1", "true", "True", "yes", "on":
		return true
	}
	return false
}

// showToken answers from the rendered form that is kept with the token.
func (h *handlers) showToken(r *rest.Request) error {
	token, err := subject(r)
	if err != nil {
		return err
	}
	info, err := h.svc.ShowToken(r.Context(), token, options(r))
	if err != nil {
		return err
	}
	catalog := r.URL.RawQuery == "" || !r.URL.Query().Has("nocatalog")
	number := h.svc.CatalogNumber()
	var body []byte
	if catalog {
		body = info.View(number)
	}
	if body == nil {
		view, err := h.tokenView(r, info, catalog)
		if err != nil {
			return err
		}
		if body, err = rest.JSON(view, 0); err != nil {
			return err
		}
		if catalog {
			info.KeepView(number, body)
		}
	}
	hd := r.W.Header()
	hd["X-Subject-Token"] = []string{token}
	hd["Vary"] = vary
	hd["Content-Type"] = jsonType
	r.W.WriteHeader(http.StatusOK)
	_, err = r.W.Write(body)
	return err
}

var vary, jsonType = []string{"X-Auth-Token"}, []string{"application/json"}

func (h *handlers) checkToken(r *rest.Request) error {
	token, err := subject(r)
	if err == nil {
		err = h.svc.CheckToken(r.Context(), token, options(r))
	}
	if err != nil {
		return err
	}
	r.Set("X-Subject-Token", token)
	r.Set("Vary", "X-Auth-Token")
	r.W.WriteHeader(http.StatusOK)
	return nil
}

type idName struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

type placed struct {
	Domain idName `json:"domain"`
	ID     string `json:"id"`
	Name   string `json:"name"`
}

type tokenBody struct {
	Methods []string `json:"methods"`
	User    struct {
		placed
		PasswordExpires *rest.Naive      `json:"password_expires_at,omitempty"`
		Federation      *tokenFederation `json:"OS-FEDERATION,omitempty"`
	} `json:"user"`
	AuditIDs  []string         `json:"audit_ids"`
	ExpiresAt rest.Micros      `json:"expires_at"`
	IssuedAt  rest.Micros      `json:"issued_at"`
	Project   *placed          `json:"project,omitempty"`
	IsDomain  *bool            `json:"is_domain,omitempty"`
	Domain    *idName          `json:"domain,omitempty"`
	System    map[string]bool  `json:"system,omitempty"`
	Roles     []idName         `json:"roles,omitempty"`
	AppCred   *tokenAppCred    `json:"application_credential,omitempty"`
	Trust     *tokenTrust      `json:"OS-TRUST:trust,omitempty"`
	Catalog   *[]catalog.Entry `json:"catalog,omitempty"`
	SPs       []tokenSP        `json:"service_providers,omitempty"`
	OAuth     *tokenOAuth      `json:"OS-OAUTH1,omitempty"`
}

type tokenAppCred struct {
	ID         string `json:"id"`
	Name       string `json:"name"`
	Restricted bool   `json:"restricted"`
	// AccessRules are what the service that asks enforces.
	AccessRules []appcred.AccessRule `json:"access_rules,omitempty"`
}

type tokenTrust struct {
	ID      string `json:"id"`
	Trustor struct {
		ID string `json:"id"`
	} `json:"trustor_user"`
	Trustee struct {
		ID string `json:"id"`
	} `json:"trustee_user"`
	Impersonation bool `json:"impersonation"`
}

// scope says on what the token is good; false when on nothing.
func (t *tokenBody) scope(i *identity.TokenInfo) bool {
	switch {
	case i.Project != nil:
		t.Project = &placed{ID: i.Project.ID, Name: i.Project.Name, Domain: idName{i.Domain.ID, i.Domain.Name}}
		t.IsDomain = &i.Project.IsDomain
	case i.Domain != nil:
		t.Domain = &idName{i.Domain.ID, i.Domain.Name}
	case i.System != "":
		t.System = map[string]bool{"all": true}
	default:
		return false
	}
	return true
}

func (h *handlers) tokenView(r *rest.Request, i *identity.TokenInfo, catalog bool) (any, error) {
	t := &tokenBody{Methods: i.Methods, AuditIDs: i.AuditIDs, ExpiresAt: rest.Micros(i.ExpiresAt), IssuedAt: rest.Micros(i.IssuedAt)}
	t.User.placed = placed{ID: i.User.ID, Name: i.User.Name, Domain: idName{i.UserDomain.ID, i.UserDomain.Name}}
	if t.User.Federation = federationOf(i); t.User.Federation == nil {
		expires := naive(i.User.PasswordExpires)
		t.User.PasswordExpires = &expires
	}
	for _, role := range i.Roles {
		t.Roles = append(t.Roles, idName{role.ID, role.Name})
	}
	scoped := t.scope(i)
	if i.AppCred != nil {
		t.AppCred = &tokenAppCred{i.AppCred.ID, i.AppCred.Name, !i.AppCred.Unrestricted, i.AppCred.AccessRules}
	}
	if i.Trust != nil {
		t.Trust = &tokenTrust{ID: i.Trust.ID, Impersonation: i.Trust.Impersonation}
		t.Trust.Trustor.ID, t.Trust.Trustee.ID = i.Trust.TrustorUserID, i.Trust.TrusteeUserID
	}
	t.OAuth = oauthOf(i)
	var err error
	if t.SPs, err = h.tokenSPs(r.Context()); err != nil {
		return nil, err
	}
	if catalog && scoped {
		c, err := h.svc.Catalog.For(r.Context(), i.User.ID, i.ProjectID)
		if err != nil {
			return nil, err
		}
		t.Catalog = &c
	}
	return struct {
		Token *tokenBody `json:"token"`
	}{t}, nil
}
