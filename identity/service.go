package identity

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"runtime"
	"strings"
	"time"

	"github.com/google/uuid"
	"golang.org/x/crypto/bcrypt"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/fernet"
	"github.com/nacre-cloud/nacre/internal/outbox"
	"github.com/nacre-cloud/nacre/internal/policy"
	"github.com/nacre-cloud/nacre/store"
)

// Config is what a Service is made of. Only Engine must be set.
type Config struct {
	// Engine holds the tables of Schema.
	Engine store.Engine
	// Keys make and read tokens; nil makes some that end with the process.
	Keys *fernet.Keys
	// CredentialKeys encrypt what users keep as credentials (EC2 keys). Without
	// them credentials are NotImplemented, unless Keys is nil too: then there are
	// some that end with the process.
	CredentialKeys *fernet.Keys
	// Policy decides; nil is Rules with scopes and new defaults enforced.
	Policy nacre.Enforcer
	// PolicyOptions adjust the default rules when Policy is nil.
	PolicyOptions nacre.PolicyOptions
	// IDs makes identifiers (their dashes are dropped); nil is random.
	IDs nacre.IDs
	// TokenTTL is how long a token lives; 0 is Keystone's hour.
	TokenTTL time.Duration
	// BcryptCost is for new passwords; 0 is 12, as Keystone's.
	BcryptCost int
	// Publish takes events from the outbox; nil drops them.
	Publish func(context.Context, nacre.Event) error
	// Log is for what no caller hears of; nil is slog.Default.
	Log *slog.Logger
}

// Service is the identity service. Its methods are safe for concurrent use.
type Service struct {
	engine store.Engine
	keys   *fernet.Keys
	// credentialKeys may be nil.
	credentialKeys *fernet.Keys
	policy         nacre.Enforcer
	ids            nacre.IDs
	ttl            time.Duration
	log            *slog.Logger

	hasher  hasher
	outbox  *outbox.Outbox
	publish func(context.Context, nacre.Event) error
	revoked *revocations
	cache   *tokenCache

	tables
}

// New makes a Service. It reads nothing from the engine yet.
func New(cfg Config) (*Service, error) {
	if cfg.Engine == nil {
		return nil, errors.New("identity: Config.Engine is missing")
	}
	if cfg.Keys == nil {
		cfg.Keys = fernet.Memory()
		if cfg.CredentialKeys == nil {
			cfg.CredentialKeys = fernet.Memory()
		}
	}
	if cfg.IDs == nil {
		cfg.IDs = randomIDs{}
	}
	if cfg.TokenTTL == 0 {
		cfg.TokenTTL = time.Hour
	}
	if cfg.BcryptCost == 0 {
		cfg.BcryptCost = 12
	}
	if cfg.BcryptCost < bcrypt.MinCost || cfg.BcryptCost > bcrypt.MaxCost {
		return nil, errors.New("identity: Config.BcryptCost is out of range")
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Publish == nil {
		cfg.Publish = func(context.Context, nacre.Event) error { return nil }
	}
	if cfg.Policy == nil {
		p, err := policy.New(policy.Config{Area: "identity", Rules: Rules(), EnforceScope: true, EnforceNewDefaults: true, Denied: Denied, Log: cfg.Log}.With(cfg.PolicyOptions))
		if err != nil {
			return nil, err
		}
		cfg.Policy = p
	}
	s := &Service{
		engine: cfg.Engine, keys: cfg.Keys, credentialKeys: cfg.CredentialKeys, policy: cfg.Policy, ids: cfg.IDs, ttl: cfg.TokenTTL, log: cfg.Log,
		hasher:  newHasher(cfg.BcryptCost, runtime.GOMAXPROCS(0)),
		outbox:  outbox.New("identity", cfg.Engine, cfg.Log),
		publish: cfg.Publish,
		cache:   newTokenCache(),
		tables:  newTables(cfg.Engine),
	}
	s.revoked = newRevocations(s.tables.revocations, s.ttl)
	return s, nil
}

// Denied words a refusal as Keystone does.
func Denied(rule string) string {
	return "You are not authorized to perform the requested action: " + rule + "."
}

// Run does the background work until ctx ends: it relays events, re-reads
// revocations each second and removes old ones.
func (s *Service) Run(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.outbox.Run(ctx, s.publish)
	}()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	last := time.Time{}
	for ctx.Err() == nil {
		if err := s.revoked.sync(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("revocations can't be read", "err", err)
		}
		if time.Since(last) > 10*time.Minute {
			last = time.Now()
			if err := s.revoked.prune(ctx); err != nil && ctx.Err() == nil {
				s.log.Warn("old revocations can't be removed", "err", err)
			}
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	<-done
	return nil
}

// tx runs fn in a transaction.
func (s *Service) tx(ctx context.Context, fn func(ctx context.Context) error) error {
	return store.InTx(ctx, s.engine, fn)
}

// emit records that something happened to a resource, as Keystone's basic
// notifications do: identity.user.created.
func (s *Service) emit(ctx context.Context, resource, what, id string) error {
	return s.outbox.Emit(ctx, "identity."+resource+"."+what, id, "", map[string]string{"resource_info": id})
}

func (s *Service) enforce(ctx context.Context, rule string, target policy.Map) error {
	return s.policy.Enforce(ctx, "identity:"+rule, target)
}

type randomIDs struct{}

func (randomIDs) NewID() string { return uuid.NewString() }

// newID is a new identifier: 32 hex digits.
func (s *Service) newID() string { return strings.ReplaceAll(s.ids.NewID(), "-", "") }

// randomSecret is 128 random bits as text.
func randomSecret() string { return strings.ToLower(rand.Text()) }
