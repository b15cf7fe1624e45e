package hypervisor

// Desired is what compute wants of one server on a host. It is sent whole each
// time it changes, and again whenever a host's list shows an older generation;
// the host ignores one older than it has.
type Desired struct {
	ID         string `json:"id"`
	Generation int64  `json:"generation"`
	// Power is the state wanted: Paused (built, before its first instruction),
	// Running or Shutdown.
	Power Power `json:"power"`
	// Boot counts the times that the server is to be started anew: a running
	// instance whose last Boot is lower is rebooted, hard if HardBoot.
	Boot     int64 `json:"boot"`
	HardBoot bool  `json:"hard_boot"`
	// Gone is a tombstone: the server and all it has is to be destroyed. Only
	// this destroys; an omission never does.
	Gone bool `json:"gone,omitempty"`
	Spec Spec `json:"spec"`
	// Build counts the times that the server is to be made anew from its image, all it
	// has on the host being destroyed: 0 is how it is made at first.
	Build int64 `json:"build,omitempty"`
	// Move is set while the server is on its way to another host.
	Move *Move `json:"move,omitempty"`
	// GraceSeconds is how long a guest may take to turn itself off.
	GraceSeconds int `json:"grace_seconds"`
}

// Phase is how far a host has come with a Desired.
type Phase string

// The phases.
const (
	// Working: the host knows of it and is at it.
	Working Phase = "working"
	// Done: the instance is as desired.
	Done Phase = "done"
	// Failed: it can't be; Reason says why. The host does not try again by itself.
	Failed Phase = "failed"
	// Absent: there is no such instance here (the answer to Gone, too).
	Absent Phase = "absent"
)

// State is what a host says of one server.
type State struct {
	ID string `json:"id"`
	// Generation is the newest Desired that the host has taken in; 0 if it has
	// none (it was started anew and only found the instance).
	Generation int64  `json:"generation"`
	Phase      Phase  `json:"phase"`
	Power      Power  `json:"power"`
	Boot       int64  `json:"boot"`
	Reason     string `json:"reason,omitempty"`
	// Move is what became of a Desired's Move.
	Move MoveState `json:"move,omitzero"`
}

// Report is what a host's agent tells compute: the states that changed, or all
// when Full (on connect and at intervals). The host's name is the topic's, never
// the body's.
type Report struct {
	// Started is the agent's start in nanoseconds, so that compute notices a restart;
	// Sequence counts its reports from 1, so that one that was overtaken does no harm.
	Started  int64   `json:"started"`
	Sequence int64   `json:"sequence,omitempty"`
	Full     bool    `json:"full"`
	States   []State `json:"states"`
	// Host is set in full reports.
	Host *Host `json:"host,omitempty"`
}

// ConsoleRequest asks a host for the tail of a console; ConsoleReply answers.
type ConsoleRequest struct {
	ID    string `json:"id"`
	Limit int    `json:"limit"`
}

// ConsoleReply is the answer to a ConsoleRequest.
type ConsoleReply struct {
	Output []byte `json:"output"`
}
