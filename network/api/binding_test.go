package api_test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// A port's bindings as a compute service makes them, and who may not.
func TestBindings(t *testing.T) {
	c := newCloud(t)
	_, err := c.svc.AddHost(t.Context(), "node2")
	require.NoError(t, err)
	one := func(kind, path, token, body string) map[string]any {
		t.Helper()
		code, _, m := c.do("POST", path, token, body)
		require.Equal(t, 201, code, "%v", m)
		return m[kind].(map[string]any)
	}
	n := one("network", "/networks", "alice", `{"network": {"name": "n"}}`)["id"].(string)
	nic := `"binding:profile": {"nacre_nic": {"index": 1, "made": true, "tag": "a"}}`
	p := one("port", "/ports", "service", `{"port": {"network_id": "`+n+`", "project_id": "alice", "device_id": "vm", "device_owner": "compute:nova", "binding:host_id": "node1", "dns_name": "Web", `+nic+`}}`)
	id := p["id"].(string)
	require.Equal(t, map[string]any{"nacre_nic": map[string]any{"index": 1.0, "made": true, "tag": "a"}}, p["binding:profile"])
	require.Equal(t, "web", p["dns_name"])
	path := "/ports/" + id + "/bindings"
	b := one("binding", path, "service", `{"binding": {"host": "node2", "profile": {"a": "b"}}}`)
	require.Equal(t, map[string]any{"host": "node2", "vif_type": "bridge", "vif_details": map[string]any{"port_filter": true, "connectivity": "l2"}, "vnic_type": "normal", "profile": map[string]any{"a": "b"}, "status": "INACTIVE"}, b)
	list := func(query string) []any {
		t.Helper()
		code, _, m := c.do("GET", path+query, "admin", "")
		require.Equal(t, 200, code, "%v", m)
		return m["bindings"].([]any)
	}
	require.Len(t, list(""), 2)
	require.Len(t, list("?status=INACTIVE"), 1)
	require.Len(t, list("?host=node1&fields=host"), 1)
	c.fails(409, "PortBindingAlreadyExists", "POST", path, "service", `{"binding": {"host": "node2"}}`)
	c.fails(503, "PortBindingError", "POST", path, "service", `{"binding": {"host": "nowhere"}}`)
	c.fails(403, "PolicyNotAuthorized", "POST", path, "alice", `{"binding": {"host": "node2"}}`)
	c.fails(403, "PolicyNotAuthorized", "GET", path, "alice", "")
	c.fails(404, "PortBindingNotFound", "PUT", path+"/nowhere/activate", "service", "")
	c.fails(409, "PortBindingAlreadyActive", "PUT", path+"/node1/activate", "service", "")
	code, _, m := c.do("PUT", path+"/node2", "service", `{"binding": {"profile": {"c": "d"}}}`)
	require.Equal(t, 200, code, "%v", m)
	code, _, m = c.do("PUT", path+"/node2/activate", "service", "")
	require.Equal(t, 200, code, "%v", m)
	require.Equal(t, "ACTIVE", m["binding"].(map[string]any)["status"])
	_, _, m = c.do("GET", "/ports/"+id, "admin", "")
	got := m["port"].(map[string]any)
	require.Equal(t, "node2", got["binding:host_id"])
	require.Equal(t, "d", got["binding:profile"].(map[string]any)["c"])
	require.NotNil(t, got["binding:profile"].(map[string]any)["nacre_nic"], "whose it is does not hang on a binding")
	_, _, m = c.do("GET", "/ports/"+id, "alice", "")
	require.NotContains(t, m["port"], "binding:profile")
	code, _, _ = c.do("DELETE", path+"/node1", "service", "")
	require.Equal(t, 204, code)
	c.fails(404, "PortBindingNotFound", "DELETE", path+"/node1", "service", "")
	c.fails(404, "PortNotFound", "GET", "/ports/"+n+"/bindings", "admin", "")
	mine := one("port", "/ports", "alice", `{"port": {"network_id": "`+n+`"}}`)["id"].(string)
	c.fails(400, "BadRequest", "GET", "/ports/"+mine+"/bindings", "admin", "")
	c.fails(403, "PolicyNotAuthorized", "PUT", "/ports/"+mine, "alice", `{"port": {"device_id": "vm", `+nic+`}}`)
	c.fails(400, "HTTPBadRequest", "PUT", "/ports/"+mine, "alice", `{"port": {"dns_name": "-no"}}`)
}
