// Package scheduler chooses a host for a server: a list of filters, each of which
// may remove hosts, and weights among those left. It is pure: the caller brings
// the hosts and what is free on them.
//
// When nothing is left, the [Result] says how many hosts each filter removed, so
// that "No valid host" explains itself.
package scheduler

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/nacre-cloud/nacre/compute/placement"
)

// Host is a candidate.
type Host struct {
	Name, Zone string
	Up         bool
	Disabled   bool
	Arch       string
	Type       string
	Free       placement.Free
	// Moves says that servers can move to it and from it.
	Moves bool
}

// Request is what is wanted.
type Request struct {
	Zone string
	// Host, if set, is the only one wanted.
	Host string
	// Not lists hosts that failed already.
	Not []string
	// From is the host that the server moves from, by means of the hosts' own; nil is a
	// server that is built.
	From      *Host
	Resources placement.Resources
	// Image properties: architecture, hypervisor type.
	Image map[string]string
	// Group is the server's group; nil is none.
	Group *Group
}

// Group is a server group as it lies now.
type Group struct {
	// Policy is affinity, anti-affinity, soft-affinity or soft-anti-affinity.
	Policy string
	// Max is how many members of an anti-affinity group may share a host.
	Max int
	// Members counts the other members by host.
	Members map[string]int
}

// Allows reports whether the group's policy lets one more member be on a host,
// and if not, why.
func (g *Group) Allows(host string) (bool, string) {
	switch {
	case g == nil:
	case g.Policy == "anti-affinity" && g.Members[host] >= g.Max:
		return false, fmt.Sprintf("has %d of the group already", g.Members[host])
	case g.Policy == "affinity" && len(g.Members) > 0 && g.Members[host] == 0:
		return false, "has none of the group"
	}
	return true, ""
}

// wants says how much the group would like a host: more is better.
func (g *Group) wants(host string) int {
	switch {
	case g == nil:
	case g.Policy == "soft-affinity":
		return g.Members[host]
	case g.Policy == "soft-anti-affinity":
		return -g.Members[host]
	}
	return 0
}

// Filter removes hosts; its name is what nova calls it.
type Filter struct {
	Name string
	// Pass says whether the host may be used, and if not, why.
	Pass func(h *Host, r *Request) (bool, string)
}

// Filters are the default ones, in order.
func Filters() []Filter {
	return []Filter{
		{"ComputeFilter", func(h *Host, _ *Request) (bool, string) {
			switch {
			case h.Disabled:
				return false, "disabled"
			case !h.Up:
				return false, "down"
			}
			return true, ""
		}},
		{"RequestedHost", func(h *Host, r *Request) (bool, string) {
			return r.Host == "" || h.Name == r.Host, "not the host asked for"
		}},
		{"RetryFilter", func(h *Host, r *Request) (bool, string) { return !slices.Contains(r.Not, h.Name), "failed before" }},
		{"MigrationFilter", func(h *Host, r *Request) (bool, string) {
			switch {
			case r.From == nil:
			case h.Name == r.From.Name:
				return false, "is where it is"
			case !r.From.Moves:
				return false, "can't get it from " + r.From.Name + ", which is not set up for servers that move"
			case !h.Moves:
				return false, "is not set up for servers that move"
			case h.Type != r.From.Type:
				return false, "has another hypervisor"
			}
			return true, ""
		}},
		{"AvailabilityZoneFilter", func(h *Host, r *Request) (bool, string) {
			return r.Zone == "" || h.Zone == r.Zone, "in zone " + h.Zone
		}},
		{"ImagePropertiesFilter", func(h *Host, r *Request) (bool, string) {
			for _, key := range []string{"hw_architecture", "architecture"} {
				if want := r.Image[key]; want != "" && h.Arch != "" && !strings.EqualFold(want, h.Arch) {
					return false, "architecture " + h.Arch
				}
			}
			return true, ""
		}},
		{"ServerGroupAntiAffinityFilter", func(h *Host, r *Request) (bool, string) {
			if r.Group == nil || r.Group.Policy != "anti-affinity" {
				return true, ""
			}
			return r.Group.Allows(h.Name)
		}},
		{"ServerGroupAffinityFilter", func(h *Host, r *Request) (bool, string) {
			if r.Group == nil || r.Group.Policy != "affinity" {
				return true, ""
			}
			return r.Group.Allows(h.Name)
		}},
		{"Placement", func(h *Host, r *Request) (bool, string) { return h.Free.Fits(r.Resources) }},
	}
}

// Removed says what one filter did.
type Removed struct {
	Filter string
	Start  int
	End    int
	Why    []string
}

// Result is a choice, best first, and how it came about.
type Result struct {
	Hosts   []*Host
	Removed []Removed
}

// Choose filters and weighs. What a soft group policy asks for comes first, then
// hosts with more free memory. It changes no host.
func Choose(hosts []*Host, r Request, filters []Filter) Result {
	left := slices.Clone(hosts)
	var res Result
	for _, f := range filters {
		rm := Removed{Filter: f.Name, Start: len(left)}
		left = slices.DeleteFunc(left, func(h *Host) bool {
			ok, why := f.Pass(h, &r)
			if !ok && len(rm.Why) < 5 {
				rm.Why = append(rm.Why, h.Name+" "+why)
			}
			return !ok
		})
		rm.End = len(left)
		res.Removed = append(res.Removed, rm)
	}
	type weighed struct {
		*Host
		wanted int
		freeMB int64
	}
	ws := make([]weighed, len(left))
	for i, h := range left {
		ws[i] = weighed{h, r.Group.wants(h.Name), h.Free.Inventory[placement.MemoryMB].Capacity() - h.Free.Used[placement.MemoryMB]}
	}
	slices.SortStableFunc(ws, func(a, b weighed) int {
		return cmp.Or(cmp.Compare(b.wanted, a.wanted), cmp.Compare(b.freeMB, a.freeMB), cmp.Compare(a.Name, b.Name))
	})
	for i := range ws {
		left[i] = ws[i].Host
	}
	res.Hosts = left
	return res
}

// Explain says why nothing is left.
func (r Result) Explain() string {
	var parts []string
	for _, rm := range r.Removed {
		if rm.Start != rm.End {
			parts = append(parts, fmt.Sprintf("%s (start: %d, end: %d: %s)", rm.Filter, rm.Start, rm.End, strings.Join(rm.Why, "; ")))
		}
	}
	if len(parts) == 0 {
		return "there are no hosts"
	}
	return "filter results: " + strings.Join(parts, ", ")
}
