package federation

import (
	"context"
	"errors"
	"net/url"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/store"
)

// DefaultSchemaVersion is what a mapping without schema_version has.
const DefaultSchemaVersion = "1.0"

// DefaultRelayState is Keystone's relay_state_prefix.
const DefaultRelayState = "ss:mem:"

// Config is what a Service is made of. All must be set.
type Config struct {
	// Engine holds the tables of Tables.
	Engine store.Engine
	// Policy decides; its rules include Rules.
	Policy nacre.Enforcer
	Parent Parent
}

// Service is federation. Its methods are safe for concurrent use.
type Service struct {
	engine store.Engine
	policy nacre.Enforcer
	parent Parent
	tables
}

// New makes a Service. It reads nothing from the engine yet.
func New(cfg Config) (*Service, error) {
	switch {
	case cfg.Engine == nil:
		return nil, errors.New("federation: Config.Engine is missing")
	case cfg.Policy == nil:
		return nil, errors.New("federation: Config.Policy is missing")
	case cfg.Parent == nil:
		return nil, errors.New("federation: Config.Parent is missing")
	}
	return &Service{engine: cfg.Engine, policy: cfg.Policy, parent: cfg.Parent, tables: newTables(cfg.Engine)}, nil
}

func (s *Service) enforce(ctx context.Context, rule string) error {
	return s.policy.Enforce(ctx, "identity:"+rule, noTarget{})
}

// noTarget is the target of rules that look at the caller alone.
type noTarget struct{}

// Attr implements nacre.Target.
func (noTarget) Attr(string) (string, bool) { return "", false }

func (s *Service) tx(ctx context.Context, fn func(ctx context.Context) error) error {
	return store.InTx(ctx, s.engine, fn)
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

// protocolKey joins two ids so that no other pair gives the same.
func protocolKey(idp, id string) string { return url.PathEscape(idp) + "/" + url.PathEscape(id) }

// Once notes that something that may be used once was used, until it would end
// by itself. A second time is Unauthenticated. It asks no policy.
func (s *Service) Once(ctx context.Context, id string, until time.Time) error {
	return s.tx(ctx, func(ctx context.Context) error {
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
