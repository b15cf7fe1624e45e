package api_test

import (
	"bytes"
	"crypto/md5" //nolint:gosec // the ETag's digest
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// largeSize is a large object's.
const largeSize = 256 << 20

// largeBody repeats one block, without memory of its own.
func largeBody() io.Reader { return io.LimitReader(&repeated{}, largeSize) }

var largeBlock = bytes.Repeat([]byte("0123456789abcdefghijklmnopqrstuvwxyz+-*/"), 1<<20/40)

type repeated struct{}

func (*repeated) Read(p []byte) (int, error) { return copy(p, largeBlock), nil }

// BenchmarkLarge measures an upload and a download of 256 MiB in turn with what bounds
// them, so that a machine that does other things too shows what is ours: put/disk is
// the rate of an upload by that of a copy with fsync to the same disk, put/md5 by that
// of the ETag's digest, put/loopback by that of a server that throws the body away;
// get/loopback is the rate of a download by that of a server that sends as much memory (of
// its own: one block sent again and again would come from the processor's cache, as no
// object does), get/sendfile by that of one that only sends a file, whose bytes nobody
// looks at. The target is 0.80 of the slowest of the first three, and of get/loopback.
func BenchmarkLarge(b *testing.B) {
	srv := durable(b)
	path := filepath.Join(b.TempDir(), "file")
	memory := bytes.Repeat(largeBlock, largeSize/len(largeBlock)+1)[:largeSize]
	bare := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodPut:
			_, _ = io.Copy(io.Discard, r.Body)
			w.WriteHeader(http.StatusCreated)
		case r.URL.Path == "/file":
			http.ServeFile(w, r, path)
		default:
			w.Header().Set("Content-Length", strconv.Itoa(largeSize))
			_, _ = w.Write(memory)
		}
	}))
	b.Cleanup(bare.Close)
	send := func(method, url string, body io.Reader, want int) {
		req, err := http.NewRequestWithContext(b.Context(), method, url, body)
		require.NoError(b, err)
		req.Header.Set("X-Auth-Token", owner)
		if body != nil {
			req.ContentLength = largeSize
		}
		resp, err := http.DefaultClient.Do(req)
		require.NoError(b, err)
		n, err := io.Copy(io.Discard, resp.Body)
		require.NoError(b, errors.Join(err, resp.Body.Close()))
		require.Equal(b, want, resp.StatusCode)
		if method == http.MethodGet {
			require.EqualValues(b, largeSize, n)
		}
	}
	copied := func() {
		f, err := os.Create(path)
		require.NoError(b, err)
		_, err = io.CopyBuffer(struct{ io.Writer }{f}, struct{ io.Reader }{largeBody()}, make([]byte, 1<<20))
		require.NoError(b, errors.Join(err, f.Sync(), f.Close()))
	}
	object := srv.URL + "/v1/AUTH_p/c/large"
	send(http.MethodPut, srv.URL+"/v1/AUTH_p/c", nil, 201)
	spent := map[string]time.Duration{}
	timed := func(what string, f func()) {
		begun := time.Now()
		f()
		spent[what] += time.Since(begun)
	}
	for b.Loop() {
		timed("disk", copied)
		timed("md5", func() { _, err := io.Copy(md5.New(), largeBody()); require.NoError(b, err) }) //nolint:gosec // as above
		timed("loopback", func() { send(http.MethodPut, bare.URL, largeBody(), 201) })
		timed("put", func() { send(http.MethodPut, object, largeBody(), 201) })
		timed("get", func() { send(http.MethodGet, object, nil, 200) })
		timed("memory", func() { send(http.MethodGet, bare.URL, nil, 200) })
		timed("sendfile", func() { send(http.MethodGet, bare.URL+"/file", nil, 200) })
		send(http.MethodDelete, object, nil, 204)
	}
	rate := func(what string) float64 { return float64(b.N) * largeSize / 1e6 / spent[what].Seconds() }
	b.ReportMetric(rate("put"), "put-MB/s")
	for _, bound := range []string{"disk", "md5", "loopback"} {
		b.ReportMetric(rate("put")/rate(bound), "put/"+bound)
	}
	b.ReportMetric(rate("get"), "get-MB/s")
	b.ReportMetric(rate("get")/rate("memory"), "get/loopback")
	b.ReportMetric(rate("get")/rate("sendfile"), "get/sendfile")
}
