package api_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/compute"
	"github.com/nacre-cloud/nacre/compute/internal/computetest"
)

// Another service says of servers what happened to their ports.
func TestExternalEvents(t *testing.T) {
	each(t, []string{"node1"}, func(t *testing.T, c *cloud) {
		const path = "/v2.1/os-server-external-events"
		id := c.active("p1", c.Flavor(), 1)[0]
		post := func(token, version, body string) answer { return c.do("POST", path, token, version, body) }
		one := func(name, server, more string) string {
			return `{"events": [{"name": "` + name + `", "server_uuid": "` + server + `"` + more + `}]}`
		}
		a := post("admin", "", one("network-changed", id, `, "tag": "x"`))
		require.Equal(t, 200, a.code, a.raw)
		require.JSONEq(t, `{"events": [{"name": "network-changed", "server_uuid": "`+id+`", "status": "completed", "tag": "x", "code": 200}]}`, a.raw)
		const nobody = "99999999-2222-4333-8444-555555555555"
		a = post("admin", "2.51", `{"events": [{"name": "network-vif-plugged", "server_uuid": "`+id+`"}, {"name": "network-vif-deleted", "server_uuid": "`+nobody+`"}, {"name": "volume-extended", "server_uuid": "`+id+`"}]}`)
		require.Equal(t, 207, a.code, a.raw)
		events := a.body["events"].([]any)
		for i, code := range []float64{200, 404, 400} {
			require.InEpsilon(t, code, events[i].(map[string]any)["code"], 0)
		}
		require.Equal(t, 400, post("admin", "2.50", one("volume-extended", id, "")).code)
		require.Equal(t, 400, post("admin", "", one("power-update", id, "")).code)
		require.Equal(t, 400, post("admin", "", one("network-changed", "no-uuid", "")).code)
		require.Equal(t, 400, post("admin", "", one("network-changed", id, `, "status": "odd"`)).code)
		require.Equal(t, 400, post("admin", "", one("network-changed", id, `, "more": 1`)).code)
		require.Equal(t, 400, post("admin", "", `{"events": []}`).code)
		require.Equal(t, 403, post("p1", "", one("network-changed", id, "")).code)

		// One that is on no host yet.
		big, err := c.Compute.CreateFlavor(computetest.Admin(), compute.Flavor{Name: "big", RAM: 64, VCPUs: 1, Disk: 1 << 20, Public: true})
		require.NoError(t, err)
		waits := c.Boot(computetest.User("p1"), big.ID, 1)[0].ID
		c.Reach(waits, "ERROR")
		a = post("admin", "", one("network-changed", waits, ""))
		require.Equal(t, 207, a.code, a.raw)
		require.InEpsilon(t, 422, a.body["events"].([]any)[0].(map[string]any)["code"], 0)
	})
}
