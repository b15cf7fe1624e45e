package compute

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"math"
	"os"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/compute/hypervisor"
	"github.com/nacre-cloud/nacre/compute/placement"
	"github.com/nacre-cloud/nacre/internal/policy"
	"github.com/nacre-cloud/nacre/store"
)

// Host is a compute host: nova-compute's service, its hypervisor and its
// resource provider in one.
type Host struct {
	// ID is a uuid: the service's, the hypervisor's and the provider's.
	ID   string `store:"id,pk"`
	Name string `store:"name,unique=host_name"`
	// Number is the small id that older microversions show.
	Number int64  `store:"number"`
	Zone   string `store:"zone"`
	// Disabled hosts get no new servers; ForcedDown ones count as dead.
	Disabled       bool            `store:"disabled"`
	DisabledReason string          `store:"disabled_reason"`
	ForcedDown     bool            `store:"forced_down"`
	Info           hypervisor.Host `store:"info,json"`
	// Started is the agent's; Seen is when it last reported.
	Started int64 `store:"started"`
	// Credential is the SHA-256, in hex, of the secret that the host shows; empty
	// lets none in.
	Credential string    `store:"credential"`
	Seen       time.Time `store:"seen_at"`
	Created    time.Time `store:"created_at"`
	Updated    time.Time `store:"updated_at"`
}

// Up reports whether the host counts as alive.
func (s *Service) Up(h Host) bool {
	return !h.ForcedDown && time.Since(h.Seen) < s.c.HostTimeout
}

func hashHost(project, host string) string {
	sum := sha256.Sum224([]byte(project + host))
	return hex.EncodeToString(sum[:])
}

// AddHost makes a host known, so that its reports are heard. Idempotent.
func (s *Service) AddHost(ctx context.Context, name string) (Host, error) {
	var out Host
	err := store.InTx(ctx, s.c.Engine, func(ctx context.Context) error {
		h, err := s.hosts.One(ctx, store.Eq("name", name))
		if err == nil || !errors.Is(err, store.ErrNoRow) {
			out = h
			return err
		}
		g, err := s.hosts.Aggregate(ctx, store.Aggregate{Max: "number"})
		if err != nil {
			return err
		}
		n, _ := g[0].Max.(int64)
		now := time.Now().UTC()
		out = Host{ID: s.c.IDs.NewID(), Name: name, Number: n + 1, Zone: s.c.DefaultZone, Created: now, Updated: now}
		store.AfterCommit(ctx, s.free.forget)
		return s.hosts.Insert(ctx, out)
	})
	if err == nil {
		err = s.listenTo(name)
	}
	return out, err
}

// MayChangeHosts is nil when the caller may add, enable, disable and fence hosts.
func (s *Service) MayChangeHosts(ctx context.Context) error {
	return s.enforce(ctx, "os_compute_api:os-services:update", nil)
}

// IssueCredential gives a known host a new secret, of 128 random bits, and ends the
// one before. Only its hash is kept.
func (s *Service) IssueCredential(ctx context.Context, name string) (string, error) {
	if err := s.MayChangeHosts(ctx); err != nil {
		return "", err
	}
	h, err := s.hosts.One(ctx, store.Eq("name", name))
	if err != nil {
		return "", store.WrapNotFound(err, func() *nacre.Error {
			return nacre.Errorf(nacre.NotFound, "HostNotFound", "Host %s could not be found.", name)
		})
	}
	secret := rand.Text()
	_, err = s.hosts.Update(ctx, h.ID, func(h *Host) error {
		h.Credential, h.Updated = hypervisor.CredentialHash(secret), time.Now().UTC()
		return nil
	})
	return secret, err
}

// CheckCredential reports whether a host's secret, by its hash, is the one that
// IssueCredential gave.
func (s *Service) CheckCredential(ctx context.Context, name, hash string) error {
	h, err := s.hosts.One(ctx, store.Eq("name", name))
	if err != nil && !errors.Is(err, store.ErrNoRow) {
		return err
	}
	if err != nil || h.Credential == "" || subtle.ConstantTimeCompare([]byte(h.Credential), []byte(hash)) != 1 {
		return nacre.Errorf(nacre.Unauthenticated, "", "The host's credential is not valid.")
	}
	return nil
}

// Hosts lists the compute hosts by name, for administrators.
func (s *Service) Hosts(ctx context.Context, rule string) ([]Host, error) {
	if err := s.enforce(ctx, rule, nil); err != nil {
		return nil, err
	}
	return s.hosts.Select(ctx, store.Select{Order: []store.Order{{Column: "number"}}})
}

// HostUse is what a host's servers take, counted.
type HostUse struct {
	VCPUs, MemoryMB, DiskGB, Servers int64
	// Building counts servers on their way.
	Building int64
}

// HostUses counts by host name. One statement.
func (s *Service) HostUses(ctx context.Context) (map[string]HostUse, error) {
	sums, err := s.servers.Aggregate(ctx, store.Aggregate{Where: store.And(store.Eq("deleted", false), store.Not(store.Eq("host", ""))),
		By: []string{"host", "task_state"}, Sum: []string{"vcpus", "ram", "disk"}})
	if err != nil {
		return nil, err
	}
	out := map[string]HostUse{}
	for _, g := range sums {
		host := g.Key[0].(string)
		u := out[host]
		u.Servers += g.Count
		u.VCPUs += g.Sums[0]
		u.MemoryMB += g.Sums[1]
		u.DiskGB += g.Sums[2]
		if g.Key[1].(string) != "" {
			u.Building += g.Count
		}
		out[host] = u
	}
	return out, nil
}

// UpdateHost enables, disables or fences a host.
func (s *Service) UpdateHost(ctx context.Context, id string, fn func(*Host)) (Host, error) {
	if err := s.MayChangeHosts(ctx); err != nil {
		return Host{}, err
	}
	h, err := s.hosts.Update(ctx, id, func(h *Host) error {
		fn(h)
		h.Updated = time.Now().UTC()
		return nil
	})
	store.AfterCommit(ctx, s.free.forget)
	return h, store.WrapNotFound(err, func() *nacre.Error {
		return nacre.Errorf(nacre.NotFound, "ServiceNotFound", "Service %s could not be found.", id)
	})
}

// DeleteHost forgets a host that has no servers.
func (s *Service) DeleteHost(ctx context.Context, id string) error {
	if err := s.enforce(ctx, "os_compute_api:os-services:delete", nil); err != nil {
		return err
	}
	return store.InTx(ctx, s.c.Engine, func(ctx context.Context) error {
		h, err := s.hosts.GetForUpdate(ctx, id)
		if err != nil {
			return store.WrapNotFound(err, func() *nacre.Error {
				return nacre.Errorf(nacre.NotFound, "ServiceNotFound", "Service %s could not be found.", id)
			})
		}
		busy, err := s.servers.Exists(ctx, store.Or(store.Eq("host", h.Name), store.Eq("other_host", h.Name)), store.Eq("deleted", false))
		if err != nil {
			return err
		}
		if busy {
			return nacre.Errorf(nacre.Conflict, "", "Unable to delete compute service that is hosting instances. Migrate or delete the instances first.")
		}
		if err := s.leaveAggregates(ctx, h.Name); err != nil {
			return err
		}
		store.AfterCommit(ctx, s.free.forget)
		return s.hosts.Delete(ctx, id)
	})
}

// inventories are what a host offers to placement. Ratios are nova's initial
// ones (16 for processors, 1.5 is now 1.0 for memory and disk).
func inventories(h hypervisor.Host) []placement.Inventory {
	inv := func(class string, total int, ratio float64, reserved int) placement.Inventory {
		return placement.Inventory{Class: class, Total: int64(total), Reserved: int64(reserved), MinUnit: 1, MaxUnit: int64(total), StepSize: 1, Ratio: ratio}
	}
	reserved := min(512, h.MemoryMB/4)
	return slices.DeleteFunc([]placement.Inventory{
		inv(placement.VCPU, h.VCPUs, 4, 0), inv(placement.MemoryMB, h.MemoryMB, 1, reserved), inv(placement.DiskGB, h.DiskGB, 1, 0),
	}, func(i placement.Inventory) bool { return i.Total <= 0 })
}

// takeReport takes in what a host says. host comes from the topic.
func (s *Service) takeReport(ctx context.Context, host string, r hypervisor.Report) error {
	h, err := s.hosts.One(ctx, store.Eq("name", host))
	if errors.Is(err, store.ErrNoRow) {
		s.log.Warn("report of an unknown host", "host", host)
		return nil
	}
	if err != nil {
		return err
	}
	if r.Host != nil || r.Full {
		if _, err := s.hosts.Update(ctx, h.ID, func(h *Host) error {
			h.Seen = time.Now().UTC()
			h.Started = r.Started
			if r.Host != nil {
				h.Info = *r.Host
			}
			return nil
		}); err != nil {
			return err
		}
		if r.Host != nil {
			if err := s.c.Placement.Report(ctx, h.ID, h.Name, inventories(*r.Host)); err != nil {
				return err
			}
		}
	}
	if err := s.takeStates(ctx, host, r.States); err != nil {
		return err
	}
	if r.Full {
		return s.resync(ctx, host, r)
	}
	return nil
}

// takeStates notes what is news: a full list of a thousand servers at rest costs
// one statement.
func (s *Service) takeStates(ctx context.Context, host string, states []hypervisor.State) error {
	ids := make([]string, len(states))
	for i := range states {
		ids[i] = states[i].ID
	}
	known, err := s.servers.Where(ctx, store.In("id", ids))
	if err != nil {
		return err
	}
	byID := make(map[string]*Server, len(known))
	for i := range known {
		byID[known[i].ID] = &known[i]
	}
	for _, st := range states {
		sv := byID[st.ID]
		if err := s.takeProgress(ctx, st); err != nil {
			return err
		}
		same := sv != nil && sv.Move == nil && sv.SeenGen == st.Generation && sv.SeenPhase == st.Phase && sv.SeenPower == st.Power && sv.SeenReason == st.Reason && sv.PowerState == st.Power
		if same && st.Phase != hypervisor.Absent || sv == nil && st.Phase != hypervisor.Absent {
			continue
		}
		if err := s.takeState(ctx, host, st); err != nil {
			return err
		}
	}
	return nil
}

// takeState notes what a host says of one server, and wakes its work.
func (s *Service) takeState(ctx context.Context, host string, st hypervisor.State) error {
	if st.Phase == hypervisor.Absent {
		if err := s.confirmGone(ctx, host, st); err != nil {
			return err
		}
	}
	changed, wake := false, false
	_, err := s.servers.Update(ctx, st.ID, func(sv *Server) error {
		changed, wake = false, false
		if m := sv.Move; m != nil && !sv.Deleted && sv.OtherHost == host && sv.Host != host {
			changed = m.take(st)
			wake = changed
			return nil
		}
		if sv.Deleted || sv.Host != host || st.Generation < sv.SeenGen && st.Generation != 0 {
			return nil
		}
		if st.Generation == 0 && st.Phase != hypervisor.Absent {
			// The agent started anew and only found the instance.
			return nil
		}
		if sv.SeenGen != st.Generation || sv.SeenPhase != st.Phase || sv.SeenPower != st.Power || sv.SeenReason != st.Reason {
			changed = true
		}
		sv.SeenGen, sv.SeenPhase, sv.SeenPower, sv.SeenReason = st.Generation, st.Phase, st.Power, st.Reason
		if m := sv.Move; m != nil && st.Move.Moved && st.Move.ID == m.Migration && !m.Sent {
			m.Sent, changed = true, true
		}
		wake = sv.Transitional()
		if !wake && sv.settled() {
			s.followPower(sv, st.Power)
		}
		return nil
	})
	if errors.Is(err, store.ErrNoRow) {
		return nil
	}
	if err == nil && changed && wake {
		err = s.work.Wake(ctx, kindServer, st.ID)
	}
	return err
}

// followPower follows what a guest did by itself, as nova's power sync does.
func (s *Service) followPower(sv *Server, p hypervisor.Power) {
	if p == hypervisor.NoState || sv.PowerState == p && sv.VMState != VMActive && sv.VMState != VMStopped {
		return
	}
	sv.PowerState = p
	now := time.Now().UTC()
	switch {
	case sv.VMState == VMActive && (p == hypervisor.Shutdown || p == hypervisor.Crashed):
		sv.VMState, sv.WantPower, sv.Updated = VMStopped, hypervisor.Shutdown, now
	case sv.VMState == VMStopped && p == hypervisor.Running && sv.WantPower == hypervisor.Running:
		sv.VMState, sv.Updated = VMActive, now
	}
}

// confirmGone removes the tombstone of what a host says is not there. Only the
// answer to the tombstone's own generation counts: an older "not here" may have
// been said before a creation that was still on its way.
func (s *Service) confirmGone(ctx context.Context, host string, st hypervisor.State) error {
	n, err := s.tombstones.DeleteWhere(ctx, store.Eq("id", host+"/"+st.ID), store.LessEq("generation", st.Generation))
	if err != nil || n == 0 {
		return err
	}
	// What an evacuation left behind is gone now.
	if _, err := s.migrations.UpdateWhere(ctx, store.And(store.Eq("server_id", st.ID), store.Eq("source", host), store.Eq("type", TypeEvacuation), store.Eq("status", "done")),
		store.Set{"status": "completed", "updated_at": time.Now().UTC()}); err != nil {
		return err
	}
	return s.work.Wake(ctx, kindServer, st.ID)
}

// resync compares a host's full list with what is wanted and sends what differs.
func (s *Service) resync(ctx context.Context, host string, r hypervisor.Report) error {
	servers, err := s.servers.Where(ctx, store.Or(store.Eq("host", host), store.Eq("other_host", host)), store.Eq("deleted", false))
	if err != nil {
		return err
	}
	stones, err := s.tombstones.Where(ctx, store.Eq("host", host))
	if err != nil {
		return err
	}
	has := make(map[string]hypervisor.State, len(r.States))
	for _, st := range r.States {
		has[st.ID] = st
	}
	gone := map[string]bool{}
	var out []hypervisor.Desired
	for _, t := range stones {
		gone[t.ServerID] = true
		out = append(out, hypervisor.Desired{ID: t.ServerID, Generation: t.Generation, Gone: true})
	}
	for i := range servers {
		sv := &servers[i]
		delete(has, sv.ID)
		if sv.Generation == 0 || gone[sv.ID] {
			continue
		}
		if sv.Host != host {
			d, err := s.otherDesired(ctx, sv)
			if err != nil {
				return err
			}
			if st, there := indexState(r.States, sv.ID); d != nil && (!there || st.Generation < d.Generation) {
				out = append(out, *d)
			}
			continue
		}
		if st, there := indexState(r.States, sv.ID); !there || st.Generation < sv.Generation {
			d, err := s.desired(ctx, sv)
			if err != nil {
				return err
			}
			out = append(out, d)
		}
	}
	for id, st := range has {
		if !gone[id] && st.Phase != hypervisor.Absent {
			s.log.Warn("host has a server that nobody wants there; left alone", "host", host, "server", id)
		}
	}
	return s.send(ctx, host, out...)
}

func indexState(states []hypervisor.State, id string) (hypervisor.State, bool) {
	i := slices.IndexFunc(states, func(st hypervisor.State) bool { return st.ID == id })
	if i < 0 {
		return hypervisor.State{}, false
	}
	return states[i], true
}

// SeesHosts reports whether the caller may see on which host servers are.
func (s *Service) SeesHosts(ctx context.Context) bool {
	return s.allowed(ctx, "os_compute_api:os-extended-server-attributes", policy.Map{})
}

// SeesAllFilters reports whether the caller may filter servers by anything.
func (s *Service) SeesAllFilters(ctx context.Context) bool {
	return s.allowed(ctx, "os_compute_api:servers:allow_all_filters", policy.Map{})
}

// HostStatus is each host's state as host_status shows it (2.16): UP, DOWN or
// MAINTENANCE; a server without a host has "".
func (s *Service) HostStatus(ctx context.Context) (map[string]string, error) {
	hosts, err := s.hosts.Where(ctx)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for _, h := range hosts {
		switch {
		case h.Disabled:
			out[h.Name] = "MAINTENANCE"
		case s.Up(h):
			out[h.Name] = "UP"
		default:
			out[h.Name] = "DOWN"
		}
	}
	return out, nil
}

// Zones are the availability zones with their hosts.
func (s *Service) Zones(ctx context.Context, rule string) (map[string][]Host, error) {
	if err := s.enforce(ctx, rule, nil); err != nil {
		return nil, err
	}
	hosts, err := s.hosts.Where(ctx)
	if err != nil {
		return nil, err
	}
	out := map[string][]Host{}
	for _, h := range hosts {
		out[h.Zone] = append(out[h.Zone], h)
	}
	return out, nil
}

// ServersOn lists the servers of hosts, by host name. One statement.
func (s *Service) ServersOn(ctx context.Context, hosts ...string) (map[string][]Server, error) {
	list, err := s.servers.Where(ctx, store.In("host", hosts), store.Eq("deleted", false))
	out := map[string][]Server{}
	for i := range list {
		out[list[i].Host] = append(out[list[i].Host], list[i])
	}
	return out, err
}

// ControlService is a service of the control plane, which each process that
// serves the API is.
type ControlService struct {
	ID     string
	Number int64
	// Binary is "nova-scheduler" or "nova-conductor".
	Binary, Host string
	Seen         time.Time
}

// InternalZone is the zone of the control plane's services (nova's
// internal_service_availability_zone).
const InternalZone = "internal"

// ControlServices are the services that this process is, besides the hosts: it
// schedules, and it drives servers as nova's conductor does. They are up, for they
// answer. Their numbers come after those of any host.
func (s *Service) ControlServices() []ControlService {
	name, err := os.Hostname()
	if err != nil {
		name = "localhost"
	}
	var out []ControlService
	for i, binary := range []string{"nova-scheduler", "nova-conductor"} {
		out = append(out, ControlService{ID: uuid.NewSHA1(uuid.NameSpaceOID, []byte(binary+"/"+name)).String(), Number: math.MaxInt32 - 1 + int64(i), Binary: binary, Host: name, Seen: time.Now().UTC()})
	}
	return out
}
