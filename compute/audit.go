package compute

import (
	"context"
	"fmt"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/compute/placement"
	"github.com/nacre-cloud/nacre/store"
)

// Audit says what does not hold that always must: each server on its way has
// work that is leased or due, each server on a host has exactly its flavor
// allocated there and nothing else has, no server in error holds anything back,
// use is within quota, tags mirror their servers. It reads, and changes nothing.
// Call it at rest: in the middle of a change it may see both halves.
func (s *Service) Audit(ctx context.Context) ([]nacre.Finding, error) {
	var out []nacre.Finding
	found := func(kind, id, format string, args ...any) {
		out = append(out, nacre.Finding{Area: "compute", Kind: kind, ID: id, Problem: fmt.Sprintf(format, args...)})
	}
	servers, err := s.servers.Where(ctx)
	if err != nil {
		return nil, err
	}
	works, err := s.work.All(ctx)
	if err != nil {
		return nil, err
	}
	allocated, err := s.c.Placement.Allocated(ctx)
	if err != nil {
		return nil, err
	}
	hosts, err := s.hosts.Where(ctx)
	if err != nil {
		return nil, err
	}
	hostByName := map[string]Host{}
	for _, h := range hosts {
		hostByName[h.Name] = h
	}
	work := map[string]bool{}
	for _, w := range works {
		work[w.ObjectID] = true
		if d := time.Since(w.Due); d > 5*time.Minute && time.Since(w.LeaseUntil) > 5*time.Minute {
			found("work", w.ID, "due since %s and nobody does it: %s", d.Round(time.Second), w.LastError)
		}
	}
	live := map[string]*Server{}
	for i := range servers {
		sv := &servers[i]
		if sv.Deleted {
			if work[sv.ID] {
				found("server", sv.ID, "is deleted but has work")
			}
			continue
		}
		live[sv.ID] = sv
		if sv.Transitional() && !work[sv.ID] {
			found("server", sv.ID, "is %s/%s and nothing works on it", sv.VMState, sv.TaskState)
		}
		s.auditAllocation(sv, hostByName, allocated, work[sv.ID], found)
	}
	for id := range work {
		if live[id] == nil {
			found("work", id, "is for a server that is not there")
		}
	}
	moves := map[string]bool{}
	for _, sv := range live {
		if sv.Move != nil {
			moves[sv.Move.Migration] = true
		}
	}
	if err := s.auditMigrations(ctx, moves, work, found); err != nil {
		return nil, err
	}
	for consumer := range allocated {
		if live[consumer] == nil && !moves[consumer] {
			found("allocation", consumer, "is held by a server that is not there")
		}
	}
	if err := s.auditGroups(ctx, live, found); err != nil {
		return nil, err
	}
	if err := s.auditTags(ctx, live, found); err != nil {
		return nil, err
	}
	return out, s.auditQuota(ctx, live, found)
}

type finder func(kind, id, format string, args ...any)

func (s *Service) auditAllocation(sv *Server, hosts map[string]Host, allocated map[string]map[string]placement.Resources, busy bool, found finder) {
	have := allocated[sv.ID]
	if sv.Host == "" {
		if len(have) > 0 && !busy {
			found("server", sv.ID, "is on no host but holds allocations")
		}
		return
	}
	check := func(host string, have map[string]placement.Resources, want placement.Resources) {
		h, ok := hosts[host]
		if !ok {
			found("server", sv.ID, "is on host %s, which is not known", host)
			return
		}
		for class, n := range want {
			if got := have[h.ID][class]; got != n {
				found("server", sv.ID, "has %d of %s allocated on %s, its flavor says %d", got, class, host, n)
			}
		}
	}
	if m := sv.Move; m != nil && sv.OtherHost != "" {
		// The server's own is its place on the new host; the migration holds the old one.
		source, target := sv.Host, sv.OtherHost
		if m.Switched {
			source, target = target, source
		}
		check(target, have, resources(wantOf(sv)))
		check(source, allocated[m.Migration], held(m))
	} else {
		check(sv.Host, have, resources(*sv))
	}
	if len(have) > 1 {
		found("server", sv.ID, "holds allocations on %d hosts", len(have))
	}
}

// auditMigrations looks that what goes on goes on: a migration that is under way is a
// server's, or has work of its own.
func (s *Service) auditMigrations(ctx context.Context, moves, work map[string]bool, found finder) error {
	list, err := s.migrations.Where(ctx, store.Not(store.In("status", []string{"confirmed", "reverted", "completed", "cancelled", "done", "error"})))
	for _, m := range list {
		if !moves[m.ID] && !work[m.ServerID] {
			found("migration", m.ID, "is %s and nothing works on it", m.Status)
		}
	}
	return err
}

func (s *Service) auditTags(ctx context.Context, live map[string]*Server, found finder) error {
	tags, err := s.serverTags.Where(ctx)
	if err != nil {
		return err
	}
	n := map[string]int{}
	for _, t := range tags {
		n[t.ServerID]++
		if live[t.ServerID] == nil {
			found("server_tag", t.ID, "is of a server that is not there")
		}
	}
	for id, sv := range live {
		if len(sv.Tags) != n[id] {
			found("server", id, "shows %d tags, %d are found by filters", len(sv.Tags), n[id])
		}
	}
	return nil
}

// auditGroups looks that groups are there and hold to their policy, and that each
// host is in the zone that its aggregates make.
func (s *Service) auditGroups(ctx context.Context, live map[string]*Server, found finder) error {
	groups, err := s.groups.Where(ctx)
	if err != nil {
		return err
	}
	byID := map[string]*ServerGroup{}
	for i := range groups {
		byID[groups[i].ID] = &groups[i]
	}
	on := map[string]map[string]int{} // group, host, members
	for id, sv := range live {
		if sv.GroupID == "" {
			continue
		}
		if byID[sv.GroupID] == nil {
			found("server", id, "is in group %s, which is not there", sv.GroupID)
		} else if sv.Host != "" {
			if on[sv.GroupID] == nil {
				on[sv.GroupID] = map[string]int{}
			}
			on[sv.GroupID][sv.Host]++
		}
	}
	for id, hosts := range on {
		g := byID[id]
		if g.Policy == "affinity" && len(hosts) > 1 {
			found("server_group", id, "is of affinity, but on %d hosts", len(hosts))
		}
		for h, n := range hosts {
			if g.Policy == "anti-affinity" && n > max(g.MaxPerHost, 1) {
				found("server_group", id, "is of anti-affinity, but has %d servers on %s", n, h)
			}
		}
	}
	aggregates, err := s.liveAggregates(ctx)
	if err != nil {
		return err
	}
	zones := zonesOf(aggregates)
	hosts, err := s.hosts.Where(ctx)
	if err != nil {
		return err
	}
	for _, h := range hosts {
		if z := zones[h.Name]; z != "" && z != h.Zone {
			found("host", h.Name, "is in zone %s, its aggregate makes it %s", h.Zone, z)
		}
	}
	return nil
}

func (s *Service) auditQuota(ctx context.Context, live map[string]*Server, found finder) error {
	projects := map[string]bool{}
	for _, sv := range live {
		projects[sv.ProjectID] = true
	}
	for p := range projects {
		limits, err := s.quota.Limits(ctx, p)
		if err != nil {
			return err
		}
		used, err := s.usage(ctx, p)
		if err != nil {
			return err
		}
		for r, n := range used {
			if l := limits[r]; l >= 0 && n > l {
				found("project", p, "uses %d of %s, its quota is %d", n, r, l)
			}
		}
	}
	return nil
}

// Waiting counts the tombstones that hosts have not confirmed, and the work that
// is not done: both are 0 when the area is at rest.
func (s *Service) Waiting(ctx context.Context) (tombstones, work int64, err error) {
	if tombstones, err = s.tombstones.Count(ctx); err != nil {
		return 0, 0, err
	}
	ws, err := s.work.All(ctx)
	return tombstones, int64(len(ws)), err
}
