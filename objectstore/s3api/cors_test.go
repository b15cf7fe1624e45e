package s3api_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/cors"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/objectstore"
)

// ask is a browser's request: headers are "Name: value".
func (w *world) ask(t *testing.T, method, url string, headers ...string) *http.Response {
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	require.NoError(t, err)
	for _, h := range headers {
		k, v, _ := strings.Cut(h, ": ")
		if k == "Host" {
			req.Host = v
		}
		req.Header.Set(k, v)
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	return resp
}

// A bucket's rules are kept, let browsers in before a request and with its answer, and
// nobody else.
func TestCORS(t *testing.T) {
	w := start(t)
	c := w.bucket(t)
	put(t, c, "key", "hello", minio.PutObjectOptions{})
	none, err := c.GetBucketCors(t.Context(), "bucket")
	require.NoError(t, err)
	require.Nil(t, none)
	url := w.srv.URL + "/bucket/key"
	preflight := func(url string, headers ...string) *http.Response {
		return w.ask(t, "OPTIONS", url, headers...)
	}
	require.Equal(t, 403, preflight(url, "Origin: http://a.test", "Access-Control-Request-Method: GET").StatusCode, "without rules")

	rules := []cors.Rule{
		{ID: "site", AllowedOrigin: []string{"http://*.a.test"}, AllowedMethod: []string{"GET", "PUT"}, AllowedHeader: []string{"x-amz-*", "content-type"}, ExposeHeader: []string{"ETag"}, MaxAgeSeconds: 30},
		{AllowedOrigin: []string{"*"}, AllowedMethod: []string{"HEAD"}},
	}
	require.NoError(t, c.SetBucketCors(t.Context(), "bucket", cors.NewConfig(rules)))
	got, err := c.GetBucketCors(t.Context(), "bucket")
	require.NoError(t, err)
	require.Equal(t, rules, got.CORSRules)

	a := preflight(url, "Origin: http://www.a.test", "Access-Control-Request-Method: PUT", "Access-Control-Request-Headers: X-Amz-Date, content-type")
	require.Equal(t, 200, a.StatusCode)
	require.Equal(t, "http://www.a.test", a.Header.Get("Access-Control-Allow-Origin"))
	require.Equal(t, "true", a.Header.Get("Access-Control-Allow-Credentials"))
	require.Equal(t, "GET, PUT", a.Header.Get("Access-Control-Allow-Methods"))
	require.Equal(t, "x-amz-date, content-type", a.Header.Get("Access-Control-Allow-Headers"))
	require.Equal(t, "30", a.Header.Get("Access-Control-Max-Age"))
	require.Equal(t, "*", preflight(url, "Origin: http://b.test", "Access-Control-Request-Method: HEAD").Header.Get("Access-Control-Allow-Origin"))
	for what, h := range map[string][]string{
		"another origin": {"Origin: http://b.test", "Access-Control-Request-Method: GET"},
		"another method": {"Origin: http://www.a.test", "Access-Control-Request-Method: DELETE"},
		"another header": {"Origin: http://www.a.test", "Access-Control-Request-Method: GET", "Access-Control-Request-Headers: x-other"},
	} {
		a := preflight(url, h...)
		require.Equal(t, 403, a.StatusCode, what)
		require.Empty(t, a.Header.Get("Access-Control-Allow-Origin"), what)
	}
	require.Equal(t, 400, preflight(url, "Origin: http://www.a.test").StatusCode)
	require.Equal(t, 200, preflight(w.srv.URL+"/key", "Host: bucket.s3.test", "Origin: http://www.a.test", "Access-Control-Request-Method: GET").StatusCode)
	require.Equal(t, 403, preflight(w.srv.URL+"/other/key", "Origin: http://www.a.test", "Access-Control-Request-Method: GET").StatusCode)

	// A signed URL is somebody's: another project's bucket of that name does not count.
	signed, err := c.PresignedGetObject(t.Context(), "bucket", "key", time.Minute, nil)
	require.NoError(t, err)
	require.Equal(t, 200, preflight(signed.String(), "Origin: http://www.a.test", "Access-Control-Request-Method: GET").StatusCode)
	a = w.ask(t, "GET", signed.String(), "Origin: http://www.a.test")
	require.Equal(t, 200, a.StatusCode)
	require.Equal(t, "http://www.a.test", a.Header.Get("Access-Control-Allow-Origin"))
	require.Equal(t, "ETag", a.Header.Get("Access-Control-Expose-Headers"))
	a = w.ask(t, "GET", signed.String(), "Origin: http://b.test")
	require.Equal(t, 200, a.StatusCode, "who is no browser doesn't mind")
	require.Empty(t, a.Header.Get("Access-Control-Allow-Origin"))
	other := w.client(t, credentials.NewStaticV4("OTHER", "secret2", ""), minio.BucketLookupPath)
	require.NoError(t, other.MakeBucket(t.Context(), "bucket", minio.MakeBucketOptions{}))
	theirs, err := other.PresignedGetObject(t.Context(), "bucket", "key", time.Minute, nil)
	require.NoError(t, err)
	require.Equal(t, 403, preflight(theirs.String(), "Origin: http://www.a.test", "Access-Control-Request-Method: GET").StatusCode)

	for _, wrong := range []cors.Rule{{AllowedOrigin: []string{"*"}}, {AllowedOrigin: []string{"*"}, AllowedMethod: []string{"PATCH"}}, {AllowedOrigin: []string{"http://*.*"}, AllowedMethod: []string{"GET"}},
		{AllowedOrigin: []string{"*"}, AllowedMethod: []string{"GET"}, ExposeHeader: []string{"x-*"}}} {
		require.Error(t, c.SetBucketCors(t.Context(), "bucket", cors.NewConfig([]cors.Rule{wrong})))
	}
	require.NoError(t, c.SetBucketCors(t.Context(), "bucket", nil))
	none, err = c.GetBucketCors(t.Context(), "bucket")
	require.NoError(t, err)
	require.Nil(t, none)
	require.Equal(t, 403, preflight(url, "Origin: http://www.a.test", "Access-Control-Request-Method: PUT").StatusCode)
	// Swift's own answers stay Swift's.
	require.Equal(t, 401, preflight(w.srv.URL+"/v1/AUTH_p/bucket/key", "Origin: http://www.a.test", "Access-Control-Request-Method: GET").StatusCode)
}

// A browser is let in by the one bucket of a name that has rules, wherever it is among
// others.
func TestCORSAmongNamesakes(t *testing.T) {
	w := start(t)
	as := func(project string) context.Context {
		return nacre.WithCaller(t.Context(), &nacre.Caller{UserID: "u", ProjectID: project, ProjectName: project, Roles: []string{"member"}})
	}
	bucket := func(project string) objectstore.Ref {
		return objectstore.Ref{Account: "AUTH_" + project, Container: "bucket"}
	}
	ask := func() int {
		return w.ask(t, "OPTIONS", w.srv.URL+"/bucket/key", "Origin: http://a.test", "Access-Control-Request-Method: GET").StatusCode
	}
	c := w.bucket(t)
	require.NoError(t, c.SetBucketCors(t.Context(), "bucket", cors.NewConfig([]cors.Rule{{AllowedOrigin: []string{"http://a.test"}, AllowedMethod: []string{"GET"}}})))
	own, err := w.svc.Settings(t.Context(), bucket("p"))
	require.NoError(t, err)
	require.NoError(t, c.SetBucketCors(t.Context(), "bucket", nil))
	last, project := "", "" // of the greatest id
	for i := range 150 {
		p := fmt.Sprint("p", i)
		_, err := w.svc.PutContainer(as(p), bucket(p), objectstore.ContainerChange{})
		require.NoError(t, err)
		made, err := w.svc.Container(as(p), bucket(p))
		require.NoError(t, err)
		if made.ID > last {
			last, project = made.ID, p
		}
	}
	require.Equal(t, 403, ask())
	_, err = w.svc.PutContainer(as(project), bucket(project), objectstore.ContainerChange{Meta: own})
	require.NoError(t, err)
	require.Equal(t, 200, ask())
}
