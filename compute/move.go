package compute

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/compute/hypervisor"
	"github.com/nacre-cloud/nacre/compute/placement"
	"github.com/nacre-cloud/nacre/internal/reconcile"
	"github.com/nacre-cloud/nacre/store"
)

// begun is how an accepted request starts: what it does to the row, and the work.
type begun struct {
	action string
	states []string
	step   string
	within time.Duration
	// change edits the row, in the transaction; what it returns refuses.
	change func(ctx context.Context, sv *Server, p *progress) error
}

// begin accepts an action that moves a server or makes it anew: row, action and work in
// one transaction, if the server's state allows it.
func (s *Service) begin(ctx context.Context, id string, b begun) (Server, error) {
	var out Server
	err := s.changing(ctx, id, func(ctx context.Context) error {
		sv, err := s.servers.GetForUpdate(ctx, id)
		if err != nil || sv.Deleted {
			return store.WrapNotFound(errors.Join(err), func() *nacre.Error { return serverNotFound(id) })
		}
		switch {
		case !slices.Contains(b.states, sv.VMState):
			return wrongState(&sv, b.action, "vm_state", sv.VMState)
		case sv.TaskState != "":
			return wrongState(&sv, b.action, "task_state", sv.TaskState)
		case sv.Host == "":
			return nacre.Errorf(nacre.Conflict, "InstanceNotReady", "Instance %s is not ready", id)
		}
		p := progress{Op: b.action}
		old := sv
		if sv.Move != nil {
			m := *sv.Move
			old.Move = &m
		}
		if err := b.change(ctx, &sv, &p); err != nil {
			return err
		}
		sv.Updated = time.Now().UTC()
		if err := s.servers.Replace(ctx, &old, &sv); err != nil {
			return err
		}
		if err := s.beginAction(ctx, sv, b.action); err != nil {
			return err
		}
		out = sv
		return s.put(ctx, id, reconcile.Begin{Step: b.step, Within: b.within}, p)
	})
	return out, err
}

// movable reads a server that is to move, for somebody who may do rule.
func (s *Service) movable(ctx context.Context, id, rule string) (Server, error) {
	sv, err := s.serverFor(ctx, id, rule)
	if err != nil {
		return sv, err
	}
	return sv, s.unlocked(ctx, &sv)
}

// Resize accepts that a server gets another flavor, on another host.
func (s *Service) Resize(ctx context.Context, id, flavor, diskConfig string) error {
	sv, err := s.movable(ctx, id, "os_compute_api:servers:resize")
	if err != nil {
		return err
	}
	f, err := s.Flavor(ctx, flavor)
	switch {
	case nacre.KindOf(err) == nacre.NotFound:
		return nacre.Errorf(nacre.Invalid, "FlavorNotFound", "Flavor %s could not be found.", flavor)
	case err != nil:
		return err
	case f.ID == sv.FlavorID:
		return nacre.Errorf(nacre.Invalid, "CannotResizeToSameFlavor", "When resizing, instances must change flavor!")
	case f.Disk < sv.Flavor.Disk, f.Ephemeral < sv.Flavor.Ephemeral:
		return nacre.Errorf(nacre.Invalid, "CannotResizeDisk", "Server disk was unable to be resized because: Resize to a flavor with a smaller disk is not allowed.")
	}
	_, err = s.begin(ctx, id, begun{action: "resize", states: []string{VMActive, VMStopped}, step: "choose", within: s.c.MoveTimeout,
		change: func(ctx context.Context, sv *Server, _ *progress) error {
			if diskConfig != "" {
				sv.DiskConfig = diskConfig
			}
			if err := s.growth(ctx, sv, f); err != nil {
				return err
			}
			return s.startMove(ctx, sv, TypeResize, f, "", TaskResizePrep, "pre-migrating")
		}})
	return err
}

// growth refuses a flavor that is more than the project's quota leaves.
func (s *Service) growth(ctx context.Context, sv *Server, f Flavor) error {
	if err := s.quota.Lock(ctx, sv.ProjectID); err != nil {
		return err
	}
	limits, err := s.quota.Limits(ctx, sv.ProjectID)
	if err != nil {
		return err
	}
	used, err := s.usage(ctx, sv.ProjectID)
	if err != nil {
		return err
	}
	more := map[string]int64{"cores": int64(f.VCPUs) - sv.VCPUs, "ram": int64(f.RAM) - sv.RAM}
	for _, r := range []string{"cores", "ram"} {
		if l := limits[r]; l >= 0 && more[r] > 0 && used[r]+more[r] > l {
			return nacre.Errorf(nacre.QuotaExceeded, "TooManyInstances", "Quota exceeded for %s: Requested %d, but already used %d of %d %s", r, more[r], used[r], l, r)
		}
	}
	return nil
}

// startMove puts a server on its way; in the caller's transaction.
func (s *Service) startMove(ctx context.Context, sv *Server, typ string, f Flavor, host, task, status string) error {
	sv.Move = &Moving{Wanted: host, VMState: sv.VMState, OldFlavor: sv.Flavor, NewFlavor: f}
	sv.TaskState = task
	sv.setFlavor(sv.Flavor)
	_, err := s.newMigration(ctx, sv, typ, status)
	return err
}

// Migrate accepts that a server moves to another host while it is off, or to the named
// one.
func (s *Service) Migrate(ctx context.Context, id, host string) error {
	rule := "os_compute_api:os-migrate-server:migrate"
	if host != "" {
		rule += ":host"
	}
	if _, err := s.movable(ctx, id, rule); err != nil {
		return err
	}
	_, err := s.begin(ctx, id, begun{action: "migrate", states: []string{VMActive, VMStopped}, step: "choose", within: s.c.MoveTimeout,
		change: func(ctx context.Context, sv *Server, _ *progress) error {
			if host != "" {
				if host == sv.Host {
					return nacre.Errorf(nacre.Invalid, "CannotMigrateToSameHost", "Cannot migrate to the host where the server exists.")
				}
				if err := s.knownHost(ctx, host); err != nil {
					return err
				}
			}
			return s.startMove(ctx, sv, TypeMigration, sv.Flavor, host, TaskResizePrep, "pre-migrating")
		}})
	return err
}

func (s *Service) knownHost(ctx context.Context, host string) error {
	known, err := s.hosts.Exists(ctx, store.Eq("name", host))
	if err == nil && !known {
		err = nacre.Errorf(nacre.Invalid, "ComputeHostNotFound", "Compute host %s could not be found.", host)
	}
	return err
}

// LiveMigrate accepts that a running or paused server moves to another host, or to the named one.
func (s *Service) LiveMigrate(ctx context.Context, id, host string) error {
	rule := "os_compute_api:os-migrate-server:migrate_live"
	if host != "" {
		rule += ":host"
	}
	if _, err := s.movable(ctx, id, rule); err != nil {
		return err
	}
	_, err := s.begin(ctx, id, begun{action: "live-migration", states: []string{VMActive, VMPaused}, step: "choose",
		change: func(ctx context.Context, sv *Server, p *progress) error {
			if host != "" {
				if host == sv.Host {
					return nacre.Errorf(nacre.Invalid, "UnableToMigrateToSelf", "Unable to migrate instance (%s) to current host (%s).", id, host)
				}
				if err := s.knownHost(ctx, host); err != nil {
					return err
				}
			}
			p.MoveBy = time.Now().UTC().Add(s.c.MoveTimeout)
			return s.startMove(ctx, sv, TypeLive, sv.Flavor, host, TaskMigrating, "queued")
		}})
	return err
}

// ConfirmResize makes a resized server's new host and flavor final; what it had before
// is given back.
func (s *Service) ConfirmResize(ctx context.Context, id string) error {
	if _, err := s.movable(ctx, id, "os_compute_api:servers:confirm_resize"); err != nil {
		return err
	}
	return s.changing(ctx, id, func(ctx context.Context) error {
		old := ""
		var move Moving
		sv, err := s.servers.Update(ctx, id, func(sv *Server) error {
			switch {
			case sv.Deleted:
				return serverNotFound(id)
			case sv.VMState != VMResized:
				return wrongState(sv, "confirmResize", "vm_state", sv.VMState)
			case sv.TaskState != "":
				return wrongState(sv, "confirmResize", "task_state", sv.TaskState)
			}
			move, old = *sv.Move, sv.OtherHost
			sv.VMState = VMActive
			if sv.PowerState == hypervisor.Shutdown || sv.PowerState == hypervisor.Crashed {
				sv.VMState = VMStopped
			}
			sv.Move, sv.OtherHost, sv.Updated = nil, "", time.Now().UTC()
			sv.Generation = max(sv.Generation, move.Generation+2)
			sv.setFlavor(sv.Flavor)
			return nil
		})
		if err != nil {
			return err
		}
		if err := s.leave(ctx, id, old, move.Generation+1); err != nil {
			return err
		}
		if err := s.c.Placement.Release(ctx, move.Migration); err != nil {
			return err
		}
		if err := s.setMigration(ctx, move.Migration, "confirmed"); err != nil {
			return err
		}
		if err := s.beginAction(ctx, sv, "confirmResize"); err != nil {
			return err
		}
		if err := s.emit(ctx, "compute.instance.resize.confirm.end", sv.ID, sv.ProjectID, eventOf(&sv)); err != nil {
			return err
		}
		return s.endAction(ctx, id, "confirmResize", nil)
	})
}

// entomb writes the tombstone of what a host has of a server; in the caller's transaction.
func (s *Service) entomb(ctx context.Context, id, host string, generation int64) error {
	t := Tombstone{ID: host + "/" + id, Host: host, ServerID: id, Generation: generation, Created: time.Now().UTC()}
	if _, err := s.tombstones.DeleteWhere(ctx, store.Eq("id", t.ID)); err != nil {
		return err
	}
	return s.tombstones.Insert(ctx, t)
}

// leave has a host destroy what it has of a server, by a tombstone; in the caller's
// transaction. The host is told once that is committed, and again until it confirms.
func (s *Service) leave(ctx context.Context, id, host string, generation int64) error {
	if err := s.entomb(ctx, id, host, generation); err != nil {
		return err
	}
	out := store.Detach(ctx)
	store.AfterCommit(ctx, func() {
		// A hint: the next full report of the host has it sent again.
		_ = s.send(out, host, hypervisor.Desired{ID: id, Generation: generation, Gone: true})
	})
	return nil
}

// RevertResize takes a resized server back to its former host and flavor.
func (s *Service) RevertResize(ctx context.Context, id string) error {
	if _, err := s.movable(ctx, id, "os_compute_api:servers:revert_resize"); err != nil {
		return err
	}
	_, err := s.begin(ctx, id, begun{action: "revertResize", states: []string{VMResized}, step: "back", within: s.c.MoveTimeout,
		change: func(ctx context.Context, sv *Server, p *progress) error {
			p.Back = true
			sv.TaskState = TaskResizeReverting
			return s.setMigration(ctx, sv.Move.Migration, "reverting")
		}})
	return err
}

// Evacuate accepts that a server whose host is down is made again on another, from its
// image. From 2.95 on (stopped) it is off afterwards.
func (s *Service) Evacuate(ctx context.Context, id, host string, stopped bool) error {
	if _, err := s.movable(ctx, id, "os_compute_api:os-evacuate"); err != nil {
		return err
	}
	_, err := s.begin(ctx, id, begun{action: "evacuate", states: []string{VMActive, VMStopped, VMError}, step: "evacuate", within: s.c.BuildTimeout,
		change: func(ctx context.Context, sv *Server, p *progress) error {
			if host == sv.Host {
				return nacre.Errorf(nacre.Invalid, "", "The target host can't be the same one.")
			}
			if host != "" {
				if err := s.knownHost(ctx, host); err != nil {
					return nacre.Errorf(nacre.NotFound, "", "Compute host %s not found.", host)
				}
			}
			h, err := s.hosts.One(ctx, store.Eq("name", sv.Host))
			if err != nil && !errors.Is(err, store.ErrNoRow) {
				return err
			}
			if err == nil && s.Up(h) {
				return nacre.Errorf(nacre.Invalid, "ComputeServiceInUse", "Compute service of %s is still in use.", sv.Host)
			}
			m, err := s.newMigration(ctx, sv, TypeEvacuation, "accepted")
			p.Migration, p.Wanted, p.Off = m.ID, host, stopped || sv.VMState == VMStopped
			sv.TaskState, sv.Fault = TaskRebuilding, nil
			return err
		}})
	return err
}

// AbortMigration calls a live migration off; older says that one that has not begun
// can't be (before 2.65).
func (s *Service) AbortMigration(ctx context.Context, id string, number int64, older bool) error {
	if _, err := s.movable(ctx, id, "os_compute_api:servers:migrations:delete"); err != nil {
		return err
	}
	may := []string{"running"}
	if !older {
		may = append(may, "queued", "preparing")
	}
	return s.changing(ctx, id, func(ctx context.Context) error {
		m, err := s.serverMigration(ctx, id, number)
		if err != nil {
			return err
		}
		sv, err := s.servers.Update(ctx, id, func(sv *Server) error {
			switch {
			case sv.TaskState != TaskMigrating || sv.Move == nil:
				return wrongState(sv, "abort live migration", "task_state", sv.TaskState)
			case sv.Move.Migration != m.ID || !slices.Contains(may, m.Status):
				return nacre.Errorf(nacre.Invalid, "InvalidMigrationState", "Migration %d state of instance %s is %s. Cannot abort live migration while the migration is in this state.", number, id, m.Status)
			}
			sv.Move.Cancel = true
			return nil
		})
		if err != nil {
			return err
		}
		if err := s.beginAction(ctx, sv, "live_migration_cancel"); err != nil {
			return err
		}
		return s.work.Wake(ctx, kindServer, id)
	})
}

// ForceMigration has a live migration finish at the cost of the guest's pace.
func (s *Service) ForceMigration(ctx context.Context, id string, number int64) error {
	sv, err := s.movable(ctx, id, "os_compute_api:servers:migrations:force_complete")
	if err != nil {
		return err
	}
	if sv.VMState != VMActive || sv.TaskState != TaskMigrating || sv.Move == nil {
		if sv.VMState != VMActive {
			return wrongState(&sv, "force_complete", "vm_state", sv.VMState)
		}
		return wrongState(&sv, "force_complete", "task_state", sv.TaskState)
	}
	m, err := s.serverMigration(ctx, id, number)
	if err != nil {
		return nacre.Errorf(nacre.Invalid, "MigrationNotFoundForInstance", "Migration %d not found for instance %s", number, id)
	}
	if m.ID != sv.Move.Migration || m.Status != "running" {
		return nacre.Errorf(nacre.Invalid, "InvalidMigrationState", "Migration %d state of instance %s is %s. Cannot force complete while the migration is in this state.", number, id, m.Status)
	}
	err = s.c.Bus.Call(ctx, "compute.call."+sv.Host, hypervisor.Call{ConsoleRequest: hypervisor.ConsoleRequest{ID: id}, Hurry: true}, &hypervisor.ConsoleReply{})
	if err != nil {
		return err
	}
	return store.InTx(ctx, s.c.Engine, func(ctx context.Context) error {
		if err := s.beginAction(ctx, sv, "live_migration_force_complete"); err != nil {
			return err
		}
		return s.endAction(ctx, id, "live_migration_force_complete", nil)
	})
}

// confirmOld confirms resized servers once they have been so for ConfirmWindow.
func (s *Service) confirmOld(ctx context.Context) {
	t := time.NewTicker(min(s.c.ConfirmWindow, 30*time.Second))
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		list, err := s.servers.Where(ctx, store.Eq("vm_state", VMResized), store.Eq("task_state", ""), store.Eq("deleted", false))
		if err != nil {
			s.log.Warn("resized servers can't be looked for", "error", err)
		}
		for _, sv := range list {
			if sv.Move == nil || time.Since(sv.Move.At) < s.c.ConfirmWindow {
				continue
			}
			as := nacre.WithCaller(ctx, &nacre.Caller{UserID: sv.UserID, ProjectID: sv.ProjectID, Roles: []string{"admin", "member", "reader"}})
			if err := s.ConfirmResize(as, sv.ID); err != nil && nacre.KindOf(err) != nacre.Conflict {
				s.log.Warn("a resized server can't be confirmed", "server", sv.ID, "error", err)
			}
		}
	}
}

// Rebuild is what a server is made of anew; nil and "" leave what it has.
type Rebuild struct {
	ImageID     string
	Name        *string
	Description *string
	Hostname    *string
	DiskConfig  *string
	AccessIPv4  *string
	AccessIPv6  *string
	UserData    *string
	// KeyName "" with HasKey takes the key away.
	KeyName  string
	HasKey   bool
	Metadata map[string]string
}

// RebuildServer accepts that a server is made anew from an image on its host, with its
// ports and its id; all that its disks hold is lost.
func (s *Service) RebuildServer(ctx context.Context, id string, r Rebuild) (Server, error) {
	sv, err := s.movable(ctx, id, "os_compute_api:servers:rebuild")
	if err != nil {
		return sv, err
	}
	img, err := s.c.Images.Image(ctx, r.ImageID)
	switch {
	case nacre.KindOf(err) == nacre.NotFound:
		return sv, nacre.Errorf(nacre.Invalid, "ImageNotFound", "Cannot find image for rebuild")
	case err != nil:
		return sv, err
	}
	if err := fitsImage(img, sv.Flavor); err != nil {
		return sv, err
	}
	key, err := s.rebuildKey(ctx, r)
	if err != nil {
		return sv, err
	}
	return s.begin(ctx, id, begun{action: "rebuild", states: []string{VMActive, VMStopped, VMError}, step: "build", within: s.c.BuildTimeout,
		change: func(_ context.Context, sv *Server, p *progress) error {
			p.Off = sv.VMState == VMStopped
			for _, x := range []struct{ to, from *string }{{&sv.Name, r.Name}, {&sv.Description, r.Description}, {&sv.Hostname, r.Hostname}, {&sv.DiskConfig, r.DiskConfig},
				{&sv.AccessIPv4, r.AccessIPv4}, {&sv.AccessIPv6, r.AccessIPv6}, {&sv.UserData, r.UserData}} {
				if x.from != nil {
					*x.to = *x.from
				}
			}
			if r.HasKey {
				sv.KeyName, sv.KeyType, sv.KeyData = r.KeyName, key.Type, key.PublicKey
			}
			if r.Metadata != nil {
				sv.Metadata = r.Metadata
			}
			sv.ImageID, sv.ImageMeta = img.ID, img.Properties
			sv.ImageInfo = hypervisor.Image{ID: img.ID, Format: img.DiskFormat, Size: img.Size, Hash: img.Hash}
			sv.TaskState, sv.Fault, sv.WantPower = TaskRebuilding, nil, hypervisor.Paused
			sv.Build, sv.Generation = sv.Build+1, sv.next()
			return nil
		}})
}

func (s *Service) rebuildKey(ctx context.Context, r Rebuild) (Keypair, error) {
	if r.KeyName == "" {
		return Keypair{}, nil
	}
	c, err := s.caller(ctx)
	if err != nil {
		return Keypair{}, err
	}
	k, err := s.keypairs.Get(ctx, c.UserID+"/"+r.KeyName)
	return k, store.WrapNotFound(err, func() *nacre.Error {
		return nacre.Errorf(nacre.Invalid, "KeypairNotFound", "Invalid key_name provided.")
	})
}

// wantOf is a server as it is to be on the host that it goes to.
func wantOf(sv *Server) Server {
	w := *sv
	if m := sv.Move; m != nil {
		w.Flavor, w.RequestedHost = m.NewFlavor, m.Wanted
	}
	return w
}

// held is what a move holds beside its server: what the server had.
func held(m *Moving) placement.Resources { return resources(Server{Flavor: m.OldFlavor}) }
