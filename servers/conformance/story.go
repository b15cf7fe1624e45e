package conformance

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/keypairs"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/secgroups"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/floatingips"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/security/rules"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/subnets"
	"github.com/stretchr/testify/require"
)

// story boots a server on a network of its own, reaches for it by a floating IP,
// turns it off and on, and takes it all away again.
func story(t *testing.T, s *suite) {
	ctx, compute := t.Context(), s.user.compute
	im := s.bootable(t)
	n := s.newNetwork(t)
	sn := s.newSubnet(t, subnets.CreateOpts{NetworkID: n.ID, CIDR: "10.90.0.0/24"})
	s.newRouter(t, sn.ID)
	g := s.newGroup(t)
	_, err := rules.Create(ctx, s.user.network, rules.CreateOpts{Direction: rules.DirIngress, EtherType: rules.EtherType4, SecGroupID: g.ID, Protocol: rules.ProtocolTCP,
		PortRangeMin: 22, PortRangeMax: 22, RemoteIPPrefix: "0.0.0.0/0"}).Extract()
	require.NoError(t, err)
	key := s.newKeypair(t)

	created, err := s.create(t, keypairs.CreateOptsExt{KeyName: key.Name, CreateOptsBuilder: servers.CreateOpts{
		Name: name("server"), ImageRef: im.ID, FlavorRef: s.flavor(t), Networks: []servers.Network{{UUID: n.ID}}, SecurityGroups: []string{g.Name},
		UserData: []byte("#!/bin/sh\necho user data ran\n"), Metadata: map[string]string{"role": "story"}}})
	require.NoError(t, err)
	id := created.ID
	sv := s.becomes(t, id, "ACTIVE")
	require.Equal(t, key.Name, sv.KeyName)
	fixed := addressOf(t, sv, n.Name, "fixed")

	ps, err := all(ctx, ports.List(s.user.network, ports.ListOpts{DeviceID: id}), ports.ExtractPorts)
	require.NoError(t, err)
	require.Len(t, ps, 1)
	require.Equal(t, "ACTIVE", ps[0].Status, "an active server's port is wired")
	require.Equal(t, []string{g.ID}, ps[0].SecurityGroups)
	on, err := all(ctx, secgroups.ListByServer(s.user.compute, id), secgroups.ExtractSecurityGroups)
	require.NoError(t, err)
	require.Len(t, on, 1)
	require.Equal(t, g.ID, on[0].ID, "nova shows the port's groups, too")
	require.Equal(t, fixed, ps[0].FixedIPs[0].IPAddress)
	require.True(t, strings.HasPrefix(ps[0].DeviceOwner, "compute:"), ps[0].DeviceOwner)

	fip := s.newFloatingIP(t, ps[0].ID)
	s.eventually(t, "the server shows its floating IP", func() (bool, string) {
		sv, err := servers.Get(ctx, compute, id).Extract()
		require.NoError(t, err)
		return address(sv, n.Name, "floating") == fip.FloatingIP, "not yet"
	})
	s.eventually(t, "the console says something", func() (bool, string) {
		out, err := servers.ShowConsoleOutput(ctx, compute, id, servers.ShowConsoleOutputOpts{}).Extract()
		require.NoError(t, err)
		return out != "" && strings.Contains(out, s.Console), out
	})
	if s.Metadata != nil {
		s.readMetadata(t, id, sv.Name, key.PublicKey)
	}

	require.NoError(t, servers.Stop(ctx, compute, id).ExtractErr())
	s.becomes(t, id, "SHUTOFF")
	status(t, 409, servers.Reboot(ctx, compute, id, servers.RebootOpts{Type: servers.SoftReboot}).ExtractErr(), "a soft reboot of what is off")
	require.NoError(t, servers.Start(ctx, compute, id).ExtractErr())
	s.becomes(t, id, "ACTIVE")
	for _, how := range []servers.RebootMethod{servers.SoftReboot, servers.HardReboot} {
		require.NoError(t, servers.Reboot(ctx, compute, id, servers.RebootOpts{Type: how}).ExtractErr())
		s.becomes(t, id, "ACTIVE")
	}
	require.Equal(t, fixed, addressOf(t, s.becomes(t, id, "ACTIVE"), n.Name, "fixed"), "addresses stay")

	require.NoError(t, servers.Delete(ctx, compute, id).ExtractErr())
	s.eventually(t, "the server is gone", func() (bool, string) {
		_, err := servers.Get(ctx, compute, id).Extract()
		return gophercloud.ResponseCodeIs(err, 404), "still there"
	})
	_, err = ports.Get(ctx, s.user.network, ps[0].ID).Extract()
	status(t, 404, err, "the server's port goes with it")
	loose, err := floatingips.Get(ctx, s.user.network, fip.ID).Extract()
	require.NoError(t, err, "the floating IP stays")
	require.Empty(t, loose.PortID)
	s.ownPort(t, im.ID, n.ID)
}

// ownPort boots a server on a port that the user made, which outlives it.
func (s *suite) ownPort(t *testing.T, image, network string) {
	ctx := t.Context()
	p := s.newPort(t, ports.CreateOpts{NetworkID: network, Name: name("port")})
	sv, err := s.create(t, servers.CreateOpts{Name: name("server"), ImageRef: image, FlavorRef: s.flavor(t), Networks: []servers.Network{{Port: p.ID}}})
	require.NoError(t, err)
	s.becomes(t, sv.ID, "ACTIVE")
	_, err = s.create(t, servers.CreateOpts{Name: name("server"), ImageRef: image, FlavorRef: s.flavor(t), Networks: []servers.Network{{Port: p.ID}}})
	status(t, 409, err, "a port in use")
	require.NoError(t, s.destroy(ctx, sv.ID))
	left, err := ports.Get(ctx, s.user.network, p.ID).Extract()
	require.NoError(t, err, "the user's port stays")
	require.Empty(t, left.DeviceID)
	require.Equal(t, p.FixedIPs, left.FixedIPs)
}

func (s *suite) readMetadata(t *testing.T, id, name, key string) {
	ctx := t.Context()
	code, body, err := s.Metadata(ctx, id, s.user.project, "/openstack/latest/meta_data.json")
	require.NoError(t, err)
	require.Equal(t, 200, code, body)
	var md struct {
		UUID, Name string
		Keys       map[string]string `json:"public_keys"`
		Meta       map[string]string
	}
	require.NoError(t, json.Unmarshal([]byte(body), &md))
	require.Equal(t, id, md.UUID)
	require.Equal(t, name, md.Name)
	require.Equal(t, map[string]string{"role": "story"}, md.Meta)
	for _, k := range md.Keys {
		require.Equal(t, strings.TrimSpace(key), strings.TrimSpace(k))
	}
	code, body, err = s.Metadata(ctx, id, s.user.project, "/openstack/latest/user_data")
	require.NoError(t, err)
	require.Equal(t, 200, code)
	require.Contains(t, body, "user data ran")
	code, _, err = s.Metadata(ctx, id, s.admin.project, "/openstack/latest/meta_data.json")
	require.NoError(t, err)
	require.Equal(t, 404, code, "another project's request")
}

// address is a server's address of a kind ("fixed", "floating") on a network.
func address(sv *servers.Server, network, kind string) string {
	list, _ := sv.Addresses[network].([]any)
	for _, a := range list {
		m, _ := a.(map[string]any)
		if m["OS-EXT-IPS:type"] == kind {
			text, _ := m["addr"].(string)
			return text
		}
	}
	return ""
}

func addressOf(t *testing.T, sv *servers.Server, network, kind string) string {
	t.Helper()
	a := address(sv, network, kind)
	require.NotEmpty(t, a, "server %s has no %s address on %s: %v", sv.ID, kind, network, sv.Addresses)
	return a
}
