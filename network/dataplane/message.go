package dataplane

// Desired is what network wants of one object on a host: exactly one of the
// pointers, or Gone. It is sent whole each time the object changes, and again
// whenever a host's list shows an older generation.
type Desired struct {
	Ref
	Network       *Network       `json:"network,omitempty"`
	Port          *Port          `json:"port,omitempty"`
	Router        *Router        `json:"router,omitempty"`
	SecurityGroup *SecurityGroup `json:"security_group,omitempty"`
	// Gone is a tombstone: the object is to be removed. Only this removes; an
	// omission never does.
	Gone bool `json:"gone,omitempty"`
}

// State is what a host says of one object.
type State struct {
	Ref
	// Absent says that there is no such object here (the answer to Gone).
	Absent bool `json:"absent,omitempty"`
	// Active is a port's status, or that the object is in place; Reason says
	// what is missing.
	Active bool   `json:"active"`
	Reason string `json:"reason,omitempty"`
}

// Report is what a host's agent tells network: the states that changed, or all
// when Full (on connect and at intervals). The host's name is the topic's.
type Report struct {
	// Started is the agent's start in nanoseconds; Sequence counts its reports from 1, so
	// that one that was overtaken does no harm.
	Started  int64   `json:"started"`
	Sequence int64   `json:"sequence,omitempty"`
	Full     bool    `json:"full"`
	States   []State `json:"states"`
	// Host is set in full reports.
	Host *Host `json:"host,omitempty"`
}
