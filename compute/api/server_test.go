package api_test

import (
	"context"
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/attachinterfaces"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/instanceactions"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/tags"
	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/compute"
	"github.com/nacre-cloud/nacre/compute/internal/computetest"
)

// status waits until gophercloud sees a server in a status.
func (c *cloud) status(cl *gophercloud.ServiceClient, id, want string) *servers.Server {
	c.t.Helper()
	var sv *servers.Server
	c.Eventually("gophercloud sees "+want, func() bool {
		var err error
		sv, err = servers.Get(context.Background(), cl, id).Extract()
		require.NoError(c.t, err)
		return sv.Status == want
	})
	return sv
}

func TestServerLife(t *testing.T) {
	each(t, []string{"h1"}, func(t *testing.T, c *cloud) {
		ctx := context.Background()
		for _, version := range []string{"", "2.96"} {
			cl := c.client("p1", version)
			flavor, err := c.Compute.CreateFlavor(computetest.Admin(), compute.Flavor{Name: "f" + version, RAM: 64, VCPUs: 1, Disk: 1, Public: true})
			require.NoError(t, err)
			sv, err := servers.Create(ctx, cl, servers.CreateOpts{Name: "vm", FlavorRef: flavor.ID, ImageRef: computetest.ImageID, Networks: []servers.Network{{UUID: computetest.NetworkID}}}, nil).Extract()
			require.NoError(t, err)
			require.NotEmpty(t, sv.AdminPass)
			require.Equal(t, []map[string]any{{"name": "default"}}, sv.SecurityGroups)
			c.status(cl, sv.ID, "ACTIVE")
			require.NoError(t, servers.Reboot(ctx, cl, sv.ID, servers.RebootOpts{Type: servers.SoftReboot}).ExtractErr())
			c.Reach(sv.ID, "ACTIVE")
			require.NoError(t, servers.Stop(ctx, cl, sv.ID).ExtractErr())
			c.status(cl, sv.ID, "SHUTOFF")
			require.True(t, gophercloud.ResponseCodeIs(servers.Stop(ctx, cl, sv.ID).ExtractErr(), http.StatusConflict))
			c.fails(409, "conflictingRequest", "Cannot 'pause' instance "+sv.ID+" while it is in vm_state stopped", c.do("POST", "/v2.1/servers/"+sv.ID+"/action", "p1", version, `{"pause": null}`))
			require.NoError(t, servers.Start(ctx, cl, sv.ID).ExtractErr())
			c.status(cl, sv.ID, "ACTIVE")
			require.NoError(t, servers.Pause(ctx, cl, sv.ID).ExtractErr())
			c.status(cl, sv.ID, "PAUSED")
			require.NoError(t, servers.Unpause(ctx, cl, sv.ID).ExtractErr())
			c.status(cl, sv.ID, "ACTIVE")

			out, err := servers.ShowConsoleOutput(ctx, cl, sv.ID, servers.ShowConsoleOutputOpts{Length: 2}).Extract()
			require.NoError(t, err)
			require.Len(t, strings.Split(out, "\n"), 2)
			require.True(t, strings.HasSuffix(out, "\n"), "what follows the last line feed is a line too, as nova counts")

			act := func(who, body string) answer {
				return c.do("POST", "/v2.1/servers/"+sv.ID+"/action", who, version, body)
			}
			require.Equal(t, 202, act("p1", `{"addSecurityGroup": {"name": "web"}}`).code)
			require.Equal(t, 202, act("p1", `{"removeSecurityGroup": {"name": "web"}}`).code)
			c.fails(404, "itemNotFound", "Security group web", act("p1", `{"removeSecurityGroup": {"name": "web"}}`))
			c.fails(404, "itemNotFound", "could not be found", act("p2", `{"addSecurityGroup": {"name": "web"}}`))
			c.fails(403, "forbidden", "os-security-groups:add", act("reader/p1", `{"addSecurityGroup": {"name": "web"}}`))
			c.fails(400, "badRequest", "name", act("p1", `{"addSecurityGroup": {}}`))

			// A lock binds the owner, not the administrator.
			require.NoError(t, servers.Lock(ctx, cl, sv.ID).ExtractErr())
			require.True(t, gophercloud.ResponseCodeIs(servers.Delete(ctx, cl, sv.ID).ExtractErr(), http.StatusConflict))
			require.NoError(t, servers.Unlock(ctx, cl, sv.ID).ExtractErr())
			require.True(t, gophercloud.ResponseCodeIs(servers.ResetState(ctx, cl, sv.ID, servers.StateError).ExtractErr(), http.StatusForbidden))
			require.NoError(t, servers.ResetState(ctx, c.client("admin", version), sv.ID, servers.StateError).ExtractErr())
			c.status(cl, sv.ID, "ERROR")
			require.NoError(t, servers.ResetState(ctx, c.client("admin", version), sv.ID, servers.StateActive).ExtractErr())

			require.NoError(t, servers.Delete(ctx, cl, sv.ID).ExtractErr())
			c.Eventually("it is gone", func() bool {
				_, err := servers.Get(ctx, cl, sv.ID).Extract()
				return gophercloud.ResponseCodeIs(err, http.StatusNotFound)
			})
			c.Clean()
		}
		require.Zero(t, c.Instances(t))
		require.Zero(t, c.Nets.Count())
	})
}

func TestServerListFiltersAndPages(t *testing.T) {
	each(t, []string{"h1"}, func(t *testing.T, c *cloud) {
		flavor := c.Flavor()
		var ids []string
		for _, name := range []string{"web-1", "web-2", "db-1"} {
			sv := c.Boot(computetest.User("p1"), flavor, 1, func(n *compute.NewServer) {
				n.Name, n.Tags = name, []string{"all", strings.TrimRight(name, "-12")}
			})[0]
			c.Reach(sv.ID, "ACTIVE")
			ids = append(ids, sv.ID)
			time.Sleep(time.Second) // in the bubble: each has its own second of creation
		}
		c.active("p2", flavor, 1)
		require.NoError(t, c.Compute.Do(computetest.User("p1"), ids[2], compute.Stop))
		c.Reach(ids[2], "SHUTOFF")
		list := func(token, version, query string) []string {
			t.Helper()
			a := c.do("GET", "/v2.1/servers/detail?"+query, token, version, "")
			require.Equal(t, 200, a.code, a.raw)
			var got []string
			for _, x := range a.at("servers").([]any) {
				got = append(got, x.(map[string]any)["id"].(string))
			}
			return got
		}
		newest := []string{ids[2], ids[1], ids[0]}
		since := time.Now().Add(-time.Hour).UTC().Format(time.RFC3339)
		for _, tc := range []struct {
			version, query string
			want           []string
		}{
			{"", "", newest},
			{"", "name=web", newest[1:]},
			{"", "name=^db-.$", ids[2:]},
			{"", "status=ACTIVE", newest[1:]},
			{"", "status=shutoff", ids[2:]},
			{"", "status=ACTIVE&status=SHUTOFF", newest},
			{"", "status=SUSPENDED", nil},
			{"", "status=nonsense", nil},
			{"", "image=" + computetest.ImageID, newest},
			{"", "image=" + ids[0], nil},
			{"", "flavor=" + flavor, newest},
			{"", "ip=^10.0.0.1$", ids[:1]},
			{"", "sort_key=display_name&sort_dir=asc", []string{ids[2], ids[0], ids[1]}},
			{"", "sort_key=display_name&sort_dir=asc&limit=2", []string{ids[2], ids[0]}},
			{"", "sort_key=memory_mb", newest},
			{"", "limit=1&marker=" + ids[1], ids[:1]},
			{"", "changes-since=" + since, newest},
			{"", "vm_state=stopped", newest}, // no effect for users until 2.83
			{"2.83", "vm_state=stopped", ids[2:]},
			{"", "key_name=none", newest},
			{"2.83", "key_name=none", nil},
			{"", "tags=web", newest}, // tags came with 2.26
			{"2.26", "tags=web", newest[1:]},
			{"2.26", "tags=web,db", nil},
			{"2.26", "tags-any=web,db", newest},
			{"2.26", "not-tags=all,db", newest[1:]},
			{"2.26", "not-tags-any=db,none", newest[1:]},
			{"2.66", "changes-before=" + since, nil},
			{"2.73", "locked=true", nil},
			{"2.73", "locked=false", newest},
			{"2.74", "nonsense=1", newest},
			{"2.74", "host=elsewhere", newest},
			{"2.90", "hostname=db-1", ids[2:]},
		} {
			require.Equal(t, tc.want, list("p1", tc.version, tc.query), tc.version+" "+tc.query)
		}
		require.Empty(t, list("p3", "", ""))
		require.Len(t, list("admin", "", "all_tenants=1"), 4)
		require.Empty(t, list("admin", "", ""), "the administrator's own project has none")
		require.Len(t, list("admin", "", "all_tenants=1&project_id=p2"), 1)
		require.Len(t, list("admin", "", "project_id=p2&all_tenants=1"), 1, "whatever the order")
		require.Empty(t, list("admin", "", "all_tenants=1&project_id=admin"), "one's own project is a filter too")
		require.Empty(t, list("admin", "", "project_id=p2"), "ignored without all_tenants")
		require.Empty(t, list("p1", "", "limit=0"), "none, not all")
		require.Empty(t, list("admin", "", "all_tenants=1&host=elsewhere"))
		require.Len(t, list("admin", "", "all_tenants=1&host=h1&vm_state=stopped"), 1)

		for _, tc := range []struct {
			version, query, message string
		}{
			{"2.38", "status=nonsense", "Invalid status value"},
			{"2.75", "nonsense=1", "Additional properties are not allowed ('nonsense' was unexpected)"},
			{"2.75", "sort_key=memory_mb", "'memory_mb' is not one of"},
			{"", "sort_key=nonsense", "'nonsense' is not one of"},
			{"", "limit=-1", "Invalid input for query parameters 0. Value: -1. '-1' does not match '^[0-9]*$'"},
			{"", "limit=x", "'x' does not match"},
			{"", "marker=" + computetest.ImageID, "marker [" + computetest.ImageID + "] not found"},
			{"", "name=[", "Invalid input for query parameters 0. Value: [. '[' is not a 'regex'"},
			{"", "changes-since=yesterday", "Invalid input for query parameters 0. Value: yesterday. 'yesterday' is not a 'date-time'"},
			{"2.66", "changes-since=2030-01-01T00:00:00Z&changes-before=2020-01-01T00:00:00Z", "The value of changes-since must be less than or equal to changes-before."},
		} {
			c.fails(400, "badRequest", tc.message, c.do("GET", "/v2.1/servers?"+tc.query, "p1", tc.version, ""))
		}
		c.fails(400, "badRequest", "Invalid filter field: services.", c.do("GET", "/v2.1/servers?services=1", "admin", "", ""))
		c.fails(403, "forbidden", "get_all_tenants", c.do("GET", "/v2.1/servers?all_tenants=1", "p1", "", ""))
		c.fails(403, "forbidden", "Only administrators can sort servers by host", c.do("GET", "/v2.1/servers?sort_key=host", "p1", "", ""))
		c.fails(403, "forbidden", "Only administrators may list deleted instances", c.do("GET", "/v2.1/servers?status=DELETED", "p1", "", ""))

		// gophercloud follows the links through the pages.
		pages, err := servers.ListSimple(c.client("p1", "2.96"), servers.ListOpts{Limit: 1}).AllPages(context.Background())
		require.NoError(t, err)
		all, err := servers.ExtractServers(pages)
		require.NoError(t, err)
		require.Len(t, all, 3)

		// What was deleted is seen by those who ask for changes, and by administrators.
		require.NoError(t, c.Compute.DeleteServer(computetest.User("p1"), ids[0], "os_compute_api:servers:delete"))
		c.Reach(ids[0], "")
		require.Equal(t, newest[:2], list("p1", "", ""))
		require.Len(t, list("p1", "", "changes-since="+since), 3)
		require.Equal(t, ids[:1], list("admin", "", "all_tenants=1&status=DELETED"))
		require.Equal(t, ids[:1], list("admin", "", "all_tenants=1&deleted=true"))
		require.Len(t, list("admin", "", "all_tenants=1&deleted=what"), 3)
	})
}

func TestServerParts(t *testing.T) {
	each(t, []string{"h1"}, func(t *testing.T, c *cloud) {
		ctx := context.Background()
		id := c.active("p1", c.Flavor(), 1)[0]
		cl := c.client("p1", "2.96")

		m, err := servers.ResetMetadata(ctx, cl, id, servers.MetadataOpts{"a": "1", "b": "2"}).Extract()
		require.NoError(t, err)
		require.Equal(t, map[string]string{"a": "1", "b": "2"}, m)
		m, err = servers.UpdateMetadata(ctx, cl, id, servers.MetadataOpts{"b": "3"}).Extract()
		require.NoError(t, err)
		require.Equal(t, map[string]string{"a": "1", "b": "3"}, m)
		m, err = servers.CreateMetadatum(ctx, cl, id, servers.MetadatumOpts{"c": "4"}).Extract()
		require.NoError(t, err)
		require.Equal(t, map[string]string{"c": "4"}, m)
		m, err = servers.Metadatum(ctx, cl, id, "c").Extract()
		require.NoError(t, err)
		require.Equal(t, map[string]string{"c": "4"}, m)
		require.NoError(t, servers.DeleteMetadatum(ctx, cl, id, "c").ExtractErr())
		c.fails(404, "itemNotFound", "Metadata item was not found", c.do("DELETE", "/v2.1/servers/"+id+"/metadata/c", "p1", "", ""))
		c.fails(400, "badRequest", "Request body and URI mismatch", c.do("PUT", "/v2.1/servers/"+id+"/metadata/c", "p1", "", `{"meta": {"d": "1"}}`))
		m, err = servers.Metadata(ctx, cl, id).Extract()
		require.NoError(t, err)
		require.Equal(t, map[string]string{"a": "1", "b": "3"}, m)

		got, err := tags.ReplaceAll(ctx, cl, id, tags.ReplaceAllOpts{Tags: []string{"y", "x", "x"}}).Extract()
		require.NoError(t, err)
		require.Equal(t, []string{"x", "y"}, got)
		require.NoError(t, tags.Add(ctx, cl, id, "z").ExtractErr())
		again := c.do("PUT", "/v2.1/servers/"+id+"/tags/z", "p1", "2.26", "")
		require.Equal(t, 204, again.code)
		fresh := c.do("PUT", "/v2.1/servers/"+id+"/tags/new", "p1", "2.26", "")
		require.Equal(t, 201, fresh.code)
		require.Equal(t, base+"/v2.1/servers/"+id+"/tags/new", fresh.header.Get("Location"))
		require.NoError(t, tags.Delete(ctx, cl, id, "new").ExtractErr())
		has, err := tags.Check(ctx, cl, id, "z").Extract()
		require.NoError(t, err)
		require.True(t, has)
		c.fails(404, "itemNotFound", "Server "+id+" has no tag 'none'", c.do("DELETE", "/v2.1/servers/"+id+"/tags/none", "p1", "2.26", ""))
		c.fails(400, "badRequest", "tag", c.do("PUT", "/v2.1/servers/"+id+"/tags/a,b", "p1", "2.26", ""))
		require.Equal(t, 404, c.do("GET", "/v2.1/servers/"+id+"/tags", "p1", "2.25", "").code, "tags came with 2.26")
		require.NoError(t, tags.DeleteAll(ctx, cl, id).ExtractErr())
		got, err = tags.List(ctx, cl, id).Extract()
		require.NoError(t, err)
		require.Empty(t, got)

		pages, err := servers.ListAddresses(cl, id).AllPages(ctx)
		require.NoError(t, err)
		addrs, err := servers.ExtractAddresses(pages)
		require.NoError(t, err)
		require.Equal(t, map[string][]servers.Address{"net": {{Version: 4, Address: "10.0.0.1"}}}, addrs)
		require.Equal(t, []string{"addr", "version"}, keysOf(c.do("GET", "/v2.1/servers/"+id+"/ips/net", "p1", "", "").at("net").([]any)[0]))
		c.fails(404, "itemNotFound", "Instance is not a member of specified network", c.do("GET", "/v2.1/servers/"+id+"/ips/none", "p1", "", ""))

		pages, err = attachinterfaces.List(cl, id).AllPages(ctx)
		require.NoError(t, err)
		nics, err := attachinterfaces.ExtractInterfaces(pages)
		require.NoError(t, err)
		require.Len(t, nics, 1)
		require.Equal(t, "ACTIVE", nics[0].PortState)
		one, err := attachinterfaces.Get(ctx, cl, id, nics[0].PortID).Extract()
		require.NoError(t, err)
		require.Equal(t, nics[0], *one)
		require.NotContains(t, keysOf(c.do("GET", "/v2.1/servers/"+id+"/os-interface/"+one.PortID, "p1", "2.69", "").at("interfaceAttachment")), "tag")
		require.Contains(t, keysOf(c.do("GET", "/v2.1/servers/"+id+"/os-interface/"+one.PortID, "p1", "2.70", "").at("interfaceAttachment")), "tag")

		require.NoError(t, servers.Stop(ctx, cl, id).ExtractErr())
		c.Reach(id, "SHUTOFF")
		pages, err = instanceactions.List(cl, id, nil).AllPages(ctx)
		require.NoError(t, err)
		as, err := instanceactions.ExtractInstanceActions(pages)
		require.NoError(t, err)
		require.Len(t, as, 2)
		require.Equal(t, "stop", as[0].Action)
		require.Equal(t, "create", as[1].Action)
		a, err := instanceactions.Get(ctx, cl, id, as[0].RequestID).Extract()
		require.NoError(t, err)
		require.Len(t, *a.Events, 1)
		require.Equal(t, "Success", (*a.Events)[0].Result)
		path := "/v2.1/servers/" + id + "/os-instance-actions/" + as[0].RequestID
		event := func(token, version string) []string {
			evs, _ := c.do("GET", path, token, version, "").at("instanceAction", "events").([]any)
			if len(evs) == 0 {
				return nil
			}
			return keysOf(evs[0])
		}
		require.Nil(t, event("p1", "2.50"), "events were the administrator's until 2.51")
		require.Equal(t, []string{"event", "finish_time", "result", "start_time", "traceback"}, event("admin", "2.50"))
		require.Equal(t, []string{"event", "finish_time", "result", "start_time"}, event("p1", "2.51"))
		require.Equal(t, []string{"event", "finish_time", "hostId", "result", "start_time"}, event("p1", "2.62"))
		require.Equal(t, []string{"details", "event", "finish_time", "host", "hostId", "result", "start_time", "traceback"}, event("admin", "2.84"))
		require.NotContains(t, keysOf(c.do("GET", path, "p1", "2.57", "").at("instanceAction")), "updated_at")
		require.Contains(t, keysOf(c.do("GET", path, "p1", "2.58", "").at("instanceAction")), "updated_at")
	})
}

func TestFilesForTheGuest(t *testing.T) {
	each(t, []string{"h1"}, func(t *testing.T, c *cloud) {
		flavor := c.Flavor()
		body := func(path, contents string) string {
			return `{"server": {"name": "x", "flavorRef": "` + flavor + `", "imageRef": "` + computetest.ImageID + `", "personality": [{"path": "` + path + `", "contents": "` + contents + `"}]}}`
		}
		a := c.do("POST", "/v2.1/servers", "p1", "2.1", body("/etc/motd", base64.StdEncoding.EncodeToString([]byte("hello"))))
		require.Equal(t, 202, a.code, a.raw)
		id := a.at("server", "id").(string)
		sv := c.Reach(id, "ACTIVE")
		require.Equal(t, []compute.InjectedFile{{Path: "/etc/motd", Content: []byte("hello")}}, sv.Injected)
		in, err := c.Compute.Guest(context.Background(), id, "p1")
		require.NoError(t, err)
		require.Len(t, in.Injected, 1, "the config drive has it")
		c.fails(400, "badRequest", "Invalid input for field/attribute contents. Value: ?. '?' is not a 'base64'", c.do("POST", "/v2.1/servers", "p1", "2.1", body("/x", "?")))
		c.fails(403, "forbidden", "Personality file path exceeds maximum 255", c.do("POST", "/v2.1/servers", "p1", "2.1", body("/"+strings.Repeat("x", 255), "aGk=")))
		c.fails(403, "forbidden", "Personality file content exceeds maximum 10240", c.do("POST", "/v2.1/servers", "p1", "2.1", body("/x", base64.StdEncoding.EncodeToString(make([]byte, 10241)))))
		c.fails(400, "badRequest", "Additional properties are not allowed ('personality' was unexpected)", c.do("POST", "/v2.1/servers", "p1", "2.57", body("/x", "aGk=")))
	})
}
