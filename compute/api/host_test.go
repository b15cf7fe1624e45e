package api_test

import (
	"context"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/availabilityzones"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/hypervisors"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/limits"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/quotasets"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/services"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/usage"
	"github.com/gophercloud/gophercloud/v2/pagination"
	"github.com/stretchr/testify/require"
)

func TestHypervisors(t *testing.T) {
	each(t, []string{"h1", "h2"}, func(t *testing.T, c *cloud) {
		id := c.active("p1", c.Flavor(), 1)[0]
		host := c.Reach(id, "ACTIVE").Host
		list := func(version, query string) []any {
			a := c.do("GET", "/v2.1/os-hypervisors"+query, "admin", version, "")
			require.Equal(t, 200, a.code, a.raw)
			return a.at("hypervisors").([]any)
		}
		short := []string{"hypervisor_hostname", "id", "state", "status"}
		detail := sortedUnion(short, []string{"cpu_info", "current_workload", "disk_available_least", "free_disk_gb", "free_ram_mb", "host_ip", "hypervisor_type", "hypervisor_version", "local_gb",
			"local_gb_used", "memory_mb", "memory_mb_used", "running_vms", "service", "vcpus", "vcpus_used"})
		require.Equal(t, short, keysOf(list("", "")[0]))
		x := list("", "/detail")[0].(map[string]any)
		require.Equal(t, detail, keysOf(x))
		require.IsType(t, "", x["cpu_info"])
		require.Equal(t, 1.0, x["id"])
		x = list("2.28", "/detail")[0].(map[string]any)
		require.IsType(t, map[string]any{}, x["cpu_info"])
		x = list("2.53", "/detail")[0].(map[string]any)
		require.Equal(t, detail, keysOf(x))
		require.Len(t, x["id"], 36)
		require.Equal(t, x["id"], x["service"].(map[string]any)["id"])
		x = list("2.88", "/detail")[0].(map[string]any)
		require.Equal(t, sortedUnion(short, []string{"host_ip", "hypervisor_type", "hypervisor_version", "service", "uptime"}), keysOf(x))

		require.Contains(t, x["uptime"], " up 0 min,")
		up := c.do("GET", "/v2.1/os-hypervisors/1/uptime", "admin", "", "").at("hypervisor")
		require.Equal(t, sortedUnion(short, []string{"uptime"}), keysOf(up))
		// With their servers: a path of its own, then a parameter.
		require.Len(t, list("", "/"+host+"/servers")[0].(map[string]any)["servers"], 1)
		require.Equal(t, short, keysOf(list("", "/h/search")[0]))
		require.Len(t, list("2.53", "?hypervisor_hostname_pattern=h1"), 1)
		for _, version := range []string{"2.53", "2.75"} {
			for _, x := range list(version, "?with_servers=true") {
				servers, there := x.(map[string]any)["servers"].([]any)
				mine := x.(map[string]any)["hypervisor_hostname"] == host
				require.Equal(t, mine || version == "2.75", there, version)
				require.Equal(t, mine, len(servers) == 1)
			}
		}
		c.fails(404, "itemNotFound", "No hypervisor matching 'none' could be found.", c.do("GET", "/v2.1/os-hypervisors?hypervisor_hostname_pattern=none", "admin", "2.53", ""))
		c.fails(400, "badRequest", "Paging over hypervisors", c.do("GET", "/v2.1/os-hypervisors?hypervisor_hostname_pattern=h&limit=1", "admin", "2.53", ""))
		require.Len(t, list("2.32", "?limit=1"), 2)
		require.Len(t, list("2.33", "?limit=1"), 1)
		require.Equal(t, "h2", list("2.33", "?limit=1&marker=1")[0].(map[string]any)["hypervisor_hostname"])

		cl := c.client("admin", "2.53")
		pages, err := hypervisors.List(cl, nil).AllPages(context.Background())
		require.NoError(t, err)
		hs, err := hypervisors.ExtractHypervisors(pages)
		require.NoError(t, err)
		h, err := hypervisors.Get(context.Background(), cl, hs[0].ID).Extract()
		require.NoError(t, err)
		require.Equal(t, hs[0], *h)
		st, err := hypervisors.GetStatistics(context.Background(), cl).Extract()
		require.NoError(t, err)
		require.Equal(t, 2, st.Count)
		require.Equal(t, 1, st.RunningVMs)
		require.Equal(t, 64, st.MemoryMBUsed)
		c.fails(403, "forbidden", "os-hypervisors:list", c.do("GET", "/v2.1/os-hypervisors", "p1", "", ""))
		c.fails(404, "itemNotFound", "Hypervisor with ID '7' could not be found.", c.do("GET", "/v2.1/os-hypervisors/7", "admin", "", ""))
	})
}

func TestServicesAndZones(t *testing.T) {
	each(t, []string{"h1", "h2"}, func(t *testing.T, c *cloud) {
		ctx := context.Background()
		cl := c.client("admin", "2.53")
		get := func(o services.ListOpts) []services.Service {
			pages, err := services.List(cl, o).AllPages(ctx)
			require.NoError(t, err)
			ss, err := services.ExtractServices(pages)
			require.NoError(t, err)
			return ss
		}
		require.Len(t, get(services.ListOpts{}), 4, "two hosts, the scheduler and the conductor")
		require.Len(t, get(services.ListOpts{Binary: "nova-scheduler"}), 1)
		s := get(services.ListOpts{Binary: "nova-compute", Host: "h1"})
		require.Len(t, s, 1)
		require.Equal(t, "up", s[0].State)
		off, err := services.Update(ctx, cl, s[0].ID, services.UpdateOpts{Status: services.ServiceDisabled, DisabledReason: "repair"}).Extract()
		require.NoError(t, err)
		require.Equal(t, "repair", off.DisabledReason)
		sv := c.active("p1", c.Flavor(), 3)
		for _, id := range sv {
			require.Equal(t, "h2", c.Reach(id, "ACTIVE").Host, "a disabled host gets none")
		}
		_, err = services.Update(ctx, cl, s[0].ID, services.UpdateOpts{ForcedDown: true}).Extract()
		require.NoError(t, err)
		require.Equal(t, "down", get(services.ListOpts{Binary: "nova-compute", Host: "h1"})[0].State)

		// Before 2.53: by name of host and binary.
		put := func(path, version, body string) answer {
			return c.do("PUT", "/v2.1/os-services/"+path, "admin", version, body)
		}
		a := put("enable", "", `{"host": "h1", "binary": "nova-compute"}`)
		require.Equal(t, map[string]any{"host": "h1", "binary": "nova-compute", "status": "enabled"}, a.at("service"))
		a = put("disable-log-reason", "", `{"host": "h1", "binary": "nova-compute", "disabled_reason": "why"}`)
		require.Equal(t, "why", a.at("service", "disabled_reason"))
		a = put("force-down", "2.11", `{"host": "h1", "binary": "nova-compute", "forced_down": false}`)
		require.Equal(t, false, a.at("service", "forced_down"))
		require.Equal(t, 404, put("enable", "2.53", `{"host": "h1", "binary": "nova-compute"}`).code)
		c.fails(404, "itemNotFound", "Could not find binary nova-compute on host h9.", put("enable", "", `{"host": "h9", "binary": "nova-compute"}`))
		row := func(version string) []string {
			return keysOf(c.do("GET", "/v2.1/os-services", "admin", version, "").at("services").([]any)[0])
		}
		require.Equal(t, []string{"binary", "disabled_reason", "host", "id", "state", "status", "updated_at", "zone"}, row("2.10"))
		require.Contains(t, row("2.11"), "forced_down")
		scheduler := get(services.ListOpts{Binary: "nova-scheduler"})[0].ID
		c.fails(400, "badRequest", "Updating a nova-scheduler service is not supported. Only nova-compute services can be updated.", put(scheduler, "2.53", `{"status": "disabled"}`))
		c.fails(409, "conflictingRequest", "Unable to delete compute service that is hosting instances", c.do("DELETE", "/v2.1/os-services/"+get(services.ListOpts{Host: "h2"})[0].ID, "admin", "2.53", ""))

		pages, err := availabilityzones.List(c.client("p1", "")).AllPages(ctx)
		require.NoError(t, err)
		zs, err := availabilityzones.ExtractAvailabilityZones(pages)
		require.NoError(t, err)
		require.Equal(t, []availabilityzones.AvailabilityZone{{ZoneName: "nova", ZoneState: availabilityzones.ZoneState{Available: true}}}, zs)
		pages, err = availabilityzones.ListDetail(c.client("admin", "")).AllPages(ctx)
		require.NoError(t, err)
		zs, err = availabilityzones.ExtractAvailabilityZones(pages)
		require.NoError(t, err)
		require.Len(t, zs, 2)
		require.Len(t, zs[0].Hosts, 2)
		require.Equal(t, "internal", zs[1].ZoneName)
	})
}

func TestQuotasLimitsUsage(t *testing.T) {
	each(t, []string{"h1"}, func(t *testing.T, c *cloud) {
		ctx := context.Background()
		id := c.active("p1", c.Flavor(), 1)[0]
		admin := c.client("admin", "")
		q, err := quotasets.Update(ctx, admin, "p1", quotasets.UpdateOpts{Instances: ptr(3), Cores: ptr(-1)}).Extract()
		require.NoError(t, err)
		require.Equal(t, 3, q.Instances)
		d, err := quotasets.GetDetail(ctx, admin, "p1").Extract()
		require.NoError(t, err)
		require.Equal(t, quotasets.QuotaDetail{InUse: 1, Limit: 3}, d.Instances)
		require.Equal(t, quotasets.QuotaDetail{InUse: 64, Limit: 51200}, d.RAM)
		names := func(version string) []string {
			return keysOf(c.do("GET", "/v2.1/os-quota-sets/p1", "p1", version, "").at("quota_set"))
		}
		newest := []string{"cores", "id", "instances", "key_pairs", "metadata_items", "ram", "server_group_members", "server_groups"}
		files := []string{"injected_file_content_bytes", "injected_file_path_bytes", "injected_files"}
		require.Equal(t, newest, names("2.57"))
		require.Equal(t, sortedUnion(newest, files), names("2.36"))
		require.Equal(t, sortedUnion(newest, files, []string{"fixed_ips", "floating_ips", "security_group_rules", "security_groups"}), names("2.35"))
		c.fails(400, "badRequest", "Quota limit 0 for instances must be greater than or equal to already used and reserved 1.", c.do("PUT", "/v2.1/os-quota-sets/p1", "admin", "", `{"quota_set": {"instances": 0}}`))
		require.Equal(t, 200, c.do("PUT", "/v2.1/os-quota-sets/p1", "admin", "", `{"quota_set": {"instances": 0, "force": true}}`).code)
		c.fails(400, "badRequest", "('floating_ips' was unexpected)", c.do("PUT", "/v2.1/os-quota-sets/p1", "admin", "2.36", `{"quota_set": {"floating_ips": 1}}`))
		c.fails(400, "badRequest", "-2 is less than the minimum of -1", c.do("PUT", "/v2.1/os-quota-sets/p1", "admin", "", `{"quota_set": {"cores": -2}}`))
		c.fails(403, "forbidden", "os-quota-sets:update", c.do("PUT", "/v2.1/os-quota-sets/p1", "p1", "", `{"quota_set": {"cores": 2}}`))
		c.fails(403, "forbidden", "os-quota-sets:show", c.do("GET", "/v2.1/os-quota-sets/p1", "p2", "", ""))
		require.NoError(t, quotasets.Delete(ctx, admin, "p1").Err)
		q, err = quotasets.Get(ctx, admin, "p1").Extract()
		require.NoError(t, err)
		require.Equal(t, 10, q.Instances)
		require.Equal(t, 200, c.do("PUT", "/v2.1/os-quota-class-sets/default", "admin", "", `{"quota_class_set": {"instances": 7}}`).code)
		require.Equal(t, 7.0, c.do("GET", "/v2.1/os-quota-sets/p9/defaults", "p1", "", "").at("quota_set", "instances"))
		require.Equal(t, "default", c.do("GET", "/v2.1/os-quota-class-sets/default", "admin", "", "").at("quota_class_set", "id"))

		l, err := limits.Get(ctx, c.client("p1", ""), nil).Extract()
		require.NoError(t, err)
		require.Equal(t, 1, l.Absolute.TotalInstancesUsed)
		require.Equal(t, 7, l.Absolute.MaxTotalInstances)
		absolute := func(version string) []string {
			return keysOf(c.do("GET", "/v2.1/limits", "p1", version, "").at("limits", "absolute"))
		}
		now := []string{"maxServerGroupMembers", "maxServerGroups", "maxServerMeta", "maxTotalCores", "maxTotalInstances", "maxTotalKeypairs", "maxTotalRAMSize", "totalCoresUsed",
			"totalInstancesUsed", "totalRAMUsed", "totalServerGroupsUsed"}
		personality := []string{"maxPersonality", "maxPersonalitySize"}
		require.Equal(t, now, absolute("2.57"))
		require.Equal(t, sortedUnion(now, personality), absolute("2.39"))
		require.Equal(t, sortedUnion(now, personality, []string{"maxImageMeta"}), absolute("2.36"))
		require.Equal(t, sortedUnion(now, personality, []string{"maxImageMeta", "maxSecurityGroupRules", "maxSecurityGroups", "maxTotalFloatingIps", "totalFloatingIpsUsed",
			"totalSecurityGroupsUsed"}), absolute("2.35"))
		c.fails(403, "forbidden", "limits:other_project", c.do("GET", "/v2.1/limits?tenant_id=p1", "p2", "", ""))
		require.Equal(t, 1.0, c.do("GET", "/v2.1/limits?tenant_id=p1", "admin", "", "").at("limits", "absolute", "totalInstancesUsed"))

		time.Sleep(6 * time.Minute) // of the bubble's time
		var mine *usage.TenantUsage
		require.NoError(t, usage.SingleTenant(c.client("p1", ""), "p1", nil).EachPage(ctx, func(_ context.Context, p pagination.Page) (bool, error) {
			mine, err = usage.ExtractSingleTenant(p)
			return false, err
		}))
		require.Len(t, mine.ServerUsages, 1)
		require.Equal(t, id, mine.ServerUsages[0].InstanceID)
		require.InDelta(t, 0.1, mine.TotalHours, 0.001)
		require.InDelta(t, 6.4, mine.TotalMemoryMBUsage, 0.1)
		u, err := usage.AllTenants(admin, usage.AllTenantsOpts{Detailed: true}).AllPages(ctx)
		require.NoError(t, err)
		all, err := usage.ExtractAllTenants(u)
		require.NoError(t, err)
		require.Len(t, all, 1)
		require.Empty(t, c.do("GET", "/v2.1/os-simple-tenant-usage/p2", "p2", "", "").at("tenant_usage"))
		c.fails(400, "badRequest", "Invalid start time. The start time cannot occur after the end time.", c.do("GET", "/v2.1/os-simple-tenant-usage/p1?start=2030-01-01T00:00:00&end=2020-01-01T00:00:00", "p1", "", ""))
	})
}
