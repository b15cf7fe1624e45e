package identity

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/appcred"
	"github.com/nacre-cloud/nacre/identity/assignment"
	"github.com/nacre-cloud/nacre/identity/fernet"
	"github.com/nacre-cloud/nacre/identity/kit"
	"github.com/nacre-cloud/nacre/identity/oauth1"
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
	// "application_credential", "totp" and what else authMethods has. A repeated
	// one counts once.
	Methods []string

	// Extra is what is shown for methods that have no field of their own here, by
	// the method's name, as the client sent it.
	Extra map[string]json.RawMessage

	// OAuth is the request itself, for the method oauth1, which signs it.
	OAuth *oauth1.Request

	// Receipt, if any, says which methods the user has shown before (ReceiptError).
	Receipt string

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
	expires time.Time // when the new token ends at the latest; zero is no bound
	parent  *TokenInfo
	app     *appcred.Credential
	hash    string // what the password was compared with
	// named is the project asked for, where the token that was shown knew its id.
	named *NameRef

	// idp, protocol and groups say of a federated user who vouched for it, by
	// which protocol, and of which groups that makes it a member for as long as
	// the token lives.
	idp, protocol string
	groups        []string
	// access is the OAuth 1.0a access token shown, whose project is the scope.
	access, accessProject string
}

// authMethod checks what a request shows by one method, and notes in the state
// whom it proves: with authState.is, and whatever else bounds the token.
type authMethod func(ctx context.Context, req *AuthRequest, a *authState) error

// authMethods are the methods that there are, by Keystone's names. A new one is a
// function in a file of its own and a line here.
func (s *Service) authMethods() map[string]authMethod {
	return map[string]authMethod{
		"password":               s.authPassword,
		"token":                  s.authToken,
		"application_credential": s.authAppCred,
		"totp":                   s.authTOTP,
		"mapped":                 s.authFederated("mapped"),
		"saml2":                  s.authFederated("saml2"),
		"openid":                 s.authFederated("openid"),
		"oauth1":                 s.authOAuth,
	}
}

// until bounds the token's end.
func (a *authState) until(end time.Time) {
	if !end.IsZero() && (a.expires.IsZero() || end.Before(a.expires)) {
		a.expires = end
	}
}

func (a *authState) is(u User) error {
	if a.known && a.user.ID != u.ID {
		return kit.Unauthenticated("the methods name different users")
	}
	a.user, a.known = u, true
	return nil
}

// Authenticate checks credentials and makes a token. Whatever is wrong with them
// is Unauthenticated in the same words.
func (s *Service) Authenticate(ctx context.Context, req AuthRequest) (string, *TokenInfo, error) {
	if err := s.Revocations.Fresh(ctx); err != nil {
		return "", nil, err
	}
	if err := req.check(); err != nil {
		return "", nil, err
	}
	before := s.Revocations.Now()
	var a authState
	for _, m := range req.Methods {
		if err := s.authMethod(ctx, m, &req, &a); err != nil {
			return "", nil, err
		}
	}
	if err := s.checkFactors(ctx, &req, &a); err != nil {
		return "", nil, err
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
		return kit.Expecting("methods", "identity")
	}
	n := 0
	for _, set := range []bool{r.Project != nil, r.Domain != nil, r.System, r.TrustID != "", r.Unscoped} {
		if set {
			n++
		}
	}
	if n > 1 {
		return kit.Expecting("a single scope", "auth")
	}
	if r.Project != nil && r.Project.ID == "" && r.Project.Domain == (DomainRef{}) {
		return kit.Expecting("domain", "project")
	}
	return nil
}

func (s *Service) authMethod(ctx context.Context, method string, req *AuthRequest, a *authState) error {
	try, ok := s.methods[method]
	if !ok {
		return &nacre.Error{Kind: nacre.Unauthenticated, Code: "Unauthorized", Message: "Attempted to authenticate with an unsupported method."}
	}
	if slices.Contains(a.methods, method) && a.parent == nil {
		return nil
	}
	if err := try(ctx, req, a); err != nil {
		return err
	}
	a.methods = add(a.methods, method)
	return nil
}

func (s *Service) authPassword(ctx context.Context, req *AuthRequest, a *authState) error {
	u, err := s.findUser(ctx, req.User)
	if u, a.hash, err = s.checkUserPassword(ctx, u, err, req.Password); err != nil {
		return err
	}
	return a.is(u)
}

func (s *Service) authToken(ctx context.Context, req *AuthRequest, a *authState) error {
	i, err := s.lookUp(ctx, req.Token, 0)
	if nacre.KindOf(err) == nacre.Unauthenticated {
		// Not 401: in Keystone a token that is shown for another is looked up like one
		// that is asked about.
		return &nacre.Error{Kind: nacre.NotFound, Code: "TokenNotFound", Message: "Failed to validate token", Err: err}
	}
	if err != nil {
		return err
	}
	if err := s.mayRescope(i, req); err != nil {
		return err
	}
	if err := s.stillFederated(ctx, i); err != nil {
		return err
	}
	if i.AppCred != nil {
		c := *i.AppCred
		a.app = &c
	}
	a.parent = i
	a.until(i.ExpiresAt)
	a.idp, a.protocol, a.groups = i.IdPID, i.ProtocolID, i.GroupIDs
	if n := len(i.AuditIDs); n > 0 {
		a.chain = i.AuditIDs[n-1]
	}
	for _, m := range i.Methods {
		a.methods = add(a.methods, m)
	}
	return a.is(i.User)
}

// mayRescope refuses to make tokens from those that were made by delegation, and
// whatever else a token does not give.
func (s *Service) mayRescope(i *TokenInfo, req *AuthRequest) error {
	scoped := req.Project != nil || req.Domain != nil
	no := func(action string) error {
		return kit.Forbidden("You are not authorized to perform the requested action: %s.", action)
	}
	switch {
	case i.AccessTokenID != "":
		return no("Using OAuth-scoped token to create another token. Create a new OAuth-scoped token instead")
	case i.TrustID != "":
		return no("Using trust-scoped token to create another token. Create a new trust-scoped token instead")
	case i.System != "" && scoped:
		return no("Using a system-scoped token to create a project-scoped or domain-scoped token is not allowed.")
	case i.AppCred != nil && (scoped || req.System || req.TrustID != "" || req.Unscoped):
		return no("Using an application credential token to create a scoped token is not allowed.")
	case s.noRescope && (i.ProjectID != "" || i.DomainID != "" || i.System != ""):
		return no("rescope a scoped token")
	}
	return nil
}

func (s *Service) authAppCred(ctx context.Context, req *AuthRequest, a *authState) error {
	c, u, err := s.checkAppCred(ctx, req)
	if err != nil {
		return err
	}
	a.app = &c
	return a.is(u)
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
	if u, ok, err := s.directoryUserNamed(ctx, domain, ref.Name); ok || err != nil {
		return u, err
	}
	return s.users.One(ctx, store.Eq("local_name", ref.Name), store.Eq("domain_id", domain))
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
	tok := fernet.Token{UserID: a.user.ID, Methods: a.methods, IdPID: a.idp, ProtocolID: a.protocol, GroupIDs: a.groups, AccessTokenID: a.access}
	switch {
	case a.access != "":
		tok.ProjectID = a.accessProject
	case a.app != nil:
		if req.Project != nil || req.Domain != nil || req.System || req.TrustID != "" {
			return nil, &nacre.Error{Kind: nacre.Unauthenticated, Code: "Unauthorized", Message: "Error authenticating with application credential: Application credentials cannot request a scope."}
		}
		tok.ProjectID, tok.AppCredID = a.app.ProjectID, a.app.ID
	case req.TrustID != "":
		t, err := s.trusts.Get(ctx, req.TrustID)
		if err != nil {
			return nil, kit.Gone(err, "the trust is gone")
		}
		if t.expired() || t.RemainingUses != nil && *t.RemainingUses < 1 {
			return nil, kit.Unauthenticated("the trust has ended or is used up")
		}
		if t.TrusteeUserID != a.user.ID {
			return nil, noMore("the user is not the trustee")
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
			return nil, kit.Gone(err, "no such domain")
		}
		tok.DomainID = id
	case req.Project != nil:
		id, err := s.findProject(ctx, req.Project, a)
		if err != nil {
			return nil, err
		}
		tok.ProjectID = id
	case !req.Unscoped && a.user.DefaultProjectID != "" && a.parent == nil && a.idp == "":
		// The default project, if the user still has a role on it.
		tok.ProjectID = a.user.DefaultProjectID
		info, err := s.load(ctx, tok)
		if err == nil || !errors.Is(err, nacre.Unauthenticated) {
			return info, err
		}
		tok.ProjectID = ""
	}
	if a.parent != nil && a.parent.sameAs(&tok) {
		return a.parent.again(tok), nil
	}
	return s.load(ctx, tok)
}

// findProject is a project's id. A token that is shown is believed what its own project
// is called, unless a change of names turns up before another is made of it (issue).
func (s *Service) findProject(ctx context.Context, ref *NameRef, a *authState) (string, error) {
	if ref.ID != "" {
		return ref.ID, nil
	}
	if a.parent != nil && a.parent.isNamed(ref) {
		a.named = ref
		return a.parent.ProjectID, nil
	}
	domain, err := s.findDomain(ctx, ref.Domain)
	if err != nil {
		return "", kit.Gone(err, "no such domain")
	}
	p, err := s.projects.One(ctx, store.Eq("name", ref.Name), store.Eq("domain_id", domain))
	return p.ID, kit.Gone(err, "no such project")
}

// issue makes the token, unless what it rests on has changed meanwhile.
func (s *Service) issue(ctx context.Context, info *TokenInfo, a *authState, before uint64) (string, error) {
	if err := s.Revocations.SyncNear(ctx); err != nil {
		return "", &nacre.Error{Kind: nacre.Unavailable, Code: "blind", Message: "The identity service can't tell just now which tokens were revoked.", Err: err}
	}
	t := &info.Token
	now := time.Now().UTC()
	t.IssuedAt = s.Revocations.IssueTime(info.revocable(), now)
	t.AuditIDs = []string{fernet.NewAuditID()}
	if a.chain != "" {
		t.AuditIDs = append(t.AuditIDs, a.chain)
	}
	if _, stale := s.Revocations.Check(info.revocable(), before); stale {
		again, err := s.load(ctx, *t)
		if err != nil {
			return "", err
		}
		if err := s.unchanged(ctx, a); err != nil {
			return "", err
		}
		if a.named != nil && !again.isNamed(a.named) {
			return "", kit.Unauthenticated("the project was given another name meanwhile")
		}
		info.loaded = now
		info.User, info.UserDomain, info.Project, info.Domain, info.Roles, info.AppCred, info.Trust, info.Access = again.User, again.UserDomain, again.Project, again.Domain, again.Roles, again.AppCred, again.Trust, again.Access
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
		if len(back.Methods) == 0 {
			back.Methods = t.Methods // a token has no place for some
		}
		*t = back
	}
	info.seq = s.Revocations.Now()
	if info.loaded.IsZero() {
		info.loaded = now
	}
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
	if a.hash != "" {
		row, err := s.Passwords.Of(ctx, a.user.ID)
		if err != nil {
			return kit.Gone(err, "the password is gone")
		}
		if row.Hash != a.hash {
			return kit.Unauthenticated("the password was changed meanwhile")
		}
	}
	return nil
}

// AuthProjects lists the projects that the caller can get a token for.
func (s *Service) AuthProjects(ctx context.Context, q nacre.Query) ([]Project, error) {
	return s.authScopes(ctx, "get_auth_projects", func(r assignment.Reach) []string { return r.Projects }, q, store.Eq("is_domain", false))
}

// AuthDomains lists the domains that the caller can get a token for.
func (s *Service) AuthDomains(ctx context.Context, q nacre.Query) ([]Project, error) {
	return s.authScopes(ctx, "get_auth_domains", func(r assignment.Reach) []string { return r.Domains }, q, store.Eq("is_domain", true))
}

func (s *Service) authScopes(ctx context.Context, rule string, of func(assignment.Reach) []string, q nacre.Query, w store.Where) ([]Project, error) {
	if err := s.area.Enforce(ctx, rule, policy.Map{}); err != nil {
		return nil, err
	}
	r, err := s.Assignments.ReachOf(ctx, nacre.CallerFrom(ctx).UserID, s.tokenGroups(ctx)...)
	if err != nil {
		return nil, err
	}
	return kit.List(ctx, s.projects, q, projectColumns, store.In("id", of(r)), store.Eq("enabled", true), w)
}

// AuthSystem says whether the caller can get a token for the system.
func (s *Service) AuthSystem(ctx context.Context) (bool, error) {
	if err := s.area.Enforce(ctx, "get_auth_system", policy.Map{}); err != nil {
		return false, err
	}
	r, err := s.Assignments.ReachOf(ctx, nacre.CallerFrom(ctx).UserID, s.tokenGroups(ctx)...)
	return r.System, err
}
