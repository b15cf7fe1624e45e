package conformance

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/flavors"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/subnets"
	"github.com/stretchr/testify/require"
)

const nothing = "00000000-0000-4000-8000-000000000000"

func badInput(t *testing.T, s *suite) {
	t.Run("Tokens", s.badTokens)
	t.Run("Bodies", s.badBodies)
	t.Run("Servers", s.badServers)
	t.Run("Subnets", s.badSubnets)
}

// send sends a raw request as the user; token empty means none.
func (s *suite) send(t *testing.T, method, url, token, body string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	require.NoError(t, err)
	if token != "" {
		r.Header.Set("X-Auth-Token", token)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	resp, err := s.User.HTTPClient.Do(r)
	require.NoError(t, err)
	defer resp.Body.Close() //nolint:errcheck // read only
	data, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(data)
}

// urls are one list of each service.
func (s *suite) urls() map[string]string {
	return map[string]string{"identity": s.user.identity.ServiceURL("auth", "projects"), "image": s.user.image.ServiceURL("images"),
		"network": s.user.network.ServiceURL("networks"), "compute": s.user.compute.ServiceURL("servers"), "placement": s.admin.placement.ServiceURL("resource_providers")}
}

func (s *suite) badTokens(t *testing.T) {
	for name, url := range s.urls() {
		code, _ := s.send(t, "GET", url, "", "")
		require.Equal(t, 401, code, "%s without a token", name)
		code, _ = s.send(t, "GET", url, "gAAAAABnonsense", "")
		require.Equal(t, 401, code, "%s with a bad token", name)
		code, _ = s.send(t, "GET", url, s.Admin.Token(), "")
		require.Equal(t, 200, code, name)
	}
}

func (s *suite) badBodies(t *testing.T) {
	token := s.User.Token()
	post := func(want int, url, body, what string) {
		t.Helper()
		code, answer := s.send(t, "POST", url, token, body)
		require.Equal(t, want, code, "%s: %s", what, answer)
	}
	u := s.urls()
	post(400, u["compute"], `{"server": `, "half a body")
	post(400, u["compute"], `{"server": {"name": "x", "flavorRef": "1", "imageRef": "`+nothing+`", "surprise": 1}}`, "an unknown field")
	post(400, u["compute"], `{"server": {"name": 7, "flavorRef": "1", "imageRef": "`+nothing+`"}}`, "a name that is a number")
	post(400, u["network"], `{"network": {"name": "x", "surprise": 1}}`, "an unknown attribute")
	post(400, u["network"], `{"network": {"name": "x", "admin_state_up": "perhaps"}}`, "a boolean that is none")
	post(400, u["image"], `{"name": "x", "visibility": "everywhere"}`, "a visibility that is none")
	code, _ := s.send(t, "POST", u["compute"], token, `{"server": {"name": "`+string(bytes.Repeat([]byte("x"), 4<<20))+`"}}`)
	require.Contains(t, []int{400, 413}, code, "four megabytes of a name")
	code, _ = s.send(t, "GET", s.user.compute.ServiceURL("nothing-like-this"), token, "")
	require.Equal(t, 404, code)
}

func (s *suite) badServers(t *testing.T) {
	ctx := t.Context()
	im, flavor := s.bootable(t), s.flavor(t)
	none := func(o servers.CreateOpts) servers.CreateOpts {
		o.Name = name("server")
		if o.Networks == nil {
			o.Networks = "none"
		}
		return o
	}
	for what, c := range map[string]struct {
		want int
		o    servers.CreateOpts
	}{
		"an image that is not there":  {400, servers.CreateOpts{ImageRef: nothing, FlavorRef: flavor}},
		"a flavor that is not there":  {400, servers.CreateOpts{ImageRef: im.ID, FlavorRef: "no-flavor"}},
		"a network that is not there": {400, servers.CreateOpts{ImageRef: im.ID, FlavorRef: flavor, Networks: []servers.Network{{UUID: nothing}}}},
		"a port that is not there":    {400, servers.CreateOpts{ImageRef: im.ID, FlavorRef: flavor, Networks: []servers.Network{{Port: nothing}}}},
		"a group that is not there":   {400, servers.CreateOpts{ImageRef: im.ID, FlavorRef: flavor, SecurityGroups: []string{name("group")}}},
		"a zone that is not there":    {400, servers.CreateOpts{ImageRef: im.ID, FlavorRef: flavor, AvailabilityZone: name("zone")}},
		"more at least than at most":  {400, servers.CreateOpts{ImageRef: im.ID, FlavorRef: flavor, Min: 3, Max: 2}},
	} {
		_, err := s.create(t, none(c.o))
		status(t, c.want, err, what)
	}
	_, err := servers.Get(ctx, s.user.compute, nothing).Extract()
	status(t, 404, err)
	status(t, 404, servers.Delete(ctx, s.user.compute, nothing).ExtractErr())

	// A flavor that no host has room for: accepted, and then in error with a reason.
	big, err := flavors.Create(ctx, s.admin.compute, flavors.CreateOpts{Name: name("flavor"), RAM: 40 << 10, VCPUs: 16, Disk: ptr(1 << 20)}).Extract()
	require.NoError(t, err)
	after(t, "flavor", deleter(s.admin.compute, big.ID))
	sv, err := s.create(t, none(servers.CreateOpts{ImageRef: im.ID, FlavorRef: big.ID}))
	require.NoError(t, err)
	s.eventually(t, "a server that fits nowhere is in error", func() (bool, string) {
		got, err := servers.Get(ctx, s.user.compute, sv.ID).Extract()
		require.NoError(t, err)
		if got.Status == "ERROR" {
			require.Contains(t, got.Fault.Message, "No valid host was found")
		}
		return got.Status == "ERROR", got.Status
	})
}

func (s *suite) badSubnets(t *testing.T) {
	n := s.newNetwork(t)
	s.newSubnet(t, subnets.CreateOpts{NetworkID: n.ID, CIDR: "10.91.0.0/24"})
	for what, o := range map[string]subnets.CreateOpts{
		"a CIDR that is none":                     {CIDR: "10.92.0.0/33"},
		"a range that overlaps another":           {CIDR: "10.91.0.128/25"},
		"a gateway that is the broadcast address": {CIDR: "10.92.0.0/24", GatewayIP: ptr("10.92.0.255")},
		"a pool outside":                          {CIDR: "10.92.0.0/24", AllocationPools: []subnets.AllocationPool{{Start: "10.93.0.2", End: "10.93.0.9"}}},
		"a pool upside down":                      {CIDR: "10.92.0.0/24", AllocationPools: []subnets.AllocationPool{{Start: "10.92.0.9", End: "10.92.0.2"}}},
		"an IPv6 range said to be IPv4":           {CIDR: "2001:db8::/64"},
		"a name server that is none":              {CIDR: "10.92.0.0/24", DNSNameservers: []string{"nowhere"}},
	} {
		o.NetworkID, o.IPVersion = n.ID, gophercloud.IPv4
		_, err := subnets.Create(t.Context(), s.user.network, o).Extract()
		status(t, 400, err, what)
	}
	for what, o := range map[string]subnets.CreateOpts{
		"pools that overlap":  {CIDR: "10.92.0.0/24", AllocationPools: []subnets.AllocationPool{{Start: "10.92.0.2", End: "10.92.0.9"}, {Start: "10.92.0.5", End: "10.92.0.20"}}},
		"a gateway in a pool": {CIDR: "10.92.0.0/24", GatewayIP: ptr("10.92.0.5"), AllocationPools: []subnets.AllocationPool{{Start: "10.92.0.2", End: "10.92.0.9"}}},
	} {
		o.NetworkID, o.IPVersion = n.ID, gophercloud.IPv4
		_, err := subnets.Create(t.Context(), s.user.network, o).Extract()
		status(t, 409, err, what)
	}
}
