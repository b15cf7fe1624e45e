package network

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/internal/policy"
	"github.com/nacre-cloud/nacre/network/dataplane"
	"github.com/nacre-cloud/nacre/store"
)

func portNotFound(id string) *nacre.Error { return missing("Port", "PortNotFound", id) }

func (s *Service) portTarget(p *Port, n *Network) policy.Map {
	return policy.Map{"project_id": p.ProjectID, "tenant_id": p.ProjectID, "network:project_id": n.ProjectID, "network:tenant_id": n.ProjectID, "network:shared": truth(n.Shared), "ext_parent_project_id": n.ProjectID, "device_owner": p.DeviceOwner}
}

// seenPorts are the caller's own and those on its networks.
func (s *Service) seenPorts(ctx context.Context) (store.Where, error) {
	w, c, err := s.own(ctx)
	if err != nil || w.Op == store.OpAll {
		return w, err
	}
	return store.Or(w, store.InSelect("network_id", s.networks, "id", store.Eq("project_id", c.ProjectID))), nil
}

var portColumns = columns(map[string]string{"network_id": "network_id", "mac_address": "mac_address", "admin_state_up": "admin_state_up", "status": "status", "device_id": "device_id",
	"device_owner": "device_owner", "binding:host_id": "host", "binding:vnic_type": "vnic_type", "port_security_enabled": "port_security_enabled", "dns_name": "dns_name"})

// Ports lists the ports that the caller may see.
func (s *Service) Ports(ctx context.Context, q nacre.Query) ([]Port, error) {
	w, err := s.seenPorts(ctx)
	if err != nil {
		return nil, err
	}
	return list(ctx, s, s.ports, q, w, portColumns, special{
		"fixed_ips": s.fixedIPFilter,
		"security_groups": func(v []string) (store.Where, error) {
			return store.InSelect("id", s.members, "port_id", store.In("group_id", v)), nil
		},
	})
}

// fixedIPFilter reads "subnet_id=…", "ip_address=…" and "ip_address_substr=…";
// several are and'ed by name and or'ed within one.
func (s *Service) fixedIPFilter(vals []string) (store.Where, error) {
	subnets, addrs := []string{}, []string{}
	var subs []store.Where
	for _, v := range vals {
		k, x, ok := strings.Cut(v, "=")
		switch {
		case ok && k == "subnet_id":
			subnets = append(subnets, x)
		case ok && k == "ip_address":
			if a, err := netip.ParseAddr(x); err == nil {
				x = a.Unmap().String()
			}
			addrs = append(addrs, x)
		case ok && k == "ip_address_substr":
			subs = append(subs, store.Contains("address", x))
		default:
			return store.Where{}, nacre.Errorf(nacre.Invalid, "HTTPBadRequest", "Invalid input for fixed_ips. Reason: '%s' is not one of subnet_id, ip_address, ip_address_substr.", v)
		}
	}
	w := store.Where{}
	if len(subnets) > 0 {
		w = store.And(w, store.In("subnet_id", subnets))
	}
	if len(addrs) > 0 {
		w = store.And(w, store.In("address", addrs))
	}
	if len(subs) > 0 {
		w = store.And(w, store.Or(subs...))
	}
	return store.InSelect("id", s.allocations, "port_id", w), nil
}

// Port is one port that the caller may see.
func (s *Service) Port(ctx context.Context, id string) (Port, error) {
	w, err := s.seenPorts(ctx)
	if err != nil {
		return Port{}, err
	}
	p, err := s.ports.One(ctx, store.Eq("id", id), w)
	return p, store.WrapNotFound(err, func() *nacre.Error { return portNotFound(id) })
}

// NewPort is a request for a port.
type NewPort struct {
	Port
	// FixedIPs nil means an address of each kind that the network has; empty means none.
	FixedIPs []FixedIP
	// SecurityGroups nil means the project's default group.
	SecurityGroups []string
	// PortSecurity nil means the network's setting.
	PortSecurity *bool
}

// CreatePort makes a port.
func (s *Service) CreatePort(ctx context.Context, in NewPort) (Port, error) {
	p := in.Port
	n, err := s.Network(ctx, p.NetworkID)
	if err != nil {
		return p, err
	}
	if c := nacre.CallerFrom(ctx); p.ProjectID == "" {
		p.ProjectID = c.ProjectID
	}
	if err := s.mayPort(ctx, "create_port", &p, &n, in); err != nil {
		return p, err
	}
	err = s.tx(ctx, func(ctx context.Context) error {
		q := in
		q.Port = p
		var err error
		p, err = s.insertPort(ctx, q, &n)
		return err
	})
	return p, err
}

// mayPort enforces the rules of what is special about a port.
func (s *Service) mayPort(ctx context.Context, rule string, p *Port, n *Network, in NewPort) error {
	t := s.portTarget(p, n)
	if err := s.enforce(ctx, rule, t); err != nil {
		return err
	}
	withIP := slices.ContainsFunc(in.FixedIPs, func(f FixedIP) bool { return f.Address != "" })
	for name, on := range map[string]bool{":mac_address": in.MAC != "", ":fixed_ips:ip_address": withIP, ":fixed_ips": len(in.FixedIPs) > 0, ":binding:host_id": in.Host != "",
		":binding:profile": len(in.Profile) > 0, ":port_security_enabled": in.PortSecurity != nil, ":allowed_address_pairs": len(in.Pairs) > 0,
		":device_owner": strings.HasPrefix(in.DeviceOwner, "network:")} {
		if on {
			if err := s.enforce(ctx, rule+name, t); err != nil {
				return err
			}
		}
	}
	return nil
}

// insertPort does what CreatePort does, in the caller's transaction and without
// asking policy; our own ports count against no quota.
func (s *Service) insertPort(ctx context.Context, in NewPort, n *Network) (Port, error) {
	p := in.Port
	if !ourOwn(p.DeviceOwner) {
		if err := s.reserve(ctx, "port", p.ProjectID, 1, func(ctx context.Context) (int64, error) {
			return s.ports.Count(ctx, store.Eq("project_id", p.ProjectID), store.Not(store.In("device_owner", []string{OwnerDHCP, OwnerRouter, OwnerGateway, OwnerFloatingIP})))
		}); err != nil {
			return p, err
		}
	}
	if err := s.completePort(ctx, &in, &p, n); err != nil {
		return p, err
	}
	project := p.ProjectID
	s.fresh(ctx, &p.Std)
	p.ProjectID = project
	var err error
	if p.MAC == "" {
		if p.MAC, err = s.freeMAC(ctx, n.ID); err != nil {
			return p, err
		}
	} else {
		used, err := s.ports.Exists(ctx, store.Eq("network_id", n.ID), store.Eq("mac_address", p.MAC))
		if err != nil {
			return p, err
		}
		if used {
			return p, nacre.Errorf(nacre.Conflict, "MacAddressInUse", "Unable to complete operation for network %s. The MAC address %s is in use.", n.ID, p.MAC)
		}
	}
	if p.FixedIPs, err = s.address(ctx, &p, n, in.FixedIPs, in.FixedIPs == nil); err != nil {
		return p, err
	}
	if err := s.ports.Insert(ctx, p); err != nil {
		return p, err
	}
	if err := s.setTags(ctx, p.ID, p.Tags); err != nil {
		return p, err
	}
	if err := s.join(ctx, nil, &p); err != nil {
		return p, err
	}
	if err := s.settlePort(ctx, nil, &p); err != nil {
		return p, err
	}
	return p, s.emit(ctx, "port.create.end", &p.Std)
}

func (s *Service) completePort(ctx context.Context, in *NewPort, p *Port, n *Network) error {
	p.Status = Down
	if p.VNICType == "" {
		p.VNICType = "normal"
	}
	if p.Profile == nil {
		p.Profile = map[string]any{}
	}
	p.PortSecurity = n.PortSecurity
	if in.PortSecurity != nil {
		p.PortSecurity = *in.PortSecurity
	}
	if p.MAC != "" {
		m, err := net.ParseMAC(p.MAC)
		if err != nil || len(m) != 6 || m[0]&1 == 1 {
			return nacre.Errorf(nacre.Invalid, "HTTPBadRequest", "Invalid input for mac_address. Reason: '%s' is not a valid MAC address.", p.MAC)
		}
		p.MAC = m.String()
	}
	p.SecurityGroups = slices.Clone(in.SecurityGroups)
	switch {
	case ourOwn(p.DeviceOwner) && in.SecurityGroups == nil:
		p.SecurityGroups, p.PortSecurity = []string{}, false
	case !p.PortSecurity:
		if len(p.SecurityGroups) > 0 {
			return nacre.Errorf(nacre.Conflict, "PortSecurityAndIPRequiredForSecurityGroups", "Port security must be enabled and port must have an IP address in order to use security groups.")
		}
	case in.SecurityGroups == nil:
		g, err := s.defaultGroup(ctx, p.ProjectID)
		if err != nil {
			return err
		}
		p.SecurityGroups = []string{g.ID}
	}
	if p.SecurityGroups == nil {
		p.SecurityGroups = []string{}
	}
	if err := s.checkGroups(ctx, p); err != nil {
		return err
	}
	return checkPairs(p)
}

// checkGroups refuses groups that are not there, or another project's.
func (s *Service) checkGroups(ctx context.Context, p *Port) error {
	if len(p.SecurityGroups) == 0 {
		return nil
	}
	gs, err := s.groups.Where(ctx, store.In("id", p.SecurityGroups))
	if err != nil {
		return err
	}
	c := nacre.CallerFrom(ctx)
	for _, id := range p.SecurityGroups {
		if !slices.ContainsFunc(gs, func(g SecurityGroup) bool {
			return g.ID == id && (g.ProjectID == p.ProjectID || c != nil && (c.HasRole("admin") || g.ProjectID == c.ProjectID))
		}) {
			return groupNotFound(id)
		}
	}
	return nil
}

func checkPairs(p *Port) error {
	if len(p.Pairs) > 0 && !p.PortSecurity {
		return nacre.Errorf(nacre.Conflict, "AddressPairAndPortSecurityRequired", "Port Security must be enabled in order to have allowed address pairs on a port.")
	}
	for i := range p.Pairs {
		pr := &p.Pairs[i]
		if _, err := netip.ParsePrefix(pr.Address); err != nil {
			if _, err := parseAddr(pr.Address, "allowed_address_pairs"); err != nil {
				return err
			}
		}
		if pr.MAC != "" {
			m, err := net.ParseMAC(pr.MAC)
			if err != nil {
				return nacre.Errorf(nacre.Invalid, "HTTPBadRequest", "Invalid input for allowed_address_pairs. Reason: '%s' is not a valid MAC address.", pr.MAC)
			}
			pr.MAC = m.String()
		}
		if slices.Contains(p.Pairs[:i], *pr) {
			return nacre.Errorf(nacre.Invalid, "DuplicateAddressPairInRequest", "Request contains duplicate address pair: mac_address %s ip_address %s.", pr.MAC, pr.Address)
		}
	}
	return nil
}

// freeMAC draws an address with neutron's default prefix.
func (s *Service) freeMAC(ctx context.Context, network string) (string, error) {
	for range 16 {
		var b [3]byte
		_, _ = rand.Read(b[:])
		mac := fmt.Sprintf("fa:16:3e:%02x:%02x:%02x", b[0], b[1], b[2])
		used, err := s.ports.Exists(ctx, store.Eq("network_id", network), store.Eq("mac_address", mac))
		if err != nil || !used {
			return mac, err
		}
	}
	return "", nacre.Errorf(nacre.Unavailable, "MacAddressGenerationFailure", "Unable to generate unique mac on network %s.", network)
}

// address gives a port its addresses: those asked for, or (auto) one of the first
// subnet of each IP version that has room. In the caller's transaction.
func (s *Service) address(ctx context.Context, p *Port, n *Network, want []FixedIP, auto bool) ([]FixedIP, error) {
	subs, err := s.subnets.Select(ctx, store.Select{Where: store.Eq("network_id", n.ID), Order: []store.Order{{Column: "created_at"}}})
	if err != nil {
		return nil, err
	}
	out := []FixedIP{}
	if auto {
		return s.anyAddress(ctx, p, n, subs)
	}
	for _, f := range want {
		var a netip.Addr
		if f.Address != "" {
			if a, err = parseAddr(f.Address, "fixed_ips"); err != nil {
				return nil, err
			}
		}
		i := slices.IndexFunc(subs, func(sn Subnet) bool {
			return f.SubnetID == sn.ID || f.SubnetID == "" && a.IsValid() && sn.Prefix().Contains(a)
		})
		switch {
		case i < 0 && f.SubnetID != "":
			return nil, badInput("Failed to create port on network %s, because fixed_ips included invalid subnet %s", n.ID, f.SubnetID)
		case i < 0:
			return nil, nacre.Errorf(nacre.Invalid, "InvalidIpForNetwork", "IP address %s is not a valid IP for any of the subnets on the specified network.", f.Address)
		case a.IsValid() && (!subs[i].Prefix().Contains(a) || a.Is4() && subs[i].Prefix().Bits() < 31 && (a == subs[i].Prefix().Addr() || a == last(subs[i].Prefix()))):
			return nil, nacre.Errorf(nacre.Invalid, "InvalidIpForSubnet", "IP address %s is not a valid IP for the specified subnet.", f.Address)
		}
		if slices.ContainsFunc(p.FixedIPs, func(have FixedIP) bool { return a.IsValid() && have.Address == a.String() }) {
			out = append(out, FixedIP{SubnetID: subs[i].ID, Address: a.String()})
			continue
		}
		if a, err = s.allocate(ctx, &subs[i], p.ID, a); err != nil {
			return nil, err
		}
		out = append(out, FixedIP{SubnetID: subs[i].ID, Address: a.String()})
	}
	return out, nil
}

func (s *Service) anyAddress(ctx context.Context, p *Port, n *Network, subs []Subnet) ([]FixedIP, error) {
	out := []FixedIP{}
	for _, version := range []int{4, 6} {
		full := false
		for i := range subs {
			if subs[i].IPVersion != version || len(subs[i].Pools) == 0 {
				continue
			}
			a, err := s.allocate(ctx, &subs[i], p.ID, netip.Addr{})
			if nacre.KindOf(err) == nacre.Conflict && !store.IsDuplicate(err) {
				full = true
				continue
			}
			if err != nil {
				return nil, err
			}
			out, full = append(out, FixedIP{SubnetID: subs[i].ID, Address: a.String()}), false
			break
		}
		if full {
			return nil, nacre.Errorf(nacre.Conflict, "IpAddressGenerationFailure", "No more IP addresses available on network %s.", n.ID)
		}
	}
	return out, nil
}

// join brings the membership rows in line and has the groups that gained or lost
// a member, or a member's address, told; in the caller's transaction.
func (s *Service) join(ctx context.Context, before, after *Port) error {
	id := ""
	touch := map[string]bool{}
	if before != nil {
		id = before.ID
		for _, g := range before.SecurityGroups {
			touch[g] = true
		}
		if _, err := s.members.DeleteWhere(ctx, store.Eq("port_id", id)); err != nil {
			return err
		}
	}
	if after != nil {
		id = after.ID
		var rows []Membership
		for _, g := range after.SecurityGroups {
			touch[g] = true
			rows = append(rows, Membership{ID: id + "/" + g, PortID: id, GroupID: g, Host: after.Host})
		}
		if err := s.members.Insert(ctx, rows...); err != nil {
			return err
		}
	}
	if before != nil && after != nil && slices.Equal(before.FixedIPs, after.FixedIPs) && slices.Equal(before.SecurityGroups, after.SecurityGroups) {
		return nil
	}
	for g := range touch {
		if err := s.changed(ctx, dataplane.KindSecurityGroup, g); err != nil {
			return err
		}
	}
	return nil
}

// PortChange is what may change about a port; nil leaves it.
type PortChange struct {
	Name, Description, DeviceID, DeviceOwner, MAC, Host, VNICType, DNSName *string
	AdminUp, PortSecurity                                                  *bool
	FixedIPs                                                               *[]FixedIP
	SecurityGroups                                                         *[]string
	Pairs                                                                  *[]Pair
	DHCPOptions                                                            *[]DHCPOption
	Profile                                                                *map[string]any
	// Tags changes the standard attributes alone.
	Tags func(*Std) error
}

// UpdatePort changes a port.
func (s *Service) UpdatePort(ctx context.Context, id string, c PortChange) (Port, error) {
	old, err := s.Port(ctx, id)
	if err != nil {
		return old, err
	}
	n, err := s.networks.Get(ctx, old.NetworkID)
	if err != nil {
		return old, err
	}
	t := s.portTarget(&old, &n)
	if err := s.enforce(ctx, "update_port", t); err != nil {
		return old, err
	}
	withIP := c.FixedIPs != nil && slices.ContainsFunc(*c.FixedIPs, func(f FixedIP) bool { return f.Address != "" })
	for name, on := range map[string]bool{":mac_address": c.MAC != nil, ":fixed_ips": c.FixedIPs != nil, ":fixed_ips:ip_address": withIP, ":binding:host_id": c.Host != nil, ":binding:profile": c.Profile != nil && len(*c.Profile) > 0,
		":port_security_enabled": c.PortSecurity != nil, ":allowed_address_pairs": c.Pairs != nil, ":device_owner": c.DeviceOwner != nil && strings.HasPrefix(*c.DeviceOwner, "network:")} {
		if on {
			if err := s.enforce(ctx, "update_port"+name, t); err != nil {
				return old, err
			}
		}
	}
	var out Port
	err = s.tx(ctx, func(ctx context.Context) error {
		var err error
		out, err = s.changePort(ctx, id, &n, c)
		return err
	})
	if err == nil && out.DeviceID != "" && c.Tags == nil {
		s.tellPorts(ctx, out.DeviceID, out.DeviceOwner)
	}
	return out, err
}

// changePort does what UpdatePort does, in the caller's transaction and without
// asking policy.
func (s *Service) changePort(ctx context.Context, id string, n *Network, c PortChange) (Port, error) {
	old, err := s.ports.GetForUpdate(ctx, id)
	if err != nil {
		return old, store.WrapNotFound(err, func() *nacre.Error { return portNotFound(id) })
	}
	p := old
	for _, f := range []struct{ to, from *string }{{&p.Name, c.Name}, {&p.Description, c.Description}, {&p.DeviceID, c.DeviceID}, {&p.DeviceOwner, c.DeviceOwner}, {&p.MAC, c.MAC}, {&p.Host, c.Host}, {&p.VNICType, c.VNICType}, {&p.DNSName, c.DNSName}} {
		if f.from != nil {
			*f.to = *f.from
		}
	}
	if c.AdminUp != nil {
		p.AdminUp = *c.AdminUp
	}
	if c.DHCPOptions != nil {
		p.DHCPOptions = *c.DHCPOptions
	}
	if c.Profile != nil {
		p.Profile = *c.Profile
	}
	if c.Tags != nil {
		if err := c.Tags(&p.Std); err != nil {
			return p, err
		}
	}
	in := NewPort{SecurityGroups: p.SecurityGroups, PortSecurity: &p.PortSecurity}
	if c.SecurityGroups != nil {
		in.SecurityGroups = *c.SecurityGroups
		if in.SecurityGroups == nil {
			in.SecurityGroups = []string{}
		}
	}
	if c.PortSecurity != nil {
		if in.PortSecurity = c.PortSecurity; !*c.PortSecurity && c.SecurityGroups == nil && len(p.SecurityGroups) > 0 {
			return p, nacre.Errorf(nacre.Conflict, "PortSecurityPortHasSecurityGroup", "Port has security group associated. Cannot disable port security or IP address until security group is removed.")
		}
	}
	if c.Pairs != nil {
		p.Pairs = *c.Pairs
	}
	status := p.Status
	if err := s.completePort(ctx, &in, &p, n); err != nil {
		return p, err
	}
	if p.Status = status; p.Host != old.Host {
		p.Status = Down
	}
	if c.MAC != nil && p.MAC != old.MAC {
		if old.Host != "" {
			return p, nacre.Errorf(nacre.Conflict, "PortBound", "Unable to complete operation on port %s, port is already bound, port type: tap, old_mac %s, new_mac %s.", id, old.MAC, p.MAC)
		}
		used, err := s.ports.Exists(ctx, store.Eq("network_id", n.ID), store.Eq("mac_address", p.MAC))
		if err != nil {
			return p, err
		}
		if used {
			return p, nacre.Errorf(nacre.Conflict, "MacAddressInUse", "Unable to complete operation for network %s. The MAC address %s is in use.", n.ID, p.MAC)
		}
	}
	if c.FixedIPs != nil {
		if err := s.readdress(ctx, &p, n, *c.FixedIPs); err != nil {
			return p, err
		}
	}
	touched(&p.Std)
	out, err := s.ports.Update(ctx, id, func(x *Port) error {
		gen := max(x.Generation, p.Generation) + 1
		*x = p
		x.Generation = gen
		return nil
	})
	if err != nil {
		return out, err
	}
	if err := s.join(ctx, &old, &out); err != nil {
		return out, err
	}
	if err := s.settlePort(ctx, &old, &out); err != nil {
		return out, err
	}
	return out, s.emit(ctx, "port.update.end", &out.Std)
}

// readdress gives a port other addresses; floating IPs that led to one that goes
// lead nowhere.
func (s *Service) readdress(ctx context.Context, p *Port, n *Network, want []FixedIP) error {
	var drop []string
	for _, f := range p.FixedIPs {
		keep := slices.ContainsFunc(want, func(w FixedIP) bool {
			return w.Address == f.Address || w.Address == "" && w.SubnetID == f.SubnetID
		})
		if !keep {
			drop = append(drop, f.Address)
		}
	}
	for i, w := range want {
		if w.Address == "" {
			if j := slices.IndexFunc(p.FixedIPs, func(f FixedIP) bool { return f.SubnetID == w.SubnetID }); j >= 0 {
				want[i] = p.FixedIPs[j]
			}
		}
	}
	if len(drop) > 0 {
		if _, err := s.allocations.DeleteWhere(ctx, store.Eq("port_id", p.ID), store.In("address", drop)); err != nil {
			return err
		}
		if err := s.looseFloatingIPs(ctx, store.And(store.Eq("port_id", p.ID), store.In("fixed_ip_address", drop))); err != nil {
			return err
		}
	}
	ips, err := s.address(ctx, p, n, want, false)
	p.FixedIPs = ips
	return err
}

// DeletePort removes a port. Ports of ours go with what they belong to only.
func (s *Service) DeletePort(ctx context.Context, id string) error {
	p, err := s.Port(ctx, id)
	if err != nil {
		return err
	}
	n, err := s.networks.Get(ctx, p.NetworkID)
	if err != nil {
		return err
	}
	if err := s.enforce(ctx, "delete_port", s.portTarget(&p, &n)); err != nil {
		return err
	}
	if slices.Contains([]string{OwnerRouter, OwnerGateway, OwnerFloatingIP}, p.DeviceOwner) {
		return nacre.Errorf(nacre.Conflict, "ServicePortInUse", "Port %s cannot be deleted directly via the port API: has device owner %s.", id, p.DeviceOwner)
	}
	err = s.tx(ctx, func(ctx context.Context) error { return s.dropPort(ctx, id) })
	if err == nil && p.DeviceID != "" {
		s.tellPorts(ctx, p.DeviceID, p.DeviceOwner)
	}
	return err
}

// dropPort removes a port with all it has; in the caller's transaction.
func (s *Service) dropPort(ctx context.Context, id string) error {
	p, err := s.ports.GetForUpdate(ctx, id)
	if err != nil {
		return store.WrapNotFound(err, func() *nacre.Error { return portNotFound(id) })
	}
	if err := s.looseFloatingIPs(ctx, store.Eq("port_id", id)); err != nil {
		return err
	}
	if _, err := s.allocations.DeleteWhere(ctx, store.Eq("port_id", id)); err != nil {
		return err
	}
	if err := s.setTags(ctx, id, nil); err != nil {
		return err
	}
	if err := s.ports.Delete(ctx, id); err != nil {
		return err
	}
	if err := s.join(ctx, &p, nil); err != nil {
		return err
	}
	if err := s.settlePort(ctx, &p, nil); err != nil {
		return err
	}
	return s.emit(ctx, "port.delete.end", &p.Std)
}

// tellPorts hints to whoever owns a device that its ports changed.
func (s *Service) tellPorts(ctx context.Context, device, owner string) {
	if s.hooks.PortsChanged != nil && strings.HasPrefix(owner, ownerCompute) {
		s.hooks.PortsChanged(store.Detach(nacre.AsService(ctx, "network")), device)
	}
}
