package rest

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
)

type tokens map[string]*nacre.Caller

func (t tokens) ValidateToken(_ context.Context, token string) (*nacre.Caller, error) {
	if c := t[token]; c != nil {
		return c, nil
	}
	return nil, nacre.Errorf(nacre.Unauthenticated, "", "no")
}

type server struct {
	Name     string         `json:"name" valid:"required,min=1,max=10"`
	Networks any            `json:"networks" since:"2.37" valid:"required"`
	Files    []string       `json:"personality,omitempty" until:"2.56"`
	Count    int            `json:"min_count" valid:"lax,min=1"`
	Desc     Opt[string]    `json:"description,omitzero" valid:"null"`
	Meta     map[string]any `json:"metadata"`
}

type serverBody struct {
	Server server `json:"server" valid:"required"`
}

func testService() *Service {
	return &Service{
		Name: "compute", Dialect: Nova(), Tokens: tokens{"good": {UserID: "u", ProjectID: "p"}}, AuthURI: "/identity",
		Versions: &Microversions{Type: "compute", Legacy: "X-OpenStack-Nova-API-Version", Min: V("2.1"), Max: V("2.96")},
		Routes: []Route{
			{Method: "POST", Path: "/servers", Status: 202, Op: In(func(_ *Request, b *serverBody) (any, error) { return b, nil })},
			{Method: "GET", Path: "/servers/{id}", Op: Do(func(r *Request) (any, error) {
				if r.Var("id") == "gone" {
					return nil, nacre.Errorf(nacre.NotFound, "", "Instance gone could not be found.")
				}
				return map[string]string{"id": r.Var("id"), "self": r.Base()}, nil
			})},
			{Method: "DELETE", Path: "/servers/{id}", Op: Do(func(*Request) (any, error) { return nil, nil })},
			{Method: "POST", Path: "/servers/{id}/action", Action: "os-start", Status: 202, Op: Do(func(*Request) (any, error) { return nil, nil })},
			{Method: "POST", Path: "/servers/{id}/action", Action: "unshelve", Min: "2.77", Op: Do(func(*Request) (any, error) { return nil, nil })},
			{Method: "GET", Path: "/", Public: true, Op: Do(func(*Request) (any, error) { return map[string]string{"v": "1"}, nil })},
			{Method: "GET", Path: "/broken", Op: Do(func(*Request) (any, error) { panic("boom") })},
		},
	}
}

func call(t *testing.T, h http.Handler, method, path, token, body string, headers ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://cloud"+path, strings.NewReader(body))
	require.NoError(t, err)
	if token != "" {
		req.Header.Set("X-Auth-Token", token)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := Transport(h).RoundTrip(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp, string(b)
}

func TestRoutes(t *testing.T) {
	h := Mount("/compute", testService().Handler())
	for _, c := range []struct {
		name, method, path, token, body string
		headers                         []string
		status                          int
		want                            string
	}{
		{"no token", "GET", "/compute/servers/x", "", "", nil, 401, `"code": 401`},
		{"bad token", "GET", "/compute/servers/x", "bad", "", nil, 401, `requires authentication`},
		{"public", "GET", "/compute/", "", "", nil, 200, `{"v":"1"}`},
		{"public without slash", "GET", "/compute", "", "", nil, 200, `{"v":"1"}`},
		{"show", "GET", "/compute/servers/x", "good", "", nil, 200, `{"id":"x","self":"http://cloud/compute"}`},
		{"trailing slash", "GET", "/compute/servers/x/", "good", "", nil, 200, `{"id":"x"`},
		{"own 404", "GET", "/compute/servers/gone", "good", "", nil, 404, `{"itemNotFound":{"code":404,"message":"Instance gone could not be found."}}`},
		{"no route", "GET", "/compute/nothing", "good", "", nil, 404, `itemNotFound`},
		{"no route, no token", "GET", "/compute/nothing", "", "", nil, 401, ``},
		{"method", "PUT", "/compute/servers/x", "good", "", nil, 404, `itemNotFound`},
		{"delete", "DELETE", "/compute/servers/x", "good", "", nil, 204, ``},
		{"action", "POST", "/compute/servers/x/action", "good", `{"os-start": null}`, nil, 202, ``},
		{"unknown action", "POST", "/compute/servers/x/action", "good", `{"os-fly": null}`, nil, 400, `There is no such action: os-fly`},
		{"action of a later version", "POST", "/compute/servers/x/action", "good", `{"unshelve": null}`, nil, 404, `itemNotFound`},
		{"two actions", "POST", "/compute/servers/x/action", "good", `{"os-start": null, "a": 1}`, nil, 400, `badRequest`},
		{"panic", "GET", "/compute/broken", "good", "", nil, 500, `req-`},
		{"406", "GET", "/compute/servers/x", "good", "", []string{"OpenStack-API-Version", "compute 2.999"}, 406, `Version 2.999 is not supported by the API. Minimum is 2.1 and maximum is 2.96.`},
		{"malformed version", "GET", "/compute/servers/x", "good", "", []string{"X-OpenStack-Nova-API-Version", "2.x"}, 400, `API Version String 2.x is of invalid format`},
	} {
		t.Run(c.name, func(t *testing.T) {
			resp, body := call(t, h, c.method, c.path, c.token, c.body, c.headers...)
			require.Equal(t, c.status, resp.StatusCode, body)
			require.Contains(t, body, c.want)
			require.Regexp(t, `^req-[0-9a-f-]{36}$`, resp.Header.Get("X-Openstack-Request-Id"))
			if c.status == 401 {
				require.Equal(t, `Keystone uri="http://cloud/identity"`, resp.Header.Get("WWW-Authenticate"))
			}
		})
	}
	resp, _ := call(t, h, "GET", "/compute/servers/x", "good", "", "OpenStack-API-Version", "compute latest")
	require.Equal(t, "compute 2.96", resp.Header.Get("OpenStack-API-Version"))
	require.Equal(t, "2.96", resp.Header.Get("X-OpenStack-Nova-API-Version"))
	require.Equal(t, []string{"OpenStack-API-Version", "X-OpenStack-Nova-API-Version"}, resp.Header.Values("Vary"))
}

func TestBodies(t *testing.T) {
	h := testService().Handler()
	v := func(s string) []string { return []string{"OpenStack-API-Version", "compute " + s} }
	for _, c := range []struct {
		name, body string
		version    string
		status     int
		want       string
	}{
		{"good", `{"server": {"name": "a", "min_count": "2", "metadata": {"k": 1}}}`, "2.1", 202, `{"server":{"name":"a","min_count":2,"metadata":{"k":1}}}`},
		{"field of an older version", `{"server": {"name": "a", "min_count": 1, "personality": ["x"]}}`, "2.1", 202, `"personality":["x"]`},
		{"field not there yet", `{"server": {"name": "a", "networks": "auto"}}`, "2.1", 400, `Invalid input for field/attribute server. Value: {'name': 'a', 'networks': 'auto'}. Additional properties are not allowed ('networks' was unexpected)`},
		{"field gone", `{"server": {"name": "a", "networks": "auto", "personality": ["x"]}}`, "2.57", 400, `('personality' was unexpected)`},
		{"missing", `{"server": {"name": "a"}}`, "2.37", 400, `'networks' is a required property`},
		{"empty", ``, "2.1", 400, `'server' is a required property`},
		{"too short", `{"server": {"name": ""}}`, "2.1", 400, `Invalid input for field/attribute name. Value: . '' is too short`},
		{"too long", `{"server": {"name": "01234567890"}}`, "2.1", 400, `'01234567890' is too long`},
		{"wrong type", `{"server": {"name": 1}}`, "2.1", 400, `1 is not of type 'string'`},
		{"null", `{"server": {"name": null}}`, "2.1", 400, `None is not of type 'string'`},
		{"null allowed", `{"server": {"name": "a", "min_count": 1, "description": null}}`, "2.1", 202, `"name":"a"`},
		{"range", `{"server": {"name": "a", "min_count": 0}}`, "2.1", 400, `0 is less than the minimum of 1`},
		{"not JSON", `{"server": `, "2.1", 400, `Malformed request body`},
		{"trailing", `{"server": {"name": "a", "min_count": 1}} x`, "2.1", 400, `Malformed request body`},
		{"too large", `{"server": {"name": "` + strings.Repeat("x", 1<<20) + `"}}`, "2.1", 413, `overLimit`},
	} {
		t.Run(c.name, func(t *testing.T) {
			resp, body := call(t, h, "POST", "/servers", "good", c.body, v(c.version)...)
			require.Equal(t, c.status, resp.StatusCode, body)
			require.Contains(t, unquoteFault(body), c.want)
		})
	}
}

// unquoteFault gives the message as text where the body is a fault.
func unquoteFault(body string) string {
	var m map[string]struct{ Message string }
	if json.Unmarshal([]byte(body), &m) == nil {
		for _, f := range m {
			if f.Message != "" {
				return f.Message + body
			}
		}
	}
	return body
}

func TestEncodeAgreesWithEncodingJSON(t *testing.T) {
	type inner struct {
		A string         `json:"a"`
		B *int           `json:"b"`
		C map[string]int `json:"c,omitempty"`
	}
	type outer struct {
		inner
		D []inner `json:"d"`
		E any     `json:"e"`
		F float64 `json:"f"`
		G []byte  `json:"g"`
	}
	n := 7
	v := outer{inner: inner{A: "q\"\\\n\x01é\u2028", B: &n}, D: []inner{{C: map[string]int{"x": 1}}}, E: []any{1, "a", nil, true}, F: 1.5, G: []byte("hi")}
	got, err := JSON(v, 0)
	require.NoError(t, err)
	want, err := json.Marshal(v)
	require.NoError(t, err)
	require.JSONEq(t, string(want), string(got))
}
