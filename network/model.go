package network

import (
	"net/netip"
	"time"

	"github.com/nacre-cloud/nacre/internal/outbox"
	"github.com/nacre-cloud/nacre/internal/quota"
	"github.com/nacre-cloud/nacre/internal/reconcile"
	"github.com/nacre-cloud/nacre/network/dataplane"
	"github.com/nacre-cloud/nacre/store"
)

// Std are the standard attributes that every resource has.
type Std struct {
	ID          string   `store:"id,pk"`
	ProjectID   string   `store:"project_id"`
	Name        string   `store:"name"`
	Description string   `store:"description"`
	Tags        []string `store:"tags,json"`
	// Revision counts the changes that a user can see.
	Revision int       `store:"revision_number"`
	Created  time.Time `store:"created_at"`
	Updated  time.Time `store:"updated_at"`
	// Generation counts what hosts must hear of.
	Generation int64 `store:"generation"`
}

// The states of a port, network, router or floating IP.
const (
	Active = "ACTIVE"
	Down   = "DOWN"
	Build  = "BUILD"
)

// Network is a layer 2 segment.
type Network struct {
	Std
	AdminUp bool `store:"admin_state_up"`
	Shared  bool `store:"shared"`
	// External networks carry floating IPs and routers' gateways.
	External bool `store:"external"`
	Default  bool `store:"is_default"`
	// Type is flat, local or vxlan; Physical is flat's; Segment is vxlan's VNI.
	Type     string `store:"network_type,unique=network_segment"`
	Segment  int    `store:"segmentation_id,null,unique=network_segment"`
	Physical string `store:"physical_network,null,unique=network_physical"`
	// MTU in bytes.
	MTU          int    `store:"mtu"`
	PortSecurity bool   `store:"port_security_enabled"`
	Status       string `store:"status"`
	DNSDomain    string `store:"dns_domain"`
}

// Pool is a range of addresses that are given out.
type Pool struct {
	Start netip.Addr `json:"start"`
	End   netip.Addr `json:"end"`
}

// Route is a static route.
type Route struct {
	Destination netip.Prefix `json:"destination"`
	NextHop     netip.Addr   `json:"nexthop"`
}

// Subnet is an address range of a network.
type Subnet struct {
	Std
	NetworkID string `store:"network_id,index=subnet_network"`
	// Shared mirrors the network's, for lists.
	CIDR      string `store:"cidr"`
	IPVersion int    `store:"ip_version"`
	// Gateway is empty for none.
	Gateway      string   `store:"gateway_ip"`
	Pools        []Pool   `store:"allocation_pools,json"`
	DNS          []string `store:"dns_nameservers,json"`
	Routes       []Route  `store:"host_routes,json"`
	DHCP         bool     `store:"enable_dhcp"`
	RAMode       string   `store:"ipv6_ra_mode"`
	AddressMode  string   `store:"ipv6_address_mode"`
	ServiceTypes []string `store:"service_types,json"`
	// SubnetPoolID is the pool that the range was cut from, or empty.
	SubnetPoolID string `store:"subnetpool_id,index=subnet_pool"`
}

// Prefix is the subnet's range.
func (s *Subnet) Prefix() netip.Prefix { p, _ := netip.ParsePrefix(s.CIDR); return p }

// FixedIP is an address of a port.
type FixedIP struct {
	SubnetID string `json:"subnet_id"`
	Address  string `json:"ip_address"`
}

// Pair is an address, or range, that a port may use besides its own.
type Pair struct {
	Address string `json:"ip_address"`
	MAC     string `json:"mac_address,omitempty"`
}

// DHCPOption is one of a port's extra_dhcp_opts.
type DHCPOption struct {
	Name    string `json:"opt_name"`
	Value   string `json:"opt_value"`
	Version int    `json:"ip_version"`
}

// Port is a connection to a network.
type Port struct {
	Std
	NetworkID      string       `store:"network_id,unique=port_mac,index=port_network"`
	MAC            string       `store:"mac_address,unique=port_mac"`
	AdminUp        bool         `store:"admin_state_up"`
	Status         string       `store:"status"`
	DeviceID       string       `store:"device_id,index=port_device"`
	DeviceOwner    string       `store:"device_owner,index=port_owner"`
	FixedIPs       []FixedIP    `store:"fixed_ips,json"`
	SecurityGroups []string     `store:"security_groups,json"`
	PortSecurity   bool         `store:"port_security_enabled"`
	Pairs          []Pair       `store:"allowed_address_pairs,json"`
	DHCPOptions    []DHCPOption `store:"extra_dhcp_opts,json"`
	// Host is where it is bound; empty is unbound. Inactive are its bindings to further
	// hosts, which wire it too.
	Host     string    `store:"host,index=port_host"`
	Inactive []Binding `store:"inactive_bindings,json"`
	// BindingFailed says that Host is none that this cloud has.
	BindingFailed bool           `store:"binding_failed"`
	VNICType      string         `store:"vnic_type"`
	Profile       map[string]any `store:"profile,json"`
	DNSName       string         `store:"dns_name"`
	// Served says that compute attached it to a server; what a user writes into
	// DeviceID does not. NICIndex is then the NIC's place in the server, and Made
	// whether the port was made for it and goes with it.
	Served   bool   `store:"served"`
	NICIndex int    `store:"nic_index"`
	Made     bool   `store:"made"`
	NICTag   string `store:"nic_tag"`
}

// The device owners that mean something here (neutron_lib's constants).
const (
	OwnerDHCP       = "network:dhcp"
	OwnerRouter     = "network:router_interface"
	OwnerGateway    = "network:router_gateway"
	OwnerFloatingIP = "network:floatingip"
	ownerCompute    = "compute:"
)

// Allocation is a given-out address; its key makes it unique in its network.
type Allocation struct {
	// ID is "<network>/<address>".
	ID        string `store:"id,pk"`
	NetworkID string `store:"network_id"`
	SubnetID  string `store:"subnet_id,index=allocation_subnet"`
	// Key is the address as 32 hex digits, which sorts.
	Key     string `store:"addr_key,index=allocation_subnet"`
	PortID  string `store:"port_id,index=allocation_port"`
	Address string `store:"address,index=allocation_address"`
}

// Membership is a port in a security group, on one of the hosts that carry it.
type Membership struct {
	// ID is "<port>/<group>", and "/<host>" where the binding is an inactive one.
	ID      string `store:"id,pk"`
	PortID  string `store:"port_id,index=membership_port"`
	GroupID string `store:"group_id,index=membership_group"`
	// Host is the one that carries the port, or empty.
	Host string `store:"host,index=membership_group"`
}

// Router connects networks.
type Router struct {
	Std
	AdminUp bool   `store:"admin_state_up"`
	Status  string `store:"status"`
	// GatewayNetworkID is empty without a gateway.
	GatewayNetworkID string  `store:"gateway_network_id,index=router_gateway"`
	GatewayPortID    string  `store:"gateway_port_id"`
	SNAT             bool    `store:"enable_snat"`
	Routes           []Route `store:"routes,json"`
	// Host is the one that has it; empty until it has a leg and a host is found.
	// Unhosted says that an operator took it off its host: it has none until it
	// changes or is given one.
	Host     string `store:"host,index=router_host"`
	Unhosted bool   `store:"unhosted"`
	// Moves counts how often its addresses came to lie elsewhere, which their
	// neighbours are to hear of.
	Moves int64 `store:"moves"`
}

// FloatingIP is an external address that leads to a fixed one.
type FloatingIP struct {
	Std
	NetworkID string `store:"floating_network_id,index=floatingip_network"`
	Address   string `store:"floating_ip_address"`
	// ExternalPortID is the port that holds the address on the external network.
	ExternalPortID string `store:"external_port_id"`
	// PortID, FixedIP and RouterID are empty when it leads nowhere.
	PortID   string `store:"port_id,index=floatingip_port"`
	FixedIP  string `store:"fixed_ip_address"`
	RouterID string `store:"router_id,index=floatingip_router"`
	Status   string `store:"status"`
	// DNSName and DNSDomain are what an outside name server would be told.
	DNSName   string `store:"dns_name"`
	DNSDomain string `store:"dns_domain"`
}

// SecurityGroup is a set of rules.
type SecurityGroup struct {
	Std
	Stateful bool `store:"stateful"`
	// DefaultOf is the project whose default group it is; null otherwise.
	DefaultOf string `store:"default_of,null,unique=security_group_default"`
}

// SecurityGroupRule allows traffic.
type SecurityGroupRule struct {
	Std
	GroupID       string `store:"security_group_id,index=rule_group"`
	Direction     string `store:"direction"`
	EtherType     string `store:"ethertype"`
	Protocol      string `store:"protocol"`
	PortMin       *int   `store:"port_range_min"`
	PortMax       *int   `store:"port_range_max"`
	RemotePrefix  string `store:"remote_ip_prefix"`
	RemoteGroupID string `store:"remote_group_id,index=rule_remote"`
	// RemoteAddressGroupID is an [AddressGroup].
	RemoteAddressGroupID string `store:"remote_address_group_id,index=rule_addresses"`
	// Same is what makes two rules of a group the same one.
	Same string `store:"same,unique=security_group_rule_same"`
}

// Host is a host that carries packets.
type Host struct {
	ID   string         `store:"id,pk"`
	Name string         `store:"name,unique=host_name"`
	Info dataplane.Host `store:"info,json"`
	// Started is the agent's, Sequence the number of its last full report.
	Started  int64     `store:"started"`
	Sequence int64     `store:"sequence"`
	Seen     time.Time `store:"seen_at"`
	Created  time.Time `store:"created_at"`
	// AdminUp off takes the routers away from the host, and gives it no more.
	AdminUp     bool   `store:"admin_state_up"`
	Description string `store:"description"`
}

// Place is what a host is to have, and what it says of it. A place that is Gone
// is a tombstone.
type Place struct {
	// ID is "<host>/<kind>/<object>".
	ID       string         `store:"id,pk"`
	Host     string         `store:"host,index=place_pending"`
	Kind     dataplane.Kind `store:"kind"`
	ObjectID string         `store:"object_id,index=place_object"`
	// Wanted is the generation that the host must reach, Seen the one it has.
	Wanted int64 `store:"wanted"`
	Seen   int64 `store:"seen"`
	// Pending says that the host has not confirmed Wanted.
	Pending bool   `store:"pending,index=place_pending"`
	Gone    bool   `store:"gone"`
	Active  bool   `store:"active"`
	Reason  string `store:"reason"`
	// SeenEpoch and SeenSequence are the start of the host's agent that said it, and the
	// number of its report.
	SeenEpoch    int64 `store:"seen_epoch"`
	SeenSequence int64 `store:"seen_sequence"`
}

// Schema is what the area keeps.
func Schema() *store.Schema {
	return &store.Schema{Area: "network", Tables: []*store.TableDef{
		store.Define[Network]("network"), store.Define[Subnet]("subnet"), store.Define[SubnetPool]("subnetpool"), store.Define[Port]("port"), store.Define[Allocation]("ip_allocation"),
		store.Define[Membership]("port_security_group"), store.Define[Router]("router"), store.Define[FloatingIP]("floatingip"),
		store.Define[SecurityGroup]("security_group"), store.Define[SecurityGroupRule]("security_group_rule"),
		store.Define[AddressGroup]("address_group"), store.Define[Host]("host"), store.Define[Place]("place"), store.Define[TagRow]("tag"),
		quota.Table(), reconcile.Table(), outbox.Table(),
	}}
}
