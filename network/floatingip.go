package network

import (
	"cmp"
	"context"
	"slices"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/store"
)

func floatingIPNotFound(id string) *nacre.Error {
	return missing("Floating IP", "FloatingIPNotFound", id)
}

var floatingIPColumns = columns(map[string]string{"floating_network_id": "floating_network_id", "floating_ip_address": "floating_ip_address", "port_id": "port_id",
	"fixed_ip_address": "fixed_ip_address", "router_id": "router_id", "status": "status"})

// FloatingIPs lists the caller's floating IPs.
func (s *Service) FloatingIPs(ctx context.Context, q nacre.Query) ([]FloatingIP, error) {
	w, _, err := s.own(ctx)
	if err != nil {
		return nil, err
	}
	return list(ctx, s, s.floatingips, q, w, floatingIPColumns, nil)
}

// FloatingIP is one floating IP of the caller's.
func (s *Service) FloatingIP(ctx context.Context, id string) (FloatingIP, error) {
	w, _, err := s.own(ctx)
	if err != nil {
		return FloatingIP{}, err
	}
	f, err := s.floatingips.One(ctx, store.Eq("id", id), w)
	return f, store.WrapNotFound(err, func() *nacre.Error { return floatingIPNotFound(id) })
}

// FloatingIPPorts are the ports that floating IPs lead to, for port_details.
func (s *Service) FloatingIPPorts(ctx context.Context, fs ...FloatingIP) (map[string]Port, error) {
	var ids []string
	for _, f := range fs {
		if f.PortID != "" {
			ids = append(ids, f.PortID)
		}
	}
	out := map[string]Port{}
	if len(ids) == 0 {
		return out, nil
	}
	ps, err := s.ports.Where(ctx, store.In("id", ids))
	for _, p := range ps {
		out[p.ID] = p
	}
	return out, err
}

// CreateFloatingIP takes an address of an external network, and leads it to a
// port when one is named. subnet restricts where the address comes from.
func (s *Service) CreateFloatingIP(ctx context.Context, f FloatingIP, subnet string) (FloatingIP, error) {
	c, err := s.caller(ctx)
	if err != nil {
		return f, err
	}
	if f.ProjectID == "" {
		f.ProjectID = c.ProjectID
	}
	if err := s.enforce(ctx, "create_floatingip", ownTarget(&f.Std)); err != nil {
		return f, err
	}
	if f.Address != "" {
		if err := s.enforce(ctx, "create_floatingip:floating_ip_address", ownTarget(&f.Std)); err != nil {
			return f, err
		}
	}
	n, err := s.Network(ctx, f.NetworkID)
	if err != nil {
		return f, err
	}
	if !n.External {
		return f, nacre.Errorf(nacre.Invalid, "BadRequest", "Bad floatingip request: Network %s is not a valid external network.", n.ID)
	}
	var led Port
	err = s.tx(ctx, func(ctx context.Context) error {
		if err := s.reserve(ctx, "floatingip", f.ProjectID, 1, func(ctx context.Context) (int64, error) {
			return s.floatingips.Count(ctx, store.Eq("project_id", f.ProjectID))
		}); err != nil {
			return err
		}
		x := f
		s.fresh(ctx, &x.Std)
		x.ProjectID = f.ProjectID
		var want []FixedIP
		if f.Address != "" || subnet != "" {
			want = []FixedIP{{SubnetID: subnet, Address: f.Address}}
		}
		p, err := s.insertPort(ctx, NewPort{Port: Port{NetworkID: n.ID, AdminUp: true, DeviceOwner: OwnerFloatingIP, DeviceID: x.ID}, FixedIPs: want}, &n)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(p.FixedIPs, func(a FixedIP) bool { return addr(a.Address).Is4() })
		if i < 0 {
			return nacre.Errorf(nacre.Invalid, "ExternalIpAddressExhausted", "Unable to find any IP address on external network %s.", n.ID)
		}
		x.Address, x.ExternalPortID, x.Status = p.FixedIPs[i].Address, p.ID, Down
		x.PortID, x.FixedIP = "", ""
		if err := s.floatingips.Insert(ctx, x); err != nil {
			return err
		}
		if f.PortID != "" {
			if x, led, err = s.lead(ctx, x.ID, f.PortID, f.FixedIP); err != nil {
				return err
			}
		}
		f = x
		return s.emit(ctx, "floatingip.create.end", &x.Std)
	})
	if err == nil {
		s.tellPort(ctx, NetworkChanged, &led)
	}
	return f, err
}

// lead leads a floating IP to a port; in the caller's transaction. It returns the
// port.
func (s *Service) lead(ctx context.Context, id, port, fixed string) (FloatingIP, Port, error) {
	f, err := s.floatingips.GetForUpdate(ctx, id)
	if err != nil {
		return f, Port{}, err
	}
	// One at a time: an address has one floating IP on a network at most.
	if err := store.Lock(ctx, s.c.Engine, "port-floating/"+port); err != nil {
		return f, Port{}, err
	}
	p, err := s.Port(ctx, port)
	if err != nil {
		return f, Port{}, err
	}
	if c := nacre.CallerFrom(ctx); p.ProjectID != f.ProjectID && !c.HasRole("admin") {
		return f, Port{}, nacre.Errorf(nacre.Invalid, "BadRequest", "Bad floatingip request: Port %s is associated with a different tenant than Floating IP %s and therefore cannot be bound.", port, id)
	}
	if fixed == "" {
		for _, a := range p.FixedIPs {
			if addr(a.Address).Is4() {
				if fixed != "" {
					return f, Port{}, nacre.Errorf(nacre.Invalid, "BadRequest", "Bad floatingip request: Port %s has multiple fixed IPv4 addresses. Must provide a specific IPv4 address when assigning a floating IP.", port)
				}
				fixed = a.Address
			}
		}
		if fixed == "" {
			return f, Port{}, nacre.Errorf(nacre.Invalid, "BadRequest", "Bad floatingip request: Cannot add floating IP to port %s that has no fixed IPv4 addresses.", port)
		}
	}
	taken, err := s.floatingips.One(ctx, store.Eq("port_id", port), store.Eq("fixed_ip_address", fixed), store.Eq("floating_network_id", f.NetworkID), store.Not(store.Eq("id", id)))
	if err == nil {
		return f, Port{}, nacre.Errorf(nacre.Conflict, "FloatingIPPortAlreadyAssociated", "Cannot associate floating IP %s (%s) with port %s using fixed IP %s, as that fixed IP already has a floating IP on external network %s.", f.Address, taken.ID, port, fixed, f.NetworkID)
	}
	if !isGone(err) {
		return f, Port{}, err
	}
	router, err := s.routerFor(ctx, &p, fixed, f.NetworkID)
	if err != nil {
		return f, Port{}, err
	}
	// Its gateway and legs stay while it is held; look again for what went before.
	if err := store.Lock(ctx, s.c.Engine, "router/"+router); err != nil {
		return f, Port{}, err
	}
	if again, err := s.routerFor(ctx, &p, fixed, f.NetworkID); err != nil || again != router {
		return f, Port{}, cmp.Or(err, store.ErrRaced)
	}
	before := f.RouterID
	if f, err = s.floatingips.Update(ctx, id, func(x *FloatingIP) error {
		x.PortID, x.FixedIP, x.RouterID, x.Status = port, fixed, router, Down
		touched(&x.Std)
		return nil
	}); err != nil {
		return f, Port{}, err
	}
	for _, r := range slices.Compact([]string{before, router}) {
		if r != "" {
			if err := s.settleRouter(ctx, r, ""); err != nil {
				return f, Port{}, err
			}
		}
	}
	return f, p, nil
}

// looseFloatingIPs has floating IPs lead nowhere; in the caller's transaction.
func (s *Service) looseFloatingIPs(ctx context.Context, w store.Where) error {
	fs, err := s.floatingips.Where(ctx, w)
	if err != nil {
		return err
	}
	for _, f := range fs {
		if _, err := s.floatingips.Update(ctx, f.ID, func(x *FloatingIP) error {
			x.PortID, x.FixedIP, x.RouterID, x.Status = "", "", "", Down
			touched(&x.Std)
			return nil
		}); err != nil {
			return err
		}
		if f.RouterID != "" {
			if err := s.settleRouter(ctx, f.RouterID, ""); err != nil {
				return err
			}
		}
	}
	return nil
}

// FloatingIPChange is what may change; nil leaves it. An empty PortID leads it
// nowhere.
type FloatingIPChange struct {
	PortID, FixedIP, Description *string
	Tags                         func(*Std) error
}

// UpdateFloatingIP changes where a floating IP leads.
func (s *Service) UpdateFloatingIP(ctx context.Context, id string, c FloatingIPChange) (FloatingIP, error) {
	old, err := s.FloatingIP(ctx, id)
	if err != nil {
		return old, err
	}
	if err := s.enforce(ctx, "update_floatingip", ownTarget(&old.Std)); err != nil {
		return old, err
	}
	var out FloatingIP
	var touch []Port
	err = s.tx(ctx, func(ctx context.Context) error {
		touch = nil
		var err error
		out, err = s.floatingips.Update(ctx, id, func(f *FloatingIP) error {
			if err := s.expected(ctx, &f.Std); err != nil {
				return err
			}
			if c.Description != nil {
				f.Description = *c.Description
			}
			if c.Tags != nil {
				if err := c.Tags(&f.Std); err != nil {
					return err
				}
			}
			touched(&f.Std)
			return nil
		})
		if err != nil {
			return store.WrapNotFound(err, func() *nacre.Error { return floatingIPNotFound(id) })
		}
		if c.PortID == nil && c.FixedIP == nil {
			return nil
		}
		if old.PortID != "" {
			p, err := s.ports.Get(ctx, old.PortID)
			if err != nil && !isGone(err) {
				return err
			}
			touch = append(touch, p)
		}
		port, fixed := old.PortID, ""
		if c.PortID != nil {
			port = *c.PortID
		}
		if c.FixedIP != nil {
			fixed = *c.FixedIP
		}
		if port == "" {
			if fixed != "" {
				return nacre.Errorf(nacre.Invalid, "BadRequest", "Bad floatingip request: fixed_ip_address cannot be specified without a port_id.")
			}
			if err := s.looseFloatingIPs(ctx, store.Eq("id", id)); err != nil {
				return err
			}
			out, err = s.floatingips.Get(ctx, id)
			return err
		}
		var led Port
		if out, led, err = s.lead(ctx, id, port, fixed); err != nil {
			return err
		}
		if led.ID != old.PortID {
			touch = append(touch, led)
		}
		return s.emit(ctx, "floatingip.update.end", &out.Std)
	})
	if err == nil {
		for i := range touch {
			s.tellPort(ctx, NetworkChanged, &touch[i])
		}
	}
	return out, err
}

// DeleteFloatingIP gives the address back.
func (s *Service) DeleteFloatingIP(ctx context.Context, id string) error {
	f, err := s.FloatingIP(ctx, id)
	if err != nil {
		return err
	}
	if err := s.enforce(ctx, "delete_floatingip", ownTarget(&f.Std)); err != nil {
		return err
	}
	var led Port
	err = s.tx(ctx, func(ctx context.Context) error {
		led = Port{}
		f, err := s.floatingips.GetForUpdate(ctx, id)
		if err != nil {
			return store.WrapNotFound(err, func() *nacre.Error { return floatingIPNotFound(id) })
		}
		if f.PortID != "" {
			if p, err := s.ports.Get(ctx, f.PortID); err == nil {
				led = p
			}
		}
		return s.dropFloatingIP(ctx, &f)
	})
	if err == nil {
		s.tellPort(ctx, NetworkChanged, &led)
	}
	return err
}

// dropFloatingIP removes a floating IP with its port; in the caller's transaction.
func (s *Service) dropFloatingIP(ctx context.Context, f *FloatingIP) error {
	if err := s.floatingips.Delete(ctx, f.ID); err != nil {
		return err
	}
	if err := s.setTags(ctx, f.ID, nil); err != nil {
		return err
	}
	if err := s.dropPort(ctx, f.ExternalPortID, f.NetworkID); err != nil && nacre.KindOf(err) != nacre.NotFound {
		return err
	}
	if f.RouterID != "" {
		if err := s.settleRouter(ctx, f.RouterID, ""); err != nil {
			return err
		}
	}
	return s.emit(ctx, "floatingip.delete.end", &f.Std)
}
