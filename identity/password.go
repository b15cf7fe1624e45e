package identity

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/passhash"
	"github.com/nacre-cloud/nacre/store"
)

// maxPassword is Keystone's max_password_length.
const maxPassword = 4096

// hasher makes and checks hashes, so many at a time.
type hasher struct {
	passhash.Hasher
	strict bool
	slots  chan struct{}
	// dummy is checked where there is no hash, to take as long.
	dummy func() string
}

func newHasher(h passhash.Hasher, strict bool, slots int) hasher {
	return hasher{Hasher: h, strict: strict, slots: make(chan struct{}, slots), dummy: sync.OnceValue(func() string {
		text, err := h.Hash(randomSecret())
		if err != nil {
			panic(err)
		}
		return text
	})}
}

func (h *hasher) enter(ctx context.Context) (leave func(), err error) {
	if err := store.Outside(ctx); err != nil {
		return nil, err
	}
	select {
	case h.slots <- struct{}{}:
		return func() { <-h.slots }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// cut is what counts of a password.
func cut(pw string) string { return pw[:min(len(pw), maxPassword)] }

func (h *hasher) hash(ctx context.Context, pw string) (string, error) {
	return h.hashWith(ctx, pw, h.Hasher)
}

// hashCheap is for secrets of 128 random bits and more.
func (h *hasher) hashCheap(ctx context.Context, secret string) (string, error) {
	return h.hashWith(ctx, secret, h.Cheap())
}

func (h *hasher) hashWith(ctx context.Context, pw string, with passhash.Hasher) (string, error) {
	if limit := with.MaxLen(maxPassword); h.strict && len(pw) > limit {
		return "", forbidden("The password length must be less than or equal to %d. The server could not comply with the request because the password is invalid.", limit)
	}
	if strings.ContainsRune(pw, 0) {
		return "", invalid("Invalid input for field 'password': it holds a NUL character")
	}
	leave, err := h.enter(ctx)
	if err != nil {
		return "", err
	}
	defer leave()
	return with.Hash(cut(pw))
}

// check compares. Without a hash, and for a wrong password of one at another
// cost, it takes as long as a comparison at the configured cost besides.
func (h *hasher) check(ctx context.Context, hash, pw string) (bool, error) {
	leave, err := h.enter(ctx)
	if err != nil {
		return false, err
	}
	defer leave()
	if hash != "" && passhash.Verify(hash, cut(pw)) {
		return true, nil
	}
	if dummy := h.dummy(); hash == "" || !passhash.SameCost(hash, dummy) {
		passhash.Verify(dummy, cut(pw))
	}
	return false, nil
}

// checkPassword finds a user who knows the password. An unknown user, a wrong
// password, a disabled user and one of a disabled domain all answer alike.
func (s *Service) checkPassword(ctx context.Context, userID, pw string) (User, error) {
	u, err := s.users.Get(ctx, userID)
	u, _, err = s.checkUserPassword(ctx, u, err, pw)
	return u, err
}

// checkUserPassword also returns the hash that the password was compared with.
func (s *Service) checkUserPassword(ctx context.Context, u User, err error, pw string) (User, string, error) {
	if err != nil && !errors.Is(err, nacre.NotFound) {
		return User{}, "", err
	}
	if err == nil && u.Source == ofDirectory {
		u, err = s.checkDirectoryPassword(ctx, u, pw)
		return u, "", err
	}
	var row password
	if err == nil {
		if row, err = s.passwords.Get(ctx, u.ID); err != nil && !errors.Is(err, nacre.NotFound) {
			return User{}, "", err
		}
	}
	known := err == nil
	locked := false
	if known {
		if locked, err = s.locked(ctx, &u); err != nil {
			return User{}, "", err
		}
	}
	hash := row.Hash
	if locked {
		hash = ""
	}
	ok, herr := s.hasher.check(ctx, hash, pw)
	if herr != nil {
		return User{}, "", herr
	}
	if known && !ok && !locked {
		if err := s.noteFailure(ctx, &u, pw); err != nil {
			return User{}, "", err
		}
	}
	if !known || !ok {
		return User{}, "", errAuth("unknown user, locked user or wrong password")
	}
	// Others may have guessed meanwhile, at the same time as this one.
	if locked, err := s.locked(ctx, &u); err != nil || locked {
		return User{}, "", errors.Join(err, errAuth("the user is locked"))
	}
	if err := s.checkAlive(ctx, &u); err != nil {
		return User{}, "", err
	}
	if row.ExpiresAt != nil && !time.Now().Before(*row.ExpiresAt) && !u.Options.is(ignorePasswordExpiry) {
		return u, hash, passwordExpired(u.ID)
	}
	return u, hash, s.noteSuccess(ctx, &u)
}

// passwordExpired is said to those alone who know the old one.
func passwordExpired(userID string) error {
	return nacre.Errorf(nacre.Unauthenticated, codePasswordExpired, "The password is expired and needs to be changed for user: %s.", userID)
}

const codePasswordExpired = "PasswordExpired"

// checkAlive refuses a disabled user and one of a disabled domain.
func (s *Service) checkAlive(ctx context.Context, u *User) error {
	if s.seen(u); !u.Enabled {
		return errAuth("the user is disabled")
	}
	d, err := s.getDomain(ctx, u.DomainID)
	switch {
	case errors.Is(err, nacre.NotFound):
		return errAuth("the user's domain is gone")
	case err != nil:
		return err
	case !d.Enabled:
		return errAuth("the user's domain is disabled")
	}
	return nil
}
