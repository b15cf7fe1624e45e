package api_test

import (
	"testing"

	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/agents"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/routers"
	"github.com/stretchr/testify/require"
)

// Routers are given to hosts and taken from them as by neutron's l3_agent_scheduler.
func TestL3AgentScheduler(t *testing.T) {
	c := newCloud(t)
	all := pages(t, agents.List(c.admin, agents.ListOpts{}), agents.ExtractAgents)
	require.Len(t, all, 1)
	agent := all[0].ID
	off, about := false, "to be mended"
	a, err := agents.Update(t.Context(), c.admin, agent, agents.UpdateOpts{AdminStateUp: &off, Description: &about}).Extract()
	require.NoError(t, err)
	require.False(t, a.AdminStateUp)
	require.Equal(t, about, a.Description)
	on := true
	_, err = agents.Update(t.Context(), c.admin, agent, agents.UpdateOpts{AdminStateUp: &on}).Extract()
	require.NoError(t, err)
	c.fails(403, "PolicyNotAuthorized", "PUT", "/agents/"+agent, "alice", `{"agent":{"admin_state_up":false}}`)
	c.fails(404, "AgentNotFound", "PUT", "/agents/nobody", "admin", `{"agent":{"admin_state_up":false}}`)
	c.fails(400, "HTTPBadRequest", "PUT", "/agents/"+agent, "admin", `{"agent":{"host":"elsewhere"}}`)

	r, err := routers.Create(t.Context(), c.alice, routers.CreateOpts{Name: "r"}).Extract()
	require.NoError(t, err)
	hosting := func() []routers.L3Agent {
		return pages(t, routers.ListL3Agents(c.admin, r.ID), routers.ExtractL3Agents)
	}
	require.Empty(t, hosting())
	for range 2 {
		require.NoError(t, agents.ScheduleL3Router(t.Context(), c.admin, agent, agents.ScheduleL3RouterOpts{RouterID: r.ID}).ExtractErr())
	}
	code, h, _ := c.do("POST", "/agents/"+agent+"/l3-routers", "admin", `{"router_id":"`+r.ID+`"}`)
	require.Equal(t, 201, code)
	require.Contains(t, h.Get("Content-Type"), "application/json", "Debian's client decodes the answer")
	require.Equal(t, agent, hosting()[0].ID)
	require.Equal(t, "L3 agent", hosting()[0].AgentType)
	require.Len(t, pages(t, agents.List(c.admin, agents.ListOpts{AgentType: "L3 agent"}), agents.ExtractAgents), 1)
	require.Empty(t, pages(t, agents.List(c.admin, agents.ListOpts{AgentType: "DHCP agent"}), agents.ExtractAgents))
	rs, err := agents.ListL3Routers(t.Context(), c.admin, agent).Extract()
	require.NoError(t, err)
	require.Len(t, rs, 1)
	require.Equal(t, "r", rs[0].Name)
	c.fails(403, "PolicyNotAuthorized", "GET", "/agents/"+agent+"/l3-routers", "alice", "")
	c.fails(403, "PolicyNotAuthorized", "GET", "/routers/"+r.ID+"/l3-agents", "alice", "")
	c.fails(403, "PolicyNotAuthorized", "POST", "/agents/"+agent+"/l3-routers", "alice", `{"router_id":"`+r.ID+`"}`)
	c.fails(403, "PolicyNotAuthorized", "DELETE", "/agents/"+agent+"/l3-routers/"+r.ID, "alice", "")
	c.fails(404, "RouterNotFound", "POST", "/agents/"+agent+"/l3-routers", "admin", `{"router_id":"none"}`)
	c.fails(404, "RouterNotFound", "GET", "/routers/none/l3-agents", "admin", "")
	require.NoError(t, agents.RemoveL3Router(t.Context(), c.admin, agent, r.ID).ExtractErr())
	require.Empty(t, hosting())
}
