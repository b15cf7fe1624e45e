package password

import (
	"context"
	"crypto/rand"
	"strings"
	"sync"

	"github.com/nacre-cloud/nacre/identity/kit"
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
		text, err := h.Hash(strings.ToLower(rand.Text()))
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
		return "", kit.Forbidden("The password length must be less than or equal to %d. The server could not comply with the request because the password is invalid.", limit)
	}
	if strings.ContainsRune(pw, 0) {
		return "", kit.Invalid("Invalid input for field 'password': it holds a NUL character")
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
