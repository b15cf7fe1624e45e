// Package metadata is what a guest reads about itself: the content of the
// metadata service and of the config drive, as Nova has them, out of one plain
// [Instance].
//
// [Files] is the config drive's tree. [Handler] is the metadata service behind
// Neutron's proxy, which says by signed headers which instance asks.
//
//	http.Serve(l, &metadata.Handler{Lookup: lookup, Secret: secret})
//
// What it promises: names, versions, listings and the shape of every document are
// those of nova/api/metadata (base.py, handler.py, password.py) and
// nova/virt/netutils.py in 2025.1; both faces are rendered by the same code; an
// instance's data is never given to a request that is not signed for it.
package metadata

import (
	"net/netip"
)

// Instance is all that a guest may know about itself.
type Instance struct {
	// UUID is the server's id, Name its display name.
	UUID, Name string
	// Hostname is the short one; Domain is added to it in every document unless
	// empty (Nova's dhcp_domain, "novalocal" by default).
	Hostname, Domain string
	ProjectID        string
	AvailabilityZone string
	// LaunchIndex is the server's place among those of one request.
	LaunchIndex int
	// ReservationID is "r-" and eight characters, shared by the servers of one request.
	ReservationID string
	// Flavor is the flavor's name, the EC2 instance-type.
	Flavor string
	// EC2ID ("i-0000002a") and AMIID ("ami-00000001") are the EC2 face's ids;
	// KernelID and RamdiskID are left out if empty.
	EC2ID, AMIID, KernelID, RamdiskID string
	// RootDevice is the root disk's name in the guest; "/dev/vda" if empty. Swap
	// and Ephemeral name the other local disks.
	RootDevice string
	Swap       string
	Ephemeral  []string
	// Keys are the server's keypairs; the first is the EC2 face's.
	Keys []Key
	// Meta is the server's own metadata.
	Meta map[string]string
	// UserData are the decoded bytes; nil means none (an empty, non-nil slice is
	// an empty document).
	UserData []byte
	// AdminPass is shown on the config drive only, as with Nova.
	AdminPass string
	// Password is the encrypted one that the guest itself left.
	Password       string
	SecurityGroups []string
	// PublicIPv4s are floating addresses; the local ones come from Links.
	PublicIPv4s []netip.Addr
	Links       []Link
	Devices     []Device
	// Injected are the files given at create (personality); on the config drive only.
	Injected []InjectedFile
	// VendorData is the deployer's static vendor data, a JSON object; nil is {}.
	VendorData []byte
	// RandomSeed is the seed shown to the guest; nil means 512 fresh bytes for
	// each document.
	RandomSeed []byte
}

// Key is a keypair's public half.
type Key struct {
	Name string
	// Type is "ssh" or "x509".
	Type string
	// Data is the public key in its own text form.
	Data string
}

// Link is one network card and the network behind it.
type Link struct {
	// ID names the link in network_data.json; "tap…" as Nova has it. Empty is
	// "interface" and its number.
	ID     string
	PortID string
	MAC    string
	// Type is the port's vif type ("bridge", "ovs", "tap"); empty is "phy".
	Type      string
	MTU       int
	NetworkID string
	// Subnets are those in which the port has an address.
	Subnets []Subnet
}

// Subnet is a subnet of a link's network and the port's addresses in it.
type Subnet struct {
	CIDR      netip.Prefix
	Addresses []netip.Addr
	Gateway   netip.Addr
	DNS       []netip.Addr
	Routes    []Route
	// DHCP says that addresses come by DHCP; AddressMode is ipv6_address_mode.
	DHCP        bool
	AddressMode string
}

// Route is a host route of a subnet.
type Route struct {
	Destination netip.Prefix
	NextHop     netip.Addr
}

// Device is a device that the user tagged.
type Device struct {
	// Type is "nic" or "disk"; Bus is "pci", "scsi", "ide", "usb" or "none".
	Type, Bus, Address string
	// MAC and VLAN of a nic; VLAN 0 means none.
	MAC  string
	VLAN int
	// Serial and Path of a disk, left out if empty.
	Serial, Path string
	Tags         []string
}

// InjectedFile is a file that the user gave at create.
type InjectedFile struct {
	Path    string
	Content []byte
}
