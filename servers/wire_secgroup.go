package servers

import (
	"context"
	"net/netip"
	"slices"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/compute"
	"github.com/nacre-cloud/nacre/network"
	"github.com/nacre-cloud/nacre/store"
)

// securityGroups is the edge from compute's proxy of security groups to network.
type securityGroups struct{ svc *network.Service }

var _ compute.SecurityGroups = securityGroups{}

func where(name string, values ...string) nacre.Query {
	var q nacre.Query
	for _, v := range values {
		q.Filters = append(q.Filters, nacre.Filter{Name: name, Value: v})
	}
	return q
}

func (w securityGroups) find(ctx context.Context, q nacre.Query) ([]compute.SecurityGroup, error) {
	if err := store.Outside(ctx); err != nil {
		return nil, err
	}
	gs, rules, err := w.svc.SecurityGroups(ctx, q)
	if err != nil {
		return nil, err
	}
	return w.groupsOf(ctx, gs, rules)
}

// groupsOf is groups as nova shows them, with what their rules' remote groups are
// called. A rule whose remote group the caller may not see is left out, as nova does.
func (w securityGroups) groupsOf(ctx context.Context, gs []network.SecurityGroup, rules map[string][]network.SecurityGroupRule) ([]compute.SecurityGroup, error) {
	known := map[string]network.SecurityGroup{}
	for _, g := range gs {
		known[g.ID] = g
	}
	var missing []string
	for _, rs := range rules {
		for _, r := range rs {
			if _, ok := known[r.RemoteGroupID]; r.RemoteGroupID != "" && !ok && !slices.Contains(missing, r.RemoteGroupID) {
				missing = append(missing, r.RemoteGroupID)
			}
		}
	}
	if len(missing) > 0 {
		more, _, err := w.svc.SecurityGroups(ctx, where("id", missing...))
		if err != nil {
			return nil, err
		}
		for _, g := range more {
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
			v := ruleOf(r)
			v.RemoteName, v.RemoteProject = remote.Name, remote.ProjectID
			out[i].Rules = append(out[i].Rules, v)
		}
	}
	return out, nil
}

func ruleOf(r network.SecurityGroupRule) compute.SecurityGroupRule {
	v := compute.SecurityGroupRule{ID: r.ID, GroupID: r.GroupID, Protocol: r.Protocol, FromPort: r.PortMin, ToPort: r.PortMax, RemoteID: r.RemoteGroupID, CIDR: r.RemotePrefix}
	if v.CIDR == "" {
		v.CIDR = "0.0.0.0/0"
	}
	return v
}

func (w securityGroups) Groups(ctx context.Context, projectID string) ([]compute.SecurityGroup, error) {
	if projectID == "" {
		return w.find(ctx, nacre.Query{})
	}
	return w.find(ctx, where("project_id", projectID))
}

func (w securityGroups) ServerGroups(ctx context.Context, serverID string) ([]compute.SecurityGroup, error) {
	if err := store.Outside(ctx); err != nil {
		return nil, err
	}
	ports, err := w.svc.ServerPorts(nacre.AsService(ctx, "compute"), serverID)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, p := range ports[serverID] {
		ids = append(ids, p.Port.SecurityGroups...)
	}
	if len(ids) == 0 {
		return nil, nil
	}
	return w.find(ctx, where("id", ids...))
}

func (w securityGroups) Group(ctx context.Context, id string) (compute.SecurityGroup, error) {
	gs, err := w.find(ctx, where("id", id))
	if err == nil && len(gs) == 0 {
		err = nacre.Errorf(nacre.NotFound, "SecurityGroupNotFound", "Security group %s does not exist", id)
	}
	if err != nil {
		return compute.SecurityGroup{}, err
	}
	return gs[0], nil
}

func (w securityGroups) CreateGroup(ctx context.Context, name, description string) (compute.SecurityGroup, error) {
	if err := store.Outside(ctx); err != nil {
		return compute.SecurityGroup{}, err
	}
	g, err := w.svc.CreateSecurityGroup(ctx, network.SecurityGroup{Std: network.Std{Name: name, Description: description}, Stateful: true})
	if err != nil {
		return compute.SecurityGroup{}, err
	}
	return w.Group(ctx, g.ID)
}

func (w securityGroups) UpdateGroup(ctx context.Context, id, name, description string) (compute.SecurityGroup, error) {
	if err := store.Outside(ctx); err != nil {
		return compute.SecurityGroup{}, err
	}
	_, err := w.svc.UpdateSecurityGroup(ctx, id, func(g *network.SecurityGroup) error {
		g.Name, g.Description = name, description
		return nil
	})
	if err != nil {
		return compute.SecurityGroup{}, err
	}
	return w.Group(ctx, id)
}

func (w securityGroups) DeleteGroup(ctx context.Context, id string) error {
	if err := store.Outside(ctx); err != nil {
		return err
	}
	return w.svc.DeleteSecurityGroup(ctx, id)
}

func (w securityGroups) Rule(ctx context.Context, id string) (compute.SecurityGroupRule, error) {
	if err := store.Outside(ctx); err != nil {
		return compute.SecurityGroupRule{}, err
	}
	r, err := w.svc.SecurityGroupRule(ctx, id)
	return ruleOf(r), err
}

func (w securityGroups) CreateRule(ctx context.Context, r compute.SecurityGroupRule) (compute.SecurityGroupRule, error) {
	if err := store.Outside(ctx); err != nil {
		return compute.SecurityGroupRule{}, err
	}
	in := network.SecurityGroupRule{GroupID: r.GroupID, Direction: "ingress", EtherType: "IPv4", Protocol: r.Protocol, PortMin: known(r.FromPort), PortMax: known(r.ToPort), RemoteGroupID: r.RemoteID}
	if r.RemoteID == "" {
		in.RemotePrefix = r.CIDR
		if p, err := netip.ParsePrefix(r.CIDR); err == nil && p.Addr().Is6() {
			in.EtherType = "IPv6"
		}
	}
	made, err := w.svc.CreateSecurityGroupRule(ctx, in)
	return ruleOf(made), err
}

// known is a port, or nil for nova's -1, which is any.
func known(p *int) *int {
	if p != nil && *p == -1 {
		return nil
	}
	return p
}

func (w securityGroups) DeleteRule(ctx context.Context, id string) error {
	if err := store.Outside(ctx); err != nil {
		return err
	}
	return w.svc.DeleteSecurityGroupRule(ctx, id)
}
