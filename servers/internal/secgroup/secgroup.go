// Package secgroup is what both edges from compute's proxy of security groups have in
// common, the direct one and that over HTTP: groups and rules of network as nova shows
// them, and nova's requests as network takes them.
package secgroup

import (
	"net/netip"
	"slices"

	"github.com/nacre-cloud/nacre/compute"
	"github.com/nacre-cloud/nacre/network"
)

// Groups are groups as nova shows them, with what their rules' remote groups are called;
// more finds those of them that are not among the groups. A rule whose remote group the
// caller may not see is left out, as nova does.
func Groups(gs []network.SecurityGroup, rules map[string][]network.SecurityGroupRule, more func(ids []string) ([]network.SecurityGroup, error)) ([]compute.SecurityGroup, error) {
	known := map[string]network.SecurityGroup{}
	for _, g := range gs {
		known[g.ID] = g
	}
	var missing []string
	for _, g := range gs {
		for _, r := range rules[g.ID] {
			if _, ok := known[r.RemoteGroupID]; r.RemoteGroupID != "" && !ok && !slices.Contains(missing, r.RemoteGroupID) {
				missing = append(missing, r.RemoteGroupID)
			}
		}
	}
	if len(missing) > 0 {
		found, err := more(missing)
		if err != nil {
			return nil, err
		}
		for _, g := range found {
			known[g.ID] = g
		}
	}
	out := make([]compute.SecurityGroup, len(gs))
	for i, g := range gs {
		out[i] = compute.SecurityGroup{ID: g.ID, Name: g.Name, Description: g.Description, ProjectID: g.ProjectID}
		for _, r := range rules[g.ID] {
			remote, ok := known[r.RemoteGroupID]
			if r.Direction != "ingress" || r.RemoteGroupID != "" && !ok {
				continue
			}
			v := Rule(r)
			v.RemoteName, v.RemoteProject = remote.Name, remote.ProjectID
			out[i].Rules = append(out[i].Rules, v)
		}
	}
	return out, nil
}

// Rule is a rule as nova shows it.
func Rule(r network.SecurityGroupRule) compute.SecurityGroupRule {
	v := compute.SecurityGroupRule{ID: r.ID, GroupID: r.GroupID, Protocol: r.Protocol, FromPort: r.PortMin, ToPort: r.PortMax, RemoteID: r.RemoteGroupID, CIDR: r.RemotePrefix}
	if v.CIDR == "" {
		v.CIDR = "0.0.0.0/0"
	}
	return v
}

// Request is the rule that nova asks network for: -1 is any port, and the prefix says
// whether it is for IPv6.
func Request(r compute.SecurityGroupRule) network.SecurityGroupRule {
	port := func(p *int) *int {
		if p != nil && *p == -1 {
			return nil
		}
		return p
	}
	out := network.SecurityGroupRule{GroupID: r.GroupID, Direction: "ingress", EtherType: "IPv4", Protocol: r.Protocol, PortMin: port(r.FromPort), PortMax: port(r.ToPort), RemoteGroupID: r.RemoteID}
	if r.RemoteID == "" {
		out.RemotePrefix = r.CIDR
		if p, err := netip.ParsePrefix(r.CIDR); err == nil && p.Addr().Is6() {
			out.EtherType = "IPv6"
		}
	}
	return out
}
