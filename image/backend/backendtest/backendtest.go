// Package backendtest is the contract that every image backend passes.
package backendtest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/image/backend"
)

type failing struct{ n int }

func (f *failing) Read(p []byte) (int, error) {
	if f.n--; f.n < 0 {
		return 0, errors.New("the client went away")
	}
	return len(p), nil
}

// Run runs the suite on fresh drivers.
func Run(t *testing.T, open func(t *testing.T) backend.Driver) {
	ctx := context.Background()
	const key = "0a1b2c3d-0000-4000-8000-000000000001"
	t.Run("put and read", func(t *testing.T) {
		d := open(t)
		n, err := d.Put(ctx, key, strings.NewReader("hello"))
		require.NoError(t, err)
		require.EqualValues(t, 5, n)
		r, size, err := d.Open(ctx, key)
		require.NoError(t, err)
		defer r.Close() //nolint:errcheck // read only
		require.EqualValues(t, 5, size)
		b, err := io.ReadAll(r)
		require.NoError(t, err)
		require.Equal(t, "hello", string(b))
		keys, err := d.List(ctx)
		require.NoError(t, err)
		require.Equal(t, []string{key}, keys)
	})
	t.Run("empty", func(t *testing.T) {
		d := open(t)
		n, err := d.Put(ctx, key, bytes.NewReader(nil))
		require.NoError(t, err)
		require.Zero(t, n)
	})
	t.Run("large, and read from the middle", func(t *testing.T) {
		d := open(t)
		data := bytes.Repeat([]byte("0123456789abcdef"), 12<<20/16)
		n, err := d.Put(ctx, key, bytes.NewReader(data))
		require.NoError(t, err)
		require.EqualValues(t, len(data), n)
		r, size, err := d.Open(ctx, key)
		require.NoError(t, err)
		require.EqualValues(t, len(data), size)
		b, err := io.ReadAll(r)
		require.NoError(t, err)
		require.True(t, bytes.Equal(data, b))
		if s, can := r.(io.Seeker); can {
			_, err = s.Seek(-7, io.SeekEnd)
			require.NoError(t, err)
			b, err = io.ReadAll(r)
			require.NoError(t, err)
			require.Equal(t, "9abcdef", string(b))
			_, err = s.Seek(3<<20+1, io.SeekStart)
			require.NoError(t, err)
			part := make([]byte, 5)
			_, err = io.ReadFull(r, part)
			require.NoError(t, err)
			require.Equal(t, "12345", string(part))
		}
		require.NoError(t, r.Close())
		require.NoError(t, d.Delete(ctx, key))
		keys, err := d.List(ctx)
		require.NoError(t, err)
		require.Empty(t, keys)
	})
	t.Run("missing", func(t *testing.T) {
		d := open(t)
		_, _, err := d.Open(ctx, key)
		require.ErrorIs(t, err, nacre.NotFound)
		require.NoError(t, d.Delete(ctx, key))
	})
	t.Run("a broken upload leaves nothing", func(t *testing.T) {
		d := open(t)
		_, err := d.Put(ctx, key, &failing{n: 3})
		require.Error(t, err)
		_, _, err = d.Open(ctx, key)
		require.ErrorIs(t, err, nacre.NotFound)
		keys, err := d.List(ctx)
		require.NoError(t, err)
		require.Empty(t, keys)
	})
	t.Run("a reader outlives the delete or fails cleanly", func(t *testing.T) {
		d := open(t)
		_, err := d.Put(ctx, key, strings.NewReader("hello"))
		require.NoError(t, err)
		r, _, err := d.Open(ctx, key)
		require.NoError(t, err)
		defer r.Close() //nolint:errcheck // read only
		require.NoError(t, d.Delete(ctx, key))
		if b, err := io.ReadAll(r); err == nil {
			require.Equal(t, "hello", string(b))
		}
		keys, err := d.List(ctx)
		require.NoError(t, err)
		require.Empty(t, keys)
	})
	t.Run("a cancelled upload leaves nothing", func(t *testing.T) {
		d := open(t)
		cctx, cancel := context.WithCancel(ctx)
		cancel()
		_, err := d.Put(cctx, key, &failing{n: 100})
		require.Error(t, err)
		keys, err := d.List(ctx)
		require.NoError(t, err)
		require.Empty(t, keys)
	})
}
