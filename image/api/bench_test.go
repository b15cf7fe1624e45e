package api_test

import (
	"bytes"
	"context"
	"crypto/md5" //nolint:gosec // what is compared with
	"crypto/sha512"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

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
		res := call(b, "GET", url+"/v2/images/"+id+"/file", nil, 0)
		n, err := io.Copy(io.Discard, res.Body)
		require.NoError(b, errors.Join(err, res.Body.Close()))
		require.EqualValues(b, benchSize, n)
	}
}

func BenchmarkHashesInParallel(b *testing.B) {
	b.SetBytes(benchSize)
	for b.Loop() {
		var wg sync.WaitGroup
		for _, h := range []io.Writer{md5.New(), sha512.New()} { //nolint:gosec // as above
			wg.Go(func() { _, _ = io.Copy(h, &pattern{benchSize}) })
		}
		wg.Wait()
	}
}

func BenchmarkCopyWithFsync(b *testing.B) {
	dir := b.TempDir()
	b.SetBytes(benchSize)
	n := 0
	for b.Loop() {
		n++
		f, err := os.Create(filepath.Join(dir, fmt.Sprint(n)))
		require.NoError(b, err)
		_, err = io.Copy(f, &pattern{benchSize})
		require.NoError(b, errors.Join(err, f.Sync(), f.Close()))
		b.StopTimer()
		require.NoError(b, os.Remove(f.Name()))
		b.StartTimer()
	}
}

// BenchmarkSendfile is a bare server that sends a file.
func BenchmarkSendfile(b *testing.B) {
	path := filepath.Join(b.TempDir(), "f")
	f, err := os.Create(path)
	require.NoError(b, err)
	_, err = io.Copy(f, &pattern{benchSize})
	require.NoError(b, errors.Join(err, f.Close()))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, path) })} //nolint:gosec // loopback
	go srv.Serve(l)                                                                                                             //nolint:errcheck // ends with Close
	b.Cleanup(func() { _ = srv.Close() })
	b.SetBytes(benchSize)
	for b.Loop() {
		res := call(b, "GET", "http://"+l.Addr().String()+"/", nil, 0)
		n, err := io.Copy(io.Discard, res.Body)
		require.NoError(b, errors.Join(err, res.Body.Close()))
		require.EqualValues(b, benchSize, n)
	}
}
