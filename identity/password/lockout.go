package password

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/kit"
	"github.com/nacre-cloud/nacre/store"
)

// The options of a user that except it from rules, by Keystone's names.
const (
	IgnoreChangePassword = "ignore_change_password_upon_first_use"
	IgnorePasswordExpiry = "ignore_password_expiry"
	IgnoreLockout        = "ignore_lockout_failure_attempts"
	LockPassword         = "lock_password"
	IgnoreInactivity     = "ignore_user_inactivity"
)

const (
	day                = 24 * time.Hour
	defaultLockoutFor  = 30 * time.Minute
	defaultReportChars = 5
)

// Account is a user as far as the rules look at it.
type Account struct {
	ID      string
	Options kit.Options
	// LastActive is the day of the last log-in, CreatedAt counts where there was none.
	CreatedAt, LastActive *time.Time
}

// Locked says whether a user has failed too often.
func (s *Service) Locked(ctx context.Context, a *Account) (bool, error) {
	if s.rules.LockoutAttempts == 0 || a.Options.Is(IgnoreLockout) {
		return false, nil
	}
	f, err := s.failures.Get(ctx, a.ID)
	switch {
	case errors.Is(err, store.ErrNoRow):
		return false, nil
	case err != nil:
		return false, err
	case f.Count < s.rules.LockoutAttempts:
		return false, nil
	case s.rules.LockoutFor < 0:
		return true, nil
	}
	wait := s.rules.LockoutFor
	if wait == 0 {
		wait = defaultLockoutFor
	}
	return time.Since(f.At) < wait, nil
}

// NoteFailure counts a wrong password. One that comes after a lock has lapsed is
// the first again.
func (s *Service) NoteFailure(ctx context.Context, a *Account, pw string) error {
	if s.rules.LockoutAttempts == 0 && s.rules.ReportKey == "" {
		return nil
	}
	return s.area.Tx(ctx, func(ctx context.Context) error {
		if s.rules.ReportKey != "" {
			payload := map[string]string{"outcome": "failure", "user_id": a.ID, "partial_password_hash": s.partialHash(pw)}
			if err := s.parent.AuthFailed(ctx, a.ID, payload); err != nil {
				return err
			}
		}
		if s.rules.LockoutAttempts == 0 {
			return nil
		}
		if err := s.parent.HoldUser(ctx, a.ID); err != nil {
			if errors.Is(err, nacre.NotFound) {
				return nil
			}
			return err
		}
		now := time.Now().UTC()
		_, err := s.failures.Update(ctx, a.ID, func(f *failure) error {
			if f.Count >= s.rules.LockoutAttempts {
				f.Count = 0
			}
			f.Count, f.At = f.Count+1, now
			return nil
		})
		if errors.Is(err, store.ErrNoRow) {
			return s.failures.Insert(ctx, failure{UserID: a.ID, Count: 1, At: now})
		}
		return err
	})
}

// partialHash is Keystone's partial_password_hash for its SQL driver.
func (s *Service) partialHash(pw string) string {
	salted := hmac.New(sha256.New, []byte("keystone.identity.backends.sql.Identity"))
	salted.Write([]byte(pw))
	peppered := hmac.New(sha256.New, []byte(s.rules.ReportKey))
	peppered.Write(salted.Sum(nil))
	text := base64.RawStdEncoding.EncodeToString(peppered.Sum(nil))
	n := s.rules.ReportChars
	if n == 0 {
		n = defaultReportChars
	}
	return text[:min(n, len(text))]
}

// Unlock forgets a user's failures, within a transaction.
func (s *Service) Unlock(ctx context.Context, userID string) error {
	_, err := s.failures.DeleteWhere(ctx, store.Eq("user_id", userID))
	return err
}

// Succeeded forgets failures after a log-in, and says whether its day is to be noted
// as the account's last.
func (s *Service) Succeeded(ctx context.Context, a *Account) (today time.Time, note bool, err error) {
	if s.rules.LockoutAttempts > 0 {
		if err := s.Unlock(ctx, a.ID); err != nil {
			return today, false, err
		}
	}
	today = Today()
	return today, s.CountsInactivity() && (a.LastActive == nil || !a.LastActive.Equal(today)), nil
}

// Today is the day as inactivity counts it.
func Today() time.Time { return time.Now().UTC().Truncate(day) }

// CountsInactivity is whether users who stay away count as disabled.
func (s *Service) CountsInactivity() bool { return s.rules.InactiveDays > 0 }

// Inactive says that a user has been away for too long.
func (s *Service) Inactive(a *Account) bool {
	since := a.LastActive
	if since == nil {
		since = a.CreatedAt
	}
	if !s.CountsInactivity() || since == nil || a.Options.Is(IgnoreInactivity) {
		return false
	}
	return Today().Sub(since.Truncate(day)) >= time.Duration(s.rules.InactiveDays)*day
}
