package identity

import (
	"context"
	"errors"
	"strings"
	"sync"

	"golang.org/x/crypto/bcrypt"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/store"
)

// bcryptMax is how much of a password bcrypt looks at; Keystone cuts there too.
const bcryptMax = 72

// maxPassword is Keystone's max_password_length.
const maxPassword = 4096

// hasher makes and checks hashes, so many at a time.
type hasher struct {
	cost  int
	slots chan struct{}
	// dummy is checked where there is no hash, to take as long.
	dummy func() []byte
}

func newHasher(cost, slots int) hasher {
	return hasher{cost: cost, slots: make(chan struct{}, slots), dummy: sync.OnceValue(func() []byte {
		h, err := bcrypt.GenerateFromPassword([]byte(randomSecret()), cost)
		if err != nil {
			panic(err)
		}
		return h
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

func cut(pw string) []byte {
	b := []byte(pw)
	return b[:min(len(b), bcryptMax)]
}

func (h *hasher) hash(ctx context.Context, pw string) (string, error) {
	return h.hashAt(ctx, pw, h.cost)
}

func (h *hasher) hashAt(ctx context.Context, pw string, cost int) (string, error) {
	if len(pw) > maxPassword {
		return "", forbidden("The password length must be less than or equal to %d. The server could not comply with the request because the password is invalid.", maxPassword)
	}
	if strings.ContainsRune(pw, 0) {
		return "", invalid("Invalid input for field 'password': it holds a NUL character")
	}
	leave, err := h.enter(ctx)
	if err != nil {
		return "", err
	}
	defer leave()
	b, err := bcrypt.GenerateFromPassword(cut(pw), cost)
	return string(b), err
}

// check compares. Without a hash, and for a wrong password of a cheap one, it
// takes as long as a comparison at the full cost.
func (h *hasher) check(ctx context.Context, hash, pw string) (bool, error) {
	leave, err := h.enter(ctx)
	if err != nil {
		return false, err
	}
	defer leave()
	if hash != "" && len(pw) <= maxPassword {
		if bcrypt.CompareHashAndPassword([]byte(hash), cut(pw)) == nil {
			return true, nil
		}
		if cost, err := bcrypt.Cost([]byte(hash)); err == nil && cost >= h.cost {
			return false, nil
		}
	}
	_ = bcrypt.CompareHashAndPassword(h.dummy(), cut(pw))
	return false, nil
}

// checkPassword finds a user who knows the password. An unknown user, a wrong
// password, a disabled user and one of a disabled domain all answer alike.
func (s *Service) checkPassword(ctx context.Context, userID, pw string) (User, error) {
	u, err := s.users.Get(ctx, userID)
	return s.checkUserPassword(ctx, u, err, pw)
}

func (s *Service) checkUserPassword(ctx context.Context, u User, err error, pw string) (User, error) {
	if err != nil && !errors.Is(err, nacre.NotFound) {
		return User{}, err
	}
	var row password
	if err == nil {
		if row, err = s.passwords.Get(ctx, u.ID); err != nil && !errors.Is(err, nacre.NotFound) {
			return User{}, err
		}
	}
	ok, herr := s.hasher.check(ctx, row.Hash, pw)
	if herr != nil {
		return User{}, herr
	}
	if !ok || err != nil {
		return User{}, errAuth("unknown user or wrong password")
	}
	return u, s.checkAlive(ctx, &u)
}

// checkAlive refuses a disabled user and one of a disabled domain.
func (s *Service) checkAlive(ctx context.Context, u *User) error {
	if !u.Enabled {
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
