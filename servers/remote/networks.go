package remote

import (
	"context"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/compute"
	"github.com/nacre-cloud/nacre/network"
)

// nic is what is there.
type nic struct {
	Index int    `json:"index"`
	Made  bool   `json:"made"`
	Tag   string `json:"tag,omitempty"`
}

type fixedIP struct {
	SubnetID string     `json:"subnet_id,omitempty"`
	Address  netip.Addr `json:"ip_address"`
}

type portDoc struct {
	ID             string             `json:"id"`
	NetworkID      string             `json:"network_id"`
	ProjectID      string             `json:"project_id"`
	MAC            string             `json:"mac_address"`
	Status         string             `json:"status"`
	FixedIPs       []fixedIP          `json:"fixed_ips"`
	SecurityGroups []string           `json:"security_groups"`
	PortSecurity   *bool              `json:"port_security_enabled"`
	DeviceID       string             `json:"device_id"`
	DNSName        string             `json:"dns_name"`
	Host           string             `json:"binding:host_id"`
	VIFType        string             `json:"binding:vif_type"`
	Profile        map[string]jsonRaw `json:"binding:profile"`
	Revision       int                `json:"revision_number"`
}

// nic is what the port's profile says of it; ok is false for a port that compute has
// given to no server.
func (p *portDoc) nic() (n nic, ok bool) {
	raw := p.Profile[network.ProfileNIC]
	return n, len(raw) > 0 && raw.decode(&n) == nil
}

// with is the port's profile with another nic, or without one.
func (p *portDoc) with(n *nic) object {
	out := object{}
	for k, v := range p.Profile {
		if k != network.ProfileNIC {
			out[k] = v
		}
	}
	if n != nil {
		out[network.ProfileNIC] = n
	}
	return out
}

type networkDoc struct {
	ID           string   `json:"id"`
	Name         string   `json:"name"`
	ProjectID    string   `json:"project_id"`
	MTU          int      `json:"mtu"`
	AdminUp      bool     `json:"admin_state_up"`
	Shared       bool     `json:"shared"`
	External     bool     `json:"router:external"`
	PortSecurity *bool    `json:"port_security_enabled"`
	Subnets      []string `json:"subnets"`
}

type subnetDoc struct {
	ID      string       `json:"id"`
	CIDR    netip.Prefix `json:"cidr"`
	Gateway netip.Addr   `json:"gateway_ip"`
	DHCP    bool         `json:"enable_dhcp"`
	DNS     []netip.Addr `json:"dns_nameservers"`
	Routes  []struct {
		Destination netip.Prefix `json:"destination"`
		NextHop     netip.Addr   `json:"nexthop"`
	} `json:"host_routes"`
}

type floatingDoc struct {
	PortID   string     `json:"port_id"`
	Fixed    string     `json:"fixed_ip_address"`
	Floating netip.Addr `json:"floating_ip_address"`
}

// Networks is the edge from compute to a network service.
func (c *Cloud) Networks() compute.Networks { return networks{c} }

type networks struct{ c *Cloud }

func (e networks) as(ctx context.Context) (*api, error) { return e.c.as(ctx, "network", "v2.0") }

// served are the ports that compute gave to servers, each server's by index. A second
// port of an interface, made by one who was cut off and did not know it, comes last.
func (a *api) served(ctx context.Context, servers ...string) (map[string][]portDoc, error) {
	ports, err := listAll[portDoc](ctx, a, "ports", in("ports", "device_id", servers)...)
	if err != nil {
		return nil, err
	}
	out := map[string][]portDoc{}
	for _, p := range ports {
		if _, ok := p.nic(); ok {
			out[p.DeviceID] = append(out[p.DeviceID], p)
		}
	}
	for _, ps := range out {
		slices.SortFunc(ps, func(x, y portDoc) int {
			a, _ := x.nic()
			b, _ := y.nic()
			if a.Index != b.Index {
				return a.Index - b.Index
			}
			return strings.Compare(x.ID, y.ID)
		})
	}
	return out, nil
}

func (e networks) Ports(ctx context.Context, serverIDs ...string) (map[string][]compute.Port, error) {
	if len(serverIDs) == 0 {
		return map[string][]compute.Port{}, nil
	}
	a, err := e.as(ctx)
	if err != nil {
		return nil, err
	}
	byServer, err := a.served(ctx, serverIDs...)
	if err != nil {
		return nil, err
	}
	var all []portDoc
	for _, ps := range byServer {
		all = append(all, ps...)
	}
	ports, err := a.describe(ctx, all)
	if err != nil {
		return nil, err
	}
	out := map[string][]compute.Port{}
	for id, ps := range byServer {
		for _, p := range ps {
			out[id] = append(out[id], ports[p.ID])
		}
	}
	return out, nil
}

// around is what ports need of their networks.
type around struct {
	networks []networkDoc
	subnets  []subnetDoc
	groups   []struct{ ID, Name string }
	floating []floatingDoc
}

// describe tells what guests must know of ports, by id.
func (a *api) describe(ctx context.Context, ports []portDoc) (map[string]compute.Port, error) {
	var nets, subs, groups, ids []string
	for _, p := range ports {
		nets, groups, ids = append(nets, p.NetworkID), append(groups, p.SecurityGroups...), append(ids, p.ID)
		for _, f := range p.FixedIPs {
			subs = append(subs, f.SubnetID)
		}
	}
	once := func(list []string) []string { slices.Sort(list); return slices.Compact(list) }
	var r around
	var err error
	if r.networks, err = listAll[networkDoc](ctx, a, "networks", in("networks?fields=id&fields=name&fields=mtu", "id", once(nets))...); err != nil {
		return nil, err
	}
	if r.subnets, err = listAll[subnetDoc](ctx, a, "subnets", in("subnets", "id", once(subs))...); err != nil {
		return nil, err
	}
	if r.groups, err = listAll[struct{ ID, Name string }](ctx, a, "security_groups", in("security-groups?fields=id&fields=name", "id", once(groups))...); err != nil {
		return nil, err
	}
	if r.floating, err = listAll[floatingDoc](ctx, a, "floatingips", in("floatingips", "port_id", ids)...); err != nil {
		return nil, err
	}
	out := map[string]compute.Port{}
	for i := range ports {
		out[ports[i].ID] = r.port(&ports[i])
	}
	return out, nil
}

func (r *around) port(p *portDoc) compute.Port {
	n, _ := p.nic()
	out := compute.Port{ID: p.ID, Index: n.Index, NetworkID: p.NetworkID, MAC: p.MAC, Made: n.Made, Tag: n.Tag, Active: p.Status == "ACTIVE"}
	for _, x := range r.networks {
		if x.ID == p.NetworkID {
			out.NetworkName, out.MTU = x.Name, x.MTU
		}
	}
	for _, f := range p.FixedIPs {
		addr := compute.PortAddress{Address: f.Address, SubnetID: f.SubnetID}
		for _, x := range r.floating {
			if x.PortID == p.ID && x.Fixed == f.Address.String() {
				addr.Floating = append(addr.Floating, x.Floating)
			}
		}
		out.Addresses = append(out.Addresses, addr)
	}
	for _, s := range r.subnets {
		if !slices.ContainsFunc(p.FixedIPs, func(f fixedIP) bool { return f.SubnetID == s.ID }) {
			continue
		}
		sub := compute.PortSubnet{ID: s.ID, CIDR: s.CIDR, Gateway: s.Gateway, DHCP: s.DHCP, DNS: s.DNS}
		for _, x := range s.Routes {
			sub.Routes = append(sub.Routes, compute.SubnetRoute(x))
		}
		out.Subnets = append(out.Subnets, sub)
	}
	for _, g := range r.groups {
		if slices.Contains(p.SecurityGroups, g.ID) {
			out.SecurityGroups = append(out.SecurityGroups, g.Name)
		}
	}
	return out
}

func (e networks) EnsurePort(ctx context.Context, r compute.PortRequest) (compute.Port, error) {
	a, err := e.as(ctx)
	if err != nil {
		return compute.Port{}, err
	}
	byServer, err := a.served(ctx, r.ServerID)
	if err != nil {
		return compute.Port{}, err
	}
	p, found := ofIndex(byServer[r.ServerID], r.Index)
	switch {
	case found && p.Host != r.Host:
		p, err = a.change(ctx, p.ID, object{"binding:host_id": r.Host})
	case found:
	case r.NIC.PortID != "":
		p, err = a.take(ctx, r)
	default:
		p, err = a.make(ctx, r)
	}
	if err != nil {
		return compute.Port{}, err
	}
	if p.VIFType == "binding_failed" {
		return compute.Port{}, nacre.Errorf(nacre.Unavailable, "PortBindingFailed", "Binding failed for port %s: host %s has no network agent.", p.ID, r.Host)
	}
	ports, err := a.describe(ctx, []portDoc{p})
	return ports[p.ID], err
}

func ofIndex(ports []portDoc, index int) (portDoc, bool) {
	for _, p := range ports {
		if n, _ := p.nic(); n.Index == index {
			return p, true
		}
	}
	return portDoc{}, false
}

func (a *api) change(ctx context.Context, port string, change object, headers ...string) (portDoc, error) {
	var out struct{ Port portDoc }
	err := a.put(ctx, "ports/"+url.PathEscape(port), object{"port": change}, &out, headers...)
	return out.Port, err
}

// make makes a server's port. Somebody who was believed dead may be making it too: of
// several the first by id stays, as [api.served] has them.
func (a *api) make(ctx context.Context, r compute.PortRequest) (portDoc, error) {
	var n struct{ Network networkDoc }
	if err := a.get(ctx, "networks/"+url.PathEscape(r.NIC.NetworkID), &n); err != nil {
		return portDoc{}, err
	}
	body := object{"network_id": r.NIC.NetworkID, "project_id": r.ProjectID, "admin_state_up": true, "device_id": r.ServerID, "device_owner": "compute:" + r.AvailabilityZone,
		"binding:host_id": r.Host, "binding:profile": object{network.ProfileNIC: nic{Index: r.Index, Made: true, Tag: r.NIC.Tag}}}
	if n.Network.PortSecurity == nil || *n.Network.PortSecurity {
		body["security_groups"] = r.SecurityGroups
	}
	if r.NIC.FixedIP.IsValid() {
		body["fixed_ips"] = []fixedIP{{Address: r.NIC.FixedIP}}
	}
	names, err := a.names(ctx)
	if err != nil {
		return portDoc{}, err
	}
	if names && r.Hostname != "" {
		body["dns_name"] = r.Hostname
	}
	var made struct{ Port portDoc }
	if err := a.post(ctx, "ports", object{"port": body}, &made); err != nil {
		return portDoc{}, err
	}
	byServer, err := a.served(ctx, r.ServerID)
	if err != nil {
		return portDoc{}, err
	}
	first, ok := ofIndex(byServer[r.ServerID], r.Index)
	if !ok || first.ID == made.Port.ID {
		return made.Port, nil
	}
	return first, a.remove(ctx, "ports/"+url.PathEscape(made.Port.ID))
}

// names says that ports have names there (the extension dns-integration).
func (a *api) names(ctx context.Context) (bool, error) {
	a.c.mu.Lock()
	dns, at := a.c.dns, a.c.dnsAt
	a.c.mu.Unlock()
	if time.Since(at) < time.Minute {
		return dns, nil
	}
	list, err := listAll[struct{ Alias string }](ctx, a, "extensions", "extensions?fields=alias")
	if err != nil {
		return false, err
	}
	dns = slices.ContainsFunc(list, func(x struct{ Alias string }) bool { return x.Alias == "dns-integration" })
	a.c.mu.Lock()
	defer a.c.mu.Unlock()
	a.c.dns, a.c.dnsAt = dns, time.Now()
	return dns, nil
}

// take binds a port that the user brought. It holds only for the port as it was looked
// at: two servers never get the same one.
func (a *api) take(ctx context.Context, r compute.PortRequest) (portDoc, error) {
	var got struct{ Port portDoc }
	if err := a.get(ctx, "ports/"+url.PathEscape(r.NIC.PortID), &got); err != nil {
		return portDoc{}, err
	}
	p := &got.Port
	switch {
	case p.DeviceID != "" && p.DeviceID != r.ServerID:
		return portDoc{}, nacre.Errorf(nacre.Conflict, "PortInUse", "Port %s is still in use.", p.ID)
	case p.ProjectID != r.ProjectID:
		return portDoc{}, nacre.Errorf(nacre.Forbidden, "PortNotUsable", "Port %s not usable for instance %s.", p.ID, r.ServerID)
	}
	change := object{"device_id": r.ServerID, "device_owner": "compute:" + r.AvailabilityZone, "binding:host_id": r.Host,
		"binding:profile": p.with(&nic{Index: r.Index, Tag: r.NIC.Tag})}
	if p.DNSName == "" && r.Hostname != "" {
		names, err := a.names(ctx)
		if err != nil {
			return portDoc{}, err
		}
		if names {
			change["dns_name"] = r.Hostname
		}
	}
	out, err := a.change(ctx, p.ID, change, "If-Match", "revision_number="+strconv.Itoa(p.Revision))
	if nacre.KindOf(err) == nacre.Precondition {
		return out, &nacre.Error{Kind: nacre.Unavailable, Message: "the port changed meanwhile", Err: err} // look again
	}
	return out, err
}

// mine are the served ports of a server that belong to its project.
func (e networks) mine(ctx context.Context, projectID, serverID string) (*api, []portDoc, error) {
	a, err := e.as(ctx)
	if err != nil {
		return nil, nil, err
	}
	byServer, err := a.served(ctx, serverID)
	if err != nil {
		return nil, nil, err
	}
	return a, slices.DeleteFunc(byServer[serverID], func(p portDoc) bool { return p.ProjectID != projectID }), nil
}

func (e networks) Release(ctx context.Context, projectID, serverID string) error {
	return e.release(ctx, projectID, serverID, "")
}

func (e networks) Unplug(ctx context.Context, projectID, serverID, portID string) error {
	if portID == "" {
		return nacre.Errorf(nacre.Invalid, "", "no port is named")
	}
	return e.release(ctx, projectID, serverID, portID)
}

// release deletes the ports that were made for a server and unbinds the others; port
// empty means all of them.
func (e networks) release(ctx context.Context, projectID, serverID, port string) error {
	a, ports, err := e.mine(ctx, projectID, serverID)
	if err != nil {
		return err
	}
	for _, p := range ports {
		if port != "" && p.ID != port {
			continue
		}
		if n, _ := p.nic(); n.Made {
			err = a.remove(ctx, "ports/"+url.PathEscape(p.ID))
		} else if _, err = a.change(ctx, p.ID, object{"device_id": "", "device_owner": "", "binding:host_id": "", "binding:profile": p.with(nil)}); nacre.KindOf(err) == nacre.NotFound {
			err = nil // its owner deleted it
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func bindingPath(port string, more ...string) string {
	path := "ports/" + url.PathEscape(port) + "/bindings"
	for _, m := range more {
		path += "/" + url.PathEscape(m)
	}
	return path
}

func (e networks) BindPorts(ctx context.Context, projectID, serverID, host string) error {
	a, ports, err := e.mine(ctx, projectID, serverID)
	if err != nil {
		return err
	}
	for i := range ports {
		err := a.post(ctx, bindingPath(ports[i].ID), object{"binding": object{"host": host, "profile": ports[i].Profile}}, nil)
		if err != nil && !is(err, "PortBindingAlreadyExists") {
			return err
		}
	}
	return nil
}

func (e networks) ActivatePorts(ctx context.Context, projectID, serverID, host string) error {
	a, ports, err := e.mine(ctx, projectID, serverID)
	if err != nil {
		return err
	}
	for _, p := range ports {
		if p.Host == host {
			continue
		}
		if err := a.put(ctx, bindingPath(p.ID, host, "activate"), nil, nil); err != nil && !is(err, "PortBindingAlreadyActive") {
			return err
		}
	}
	return nil
}

func (e networks) UnbindPorts(ctx context.Context, projectID, serverID, host string) error {
	a, ports, err := e.mine(ctx, projectID, serverID)
	if err != nil {
		return err
	}
	for _, p := range ports {
		if p.Host == host {
			continue // the active one
		}
		if err := a.remove(ctx, bindingPath(p.ID, host)); err != nil {
			return err
		}
	}
	return nil
}

// is says that an error is of a type of the other service's.
func is(err error, typ string) bool {
	e, ok := err.(*nacre.Error) //nolint:errorlint // api.fault makes it
	return ok && e.Code == typ
}
