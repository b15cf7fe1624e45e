package api_test

import (
	"archive/tar"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/internal/matrix"
)

// matrixCallers are who asks, in the order of the file's columns. The account is p's;
// the visitor comes from a page of www.example.org.
var matrixCallers = []struct{ name, token string }{
	{"nobody", ""}, {"visitor", ""}, {"expired", "no-such-token"}, {"friend", "q:v:member"}, {"other-admin", "q:a:admin"}, {"roleless", "p:s:stranger"}, {"reader", "p:r:reader"}, {"member", owner}, {"reseller", "x:y:ResellerAdmin"},
}

// matrixACLs are what the owner has set, on the container "c" or on the account.
var matrixACLs = []struct{ name, account, read, write string }{
	{name: "no ACL"},
	{name: "everybody reads objects", read: ".r:*"},
	{name: "everybody reads and lists", read: ".r:*,.rlistings"},
	{name: "a site's visitors read", read: ".r:.example.org"},
	{name: "friend q:v reads", read: "q:v"},
	{name: "project q writes", write: "q:*"},
	{name: "anybody with a token reads", read: "*:*"},
	{name: "role stranger reads and writes", read: "stranger", write: "stranger"},
	{name: "account: friend is read-only", account: `{"read-only":["q:v"]}`},
	{name: "account: friend is read-write", account: `{"read-write":["q:v"]}`},
	{name: "account: friend is admin", account: `{"admin":["q:v"]}`},
}

var matrixRoutes = [][2]string{
	{"GET", ""}, {"HEAD", ""}, {"POST", ""}, {"PUT", ""}, {"DELETE", ""}, {"POST", "?bulk-delete"},
	{"GET", "c"}, {"HEAD", "c"}, {"POST", "c"}, {"PUT", "c"}, {"PUT", "new"}, {"DELETE", "empty"}, {"GET", "none"}, {"PUT", "c?extract-archive=tar"},
	{"GET", "c/o"}, {"HEAD", "c/o"}, {"POST", "c/o"}, {"PUT", "c/o"}, {"COPY", "c/o"}, {"DELETE", "c/o"}, {"PUT", "c/new"}, {"GET", "c/none"}, {"GET", "none/o"}, {"PUT", "none/o"},
	{"PUT", "c/slo?multipart-manifest=put"}, {"GET", "c/slo"}, {"DELETE", "c/slo?multipart-manifest=delete"},
}

var matrixBodies = map[string]string{"POST ?bulk-delete": "c/o", "PUT c/slo?multipart-manifest=put": `[{"path": "/c/o"}]`, "PUT c?extract-archive=tar": archive()}

// archive is a tar with one file.
func archive() string {
	var b strings.Builder
	w := tar.NewWriter(&b)
	for _, err := range []error{w.WriteHeader(&tar.Header{Name: "new", Mode: 0o600}), w.Close()} {
		if err != nil {
			panic(err)
		}
	}
	return b.String()
}

// TestMatrix has each caller try each route, under each ACL.
func TestMatrix(t *testing.T) {
	w := start(t)
	names := make([]string, len(matrixCallers))
	for i, c := range matrixCallers {
		names[i] = c.name
	}
	m := matrix.New("The status of each route for each kind of caller, under each ACL.", names...)
	for _, acl := range matrixACLs {
		m.Head(acl.name)
		changed := true
		for _, r := range matrixRoutes {
			cells := make([]string, len(matrixCallers))
			for i, c := range matrixCallers {
				if changed {
					w.is(204, "POST", "", "", "X-Account-Access-Control: "+acl.account)
					for _, name := range []string{"c", "empty"} {
						w.do(owner, "PUT", name, "", "X-Container-Read: "+acl.read, "X-Container-Write: "+acl.write)
					}
					w.is(201, "PUT", "c/o", "x")
					w.is(201, "PUT", "c/slo?multipart-manifest=put", `[{"path": "/c/o"}]`)
					for _, gone := range []string{"new", "c/new", "c/copied"} {
						w.do(owner, "DELETE", gone, "")
					}
				}
				a := w.do(c.token, r[0], r[1], matrixBodies[r[0]+" "+r[1]], "Destination: c/copied", "Content-Type: text/plain", "Accept: text/plain", map[bool]string{true: "Referer: http://www.example.org/page", false: "X-Nothing: x"}[c.name == "visitor"])
				require.Less(t, a.StatusCode, 500, "%s %s as %s: %s", r[0], r[1], c.name, a.body)
				if a.StatusCode == 401 {
					require.Contains(t, a.Header.Values("Www-Authenticate")[0], `Swift realm="AUTH_p"`)
				}
				cells[i] = fmt.Sprint(a.StatusCode)
				if _, after, ok := strings.Cut(a.body, "Response Status: "); ok && a.StatusCode == 200 {
					after, _, _ = strings.Cut(after, " ")
					cells[i] += "/" + after // a bulk operation's own
				}
				changed = a.StatusCode < 300 && r[0] != "GET" && r[0] != "HEAD"
			}
			m.Row(r[0]+" /v1/AUTH_p/"+r[1], cells...)
		}
	}
	m.Check(t)
}
