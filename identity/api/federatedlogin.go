package api

import (
	"bytes"
	"context"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"html/template"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity"
	"github.com/nacre-cloud/nacre/identity/federation"
	"github.com/nacre-cloud/nacre/identity/fernet"
	"github.com/nacre-cloud/nacre/internal/rest"
)

// FederatedProtocol names an identity provider's protocol by their ids.
type FederatedProtocol struct{ IdP, Protocol string }

// FederationConfig says how assertions arrive. The zero value takes none.
type FederationConfig struct {
	// Verifiers check bearer tokens shown at a protocol's auth URL.
	Verifiers map[FederatedProtocol]federation.Verifier
	// Logins lead browsers through an identity provider's login, and take what it
	// posts.
	Logins map[FederatedProtocol]federation.Login
	// Proxy is a web server in front that authenticates users itself.
	Proxy *FrontProxy
	// TrustedDashboards are the URLs that a login in a browser may hand its token to.
	TrustedDashboards []string
	// Issuer vouches for our users at other clouds; nil is NotImplemented.
	Issuer Issuer
	// Keys seal what a browser keeps for us for some minutes. Processes behind one
	// address share them; nil makes some that end with the process.
	Keys *fernet.Keys
}

// FrontProxy is a web server that authenticates users (mod_auth_openidc,
// mod_auth_mellon) and tells of them in headers. Only what comes from its address
// with its secret is believed; the secret keeps others on that machine out.
type FrontProxy struct {
	// Addresses are where the proxy connects from.
	Addresses []netip.Prefix
	// SecretHeader carries Secret. Neither may be empty.
	SecretHeader, Secret string
	// Prefix is Keystone's assertion_prefix: only attributes whose name begins so
	// count ("HTTP_OIDC"). Empty is all headers but those of HTTP itself.
	Prefix string
}

// Issuer makes signed assertions for service providers.
type Issuer interface {
	// Assert makes a SAML response for a recipient; with ecp it is in the envelope
	// of SAML's enhanced client profile, with that relay state.
	Assert(ctx context.Context, who identity.Subject, recipient string, ecp bool, relayState string) ([]byte, error)
	// Metadata describes the issuer to service providers.
	Metadata(ctx context.Context) ([]byte, error)
}

func (h *handlers) federation() *federation.Service {
	if h.svc == nil {
		return nil
	}
	return h.svc.Federation
}

func (h *handlers) federatedLoginRoutes() []rest.Route {
	auth := protocolPath + "/{protocol}/auth"
	sso := "/v3/auth/OS-FEDERATION/identity_providers/{id}/protocols/{protocol}/websso"
	any := "/v3/auth/OS-FEDERATION/websso/{protocol}"
	public := func(method, path string, f func(*rest.Request) error) rest.Route {
		return rest.Route{Method: method, Path: path, Public: true, Statements: 60, Op: rest.Raw(f)}
	}
	return []rest.Route{
		public("GET", auth, h.federatedAuth), public("POST", auth, h.federatedAuth),
		public("GET", sso, h.websso), public("POST", sso, h.websso),
		public("GET", any, h.webssoAny), public("POST", any, h.webssoAny),
		public("POST", "/v3/auth/OS-FEDERATION/saml2", func(r *rest.Request) error { return h.assertFor(r, false) }),
		public("POST", "/v3/auth/OS-FEDERATION/saml2/ecp", func(r *rest.Request) error { return h.assertFor(r, true) }),
		public("GET", "/v3/OS-FEDERATION/saml2/metadata", h.samlMetadata),
		{Method: "GET", Path: "/v3/OS-FEDERATION/projects", Policy: id("get_auth_projects"), Statements: 9, Op: rest.Do(h.authProjects)},
		{Method: "GET", Path: "/v3/OS-FEDERATION/domains", Policy: id("get_auth_domains"), Statements: 9, Op: rest.Do(h.authDomains)},
	}
}

func (h *handlers) authProjects(r *rest.Request) (any, error) {
	q, err := query(r)
	if err != nil {
		return nil, err
	}
	ps, err := h.svc.AuthProjects(r.Context(), q)
	return collection(r, "projects", q, ps, projectView, projectID), err
}

func (h *handlers) authDomains(r *rest.Request) (any, error) {
	q, err := query(r)
	if err != nil {
		return nil, err
	}
	ds, err := h.svc.AuthDomains(r.Context(), q)
	return collection(r, "domains", q, ds, domainView, projectID), err
}

func unauthorized(message string) error {
	return &nacre.Error{Kind: nacre.Unauthenticated, Code: "Unauthorized", Message: message}
}

var errNoAssertion = &nacre.Error{Kind: nacre.Unauthenticated, Code: "Unauthorized", Message: "The request you have made requires authentication."}

// federatedAuth makes an unscoped token from whatever proof the request carries.
func (h *handlers) federatedAuth(r *rest.Request) error {
	at := FederatedProtocol{r.Var("id"), r.Var("protocol")}
	if r.Method == http.MethodPost && strings.HasPrefix(r.Header.Get("Content-Type"), "application/vnd.paos+xml") {
		return h.paos(r, at)
	}
	proof, err := h.proof(r, at)
	if err != nil {
		return err
	}
	return h.federatedToken(r, at, proof)
}

func (h *handlers) federatedToken(r *rest.Request, at FederatedProtocol, proof federation.Proof) error {
	text, info, err := h.svc.AuthenticateFederated(r.Context(), at.IdP, at.Protocol, proof)
	if err != nil {
		return err
	}
	view, err := h.tokenView(r, info, true)
	if err != nil {
		return err
	}
	body, err := rest.JSON(view, 0)
	if err != nil {
		return err
	}
	hd := r.W.Header()
	hd["X-Subject-Token"], hd["Vary"], hd["Content-Type"] = []string{text}, vary, jsonType
	r.W.WriteHeader(http.StatusCreated)
	_, err = r.W.Write(body)
	return err
}

// proof finds what a request proves, without asking the browser anything.
func (h *handlers) proof(r *rest.Request, at FederatedProtocol) (federation.Proof, error) {
	if scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "Bearer") {
		if v := h.fed.Verifiers[at]; v != nil {
			a, err := v.VerifyBearer(r.Context(), strings.TrimSpace(token))
			return federation.Proof{Assertion: a}, err
		}
	}
	if l := h.fed.Logins[at]; l != nil && r.Method == http.MethodPost {
		form, err := postForm(r)
		if err != nil {
			return federation.Proof{}, err
		}
		if form.Has("SAMLResponse") {
			return l.Complete(r.Context(), r.Base()+r.URL.EscapedPath(), nil, form)
		}
	}
	if kept, ok := h.kept(r); ok && kept.Proof != nil && kept.At == at {
		return *kept.Proof, nil
	}
	if a := h.fed.Proxy.assertion(r.Request); a != nil {
		return federation.Proof{Assertion: a}, nil
	}
	return federation.Proof{}, errNoAssertion
}

func postForm(r *rest.Request) (url.Values, error) {
	r.Body = http.MaxBytesReader(r.W, r.Body, 1<<20)
	if err := r.ParseForm(); err != nil {
		return nil, nacre.Errorf(nacre.Invalid, "ValidationError", "The form can't be read.")
	}
	return r.PostForm, nil
}

// hopByHop are headers that say nothing of a user.
var hopByHop = []string{"Cookie", "Authorization", "X-Auth-Token", "X-Subject-Token", "X-Service-Token", "Host", "Connection", "Content-Length", "Content-Type"}

// assertion is what a front proxy says, or nil unless it is one. Attributes have
// the names that a web server gives headers in CGI: HTTP_OIDC_SUB.
func (p *FrontProxy) assertion(r *http.Request) federation.Assertion {
	if p == nil || p.Secret == "" || p.SecretHeader == "" {
		return nil
	}
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !slices.ContainsFunc(p.Addresses, func(a netip.Prefix) bool { return a.Contains(from.Addr().Unmap()) }) {
		return nil
	}
	secret := r.Header.Values(p.SecretHeader)
	if len(secret) != 1 || subtle.ConstantTimeCompare([]byte(secret[0]), []byte(p.Secret)) != 1 {
		return nil
	}
	attributes := map[string]string{}
	for name, v := range r.Header {
		// A header given twice, or with an underscore that looks like a dash's
		// place, may be a client's own beside the proxy's.
		if len(v) != 1 || strings.Contains(name, "_") || strings.EqualFold(name, p.SecretHeader) || slices.Contains(hopByHop, name) {
			continue
		}
		cgi := "HTTP_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
		if name == "Remote-User" {
			cgi = "REMOTE_USER"
		}
		if strings.HasPrefix(cgi, p.Prefix) || cgi == "REMOTE_USER" {
			attributes[cgi] = v[0]
		}
	}
	return federation.Split(attributes)
}

// keptName is the cookie that carries a login or an assertion from one request to
// the next.
const (
	keptName = "nacre-federation"
	keptFor  = 10 * time.Minute
)

// kept is what the cookie holds, sealed.
type kept struct {
	At       FederatedProtocol
	Until    time.Time
	Origin   string            `json:",omitempty"`
	Callback string            `json:",omitempty"`
	Session  []byte            `json:",omitempty"`
	Proof    *federation.Proof `json:",omitempty"`
}

func (h *handlers) keep(r *rest.Request, k kept) error {
	k.Until = time.Now().Add(keptFor)
	b, err := json.Marshal(k)
	if err != nil {
		return err
	}
	text, err := h.fed.Keys.Encrypt(b)
	if err != nil {
		return err
	}
	// A SAML response is posted from another site: then Lax would keep the cookie back.
	same := http.SameSiteLaxMode
	secure := strings.HasPrefix(r.Base(), "https:")
	if secure {
		same = http.SameSiteNoneMode
	}
	http.SetCookie(r.W, &http.Cookie{Name: keptName, Value: text, Path: "/", HttpOnly: true, Secure: secure, SameSite: same, MaxAge: int(keptFor.Seconds())})
	return nil
}

func (h *handlers) kept(r *rest.Request) (kept, bool) {
	var k kept
	c, err := r.Cookie(keptName)
	if err != nil {
		return k, false
	}
	b, err := h.fed.Keys.Decrypt(c.Value)
	if err != nil || json.Unmarshal(b, &k) != nil || time.Now().After(k.Until) {
		return k, false
	}
	return k, true
}

// paos takes an assertion in SAML's enhanced client profile, as another Keystone's
// user shows it, and keeps it for the request for a token that follows.
func (h *handlers) paos(r *rest.Request, at FederatedProtocol) error {
	l := h.fed.Logins[at]
	if l == nil {
		return errNoAssertion
	}
	var body bytes.Buffer
	if _, err := body.ReadFrom(http.MaxBytesReader(r.W, r.Body, 1<<20)); err != nil {
		return nacre.Errorf(nacre.Invalid, "ValidationError", "The envelope can't be read.")
	}
	here := r.Base() + r.URL.EscapedPath()
	form := url.Values{"SAMLResponse": {base64.StdEncoding.EncodeToString(body.Bytes())}}
	proof, err := l.Complete(r.Context(), here, nil, form)
	if err != nil {
		return err
	}
	if err := h.keep(r, kept{At: at, Proof: &proof}); err != nil {
		return err
	}
	r.W.Header().Set("Location", here)
	r.W.WriteHeader(http.StatusSeeOther)
	return nil
}

// origin is the dashboard that a browser's login is for.
func (h *handlers) origin(r *rest.Request) (string, error) {
	origin := r.URL.Query().Get("origin")
	if origin == "" {
		return "", nacre.Errorf(nacre.Invalid, "ValidationError", "Request must have an origin query parameter")
	}
	if plain, err := url.QueryUnescape(origin); err == nil {
		origin = plain
	}
	if !slices.ContainsFunc(h.fed.TrustedDashboards, func(t string) bool { return lowerHost(t) == origin }) {
		return "", unauthorized(origin + " is not a trusted dashboard host")
	}
	return origin, nil
}

func lowerHost(s string) string {
	u, err := url.Parse(s)
	if err != nil {
		return s
	}
	u.Host = strings.ToLower(u.Host)
	return u.String()
}

// webssoAny is websso where the identity provider is not named: the front proxy
// says which, else there is but one whose login is known.
func (h *handlers) webssoAny(r *rest.Request) error {
	protocol := r.Var("protocol")
	if k, ok := h.kept(r); ok && k.Callback == r.Base()+r.URL.EscapedPath() && k.At.Protocol == protocol {
		return h.webssoAt(r, k.At)
	}
	if a := h.fed.Proxy.assertion(r.Request); a != nil {
		attrs, err := h.svc.Federation.RemoteAttributes(r.Context(), protocol, h.svc.RemoteIDAttribute())
		if err != nil {
			return err
		}
		for _, attr := range attrs {
			if remote := a.Get(attr); remote != "" {
				idp, err := h.svc.Federation.ByRemoteID(r.Context(), remote)
				if err != nil {
					return err
				}
				return h.webssoAt(r, FederatedProtocol{idp, protocol})
			}
		}
	}
	var only []FederatedProtocol
	for at := range h.fed.Logins {
		if at.Protocol == protocol {
			only = append(only, at)
		}
	}
	if len(only) != 1 {
		return unauthorized("Missing entity ID from environment")
	}
	return h.webssoAt(r, only[0])
}

func (h *handlers) websso(r *rest.Request) error {
	return h.webssoAt(r, FederatedProtocol{r.Var("id"), r.Var("protocol")})
}

// webssoAt logs a browser in: it sends it to the identity provider, takes what it
// brings back, and hands the token to the dashboard that began.
func (h *handlers) webssoAt(r *rest.Request, at FederatedProtocol) error {
	callback := r.Base() + r.URL.EscapedPath()
	form := r.URL.Query()
	if r.Method == http.MethodPost {
		posted, err := postForm(r)
		if err != nil {
			return err
		}
		form = posted
	}
	l := h.fed.Logins[at]
	if k, ok := h.kept(r); ok && l != nil && k.At == at && k.Callback == callback && (form.Has("state") || form.Has("SAMLResponse")) {
		proof, err := l.Complete(r.Context(), callback, k.Session, form)
		if err != nil {
			return err
		}
		return h.handOver(r, at, proof, k.Origin)
	}
	origin, err := h.origin(r)
	if err != nil {
		return err
	}
	if a := h.fed.Proxy.assertion(r.Request); a != nil {
		return h.handOver(r, at, federation.Proof{Assertion: a}, origin)
	}
	if l == nil {
		return errNoAssertion
	}
	location, session, err := l.Begin(r.Context(), callback)
	if err != nil {
		return err
	}
	if err := h.keep(r, kept{At: at, Origin: origin, Callback: callback, Session: session}); err != nil {
		return err
	}
	r.W.Header().Set("Location", location)
	r.W.WriteHeader(http.StatusFound)
	return nil
}

// handOver is the page whose form posts itself to the dashboard.
var handOver = template.Must(template.New("sso").Parse(`<!DOCTYPE html>
<html lang="en">
<head><title>Keystone WebSSO redirect</title></head>
<body>
<form id="sso" name="sso" action="{{.Host}}" method="post">
Please wait...<br>
<input type="hidden" name="token" id="token" value="{{.Token}}">
<noscript><input type="submit" name="submit_no_javascript" id="submit_no_javascript" value="If your JavaScript is disabled, please click to continue"></noscript>
</form>
<script>window.onload = function() { document.forms['sso'].submit(); };</script>
</body>
</html>
`))

func (h *handlers) handOver(r *rest.Request, at FederatedProtocol, proof federation.Proof, origin string) error {
	text, _, err := h.svc.AuthenticateFederated(r.Context(), at.IdP, at.Protocol, proof)
	if err != nil {
		return err
	}
	var page bytes.Buffer
	if err := handOver.Execute(&page, struct{ Host, Token string }{origin, text}); err != nil {
		return err
	}
	http.SetCookie(r.W, &http.Cookie{Name: keptName, Path: "/", MaxAge: -1})
	r.W.Header().Set("Content-Type", "text/html; charset=utf-8")
	r.W.Header().Set("Cache-Control", "no-store")
	r.W.WriteHeader(http.StatusOK)
	_, err = r.W.Write(page.Bytes())
	return err
}

type samlEnvelope struct {
	Auth struct {
		Identity struct {
			Methods []string `json:"methods"`
			Token   struct {
				ID string `json:"id" valid:"required"`
			} `json:"token" valid:"required"`
		} `json:"identity" valid:"required"`
		Scope struct {
			SP struct {
				ID string `json:"id" valid:"required"`
			} `json:"service_provider" valid:"required"`
		} `json:"scope" valid:"required"`
	} `json:"auth" valid:"required"`
}

// assertFor exchanges a project's token for an assertion at a service provider.
func (h *handlers) assertFor(r *rest.Request, ecp bool) error {
	var raw bytes.Buffer
	if _, err := raw.ReadFrom(http.MaxBytesReader(r.W, r.Body, 112<<10)); err != nil {
		return nacre.Errorf(nacre.TooLarge, "RequestTooLarge", "Request is too large.")
	}
	var b samlEnvelope
	if err := rest.DecodeInto(r, raw.Bytes(), nil, &b); err != nil {
		return err
	}
	who, sp, err := h.svc.SubjectFor(r.Context(), b.Auth.Identity.Token.ID, b.Auth.Scope.SP.ID)
	if err != nil {
		return err
	}
	if h.fed.Issuer == nil {
		return nacre.Errorf(nacre.NotImplemented, "NotImplemented", "This cloud has no key to sign assertions with.")
	}
	body, err := h.fed.Issuer.Assert(r.Context(), who, sp.SPURL, ecp, sp.RelayStatePrefix)
	if err != nil {
		return err
	}
	hd := r.W.Header()
	hd.Set("Content-Type", "text/xml")
	hd.Set("X-sp-url", sp.SPURL)
	hd.Set("X-auth-url", sp.AuthURL)
	r.W.WriteHeader(http.StatusOK)
	_, err = r.W.Write(body)
	return err
}

func (h *handlers) samlMetadata(r *rest.Request) error {
	if h.fed.Issuer == nil {
		return nacre.Errorf(nacre.NotImplemented, "NotImplemented", "This cloud has no key to sign assertions with.")
	}
	body, err := h.fed.Issuer.Metadata(r.Context())
	if err != nil {
		return err
	}
	r.W.Header().Set("Content-Type", "text/xml")
	r.W.WriteHeader(http.StatusOK)
	_, err = r.W.Write(body)
	return err
}

// tokenFederation is what a token says of who vouched for its user.
type tokenFederation struct {
	Groups   []idOnly `json:"groups"`
	IdP      idOnly   `json:"identity_provider"`
	Protocol idOnly   `json:"protocol"`
}

type idOnly struct {
	ID string `json:"id"`
}

func federationOf(i *identity.TokenInfo) *tokenFederation {
	if i.IdPID == "" {
		return nil
	}
	f := &tokenFederation{Groups: []idOnly{}, IdP: idOnly{i.IdPID}, Protocol: idOnly{i.ProtocolID}}
	for _, g := range i.GroupIDs {
		f.Groups = append(f.Groups, idOnly{g})
	}
	return f
}

// tokenSP is a service provider as a token names it.
type tokenSP struct {
	AuthURL string `json:"auth_url"`
	ID      string `json:"id"`
	SPURL   string `json:"sp_url"`
}

func (h *handlers) tokenSPs(ctx context.Context) ([]tokenSP, error) {
	ps, err := h.svc.ServiceProviders(ctx)
	var out []tokenSP
	for _, p := range ps {
		out = append(out, tokenSP{p.AuthURL, p.ID, p.SPURL})
	}
	return out, err
}
