package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/objectstore"
	"github.com/nacre-cloud/nacre/objectstore/api"
	"github.com/nacre-cloud/nacre/objectstore/blob"
	"github.com/nacre-cloud/nacre/objectstore/blob/blobtest"
	"github.com/nacre-cloud/nacre/objectstore/blob/fs"
)

// A name of one's own that is an alias of a container's host is that container.
func TestAliases(t *testing.T) {
	var asked atomic.Int64
	w := start(t, func(c *api.Config, _ *objectstore.Config) {
		c.Domains = []string{"storage.test"}
		c.Alias = func(_ context.Context, host string) (string, error) {
			asked.Add(1)
			switch host {
			case "www.mine.test":
				return "c.auth-p.storage.test.", nil
			case "www.other.test":
				return "c.auth-p.elsewhere.test.", nil
			}
			return "", errors.New("no such host")
		}
	})
	require.Contains(t, w.is(200, "GET", "/info", "").body, `"cname_lookup":{"lookup_depth":1}`)
	w.is(201, "PUT", "c", "", "X-Container-Meta-Access-Control-Allow-Origin: http://a.test")
	w.is(201, "PUT", "c/o", "hello")
	asked.Store(0)
	for range 3 {
		require.Equal(t, "hello", w.is(200, "GET", "/o", "", "Host: WWW.mine.test:80").body)
	}
	require.EqualValues(t, 1, asked.Load(), "what was said is remembered")
	w.is(404, "GET", "/o", "", "Host: www.other.test")
	w.is(404, "GET", "/o", "", "Host: none.test")
	require.Equal(t, "hello", w.is(200, "GET", "c/o", "", "Host: none.test").body, "a path goes whatever the host")
	asked.Store(0)
	require.Equal(t, "hello", w.is(200, "GET", "/o", "", "Host: c.auth-p.storage.test").body)
	w.is(404, "GET", "/o", "")
	require.Zero(t, asked.Load(), "our own names and addresses are nobody's alias")
}

// A request that is broken off while its host is looked up spoils nothing for the next.
func TestAliasesWhenARequestIsBrokenOff(t *testing.T) {
	var say atomic.Pointer[func(ctx context.Context) (string, error)]
	w := start(t, func(c *api.Config, _ *objectstore.Config) {
		c.Domains = []string{"storage.test"}
		c.Alias = func(ctx context.Context, _ string) (string, error) {
			return (*say.Load())(ctx)
		}
	})
	w.is(201, "PUT", "c", "", "X-Container-Read: .r:*")
	w.is(201, "PUT", "c/o", "hello")
	right := func(context.Context) (string, error) { return "c.auth-p.storage.test.", nil }
	get := func(ctx context.Context) (int, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.url+"/o", http.NoBody)
		if err != nil {
			return 0, err
		}
		req.Host = "www.mine.test"
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return 0, err
		}
		return resp.StatusCode, resp.Body.Close()
	}
	begun, ended := make(chan struct{}), make(chan struct{})
	slow := func(ctx context.Context) (string, error) {
		close(begun)
		<-ctx.Done()
		close(ended)
		return "", ctx.Err()
	}
	say.Store(&slow)
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan error, 1)
	go func() {
		_, err := get(ctx)
		gone <- err
	}()
	<-begun
	cancel()
	require.ErrorIs(t, <-gone, context.Canceled)
	<-ended
	say.Store(&right)
	require.Eventually(t, func() bool { code, err := get(t.Context()); return err == nil && code == 200 }, 10*time.Second, 10*time.Millisecond, "the next one is answered")
}

// Recon says how full the disk is and what is damaged, to the reseller's administrator.
func TestRecon(t *testing.T) {
	dir := t.TempDir()
	blobs, err := fs.New(dir, fs.Options{NoSync: true})
	require.NoError(t, err)
	w := start(t, func(_ *api.Config, c *objectstore.Config) { c.Blobs = blobs })
	t.Cleanup(func() { require.NoError(t, blobs.Close()) })
	require.Contains(t, w.is(200, "GET", "/recon/version", "").body, `"version"`)
	for _, what := range []string{"diskusage", "quarantined"} {
		require.Equal(t, 401, w.do("", "GET", "/recon/"+what, "").StatusCode)
		require.Equal(t, 403, w.do(owner, "GET", "/recon/"+what, "").StatusCode)
	}
	var disks []struct {
		Device            string
		Mounted           bool
		Size, Used, Avail int64
	}
	require.NoError(t, json.Unmarshal([]byte(w.do("x:y:ResellerAdmin", "GET", "/recon/diskusage", "").body), &disks))
	require.Len(t, disks, 1)
	require.Positive(t, disks[0].Size)
	require.Positive(t, disks[0].Avail)
	require.Equal(t, disks[0].Size, disks[0].Used+disks[0].Avail)
	damage := func() string {
		return strings.ReplaceAll(w.do("x:y:ResellerAdmin", "GET", "/recon/quarantined", "").body, " ", "")
	}
	require.Contains(t, damage(), `"objects":0`)
	key := blobtest.Put(t, blobs, blobtest.Bytes(100000))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "large", key[1:3], key), blobtest.Bytes(100001), 0o600))
	require.ErrorIs(t, blobs.Verify(t.Context(), key), blob.ErrRotten)
	require.Contains(t, damage(), `"objects":1`)
	w.is(404, "GET", "/recon/ringmd5", "")
}

// Whoever asks where data is gets to know that it is here.
func TestEndpoints(t *testing.T) {
	w := start(t)
	for path, want := range map[string]string{
		"/endpoints/AUTH_p":             `["` + w.url + `/v1/AUTH_p"]`,
		"/endpoints/v1/AUTH_p/c/o%20/x": `["` + w.url + `/v1/AUTH_p/c/o%20/x"]`,
		"/v1/endpoints/AUTH_p/c":        `["` + w.url + `/v1/AUTH_p/c"]`,
		"/endpoints/v2/AUTH_p/c":        `{"endpoints":["` + w.url + `/v1/AUTH_p/c"],"headers":{}}`,
	} {
		require.Equal(t, want, w.do("", "GET", path, "").body, path)
	}
	for _, path := range []string{"/v1/endpoints", "/endpoints/", "/endpoints/v2", "/endpoints/AUTH_p//o"} {
		require.Equal(t, 400, w.do("", "GET", path, "").StatusCode, path)
	}
	require.Equal(t, 405, w.do(owner, "PUT", "/endpoints/AUTH_p", "").StatusCode)
}
