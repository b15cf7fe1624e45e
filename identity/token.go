package identity

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/appcred"
	"github.com/nacre-cloud/nacre/identity/assignment"
	"github.com/nacre-cloud/nacre/identity/fernet"
	"github.com/nacre-cloud/nacre/identity/kit"
	"github.com/nacre-cloud/nacre/identity/oauth1"
	"github.com/nacre-cloud/nacre/identity/revoke"
	"github.com/nacre-cloud/nacre/internal/policy"
	"github.com/nacre-cloud/nacre/store"
)

// allowExpired is Keystone's allow_expired_window: for how long after its end a
// token may still be shown to a service that finishes what was begun with it.
const allowExpired = 48 * time.Hour

// believe is how long what is known of a token is used before it is looked up
// again, however silent the revocations are.
const believe = 5 * time.Minute

// TokenInfo is what a token stands for. It is shared and never changed.
type TokenInfo struct {
	fernet.Token
	User       User
	UserDomain Project
	// Project is set for a project's token; Domain is its domain, or the scope.
	Project, Domain *Project
	Roles           []assignment.Role
	AppCred         *appcred.Credential
	Trust           *Trust
	// Access is the OAuth access token behind a token.
	Access *oauth1.AccessToken

	// others are those that the token rests on besides its user: trustors, and
	// trustees who have passed a trust on.
	others []string
	seq    uint64
	loaded time.Time
	caller nacre.Caller
	rules  []nacre.AccessRule
	view   atomic.Pointer[tokenView]
}

// tokenView is what the API made of a token, by the catalog's number.
type tokenView struct {
	catalog uint64
	body    []byte
}

// Caller is the token as other areas see it.
func (i *TokenInfo) Caller() *nacre.Caller { return &i.caller }

// sameAs says whether a new token stands for just what this one does, and nothing
// was delegated.
func (i *TokenInfo) sameAs(tok *fernet.Token) bool {
	t := &i.Token
	return i.AppCred == nil && i.Trust == nil && i.Access == nil && tok.AppCredID == "" && tok.TrustID == "" && tok.AccessTokenID == "" &&
		t.UserID == tok.UserID && t.ProjectID == tok.ProjectID && t.DomainID == tok.DomainID && t.System == tok.System && slices.Equal(t.GroupIDs, tok.GroupIDs)
}

// again is what is known of this token, for another that stands for the same. It
// is not believed for longer.
func (i *TokenInfo) again(tok fernet.Token) *TokenInfo {
	return &TokenInfo{Token: tok, User: i.User, UserDomain: i.UserDomain, Project: i.Project, Domain: i.Domain, Roles: i.Roles, loaded: i.loaded}
}

// isNamed says whether the token's project is the one that a name and a domain name.
func (i *TokenInfo) isNamed(ref *NameRef) bool {
	p, d := i.Project, i.Domain
	return p != nil && !p.IsDomain && ref.ID == "" && p.Name == ref.Name && d.ID == string(p.DomainID) && (ref.Domain.ID == d.ID || ref.Domain.ID == "" && ref.Domain.Name == d.Name)
}

func (i *TokenInfo) fill(text string) {
	c := nacre.Caller{
		UserID: i.User.ID, UserName: i.User.Name, UserDomainID: i.UserDomain.ID, UserDomainName: i.UserDomain.Name,
		System: i.System, AdminProject: true, Token: text, ExpiresAt: i.ExpiresAt, AuditIDs: i.AuditIDs, Methods: i.Methods,
	}
	switch {
	case i.Project != nil:
		c.ProjectID, c.ProjectName = i.Project.ID, i.Project.Name
		c.ProjectDomainID, c.ProjectDomainName = i.Domain.ID, i.Domain.Name
	case i.Domain != nil:
		c.DomainID, c.DomainName = i.Domain.ID, i.Domain.Name
	}
	for _, r := range i.Roles {
		c.Roles, c.RoleIDs = append(c.Roles, r.Name), append(c.RoleIDs, r.ID)
	}
	i.caller = c
}

// revocable is the token as far as it can be revoked.
func (i *TokenInfo) revocable() *revoke.Subject {
	return &revoke.Subject{Token: &i.Token, UserDomainID: i.User.DomainID, DomainID: i.projectDomain(), Others: i.others}
}

func (i *TokenInfo) projectDomain() string {
	if i.Domain != nil {
		return i.Domain.ID
	}
	return ""
}

// tokenCache keeps what is known of tokens, by their text.
type tokenCache struct {
	mu sync.RWMutex
	m  map[string]*TokenInfo
}

// maxTokens bounds the cache; it begins anew when it is full of live tokens.
const maxTokens = 50_000

func newTokenCache() *tokenCache { return &tokenCache{m: map[string]*TokenInfo{}} }

func (c *tokenCache) get(text string) *TokenInfo {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.m[text]
}

func (c *tokenCache) put(text string, i *TokenInfo) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.m) >= maxTokens {
		now := time.Now()
		for k, v := range c.m {
			if now.After(v.ExpiresAt) || now.Sub(v.loaded) > believe {
				delete(c.m, k)
			}
		}
		if len(c.m) >= maxTokens {
			clear(c.m)
		}
	}
	c.m[text] = i
}

func (c *tokenCache) drop(text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.m, text)
}

// ValidateToken says who a token stands for, without a statement when it was
// seen before. Unauthenticated when it is unknown, ended, stands for nobody any
// more or is limited by access rules; Unavailable when that can't be known.
func (s *Service) ValidateToken(ctx context.Context, token string) (*nacre.Caller, error) {
	c, rules, err := s.InspectToken(ctx, token, false)
	if err == nil && len(rules) > 0 {
		return nil, kit.Unauthenticated("the token is limited by access rules, which are not enforced here")
	}
	return c, err
}

// InspectToken is ValidateToken for who enforces access rules. With expired, a token
// that ended less than two days ago is good too: ask so only for a caller who has
// shown a service's token beside.
func (s *Service) InspectToken(ctx context.Context, token string, expired bool) (*nacre.Caller, []nacre.AccessRule, error) {
	grace := time.Duration(0)
	if expired {
		grace = allowExpired
	}
	i, err := s.lookUp(ctx, token, grace)
	if err != nil {
		return nil, nil, err
	}
	return &i.caller, i.rules, nil
}

var _ nacre.TokenInspector = (*Service)(nil)

// lookUp finds what a token stands for. grace lets it be past its end so long.
func (s *Service) lookUp(ctx context.Context, text string, grace time.Duration) (*TokenInfo, error) {
	if err := store.Outside(ctx); err != nil {
		return nil, err
	}
	if err := s.Revocations.Fresh(ctx); err != nil {
		return nil, err
	}
	now := time.Now()
	if i := s.cache.get(text); i != nil {
		ended, stale := s.Revocations.Check(i.revocable(), i.seq)
		switch {
		case ended, now.After(i.ExpiresAt.Add(grace)):
			s.cache.drop(text)
			return nil, kit.Unauthenticated("the token has ended")
		case !stale && now.Sub(i.loaded) < believe:
			return i, nil
		}
	}
	tok, err := s.keys.Unpack(text)
	if err != nil {
		return nil, kit.Unauthenticated("not a token of ours")
	}
	if !now.Before(tok.ExpiresAt.Add(grace)) {
		return nil, kit.Unauthenticated("the token has expired")
	}
	seq := s.Revocations.Now()
	i, err := s.load(ctx, tok)
	if err != nil {
		return nil, err
	}
	if ended, _ := s.Revocations.Check(i.revocable(), seq); ended {
		return nil, kit.Unauthenticated("the token was revoked")
	}
	i.seq, i.loaded = seq, now
	i.fill(text)
	if now.Before(tok.ExpiresAt) {
		s.cache.put(text, i)
	}
	return i, nil
}

// load reads what a token stands for now: nothing, once its user, scope or last
// role is gone.
func (s *Service) load(ctx context.Context, tok fernet.Token) (*TokenInfo, error) {
	i := &TokenInfo{Token: tok}
	var err error
	if i.User, err = s.users.Get(ctx, tok.UserID); err != nil {
		return nil, kit.Gone(err, "the token's user is gone")
	}
	if i.User, err = s.refresh(ctx, i.User); err != nil {
		return nil, kit.Gone(err, "the token's user is gone from its directory")
	}
	if err := s.checkAlive(ctx, &i.User); err != nil {
		return nil, err
	}
	if i.UserDomain, err = s.getDomain(ctx, i.User.DomainID); err != nil {
		return nil, kit.Gone(err, "the user's domain is gone")
	}
	sc, err := s.findScope(ctx, tok.ProjectID, tok.DomainID, tok.System)
	if err != nil {
		return nil, err
	}
	i.Project, i.Domain = sc.project, sc.domain
	if sc.empty() && tok.TrustID == "" {
		return i, nil
	}
	if tok.TrustID != "" {
		err = s.loadTrust(ctx, i, sc)
	} else {
		i.Roles, err = s.rolesOn(ctx, tok.UserID, sc, tok.GroupIDs...)
	}
	if err != nil {
		return nil, err
	}
	if err := s.loadAccess(ctx, i); err != nil {
		return nil, err
	}
	if tok.AppCredID != "" {
		a, err := s.AppCredentials.Read(ctx, tok.AppCredID)
		if err != nil {
			return nil, kit.Gone(err, "the application credential is gone")
		}
		if a.Expired() {
			return nil, kit.Unauthenticated("the application credential has expired")
		}
		i.AppCred = &a
		for _, r := range a.AccessRules {
			i.rules = append(i.rules, nacre.AccessRule{Service: r.Service, Method: r.Method, Path: r.Path})
		}
		allowed, err := s.Assignments.Expand(ctx, a.RoleIDs)
		if err != nil {
			return nil, err
		}
		i.Roles = slices.DeleteFunc(i.Roles, func(r assignment.Role) bool {
			return !slices.ContainsFunc(allowed, func(x assignment.Role) bool { return x.ID == r.ID })
		})
	}
	if len(i.Roles) == 0 && !sc.empty() {
		return nil, kit.Unauthenticated("the user has no role there")
	}
	return i, nil
}

// findScope reads a scope and refuses what is disabled.
func (s *Service) findScope(ctx context.Context, projectID, domainID, system string) (*scope, error) {
	sc := &scope{system: system == "all"}
	switch {
	case projectID != "":
		p, err := s.projects.Get(ctx, projectID)
		if err != nil {
			return nil, kit.Gone(err, "the project is gone")
		}
		if !p.Enabled {
			return nil, kit.Unauthenticated("the project is disabled")
		}
		sc.project, domainID = &p, string(domainOf(&p))
		if p.ParentID != p.DomainID {
			parents, err := s.parents(ctx, &p)
			if err != nil {
				return nil, kit.Gone(err, "the project's parent is gone")
			}
			for i := range parents {
				if !parents[i].IsDomain {
					sc.ancestors = append(sc.ancestors, parents[i].ID)
				}
			}
		}
	case domainID == "":
		return sc, nil
	}
	d, err := s.getDomain(ctx, domainID)
	if err != nil {
		return nil, kit.Gone(err, "the domain is gone")
	}
	if !d.Enabled {
		return nil, kit.Unauthenticated("the domain is disabled")
	}
	sc.domain = &d
	return sc, nil
}

// subjectTarget is a token as the rules about tokens see it.
func subjectTarget(i *TokenInfo) policy.Map {
	return policy.Map{"target.token.user_id": i.User.ID, "target.token.user.domain.id": i.User.DomainID}
}

// subject finds the token that a request is about. A bad one is NotFound, unlike
// the caller's own.
func (s *Service) subject(ctx context.Context, text, rule string, o ShowOptions) (*TokenInfo, error) {
	grace := time.Duration(0)
	if o.Expired {
		grace = allowExpired
	}
	i, err := s.lookUp(ctx, text, grace)
	if err == nil && rule != "revoke_token" && !o.AccessRules && len(i.rules) > 0 {
		err = kit.Unauthenticated("who asks does not enforce access rules")
	}
	if errors.Is(err, nacre.Unauthenticated) {
		if nacre.CallerFrom(ctx) == nil {
			return nil, err
		}
		return nil, nacre.Errorf(nacre.NotFound, "TokenNotFound", "Failed to validate token")
	}
	if err != nil {
		return nil, err
	}
	return i, s.area.Enforce(ctx, rule, subjectTarget(i))
}

// ShowOptions are for showing a token.
type ShowOptions struct {
	// Expired lets one that ended less than two days ago be shown too.
	Expired bool
	// AccessRules says that who asks enforces an application credential's access
	// rules; else a token that has some is not shown.
	AccessRules bool
}

// ShowToken shows what a token stands for.
func (s *Service) ShowToken(ctx context.Context, token string, o ShowOptions) (*TokenInfo, error) {
	return s.subject(ctx, token, "validate_token", o)
}

// CheckToken is NotFound when a token is no good.
func (s *Service) CheckToken(ctx context.Context, token string, o ShowOptions) error {
	_, err := s.subject(ctx, token, "check_token", o)
	return err
}

// RevokeToken ends one token; others of the same user go on.
func (s *Service) RevokeToken(ctx context.Context, token string) error {
	i, err := s.subject(ctx, token, "revoke_token", ShowOptions{})
	if err != nil {
		return err
	}
	if len(i.AuditIDs) == 0 {
		return kit.Invalid("The token has no audit id to revoke it by.")
	}
	err = s.area.Tx(ctx, func(ctx context.Context) error {
		// The time of issue may lie a second ahead.
		return s.Revocations.Record(ctx, revoke.Row{AuditID: i.AuditIDs[0], IssuedBefore: i.IssuedAt.Add(time.Second)})
	})
	s.cache.drop(token)
	return err
}

// CatalogNumber tells versions of the catalog apart, for what is rendered.
func (s *Service) CatalogNumber() uint64 { return s.Revocations.LastOfAll() }

// View is the rendered form that was kept, or nil when the catalog has changed.
func (i *TokenInfo) View(catalog uint64) []byte {
	if v := i.view.Load(); v != nil && v.catalog == catalog {
		return v.body
	}
	return nil
}

// KeepView keeps a rendered form.
func (i *TokenInfo) KeepView(catalog uint64, body []byte) {
	i.view.Store(&tokenView{catalog: catalog, body: body})
}
