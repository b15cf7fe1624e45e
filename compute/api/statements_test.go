package api_test

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/compute"
	"github.com/nacre-cloud/nacre/compute/api"
	"github.com/nacre-cloud/nacre/compute/internal/computetest"
	"github.com/nacre-cloud/nacre/store"
)

// No read costs more than three statements, however much there is to show.
func TestReadsCostThreeStatements(t *testing.T) {
	each(t, []string{"h1", "h2", "h3"}, func(t *testing.T, c *cloud) {
		require.NoError(t, c.Compute.SetQuota(computetest.Admin(), "p1", map[string]int64{"instances": -1, "cores": -1}, false))
		flavor := c.Flavor()
		group, err := c.Compute.CreateServerGroup(computetest.User("p1"), compute.ServerGroup{Name: "g", Policy: "soft-affinity"})
		require.NoError(t, err)
		var last compute.Server
		for _, sv := range c.Boot(computetest.User("p1"), flavor, 8, func(n *compute.NewServer) {
			n.GroupID, n.Metadata, n.Tags = group.ID, map[string]string{"k": "v"}, []string{"t"}
		}) {
			last = c.Reach(sv.ID, "ACTIVE")
		}
		private, err := c.Compute.CreateFlavor(computetest.Admin(), compute.Flavor{Name: "private", RAM: 64, VCPUs: 1, Disk: 1, ExtraSpecs: map[string]string{"k": "v"}})
		require.NoError(t, err)
		for _, p := range []string{"p1", "p2", "p3"} {
			_, err := c.Compute.SetFlavorAccess(computetest.Admin(), private.ID, p, true)
			require.NoError(t, err)
		}
		_, _, err = c.Compute.CreateKeypair(computetest.Admin(), compute.Keypair{Name: "k", PublicKey: publicKey})
		require.NoError(t, err)
		for _, name := range []string{"a", "b"} {
			_, err := c.Compute.CreateAggregate(computetest.Admin(), name, "")
			require.NoError(t, err)
		}
		as, err := c.Compute.Actions(computetest.Admin(), last.ID, nacre.Query{})
		require.NoError(t, err)
		hosts, err := c.Compute.Hosts(computetest.Admin(), "os_compute_api:os-services:list")
		require.NoError(t, err)

		sg, err := c.Groups.CreateGroup(computetest.Admin(), "g", "")
		require.NoError(t, err)
		moving := c.Boot(computetest.User("p1"), flavor, 1)[0]
		c.Reach(moving.ID, "ACTIVE")
		for _, d := range c.Drivers {
			d.Fault("Migrate", moving.ID, func(ctx context.Context, _ string) error {
				<-ctx.Done()
				return ctx.Err()
			})
		}
		require.NoError(t, c.Compute.LiveMigrate(computetest.Admin(), moving.ID, ""))
		c.Eventually("it is under way", func() bool {
			ms, err := c.Compute.ServerMigrations(computetest.Admin(), moving.ID, "os_compute_api:servers:migrations:index")
			require.NoError(t, err)
			return len(ms) == 1 && ms[0].Status == "running"
		})
		asked := 0
		for _, op := range api.Operations() {
			if op.Method != "GET" {
				continue
			}
			id := last.ID
			switch {
			case strings.Contains(op.Path, "/migrations"):
				id = moving.ID
			case strings.Contains(op.Path, "/flavors/"):
				id = private.ID
			case strings.Contains(op.Path, "/os-server-groups/"):
				id = group.ID
			case strings.Contains(op.Path, "/os-security-groups/{id}"):
				id = sg.ID
			case strings.Contains(op.Path, "/os-aggregates/"):
				id = "1"
			case strings.HasSuffix(op.Path, "/search"), strings.Contains(op.Path, "os-hypervisors/{id}/servers"):
				id = "h"
			case strings.Contains(op.Path, "/os-hypervisors/"):
				id = hosts[0].ID
			}
			path := strings.NewReplacer("{id}", id, "{project}", "p1", "{class}", "default", "{request}", as[0].RequestID, "{name}", "k", "{tag}", "t", "{label}", "net",
				"{port}", last.Ports[0].ID, "{alias}", "os-keypairs", "{migration}", "1").Replace(op.Path)
			path = strings.Replace(path, "{key}", "k", 1)
			version := "2.96"
			if op.Max != "" {
				version = op.Max
			}
			query := ""
			switch op.Path {
			case "/v2.1/servers", "/v2.1/servers/detail":
				query = "?all_tenants=1&tags=t&name=vm"
			case "/v2.1/os-hypervisors", "/v2.1/os-hypervisors/detail":
				query = "?with_servers=true"
			case "/v2.1/os-server-groups":
				query = "?all_projects=1"
			case "/v2.1/os-simple-tenant-usage":
				query = "?detailed=1"
			case "/v2.1/flavors", "/v2.1/flavors/detail":
				query = "?is_public=None"
			}
			ctx, n := store.CountStatements(context.Background())
			a := c.doIn(ctx, "GET", path+query, "admin", version, "")
			require.Less(t, a.code, 300, op.Path+": "+a.raw)
			require.LessOrEqual(t, n.Load(), int64(3), op.Path)
			asked++
		}
		require.Greater(t, asked, 40)
	})
}
