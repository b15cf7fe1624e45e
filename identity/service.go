package identity

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/fernet"
	"github.com/nacre-cloud/nacre/identity/passhash"
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
	// Tokens makes and reads tokens in another format than Fernet, as package jws
	// does; nil is Keys.
	Tokens TokenFormat
	// CredentialKeys encrypt what users keep as credentials (EC2 keys). Without
	// them credentials are NotImplemented, unless Keys is nil too: then there are
	// some that end with the process.
	CredentialKeys *fernet.Keys
	// ReceiptKeys make and read auth receipts; nil is Keys. Keystone keeps them apart.
	ReceiptKeys *fernet.Keys
	// NoRescope refuses to make a token from one that has a scope: Keystone's
	// allow_rescope_scoped_token = false.
	NoRescope bool
	// LimitModel is FlatLimits or StrictLimits; empty is flat.
	LimitModel string
	// MaxProjectDepth is Keystone's max_project_tree_depth: how many levels a tree
	// of projects has, its domain included. 0 is 5.
	MaxProjectDepth int
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
	// PasswordHash is the algorithm for new passwords, one of package passhash's
	// names; empty is bcrypt. Hashes of each of them are good for logging in.
	PasswordHash string
	// PasswordRounds is the cost of algorithms other than bcrypt; 0 is Keystone's.
	PasswordRounds int
	// StrictPasswords refuses passwords that are longer than the algorithm takes;
	// else, as in Keystone, what is beyond does not count.
	StrictPasswords bool
	// Compliance are the rules for passwords and accounts; zero is none.
	Compliance Compliance
	// Publish takes events from the outbox; nil drops them.
	Publish func(context.Context, nacre.Event) error
	// CatalogTemplate is the catalog, instead of the stored one; nil is the stored one.
	CatalogTemplate *CatalogTemplate
	// Federation is for users that others vouch for.
	Federation FederationConfig
	// Directories keep the users and groups of domains, by the domains' ids.
	Directories map[string]Directory
	// OpenDirectory makes the directory of a domain whose own configuration says that
	// its driver is "ldap"; nil has such configuration kept, but without effect.
	OpenDirectory func(context.Context, DomainConfig) (Directory, error)
	// DomainConfigs are the configurations of domains, by the domains' names, as files
	// of Keystone's domain_config_dir are; what the API sets for such a domain is kept,
	// but without effect. A domain that is not there yet is waited for.
	DomainConfigs map[string]DomainConfig
	// Log is for what no caller hears of; nil is slog.Default.
	Log *slog.Logger
}

// TokenFormat makes a token's text and reads it again: fernet.ErrToken for what is
// none, whatever its expiry. A fernet.Keys is one, and so is a jws.Keys.
type TokenFormat interface {
	Pack(fernet.Token) (string, error)
	Unpack(text string) (fernet.Token, error)
}

// Service is the identity service. Its methods are safe for concurrent use.
type Service struct {
	engine store.Engine
	keys   TokenFormat
	// credentialKeys may be nil.
	credentialKeys *fernet.Keys
	receiptKeys    *fernet.Keys
	limitModel     string
	maxDepth       int
	noRescope      bool
	policy         nacre.Enforcer
	ids            nacre.IDs
	ttl            time.Duration
	log            *slog.Logger

	hasher     hasher
	compliance Compliance
	// strength are the parts of Compliance.PasswordRegex.
	strength []lookahead
	outbox   *outbox.Outbox
	publish  func(context.Context, nacre.Event) error
	revoked  *revocations
	cache    *tokenCache
	methods  map[string]authMethod

	tables
	parts
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
	if cfg.Tokens == nil {
		cfg.Tokens = cfg.Keys
	}
	if cfg.ReceiptKeys == nil {
		cfg.ReceiptKeys = cfg.Keys
	}
	if cfg.IDs == nil {
		cfg.IDs = randomIDs{}
	}
	if cfg.TokenTTL == 0 {
		cfg.TokenTTL = time.Hour
	}
	hasher, err := cfg.newHasher()
	if err != nil {
		return nil, err
	}
	if cfg.LimitModel == "" {
		cfg.LimitModel = FlatLimits
	}
	if limitModels[cfg.LimitModel] == "" {
		return nil, fmt.Errorf("identity: Config.LimitModel: there is no %q", cfg.LimitModel)
	}
	if cfg.MaxProjectDepth == 0 {
		cfg.MaxProjectDepth = defaultDepth
	}
	if cfg.LimitModel == StrictLimits {
		cfg.MaxProjectDepth = min(cfg.MaxProjectDepth, 2)
	}
	if err := cfg.Compliance.check(); err != nil {
		return nil, err
	}
	for name, c := range cfg.DomainConfigs {
		if err := c.tried(cfg.OpenDirectory); err != nil {
			return nil, fmt.Errorf("identity: Config.DomainConfigs: %s: %w", name, err)
		}
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
		engine: cfg.Engine, keys: cfg.Tokens, credentialKeys: cfg.CredentialKeys, receiptKeys: cfg.ReceiptKeys, noRescope: cfg.NoRescope, limitModel: cfg.LimitModel, maxDepth: cfg.MaxProjectDepth, policy: cfg.Policy, ids: cfg.IDs, ttl: cfg.TokenTTL, log: cfg.Log,
		hasher:     hasher,
		compliance: cfg.Compliance,
		outbox:     outbox.New("identity", cfg.Engine, cfg.Log),
		publish:    cfg.Publish,
		cache:      newTokenCache(),
		tables:     newTables(cfg.Engine),
	}
	s.strength, err = passwordPattern(cfg.Compliance.PasswordRegex)
	if err != nil {
		return nil, err
	}
	s.methods = s.authMethods()
	if s.parts, err = newParts(s, &cfg); err != nil {
		return nil, err
	}
	s.revoked = newRevocations(s.tables.revocations, s.ttl)
	return s, nil
}

func (cfg *Config) newHasher() (hasher, error) {
	name, rounds := cfg.PasswordHash, cfg.PasswordRounds
	if name == "" {
		name = passhash.Bcrypt
	}
	if name == passhash.Bcrypt || name == passhash.BcryptSHA256 {
		rounds = cfg.BcryptCost
	}
	h, err := passhash.New(name, rounds)
	if err != nil {
		return hasher{}, fmt.Errorf("identity: Config.PasswordHash, BcryptCost or PasswordRounds: %w", err)
	}
	return newHasher(h, cfg.StrictPasswords, runtime.GOMAXPROCS(0)), nil
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
