// Package blobtest is the suite that every blob.Store passes. An engine's test is
//
//	func TestStore(t *testing.T) {
//		blobtest.Run(t, func(tb testing.TB) blob.Store { … })
//	}
package blobtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/objectstore/blob"
)

// Sizes around which engines change how they keep a blob.
var sizes = []int{0, 1, 63, 64, 4095, 65515, 65516, 65517, 65535, 65536, 65537, 131071, 131072, 131073, 1 << 20, 1<<20 + 13}

// Run runs the suite; open gives a new empty store and closes it when tb ends.
func Run(t *testing.T, open func(tb testing.TB) blob.Store) {
	t.Run("what was put is read", func(t *testing.T) { whole(t, open(t)) })
	t.Run("ranges", func(t *testing.T) { ranges(t, open(t)) })
	t.Run("a reader that fails leaves nothing", func(t *testing.T) { failing(t, open(t)) })
	t.Run("deleted", func(t *testing.T) { deleted(t, open(t)) })
	t.Run("read to the end while deleted", func(t *testing.T) { deletedWhileRead(t, open(t)) })
	t.Run("many at once", func(t *testing.T) { concurrent(t, open(t)) })
	t.Run("started, and waited for later", func(t *testing.T) { started(t, open(t)) })
	t.Run("keys that were never made", func(t *testing.T) { strangers(t, open(t)) })
}

// Bytes are n bytes that tell their place.
func Bytes(n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(1, uint64(n)))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// Put stores data.
func Put(tb testing.TB, s blob.Store, data []byte) string {
	tb.Helper()
	key, n, err := s.Put(context.Background(), iotest.HalfReader(bytes.NewReader(data)), int64(len(data)))
	require.NoError(tb, err)
	require.EqualValues(tb, len(data), n)
	require.NotEmpty(tb, key)
	return key
}

// Get reads a range.
func Get(s blob.Store, key string, off, n int64) ([]byte, error) {
	r, err := s.Open(context.Background(), key, off, n)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(r)
	return b, errors.Join(err, r.Close())
}

func keys(tb testing.TB, s blob.Store) map[string]int64 {
	out := map[string]int64{}
	require.NoError(tb, s.Walk(context.Background(), func(i blob.Info) error {
		require.WithinDuration(tb, time.Now(), i.At, time.Minute)
		require.NotContains(tb, out, i.Key)
		out[i.Key] = i.Size
		return nil
	}))
	return out
}

func whole(t *testing.T, s blob.Store) {
	want := map[string]int64{}
	for range 2 {
		for _, n := range sizes {
			key := Put(t, s, Bytes(n))
			require.NotContains(t, want, key, "keys are made once")
			want[key] = int64(n)
		}
	}
	for key, n := range want {
		got, err := Get(s, key, 0, -1)
		require.NoError(t, err)
		require.True(t, bytes.Equal(Bytes(int(n)), got), "%d bytes", n)
		require.NoError(t, s.Verify(context.Background(), key))
	}
	require.Equal(t, want, keys(t, s))
}

// copied is what a reader gives to who copies: it may write itself.
func copied(t *testing.T, s blob.Store, key string, off, n int64) []byte {
	r, err := s.Open(t.Context(), key, off, n)
	require.NoError(t, err)
	var b bytes.Buffer
	_, err = io.Copy(&b, r)
	require.NoError(t, errors.Join(err, r.Close()))
	return b.Bytes()
}

func ranges(t *testing.T, s blob.Store) {
	for _, n := range []int{100, 65536, 200000, 600000} {
		data := Bytes(n)
		key := Put(t, s, data)
		for _, off := range []int{0, 1, 63, 65535, 65536, 65537, 262143, n - 1, n, n + 5} {
			for _, l := range []int{-1, 0, 1, 64, 65536, 131072, n} {
				from := min(off, n)
				to := n
				if l >= 0 {
					to = min(n, from+l)
				}
				got, err := Get(s, key, int64(off), int64(l))
				require.NoError(t, err)
				require.True(t, bytes.Equal(data[from:to], got), "%d bytes from %d on of %d", l, off, n)
				require.True(t, bytes.Equal(data[from:to], copied(t, s, key, int64(off), int64(l))), "%d bytes from %d on of %d, copied", l, off, n)
			}
		}
	}
}

func failing(t *testing.T, s blob.Store) {
	boom := errors.New("boom")
	for _, n := range []int{0, 100, 65536, 70000, 1 << 20} {
		for _, cause := range []error{boom, io.ErrUnexpectedEOF} {
			_, _, err := s.Put(t.Context(), io.MultiReader(bytes.NewReader(Bytes(n)), iotest.ErrReader(cause)), -1)
			require.ErrorIs(t, err, cause, "after %d bytes", n)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err := s.Put(ctx, bytes.NewReader(Bytes(1<<20)), -1)
	require.ErrorIs(t, err, context.Canceled)
	require.Empty(t, keys(t, s))
}

func deleted(t *testing.T, s blob.Store) {
	var ks []string
	for _, n := range sizes {
		ks = append(ks, Put(t, s, Bytes(n)))
	}
	stays := Put(t, s, Bytes(50))
	require.NoError(t, s.Delete(t.Context(), ks...))
	require.NoError(t, s.Delete(t.Context(), ks...), "twice is success")
	for _, k := range ks {
		_, err := Get(s, k, 0, -1)
		require.ErrorIs(t, err, nacre.NotFound)
		require.ErrorIs(t, s.Verify(t.Context(), k), nacre.NotFound)
	}
	require.Equal(t, map[string]int64{stays: 50}, keys(t, s))
	got, err := Get(s, stays, 0, -1)
	require.NoError(t, err)
	require.Equal(t, Bytes(50), got)
}

func deletedWhileRead(t *testing.T, s blob.Store) {
	for _, n := range []int{5000, 300000} {
		data := Bytes(n)
		key := Put(t, s, data)
		r, err := s.Open(t.Context(), key, 0, -1)
		require.NoError(t, err)
		first := make([]byte, 10)
		_, err = io.ReadFull(r, first)
		require.NoError(t, err)
		require.NoError(t, s.Delete(t.Context(), key))
		rest, err := io.ReadAll(r)
		require.NoError(t, err)
		require.True(t, bytes.Equal(data, append(first, rest...)))
		require.NoError(t, r.Close())
	}
}

func concurrent(t *testing.T, s blob.Store) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	want := map[string]int64{}
	fail := make(chan error, 16)
	for w := range 16 {
		wg.Go(func() {
			for i := range 40 {
				data := Bytes(w*300 + i)
				key, _, err := s.Put(context.Background(), bytes.NewReader(data), -1)
				if err == nil {
					var got []byte
					if got, err = Get(s, key, 0, -1); err == nil && !bytes.Equal(got, data) {
						err = fmt.Errorf("%s: other bytes", key)
					}
				}
				if err == nil && i%3 == 0 {
					err = s.Delete(context.Background(), key)
				}
				if err != nil {
					fail <- err
					return
				}
				if i%3 != 0 {
					mu.Lock()
					want[key] = int64(len(data))
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	close(fail)
	require.NoError(t, <-fail)
	require.Equal(t, want, keys(t, s))
}

// What was started is a blob once it was waited for, in whatever order; nothing minds
// that one is not waited for, or is deleted before.
func started(t *testing.T, s blob.Store) {
	want := map[string]int64{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	fail := make(chan error, 8)
	for w := range 8 {
		wg.Go(func() {
			var waits []func() error
			for i := range 20 {
				data := Bytes(w*9000 + i)
				key, n, wait, err := blob.Start(context.Background(), s, bytes.NewReader(data), -1)
				switch {
				case err != nil:
					fail <- err
					return
				case i == 5:
					if err := s.Delete(context.Background(), key); err != nil {
						fail <- err
						return
					}
				default:
					mu.Lock()
					want[key] = n
					mu.Unlock()
				}
				if wait != nil && i != 7 {
					waits = append(waits, wait, wait)
				}
			}
			for i := len(waits) - 1; i >= 0; i-- {
				if err := waits[i](); err != nil {
					fail <- err
					return
				}
			}
		})
	}
	wg.Wait()
	close(fail)
	require.NoError(t, <-fail)
	Put(t, s, nil)
	got := keys(t, s)
	for key, n := range want {
		require.Equal(t, n, got[key])
		b, err := Get(s, key, 0, -1)
		require.NoError(t, err)
		require.True(t, bytes.Equal(Bytes(int(n)), b))
	}
	require.Len(t, got, len(want)+1, "and what was deleted is gone")
}

func strangers(t *testing.T, s blob.Store) {
	Put(t, s, Bytes(100))
	for _, k := range []string{"", "x", "../../etc/passwd", "s000000000009-00000000-00005", "b00000000000000000000000000000000", "b/../../../../../../../../etc/pass"} {
		_, err := Get(s, k, 0, -1)
		require.ErrorIs(t, err, nacre.NotFound, k)
		require.NoError(t, s.Delete(t.Context(), k), k)
	}
}

// Bench measures Put and Open of blobs of a size, by 1 and 16 at once.
func Bench(b *testing.B, open func(tb testing.TB) blob.Store) {
	for _, n := range []int{1 << 10, 1 << 20} {
		for _, by := range []int{1, 16} {
			data := Bytes(n)
			b.Run(fmt.Sprintf("put-%dk/by-%d", n>>10, by), func(b *testing.B) {
				s := open(b)
				b.SetBytes(int64(n))
				share(b, by, func() error {
					_, _, err := s.Put(context.Background(), bytes.NewReader(data), int64(n))
					return err
				})
			})
			b.Run(fmt.Sprintf("get-%dk/by-%d", n>>10, by), func(b *testing.B) {
				s := open(b)
				key := Put(b, s, data)
				b.SetBytes(int64(n))
				share(b, by, func() error {
					r, err := s.Open(context.Background(), key, 0, -1)
					if err == nil {
						_, err = io.Copy(io.Discard, r)
						err = errors.Join(err, r.Close())
					}
					return err
				})
			})
		}
	}
}

func share(b *testing.B, by int, fn func() error) {
	b.ResetTimer()
	var wg sync.WaitGroup
	turns := make(chan struct{}, b.N)
	for range b.N {
		turns <- struct{}{}
	}
	close(turns)
	for range by {
		wg.Go(func() {
			for range turns {
				if err := fn(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}
