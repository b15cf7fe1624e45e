package oauth1

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/store"
)

// Keystone's request_token_duration and access_token_duration.
const (
	requestTokenLife = 8 * time.Hour
	accessTokenLife  = 24 * time.Hour
)

// Config is what a Service is made of. All but IDs must be set.
type Config struct {
	// Engine holds the tables of Tables.
	Engine store.Engine
	// Policy decides; its rules include Rules.
	Policy nacre.Enforcer
	Parent Parent
	// IDs makes identifiers and secrets; nil is random.
	IDs nacre.IDs
}

// Service is OS-OAUTH1. Its methods are safe for concurrent use.
type Service struct {
	engine store.Engine
	policy nacre.Enforcer
	parent Parent
	ids    nacre.IDs
	tables
}

// New makes a Service. It reads nothing from the engine yet.
func New(cfg Config) (*Service, error) {
	switch {
	case cfg.Engine == nil:
		return nil, errors.New("oauth1: Config.Engine is missing")
	case cfg.Policy == nil:
		return nil, errors.New("oauth1: Config.Policy is missing")
	case cfg.Parent == nil:
		return nil, errors.New("oauth1: Config.Parent is missing")
	}
	if cfg.IDs == nil {
		cfg.IDs = randomIDs{}
	}
	return &Service{cfg.Engine, cfg.Policy, cfg.Parent, cfg.IDs, newTables(cfg.Engine)}, nil
}

type randomIDs struct{}

func (randomIDs) NewID() string { return uuid.NewString() }

func (s *Service) newID() string { return strings.ReplaceAll(s.ids.NewID(), "-", "") }

// newSecret never comes from Config.IDs, which may be predictable.
func newSecret() string { return strings.ReplaceAll(uuid.NewString(), "-", "") }

type target map[string]string

// Attr implements nacre.Target.
func (t target) Attr(name string) (string, bool) { v, ok := t[name]; return v, ok }

func (s *Service) enforce(ctx context.Context, rule string, t target) error {
	return s.policy.Enforce(ctx, "identity:"+rule, t)
}

func (s *Service) tx(ctx context.Context, fn func(ctx context.Context) error) error {
	return store.InTx(ctx, s.engine, fn)
}

func orNotFound(err error, message string) error {
	return store.WrapNotFound(err, func() *nacre.Error { return nacre.Errorf(nacre.NotFound, "NotFound", "%s", message) })
}

func unauthorized(message string) error {
	return &nacre.Error{Kind: nacre.Unauthenticated, Code: "Unauthorized", Message: message}
}

func missing(attr string) error {
	return nacre.Errorf(nacre.Invalid, "ValidationError", "Expecting to find %s in request. The server could not comply with the request since it is either malformed or otherwise incorrect. The client is assumed to be in error.", attr)
}
