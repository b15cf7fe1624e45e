package api_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // a digest of signed URLs
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash"
	"mime/multipart"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/objectstore/blob"
)

type blobInfo = blob.Info

func sign(h func() hash.Hash, key, text string) string {
	m := hmac.New(h, []byte(key))
	m.Write([]byte(text))
	return hex.EncodeToString(m.Sum(nil))
}

func TestTempURL(t *testing.T) {
	w := start(t)
	w.is(201, "PUT", "c", "", "X-Container-Meta-Temp-Url-Key: ckey")
	w.is(201, "PUT", "d", "")
	w.is(201, "PUT", "c/o", "hello", "X-Object-Meta-Secret: s", "X-Object-Meta-Public-A: a")
	w.is(204, "POST", "", "", "X-Account-Meta-Temp-Url-Key: akey", "X-Account-Meta-Temp-Url-Key-2: akey2")
	in := time.Now().Add(time.Hour).Unix()
	u := func(key, method, path string, expires int64, h func() hash.Hash) string {
		return fmt.Sprintf("%s?temp_url_sig=%s&temp_url_expires=%d", path, sign(h, key, fmt.Sprintf("%s\n%d\n%s", method, expires, path)), expires)
	}
	const o = "/v1/AUTH_p/c/o"
	for _, key := range []string{"akey", "akey2", "ckey"} {
		for _, h := range []func() hash.Hash{sha1.New, sha256.New} {
			a := w.do("", "GET", u(key, "GET", o, in, h), "")
			require.Equal(t, 200, a.StatusCode)
			require.Equal(t, "hello", a.body)
			require.Contains(t, a.Header.Get("Content-Disposition"), `attachment; filename="o"`)
			require.Empty(t, a.Header.Get("X-Object-Meta-Secret"))
			require.Equal(t, "a", a.Header.Get("X-Object-Meta-Public-A"))
		}
	}
	get := u("akey", "GET", o, in, sha256.New)
	require.Equal(t, 200, w.do("", "HEAD", get, "").StatusCode)
	require.Equal(t, `inline; filename="x"; filename*=UTF-8''x`, w.do("", "GET", get+"&inline&filename=x", "").Header.Get("Content-Disposition"))
	for name, bad := range map[string][2]string{
		"another key": {"GET", u("nokey", "GET", o, in, sha256.New)}, "another method": {"PUT", get}, "in the past": {"GET", u("akey", "GET", o, 5, sha256.New)},
		"without a time": {"GET", o + "?temp_url_sig=00"}, "no digest": {"GET", o + "?temp_url_sig=zz&temp_url_expires=99999999999"}, "a container": {"GET", u("akey", "GET", "/v1/AUTH_p/c", in, sha256.New)},
		"a container's key elsewhere": {"GET", u("ckey", "GET", "/v1/AUTH_p/d/o", in, sha256.New)}, "another account's": {"GET", u("akey", "GET", "/v1/AUTH_q/c/o", in, sha256.New)},
	} {
		a := w.do("", bad[0], bad[1], "")
		require.Equal(t, 401, a.StatusCode, name)
	}
	// With a valid token too: a signature that is there must hold.
	require.Equal(t, 401, w.do(owner, "GET", o+"?temp_url_sig=00&temp_url_expires=99999999999", "").StatusCode)
	// A prefix.
	w.is(201, "PUT", "c/dir/a", "a")
	p := fmt.Sprintf("temp_url_sig=%s&temp_url_expires=%d&temp_url_prefix=dir/", sign(sha256.New, "akey", fmt.Sprintf("GET\n%d\nprefix:/v1/AUTH_p/c/dir/", in)), in)
	require.Equal(t, 200, w.do("", "GET", "/v1/AUTH_p/c/dir/a?"+p, "").StatusCode)
	require.Equal(t, 401, w.do("", "GET", o+"?"+p, "").StatusCode)
	// An address.
	ip := func(ips string) string {
		return fmt.Sprintf("%s?temp_url_sig=%s&temp_url_expires=%d&temp_url_ip_range=%s", o, sign(sha256.New, "akey", fmt.Sprintf("ip=%s\nGET\n%d\n%s", ips, in, o)), in, url.QueryEscape(ips))
	}
	require.Equal(t, 200, w.do("", "GET", ip("127.0.0.0/8"), "").StatusCode)
	require.Equal(t, 401, w.do("", "GET", ip("10.0.0.0/8"), "").StatusCode)
	// A time in words, a signature in base64.
	iso := time.Unix(in, 0).UTC().Format("2006-01-02T15:04:05Z")
	raw, err := hex.DecodeString(sign(sha256.New, "akey", fmt.Sprintf("GET\n%d\n%s", in, o)))
	require.NoError(t, err)
	require.Equal(t, 200, w.do("", "GET", o+"?temp_url_expires="+iso+"&temp_url_sig="+url.QueryEscape("sha256:"+base64.StdEncoding.EncodeToString(raw)), "").StatusCode)
	// Below the mount: signed with the prefix or without, and never for another object.
	require.Equal(t, 200, w.do("", "GET", "/object-store"+get, "").StatusCode)
	require.Equal(t, 200, w.do("", "GET", u("akey", "GET", "/object-store"+o, in, sha256.New), "").StatusCode)
	require.Equal(t, 401, w.do("", "GET", u("akey", "GET", "/object-store"+o, in, sha256.New)[len("/object-store"):], "").StatusCode)
}

// A URL for writing one object can't make one that shows others.
func TestTempURLWritesNoPointers(t *testing.T) {
	w := start(t)
	w.is(201, "PUT", "c", "")
	w.is(201, "PUT", "secret", "")
	w.is(201, "PUT", "secret/s", "secret")
	w.is(204, "POST", "", "", "X-Account-Meta-Temp-Url-Key: key")
	in := time.Now().Add(time.Hour).Unix()
	put := fmt.Sprintf("/v1/AUTH_p/c/o?temp_url_sig=%s&temp_url_expires=%d", sign(sha256.New, "key", fmt.Sprintf("PUT\n%d\n/v1/AUTH_p/c/o", in)), in)
	require.Equal(t, 400, w.do("", "PUT", put, "", "X-Object-Manifest: secret/s").StatusCode)
	require.Equal(t, 400, w.do("", "PUT", put, "", "X-Symlink-Target: secret/s").StatusCode)
	require.Equal(t, 400, w.do("", "PUT", put, "", "X-Copy-From: secret/s").StatusCode)
	require.Equal(t, 201, w.do("", "PUT", put+"&multipart-manifest=put", `[{"path":"/secret/s"}]`).StatusCode)
	require.Equal(t, `[{"path":"/secret/s"}]`, w.is(200, "GET", "c/o", "").body, "it is a text, and no manifest")
	require.Equal(t, 201, w.do("", "PUT", put+"&extract-archive=tar", "x").StatusCode, "nor an archive")
	require.Equal(t, "x", w.is(200, "GET", "c/o", "").body)
	w.is(404, "GET", "c/none", "")
}

func form(t *testing.T, fields [][2]string, files ...[2]string) (body, typ string) {
	var b bytes.Buffer
	m := multipart.NewWriter(&b)
	for _, f := range fields {
		require.NoError(t, m.WriteField(f[0], f[1]))
	}
	for i, f := range files {
		p, err := m.CreateFormFile(fmt.Sprintf("file%d", i), f[0])
		require.NoError(t, err)
		_, err = p.Write([]byte(f[1]))
		require.NoError(t, err)
	}
	require.NoError(t, m.Close())
	return b.String(), "Content-Type: " + m.FormDataContentType()
}

func TestFormPost(t *testing.T) {
	w := start(t)
	w.is(201, "PUT", "c", "")
	w.is(204, "POST", "", "", "X-Account-Meta-Temp-Url-Key: key")
	in := time.Now().Add(time.Hour).Unix()
	fields := func(path, redirect string, size, count int, expires int64) [][2]string {
		return [][2]string{{"redirect", redirect}, {"max_file_size", fmt.Sprint(size)}, {"max_file_count", fmt.Sprint(count)}, {"expires", fmt.Sprint(expires)},
			{"signature", sign(sha1.New, "key", fmt.Sprintf("%s\n%s\n%d\n%d\n%d", path, redirect, size, count, expires))}}
	}
	const path = "/v1/AUTH_p/c/pre_"
	post := func(fields [][2]string, files ...[2]string) answer {
		body, typ := form(t, fields, files...)
		return w.do("", "POST", path, body, typ)
	}
	require.Equal(t, 201, post(fields(path, "", 100, 2, in), [2]string{"a", "one"}, [2]string{"b", "two"}).StatusCode)
	require.Equal(t, "two", w.is(200, "GET", "c/pre_b", "").body)
	a := post(fields(path, "http://x.test/?q", 100, 2, in), [2]string{"a", "one"})
	require.Equal(t, 303, a.StatusCode)
	require.Equal(t, "http://x.test/?q&status=201&message=", a.Header.Get("Location"))
	require.Equal(t, 400, post(fields(path, "", 100, 1, in), [2]string{"c", "one"}, [2]string{"d", "two"}).StatusCode)
	w.is(404, "GET", "c/pre_d", "")
	require.Equal(t, 400, post(fields(path, "", 2, 1, in), [2]string{"e", "one"}).StatusCode)
	w.is(404, "GET", "c/pre_e", "")
	require.Equal(t, 401, post(fields(path, "", 100, 1, 5), [2]string{"e", "one"}).StatusCode)
	require.Equal(t, 401, post(fields("/v1/AUTH_p/c/other_", "", 100, 1, in), [2]string{"e", "one"}).StatusCode)
	require.Equal(t, 400, post(fields(path, "", 100, 1, in)).StatusCode)
	require.Equal(t, 201, func() int {
		body, typ := form(t, fields("/object-store"+path, "", 100, 1, in), [2]string{"f", "one"})
		return w.do("", "POST", "/object-store"+path, body, typ).StatusCode
	}())
}
