package identity

import (
	"context"
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // RFC 6238's default, and what authenticator programs make
	"crypto/subtle"
	"encoding/base32"
	"encoding/binary"
	"encoding/json"
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

// totpUse is the last period of which a credential's passcode was used, so that
// none is good twice.
type totpUse struct {
	CredentialID string `store:"credential_id,pk"`
	Period       int64  `store:"period"`
}

// totpPayload is what a client shows for the method "totp".
type totpPayload struct {
	User *struct {
		ID       string     `json:"id"`
		Name     string     `json:"name"`
		Domain   *DomainRef `json:"domain"`
		Passcode any        `json:"passcode"`
	} `json:"user"`
}

func (s *Service) authTOTP(ctx context.Context, req *AuthRequest, a *authState) error {
	var p totpPayload
	if err := json.Unmarshal(req.Extra["totp"], &p); err != nil {
		return invalid("Invalid input for field 'identity/totp'")
	}
	switch u := p.User; {
	case u == nil:
		return expecting("user", "totp")
	case u.ID == "" && u.Name == "":
		return expecting("id or name", "user")
	case u.ID == "" && u.Domain == nil:
		return expecting("domain", "user")
	}
	who := NameRef{ID: p.User.ID, Name: p.User.Name}
	if p.User.Domain != nil {
		who.Domain = *p.User.Domain
	}
	u, err := s.findUser(ctx, who)
	if err != nil {
		return gone(err, "unknown user")
	}
	if locked, err := s.locked(ctx, &u); err != nil || locked {
		return errors.Join(err, errAuth("the user is locked"))
	}
	// A number is what some programs send; its leading zeros are lost.
	code := ""
	switch v := p.User.Passcode.(type) {
	case string:
		code = v
	case float64:
		code = fmt.Sprintf("%06.0f", v)
	}
	ok, err := s.checkTOTP(ctx, u.ID, code, time.Now())
	if err != nil {
		return err
	}
	if !ok {
		if err := s.noteFailure(ctx, &u, code); err != nil {
			return err
		}
		return errAuth("invalid user name or TOTP passcode")
	}
	if err := s.checkAlive(ctx, &u); err != nil {
		return err
	}
	if err := s.noteSuccess(ctx, &u); err != nil {
		return err
	}
	return a.is(u)
}

// checkTOTP compares a passcode with those of the user's credentials of the type
// "totp" and uses it up.
func (s *Service) checkTOTP(ctx context.Context, userID, code string, now time.Time) (bool, error) {
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
	err := s.tx(ctx, func(ctx context.Context) error {
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
