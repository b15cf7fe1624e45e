package hypervisor

import (
	"github.com/nacre-cloud/nacre"
)

// NotFound is the error of every driver for an instance that is not there.
func NotFound(id string) *nacre.Error {
	return nacre.Errorf(nacre.NotFound, "InstanceNotFound", "Instance %s could not be found.", id)
}

// BadPower is the error of every driver for an instance whose power state
// forbids the call, in Nova's words.
func BadPower(id string, p Power, call string) *nacre.Error {
	return nacre.Errorf(nacre.Conflict, "InstanceInvalidState",
		"Instance %s in power_state %s. Cannot %s while the instance is in this state.", id, p, call)
}

// String is Nova's name of the power state.
func (p Power) String() string {
	switch p {
	case Running:
		return "running"
	case Paused:
		return "paused"
	case Shutdown:
		return "shutdown"
	case Crashed:
		return "crashed"
	}
	return "pending"
}

// Check refuses (nacre.Invalid) a spec that no driver could run. Drivers call it
// first in Create, so that ids are safe to use as file names and sizes are sane.
func (s Spec) Check() error {
	switch {
	case !SafeID(s.ID):
		return nacre.Errorf(nacre.Invalid, "spec", "The server id %q is not a usable id.", s.ID)
	case s.VCPUs < 1:
		return nacre.Errorf(nacre.Invalid, "spec", "A server needs at least one VCPU.")
	case s.MemoryMB < 1:
		return nacre.Errorf(nacre.Invalid, "spec", "A server needs at least one MiB of memory.")
	case s.RootGB < 0 || s.EphemeralGB < 0 || s.SwapMB < 0:
		return nacre.Errorf(nacre.Invalid, "spec", "A disk cannot have a negative size.")
	}
	for _, n := range s.NICs {
		if !SafeID(n.PortID) || n.MAC == "" {
			return nacre.Errorf(nacre.Invalid, "spec", "The port %q has no usable id or no MAC address.", n.PortID)
		}
	}
	return nil
}

// SafeID reports whether an id can be part of a file or device name: 1 to 64
// characters out of letters, digits, dash and underscore.
func SafeID(id string) bool {
	if id == "" || len(id) > 64 {
		return false
	}
	for _, c := range id {
		switch {
		case c >= '0' && c <= '9', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '-', c == '_':
		default:
			return false
		}
	}
	return true
}
