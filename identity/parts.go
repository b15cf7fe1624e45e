package identity

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/appcred"
	"github.com/nacre-cloud/nacre/identity/assignment"
	"github.com/nacre-cloud/nacre/identity/catalog"
	"github.com/nacre-cloud/nacre/identity/credential"
	"github.com/nacre-cloud/nacre/identity/domainconfig"
	"github.com/nacre-cloud/nacre/identity/federation"
	"github.com/nacre-cloud/nacre/identity/kit"
	"github.com/nacre-cloud/nacre/identity/limit"
	"github.com/nacre-cloud/nacre/identity/oauth1"
	"github.com/nacre-cloud/nacre/identity/password"
	"github.com/nacre-cloud/nacre/identity/revoke"
	"github.com/nacre-cloud/nacre/store"
)

// parts are the sub-areas and what ties them to the rest.
type parts struct {
	// Federation is who vouches for users of ours, and for whom we do.
	Federation *federation.Service
	// OAuth is OS-OAUTH1.
	OAuth *oauth1.Service
	// Catalog is where services are, Limits how much of theirs each project may have.
	Catalog *catalog.Service
	Limits  *limit.Service
	// Revocations are which tokens have ended.
	Revocations *revoke.Service
	// Passwords are the rules for passwords and accounts.
	Passwords *password.Service
	// AppCredentials are application credentials and their access rules.
	AppCredentials *appcred.Service
	// Assignments are roles and who has them.
	Assignments *assignment.Service
	// DomainConfigs are domains' own configurations.
	DomainConfigs *domainconfig.Service
	// Credentials are secrets of users: EC2 keys, TOTP.
	Credentials *credential.Service

	federationConfig FederationConfig
	federated        *store.Table[federatedUser]
	directoryIDs     *store.Table[directoryID]
	directories      *directories
	providers        atomic.Pointer[providers]
}

// partTables are the tables of the sub-areas, and those that tie them to users.
func partTables() []*store.TableDef {
	return append(slices.Concat(federation.Tables(), oauth1.Tables(), catalog.Tables(), limit.Tables(), domainconfig.Tables(), credential.Tables(), assignment.Tables(), revoke.Tables(), password.Tables(), appcred.Tables()), store.NewTable[federatedUser](nil, "federated_user").Def(),
		store.NewTable[directoryID](nil, "id_mapping").Def())
}

// partRules are the sub-areas' policy.
func partRules() []nacre.Rule {
	return slices.Concat(federation.Rules(), oauth1.Rules(), catalog.Rules(), limit.Rules(), domainconfig.Rules(), credential.Rules(), assignment.Rules(), revoke.Rules(), appcred.Rules())
}

// makeParts makes the sub-areas.
func (s *Service) makeParts(cfg *Config) error {
	p := &s.parts
	*p = parts{federationConfig: cfg.Federation, federated: store.NewTable[federatedUser](cfg.Engine, "federated_user"),
		directoryIDs: store.NewTable[directoryID](cfg.Engine, "id_mapping"),
		directories:  &directories{fixed: cfg.Directories, open: cfg.OpenDirectory, opened: map[string]*openDirectory{}}}
	var err error
	p.Federation, err = federation.New(federation.Config{Area: s.area, Parent: federationParent{s}})
	if err != nil {
		return err
	}
	if p.Catalog, err = catalog.New(catalog.Config{Area: s.area, Parent: catalogParent{s}, Template: cfg.CatalogTemplate}); err != nil {
		return err
	}
	if p.Limits, err = limit.New(limit.Config{Area: s.area, Parent: limitParent{s}, Model: cfg.LimitModel}); err != nil {
		return fmt.Errorf("identity: Config.LimitModel: %w", err)
	}
	if p.Revocations, err = revoke.New(revoke.Config{Area: s.area, TTL: s.ttl}); err != nil {
		return err
	}
	hasher, err := cfg.newHasher()
	if err != nil {
		return err
	}
	p.Passwords, err = password.New(password.Config{Area: s.area, Parent: passwordParent{s}, Hasher: hasher, Strict: cfg.StrictPasswords, Rules: cfg.Compliance})
	if err != nil {
		return fmt.Errorf("identity: Config.Compliance: %w", err)
	}
	if p.AppCredentials, err = appcred.New(appcred.Config{Area: s.area, Parent: appCredParent{s}}); err != nil {
		return err
	}
	if p.Assignments, err = assignment.New(assignment.Config{Area: s.area, Parent: assignmentParent{s}}); err != nil {
		return err
	}
	if p.Credentials, err = credential.New(credential.Config{Area: s.area, Parent: credentialParent{s}, Keys: cfg.CredentialKeys}); err != nil {
		return err
	}
	p.DomainConfigs, err = domainconfig.New(domainconfig.Config{Area: s.area, Parent: domainConfigParent{s}, Files: cfg.DomainConfigs, Try: tryDirectory(cfg.OpenDirectory),
		PasswordRegex: cfg.Compliance.PasswordRegex, PasswordRules: cfg.Compliance.PasswordRules})
	if err != nil {
		return fmt.Errorf("identity: Config.DomainConfigs: %w", err)
	}
	p.OAuth, err = oauth1.New(oauth1.Config{Area: s.area, Parent: oauthParent{s}})
	return err
}

// federationParent is what federation may do here.
type federationParent struct{ s *Service }

func (p federationParent) HoldDomain(ctx context.Context, id string) error {
	_, err := p.s.holdDomain(ctx, id)
	return err
}

func (p federationParent) NewDomain(ctx context.Context, idp string) (string, error) {
	id, about := p.s.area.NewID(), "Auto generated federated domain for Identity Provider: "+idp
	_, err := p.s.CreateDomain(nacre.AsService(ctx, "identity"), ProjectChange{ID: id, Name: &id, Description: &about})
	return id, err
}

func (p federationParent) Ended(ctx context.Context, idp, protocol string) error {
	return p.s.endFederated(ctx, idp, protocol)
}

func (p federationParent) Changed(ctx context.Context) error {
	return p.s.Revocations.Record(ctx, revoke.Row{Stale: true})
}

// catalogParent is what the catalog may do here.
type catalogParent struct{ s *Service }

func (p catalogParent) CheckProject(ctx context.Context, id string) error {
	return p.s.checkProject(ctx, id)
}

func (p catalogParent) HoldProject(ctx context.Context, id string) error {
	return kit.Hold(ctx, p.s.projects, "project", id)
}

func (p catalogParent) Changed(ctx context.Context) error {
	return p.s.Revocations.Record(ctx, revoke.Row{Stale: true})
}

func (p catalogParent) Version() (version, changed uint64) {
	return p.s.Revocations.Now(), p.s.Revocations.LastOfAll()
}

// domainConfigParent is what domains' configurations may do here.
type domainConfigParent struct{ s *Service }

func (p domainConfigParent) CheckDomain(ctx context.Context, id string) error {
	_, err := p.s.getDomain(ctx, id)
	return err
}

func (p domainConfigParent) HoldDomain(ctx context.Context, id string) error {
	_, err := p.s.holdDomain(ctx, id)
	return err
}

func (p domainConfigParent) DomainName(ctx context.Context, id string) (string, error) {
	d, err := p.s.getDomain(ctx, id)
	return d.Name, err
}

// credentialParent is what credentials may do here.
type credentialParent struct{ s *Service }

func (p credentialParent) CheckUser(ctx context.Context, id string) error {
	_, err := p.s.users.Get(ctx, id)
	return kit.OrNotFound(err, "user", id)
}

func (p credentialParent) HoldUser(ctx context.Context, id string) error {
	return kit.Hold(ctx, p.s.users, "user", id)
}

func (p credentialParent) HoldProject(ctx context.Context, id string) error {
	return kit.Hold(ctx, p.s.projects, "project", id)
}

func (p credentialParent) Delegated(ctx context.Context) (*credential.Delegation, bool) {
	i, ok := p.s.delegated(ctx)
	if i == nil {
		return nil, ok
	}
	d := &credential.Delegation{ProjectID: i.ProjectID}
	if i.AppCred != nil {
		d.AppCredID = i.AppCred.ID
	}
	if i.Trust != nil {
		d.TrustID = i.Trust.ID
	}
	return d, ok
}

func (p credentialParent) Unrestricted(ctx context.Context) error { return p.s.unrestricted(ctx) }

// limitParent is what limits may do here.
type limitParent struct{ s *Service }

func (p limitParent) CheckPlace(ctx context.Context, serviceID string, regionID Ref) error {
	return p.s.Catalog.CheckPlace(ctx, serviceID, regionID)
}

func (p limitParent) HoldOwner(ctx context.Context, id string, domain bool) error {
	owner, err := p.s.projects.GetForUpdate(ctx, id)
	if err == nil && domain && !owner.IsDomain {
		err = store.ErrNoRow
	}
	return err
}

func (p limitParent) DomainOf(ctx context.Context, projectID string) (string, error) {
	project, err := p.s.projects.Get(ctx, projectID)
	return string(project.DomainID), err
}

func (p limitParent) InDomain(column, domainID string) store.Where {
	return store.InSelect(column, p.s.projects, "id", store.Eq("domain_id", domainID))
}

// sameMembers makes a user a member of exactly these groups as far as one source
// says so, until then (nil is for ever). Memberships of other sources stay. It
// reports whether anything but the time changed.
func (s *Service) sameMembers(ctx context.Context, userID, source string, groups []string, until *time.Time) (changed bool, err error) {
	have, err := s.members.Where(ctx, store.Eq("user_id", userID))
	if err != nil {
		return false, err
	}
	in := func(g string, stays func(*membership) bool) bool {
		return slices.ContainsFunc(have, func(m membership) bool { return m.GroupID == g && stays(&m) })
	}
	// A member for ever stays one: by another source, or by this one, unless that says
	// for how long now.
	stays := func(m *membership) bool {
		return slices.Contains(groups, m.GroupID) && m.ExpiresAt == nil && (m.Source != source || until == nil)
	}
	var fresh []string
	for _, g := range groups {
		if !in(g, stays) && !slices.Contains(fresh, g) {
			fresh = append(fresh, g)
		}
	}
	if len(fresh) > 0 {
		if err := kit.Hold(ctx, s.users, "user", userID); err != nil {
			return false, err
		}
	}
	for i := range have {
		keep := slices.Contains(groups, have[i].GroupID)
		if stays(&have[i]) || have[i].Source != source && !keep {
			continue
		}
		if err := s.members.Delete(ctx, have[i].ID); err != nil {
			return changed, err
		}
		changed = changed || !keep
	}
	for _, g := range fresh {
		known := in(g, func(m *membership) bool { return m.ExpiresAt == nil || m.ExpiresAt.After(time.Now()) })
		changed = changed || !known
		if err := kit.Hold(ctx, s.groups, "group", g); err != nil {
			return changed, err
		}
		if err := s.members.Insert(ctx, membership{ID: g + "|" + userID, GroupID: g, UserID: userID, Source: source, ExpiresAt: until}); err != nil {
			return changed, err
		}
	}
	return changed, nil
}
