package remote

import (
	"context"
	"net/url"
	"slices"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/compute"
	"github.com/nacre-cloud/nacre/network"
	"github.com/nacre-cloud/nacre/servers/internal/secgroup"
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

func (g *groupDoc) group() network.SecurityGroup {
	return network.SecurityGroup{Std: network.Std{ID: g.ID, Name: g.Name, Description: g.Description, ProjectID: g.ProjectID}}
}

func (r *ruleDoc) rule() network.SecurityGroupRule {
	return network.SecurityGroupRule{Std: network.Std{ID: r.ID}, GroupID: r.GroupID, Direction: r.Direction, Protocol: r.Protocol, PortMin: r.PortMin, PortMax: r.PortMax,
		RemoteGroupID: r.Remote, RemotePrefix: r.Prefix}
}

func (e securityGroups) as(ctx context.Context) (*api, error) { return e.c.as(ctx, "network", "v2.0") }

// find lists groups as nova shows them.
func (e securityGroups) find(ctx context.Context, paths ...string) ([]compute.SecurityGroup, error) {
	a, err := e.as(ctx)
	if err != nil {
		return nil, err
	}
	list := func(paths ...string) (gs []network.SecurityGroup, rules map[string][]network.SecurityGroupRule, err error) {
		docs, err := listAll[groupDoc](ctx, a, "security_groups", paths...)
		rules = map[string][]network.SecurityGroupRule{}
		for _, g := range docs {
			gs = append(gs, g.group())
			for _, r := range g.Rules {
				rules[g.ID] = append(rules[g.ID], r.rule())
			}
		}
		return gs, rules, err
	}
	gs, rules, err := list(paths...)
	if err != nil {
		return nil, err
	}
	return secgroup.Groups(gs, rules, func(ids []string) ([]network.SecurityGroup, error) {
		more, _, err := list(in("security-groups", "id", ids)...)
		return more, err
	})
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
	return secgroup.Rule(got.Rule.rule()), err
}

func (e securityGroups) CreateRule(ctx context.Context, r compute.SecurityGroupRule) (compute.SecurityGroupRule, error) {
	a, err := e.as(ctx)
	if err != nil {
		return compute.SecurityGroupRule{}, err
	}
	want := secgroup.Request(r)
	body := object{"security_group_id": want.GroupID, "direction": want.Direction, "ethertype": want.EtherType}
	for name, v := range map[string]string{"protocol": want.Protocol, "remote_group_id": want.RemoteGroupID, "remote_ip_prefix": want.RemotePrefix} {
		if v != "" {
			body[name] = v
		}
	}
	for name, p := range map[string]*int{"port_range_min": want.PortMin, "port_range_max": want.PortMax} {
		if p != nil {
			body[name] = *p
		}
	}
	var made struct {
		Rule ruleDoc `json:"security_group_rule"`
	}
	err = a.post(ctx, "security-group-rules", object{"security_group_rule": body}, &made)
	return secgroup.Rule(made.Rule.rule()), err
}

func (e securityGroups) DeleteRule(ctx context.Context, id string) error {
	return e.delete(ctx, "security-group-rules/"+url.PathEscape(id))
}
