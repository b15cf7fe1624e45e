package compute

import (
	"slices"
	"time"

	"github.com/nacre-cloud/nacre/compute/hypervisor"
)

// The states of a server (nova's vm_states).
const (
	VMBuilding = "building"
	VMActive   = "active"
	VMPaused   = "paused"
	VMStopped  = "stopped"
	VMError    = "error"
	VMDeleted  = "deleted"
)

// Task states (nova's task_states) that we use.
const (
	TaskScheduling  = "scheduling"
	TaskNetworking  = "networking"
	TaskSpawning    = "spawning"
	TaskPoweringOn  = "powering-on"
	TaskPoweringOff = "powering-off"
	TaskReboot      = "rebooting"
	TaskRebootHard  = "rebooting_hard"
	TaskPausing     = "pausing"
	TaskUnpausing   = "unpausing"
	TaskDeleting    = "deleting"
)

// Server is an instance. A deleted server's row stays for nova's changes-since,
// usage and instance actions until it is purged; no list shows it but to those
// who ask for deleted ones.
type Server struct {
	ID          string `store:"id,pk"`
	ProjectID   string `store:"project_id,index=server_project"`
	UserID      string `store:"user_id"`
	Name        string `store:"name"`
	Description string `store:"description"`
	Hostname    string `store:"hostname"`

	VMState    string           `store:"vm_state"`
	TaskState  string           `store:"task_state"`
	PowerState hypervisor.Power `store:"power_state"`

	// Host is the compute host that has, or is getting, the server.
	Host             string `store:"host,index=server_host"`
	AvailabilityZone string `store:"availability_zone"`
	// RequestedZone and RequestedHost are what the user asked for.
	RequestedZone string `store:"requested_zone"`
	RequestedHost string `store:"requested_host"`

	// Flavor is the flavor as it was at the request.
	Flavor   Flavor `store:"flavor,json"`
	FlavorID string `store:"flavor_id,index=server_flavor"`
	// VCPUs, RAM (MiB) and Disk (GiB, root and ephemeral) are the flavor's, as
	// columns, so that use can be summed.
	VCPUs   int64  `store:"vcpus"`
	RAM     int64  `store:"ram"`
	Disk    int64  `store:"disk"`
	ImageID string `store:"image_id,index=server_image"`
	// ImageInfo is what a host must know of the image.
	ImageInfo hypervisor.Image  `store:"image_info,json"`
	ImageMeta map[string]string `store:"image_meta,json"`

	KeyName     string            `store:"key_name"`
	KeyType     string            `store:"key_type"`
	KeyData     string            `store:"key_data"`
	UserData    string            `store:"user_data"`
	ConfigDrive bool              `store:"config_drive"`
	Metadata    map[string]string `store:"metadata,json"`
	Tags        []string          `store:"tags,json"`
	DiskConfig  string            `store:"disk_config"`
	// Injected are files for the config drive (nova's personality).
	Injected []InjectedFile `store:"injected,json"`
	// AccessIPv4 and AccessIPv6 are what the user says the server is reached at.
	AccessIPv4 string `store:"access_ip_v4"`
	AccessIPv6 string `store:"access_ip_v6"`
	// GroupID is the server group that it belongs to, or "".
	GroupID string `store:"group_id,index=server_group_member"`

	// Plan is what was asked of networks; Ports what it has.
	Plan  NetworkPlan `store:"plan,json"`
	Ports []Port      `store:"ports,json"`

	ReservationID string `store:"reservation_id"`
	LaunchIndex   int    `store:"launch_index"`
	Locked        bool   `store:"locked"`
	LockedReason  string `store:"locked_reason"`
	Fault         *Fault `store:"fault,json"`

	// What is wanted of the host, and what it last said.
	Generation int64            `store:"generation"`
	WantPower  hypervisor.Power `store:"want_power"`
	Boot       int64            `store:"boot"`
	HardBoot   bool             `store:"hard_boot"`
	SeenGen    int64            `store:"seen_generation"`
	SeenPhase  hypervisor.Phase `store:"seen_phase"`
	SeenPower  hypervisor.Power `store:"seen_power"`
	SeenReason string           `store:"seen_reason"`

	Created    time.Time `store:"created_at,index=server_created"`
	Updated    time.Time `store:"updated_at,index=server_updated"`
	Launched   time.Time `store:"launched_at,null"`
	Terminated time.Time `store:"terminated_at,null"`
	Deleted    bool      `store:"deleted,index=server_deleted"`
}

// Fault is why a server is in error.
type Fault struct {
	Code    int       `json:"code"`
	Message string    `json:"message"`
	Details string    `json:"details,omitempty"`
	Created time.Time `json:"created"`
}

// InjectedFile is a file that the user gave at creation.
type InjectedFile struct {
	Path    string `json:"path"`
	Content []byte `json:"content"`
}

// Status is what the API calls the pair of states (nova's view builder).
func (s *Server) Status() string {
	switch s.VMState {
	case VMBuilding:
		return "BUILD"
	case VMActive:
		switch s.TaskState {
		case TaskReboot:
			return "REBOOT"
		case TaskRebootHard:
			return "HARD_REBOOT"
		}
		return "ACTIVE"
	case VMPaused:
		return "PAUSED"
	case VMStopped:
		if s.TaskState == TaskRebootHard {
			return "HARD_REBOOT"
		}
		return "SHUTOFF"
	case VMDeleted:
		return "DELETED"
	case VMError:
		if s.TaskState == TaskRebootHard {
			return "HARD_REBOOT"
		}
		return "ERROR"
	}
	return "UNKNOWN"
}

// statusStates are the vm_states that a status filter stands for; nil for a
// status that we never show.
func statusStates(status string) (vm []string, task string) {
	switch status {
	case "BUILD":
		return []string{VMBuilding}, ""
	case "ACTIVE":
		return []string{VMActive}, ""
	case "REBOOT":
		return []string{VMActive}, TaskReboot
	case "HARD_REBOOT":
		return []string{VMActive, VMStopped, VMError}, TaskRebootHard
	case "PAUSED":
		return []string{VMPaused}, ""
	case "SHUTOFF":
		return []string{VMStopped}, ""
	case "ERROR":
		return []string{VMError}, ""
	case "DELETED":
		return []string{VMDeleted}, ""
	}
	return nil, ""
}

// Transitional reports whether the server is on its way somewhere: it must have
// work then.
func (s *Server) Transitional() bool {
	return !s.Deleted && (s.VMState == VMBuilding || s.TaskState != "")
}

// settled reports whether the host has done what the current generation asks.
func (s *Server) settled() bool {
	return s.SeenGen >= s.Generation && s.SeenPhase == hypervisor.Done
}

// HostID is the opaque name of the host for a project's users.
func (s *Server) HostID() string {
	if s.Host == "" {
		return ""
	}
	return hashHost(s.ProjectID, s.Host)
}

// spec is what the host gets.
func (s *Server) spec() hypervisor.Spec {
	sp := hypervisor.Spec{
		ID: s.ID, Name: "instance-" + s.ID[:8], DisplayName: s.Name, ProjectID: s.ProjectID, UserID: s.UserID, FlavorName: s.Flavor.Name,
		VCPUs: s.Flavor.VCPUs, MemoryMB: s.Flavor.RAM, RootGB: s.Flavor.Disk, EphemeralGB: s.Flavor.Ephemeral, SwapMB: s.Flavor.Swap,
		ImageID: s.ImageID, ImageProperties: s.ImageMeta,
	}
	for _, p := range s.Ports {
		nic := hypervisor.NIC{PortID: p.ID, MAC: p.MAC, MTU: p.MTU}
		for _, a := range p.Addresses {
			nic.Addresses = append(nic.Addresses, a.Address)
		}
		sp.NICs = append(sp.NICs, nic)
	}
	return sp
}

// wired reports whether every port is active.
func (s *Server) wired() bool {
	return !slices.ContainsFunc(s.Ports, func(p Port) bool { return !p.Active })
}

const kindServer = "server"

// Tombstone names what a host is to destroy; it stays until the host confirms.
type Tombstone struct {
	// ID is "<host>/<server>".
	ID         string    `store:"id,pk"`
	Host       string    `store:"host,index=tombstone_host"`
	ServerID   string    `store:"server_id,index=tombstone_server"`
	Generation int64     `store:"generation"`
	Created    time.Time `store:"created_at"`
}
