package network

import (
	"context"
	"net/netip"
	"slices"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/store"
)

// What compute asks of the network. These methods are the in-process edge;
// package servers adapts them to compute's own types.

// ServerNIC is one network interface that a server asks for.
type ServerNIC struct {
	NetworkID, PortID, Tag string
	FixedIP                netip.Addr
}

// ServerNetworks is what a server asks of networks. Mode is "auto", "none",
// "list" or "": none, the only one, or a conflict.
type ServerNetworks struct {
	ProjectID, Mode string
	NICs            []ServerNIC
	SecurityGroups  []string
	Servers         int
}

// CheckServerNetworks looks at what a server asks for with the caller's own
// rights, and returns it with every network named and groups by id.
func (s *Service) CheckServerNetworks(ctx context.Context, want ServerNetworks) (ServerNetworks, error) {
	if err := store.Outside(ctx); err != nil {
		return want, err
	}
	groups, err := s.checkServerGroups(ctx, want)
	if err != nil {
		return want, err
	}
	want.SecurityGroups = groups
	switch want.Mode {
	case "none":
		want.NICs = nil
		return want, nil
	case "auto", "":
		want.NICs, err = s.onlyNetwork(ctx, want.ProjectID, want.Mode)
		return want, err
	}
	seen := map[string]bool{}
	for i := range want.NICs {
		nic := &want.NICs[i]
		if nic.PortID != "" {
			if err := s.checkServerPort(ctx, nic, want); err != nil {
				return want, err
			}
			if seen[nic.PortID] {
				return want, nacre.Errorf(nacre.Conflict, "PortInUse", "Port %s is still in use.", nic.PortID)
			}
			seen[nic.PortID] = true
			continue
		}
		if err := s.checkServerNetwork(ctx, nic, want); err != nil {
			return want, err
		}
	}
	return want, nil
}

func (s *Service) checkServerPort(ctx context.Context, nic *ServerNIC, want ServerNetworks) error {
	if want.Servers > 1 {
		return nacre.Errorf(nacre.Invalid, "MultiplePortsNotApplicable", "Multiple servers may not be created with a single port.")
	}
	p, err := s.Port(ctx, nic.PortID)
	if err != nil {
		if nacre.KindOf(err) == nacre.NotFound {
			err = nacre.Errorf(nacre.Invalid, "PortNotFound", "Port id %s could not be found.", nic.PortID)
		}
		return err
	}
	switch {
	case p.ProjectID != want.ProjectID:
		return nacre.Errorf(nacre.Invalid, "PortNotUsable", "Port %s not usable for the instance.", p.ID)
	case p.DeviceID != "":
		return nacre.Errorf(nacre.Conflict, "PortInUse", "Port %s is still in use.", p.ID)
	}
	nic.NetworkID = p.NetworkID
	return nil
}

func (s *Service) checkServerNetwork(ctx context.Context, nic *ServerNIC, want ServerNetworks) error {
	n, err := s.Network(ctx, nic.NetworkID)
	if err != nil {
		if nacre.KindOf(err) == nacre.NotFound {
			err = nacre.Errorf(nacre.Invalid, "NetworkNotFound", "Network %s could not be found.", nic.NetworkID)
		}
		return err
	}
	if n.External && !n.Shared && !nacre.CallerFrom(ctx).HasRole("admin") && n.ProjectID != want.ProjectID {
		return nacre.Errorf(nacre.Forbidden, "ExternalNetworkAttachForbidden", "It is not allowed to create an interface on external network %s", n.ID)
	}
	if !nic.FixedIP.IsValid() {
		return nil
	}
	if want.Servers > 1 {
		return nacre.Errorf(nacre.Invalid, "", "Invalid fixed IP Address %s in server create request: it can serve only one server.", nic.FixedIP)
	}
	subs, err := s.subnets.Where(ctx, store.Eq("network_id", n.ID))
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(subs, func(sn Subnet) bool { return sn.Prefix().Contains(nic.FixedIP) }) {
		return nacre.Errorf(nacre.Invalid, "FixedIpInvalid", "Fixed IP address %s is invalid.", nic.FixedIP)
	}
	used, err := s.allocations.Exists(ctx, store.Eq("id", n.ID+"/"+nic.FixedIP.String()))
	if err == nil && used {
		err = nacre.Errorf(nacre.Conflict, "FixedIpAlreadyInUse", "Fixed IP address %s is already in use.", nic.FixedIP)
	}
	return err
}

// onlyNetwork is the network that a server without a list gets.
func (s *Service) onlyNetwork(ctx context.Context, project, mode string) ([]ServerNIC, error) {
	ns, err := s.networks.Where(ctx, store.Or(store.Eq("project_id", project), store.Eq("shared", true)), store.Eq("external", false), store.Eq("admin_state_up", true),
		store.InSelect("id", s.subnets, "network_id", store.All()))
	if err != nil {
		return nil, err
	}
	switch {
	case len(ns) > 1:
		return nil, nacre.Errorf(nacre.Conflict, "NetworkAmbiguous", "Multiple possible networks found, use a Network ID to be more specific.")
	case len(ns) == 1:
		return []ServerNIC{{NetworkID: ns[0].ID}}, nil
	case mode == "auto":
		return nil, nacre.Errorf(nacre.Invalid, "UnableToAutoAllocateNetwork", "Unable to automatically allocate a network for project %s: it has no network with a subnet, and this cloud allocates none.", project)
	}
	return nil, nil
}

// checkServerGroups turns names or ids of groups into ids. A project's default group is
// made when it is missing.
func (s *Service) checkServerGroups(ctx context.Context, want ServerNetworks) ([]string, error) {
	mine, err := s.groups.Where(ctx, store.Eq("project_id", want.ProjectID))
	if err != nil {
		return nil, err
	}
	return GroupIDs(want.SecurityGroups, mine, func(name string) (id string, err error) {
		if name != "default" {
			return "", nil
		}
		err = s.tx(ctx, func(ctx context.Context) error {
			g, err := s.defaultGroup(ctx, want.ProjectID)
			id = g.ID
			return err
		})
		return id, err
	})
}

// GroupIDs turns names or ids of a project's groups into ids, as nova does for a server;
// no names are the default group's. missing, if given, is asked for a group that is not
// among the project's, and says "" when there is none.
func GroupIDs(names []string, mine []SecurityGroup, missing func(name string) (id string, err error)) ([]string, error) {
	if len(names) == 0 {
		names = []string{"default"}
	}
	var ids []string
	for _, name := range names {
		var hits []string
		for _, g := range mine {
			if g.ID == name {
				hits = []string{g.ID}
				break
			}
			if g.Name == name {
				hits = append(hits, g.ID)
			}
		}
		if len(hits) == 0 && missing != nil {
			id, err := missing(name)
			if err != nil {
				return nil, err
			}
			if id != "" {
				hits = []string{id}
			}
		}
		switch len(hits) {
		case 0:
			return nil, nacre.Errorf(nacre.Invalid, "SecurityGroupNotFound", "Security group %s not found.", name)
		case 1:
			ids = append(ids, hits[0])
		default:
			return nil, nacre.Errorf(nacre.Conflict, "NoUniqueMatch", "Multiple security groups found matching '%s'. Use an ID to be more specific.", name)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids), nil
}

// ServerPortRequest asks for the port of one NIC of a server.
type ServerPortRequest struct {
	ProjectID, ServerID  string
	Index                int
	NIC                  ServerNIC
	Host, Zone, Hostname string
	SecurityGroups       []string
}

// ServerPort is a server's port with what it needs of its network.
type ServerPort struct {
	Port       Port
	Network    Network
	Subnets    []Subnet
	GroupNames []string
	// Floating are the floating addresses by fixed address.
	Floating map[string][]netip.Addr
}

// EnsureServerPort makes or takes the port of one NIC and binds it. It is
// idempotent by server and index.
func (s *Service) EnsureServerPort(ctx context.Context, r ServerPortRequest) (ServerPort, error) {
	if err := store.Outside(ctx); err != nil {
		return ServerPort{}, err
	}
	if err := s.enforce(ctx, "create_port:binding:host_id", nil); err != nil {
		return ServerPort{}, err
	}
	id := ""
	err := s.tx(ctx, func(ctx context.Context) error {
		if err := store.Lock(ctx, s.c.Engine, "server/"+r.ServerID); err != nil {
			return err
		}
		have, err := s.ports.One(ctx, store.Eq("device_id", r.ServerID), store.Eq("served", true), store.Eq("nic_index", r.Index))
		owner := ownerCompute + r.Zone
		switch {
		case err != nil && !isGone(err):
			return err
		case err == nil && have.Host == r.Host:
			id = have.ID
			return nil
		case err == nil:
			id = have.ID
			n, err := s.networks.Get(ctx, have.NetworkID)
			if err != nil {
				return err
			}
			_, err = s.changePort(ctx, id, &n, PortChange{Host: &r.Host})
			return err
		case r.NIC.PortID != "":
			id = r.NIC.PortID
			return s.takePort(ctx, r, owner)
		}
		n, err := s.networks.Get(ctx, r.NIC.NetworkID)
		if err != nil {
			return store.WrapNotFound(err, func() *nacre.Error { return networkNotFound(r.NIC.NetworkID) })
		}
		in := NewPort{Port: Port{Std: Std{ProjectID: r.ProjectID}, NetworkID: n.ID, AdminUp: true, DeviceID: r.ServerID, DeviceOwner: owner, Host: r.Host, DNSName: r.Hostname, Served: true, NICIndex: r.Index, Made: true, NICTag: r.NIC.Tag}}
		if n.PortSecurity {
			in.SecurityGroups = r.SecurityGroups
		}
		if r.NIC.FixedIP.IsValid() {
			in.FixedIPs = []FixedIP{{Address: r.NIC.FixedIP.String()}}
		}
		p, err := s.insertPort(ctx, in, &n)
		id = p.ID
		return err
	})
	if err != nil {
		return ServerPort{}, err
	}
	ps, err := s.describe(ctx, store.Eq("id", id))
	switch {
	case err != nil:
		return ServerPort{}, err
	case len(ps) == 0:
		return ServerPort{}, portNotFound(id)
	case ps[0].Port.BindingFailed:
		return ServerPort{}, nacre.Errorf(nacre.Unavailable, "PortBindingFailed", "Binding failed for port %s: host %s has no network agent.", id, r.Host)
	}
	return ps[0], nil
}

// takePort binds a port that the user brought; in the caller's transaction.
func (s *Service) takePort(ctx context.Context, r ServerPortRequest, owner string) error {
	p, err := s.ports.GetForUpdate(ctx, r.NIC.PortID)
	if err != nil {
		return store.WrapNotFound(err, func() *nacre.Error { return portNotFound(r.NIC.PortID) })
	}
	if p.DeviceID != "" && p.DeviceID != r.ServerID {
		return nacre.Errorf(nacre.Conflict, "PortInUse", "Port %s is still in use.", p.ID)
	}
	if p.ProjectID != r.ProjectID {
		return nacre.Errorf(nacre.Forbidden, "PortNotUsable", "Port %s not usable for instance %s.", p.ID, r.ServerID)
	}
	n, err := s.networks.Get(ctx, p.NetworkID)
	if err != nil {
		return err
	}
	c := PortChange{DeviceID: &r.ServerID, DeviceOwner: &owner, Host: &r.Host}
	if p.DNSName == "" {
		c.DNSName = &r.Hostname
	}
	if _, err := s.changePort(ctx, p.ID, &n, c); err != nil {
		return err
	}
	_, err = s.ports.Update(ctx, p.ID, func(x *Port) error {
		x.Served, x.NICIndex, x.Made, x.NICTag = true, r.Index, false, r.NIC.Tag
		return nil
	})
	return err
}

// ServerPorts are the ports of servers, by server, each server's by index. Six
// statements for any number of servers.
func (s *Service) ServerPorts(ctx context.Context, servers ...string) (map[string][]ServerPort, error) {
	if err := store.Outside(ctx); err != nil {
		return nil, err
	}
	if err := s.enforce(ctx, "get_port:binding:host_id", nil); err != nil {
		return nil, err
	}
	ps, err := s.describe(ctx, store.And(store.In("device_id", servers), store.Eq("served", true)))
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(ps, func(a, b ServerPort) int { return a.Port.NICIndex - b.Port.NICIndex })
	out := map[string][]ServerPort{}
	for _, p := range ps {
		out[p.Port.DeviceID] = append(out[p.Port.DeviceID], p)
	}
	return out, nil
}

func (s *Service) describe(ctx context.Context, w store.Where) ([]ServerPort, error) {
	ports, err := s.ports.Where(ctx, w)
	if err != nil || len(ports) == 0 {
		return nil, err
	}
	var nets, groups, ids []string
	for _, p := range ports {
		nets, groups, ids = append(nets, p.NetworkID), append(groups, p.SecurityGroups...), append(ids, p.ID)
	}
	ns, err := s.networks.Where(ctx, store.In("id", nets))
	if err != nil {
		return nil, err
	}
	subs, err := s.subnets.Where(ctx, store.In("network_id", nets))
	if err != nil {
		return nil, err
	}
	gs, err := s.groups.Where(ctx, store.In("id", groups))
	if err != nil {
		return nil, err
	}
	fs, err := s.floatingips.Where(ctx, store.In("port_id", ids))
	if err != nil {
		return nil, err
	}
	out := make([]ServerPort, 0, len(ports))
	for _, p := range ports {
		sp := ServerPort{Port: p, Floating: map[string][]netip.Addr{}}
		for _, n := range ns {
			if n.ID == p.NetworkID {
				sp.Network = n
			}
		}
		for _, sn := range subs {
			if slices.ContainsFunc(p.FixedIPs, func(f FixedIP) bool { return f.SubnetID == sn.ID }) {
				sp.Subnets = append(sp.Subnets, sn)
			}
		}
		for _, g := range gs {
			if slices.Contains(p.SecurityGroups, g.ID) {
				sp.GroupNames = append(sp.GroupNames, g.Name)
			}
		}
		for _, f := range fs {
			if f.PortID == p.ID {
				sp.Floating[f.FixedIP] = append(sp.Floating[f.FixedIP], addr(f.Address))
			}
		}
		out = append(out, sp)
	}
	return out, nil
}

// ReleaseServerPorts deletes the ports that were made for a server and unbinds
// those that the user brought; port empty means all of them. Only the owning
// project's are touched. Nothing to release is success.
func (s *Service) ReleaseServerPorts(ctx context.Context, project, server, port string) error {
	if err := store.Outside(ctx); err != nil {
		return err
	}
	if err := s.enforce(ctx, "update_port:binding:host_id", nil); err != nil {
		return err
	}
	return s.tx(ctx, func(ctx context.Context) error {
		w := store.All()
		if port != "" {
			w = store.Eq("id", port)
		}
		ps, err := s.served(ctx, project, server, w)
		if err != nil {
			return err
		}
		for _, p := range ps {
			if p.Made {
				if err := s.dropPort(ctx, p.ID, p.NetworkID); err != nil {
					return err
				}
				continue
			}
			n, err := s.networks.Get(ctx, p.NetworkID)
			if err != nil {
				return err
			}
			none := ""
			c := PortChange{DeviceID: &none, DeviceOwner: &none, Host: &none}
			if _, err := s.changePort(ctx, p.ID, &n, c); err != nil {
				return err
			}
		}
		return nil
	})
}

// SetServerGroup adds a security group, by id or name, to every port of a server
// that heeds groups, or takes it off, with the caller's own rights. Taking off what
// no port has is NotFound; adding it where no port heeds groups is Invalid (nova's
// SecurityGroupCannotBeApplied).
func (s *Service) SetServerGroup(ctx context.Context, project, server, group string, add bool) error {
	if err := store.Outside(ctx); err != nil {
		return err
	}
	ids, err := s.checkServerGroups(ctx, ServerNetworks{ProjectID: project, SecurityGroups: []string{group}})
	if err != nil {
		if nacre.KindOf(err) == nacre.Invalid {
			err = nacre.Errorf(nacre.NotFound, "SecurityGroupNotFound", "Security group %s is not found for project %s", group, project)
		}
		return err
	}
	ps, err := s.served(ctx, project, server)
	if err != nil {
		return err
	}
	if len(ps) == 0 {
		return nacre.Errorf(nacre.NotFound, "SecurityGroupNotFound", "instance_id %s could not be found as device id on any ports", server)
	}
	done := false
	for i := range ps {
		has := slices.Contains(ps[i].SecurityGroups, ids[0])
		heeds := ps[i].PortSecurity && len(ps[i].FixedIPs) > 0
		if !has && (!add || !heeds) {
			continue
		}
		done = true
		if has == add {
			continue
		}
		groups := slices.DeleteFunc(slices.Clone(ps[i].SecurityGroups), func(g string) bool { return g == ids[0] })
		if add {
			groups = append(groups, ids[0])
		}
		if _, err := s.UpdatePort(ctx, ps[i].ID, PortChange{SecurityGroups: &groups}); err != nil {
			return err
		}
	}
	switch {
	case done:
		return nil
	case add:
		return nacre.Errorf(nacre.Invalid, "SecurityGroupCannotBeApplied", "Network requires port_security_enabled and subnet associated in order to apply security groups.")
	}
	return nacre.Errorf(nacre.NotFound, "SecurityGroupNotFound", "Security group %s not associated with the instance %s", group, server)
}
