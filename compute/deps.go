package compute

import (
	"context"
	"io"
	"net/netip"
)

// Images is what compute needs of the image service.
type Images interface {
	// Image is an image as the context's caller sees it, or nacre.NotFound.
	Image(ctx context.Context, id string) (Image, error)
	// Open streams an active image's bytes.
	Open(ctx context.Context, id string) (io.ReadCloser, error)
}

// Image is what compute looks at in an image.
type Image struct {
	ID, Name, Status string
	// DiskFormat is "raw", "qcow2", …; Size is in bytes, VirtualSize too (0 if unknown).
	DiskFormat, ContainerFormat string
	Size, VirtualSize           int64
	// MinDisk in GiB and MinRAM in MiB.
	MinDisk, MinRAM int
	// Hash is "sha512:" and the hex digest.
	Hash string
	// Properties are the custom ones, as text (hw_*, os_*, architecture …).
	Properties map[string]string
}

// Networks is what compute needs of the network service. Calls act with the
// context's caller, but for those of later steps, which act as the service and
// name the project.
type Networks interface {
	// Check looks at what the user asked for with the user's own rights: networks
	// may be used, ports are free, addresses lie in their networks, security
	// groups exist. It returns the requests with every network named ("auto" and
	// the only network resolved), in order, and the security groups' ids. It
	// creates nothing but, for auto, what auto needs.
	Check(ctx context.Context, want NetworkRequest) (NetworkPlan, error)
	// EnsurePort makes or takes the port of one NIC and binds it to a host. It is
	// idempotent by (server, index): what is there is found again.
	EnsurePort(ctx context.Context, p PortRequest) (Port, error)
	// Ports lists the ports of servers, by server, each server's by index.
	Ports(ctx context.Context, serverIDs ...string) (map[string][]Port, error)
	// Release deletes the ports that EnsurePort made for a server and unbinds
	// those that the user brought. Nothing to release is success.
	Release(ctx context.Context, projectID, serverID string) error
	// SetGroup adds a security group, by id or name, to every port of a server that
	// heeds groups, or takes it off, with the user's own rights.
	SetGroup(ctx context.Context, projectID, serverID, group string, add bool) error
	// Unplug releases one port of a server in the same way.
	Unplug(ctx context.Context, projectID, serverID, portID string) error
	// BindPorts gives every port of a server an inactive binding to a second host, which
	// then wires it too: what a move needs before the guest runs there. A port that is
	// bound to that host, actively or not, is left as it is.
	BindPorts(ctx context.Context, projectID, serverID, host string) error
	// ActivatePorts makes the bindings to a host the active ones; those that were become
	// inactive, and their host keeps the wiring. What is active already stays so. A port
	// that has no binding to the host is a nacre.NotFound.
	ActivatePorts(ctx context.Context, projectID, serverID, host string) error
	// UnbindPorts takes away the inactive bindings to a host, whose wiring goes. Active
	// ones are left alone; nothing to take away is success.
	UnbindPorts(ctx context.Context, projectID, serverID, host string) error
}

// NetworkRequest is what a user asked of a server's networks.
type NetworkRequest struct {
	ProjectID string
	// Mode is "auto", "none", "" (the rules before 2.37: none, the only one, or
	// a conflict) or "list".
	Mode string
	NICs []NICRequest
	// SecurityGroups are names or ids; empty means "default".
	SecurityGroups []string
	// Servers is how many servers are made at once: a named port or fixed
	// address can serve only one.
	Servers int
}

// NICRequest is one network interface asked for.
type NICRequest struct {
	NetworkID string     `json:"network_id,omitempty"`
	PortID    string     `json:"port_id,omitempty"`
	FixedIP   netip.Addr `json:"fixed_ip,omitzero"`
	Tag       string     `json:"tag,omitempty"`
}

// NetworkPlan is a checked NetworkRequest.
type NetworkPlan struct {
	NICs []NICRequest `json:"nics"`
	// SecurityGroups are ids.
	SecurityGroups []string `json:"security_groups"`
}

// PortRequest asks for the port of one NIC.
type PortRequest struct {
	ProjectID, ServerID string
	// Index is the NIC's position; ports that EnsurePort makes carry it.
	Index            int
	NIC              NICRequest
	Host             string
	AvailabilityZone string
	// Hostname is what DHCP and DNS call the server.
	Hostname       string
	SecurityGroups []string
}

// Port is a server's port with what it needs of its network.
type Port struct {
	ID          string `json:"id"`
	Index       int    `json:"index"`
	NetworkID   string `json:"network_id"`
	NetworkName string `json:"network_name"`
	MAC         string `json:"mac"`
	MTU         int    `json:"mtu"`
	// Made says that EnsurePort made it, so that it goes with the server.
	Made bool   `json:"made"`
	Tag  string `json:"tag,omitempty"`
	// Active says that the data plane has wired it.
	Active    bool          `json:"active"`
	Addresses []PortAddress `json:"addresses"`
	Subnets   []PortSubnet  `json:"subnets,omitempty"`
	// SecurityGroups are the names of the groups in force.
	SecurityGroups []string `json:"security_groups,omitempty"`
}

// PortAddress is an address of a port.
type PortAddress struct {
	Address netip.Addr `json:"address"`
	// Floating is the address that leads to Address from outside; usually none.
	Floating []netip.Addr `json:"floating,omitempty"`
	SubnetID string       `json:"subnet_id"`
}

// PortSubnet is what a guest must know of a subnet.
type PortSubnet struct {
	ID      string        `json:"id"`
	CIDR    netip.Prefix  `json:"cidr"`
	Gateway netip.Addr    `json:"gateway,omitzero"`
	DHCP    bool          `json:"dhcp"`
	DNS     []netip.Addr  `json:"dns,omitempty"`
	Routes  []SubnetRoute `json:"routes,omitempty"`
}

// SubnetRoute is a static route of a subnet.
type SubnetRoute struct {
	Destination netip.Prefix `json:"destination"`
	NextHop     netip.Addr   `json:"next_hop"`
}

// SecurityGroups is what compute's proxy of the network service needs (nova's
// os-security-groups, up to 2.35, which older clients still ask). Calls act with the
// context's caller and that caller's rights.
type SecurityGroups interface {
	// Groups lists a project's groups, or everybody's when the project is "".
	Groups(ctx context.Context, projectID string) ([]SecurityGroup, error)
	// ServerGroups are the groups of a server's ports.
	ServerGroups(ctx context.Context, serverID string) ([]SecurityGroup, error)
	Group(ctx context.Context, id string) (SecurityGroup, error)
	CreateGroup(ctx context.Context, name, description string) (SecurityGroup, error)
	UpdateGroup(ctx context.Context, id, name, description string) (SecurityGroup, error)
	DeleteGroup(ctx context.Context, id string) error
	Rule(ctx context.Context, id string) (SecurityGroupRule, error)
	CreateRule(ctx context.Context, r SecurityGroupRule) (SecurityGroupRule, error)
	DeleteRule(ctx context.Context, id string) error
}

// SecurityGroup is a group as nova shows it.
type SecurityGroup struct {
	ID, Name, Description, ProjectID string
	// Rules are the ingress ones, the only ones that nova knows.
	Rules []SecurityGroupRule
}

// SecurityGroupRule lets traffic in.
type SecurityGroupRule struct {
	ID, GroupID string
	// Protocol is empty for any.
	Protocol string
	// FromPort and ToPort bound the ports, or are ICMP's type and code; nil is any.
	FromPort, ToPort *int
	// RemoteID is the group whose members may come in; RemoteName and RemoteProject
	// tell of it. Without one, CIDR says who may.
	RemoteID, RemoteName, RemoteProject string
	CIDR                                string
}
