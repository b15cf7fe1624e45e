package linux

import (
	"log/slog"
	"net/http"
	"net/netip"
	"time"
)

// Config is how the Linux data plane is made. StateDir is required.
type Config struct {
	// StateDir keeps the objects in place as small files, so that a driver that is
	// opened again finds everything.
	StateDir string
	// Physical are the physical networks, by name, that flat networks lie on.
	Physical map[string]Physical
	// TunnelAddress is this host's end of vxlan tunnels. Without it a vxlan network
	// stays on this host.
	TunnelAddress netip.Addr
	// Metadata carries the guests' metadata requests to MetadataURL. Nil means
	// that there is no metadata. MetadataSecret signs the instance id, as
	// Neutron's metadata_proxy_shared_secret does.
	Metadata       http.RoundTripper
	MetadataURL    string
	MetadataSecret string
	// LeaseTime is how long DHCP leases last; 24 hours, as Neutron's default.
	LeaseTime time.Duration
	Log       *slog.Logger
}

// Physical is a physical network on this host.
type Physical struct {
	// Bridge names the bridge in the host's own namespace; "nacre-ex0" when
	// empty. One that is missing is made, and is then ours to remove.
	Bridge string
	// HostAddresses are the host's own on the bridge, usually the gateway address
	// of the subnet on it.
	HostAddresses []netip.Prefix
	// Masquerade lets what comes from the HostAddresses' ranges reach whatever
	// this host reaches, hidden behind the host's address. It turns on IPv4
	// forwarding. Link-local destinations (another cloud's metadata) stay shut.
	Masquerade bool
	// HostServices lets the bridge's side connect to services of this host.
	// Without it only ping and replies are let in.
	HostServices bool
}

// DefaultBridge is the bridge of a physical network that names none.
const DefaultBridge = "nacre-ex0"
