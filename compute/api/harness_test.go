package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/compute/api"
	"github.com/nacre-cloud/nacre/compute/internal/computetest"
	"github.com/nacre-cloud/nacre/internal/rest"
	"github.com/nacre-cloud/nacre/store"
)

// tokens says who is asking: the token "admin", "reader/<project>" or the name of
// a project, whose member it is.
type tokens struct{}

func (tokens) ValidateToken(_ context.Context, token string) (*nacre.Caller, error) {
	project, reads := strings.CutPrefix(token, "reader/")
	switch {
	case token == "admin":
		return computetest.AdminCaller(), nil
	case reads:
		return &nacre.Caller{UserID: "reader", ProjectID: project, Roles: []string{"reader"}}, nil
	case len(token) == 2 && token[0] == 'p':
		return computetest.UserCaller(token), nil
	}
	return nil, nacre.Errorf(nacre.Unauthenticated, "", "no such token")
}

// cloud is a compute service behind its API, without a socket.
type cloud struct {
	*computetest.Cloud
	t  testing.TB
	rt http.RoundTripper
}

// each runs a test on each engine, with a cloud of the named hosts.
func each(t *testing.T, hosts []string, fn func(t *testing.T, c *cloud)) {
	computetest.Each(t, func(t *testing.T, e store.Engine) {
		c := computetest.Start(t, computetest.NewWorld(e, hosts...))
		h := rest.Mount("/compute", api.New(api.Config{Compute: c.Compute, Tokens: tokens{}, AuthURI: "/identity"}))
		fn(t, &cloud{c, t, rest.Transport(h)})
	})
}

const base = "http://cloud.test/compute"

// client is gophercloud's, of somebody at a microversion ("" sends none).
func (c *cloud) client(token, version string) *gophercloud.ServiceClient {
	p := &gophercloud.ProviderClient{TokenID: token, HTTPClient: http.Client{Transport: c.rt}}
	return &gophercloud.ServiceClient{ProviderClient: p, Type: "compute", Endpoint: base + "/v2.1/", Microversion: version}
}

// answer is what came back.
type answer struct {
	code   int
	header http.Header
	raw    string
	body   map[string]any
}

// do sends a request; version "" sends no microversion.
func (c *cloud) do(method, path, token, version, body string, headers ...string) answer {
	c.t.Helper()
	return c.doIn(context.Background(), method, path, token, version, body, headers...)
}

func (c *cloud) doIn(ctx context.Context, method, path, token, version, body string, headers ...string) answer {
	c.t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, base+path, strings.NewReader(body))
	require.NoError(c.t, err)
	if token != "" {
		req.Header.Set("X-Auth-Token", token)
	}
	if version != "" {
		req.Header.Set("OpenStack-API-Version", "compute "+version)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := c.rt.RoundTrip(req)
	require.NoError(c.t, err)
	defer resp.Body.Close() //nolint:errcheck // a pipe's
	raw, err := io.ReadAll(resp.Body)
	require.NoError(c.t, err)
	a := answer{code: resp.StatusCode, header: resp.Header, raw: string(raw)}
	if len(raw) > 0 && bytes.HasPrefix(raw, []byte("{")) {
		require.NoError(c.t, json.Unmarshal(raw, &a.body), a.raw)
	}
	return a
}

// fails requires a fault of nova's shape.
func (c *cloud) fails(code int, fault, message string, a answer) {
	c.t.Helper()
	require.Equal(c.t, code, a.code, a.raw)
	f, ok := a.body[fault].(map[string]any)
	require.True(c.t, ok, "%s: %s", fault, a.raw)
	require.Equal(c.t, float64(code), f["code"])
	require.Contains(c.t, f["message"], message)
}

// at walks through an answer's body.
func (a answer) at(path ...string) any {
	var x any = a.body
	for _, p := range path {
		m, _ := x.(map[string]any)
		x = m[p]
	}
	return x
}

func keysOf(x any) []string {
	m, _ := x.(map[string]any)
	return slices.Sorted(maps.Keys(m))
}

// active boots servers of a project and waits until they run.
func (c *cloud) active(project, flavor string, n int) []string {
	c.t.Helper()
	var ids []string
	for _, sv := range c.Boot(computetest.User(project), flavor, n) {
		ids = append(ids, sv.ID)
		c.Reach(sv.ID, "ACTIVE")
	}
	return ids
}
