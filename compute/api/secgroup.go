package api

import (
	"strconv"
	"strings"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/compute"
	"github.com/nacre-cloud/nacre/internal/rest"
)

type securityGroupView struct {
	ID          string              `json:"id"`
	Name        string              `json:"name"`
	Description string              `json:"description"`
	TenantID    string              `json:"tenant_id"`
	Rules       []securityGroupRule `json:"rules"`
}

type securityGroupRule struct {
	ID       string            `json:"id"`
	Parent   string            `json:"parent_group_id"`
	Protocol *string           `json:"ip_protocol"`
	From     *int              `json:"from_port"`
	To       *int              `json:"to_port"`
	Group    map[string]string `json:"group"`
	Range    map[string]string `json:"ip_range"`
}

func securityGroupOf(g compute.SecurityGroup) securityGroupView {
	v := securityGroupView{g.ID, g.Name, g.Description, g.ProjectID, []securityGroupRule{}}
	for _, r := range g.Rules {
		v.Rules = append(v.Rules, securityGroupRuleOf(r))
	}
	return v
}

func securityGroupRuleOf(r compute.SecurityGroupRule) securityGroupRule {
	v := securityGroupRule{r.ID, r.GroupID, nil, r.FromPort, r.ToPort, map[string]string{}, map[string]string{}}
	if r.Protocol != "" {
		v.Protocol = &r.Protocol
		if r.FromPort == nil && r.ToPort == nil {
			from, to := -1, -1
			if p := strings.ToUpper(r.Protocol); p == "TCP" || p == "UDP" {
				from, to = 1, 65535
			}
			v.From, v.To = &from, &to
		}
	}
	if r.RemoteID != "" {
		v.Group["name"], v.Group["tenant_id"] = r.RemoteName, r.RemoteProject
	} else {
		v.Range["cidr"] = r.CIDR
	}
	return v
}

type (
	securityGroupBody struct {
		Group struct {
			Name        *string `json:"name" valid:"required,max=255"`
			Description *string `json:"description" valid:"required,max=255"`
		} `json:"security_group" valid:"required"`
	}
	securityGroupRuleBody struct {
		Rule struct {
			Parent   string  `json:"parent_group_id" valid:"required,format=uuid"`
			Group    *string `json:"group_id" valid:"null,format=uuid"`
			From     any     `json:"from_port"`
			To       any     `json:"to_port"`
			Protocol any     `json:"ip_protocol"`
			CIDR     any     `json:"cidr"`
		} `json:"security_group_rule" valid:"required"`
	}
)

// text is a value that nova never validated, as text; null is none.
func text(v any) string {
	switch x := v.(type) {
	case nil:
		return ""
	case string:
		return x
	}
	return rest.PyRepr(v)
}

// securityGroupRoutes are nova's proxy of neutron's groups. It ends at 2.35, where
// clients go to neutron; some clients' commands still begin here.
func (a *api) securityGroupRoutes() []rest.Route {
	const base, rule, last = "/v2.1/os-security-groups", "os_compute_api:os-security-groups:", "2.35"
	one := func(g compute.SecurityGroup, err error) (any, error) {
		return map[string]securityGroupView{"security_group": securityGroupOf(g)}, err
	}
	many := func(gs []compute.SecurityGroup, err error) (any, error) {
		out := make([]securityGroupView, len(gs))
		for i, g := range gs {
			out[i] = securityGroupOf(g)
		}
		return map[string]any{"security_groups": out}, err
	}
	id := func(r *rest.Request) (string, error) {
		if v := r.Var("id"); !uuidRE.MatchString(v) {
			return "", bad("Security group id should be uuid")
		}
		return r.Var("id"), nil
	}
	withID := func(f func(r *rest.Request, id string) (any, error)) rest.Op {
		return rest.Do(func(r *rest.Request) (any, error) {
			v, err := id(r)
			if err != nil {
				return nil, err
			}
			return f(r, v)
		})
	}
	return []rest.Route{
		{Method: "GET", Path: base, Max: last, Policy: []string{rule + "get"}, View: securityGroupView{}, Op: rest.Do(func(r *rest.Request) (any, error) {
			q, err := r.Query(strictQuery(r, 1000, "2.999", "all_tenants", "offset"))
			if err != nil {
				return nil, err
			}
			_, all := q.Get("all_tenants")
			from, err := offset(q)
			if err != nil {
				return nil, err
			}
			gs, err := a.s.SecurityGroups(r.Context(), all)
			if err != nil {
				return nil, err
			}
			gs = gs[min(from, len(gs)):]
			if q.Limit > 0 {
				gs = gs[:min(q.Limit, len(gs))]
			}
			return many(gs, nil)
		})},
		{Method: "POST", Path: base, Max: last, Unknown: rest.Ignore, Policy: []string{rule + "create"}, View: securityGroupView{}, Op: rest.In(func(r *rest.Request, b *securityGroupBody) (any, error) {
			return one(a.s.CreateSecurityGroup(r.Context(), *b.Group.Name, *b.Group.Description))
		})},
		{Method: "GET", Path: base + "/{id}", Max: last, Policy: []string{rule + "show"}, View: securityGroupView{}, Op: withID(func(r *rest.Request, id string) (any, error) {
			return one(a.s.SecurityGroup(r.Context(), id))
		})},
		{Method: "PUT", Path: base + "/{id}", Max: last, Unknown: rest.Ignore, Policy: []string{rule + "update"}, View: securityGroupView{}, Op: rest.In(func(r *rest.Request, b *securityGroupBody) (any, error) {
			v, err := id(r)
			if err != nil {
				return nil, err
			}
			return one(a.s.UpdateSecurityGroup(r.Context(), v, *b.Group.Name, *b.Group.Description))
		})},
		{Method: "DELETE", Path: base + "/{id}", Max: last, Status: 202, Policy: []string{rule + "delete"}, Op: withID(func(r *rest.Request, id string) (any, error) {
			return nil, a.s.DeleteSecurityGroup(r.Context(), id)
		})},
		{Method: "POST", Path: "/v2.1/os-security-group-rules", Max: last, Unknown: rest.Ignore, Policy: []string{rule + "rule:create"}, View: securityGroupRule{}, Op: rest.In(func(r *rest.Request, b *securityGroupRuleBody) (any, error) {
			in := compute.SecurityGroupRule{GroupID: b.Rule.Parent, Protocol: text(b.Rule.Protocol), CIDR: text(b.Rule.CIDR)}
			if b.Rule.Group != nil {
				in.RemoteID = *b.Rule.Group
			}
			made, err := a.s.CreateSecurityGroupRule(r.Context(), in, text(b.Rule.From), text(b.Rule.To))
			return map[string]securityGroupRule{"security_group_rule": securityGroupRuleOf(made)}, err
		})},
		{Method: "DELETE", Path: "/v2.1/os-security-group-rules/{id}", Max: last, Status: 202, Policy: []string{rule + "rule:delete"}, Op: withID(func(r *rest.Request, id string) (any, error) {
			return nil, a.s.DeleteSecurityGroupRule(r.Context(), id)
		})},
		{Method: "GET", Path: "/v2.1/servers/{id}/os-security-groups", Policy: []string{rule + "list"}, View: securityGroupView{}, Op: rest.Do(func(r *rest.Request) (any, error) {
			return many(a.s.ServerSecurityGroups(r.Context(), r.Var("id")))
		})},
	}
}

// offset is a list's offset, as its older lists have it.
func offset(q nacre.Query) (int, error) {
	v, ok := q.Get("offset")
	if !ok {
		return 0, nil
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 0 {
		return 0, badQuery("offset", v, rest.PyRepr(v)+" does not match '^[0-9]*$'")
	}
	return n, nil
}
