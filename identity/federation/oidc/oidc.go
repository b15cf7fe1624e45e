// Package oidc believes what an OpenID Connect provider says of users: bearer
// tokens that programs show, and logins in a browser by the authorization code.
//
//	p, err := oidc.New(oidc.Config{Issuer: "https://idp.example.com", ClientID: "keystone", ClientSecret: secret})
//	at := api.FederatedProtocol{IdP: "example", Protocol: "openid"}
//	api.FederationConfig{Verifiers: {at: p}, Logins: {at: p}}
//
// The provider's keys and addresses are discovered at the first use, so that a
// cloud starts while it is away. A token must be signed by the issuer, not have
// ended, and be meant for us: its audience has ClientID or one of Audiences. A
// bearer token that is no JWT is asked about at the provider's introspection
// endpoint, when it has one and there is a secret.
//
// A claim c is the attribute OIDC-c and HTTP_OIDC_C, as mod_auth_openidc passes it
// to Keystone; so mappings written for that work as they are. Lists keep their
// values apart; objects are JSON.
package oidc

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	gooidc "github.com/coreos/go-oidc/v3/oidc"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/federation"
)

// Config is what a Provider is made of. Issuer and ClientID must be set.
type Config struct {
	// Issuer is the provider's URL, below which its discovery document is.
	Issuer string
	// ClientID and ClientSecret are ours at the provider. Logins in a browser and
	// introspection need the secret, unless the provider knows us as public.
	ClientID, ClientSecret string
	// Audiences are accepted in bearer tokens besides ClientID.
	Audiences []string
	// Scopes are asked for at a login; nil is openid, email and profile.
	Scopes []string
	// Client reaches the provider; nil is one with a timeout of ten seconds.
	Client *http.Client
}

// Provider is one OpenID Connect provider. It is safe for concurrent use.
type Provider struct {
	cfg Config
	// found holds what was discovered; a channel, since asking is a wait.
	found chan *discovered
}

type discovered struct {
	verifier *gooidc.IDTokenVerifier
	Auth     string `json:"authorization_endpoint"`
	Token    string `json:"token_endpoint"`
	Inspect  string `json:"introspection_endpoint"`
}

var (
	_ federation.Verifier = (*Provider)(nil)
	_ federation.Login    = (*Provider)(nil)
)

// New makes a Provider. It asks nobody yet.
func New(cfg Config) (*Provider, error) {
	if cfg.Issuer == "" || cfg.ClientID == "" {
		return nil, errors.New("oidc: Config.Issuer and Config.ClientID are needed")
	}
	if cfg.Scopes == nil {
		cfg.Scopes = []string{"openid", "email", "profile"}
	}
	if cfg.Client == nil {
		cfg.Client = &http.Client{Timeout: 10 * time.Second}
	}
	p := &Provider{cfg: cfg, found: make(chan *discovered, 1)}
	p.found <- nil
	return p, nil
}

// discover finds the provider's keys and addresses, once.
func (p *Provider) discover(ctx context.Context) (*discovered, error) {
	select {
	case d := <-p.found:
		defer func() { p.found <- d }()
		if d != nil {
			return d, nil
		}
		// The key set outlives this request.
		prov, err := gooidc.NewProvider(gooidc.ClientContext(context.WithoutCancel(ctx), p.cfg.Client), p.cfg.Issuer)
		if err != nil {
			return nil, &nacre.Error{Kind: nacre.Unavailable, Code: "ServiceUnavailable", Message: "The identity provider does not answer.", Err: err}
		}
		n := &discovered{verifier: prov.VerifierContext(gooidc.ClientContext(context.WithoutCancel(ctx), p.cfg.Client), &gooidc.Config{SkipClientIDCheck: true})}
		if err := prov.Claims(n); err != nil {
			return nil, err
		}
		d = n
		return n, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func refused(err error) error {
	return &nacre.Error{Kind: nacre.Unauthenticated, Code: "Unauthorized", Message: "The request you have made requires authentication.", Err: err}
}

// VerifyBearer implements federation.Verifier.
func (p *Provider) VerifyBearer(ctx context.Context, token string) (federation.Assertion, error) {
	d, err := p.discover(ctx)
	if err != nil {
		return nil, err
	}
	if strings.Count(token, ".") != 2 {
		return p.introspect(ctx, d, token)
	}
	claims, err := p.verify(ctx, d, token, append([]string{p.cfg.ClientID}, p.cfg.Audiences...))
	if err != nil {
		return nil, err
	}
	return p.assertion(claims), nil
}

func (p *Provider) verify(ctx context.Context, d *discovered, token string, audiences []string) (map[string]any, error) {
	t, err := d.verifier.Verify(ctx, token)
	if err != nil {
		return nil, refused(err)
	}
	if !slices.ContainsFunc(t.Audience, func(a string) bool { return slices.Contains(audiences, a) }) {
		return nil, refused(fmt.Errorf("the token is for %v", t.Audience))
	}
	var claims map[string]any
	if err := t.Claims(&claims); err != nil {
		return nil, refused(err)
	}
	return claims, nil
}

// introspect asks the provider about a token that only it can read (RFC 7662).
func (p *Provider) introspect(ctx context.Context, d *discovered, token string) (federation.Assertion, error) {
	if d.Inspect == "" || p.cfg.ClientSecret == "" {
		return nil, refused(errors.New("the token is no JWT, and there is nobody to ask about it"))
	}
	claims, err := p.post(ctx, d.Inspect, url.Values{"token": {token}, "token_type_hint": {"access_token"}})
	if err != nil {
		return nil, err
	}
	if active, _ := claims["active"].(bool); !active {
		return nil, refused(errors.New("the provider says that the token is not active"))
	}
	if iss, ok := claims["iss"]; ok && iss != p.cfg.Issuer {
		return nil, refused(fmt.Errorf("the token is %v's", iss))
	}
	if exp, ok := claims["exp"].(float64); ok && time.Now().After(time.Unix(int64(exp), 0)) {
		return nil, refused(errors.New("the token has ended"))
	}
	ours := append([]string{p.cfg.ClientID}, p.cfg.Audiences...)
	to := values(claims["aud"])
	if len(to) == 0 {
		to = values(claims["client_id"])
	}
	if !slices.ContainsFunc(to, func(a string) bool { return slices.Contains(ours, a) }) {
		return nil, refused(fmt.Errorf("the token is for %v", to))
	}
	return p.assertion(claims), nil
}

// post sends a form as our client and reads JSON.
func (p *Provider) post(ctx context.Context, to string, form url.Values) (map[string]any, error) {
	if p.cfg.ClientSecret == "" {
		form.Set("client_id", p.cfg.ClientID)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	if p.cfg.ClientSecret != "" {
		req.SetBasicAuth(url.QueryEscape(p.cfg.ClientID), url.QueryEscape(p.cfg.ClientSecret))
	}
	resp, err := p.cfg.Client.Do(req)
	if err != nil {
		return nil, &nacre.Error{Kind: nacre.Unavailable, Code: "ServiceUnavailable", Message: "The identity provider does not answer.", Err: err}
	}
	defer resp.Body.Close() //nolint:errcheck // read to its end
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, refused(fmt.Errorf("the provider answers %s", resp.Status))
	}
	var out map[string]any
	if err := json.Unmarshal(body, &out); err != nil {
		return nil, refused(err)
	}
	return out, nil
}

// session is what is kept of a login while the browser is away.
type session struct{ State, Nonce, Verifier string }

// Begin implements federation.Login: the code flow with PKCE.
func (p *Provider) Begin(ctx context.Context, callback string) (string, []byte, error) {
	d, err := p.discover(ctx)
	if err != nil {
		return "", nil, err
	}
	s := session{State: rand.Text(), Nonce: rand.Text(), Verifier: rand.Text() + rand.Text()}
	to, err := url.Parse(d.Auth)
	if err != nil {
		return "", nil, err
	}
	sum := sha256.Sum256([]byte(s.Verifier))
	q := to.Query()
	for k, v := range map[string]string{
		"response_type": "code", "client_id": p.cfg.ClientID, "redirect_uri": callback, "scope": strings.Join(p.cfg.Scopes, " "),
		"state": s.State, "nonce": s.Nonce, "code_challenge": base64.RawURLEncoding.EncodeToString(sum[:]), "code_challenge_method": "S256",
	} {
		q.Set(k, v)
	}
	to.RawQuery = q.Encode()
	kept, err := json.Marshal(s)
	return to.String(), kept, err
}

// Complete implements federation.Login.
func (p *Provider) Complete(ctx context.Context, callback string, kept []byte, form url.Values) (federation.Proof, error) {
	var s session
	if err := json.Unmarshal(kept, &s); err != nil || s.State == "" {
		return federation.Proof{}, refused(errors.New("the login was not begun here"))
	}
	if subtle.ConstantTimeCompare([]byte(form.Get("state")), []byte(s.State)) != 1 {
		return federation.Proof{}, refused(errors.New("the state is another login's"))
	}
	if e := form.Get("error"); e != "" {
		return federation.Proof{}, refused(fmt.Errorf("the provider says %s: %s", e, form.Get("error_description")))
	}
	d, err := p.discover(ctx)
	if err != nil {
		return federation.Proof{}, err
	}
	answer, err := p.post(ctx, d.Token, url.Values{"grant_type": {"authorization_code"}, "code": {form.Get("code")},
		"redirect_uri": {callback}, "code_verifier": {s.Verifier}})
	if err != nil {
		return federation.Proof{}, err
	}
	text, _ := answer["id_token"].(string)
	claims, err := p.verify(ctx, d, text, []string{p.cfg.ClientID})
	if err != nil {
		return federation.Proof{}, err
	}
	if nonce, _ := claims["nonce"].(string); subtle.ConstantTimeCompare([]byte(nonce), []byte(s.Nonce)) != 1 {
		return federation.Proof{}, refused(errors.New("the nonce is another login's"))
	}
	// The state is good for one login, however often the browser comes back with it.
	return federation.Proof{Assertion: p.assertion(claims), ID: s.State, Until: time.Now().Add(time.Hour)}, nil
}

// assertion names claims as mod_auth_openidc does.
func (p *Provider) assertion(claims map[string]any) federation.Assertion {
	a := federation.Assertion{}
	names := make([]string, 0, len(claims))
	for name := range claims {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		v := values(claims[name])
		if v == nil {
			continue
		}
		a["OIDC-"+name] = v
		a[cgi(name)] = v
	}
	a["OIDC-iss"], a["HTTP_OIDC_ISS"] = []string{p.cfg.Issuer}, []string{p.cfg.Issuer}
	return a
}

func cgi(name string) string {
	return "HTTP_OIDC_" + strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, name)
}

// values are a claim's; nil when there are none.
func values(x any) []string {
	switch v := x.(type) {
	case nil:
		return nil
	case string:
		return []string{v}
	case []any:
		out := []string{}
		for _, e := range v {
			out = append(out, values(e)...)
		}
		return out
	}
	b, err := json.Marshal(x)
	if err != nil {
		return nil
	}
	return []string{string(b)}
}
