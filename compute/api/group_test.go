package api_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/aggregates"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servergroups"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/compute"
	"github.com/nacre-cloud/nacre/compute/internal/computetest"
)

func TestServerGroups(t *testing.T) {
	each(t, []string{"h1", "h2", "h3"}, func(t *testing.T, c *cloud) {
		ctx := context.Background()
		flavor := c.Flavor()
		cl := c.client("p1", "2.96")
		boot := func(group, token string) string {
			sv, err := servers.Create(ctx, c.client(token, "2.96"), servers.CreateOpts{Name: "x", FlavorRef: flavor, ImageRef: computetest.ImageID, Networks: "auto"}, servers.SchedulerHintOpts{Group: group}).Extract()
			require.NoError(t, err)
			return sv.ID
		}
		host := func(id string) string { return c.Reach(id, "ACTIVE").Host }

		apart, err := servergroups.Create(ctx, cl, servergroups.CreateOpts{Name: "apart", Policy: "anti-affinity"}).Extract()
		require.NoError(t, err)
		require.Equal(t, "p1", apart.ProjectID)
		var ids []string
		for range 4 {
			ids = append(ids, boot(apart.ID, "p1")) // all at once
		}
		hosts, failed := map[string]bool{}, ""
		c.Eventually("all are decided", func() bool {
			hosts, failed = map[string]bool{}, ""
			for _, id := range ids {
				sv, err := c.Compute.Server(computetest.Admin(), id)
				require.NoError(t, err)
				switch {
				case sv.Transitional():
					return false
				case sv.Status() == "ACTIVE":
					hosts[sv.Host] = true
				default:
					failed = sv.Fault.Message
				}
			}
			return true
		})
		require.Len(t, hosts, 3, "three hosts, one each")
		require.Contains(t, failed, "ServerGroupAntiAffinityFilter (start: 3, end: 0")
		got, err := servergroups.Get(ctx, cl, apart.ID).Extract()
		require.NoError(t, err)
		require.ElementsMatch(t, ids, got.Members)
		shown := c.do("GET", "/v2.1/servers/"+ids[0], "p1", "2.71", "")
		require.Equal(t, []any{apart.ID}, shown.at("server", "server_groups"))

		time.Sleep(time.Second) // of the bubble's time: lists are by the time of creation
		two, err := servergroups.Create(ctx, cl, servergroups.CreateOpts{Name: "two", Policy: "anti-affinity", Rules: &servergroups.Rules{MaxServerPerHost: 2}}).Extract()
		require.NoError(t, err)
		require.Equal(t, 2, two.Rules.MaxServerPerHost)
		time.Sleep(time.Second)
		near, err := servergroups.Create(ctx, cl, servergroups.CreateOpts{Name: "near", Policy: "affinity"}).Extract()
		require.NoError(t, err)
		first := host(boot(near.ID, "p1"))
		require.Equal(t, first, host(boot(near.ID, "p1")))
		require.Equal(t, first, host(boot(near.ID, "p1")))
		soft, err := servergroups.Create(ctx, c.client("p2", "2.64"), servergroups.CreateOpts{Name: "soft", Policy: "soft-anti-affinity"}).Extract()
		require.NoError(t, err)
		a, b, d := host(boot(soft.ID, "p2")), host(boot(soft.ID, "p2")), host(boot(soft.ID, "p2"))
		require.Len(t, map[string]bool{a: true, b: true, d: true}, 3)
		host(boot(soft.ID, "p2")) // a fourth still finds a place
		c.Clean()

		// Another project's group is not there.
		_, err = servergroups.Get(ctx, c.client("p2", ""), apart.ID).Extract()
		require.True(t, gophercloud.ResponseCodeIs(err, http.StatusNotFound))
		_, err = servers.Create(ctx, c.client("p2", "2.96"), servers.CreateOpts{Name: "x", FlavorRef: flavor, ImageRef: computetest.ImageID, Networks: "auto"}, servers.SchedulerHintOpts{Group: apart.ID}).Extract()
		require.True(t, gophercloud.ResponseCodeIs(err, http.StatusBadRequest))

		// Views and lists by version.
		get := func(version string) []string {
			return keysOf(c.do("GET", "/v2.1/os-server-groups/"+two.ID, "p1", version, "").at("server_group"))
		}
		require.Equal(t, []string{"id", "members", "metadata", "name", "policies"}, get("2.12"))
		require.Equal(t, []string{"id", "members", "metadata", "name", "policies", "project_id", "user_id"}, get("2.13"))
		require.Equal(t, []string{"id", "members", "name", "policy", "project_id", "rules", "user_id"}, get("2.64"))
		names := func(token, query string) (out []string) {
			for _, x := range c.do("GET", "/v2.1/os-server-groups"+query, token, "", "").at("server_groups").([]any) {
				out = append(out, x.(map[string]any)["name"].(string))
			}
			return out
		}
		require.Equal(t, []string{"apart", "two", "near"}, names("p1", ""))
		require.Equal(t, []string{"two"}, names("p1", "?limit=1&offset=1"))
		require.Equal(t, []string{"apart", "two", "near"}, names("p1", "?all_projects=1"))
		require.Equal(t, []string{"apart", "two", "near", "soft"}, names("admin", "?all_projects=1"))

		post := func(version, body string) answer {
			return c.do("POST", "/v2.1/os-server-groups", "p1", version, `{"server_group": `+body+`}`)
		}
		for _, tc := range []struct{ version, body, message string }{
			{"", `{"name": "x"}`, "'policies' is a required property"},
			{"", `{"name": "x", "policies": ["soft-affinity"]}`, "'soft-affinity' is not one of ['anti-affinity', 'affinity']"},
			{"2.15", `{"name": "x", "policies": ["affinity", "soft-affinity"]}`, "is too long"},
			{"2.15", `{"name": "x", "policy": "affinity"}`, "'policies' is a required property"},
			{"2.64", `{"name": "x", "policies": ["affinity"]}`, "'policy' is a required property"},
			{"2.64", `{"name": "x", "policy": "affinity", "rules": {"max_server_per_host": 2}}`, "Only anti-affinity policy supports rules."},
			{"2.64", `{"name": "x", "policy": "anti-affinity", "rules": {"max_server_per_host": 0}}`, "0 is less than the minimum of 1"},
			{"", `{"name": " x", "policies": ["affinity"]}`, "name"},
		} {
			c.fails(400, "badRequest", tc.message, post(tc.version, tc.body))
		}
		require.NoError(t, c.Compute.SetQuota(computetest.Admin(), "p1", map[string]int64{"server_groups": 3, "server_group_members": 4, "instances": -1}, false))
		c.fails(403, "forbidden", "Quota exceeded, too many server groups.", post("", `{"name": "x", "policies": ["affinity"]}`))
		_, err = servers.Create(ctx, cl, servers.CreateOpts{Name: "x", FlavorRef: flavor, ImageRef: computetest.ImageID, Networks: "auto"}, servers.SchedulerHintOpts{Group: apart.ID}).Extract()
		require.True(t, gophercloud.ResponseCodeIs(err, http.StatusForbidden), err)
		require.ErrorContains(t, err, "Quota exceeded, too many servers in group")
		require.Equal(t, 3.0, c.do("GET", "/v2.1/limits", "p1", "", "").at("limits", "absolute", "totalServerGroupsUsed"))

		require.NoError(t, servers.Delete(ctx, cl, ids[0]).ExtractErr())
		c.Reach(ids[0], "")
		got, err = servergroups.Get(ctx, cl, apart.ID).Extract()
		require.NoError(t, err)
		require.Len(t, got.Members, 3, "a deleted server is no member")
		require.NoError(t, servergroups.Delete(ctx, cl, apart.ID).ExtractErr())
		require.Equal(t, []any{}, c.do("GET", "/v2.1/servers/"+ids[1], "p1", "2.71", "").at("server", "server_groups"))
		c.fails(404, "itemNotFound", "Instance group "+apart.ID+" could not be found.", c.do("DELETE", "/v2.1/os-server-groups/"+apart.ID, "p1", "", ""))
		c.Clean()
	})
}

func TestAggregates(t *testing.T) {
	each(t, []string{"h1", "h2"}, func(t *testing.T, c *cloud) {
		ctx := context.Background()
		cl := c.client("admin", "2.41")
		made := c.do("POST", "/v2.1/os-aggregates", "admin", "", `{"aggregate": {"name": "fast", "availability_zone": "paris"}}`)
		require.Equal(t, 200, made.code, made.raw)
		require.Equal(t, []string{"availability_zone", "created_at", "deleted", "deleted_at", "id", "name", "updated_at"}, keysOf(made.at("aggregate")))
		x, err := aggregates.Create(ctx, cl, aggregates.CreateOpts{Name: "plain"}).Extract()
		require.NoError(t, err)
		require.Equal(t, 2, x.ID)
		x, err = aggregates.AddHost(ctx, cl, 1, aggregates.AddHostOpts{Host: "h1"}).Extract()
		require.NoError(t, err)
		require.Equal(t, []string{"h1"}, x.Hosts)
		require.Equal(t, map[string]string{"availability_zone": "paris"}, x.Metadata)
		_, err = aggregates.AddHost(ctx, cl, 2, aggregates.AddHostOpts{Host: "h1"}).Extract()
		require.NoError(t, err, "a host may be in several, if only one makes a zone")

		// The zone is one to boot in.
		zones := c.do("GET", "/v2.1/os-availability-zone", "p1", "", "").at("availabilityZoneInfo").([]any)
		require.Len(t, zones, 2)
		sv := c.Boot(computetest.User("p1"), c.Flavor(), 1, func(n *compute.NewServer) { n.AvailabilityZone = "paris" })[0]
		sv = c.Reach(sv.ID, "ACTIVE")
		require.Equal(t, "h1", sv.Host)
		shown := c.do("GET", "/v2.1/servers/"+sv.ID, "p1", "2.96", "")
		require.Equal(t, "paris", shown.at("server", "OS-EXT-AZ:availability_zone"))
		require.Equal(t, "paris", shown.at("server", "pinned_availability_zone"))

		// What would put a host into two zones, or a server into another, is refused.
		action := func(id, body string) answer {
			return c.do("POST", "/v2.1/os-aggregates/"+id+"/action", "admin", "", body)
		}
		c.fails(409, "conflictingRequest", "Aggregate 1 already has host h1.", action("1", `{"add_host": {"host": "h1"}}`))
		c.fails(404, "itemNotFound", "Compute host h9 could not be found.", action("1", `{"add_host": {"host": "h9"}}`))
		c.fails(404, "itemNotFound", "Cannot remove host h2 in aggregate 1", action("1", `{"remove_host": {"host": "h2"}}`))
		c.fails(404, "itemNotFound", "Aggregate 9 could not be found.", action("9", `{"add_host": {"host": "h1"}}`))
		c.fails(409, "conflictingRequest", "but it has servers", action("1", `{"remove_host": {"host": "h1"}}`))
		c.fails(400, "badRequest", "Cannot update metadata of aggregate 2. Reason: One or more hosts already in availability zone(s) ['paris'].", action("2", `{"set_metadata": {"metadata": {"availability_zone": "rome"}}}`))
		c.fails(400, "badRequest", "Cannot update aggregate 1. Reason: One or more hosts contain instances in this zone.", c.do("PUT", "/v2.1/os-aggregates/1", "admin", "", `{"aggregate": {"availability_zone": "rome"}}`))
		c.fails(400, "badRequest", "does not support empty named availability zone", c.do("PUT", "/v2.1/os-aggregates/1", "admin", "", `{"aggregate": {"availability_zone": null}}`))
		c.fails(400, "badRequest", "Host aggregate is not empty", c.do("DELETE", "/v2.1/os-aggregates/1", "admin", "", ""))
		c.fails(400, "badRequest", "id must be an integer", c.do("GET", "/v2.1/os-aggregates/x", "admin", "", ""))
		c.fails(409, "conflictingRequest", "Aggregate fast already exists.", c.do("POST", "/v2.1/os-aggregates", "admin", "", `{"aggregate": {"name": "fast"}}`))
		c.fails(409, "conflictingRequest", "Aggregate fast already exists.", c.do("PUT", "/v2.1/os-aggregates/2", "admin", "", `{"aggregate": {"name": "fast"}}`))
		c.fails(400, "badRequest", "There is no such action: dance", action("1", `{"dance": {}}`))
		c.fails(400, "badRequest", "availability_zone", c.do("POST", "/v2.1/os-aggregates", "admin", "", `{"aggregate": {"name": "y", "availability_zone": "a:b"}}`))
		c.fails(400, "badRequest", "aggregate", c.do("PUT", "/v2.1/os-aggregates/2", "admin", "", `{"aggregate": {}}`))
		c.fails(403, "forbidden", "os-aggregates:index", c.do("GET", "/v2.1/os-aggregates", "p1", "", ""))
		c.Clean()

		x, err = aggregates.SetMetadata(ctx, cl, 2, aggregates.SetMetadataOpts{Metadata: map[string]any{"ssd": "true", "x": "y"}}).Extract()
		require.NoError(t, err)
		require.Equal(t, map[string]string{"ssd": "true", "x": "y"}, x.Metadata)
		x, err = aggregates.SetMetadata(ctx, cl, 2, aggregates.SetMetadataOpts{Metadata: map[string]any{"x": nil}}).Extract()
		require.NoError(t, err)
		require.Equal(t, map[string]string{"ssd": "true"}, x.Metadata)
		x, err = aggregates.Update(ctx, cl, 2, aggregates.UpdateOpts{Name: "other"}).Extract()
		require.NoError(t, err)
		require.Equal(t, "other", x.Name)
		require.Equal(t, []string{"availability_zone", "created_at", "deleted", "deleted_at", "hosts", "id", "metadata", "name", "updated_at", "uuid"},
			keysOf(c.do("GET", "/v2.1/os-aggregates/2", "admin", "2.41", "").at("aggregate")))

		require.NoError(t, c.Compute.DeleteServer(computetest.User("p1"), sv.ID, "os_compute_api:servers:delete"))
		c.Reach(sv.ID, "")
		for _, id := range []int{1, 2} {
			_, err = aggregates.RemoveHost(ctx, cl, id, aggregates.RemoveHostOpts{Host: "h1"}).Extract()
			require.NoError(t, err)
			require.NoError(t, aggregates.Delete(ctx, cl, id).ExtractErr())
		}
		require.Len(t, c.do("GET", "/v2.1/os-availability-zone", "p1", "", "").at("availabilityZoneInfo"), 1)
		x, err = aggregates.Create(ctx, cl, aggregates.CreateOpts{Name: "fast"}).Extract()
		require.NoError(t, err)
		require.Equal(t, 3, x.ID, "a name may be used again, a number not")
		c.Clean()
	})
}
