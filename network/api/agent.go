package api

import (
	"strconv"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/internal/rest"
	"github.com/nacre-cloud/nacre/network"
	"github.com/nacre-cloud/nacre/network/dataplane"
)

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
	v := agentView{ID: h.ID, Type: "Nacre " + h.Info.Driver + " agent", Binary: "nacre-network-agent", Host: h.Name, Topic: "N/A", AdminUp: h.AdminUp, Alive: a.s.Up(h), Zone: "nova", Created: h.Created.Format(agentTime),
		Started: h.Created.Format(agentTime), Heartbeat: h.Seen.Format(agentTime), Config: agentConfig(h.Info), Resources: true}
	if h.Description != "" {
		v.Descr = &h.Description
	}
	return v
}

// l3Agent is how clients of neutron's ask for, and know, an agent that has routers; each
// host's one agent is that too.
const l3Agent = "L3 agent"

func (a *api) l3Agent(h network.Host) agentView {
	v := a.agent(h)
	v.Type, v.Config["agent_mode"] = l3Agent, "legacy"
	return v
}

// agentConfig names what Neutron's own agents call the same: tunneling_ip, tunnel_types.
func agentConfig(h dataplane.Host) map[string]any {
	out := map[string]any{"network_types": h.Types, "physical_networks": h.Physical, "tunnel_types": []string{}}
	if h.Tunnel.IsValid() {
		out["tunneling_ip"], out["tunnel_types"] = h.Tunnel, []string{"vxlan"}
	}
	return out
}

type agentBody struct {
	AdminUp *bool   `json:"admin_state_up"`
	Descr   *string `json:"description" valid:"max=255"`
}

// scheduleRoutes are neutron's l3_agent_scheduler.
func (a *api) scheduleRoutes() []rest.Route {
	const base = "/v2.0/agents/{id}/l3-routers"
	type body struct {
		Router string `json:"router_id" valid:"required"`
	}
	return []rest.Route{
		{Method: "GET", Path: base, Policy: []string{"get_l3-routers"}, View: routerView{}, Op: rest.Do(func(r *rest.Request) (any, error) {
			rs, err := a.s.AgentRouters(r.Context(), r.Var("id"))
			if err != nil {
				return nil, err
			}
			gw, err := a.s.GatewayPorts(r.Context(), rs...)
			if err != nil {
				return nil, err
			}
			return page(r, nacre.Query{}, "routers", rs, func(x network.Router) string { return x.ID }, func(x network.Router) any { return a.routerView(x, gw, true) })
		})},
		{Method: "POST", Path: base, Status: 201, Policy: []string{"create_l3-router"}, Op: rest.In(func(r *rest.Request, b *body) (any, error) {
			var none *body // null, as neutron's: clients decode it
			return none, a.s.AddAgentRouter(r.Context(), r.Var("id"), b.Router)
		})},
		{Method: "DELETE", Path: base + "/{router_id}", Policy: []string{"delete_l3-router"}, Op: rest.Do(func(r *rest.Request) (any, error) {
			return nil, a.s.RemoveAgentRouter(r.Context(), r.Var("id"), r.Var("router_id"))
		})},
		{Method: "GET", Path: "/v2.0/routers/{id}/l3-agents", Policy: []string{"get_l3-agents"}, View: agentView{}, Op: rest.Do(func(r *rest.Request) (any, error) {
			hs, err := a.s.RouterAgents(r.Context(), r.Var("id"))
			if err != nil {
				return nil, err
			}
			return page(r, nacre.Query{}, "agents", hs, func(h network.Host) string { return h.ID }, func(h network.Host) any { return a.l3Agent(h) })
		})},
	}
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
				if q.Get("agent_type") == l3Agent {
					v = a.l3Agent(h)
				}
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
		{Method: "PUT", Path: "/v2.0/agents/{id}", Policy: []string{"update_agent"}, View: agentView{}, Op: change("agent", func(r *rest.Request, b *agentBody) (any, error) {
			h, err := a.s.UpdateAgent(r.Context(), r.Var("id"), network.AgentChange{AdminUp: b.AdminUp, Description: b.Descr})
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
