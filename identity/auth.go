package identity

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/fernet"
	"github.com/nacre-cloud/nacre/internal/policy"
	"github.com/nacre-cloud/nacre/store"
)

// DomainRef names a domain by id or by name.
type DomainRef struct{ ID, Name string }

// NameRef names a user or project by id, or by name and domain.
type NameRef struct {
	ID, Name string
	Domain   DomainRef
}

// AuthRequest is what somebody shows to get a token.
type AuthRequest struct {
	// Methods are tried in order and must all agree: "password", "token",
	// "application_credential".
	Methods []string

	User     NameRef
	Password string

	Token string

	// AppCred is by id, or by name and User.
	AppCredID, AppCredName, AppCredSecret string
	AppCredUser                           NameRef

	// Project, Domain, System and TrustID ask for a scope, at most one of them.
	// Unscoped asks for none, not even the user's default project.
	Project  *NameRef
	Domain   *DomainRef
	System   bool
	TrustID  string
	Unscoped bool
}

// authState is what the methods found out.
type authState struct {
	user    User
	known   bool
	methods []string
	chain   string    // audit id of the first token in the chain
	expires time.Time // of the token shown, if any
	parent  *TokenInfo
	app     *AppCredential
}

func (a *authState) is(u User) error {
	if a.known && a.user.ID != u.ID {
		return errAuth("the methods name different users")
	}
	a.user, a.known = u, true
	return nil
}

// Authenticate checks credentials and makes a token. Whatever is wrong with them
// is Unauthenticated in the same words.
func (s *Service) Authenticate(ctx context.Context, req AuthRequest) (string, *TokenInfo, error) {
	if err := s.revoked.fresh(ctx); err != nil {
		return "", nil, err
	}
	if err := req.check(); err != nil {
		return "", nil, err
	}
	before := s.revoked.now()
	var a authState
	for _, m := range req.Methods {
		if err := s.authMethod(ctx, m, &req, &a); err != nil {
			return "", nil, err
		}
	}
	info, err := s.authScope(ctx, &req, &a)
	if err != nil {
		return "", nil, err
	}
	text, err := s.issue(ctx, info, &a, before)
	return text, info, err
}

func (r *AuthRequest) check() error {
	if len(r.Methods) == 0 {
		return expecting("methods", "identity")
	}
	n := 0
	for _, set := range []bool{r.Project != nil, r.Domain != nil, r.System, r.TrustID != "", r.Unscoped} {
		if set {
			n++
		}
	}
	if n > 1 {
		return expecting("a single scope", "auth")
	}
	if r.Project != nil && r.Project.ID == "" && r.Project.Domain == (DomainRef{}) {
		return expecting("domain", "project")
	}
	return nil
}

func (s *Service) authMethod(ctx context.Context, method string, req *AuthRequest, a *authState) error {
	switch method {
	case "password":
		u, err := s.findUser(ctx, req.User)
		if u, err = s.checkUserPassword(ctx, u, err, req.Password); err != nil {
			return err
		}
		a.methods = add(a.methods, method)
		return a.is(u)
	case "token":
		i, err := s.lookUp(ctx, req.Token, 0)
		if err != nil {
			return err
		}
		if i.AppCred != nil || i.TrustID != "" {
			return forbidden("You are not authorized to perform the requested action: rescope a scoped token.")
		}
		a.parent, a.expires = i, i.ExpiresAt
		if n := len(i.AuditIDs); n > 0 {
			a.chain = i.AuditIDs[n-1]
		}
		a.methods = add(a.methods, method)
		for _, m := range i.Methods {
			a.methods = add(a.methods, m)
		}
		return a.is(i.User)
	case "application_credential":
		c, u, err := s.checkAppCred(ctx, req)
		if err != nil {
			return err
		}
		a.app = &c
		a.methods = add(a.methods, method)
		return a.is(u)
	}
	return &nacre.Error{Kind: nacre.Unauthenticated, Code: "Unauthorized", Message: "Attempted to authenticate with an unsupported method."}
}

func add(list []string, v string) []string {
	if slices.Contains(list, v) {
		return list
	}
	return append(list, v)
}

// findUser finds a user by id or name; NotFound is the caller's to hide.
func (s *Service) findUser(ctx context.Context, ref NameRef) (User, error) {
	if ref.ID != "" {
		return s.users.Get(ctx, ref.ID)
	}
	domain, err := s.findDomain(ctx, ref.Domain)
	if err != nil {
		return User{}, err
	}
	return s.users.One(ctx, store.Eq("name", ref.Name), store.Eq("domain_id", domain))
}

// findDomain is a domain's id.
func (s *Service) findDomain(ctx context.Context, ref DomainRef) (string, error) {
	if ref.ID != "" || ref.Name == "" {
		return ref.ID, nil
	}
	d, err := s.projects.One(ctx, store.Eq("name", ref.Name), store.Eq("domain_id", ""), store.Eq("is_domain", true))
	return d.ID, err
}

// authScope decides what the token is for.
func (s *Service) authScope(ctx context.Context, req *AuthRequest, a *authState) (*TokenInfo, error) {
	tok := fernet.Token{UserID: a.user.ID, Methods: a.methods}
	switch {
	case a.app != nil:
		if req.Project != nil || req.Domain != nil || req.System || req.TrustID != "" {
			return nil, errAuth("an application credential has its own scope")
		}
		tok.ProjectID, tok.AppCredID = a.app.ProjectID, a.app.ID
	case req.TrustID != "":
		t, err := s.trusts.Get(ctx, req.TrustID)
		if err != nil || t.expired() {
			return nil, store.WrapNotFound(orNone(err), noTrust(req.TrustID))
		}
		if t.TrusteeUserID != a.user.ID {
			return nil, forbidden("You are not authorized to perform the requested action.")
		}
		tok.ProjectID, tok.TrustID = t.ProjectID, t.ID
		info, err := s.load(ctx, tok)
		if err != nil {
			return nil, err
		}
		return info, s.useTrust(ctx, t.ID)
	case req.System:
		tok.System = "all"
	case req.Domain != nil:
		id, err := s.findDomain(ctx, *req.Domain)
		if err != nil {
			return nil, gone(err, "no such domain")
		}
		tok.DomainID = id
	case req.Project != nil:
		id := req.Project.ID
		if id == "" {
			domain, err := s.findDomain(ctx, req.Project.Domain)
			if err != nil {
				return nil, gone(err, "no such domain")
			}
			p, err := s.projects.One(ctx, store.Eq("name", req.Project.Name), store.Eq("domain_id", domain))
			if err != nil {
				return nil, gone(err, "no such project")
			}
			id = p.ID
		}
		tok.ProjectID = id
	case !req.Unscoped && a.user.DefaultProjectID != "" && a.parent == nil:
		// The default project, if the user still has a role on it.
		tok.ProjectID = a.user.DefaultProjectID
		info, err := s.load(ctx, tok)
		if err == nil || !errors.Is(err, nacre.Unauthenticated) {
			return info, err
		}
		tok.ProjectID = ""
	}
	return s.load(ctx, tok)
}

// orNone makes no error a missing row.
func orNone(err error) error {
	if err == nil {
		return store.ErrNoRow
	}
	return err
}

// issue makes the token, unless what it rests on has changed meanwhile.
func (s *Service) issue(ctx context.Context, info *TokenInfo, a *authState, before uint64) (string, error) {
	if err := s.revoked.sync(ctx); err != nil {
		return "", &nacre.Error{Kind: nacre.Unavailable, Code: "blind", Message: "The identity service can't tell just now which tokens were revoked.", Err: err}
	}
	t := &info.Token
	now := time.Now().UTC()
	t.IssuedAt = s.revoked.issueTime(info, now)
	t.AuditIDs = []string{fernet.NewAuditID()}
	if a.chain != "" {
		t.AuditIDs = append(t.AuditIDs, a.chain)
	}
	if _, stale := s.revoked.check(info, before); stale {
		again, err := s.load(ctx, *t)
		if err != nil {
			return "", err
		}
		if err := s.unchanged(ctx, a); err != nil {
			return "", err
		}
		info.User, info.UserDomain, info.Project, info.Domain, info.Roles, info.AppCred, info.Trust = again.User, again.UserDomain, again.Project, again.Domain, again.Roles, again.AppCred, again.Trust
	}
	t.ExpiresAt = now.Add(s.ttl).Truncate(time.Second)
	if !a.expires.IsZero() && a.expires.Before(t.ExpiresAt) {
		t.ExpiresAt = a.expires
	}
	if info.Trust != nil && info.Trust.ExpiresAt != nil && info.Trust.ExpiresAt.Before(t.ExpiresAt) {
		t.ExpiresAt = info.Trust.ExpiresAt.Truncate(time.Second)
	}
	if a.app != nil && a.app.ExpiresAt != nil && a.app.ExpiresAt.Before(t.ExpiresAt) {
		t.ExpiresAt = a.app.ExpiresAt.Truncate(time.Second)
	}
	text, err := s.keys.Pack(*t)
	if err != nil {
		return "", err
	}
	// As it will be read again, so that both ways show the same.
	if back, err := s.keys.Unpack(text); err == nil {
		*t = back
	}
	info.seq, info.loaded = s.revoked.now(), now
	info.fill(text)
	s.cache.put(text, info)
	return text, nil
}

// unchanged refuses when the password or token that was shown was overtaken by a
// change while it was being checked.
func (s *Service) unchanged(ctx context.Context, a *authState) error {
	if a.parent != nil {
		if _, err := s.lookUp(ctx, a.parent.caller.Token, 0); err != nil {
			return err
		}
	}
	if slices.Contains(a.methods, "password") && a.parent == nil {
		row, err := s.passwords.Get(ctx, a.user.ID)
		if err != nil {
			return gone(err, "the password is gone")
		}
		if row.SetAt.After(time.Now().Add(-10 * time.Second)) {
			return errAuth("the password was changed meanwhile")
		}
	}
	return nil
}

// AuthProjects lists the projects that the caller can get a token for.
func (s *Service) AuthProjects(ctx context.Context, q nacre.Query) ([]Project, error) {
	return s.authScopes(ctx, "get_auth_projects", func(r reach) []string { return r.projects }, q, store.Eq("is_domain", false))
}

// AuthDomains lists the domains that the caller can get a token for.
func (s *Service) AuthDomains(ctx context.Context, q nacre.Query) ([]Project, error) {
	return s.authScopes(ctx, "get_auth_domains", func(r reach) []string { return r.domains }, q, store.Eq("is_domain", true))
}

func (s *Service) authScopes(ctx context.Context, rule string, of func(reach) []string, q nacre.Query, w store.Where) ([]Project, error) {
	if err := s.enforce(ctx, rule, policy.Map{}); err != nil {
		return nil, err
	}
	r, err := s.reachOf(ctx, nacre.CallerFrom(ctx).UserID)
	if err != nil {
		return nil, err
	}
	return list(ctx, s.projects, q, projectColumns, store.In("id", of(r)), store.Eq("enabled", true), w)
}

// AuthSystem says whether the caller can get a token for the system.
func (s *Service) AuthSystem(ctx context.Context) (bool, error) {
	if err := s.enforce(ctx, "get_auth_system", policy.Map{}); err != nil {
		return false, err
	}
	r, err := s.reachOf(ctx, nacre.CallerFrom(ctx).UserID)
	return r.system, err
}
