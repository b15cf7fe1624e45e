package identity

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/catalog"
	"github.com/nacre-cloud/nacre/identity/domainconfig"
	"github.com/nacre-cloud/nacre/identity/fernet"
	"github.com/nacre-cloud/nacre/identity/kit"
	"github.com/nacre-cloud/nacre/identity/limit"
	"github.com/nacre-cloud/nacre/identity/passhash"
	"github.com/nacre-cloud/nacre/identity/password"
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
	// LimitModel is limit.Flat or limit.Strict; empty is flat.
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
	Compliance password.Compliance
	// Publish takes events from the outbox; nil drops them.
	Publish func(context.Context, nacre.Event) error
	// CatalogTemplate is the catalog, instead of the stored one; nil is the stored one.
	CatalogTemplate *catalog.Template
	// Federation is for users that others vouch for.
	Federation FederationConfig
	// Directories keep the users and groups of domains, by the domains' ids.
	Directories map[string]Directory
	// OpenDirectory makes the directory of a domain whose own configuration says that
	// its driver is "ldap"; nil has such configuration kept, but without effect.
	OpenDirectory func(context.Context, domainconfig.Options) (Directory, error)
	// DomainConfigs are the configurations of domains, by the domains' names, as files
	// of Keystone's domain_config_dir are; what the API sets for such a domain is kept,
	// but without effect. A domain that is not there yet is waited for.
	DomainConfigs map[string]domainconfig.Options
	// Log is for what no caller hears of; nil is slog.Default.
	Log *slog.Logger
}

// Service is the identity service. Its methods are safe for concurrent use.
type Service struct {
	area        kit.Area
	keys        TokenFormat
	receiptKeys *fernet.Keys
	maxDepth    int
	noRescope   bool
	ttl         time.Duration
	log         *slog.Logger

	outbox  *outbox.Outbox
	publish func(context.Context, nacre.Event) error
	cache   *tokenCache
	methods map[string]authMethod

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
	if cfg.TokenTTL == 0 {
		cfg.TokenTTL = time.Hour
	}
	if cfg.MaxProjectDepth == 0 {
		cfg.MaxProjectDepth = defaultDepth
	}
	if cfg.LimitModel == limit.Strict {
		cfg.MaxProjectDepth = min(cfg.MaxProjectDepth, 2)
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
	events := outbox.New("identity", cfg.Engine, cfg.Log)
	s := &Service{
		area: kit.Area{Engine: cfg.Engine, Policy: cfg.Policy, IDs: cfg.IDs, Happened: func(ctx context.Context, resource, what, id string) error {
			// As Keystone's basic notifications say it: identity.user.created.
			return events.Emit(ctx, "identity."+resource+"."+what, id, "", map[string]string{"resource_info": id})
		}},
		keys: cfg.Tokens, receiptKeys: cfg.ReceiptKeys, noRescope: cfg.NoRescope, maxDepth: cfg.MaxProjectDepth, ttl: cfg.TokenTTL, log: cfg.Log,
		outbox:  events,
		publish: cfg.Publish,
		cache:   newTokenCache(),
		tables:  newTables(cfg.Engine),
	}
	s.methods = s.authMethods()
	if err := s.makeParts(&cfg); err != nil {
		return nil, err
	}
	return s, nil
}

func (cfg *Config) newHasher() (passhash.Hasher, error) {
	name, rounds := cfg.PasswordHash, cfg.PasswordRounds
	if name == "" {
		name = passhash.Bcrypt
	}
	if name == passhash.Bcrypt || name == passhash.BcryptSHA256 {
		rounds = cfg.BcryptCost
	}
	h, err := passhash.New(name, rounds)
	if err != nil {
		return h, fmt.Errorf("identity: Config.PasswordHash, BcryptCost or PasswordRounds: %w", err)
	}
	return h, nil
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
		if err := s.Revocations.Sync(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("revocations can't be read", "err", err)
		}
		if time.Since(last) > 10*time.Minute {
			last = time.Now()
			if err := s.Revocations.Prune(ctx); err != nil && ctx.Err() == nil {
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
