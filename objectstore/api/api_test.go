package api_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/internal/rest"
	"github.com/nacre-cloud/nacre/objectstore"
	"github.com/nacre-cloud/nacre/objectstore/api"
	"github.com/nacre-cloud/nacre/objectstore/blob/fs"
	"github.com/nacre-cloud/nacre/objectstore/blob/mem"
	"github.com/nacre-cloud/nacre/store"
	"github.com/nacre-cloud/nacre/store/memstore"
)

// tokens are "project:user:role".
type tokens struct{}

func (tokens) ValidateToken(_ context.Context, token string) (*nacre.Caller, error) {
	p := strings.Split(token, ":")
	if len(p) != 3 {
		return nil, nacre.Errorf(nacre.Unauthenticated, "", "no such token")
	}
	return &nacre.Caller{ProjectID: p[0], UserID: p[1], Roles: []string{p[2]}, UserDomainID: "d", ProjectDomainID: "d"}, nil
}

type world struct {
	t     *testing.T
	svc   *objectstore.Service
	blobs *mem.Store
	url   string
	now   time.Time
}

const owner = "p:u:member"

// secrets are those of the services that tests start; nil encrypts nothing.
var secrets *objectstore.Secrets

func start(t *testing.T, change ...func(*api.Config, *objectstore.Config)) *world {
	var e store.Engine = memstore.New(memstore.Options{})
	require.NoError(t, e.Migrate(t.Context(), objectstore.Schema(), true))
	w := &world{t: t, blobs: &mem.Store{}}
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError}))
	sc := objectstore.Config{Engine: e, Blobs: w.blobs, Secrets: secrets, Log: log, Now: func() time.Time {
		if w.now.IsZero() {
			return time.Now()
		}
		return w.now
	}}
	ac := api.Config{Tokens: tokens{}, AuthURI: "/identity/v3", Log: log}
	for _, c := range change {
		c(&ac, &sc)
	}
	var err error
	w.svc, err = objectstore.New(sc)
	require.NoError(t, err)
	ac.Service = w.svc
	h := api.New(ac)
	mux := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/object-store/") {
			rest.Mount("/object-store", h).ServeHTTP(rw, r)
			return
		}
		h.ServeHTTP(rw, r)
	})
	srv := httptest.NewServer(mux)
	w.url = srv.URL
	t.Cleanup(func() {
		srv.Close()
		fs, err := w.svc.Audit(context.Background(), true)
		require.NoError(t, err)
		require.Empty(t, fs)
		require.NoError(t, e.Close())
	})
	return w
}

// answer is a response with its body.
type answer struct {
	*http.Response
	body string
}

// do sends a request; headers are "Name: value".
func (w *world) do(token, method, path, body string, headers ...string) answer {
	w.t.Helper()
	a, err := w.try(token, method, path, body, headers...)
	require.NoError(w.t, err)
	return a
}

func (w *world) try(token, method, path, body string, headers ...string) (answer, error) {
	var in io.Reader = strings.NewReader(body)
	if !strings.HasPrefix(path, "/") {
		path = "/v1/AUTH_p/" + path
	}
	req, err := http.NewRequestWithContext(w.t.Context(), method, w.url+path, in)
	require.NoError(w.t, err)
	if token != "" {
		req.Header.Set("X-Auth-Token", token)
	}
	for _, h := range headers {
		k, v, _ := strings.Cut(h, ":")
		req.Header.Set(k, strings.TrimSpace(v))
		if k == "Host" {
			req.Host = strings.TrimSpace(v)
		}
	}
	c := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := c.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close() //nolint:errcheck // read only
	b, err := io.ReadAll(resp.Body)
	return answer{resp, string(b)}, err
}

// is sends the owner's request and wants a status.
func (w *world) is(status int, method, path, body string, headers ...string) answer {
	w.t.Helper()
	a := w.do(owner, method, path, body, headers...)
	require.Equal(w.t, status, a.StatusCode, "%s %s: %s", method, path, a.body)
	require.NotEmpty(w.t, a.Header.Get("X-Trans-Id"))
	return a
}

func TestObjectHeadersAndConditions(t *testing.T) {
	w := start(t)
	w.is(201, "PUT", "c", "")
	a := w.is(201, "PUT", "c/o", "0123456789", "X-Object-Meta-Color: red", "Content-Type: a/b", "Content-Disposition: inline", "X-Object-Meta-Empty:")
	tag := a.Header.Get("Etag")
	require.Equal(t, "781e5e245d69b566979b86e28d23f2c7", tag)
	a = w.is(200, "GET", "c/o", "")
	require.Equal(t, "0123456789", a.body)
	for k, v := range map[string]string{"Etag": tag, "Content-Type": "a/b", "Content-Disposition": "inline", "X-Object-Meta-Color": "red", "Content-Length": "10", "Accept-Ranges": "bytes"} {
		require.Equal(t, v, a.Header.Get(k), k)
	}
	last := a.Header.Get("Last-Modified")
	for _, c := range []struct {
		status int
		header string
	}{
		{200, "If-Match: " + tag}, {200, "If-Match: \"" + tag + "\""}, {412, "If-Match: x"}, {304, "If-None-Match: " + tag}, {304, "If-None-Match: *"}, {200, "If-None-Match: x"},
		{304, "If-Modified-Since: " + last}, {200, "If-Modified-Since: Mon, 02 Jan 2006 15:04:05 GMT"}, {412, "If-Unmodified-Since: Mon, 02 Jan 2006 15:04:05 GMT"}, {200, "If-Unmodified-Since: " + last},
	} {
		w.is(c.status, "GET", "c/o", "", c.header)
		w.is(c.status, "HEAD", "c/o", "", c.header)
	}
	w.is(412, "PUT", "c/o", "x", "If-None-Match: *")
	w.is(400, "PUT", "c/o", "x", "If-None-Match: abc")
	w.is(422, "PUT", "c/o", "x", "Etag: "+tag)
	w.is(202, "POST", "c/o", "", "X-Object-Meta-Size: big")
	a = w.is(200, "HEAD", "c/o", "")
	require.Equal(t, "big", a.Header.Get("X-Object-Meta-Size"))
	require.Empty(t, a.Header.Get("X-Object-Meta-Color"), "a POST replaces")
	require.Equal(t, "a/b", a.Header.Get("Content-Type"))
	require.Equal(t, "0123456789", w.is(200, "GET", "c/o", "").body)
}

func TestRanges(t *testing.T) {
	w := start(t)
	w.is(201, "PUT", "c", "")
	body := strings.Repeat("0123456789", 20000)
	w.is(201, "PUT", "c/o", body)
	n := len(body)
	for _, c := range []struct {
		r        string
		from, to int
	}{{"bytes=0-0", 0, 1}, {"bytes=5-9", 5, 10}, {"bytes=65530-65545", 65530, 65546}, {fmt.Sprintf("bytes=%d-", n-3), n - 3, n}, {"bytes=-7", n - 7, n}, {fmt.Sprintf("bytes=10-%d", n*2), 10, n}} {
		a := w.is(206, "GET", "c/o", "", "Range: "+c.r)
		require.Equal(t, body[c.from:c.to], a.body, c.r)
		require.Equal(t, fmt.Sprintf("bytes %d-%d/%d", c.from, c.to-1, n), a.Header.Get("Content-Range"))
	}
	a := w.is(416, "GET", "c/o", "", fmt.Sprintf("Range: bytes=%d-", n))
	require.Equal(t, fmt.Sprintf("bytes */%d", n), a.Header.Get("Content-Range"))
	for _, r := range []string{"bytes=x-y", "chars=0-1", "bytes=9-5", "bytes=-"} {
		require.Len(t, w.is(200, "GET", "c/o", "", "Range: "+r).body, n, r)
	}
	a = w.is(206, "GET", "c/o", "", "Range: bytes=0-4,100-104,-3")
	require.Contains(t, a.Header.Get("Content-Type"), "multipart/byteranges;boundary=")
	require.Contains(t, a.body, "Content-Range: bytes 100-104/200000\r\n\r\n01234\r\n--")
	require.Contains(t, a.body, "Content-Range: bytes 199997-199999/200000\r\n\r\n789\r\n--")
	w.is(416, "GET", "c/o", "", "Range: bytes=0-9,0-9,0-9,0-9,0-9")
	require.Equal(t, http.StatusOK, w.is(200, "GET", "c/o", "", "Range: bytes=0-4", "If-Range: \"other\"").StatusCode)
}

func TestLargeObjects(t *testing.T) {
	w := start(t)
	w.is(201, "PUT", "c", "")
	w.is(201, "PUT", "s", "")
	var tags []string
	for i := range 3 {
		tags = append(tags, w.is(201, "PUT", fmt.Sprintf("s/p%d", i), strings.Repeat(fmt.Sprint(i), 10)).Header.Get("Etag"))
	}
	all := strings.Repeat("0", 10) + strings.Repeat("1", 10) + strings.Repeat("2", 10)
	manifest := fmt.Sprintf(`[{"path":"/s/p0","etag":"%s","size_bytes":10},{"path":"s/p1"},{"path":"/s/p2","size_bytes":null}]`, tags[0])
	a := w.is(201, "PUT", "c/slo?multipart-manifest=put", manifest, "X-Object-Meta-A: b")
	tag := a.Header.Get("Etag")
	a = w.is(200, "GET", "c/slo", "")
	require.Equal(t, all, a.body)
	require.Equal(t, tag, a.Header.Get("Etag"))
	require.Equal(t, "True", a.Header.Get("X-Static-Large-Object"))
	require.Equal(t, "30", w.is(200, "HEAD", "c/slo", "").Header.Get("Content-Length"))
	require.Equal(t, "1111", w.is(206, "GET", "c/slo", "", "Range: bytes=12-15").body)
	require.Equal(t, "011111111112", w.is(206, "GET", "c/slo", "", "Range: bytes=9-20").body)
	require.Equal(t, "application/json; charset=utf-8", w.is(200, "GET", "c/slo?multipart-manifest=get", "").Header.Get("Content-Type"))
	require.Contains(t, w.is(200, "GET", "c/slo?multipart-manifest=get&format=raw", "").body, `"size_bytes":10`)
	require.Contains(t, w.is(200, "GET", "c?format=json", "").body, `"bytes":30`)
	// Nested, with a range and inline data.
	w.is(201, "PUT", "c/nested?multipart-manifest=put", `[{"path":"/c/slo","range":"5-14"},{"data":"aGk="},{"path":"/s/p2","range":"-2"}]`)
	require.Equal(t, "0000011111hi22", w.is(200, "GET", "c/nested", "").body)
	for bad, why := range map[string]string{
		`{}`: "must be a list", `nonsense`: "valid JSON", `[]`: "at least one", `[{"path":"/s/none"}]`: "404 Not Found", `[{"path":"/s/p0","etag":"x"}]`: "Etag Mismatch",
		`[{"path":"/s/p0","size_bytes":9}]`: "Size Mismatch", `[{"path":"/s/p0","range":"50-60"}]`: "Unsatisfiable Range", `[{"path":"/c/bad"}]`: "itself", `[{"path":"/s"}]`: "does not refer", `[{"path":"/s/p0","color":1}]`: "Index 0",
	} {
		require.Contains(t, w.is(400, "PUT", "c/bad?multipart-manifest=put", bad).body, why, bad)
	}
	w.is(422, "PUT", "c/bad?multipart-manifest=put", manifest, "Etag: 0123")
	// A copy is plain; a copied manifest isn't.
	w.is(201, "COPY", "c/slo", "", "Destination: c/plain")
	require.Empty(t, w.is(200, "HEAD", "c/plain", "").Header.Get("X-Static-Large-Object"))
	w.is(201, "COPY", "c/slo?multipart-manifest=get", "", "Destination: c/again")
	require.Equal(t, all, w.is(200, "GET", "c/again", "").body)
	// A dynamic one is what there is.
	w.is(201, "PUT", "c/dlo", "", "X-Object-Manifest: s/p")
	require.Equal(t, all, w.is(200, "GET", "c/dlo", "").body)
	w.is(201, "PUT", "s/p3", "3")
	require.Equal(t, all+"3", w.is(200, "GET", "c/dlo", "").body)
	require.Equal(t, "23", w.is(206, "GET", "c/dlo", "", "Range: bytes=29-").body)
	w.is(400, "PUT", "c/bad", "", "X-Object-Manifest: s")
	// A segment that has changed is noticed: before the answer, or by its breaking off.
	w.is(201, "PUT", "s/p0", "changed")
	w.is(409, "GET", "c/slo", "")
	w.is(201, "PUT", "s/p0", strings.Repeat("0", 10))
	w.is(204, "DELETE", "s/p2", "")
	got, err := w.try(owner, "GET", "c/slo", "")
	require.Error(t, err)
	require.True(t, strings.HasPrefix(all[:20], got.body), "what came is right")
	require.Contains(t, w.is(200, "DELETE", "c/slo?multipart-manifest=delete", "").body, "Number Deleted: 3\nNumber Not Found: 1")
}

// Parts of a static large object by their number.

func TestSymlinks(t *testing.T) {
	w := start(t)
	w.is(201, "PUT", "c", "")
	tag := w.is(201, "PUT", "c/o", "hello").Header.Get("Etag")
	w.is(201, "PUT", "c/link", "", "X-Symlink-Target: c/o")
	a := w.is(200, "GET", "c/link", "")
	require.Equal(t, "hello", a.body)
	require.Equal(t, "/v1/AUTH_p/c/o", a.Header.Get("Content-Location"))
	a = w.is(200, "HEAD", "c/link?symlink=get", "")
	require.Equal(t, "c/o", a.Header.Get("X-Symlink-Target"))
	require.Equal(t, "0", a.Header.Get("Content-Length"))
	w.is(400, "PUT", "c/l", "body", "X-Symlink-Target: c/o")
	w.is(400, "PUT", "c/l", "", "X-Symlink-Target: c/l")
	w.is(409, "PUT", "c/l", "", "X-Symlink-Target: c/o", "X-Symlink-Target-Etag: 00")
	w.is(201, "PUT", "c/static", "", "X-Symlink-Target: c/o", "X-Symlink-Target-Etag: "+tag)
	a = w.is(307, "POST", "c/link", "", "X-Object-Meta-A: b")
	require.Equal(t, "/v1/AUTH_p/c/o", a.Header.Get("Location"))
	w.is(201, "PUT", "c/o", "other")
	require.Equal(t, "other", w.is(200, "GET", "c/link", "").body)
	w.is(409, "GET", "c/static", "")
	w.is(201, "PUT", "c/a", "", "X-Symlink-Target: c/b")
	w.is(201, "PUT", "c/b", "", "X-Symlink-Target: c/a")
	w.is(409, "GET", "c/a", "")
	w.is(204, "DELETE", "c/link", "")
	w.is(200, "GET", "c/o", "")
	// A link gives nobody a right that he lacks at the target.
	w.is(201, "PUT", "pub", "", "X-Container-Read: .r:*")
	w.is(201, "PUT", "pub/l", "", "X-Symlink-Target: c/o")
	require.Equal(t, 401, w.do("", "GET", "pub/l", "").StatusCode)
}

func TestMetadataLimitsHoldForTheWhole(t *testing.T) {
	w := start(t)
	w.is(201, "PUT", "c", "")
	long := strings.Repeat("x", 257)
	for _, path := range []string{"", "c"} {
		kind := map[string]string{"": "Account", "c": "Container"}[path]
		w.is(400, "POST", path, "", "X-"+kind+"-Meta-A: "+long)
		w.is(400, "POST", path, "", "X-"+kind+"-Meta-"+strings.Repeat("a", 129)+": 1")
		n := 0
		for ; n < 90; n++ {
			w.is(204, "POST", path, "", fmt.Sprintf("X-%s-Meta-K%d: v", kind, n))
		}
		require.Contains(t, w.is(400, "POST", path, "", fmt.Sprintf("X-%s-Meta-K%d: v", kind, n)).body, "Too many metadata items")
		w.is(204, "POST", path, "", "X-Remove-"+kind+"-Meta-K3: x")
		w.is(204, "POST", path, "", fmt.Sprintf("X-%s-Meta-K%d: v", kind, n))
	}
	w.is(201, "PUT", "d", "")
	for i := range 15 {
		w.is(204, "POST", "d", "", fmt.Sprintf("X-Container-Meta-Long%d: %s", i, long[:256]))
	}
	require.Contains(t, w.is(400, "POST", "d", "", "X-Container-Meta-Last: "+long[:256]).body, "Total metadata too large")
}

func TestErrorsOfNamesAndMethods(t *testing.T) {
	w := start(t)
	w.is(201, "PUT", "c", "")
	w.is(400, "PUT", strings.Repeat("c", 257), "")
	w.is(400, "PUT", "c/"+strings.Repeat("o", 1025), "x")
	w.is(412, "PUT", "c/%00", "x")
	w.is(412, "PUT", "c/%ff", "x")
	w.is(404, "GET", "/v2/AUTH_p", "")
	w.is(404, "GET", "/", "")
	require.Equal(t, "HEAD, GET, PUT, POST, OPTIONS, DELETE", w.is(405, "PATCH", "c", "").Header.Get("Allow"))
	w.is(400, "PUT", "c/o", "x", "X-Delete-At: soon")
	w.is(400, "PUT", "c/o", "x", "X-Delete-At: 1")
	w.is(412, "GET", "c?limit=10001", "")
	w.is(409, "PUT", "c/o", "", "X-Symlink-Target: c/none", "X-Symlink-Target-Etag: 1")
}

func TestExpiry(t *testing.T) {
	w := start(t)
	w.is(201, "PUT", "c", "")
	w.is(201, "PUT", "c/o", "x", "X-Delete-After: 100")
	require.NotEmpty(t, w.is(200, "HEAD", "c/o", "").Header.Get("X-Delete-At"))
	w.now = time.Now().Add(101 * time.Second)
	w.is(404, "GET", "c/o", "")
	require.Equal(t, "o\n", w.is(200, "GET", "c", "").body, "listings lag behind, as Swift's do")
	require.NoError(t, w.svc.Expire(t.Context()))
	w.is(204, "GET", "c", "")
	w.is(201, "PUT", "c/o", "x", "X-Delete-After: 100")
	w.is(202, "POST", "c/o", "", "X-Object-Meta-A: b")
	require.Empty(t, w.is(200, "HEAD", "c/o", "").Header.Get("X-Delete-At"), "a POST without it takes it away")
}

func TestBothKindsOfVersions(t *testing.T) {
	w := start(t)
	w.is(201, "PUT", "old", "")
	w.is(201, "PUT", "c", "", "X-Versions-Location: old")
	for _, b := range []string{"one", "two", "three"} {
		w.is(201, "PUT", "c/o", b)
	}
	require.Equal(t, 2, strings.Count(w.is(200, "GET", "old", "").body, "001o/"))
	w.is(204, "DELETE", "c/o", "")
	require.Equal(t, "two", w.is(200, "GET", "c/o", "").body)
	w.is(204, "DELETE", "c/o", "")
	w.is(204, "DELETE", "c/o", "")
	w.is(404, "GET", "c/o", "")
	w.is(404, "DELETE", "c/o", "")
	w.is(201, "PUT", "h", "", "X-History-Location: old")
	w.is(201, "PUT", "h/o", "one")
	w.is(204, "DELETE", "h/o", "")
	require.Equal(t, 2, strings.Count(w.is(200, "GET", "old", "").body, "001o/"))
	w.is(400, "PUT", "both", "", "X-History-Location: old", "X-Versions-Location: old")
	// Who may not write gets nothing back by deleting.
	w.is(202, "PUT", "c", "", "X-Container-Read: .r:*")
	w.is(201, "PUT", "c/o", "1")
	w.is(201, "PUT", "c/o", "2")
	require.Equal(t, 401, w.do("", "DELETE", "c/o", "").StatusCode)
	require.Equal(t, 403, w.do("q:v:member", "DELETE", "c/o", "").StatusCode)
	require.Equal(t, "2", w.is(200, "GET", "c/o", "").body)

	w.is(201, "PUT", "v", "", "X-Versions-Enabled: true")
	v1 := w.is(201, "PUT", "v/o", "one").Header.Get("X-Object-Version-Id")
	v2 := w.is(201, "PUT", "v/o", "two").Header.Get("X-Object-Version-Id")
	require.Equal(t, "one", w.is(200, "GET", "v/o?version-id="+v1, "").body)
	a := w.is(204, "DELETE", "v/o", "")
	mark := a.Header.Get("X-Object-Version-Id")
	w.is(404, "GET", "v/o", "")
	w.is(404, "GET", "v/o?version-id="+mark, "")
	w.is(409, "DELETE", "v", "")
	require.Equal(t, 3, strings.Count(w.is(200, "GET", "v?versions&format=json", "").body, "version_id"))
	w.is(201, "PUT", "v/o?version-id="+v1, "")
	require.Equal(t, "one", w.is(200, "GET", "v/o", "").body)
	for _, v := range []string{v1, v2, mark} {
		w.is(204, "DELETE", "v/o?version-id="+v, "")
	}
	w.is(404, "DELETE", "v/o?version-id="+v1, "")
	w.is(204, "DELETE", "v", "")
}

func TestInfoAndTheRest(t *testing.T) {
	w := start(t, func(c *api.Config, _ *objectstore.Config) {
		c.Domains = []string{"storage.test"}
		c.Login = func(_ context.Context, user, key string) (string, string, time.Time, error) {
			if user != "p:u" || key != "k" {
				return "", "", time.Time{}, nacre.Errorf(nacre.Unauthenticated, "", "no")
			}
			return owner, "AUTH_p", time.Now().Add(time.Hour), nil
		}
	})
	require.Contains(t, w.is(200, "GET", "/info", "").body, `"max_file_size":5368709122`)
	require.NotContains(t, w.is(200, "GET", "/info", "").body, "container_sync")
	require.Contains(t, w.is(400, "PUT", "synced", "", "X-Container-Sync-To: //realm/cluster/a/c").body, "not served here")
	w.is(404, "HEAD", "synced", "")
	require.Equal(t, "OK", w.is(200, "GET", "/healthcheck", "").body)
	a := w.is(200, "GET", "/auth/v1.0", "", "X-Auth-User: p:u", "X-Auth-Key: k")
	require.Equal(t, w.url+"/v1/AUTH_p", a.Header.Get("X-Storage-Url"))
	require.Equal(t, owner, a.Header.Get("X-Auth-Token"))
	w.is(401, "GET", "/auth/v1.0", "", "X-Auth-User: p:u", "X-Auth-Key: wrong")
	a = w.is(200, "GET", "/object-store/auth/v1.0", "", "X-Auth-User: p:u", "X-Auth-Key: k")
	require.Equal(t, w.url+"/object-store/v1/AUTH_p", a.Header.Get("X-Storage-Url"))
	w.is(201, "PUT", "c", "")
	w.is(201, "PUT", "c/o", "hello")
	require.Equal(t, "hello", w.is(200, "GET", "/o", "", "Host: c.auth-p.storage.test").body)
	require.Equal(t, "hello", w.is(200, "GET", "/c/o", "", "Host: auth-p.storage.test").body)
	require.Equal(t, "hello", w.is(200, "GET", "/object-store/v1/AUTH_p/c/o", "").body)
}

func TestRateLimit(t *testing.T) {
	w := start(t, func(c *api.Config, _ *objectstore.Config) { c.Writes = 5 })
	statuses := map[int]int{}
	for range 30 {
		statuses[w.do(owner, "PUT", "c", "").StatusCode]++
	}
	require.Positive(t, statuses[498])
	require.Equal(t, 200, w.do(owner, "GET", "", "").StatusCode, "reading is not bounded")
}

func TestStaticWeb(t *testing.T) {
	w := start(t)
	w.is(201, "PUT", "c", "", "X-Container-Read: .r:*,.rlistings", "X-Container-Meta-Web-Index: index.html", "X-Container-Meta-Web-Error: error.html", "X-Container-Meta-Web-Listings: true")
	w.is(201, "PUT", "c/index.html", "the index")
	w.is(201, "PUT", "c/404error.html", "not here")
	w.is(201, "PUT", "c/<dir>/a", "a")
	w.is(201, "PUT", "c/sub/index.html", "sub index")
	web := func(path string) answer { return w.do("", "GET", path, "") }
	require.Equal(t, "the index", web("c/").body)
	require.Equal(t, 301, web("c").StatusCode)
	require.Equal(t, "sub index", web("c/sub/").body)
	require.Equal(t, 301, web("c/sub").StatusCode)
	a := web("c/%3Cdir%3E/")
	require.Equal(t, 200, a.StatusCode)
	require.Contains(t, a.body, "&lt;dir&gt;")
	require.NotContains(t, a.body, "<dir>")
	a = web("c/none")
	require.Equal(t, 404, a.StatusCode)
	require.Equal(t, "not here", a.body)
	require.Contains(t, w.is(200, "GET", "c", "").body, "index.html\n", "with a token it is a plain listing")
	// Without listings for all, what isn't there can't be told from what is.
	w.is(202, "PUT", "c", "", "X-Container-Read: .r:*")
	require.Equal(t, 401, web("c/%3Cdir%3E/").StatusCode)
}

func TestCORS(t *testing.T) {
	w := start(t)
	w.is(201, "PUT", "c", "", "X-Container-Read: .r:*", "X-Container-Meta-Access-Control-Allow-Origin: http://a.test", "X-Container-Meta-Access-Control-Max-Age: 5")
	w.is(201, "PUT", "c/o", "x")
	a := w.do("", "OPTIONS", "c/o", "", "Origin: http://a.test", "Access-Control-Request-Method: GET", "Access-Control-Request-Headers: X-Foo")
	require.Equal(t, 200, a.StatusCode)
	require.Equal(t, "http://a.test", a.Header.Get("Access-Control-Allow-Origin"))
	require.Equal(t, "5", a.Header.Get("Access-Control-Max-Age"))
	require.Equal(t, 401, w.do("", "OPTIONS", "c/o", "", "Origin: http://b.test", "Access-Control-Request-Method: GET").StatusCode)
	require.Equal(t, "http://a.test", w.do("", "GET", "c/o", "", "Origin: http://a.test").Header.Get("Access-Control-Allow-Origin"))
	require.Empty(t, w.do("", "GET", "c/o", "", "Origin: http://b.test").Header.Get("Access-Control-Allow-Origin"))
}

// A client that goes away leaves nothing, neither in writing nor in reading.
func TestClientsThatGoAway(t *testing.T) {
	w := start(t)
	w.is(201, "PUT", "c", "")
	ctx, cancel := context.WithCancel(t.Context())
	pr, pw := io.Pipe()
	req, err := http.NewRequestWithContext(ctx, "PUT", w.url+"/v1/AUTH_p/c/o", pr)
	require.NoError(t, err)
	req.Header.Set("X-Auth-Token", owner)
	req.ContentLength = 1 << 20
	done := make(chan error)
	go func() { _, err := http.DefaultClient.Do(req); done <- err }()
	_, err = pw.Write(bytes.Repeat([]byte("x"), 200000))
	require.NoError(t, err)
	cancel()
	// The transport's writer may be waiting for the body: until that ends too, Do may wait for the writer.
	_ = pw.CloseWithError(errors.New("gone"))
	require.Error(t, <-done)
	w.is(404, "GET", "c/o", "")
	require.Eventually(t, func() bool {
		n := 0
		require.NoError(t, w.blobs.Walk(t.Context(), func(blobInfo) error { n++; return nil }))
		return n == 0
	}, 5*time.Second, 5*time.Millisecond)
}

// counting counts the blobs that are being read.
type counting struct {
	*mem.Store
	open atomic.Int64
}

func (c *counting) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	r, err := c.Store.Open(ctx, key, off, n)
	if err != nil {
		return nil, err
	}
	c.open.Add(1)
	return &countedReader{r, &c.open}, nil
}

type countedReader struct {
	io.ReadCloser
	n *atomic.Int64
}

func (c *countedReader) Close() error {
	c.n.Add(-1)
	return c.ReadCloser.Close()
}

// A client that stops reading a large object in its middle leaves nothing open.
func TestAbortedReadsOfLargeObjectsLeakNothing(t *testing.T) {
	blobs := &counting{Store: &mem.Store{}}
	w := start(t, func(_ *api.Config, c *objectstore.Config) { c.Blobs = blobs })
	w.is(201, "PUT", "c", "")
	for i := range 3 {
		w.is(201, "PUT", fmt.Sprintf("c/%d", i), strings.Repeat("x", 4<<20))
	}
	w.is(201, "PUT", "c/slo?multipart-manifest=put", `[{"path":"/c/0"},{"path":"/c/1"},{"path":"/c/2"}]`)
	for _, headers := range [][]string{nil, {"Range: bytes=0-5000000,6000000-7000000"}} {
		for range 5 {
			ctx, cancel := context.WithCancel(t.Context())
			req, err := http.NewRequestWithContext(ctx, "GET", w.url+"/v1/AUTH_p/c/slo", nil)
			require.NoError(t, err)
			req.Header.Set("X-Auth-Token", owner)
			for _, h := range headers {
				k, v, _ := strings.Cut(h, ": ")
				req.Header.Set(k, v)
			}
			resp, err := http.DefaultClient.Do(req)
			require.NoError(t, err)
			_, err = io.ReadFull(resp.Body, make([]byte, 100000))
			require.NoError(t, err)
			cancel()
			_ = resp.Body.Close()
		}
	}
	require.Eventually(t, func() bool { return blobs.open.Load() == 0 }, 5*time.Second, 5*time.Millisecond)
	require.Equal(t, 12<<20, len(w.is(200, "GET", "c/slo", "").body))
	require.Zero(t, blobs.open.Load())
}

// Memory does not grow with what is put and read.
func TestBodiesStream(t *testing.T) {
	blobs, err := fs.New(t.TempDir(), fs.Options{NoSync: true})
	require.NoError(t, err)
	w := start(t, func(_ *api.Config, c *objectstore.Config) { c.Blobs = blobs })
	t.Cleanup(func() { require.NoError(t, blobs.Close()) })
	w.is(201, "PUT", "c", "")
	const size = 256 << 20
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	req, err := http.NewRequestWithContext(t.Context(), "PUT", w.url+"/v1/AUTH_p/c/o", io.LimitReader(zeros{}, size))
	require.NoError(t, err)
	req.ContentLength = size
	req.Header.Set("X-Auth-Token", owner)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	require.Equal(t, 201, resp.StatusCode)
	require.NoError(t, resp.Body.Close())
	req, err = http.NewRequestWithContext(t.Context(), "GET", w.url+"/v1/AUTH_p/c/o", nil)
	require.NoError(t, err)
	req.Header.Set("X-Auth-Token", owner)
	resp, err = http.DefaultClient.Do(req)
	require.NoError(t, err)
	n, err := io.Copy(io.Discard, resp.Body)
	require.NoError(t, err)
	require.EqualValues(t, size, n)
	require.NoError(t, resp.Body.Close())
	runtime.ReadMemStats(&after)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(32<<20), "all that was ever allocated, in bytes")
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
