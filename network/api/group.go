package api

import (
	"maps"
	"slices"
	"strconv"

	"github.com/nacre-cloud/nacre"
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
		RemoteGroupID: null(r.RemoteGroupID), Normalized: null(r.RemotePrefix)}
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
		{Method: "POST", Path: base, Status: 201, Policy: []string{"create_security_group"}, View: groupView{}, Op: create("security_group", "security_groups", func(r *rest.Request, b *groupBody) (any, string, error) {
			project, err := b.project(r)
			if err != nil {
				return nil, "", err
			}
			g := network.SecurityGroup{Stateful: true}
			g.ProjectID = project
			set(&g.Name, b.Name)
			set(&g.Description, b.Description)
			set(&g.Stateful, b.Stateful)
			g, err = a.s.CreateSecurityGroup(r.Context(), g)
			v, err := a.oneGroup(r, g, err)
			return v, g.ID, err
		}, func(r *rest.Request, id string) error { return a.s.DeleteSecurityGroup(r.Context(), id) })},
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
		{Method: "POST", Path: rules, Status: 201, Policy: []string{"create_security_group_rule"}, View: ruleView{}, Op: create("security_group_rule", "security_group_rules", func(r *rest.Request, b *ruleBody) (any, string, error) {
			project, err := b.project(r)
			if err != nil {
				return nil, "", err
			}
			if b.RemoteSet != nil {
				return nil, "", nacre.Errorf(nacre.Invalid, "HTTPBadRequest", "Invalid input for remote_address_group_id. Reason: address groups are not served by this cloud.")
			}
			x := network.SecurityGroupRule{GroupID: b.GroupID, Direction: b.Direction, EtherType: b.EtherType, Protocol: b.Protocol.Value, PortMin: b.PortMin, PortMax: b.PortMax, RemotePrefix: b.RemotePrefix, RemoteGroupID: b.RemoteGroupID}
			x.ProjectID, x.Description = project, b.Description
			x, err = a.s.CreateSecurityGroupRule(r.Context(), x)
			return ruleOf(x), x.ID, err
		}, func(r *rest.Request, id string) error { return a.s.DeleteSecurityGroupRule(r.Context(), id) })},
		{Method: "GET", Path: rules + "/{id}", Policy: []string{"get_security_group_rule"}, View: ruleView{}, Op: do("security_group_rule", func(r *rest.Request) (any, error) {
			x, err := a.s.SecurityGroupRule(r.Context(), r.Var("id"))
			return ruleOf(x), err
		})},
		{Method: "DELETE", Path: rules + "/{id}", Policy: []string{"delete_security_group_rule"}, Op: rest.Do(func(r *rest.Request) (any, error) {
			return nil, a.s.DeleteSecurityGroupRule(r.Context(), r.Var("id"))
		})},
	}
}

func (a *api) quotaRoutes() []rest.Route {
	const base = "/v2.0/quotas"
	return []rest.Route{
		{Method: "GET", Path: base, Policy: []string{"get_quota"}, Op: rest.Do(func(r *rest.Request) (any, error) {
			all, err := a.s.Quotas(r.Context())
			if err != nil {
				return nil, err
			}
			out := []map[string]any{}
			for _, p := range slices.Sorted(maps.Keys(all)) {
				m := map[string]any{"project_id": p, "tenant_id": p}
				for k, v := range all[p] {
					m[k] = v
				}
				out = append(out, m)
			}
			return map[string]any{"quotas": out}, nil
		})},
		{Method: "GET", Path: base + "/{project}", Policy: []string{"get_quota"}, Op: rest.Do(func(r *rest.Request) (any, error) {
			q, err := a.s.Quota(r.Context(), r.Var("project"))
			return map[string]any{"quota": q}, err
		})},
		{Method: "GET", Path: base + "/{project}/default", Policy: []string{"get_quota"}, Op: rest.Do(func(r *rest.Request) (any, error) {
			q, err := a.s.DefaultQuota(r.Context())
			return map[string]any{"quota": q}, err
		})},
		{Method: "GET", Path: base + "/{project}/details", Policy: []string{"get_quota"}, Statements: 8, Op: rest.Do(func(r *rest.Request) (any, error) {
			q, err := a.s.Quota(r.Context(), r.Var("project"))
			if err != nil {
				return nil, err
			}
			used, err := a.s.QuotaUse(r.Context(), r.Var("project"))
			out := map[string]any{}
			for k, v := range q {
				out[k] = map[string]int64{"limit": v, "used": used[k], "reserved": 0}
			}
			return map[string]any{"quota": out}, err
		})},
		{Method: "PUT", Path: base + "/{project}", Policy: []string{"update_quota"}, Op: change("quota", func(r *rest.Request, b *map[string]any) (any, error) {
			limits := map[string]int64{}
			for k, v := range *b {
				switch x := v.(type) {
				case int64:
					limits[k] = x
				case string:
					n, err := strconv.ParseInt(x, 10, 64)
					if err != nil {
						return nil, nacre.Errorf(nacre.Invalid, "HTTPBadRequest", "Invalid input for %s. Reason: '%s' is not an integer.", k, x)
					}
					limits[k] = n
				case bool:
					if k != "force" && k != "check_limit" {
						return nil, nacre.Errorf(nacre.Invalid, "HTTPBadRequest", "Invalid input for %s. Reason: it is not an integer.", k)
					}
				default:
					if k == "project_id" || k == "tenant_id" {
						continue
					}
					return nil, nacre.Errorf(nacre.Invalid, "HTTPBadRequest", "Invalid input for %s. Reason: %s is not an integer.", k, rest.PyRepr(v))
				}
				if n, ok := limits[k]; ok && (n < -1 || n > 0x7fffffff) {
					return nil, nacre.Errorf(nacre.Invalid, "HTTPBadRequest", "Invalid input for %s. Reason: Quota limit exceeds integer range.", k)
				}
			}
			return a.s.SetQuota(r.Context(), r.Var("project"), limits)
		})},
		{Method: "DELETE", Path: base + "/{project}", Policy: []string{"delete_quota"}, Op: rest.Do(func(r *rest.Request) (any, error) {
			return nil, a.s.ClearQuota(r.Context(), r.Var("project"))
		})},
	}
}

type agentView struct {
	ID        string         `json:"id"`
	Type      string         `json:"agent_type"`
	Binary    string         `json:"binary"`
	Host      string         `json:"host"`
	Topic     string         `json:"topic"`
	AdminUp   bool           `json:"admin_state_up"`
	Alive     bool           `json:"alive"`
	Zone      string         `json:"availability_zone"`
	Created   string         `json:"created_at"`
	Started   string         `json:"started_at"`
	Heartbeat string         `json:"heartbeat_timestamp"`
	Config    map[string]any `json:"configurations"`
	Descr     *string        `json:"description"`
	Resources bool           `json:"resources_synced"`
}

const agentTime = "2006-01-02 15:04:05"

func (a *api) agent(h network.Host) agentView {
	return agentView{ID: h.ID, Type: "Nacre " + h.Info.Driver + " agent", Binary: "nacre-network-agent", Host: h.Name, Topic: "N/A", AdminUp: h.AdminUp, Alive: a.s.Up(h), Zone: "nova", Created: h.Created.Format(agentTime),
		Started: h.Created.Format(agentTime), Heartbeat: h.Seen.Format(agentTime), Config: map[string]any{"network_types": h.Info.Types, "physical_networks": h.Info.Physical}, Resources: true}
}

func (a *api) agentRoutes() []rest.Route {
	return []rest.Route{
		{Method: "GET", Path: "/v2.0/agents", Policy: []string{"get_agent"}, View: agentView{}, Op: rest.Do(func(r *rest.Request) (any, error) {
			hs, err := a.s.Agents(r.Context())
			if err != nil {
				return nil, err
			}
			q := r.URL.Query()
			out := []agentView{}
			for _, h := range hs {
				v := a.agent(h)
				if q.Get("agent_type") != "" && q.Get("agent_type") != v.Type || q.Get("host") != "" && q.Get("host") != v.Host || q.Get("binary") != "" && q.Get("binary") != v.Binary || q.Get("id") != "" && q.Get("id") != v.ID {
					continue
				}
				if alive := q.Get("alive"); alive != "" {
					if want, err := strconv.ParseBool(alive); err == nil && want != v.Alive {
						continue
					}
				}
				out = append(out, v)
			}
			return map[string]any{"agents": out}, nil
		})},
		{Method: "GET", Path: "/v2.0/agents/{id}", Policy: []string{"get_agent"}, View: agentView{}, Op: do("agent", func(r *rest.Request) (any, error) {
			h, err := a.s.Agent(r.Context(), r.Var("id"))
			return a.agent(h), err
		})},
		{Method: "GET", Path: "/v2.0/availability_zones", Policy: []string{"get_availability_zone"}, Op: rest.Do(func(*rest.Request) (any, error) {
			zone := func(kind string) map[string]string {
				return map[string]string{"name": "nova", "resource": kind, "state": "available"}
			}
			return map[string]any{"availability_zones": []any{zone("network"), zone("router")}}, nil
		})},
		{Method: "GET", Path: "/v2.0/network-ip-availabilities", Policy: []string{"get_network_ip_availability"}, Op: rest.Do(func(r *rest.Request) (any, error) {
			q, err := query(r)
			if err != nil {
				return nil, err
			}
			as, err := a.s.Availabilities(r.Context(), q)
			if err != nil {
				return nil, err
			}
			out := []any{}
			for _, x := range as {
				out = append(out, availabilityOf(x))
			}
			return map[string]any{"network_ip_availabilities": out}, nil
		})},
		{Method: "GET", Path: "/v2.0/network-ip-availabilities/{id}", Policy: []string{"get_network_ip_availability"}, Op: rest.Do(func(r *rest.Request) (any, error) {
			as, err := a.s.Availabilities(r.Context(), nacre.Query{Filters: []nacre.Filter{{Name: "network_id", Value: r.Var("id")}}})
			if err == nil && len(as) == 0 {
				err = nacre.Errorf(nacre.NotFound, "NetworkNotFound", "Network %s could not be found.", r.Var("id"))
			}
			if err != nil {
				return nil, err
			}
			return map[string]any{"network_ip_availability": availabilityOf(as[0])}, nil
		})},
	}
}

func availabilityOf(x network.Availability) any {
	subs := []any{}
	for _, s := range x.Subnets {
		subs = append(subs, map[string]any{"subnet_id": s.Subnet.ID, "subnet_name": s.Subnet.Name, "cidr": s.Subnet.CIDR, "ip_version": s.Subnet.IPVersion, "total_ips": number(s.Total), "used_ips": number(s.Used)})
	}
	return map[string]any{"network_id": x.Network.ID, "network_name": x.Network.Name, "project_id": x.Network.ProjectID, "tenant_id": x.Network.ProjectID, "total_ips": number(x.Total), "used_ips": number(x.Used), "subnet_ip_availability": subs}
}

// number is a count that may be larger than 64 bits (a /64 of IPv6), as digits.
type number float64

// MarshalJSON writes it without an exponent.
func (n number) MarshalJSON() ([]byte, error) {
	return strconv.AppendFloat(nil, float64(n), 'f', 0, 64), nil
}

type extensionView struct {
	Alias       string   `json:"alias"`
	Name        string   `json:"name"`
	Description string   `json:"description"`
	Updated     string   `json:"updated"`
	Links       []string `json:"links"`
}

// extensions are those whose fields and filters work here.
var extensions = func() []extensionView {
	var out []extensionView
	for _, e := range [][3]string{
		{"agent", "agent", "The agent management extension."},
		{"allowed-address-pairs", "Allowed Address Pairs", "Provides allowed address pairs"},
		{"availability_zone", "Availability Zone", "The availability zone extension."},
		{"binding", "Port Binding", "Expose port bindings of a virtual port to external application"},
		{"ext-gw-mode", "Neutron L3 Configurable external gateway mode", "Extension of the router abstraction for specifying whether SNAT should occur on the external gateway"},
		{"external-net", "Neutron external network", "Adds external network attribute to network resource."},
		{"extra_dhcp_opt", "Neutron Extra DHCP options", "Extra options configuration for DHCP."},
		{"extraroute", "Neutron Extra Route", "Extra routes configuration for L3 router"},
		{"extraroute-atomic", "Atomically add/remove extra routes", "Edit extra routes of a router on server side by atomically adding/removing extra routes"},
		{"fip-port-details", "Floating IP Port Details Extension", "Add port_details attribute to Floating IP resource"},
		{"net-mtu", "Network MTU", "Provides MTU attribute for a network resource."},
		{"net-mtu-writable", "Network MTU (writable)", "Provides a writable MTU attribute for a network resource."},
		{"network-ip-availability", "Network IP Availability", "Provides IP availability data for each network and subnet."},
		{"network_availability_zone", "Network Availability Zone", "Availability zone support for network."},
		{"pagination", "Pagination support", "Extension that indicates that pagination is enabled."},
		{"port-security", "Port Security", "Provides port security"},
		{"project-id", "project_id field enabled", "Extension that indicates that project_id field is enabled."},
		{"provider", "Provider Network", "Expose mapping of virtual networks to physical networks"},
		{"quotas", "Quota management support", "Expose functions for quotas management per project"},
		{"quota_details", "Quota details management support", "Expose functions for quotas usage statistics per project"},
		{"router", "Neutron L3 Router", "Router abstraction for basic L3 forwarding between L2 Neutron networks and access to external networks via a NAT gateway."},
		{"router_availability_zone", "Router Availability Zone", "Availability zone support for router."},
		{"security-group", "security-group", "The security groups extension."},
		{"sorting", "Sorting support", "Extension that indicates that sorting is enabled."},
		{"standard-attr-description", "standard-attr-description", "Extension to add descriptions to standard attributes"},
		{"standard-attr-revisions", "Resource revision numbers", "This extension will display the revision number of neutron resources."},
		{"standard-attr-tag", "Tag support for resources with standard attribute: network, subnet, port, router, floatingip, security_group", "Enables to set tag on resources with standard attribute."},
		{"standard-attr-timestamp", "Resource timestamps", "Adds created_at and updated_at fields to all Neutron resources that have Neutron standard attributes."},
		{"stateful-security-group", "Stateful security group", "Indicates if the security group is stateful or not"},
	} {
		out = append(out, extensionView{e[0], e[1], e[2], "2017-01-01T00:00:00-00:00", []string{}})
	}
	return out
}()

func (a *api) extensionRoutes() []rest.Route {
	return []rest.Route{
		{Method: "GET", Path: "/v2.0/extensions", Op: rest.Do(func(*rest.Request) (any, error) { return map[string]any{"extensions": extensions}, nil })},
		{Method: "GET", Path: "/v2.0/extensions/{alias}", Op: rest.Do(func(r *rest.Request) (any, error) {
			for _, e := range extensions {
				if e.Alias == r.Var("alias") {
					return map[string]any{"extension": e}, nil
				}
			}
			return nil, nacre.Errorf(nacre.NotFound, "HTTPNotFound", "Extension with alias %s does not exist", r.Var("alias"))
		})},
	}
}
