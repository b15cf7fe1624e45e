package remote

import (
	"context"
	"net/netip"
	"net/url"
	"slices"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/compute"
)

// SecurityGroups is the edge from compute's proxy of security groups to a network
// service.
func (c *Cloud) SecurityGroups() compute.SecurityGroups { return securityGroups{c} }

type securityGroups struct{ c *Cloud }

type groupDoc struct {
	ID          string    `json:"id"`
	Name        string    `json:"name"`
	Description string    `json:"description"`
	ProjectID   string    `json:"project_id"`
	Rules       []ruleDoc `json:"security_group_rules"`
}

type ruleDoc struct {
	ID        string `json:"id"`
	GroupID   string `json:"security_group_id"`
	Direction string `json:"direction"`
	Protocol  string `json:"protocol"`
	PortMin   *int   `json:"port_range_min"`
	PortMax   *int   `json:"port_range_max"`
	Remote    string `json:"remote_group_id"`
	Prefix    string `json:"remote_ip_prefix"`
}

func (r *ruleDoc) rule() compute.SecurityGroupRule {
	v := compute.SecurityGroupRule{ID: r.ID, GroupID: r.GroupID, Protocol: r.Protocol, FromPort: r.PortMin, ToPort: r.PortMax, RemoteID: r.Remote, CIDR: r.Prefix}
	if v.CIDR == "" {
		v.CIDR = "0.0.0.0/0"
	}
	return v
}

func (e securityGroups) as(ctx context.Context) (*api, error) { return e.c.as(ctx, "network", "v2.0") }

// find lists groups as nova shows them, with what their rules' remote groups are
// called. A rule whose remote group the caller may not see is left out, as nova does.
func (e securityGroups) find(ctx context.Context, paths ...string) ([]compute.SecurityGroup, error) {
	a, err := e.as(ctx)
	if err != nil {
		return nil, err
	}
	gs, err := listAll[groupDoc](ctx, a, "security_groups", paths...)
	if err != nil {
		return nil, err
	}
	known, missing := map[string]groupDoc{}, []string{}
	for _, g := range gs {
		known[g.ID] = g
	}
	for _, g := range gs {
		for _, r := range g.Rules {
			if _, ok := known[r.Remote]; r.Remote != "" && !ok && !slices.Contains(missing, r.Remote) {
				missing = append(missing, r.Remote)
			}
		}
	}
	more, err := listAll[groupDoc](ctx, a, "security_groups", in("security-groups", "id", missing)...)
	if err != nil {
		return nil, err
	}
	for _, g := range more {
		known[g.ID] = g
	}
	out := make([]compute.SecurityGroup, len(gs))
	for i, g := range gs {
		out[i] = compute.SecurityGroup{ID: g.ID, Name: g.Name, Description: g.Description, ProjectID: g.ProjectID}
		for _, r := range g.Rules {
			remote, ok := known[r.Remote]
			if r.Direction != "ingress" || r.Remote != "" && !ok {
				continue
			}
			v := r.rule()
			v.RemoteName, v.RemoteProject = remote.Name, remote.ProjectID
			out[i].Rules = append(out[i].Rules, v)
		}
	}
	return out, nil
}

func (e securityGroups) Groups(ctx context.Context, projectID string) ([]compute.SecurityGroup, error) {
	path := "security-groups"
	if projectID != "" {
		path += "?project_id=" + url.QueryEscape(projectID)
	}
	return e.find(ctx, path)
}

func (e securityGroups) ServerGroups(ctx context.Context, serverID string) ([]compute.SecurityGroup, error) {
	a, err := e.as(nacre.AsService(ctx, "compute"))
	if err != nil {
		return nil, err
	}
	ports, err := a.served(ctx, serverID)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, p := range ports[serverID] {
		ids = append(ids, p.SecurityGroups...)
	}
	if len(ids) == 0 {
		return nil, nil
	}
	slices.Sort(ids)
	return e.find(ctx, in("security-groups", "id", slices.Compact(ids))...)
}

func (e securityGroups) Group(ctx context.Context, id string) (compute.SecurityGroup, error) {
	gs, err := e.find(ctx, in("security-groups", "id", []string{id})...)
	if err == nil && len(gs) == 0 {
		err = nacre.Errorf(nacre.NotFound, "SecurityGroupNotFound", "Security group %s does not exist", id)
	}
	if err != nil {
		return compute.SecurityGroup{}, err
	}
	return gs[0], nil
}

func (e securityGroups) CreateGroup(ctx context.Context, name, description string) (compute.SecurityGroup, error) {
	a, err := e.as(ctx)
	if err != nil {
		return compute.SecurityGroup{}, err
	}
	var made struct {
		Group groupDoc `json:"security_group"`
	}
	if err := a.post(ctx, "security-groups", object{"security_group": object{"name": name, "description": description}}, &made); err != nil {
		return compute.SecurityGroup{}, err
	}
	return e.Group(ctx, made.Group.ID)
}

func (e securityGroups) UpdateGroup(ctx context.Context, id, name, description string) (compute.SecurityGroup, error) {
	a, err := e.as(ctx)
	if err != nil {
		return compute.SecurityGroup{}, err
	}
	if err := a.put(ctx, "security-groups/"+url.PathEscape(id), object{"security_group": object{"name": name, "description": description}}, nil); err != nil {
		return compute.SecurityGroup{}, err
	}
	return e.Group(ctx, id)
}

func (e securityGroups) DeleteGroup(ctx context.Context, id string) error {
	return e.delete(ctx, "security-groups/"+url.PathEscape(id))
}

// delete is once for all: what is not there is told, as nova's callers expect.
func (e securityGroups) delete(ctx context.Context, path string) error {
	a, err := e.as(ctx)
	if err != nil {
		return err
	}
	return a.do(ctx, "DELETE", path, nil, nil, false)
}

func (e securityGroups) Rule(ctx context.Context, id string) (compute.SecurityGroupRule, error) {
	a, err := e.as(ctx)
	if err != nil {
		return compute.SecurityGroupRule{}, err
	}
	var got struct {
		Rule ruleDoc `json:"security_group_rule"`
	}
	err = a.get(ctx, "security-group-rules/"+url.PathEscape(id), &got)
	return got.Rule.rule(), err
}

func (e securityGroups) CreateRule(ctx context.Context, r compute.SecurityGroupRule) (compute.SecurityGroupRule, error) {
	a, err := e.as(ctx)
	if err != nil {
		return compute.SecurityGroupRule{}, err
	}
	body := object{"security_group_id": r.GroupID, "direction": "ingress", "ethertype": "IPv4"}
	if r.Protocol != "" {
		body["protocol"] = r.Protocol
	}
	for name, p := range map[string]*int{"port_range_min": r.FromPort, "port_range_max": r.ToPort} {
		if p != nil && *p != -1 { // nova's -1 is any
			body[name] = *p
		}
	}
	if r.RemoteID != "" {
		body["remote_group_id"] = r.RemoteID
	} else {
		body["remote_ip_prefix"] = r.CIDR
		if p, err := netip.ParsePrefix(r.CIDR); err == nil && p.Addr().Is6() {
			body["ethertype"] = "IPv6"
		}
	}
	var made struct {
		Rule ruleDoc `json:"security_group_rule"`
	}
	err = a.post(ctx, "security-group-rules", object{"security_group_rule": body}, &made)
	return made.Rule.rule(), err
}

func (e securityGroups) DeleteRule(ctx context.Context, id string) error {
	return e.delete(ctx, "security-group-rules/"+url.PathEscape(id))
}
