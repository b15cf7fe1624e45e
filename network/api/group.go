package api

import (
	"github.com/nacre-cloud/nacre/internal/rest"
	"github.com/nacre-cloud/nacre/network"
)

type groupView struct {
	std
	Stateful bool       `json:"stateful"`
	Shared   bool       `json:"shared"`
	Rules    []ruleView `json:"security_group_rules"`
}

// ruleView has no name: rules are the one resource without.
type ruleView struct {
	ID            string       `json:"id"`
	ProjectID     string       `json:"project_id"`
	TenantID      string       `json:"tenant_id"`
	Description   string       `json:"description"`
	Tags          []string     `json:"tags"`
	Revision      int          `json:"revision_number"`
	Created       rest.Seconds `json:"created_at"`
	Updated       rest.Seconds `json:"updated_at"`
	GroupID       string       `json:"security_group_id"`
	Direction     string       `json:"direction"`
	EtherType     string       `json:"ethertype"`
	Protocol      *string      `json:"protocol"`
	PortMin       *int         `json:"port_range_min"`
	PortMax       *int         `json:"port_range_max"`
	RemotePrefix  *string      `json:"remote_ip_prefix"`
	RemoteGroupID *string      `json:"remote_group_id"`
	RemoteSet     *string      `json:"remote_address_group_id"`
	Normalized    *string      `json:"normalized_cidr"`
	Default       bool         `json:"belongs_to_default_sg"`
}

func ruleOf(r network.SecurityGroupRule) ruleView {
	return ruleView{ID: r.ID, ProjectID: r.ProjectID, TenantID: r.ProjectID, Description: r.Description, Tags: r.Tags, Revision: r.Revision, Created: rest.Seconds(r.Created), Updated: rest.Seconds(r.Updated),
		GroupID: r.GroupID, Direction: r.Direction, EtherType: r.EtherType, Protocol: null(r.Protocol), PortMin: r.PortMin, PortMax: r.PortMax, RemotePrefix: null(r.RemotePrefix),
		RemoteGroupID: null(r.RemoteGroupID), RemoteSet: null(r.RemoteAddressGroupID), Normalized: null(r.NormalizedCIDR())}
}

func groupOf(g network.SecurityGroup, rules []network.SecurityGroupRule) groupView {
	v := groupView{std: stdOf(g.Std), Stateful: g.Stateful, Rules: []ruleView{}}
	for _, r := range rules {
		x := ruleOf(r)
		x.Default = g.DefaultOf != ""
		v.Rules = append(v.Rules, x)
	}
	return v
}

type groupBody struct {
	owner
	Name        *string `json:"name" valid:"max=255"`
	Description *string `json:"description" valid:"max=255"`
	Stateful    *bool   `json:"stateful"`
}

type ruleBody struct {
	owner
	GroupID       string           `json:"security_group_id" valid:"required,format=uuid"`
	Direction     string           `json:"direction" valid:"required"`
	EtherType     string           `json:"ethertype"`
	Protocol      rest.Opt[string] `json:"protocol" valid:"null,lax"`
	PortMin       *int             `json:"port_range_min" valid:"null"`
	PortMax       *int             `json:"port_range_max" valid:"null"`
	RemotePrefix  string           `json:"remote_ip_prefix" valid:"null"`
	RemoteGroupID string           `json:"remote_group_id" valid:"null"`
	RemoteSet     *string          `json:"remote_address_group_id" valid:"null"`
	Description   string           `json:"description" valid:"null,max=255"`
}

func (a *api) oneGroup(r *rest.Request, g network.SecurityGroup, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	rules, err := a.s.RulesOf(r.Context(), g)
	return groupOf(g, rules), err
}

func (a *api) groupRoutes() []rest.Route {
	const base, rules = "/v2.0/security-groups", "/v2.0/security-group-rules"
	return []rest.Route{
		{Method: "GET", Path: base, Policy: []string{"get_security_group"}, View: groupView{}, Op: rest.Do(func(r *rest.Request) (any, error) {
			q, err := query(r)
			if err != nil {
				return nil, err
			}
			gs, rs, err := a.s.SecurityGroups(r.Context(), q)
			if err != nil {
				return nil, err
			}
			return page(r, q, "security_groups", gs, func(g network.SecurityGroup) string { return g.ID }, func(g network.SecurityGroup) any { return groupOf(g, rs[g.ID]) })
		})},
		{Method: "POST", Path: base, Status: 201, Policy: []string{"create_security_group"}, View: groupView{}, Op: create(a.s, "security_group", "security_groups", func(r *rest.Request, b *groupBody) (any, error) {
			project, err := b.project(r)
			if err != nil {
				return nil, err
			}
			g := network.SecurityGroup{Stateful: true}
			g.ProjectID = project
			set(&g.Name, b.Name)
			set(&g.Description, b.Description)
			set(&g.Stateful, b.Stateful)
			g, err = a.s.CreateSecurityGroup(r.Context(), g)
			v, err := a.oneGroup(r, g, err)
			return v, err
		})},
		{Method: "GET", Path: base + "/{id}", Policy: []string{"get_security_group"}, View: groupView{}, Op: do("security_group", func(r *rest.Request) (any, error) {
			g, err := a.s.SecurityGroup(r.Context(), r.Var("id"))
			return a.oneGroup(r, g, err)
		})},
		{Method: "PUT", Path: base + "/{id}", Policy: []string{"update_security_group"}, View: groupView{}, Op: change("security_group", func(r *rest.Request, b *groupBody) (any, error) {
			g, err := a.s.UpdateSecurityGroup(r.Context(), r.Var("id"), func(g *network.SecurityGroup) error {
				set(&g.Name, b.Name)
				set(&g.Description, b.Description)
				set(&g.Stateful, b.Stateful)
				return nil
			})
			return a.oneGroup(r, g, err)
		})},
		{Method: "DELETE", Path: base + "/{id}", Policy: []string{"delete_security_group"}, Op: rest.Do(func(r *rest.Request) (any, error) {
			return nil, a.s.DeleteSecurityGroup(r.Context(), r.Var("id"))
		})},
		{Method: "GET", Path: rules, Policy: []string{"get_security_group_rule"}, View: ruleView{}, Op: rest.Do(func(r *rest.Request) (any, error) {
			q, err := query(r)
			if err != nil {
				return nil, err
			}
			rs, err := a.s.SecurityGroupRules(r.Context(), q)
			if err != nil {
				return nil, err
			}
			return page(r, q, "security_group_rules", rs, func(x network.SecurityGroupRule) string { return x.ID }, func(x network.SecurityGroupRule) any { return ruleOf(x) })
		})},
		{Method: "POST", Path: rules, Status: 201, Policy: []string{"create_security_group_rule"}, View: ruleView{}, Op: create(a.s, "security_group_rule", "security_group_rules", func(r *rest.Request, b *ruleBody) (any, error) {
			project, err := b.project(r)
			if err != nil {
				return nil, err
			}
			x := network.SecurityGroupRule{GroupID: b.GroupID, Direction: b.Direction, EtherType: b.EtherType, Protocol: b.Protocol.Value, PortMin: b.PortMin, PortMax: b.PortMax, RemotePrefix: b.RemotePrefix, RemoteGroupID: b.RemoteGroupID}
			x.ProjectID, x.Description = project, b.Description
			set(&x.RemoteAddressGroupID, b.RemoteSet)
			x, err = a.s.CreateSecurityGroupRule(r.Context(), x)
			return ruleOf(x), err
		})},
		{Method: "GET", Path: rules + "/{id}", Policy: []string{"get_security_group_rule"}, View: ruleView{}, Op: do("security_group_rule", func(r *rest.Request) (any, error) {
			x, err := a.s.SecurityGroupRule(r.Context(), r.Var("id"))
			return ruleOf(x), err
		})},
		{Method: "DELETE", Path: rules + "/{id}", Policy: []string{"delete_security_group_rule"}, Op: rest.Do(func(r *rest.Request) (any, error) {
			return nil, a.s.DeleteSecurityGroupRule(r.Context(), r.Var("id"))
		})},
	}
}
