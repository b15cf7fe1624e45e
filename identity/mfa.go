package identity

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/fernet"
	"github.com/nacre-cloud/nacre/identity/kit"
)

// receiptTTL is Keystone's [receipt]expiration.
const receiptTTL = 5 * time.Minute

// ReceiptError is the answer to credentials that are good but not enough: the
// user's multi-factor rules ask for more. Receipt is to be shown with the rest, as
// AuthRequest.Receipt.
type ReceiptError struct {
	fernet.Receipt
	// Text is the receipt itself.
	Text       string
	User       User
	UserDomain Project
	// Required are the rules that what was shown is a part of: any of them will do.
	Required [][]string
}

// Error is for logs.
func (e *ReceiptError) Error() string {
	return "more authentication methods are required of user " + e.UserID
}

// Unwrap makes it Unauthenticated.
func (e *ReceiptError) Unwrap() error { return nacre.Unauthenticated }

// activeRules are a user's multi-factor rules without the methods that this
// service does not have; an administrator who takes a method away locks nobody out.
func (s *Service) activeRules(u *User) [][]string {
	if on, ok := u.Options[multiFactorEnabled].(bool); ok && !on {
		return nil
	}
	rules, _ := mfaRules(u.Options[multiFactorRules])
	var out [][]string
	for _, r := range rules {
		r = slices.DeleteFunc(slices.Clone(r), func(m string) bool { return s.methods[m] == nil })
		if len(r) > 0 {
			out = append(out, r)
		}
	}
	return out
}

// checkFactors asks a user's multi-factor rules. What a receipt vouches for counts.
func (s *Service) checkFactors(ctx context.Context, req *AuthRequest, a *authState) error {
	if req.Receipt != "" {
		r, err := s.receiptKeys.UnpackReceipt(req.Receipt)
		if err != nil || r.UserID != a.user.ID || !time.Now().Before(r.ExpiresAt) {
			return &nacre.Error{Kind: nacre.Unauthenticated, Code: "ReceiptNotFound", Message: "Could not find auth receipt: " + req.Receipt + ".", Err: err}
		}
		// What was proved before a password was changed or a token ended counts no more.
		proved := &TokenInfo{Token: fernet.Token{UserID: r.UserID, IssuedAt: r.IssuedAt}, User: a.user}
		if ended, _ := s.Revocations.Check(proved.revocable(), s.Revocations.Now()); ended {
			return &nacre.Error{Kind: nacre.Unauthenticated, Code: "ReceiptNotFound", Message: "Could not find auth receipt: " + req.Receipt + "."}
		}
		for _, m := range r.Methods {
			a.methods = add(a.methods, m)
		}
	}
	rules := s.activeRules(&a.user)
	have := func(m string) bool { return slices.Contains(a.methods, m) }
	if len(rules) == 0 {
		return nil
	}
	e := &ReceiptError{User: a.user, Required: [][]string{}}
	for _, r := range rules {
		missing := slices.ContainsFunc(r, func(m string) bool { return !have(m) })
		switch {
		case !missing:
			return nil
		case slices.ContainsFunc(r, have):
			e.Required = append(e.Required, r)
		}
	}
	var err error
	if e.UserDomain, err = s.getDomain(ctx, a.user.DomainID); err != nil {
		return kit.Gone(err, "the user's domain is gone")
	}
	now := time.Now().UTC()
	at := s.Revocations.IssueTime((&TokenInfo{Token: fernet.Token{UserID: a.user.ID}, User: a.user}).revocable(), now)
	e.Receipt = fernet.Receipt{UserID: a.user.ID, Methods: a.methods, IssuedAt: at, ExpiresAt: now.Add(receiptTTL).Truncate(time.Second)}
	if e.Text, err = s.receiptKeys.PackReceipt(e.Receipt); err != nil {
		return err
	}
	if e.Receipt, err = s.receiptKeys.UnpackReceipt(e.Text); err != nil {
		return errors.Join(err, kit.Unauthenticated("the receipt can't be read again"))
	}
	return e
}
