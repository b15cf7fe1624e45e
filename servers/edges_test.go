package servers_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/compute"
	"github.com/nacre-cloud/nacre/identity/kit"
	"github.com/nacre-cloud/nacre/identity/limit"
	"github.com/nacre-cloud/nacre/image"
	"github.com/nacre-cloud/nacre/network"
	"github.com/nacre-cloud/nacre/servers"
	"github.com/nacre-cloud/nacre/servers/remote"
	"github.com/nacre-cloud/nacre/store"
	"github.com/nacre-cloud/nacre/store/memstore"
)

// edgeCloud is a cloud, and the edges between its areas by one way.
type edgeCloud struct {
	*apart
	servers.Edges
	cloud *servers.Cloud
	// demo and admin are users with tokens, compute is the service.
	demo, admin, compute context.Context
	project              string
	// http says that the edges go over HTTP.
	http bool
}

func (c *edgeCloud) user(name string) context.Context {
	token := c.client(name).Token()
	caller, err := c.cloud.Identity.ValidateToken(c.t.Context(), token)
	require.NoError(c.t, err)
	own := *caller
	own.Token = token
	return nacre.WithCaller(c.t.Context(), &own)
}

// bothWays runs a test over direct calls and over HTTP, on a new cloud each.
func bothWays(t *testing.T, test func(t *testing.T, c *edgeCloud)) {
	for _, way := range []string{"direct", "http"} {
		t.Run(way, func(t *testing.T) {
			a := startApart(t, nil)
			c := &edgeCloud{apart: a, cloud: a.all[0], http: way == "http", compute: nacre.AsService(t.Context(), "compute")}
			if c.Edges = c.cloud.Edges(); c.http {
				others, err := remote.New(remote.Config{IdentityURL: apartURL + "/identity/v3", Username: "nova", Password: "nova-password", Region: "RegionOne", Transport: a.via})
				require.NoError(t, err)
				c.Edges = servers.Edges{Images: others.Images(), Networks: others.Networks(), SecurityGroups: others.SecurityGroups(), Limits: others.Limits(), Projects: others.Projects()}
			}
			c.demo, c.admin = c.user("demo"), c.user("admin")
			c.project = nacre.CallerFrom(c.demo).ProjectID
			test(t, c)
		})
	}
}

func is(t *testing.T, err error, kind nacre.Kind, code string) {
	t.Helper()
	require.ErrorIs(t, err, kind)
	if code == "" {
		return
	}
	var e *nacre.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, code, e.Code)
}

func TestEdgeImages(t *testing.T) {
	bothWays(t, func(t *testing.T, c *edgeCloud) {
		made, err := c.cloud.Image.Create(c.demo, image.Image{Name: "disk", Visibility: "private", DiskFormat: "raw", ContainerFormat: "bare", MinRAM: 64, Properties: map[string]string{"hw_disk_bus": "scsi", "os_type": "linux"}})
		require.NoError(t, err)
		_, err = c.Images.Open(c.demo, made.ID)
		is(t, err, nacre.Conflict, "ImageNotActive")
		_, err = c.cloud.Image.Upload(c.demo, made.ID, strings.NewReader(strings.Repeat("x", 1000)), -1)
		require.NoError(t, err)

		im, err := c.Images.Image(c.demo, made.ID)
		require.NoError(t, err)
		require.Regexp(t, "^sha512:[0-9a-f]{128}$", im.Hash)
		im.Hash = ""
		require.Equal(t, compute.Image{ID: made.ID, Name: "disk", Status: "active", DiskFormat: "raw", ContainerFormat: "bare", Size: 1000, VirtualSize: im.VirtualSize, MinRAM: 64,
			Properties: map[string]string{"hw_disk_bus": "scsi", "os_type": "linux"}}, im)
		for _, who := range []context.Context{c.demo, c.compute} {
			r, err := c.Images.Open(who, made.ID)
			require.NoError(t, err)
			b, err := io.ReadAll(r)
			require.NoError(t, err)
			require.NoError(t, r.Close())
			require.Len(t, b, 1000)
		}
		_, err = c.Images.Image(c.demo, "99999999-2222-4333-8444-555555555555")
		is(t, err, nacre.NotFound, "")
		other, err := c.cloud.Image.Create(c.admin, image.Image{Name: "hidden", Visibility: "private", DiskFormat: "raw", ContainerFormat: "bare"})
		require.NoError(t, err)
		_, err = c.Images.Image(c.demo, other.ID)
		is(t, err, nacre.NotFound, "")
		require.NoError(t, c.cloud.Image.Delete(c.admin, other.ID))
		require.NoError(t, c.cloud.Image.Delete(c.demo, made.ID))
	})
}

// tenant makes a network of the demo project with a subnet.
func (c *edgeCloud) tenant(cidr string) network.Network {
	c.t.Helper()
	n, err := c.cloud.Network.CreateNetwork(c.demo, network.Network{Std: network.Std{Name: "net"}, AdminUp: true, PortSecurity: true})
	require.NoError(c.t, err)
	_, err = c.cloud.Network.CreateSubnet(c.demo, network.NewSubnet{Subnet: network.Subnet{Std: network.Std{Name: "sub"}, NetworkID: n.ID, CIDR: cidr, IPVersion: 4, DHCP: true, DNS: []string{"192.0.2.53"}}})
	require.NoError(c.t, err)
	return n
}

func TestEdgeCheck(t *testing.T) {
	bothWays(t, func(t *testing.T, c *edgeCloud) {
		check := func(want compute.NetworkRequest) (compute.NetworkPlan, error) {
			want.ProjectID = c.project
			if want.Servers == 0 {
				want.Servers = 1
			}
			return c.Networks.Check(c.demo, want)
		}
		plan, err := check(compute.NetworkRequest{})
		require.NoError(t, err)
		require.Empty(t, plan.NICs)
		require.Len(t, plan.SecurityGroups, 1, "the default group")
		_, err = check(compute.NetworkRequest{Mode: "auto"})
		is(t, err, nacre.Invalid, "UnableToAutoAllocateNetwork")
		n := c.tenant("10.1.0.0/24")
		for _, mode := range []string{"", "auto"} {
			plan, err = check(compute.NetworkRequest{Mode: mode})
			require.NoError(t, err)
			require.Equal(t, []compute.NICRequest{{NetworkID: n.ID}}, plan.NICs)
		}
		plan, err = check(compute.NetworkRequest{Mode: "none"})
		require.NoError(t, err)
		require.Empty(t, plan.NICs)
		c.tenant("10.2.0.0/24")
		_, err = check(compute.NetworkRequest{Mode: ""})
		is(t, err, nacre.Conflict, "NetworkAmbiguous")

		port, err := c.cloud.Network.CreatePort(c.demo, network.NewPort{Port: network.Port{NetworkID: n.ID, AdminUp: true}})
		require.NoError(t, err)
		foreign, err := c.cloud.Network.CreatePort(c.admin, network.NewPort{Port: network.Port{NetworkID: n.ID, AdminUp: true}})
		require.NoError(t, err)
		used := netip.MustParseAddr(foreign.FixedIPs[0].Address)
		list := func(servers int, nics ...compute.NICRequest) error {
			_, err := check(compute.NetworkRequest{Mode: "list", NICs: nics, Servers: servers})
			return err
		}
		const nowhere = "99999999-2222-4333-8444-555555555555"
		public, _, err := c.cloud.Network.Networks(c.demo, nacre.Query{Filters: []nacre.Filter{{Name: "name", Value: "public"}}})
		require.NoError(t, err)
		for _, x := range []struct {
			err  error
			kind nacre.Kind
			code string
		}{
			{list(1, compute.NICRequest{NetworkID: nowhere}), nacre.Invalid, "NetworkNotFound"},
			{list(1, compute.NICRequest{NetworkID: public[0].ID}), nacre.Forbidden, "ExternalNetworkAttachForbidden"},
			{list(1, compute.NICRequest{PortID: nowhere}), nacre.Invalid, "PortNotFound"},
			{list(2, compute.NICRequest{PortID: port.ID}), nacre.Invalid, "MultiplePortsNotApplicable"},
			{list(1, compute.NICRequest{PortID: port.ID}, compute.NICRequest{PortID: port.ID}), nacre.Conflict, "PortInUse"},
			{list(1, compute.NICRequest{PortID: foreign.ID}), nacre.Invalid, "PortNotUsable"},
			{list(1, compute.NICRequest{NetworkID: n.ID, FixedIP: netip.MustParseAddr("192.0.2.1")}), nacre.Invalid, "FixedIpInvalid"},
			{list(1, compute.NICRequest{NetworkID: n.ID, FixedIP: used}), nacre.Conflict, "FixedIpAlreadyInUse"},
			{list(2, compute.NICRequest{NetworkID: n.ID, FixedIP: netip.MustParseAddr("10.1.0.77")}), nacre.Invalid, ""},
		} {
			is(t, x.err, x.kind, x.code)
		}
		_, err = check(compute.NetworkRequest{Mode: "none", SecurityGroups: []string{"nobody"}})
		is(t, err, nacre.Invalid, "SecurityGroupNotFound")
		plan, err = check(compute.NetworkRequest{Mode: "list", NICs: []compute.NICRequest{{PortID: port.ID, Tag: "a"}, {NetworkID: n.ID, FixedIP: netip.MustParseAddr("10.1.0.77")}}})
		require.NoError(t, err)
		require.Equal(t, []compute.NICRequest{{PortID: port.ID, NetworkID: n.ID, Tag: "a"}, {NetworkID: n.ID, FixedIP: netip.MustParseAddr("10.1.0.77")}}, plan.NICs)

		// A user without a token is not the service.
		nobody := *nacre.CallerFrom(c.demo)
		nobody.Token = ""
		if c.http {
			_, err = c.Networks.Check(nacre.WithCaller(t.Context(), &nobody), compute.NetworkRequest{ProjectID: c.project})
			is(t, err, nacre.Unauthenticated, "")
		}
	})
}

func TestEdgePorts(t *testing.T) {
	bothWays(t, func(t *testing.T, c *edgeCloud) {
		n := c.tenant("10.1.0.0/24")
		groups, err := c.Networks.Check(c.demo, compute.NetworkRequest{ProjectID: c.project, Mode: "none", Servers: 1})
		require.NoError(t, err)
		const vm, other = "11111111-2222-4333-8444-555555555551", "11111111-2222-4333-8444-555555555552"
		want := compute.PortRequest{ProjectID: c.project, ServerID: vm, Index: 0, Host: "node1", AvailabilityZone: "nova", Hostname: "web", SecurityGroups: groups.SecurityGroups,
			NIC: compute.NICRequest{NetworkID: n.ID, Tag: "front", FixedIP: netip.MustParseAddr("10.1.0.77")}}
		made, err := c.Networks.EnsurePort(c.compute, want)
		require.NoError(t, err)
		again, err := c.Networks.EnsurePort(c.compute, want)
		require.NoError(t, err)
		require.Equal(t, made.ID, again.ID, "it is found again")
		require.True(t, made.Made)
		require.Equal(t, "front", made.Tag)
		require.Equal(t, "net", made.NetworkName)
		require.Equal(t, n.MTU, made.MTU)
		require.Equal(t, []string{"default"}, made.SecurityGroups)
		require.Equal(t, netip.MustParseAddr("10.1.0.77"), made.Addresses[0].Address)
		require.Equal(t, []netip.Addr{netip.MustParseAddr("192.0.2.53")}, made.Subnets[0].DNS)
		require.Equal(t, netip.MustParseAddr("10.1.0.1"), made.Subnets[0].Gateway)
		stored, err := c.cloud.Network.Port(c.admin, made.ID)
		require.NoError(t, err)
		require.True(t, stored.Served && stored.Made)
		require.Equal(t, "web", stored.DNSName)
		require.Equal(t, "compute:nova", stored.DeviceOwner)
		require.Equal(t, c.project, stored.ProjectID)

		// What the user brought.
		own, err := c.cloud.Network.CreatePort(c.demo, network.NewPort{Port: network.Port{NetworkID: n.ID, AdminUp: true}})
		require.NoError(t, err)
		foreign, err := c.cloud.Network.CreatePort(c.admin, network.NewPort{Port: network.Port{NetworkID: n.ID, AdminUp: true}})
		require.NoError(t, err)
		take := want
		take.Index, take.NIC = 1, compute.NICRequest{PortID: own.ID}
		took, err := c.Networks.EnsurePort(c.compute, take)
		require.NoError(t, err)
		require.Equal(t, own.ID, took.ID)
		require.False(t, took.Made)
		stolen := take
		stolen.ServerID = other
		_, err = c.Networks.EnsurePort(c.compute, stolen)
		is(t, err, nacre.Conflict, "PortInUse")
		stolen.NIC.PortID = foreign.ID
		_, err = c.Networks.EnsurePort(c.compute, stolen)
		is(t, err, nacre.Forbidden, "PortNotUsable")
		gone := want
		gone.ServerID, gone.NIC = other, compute.NICRequest{NetworkID: "99999999-2222-4333-8444-555555555555"}
		_, err = c.Networks.EnsurePort(c.compute, gone)
		is(t, err, nacre.NotFound, "")
		gone.NIC, gone.Host = compute.NICRequest{NetworkID: n.ID}, "nowhere"
		_, err = c.Networks.EnsurePort(c.compute, gone)
		is(t, err, nacre.Unavailable, "")
		require.NoError(t, c.Networks.Release(c.compute, c.project, other))

		// A port whose device_id a user wrote is not the server's.
		_, err = c.cloud.Network.CreatePort(c.demo, network.NewPort{Port: network.Port{NetworkID: n.ID, AdminUp: true, DeviceID: vm, DeviceOwner: "compute:nova"}})
		require.NoError(t, err)
		byServer, err := c.Networks.Ports(c.compute, vm, other)
		require.NoError(t, err)
		require.Len(t, byServer[vm], 2)
		require.Equal(t, []string{made.ID, own.ID}, []string{byServer[vm][0].ID, byServer[vm][1].ID})
		require.Empty(t, byServer[other])

		// Groups go on and off with the user's own rights.
		g, err := c.SecurityGroups.CreateGroup(c.demo, "web", "about")
		require.NoError(t, err)
		require.NoError(t, c.Networks.SetGroup(c.demo, c.project, vm, "web", true))
		on, err := c.SecurityGroups.ServerGroups(c.demo, vm)
		require.NoError(t, err)
		require.Len(t, on, 2)
		require.NoError(t, c.Networks.SetGroup(c.demo, c.project, vm, g.ID, false))
		is(t, c.Networks.SetGroup(c.demo, c.project, vm, g.ID, false), nacre.NotFound, "SecurityGroupNotFound")
		is(t, c.Networks.SetGroup(c.demo, c.project, vm, "nobody", true), nacre.NotFound, "SecurityGroupNotFound")
		is(t, c.Networks.SetGroup(c.demo, c.project, other, g.ID, true), nacre.NotFound, "SecurityGroupNotFound")
		require.NoError(t, c.SecurityGroups.DeleteGroup(c.demo, g.ID))

		// The server moves to a second host, and back.
		c.host("node2")
		for range 2 {
			require.NoError(t, c.Networks.BindPorts(c.compute, c.project, vm, "node2"))
		}
		for range 2 {
			require.NoError(t, c.Networks.ActivatePorts(c.compute, c.project, vm, "node2"))
		}
		for _, h := range []string{"node1", "node1", "node2"} {
			require.NoError(t, c.Networks.UnbindPorts(c.compute, c.project, vm, h))
		}
		is(t, c.Networks.ActivatePorts(c.compute, c.project, vm, "node1"), nacre.NotFound, "PortBindingNotFound")
		stored, err = c.cloud.Network.Port(c.admin, own.ID)
		require.NoError(t, err)
		require.Equal(t, "node2", stored.Host)
		require.Empty(t, stored.Inactive)
		again, err = c.Networks.EnsurePort(c.compute, want) // as an evacuation would
		require.NoError(t, err)
		require.Equal(t, made.ID, again.ID)
		stored, err = c.cloud.Network.Port(c.admin, made.ID)
		require.NoError(t, err)
		require.Equal(t, "node1", stored.Host)

		// Only the project's own are let go; one, and then the rest.
		require.NoError(t, c.Networks.Release(c.compute, "somebody", vm))
		require.NoError(t, c.Networks.Unplug(c.compute, c.project, vm, own.ID))
		left, err := c.cloud.Network.Port(c.admin, own.ID)
		require.NoError(t, err)
		require.Empty(t, left.DeviceID+left.DeviceOwner+left.Host)
		require.False(t, left.Served)
		for range 2 {
			require.NoError(t, c.Networks.Release(c.compute, c.project, vm))
		}
		_, err = c.cloud.Network.Port(c.admin, made.ID)
		is(t, err, nacre.NotFound, "PortNotFound")
	})
}

func TestEdgeSecurityGroups(t *testing.T) {
	bothWays(t, func(t *testing.T, c *edgeCloud) {
		g, err := c.SecurityGroups.CreateGroup(c.demo, "web", "about")
		require.NoError(t, err)
		require.Equal(t, []string{"web", "about", c.project}, []string{g.Name, g.Description, g.ProjectID})
		require.Empty(t, g.Rules, "what goes out is not nova's")
		port := 80
		r, err := c.SecurityGroups.CreateRule(c.demo, compute.SecurityGroupRule{GroupID: g.ID, Protocol: "tcp", FromPort: &port, ToPort: &port, CIDR: "10.0.0.0/8"})
		require.NoError(t, err)
		any := -1
		_, err = c.SecurityGroups.CreateRule(c.demo, compute.SecurityGroupRule{GroupID: g.ID, Protocol: "icmp", FromPort: &any, ToPort: &any, RemoteID: g.ID})
		require.NoError(t, err)
		_, err = c.SecurityGroups.CreateRule(c.demo, compute.SecurityGroupRule{GroupID: g.ID, Protocol: "tcp", FromPort: &port, ToPort: &port, CIDR: "10.0.0.0/8"})
		is(t, err, nacre.Conflict, "SecurityGroupRuleExists")
		got, err := c.SecurityGroups.Group(c.demo, g.ID)
		require.NoError(t, err)
		require.Len(t, got.Rules, 2)
		for _, x := range got.Rules {
			if x.RemoteID != "" {
				require.Equal(t, []string{"web", c.project}, []string{x.RemoteName, x.RemoteProject})
			}
		}
		same, err := c.SecurityGroups.Rule(c.demo, r.ID)
		require.NoError(t, err)
		require.Equal(t, r, same)
		got, err = c.SecurityGroups.UpdateGroup(c.demo, g.ID, "www", "other")
		require.NoError(t, err)
		require.Equal(t, []string{"www", "other"}, []string{got.Name, got.Description})
		all, err := c.SecurityGroups.Groups(c.demo, c.project)
		require.NoError(t, err)
		require.Len(t, all, 2)
		_, err = c.SecurityGroups.Group(c.user("admin"), "99999999-2222-4333-8444-555555555555")
		is(t, err, nacre.NotFound, "SecurityGroupNotFound")
		require.NoError(t, c.SecurityGroups.DeleteRule(c.demo, r.ID))
		is(t, c.SecurityGroups.DeleteRule(c.demo, r.ID), nacre.NotFound, "SecurityGroupRuleNotFound")
		require.NoError(t, c.SecurityGroups.DeleteGroup(c.demo, g.ID))
		is(t, c.SecurityGroups.DeleteGroup(c.demo, g.ID), nacre.NotFound, "SecurityGroupNotFound")
		_, err = c.cloud.Network.SetQuota(c.admin, c.project, map[string]int64{"security_group": 1})
		require.NoError(t, err)
		_, err = c.SecurityGroups.CreateGroup(c.demo, "more", "")
		is(t, err, nacre.QuotaExceeded, "OverQuota")
	})
}

func TestEdgeIdentity(t *testing.T) {
	bothWays(t, func(t *testing.T, c *edgeCloud) {
		there, err := c.Projects.Existing(t.Context(), c.project, "nobody")
		require.NoError(t, err)
		require.True(t, there[c.project])
		require.False(t, there["nobody"])

		none, err := c.Limits.Limits(t.Context(), c.project)
		require.NoError(t, err)
		require.Empty(t, none)
		services, err := c.cloud.Identity.Catalog.ListServices(c.admin, nacre.Query{Filters: []nacre.Filter{{Name: "type", Value: "image"}}})
		require.NoError(t, err)
		limits := c.cloud.Identity.Limits
		_, err = limits.CreateRegisteredLimits(c.admin, []limit.RegisteredLimit{{ServiceID: services[0].ID, ResourceName: "image_count_total", DefaultLimit: 5}, {ServiceID: services[0].ID, ResourceName: "other", DefaultLimit: 1}})
		require.NoError(t, err)
		got, err := c.Limits.Limits(t.Context(), c.project)
		require.NoError(t, err)
		require.Equal(t, map[string]int64{"image_count_total": 5}, got)
		_, err = limits.CreateLimits(c.admin, []limit.Limit{{ServiceID: services[0].ID, ProjectID: kit.Ref(c.project), ResourceName: "image_count_total", ResourceLimit: 7}})
		require.NoError(t, err)
		got, err = c.Limits.Limits(t.Context(), c.project)
		require.NoError(t, err)
		require.Equal(t, map[string]int64{"image_count_total": 7}, got)
	})
}

// A host whose name network refuses keeps no other away; those that network has are one
// read, however many.
func TestHostsOfComputeAreKnown(t *testing.T) {
	var log strings.Builder
	engines := map[string]store.Engine{}
	for _, area := range servers.Areas() {
		engines[area] = memstore.New(memstore.Options{})
	}
	require.NoError(t, servers.Migrate(t.Context(), engines, true))
	cloud, err := servers.New(t.Context(), servers.Config{Engines: engines, AdminPassword: "x", RandomPassword: true, Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelInfo}))})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, cloud.Close()) })
	known, err := cloud.KnowHosts(t.Context(), []string{"a/b", "good"}, nil)
	require.ErrorContains(t, err, "'a/b' is not a name for a host")
	require.Equal(t, map[string]bool{"good": true}, known)

	names := []string{"good"}
	for i := range 30 {
		names = append(names, fmt.Sprintf("host%d", i))
	}
	known, err = cloud.KnowHosts(t.Context(), names, known)
	require.NoError(t, err)
	require.Len(t, known, 31)
	ctx, n := store.CountStatements(t.Context())
	known, err = cloud.KnowHosts(ctx, names, nil)
	require.NoError(t, err)
	require.Len(t, known, 31)
	require.EqualValues(t, 1, n.Load())

	said := ""
	for range 3 {
		said = cloud.SayHosts(said, errors.New("compute is away"))
	}
	said = cloud.SayHosts(said, nil)
	require.Empty(t, cloud.SayHosts(said, nil))
	require.Equal(t, 1, strings.Count(log.String(), "compute is away"))
	require.Equal(t, 1, strings.Count(log.String(), "known again"))
}
