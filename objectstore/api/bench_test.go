package api_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/objectstore"
	"github.com/nacre-cloud/nacre/objectstore/api"
	"github.com/nacre-cloud/nacre/objectstore/blob/fs"
	"github.com/nacre-cloud/nacre/store/bunstore"
)

// durable is the object store over a socket, with every PUT synced to the disk before
// it is answered.
func durable(b *testing.B) *httptest.Server {
	e, err := bunstore.OpenSQLite(b.TempDir()+"/db", bunstore.Options{})
	require.NoError(b, err)
	require.NoError(b, e.Migrate(b.Context(), objectstore.Schema(), true))
	blobs, err := fs.New(b.TempDir(), fs.Options{})
	require.NoError(b, err)
	svc, err := objectstore.New(objectstore.Config{Engine: e, Blobs: blobs})
	require.NoError(b, err)
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = svc.Run(ctx) }()
	srv := httptest.NewServer(api.New(api.Config{Service: svc, Tokens: tokens{}}))
	b.Cleanup(func() {
		srv.Close()
		cancel()
		<-done
		require.NoError(b, blobs.Close())
		require.NoError(b, e.Close())
	})
	return srv
}

// BenchmarkSwift is the whole way. The client shares the machine.
func BenchmarkSwift(b *testing.B) {
	srv := durable(b)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	do := func(method, path, body string, want int) error {
		req, err := http.NewRequest(method, srv.URL+"/v1/AUTH_p/"+path, strings.NewReader(body))
		if err != nil {
			return err
		}
		req.Header.Set("X-Auth-Token", owner)
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close() //nolint:errcheck // read only
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			return err
		}
		if resp.StatusCode != want {
			return fmt.Errorf("%s %s: %s", method, path, resp.Status)
		}
		return nil
	}
	share := func(b *testing.B, by int, fn func(i int) error) {
		turns := make(chan int, b.N)
		for i := range b.N {
			turns <- i
		}
		close(turns)
		b.ResetTimer()
		var wg sync.WaitGroup
		for range by {
			wg.Go(func() {
				for i := range turns {
					if err := fn(i); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "req/s")
	}
	require.NoError(b, do("PUT", "c", "", 201))
	for _, size := range []int{1 << 10, 1 << 20} {
		body := strings.Repeat("x", size)
		for _, by := range []int{1, 16} {
			b.Run(fmt.Sprintf("put-%dk/by-%d", size>>10, by), func(b *testing.B) {
				b.SetBytes(int64(size))
				share(b, by, func(i int) error { return do("PUT", fmt.Sprintf("c/%d-%d-%d-%d", size, by, b.N, i), body, 201) })
			})
			require.NoError(b, do("PUT", "c/get", body, 201))
			b.Run(fmt.Sprintf("get-%dk/by-%d", size>>10, by), func(b *testing.B) {
				b.SetBytes(int64(size))
				share(b, by, func(int) error { return do("GET", "c/get", "", 200) })
			})
		}
	}
	require.NoError(b, do("PUT", "l", "", 201))
	for i := range 10000 {
		require.NoError(b, do("PUT", fmt.Sprintf("l/object-%08d", i), "", 201))
	}
	for _, by := range []int{1, 16} {
		b.Run(fmt.Sprintf("list-10k/by-%d", by), func(b *testing.B) {
			share(b, by, func(int) error { return do("GET", "l?format=json", "", 200) })
		})
	}
}
