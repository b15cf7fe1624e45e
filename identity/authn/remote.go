package authn

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/nacre-cloud/nacre"
)

// RemoteConfig says which identity service a Remote asks, and as whom.
type RemoteConfig struct {
	// URL is the identity service's v3 root: "https://cloud/identity/v3".
	URL string
	// Client is for proxies and certificates; nil is one with a deadline of 30 s.
	Client *http.Client

	// Username and Password are a service's own, in UserDomain (a name; empty is
	// Default), for a token on Project in ProjectDomain. The user needs the role
	// service, or admin.
	Username, Password, UserDomain string
	Project, ProjectDomain         string
	// AppCredID and AppCredSecret are an application credential in their stead.
	AppCredID, AppCredSecret string
}

// Remote validates tokens at an identity service over HTTP. It is safe for
// concurrent use and remembers nothing but its own token: give Options.CacheFor.
type Remote struct {
	cfg  RemoteConfig
	body []byte

	mu    sync.Mutex
	token string
	until time.Time
}

// Details are what an identity service says of a token.
type Details struct {
	nacre.Caller
	// AccessRules are the only requests that it may make; none is any.
	AccessRules []nacre.AccessRule
	// Catalog is the token's, as it came.
	Catalog json.RawMessage
}

const remoteDeadline = 30 * time.Second

// maxAnswer bounds an answer; catalogs are the bulk of it.
const maxAnswer = 16 << 20

// NewRemote makes a Remote. It asks nothing yet.
func NewRemote(cfg RemoteConfig) (*Remote, error) {
	if cfg.URL == "" {
		return nil, errors.New("authn: RemoteConfig.URL is missing")
	}
	cfg.URL = strings.TrimSuffix(cfg.URL, "/")
	if cfg.Client == nil {
		cfg.Client = &http.Client{Timeout: remoteDeadline}
	}
	type m = map[string]any
	domain := func(name string) m {
		if name == "" {
			name = "Default"
		}
		return m{"name": name}
	}
	auth := m{}
	switch {
	case cfg.AppCredID != "":
		auth["identity"] = m{"methods": []string{"application_credential"}, "application_credential": m{"id": cfg.AppCredID, "secret": cfg.AppCredSecret}}
	case cfg.Username != "":
		auth["identity"] = m{"methods": []string{"password"}, "password": m{"user": m{"name": cfg.Username, "password": cfg.Password, "domain": domain(cfg.UserDomain)}}}
		auth["scope"] = m{"project": m{"name": cfg.Project, "domain": domain(cfg.ProjectDomain)}}
	default:
		return nil, errors.New("authn: RemoteConfig has neither Username nor AppCredID")
	}
	body, err := json.Marshal(m{"auth": auth})
	return &Remote{cfg: cfg, body: body}, err
}

var _ nacre.TokenInspector = (*Remote)(nil)

// ValidateToken asks who a token stands for.
func (r *Remote) ValidateToken(ctx context.Context, token string) (*nacre.Caller, error) {
	d, err := r.ask(ctx, token, "?nocatalog", false)
	if err != nil {
		return nil, err
	}
	return &d.Caller, nil
}

// InspectToken asks of a token that may be limited by access rules or have ended.
func (r *Remote) InspectToken(ctx context.Context, token string, expired bool) (*nacre.Caller, []nacre.AccessRule, error) {
	query := "?nocatalog"
	if expired {
		query += "&allow_expired=1"
	}
	d, err := r.ask(ctx, token, query, true)
	if err != nil {
		return nil, nil, err
	}
	return &d.Caller, d.AccessRules, nil
}

// Details asks for the catalog too.
func (r *Remote) Details(ctx context.Context, token string) (*Details, error) {
	return r.ask(ctx, token, "", true)
}

func unauthenticated(why error) error {
	return &nacre.Error{Kind: nacre.Unauthenticated, Code: "Unauthorized", Message: "The request you have made requires authentication.", Err: why}
}

// down is that the identity service can't be asked just now.
func down(err error) error {
	return &nacre.Error{Kind: nacre.Unavailable, Code: "identity", Message: "The Keystone service is temporarily unavailable.", Err: err}
}

// ask asks of a token. One that is limited by access rules is Unauthenticated for
// who does not enforce them.
func (r *Remote) ask(ctx context.Context, token, query string, enforces bool) (*Details, error) {
	for try := range 2 {
		own, err := r.own(ctx, try > 0)
		if err != nil {
			return nil, err
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.cfg.URL+"/auth/tokens"+query, nil)
		if err != nil {
			return nil, down(err)
		}
		req.Header.Set("X-Auth-Token", own)
		req.Header.Set("X-Subject-Token", token)
		if enforces {
			req.Header.Set("OpenStack-Identity-Access-Rules", "1.0")
		}
		status, _, body, err := r.do(req)
		switch {
		case err != nil:
			return nil, down(err)
		case status == http.StatusOK:
			d, err := read(body, token)
			if err == nil && len(d.AccessRules) > 0 && !enforces {
				return nil, unauthenticated(errors.New("the token is limited by access rules, which are not enforced here"))
			}
			return d, err
		case status == http.StatusNotFound:
			return nil, unauthenticated(nil)
		case status == http.StatusUnauthorized && try == 0:
			// Our own token was revoked: once more with a new one.
		default:
			return nil, down(fmt.Errorf("the identity service answers %d to a validation", status))
		}
	}
	return nil, down(errors.New("the identity service refuses our own token"))
}

func (r *Remote) do(req *http.Request) (int, http.Header, []byte, error) {
	resp, err := r.cfg.Client.Do(req)
	if err != nil {
		return 0, nil, nil, err
	}
	defer resp.Body.Close() //nolint:errcheck // it was read
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	return resp.StatusCode, resp.Header, body, err
}

// own is our own token, renewed in time or when it is known to be bad.
func (r *Remote) own(ctx context.Context, again bool) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !again && r.token != "" && time.Until(r.until) > time.Minute {
		return r.token, nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.cfg.URL+"/auth/tokens?nocatalog", bytes.NewReader(r.body))
	if err != nil {
		return "", down(err)
	}
	req.Header.Set("Content-Type", "application/json")
	status, header, body, err := r.do(req)
	if err == nil && status != http.StatusCreated {
		err = fmt.Errorf("the identity service answers %d to our own log-in", status)
	}
	if err != nil {
		return "", down(err)
	}
	d, err := read(body, "")
	if err != nil {
		return "", err
	}
	r.token, r.until = header.Get("X-Subject-Token"), d.ExpiresAt
	return r.token, nil
}

type idName struct{ ID, Name string }

type placed struct {
	idName
	Domain idName
}

// read understands the body of a token.
func read(body []byte, token string) (*Details, error) {
	var b struct {
		Token struct {
			User        placed
			Project     *placed
			Domain      *idName
			System      map[string]bool
			Roles       []idName
			Methods     []string
			AuditIDs    []string        `json:"audit_ids"`
			ExpiresAt   time.Time       `json:"expires_at"`
			AdminProj   *bool           `json:"is_admin_project"`
			Catalog     json.RawMessage `json:"catalog"`
			Application *struct {
				AccessRules []nacre.AccessRule `json:"access_rules"`
			} `json:"application_credential"`
		}
	}
	if err := json.Unmarshal(body, &b); err != nil {
		return nil, down(err)
	}
	t := &b.Token
	if t.User.ID == "" || t.ExpiresAt.IsZero() {
		return nil, down(errors.New("the identity service's answer is no token"))
	}
	d := &Details{Catalog: t.Catalog, Caller: nacre.Caller{
		UserID: t.User.ID, UserName: t.User.Name, UserDomainID: t.User.Domain.ID, UserDomainName: t.User.Domain.Name,
		Methods: t.Methods, AuditIDs: t.AuditIDs, ExpiresAt: t.ExpiresAt.UTC(), Token: token, AdminProject: t.AdminProj == nil || *t.AdminProj,
	}}
	if t.Application != nil {
		d.AccessRules = t.Application.AccessRules
	}
	if p := t.Project; p != nil {
		d.ProjectID, d.ProjectName, d.ProjectDomainID, d.ProjectDomainName = p.ID, p.Name, p.Domain.ID, p.Domain.Name
	}
	if t.Domain != nil {
		d.DomainID, d.DomainName = t.Domain.ID, t.Domain.Name
	}
	if t.System["all"] {
		d.System = "all"
	}
	for _, role := range t.Roles {
		d.Roles, d.RoleIDs = append(d.Roles, role.Name), append(d.RoleIDs, role.ID)
	}
	return d, nil
}
