package network

import (
	"context"
	"net/netip"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/internal/policy"
	"github.com/nacre-cloud/nacre/store"
)

// Quota are a project's limits.
func (s *Service) Quota(ctx context.Context, project string) (map[string]int64, error) {
	if err := s.mayQuota(ctx, project); err != nil {
		return nil, err
	}
	return s.quota.Limits(ctx, project)
}

// mayQuota lets a project look at its own limits, and others as policy says.
func (s *Service) mayQuota(ctx context.Context, project string) error {
	c, err := s.caller(ctx)
	if err != nil || c.ProjectID == project {
		return err
	}
	return s.enforce(ctx, "get_quota", policy.Map{"project_id": project, "tenant_id": project})
}

// DefaultQuota is what a project without limits of its own has.
func (s *Service) DefaultQuota(ctx context.Context) (map[string]int64, error) {
	if _, err := s.caller(ctx); err != nil {
		return nil, err
	}
	return s.quota.Defaults(ctx)
}

// Quotas are all projects' own limits, for administrators.
func (s *Service) Quotas(ctx context.Context) (map[string]map[string]int64, error) {
	if err := s.enforce(ctx, "get_quota", policy.Map{}); err != nil {
		return nil, err
	}
	return s.quota.Owned(ctx)
}

// SetQuota stores a project's limits.
func (s *Service) SetQuota(ctx context.Context, project string, limits map[string]int64) (map[string]int64, error) {
	if err := s.enforce(ctx, "update_quota", policy.Map{"project_id": project}); err != nil {
		return nil, err
	}
	for r := range limits {
		if _, known := defaultQuota[r]; !known {
			return nil, nacre.Errorf(nacre.Invalid, "HTTPBadRequest", "Unrecognized attribute(s) '%s'", r)
		}
	}
	if err := s.quota.Set(ctx, project, limits); err != nil {
		return nil, err
	}
	return s.quota.Limits(ctx, project)
}

// ClearQuota takes a project back to the defaults.
func (s *Service) ClearQuota(ctx context.Context, project string) error {
	if err := s.enforce(ctx, "delete_quota", policy.Map{"project_id": project}); err != nil {
		return err
	}
	had, err := s.quota.Clear(ctx, project)
	if err == nil && !had {
		err = nacre.Errorf(nacre.NotFound, "TenantQuotaNotFound", "Quota for tenant %s could not be found.", project)
	}
	return err
}

// QuotaUse is a project's use, counted. Eight statements.
func (s *Service) QuotaUse(ctx context.Context, project string) (map[string]int64, error) {
	if err := s.mayQuota(ctx, project); err != nil {
		return nil, err
	}
	own := store.Eq("project_id", project)
	notOurs := store.Not(store.In("device_owner", []string{OwnerDHCP, OwnerRouter, OwnerGateway, OwnerFloatingIP}))
	out := map[string]int64{"rbac_policy": 0}
	for r, count := range map[string]func() (int64, error){
		"network":             func() (int64, error) { return s.networks.Count(ctx, own) },
		"subnet":              func() (int64, error) { return s.subnets.Count(ctx, own) },
		"port":                func() (int64, error) { return s.ports.Count(ctx, own, notOurs) },
		"subnetpool":          func() (int64, error) { return s.pools.Count(ctx, own) },
		"router":              func() (int64, error) { return s.routers.Count(ctx, own) },
		"floatingip":          func() (int64, error) { return s.floatingips.Count(ctx, own) },
		"security_group":      func() (int64, error) { return s.groups.Count(ctx, own) },
		"security_group_rule": func() (int64, error) { return s.rules.Count(ctx, own) },
	} {
		n, err := count()
		if err != nil {
			return nil, err
		}
		out[r] = n
	}
	return out, nil
}

// Agents lists the hosts that carry packets. Others than administrators see none,
// as in any list of neutron's what one may not see is left out.
func (s *Service) Agents(ctx context.Context) ([]Host, error) {
	switch err := s.enforce(ctx, "get_agent", policy.Map{}); {
	case nacre.KindOf(err) == nacre.Forbidden:
		return nil, nil
	case err != nil:
		return nil, err
	}
	return s.hosts.Select(ctx, store.Select{Order: []store.Order{{Column: "name"}}})
}

// Agent is one of them.
func (s *Service) Agent(ctx context.Context, id string) (Host, error) {
	if err := s.enforce(ctx, "get_agent", policy.Map{}); err != nil {
		return Host{}, err
	}
	return s.agent(ctx, id)
}

// Availability is how many addresses a network has and gave out.
type Availability struct {
	Network     Network
	Total, Used float64
	Subnets     []SubnetAvailability
}

// SubnetAvailability is that of one subnet.
type SubnetAvailability struct {
	Subnet      Subnet
	Total, Used float64
}

// Availabilities counts every network's addresses; none for others than
// administrators. Three statements.
func (s *Service) Availabilities(ctx context.Context, q nacre.Query) ([]Availability, error) {
	switch err := s.enforce(ctx, "get_network_ip_availability", policy.Map{}); {
	case nacre.KindOf(err) == nacre.Forbidden:
		return nil, nil
	case err != nil:
		return nil, err
	}
	q.Limit, q.Marker = 0, ""
	ns, err := list(ctx, s, s.networks, q, store.All(), map[string]string{"network_id": "id", "network_name": "name", "project_id": "project_id", "tenant_id": "project_id"}, nil)
	if err != nil {
		return nil, err
	}
	subs, err := s.subnets.Where(ctx)
	if err != nil {
		return nil, err
	}
	gs, err := s.allocations.Aggregate(ctx, store.Aggregate{By: []string{"subnet_id"}})
	if err != nil {
		return nil, err
	}
	used := map[string]float64{}
	for _, g := range gs {
		used[g.Key[0].(string)] = float64(g.Count)
	}
	version, _ := q.Get("ip_version")
	var out []Availability
	for _, n := range ns {
		a := Availability{Network: n, Subnets: []SubnetAvailability{}}
		for _, sn := range subs {
			if sn.NetworkID != n.ID || version == "6" && sn.IPVersion != 6 || version == "4" && sn.IPVersion != 4 {
				continue
			}
			sa := SubnetAvailability{Subnet: sn, Used: used[sn.ID]}
			for _, p := range sn.Pools {
				sa.Total += span(p.Start, p.End)
			}
			a.Total, a.Used = a.Total+sa.Total, a.Used+sa.Used
			a.Subnets = append(a.Subnets, sa)
		}
		out = append(out, a)
	}
	return out, nil
}

// span is how many addresses lie from a to b.
func span(a, b netip.Addr) float64 {
	x, y := a.As16(), b.As16()
	n := 0.0
	for i := range x {
		n = n*256 + float64(y[i]) - float64(x[i])
	}
	return n + 1
}
