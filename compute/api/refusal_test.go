package api_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/compute/internal/computetest"
)

func TestServerRefusals(t *testing.T) {
	each(t, []string{"h1"}, func(t *testing.T, c *cloud) {
		flavor := c.Flavor()
		const image, net = computetest.ImageID, computetest.NetworkID
		with := func(more string) string {
			return fmt.Sprintf(`{"server": {"name": "x", "flavorRef": %q, "imageRef": %q%s}}`, flavor, image, more)
		}
		nets := `, "networks": "auto"`
		for _, tc := range []struct{ version, body, message string }{
			{"", ``, "'server' is a required property"},
			{"", `{`, "Malformed request body"},
			{"", `[]`, "is not of type 'object'"},
			{"", `{"server": {}}`, "Invalid input for field/attribute server. Value: {}. 'name' is a required property"},
			{"", `{"server": {"name": "x"}}`, "'flavorRef' is a required property"},
			{"", `{"server": {"name": 1, "flavorRef": "1"}}`, "Invalid input for field/attribute name. Value: 1. 1 is not of type 'string'"},
			{"", `{"server": {"name": "", "flavorRef": "1"}}`, "'' is too short"},
			{"", `{"server": {"name": "` + strings.Repeat("x", 256) + `", "flavorRef": "1"}}`, "is too long"},
			{"", with(`, "nonsense": 1`), "Additional properties are not allowed ('nonsense' was unexpected)"},
			{"2.18", with(`, "description": "d"`), "Additional properties are not allowed ('description' was unexpected)"},
			{"2.51", with(nets + `, "tags": ["a"]`), "Additional properties are not allowed ('tags' was unexpected)"},
			{"2.89", with(nets + `, "hostname": "h"`), "Additional properties are not allowed ('hostname' was unexpected)"},
			{"2.90", with(nets + `, "hostname": "a.b"`), "'a.b' does not match"},
			{"2.94", with(nets + `, "hostname": "a b"`), "'a b' does not match"},
			{"2.90", with(nets + `, "hostname": "ab", "max_count": 2`), "Unable to allocate a single hostname to multiple instances"},
			{"", with(`, "min_count": 1001`), "At most 1000 servers can be made at once."},
			{"2.37", with(``), "'networks' is a required property"},
			{"2.36", with(nets), "'auto' is not of type 'array'"},
			{"2.37", with(`, "networks": "some"`), "'some'"},
			{"", with(`, "networks": [{"uuid": "x"}]`), "Bad networks format: network uuid is not in proper format (x)"},
			{"2.37", with(`, "networks": [{"uuid": "x"}]`), "'x' is not a 'uuid'"},
			{"", with(`, "networks": [{}]`), "Bad network format: missing 'uuid'"},
			{"", with(`, "networks": [{"uuid": "` + net + `", "fixed_ip": "x"}]`), "fixed_ip"},
			{"", with(`, "networks": [{"port": "` + net + `", "fixed_ip": "10.0.0.1"}]`), "Specified Fixed IP '10.0.0.1' cannot be used with port '" + net + "'"},
			{"", with(`, "networks": [{"port": "` + net + `"}, {"port": "` + net + `"}]`), "was specified twice: you cannot attach a port multiple times."},
			{"2.31", with(`, "networks": [{"uuid": "` + net + `", "tag": "t"}]`), "'tag' was unexpected"},
			{"2.41", with(`, "networks": [{"uuid": "` + net + `", "tag": "t"}]`), "'tag' was unexpected"},
			{"", with(`, "min_count": 2, "max_count": 1`), "min_count must be <= max_count"},
			{"", with(`, "min_count": 0`), "0 is less than the minimum of 1"},
			{"", with(`, "key_name": "none"`), "Invalid key_name provided."},
			{"", with(`, "user_data": "?"`), "User data needs to be valid base 64."},
			{"", with(`, "availability_zone": "mars"`), "The requested availability zone is not available"},
			{"", with(`, "OS-DCF:diskConfig": "MAYBE"`), "'MAYBE' is not one of ['AUTO', 'MANUAL']"},
			{"", with(`, "accessIPv4": "::1"`), "Invalid input for field/attribute accessIPv4. Value: ::1. '::1' is not a 'ipv4'"},
			{"", with(`, "config_drive": "maybe"`), "'maybe' is not of type 'boolean'"},
			{"", with(`, "metadata": {"a": 1}`), "1 is not of type 'string'"},
			{"", with(`, "metadata": {"": "x"}`), "'' does not match any of the regexes"},
			{"", with(`, "metadata": {"` + strings.Repeat("k", 256) + `": "x"}`), "Metadata property key greater than 255 characters"},
			{"", with(`, "metadata": {"k": "` + strings.Repeat("v", 256) + `"}`), "Metadata property value greater than 255 characters"},
			{"", with(`, "block_device_mapping": [{"volume_id": "` + net + `"}]`), "Block Device Mapping is Invalid"},
			{"", with(`, "block_device_mapping_v2": [{"source_type": "volume", "destination_type": "volume", "uuid": "` + net + `", "boot_index": 0}]`), "Block Device Mapping is Invalid"},
			{"", `{"server": {"name": "x", "flavorRef": "none", "imageRef": "` + image + `"}}`, "Flavor none could not be found."},
			{"", `{"server": {"name": "x", "flavorRef": "` + flavor + `", "imageRef": "` + net + `"}}`, "Can not find requested image"},
			{"", `{"server": {"name": "x", "flavorRef": "` + flavor + `", "imageRef": "cirros"}}`, "Invalid imageRef provided."},
			{"", `{"server": {"name": "x", "flavorRef": "` + flavor + `"}}`, "Invalid image reference"},
			{"", `{"server": {"name": "x", "flavorRef": "` + flavor + `", "imageRef": "` + image + `"}, "os:scheduler_hints": {"group": "x"}}`, "Invalid input for field/attribute group"},
			{"", `{"server": {"name": "x", "flavorRef": "` + flavor + `", "imageRef": "` + image + `"}, "os:scheduler_hints": {"group": "` + net + `"}}`, "Instance group " + net + " could not be found."},
		} {
			a := c.do("POST", "/v2.1/servers", "p1", tc.version, tc.body)
			require.Equal(t, 400, a.code, tc.body+": "+a.raw)
			c.fails(400, "badRequest", tc.message, a)
		}
		c.fails(403, "forbidden", "forced_host", c.do("POST", "/v2.1/servers", "p1", "", with(`, "availability_zone": "nova:h1"`)))
		c.fails(403, "forbidden", "requested_destination", c.do("POST", "/v2.1/servers", "p1", "2.74", with(nets+`, "host": "h1"`)))
		c.fails(400, "badRequest", "mutually exclusive", c.do("POST", "/v2.1/servers", "admin", "2.74", with(nets+`, "host": "h1", "availability_zone": "nova:h1"`)))
		c.fails(403, "forbidden", "Quota exceeded for instances: Requested 11, but already used 0 of 10 instances", c.do("POST", "/v2.1/servers", "p1", "", with(`, "min_count": 11`)))
		c.fails(403, "forbidden", "servers:create", c.do("POST", "/v2.1/servers", "reader/p1", "", with("")))
		huge := c.do("POST", "/v2.1/servers", "p1", "", `{"server": {"name": "`+strings.Repeat("x", 2<<20)+`"}}`)
		require.Equal(t, 413, huge.code, huge.raw)
		list := c.do("GET", "/v2.1/servers", "p1", "", "")
		require.Empty(t, list.at("servers"), "nothing was made")
		c.Clean()

		// Actions.
		id := c.active("p1", flavor, 1)[0]
		path := "/v2.1/servers/" + id + "/action"
		for body, message := range map[string]string{
			``:                              "Malformed request body",
			`{}`:                            "There is no such action: ",
			`{"os-dance": null}`:            "There is no such action: os-dance",
			`{"reboot": {}}`:                "'type' is a required property",
			`{"reboot": {"type": "MAYBE"}}`: "'MAYBE' is not one of",
			`{"os-getConsoleOutput": {"length": -2}}`: "less than the minimum of -1",
		} {
			c.fails(400, "badRequest", message, c.do("POST", path, "p1", "", body))
		}
		c.fails(409, "conflictingRequest", "Cannot 'start' instance "+id+" while it is in vm_state active", c.do("POST", path, "p1", "", `{"os-start": null}`))

		c.fails(400, "badRequest", "Attaching interfaces is not supported for instance "+id, c.do("POST", "/v2.1/servers/"+id+"/os-interface", "p1", "", `{"interfaceAttachment": {}}`))
		c.fails(404, "itemNotFound", "Port id "+net+" could not be found.", c.do("DELETE", "/v2.1/servers/"+id+"/os-interface/"+net, "p1", "", ""))

		// Another project's server is not there, whatever is asked of it.
		for _, ask := range []struct{ method, path, body string }{
			{"GET", "", ""}, {"PUT", "", `{"server": {"name": "y"}}`}, {"DELETE", "", ""}, {"POST", "/action", `{"os-stop": null}`}, {"POST", "/action", `{"lock": null}`},
			{"POST", "/action", `{"os-getConsoleOutput": {}}`}, {"GET", "/metadata", ""}, {"POST", "/metadata", `{"metadata": {"a": "b"}}`}, {"GET", "/ips", ""}, {"GET", "/os-interface", ""},
			{"GET", "/os-instance-actions", ""}, {"GET", "/os-security-groups", ""},
		} {
			c.fails(404, "itemNotFound", "could not be found", c.do(ask.method, "/v2.1/servers/"+id+ask.path, "p2", "", ask.body))
		}
		c.fails(404, "itemNotFound", "could not be found", c.do("PUT", "/v2.1/servers/"+id+"/tags/x", "p2", "2.26", ""))
		// A reader reads, and changes nothing.
		require.Equal(t, 200, c.do("GET", "/v2.1/servers/"+id, "reader/p1", "", "").code)
		c.fails(403, "forbidden", "servers:delete", c.do("DELETE", "/v2.1/servers/"+id, "reader/p1", "", ""))
		c.fails(403, "forbidden", "servers:stop", c.do("POST", path, "reader/p1", "", `{"os-stop": null}`))
		require.Equal(t, 200, c.do("GET", "/v2.1/servers/"+id, "admin", "", "").code)
		c.Clean()
	})
}

func TestVersionsAndHeaders(t *testing.T) {
	each(t, []string{"h1"}, func(t *testing.T, c *cloud) {
		root := c.do("GET", "/", "", "", "")
		require.Equal(t, 200, root.code)
		v := root.at("versions").([]any)[0].(map[string]any)
		require.Equal(t, "2.1", v["min_version"])
		require.Equal(t, "2.96", v["version"])
		require.Equal(t, "CURRENT", v["status"])
		one := c.do("GET", "/v2.1/", "", "", "")
		require.Equal(t, "v2.1", one.at("version", "id"))

		a := c.do("GET", "/v2.1/servers", "p1", "", "")
		require.Equal(t, "compute 2.1", a.header.Get("OpenStack-API-Version"))
		require.Equal(t, "2.1", a.header.Get("X-OpenStack-Nova-API-Version"))
		require.Equal(t, []string{"OpenStack-API-Version", "X-OpenStack-Nova-API-Version"}, a.header.Values("Vary"))
		require.Regexp(t, "^req-[0-9a-f-]{36}$", a.header.Get("X-Openstack-Request-Id"))
		require.Equal(t, a.header.Get("X-Openstack-Request-Id"), a.header.Get("X-Compute-Request-Id"))
		a = c.do("GET", "/v2.1/servers", "p1", "latest", "")
		require.Equal(t, "compute 2.96", a.header.Get("OpenStack-API-Version"))
		a = c.do("GET", "/v2.1/servers", "p1", "", "", "X-OpenStack-Nova-API-Version", "2.9")
		require.Equal(t, "compute 2.9", a.header.Get("OpenStack-API-Version"), "the older header")
		a = c.do("GET", "/v2.1/servers", "p1", "2.26", "", "X-OpenStack-Nova-API-Version", "2.9")
		require.Equal(t, "compute 2.26", a.header.Get("OpenStack-API-Version"), "the newer wins")
		c.fails(406, "computeFault", "Version 2.97 is not supported by the API. Minimum is 2.1 and maximum is 2.96.", c.do("GET", "/v2.1/servers", "p1", "2.97", ""))
		c.fails(400, "badRequest", "API Version String 2.x is of invalid format. Must be of format MajorNum.MinorNum.", c.do("GET", "/v2.1/servers", "p1", "2.x", ""))

		a = c.do("GET", "/v2.1/servers", "", "", "")
		require.Equal(t, 401, a.code)
		require.Contains(t, a.header.Get("Www-Authenticate"), "Keystone uri=")
		require.Equal(t, 401, c.do("GET", "/v2.1/servers", "wrong", "", "").code)
		require.Equal(t, 404, c.do("GET", "/v2.1/nothing", "p1", "", "").code)
		c.fails(404, "itemNotFound", "The resource could not be found.", c.do("PATCH", "/v2.1/servers", "p1", "", ""))
		c.fails(404, "itemNotFound", "The resource could not be found.", c.do("GET", "/v2.1/servers/", "p1", "", ""))
		require.Equal(t, 200, c.do("GET", "/v2.1/", "", "", "").code)
		require.Equal(t, 200, c.do("GET", "/v2.1/0123456789abcdef0123456789abcdef/servers", "p1", "", "").code, "the project in the path is as before 2.1")

		// Microversions out of whose range an operation is are its 404.
		for _, tc := range []struct{ version, path string }{{"2.88", "/os-hypervisors/statistics"}, {"2.53", "/os-hypervisors/h1/search"}, {"2.25", "/servers/x/tags"}} {
			c.fails(404, "itemNotFound", "The resource could not be found.", c.do("GET", "/v2.1"+tc.path, "admin", tc.version, ""))
		}
	})
}
