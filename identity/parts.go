package identity

import (
	"context"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/federation"
	"github.com/nacre-cloud/nacre/identity/oauth1"
	"github.com/nacre-cloud/nacre/internal/policy"
	"github.com/nacre-cloud/nacre/store"
)

// parts are the sub-areas and what ties them to the rest.
type parts struct {
	// Federation is who vouches for users of ours, and for whom we do.
	Federation *federation.Service
	// OAuth is OS-OAUTH1.
	OAuth *oauth1.Service

	federationConfig FederationConfig
	federated        *store.Table[federatedUser]
	domainOptions    *store.Table[domainOption]
	directoryIDs     *store.Table[directoryID]
	directories      *directories
	template         *CatalogTemplate
}

// partTables are the tables of the sub-areas, and those that tie them to users.
func partTables() []*store.TableDef {
	return append(append(federation.Tables(), oauth1.Tables()...), store.NewTable[federatedUser](nil, "federated_user").Def(),
		store.NewTable[domainOption](nil, "domain_config").Def(), store.NewTable[directoryID](nil, "id_mapping").Def())
}

// partRules are the sub-areas' policy.
func partRules() []nacre.Rule {
	return slices.Concat(federation.Rules(), oauth1.Rules(), domainConfigRules())
}

func newParts(s *Service, cfg *Config) (parts, error) {
	p := parts{federationConfig: cfg.Federation, federated: store.NewTable[federatedUser](cfg.Engine, "federated_user"),
		domainOptions: store.NewTable[domainOption](cfg.Engine, "domain_config"), directoryIDs: store.NewTable[directoryID](cfg.Engine, "id_mapping"),
		template: cfg.CatalogTemplate, directories: &directories{fixed: cfg.Directories, files: cfg.DomainConfigs, open: cfg.OpenDirectory, opened: map[string]*openDirectory{}}}
	var err error
	p.Federation, err = federation.New(federation.Config{Engine: cfg.Engine, Policy: cfg.Policy, Parent: federationParent{s}})
	if err != nil {
		return p, err
	}
	p.OAuth, err = oauth1.New(oauth1.Config{Engine: cfg.Engine, Policy: cfg.Policy, Parent: oauthParent{s}, IDs: cfg.IDs})
	return p, err
}

// federationParent is what federation may do here.
type federationParent struct{ s *Service }

func (p federationParent) CheckDomain(ctx context.Context, id string) error {
	_, err := p.s.getDomain(ctx, id)
	return orNotFound(err, "domain", id)
}

func (p federationParent) NewDomain(ctx context.Context, idp string) (string, error) {
	id, about := p.s.newID(), "Auto generated federated domain for Identity Provider: "+idp
	_, err := p.s.CreateDomain(nacre.AsService(ctx, "identity"), ProjectChange{ID: id, Name: &id, Description: &about})
	return id, err
}

func (p federationParent) Ended(ctx context.Context, idp, protocol string) error {
	return p.s.endFederated(ctx, idp, protocol)
}

func (p federationParent) Happened(ctx context.Context, resource, what, id string) error {
	return p.s.catalogChanged(ctx, resource, what, id)
}

// enforceAlone asks a rule that looks at the caller alone.
func (s *Service) enforceAlone(ctx context.Context, rule string) error {
	return s.enforce(ctx, rule, policy.Map{})
}

// joined joins ids so that no other list gives the same text.
func joined(ids ...string) string {
	out := make([]string, len(ids))
	for i, id := range ids {
		out[i] = url.PathEscape(id)
	}
	return strings.Join(out, "/")
}

// sameMembers makes a user a member of exactly these groups as far as one source
// says so, until then (nil is for ever). Memberships of other sources stay. It
// reports whether anything but the time changed.
func (s *Service) sameMembers(ctx context.Context, userID, source string, groups []string, until *time.Time) (changed bool, err error) {
	have, err := s.members.Where(ctx, store.Eq("user_id", userID))
	if err != nil {
		return false, err
	}
	var in []string
	for _, m := range have {
		keep := slices.Contains(groups, m.GroupID)
		switch {
		case m.Source != source:
			// A member by another source, for as long as that says.
			if keep && m.ExpiresAt == nil {
				in = append(in, m.GroupID)
				continue
			}
			if !keep {
				continue
			}
			fallthrough
		case !keep || until != nil || m.ExpiresAt != nil:
			if err := s.members.Delete(ctx, m.ID); err != nil {
				return changed, err
			}
			changed = changed || !keep
		default:
			in = append(in, m.GroupID)
		}
	}
	for _, g := range groups {
		if slices.Contains(in, g) {
			continue
		}
		in = append(in, g)
		known := slices.ContainsFunc(have, func(m membership) bool {
			return m.GroupID == g && (m.ExpiresAt == nil || m.ExpiresAt.After(time.Now()))
		})
		changed = changed || !known
		if err := hold(ctx, s.groups, "group", g); err != nil {
			return changed, err
		}
		if err := s.members.Insert(ctx, membership{ID: g + "|" + userID, GroupID: g, UserID: userID, Source: source, ExpiresAt: until}); err != nil {
			return changed, err
		}
	}
	return changed, nil
}
