package federation

import (
	"context"
	"errors"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/kit"
	"github.com/nacre-cloud/nacre/store"
)

// DefaultSchemaVersion is what a mapping without schema_version has.
const DefaultSchemaVersion = "1.0"

// DefaultRelayState is Keystone's relay_state_prefix.
const DefaultRelayState = "ss:mem:"

// Config is what a Service is made of. Area and Parent must be set.
type Config struct {
	kit.Area
	Parent Parent
}

// Service is federation. Its methods are safe for concurrent use.
type Service struct {
	area   kit.Area
	parent Parent
	tables
}

// New makes a Service. It reads nothing from the engine yet.
func New(cfg Config) (*Service, error) {
	if err := cfg.Check("federation"); err != nil {
		return nil, err
	}
	if cfg.Parent == nil {
		return nil, errors.New("federation: Config.Parent is missing")
	}
	return &Service{area: cfg.Area, parent: cfg.Parent, tables: newTables(cfg.Engine)}, nil
}

// changed records an event, and has tokens that name the thing looked at again.
func (s *Service) changed(ctx context.Context, resource, what, id string) error {
	if err := s.parent.Changed(ctx); err != nil {
		return err
	}
	return s.area.Happened(ctx, resource, what, id)
}

// Audit says what of federation refers to nothing. projects are those that there are,
// domains among them. It returns the identity providers and, as kit.Joined has them
// with theirs, the protocols that there are.
func (s *Service) Audit(a *kit.Audit, projects map[string]bool) (idps, protocols map[string]bool) {
	idps = kit.Keys(a, s.idps, func(p IdentityProvider) string { return p.ID })
	protocols = kit.Keys(a, s.protocols, func(p Protocol) string { return p.Key })
	kit.Each(a, "identity_provider", s.idps, func(p IdentityProvider) string { return p.ID }, func(p IdentityProvider) { a.Refers(p.ID, "domain", p.DomainID, projects) })
	kit.Each(a, "idp_remote_ids", s.remotes, func(r remoteID) string { return r.ID }, func(r remoteID) { a.Refers(r.ID, "identity provider", r.IdPID, idps) })
	kit.Each(a, "federation_protocol", s.protocols, func(p Protocol) string { return p.Key }, func(p Protocol) { a.Refers(p.Key, "identity provider", p.IdPID, idps) })
	return idps, protocols
}

func orNotFound(err error, format string, args ...any) error {
	return store.WrapNotFound(err, func() *nacre.Error { return nacre.Errorf(nacre.NotFound, "NotFound", format, args...) })
}

func orConflict(err error, kind, format string, args ...any) error {
	if !store.IsDuplicate(err) {
		return err
	}
	return nacre.Errorf(nacre.Conflict, kind, "Conflict occurred attempting to store %s - "+format+".", append([]any{kind}, args...)...)
}

func noIdP(err error, id string) error {
	return orNotFound(err, "Could not find Identity Provider: %s.", id)
}

func noMapping(err error, id string) error {
	return orNotFound(err, "Could not find mapping: %s.", id)
}

func noProtocol(err error, idp, id string) error {
	return orNotFound(err, "Could not find federated protocol %s for Identity Provider: %s.", id, idp)
}

func noProvider(err error, id string) error {
	return orNotFound(err, "Could not find Service Provider: %s.", id)
}

// Once notes that something that may be used once was used, until it would end
// by itself. A second time is Unauthenticated. It asks no policy.
func (s *Service) Once(ctx context.Context, id string, until time.Time) error {
	return s.area.Tx(ctx, func(ctx context.Context) error {
		// What has ended refuses itself; its row is in the way of nothing.
		if _, err := s.shown.DeleteWhere(ctx, store.Less("until", time.Now().Add(-time.Hour))); err != nil {
			return err
		}
		err := s.shown.Insert(ctx, shown{ID: id, Until: until.UTC()})
		if store.IsDuplicate(err) {
			return errUnauthenticated("an assertion was shown for the second time: %s", id)
		}
		return err
	})
}
