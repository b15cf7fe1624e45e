package federation

import (
	"context"
	"fmt"
	"slices"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/store"
)

// IdentityProviderChange is what is given of an identity provider; nil leaves a
// field as it is. Description and AuthorizationTTL point to nil to take the value
// away.
type IdentityProviderChange struct {
	// DomainID is for the creation alone; without it a domain is made.
	DomainID         *string
	Enabled          *bool
	Description      **string
	AuthorizationTTL **int
	RemoteIDs        *[]string
}

func (ch *IdentityProviderChange) apply(p *IdentityProvider) {
	if ch.Enabled != nil {
		p.Enabled = *ch.Enabled
	}
	if ch.Description != nil {
		p.Description = *ch.Description
	}
	if ch.AuthorizationTTL != nil {
		p.AuthorizationTTL = *ch.AuthorizationTTL
	}
	if ch.RemoteIDs != nil {
		p.RemoteIDs = slices.Clone(*ch.RemoteIDs)
		slices.Sort(p.RemoteIDs)
	}
	if p.RemoteIDs == nil {
		p.RemoteIDs = []string{}
	}
}

func (ch *IdentityProviderChange) check() error {
	if ch.AuthorizationTTL != nil && *ch.AuthorizationTTL != nil && **ch.AuthorizationTTL < 0 {
		return invalid("Invalid input for field 'identity_provider/authorization_ttl': %d is less than the minimum of 0", **ch.AuthorizationTTL)
	}
	if ch.RemoteIDs == nil {
		return nil
	}
	for i, id := range *ch.RemoteIDs {
		if len([]rune(id)) > 64 {
			return invalid("Invalid input for field 'identity_provider/remote_ids/%d': '%s' is too long", i, id)
		}
		if slices.Contains((*ch.RemoteIDs)[:i], id) {
			return invalid("Invalid input for field 'identity_provider/remote_ids': %s has non-unique elements", pyList(*ch.RemoteIDs))
		}
	}
	return nil
}

func invalid(format string, args ...any) *nacre.Error {
	return nacre.Errorf(nacre.Invalid, "SchemaValidationError", format, args...)
}

func errUnauthenticated(why string, args ...any) *nacre.Error {
	return &nacre.Error{Kind: nacre.Unauthenticated, Code: "Unauthorized", Message: "The request you have made requires authentication.", Err: fmt.Errorf(why, args...)}
}

// CreateIdentityProvider adds an identity provider, disabled unless asked
// otherwise.
func (s *Service) CreateIdentityProvider(ctx context.Context, id string, ch IdentityProviderChange) (IdentityProvider, error) {
	p := IdentityProvider{ID: id}
	if err := s.area.Enforce(ctx, "create_identity_provider", nil); err != nil {
		return p, err
	}
	if err := ch.check(); err != nil {
		return p, err
	}
	ch.apply(&p)
	return p, s.area.Tx(ctx, func(ctx context.Context) (err error) {
		if ch.DomainID != nil && *ch.DomainID != "" {
			p.DomainID = *ch.DomainID
			err = s.parent.HoldDomain(ctx, p.DomainID)
		} else if _, err = s.idps.Get(ctx, id); err == nil {
			return nacre.Errorf(nacre.Conflict, "identity_provider", "Conflict occurred attempting to store identity_provider - Duplicate entry: %s.", id)
		} else {
			p.DomainID, err = s.parent.NewDomain(ctx, id)
		}
		if err != nil {
			return err
		}
		if err := s.idps.Insert(ctx, p); err != nil {
			return orConflict(err, "identity_provider", "Duplicate entry: %s", id)
		}
		if err := s.writeRemotes(ctx, &p); err != nil {
			return err
		}
		return s.changed(ctx, "identity_provider", "created", id)
	})
}

func (s *Service) writeRemotes(ctx context.Context, p *IdentityProvider) error {
	if _, err := s.remotes.DeleteWhere(ctx, store.Eq("idp_id", p.ID)); err != nil {
		return err
	}
	for _, r := range p.RemoteIDs {
		if err := s.remotes.Insert(ctx, remoteID{ID: r, IdPID: p.ID}); err != nil {
			return orConflict(err, "identity_provider", "Duplicate remote ID: %s", r)
		}
	}
	return nil
}

// GetIdentityProvider shows an identity provider.
func (s *Service) GetIdentityProvider(ctx context.Context, id string) (IdentityProvider, error) {
	if err := s.area.Enforce(ctx, "get_identity_provider", nil); err != nil {
		return IdentityProvider{}, err
	}
	p, err := s.idps.Get(ctx, id)
	return p, noIdP(err, id)
}

// filters are id and enabled, of those that a query has.
func filters(q nacre.Query) store.Where {
	var ws []store.Where
	for _, f := range q.Filters {
		switch f.Name {
		case "id":
			ws = append(ws, store.Eq("id", f.Value))
		case "enabled":
			ws = append(ws, store.Eq("enabled", f.Value != "0" && f.Value != "false" && f.Value != "False" && f.Value != "no" && f.Value != "off"))
		}
	}
	return store.And(ws...)
}

// ListIdentityProviders lists identity providers, by id and enabled.
func (s *Service) ListIdentityProviders(ctx context.Context, q nacre.Query) ([]IdentityProvider, error) {
	if err := s.area.Enforce(ctx, "list_identity_providers", nil); err != nil {
		return nil, err
	}
	return s.idps.Where(ctx, filters(q))
}

// UpdateIdentityProvider changes an identity provider.
func (s *Service) UpdateIdentityProvider(ctx context.Context, id string, ch IdentityProviderChange) (IdentityProvider, error) {
	var out IdentityProvider
	if err := s.area.Enforce(ctx, "update_identity_provider", nil); err != nil {
		return out, err
	}
	if ch.DomainID != nil {
		return out, invalid("Additional properties are not allowed ('domain_id' was unexpected)")
	}
	if ch == (IdentityProviderChange{}) {
		return out, invalid("Invalid input for field 'identity_provider': {} does not have enough properties")
	}
	if err := ch.check(); err != nil {
		return out, err
	}
	err := s.area.Tx(ctx, func(ctx context.Context) (err error) {
		out, err = s.idps.Update(ctx, id, func(p *IdentityProvider) error {
			ch.apply(p)
			return nil
		})
		if err != nil {
			return noIdP(err, id)
		}
		if ch.RemoteIDs != nil {
			if err := s.writeRemotes(ctx, &out); err != nil {
				return err
			}
		}
		return s.changed(ctx, "identity_provider", "updated", id)
	})
	return out, err
}

// DeleteIdentityProvider removes an identity provider with its protocols and the
// users that came by it. Its domain stays.
func (s *Service) DeleteIdentityProvider(ctx context.Context, id string) error {
	if err := s.area.Enforce(ctx, "delete_identity_provider", nil); err != nil {
		return err
	}
	return s.area.Tx(ctx, func(ctx context.Context) error { return s.dropIdP(ctx, id) })
}

func (s *Service) dropIdP(ctx context.Context, id string) error {
	if err := s.idps.Delete(ctx, id); err != nil {
		return noIdP(err, id)
	}
	if _, err := s.remotes.DeleteWhere(ctx, store.Eq("idp_id", id)); err != nil {
		return err
	}
	if _, err := s.protocols.DeleteWhere(ctx, store.Eq("idp_id", id)); err != nil {
		return err
	}
	if err := s.parent.Ended(ctx, id, ""); err != nil {
		return err
	}
	return s.changed(ctx, "identity_provider", "deleted", id)
}

// DomainDeleted removes the identity providers of a domain. It is for the parent,
// within the domain's own transaction, and asks no policy.
func (s *Service) DomainDeleted(ctx context.Context, domainID string) error {
	ps, err := s.idps.Where(ctx, store.Eq("domain_id", domainID))
	for _, p := range ps {
		if err := s.dropIdP(ctx, p.ID); err != nil {
			return err
		}
	}
	return err
}
