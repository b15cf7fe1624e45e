package s3api_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/objectstore"
	"github.com/nacre-cloud/nacre/objectstore/api"
	"github.com/nacre-cloud/nacre/objectstore/blob/mem"
	"github.com/nacre-cloud/nacre/objectstore/s3api"
	"github.com/nacre-cloud/nacre/store/memstore"
)

// keys are two users' credentials: "AK" of project p, "OTHER" of project q.
type keys struct{}

func (keys) Key(_ context.Context, access string) (string, *nacre.Caller, error) {
	switch access {
	case "AK":
		return "secret", &nacre.Caller{UserID: "u", ProjectID: "p", Roles: []string{"member"}}, nil
	case "OTHER":
		return "secret2", &nacre.Caller{UserID: "v", ProjectID: "q", Roles: []string{"member"}}, nil
	case "READER":
		return "secret3", &nacre.Caller{UserID: "r", ProjectID: "p", Roles: []string{"reader"}}, nil
	}
	return "", nil, nacre.Errorf(nacre.NotFound, "", "no such key")
}

type world struct {
	svc   *objectstore.Service
	blobs *mem.Store
	srv   *httptest.Server
	addr  string
	now   time.Time
}

func start(t *testing.T) *world {
	e := memstore.New(memstore.Options{})
	require.NoError(t, e.Migrate(t.Context(), objectstore.Schema(), true))
	w := &world{blobs: &mem.Store{}}
	var err error
	w.svc, err = objectstore.New(objectstore.Config{Engine: e, Blobs: w.blobs, Secrets: &objectstore.Secrets{ByID: map[string][]byte{"": bytes.Repeat([]byte{1}, 32)}}, Now: func() time.Time {
		if w.now.IsZero() {
			return time.Now()
		}
		return w.now
	}})
	require.NoError(t, err)
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	s3 := s3api.New(s3api.Config{Service: w.svc, Keys: keys{}, Domains: []string{"s3.test"}, Log: log})
	w.srv = httptest.NewServer(api.New(api.Config{Service: w.svc, S3: s3, Log: log}))
	w.addr = w.srv.Listener.Addr().String()
	t.Cleanup(func() {
		w.srv.Close()
		fs, err := w.svc.Audit(context.Background(), true)
		require.NoError(t, err)
		require.Empty(t, fs)
		require.NoError(t, e.Close())
	})
	return w
}

func (w *world) client(t *testing.T, creds *credentials.Credentials, style minio.BucketLookupType) *minio.Client {
	c, err := minio.New(w.addr, &minio.Options{Creds: creds, Region: "us-east-1", BucketLookup: style})
	require.NoError(t, err)
	return c
}

func data(n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(7, uint64(n)))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func read(t *testing.T, c *minio.Client, bucket, key string, o minio.GetObjectOptions) []byte {
	r, err := c.GetObject(t.Context(), bucket, key, o)
	require.NoError(t, err)
	b, err := io.ReadAll(r)
	require.NoError(t, err)
	require.NoError(t, r.Close())
	return b
}

func code(err error) string { return minio.ToErrorResponse(err).Code }

// The whole life of buckets and objects, by both versions of signatures.
func TestStory(t *testing.T) {
	for name, creds := range map[string]*credentials.Credentials{"v4": credentials.NewStaticV4("AK", "secret", ""), "v2": credentials.NewStaticV2("AK", "secret", "")} {
		t.Run(name, func(t *testing.T) {
			w := start(t)
			ctx := t.Context()
			c := w.client(t, creds, minio.BucketLookupPath)
			require.NoError(t, c.MakeBucket(ctx, "bucket", minio.MakeBucketOptions{}))
			require.Equal(t, "BucketAlreadyOwnedByYou", code(c.MakeBucket(ctx, "bucket", minio.MakeBucketOptions{})))
			bs, err := c.ListBuckets(ctx)
			require.NoError(t, err)
			require.Len(t, bs, 1)
			for _, n := range []int{0, 1, 100000, 12 << 20} {
				key := fmt.Sprintf("dir é/o b+%d", n)
				body := data(n)
				_, err := c.PutObject(ctx, "bucket", key, bytes.NewReader(body), int64(n), minio.PutObjectOptions{ContentType: "x/y", UserMetadata: map[string]string{"Color": "red"}, PartSize: 5 << 20})
				require.NoError(t, err)
				st, err := c.StatObject(ctx, "bucket", key, minio.StatObjectOptions{})
				require.NoError(t, err)
				require.EqualValues(t, n, st.Size)
				require.Equal(t, "x/y", st.ContentType)
				require.Equal(t, "red", st.UserMetadata["Color"])
				require.True(t, bytes.Equal(body, read(t, c, "bucket", key, minio.GetObjectOptions{})))
				if n > 1000 {
					o := minio.GetObjectOptions{}
					require.NoError(t, o.SetRange(int64(n/2), int64(n/2+99)))
					require.True(t, bytes.Equal(body[n/2:n/2+100], read(t, c, "bucket", key, o)))
				}
			}
			var names []string
			for o := range c.ListObjects(ctx, "bucket", minio.ListObjectsOptions{Recursive: true}) {
				require.NoError(t, o.Err)
				names = append(names, o.Key)
			}
			require.Equal(t, []string{"dir é/o b+0", "dir é/o b+1", "dir é/o b+100000", "dir é/o b+12582912"}, names)
			names = nil
			for o := range c.ListObjects(ctx, "bucket", minio.ListObjectsOptions{UseV1: true}) {
				require.NoError(t, o.Err)
				names = append(names, o.Key)
			}
			require.Equal(t, []string{"dir é/"}, names)
			_, err = c.CopyObject(ctx, minio.CopyDestOptions{Bucket: "bucket", Object: "copy"}, minio.CopySrcOptions{Bucket: "bucket", Object: "dir é/o b+100000"})
			require.NoError(t, err)
			require.True(t, bytes.Equal(data(100000), read(t, c, "bucket", "copy", minio.GetObjectOptions{})))
			_, err = c.StatObject(ctx, "bucket", "none", minio.StatObjectOptions{})
			require.Equal(t, "NoSuchKey", code(err))
			require.Equal(t, "BucketNotEmpty", code(c.RemoveBucket(ctx, "bucket")))
			gone := make(chan minio.ObjectInfo)
			go func() {
				defer close(gone)
				for o := range c.ListObjects(ctx, "bucket", minio.ListObjectsOptions{Recursive: true}) {
					gone <- o
				}
			}()
			for e := range c.RemoveObjects(ctx, "bucket", gone, minio.RemoveObjectsOptions{}) {
				require.NoError(t, e.Err)
			}
			require.NoError(t, c.RemoveBucket(ctx, "bucket"))
			require.NoError(t, w.svc.Tidy(ctx))
			_, cs, err := w.svc.ListContainers(nacre.AsService(ctx, "test"), "AUTH_p", objectstore.ListQuery{})
			require.NoError(t, err)
			require.Empty(t, cs, "nor is anything left of the upload's parts")
		})
	}
}

func TestVirtualHostStyle(t *testing.T) {
	for name, creds := range map[string]*credentials.Credentials{"v4": credentials.NewStaticV4("AK", "secret", ""), "v2": credentials.NewStaticV2("AK", "secret", "")} {
		t.Run(name, func(t *testing.T) {
			w := start(t)
			_, port, _ := strings.Cut(w.addr, ":")
			c, err := minio.New("s3.test:"+port, &minio.Options{Creds: creds, Region: "us-east-1", BucketLookup: minio.BucketLookupDNS, Transport: redirect{w.addr}})
			require.NoError(t, err)
			require.NoError(t, c.MakeBucket(t.Context(), "bucket", minio.MakeBucketOptions{}))
			for _, key := range []string{"a/b", "bucket/b", "bucket2/b"} {
				_, err = c.PutObject(t.Context(), "bucket", key, strings.NewReader(key), int64(len(key)), minio.PutObjectOptions{})
				require.NoError(t, err)
				require.Equal(t, key, string(read(t, c, "bucket", key, minio.GetObjectOptions{})))
			}
			// What was signed for a bucket in the path is not good for a host's.
			u, err := w.client(t, creds, minio.BucketLookupPath).PresignedGetObject(t.Context(), "bucket2", "b", time.Hour, nil)
			require.NoError(t, err)
			req, err := http.NewRequestWithContext(t.Context(), "GET", u.String(), http.NoBody)
			require.NoError(t, err)
			req.Host = "bucket.s3.test"
			resp, err := http.DefaultClient.Do(req)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			require.Equal(t, 403, resp.StatusCode)
		})
	}
}

// redirect reaches the server whatever the URL's host is.
type redirect struct{ addr string }

func (r redirect) RoundTrip(req *http.Request) (*http.Response, error) {
	host := req.URL.Host
	req = req.Clone(req.Context())
	if req.Host == "" {
		req.Host = host
	}
	req.URL.Host = r.addr
	return http.DefaultTransport.RoundTrip(req)
}

func TestVersions(t *testing.T) {
	w := start(t)
	ctx := t.Context()
	c := w.client(t, credentials.NewStaticV4("AK", "secret", ""), minio.BucketLookupPath)
	require.NoError(t, c.MakeBucket(ctx, "bucket", minio.MakeBucketOptions{}))
	put := func(body string) string {
		u, err := c.PutObject(ctx, "bucket", "o", strings.NewReader(body), int64(len(body)), minio.PutObjectOptions{})
		require.NoError(t, err)
		return u.VersionID
	}
	put("zero")
	require.NoError(t, c.EnableVersioning(ctx, "bucket"))
	v1, v2 := put("one"), put("two")
	require.NotEqual(t, v1, v2)
	require.Equal(t, "one", string(read(t, c, "bucket", "o", minio.GetObjectOptions{VersionID: v1})))
	require.Equal(t, "zero", string(read(t, c, "bucket", "o", minio.GetObjectOptions{VersionID: "null"})))
	require.NoError(t, c.RemoveObject(ctx, "bucket", "o", minio.RemoveObjectOptions{}))
	_, err := c.StatObject(ctx, "bucket", "o", minio.StatObjectOptions{})
	require.Equal(t, "NoSuchKey", code(err))
	list := func() (out []string) {
		for o := range c.ListObjects(ctx, "bucket", minio.ListObjectsOptions{WithVersions: true, Recursive: true, MaxKeys: 2}) {
			require.NoError(t, o.Err)
			out = append(out, fmt.Sprintf("%s latest=%v marker=%v", o.VersionID, o.IsLatest, o.IsDeleteMarker))
		}
		return out
	}
	all := list()
	require.Len(t, all, 4)
	require.Contains(t, all[0], "latest=true marker=true")
	require.Equal(t, []string{v2 + " latest=false marker=false", v1 + " latest=false marker=false", "null latest=false marker=false"}, all[1:])
	// Without its mark the object is back; without its newest version, the one before is.
	require.NoError(t, c.RemoveObject(ctx, "bucket", "o", minio.RemoveObjectOptions{VersionID: strings.Fields(all[0])[0]}))
	require.Equal(t, "two", string(read(t, c, "bucket", "o", minio.GetObjectOptions{})))
	require.NoError(t, c.RemoveObject(ctx, "bucket", "o", minio.RemoveObjectOptions{VersionID: v2}))
	require.Equal(t, "one", string(read(t, c, "bucket", "o", minio.GetObjectOptions{})))
	require.NoError(t, c.SuspendVersioning(ctx, "bucket"))
	put("new null")
	require.Equal(t, "new null", string(read(t, c, "bucket", "o", minio.GetObjectOptions{VersionID: "null"})))
	require.Len(t, list(), 2)
}

func TestPresigned(t *testing.T) {
	for name, creds := range map[string]*credentials.Credentials{"v4": credentials.NewStaticV4("AK", "secret", ""), "v2": credentials.NewStaticV2("AK", "secret", "")} {
		t.Run(name, func(t *testing.T) {
			w := start(t)
			ctx := t.Context()
			c := w.client(t, creds, minio.BucketLookupPath)
			require.NoError(t, c.MakeBucket(ctx, "bucket", minio.MakeBucketOptions{}))
			u, err := c.PresignedPutObject(ctx, "bucket", "o", time.Hour)
			require.NoError(t, err)
			require.Equal(t, 200, request(t, "PUT", u.String(), "hello").StatusCode)
			u, err = c.PresignedGetObject(ctx, "bucket", "o", time.Hour, url.Values{"response-content-type": {"a/b"}})
			require.NoError(t, err)
			resp := request(t, "GET", u.String(), "")
			require.Equal(t, 200, resp.StatusCode)
			require.Equal(t, "a/b", resp.Header.Get("Content-Type"))
			require.Equal(t, 403, request(t, "PUT", u.String(), "other").StatusCode, "it is for one method")
			require.Equal(t, 403, request(t, "GET", strings.Replace(u.String(), "/o?", "/other?", 1), "").StatusCode, "and for one object")
			w.now = time.Now().Add(2 * time.Hour)
			require.Equal(t, 403, request(t, "GET", u.String(), "").StatusCode, "and for its time")
		})
	}
}

func request(t *testing.T, method, u, body string) *http.Response {
	req, err := http.NewRequestWithContext(t.Context(), method, u, strings.NewReader(body))
	require.NoError(t, err)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	_, err = io.Copy(io.Discard, resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	return resp
}

// capture keeps what a client sends, so that it can be sent again, changed.
type capture struct {
	last *http.Request
	body []byte
}

func (c *capture) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		c.body, _ = io.ReadAll(req.Body)
		req.Body = io.NopCloser(bytes.NewReader(c.body))
	}
	c.last = req.Clone(context.Background())
	return http.DefaultTransport.RoundTrip(req)
}

// A signature is for one request at one time: nothing of it can be changed, and it
// is worth nothing later.
func TestSignaturesHold(t *testing.T) {
	w := start(t)
	ctx := t.Context()
	tape := &capture{}
	c, err := minio.New(w.addr, &minio.Options{Creds: credentials.NewStaticV4("AK", "secret", ""), Region: "us-east-1", Transport: tape, BucketLookup: minio.BucketLookupPath})
	require.NoError(t, err)
	require.NoError(t, c.MakeBucket(ctx, "bucket", minio.MakeBucketOptions{}))
	_, err = c.PutObject(ctx, "bucket", "o", strings.NewReader("hello world"), 11, minio.PutObjectOptions{})
	require.NoError(t, err)
	again := func(change func(r *http.Request, body *[]byte)) int {
		r := tape.last.Clone(ctx)
		body := bytes.Clone(tape.body)
		change(r, &body)
		r.Body, r.ContentLength, r.RequestURI = io.NopCloser(bytes.NewReader(body)), int64(len(body)), ""
		resp, err := http.DefaultTransport.RoundTrip(r)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		return resp.StatusCode
	}
	require.Equal(t, 200, again(func(*http.Request, *[]byte) {}))
	require.Equal(t, 403, again(func(r *http.Request, _ *[]byte) { r.URL.Path = "/bucket/p" }))
	require.Equal(t, 403, again(func(r *http.Request, _ *[]byte) { r.Method = "DELETE" }))
	require.Equal(t, 403, again(func(r *http.Request, _ *[]byte) { r.URL.RawQuery = "acl" }))
	require.Equal(t, 403, again(func(r *http.Request, _ *[]byte) { r.Header.Set("X-Amz-Copy-Source", "/bucket/o") }), "a header that changes the meaning is signed")
	require.Contains(t, []int{400, 403}, again(func(_ *http.Request, b *[]byte) { *b = bytes.Replace(*b, []byte("world"), []byte("wurld"), 1) }))
	require.Equal(t, "hello world", string(read(t, c, "bucket", "o", minio.GetObjectOptions{})))
	_, err = c.PutObject(ctx, "bucket", "o", strings.NewReader("hello world"), 11, minio.PutObjectOptions{})
	require.NoError(t, err)
	w.now = time.Now().Add(20 * time.Minute)
	require.Equal(t, 403, again(func(*http.Request, *[]byte) {}), "a replay")
	w.now = time.Time{}
}

func TestStrangers(t *testing.T) {
	w := start(t)
	ctx := t.Context()
	mine := w.client(t, credentials.NewStaticV4("AK", "secret", ""), minio.BucketLookupPath)
	require.NoError(t, mine.MakeBucket(ctx, "bucket", minio.MakeBucketOptions{}))
	_, err := w.client(t, credentials.NewStaticV4("AK", "wrong", ""), minio.BucketLookupPath).ListBuckets(ctx)
	require.Equal(t, "SignatureDoesNotMatch", code(err))
	_, err = w.client(t, credentials.NewStaticV4("NONE", "wrong", ""), minio.BucketLookupPath).ListBuckets(ctx)
	require.Equal(t, "InvalidAccessKeyId", code(err))
	other := w.client(t, credentials.NewStaticV4("OTHER", "secret2", ""), minio.BucketLookupPath)
	_, err = other.PutObject(ctx, "bucket", "o", strings.NewReader("x"), 1, minio.PutObjectOptions{})
	require.Equal(t, "NoSuchBucket", code(err))
	reader := w.client(t, credentials.NewStaticV4("READER", "secret3", ""), minio.BucketLookupPath)
	_, err = reader.PutObject(ctx, "bucket", "o", strings.NewReader("x"), 1, minio.PutObjectOptions{})
	require.Equal(t, "AccessDenied", code(err))
	ok, err := reader.BucketExists(ctx, "bucket")
	require.NoError(t, err)
	require.True(t, ok)
}

// Documents can neither name files nor grow.
func TestEntitiesAreNotExpanded(t *testing.T) {
	w := start(t)
	ctx := t.Context()
	c := w.client(t, credentials.NewStaticV4("AK", "secret", ""), minio.BucketLookupPath)
	require.NoError(t, c.MakeBucket(ctx, "bucket", minio.MakeBucketOptions{}))
	u, err := c.Presign(ctx, "POST", "bucket", "", time.Hour, url.Values{"delete": {""}})
	require.NoError(t, err)
	for _, doc := range []string{
		`<!DOCTYPE d [<!ENTITY x SYSTEM "file:///etc/passwd">]><Delete><Object><Key>&x;</Key></Object></Delete>`,
		`<!DOCTYPE d [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><Delete><Object><Key>&b;</Key></Object></Delete>`,
		`<Delete>`, ``, strings.Repeat("<Delete>", 300000),
	} {
		require.Equal(t, 400, request(t, "POST", u.String(), doc).StatusCode)
	}
}

func TestMultipartByHand(t *testing.T) {
	w := start(t)
	ctx := t.Context()
	c := minio.Core{Client: w.client(t, credentials.NewStaticV4("AK", "secret", ""), minio.BucketLookupPath)}
	require.NoError(t, c.MakeBucket(ctx, "bucket", minio.MakeBucketOptions{}))
	id, err := c.NewMultipartUpload(ctx, "bucket", "o", minio.PutObjectOptions{ContentType: "x/y"})
	require.NoError(t, err)
	ups, err := c.ListMultipartUploads(ctx, "bucket", "", "", "", "", 10)
	require.NoError(t, err)
	require.Len(t, ups.Uploads, 1)
	big := data(5 << 20)
	p1, err := c.PutObjectPart(ctx, "bucket", "o", id, 1, bytes.NewReader(big), int64(len(big)), minio.PutObjectPartOptions{})
	require.NoError(t, err)
	p2, err := c.PutObjectPart(ctx, "bucket", "o", id, 2, strings.NewReader("tail"), 4, minio.PutObjectPartOptions{})
	require.NoError(t, err)
	p3, err := c.PutObjectPart(ctx, "bucket", "o", id, 3, strings.NewReader("unused"), 6, minio.PutObjectPartOptions{})
	require.NoError(t, err)
	parts, err := c.ListObjectParts(ctx, "bucket", "o", id, 0, 10)
	require.NoError(t, err)
	require.Len(t, parts.ObjectParts, 3)
	cp := func(ps ...minio.ObjectPart) (out []minio.CompletePart) {
		for _, p := range ps {
			out = append(out, minio.CompletePart{PartNumber: p.PartNumber, ETag: p.ETag})
		}
		return out
	}
	_, err = c.CompleteMultipartUpload(ctx, "bucket", "o", id, cp(p2, p3), minio.PutObjectOptions{})
	require.Equal(t, "EntityTooSmall", code(err))
	_, err = c.CompleteMultipartUpload(ctx, "bucket", "o", id, []minio.CompletePart{{PartNumber: 1, ETag: "beef"}}, minio.PutObjectOptions{})
	require.Equal(t, "InvalidPart", code(err))
	up, err := c.CompleteMultipartUpload(ctx, "bucket", "o", id, cp(p1, p2), minio.PutObjectOptions{})
	require.NoError(t, err)
	require.True(t, strings.HasSuffix(up.ETag, "-2"))
	st, err := c.StatObject(ctx, "bucket", "o", minio.StatObjectOptions{})
	require.NoError(t, err)
	require.Equal(t, up.ETag, st.ETag)
	require.True(t, bytes.Equal(append(bytes.Clone(big), "tail"...), read(t, c.Client, "bucket", "o", minio.GetObjectOptions{})))
	for o := range c.Client.ListObjects(ctx, "bucket", minio.ListObjectsOptions{}) {
		require.Equal(t, strings.Trim(up.ETag, `"`), strings.Trim(o.ETag, `"`), "a listing shows the same tag")
	}
	// What replaces it takes its parts along; so does an abort.
	_, err = c.Client.PutObject(ctx, "bucket", "o", strings.NewReader("x"), 1, minio.PutObjectOptions{})
	require.NoError(t, err)
	id, err = c.NewMultipartUpload(ctx, "bucket", "p", minio.PutObjectOptions{})
	require.NoError(t, err)
	_, err = c.PutObjectPart(ctx, "bucket", "p", id, 1, strings.NewReader("x"), 1, minio.PutObjectPartOptions{})
	require.NoError(t, err)
	require.NoError(t, c.AbortMultipartUpload(ctx, "bucket", "p", id))
	_, err = c.PutObjectPart(ctx, "bucket", "p", id, 2, strings.NewReader("x"), 1, minio.PutObjectPartOptions{})
	require.Equal(t, "NoSuchUpload", code(err))
	_, left, err := w.svc.ListObjects(nacre.AsService(ctx, "test"), objectstore.Ref{Account: "AUTH_p", Container: "bucket+segments"}, objectstore.ListQuery{})
	require.NoError(t, err)
	require.Empty(t, left)
}
