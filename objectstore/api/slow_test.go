package api_test

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/objectstore"
	"github.com/nacre-cloud/nacre/objectstore/api"
)

// With heartbeat=on a manifest is answered before it is looked at, and the body says
// what became of it.
func TestHeartbeat(t *testing.T) {
	w := start(t, func(c *api.Config, _ *objectstore.Config) { c.Heartbeat = time.Microsecond })
	w.is(201, "PUT", "c", "")
	w.is(201, "PUT", "c/a", "aaa")
	var doc struct {
		Status   string `json:"Response Status" xml:"response_status"`
		Body     string `json:"Response Body" xml:"response_body"`
		Etag     string `json:"Etag" xml:"etag"`
		Modified string `json:"Last Modified" xml:"last_modified"`
		Errors   [][2]string
	}
	put := func(manifest string, headers ...string) answer {
		t.Helper()
		a := w.is(202, "PUT", "c/slo?multipart-manifest=put&heartbeat=on", manifest, headers...)
		require.True(t, strings.HasPrefix(a.body, " "), "it begins at once")
		_, rest, ok := strings.Cut(a.body, "\r\n\r\n")
		require.True(t, ok)
		a.body = rest
		return a
	}
	a := put(`[{"path": "/c/a"}, {"path": "/c/a", "range": "0-0"}]`, "Accept: application/json")
	require.Equal(t, "application/json", a.Header.Get("Content-Type"))
	require.NoError(t, json.Unmarshal([]byte(a.body), &doc))
	require.Equal(t, "201 Created", doc.Status)
	require.Empty(t, doc.Errors)
	got := w.is(200, "GET", "c/slo", "")
	require.Equal(t, "aaaa", got.body)
	require.Equal(t, got.Header.Get("Etag"), doc.Etag)
	require.Equal(t, got.Header.Get("Last-Modified"), doc.Modified)

	a = put(`[{"path": "/c/a", "size_bytes": 4}, {"path": "/c/none"}]`, "Accept: application/json")
	require.NoError(t, json.Unmarshal([]byte(a.body), &doc))
	require.Equal(t, "400 Bad Request", doc.Status)
	require.Equal(t, [][2]string{{"/c/a", "Size Mismatch"}, {"/c/none", "404 Not Found"}}, doc.Errors)
	a = put(`[{"path": "/c/a"}]`, "Accept: application/json", "Etag: beef")
	require.NoError(t, json.Unmarshal([]byte(a.body), &doc))
	require.Equal(t, "422 Unprocessable Entity", doc.Status)
	a = put(`[{"path": "/c/a"}]`, "Accept: application/xml")
	doc.Errors = nil
	require.NoError(t, xml.Unmarshal([]byte(a.body), &doc))
	require.Equal(t, "201 Created", doc.Status)
	a = put(`[{"path": "/c/none"}]`, "Accept: text/plain")
	require.Contains(t, a.body, "Response Status: 400 Bad Request\nErrors:\n/c/none, 404 Not Found\n")
	// What is no manifest is said at once, and without the wish there is no heartbeat.
	w.is(400, "PUT", "c/slo?multipart-manifest=put&heartbeat=on", `{`)
	w.is(201, "PUT", "c/slo?multipart-manifest=put&heartbeat=off", `[{"path": "/c/a"}]`)
}

// A bulk operation that takes long says so meanwhile, and answers as ever.
func TestBulkDeletesManyAtATime(t *testing.T) {
	for _, beat := range []time.Duration{time.Microsecond, time.Hour} {
		w := start(t, func(c *api.Config, _ *objectstore.Config) { c.Heartbeat = beat })
		w.is(201, "PUT", "c", "")
		var names strings.Builder
		for i := range 100 {
			w.is(201, "PUT", fmt.Sprintf("c/%d", i), "x")
			fmt.Fprintf(&names, "c/%d\n", i)
		}
		names.WriteString("c/none\nc\nelse\n")
		a := w.is(200, "POST", "?bulk-delete", names.String(), "Content-Type: text/plain", "Accept: application/json")
		var doc map[string]any
		require.NoError(t, json.Unmarshal([]byte(strings.TrimSpace(a.body)), &doc))
		require.Equal(t, map[string]any{"Number Deleted": 101.0, "Number Not Found": 2.0, "Response Status": "200 OK", "Response Body": "", "Errors": []any{}}, doc)
		w.is(404, "GET", "c", "")
	}
}

// Tags of objects are quoted where the container says so, or else the account.
func TestQuotedTags(t *testing.T) {
	w := start(t)
	w.is(201, "PUT", "c", "")
	put := func() string { return w.is(201, "PUT", "c/o", "x").Header.Get("Etag") }
	get := func() string { return w.is(200, "GET", "c/o", "").Header.Get("Etag") }
	const tag = "9dd4e461268c8034f5c8564e155c67a6"
	for _, c := range []struct {
		account, container, want string
	}{{"", "", tag}, {"true", "", `"` + tag + `"`}, {"true", "false", tag}, {"false", "true", `"` + tag + `"`}, {"false", "", tag}, {"", "yes", `"` + tag + `"`}} {
		w.is(204, "POST", "", "", "X-Account-Rfc-Compliant-Etags: "+c.account)
		w.is(204, "POST", "c", "", "X-Container-Rfc-Compliant-Etags: "+c.container)
		require.Equal(t, []string{c.want, c.want}, []string{put(), get()}, "%+v", c)
		require.Equal(t, c.want, w.is(304, "GET", "c/o", "", "If-None-Match: "+c.want).Header.Get("Etag"))
	}
	a := w.is(204, "HEAD", "c", "")
	require.Equal(t, "True", a.Header.Get("X-Container-Rfc-Compliant-Etags"))
	for name := range a.Header {
		require.NotContains(t, name, "Sysmeta")
	}
	w.is(204, "POST", "c", "", "X-Remove-Container-Rfc-Compliant-Etags: x")
	require.Equal(t, tag, get())
	require.Contains(t, w.do("", "GET", "/info", "").body, `"etag_quoter":{"enable_by_default":false}`)
}

func TestPartNumbers(t *testing.T) {
	w := start(t)
	w.is(201, "PUT", "c", "")
	w.is(201, "PUT", "c/a", "aaa")
	w.is(201, "PUT", "c/b", "bbbbb")
	w.is(201, "PUT", "c/slo?multipart-manifest=put", `[{"path": "/c/a"}, {"path": "/c/b", "range": "1-2"}, {"data": "Y2M="}]`)
	for n, want := range []string{"aaa", "bb", "cc"} {
		a := w.is(206, "GET", fmt.Sprintf("c/slo?part-number=%d", n+1), "")
		require.Equal(t, []string{want, "3"}, []string{a.body, a.Header.Get("X-Parts-Count")})
		a = w.is(206, "HEAD", fmt.Sprintf("c/slo?part-number=%d", n+1), "")
		require.Equal(t, fmt.Sprint(len(want)), a.Header.Get("Content-Length"))
	}
	require.Equal(t, "bytes 3-4/7", w.is(206, "GET", "c/slo?part-number=2", "").Header.Get("Content-Range"))
	require.Equal(t, "bytes */7", w.is(416, "GET", "c/slo?part-number=4", "").Header.Get("Content-Range"))
	w.is(400, "GET", "c/slo?part-number=0", "")
	w.is(400, "GET", "c/slo?part-number=x", "")
	w.is(400, "GET", "c/slo?part-number=1", "", "Range: bytes=0-1")
	require.Equal(t, "aaa", w.is(200, "GET", "c/a?part-number=7", "").body, "it has no parts")
	w.is(200, "GET", "c/slo?multipart-manifest=get&part-number=1", "")
}
