package identity

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/store"
)

// Compliance are rules for passwords and accounts, those of Keystone's section
// [security_compliance]. The zero value asks for nothing.
type Compliance struct {
	// LockoutAttempts is how many log-ins may fail in a row before the user is
	// locked; 0 is any number.
	LockoutAttempts int
	// LockoutFor is how long; 0 is half an hour, negative until an administrator
	// enables the user again.
	LockoutFor time.Duration
	// InactiveDays is after how many days without a log-in a user counts as disabled.
	InactiveDays int
	// PasswordDays is for how many days a new password is good.
	PasswordDays int
	// UniquePasswords is how many passwords in a row must differ, the new one included.
	UniquePasswords int
	// MinPasswordDays is how old a password that a user has set must be before the
	// user may set another.
	MinPasswordDays int
	// PasswordRegex is what a password must match at its beginning. Look-aheads are
	// understood where the classic patterns have them, at the beginning:
	// ^(?=.*\d)(?=.*[a-zA-Z]).{7,}$
	PasswordRegex string
	// PasswordRules says in human words what PasswordRegex asks for.
	PasswordRules string
	// ChangeUponFirstUse makes a password that an administrator has set good for
	// nothing but changing it.
	ChangeUponFirstUse bool
	// ReportKey, if set, has each failed log-in reported by an event with a part of
	// a hash of the password that was tried, by this secret: equal ones tell a stale
	// program from somebody who guesses.
	ReportKey string
	// ReportChars is how much of that hash is told; 0 is 5.
	ReportChars int
}

func (c *Compliance) check() error {
	for name, n := range map[string]int{
		"LockoutAttempts": c.LockoutAttempts, "InactiveDays": c.InactiveDays, "PasswordDays": c.PasswordDays,
		"UniquePasswords": c.UniquePasswords, "MinPasswordDays": c.MinPasswordDays, "ReportChars": c.ReportChars,
	} {
		if n < 0 {
			return fmt.Errorf("identity: Config.Compliance.%s is negative", name)
		}
	}
	if c.PasswordDays > 0 && c.MinPasswordDays >= c.PasswordDays {
		return errors.New("identity: Config.Compliance.MinPasswordDays leaves no day to change a password on")
	}
	if _, err := passwordPattern(c.PasswordRegex); err != nil {
		return fmt.Errorf("identity: Config.Compliance.PasswordRegex: %w", err)
	}
	return nil
}

// lookahead is a part of a password's pattern: each must match, or must not.
type lookahead struct {
	*regexp.Regexp
	not bool
}

// passwordPattern splits a pattern with look-aheads at its beginning, which Go's
// expressions don't have, into expressions without.
func passwordPattern(text string) ([]lookahead, error) {
	var parts []lookahead
	rest := strings.TrimPrefix(text, "^")
	for strings.HasPrefix(rest, "(?=") || strings.HasPrefix(rest, "(?!") {
		end := closing(rest)
		if end < 0 {
			return nil, errors.New("a parenthesis is not closed")
		}
		re, err := regexp.Compile("^(?:" + rest[3:end] + ")")
		if err != nil {
			return nil, err
		}
		parts = append(parts, lookahead{re, rest[2] == '!'})
		rest = rest[end+1:]
	}
	re, err := regexp.Compile("^(?:" + rest + ")")
	if err != nil {
		return nil, err
	}
	return append(parts, lookahead{re, false}), nil
}

// closing is where the parenthesis that a pattern begins with is closed.
func closing(s string) int {
	depth, class := 0, false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\':
			i++
		case class:
			class = c != ']'
		case c == '[':
			class = true
			if strings.HasPrefix(s[i+1:], "]") || strings.HasPrefix(s[i+1:], "^]") {
				i = strings.IndexByte(s[i:], ']') + i
			}
		case c == '(':
			depth++
		case c == ')':
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return -1
}

// checkStrength refuses a new password that is too weak.
func (s *Service) checkStrength(pw string) error {
	for _, part := range s.strength {
		if part.MatchString(pw) == part.not {
			return invalid("The password does not match the requirements: %s.", s.compliance.PasswordRules)
		}
	}
	return nil
}

// The options of a user that have a meaning.
const (
	ignoreChangePassword  = "ignore_change_password_upon_first_use"
	ignorePasswordExpiry  = "ignore_password_expiry"
	ignoreLockout         = "ignore_lockout_failure_attempts"
	lockPassword          = "lock_password"
	ignoreInactivity      = "ignore_user_inactivity"
	multiFactorRules      = "multi_factor_auth_rules"
	multiFactorEnabled    = "multi_factor_auth_enabled"
	optionImmutable       = "immutable"
	day                   = 24 * time.Hour
	defaultLockoutFor     = 30 * time.Minute
	defaultReportChars    = 5
	maxMultiFactorMethods = 100
)

var (
	userOptions     = []string{ignoreChangePassword, ignorePasswordExpiry, ignoreLockout, lockPassword, ignoreInactivity, multiFactorRules, multiFactorEnabled}
	resourceOptions = []string{optionImmutable}
)

// checkOptions refuses options that a resource does not have, or of a wrong type.
// A null takes an option away.
func checkOptions(known []string, o Options) error {
	for name, v := range o {
		switch {
		case !slices.Contains(known, name):
			return invalid("Invalid input for field 'options': Additional properties are not allowed ('%s' was unexpected)", name)
		case v == nil:
		case name == multiFactorRules:
			if _, ok := mfaRules(v); !ok {
				return invalid("Invalid input for field 'options/%s': Invalid data type, must be a list of lists comprised of strings. Sub-lists may not be duplicated. Strings in sub-lists may not be duplicated.", name)
			}
		default:
			if _, ok := v.(bool); !ok {
				return invalid("Invalid input for field 'options/%s': %v is not of type 'boolean', 'null'", name, v)
			}
		}
	}
	return nil
}

// mfaRules reads multi_factor_auth_rules: sets of methods, each of which will do.
func mfaRules(v any) ([][]string, bool) {
	list, ok := v.([]any)
	if !ok {
		return nil, false
	}
	rules := [][]string{}
	for _, x := range list {
		sub, ok := x.([]any)
		if !ok || len(sub) == 0 || len(sub) > maxMultiFactorMethods {
			return nil, false
		}
		var rule []string
		for _, y := range sub {
			m, ok := y.(string)
			if !ok || slices.Contains(rule, m) {
				return nil, false
			}
			rule = append(rule, m)
		}
		if slices.ContainsFunc(rules, func(r []string) bool { return slices.Equal(r, rule) }) {
			return nil, false
		}
		rules = append(rules, rule)
	}
	return rules, true
}

// locked says whether a user has failed too often.
func (s *Service) locked(ctx context.Context, u *User) (bool, error) {
	if s.compliance.LockoutAttempts == 0 || u.Options.is(ignoreLockout) {
		return false, nil
	}
	f, err := s.failures.Get(ctx, u.ID)
	switch {
	case errors.Is(err, store.ErrNoRow):
		return false, nil
	case err != nil:
		return false, err
	case f.Count < s.compliance.LockoutAttempts:
		return false, nil
	case s.compliance.LockoutFor < 0:
		return true, nil
	}
	wait := s.compliance.LockoutFor
	if wait == 0 {
		wait = defaultLockoutFor
	}
	return time.Since(f.At) < wait, nil
}

// noteFailure counts a wrong password. One that comes after a lock has lapsed is
// the first again.
func (s *Service) noteFailure(ctx context.Context, u *User, pw string) error {
	if s.compliance.LockoutAttempts == 0 && s.compliance.ReportKey == "" {
		return nil
	}
	return s.tx(ctx, func(ctx context.Context) error {
		if s.compliance.ReportKey != "" {
			payload := map[string]string{"outcome": "failure", "user_id": u.ID, "partial_password_hash": s.partialHash(pw)}
			if err := s.outbox.Emit(ctx, "identity.authenticate", u.ID, "", payload); err != nil {
				return err
			}
		}
		if s.compliance.LockoutAttempts == 0 {
			return nil
		}
		if err := hold(ctx, s.users, "user", u.ID); err != nil {
			if errors.Is(err, nacre.NotFound) {
				return nil
			}
			return err
		}
		now := time.Now().UTC()
		_, err := s.failures.Update(ctx, u.ID, func(f *failure) error {
			if f.Count >= s.compliance.LockoutAttempts {
				f.Count = 0
			}
			f.Count, f.At = f.Count+1, now
			return nil
		})
		if errors.Is(err, store.ErrNoRow) {
			return s.failures.Insert(ctx, failure{UserID: u.ID, Count: 1, At: now})
		}
		return err
	})
}

// partialHash is Keystone's partial_password_hash for its SQL driver.
func (s *Service) partialHash(pw string) string {
	salted := hmac.New(sha256.New, []byte("keystone.identity.backends.sql.Identity"))
	salted.Write([]byte(pw))
	peppered := hmac.New(sha256.New, []byte(s.compliance.ReportKey))
	peppered.Write(salted.Sum(nil))
	text := base64.RawStdEncoding.EncodeToString(peppered.Sum(nil))
	n := s.compliance.ReportChars
	if n == 0 {
		n = defaultReportChars
	}
	return text[:min(n, len(text))]
}

// noteSuccess forgets failures, and notes the day where inactivity matters.
func (s *Service) noteSuccess(ctx context.Context, u *User) error {
	if s.compliance.LockoutAttempts > 0 {
		if _, err := s.failures.DeleteWhere(ctx, store.Eq("user_id", u.ID)); err != nil {
			return err
		}
	}
	today := time.Now().UTC().Truncate(day)
	if s.compliance.InactiveDays == 0 || u.LastActive != nil && u.LastActive.Equal(today) {
		return nil
	}
	u.LastActive = &today
	_, err := s.users.UpdateWhere(ctx, store.Eq("id", u.ID), store.Set{"last_active_at": &today})
	return err
}

// seen shows a user who has been away for too long as disabled.
func (s *Service) seen(u *User) {
	since := u.LastActive
	if since == nil {
		since = u.CreatedAt
	}
	if s.compliance.InactiveDays == 0 || since == nil || u.Options.is(ignoreInactivity) {
		return
	}
	if time.Now().UTC().Truncate(day).Sub(since.Truncate(day)) >= time.Duration(s.compliance.InactiveDays)*day {
		u.Enabled = false
	}
}

// passwordExpiry is when a password that is set now must have been changed.
func (s *Service) passwordExpiry(u *User, byUser bool) *time.Time {
	now := time.Now().UTC().Truncate(time.Second)
	switch {
	case !byUser && s.compliance.ChangeUponFirstUse && !u.Options.is(ignoreChangePassword):
		return &now
	case s.compliance.PasswordDays == 0 || u.Options.is(ignorePasswordExpiry):
		return nil
	}
	end := now.Add(time.Duration(s.compliance.PasswordDays) * day)
	return &end
}

// checkOwnChange says whether a user may set a new password now: not while it is
// locked, nor too early.
func (s *Service) checkOwnChange(ctx context.Context, u *User) error {
	if u.Options.is(lockPassword) {
		return invalid("You cannot change your password at this time due to password policy disallowing password changes. Please contact your administrator to reset your password.")
	}
	row, err := s.passwords.Get(ctx, u.ID)
	if err != nil {
		return gone(err, "the password is gone")
	}
	wait := time.Until(row.SetAt.Add(time.Duration(s.compliance.MinPasswordDays) * day))
	if row.SelfService && s.compliance.MinPasswordDays > 0 && wait > 0 {
		return invalid("You cannot change your password at this time due to the minimum password age. Once you change your password, it must be used for %d day(s) before it can be changed. Please try again in %d day(s) or contact your administrator to reset your password.",
			s.compliance.MinPasswordDays, int(wait/day))
	}
	return nil
}

// checkHistory refuses a password that the user has had lately.
func (s *Service) checkHistory(ctx context.Context, u *User, pw string) error {
	n := s.compliance.UniquePasswords
	if n == 0 {
		return nil
	}
	var hashes []string
	if row, err := s.passwords.Get(ctx, u.ID); err == nil {
		hashes = append(hashes, row.Hash)
	} else if !errors.Is(err, nacre.NotFound) {
		return err
	}
	olds, err := s.oldPasswords.Select(ctx, store.Select{Where: store.Eq("user_id", u.ID), Order: []store.Order{{Column: "set_at", Desc: true}}, Limit: n})
	if err != nil {
		return err
	}
	for _, o := range olds {
		hashes = append(hashes, o.Hash)
	}
	for _, h := range hashes[:min(n, len(hashes))] {
		same, err := s.hasher.check(ctx, h, pw)
		if err != nil {
			return err
		}
		if same {
			return invalid("The new password cannot be identical to a previous password. The total number which includes the new password must be unique is %d.", n)
		}
	}
	return nil
}

// keepHistory keeps the password that is about to be replaced, and no more than
// are compared with.
func (s *Service) keepHistory(ctx context.Context, userID string) error {
	n := s.compliance.UniquePasswords
	if n == 0 {
		return nil
	}
	row, err := s.passwords.Get(ctx, userID)
	if errors.Is(err, store.ErrNoRow) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := s.oldPasswords.Insert(ctx, oldPassword{ID: s.newID(), UserID: userID, Hash: row.Hash, SetAt: row.SetAt}); err != nil {
		return err
	}
	olds, err := s.oldPasswords.Select(ctx, store.Select{Where: store.Eq("user_id", userID), Order: []store.Order{{Column: "set_at", Desc: true}}})
	if err != nil || len(olds) <= n {
		return err
	}
	var drop []string
	for _, o := range olds[n:] {
		drop = append(drop, o.ID)
	}
	_, err = s.oldPasswords.DeleteWhere(ctx, store.In("id", drop))
	return err
}
