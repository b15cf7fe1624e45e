package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/api"
	"github.com/nacre-cloud/nacre/internal/rest"
	"github.com/nacre-cloud/nacre/store"
)

// TestEachRouteDoesItsWork has an administrator, or else the owner, use each route
// on things that are there: the answer has the status that the route declares,
// and costs no more statements than it declares.
func TestEachRouteDoesItsWork(t *testing.T) {
	bounds := api.Bounds()
	// Sub-areas whose things this world has none of; they are tested by themselves.
	elsewhere := []string{"OS-FEDERATION", "OS-OAUTH1", "/config", "/v3/ec2tokens", "/v3/s3tokens"}
	// What the world's things forbid, as they should.
	refused := map[string]int{
		"DELETE /v3/domains/{id}": 403, "DELETE /v3/regions/{id}": 403, "DELETE /v3/roles/{id}": 403, "PATCH /v3/roles/{id}": 403, "DELETE /v3/registered_limits/{id}": 403,
		"DELETE /v3/users/{id}/access_rules/{rule}": 403, "PUT /v3/regions/{id}": 409, "PUT /v3/roles/{id}/implies/{implied}": 409,
		"PUT /v3/OS-EP-FILTER/projects/{project}/endpoints/{endpoint}": 409, "PUT /v3/OS-EP-FILTER/endpoint_groups/{id}/projects/{project}": 409,
	}
	shared, edited := newWorld(t), newWorld(t)
	var wrong []string
	for _, op := range api.Operations() {
		name := op.Method + " " + op.Path
		if len(op.Policies) == 0 || strings.Contains(op.Path, elsewhere[0]) || strings.Contains(op.Path, elsewhere[1]) || strings.Contains(op.Path, elsewhere[2]) || op.Path == elsewhere[3] || op.Path == elsewhere[4] {
			continue
		}
		w := shared
		switch op.Method {
		case "POST", "PUT", "PATCH":
			w = edited
		case "DELETE":
			w = newWorld(t)
		}
		code, n := w.count(op, "S.admin")
		if code == http.StatusForbidden && refused[name] == 0 {
			code, n = w.count(op, "owner")
		}
		want := op.Status
		if refused[name] != 0 {
			want = refused[name]
		}
		if op.Status == http.StatusOK && op.Method != "GET" && op.Method != "HEAD" && code == http.StatusNoContent {
			want = code // without a body
		}
		if want != code {
			wrong = append(wrong, fmt.Sprintf("%s answers %d, not %d", name, code, want))
		}
		if n > int64(bounds[name]) {
			wrong = append(wrong, fmt.Sprintf("%s costs %d statements, and says %d", name, n, bounds[name]))
		}
	}
	require.Empty(t, wrong)
}

// count sends a request and says what it cost.
func (w *world) count(op nacre.Operation, caller string) (code int, statements int64) {
	w.t.Helper()
	// What is known of the token is not what is counted.
	_, err := w.svc.ValidateToken(w.t.Context(), w.tokens[caller])
	require.NoError(w.t, err)
	ctx, n := store.CountStatements(w.t.Context())
	req, err := http.NewRequestWithContext(ctx, op.Method, "http://cloud/identity"+w.path(op.Path), strings.NewReader(w.body(op.Method, op.Path)))
	require.NoError(w.t, err)
	req.Header.Set("X-Auth-Token", w.tokens[caller])
	if strings.HasPrefix(op.Path, "/v3/auth/tokens") {
		req.Header.Set("X-Subject-Token", w.tokens["owner"])
	}
	resp, err := rest.Transport(w.h).RoundTrip(req)
	require.NoError(w.t, err)
	require.NoError(w.t, resp.Body.Close())
	return resp.StatusCode, n.Load()
}
