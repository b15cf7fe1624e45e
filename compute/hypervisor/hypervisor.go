// Package hypervisor is the contract between compute and the hosts that run
// guests: the [Driver] interface, its types, and the messages that compute and a
// host's agent exchange. It imports the module root only, so that an area, an
// agent and a driver can all speak it without knowing each other.
//
// Drivers: hypervisor/libvirt (QEMU and KVM through libvirt), hypervisor/fake (a
// simulated one that keeps its state in a directory). hypervisor/hypervisortest
// is the suite that every driver passes.
//
// The seam to the data plane: a driver makes one tap device for each NIC, named
// by [TapName]; the data plane waits for it, wires it and reports the port
// active. Neither removes what the other made.
package hypervisor

import (
	"context"
	"io"
	"net/netip"
	"time"

	"github.com/nacre-cloud/nacre"
)

// Driver runs guests on one host. Methods are idempotent: asking for what
// already is succeeds. An instance that is not there is nacre.NotFound.
// A driver is safe for concurrent use on different instances; calls on one
// instance are made one after the other.
type Driver interface {
	// Host describes the host as it is now.
	Host(ctx context.Context) (Host, error)
	// List is every instance of ours on the host, in any state.
	List(ctx context.Context) ([]Instance, error)
	// Get is one instance.
	Get(ctx context.Context, id string) (Instance, error)
	// Create makes the instance's disks, taps and definition and leaves it
	// paused, its devices present, before its first instruction. Called again
	// after a crash it completes what is missing, or starts over.
	Create(ctx context.Context, spec Spec, images Images) error
	// Start makes a stopped instance exist again with its devices, paused: the
	// caller wires its NICs and then calls Resume. Running stays running.
	Start(ctx context.Context, spec Spec) error
	// Resume lets a paused instance run.
	Resume(ctx context.Context, id string) error
	// Pause stops the instance's processors, keeping its memory.
	Pause(ctx context.Context, id string) error
	// Stop turns the instance off: it asks the guest first and pulls the plug
	// after grace (0: at once).
	Stop(ctx context.Context, id string, grace time.Duration) error
	// Reboot restarts a running instance: soft asks the guest and falls back to
	// hard after grace; hard resets it. Its taps stay.
	Reboot(ctx context.Context, id string, hard bool, grace time.Duration) error
	// Delete removes the instance and everything it had: definition, disks,
	// console log. An instance that is not there is success.
	Delete(ctx context.Context, id string) error
	// Console is the tail of the serial console, at most limit bytes.
	Console(ctx context.Context, id string, limit int) ([]byte, error)
	// Watch sends the id of an instance whose power changed by itself (the guest
	// turned itself off, the emulator crashed). It never blocks on a slow reader;
	// it may coalesce. The channel closes when ctx ends.
	Watch(ctx context.Context) (<-chan string, error)
}

// Images hands a driver the bytes of images that its instances boot from.
type Images interface {
	// Open streams an image that the named server boots from. The format is the
	// stored one ("raw", "qcow2"), already inspected.
	Open(ctx context.Context, serverID, imageID string) (io.ReadCloser, Image, error)
}

// Image describes the bytes of an image.
type Image struct {
	ID     string `json:"id"`
	Format string `json:"format"`
	// Size is the stored size in bytes.
	Size int64 `json:"size"`
	// Hash is "sha512:" and the hex digest of the bytes; a cached copy is used
	// only while it is the same. Empty if unknown.
	Hash string `json:"hash,omitempty"`
}

// Spec is all that a host needs to know to run a server.
type Spec struct {
	// ID is the server's uuid; it becomes the SMBIOS uuid too.
	ID string `json:"id"`
	// Name is the libvirt-visible name ("instance-0000002a").
	Name string `json:"name"`
	// DisplayName, ProjectID, UserID, FlavorName are for people who look at the host.
	DisplayName string `json:"display_name"`
	ProjectID   string `json:"project_id"`
	UserID      string `json:"user_id"`
	FlavorName  string `json:"flavor_name"`

	VCPUs int `json:"vcpus"`
	// MemoryMB in MiB; RootGB, EphemeralGB in GiB; SwapMB in MiB. A RootGB of 0
	// means the image's own virtual size.
	MemoryMB    int `json:"memory_mb"`
	RootGB      int `json:"root_gb"`
	EphemeralGB int `json:"ephemeral_gb"`
	SwapMB      int `json:"swap_mb"`

	ImageID string `json:"image_id"`
	// ImageProperties are the image's hw_* and os_* properties.
	ImageProperties map[string]string `json:"image_properties,omitempty"`

	NICs []NIC `json:"nics"`
	// ConfigDrive holds the files of the config drive by path
	// ("openstack/latest/meta_data.json"); nil means none.
	ConfigDrive map[string][]byte `json:"config_drive,omitempty"`
}

// NIC is one network card of a guest.
type NIC struct {
	PortID string `json:"port_id"`
	MAC    string `json:"mac"`
	MTU    int    `json:"mtu"`
	// Addresses are informational.
	Addresses []netip.Addr `json:"addresses,omitempty"`
}

// TapName is the name of the tap device of a port: "tap" and the first eleven
// characters of the port's id, as Nova and Neutron agree.
func TapName(portID string) string {
	if len(portID) > 11 {
		portID = portID[:11]
	}
	return "tap" + portID
}

// Power is what an instance's processors do. The numbers are Nova's.
type Power int

// The power states, as OS-EXT-STS:power_state shows them.
const (
	NoState  Power = 0
	Running  Power = 1
	Paused   Power = 3
	Shutdown Power = 4
	Crashed  Power = 6
)

// Instance is what a driver knows of a guest.
type Instance struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	Power Power  `json:"power"`
	// Partial is set while Create has not completed.
	Partial bool `json:"partial,omitempty"`
	// Moved says that the guest was sent to another host: what is here is what it left.
	Moved bool `json:"moved,omitempty"`
	// Moving says that the guest stands still because it is on its way between two hosts.
	Moving bool `json:"moving,omitempty"`
	// VCPUs and MemoryMB are what it takes of the host.
	VCPUs    int `json:"vcpus"`
	MemoryMB int `json:"memory_mb"`
}

// Host is what a hypervisor offers.
type Host struct {
	// Name is the hypervisor's host name.
	Name string `json:"name"`
	// Type is "QEMU", "KVM" or "fake"; Version is Nova's number (7.2.1 is 7002001).
	Type    string `json:"type"`
	Version int    `json:"version"`
	// Address is the host's own address.
	Address string `json:"address"`
	// Migration is where the host's agent serves the files of servers that move
	// ("https://10.0.0.2:6083"); empty if it does not: no server can leave the host then,
	// nor come. Its agent fills it in.
	Migration string `json:"migration,omitempty"`
	// VCPUs, MemoryMB (MiB) and DiskGB (GiB) are the totals.
	VCPUs    int `json:"vcpus"`
	MemoryMB int `json:"memory_mb"`
	DiskGB   int `json:"disk_gb"`
	// DiskFreeGB is what is left in the instances directory.
	DiskFreeGB int `json:"disk_free_gb"`
	// Arch is "x86_64"; CPUModel, CPUVendor and CPUFeatures describe the processor.
	Arch        string   `json:"arch"`
	CPUModel    string   `json:"cpu_model"`
	CPUVendor   string   `json:"cpu_vendor"`
	CPUFeatures []string `json:"cpu_features,omitempty"`
	Sockets     int      `json:"sockets"`
	Cores       int      `json:"cores"`
	Threads     int      `json:"threads"`
	// Accelerated says whether the processor runs guests itself (KVM), and if
	// not, Reason says why.
	Accelerated bool   `json:"accelerated"`
	Reason      string `json:"reason,omitempty"`
	// Uptime as the uptime command prints it; empty if unknown.
	Uptime string `json:"uptime,omitempty"`
}

// Fault is an error of a driver that a user may read.
func Fault(format string, args ...any) *nacre.Error {
	return nacre.Errorf(nacre.Unavailable, "fault", format, args...)
}
