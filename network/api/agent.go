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
	return agentView{ID: h.ID, Type: "Nacre " + h.Info.Driver + " agent", Binary: "nacre-network-agent", Host: h.Name, Topic: "N/A", AdminUp: h.AdminUp, Alive: a.s.Up(h), Zone: "nova", Created: h.Created.Format(agentTime),
		Started: h.Created.Format(agentTime), Heartbeat: h.Seen.Format(agentTime), Config: agentConfig(h.Info), Resources: true}
}

// agentConfig names what Neutron's own agents call the same: tunneling_ip, tunnel_types.
func agentConfig(h dataplane.Host) map[string]any {
	out := map[string]any{"network_types": h.Types, "physical_networks": h.Physical, "tunnel_types": []string{}}
	if h.Tunnel.IsValid() {
		out["tunneling_ip"], out["tunnel_types"] = h.Tunnel, []string{"vxlan"}
	}
	return out
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
