package credential

import (
	"context"
	"crypto/hmac"
	"crypto/sha1" // RFC 6238's default, and what authenticator programs make
	"crypto/subtle"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/store"
)

// The passcodes of RFC 6238 as Keystone and the common programs have them.
const (
	totpPeriod = 30 * time.Second
	totpDigits = 1_000_000
	// totpWindows is how many periods back a passcode is still good: Keystone's
	// [totp]included_previous_windows.
	totpWindows = 1
)

// CheckTOTP compares a passcode with those of the user's credentials of the type
// "totp" and uses it up.
func (s *Service) CheckTOTP(ctx context.Context, userID, code string, now time.Time) (bool, error) {
	cs, err := s.credentials.Where(ctx, store.Eq("user_id", userID), store.Eq("type", "totp"))
	if err != nil {
		return false, err
	}
	for i := range cs {
		if err := s.unseal(&cs[i]); err != nil {
			return false, err
		}
		secret, err := totpSecret(cs[i].Blob)
		if err != nil {
			continue
		}
		period := now.Unix() / int64(totpPeriod/time.Second)
		for back := range int64(totpWindows + 1) {
			if subtle.ConstantTimeCompare([]byte(totpCode(secret, period-back)), []byte(code)) == 1 {
				return s.useTOTP(ctx, cs[i].ID, period-back)
			}
		}
	}
	return false, nil
}

// useTOTP marks a passcode as used; false if it or a later one was before.
func (s *Service) useTOTP(ctx context.Context, credentialID string, period int64) (bool, error) {
	fresh := false
	err := s.area.Tx(ctx, func(ctx context.Context) error {
		_, err := s.totpUses.Update(ctx, credentialID, func(u *totpUse) error {
			if fresh = period > u.Period; fresh {
				u.Period = period
			}
			return nil
		})
		if errors.Is(err, store.ErrNoRow) {
			fresh = true
			return s.totpUses.Insert(ctx, totpUse{CredentialID: credentialID, Period: period})
		}
		return err
	})
	if store.IsDuplicate(err) {
		return false, nil // at the same time by somebody else
	}
	return fresh, err
}

// totpSecret reads a credential's blob: base32, padded or not.
func totpSecret(blob string) ([]byte, error) {
	return base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(strings.TrimRight(blob, "="))
}

// totpCode is the passcode of a period.
func totpCode(secret []byte, period int64) string {
	m := hmac.New(sha1.New, secret)
	_ = binary.Write(m, binary.BigEndian, period)
	sum := m.Sum(nil)
	at := sum[len(sum)-1] & 15
	return fmt.Sprintf("%06d", binary.BigEndian.Uint32(sum[at:])&0x7fffffff%totpDigits)
}

// checkTOTPBlob refuses a secret that no passcode could be made from.
func checkTOTPBlob(blob string) error {
	if _, err := totpSecret(blob); err != nil || blob == "" {
		return nacre.Errorf(nacre.Invalid, "ValidationError", "Invalid input for field 'blob': it is no base32 secret")
	}
	return nil
}
