package compute

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/store"
)

// HostAggregate is a set of hosts with metadata (nova's aggregate). One whose
// metadata has "availability_zone" makes its hosts that zone.
type HostAggregate struct {
	ID string `store:"id,pk"`
	// Number is the id that the API shows. It is never used again, which is why
	// the row of a deleted aggregate stays.
	Number int64  `store:"number,unique=aggregate_number"`
	Name   string `store:"name"`
	// LiveName is Name until the aggregate is deleted, then null.
	LiveName string            `store:"live_name,null,unique=aggregate_name"`
	Hosts    []string          `store:"hosts,json"`
	Metadata map[string]string `store:"metadata,json"`
	Deleted  bool              `store:"deleted"`
	Created  time.Time         `store:"created_at"`
	// Updated is zero until the first change.
	Updated time.Time `store:"updated_at,null"`
}

// Zone is the availability zone that the aggregate makes, or "".
func (a *HostAggregate) Zone() string { return a.Metadata[zoneKey] }

const (
	zoneKey       = "availability_zone"
	aggregateRule = "os_compute_api:os-aggregates:"
)

func aggregateNotFound(number int64) *nacre.Error {
	return nacre.Errorf(nacre.NotFound, "AggregateNotFound", "Aggregate %d could not be found.", number)
}

// Aggregates lists all, in the order in which they were made.
func (s *Service) Aggregates(ctx context.Context) ([]HostAggregate, error) {
	if err := s.enforce(ctx, aggregateRule+"index", nil); err != nil {
		return nil, err
	}
	return s.liveAggregates(ctx)
}

func (s *Service) liveAggregates(ctx context.Context) ([]HostAggregate, error) {
	return s.aggregates.Select(ctx, store.Select{Where: store.Eq("deleted", false), Order: []store.Order{{Column: "number"}}})
}

// Aggregate is one, by its number.
func (s *Service) Aggregate(ctx context.Context, number int64) (HostAggregate, error) {
	if err := s.enforce(ctx, aggregateRule+"show", nil); err != nil {
		return HostAggregate{}, err
	}
	a, err := s.aggregates.One(ctx, store.Eq("number", number), store.Eq("deleted", false))
	return a, store.WrapNotFound(err, func() *nacre.Error { return aggregateNotFound(number) })
}

// CreateAggregate makes an empty aggregate; zone may be empty.
func (s *Service) CreateAggregate(ctx context.Context, name, zone string) (HostAggregate, error) {
	if err := s.enforce(ctx, aggregateRule+"create", nil); err != nil {
		return HostAggregate{}, err
	}
	a := HostAggregate{ID: s.c.IDs.NewID(), Name: name, LiveName: name, Hosts: []string{}, Metadata: map[string]string{}, Created: time.Now().UTC()}
	if zone != "" {
		a.Metadata[zoneKey] = zone
	}
	err := store.InTx(ctx, s.c.Engine, func(ctx context.Context) error {
		if err := s.lockAggregates(ctx); err != nil {
			return err
		}
		g, err := s.aggregates.Aggregate(ctx, store.Aggregate{Max: "number"})
		if err != nil {
			return err
		}
		last, _ := g[0].Max.(int64)
		a.Number = last + 1
		if err := s.aggregates.Insert(ctx, a); err != nil {
			return err
		}
		return s.emit(ctx, "aggregate.create.end", a.ID, "", aggregateEvent(&a))
	})
	if store.IsDuplicate(err, "aggregate_name") {
		err = nacre.Errorf(nacre.Conflict, "AggregateNameExists", "Aggregate %s already exists.", name)
	}
	return a, err
}

func aggregateEvent(a *HostAggregate) map[string]any {
	return map[string]any{"aggregate_id": a.Number, "uuid": a.ID, "name": a.Name, "hosts": a.Hosts, "meta_data": a.Metadata}
}

// lockAggregates makes the changes of aggregates wait for each other: whether one
// may be made depends on the others.
func (s *Service) lockAggregates(ctx context.Context) error {
	return store.Lock(ctx, s.c.Engine, "aggregates")
}

// The changes of an aggregate, as nova words them when they are refused.
const (
	updateAggregate     = "Cannot update aggregate %d. Reason: %s."
	updateMetadata      = "Cannot update metadata of aggregate %d. Reason: %s."
	addToAggregate      = "Cannot add host to aggregate %d. Reason: %s."
	removeFromAggregate = "Cannot remove host from aggregate %d. Reason: %s."
	instancesInZone     = "One or more hosts contain instances in this zone"
	alreadyInZone       = "One or more hosts already in availability zone(s) ['%s']"
	zoneWouldChange     = "The availability zone of host %s would change from '%s' to '%s', but it has servers. Move them away first"
	aggregateNotEmpty   = "Host aggregate is not empty"
)

// changeAggregate runs fn on an aggregate and lets the hosts' zones follow.
func (s *Service) changeAggregate(ctx context.Context, number int64, rule, event, refusal string, kind nacre.Kind, fn func(ctx context.Context, a *HostAggregate) error) (HostAggregate, error) {
	if err := s.enforce(ctx, aggregateRule+rule, nil); err != nil {
		return HostAggregate{}, err
	}
	var out HostAggregate
	name := ""
	err := store.InTx(ctx, s.c.Engine, func(ctx context.Context) error {
		if err := s.lockAggregates(ctx); err != nil {
			return err
		}
		all, err := s.liveAggregates(ctx)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(all, func(a HostAggregate) bool { return a.Number == number })
		if i < 0 {
			return aggregateNotFound(number)
		}
		before := zonesOf(all)
		a := all[i]
		a.Hosts, a.Metadata = slices.Clone(a.Hosts), cloneMap(a.Metadata)
		if err := fn(ctx, &a); err != nil {
			return err
		}
		all[i], name = a, a.Name
		if a.Deleted {
			all = slices.Delete(all, i, i+1)
		}
		if err := s.rezone(ctx, number, refusal, kind, before, all, a.Hosts); err != nil {
			return err
		}
		out, err = s.aggregates.Update(ctx, a.ID, func(x *HostAggregate) error {
			a.Updated = time.Now().UTC()
			*x = a
			return nil
		})
		if err != nil {
			return err
		}
		return s.emit(ctx, "aggregate."+event+".end", a.ID, "", aggregateEvent(&out))
	})
	if store.IsDuplicate(err, "aggregate_name") {
		err = nacre.Errorf(nacre.Conflict, "AggregateNameExists", "Aggregate %s already exists.", name)
	}
	return out, err
}

func cloneMap(m map[string]string) map[string]string {
	out := make(map[string]string, len(m))
	for k, v := range m {
		out[k] = v
	}
	return out
}

// zonesOf is each host's zone by the aggregates; hosts in none are not there.
func zonesOf(all []HostAggregate) map[string]string {
	out := map[string]string{}
	for i := range all {
		if z := all[i].Zone(); z != "" {
			for _, h := range all[i].Hosts {
				out[h] = z
			}
		}
	}
	return out
}

// rezone checks that a change puts no host into two zones and moves no server
// into another zone, and writes the zones that changed.
func (s *Service) rezone(ctx context.Context, number int64, refusal string, kind nacre.Kind, before map[string]string, after []HostAggregate, hosts []string) error {
	refuse := func(format string, args ...any) error {
		return nacre.Errorf(kind, "InvalidAggregateAction", refusal, number, fmt.Sprintf(format, args...))
	}
	zones := map[string]string{}
	for i := range after {
		z := after[i].Zone()
		if z == "" {
			continue
		}
		for _, h := range after[i].Hosts {
			if other, ok := zones[h]; ok && other != z {
				if after[i].Number == number {
					return refuse(alreadyInZone, other)
				}
				return refuse(alreadyInZone, z)
			}
			zones[h] = z
		}
	}
	touched := slices.Clone(hosts)
	for h := range before {
		touched = append(touched, h)
	}
	slices.Sort(touched)
	for _, h := range slices.Compact(touched) {
		from, to := before[h], zones[h]
		if from == to {
			continue
		}
		if from == "" {
			from = s.c.DefaultZone
		}
		if to == "" {
			to = s.c.DefaultZone
		}
		busy, err := s.servers.Exists(ctx, store.Or(store.Eq("host", h), store.Eq("other_host", h)), store.Eq("deleted", false))
		if err != nil {
			return err
		}
		if busy && from != to {
			if refusal == updateAggregate || refusal == updateMetadata {
				return refuse(instancesInZone)
			}
			return refuse(zoneWouldChange, h, from, to)
		}
		if _, err := s.hosts.UpdateWhere(ctx, store.Eq("name", h), store.Set{"zone": to}); err != nil {
			return err
		}
		store.AfterCommit(ctx, s.free.forget)
	}
	return nil
}

// UpdateAggregate changes the name or the zone; nil leaves it.
func (s *Service) UpdateAggregate(ctx context.Context, number int64, name, zone *string) (HostAggregate, error) {
	return s.changeAggregate(ctx, number, "update", "updateprop", updateAggregate, nacre.Invalid, func(_ context.Context, a *HostAggregate) error {
		if name != nil {
			a.Name, a.LiveName = *name, *name
		}
		if zone == nil {
			return nil
		}
		if *zone == "" {
			return nacre.Errorf(nacre.Invalid, "InvalidAggregateAction", updateAggregate, number, "Aggregate "+a.Name+" does not support empty named availability zone")
		}
		a.Metadata[zoneKey] = *zone
		return nil
	})
}

// SetAggregateMetadata adds to or replaces metadata; a nil value removes the key.
func (s *Service) SetAggregateMetadata(ctx context.Context, number int64, m map[string]*string) (HostAggregate, error) {
	return s.changeAggregate(ctx, number, "set_metadata", "updatemetadata", updateMetadata, nacre.Invalid, func(_ context.Context, a *HostAggregate) error {
		for k, v := range m {
			switch {
			case k == zoneKey && (v == nil || *v == ""):
				return nacre.Errorf(nacre.Invalid, "InvalidAggregateAction", updateMetadata, number, "Aggregate "+a.Name+" does not support empty named availability zone")
			case v == nil:
				delete(a.Metadata, k)
			default:
				a.Metadata[k] = *v
			}
		}
		return nil
	})
}

// AddAggregateHost puts a host into an aggregate.
func (s *Service) AddAggregateHost(ctx context.Context, number int64, host string) (HostAggregate, error) {
	return s.changeAggregate(ctx, number, "add_host", "addhost", addToAggregate, nacre.Conflict, func(ctx context.Context, a *HostAggregate) error {
		known, err := s.hosts.Exists(ctx, store.Eq("name", host))
		if err != nil {
			return err
		}
		if !known {
			return nacre.Errorf(nacre.NotFound, "ComputeHostNotFound", "Compute host %s could not be found.", host)
		}
		if slices.Contains(a.Hosts, host) {
			return nacre.Errorf(nacre.Conflict, "AggregateHostExists", "Aggregate %d already has host %s.", number, host)
		}
		a.Hosts = append(a.Hosts, host)
		return nil
	})
}

// RemoveAggregateHost takes a host out.
func (s *Service) RemoveAggregateHost(ctx context.Context, number int64, host string) (HostAggregate, error) {
	return s.changeAggregate(ctx, number, "remove_host", "removehost", removeFromAggregate, nacre.Conflict, func(_ context.Context, a *HostAggregate) error {
		i := slices.Index(a.Hosts, host)
		if i < 0 {
			return nacre.Errorf(nacre.NotFound, "AggregateHostNotFound", "Cannot remove host %s in aggregate %d", host, number)
		}
		a.Hosts = slices.Delete(a.Hosts, i, i+1)
		return nil
	})
}

// DeleteAggregate removes an aggregate that has no hosts.
func (s *Service) DeleteAggregate(ctx context.Context, number int64) error {
	_, err := s.changeAggregate(ctx, number, "delete", "delete", removeFromAggregate, nacre.Invalid, func(_ context.Context, a *HostAggregate) error {
		if len(a.Hosts) > 0 {
			return nacre.Errorf(nacre.Invalid, "InvalidAggregateAction", removeFromAggregate, number, aggregateNotEmpty)
		}
		a.Deleted, a.LiveName = true, ""
		return nil
	})
	return err
}

// leaveAggregates takes a host that goes out of all aggregates; in the caller's
// transaction.
func (s *Service) leaveAggregates(ctx context.Context, host string) error {
	if err := s.lockAggregates(ctx); err != nil {
		return err
	}
	all, err := s.liveAggregates(ctx)
	if err != nil {
		return err
	}
	for i := range all {
		if !slices.Contains(all[i].Hosts, host) {
			continue
		}
		if _, err := s.aggregates.Update(ctx, all[i].ID, func(a *HostAggregate) error {
			a.Hosts = slices.DeleteFunc(slices.Clone(a.Hosts), func(h string) bool { return h == host })
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}
