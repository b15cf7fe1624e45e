package network

import (
	"context"
	"slices"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/network/dataplane"
	"github.com/nacre-cloud/nacre/store"
)

func routerNotFound(id string) *nacre.Error { return missing("Router", "RouterNotFound", id) }

var routerColumns = columns(map[string]string{"admin_state_up": "admin_state_up", "status": "status", "enable_snat": "enable_snat"})

// Routers lists the caller's routers.
func (s *Service) Routers(ctx context.Context, q nacre.Query) ([]Router, error) {
	w, _, err := s.own(ctx)
	if err != nil {
		return nil, err
	}
	return list(ctx, s, s.routers, q, w, routerColumns, nil)
}

// Router is one router of the caller's.
func (s *Service) Router(ctx context.Context, id string) (Router, error) {
	w, _, err := s.own(ctx)
	if err != nil {
		return Router{}, err
	}
	r, err := s.routers.One(ctx, store.Eq("id", id), w)
	return r, store.WrapNotFound(err, func() *nacre.Error { return routerNotFound(id) })
}

// RouterChange is what may change about a router; nil leaves it.
type RouterChange struct {
	Name, Description *string
	AdminUp           *bool
	Gateway           *GatewayChange
	Routes            *[]Route
	Tags              func(*Std) error
}

// CreateRouter makes a router, with a gateway when one is asked for.
func (s *Service) CreateRouter(ctx context.Context, r Router, gw *GatewayChange) (Router, error) {
	c, err := s.caller(ctx)
	if err != nil {
		return r, err
	}
	if r.ProjectID == "" {
		r.ProjectID = c.ProjectID
	}
	if err := s.enforce(ctx, "create_router", ownTarget(&r.Std)); err != nil {
		return r, err
	}
	if err := s.mayGateway(ctx, "create_router", &r, gw); err != nil {
		return r, err
	}
	err = s.tx(ctx, func(ctx context.Context) error {
		if err := s.reserve(ctx, "router", r.ProjectID, 1, func(ctx context.Context) (int64, error) {
			return s.routers.Count(ctx, store.Eq("project_id", r.ProjectID))
		}); err != nil {
			return err
		}
		x := r
		x.Status, x.SNAT, x.Routes = Active, true, []Route{}
		project := x.ProjectID
		s.fresh(ctx, &x.Std)
		x.ProjectID = project
		if err := s.routers.Insert(ctx, x); err != nil {
			return err
		}
		if gw != nil && !gw.Clear {
			if err := s.setGateway(ctx, &x, gw); err != nil {
				return err
			}
		}
		r = x
		return s.emit(ctx, "router.create.end", &x.Std)
	})
	return r, err
}

// UpdateRouter changes a router.
func (s *Service) UpdateRouter(ctx context.Context, id string, c RouterChange) (Router, error) {
	old, err := s.Router(ctx, id)
	if err != nil {
		return old, err
	}
	if err := s.enforce(ctx, "update_router", ownTarget(&old.Std)); err != nil {
		return old, err
	}
	if err := s.mayGateway(ctx, "update_router", &old, c.Gateway); err != nil {
		return old, err
	}
	var out Router
	err = s.tx(ctx, func(ctx context.Context) error {
		if err := store.Lock(ctx, s.c.Engine, "router/"+id); err != nil {
			return err
		}
		r, err := s.routers.Update(ctx, id, func(r *Router) error {
			if err := s.expected(ctx, &r.Std); err != nil {
				return err
			}
			if c.Name != nil {
				r.Name = *c.Name
			}
			if c.Description != nil {
				r.Description = *c.Description
			}
			if c.AdminUp != nil {
				r.AdminUp = *c.AdminUp
			}
			if c.Tags != nil {
				if err := c.Tags(&r.Std); err != nil {
					return err
				}
			}
			touched(&r.Std)
			return nil
		})
		if err != nil {
			return store.WrapNotFound(err, func() *nacre.Error { return routerNotFound(id) })
		}
		if c.Gateway != nil {
			if err := s.setGateway(ctx, &r, c.Gateway); err != nil {
				return err
			}
		}
		if c.Routes != nil {
			if err := s.checkRoutes(ctx, &r, *c.Routes); err != nil {
				return err
			}
			if _, err := s.routers.Update(ctx, id, func(x *Router) error { x.Routes = *c.Routes; return nil }); err != nil {
				return err
			}
		}
		if c.Routes != nil || c.AdminUp != nil {
			if err := s.settleRouter(ctx, id, ""); err != nil {
				return err
			}
		}
		if out, err = s.routers.Get(ctx, id); err != nil {
			return err
		}
		return s.emit(ctx, "router.update.end", &out.Std)
	})
	return out, err
}

// checkRoutes refuses next hops that the router can't reach directly.
func (s *Service) checkRoutes(ctx context.Context, r *Router, routes []Route) error {
	legs, err := s.legs(ctx, r.ID)
	if err != nil {
		return err
	}
	var nets []string
	own := map[string]bool{}
	for _, l := range legs {
		nets = append(nets, l.NetworkID)
		for _, f := range l.FixedIPs {
			own[f.Address] = true
		}
	}
	subs, err := s.subnets.Where(ctx, store.In("network_id", nets))
	if err != nil {
		return err
	}
	for i, rt := range routes {
		switch {
		case slices.Contains(routes[:i], rt):
			return nacre.Errorf(nacre.Invalid, "HTTPBadRequest", "Invalid input for routes. Reason: Duplicate hostroute '%s'.", rt.Destination)
		case !slices.ContainsFunc(subs, func(sn Subnet) bool { return sn.Prefix().Contains(rt.NextHop) }):
			return nacre.Errorf(nacre.Invalid, "InvalidRoutes", "Invalid format for routes: %s, the nexthop is not connected with router", rt.NextHop)
		case own[rt.NextHop.String()]:
			return nacre.Errorf(nacre.Invalid, "InvalidRoutes", "Invalid format for routes: %s, the nexthop is used by router", rt.NextHop)
		}
	}
	return nil
}

// DeleteRouter removes a router that has no interfaces.
func (s *Service) DeleteRouter(ctx context.Context, id string) error {
	r, err := s.Router(ctx, id)
	if err != nil {
		return err
	}
	if err := s.enforce(ctx, "delete_router", ownTarget(&r.Std)); err != nil {
		return err
	}
	return s.tx(ctx, func(ctx context.Context) error {
		if err := store.Lock(ctx, s.c.Engine, "router/"+id); err != nil {
			return err
		}
		r, err := s.routers.GetForUpdate(ctx, id)
		if err != nil {
			return store.WrapNotFound(err, func() *nacre.Error { return routerNotFound(id) })
		}
		used, err := s.ports.Exists(ctx, store.Eq("device_id", id), store.Eq("device_owner", OwnerRouter))
		if err != nil {
			return err
		}
		if used {
			return nacre.Errorf(nacre.Conflict, "RouterInUse", "Router %s still has ports", id)
		}
		if r.GatewayPortID != "" {
			if err := s.setGateway(ctx, &r, &GatewayChange{Clear: true}); err != nil {
				return err
			}
		}
		if err := s.remove(ctx, dataplane.KindRouter, id, ""); err != nil {
			return err
		}
		if err := s.setTags(ctx, id, nil); err != nil {
			return err
		}
		if err := s.routers.Delete(ctx, id); err != nil {
			return err
		}
		return s.emit(ctx, "router.delete.end", &r.Std)
	})
}

// Interface is a router's leg, as add and remove answer it.
type Interface struct {
	RouterID, ProjectID, PortID, NetworkID, SubnetID string
	SubnetIDs                                        []string
}

// AddInterface connects a router to a subnet (at its gateway address), or to the
// network of a port.
func (s *Service) AddInterface(ctx context.Context, id, subnet, port string) (Interface, error) {
	r, err := s.Router(ctx, id)
	if err != nil {
		return Interface{}, err
	}
	if err := s.enforce(ctx, "add_router_interface", ownTarget(&r.Std)); err != nil {
		return Interface{}, err
	}
	if (subnet == "") == (port == "") {
		msg := "Either subnet_id or port_id must be specified"
		if subnet != "" {
			msg = "Cannot specify both subnet-id and port-id"
		}
		return Interface{}, nacre.Errorf(nacre.Invalid, "BadRequest", "Bad router request: %s.", msg)
	}
	var out Interface
	err = s.tx(ctx, func(ctx context.Context) error {
		if err := store.Lock(ctx, s.c.Engine, "router/"+id); err != nil {
			return err
		}
		if _, err := s.routers.GetForUpdate(ctx, id); err != nil {
			return store.WrapNotFound(err, func() *nacre.Error { return routerNotFound(id) })
		}
		var p Port
		var err error
		if subnet != "" {
			p, err = s.addBySubnet(ctx, &r, subnet)
		} else {
			p, err = s.addByPort(ctx, &r, port)
		}
		if err != nil {
			return err
		}
		out = interfaceOf(&r, &p)
		return s.settleRouter(ctx, id, "")
	})
	return out, err
}

func interfaceOf(r *Router, p *Port) Interface {
	i := Interface{RouterID: r.ID, ProjectID: r.ProjectID, PortID: p.ID, NetworkID: p.NetworkID}
	for _, f := range p.FixedIPs {
		i.SubnetIDs = append(i.SubnetIDs, f.SubnetID)
	}
	if len(i.SubnetIDs) > 0 {
		i.SubnetID = i.SubnetIDs[0]
	}
	return i
}

// noOverlap refuses a second leg into the same addresses.
func (s *Service) noOverlap(ctx context.Context, r *Router, sn *Subnet) error {
	legs, err := s.legs(ctx, r.ID)
	if err != nil {
		return err
	}
	var ids []string
	for _, l := range legs {
		for _, f := range l.FixedIPs {
			if f.SubnetID == sn.ID && l.DeviceOwner == OwnerRouter {
				return nacre.Errorf(nacre.Invalid, "BadRequest", "Bad router request: Router already has a port on subnet %s.", sn.ID)
			}
			ids = append(ids, f.SubnetID)
		}
	}
	others, err := s.subnets.Where(ctx, store.In("id", ids))
	if err != nil {
		return err
	}
	for i := range others {
		if others[i].ID != sn.ID && others[i].Prefix().Overlaps(sn.Prefix()) {
			return nacre.Errorf(nacre.Invalid, "BadRequest", "Bad router request: Cidr %s of subnet %s overlaps with cidr %s of subnet %s.", sn.CIDR, sn.ID, others[i].CIDR, others[i].ID)
		}
	}
	return nil
}

func (s *Service) addBySubnet(ctx context.Context, r *Router, id string) (Port, error) {
	sn, err := s.Subnet(ctx, id)
	if err != nil {
		return Port{}, err
	}
	if sn.Gateway == "" {
		return Port{}, nacre.Errorf(nacre.Invalid, "BadRequest", "Bad router request: Subnet for router interface must have a gateway IP.")
	}
	n, err := s.networks.Get(ctx, sn.NetworkID)
	if err != nil {
		return Port{}, err
	}
	if n.External && n.ProjectID != r.ProjectID && !n.Shared && !nacre.CallerFrom(ctx).HasRole("admin") {
		return Port{}, subnetNotFound(id)
	}
	if err := s.noOverlap(ctx, r, &sn); err != nil {
		return Port{}, err
	}
	return s.insertPort(ctx, NewPort{Port: Port{Std: Std{ProjectID: r.ProjectID}, NetworkID: n.ID, AdminUp: true, DeviceOwner: OwnerRouter, DeviceID: r.ID},
		FixedIPs: []FixedIP{{SubnetID: sn.ID, Address: sn.Gateway}}}, &n)
}

func (s *Service) addByPort(ctx context.Context, r *Router, id string) (Port, error) {
	p, err := s.Port(ctx, id)
	if err != nil {
		return p, err
	}
	switch {
	case p.DeviceID != "" && p.DeviceID != r.ID || p.DeviceOwner == OwnerRouter:
		return p, nacre.Errorf(nacre.Conflict, "PortInUse", "Unable to complete operation on port %s for network %s. Port already has an attached device %s.", p.ID, p.NetworkID, p.DeviceID)
	case len(p.FixedIPs) == 0:
		return p, nacre.Errorf(nacre.Invalid, "BadRequest", "Bad router request: Router port must have at least one fixed IP.")
	}
	for _, f := range p.FixedIPs {
		sn, err := s.subnets.Get(ctx, f.SubnetID)
		if err != nil {
			return p, err
		}
		if err := s.noOverlap(ctx, r, &sn); err != nil {
			return p, err
		}
	}
	n, err := s.networks.Get(ctx, p.NetworkID)
	if err != nil {
		return p, err
	}
	owner, none, off := OwnerRouter, []string{}, false
	return s.changePort(ctx, id, &n, PortChange{DeviceID: &r.ID, DeviceOwner: &owner, SecurityGroups: &none, PortSecurity: &off})
}

// RemoveInterface takes a router's leg away.
func (s *Service) RemoveInterface(ctx context.Context, id, subnet, port string) (Interface, error) {
	r, err := s.Router(ctx, id)
	if err != nil {
		return Interface{}, err
	}
	if err := s.enforce(ctx, "remove_router_interface", ownTarget(&r.Std)); err != nil {
		return Interface{}, err
	}
	if subnet == "" && port == "" {
		return Interface{}, nacre.Errorf(nacre.Invalid, "BadRequest", "Bad router request: Either subnet_id or port_id must be specified.")
	}
	var out Interface
	err = s.tx(ctx, func(ctx context.Context) error {
		if err := store.Lock(ctx, s.c.Engine, "router/"+id); err != nil {
			return err
		}
		legs, err := s.ports.Where(ctx, store.Eq("device_id", id), store.Eq("device_owner", OwnerRouter))
		if err != nil {
			return err
		}
		i := slices.IndexFunc(legs, func(p Port) bool {
			return (port == "" || p.ID == port) && (subnet == "" || slices.ContainsFunc(p.FixedIPs, func(f FixedIP) bool { return f.SubnetID == subnet }))
		})
		if i < 0 {
			if port == "" {
				if _, err := s.Subnet(ctx, subnet); err != nil {
					return err
				}
				return nacre.Errorf(nacre.NotFound, "RouterInterfaceNotFoundForSubnet", "Router %s has no interface on subnet %s", id, subnet)
			}
			return nacre.Errorf(nacre.NotFound, "RouterInterfaceNotFound", "Router %s does not have an interface with id %s", id, port)
		}
		leg := legs[i]
		out = interfaceOf(&r, &leg)
		if subnet != "" {
			out.SubnetID = subnet
		}
		for _, sid := range out.SubnetIDs {
			if err := s.legNeeded(ctx, &r, sid); err != nil {
				return err
			}
		}
		if err := s.dropPort(ctx, leg.ID, leg.NetworkID); err != nil {
			return err
		}
		return s.settleRouter(ctx, id, leg.NetworkID)
	})
	return out, err
}

// legNeeded refuses to take away a leg that a floating IP or a route needs.
func (s *Service) legNeeded(ctx context.Context, r *Router, subnet string) error {
	used, err := s.floatingips.Exists(ctx, store.Eq("router_id", r.ID), store.InSelect("port_id", s.allocations, "port_id", store.Eq("subnet_id", subnet)))
	if err != nil {
		return err
	}
	if used {
		return nacre.Errorf(nacre.Conflict, "RouterInterfaceInUseByFloatingIP", "Router interface for subnet %s on router %s cannot be deleted, as it is required by one or more floating IPs.", subnet, r.ID)
	}
	sn, err := s.subnets.Get(ctx, subnet)
	if err != nil {
		return err
	}
	now, err := s.routers.Get(ctx, r.ID)
	if err != nil {
		return err
	}
	for _, rt := range now.Routes {
		if sn.Prefix().Contains(rt.NextHop) {
			return nacre.Errorf(nacre.Conflict, "RouterInterfaceInUseByRoute", "Router interface for subnet %s on router %s cannot be deleted, as it is required by one or more routes.", subnet, r.ID)
		}
	}
	return nil
}

// routerFor finds the router of a gateway network that leads to an address.
func (s *Service) routerFor(ctx context.Context, p *Port, fixed, external string) (string, error) {
	i := slices.IndexFunc(p.FixedIPs, func(f FixedIP) bool { return f.Address == fixed })
	if i < 0 {
		return "", nacre.Errorf(nacre.Invalid, "BadRequest", "Bad floatingip request: Port %s does not have fixed ip %s.", p.ID, fixed)
	}
	legs, err := s.ports.Where(ctx, store.Eq("network_id", p.NetworkID), store.Eq("device_owner", OwnerRouter))
	if err != nil {
		return "", err
	}
	slices.SortStableFunc(legs, func(a, b Port) int { return a.Created.Compare(b.Created) })
	for _, l := range legs {
		if !slices.ContainsFunc(l.FixedIPs, func(f FixedIP) bool { return f.SubnetID == p.FixedIPs[i].SubnetID }) {
			continue
		}
		ok, err := s.routers.Exists(ctx, store.Eq("id", l.DeviceID), store.Eq("gateway_network_id", external))
		if err != nil || ok {
			return l.DeviceID, err
		}
	}
	return "", nacre.Errorf(nacre.NotFound, "ExternalGatewayForFloatingIPNotFound", "External network %s is not reachable from subnet %s. Therefore, cannot associate Port %s with a Floating IP.", external, p.FixedIPs[i].SubnetID, p.ID)
}
