package remote

import (
	"context"
	"net/netip"
	"net/url"
	"slices"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/compute"
	"github.com/nacre-cloud/nacre/network"
)

func (e networks) Check(ctx context.Context, want compute.NetworkRequest) (compute.NetworkPlan, error) {
	plan := compute.NetworkPlan{}
	a, err := e.as(ctx)
	if err != nil {
		return plan, err
	}
	if plan.SecurityGroups, err = a.groupIDs(ctx, want.ProjectID, want.SecurityGroups); err != nil {
		return plan, err
	}
	switch want.Mode {
	case "none":
		return plan, nil
	case "auto", "":
		plan.NICs, err = a.onlyNetwork(ctx, want)
		return plan, err
	}
	seen := map[string]bool{}
	for _, n := range want.NICs {
		switch {
		case n.PortID == "":
			err = e.checkNetwork(ctx, a, n, want)
		case seen[n.PortID]:
			err = nacre.Errorf(nacre.Conflict, "PortInUse", "Port %s is still in use.", n.PortID)
		default:
			seen[n.PortID] = true
			n.NetworkID, err = a.checkPort(ctx, n.PortID, want)
		}
		if err != nil {
			return plan, err
		}
		plan.NICs = append(plan.NICs, n)
	}
	return plan, nil
}

// groupIDs turns names or ids of a project's groups into ids.
func (a *api) groupIDs(ctx context.Context, project string, names []string) ([]string, error) {
	mine, err := listAll[groupDoc](ctx, a, "security_groups", "security-groups?fields=id&fields=name&project_id="+url.QueryEscape(project))
	if err != nil {
		return nil, err
	}
	gs := make([]network.SecurityGroup, len(mine))
	for i := range mine {
		gs[i] = mine[i].group()
	}
	return network.GroupIDs(names, gs, nil)
}

// onlyNetwork is the network that a server without a list gets. A service that
// allocates topologies is asked for one (auto-allocated-topology).
func (a *api) onlyNetwork(ctx context.Context, want compute.NetworkRequest) ([]compute.NICRequest, error) {
	ns, err := listAll[networkDoc](ctx, a, "networks", "networks?admin_state_up=true&router:external=false")
	if err != nil {
		return nil, err
	}
	ns = slices.DeleteFunc(ns, func(n networkDoc) bool { return n.ProjectID != want.ProjectID && !n.Shared || len(n.Subnets) == 0 })
	switch {
	case len(ns) > 1:
		return nil, nacre.Errorf(nacre.Conflict, "NetworkAmbiguous", "Multiple possible networks found, use a Network ID to be more specific.")
	case len(ns) == 1:
		return []compute.NICRequest{{NetworkID: ns[0].ID}}, nil
	case want.Mode != "auto":
		return nil, nil
	}
	var made struct {
		Topology struct{ ID string } `json:"auto_allocated_topology"`
	}
	if err := a.get(ctx, "auto-allocated-topology/"+url.PathEscape(want.ProjectID), &made); err != nil {
		return nil, &nacre.Error{Kind: nacre.Invalid, Code: "UnableToAutoAllocateNetwork", Message: "Unable to automatically allocate a network for project " + want.ProjectID + ": it has no network with a subnet, and this cloud allocates none.", Err: err}
	}
	return []compute.NICRequest{{NetworkID: made.Topology.ID}}, nil
}

// checkPort looks at a port that the user brought, and says which network it is on.
func (a *api) checkPort(ctx context.Context, id string, want compute.NetworkRequest) (string, error) {
	if want.Servers > 1 {
		return "", nacre.Errorf(nacre.Invalid, "MultiplePortsNotApplicable", "Multiple servers may not be created with a single port.")
	}
	var got struct{ Port portDoc }
	switch err := a.get(ctx, "ports/"+url.PathEscape(id), &got); {
	case nacre.KindOf(err) == nacre.NotFound:
		return "", nacre.Errorf(nacre.Invalid, "PortNotFound", "Port id %s could not be found.", id)
	case err != nil:
		return "", err
	case got.Port.ProjectID != want.ProjectID:
		return "", nacre.Errorf(nacre.Invalid, "PortNotUsable", "Port %s not usable for the instance.", id)
	case got.Port.DeviceID != "":
		return "", nacre.Errorf(nacre.Conflict, "PortInUse", "Port %s is still in use.", id)
	}
	return got.Port.NetworkID, nil
}

func (e networks) checkNetwork(ctx context.Context, a *api, n compute.NICRequest, want compute.NetworkRequest) error {
	var got struct{ Network networkDoc }
	err := a.get(ctx, "networks/"+url.PathEscape(n.NetworkID), &got)
	if nacre.KindOf(err) == nacre.NotFound {
		return nacre.Errorf(nacre.Invalid, "NetworkNotFound", "Network %s could not be found.", n.NetworkID)
	}
	if err != nil {
		return err
	}
	net := &got.Network
	if net.External && !net.Shared && !nacre.CallerFrom(ctx).HasRole("admin") && net.ProjectID != want.ProjectID {
		return nacre.Errorf(nacre.Forbidden, "ExternalNetworkAttachForbidden", "It is not allowed to create an interface on external network %s", net.ID)
	}
	if !n.FixedIP.IsValid() {
		return nil
	}
	if want.Servers > 1 {
		return nacre.Errorf(nacre.Invalid, "", "Invalid fixed IP Address %s in server create request: it can serve only one server.", n.FixedIP)
	}
	return e.checkAddress(ctx, a, net.ID, n.FixedIP)
}

// checkAddress sees that an address lies in a network and is free, whoever has it.
func (e networks) checkAddress(ctx context.Context, a *api, network string, ip netip.Addr) error {
	subs, err := listAll[subnetDoc](ctx, a, "subnets", "subnets?network_id="+url.QueryEscape(network))
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(subs, func(s subnetDoc) bool { return s.CIDR.Contains(ip) }) {
		return nacre.Errorf(nacre.Invalid, "FixedIpInvalid", "Fixed IP address %s is invalid.", ip)
	}
	all, err := e.as(nacre.AsService(ctx, "compute"))
	if err != nil {
		return err
	}
	used, err := listAll[portDoc](ctx, all, "ports", "ports?"+url.Values{"network_id": {network}, "fixed_ips": {"ip_address=" + ip.String()}}.Encode())
	if err == nil && len(used) > 0 {
		err = nacre.Errorf(nacre.Conflict, "FixedIpAlreadyInUse", "Fixed IP address %s is already in use.", ip)
	}
	return err
}

// SetGroup finds the ports with the service's rights, which see what is whose, and
// changes them with the user's.
func (e networks) SetGroup(ctx context.Context, projectID, serverID, group string, add bool) error {
	a, err := e.as(ctx)
	if err != nil {
		return err
	}
	ids, err := a.groupIDs(ctx, projectID, []string{group})
	if err != nil {
		if nacre.KindOf(err) == nacre.Invalid {
			err = nacre.Errorf(nacre.NotFound, "SecurityGroupNotFound", "Security group %s is not found for project %s", group, projectID)
		}
		return err
	}
	_, ports, err := e.mine(nacre.AsService(ctx, "compute"), projectID, serverID)
	if err != nil {
		return err
	}
	if len(ports) == 0 {
		return nacre.Errorf(nacre.NotFound, "SecurityGroupNotFound", "instance_id %s could not be found as device id on any ports", serverID)
	}
	done := false
	for _, p := range ports {
		has := slices.Contains(p.SecurityGroups, ids[0])
		heeds := (p.PortSecurity == nil || *p.PortSecurity) && len(p.FixedIPs) > 0
		if !has && (!add || !heeds) {
			continue
		}
		done = true
		if has == add {
			continue
		}
		groups := slices.DeleteFunc(slices.Clone(p.SecurityGroups), func(g string) bool { return g == ids[0] })
		if add {
			groups = append(groups, ids[0])
		}
		if groups == nil {
			groups = []string{}
		}
		if _, err := a.change(ctx, p.ID, object{"security_groups": groups}); err != nil {
			return err
		}
	}
	switch {
	case done:
		return nil
	case add:
		return nacre.Errorf(nacre.Invalid, "SecurityGroupCannotBeApplied", "Network requires port_security_enabled and subnet associated in order to apply security groups.")
	}
	return nacre.Errorf(nacre.NotFound, "SecurityGroupNotFound", "Security group %s not associated with the instance %s", group, serverID)
}
