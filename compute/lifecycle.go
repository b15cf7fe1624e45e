package compute

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/compute/hypervisor"
	"github.com/nacre-cloud/nacre/internal/policy"
	"github.com/nacre-cloud/nacre/internal/reconcile"
	"github.com/nacre-cloud/nacre/store"
)

func serverNotFound(id string) *nacre.Error {
	return nacre.Errorf(nacre.NotFound, "InstanceNotFound", "Instance %s could not be found.", id)
}

// serverFor reads a server that the caller may do rule to. Another project's
// server is not found, whoever asks without the rule.
func (s *Service) serverFor(ctx context.Context, id, rule string) (Server, error) {
	c, err := s.caller(ctx)
	if err != nil {
		return Server{}, err
	}
	sv, err := s.servers.Get(ctx, id)
	if errors.Is(err, store.ErrNoRow) || err == nil && sv.Deleted {
		return sv, serverNotFound(id)
	}
	if err != nil {
		return sv, err
	}
	if err := s.enforce(ctx, rule, policy.Map{"project_id": sv.ProjectID, "user_id": sv.UserID}); err != nil {
		if sv.ProjectID != c.ProjectID && nacre.KindOf(err) == nacre.Forbidden {
			return sv, serverNotFound(id)
		}
		return sv, err
	}
	return sv, nil
}

// Server is one server.
func (s *Service) Server(ctx context.Context, id string) (Server, error) {
	return s.serverFor(ctx, id, "os_compute_api:servers:show")
}

// ServerUpdate is what PUT may change; nil leaves it.
type ServerUpdate struct {
	Name, Description, Hostname, DiskConfig, AccessIPv4, AccessIPv6 *string
}

// UpdateServer changes a server's names.
func (s *Service) UpdateServer(ctx context.Context, id string, u ServerUpdate) (Server, error) {
	if _, err := s.serverFor(ctx, id, "os_compute_api:servers:update"); err != nil {
		return Server{}, err
	}
	return s.servers.Update(ctx, id, func(sv *Server) error {
		if sv.Deleted {
			return serverNotFound(id)
		}
		for _, p := range []struct{ to, from *string }{{&sv.Name, u.Name}, {&sv.Description, u.Description}, {&sv.Hostname, u.Hostname}, {&sv.DiskConfig, u.DiskConfig},
			{&sv.AccessIPv4, u.AccessIPv4}, {&sv.AccessIPv6, u.AccessIPv6}} {
			if p.from != nil {
				*p.to = *p.from
			}
		}
		sv.Updated = time.Now().UTC()
		return nil
	})
}

// changing changes a server in a transaction that holds its work first, as the steps
// do: who took the server's row first would wait for a step that waits for it.
func (s *Service) changing(ctx context.Context, id string, f func(ctx context.Context) error) error {
	return store.InTx(ctx, s.c.Engine, func(ctx context.Context) error {
		if err := s.work.Hold(ctx, kindServer, id); err != nil {
			return err
		}
		return f(ctx)
	})
}

// DeleteServer accepts a deletion, in any state. It replaces whatever work the
// server had.
func (s *Service) DeleteServer(ctx context.Context, id, rule string) error {
	sv, err := s.serverFor(ctx, id, rule)
	if err != nil {
		return err
	}
	if err := s.unlocked(ctx, &sv); err != nil {
		return err
	}
	return s.changing(ctx, id, func(ctx context.Context) error {
		var again bool
		sv, err := s.servers.Update(ctx, id, func(sv *Server) error {
			if sv.Deleted {
				return serverNotFound(id)
			}
			again = sv.TaskState == TaskDeleting
			sv.TaskState, sv.Updated = TaskDeleting, time.Now().UTC()
			return nil
		})
		if err != nil || again {
			return err
		}
		if sv.Host != "" {
			if err := s.entomb(ctx, id, sv.Host, sv.next()); err != nil {
				return err
			}
		}
		if err := s.deleteMove(ctx, &sv); err != nil {
			return err
		}
		if err := s.cutActions(ctx, id, "The server was deleted."); err != nil {
			return err
		}
		if err := s.beginAction(ctx, sv, "delete"); err != nil {
			return err
		}
		if err := s.emit(ctx, "compute.instance.delete.start", sv.ID, sv.ProjectID, eventOf(&sv)); err != nil {
			return err
		}
		return s.work.Put(ctx, kindServer, id, reconcile.Begin{Step: "delete", Data: progress{Op: "delete"}})
	})
}

// unlocked refuses what a lock forbids the owner.
func (s *Service) unlocked(ctx context.Context, sv *Server) error {
	if sv.Locked && !s.allowed(ctx, "os_compute_api:os-lock-server:unlock:unlock_override", policy.Map{"project_id": sv.ProjectID}) {
		return nacre.Errorf(nacre.Conflict, "InstanceIsLocked", "Instance %s is locked", sv.ID)
	}
	return nil
}

// Deed is an action on a server that changes its power.
type Deed string

// The deeds.
const (
	Start      Deed = "os-start"
	Stop       Deed = "os-stop"
	RebootSoft Deed = "SOFT"
	RebootHard Deed = "HARD"
	Pause      Deed = "pause"
	Unpause    Deed = "unpause"
)

type deedRule struct {
	rule, action, op, step, task string
	states                       []string
	change                       func(*Server)
}

var deeds = map[Deed]deedRule{
	Start: {"os_compute_api:servers:start", "start", "start", "build", TaskPoweringOn, []string{VMStopped}, func(s *Server) {
		s.WantPower = hypervisor.Paused
	}},
	Stop: {"os_compute_api:servers:stop", "stop", "stop", "power", TaskPoweringOff, []string{VMActive, VMError}, func(s *Server) {
		s.WantPower = hypervisor.Shutdown
	}},
	RebootSoft: {"os_compute_api:servers:reboot", "reboot", "reboot", "power", TaskReboot, []string{VMActive}, func(s *Server) {
		s.Boot, s.HardBoot, s.WantPower = s.Boot+1, false, hypervisor.Running
	}},
	RebootHard: {"os_compute_api:servers:reboot", "reboot", "reboot", "power", TaskRebootHard, []string{VMActive, VMStopped, VMPaused, VMError}, func(s *Server) {
		s.Boot, s.HardBoot, s.WantPower = s.Boot+1, true, hypervisor.Running
	}},
	Pause: {"os_compute_api:os-pause-server:pause", "pause", "pause", "power", TaskPausing, []string{VMActive}, func(s *Server) {
		s.WantPower = hypervisor.Paused
	}},
	Unpause: {"os_compute_api:os-pause-server:unpause", "unpause", "unpause", "power", TaskUnpausing, []string{VMPaused}, func(s *Server) {
		s.WantPower = hypervisor.Running
	}},
}

// Do accepts a deed, or says in nova's words why the server's state forbids it.
func (s *Service) Do(ctx context.Context, id string, d Deed) error {
	r, ok := deeds[d]
	if !ok {
		return nacre.Errorf(nacre.Invalid, "", "There is no such action: %s", string(d))
	}
	sv, err := s.serverFor(ctx, id, r.rule)
	if err != nil {
		return err
	}
	if err := s.unlocked(ctx, &sv); err != nil {
		return err
	}
	return s.changing(ctx, id, func(ctx context.Context) error {
		step := r.step
		sv, err := s.servers.Update(ctx, id, func(sv *Server) error {
			step = r.step
			switch {
			case sv.Deleted:
				return serverNotFound(id)
			case !slices.Contains(r.states, sv.VMState):
				return wrongState(sv, r.action, "vm_state", sv.VMState)
			case sv.TaskState != "" && !(d == RebootHard && (sv.TaskState == TaskReboot || sv.TaskState == TaskRebootHard)):
				return wrongState(sv, r.action, "task_state", sv.TaskState)
			case sv.Host == "":
				return nacre.Errorf(nacre.Conflict, "InstanceNotReady", "Instance %s is not ready", id)
			}
			if d == RebootHard && sv.SeenPower != hypervisor.Running {
				// A guest that is off, or paused, has lost its taps: it goes the way of
				// a start.
				sv.WantPower, step = hypervisor.Paused, "build"
			} else {
				r.change(sv)
			}
			sv.TaskState, sv.Generation, sv.Updated = r.task, sv.Generation+1, time.Now().UTC()
			return nil
		})
		if err != nil {
			return err
		}
		if err := s.cutActions(ctx, id, "The server was rebooted."); err != nil {
			return err
		}
		if err := s.beginAction(ctx, sv, r.action); err != nil {
			return err
		}
		return s.put(ctx, id, reconcile.Begin{Step: step, Within: s.c.BuildTimeout}, progress{Op: r.op})
	})
}

func wrongState(sv *Server, action, attr, state string) error {
	return nacre.Errorf(nacre.Conflict, "InstanceInvalidState", "Cannot '%s' instance %s while it is in %s %s", action, sv.ID, attr, state)
}

// SetLock locks a server against changes, or unlocks it.
func (s *Service) SetLock(ctx context.Context, id string, locked bool, reason string) error {
	rule := "os_compute_api:os-lock-server:unlock"
	if locked {
		rule = "os_compute_api:os-lock-server:lock"
	}
	if _, err := s.serverFor(ctx, id, rule); err != nil {
		return err
	}
	_, err := s.servers.Update(ctx, id, func(sv *Server) error {
		if sv.Deleted {
			return serverNotFound(id)
		}
		sv.Locked, sv.LockedReason, sv.Updated = locked, reason, time.Now().UTC()
		return nil
	})
	return err
}

// ResetState sets active or error, for administrators. Work that the server had
// is dropped, but that the ports of a move go where the server is: its row is at rest
// afterwards. Only a deletion goes on, for its host may have destroyed the guest already,
// and a live migration, for only the hosts know where the guest is.
func (s *Service) ResetState(ctx context.Context, id, state string) error {
	if _, err := s.serverFor(ctx, id, "os_compute_api:os-admin-actions:reset_state"); err != nil {
		return err
	}
	return s.changing(ctx, id, func(ctx context.Context) error {
		sv, err := s.servers.Update(ctx, id, func(sv *Server) error {
			if sv.Deleted {
				return serverNotFound(id)
			}
			sv.Updated = time.Now().UTC()
			if sv.TaskState == TaskMigrating {
				return nil
			}
			sv.VMState = state
			if sv.TaskState != TaskDeleting {
				sv.TaskState = ""
			}
			if state == VMActive {
				sv.Fault = nil
			}
			return nil
		})
		if err != nil || sv.TaskState == TaskDeleting || sv.TaskState == TaskMigrating {
			return err
		}
		left, err := s.endMove(ctx, &sv, "The server's state was reset.")
		if err != nil {
			return err
		}
		if err := s.cutActions(ctx, id, "The server's state was reset."); err != nil {
			return err
		}
		if tidy, err := s.putTidy(ctx, id, left); tidy || err != nil {
			return err
		}
		return s.work.Drop(ctx, kindServer, id)
	})
}

// SetGroup adds a security group, by id or name, to a server's ports, or takes it
// off them.
func (s *Service) SetGroup(ctx context.Context, id, group string, add bool) error {
	rule := "os_compute_api:os-security-groups:remove"
	if add {
		rule = "os_compute_api:os-security-groups:add"
	}
	sv, err := s.serverFor(ctx, id, rule)
	if err != nil {
		return err
	}
	return s.c.Networks.SetGroup(ctx, sv.ProjectID, id, group, add)
}

// Console is the last lines of a server's serial console; 0 lines means all that
// is kept.
func (s *Service) Console(ctx context.Context, id string, lines int) (string, error) {
	sv, err := s.serverFor(ctx, id, "os_compute_api:os-console-output")
	if err != nil {
		return "", err
	}
	if sv.Host == "" {
		return "", nacre.Errorf(nacre.Conflict, "InstanceNotReady", "Instance %s is not ready", id)
	}
	var out hypervisor.ConsoleReply
	if err := s.c.Bus.Call(ctx, "compute.call."+sv.Host, hypervisor.Call{ConsoleRequest: hypervisor.ConsoleRequest{ID: id, Limit: 100 << 10}}, &out); err != nil {
		if nacre.KindOf(err) == nacre.NotFound {
			return "", nil
		}
		return "", err
	}
	text := string(out.Output)
	if lines > 0 {
		// As nova counts: what follows the last line feed is a line too.
		ls := strings.Split(text, "\n")
		text = strings.Join(ls[max(0, len(ls)-lines):], "\n")
	}
	return strings.ToValidUTF8(text, "\ufffd"), nil
}

// PortWired is told by the network that a port's status changed, so that a boot
// that waits for it goes on at once. A hint: losing it costs half a second.
func (s *Service) PortWired(ctx context.Context, serverID string) error {
	return s.work.Wake(ctx, kindServer, serverID)
}

// PortsChanged is told by the network that a server's ports changed (an address
// added, a floating IP, a port taken away), and refreshes what the server shows.
func (s *Service) PortsChanged(ctx context.Context, serverID string) error {
	byServer, err := s.c.Networks.Ports(nacre.AsService(ctx, "compute"), serverID)
	if err != nil {
		return err
	}
	_, err = s.servers.Update(ctx, serverID, func(sv *Server) error {
		if sv.Deleted || sv.VMState == VMBuilding {
			return errIgnored
		}
		sv.Ports = byServer[serverID]
		return nil
	})
	if errors.Is(err, store.ErrNoRow) || errors.Is(err, errIgnored) {
		return nil
	}
	return err
}

// ServerFor reads a server for somebody who wants to do what rule guards.
func (s *Service) ServerFor(ctx context.Context, id, rule string) (Server, error) {
	return s.serverFor(ctx, id, rule)
}

// ServerPorts are a server's ports as the network has them now.
func (s *Service) ServerPorts(ctx context.Context, sv *Server) ([]Port, error) {
	if len(sv.Ports) == 0 {
		return nil, nil
	}
	byServer, err := s.c.Networks.Ports(nacre.AsService(ctx, "compute"), sv.ID)
	return byServer[sv.ID], err
}
