package identity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nacre-cloud/nacre/identity/kit"
)

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
		return kit.Invalid("Invalid input for field 'identity/totp'")
	}
	switch u := p.User; {
	case u == nil:
		return kit.Expecting("user", "totp")
	case u.ID == "" && u.Name == "":
		return kit.Expecting("id or name", "user")
	case u.ID == "" && u.Domain == nil:
		return kit.Expecting("domain", "user")
	}
	who := NameRef{ID: p.User.ID, Name: p.User.Name}
	if p.User.Domain != nil {
		who.Domain = *p.User.Domain
	}
	u, err := s.findUser(ctx, who)
	if err != nil {
		return kit.Gone(err, "unknown user")
	}
	if locked, err := s.Passwords.Locked(ctx, u.account()); err != nil || locked {
		return errors.Join(err, kit.Unauthenticated("the user is locked"))
	}
	// A number is what some programs send; its leading zeros are lost.
	code := ""
	switch v := p.User.Passcode.(type) {
	case string:
		code = v
	case float64:
		code = fmt.Sprintf("%06.0f", v)
	}
	ok, err := s.Credentials.CheckTOTP(ctx, u.ID, code, time.Now())
	if err != nil {
		return err
	}
	if !ok {
		if err := s.Passwords.NoteFailure(ctx, u.account(), code); err != nil {
			return err
		}
		return kit.Unauthenticated("invalid user name or TOTP passcode")
	}
	if err := s.checkAlive(ctx, &u); err != nil {
		return err
	}
	if err := s.noteSuccess(ctx, &u); err != nil {
		return err
	}
	return a.is(u)
}
