package password

import (
	"context"
	"errors"
	"runtime"

	"github.com/nacre-cloud/nacre/identity/kit"
	"github.com/nacre-cloud/nacre/identity/passhash"
	"github.com/nacre-cloud/nacre/store"
)

// Config is what a Service is made of. All but Rules and Strict must be set, as
// kit.Area says.
type Config struct {
	kit.Area
	Parent Parent
	// Hasher is for new passwords. Hashes of each form that package passhash has are
	// good for logging in.
	Hasher passhash.Hasher
	// Strict refuses passwords that are longer than the algorithm takes; else, as in
	// Keystone, what is beyond does not count.
	Strict bool
	Rules  Compliance
}

// Service is passwords and the rules for them. Its methods are safe for concurrent
// use, and ask no policy: who may set a password is decided by who calls.
type Service struct {
	area   kit.Area
	parent Parent
	hasher hasher
	rules  Compliance
	// strength are the parts of Rules.PasswordRegex.
	strength []lookahead
	tables
}

// New makes a Service; rules that contradict each other are an error. It reads nothing
// from the engine yet.
func New(cfg Config) (*Service, error) {
	if err := cfg.Check("password"); err != nil {
		return nil, err
	}
	if cfg.Parent == nil {
		return nil, errors.New("password: Config.Parent is missing")
	}
	if cfg.Hasher == (passhash.Hasher{}) {
		return nil, errors.New("password: Config.Hasher is missing")
	}
	if err := cfg.Rules.check(); err != nil {
		return nil, err
	}
	strength, err := passwordPattern(cfg.Rules.PasswordRegex)
	if err != nil {
		return nil, err
	}
	return &Service{area: cfg.Area, parent: cfg.Parent, hasher: newHasher(cfg.Hasher, cfg.Strict, runtime.GOMAXPROCS(0)), rules: cfg.Rules, strength: strength, tables: newTables(cfg.Engine)}, nil
}

// Hash makes the hash of a password that somebody has chosen.
func (s *Service) Hash(ctx context.Context, pw string) (string, error) { return s.hasher.hash(ctx, pw) }

// HashCheap is for secrets of 128 random bits and more.
func (s *Service) HashCheap(ctx context.Context, secret string) (string, error) {
	return s.hasher.hashCheap(ctx, secret)
}

// Compare takes as long without a hash as with one.
func (s *Service) Compare(ctx context.Context, hash, pw string) (bool, error) {
	return s.hasher.check(ctx, hash, pw)
}

// Same compares without that care, for who is trusted.
func (s *Service) Same(hash, pw string) bool { return passhash.Verify(hash, cut(pw)) }

// UsersDeleted removes all that is kept of users, within the transaction in which they
// go.
func (s *Service) UsersDeleted(ctx context.Context, ids []string) error {
	w := store.In("user_id", ids)
	if _, err := s.passwords.DeleteWhere(ctx, w); err != nil {
		return err
	}
	if _, err := s.oldPasswords.DeleteWhere(ctx, w); err != nil {
		return err
	}
	_, err := s.failures.DeleteWhere(ctx, w)
	return err
}

// Audit says what is kept of nobody. users are those that there are.
func (s *Service) Audit(a *kit.Audit, users map[string]bool) {
	kit.Each(a, "password", s.passwords, func(p Row) string { return p.UserID }, func(p Row) { a.Refers(p.UserID, "user", p.UserID, users) })
	kit.Each(a, "old_password", s.oldPasswords, func(p oldPassword) string { return p.ID }, func(p oldPassword) { a.Refers(p.ID, "user", p.UserID, users) })
	kit.Each(a, "failed_auth", s.failures, func(f failure) string { return f.UserID }, func(f failure) { a.Refers(f.UserID, "user", f.UserID, users) })
}
