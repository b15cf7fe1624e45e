package compute

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/compute/hypervisor"
	"github.com/nacre-cloud/nacre/compute/metadata"
	"github.com/nacre-cloud/nacre/compute/placement"
	"github.com/nacre-cloud/nacre/compute/scheduler"
	"github.com/nacre-cloud/nacre/internal/reconcile"
	"github.com/nacre-cloud/nacre/store"
)

// resend is how long a step waits for a host's report before it sends again.
const resend = 5 * time.Second

// progress is what a server's work carries from step to step.
type progress struct {
	// Op is the instance action that it serves: "create", "start", "reboot" …
	Op string `json:"op"`
	// Failed are hosts on which building failed.
	Failed []string `json:"failed,omitempty"`
	// Reason is the last host's.
	Reason string `json:"reason,omitempty"`
	// WireBy is when the wait for ports ends, MoveBy that for a live migration.
	WireBy time.Time `json:"wire_by,omitzero"`
	MoveBy time.Time `json:"move_by,omitzero"`
	// Back says that a move is taken back; Cause, if it was not the user's wish, why it
	// failed; Halted that the guest's host was told to turn it off, or to keep it.
	Back   bool   `json:"back,omitempty"`
	Cause  string `json:"cause,omitempty"`
	Halted bool   `json:"halted,omitempty"`
	// Migration is an evacuation's; Wanted is the host asked for, Left the one left. Off
	// says that the server is to be off afterwards.
	Migration string `json:"migration,omitempty"`
	Wanted    string `json:"wanted,omitempty"`
	Left      string `json:"left,omitempty"`
	Off       bool   `json:"off,omitempty"`
	// Tidy is the host that the ports leave of a server whose move was ended; Then is the
	// step that follows.
	Tidy string `json:"tidy,omitempty"`
	Then string `json:"then,omitempty"`
}

// maxHosts is on how many hosts a build is tried.
const maxHosts = 3

func (s *Service) serverHandler() reconcile.Handler {
	return reconcile.Handler{
		Steps: map[string]reconcile.Step{
			"schedule": s.stepSchedule, "ports": s.stepPorts, "build": s.stepBuild, "wire": s.stepWire, "run": s.stepRun,
			"power": s.stepPower, "reschedule": s.stepReschedule,
			"giveback": s.stepGiveBack, "delete": s.stepDelete,
			"choose": s.stepChoose, "halt": s.stepHalt, "pull": s.stepPull, "switch": s.stepSwitch, "back": s.stepBack, "retreat": s.stepRetreat,
			"prepare": s.stepPrepare, "ready": s.stepReady, "send": s.stepSend, "calloff": s.stepCallOff, "drop": s.stepDrop, "land": s.stepLand,
			"evacuate": s.stepEvacuate, "rewire": s.stepRewire, "tidy": s.stepTidy,
		},
		Expire: s.expireServer,
	}
}

// load reads the job's server; gone says that there is nothing left to do.
func (s *Service) load(ctx context.Context, j *reconcile.Job) (sv Server, p progress, gone bool, err error) {
	if err = j.Decode(&p); err != nil {
		return sv, p, false, err
	}
	sv, err = s.servers.Get(ctx, j.ObjectID)
	if errors.Is(err, store.ErrNoRow) || err == nil && sv.Deleted {
		return sv, p, true, nil
	}
	return sv, p, false, err
}

// stepSchedule chooses a host and claims its resources.
func (s *Service) stepSchedule(ctx context.Context, j *reconcile.Job) (reconcile.Next, error) {
	sv, p, gone, err := s.load(ctx, j)
	if gone || err != nil {
		return reconcile.Done(), err
	}
	if sv.Host != "" {
		return reconcile.Goto("ports"), nil
	}
	res, hosts, err := s.candidates(ctx, sv, p.Failed)
	if err != nil {
		return reconcile.Next{}, err
	}
	if len(res.Hosts) == 0 && s.free.stale() {
		// What is free was a hint of a moment ago; a refusal must be true now.
		return reconcile.Again(0), nil
	}
	if len(res.Hosts) == 0 {
		why := errNoHost(res)
		if p.Reason != "" {
			why = fmt.Errorf("Exceeded maximum number of retries. Exhausted all hosts available for retrying build failures for instance %s: %s", sv.ID, p.Reason) //nolint:staticcheck // nova's sentence
		}
		return reconcile.Next{}, reconcile.Fail(why)
	}
	return s.claim(ctx, j, &sv, resources(sv), chosen{res, hosts}, reconcile.Goto("ports"), func(ctx context.Context, host Host) error {
		_, err := s.servers.Update(ctx, sv.ID, func(x *Server) error {
			x.Host, x.AvailabilityZone, x.TaskState, x.Updated = host.Name, host.Zone, TaskNetworking, time.Now().UTC()
			return nil
		})
		return err
	})
}

// chosen are the hosts that a server may get, best first, and all by name.
type chosen struct {
	scheduler.Result
	byName map[string]Host
}

// claim gives a server its place on the best host that still has it, and commits that
// with what then writes. If the server moves, its migration takes over what it held.
func (s *Service) claim(ctx context.Context, j *reconcile.Job, sv *Server, r placement.Resources, from chosen, next reconcile.Next, then func(ctx context.Context, host Host) error) (reconcile.Next, error) {
	for _, h := range from.Hosts {
		host := from.byName[h.Name]
		s.free.took(host.Name, r)
		out, err := j.Commit(ctx, next, func(ctx context.Context) error {
			if err := s.keepsGroup(ctx, sv, host.Name); err != nil {
				return err
			}
			if sv.Move != nil {
				if err := s.c.Placement.Transfer(ctx, sv.ID, sv.Move.Migration, "MIGRATION"); err != nil {
					return err
				}
			}
			if err := s.c.Placement.Claim(ctx, sv.ID, sv.ProjectID, sv.UserID, host.ID, r); err != nil {
				return err
			}
			return then(ctx, host)
		})
		if err != nil {
			s.free.forget()
		}
		if nacre.KindOf(err) == nacre.Conflict && !errors.Is(err, reconcile.ErrLost) {
			continue // somebody was faster there
		}
		return out, err
	}
	return reconcile.Again(200 * time.Millisecond), nil
}

func resources(sv Server) placement.Resources {
	return placement.Resources{placement.VCPU: int64(sv.Flavor.VCPUs), placement.MemoryMB: int64(sv.Flavor.RAM),
		placement.DiskGB: int64(sv.Flavor.Disk + sv.Flavor.Ephemeral + (sv.Flavor.Swap+1023)/1024)}
}

func (s *Service) candidates(ctx context.Context, sv Server, failed []string) (scheduler.Result, map[string]Host, error) {
	hosts, list, err := s.free.get(ctx, s)
	if err != nil {
		return scheduler.Result{}, nil, err
	}
	group, err := s.schedulerGroup(ctx, &sv)
	if err != nil {
		return scheduler.Result{}, nil, err
	}
	r := scheduler.Request{Zone: sv.RequestedZone, Host: sv.RequestedHost, Not: failed, Resources: resources(sv), Image: sv.ImageMeta, Group: group}
	if sv.Move != nil {
		r.From = &scheduler.Host{Name: sv.Host}
		if i := slices.IndexFunc(list, func(h *scheduler.Host) bool { return h.Name == sv.Host }); i >= 0 {
			r.From = list[i]
		}
	}
	return scheduler.Choose(list, r, scheduler.Filters()), hosts, nil
}

// stepPorts makes and binds the server's ports.
func (s *Service) stepPorts(ctx context.Context, j *reconcile.Job) (reconcile.Next, error) {
	sv, _, gone, err := s.load(ctx, j)
	if gone || err != nil {
		return reconcile.Done(), err
	}
	ports := make([]Port, 0, len(sv.Plan.NICs))
	for i, nic := range sv.Plan.NICs {
		p, err := s.c.Networks.EnsurePort(nacre.AsService(ctx, "compute"), PortRequest{ProjectID: sv.ProjectID, ServerID: sv.ID, Index: i, NIC: nic, Host: sv.Host,
			AvailabilityZone: sv.AvailabilityZone, Hostname: sv.Hostname, SecurityGroups: sv.Plan.SecurityGroups})
		if err != nil {
			switch nacre.KindOf(err) {
			case nacre.Invalid, nacre.NotFound, nacre.Conflict, nacre.Forbidden, nacre.QuotaExceeded:
				return reconcile.Next{}, reconcile.Fail(fmt.Errorf("Failed to allocate the network(s): %w", err)) //nolint:staticcheck // nova's sentence
			}
			return reconcile.Next{}, err
		}
		ports = append(ports, p)
	}
	return j.Commit(ctx, reconcile.Goto("build"), func(ctx context.Context) error {
		_, err := s.servers.Update(ctx, sv.ID, func(x *Server) error {
			x.Ports, x.TaskState, x.Updated = ports, TaskSpawning, time.Now().UTC()
			x.WantPower, x.Generation = hypervisor.Paused, x.Generation+1
			return nil
		})
		return err
	})
}

// stepBuild has the host build the guest (or turn it on) paused.
func (s *Service) stepBuild(ctx context.Context, j *reconcile.Job) (reconcile.Next, error) {
	sv, p, gone, err := s.load(ctx, j)
	if gone || err != nil {
		return reconcile.Done(), err
	}
	if done, err := s.hostDone(sv); err != nil {
		if p.Op != "" || len(p.Failed)+1 >= maxHosts || sv.RequestedHost != "" {
			return reconcile.Next{}, reconcile.Fail(err)
		}
		p.Failed, p.Reason = append(p.Failed, sv.Host), err.Error()
		return reconcile.Goto("reschedule").With(p), nil
	} else if done {
		if p.Off {
			return s.step(ctx, j, "power", p, "", func(x *Server) { x.WantPower, x.Generation = hypervisor.Shutdown, x.next() })
		}
		p.WireBy = time.Now().UTC().Add(s.c.WireTimeout)
		return reconcile.Goto("wire").With(p), nil
	}
	return s.sendAgain(ctx, &sv)
}

// hostDone says whether the host is where it should be; an error is its refusal.
func (s *Service) hostDone(sv Server) (bool, error) {
	if sv.SeenGen < sv.Generation {
		return false, nil
	}
	switch sv.SeenPhase {
	case hypervisor.Done:
		return true, nil
	case hypervisor.Failed:
		return false, errors.New(sv.SeenReason)
	}
	return false, nil
}

func (s *Service) sendAgain(ctx context.Context, sv *Server) (reconcile.Next, error) {
	d, err := s.desired(ctx, sv)
	if err != nil {
		return reconcile.Next{}, err
	}
	if err := s.send(ctx, sv.Host, d); err != nil {
		return reconcile.Next{}, err
	}
	return reconcile.Again(resend), nil
}

// desired is what the host is to do about a server.
func (s *Service) desired(_ context.Context, sv *Server) (hypervisor.Desired, error) {
	d := hypervisor.Desired{ID: sv.ID, Generation: sv.Generation, Power: sv.WantPower, Boot: sv.Boot, HardBoot: sv.HardBoot,
		Spec: sv.spec(), GraceSeconds: int(s.c.StopGrace / time.Second), Build: sv.Build}
	if m := sv.Move; m != nil && m.Tell && !m.Switched {
		d.Move = m.role(false)
	}
	if sv.ConfigDrive {
		files, err := metadata.Files(s.instanceOf(sv))
		if err != nil {
			return d, err
		}
		d.Spec.ConfigDrive = files
	}
	return d, nil
}

// stepReschedule takes the server off a host that failed and tries another.
func (s *Service) stepReschedule(ctx context.Context, j *reconcile.Job) (reconcile.Next, error) {
	sv, _, gone, err := s.load(ctx, j)
	if gone || err != nil {
		return reconcile.Done(), err
	}
	if err := s.c.Networks.Release(nacre.AsService(ctx, "compute"), sv.ProjectID, sv.ID); err != nil {
		return reconcile.Next{}, err
	}
	return j.Commit(ctx, reconcile.Goto("schedule"), func(ctx context.Context) error {
		if err := s.bury(ctx, &sv); err != nil {
			return err
		}
		_, err := s.servers.Update(ctx, sv.ID, func(x *Server) error {
			x.Host, x.Ports, x.TaskState = "", nil, TaskScheduling
			x.Generation += 2
			x.Seen = Seen{}
			return nil
		})
		return err
	})
}

// bury has a server's host destroy what it has of it and gives its resources back; in the
// caller's transaction.
func (s *Service) bury(ctx context.Context, sv *Server) error {
	if err := s.c.Placement.Release(ctx, sv.ID); err != nil {
		return err
	}
	if sv.Host == "" {
		return nil
	}
	return s.leave(ctx, sv.ID, sv.Host, sv.next())
}

// stepWire waits for the data plane.
func (s *Service) stepWire(ctx context.Context, j *reconcile.Job) (reconcile.Next, error) {
	sv, p, gone, err := s.load(ctx, j)
	if gone || err != nil {
		return reconcile.Done(), err
	}
	if len(sv.Ports) > 0 {
		byServer, err := s.c.Networks.Ports(nacre.AsService(ctx, "compute"), sv.ID)
		if err != nil {
			return reconcile.Next{}, err
		}
		sv.Ports = byServer[sv.ID]
		if !sv.wired() {
			if time.Now().After(p.WireBy) {
				return reconcile.Next{}, reconcile.Fail(fmt.Errorf("Virtual interface creation failed: port %s was not wired within %s", unwired(sv.Ports), s.c.WireTimeout)) //nolint:staticcheck // nova's sentence
			}
			return reconcile.Again(500 * time.Millisecond), nil
		}
	}
	return j.Commit(ctx, reconcile.Goto("run"), func(ctx context.Context) error {
		_, err := s.servers.Update(ctx, sv.ID, func(x *Server) error {
			if len(sv.Ports) > 0 {
				x.Ports = sv.Ports
			}
			x.WantPower, x.Generation = hypervisor.Running, x.Generation+1
			return nil
		})
		return err
	})
}

func unwired(ports []Port) string {
	for _, p := range ports {
		if !p.Active {
			return p.ID
		}
	}
	return ""
}

// stepRun lets the guest run.
func (s *Service) stepRun(ctx context.Context, j *reconcile.Job) (reconcile.Next, error) {
	sv, p, gone, err := s.load(ctx, j)
	if gone || err != nil {
		return reconcile.Done(), err
	}
	done, err := s.hostDone(sv)
	if err != nil {
		return reconcile.Next{}, reconcile.Fail(err)
	}
	if !done {
		return s.sendAgain(ctx, &sv)
	}
	op := p.Op
	if op == "" {
		op = "create"
	}
	return s.settle(ctx, j, op, func(x *Server) {
		x.VMState, x.PowerState = VMActive, x.SeenPower
		if x.Launched.IsZero() {
			x.Launched = time.Now().UTC()
		}
	})
}

// settle ends a server's work well.
func (s *Service) settle(ctx context.Context, j *reconcile.Job, op string, fn func(*Server)) (reconcile.Next, error) {
	var p progress
	if err := j.Decode(&p); err != nil {
		return reconcile.Next{}, err
	}
	var failed error
	if p.Cause != "" {
		failed = errors.New(p.Cause)
	}
	return j.Commit(ctx, reconcile.Done(), func(ctx context.Context) error {
		sv, err := s.servers.Update(ctx, j.ObjectID, func(x *Server) error {
			fn(x)
			if x.Move != nil {
				x.VMState = VMResized
			}
			x.TaskState, x.Fault, x.Updated = "", nil, time.Now().UTC()
			return nil
		})
		if err != nil {
			return err
		}
		if err := s.finishMove(ctx, &sv); err != nil {
			return err
		}
		if p.Migration != "" {
			if err := s.setMigration(ctx, p.Migration, "done"); err != nil {
				return err
			}
		}
		if err := s.endAction(ctx, j.ObjectID, op, failed); err != nil {
			return err
		}
		return s.emit(ctx, "compute.instance."+eventName(op)+".end", sv.ID, sv.ProjectID, eventOf(&sv))
	})
}

func eventName(op string) string {
	switch op {
	case "start":
		return "power_on"
	case "stop":
		return "power_off"
	}
	return op
}

// stepPower waits until the host has stopped, paused, resumed or rebooted a guest.
func (s *Service) stepPower(ctx context.Context, j *reconcile.Job) (reconcile.Next, error) {
	sv, p, gone, err := s.load(ctx, j)
	if gone || err != nil {
		return reconcile.Done(), err
	}
	done, err := s.hostDone(sv)
	if err != nil {
		return reconcile.Next{}, reconcile.Fail(err)
	}
	if !done {
		return s.sendAgain(ctx, &sv)
	}
	return s.settle(ctx, j, p.Op, func(x *Server) {
		x.PowerState = x.SeenPower
		switch {
		case p.Op == "pause":
			x.VMState = VMPaused
		case x.WantPower == hypervisor.Shutdown:
			x.VMState = VMStopped
		default:
			x.VMState = VMActive
		}
	})
}

// stepGiveBack takes a server that failed off its host and frees what it had;
// the server stays, in error.
func (s *Service) stepGiveBack(ctx context.Context, j *reconcile.Job) (reconcile.Next, error) {
	sv, _, gone, err := s.load(ctx, j)
	if gone || err != nil {
		return reconcile.Done(), err
	}
	if err := s.c.Networks.Release(nacre.AsService(ctx, "compute"), sv.ProjectID, sv.ID); err != nil {
		return reconcile.Next{}, err
	}
	return j.Commit(ctx, reconcile.Done(), func(ctx context.Context) error {
		if err := s.bury(ctx, &sv); err != nil {
			return err
		}
		_, err := s.servers.Update(ctx, sv.ID, func(x *Server) error {
			x.Host, x.Ports, x.TaskState, x.PowerState = "", nil, "", hypervisor.NoState
			x.Generation += 2
			x.Seen = Seen{}
			return nil
		})
		return err
	})
}

// stepDelete frees everything and removes the server. The host gets a tombstone;
// while it lives the server is not gone before its guest is.
func (s *Service) stepDelete(ctx context.Context, j *reconcile.Job) (reconcile.Next, error) {
	sv, _, gone, err := s.load(ctx, j)
	if gone || err != nil {
		return reconcile.Done(), err
	}
	stones, err := s.tombstones.Where(ctx, store.Eq("server_id", sv.ID))
	if err != nil {
		return reconcile.Next{}, err
	}
	waiting := false
	for _, t := range stones {
		up, err := s.hostUp(ctx, t.Host)
		if err != nil {
			return reconcile.Next{}, err
		}
		if !up {
			continue
		}
		waiting = true
		if err := s.send(ctx, t.Host, hypervisor.Desired{ID: sv.ID, Generation: t.Generation, Gone: true}); err != nil {
			return reconcile.Next{}, err
		}
	}
	if waiting {
		return reconcile.Again(resend), nil
	}
	if err := s.c.Networks.Release(nacre.AsService(ctx, "compute"), sv.ProjectID, sv.ID); err != nil {
		return reconcile.Next{}, err
	}
	return j.Commit(ctx, reconcile.Done(), func(ctx context.Context) error {
		if err := s.c.Placement.Release(ctx, sv.ID); err != nil {
			return err
		}
		if sv.Move != nil {
			if err := s.c.Placement.Release(ctx, sv.Move.Migration); err != nil {
				return err
			}
		}
		// The server's row first: whoever writes its tags holds it too.
		now := time.Now().UTC()
		out, err := s.servers.Update(ctx, sv.ID, func(x *Server) error {
			x.Deleted, x.VMState, x.TaskState, x.Terminated, x.Updated, x.Ports = true, VMDeleted, "", now, now, nil
			x.Move, x.OtherHost = nil, ""
			return nil
		})
		if err != nil {
			return err
		}
		if _, err := s.serverTags.DeleteWhere(ctx, store.Eq("server_id", sv.ID)); err != nil {
			return err
		}
		if err := s.endAction(ctx, sv.ID, "delete", nil); err != nil {
			return err
		}
		return s.emit(ctx, "compute.instance.delete.end", sv.ID, sv.ProjectID, eventOf(&out))
	})
}

// expireServer brings a server to rest whose work can't succeed.
func (s *Service) expireServer(ctx context.Context, j *reconcile.Job, cause error) error {
	sv, p, gone, err := s.load(ctx, j)
	if gone || err != nil {
		return err
	}
	op := p.Op
	if op == "" {
		op = "create"
	}
	building := op == "create"
	if sv.Move != nil && !p.Back {
		p.Back, p.Cause = true, cause.Error()
		return j.Tx(ctx, func(ctx context.Context) error {
			return s.put(ctx, sv.ID, reconcile.Begin{Step: "back", Within: s.c.MoveTimeout}, p)
		})
	}
	return j.Tx(ctx, func(ctx context.Context) error {
		out, err := s.servers.Update(ctx, sv.ID, func(x *Server) error {
			now := time.Now().UTC()
			x.TaskState, x.Updated = "", now
			x.VMState = VMError
			x.Fault = &Fault{Code: 500, Message: cause.Error(), Created: now}
			return nil
		})
		if err != nil {
			return err
		}
		left, err := s.endMove(ctx, &out, cause.Error())
		if err != nil {
			return err
		}
		if err := s.endAction(ctx, sv.ID, op, cause); err != nil {
			return err
		}
		if err := s.emit(ctx, "compute.instance."+eventName(op)+".error", sv.ID, sv.ProjectID, eventOf(&out)); err != nil {
			return err
		}
		if !building {
			_, err := s.putTidy(ctx, sv.ID, left)
			return err
		}
		return s.work.Put(ctx, kindServer, sv.ID, reconcile.Begin{Step: "giveback"})
	})
}
