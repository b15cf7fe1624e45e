package s3api_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/lifecycle"
	"github.com/minio/minio-go/v7/pkg/tags"
	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/objectstore"
)

// bucket is a client with a bucket.
func (w *world) bucket(t *testing.T) *minio.Client {
	c := w.client(t, credentials.NewStaticV4("AK", "secret", ""), minio.BucketLookupPath)
	require.NoError(t, c.MakeBucket(t.Context(), "bucket", minio.MakeBucketOptions{}))
	return c
}

func put(t *testing.T, c *minio.Client, key, body string, o minio.PutObjectOptions) minio.UploadInfo {
	u, err := c.PutObject(t.Context(), "bucket", key, strings.NewReader(body), int64(len(body)), o)
	require.NoError(t, err)
	return u
}

func tagsOf(t *testing.T, m map[string]string) *tags.Tags {
	tg, err := tags.NewTags(m, true)
	require.NoError(t, err)
	return tg
}

func TestTags(t *testing.T) {
	w := start(t)
	c, ctx := w.bucket(t), t.Context()
	_, err := c.GetBucketTagging(ctx, "bucket")
	require.Equal(t, "NoSuchTagSet", code(err))
	want := map[string]string{"team": "ops + dev", "k": "v=1"}
	require.NoError(t, c.SetBucketTagging(ctx, "bucket", tagsOf(t, want)))
	got, err := c.GetBucketTagging(ctx, "bucket")
	require.NoError(t, err)
	require.Equal(t, want, got.ToMap())
	require.NoError(t, c.RemoveBucketTagging(ctx, "bucket"))
	_, err = c.GetBucketTagging(ctx, "bucket")
	require.Equal(t, "NoSuchTagSet", code(err))

	get := func(key, version string) map[string]string {
		t.Helper()
		tg, err := c.GetObjectTagging(ctx, "bucket", key, minio.GetObjectTaggingOptions{VersionID: version})
		require.NoError(t, err)
		return tg.ToMap()
	}
	put(t, c, "o", "one", minio.PutObjectOptions{UserTags: map[string]string{"a": "1", "b": "x y"}, UserMetadata: map[string]string{"Color": "red"}})
	require.Equal(t, map[string]string{"a": "1", "b": "x y"}, get("o", ""))
	before, err := c.StatObject(ctx, "bucket", "o", minio.StatObjectOptions{})
	require.NoError(t, err)
	require.Equal(t, 2, before.UserTagCount)
	require.NoError(t, c.PutObjectTagging(ctx, "bucket", "o", tagsOf(t, map[string]string{"c": "3"}), minio.PutObjectTaggingOptions{}))
	after, err := c.StatObject(ctx, "bucket", "o", minio.StatObjectOptions{})
	require.NoError(t, err)
	require.Equal(t, []any{before.ETag, before.LastModified, "red", 1}, []any{after.ETag, after.LastModified, after.UserMetadata["Color"], after.UserTagCount})
	require.Equal(t, "one", string(read(t, c, "bucket", "o", minio.GetObjectOptions{})))

	// A copy has the tags, unless it is given others; so has what an upload makes.
	_, err = c.CopyObject(ctx, minio.CopyDestOptions{Bucket: "bucket", Object: "copy"}, minio.CopySrcOptions{Bucket: "bucket", Object: "o"})
	require.NoError(t, err)
	require.Equal(t, map[string]string{"c": "3"}, get("copy", ""))
	_, err = c.CopyObject(ctx, minio.CopyDestOptions{Bucket: "bucket", Object: "copy", ReplaceTags: true, UserTags: map[string]string{"d": "4"}}, minio.CopySrcOptions{Bucket: "bucket", Object: "o"})
	require.NoError(t, err)
	require.Equal(t, map[string]string{"d": "4"}, get("copy", ""))
	_, err = c.PutObject(ctx, "bucket", "big", bytes.NewReader(data(6<<20)), 6<<20, minio.PutObjectOptions{PartSize: 5 << 20, UserTags: map[string]string{"e": "5"}})
	require.NoError(t, err)
	require.Equal(t, map[string]string{"e": "5"}, get("big", ""))

	// Each version has its own.
	require.NoError(t, c.EnableVersioning(ctx, "bucket"))
	one := put(t, c, "v", "one", minio.PutObjectOptions{UserTags: map[string]string{"n": "1"}}).VersionID
	put(t, c, "v", "two", minio.PutObjectOptions{UserTags: map[string]string{"n": "2"}})
	require.NoError(t, c.PutObjectTagging(ctx, "bucket", "v", tagsOf(t, map[string]string{"n": "one"}), minio.PutObjectTaggingOptions{VersionID: one}))
	require.Equal(t, map[string]string{"n": "one"}, get("v", one))
	require.Equal(t, map[string]string{"n": "2"}, get("v", ""))
	require.Equal(t, "one", string(read(t, c, "bucket", "v", minio.GetObjectOptions{VersionID: one})))
	require.NoError(t, c.RemoveObjectTagging(ctx, "bucket", "v", minio.RemoveObjectTaggingOptions{}))
	require.Empty(t, get("v", ""))

	_, err = c.GetObjectTagging(ctx, "bucket", "none", minio.GetObjectTaggingOptions{})
	require.Equal(t, "NoSuchKey", code(err))
	require.Equal(t, "NoSuchKey", code(c.PutObjectTagging(ctx, "bucket", "none", tagsOf(t, map[string]string{"c": "3"}), minio.PutObjectTaggingOptions{})))
	many := "k=v"
	for i := range 10 {
		many += fmt.Sprintf("&%d=x", i)
	}
	for header, want := range map[string]string{many: "BadRequest", "a=1&a=2": "InvalidTag", "=1": "InvalidTag", "a=%zz": "InvalidArgument", strings.Repeat("k", 129) + "=v": "InvalidTag"} {
		u, err := c.PresignHeader(ctx, "PUT", "bucket", "o", time.Minute, nil, http.Header{"X-Amz-Tagging": {header}})
		require.NoError(t, err)
		req, err := http.NewRequestWithContext(ctx, "PUT", u.String(), nil)
		require.NoError(t, err)
		req.Header.Set("X-Amz-Tagging", header)
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, 400, resp.StatusCode)
		require.Contains(t, string(body), "<Code>"+want+"</Code>", header)
	}
}

// What a policy says is in force, or the policy is refused.
func TestPolicies(t *testing.T) {
	w := start(t)
	c, ctx := w.bucket(t), t.Context()
	put(t, c, "o", "hello", minio.PutObjectOptions{})
	status := func(path string) int {
		resp, err := http.Get("http://" + w.addr + "/v1/AUTH_p/bucket" + path)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Empty(t, resp.Header.Get("X-Container-Sysmeta-S3-Policy"))
		return resp.StatusCode
	}
	policy := func(actions, resources, more string) string {
		return `{"Version": "2012-10-17", "Statement": [{"Sid": "x", "Effect": "Allow", "Principal": {"AWS": ["*"]}, "Action": ` + actions + `, "Resource": ` + resources + more + `}]}`
	}
	p, err := c.GetBucketPolicy(ctx, "bucket")
	require.NoError(t, err)
	require.Empty(t, p)
	require.Equal(t, 401, status("/o"))
	require.NoError(t, c.SetBucketPolicy(ctx, "bucket", policy(`"s3:GetObject"`, `"arn:aws:s3:::bucket/*"`, "")))
	p, err = c.GetBucketPolicy(ctx, "bucket")
	require.NoError(t, err)
	require.JSONEq(t, policy(`"s3:GetObject"`, `"arn:aws:s3:::bucket/*"`, ""), p)
	require.Equal(t, []int{200, 401}, []int{status("/o"), status("")})
	require.NoError(t, c.SetBucketPolicy(ctx, "bucket", policy(`["s3:GetObject", "s3:ListBucket"]`, `["arn:aws:s3:::bucket", "arn:aws:s3:::bucket/*"]`, "")))
	require.Equal(t, []int{200, 200}, []int{status("/o"), status("")})
	for text, want := range map[string]string{
		policy(`"s3:PutObject"`, `"arn:aws:s3:::bucket/*"`, ""):                                                             "NotImplemented",
		policy(`"s3:GetObject"`, `"arn:aws:s3:::bucket/dir/*"`, ""):                                                         "NotImplemented",
		policy(`"s3:GetObject"`, `"arn:aws:s3:::bucket/*"`, `, "Condition": {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}`): "NotImplemented",
		strings.Replace(policy(`"s3:GetObject"`, `"arn:aws:s3:::bucket/*"`, ""), "Allow", "Deny", 1):                        "NotImplemented",
		policy(`"s3:GetObject"`, `"arn:aws:s3:::other/*"`, ""):                                                              "MalformedPolicy",
		`{"Statement": []}`: "MalformedPolicy",
		`{`:                 "MalformedPolicy",
	} {
		require.Equal(t, want, code(c.SetBucketPolicy(ctx, "bucket", text)), text)
	}
	require.Equal(t, []int{200, 200}, []int{status("/o"), status("")}, "as before")
	require.NoError(t, c.SetBucketPolicy(ctx, "bucket", ""))
	require.Equal(t, []int{401, 401}, []int{status("/o"), status("")})
}

func TestLifecycles(t *testing.T) {
	w := start(t)
	c, ctx := w.bucket(t), t.Context()
	core := minio.Core{Client: c}
	begun := time.Now()
	later := func(days int) {
		w.now = begun.Add(time.Duration(days) * 24 * time.Hour)
		require.NoError(t, w.svc.Age(ctx))
		require.NoError(t, w.svc.Tidy(ctx))
		w.now = time.Time{}
	}
	names := func() (out []string) {
		for o := range c.ListObjects(ctx, "bucket", minio.ListObjectsOptions{Recursive: true}) {
			require.NoError(t, o.Err)
			out = append(out, o.Key)
		}
		return out
	}
	_, err := c.GetBucketLifecycle(ctx, "bucket")
	require.Equal(t, "NoSuchLifecycleConfiguration", code(err))
	lc := lifecycle.NewConfiguration()
	lc.Rules = []lifecycle.Rule{
		{ID: "logs", Status: "Enabled", RuleFilter: lifecycle.Filter{Prefix: "logs/"}, Expiration: lifecycle.Expiration{Days: 3}},
		{ID: "tagged", Status: "Enabled", RuleFilter: lifecycle.Filter{And: lifecycle.And{Prefix: "t", Tags: []lifecycle.Tag{{Key: "keep", Value: "no"}}}}, Expiration: lifecycle.Expiration{Days: 1}},
		{ID: "off", Status: "Disabled", Expiration: lifecycle.Expiration{Days: 1}},
		{ID: "uploads", Status: "Enabled", AbortIncompleteMultipartUpload: lifecycle.AbortIncompleteMultipartUpload{DaysAfterInitiation: 2}},
		{ID: "old", Status: "Enabled", NoncurrentVersionExpiration: lifecycle.NoncurrentVersionExpiration{NoncurrentDays: 5, NewerNoncurrentVersions: 1}, Expiration: lifecycle.Expiration{DeleteMarker: true}},
	}
	require.NoError(t, c.SetBucketLifecycle(ctx, "bucket", lc))
	got, err := c.GetBucketLifecycle(ctx, "bucket")
	require.NoError(t, err)
	require.Len(t, got.Rules, 5)
	require.Equal(t, "no", got.Rules[1].RuleFilter.And.Tags[0].Value)
	require.EqualValues(t, 3, got.Rules[0].Expiration.Days)

	for _, key := range []string{"logs/a", "logs/b", "t1", "t2", "x"} {
		put(t, c, key, key, minio.PutObjectOptions{UserTags: map[string]string{"keep": map[bool]string{true: "no", false: "yes"}[key == "t1"]}})
	}
	_, err = c.PutObject(ctx, "bucket", "logs/big", bytes.NewReader(data(6<<20)), 6<<20, minio.PutObjectOptions{PartSize: 5 << 20})
	require.NoError(t, err)
	id, err := core.NewMultipartUpload(ctx, "bucket", "unfinished", minio.PutObjectOptions{})
	require.NoError(t, err)
	_, err = core.PutObjectPart(ctx, "bucket", "unfinished", id, 1, strings.NewReader("x"), 1, minio.PutObjectPartOptions{})
	require.NoError(t, err)
	st, err := c.StatObject(ctx, "bucket", "logs/a", minio.StatObjectOptions{})
	require.NoError(t, err)
	require.Equal(t, "logs", st.ExpirationRuleID)
	require.WithinDuration(t, begun.Add(84*time.Hour), st.Expiration, 13*time.Hour)

	later(0)
	require.Len(t, names(), 6)
	later(2)
	require.Equal(t, []string{"logs/a", "logs/b", "logs/big", "t2", "x"}, names())
	segments := func() int {
		_, es, err := w.svc.ListObjects(nacre.AsService(ctx, "test"), objectstore.Ref{Account: "AUTH_p", Container: "bucket+segments"}, objectstore.ListQuery{})
		require.NoError(t, err)
		return len(es)
	}
	require.Equal(t, 4, segments(), "two parts of either upload, and the one that is not finished")
	later(3)
	require.Equal(t, 2, segments())
	later(4)
	require.Equal(t, []string{"t2", "x"}, names())
	require.Zero(t, segments())

	require.NoError(t, c.EnableVersioning(ctx, "bucket"))
	for _, body := range []string{"1", "2", "3", "4"} {
		put(t, c, "v", body, minio.PutObjectOptions{})
	}
	put(t, c, "w", "1", minio.PutObjectOptions{})
	require.NoError(t, c.RemoveObject(ctx, "bucket", "w", minio.RemoveObjectOptions{}))
	versions := func(prefix string) (out []string) {
		for o := range c.ListObjects(ctx, "bucket", minio.ListObjectsOptions{Recursive: true, WithVersions: true, Prefix: prefix}) {
			require.NoError(t, o.Err)
			body := "mark"
			if !o.IsDeleteMarker {
				body = string(read(t, c, "bucket", o.Key, minio.GetObjectOptions{VersionID: o.VersionID}))
			}
			out = append(out, o.Key+body)
		}
		return out
	}
	// Time never goes back for the store: these were put after the fourth day.
	later(8)
	require.Equal(t, []string{"v4", "v3", "v2", "v1"}, versions("v"))
	later(12)
	require.Equal(t, []string{"v4", "v3"}, versions("v"))
	require.Equal(t, []string{"wmark", "w1"}, versions("w"), "one older version is kept")
	for o := range c.ListObjects(ctx, "bucket", minio.ListObjectsOptions{WithVersions: true, Prefix: "w"}) {
		if !o.IsDeleteMarker {
			require.NoError(t, c.RemoveObject(ctx, "bucket", "w", minio.RemoveObjectOptions{VersionID: o.VersionID}))
		}
	}
	later(0)
	require.Empty(t, versions("w"), "a mark behind which there is nothing")

	moves := lifecycle.NewConfiguration()
	moves.Rules = []lifecycle.Rule{{ID: "m", Status: "Enabled", Transition: lifecycle.Transition{Days: 1, StorageClass: "GLACIER"}}}
	require.Equal(t, "NotImplemented", code(c.SetBucketLifecycle(ctx, "bucket", moves)))
	require.NoError(t, c.SetBucketLifecycle(ctx, "bucket", lifecycle.NewConfiguration()))
	_, err = c.GetBucketLifecycle(ctx, "bucket")
	require.Equal(t, "NoSuchLifecycleConfiguration", code(err))
}

// A part of an object that was uploaded in parts, and what it is made of.
func TestParts(t *testing.T) {
	w := start(t)
	c, ctx := w.bucket(t), t.Context()
	body := data(12 << 20)
	_, err := c.PutObject(ctx, "bucket", "big", bytes.NewReader(body), int64(len(body)), minio.PutObjectOptions{PartSize: 5 << 20})
	require.NoError(t, err)
	put(t, c, "small", "hello", minio.PutObjectOptions{})
	for n, want := range [][]byte{body[:5<<20], body[5<<20 : 10<<20], body[10<<20:]} {
		got := read(t, c, "bucket", "big", minio.GetObjectOptions{PartNumber: n + 1})
		require.True(t, bytes.Equal(want, got), "part %d", n+1)
	}
	st, err := c.StatObject(ctx, "bucket", "big", minio.StatObjectOptions{PartNumber: 3})
	require.NoError(t, err)
	require.EqualValues(t, 2<<20, st.Size)
	u, err := c.Presign(ctx, "GET", "bucket", "big", time.Minute, url.Values{"partNumber": {"3"}})
	require.NoError(t, err)
	resp, err := http.Get(u.String())
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, []string{"3", "bytes 10485760-12582911/12582912"}, []string{resp.Header.Get("X-Amz-Mp-Parts-Count"), resp.Header.Get("Content-Range")})
	_, err = c.StatObject(ctx, "bucket", "big", minio.StatObjectOptions{PartNumber: 4})
	require.Error(t, err)
	require.Equal(t, "hello", string(read(t, c, "bucket", "small", minio.GetObjectOptions{PartNumber: 1})))
	a, err := c.GetObjectAttributes(ctx, "bucket", "big", minio.ObjectAttributesOptions{})
	require.NoError(t, err)
	require.Equal(t, []int{len(body), 3}, []int{a.ObjectSize, a.ObjectParts.PartsCount})
}
