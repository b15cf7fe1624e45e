package api_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/compute"
	"github.com/nacre-cloud/nacre/compute/internal/computetest"
)

// What each microversion added to a server, for everybody and for administrators
// (nova/api/openstack/compute/views/servers.py).
var serverFields = []struct {
	version     string
	all, admins []string
}{
	{"2.1", []string{"OS-DCF:diskConfig", "OS-EXT-AZ:availability_zone", "OS-EXT-STS:power_state", "OS-EXT-STS:task_state", "OS-EXT-STS:vm_state", "OS-SRV-USG:launched_at",
		"OS-SRV-USG:terminated_at", "accessIPv4", "accessIPv6", "addresses", "config_drive", "created", "flavor", "hostId", "id", "image", "key_name", "links", "metadata", "name",
		"os-extended-volumes:volumes_attached", "progress", "security_groups", "status", "tenant_id", "updated", "user_id"},
		[]string{"OS-EXT-SRV-ATTR:host", "OS-EXT-SRV-ATTR:hypervisor_hostname", "OS-EXT-SRV-ATTR:instance_name"}},
	{"2.3", nil, []string{"OS-EXT-SRV-ATTR:hostname", "OS-EXT-SRV-ATTR:kernel_id", "OS-EXT-SRV-ATTR:launch_index", "OS-EXT-SRV-ATTR:ramdisk_id", "OS-EXT-SRV-ATTR:reservation_id",
		"OS-EXT-SRV-ATTR:root_device_name", "OS-EXT-SRV-ATTR:user_data"}},
	{"2.9", []string{"locked"}, nil},
	{"2.16", nil, []string{"host_status"}},
	{"2.19", []string{"description"}, nil},
	{"2.26", []string{"tags"}, nil},
	{"2.47", nil, nil},
	{"2.63", []string{"trusted_image_certificates"}, nil},
	{"2.71", []string{"server_groups"}, nil},
	{"2.73", []string{"locked_reason"}, nil},
	{"2.90", []string{"OS-EXT-SRV-ATTR:hostname"}, nil},
	{"2.96", []string{"pinned_availability_zone"}, nil},
}

func TestServerViewByVersion(t *testing.T) {
	each(t, []string{"h1"}, func(t *testing.T, c *cloud) {
		id := c.active("p1", c.Flavor(), 1)[0]
		var users, admins []string
		before := ""
		for _, f := range serverFields {
			if before != "" {
				// The version just before has what the one before that had.
				a := c.do("GET", "/v2.1/servers/"+id, "p1", minor(f.version, -1), "")
				require.Equal(t, users, keysOf(a.at("server")), "before "+f.version)
				a = c.do("GET", "/v2.1/servers/"+id, "admin", minor(f.version, -1), "")
				require.Equal(t, admins, keysOf(a.at("server")), "before "+f.version)
			}
			users = sortedUnion(users, f.all)
			admins = sortedUnion(admins, f.all, f.admins)
			a := c.do("GET", "/v2.1/servers/"+id, "p1", f.version, "")
			require.Equal(t, 200, a.code, a.raw)
			require.Equal(t, users, keysOf(a.at("server")), f.version)
			a = c.do("GET", "/v2.1/servers/"+id, "admin", f.version, "")
			require.Equal(t, admins, keysOf(a.at("server")), f.version)
			// Lists in detail have the same, but for the groups.
			a = c.do("GET", "/v2.1/servers/detail", "p1", f.version, "")
			list := a.at("servers").([]any)
			require.Len(t, list, 1)
			require.Equal(t, slices.DeleteFunc(slices.Clone(users), func(k string) bool { return k == "server_groups" }), keysOf(list[0]), f.version)
			a = c.do("GET", "/v2.1/servers", "p1", f.version, "")
			require.Equal(t, []string{"id", "links", "name"}, keysOf(a.at("servers").([]any)[0]), f.version)
			before = f.version
		}
	})
}

func TestServerUpdateViewByVersion(t *testing.T) {
	each(t, []string{"h1"}, func(t *testing.T, c *cloud) {
		id := c.active("p1", c.Flavor(), 1)[0]
		put := func(version string) []string {
			return keysOf(c.do("PUT", "/v2.1/servers/"+id, "p1", version, `{"server": {"name": "new"}}`).at("server"))
		}
		require.Equal(t, []string{"OS-DCF:diskConfig", "accessIPv4", "accessIPv6", "addresses", "created", "flavor", "hostId", "id", "image", "links", "metadata", "name", "progress",
			"status", "tenant_id", "updated", "user_id"}, put("2.1"))
		require.Contains(t, put("2.74"), "locked_reason")
		require.NotContains(t, put("2.74"), "OS-EXT-STS:vm_state")
		shown := keysOf(c.do("GET", "/v2.1/servers/"+id, "p1", "2.75", "").at("server"))
		require.Equal(t, shown, put("2.75"), "from 2.75 it is as the show is")
	})
}

func TestServerViewValues(t *testing.T) {
	each(t, []string{"h1"}, func(t *testing.T, c *cloud) {
		flavor, err := c.Compute.CreateFlavor(computetest.Admin(), compute.Flavor{Name: "tiny", RAM: 128, VCPUs: 2, Disk: 3, Ephemeral: 1, Swap: 4, Public: true, ExtraSpecs: map[string]string{"hw:x": "y"}})
		require.NoError(t, err)
		sv := c.Boot(computetest.User("p1"), flavor.ID, 1, func(n *compute.NewServer) {
			n.Name, n.Description, n.ConfigDrive, n.Metadata, n.Tags, n.UserData = "My VM", "what", true, map[string]string{"a": "b"}, []string{"x"}, "aGk="
		})[0]
		c.Reach(sv.ID, "ACTIVE")
		old := c.do("GET", "/v2.1/servers/"+sv.ID, "p1", "", "").at("server").(map[string]any)
		require.Equal(t, map[string]any{"id": flavor.ID, "links": []any{map[string]any{"rel": "bookmark", "href": base + "/flavors/" + flavor.ID}}}, old["flavor"])
		require.Equal(t, map[string]any{"id": computetest.ImageID, "links": []any{map[string]any{"rel": "bookmark", "href": base + "/images/" + computetest.ImageID}}}, old["image"])
		require.Equal(t, []any{map[string]any{"rel": "self", "href": base + "/v2.1/servers/" + sv.ID}, map[string]any{"rel": "bookmark", "href": base + "/servers/" + sv.ID}}, old["links"])
		require.Equal(t, "True", old["config_drive"])
		require.Equal(t, "AUTO", old["OS-DCF:diskConfig"])
		require.Equal(t, "nova", old["OS-EXT-AZ:availability_zone"])
		require.Equal(t, "active", old["OS-EXT-STS:vm_state"])
		require.Equal(t, 1.0, old["OS-EXT-STS:power_state"])
		require.Nil(t, old["OS-EXT-STS:task_state"])
		require.Nil(t, old["key_name"])
		require.Equal(t, 0.0, old["progress"])
		require.Equal(t, map[string]any{"a": "b"}, old["metadata"])
		require.Equal(t, []any{map[string]any{"name": "default"}}, old["security_groups"])
		require.Len(t, old["hostId"], 56)
		require.Regexp(t, `^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$`, old["created"])
		require.Regexp(t, `^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}$`, old["OS-SRV-USG:launched_at"])
		nic := old["addresses"].(map[string]any)["net"].([]any)[0].(map[string]any)
		require.Equal(t, "fixed", nic["OS-EXT-IPS:type"])
		require.Equal(t, 4.0, nic["version"])
		require.Equal(t, "fa:16:3e:00:00:01", nic["OS-EXT-IPS-MAC:mac_addr"])

		now := c.do("GET", "/v2.1/servers/"+sv.ID, "admin", "2.96", "").at("server").(map[string]any)
		require.Equal(t, map[string]any{"vcpus": 2.0, "ram": 128.0, "disk": 3.0, "ephemeral": 1.0, "swap": 4.0, "original_name": "tiny", "extra_specs": map[string]any{"hw:x": "y"}}, now["flavor"])
		require.Equal(t, "what", now["description"])
		require.Equal(t, []any{"x"}, now["tags"])
		require.Equal(t, false, now["locked"])
		require.Nil(t, now["locked_reason"])
		require.Equal(t, "my-vm", now["OS-EXT-SRV-ATTR:hostname"])
		require.Equal(t, "h1", now["OS-EXT-SRV-ATTR:host"])
		require.Equal(t, "aGk=", now["OS-EXT-SRV-ATTR:user_data"])
		require.Equal(t, "/dev/vda", now["OS-EXT-SRV-ATTR:root_device_name"])
		require.Regexp(t, "^r-[0-9a-z]{8}$", now["OS-EXT-SRV-ATTR:reservation_id"])
		require.Equal(t, "UP", now["host_status"])
		require.Nil(t, now["pinned_availability_zone"])
		require.Equal(t, []any{}, now["server_groups"])
	})
}

// minor moves a microversion.
func minor(version string, by int) string {
	n := 0
	for _, d := range version[2:] {
		n = n*10 + int(d-'0')
	}
	n += by
	out := ""
	for ; n > 0; n /= 10 {
		out = string(rune('0'+n%10)) + out
	}
	return "2." + out
}

func sortedUnion(lists ...[]string) []string {
	var out []string
	for _, l := range lists {
		out = append(out, l...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}
