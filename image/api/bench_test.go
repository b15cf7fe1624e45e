package api_test

import (
	"bytes"
	"context"
	"crypto/md5" //nolint:gosec // what is compared with
	"crypto/sha512"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/image"
	"github.com/nacre-cloud/nacre/image/api"
	"github.com/nacre-cloud/nacre/image/backend/file"
	"github.com/nacre-cloud/nacre/store/memstore"
)

// 256 MiB of an image up and down through a loopback socket and the backend of
// files with fsync, and what bounds them: both hashes in parallel, a copy with
// fsync, sendfile.
const benchSize = 256 << 20

// pattern repeats one block, without memory of its own.
type pattern struct{ left int64 }

var block = bytes.Repeat([]byte("0123456789abcdefghijklmnopqrstuvwxyz+-*/"), 1<<20/40)

func (p *pattern) Read(b []byte) (int, error) {
	if p.left <= 0 {
		return 0, io.EOF
	}
	n := copy(b, block)
	n = int(min(int64(n), p.left))
	p.left -= int64(n)
	return n, nil
}

func benchServer(b *testing.B) (*image.Service, string) {
	e := memstore.New(memstore.Options{})
	b.Cleanup(func() { _ = e.Close() })
	require.NoError(b, e.Migrate(b.Context(), image.Schema(), true))
	d, err := file.New(b.TempDir(), file.Options{})
	require.NoError(b, err)
	s, err := image.New(image.Config{Engine: e, Backend: d})
	require.NoError(b, err)
	srv := httptest.NewServer(api.New(api.Config{Image: s, Tokens: callers}))
	b.Cleanup(srv.Close)
	return s, srv.URL
}

func benchImage(b *testing.B, s *image.Service) string {
	im, err := s.Create(nacre.WithCaller(b.Context(), callers["one"]), image.Image{DiskFormat: "raw", ContainerFormat: "bare"})
	require.NoError(b, err)
	return im.ID
}

func call(b *testing.B, method, url string, body io.Reader, size int64) *http.Response {
	req, err := http.NewRequestWithContext(b.Context(), method, url, body)
	require.NoError(b, err)
	req.ContentLength = size
	req.Header.Set("X-Auth-Token", "one")
	req.Header.Set("Content-Type", "application/octet-stream")
	res, err := http.DefaultClient.Do(req)
	require.NoError(b, err)
	return res
}

// BenchmarkRatios measures an upload and a download in turn with what bounds them,
// so that a machine that does other things too shows what is ours: upload/hashes is
// the rate of an upload by that of both hashes in parallel, upload/copy by that of a
// copy with fsync, download/sendfile by that of a bare server. The target is 0.80 of
// the slower of the first two, and of the last.
func BenchmarkRatios(b *testing.B) {
	s, url := benchServer(b)
	dir := b.TempDir()
	path := filepath.Join(dir, "file")
	var hashes, copied, up, down, sent time.Duration
	timed := func(into *time.Duration, f func()) {
		begun := time.Now()
		f()
		*into += time.Since(begun)
	}
	bare := bareServer(b, path)
	for b.Loop() {
		timed(&hashes, hashBoth)
		timed(&copied, func() { copySynced(b, path) })
		id := benchImage(b, s)
		timed(&up, func() {
			res := call(b, "PUT", url+"/v2/images/"+id+"/file", &pattern{benchSize}, benchSize)
			require.Equal(b, 204, res.StatusCode)
			_ = res.Body.Close()
		})
		timed(&down, func() { readAll(b, url+"/v2/images/"+id+"/file") })
		timed(&sent, func() { readAll(b, bare) })
		require.NoError(b, errors.Join(s.Delete(nacre.WithCaller(context.Background(), callers["one"]), id), os.Remove(path)))
	}
	rate := func(d time.Duration) float64 { return float64(b.N) * benchSize / 1e6 / d.Seconds() }
	b.ReportMetric(rate(up), "upload-MB/s")
	b.ReportMetric(rate(up)/rate(hashes), "upload/hashes")
	b.ReportMetric(rate(up)/rate(copied), "upload/copy")
	b.ReportMetric(rate(down), "download-MB/s")
	b.ReportMetric(rate(down)/rate(sent), "download/sendfile")
}

func BenchmarkUpload(b *testing.B) {
	s, url := benchServer(b)
	b.SetBytes(benchSize)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for b.Loop() {
		id := benchImage(b, s)
		res := call(b, "PUT", url+"/v2/images/"+id+"/file", &pattern{benchSize}, benchSize)
		require.Equal(b, 204, res.StatusCode)
		_ = res.Body.Close()
		b.StopTimer()
		require.NoError(b, s.Delete(nacre.WithCaller(context.Background(), callers["one"]), id))
		b.StartTimer()
	}
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(after.TotalAlloc-before.TotalAlloc)/float64(b.N)/(1<<20), "MiB-alloc/op")
}

func BenchmarkDownload(b *testing.B) {
	s, url := benchServer(b)
	id := benchImage(b, s)
	_, err := s.Upload(nacre.WithCaller(b.Context(), callers["one"]), id, &pattern{benchSize}, benchSize)
	require.NoError(b, err)
	b.SetBytes(benchSize)
	for b.Loop() {
		readAll(b, url+"/v2/images/"+id+"/file")
	}
}

func readAll(b *testing.B, url string) {
	res := call(b, "GET", url, nil, 0)
	n, err := io.Copy(io.Discard, res.Body)
	require.NoError(b, errors.Join(err, res.Body.Close()))
	require.EqualValues(b, benchSize, n)
}

// hashBoth is MD5 and SHA-512 in parallel.
func hashBoth() {
	var wg sync.WaitGroup
	for _, h := range []io.Writer{md5.New(), sha512.New()} { //nolint:gosec // as above
		wg.Go(func() { _, _ = io.Copy(h, &pattern{benchSize}) })
	}
	wg.Wait()
}

func BenchmarkHashesInParallel(b *testing.B) {
	b.SetBytes(benchSize)
	for b.Loop() {
		hashBoth()
	}
}

func copySynced(b *testing.B, path string) {
	f, err := os.Create(path)
	require.NoError(b, err)
	_, err = io.Copy(f, &pattern{benchSize})
	require.NoError(b, errors.Join(err, f.Sync(), f.Close()))
}

func BenchmarkCopyWithFsync(b *testing.B) {
	path := filepath.Join(b.TempDir(), "f")
	b.SetBytes(benchSize)
	for b.Loop() {
		copySynced(b, path)
		b.StopTimer()
		require.NoError(b, os.Remove(path))
		b.StartTimer()
	}
}

// bareServer only sends a file; it is the address.
func bareServer(b *testing.B, path string) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, path) })} //nolint:gosec // loopback
	go srv.Serve(l)                                                                                                             //nolint:errcheck // ends with Close
	b.Cleanup(func() { _ = srv.Close() })
	return "http://" + l.Addr().String() + "/"
}

func BenchmarkSendfile(b *testing.B) {
	path := filepath.Join(b.TempDir(), "f")
	copySynced(b, path)
	url := bareServer(b, path)
	b.SetBytes(benchSize)
	for b.Loop() {
		readAll(b, url)
	}
}
