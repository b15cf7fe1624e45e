package compute

import (
	"slices"
	"time"

	"github.com/nacre-cloud/nacre/compute/hypervisor"
	"github.com/nacre-cloud/nacre/internal/roster"
)

// The states of a server (nova's vm_states).
const (
	VMBuilding = "building"
	VMActive   = "active"
	VMPaused   = "paused"
	VMStopped  = "stopped"
	VMError    = "error"
	// VMResized servers run on their new host, with the new flavor; what they had before
	// is kept until the move is confirmed or reverted.
	VMResized = "resized"
	VMDeleted = "deleted"
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

	TaskResizePrep      = "resize_prep"
	TaskResizeMigrating = "resize_migrating"
	TaskResizeMigrated  = "resize_migrated"
	TaskResizeFinish    = "resize_finish"
	TaskResizeReverting = "resize_reverting"
	TaskMigrating       = "migrating"
	TaskRebuilding      = "rebuilding"
)

// Seen is what a host last said of a server.
type Seen struct {
	SeenGen    int64            `store:"seen_generation" json:"seen_generation,omitempty"`
	SeenPhase  hypervisor.Phase `store:"seen_phase" json:"seen_phase,omitempty"`
	SeenPower  hypervisor.Power `store:"seen_power" json:"seen_power,omitempty"`
	SeenReason string           `store:"seen_reason" json:"seen_reason,omitempty"`
	// SeenEpoch and SeenSequence are the start of the host's agent that said it, and the
	// number of its report.
	SeenEpoch    int64 `store:"seen_epoch" json:"seen_epoch,omitempty"`
	SeenSequence int64 `store:"seen_sequence" json:"seen_sequence,omitempty"`
}

// said reports whether a state is what the host said before.
func (n *Seen) said(st hypervisor.State) bool {
	return n.SeenGen == st.Generation && n.SeenPhase == st.Phase && n.SeenPower == st.Power && n.SeenReason == st.Reason
}

// note notes what the host said.
func (n *Seen) note(st hypervisor.State, by roster.Mark) {
	*n = Seen{st.Generation, st.Phase, st.Power, st.Reason, by.Epoch, by.Sequence}
}

// mark is that of the report which said it.
func (n *Seen) mark() roster.Mark { return roster.Mark{Epoch: n.SeenEpoch, Sequence: n.SeenSequence} }

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
	Seen
	// Build counts how often it was made anew from an image (rebuild).
	Build int64 `store:"build"`
	// OtherHost is the second host of a server that moves: the one it goes to, until
	// Host is that; then the one that it came from.
	OtherHost string  `store:"other_host,index=server_other_host"`
	Move      *Moving `store:"move,json"`

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

// statuses are what the API calls the pairs of states, by vm_state and task_state, ""
// for all other tasks (nova's view builder).
var statuses = map[string]map[string]string{
	VMBuilding: {"": "BUILD"},
	VMActive: {"": "ACTIVE", TaskReboot: "REBOOT", TaskRebootHard: "HARD_REBOOT", TaskMigrating: "MIGRATING", TaskRebuilding: "REBUILD",
		TaskResizePrep: "RESIZE", TaskResizeMigrating: "RESIZE", TaskResizeMigrated: "RESIZE", TaskResizeFinish: "RESIZE"},
	VMPaused: {"": "PAUSED", TaskMigrating: "MIGRATING"},
	VMStopped: {"": "SHUTOFF", TaskRebootHard: "HARD_REBOOT", TaskMigrating: "MIGRATING", TaskRebuilding: "REBUILD",
		TaskResizePrep: "RESIZE", TaskResizeMigrating: "RESIZE", TaskResizeMigrated: "RESIZE", TaskResizeFinish: "RESIZE"},
	VMResized: {"": "VERIFY_RESIZE", TaskResizeReverting: "REVERT_RESIZE"},
	VMError:   {"": "ERROR", TaskRebootHard: "HARD_REBOOT", TaskRebuilding: "REBUILD"},
	VMDeleted: {"": "DELETED"},
}

// Status is what the API calls the pair of states.
func (s *Server) Status() string {
	tasks, ok := statuses[s.VMState]
	if !ok {
		return "UNKNOWN"
	}
	if status, ok := tasks[s.TaskState]; ok {
		return status
	}
	return tasks[""]
}

// statusStates are the vm_states and task_states that a status filter stands for; no
// vm_states for a status that we never show, no task_states for any.
func statusStates(status string) (vm, task []string) {
	for state, tasks := range statuses {
		for t, name := range tasks {
			if name != status {
				continue
			}
			if t == "" {
				return []string{state}, nil
			}
			if !slices.Contains(vm, state) {
				vm = append(vm, state)
			}
			if !slices.Contains(task, t) {
				task = append(task, t)
			}
		}
	}
	return vm, task
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
