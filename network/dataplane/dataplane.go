// Package dataplane is the contract between network and the hosts that carry
// packets: the [Driver] interface, the objects it makes real, and the messages
// that network and a host's agent exchange. It imports the module root only.
//
// Drivers: dataplane/linux (bridges, namespaces, netfilter), dataplane/fake (a
// simulated one that answers who can reach whom). dataplane/dataplanetest is the
// suite that every driver passes.
//
// Each object has its own generation. Apply of an older generation than the one
// in place is ignored; Delete removes whatever the generation. Objects may come
// in any order: a port whose network is not there yet is pending, not an error.
// A driver keeps what it needs to find everything again after a restart.
package dataplane

import (
	"context"
	"net/netip"

	"github.com/nacre-cloud/nacre"
)

// Driver makes networks real on one host. Methods are idempotent and safe for
// concurrent use. Errors are for the log and the port's reason; the caller tries
// again later.
type Driver interface {
	// Host says what this driver serves.
	Host(ctx context.Context) (Host, error)
	// List is every object in place, with its generation.
	List(ctx context.Context) ([]Ref, error)
	ApplyNetwork(ctx context.Context, n Network) error
	ApplyPort(ctx context.Context, p Port) error
	ApplyRouter(ctx context.Context, r Router) error
	ApplySecurityGroup(ctx context.Context, g SecurityGroup) error
	// Delete removes one object and everything it had on this host. One that is
	// not there is success.
	Delete(ctx context.Context, kind Kind, id string) error
	// Status says how a port is: wired or still waiting, and why.
	Status(ctx context.Context, portID string) (PortStatus, error)
	// Watch sends the id of a port whose status changed (its tap came or went).
	// It never blocks on a slow reader; it may coalesce. The channel closes when
	// ctx ends.
	Watch(ctx context.Context) (<-chan string, error)
	// Close stops what runs in this process (DHCP, metadata); the wiring stays.
	Close() error
}

// Kind is a kind of object.
type Kind string

// The kinds of objects.
const (
	KindNetwork       Kind = "network"
	KindPort          Kind = "port"
	KindRouter        Kind = "router"
	KindSecurityGroup Kind = "security_group"
)

// Ref names an object and its generation.
type Ref struct {
	Kind       Kind   `json:"kind"`
	ID         string `json:"id"`
	Generation int64  `json:"generation"`
}

// Host is what a data plane offers.
type Host struct {
	// Types are the provider network types served: "flat", "local", "vxlan".
	Types []string `json:"types"`
	// Physical are the physical networks served ("public").
	Physical []string `json:"physical"`
	// Driver names the driver: "linux", "fake".
	Driver string `json:"driver"`
	// Tunnel is the host's end of vxlan tunnels; not valid if its vxlan networks
	// stay on it.
	Tunnel netip.Addr `json:"tunnel,omitzero"`
}

// Network is a layer 2 segment with its subnets.
type Network struct {
	ID         string `json:"id"`
	Generation int64  `json:"generation"`
	ProjectID  string `json:"project_id"`
	Name       string `json:"name"`
	// Type is "flat", "local" or "vxlan"; Physical is flat's physical network;
	// Segment is vxlan's VNI.
	Type     string `json:"type"`
	Physical string `json:"physical,omitempty"`
	Segment  int    `json:"segment,omitempty"`
	// Tunnels are the ends of the other hosts that have this vxlan network.
	Tunnels []netip.Addr `json:"tunnels,omitempty"`
	MTU     int          `json:"mtu"`
	AdminUp bool         `json:"admin_up"`
	// External networks carry floating IPs and router gateways; they have no
	// DHCP and no metadata.
	External bool     `json:"external"`
	Subnets  []Subnet `json:"subnets"`
	// DHCP is the port at which DHCP and metadata answer; nil when no subnet has
	// DHCP. It hands out the addresses of the ports that are bound to this host.
	DHCP      *Endpoint `json:"dhcp,omitempty"`
	DNSDomain string    `json:"dns_domain,omitempty"`
}

// Subnet is an address range of a network.
type Subnet struct {
	ID         string       `json:"id"`
	CIDR       netip.Prefix `json:"cidr"`
	Gateway    netip.Addr   `json:"gateway,omitzero"`
	DHCP       bool         `json:"dhcp"`
	DNS        []netip.Addr `json:"dns,omitempty"`
	HostRoutes []Route      `json:"host_routes,omitempty"`
	// RAMode and AddressMode are Neutron's ipv6_ra_mode and ipv6_address_mode.
	RAMode      string `json:"ra_mode,omitempty"`
	AddressMode string `json:"address_mode,omitempty"`
}

// Route is a destination and the next hop to it.
type Route struct {
	Destination netip.Prefix `json:"destination"`
	NextHop     netip.Addr   `json:"next_hop"`
}

// Endpoint is a port of our own: a DHCP server's or a router's.
type Endpoint struct {
	PortID    string         `json:"port_id"`
	NetworkID string         `json:"network_id"`
	MAC       string         `json:"mac"`
	Addresses []netip.Prefix `json:"addresses"`
}

// Port is a guest's connection to a network, bound to this host.
type Port struct {
	ID         string `json:"id"`
	Generation int64  `json:"generation"`
	NetworkID  string `json:"network_id"`
	ProjectID  string `json:"project_id"`
	// DeviceID is the server; metadata requests from the port's addresses are
	// made in its name. DeviceOwner is "compute:nova" and the like.
	DeviceID    string `json:"device_id"`
	DeviceOwner string `json:"device_owner"`
	MAC         string `json:"mac"`
	// FixedIPs are the port's own addresses, by subnet.
	FixedIPs []FixedIP `json:"fixed_ips"`
	// AllowedPairs may be used besides. An empty MAC means the port's own.
	AllowedPairs []Pair `json:"allowed_pairs,omitempty"`
	// Tap is the device to wire; it appears when the hypervisor makes it.
	Tap     string `json:"tap"`
	AdminUp bool   `json:"admin_up"`
	// PortSecurity off means no anti-spoofing and no security groups.
	PortSecurity   bool     `json:"port_security"`
	SecurityGroups []string `json:"security_groups,omitempty"`
	// Hostname is what DHCP tells the guest (option 12).
	Hostname string `json:"hostname,omitempty"`
	// DHCPOptions are Neutron's extra_dhcp_opts: name or number, and value.
	DHCPOptions map[string]string `json:"dhcp_options,omitempty"`
}

// FixedIP is an address out of a subnet.
type FixedIP struct {
	SubnetID string     `json:"subnet_id"`
	Address  netip.Addr `json:"address"`
}

// Pair is an address, or range, that a port may use besides its own.
type Pair struct {
	Prefix netip.Prefix `json:"prefix"`
	MAC    string       `json:"mac,omitempty"`
}

// Router connects networks.
type Router struct {
	ID         string     `json:"id"`
	Generation int64      `json:"generation"`
	ProjectID  string     `json:"project_id"`
	AdminUp    bool       `json:"admin_up"`
	Interfaces []Endpoint `json:"interfaces"`
	// Gateway is the port on the external network; nil when there is none.
	Gateway *Gateway `json:"gateway,omitempty"`
	// FloatingIPs lie on the gateway's network.
	FloatingIPs []FloatingIP `json:"floating_ips,omitempty"`
	Routes      []Route      `json:"routes,omitempty"`
	// Moves changes when the router came from another host, or one that had it let
	// go of it: the neighbours are told again where its addresses are.
	Moves int64 `json:"moves,omitempty"`
}

// Gateway is a router's leg on an external network.
type Gateway struct {
	Endpoint
	// NextHops are the gateways of the external subnets.
	NextHops []netip.Addr `json:"next_hops,omitempty"`
	// SNAT hides the interfaces' subnets behind the gateway's address.
	SNAT bool `json:"snat"`
}

// FloatingIP maps an external address to a fixed one, both ways.
type FloatingIP struct {
	ID       string     `json:"id"`
	External netip.Addr `json:"external"`
	Fixed    netip.Addr `json:"fixed"`
}

// SecurityGroup is a set of rules that ports share.
type SecurityGroup struct {
	ID         string `json:"id"`
	Generation int64  `json:"generation"`
	ProjectID  string `json:"project_id"`
	// Stateless groups match each packet for itself.
	Stateless bool   `json:"stateless"`
	Rules     []Rule `json:"rules"`
	// Members are the addresses of every port in the group, on any host: what a
	// rule with this group as its remote matches.
	Members []netip.Addr `json:"members"`
}

// Rule allows traffic. Without any rule nothing passes.
type Rule struct {
	ID string `json:"id"`
	// Direction is "ingress" or "egress"; EtherType is "IPv4" or "IPv6".
	Direction string `json:"direction"`
	EtherType string `json:"ether_type"`
	// Protocol is a name ("tcp", "icmp") or number as text; empty means any.
	Protocol string `json:"protocol,omitempty"`
	// PortMin and PortMax bound the destination port, or are ICMP's type and
	// code; nil means any.
	PortMin *int `json:"port_min,omitempty"`
	PortMax *int `json:"port_max,omitempty"`
	// RemotePrefix or RemoteGroup restricts the other end; neither means any.
	RemotePrefix netip.Prefix `json:"remote_prefix,omitzero"`
	RemoteGroup  string       `json:"remote_group,omitempty"`
}

// PortStatus is how a port is on this host.
type PortStatus struct {
	// Active says that the tap is wired and its rules are in place.
	Active bool `json:"active"`
	// Reason says what it waits for, or what failed.
	Reason string `json:"reason,omitempty"`
}

// Fault is an error of a driver that a user may read.
func Fault(format string, args ...any) *nacre.Error {
	return nacre.Errorf(nacre.Unavailable, "fault", format, args...)
}
