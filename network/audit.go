package network

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/network/dataplane"
	"github.com/nacre-cloud/nacre/store"
)

// Audit says what does not hold that always must: each port's addresses are
// allocated to it, and lie in its subnets; nothing is allocated to a port that is
// not there; floating IPs lead to ports that have the address, through routers
// that are there; each host is to have what its ports and routers need, that alone,
// and tombstones; what a host has not confirmed has work; tags can be found. It reads, and changes nothing; call it at rest.
func (s *Service) Audit(ctx context.Context) ([]nacre.Finding, error) {
	a := &audit{s: s}
	for _, step := range []func(context.Context) error{a.load, a.addresses, a.members, a.floating, a.gateways, a.tagged, a.placed} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	return a.out, nil
}

type audit struct {
	s        *Service
	out      []nacre.Finding
	networks map[string]Network
	subnets  map[string]Subnet
	pools    map[string]SubnetPool
	ports    map[string]Port
	routers  map[string]Router
	groups   map[string]SecurityGroup
	fips     []FloatingIP
	// need are the ids of the places that there should be.
	need map[string]bool
}

func (a *audit) found(kind, id, format string, args ...any) {
	a.out = append(a.out, nacre.Finding{Area: "network", Kind: kind, ID: id, Problem: fmt.Sprintf(format, args...)})
}

func byID[T any](ctx context.Context, t *store.Table[T], id func(*T) string) (map[string]T, error) {
	rows, err := t.Where(ctx)
	out := make(map[string]T, len(rows))
	for i := range rows {
		out[id(&rows[i])] = rows[i]
	}
	return out, err
}

func (a *audit) load(ctx context.Context) (err error) {
	if a.networks, err = byID(ctx, a.s.networks, func(n *Network) string { return n.ID }); err != nil {
		return err
	}
	if a.subnets, err = byID(ctx, a.s.subnets, func(n *Subnet) string { return n.ID }); err != nil {
		return err
	}
	if a.pools, err = byID(ctx, a.s.pools, func(p *SubnetPool) string { return p.ID }); err != nil {
		return err
	}
	if a.ports, err = byID(ctx, a.s.ports, func(n *Port) string { return n.ID }); err != nil {
		return err
	}
	if a.routers, err = byID(ctx, a.s.routers, func(n *Router) string { return n.ID }); err != nil {
		return err
	}
	if a.groups, err = byID(ctx, a.s.groups, func(n *SecurityGroup) string { return n.ID }); err != nil {
		return err
	}
	a.fips, err = a.s.floatingips.Where(ctx)
	return err
}

func (a *audit) addresses(ctx context.Context) error {
	rows, err := a.s.allocations.Where(ctx)
	if err != nil {
		return err
	}
	given := map[string]bool{}
	for _, r := range rows {
		p, ok := a.ports[r.PortID]
		given[r.PortID+"/"+r.Address] = true
		switch {
		case !ok:
			a.found("ip_allocation", r.ID, "is of a port that is not there")
		case !slices.Contains(p.FixedIPs, FixedIP{SubnetID: r.SubnetID, Address: r.Address}):
			a.found("ip_allocation", r.ID, "is allocated to port %s, which does not have it", p.ID)
		}
	}
	for id, p := range a.ports {
		if _, ok := a.networks[p.NetworkID]; !ok {
			a.found("port", id, "is on a network that is not there")
		}
		for _, f := range p.FixedIPs {
			sn, ok := a.subnets[f.SubnetID]
			switch {
			case !ok:
				a.found("port", id, "has an address of a subnet that is not there")
			case !sn.Prefix().Contains(addr(f.Address)):
				a.found("port", id, "has the address %s, which is outside its subnet %s", f.Address, sn.CIDR)
			case !given[id+"/"+f.Address]:
				a.found("port", id, "has the address %s, which is not allocated to it", f.Address)
			}
		}
		if p.DeviceOwner == OwnerRouter || p.DeviceOwner == OwnerGateway {
			if _, ok := a.routers[p.DeviceID]; !ok {
				a.found("port", id, "is a leg of a router that is not there")
			}
		}
	}
	for id, sn := range a.subnets {
		if _, ok := a.networks[sn.NetworkID]; !ok {
			a.found("subnet", id, "is of a network that is not there")
		}
		if p, ok := a.pools[sn.SubnetPoolID]; sn.SubnetPoolID != "" && (!ok || !within(sn.Prefix(), p.Prefixes)) {
			a.found("subnet", id, "has the range %s, which is not of its pool", sn.CIDR)
		}
	}
	return nil
}

func (a *audit) members(ctx context.Context) error {
	rows, err := a.s.members.Where(ctx)
	if err != nil {
		return err
	}
	n := map[string]int{}
	for _, r := range rows {
		n[r.PortID]++
		p, ok := a.ports[r.PortID]
		switch {
		case !ok:
			a.found("membership", r.ID, "is of a port that is not there")
		case !slices.Contains(p.SecurityGroups, r.GroupID) || carrier(&p) != r.Host && !slices.Contains(carriers(&p), r.Host):
			a.found("membership", r.ID, "does not agree with its port")
		}
	}
	for id, p := range a.ports {
		if want := len(p.SecurityGroups) * (1 + len(p.Inactive)); n[id] != want {
			a.found("port", id, "is in %d groups on %d hosts, its rows are %d", len(p.SecurityGroups), 1+len(p.Inactive), n[id])
		}
		for _, g := range p.SecurityGroups {
			if _, ok := a.groups[g]; !ok {
				a.found("port", id, "is in a security group that is not there")
			}
		}
	}
	return nil
}

func (a *audit) floating(context.Context) error {
	for _, f := range a.fips {
		ext, ok := a.ports[f.ExternalPortID]
		if !ok || !slices.ContainsFunc(ext.FixedIPs, func(x FixedIP) bool { return x.Address == f.Address }) {
			a.found("floatingip", f.ID, "has no port that holds its address")
		}
		if f.PortID == "" {
			if f.RouterID != "" || f.FixedIP != "" {
				a.found("floatingip", f.ID, "leads nowhere but names a router or an address")
			}
			continue
		}
		p, ok := a.ports[f.PortID]
		if !ok || !slices.ContainsFunc(p.FixedIPs, func(x FixedIP) bool { return x.Address == f.FixedIP }) {
			a.found("floatingip", f.ID, "leads to %s of port %s, which does not have it", f.FixedIP, f.PortID)
		}
		if _, ok := a.routers[f.RouterID]; !ok {
			a.found("floatingip", f.ID, "leads through a router that is not there")
		}
	}
	return nil
}

func (a *audit) placed(ctx context.Context) error {
	places, err := a.s.places.Where(ctx)
	if err != nil {
		return err
	}
	works, err := a.s.work.All(ctx)
	if err != nil {
		return err
	}
	work := map[string]bool{}
	for _, w := range works {
		work[w.ObjectID] = true
		if d := time.Since(w.Due); d > 5*time.Minute {
			a.found("work", w.ID, "due since %s and nobody does it", d.Round(time.Second))
		}
	}
	if err := a.needed(ctx); err != nil {
		return err
	}
	has := map[string]bool{}
	for _, p := range places {
		if p.Pending && !work[p.Host] {
			a.found("place", p.ID, "is not confirmed and nothing works on it")
		}
		if p.Gone {
			continue
		}
		has[p.ID] = true
		ok, gen := true, int64(0)
		switch p.Kind {
		case dataplane.KindNetwork:
			_, ok = a.networks[p.ObjectID]
		case dataplane.KindPort:
			var o Port
			o, ok = a.ports[p.ObjectID]
			gen = o.Generation
		case dataplane.KindRouter:
			var o Router
			o, ok = a.routers[p.ObjectID]
			gen = o.Generation
		case dataplane.KindSecurityGroup:
			_, ok = a.groups[p.ObjectID]
		}
		switch {
		case !ok:
			a.found("place", p.ID, "is wanted on a host but is not there")
		case p.Wanted < gen:
			a.found("place", p.ID, "its host is to reach generation %d of %d", p.Wanted, gen)
		case !a.need[p.ID]:
			a.found("place", p.ID, "is on a host that has no use for it")
		}
	}
	for id := range a.need {
		if !has[id] {
			a.found("place", id, "is needed on a host that is not told of it")
		}
	}
	return nil
}

// needed works out from the objects alone what each host is to have.
func (a *audit) needed(ctx context.Context) error {
	a.need = map[string]bool{}
	rules, err := a.s.rules.Where(ctx, store.Not(store.Eq("remote_group_id", "")))
	if err != nil {
		return err
	}
	remote := map[string][]string{}
	for _, r := range rules {
		remote[r.GroupID] = append(remote[r.GroupID], r.RemoteGroupID)
	}
	for id, p := range a.ports {
		switch {
		case slices.Contains(routerOwners, p.DeviceOwner):
			if node := a.routers[p.DeviceID].Host; node != "" {
				a.need[placeID(node, dataplane.KindRouter, p.DeviceID)] = true
				a.need[placeID(node, dataplane.KindNetwork, p.NetworkID)] = true
			}
		default:
			for _, host := range carriers(&p) {
				if host == p.Host && p.BindingFailed {
					continue
				}
				a.need[placeID(host, dataplane.KindPort, id)] = true
				a.need[placeID(host, dataplane.KindNetwork, p.NetworkID)] = true
				for _, g := range p.SecurityGroups {
					for _, g := range append(remote[g], g) {
						a.need[placeID(host, dataplane.KindSecurityGroup, g)] = true
					}
				}
			}
		}
	}
	return nil
}

// gateways compares what routers say of their gateways with the ports.
func (a *audit) gateways(context.Context) error {
	for id, r := range a.routers {
		if r.GatewayPortID == "" {
			continue
		}
		p, ok := a.ports[r.GatewayPortID]
		if !ok || p.DeviceOwner != OwnerGateway || p.DeviceID != id || p.NetworkID != r.GatewayNetworkID {
			a.found("router", id, "has the gateway port %s, which is not its", r.GatewayPortID)
		}
	}
	return nil
}

// tagged compares objects' tags with the rows that filters look at.
func (a *audit) tagged(ctx context.Context) error {
	rows, err := a.s.tags.Where(ctx)
	if err != nil {
		return err
	}
	left := map[string]bool{}
	for _, r := range rows {
		left[r.ID] = true
	}
	check := func(kind string, o *Std) {
		for _, t := range o.Tags {
			if !left[o.ID+"/"+t] {
				a.found(kind, o.ID, "has the tag %q, by which nobody can find it", t)
			}
			delete(left, o.ID+"/"+t)
		}
	}
	for _, o := range a.networks {
		check("network", &o.Std)
	}
	for _, o := range a.subnets {
		check("subnet", &o.Std)
	}
	for _, o := range a.ports {
		check("port", &o.Std)
	}
	for _, o := range a.pools {
		check("subnetpool", &o.Std)
	}
	for _, o := range a.routers {
		check("router", &o.Std)
	}
	for _, o := range a.groups {
		check("security_group", &o.Std)
	}
	for i := range a.fips {
		check("floatingip", &a.fips[i].Std)
	}
	for id := range left {
		a.found("tag", id, "is a row of something that does not have that tag")
	}
	return nil
}

// Waiting counts the tombstones and changes that hosts have not confirmed.
func (s *Service) Waiting(ctx context.Context) (int64, error) {
	return s.places.Count(ctx, store.Eq("pending", true))
}
