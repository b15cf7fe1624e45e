package api_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/compute/internal/computetest"
)

func TestSecurityGroupsProxy(t *testing.T) {
	each(t, []string{"h1"}, func(t *testing.T, c *cloud) {
		do := func(method, path, token, body string) answer {
			return c.do(method, "/v2.1/"+path, token, "2.35", body)
		}
		make := func(name string) string {
			a := do("POST", "os-security-groups", "p1", fmt.Sprintf(`{"security_group": {"name": %q, "description": "d", "more": 1}}`, name))
			require.Equal(t, 200, a.code, a.raw)
			return a.at("security_group", "id").(string)
		}
		b, a := make("b"), make("a")
		require.Equal(t, "p1", do("GET", "os-security-groups/"+a, "p1", "").at("security_group", "tenant_id"))
		c.fails(404, "itemNotFound", a, do("GET", "os-security-groups/"+a, "p2", ""))
		c.fails(400, "badRequest", "uuid", do("GET", "os-security-groups/web", "p1", ""))
		c.fails(404, "itemNotFound", "", c.do("GET", "/v2.1/os-security-groups", "p1", "2.36", ""))
		c.fails(403, "forbidden", "", do("POST", "os-security-groups", "reader/p1", `{"security_group": {"name": "x", "description": ""}}`))
		c.fails(403, "forbidden", "already exists", do("POST", "os-security-groups", "p1", `{"security_group": {"name": "default", "description": ""}}`))
		c.fails(400, "badRequest", "description", do("POST", "os-security-groups", "p1", `{"security_group": {"name": "x"}}`))
		names := func(query, token string) (out []string) {
			for _, g := range do("GET", "os-security-groups"+query, token, "").at("security_groups").([]any) {
				out = append(out, g.(map[string]any)["name"].(string))
			}
			return out
		}
		require.Equal(t, []string{"a", "b"}, names("", "p1"))
		require.Equal(t, []string{"b"}, names("?limit=1&offset=1", "p1"))
		require.Empty(t, names("?all_tenants=1", "p2"), "only an administrator sees all")
		require.Empty(t, names("", "admin"))
		require.Equal(t, []string{"a", "b"}, names("?all_tenants=1", "admin"))
		require.Equal(t, "c", do("PUT", "os-security-groups/"+b, "p1", `{"security_group": {"name": "c", "description": ""}}`).at("security_group", "name"))

		rule := func(more string) answer {
			return do("POST", "os-security-group-rules", "p1", fmt.Sprintf(`{"security_group_rule": {"parent_group_id": %q%s}}`, a, more))
		}
		made := rule(`, "ip_protocol": "tcp", "from_port": "22", "to_port": 22, "cidr": "10.0.0.0/8"`)
		require.Equal(t, 200, made.code, made.raw)
		require.Equal(t, float64(22), made.at("security_group_rule", "from_port"))
		require.Equal(t, "10.0.0.0/8", made.at("security_group_rule", "ip_range", "cidr"))
		c.fails(400, "badRequest", "already exists", rule(`, "ip_protocol": "tcp", "from_port": 22, "to_port": 22, "cidr": "10.0.0.0/8"`))
		for more, want := range map[string]string{
			`, "ip_protocol": "tcp"`:                                                      "Not enough parameters",
			`, "ip_protocol": "tcp", "from_port": 9, "to_port": 8`:                        "cannot be greater",
			`, "ip_protocol": "tcp", "from_port": 0, "to_port": 8`:                        "between 1-65535",
			`, "ip_protocol": "icmp", "from_port": 0, "to_port": 256`:                     "type:code",
			`, "ip_protocol": "icmp", "from_port": "x", "to_port": 0`:                     "must be integers",
			`, "ip_protocol": "gre", "from_port": 1, "to_port": 2`:                        "Invalid IP protocol gre",
			`, "ip_protocol": "tcp", "from_port": 1, "to_port": 2, "cidr": "10.0.0.0/33"`: "Invalid cidr",
			`, "ip_protocol": "tcp", "from_port": 1, "to_port": 2, "cidr": "10.0.0.0/0"`:  "Bad prefix",
			`, "group_id": "x"`: "group_id",
		} {
			c.fails(400, "badRequest", want, rule(more))
		}
		of := rule(fmt.Sprintf(`, "ip_protocol": "udp", "group_id": %q`, b))
		require.Equal(t, float64(65535), of.at("security_group_rule", "to_port"), of.raw)
		require.Equal(t, map[string]any{"name": "c", "tenant_id": "p1"}, of.at("security_group_rule", "group"))
		require.Len(t, do("GET", "os-security-groups/"+a, "p1", "").at("security_group", "rules"), 2)
		id := made.at("security_group_rule", "id").(string)
		require.Equal(t, 202, do("DELETE", "os-security-group-rules/"+id, "p1", "").code)
		c.fails(404, "itemNotFound", id, do("DELETE", "os-security-group-rules/"+id, "p1", ""))

		sv := c.Boot(computetest.User("p1"), c.Flavor(), 1)[0]
		c.Groups.On[sv.ID] = []string{a}
		on := c.do("GET", "/v2.1/servers/"+sv.ID+"/os-security-groups", "p1", "2.96", "").at("security_groups").([]any)
		require.Len(t, on, 1)
		require.Equal(t, a, on[0].(map[string]any)["id"])
		c.fails(404, "itemNotFound", sv.ID, c.do("GET", "/v2.1/servers/"+sv.ID+"/os-security-groups", "p2", "2.96", ""))
		c.fails(400, "badRequest", "in use", do("DELETE", "os-security-groups/"+a, "p1", ""))
		require.Equal(t, 202, do("DELETE", "os-security-groups/"+b, "p1", "").code)
		c.Reach(sv.ID, "ACTIVE")
	})
}
