package servers

import (
	"context"
	"net/netip"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/compute"
	"github.com/nacre-cloud/nacre/network"
	"github.com/nacre-cloud/nacre/store"
)

// networks is the edge from compute to network.
type networks struct{ svc *network.Service }

var _ compute.Networks = networks{}

func (w networks) Check(ctx context.Context, want compute.NetworkRequest) (compute.NetworkPlan, error) {
	if err := store.Outside(ctx); err != nil {
		return compute.NetworkPlan{}, err
	}
	in := network.ServerNetworks{ProjectID: want.ProjectID, Mode: want.Mode, SecurityGroups: want.SecurityGroups, Servers: want.Servers}
	for _, n := range want.NICs {
		in.NICs = append(in.NICs, network.ServerNIC{NetworkID: n.NetworkID, PortID: n.PortID, Tag: n.Tag, FixedIP: n.FixedIP})
	}
	got, err := w.svc.CheckServerNetworks(ctx, in)
	if err != nil {
		return compute.NetworkPlan{}, err
	}
	plan := compute.NetworkPlan{SecurityGroups: got.SecurityGroups}
	for _, n := range got.NICs {
		plan.NICs = append(plan.NICs, compute.NICRequest{NetworkID: n.NetworkID, PortID: n.PortID, FixedIP: n.FixedIP, Tag: n.Tag})
	}
	return plan, nil
}

func (w networks) EnsurePort(ctx context.Context, p compute.PortRequest) (compute.Port, error) {
	if err := store.Outside(ctx); err != nil {
		return compute.Port{}, err
	}
	sp, err := w.svc.EnsureServerPort(ctx, network.ServerPortRequest{
		ProjectID: p.ProjectID, ServerID: p.ServerID, Index: p.Index, Host: p.Host, Zone: p.AvailabilityZone, Hostname: p.Hostname, SecurityGroups: p.SecurityGroups,
		NIC: network.ServerNIC{NetworkID: p.NIC.NetworkID, PortID: p.NIC.PortID, Tag: p.NIC.Tag, FixedIP: p.NIC.FixedIP},
	})
	if err != nil {
		return compute.Port{}, err
	}
	return portOf(&sp), nil
}

func (w networks) Ports(ctx context.Context, serverIDs ...string) (map[string][]compute.Port, error) {
	if err := store.Outside(ctx); err != nil {
		return nil, err
	}
	byServer, err := w.svc.ServerPorts(ctx, serverIDs...)
	if err != nil {
		return nil, err
	}
	out := map[string][]compute.Port{}
	for id, ports := range byServer {
		for i := range ports {
			out[id] = append(out[id], portOf(&ports[i]))
		}
	}
	return out, nil
}

func (w networks) Release(ctx context.Context, projectID, serverID string) error {
	if err := store.Outside(ctx); err != nil {
		return err
	}
	return w.svc.ReleaseServerPorts(ctx, projectID, serverID, "")
}

func (w networks) SetGroup(ctx context.Context, projectID, serverID, group string, add bool) error {
	return w.svc.SetServerGroup(ctx, projectID, serverID, group, add)
}

func (w networks) Unplug(ctx context.Context, projectID, serverID, portID string) error {
	if err := store.Outside(ctx); err != nil {
		return err
	}
	if portID == "" {
		return nacre.Errorf(nacre.Invalid, "", "no port is named")
	}
	return w.svc.ReleaseServerPorts(ctx, projectID, serverID, portID)
}

func (w networks) BindPorts(ctx context.Context, projectID, serverID, host string) error {
	return w.svc.BindServerPorts(ctx, projectID, serverID, host)
}

func (w networks) ActivatePorts(ctx context.Context, projectID, serverID, host string) error {
	return w.svc.ActivateServerPorts(ctx, projectID, serverID, host)
}

func (w networks) UnbindPorts(ctx context.Context, projectID, serverID, host string) error {
	return w.svc.UnbindServerPorts(ctx, projectID, serverID, host)
}

func portOf(sp *network.ServerPort) compute.Port {
	p := compute.Port{ID: sp.Port.ID, Index: sp.Port.NICIndex, NetworkID: sp.Port.NetworkID, NetworkName: sp.Network.Name, MAC: sp.Port.MAC, MTU: sp.Network.MTU,
		Made: sp.Port.Made, Tag: sp.Port.NICTag, Active: sp.Port.Status == network.Active, SecurityGroups: sp.GroupNames}
	for _, f := range sp.Port.FixedIPs {
		if a, err := netip.ParseAddr(f.Address); err == nil {
			p.Addresses = append(p.Addresses, compute.PortAddress{Address: a, Floating: sp.Floating[f.Address], SubnetID: f.SubnetID})
		}
	}
	for i := range sp.Subnets {
		sn := &sp.Subnets[i]
		s := compute.PortSubnet{ID: sn.ID, CIDR: sn.Prefix(), DHCP: sn.DHCP}
		s.Gateway, _ = netip.ParseAddr(sn.Gateway)
		for _, d := range sn.DNS {
			if a, err := netip.ParseAddr(d); err == nil {
				s.DNS = append(s.DNS, a)
			}
		}
		for _, r := range sn.Routes {
			s.Routes = append(s.Routes, compute.SubnetRoute{Destination: r.Destination, NextHop: r.NextHop})
		}
		p.Subnets = append(p.Subnets, s)
	}
	return p
}

// auditEdges says what does not hold between areas: each port of a server belongs
// to one that is there, and each port that a server shows is its.
func (cl *Cloud) auditEdges(ctx context.Context) ([]nacre.Finding, error) {
	var out []nacre.Finding
	ports, err := cl.Network.Ports(ctx, nacre.Query{})
	if err != nil {
		return nil, err
	}
	servers, err := cl.allServers(ctx)
	if err != nil {
		return nil, err
	}
	device := map[string]string{}
	for _, p := range ports {
		device[p.ID] = p.DeviceID
		if p.Served && servers[p.DeviceID] == nil {
			out = append(out, nacre.Finding{Area: "network", Kind: "port", ID: p.ID, Problem: "belongs to server " + p.DeviceID + ", which is not there"})
		}
	}
	for id, sv := range servers {
		for _, p := range sv.Ports {
			if device[p.ID] != id {
				out = append(out, nacre.Finding{Area: "compute", Kind: "server", ID: id, Problem: "shows port " + p.ID + ", which is not its"})
			}
		}
	}
	return out, nil
}

func (cl *Cloud) allServers(ctx context.Context) (map[string]*compute.Server, error) {
	out := map[string]*compute.Server{}
	q := nacre.Query{Filters: []nacre.Filter{{Name: "all_tenants", Value: "1"}}, Limit: 1000}
	for {
		page, err := cl.Compute.Servers(ctx, q, "os_compute_api:servers:detail")
		if err != nil {
			return nil, err
		}
		for i := range page {
			out[page[i].ID] = &page[i]
		}
		if len(page) < q.Limit {
			return out, nil
		}
		q.Marker = page[len(page)-1].ID
	}
}
