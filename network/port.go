package network

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"maps"
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
	// Trusted, unless nil, is written into Profile, where nova looks for it.
	Trusted *bool
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
	in.Port = p
	err = s.tx(ctx, func(ctx context.Context) error {
		var err error
		p, err = s.insertPort(ctx, in, &n)
		return err
	})
	if err == nil {
		s.tellPort(ctx, NetworkChanged, &p)
	}
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
		":device_owner": strings.HasPrefix(in.DeviceOwner, "network:"), ":trusted": in.Trusted != nil} {
		if on {
			if err := s.enforce(ctx, rule+name, t); err != nil {
				return err
			}
		}
	}
	return nil
}

// insertPort does what CreatePort does, in the caller's transaction and without
// asking policy; our own ports count against no quota. Host alone says where it is
// bound; Served and what comes with it is the caller's.
func (s *Service) insertPort(ctx context.Context, in NewPort, n *Network) (Port, error) {
	p := in.Port
	p.FixedIPs, p.SecurityGroups = nil, nil
	if err := p.takeProfile(p.Profile); err != nil {
		return p, err
	}
	if !ourOwn(p.DeviceOwner) {
		if err := s.reserve(ctx, "port", p.ProjectID, 1, func(ctx context.Context) (int64, error) {
			return s.ports.Count(ctx, store.Eq("project_id", p.ProjectID), store.Not(store.In("device_owner", ourOwners)))
		}); err != nil {
			return p, err
		}
	}
	if err := s.holdNetwork(ctx, n.ID); err != nil {
		return p, err
	}
	if err := s.completePort(ctx, &in, &p, n); err != nil {
		return p, err
	}
	project := p.ProjectID
	s.fresh(ctx, &p.Std)
	p.ProjectID = project
	if err := s.claimMAC(ctx, &p); err != nil {
		return p, err
	}
	var err error
	if p.BindingFailed, err = s.unbindable(ctx, &p); err != nil {
		return p, err
	}
	if p.FixedIPs, err = s.address(ctx, &p, n, in.FixedIPs, in.FixedIPs == nil); err != nil {
		return p, err
	}
	if err := s.ports.Insert(ctx, p); err != nil {
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

// holdNetwork serialises what gives out or takes back a network's addresses, and
// makes sure that the network is still there; in the caller's transaction.
func (s *Service) holdNetwork(ctx context.Context, id string) error {
	if err := store.Lock(ctx, s.c.Engine, "network/"+id); err != nil {
		return err
	}
	there, err := s.networks.Exists(ctx, store.Eq("id", id))
	if err == nil && !there {
		err = networkNotFound(id)
	}
	return err
}

func (s *Service) unbindable(ctx context.Context, p *Port) (bool, error) {
	if p.Host == "" {
		return false, nil
	}
	known, err := s.known(ctx, p.Host)
	return !known, err
}

// claimMAC gives a port a free address, or refuses one that is taken. The network
// is held.
func (s *Service) claimMAC(ctx context.Context, p *Port) error {
	if p.MAC == "" {
		var err error
		p.MAC, err = s.freeMAC(ctx, p.NetworkID)
		return err
	}
	used, err := s.ports.Exists(ctx, store.Eq("network_id", p.NetworkID), store.Eq("mac_address", p.MAC))
	if err == nil && used {
		err = nacre.Errorf(nacre.Conflict, "MacAddressInUse", "Unable to complete operation for network %s. The MAC address %s is in use.", p.NetworkID, p.MAC)
	}
	return err
}

func (s *Service) completePort(ctx context.Context, in *NewPort, p *Port, n *Network) error {
	p.Status = Down
	if p.VNICType == "" {
		p.VNICType = "normal"
	}
	if p.Profile == nil {
		p.Profile = map[string]any{}
	}
	if in.Trusted != nil {
		p.Profile = maps.Clone(p.Profile)
		p.Profile["trusted"] = *in.Trusted
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
	p.SecurityGroups = nil
	for _, g := range in.SecurityGroups {
		if !slices.Contains(p.SecurityGroups, g) {
			p.SecurityGroups = append(p.SecurityGroups, g)
		}
	}
	switch {
	case ourOwn(p.DeviceOwner) && in.SecurityGroups == nil:
		p.SecurityGroups, p.PortSecurity = []string{}, false
	case !p.PortSecurity:
		if len(p.SecurityGroups) > 0 {
			return nacre.Errorf(nacre.Invalid, "PortSecurityAndIPRequiredForSecurityGroups", "Port security must be enabled and port must have an IP address in order to use security groups.")
		}
	case in.SecurityGroups == nil && p.ProjectID != "":
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

// join brings the membership rows in line and has the groups that gained or lost
// a member, or a member's address, told; in the caller's transaction.
func (s *Service) join(ctx context.Context, before, after *Port) error {
	none := &Port{}
	was, is := cmp.Or(before, none), cmp.Or(after, none)
	same := slices.Equal(was.SecurityGroups, is.SecurityGroups)
	if same && slices.Equal(carriers(was), carriers(is)) && slices.Equal(was.FixedIPs, is.FixedIPs) {
		return nil
	}
	if len(was.SecurityGroups) > 0 {
		if _, err := s.members.DeleteWhere(ctx, store.Eq("port_id", was.ID)); err != nil {
			return err
		}
	}
	var rows []Membership
	for _, g := range is.SecurityGroups {
		rows = append(rows, Membership{ID: is.ID + "/" + g, PortID: is.ID, GroupID: g, Host: carrier(is)})
		for _, b := range is.Inactive {
			rows = append(rows, Membership{ID: is.ID + "/" + g + "/" + b.Host, PortID: is.ID, GroupID: g, Host: b.Host})
		}
	}
	if len(rows) > 0 {
		if err := s.members.Insert(ctx, rows...); err != nil {
			return err
		}
	}
	if same && slices.Equal(was.FixedIPs, is.FixedIPs) {
		return nil
	}
	touch := slices.Concat(was.SecurityGroups, is.SecurityGroups)
	// In one order, so that two who change the same groups don't wait for each other.
	slices.Sort(touch)
	for _, g := range slices.Compact(touch) {
		there, err := s.tellHosts(ctx, dataplane.KindSecurityGroup, g)
		if err != nil {
			return err
		}
		if !there && slices.Contains(is.SecurityGroups, g) {
			return groupNotFound(g)
		}
	}
	return nil
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
	err = s.tx(ctx, func(ctx context.Context) error {
		if err := s.dropPort(ctx, id, p.NetworkID); err != nil || p.DeviceOwner != OwnerDHCP {
			return err
		}
		// A network with DHCP has such a port; another one takes its place.
		if err := s.settleDHCP(ctx, &n); err != nil {
			return err
		}
		return s.changed(ctx, dataplane.KindNetwork, n.ID)
	})
	if err == nil {
		s.tellPort(ctx, VIFDeleted, &p)
	}
	return err
}

// dropPort removes a port of a network with all it has; in the caller's transaction.
func (s *Service) dropPort(ctx context.Context, id, network string) error {
	if err := store.Lock(ctx, s.c.Engine, "network/"+network); err != nil {
		return err
	}
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
	if len(p.Tags) > 0 {
		if err := s.setTags(ctx, id, nil); err != nil {
			return err
		}
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

// tellPort hints to whoever owns a port's device that the port changed.
func (s *Service) tellPort(ctx context.Context, name string, p *Port) {
	if s.hooks.PortEvent == nil || p.DeviceID == "" || !strings.HasPrefix(p.DeviceOwner, ownerCompute) {
		return
	}
	e := PortEvent{Name: name, DeviceID: p.DeviceID, PortID: p.ID}
	store.AfterCommit(ctx, func() { s.hooks.PortEvent(store.Detach(nacre.AsService(ctx, "network")), e) })
}
