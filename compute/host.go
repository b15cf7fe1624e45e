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
	// Started is the agent's, Sequence the number of its last full report; Seen is when
	// it last reported.
	Started  int64 `store:"started"`
	Sequence int64 `store:"sequence"`
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
