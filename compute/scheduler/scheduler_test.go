package scheduler_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/compute/placement"
	"github.com/nacre-cloud/nacre/compute/scheduler"
)

// host has room for 100 VCPUs and mb of memory.
func host(name string, mb int64, change ...func(*scheduler.Host)) scheduler.Host {
	inv := func(class string, total int64) placement.Inventory {
		return placement.Inventory{Class: class, Total: total, MinUnit: 1, MaxUnit: total, StepSize: 1, Ratio: 1}
	}
	h := scheduler.Host{Name: name, Zone: "nova", Up: true, Arch: "x86_64", Free: placement.Free{Used: placement.Resources{},
		Inventory: map[string]placement.Inventory{placement.VCPU: inv(placement.VCPU, 100), placement.MemoryMB: inv(placement.MemoryMB, mb)}}}
	for _, f := range change {
		f(&h)
	}
	return h
}

func TestChoose(t *testing.T) {
	small, big := host("small", 1000), host("big", 2000)
	for name, tc := range map[string]struct {
		hosts []scheduler.Host
		r     scheduler.Request
		want  []string
		why   string
	}{
		"the one with more memory first": {[]scheduler.Host{small, big}, scheduler.Request{}, []string{"big", "small"}, ""},
		"only where it fits":             {[]scheduler.Host{small, big}, scheduler.Request{Resources: placement.Resources{placement.MemoryMB: 1500}}, []string{"big"}, "Placement (start: 2, end: 1: small MEMORY_MB"},
		"one host asked for":             {[]scheduler.Host{small, big}, scheduler.Request{Host: "small"}, []string{"small"}, "RequestedHost (start: 2, end: 1"},
		"not where it failed":            {[]scheduler.Host{small, big}, scheduler.Request{Not: []string{"big"}}, []string{"small"}, "RetryFilter (start: 2, end: 1"},
		"a zone":                         {[]scheduler.Host{small, host("far", 9000, func(h *scheduler.Host) { h.Zone = "mars" })}, scheduler.Request{Zone: "mars"}, []string{"far"}, "small in zone nova"},
		"the image's architecture":       {[]scheduler.Host{small}, scheduler.Request{Image: map[string]string{"hw_architecture": "aarch64"}}, nil, "ImagePropertiesFilter (start: 1, end: 0: small architecture x86_64)"},
		"not disabled, not down":         {[]scheduler.Host{host("off", 1, func(h *scheduler.Host) { h.Disabled = true }), host("dead", 1, func(h *scheduler.Host) { h.Up = false })}, scheduler.Request{}, nil, "ComputeFilter (start: 2, end: 0: off disabled; dead down)"},
		"built anew, wherever":           {[]scheduler.Host{host("still", 1), mover("a", "KVM")}, scheduler.Request{}, []string{"a", "still"}, ""},
		"a move": {[]scheduler.Host{mover("home", "KVM"), host("still", 1), mover("other", "QEMU"), mover("a", "KVM")}, scheduler.Request{From: from("home", true)}, []string{"a"},
			"MigrationFilter (start: 4, end: 1: home is where it is; still is not set up for servers that move; other has another hypervisor)"},
		"a move from where none can be": {[]scheduler.Host{mover("a", "KVM")}, scheduler.Request{From: from("home", false)}, nil,
			"MigrationFilter (start: 1, end: 0: a can't get it from home, which is not set up for servers that move)"},
		"apart":               {[]scheduler.Host{small, big}, group("anti-affinity", 1, map[string]int{"big": 1}), []string{"small"}, "ServerGroupAntiAffinityFilter (start: 2, end: 1: big has 1 of the group already)"},
		"apart, two by two":   {[]scheduler.Host{small, big}, group("anti-affinity", 2, map[string]int{"big": 1}), []string{"big", "small"}, ""},
		"together":            {[]scheduler.Host{small, big}, group("affinity", 1, map[string]int{"small": 1}), []string{"small"}, "ServerGroupAffinityFilter (start: 2, end: 1: big has none of the group)"},
		"together, the first": {[]scheduler.Host{small, big}, group("affinity", 1, nil), []string{"big", "small"}, ""},
		"rather apart":        {[]scheduler.Host{small, big}, group("soft-anti-affinity", 1, map[string]int{"big": 2, "small": 1}), []string{"small", "big"}, ""},
		"rather together":     {[]scheduler.Host{small, big}, group("soft-affinity", 1, map[string]int{"small": 1}), []string{"small", "big"}, ""},
		"no hosts":            {nil, scheduler.Request{}, nil, "there are no hosts"},
	} {
		t.Run(name, func(t *testing.T) {
			hosts := make([]*scheduler.Host, len(tc.hosts))
			for i := range tc.hosts {
				hosts[i] = &tc.hosts[i]
			}
			res := scheduler.Choose(hosts, tc.r, scheduler.Filters())
			var got []string
			for _, h := range res.Hosts {
				got = append(got, h.Name)
			}
			require.Equal(t, tc.want, got)
			if tc.why != "" {
				require.Contains(t, res.Explain(), tc.why)
			}
		})
	}
}

// mover is a host that servers can move to.
func mover(name, hypervisor string) scheduler.Host {
	return host(name, 1, func(h *scheduler.Host) { h.Moves, h.Type = true, hypervisor })
}

func from(name string, moves bool) *scheduler.Host {
	h := mover(name, "KVM")
	h.Moves = moves
	return &h
}

func group(policy string, most int, members map[string]int) scheduler.Request {
	return scheduler.Request{Group: &scheduler.Group{Policy: policy, Max: most, Members: members}}
}

// BenchmarkChoose chooses among a thousand hosts.
func BenchmarkChoose(b *testing.B) {
	hosts := make([]*scheduler.Host, 1000)
	for i := range hosts {
		h := host(fmt.Sprintf("host-%04d", i), int64(1000+i%7))
		hosts[i] = &h
	}
	filters := scheduler.Filters()
	r := scheduler.Request{Resources: placement.Resources{placement.VCPU: 1, placement.MemoryMB: 64}, Image: map[string]string{}}
	for b.Loop() {
		if res := scheduler.Choose(hosts, r, filters); len(res.Hosts) != len(hosts) {
			b.Fatal(res.Explain())
		}
	}
}
