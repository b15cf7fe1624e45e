package api_test

import (
	"context"
	"testing"

	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/compute"
	"github.com/nacre-cloud/nacre/compute/internal/computetest"
)

func TestResizeByGophercloud(t *testing.T) {
	each(t, []string{"h1", "h2"}, func(t *testing.T, c *cloud) {
		big, err := c.Compute.CreateFlavor(computetest.Admin(), compute.Flavor{Name: "big", RAM: 128, VCPUs: 1, Disk: 2, Public: true})
		require.NoError(t, err)
		id := c.active("p1", c.Flavor(), 1)[0]
		cl := c.client("p1", "")
		for _, end := range []func() error{
			func() error { return servers.RevertResize(t.Context(), cl, id).ExtractErr() },
			func() error { return servers.ConfirmResize(t.Context(), cl, id).ExtractErr() },
		} {
			require.NoError(t, servers.Resize(t.Context(), cl, id, servers.ResizeOpts{FlavorRef: big.ID}).ExtractErr())
			c.Reach(id, "VERIFY_RESIZE")
			require.Len(t, c.do("GET", "/v2.1/servers/detail?status=VERIFY_RESIZE", "p1", "", "").at("servers"), 1)
			require.NoError(t, end())
			c.Reach(id, "ACTIVE")
		}
		c.Clean()
		got, err := servers.Get(t.Context(), cl, id).Extract()
		require.NoError(t, err)
		require.Equal(t, big.ID, got.Flavor["id"])
	})
}

func TestMigrationsAreListed(t *testing.T) {
	each(t, []string{"h1", "h2"}, func(t *testing.T, c *cloud) {
		id := c.active("p1", c.Flavor(), 1)[0]
		act := "/v2.1/servers/" + id + "/action"
		require.Equal(t, 202, c.do("POST", act, "admin", "2.1", `{"migrate": null}`).code)
		c.Reach(id, "VERIFY_RESIZE")
		require.Equal(t, 204, c.do("POST", act, "p1", "2.1", `{"confirmResize": null}`).code)
		c.Reach(id, "ACTIVE")
		require.Equal(t, 202, c.do("POST", act, "admin", "2.1", `{"os-migrateLive": {"host": null, "block_migration": true, "disk_over_commit": false}}`).code)
		c.Reach(id, "ACTIVE")

		keys := []string{"created_at", "dest_compute", "dest_host", "dest_node", "id", "instance_uuid", "new_instance_type_id", "old_instance_type_id", "source_compute", "source_node", "status", "updated_at"}
		for version, more := range map[string][]string{"2.1": nil, "2.23": {"migration_type"}, "2.59": {"migration_type", "uuid"}, "2.80": {"migration_type", "project_id", "user_id", "uuid"}} {
			list, ok := c.do("GET", "/v2.1/os-migrations", "admin", version, "").at("migrations").([]any)
			require.True(t, ok)
			require.Len(t, list, 2)
			require.ElementsMatch(t, append(more, keys...), keysOf(list[0]), version)
		}
		one := func(query string) int {
			t.Helper()
			a := c.do("GET", "/v2.1/os-migrations?"+query, "admin", "2.80", "")
			require.Equal(t, 200, a.code, a.raw)
			return len(a.at("migrations").([]any))
		}
		require.Equal(t, 1, one("migration_type=live-migration"))
		require.Equal(t, 1, one("status=confirmed"))
		require.Equal(t, 2, one("instance_uuid="+id))
		require.Equal(t, 2, one("host=h1"))
		require.Equal(t, 0, one("host=h3"))
		require.Equal(t, 0, one("project_id=nobody"))
		require.Equal(t, 2, one("changes-since=2000-01-01T00:00:00Z"))
		page := c.do("GET", "/v2.1/os-migrations?limit=1", "admin", "2.59", "")
		require.Len(t, page.at("migrations"), 1)
		require.NotEmpty(t, page.at("migrations_links"))
		require.Equal(t, 400, c.do("GET", "/v2.1/os-migrations?nonsense=1", "admin", "2.59", "").code)
		require.Equal(t, 400, c.do("GET", "/v2.1/os-migrations?marker=nowhere", "admin", "2.59", "").code)
		require.Equal(t, 403, c.do("GET", "/v2.1/os-migrations", "p1", "2.59", "").code)
		require.Empty(t, c.do("GET", "/v2.1/servers/"+id+"/migrations", "admin", "2.23", "").at("migrations"))
		require.Equal(t, 404, c.do("GET", "/v2.1/servers/"+id+"/migrations/1", "admin", "2.23", "").code)
		require.Equal(t, 404, c.do("GET", "/v2.1/servers/"+id+"/migrations", "admin", "2.22", "").code)
	})
}

func TestLiveMigrationIsSeenAndAborted(t *testing.T) {
	each(t, []string{"h1", "h2"}, func(t *testing.T, c *cloud) {
		id := c.active("p1", c.Flavor(), 1)[0]
		for _, d := range c.Drivers {
			d.Fault("Migrate", id, func(ctx context.Context, _ string) error {
				<-ctx.Done()
				return ctx.Err()
			})
		}
		require.Equal(t, 202, c.do("POST", "/v2.1/servers/"+id+"/action", "admin", "2.68", `{"os-migrateLive": {"host": null, "block_migration": "auto"}}`).code)
		path := "/v2.1/servers/" + id + "/migrations"
		c.Eventually("it is under way", func() bool {
			list, _ := c.do("GET", path, "admin", "2.59", "").at("migrations").([]any)
			return len(list) == 1 && answer{body: list[0].(map[string]any)}.at("status") == "running"
		})
		require.Equal(t, "MIGRATING", c.do("GET", "/v2.1/servers/"+id, "p1", "", "").at("server", "status"))
		a := c.do("GET", path+"/1", "admin", "2.80", "")
		require.Equal(t, 200, a.code, a.raw)
		require.Equal(t, id, a.at("migration", "server_uuid"))
		require.Equal(t, float64(64<<20), a.at("migration", "memory_total_bytes"))
		require.Equal(t, 409, c.do("POST", "/v2.1/servers/"+id+"/action", "p1", "", `{"os-stop": null}`).code)
		require.Equal(t, 202, c.do("POST", path+"/1/action", "admin", "2.22", `{"force_complete": null}`).code)
		require.Equal(t, 400, c.do("POST", path+"/7/action", "admin", "2.22", `{"force_complete": null}`).code)
		require.Equal(t, 404, c.do("DELETE", path+"/7", "admin", "2.24", "").code)
		require.Equal(t, 403, c.do("DELETE", path+"/1", "p1", "2.24", "").code)
		require.Equal(t, 202, c.do("DELETE", path+"/1", "admin", "2.24", "").code)
		c.Reach(id, "ACTIVE")
		require.Equal(t, 409, c.do("DELETE", path+"/1", "admin", "2.24", "").code)
		c.Clean()
	})
}

func TestMovesAreRefused(t *testing.T) {
	each(t, []string{"h1", "h2"}, func(t *testing.T, c *cloud) {
		flavor := c.Flavor()
		id := c.active("p1", flavor, 1)[0]
		act := "/v2.1/servers/" + id + "/action"
		for _, x := range []struct {
			token, version, body string
			code                 int
		}{
			{"p1", "2.1", `{"resize": {"flavorRef": "` + flavor + `"}}`, 400},
			{"p1", "2.1", `{"resize": {"flavorRef": "none"}}`, 400},
			{"p1", "2.1", `{"resize": {}}`, 400},
			{"p1", "2.1", `{"confirmResize": null}`, 409},
			{"p1", "2.1", `{"revertResize": null}`, 409},
			{"p1", "2.1", `{"migrate": null}`, 403},
			{"p1", "2.1", `{"os-migrateLive": {"host": null, "block_migration": true, "disk_over_commit": false}}`, 403},
			{"admin", "2.1", `{"os-migrateLive": {"host": null, "block_migration": "auto", "disk_over_commit": false}}`, 400},
			{"admin", "2.1", `{"os-migrateLive": {"host": null, "block_migration": false, "disk_over_commit": false}}`, 400},
			{"admin", "2.1", `{"os-migrateLive": {"host": null, "block_migration": true}}`, 400},
			{"admin", "2.25", `{"os-migrateLive": {"host": null, "block_migration": "auto", "disk_over_commit": false}}`, 400},
			{"admin", "2.30", `{"os-migrateLive": {"host": null, "block_migration": "auto", "force": true}}`, 400},
			{"admin", "2.68", `{"os-migrateLive": {"host": "h9", "block_migration": "auto"}}`, 400},
			{"admin", "2.68", `{"os-migrateLive": {"host": "h1", "block_migration": "auto", "force": true}}`, 400},
			{"admin", "2.56", `{"migrate": {"host": "h9"}}`, 400},
			{"p1", "2.1", `{"evacuate": {"onSharedStorage": false}}`, 403},
			{"admin", "2.1", `{"evacuate": {}}`, 400},
			{"admin", "2.14", `{"evacuate": {}}`, 400},
			{"admin", "2.14", `{"evacuate": {"host": "h9"}}`, 404},
			{"p1", "2.1", `{"rebuild": {"imageRef": "none"}}`, 400},
			{"p2", "2.1", `{"rebuild": {"imageRef": "` + computetest.ImageID + `"}}`, 404},
			{"p1", "2.1", `{"rebuild": {"imageRef": "` + computetest.ImageID + `", "preserve_ephemeral": true}}`, 400},
			{"p1", "2.63", `{"rebuild": {"imageRef": "` + computetest.ImageID + `", "trusted_image_certificates": ["` + computetest.ImageID + `"]}}`, 400},
		} {
			a := c.do("POST", act, x.token, x.version, x.body)
			require.Equal(t, x.code, a.code, "%s %s: %s", x.version, x.body, a.raw)
		}
		require.Zero(t, c.Reach(id, "ACTIVE").Build, "nothing was made anew")
		a := c.do("POST", act, "p1", "2.63", `{"rebuild": {"imageRef": "`+computetest.ImageID+`", "preserve_ephemeral": false, "trusted_image_certificates": null}}`)
		require.Equal(t, 202, a.code, a.raw)
		c.Reach(id, "ACTIVE")
		a = c.do("POST", "/v2.1/servers", "p1", "2.63", `{"server": {"name": "vm", "imageRef": "`+computetest.ImageID+`", "flavorRef": "`+flavor+`", "networks": "none",
			"trusted_image_certificates": ["`+computetest.ImageID+`"]}}`)
		c.fails(400, "badRequest", "Image certificate validation is not supported here: trusted_image_certificates can't be given.", a)
	})
}

func TestEvacuateAndRebuild(t *testing.T) {
	each(t, []string{"h1", "h2"}, func(t *testing.T, c *cloud) {
		id := c.active("p1", c.Flavor(), 1)[0]
		act := "/v2.1/servers/" + id + "/action"
		a := c.do("POST", act, "p1", "2.1", `{"rebuild": {"imageRef": "`+computetest.ImageID+`", "name": "anew", "metadata": {"a": "b"}, "adminPass": "secret"}}`)
		require.Equal(t, 202, a.code, a.raw)
		require.Equal(t, "secret", a.at("server", "adminPass"))
		require.Equal(t, "anew", a.at("server", "name"))
		require.NotEmpty(t, a.header.Get("Location"))
		host := c.Reach(id, "ACTIVE").Host
		c.StopHost(host)
		hosts, err := c.Compute.Hosts(computetest.Admin(), "os_compute_api:os-services:list")
		require.NoError(t, err)
		for _, h := range hosts {
			if h.Name == host {
				require.Equal(t, 200, c.do("PUT", "/v2.1/os-services/"+h.ID, "admin", "2.53", `{"forced_down": true}`).code)
			}
		}
		require.Equal(t, "DOWN", c.do("GET", "/v2.1/servers/"+id, "admin", "2.16", "").at("server", "host_status"))
		a = c.do("POST", act, "admin", "2.13", `{"evacuate": {"onSharedStorage": false}}`)
		require.Equal(t, 200, a.code, a.raw)
		require.NotEmpty(t, a.body["adminPass"])
		require.NotEqual(t, host, c.Reach(id, "ACTIVE").Host)
	})
}
