package api_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/image"
	"github.com/nacre-cloud/nacre/image/api"
	"github.com/nacre-cloud/nacre/image/backend/mem"
	"github.com/nacre-cloud/nacre/store/memstore"
)

// hole is a store that keeps nothing and gives back as much of a pattern.
type hole struct {
	mem.Driver
	size int64
}

func (h *hole) Put(_ context.Context, _ string, r io.Reader) (n int64, err error) {
	h.size, err = io.Copy(io.Discard, r)
	return h.size, err
}

func (h *hole) Open(context.Context, string) (io.ReadCloser, int64, error) {
	return io.NopCloser(&pattern{h.size}), h.size, nil
}

// TestMemoryIsFlat brings 96 MiB up and down through a socket: what is allocated on
// the way is a small part of it, and no more than for a twelfth.
func TestMemoryIsFlat(t *testing.T) {
	e := memstore.New(memstore.Options{})
	defer e.Close() //nolint:errcheck // a test's
	require.NoError(t, e.Migrate(t.Context(), image.Schema(), true))
	s, err := image.New(image.Config{Engine: e, Backend: &hole{}})
	require.NoError(t, err)
	srv := httptest.NewServer(api.New(api.Config{Image: s, Tokens: callers}))
	defer srv.Close()
	do := func(method, url string, body io.Reader, size int64) *http.Response {
		req, err := http.NewRequestWithContext(t.Context(), method, url, body)
		require.NoError(t, err)
		req.ContentLength = size
		req.Header.Set("X-Auth-Token", "one")
		req.Header.Set("Content-Type", "application/octet-stream")
		res, err := srv.Client().Do(req)
		require.NoError(t, err)
		return res
	}
	cost := func(size int64) (up, down uint64) {
		im, err := s.Create(nacre.WithCaller(t.Context(), callers["one"]), image.Image{DiskFormat: "raw", ContainerFormat: "bare"})
		require.NoError(t, err)
		url := srv.URL + "/v2/images/" + im.ID + "/file"
		var a, b, c runtime.MemStats
		runtime.ReadMemStats(&a)
		res := do("PUT", url, &pattern{size}, size)
		require.Equal(t, 204, res.StatusCode)
		require.NoError(t, res.Body.Close())
		runtime.ReadMemStats(&b)
		res = do("GET", url, nil, 0)
		n, err := io.Copy(io.Discard, res.Body)
		require.NoError(t, err)
		require.Equal(t, size, n)
		require.NoError(t, res.Body.Close())
		runtime.ReadMemStats(&c)
		return b.TotalAlloc - a.TotalAlloc, c.TotalAlloc - b.TotalAlloc
	}
	const mib = 1 << 20
	up, down := cost(8 * mib)
	largeUp, largeDown := cost(96 * mib)
	require.Less(t, largeUp, up+2*mib)
	require.Less(t, largeDown, down+2*mib)
	require.Less(t, largeUp+largeDown, uint64(12*mib))
}
