package identity

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/assignment"
	"github.com/nacre-cloud/nacre/identity/federation"
	"github.com/nacre-cloud/nacre/identity/kit"
	"github.com/nacre-cloud/nacre/identity/revoke"
	"github.com/nacre-cloud/nacre/store"
)

// FederationConfig is Keystone's [federation], as far as users are concerned.
type FederationConfig struct {
	// RemoteIDAttribute is the assertion's attribute that names the identity
	// provider, for protocols that have none of their own. Empty is no check.
	RemoteIDAttribute string
	// AuthorizationTTL is for how long memberships hold after a login, where the
	// identity provider says nothing; 0 is as long as the token.
	AuthorizationTTL time.Duration
}

// federatedUser is how a user is known to an identity provider.
type federatedUser struct {
	Key         string `store:"key,pk"`
	UserID      string `store:"user_id,index=federated_user_user"`
	IdPID       string `store:"idp_id,index=federated_user_idp"`
	ProtocolID  string `store:"protocol_id"`
	UniqueID    string `store:"unique_id,index=federated_user_unique"`
	DisplayName string `store:"display_name"`
}

// Federated is a user's identities at one identity provider.
type Federated struct {
	IdPID     string             `json:"idp_id"`
	Protocols []FederatedAccount `json:"protocols"`
}

// FederatedAccount is one of them.
type FederatedAccount struct {
	ProtocolID string `json:"protocol_id"`
	UniqueID   string `json:"unique_id"`
}

// current matches memberships that have not run out.
func current() store.Where {
	return store.Or(store.IsNull("expires_at"), store.Greater("expires_at", time.Now()))
}

// AuthenticateFederated makes an unscoped token for whom a proof shows, by the
// mapping of an identity provider's protocol. A user who comes for the first time
// is made. The proof must have been verified: it is believed here.
func (s *Service) AuthenticateFederated(ctx context.Context, idp, protocol string, proof federation.Proof) (string, *TokenInfo, error) {
	if err := s.Revocations.Fresh(ctx); err != nil {
		return "", nil, err
	}
	before := s.Revocations.Now()
	ev, err := s.Federation.Evaluate(ctx, idp, protocol, s.federationConfig.RemoteIDAttribute, proof.Assertion)
	if err != nil {
		return "", nil, err
	}
	// Before anything is made of it: an old assertion must not even renew a membership.
	if proof.ID != "" {
		if err := s.Federation.Once(ctx, kit.Joined(idp, protocol, proof.ID), proof.Until); err != nil {
			return "", nil, err
		}
	}
	a := authState{methods: []string{federatedMethod(protocol)}}
	if ev.Local {
		if a.user, err = s.mappedLocal(ctx, &ev); err != nil {
			return "", nil, err
		}
	} else {
		a.idp, a.protocol = idp, protocol
		if a.groups, err = s.mappedGroups(ctx, &ev); err != nil {
			return "", nil, err
		}
		if a.user, err = s.shadow(ctx, &ev, a.groups, proof.Assertion); err != nil {
			return "", nil, err
		}
	}
	a.known = true
	req := &AuthRequest{Unscoped: true}
	if err := s.checkFactors(ctx, req, &a); err != nil {
		if e := (*ReceiptError)(nil); errors.As(err, &e) {
			err = kit.Unauthenticated("the user's rules ask for more factors than federation is")
		}
		return "", nil, err
	}
	info, err := s.authScope(ctx, req, &a)
	if err != nil {
		return "", nil, err
	}
	text, err := s.issue(ctx, info, &a, before)
	return text, info, err
}

// federatedMethod is the method that a token names: a protocol's usual name, or
// the one for all others.
func federatedMethod(protocol string) string {
	if protocol == "saml2" || protocol == "openid" {
		return protocol
	}
	return "mapped"
}

// authFederated lets a federated user's unscoped token be changed for a scoped
// one by the methods saml2, openid and mapped, as older clients do.
func (s *Service) authFederated(method string) authMethod {
	return func(ctx context.Context, req *AuthRequest, a *authState) error {
		var shown struct {
			ID string `json:"id"`
		}
		if err := json.Unmarshal(req.Extra[method], &shown); err != nil || shown.ID == "" {
			return kit.Expecting("identity_provider", "mapped")
		}
		again := *req
		again.Token = shown.ID
		i, err := s.lookUp(ctx, shown.ID, 0)
		if err != nil {
			return err
		}
		if i.IdPID == "" {
			return kit.Unauthenticated("the token is not a federated user's")
		}
		return s.authToken(ctx, &again, a)
	}
}

// stillFederated refuses what rests on an identity provider that is gone or
// disabled, or on groups that are gone.
func (s *Service) stillFederated(ctx context.Context, i *TokenInfo) error {
	if i.IdPID == "" {
		return nil
	}
	if _, err := s.Federation.Enabled(ctx, i.IdPID, i.ProtocolID); err != nil {
		return kit.Gone(err, "the identity provider or protocol is gone")
	}
	return s.checkGroups(ctx, i.GroupIDs)
}

func (s *Service) checkGroups(ctx context.Context, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	n, err := s.groups.Count(ctx, store.In("id", ids))
	if err == nil && int(n) < len(ids) {
		err = kit.Unauthenticated("a group that the mapping names is not there")
	}
	return err
}

// mappedLocal finds the user of ours whom a mapping names.
func (s *Service) mappedLocal(ctx context.Context, ev *federation.Evaluated) (User, error) {
	ref := NameRef{ID: ev.UserID, Name: ev.UserName}
	if ev.UserDomain != nil {
		ref.Domain = DomainRef(*ev.UserDomain)
	}
	if ref.ID == "" && (ref.Name == "" || ref.Domain == (DomainRef{})) {
		return User{}, kit.Unauthenticated("the mapping names no local user")
	}
	u, err := s.findUser(ctx, ref)
	if err != nil {
		return User{}, kit.Gone(err, "the mapping's local user is not here")
	}
	return u, s.checkAlive(ctx, &u)
}

// mappedGroups are the ids of the groups that a mapping names. An id must be
// there; a name need not.
func (s *Service) mappedGroups(ctx context.Context, ev *federation.Evaluated) ([]string, error) {
	if err := s.checkGroups(ctx, ev.GroupIDs); err != nil {
		return nil, err
	}
	ids := slices.Clone(ev.GroupIDs)
	byDomain := map[string][]string{}
	for _, g := range ev.Groups {
		domain, err := s.findDomain(ctx, DomainRef(g.Domain))
		if err != nil {
			return nil, kit.Gone(err, "the mapping's domain is not here")
		}
		byDomain[domain] = append(byDomain[domain], g.Name)
	}
	for domain, names := range byDomain {
		gs, err := s.groups.Where(ctx, store.Eq("domain_id", domain), store.In("name", names))
		if err != nil {
			return nil, err
		}
		for _, g := range gs {
			if !slices.Contains(ids, g.ID) {
				ids = append(ids, g.ID)
			}
		}
	}
	slices.Sort(ids)
	return ids, nil
}

// publicID is Keystone's id for what is kept elsewhere: sha256 over the domain,
// the kind and the id there.
func publicID(domainID, kind, localID string) string {
	h := sha256.Sum256([]byte(domainID + kind + localID))
	return hex.EncodeToString(h[:])
}

// shadow makes or finds the user behind an assertion, with its memberships and
// projects.
func (s *Service) shadow(ctx context.Context, ev *federation.Evaluated, groups []string, assertion federation.Assertion) (User, error) {
	name := ev.UserName
	if name == "" {
		name = assertion.Get("REMOTE_USER")
	}
	unique := ev.UserID
	switch {
	case name == "" && unique == "":
		return User{}, &nacre.Error{Kind: nacre.Unauthenticated, Code: "Unauthorized",
			Message: "Could not map user while setting ephemeral user identity. Either mapping rules must specify user id/name or REMOTE_USER environment variable must be set."}
	case name == "":
		name = unique
	case unique == "":
		unique = name
	}
	unique = quote(unique)
	domain := ev.IdP.DomainID
	if ev.UserDomain != nil {
		var err error
		if domain, err = s.findDomain(ctx, DomainRef(*ev.UserDomain)); err != nil {
			return User{}, kit.Gone(err, "the mapping's domain is not here")
		}
	}
	var u User
	err := s.area.Tx(ctx, func(ctx context.Context) (err error) {
		if u, err = s.shadowUser(ctx, ev, domain, unique, name); err != nil {
			return err
		}
		if err := s.shadowMembers(ctx, ev, u.ID, groups); err != nil {
			return err
		}
		if ev.HasProjects {
			return s.shadowProjects(nacre.AsService(ctx, "identity"), ev, u)
		}
		return nil
	})
	return u, err
}

func (s *Service) shadowUser(ctx context.Context, ev *federation.Evaluated, domain, unique, name string) (User, error) {
	row := federatedUser{Key: kit.Joined(ev.IdP.ID, ev.Protocol.ID, unique), IdPID: ev.IdP.ID, ProtocolID: ev.Protocol.ID, UniqueID: unique, DisplayName: name}
	old, err := s.federated.Get(ctx, row.Key)
	switch {
	case err == nil:
		if old.DisplayName != name {
			if _, err := s.federated.Update(ctx, row.Key, func(f *federatedUser) error { f.DisplayName = name; return nil }); err != nil {
				return User{}, err
			}
		}
		return s.refreshUser(ctx, old.UserID, name, ev.Email)
	case !errors.Is(err, store.ErrNoRow):
		return User{}, err
	}
	if err := s.liveDomain(ctx, domain); err != nil {
		return User{}, kit.Gone(err, "the user's domain is not here")
	}
	if err := s.Federation.Hold(ctx, row.IdPID, row.ProtocolID); err != nil {
		return User{}, kit.Gone(err, "the protocol is gone")
	}
	u := User{ID: publicID(domain, "user", unique), DomainID: domain, Name: name, Enabled: true, Options: Options{}}
	if taken, err := s.users.Exists(ctx, store.Eq("id", u.ID)); err != nil {
		return u, err
	} else if taken {
		// The same name at another identity provider, or by another protocol, is
		// somebody else.
		u.ID = publicID(domain, "user", row.Key)
	}
	if ev.Email != "" {
		u.Extra = map[string]any{"email": ev.Email}
	}
	if err := s.users.Insert(ctx, u); err != nil {
		return u, err
	}
	row.UserID = u.ID
	if err := s.federated.Insert(ctx, row); err != nil {
		return u, err
	}
	return u, s.area.Happened(ctx, "user", "created", u.ID)
}

// refreshUser brings a user who is vouched for elsewhere up to date.
func (s *Service) refreshUser(ctx context.Context, id, name, email string) (User, error) {
	u, err := s.users.Get(ctx, id)
	if err != nil {
		return u, kit.Gone(err, "the user is gone")
	}
	was, _ := u.Extra["email"].(string)
	rename := u.Name != name && u.LocalName == ""
	if !rename && (email == "" || email == was) {
		return u, nil
	}
	return s.users.Update(ctx, id, func(u *User) error {
		if rename {
			u.Name = name
		}
		if email != "" {
			u.Extra = kit.Merge(u.Extra, map[string]any{"email": email})
		}
		return nil
	})
}

// shadowMembers notes the memberships that outlive the token.
func (s *Service) shadowMembers(ctx context.Context, ev *federation.Evaluated, userID string, groups []string) error {
	ttl := s.federationConfig.AuthorizationTTL
	if m := ev.IdP.AuthorizationTTL; m != nil {
		ttl = time.Duration(*m) * time.Minute
	}
	if ttl <= 0 {
		groups = nil
	}
	until := time.Now().UTC().Add(ttl)
	changed, err := s.sameMembers(ctx, userID, "idp:"+ev.IdP.ID, groups, &until)
	if err != nil || !changed {
		return err
	}
	return s.Revocations.Record(ctx, revoke.Row{UserID: userID, Stale: true})
}

// shadowProjects gives the roles that a mapping names, making projects that are
// not there yet. All roles are found before anything is made.
func (s *Service) shadowProjects(ctx context.Context, ev *federation.Evaluated, u User) error {
	roles, err := s.mappedRoles(ctx, ev, u.DomainID)
	if err != nil {
		return err
	}
	var grants []assignment.Grant
	for _, ref := range ev.Projects {
		domain := ev.IdP.DomainID
		if ref.Domain != nil {
			if domain, err = s.findDomain(ctx, DomainRef(*ref.Domain)); err != nil {
				return kit.Gone(err, "the mapping's domain is not here")
			}
		}
		p, err := s.projects.One(ctx, store.Eq("domain_id", domain), store.Eq("name", ref.Name))
		if errors.Is(err, store.ErrNoRow) {
			p, err = s.CreateProject(ctx, ProjectChange{Name: &ref.Name, DomainID: &domain})
		}
		if err != nil {
			return err
		}
		for _, name := range ref.Roles {
			r := roles[name]
			if r.DomainID != "" && r.DomainID != p.DomainID {
				return kit.Forbidden("role: %s must be within the same domain as the identity provider: %s.", name, ev.IdP.ID)
			}
			g := assignment.Grant{UserID: u.ID, ProjectID: p.ID, RoleID: r.ID}
			grants = append(grants, g)
		}
	}
	if ev.SyncsProjects() {
		if err := s.Assignments.KeepOnly(ctx, u.ID, grants); err != nil {
			return err
		}
	}
	for _, g := range grants {
		if err := s.Assignments.Write(ctx, g); err != nil {
			return err
		}
	}
	return nil
}

// mappedRoles finds the roles that a mapping names: one of the whole cloud, or of
// the user's domain.
func (s *Service) mappedRoles(ctx context.Context, ev *federation.Evaluated, domain string) (map[string]assignment.Role, error) {
	var names []string
	for _, p := range ev.Projects {
		names = append(names, p.Roles...)
	}
	rs, err := s.Assignments.RolesNamed(ctx, names)
	if err != nil {
		return nil, err
	}
	byName := map[string]assignment.Role{}
	for _, r := range rs {
		if have, ok := byName[r.Name]; !ok || r.DomainID == "" || have.DomainID != "" && r.DomainID == Ref(domain) {
			byName[r.Name] = r
		}
	}
	for _, n := range names {
		r, ok := byName[n]
		switch {
		case !ok:
			return nil, kit.NotFound("role", n)
		case r.DomainID != "" && r.DomainID != Ref(domain):
			return nil, kit.Forbidden("role: %s must be within the same domain as the identity provider: %s.", n, ev.IdP.ID)
		}
	}
	return byName, nil
}

// endFederated removes the users that came by an identity provider and protocol
// (empty is any), unless they are known otherwise too, and ends their tokens.
func (s *Service) endFederated(ctx context.Context, idp, protocol string) error {
	w := store.Eq("idp_id", idp)
	if protocol != "" {
		w = store.And(w, store.Eq("protocol_id", protocol))
	}
	rows, err := s.federated.Where(ctx, w)
	if err != nil || len(rows) == 0 {
		return err
	}
	if _, err := s.federated.DeleteWhere(ctx, w); err != nil {
		return err
	}
	var ids []string
	for _, r := range rows {
		if !slices.Contains(ids, r.UserID) {
			ids = append(ids, r.UserID)
			if err := s.Revocations.Record(ctx, revoke.Row{UserID: r.UserID}); err != nil {
				return err
			}
		}
	}
	if _, err := s.members.DeleteWhere(ctx, store.In("user_id", ids), store.Eq("source", "idp:"+idp)); err != nil {
		return err
	}
	orphans, err := s.users.Where(ctx, store.In("id", ids), store.IsNull("local_name"),
		store.Not(store.InSelect("id", s.federated, "user_id", store.All())))
	if err != nil {
		return err
	}
	return s.dropUsers(ctx, orphans)
}

// FederatedOf is how a user is known to identity providers. It asks no policy:
// whoever may see the user may see it.
func (s *Service) FederatedOf(ctx context.Context, userID string) ([]Federated, error) {
	rows, err := s.federated.Where(ctx, store.Eq("user_id", userID))
	var out []Federated
	for _, r := range rows {
		i := slices.IndexFunc(out, func(f Federated) bool { return f.IdPID == r.IdPID })
		if i < 0 {
			out, i = append(out, Federated{IdPID: r.IdPID}), len(out)
		}
		out[i].Protocols = append(out[i].Protocols, FederatedAccount{r.ProtocolID, r.UniqueID})
	}
	return out, err
}

// writeFederated links a user to the accounts that u.Federated names, instead of
// those that it was linked to.
func (s *Service) writeFederated(ctx context.Context, u *User) error {
	if _, err := s.federated.DeleteWhere(ctx, store.Eq("user_id", u.ID)); err != nil {
		return err
	}
	for _, f := range u.Federated {
		for _, p := range f.Protocols {
			err := s.Federation.Hold(ctx, f.IdPID, p.ProtocolID)
			if errors.Is(err, nacre.NotFound) {
				return kit.Invalid("%s", err)
			}
			if err != nil {
				return err
			}
			row := federatedUser{Key: kit.Joined(f.IdPID, p.ProtocolID, p.UniqueID), UserID: u.ID, IdPID: f.IdPID, ProtocolID: p.ProtocolID, UniqueID: p.UniqueID, DisplayName: u.Name}
			if err := s.federated.Insert(ctx, row); err != nil {
				return kit.OrConflict(err, "federated_user", "", "")
			}
		}
	}
	return nil
}

// federatedFilter is a list filter on how users are known to identity providers;
// ok is false when the query has none.
func (s *Service) federatedFilter(q nacre.Query) (w store.Where, ok bool) {
	var ws []store.Where
	for _, f := range q.Filters {
		switch f.Name {
		case "idp_id", "protocol_id", "unique_id":
			ws = append(ws, store.Eq(f.Name, f.Value))
		}
	}
	return store.InSelect("id", s.federated, "user_id", store.And(ws...)), len(ws) > 0
}

// tokenGroups are the groups that the caller's own token names.
func (s *Service) tokenGroups(ctx context.Context) []string {
	c := nacre.CallerFrom(ctx)
	if c == nil || c.Token == "" {
		return nil
	}
	i, err := s.lookUp(ctx, c.Token, 0)
	if err != nil {
		return nil
	}
	return i.GroupIDs
}

// quote is Python's urllib.parse.quote, by which Keystone makes unique ids.
func quote(s string) string {
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("_.-~/", c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// RemoteIDAttribute is Config.Federation's.
func (s *Service) RemoteIDAttribute() string { return s.federationConfig.RemoteIDAttribute }

// providers are the enabled service providers, kept until the catalog changes.
type providers struct {
	seq uint64
	all []federation.ServiceProvider
}

// ServiceProviders are the enabled ones, which every token names. They are read
// again when the catalog has changed.
func (s *Service) ServiceProviders(ctx context.Context) ([]federation.ServiceProvider, error) {
	seq := s.Revocations.Now()
	if kept := s.providers.Load(); kept != nil && s.Revocations.LastOfAll() <= kept.seq {
		return kept.all, nil
	}
	all, err := s.Federation.EnabledServiceProviders(ctx)
	if err == nil {
		s.providers.Store(&providers{seq, all})
	}
	return all, err
}
