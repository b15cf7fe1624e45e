package metadata_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/compute/metadata"
)

var secret = []byte("s3cret")

const (
	uuid    = "11111111-2222-4333-8444-555555555555"
	project = "5f705771ccfb4f2fb5b1ed1a33ea1d5d"
	pubkey  = "ssh-ed25519 AAAAC3Nz me@here\n"
)

func sample() *metadata.Instance {
	return &metadata.Instance{
		UUID: uuid, Name: "Web <1>", Hostname: "web-1", Domain: "novalocal", ProjectID: project, AvailabilityZone: "nova",
		LaunchIndex: 1, ReservationID: "r-abcdefgh", Flavor: "m1.tiny", EC2ID: "i-0000002a", AMIID: "ami-00000001",
		Keys: []metadata.Key{{Name: "mine", Type: "ssh", Data: pubkey}}, Meta: map[string]string{"role": "web"},
		UserData: []byte("#!/bin/sh\necho hi\n"), AdminPass: "topsecret", SecurityGroups: []string{"default", "web"},
		PublicIPv4s: []netip.Addr{netip.MustParseAddr("172.24.4.10")},
		Links: []metadata.Link{{
			ID: "tapaaaaaaaa-aa", PortID: "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa", MAC: "fa:16:3e:00:00:05", Type: "bridge", MTU: 1450, NetworkID: "net-1",
			Subnets: []metadata.Subnet{
				{CIDR: netip.MustParsePrefix("10.0.0.0/24"), Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.5")}, DHCP: true},
				{CIDR: netip.MustParsePrefix("fd00::/64"), Addresses: []netip.Addr{netip.MustParseAddr("fd00::5")}, AddressMode: "slaac",
					Gateway: netip.MustParseAddr("fd00::1"), DNS: []netip.Addr{netip.MustParseAddr("fd00::53")}},
			},
		}, {
			ID: "tapbbbbbbbb-bb", PortID: "bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb", MAC: "fa:16:3e:00:00:06", Type: "bridge", MTU: 1400, NetworkID: "net-2",
			Subnets: []metadata.Subnet{{CIDR: netip.MustParsePrefix("10.1.0.0/20"), Addresses: []netip.Addr{netip.MustParseAddr("10.1.0.5")},
				Gateway: netip.MustParseAddr("10.1.0.1"), DNS: []netip.Addr{netip.MustParseAddr("10.1.0.53")},
				Routes: []metadata.Route{{Destination: netip.MustParsePrefix("192.168.7.0/25"), NextHop: netip.MustParseAddr("10.1.0.9")}}}},
		}},
		Devices:  []metadata.Device{{Type: "nic", Bus: "pci", Address: "0000:00:02.0", MAC: "fa:16:3e:00:00:05", Tags: []string{"front"}}},
		Injected: []metadata.InjectedFile{{Path: "/etc/motd", Content: []byte("hello")}},
	}
}

// service answers for one instance and gives what was posted as its password.
func service(in *metadata.Instance) *metadata.Handler {
	return &metadata.Handler{
		Secret: secret,
		Lookup: func(_ context.Context, id, _ string) (*metadata.Instance, error) {
			switch id {
			case in.UUID:
				return in, nil
			case "broken":
				return nil, io.ErrUnexpectedEOF
			case "nil":
				return nil, nil
			}
			return nil, nacre.Errorf(nacre.NotFound, "", "no")
		},
		SetPassword: func(_ context.Context, _, p string) error { in.Password = p; return nil },
		Now:         func() time.Time { return time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC) },
	}
}

func headers(id, tenant string) http.Header {
	h := http.Header{}
	h.Set("X-Instance-ID", id)
	h.Set("X-Tenant-ID", tenant)
	h.Set("X-Instance-ID-Signature", metadata.Sign(secret, id))
	return h
}

func ask(h http.Handler, method, path, body string, header http.Header) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header = header
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestPaths(t *testing.T) {
	h := service(sample())
	for path, want := range map[string]string{
		"/":                          "1.0\n2007-01-19\n2007-03-01\n2007-08-29\n2007-10-10\n2007-12-15\n2008-02-01\n2008-09-01\n2009-04-04\nlatest",
		"/ec2":                       "1.0\n2007-01-19\n2007-03-01\n2007-08-29\n2007-10-10\n2007-12-15\n2008-02-01\n2008-09-01\n2009-04-04\nlatest",
		"/openstack":                 "2012-08-10\n2013-04-04\n2013-10-17\n2015-10-15\n2016-06-30\n2016-10-06\n2017-02-22\n2018-08-27\n2020-10-14\nlatest",
		"/openstack/":                "2012-08-10\n2013-04-04\n2013-10-17\n2015-10-15\n2016-06-30\n2016-10-06\n2017-02-22\n2018-08-27\n2020-10-14\nlatest",
		"/openstack/latest":          "meta_data.json\nuser_data\npassword\nvendor_data.json\nnetwork_data.json\nvendor_data2.json",
		"/openstack/latest/":         "meta_data.json\nuser_data\npassword\nvendor_data.json\nnetwork_data.json\nvendor_data2.json",
		"/openstack/2012-08-10":      "meta_data.json\nuser_data",
		"/openstack/2013-04-04/":     "meta_data.json\nuser_data\npassword",
		"/openstack/2015-10-15/":     "meta_data.json\nuser_data\npassword\nvendor_data.json\nnetwork_data.json",
		"/openstack/2025-04-04":      "meta_data.json\nuser_data\npassword\nvendor_data.json\nnetwork_data.json\nvendor_data2.json",
		"/openstack/latest/password": "",
		"/latest/user-data":          "#!/bin/sh\necho hi\n",
		"/latest":                    "meta-data/\nuser-data",
		"/latest/meta-data": "ami-id\nami-launch-index\nami-manifest-path\nblock-device-mapping/\nhostname\ninstance-action\ninstance-id\ninstance-type\n" +
			"local-hostname\nlocal-ipv4\nplacement/\npublic-hostname\npublic-ipv4\npublic-keys/\nreservation-id\nsecurity-groups",
		"/1.0/meta-data/":                                 "ami-id\nami-launch-index\nami-manifest-path\nhostname\ninstance-id\nlocal-ipv4\npublic-keys/\nreservation-id\nsecurity-groups",
		"/latest/meta-data/public-keys/":                  "0=mine",
		"/latest/meta-data/public-keys/0":                 "openssh-key",
		"/2009-04-04/meta-data/public-keys/0/openssh-key": pubkey,
		"/latest/meta-data/instance-id":                   "i-0000002a",
		"/latest/meta-data/ami-launch-index":              "1",
		"/latest/meta-data/local-ipv4":                    "10.0.0.5",
		"/latest/meta-data/public-ipv4":                   "172.24.4.10",
		"/latest/meta-data/security-groups":               "default\nweb",
		"/latest/meta-data/block-device-mapping/":         "ami\nroot",
		"/latest/meta-data/block-device-mapping/root":     "/dev/vda",
		"/latest/meta-data/placement/availability-zone/":  "nova",
		"/ec2/latest/meta-data/hostname":                  "web-1.novalocal",
		"/latest//meta-data/./hostname":                   "web-1.novalocal",
	} {
		w := ask(h, "GET", path, "", headers(uuid, project))
		require.Equal(t, 200, w.Code, path)
		require.Equal(t, want, w.Body.String(), path)
		require.Equal(t, "text/plain; charset=UTF-8", w.Header().Get("Content-Type"), path)
	}
	for _, path := range []string{"/openstack/2011-01-01", "/openstack/latest/nope", "/openstack/2012-08-10/password", "/openstack/2013-10-17/vendor_data2.json",
		"/openstack/2013-04-04/vendor_data.json", "/latest/meta-data/nope", "/latest/meta-data/hostname/x", "/latest/meta-data/public-keys/1", "/latest/meta-data/public-keys/0/_name",
		"/openstack/content/0000", "/openstack/content", "/3000-01-01/meta-data", "/favicon.ico", "/openstack/latest/meta_data.json/x", "/1.0/meta-data/instance-type"} {
		require.Equal(t, 404, ask(h, "GET", path, "", headers(uuid, project)).Code, path)
	}
	bare := sample()
	bare.UserData, bare.Keys = nil, nil
	for _, path := range []string{"/latest/user-data", "/openstack/latest/user_data", "/latest/meta-data/public-keys/"} {
		require.Equal(t, 404, ask(service(bare), "GET", path, "", headers(uuid, project)).Code, path)
	}
}

func TestDocuments(t *testing.T) {
	h := service(sample())
	get := func(path string) (map[string]any, *httptest.ResponseRecorder) {
		w := ask(h, "GET", path, "", headers(uuid, project))
		require.Equal(t, 200, w.Code, path)
		var m map[string]any
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &m))
		return m, w
	}
	m, w := get("/openstack/latest/meta_data.json")
	require.Equal(t, "application/json", w.Header().Get("Content-Type"))
	require.Contains(t, w.Body.String(), `"name": "Web <1>"`, "no HTML escapes, Python's spacing")
	require.Len(t, m["random_seed"], 684, "512 bytes in base64")
	again, _ := get("/openstack/latest/meta_data.json")
	require.NotEqual(t, m["random_seed"], again["random_seed"])
	delete(m, "random_seed")
	require.Equal(t, map[string]any{
		"uuid": uuid, "meta": map[string]any{"role": "web"}, "public_keys": map[string]any{"mine": pubkey},
		"keys":     []any{map[string]any{"name": "mine", "type": "ssh", "data": pubkey}},
		"hostname": "web-1.novalocal", "name": "Web <1>", "launch_index": 1.0, "availability_zone": "nova", "project_id": project,
		"devices": []any{map[string]any{"type": "nic", "bus": "pci", "address": "0000:00:02.0", "mac": "fa:16:3e:00:00:05",
			"vf_trusted": false, "tags": []any{"front"}}},
		"dedicated_cpus": []any{},
	}, m, "neither the admin password nor injected files are given over the network")
	m, _ = get("/openstack/2012-08-10/meta_data.json")
	for _, later := range []string{"random_seed", "project_id", "devices", "dedicated_cpus"} {
		require.NotContains(t, m, later)
	}
	m, w = get("/openstack/latest/network_data.json")
	require.Contains(t, w.Body.String(), `"mtu": null`)
	require.Equal(t, map[string]any{
		"links": []any{
			map[string]any{"id": "tapaaaaaaaa-aa", "vif_id": "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa", "type": "bridge", "mtu": nil, "ethernet_mac_address": "fa:16:3e:00:00:05"},
			map[string]any{"id": "tapbbbbbbbb-bb", "vif_id": "bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb", "type": "bridge", "mtu": 1400.0, "ethernet_mac_address": "fa:16:3e:00:00:06"},
		},
		"networks": []any{
			map[string]any{"id": "network0", "type": "ipv4_dhcp", "link": "tapaaaaaaaa-aa", "network_id": "net-1"},
			map[string]any{"id": "network1", "type": "ipv6_slaac", "link": "tapaaaaaaaa-aa", "network_id": "net-1", "ip_address": "fd00::5",
				"netmask": "ffff:ffff:ffff:ffff::", "routes": []any{map[string]any{"network": "::", "netmask": "::", "gateway": "fd00::1"}},
				"services": []any{map[string]any{"type": "dns", "address": "fd00::53"}}},
			map[string]any{"id": "network2", "type": "ipv4", "link": "tapbbbbbbbb-bb", "network_id": "net-2", "ip_address": "10.1.0.5", "netmask": "255.255.240.0",
				"routes": []any{map[string]any{"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": "10.1.0.1"},
					map[string]any{"network": "192.168.7.0", "netmask": "255.255.255.128", "gateway": "10.1.0.9"}},
				"services": []any{map[string]any{"type": "dns", "address": "10.1.0.53"}}},
		},
		"services": []any{map[string]any{"type": "dns", "address": "fd00::53"}, map[string]any{"type": "dns", "address": "10.1.0.53"}},
	}, m)
	m, _ = get("/openstack/latest/vendor_data2.json")
	require.Equal(t, map[string]any{"static": map[string]any{}}, m)
}

func TestWhoMayAsk(t *testing.T) {
	h := service(sample())
	require.Equal(t, 200, ask(h, "GET", "/", "", http.Header{}).Code)
	good := headers(uuid, project)
	for name, want := range map[string]string{
		"X-Instance-ID": "X-Instance-ID header is missing", "X-Instance-ID-Signature": "X-Instance-ID-Signature header is missing", "X-Tenant-ID": "X-Tenant-ID header is missing",
	} {
		less := good.Clone()
		less.Del(name)
		w := ask(h, "GET", "/openstack", "", less)
		require.Equal(t, 400, w.Code)
		require.Contains(t, w.Body.String(), want)
		more := good.Clone()
		more.Add(name, "x")
		require.Equal(t, 400, ask(h, "GET", "/openstack", "", more).Code)
	}
	forged := headers(uuid, project)
	forged.Set("X-Instance-ID-Signature", metadata.Sign([]byte("guess"), uuid))
	w := ask(h, "GET", "/openstack", "", forged)
	require.Equal(t, 403, w.Code)
	require.Contains(t, w.Body.String(), "Invalid proxy request signature.")
	require.Equal(t, 404, ask(h, "GET", "/openstack", "", headers(uuid, "other")).Code, "another project's")
	require.Equal(t, 404, ask(h, "GET", "/openstack", "", headers("nobody", project)).Code)
	require.Equal(t, 404, ask(h, "GET", "/openstack", "", headers("nil", project)).Code)
	w = ask(h, "GET", "/openstack", "", headers("broken", project))
	require.Equal(t, 500, w.Code)
	require.NotContains(t, w.Body.String(), "EOF", "causes are not shown")

	h.Secret = nil
	open := headers(uuid, project)
	open.Set("X-Instance-ID-Signature", metadata.Sign(nil, uuid))
	require.Equal(t, 403, ask(h, "GET", "/openstack", "", open).Code, "no secret is no access")
}

func TestPassword(t *testing.T) {
	in := sample()
	h := service(in)
	const path = "/openstack/latest/password"
	require.Equal(t, 400, ask(h, "POST", path, strings.Repeat("x", 1021), headers(uuid, project)).Code)
	require.Empty(t, in.Password)
	require.Equal(t, 400, ask(h, "PUT", path, "x", headers(uuid, project)).Code)
	require.Equal(t, 200, ask(h, "POST", path, "encrypted", headers(uuid, project)).Code)
	require.Equal(t, "encrypted", ask(h, "GET", path, "", headers(uuid, project)).Body.String())
	require.Equal(t, 409, ask(h, "POST", path, "again", headers(uuid, project)).Code)
	require.Equal(t, "encrypted", in.Password)
}

func TestFiles(t *testing.T) {
	files, err := metadata.Files(sample())
	require.NoError(t, err)
	require.Equal(t, "hello", string(files["openstack/content/0000"]))
	require.Equal(t, "#!/bin/sh\necho hi\n", string(files["openstack/latest/user_data"]))
	require.Equal(t, "#!/bin/sh\necho hi\n", string(files["ec2/latest/user-data"]))
	require.Contains(t, string(files["ec2/2009-04-04/meta-data.json"]), `"public-keys": {"0": {"_name": "0=mine"`)
	var m map[string]any
	require.NoError(t, json.Unmarshal(files["openstack/2020-10-14/meta_data.json"], &m))
	require.Equal(t, "topsecret", m["admin_pass"])
	require.Equal(t, []any{map[string]any{"path": "/etc/motd", "content_path": "/content/0000"}}, m["files"])
	for _, v := range []string{"2012-08-10", "2013-04-04", "2013-10-17", "2015-10-15", "2016-06-30", "2016-10-06", "2017-02-22", "2018-08-27", "2020-10-14", "2025-04-04", "latest"} {
		require.Contains(t, files, "openstack/"+v+"/meta_data.json")
		require.Contains(t, files, "openstack/"+v+"/user_data")
	}
	require.NotContains(t, files, "openstack/2013-10-17/network_data.json")
	require.Contains(t, files, "openstack/2015-10-15/network_data.json")
	require.NotContains(t, files, "openstack/2016-06-30/vendor_data2.json")
	require.Contains(t, files, "openstack/2016-10-06/vendor_data2.json")
	require.NotContains(t, files, "ec2/1.0/meta-data.json")
	require.Len(t, files, 11*2+9+8+6+4+1)

	in := sample()
	in.VendorData = []byte("{")
	_, err = metadata.Files(in)
	require.ErrorIs(t, err, nacre.Invalid)
}
