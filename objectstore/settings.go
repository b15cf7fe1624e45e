package objectstore

import (
	"context"
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // one of the digests that clients of signed URLs use
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"hash"
	"iter"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/objectstore/blob"
	"github.com/nacre-cloud/nacre/store"
)

// Settings are the headers of a container (and none when there is no such
// container), asked by nobody: for what stands in front of the service and must
// know, whoever the user is, how a web site is shown or which origins may come. They
// are not to be shown.
func (s *Service) Settings(ctx context.Context, r Ref) (map[string]string, error) {
	c, err := s.findContainer(ctx, r)
	if errors.Is(err, nacre.NotFound) {
		return map[string]string{}, nil
	}
	return c.Meta, err
}

// namesakes is how many containers a statement of SettingsNamed reads.
const namesakes = 100

// SettingsNamed are the headers of all containers of that name in accounts that are not
// deleted, on the same terms: a browser that asks about a bucket does not say whose it
// is. Each hundred costs a statement, so whoever has found what it wants stops.
func (s *Service) SettingsNamed(ctx context.Context, container string) iter.Seq2[map[string]string, error] {
	q := store.Select{Limit: namesakes, Where: store.And(store.Eq("name", container),
		store.Not(store.InSelect("account", s.accounts, "name", store.Not(store.IsNull("deleted_at")))))}
	return func(yield func(map[string]string, error) bool) {
		for more := true; more; {
			cs, err := s.containers.Select(ctx, q)
			if err != nil {
				yield(nil, err)
				return
			}
			for i := range cs {
				if !yield(cs[i].Meta, nil) {
					return
				}
			}
			if more = len(cs) == namesakes; more {
				q.After = []any{cs[namesakes-1].ID}
			}
		}
	}
}

// AccountSettings are the headers of an account, on the same terms.
func (s *Service) AccountSettings(ctx context.Context, name string) (map[string]string, error) {
	a, err := s.findAccount(ctx, name)
	return a.Meta, err
}

// Usage is how full the store of the bytes is, for the reseller's administrator;
// NotFound where it doesn't know.
func (s *Service) Usage(ctx context.Context) (blob.Usage, error) {
	r, ok := s.c.Blobs.(blob.Reporter)
	switch {
	case !s.Reseller(ctx):
		return blob.Usage{}, denied(ctx)
	case !ok:
		return blob.Usage{}, notFound()
	}
	return r.Usage()
}

// Digests are the hashes that signatures may be made with.
var Digests = []string{"sha1", "sha256", "sha512"}

func digest(name string) func() hash.Hash {
	switch name {
	case "sha1":
		return sha1.New
	case "sha256":
		return sha256.New
	case "sha512":
		return sha512.New
	}
	return nil
}

// Verify looks for a key of the container or its account with which signature is
// that of one of the texts, and says what right it gives; nil is none.
func (s *Service) Verify(ctx context.Context, r Ref, algorithm string, signature []byte, texts ...string) (*Signed, error) {
	h := digest(algorithm)
	if h == nil {
		return nil, nil
	}
	a, err := s.findAccount(ctx, r.Account)
	if err != nil || !a.Deleted.IsZero() {
		return nil, err
	}
	meta, err := s.Settings(ctx, r)
	if err != nil {
		return nil, err
	}
	for _, suffix := range []string{"", "-2"} {
		for _, k := range []struct {
			key, container string
		}{{a.Meta["X-Account-Meta-Temp-Url-Key"+suffix], ""}, {meta["X-Container-Meta-Temp-Url-Key"+suffix], r.Container}} {
			if k.key == "" {
				continue
			}
			for _, text := range texts {
				m := hmac.New(h, []byte(k.key))
				m.Write([]byte(text))
				if hmac.Equal(m.Sum(nil), signature) {
					return &Signed{Account: r.Account, Container: k.container}, nil
				}
			}
		}
	}
	return nil, nil
}
