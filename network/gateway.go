package network

import (
	"context"
	"maps"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/store"
)

// GatewayChange is what external_gateway_info asks for.
type GatewayChange struct {
	// Clear takes the gateway away.
	Clear     bool
	NetworkID string
	SNAT      *bool
	FixedIPs  []FixedIP
}

// GatewayPorts are routers' gateway ports, by router.
func (s *Service) GatewayPorts(ctx context.Context, rs ...Router) (map[string]Port, error) {
	var ids []string
	for _, r := range rs {
		if r.GatewayPortID != "" {
			ids = append(ids, r.GatewayPortID)
		}
	}
	out := map[string]Port{}
	if len(ids) == 0 {
		return out, nil
	}
	ps, err := s.ports.Where(ctx, store.In("id", ids))
	for _, p := range ps {
		out[p.DeviceID] = p
	}
	return out, err
}

func (s *Service) mayGateway(ctx context.Context, rule string, r *Router, gw *GatewayChange) error {
	if gw == nil {
		return nil
	}
	if gw.SNAT != nil {
		if err := s.enforce(ctx, rule+":external_gateway_info:enable_snat", ownTarget(&r.Std)); err != nil {
			return err
		}
	}
	if len(gw.FixedIPs) > 0 {
		if err := s.enforce(ctx, rule+":external_gateway_info:external_fixed_ips", ownTarget(&r.Std)); err != nil {
			return err
		}
	}
	return nil
}

// setGateway gives a router a gateway, changes its addresses, or takes it away; in
// the caller's transaction. r is brought up to date.
func (s *Service) setGateway(ctx context.Context, r *Router, gw *GatewayChange) error {
	left := ""
	switch {
	case !gw.Clear && r.GatewayPortID != "" && gw.NetworkID == r.GatewayNetworkID:
		p, err := s.ports.Get(ctx, r.GatewayPortID)
		if err != nil {
			return err
		}
		if otherAddresses(p.FixedIPs, gw.FixedIPs) {
			n, err := s.networks.Get(ctx, r.GatewayNetworkID)
			if err != nil {
				return err
			}
			if _, err := s.changePort(withoutRevision(ctx), r.GatewayPortID, &n, PortChange{FixedIPs: &gw.FixedIPs}); err != nil {
				return err
			}
		}
	default:
		left = r.GatewayNetworkID
		if err := s.dropGateway(ctx, r); err != nil {
			return err
		}
		if !gw.Clear {
			if err := s.makeGateway(ctx, r, gw); err != nil {
				return err
			}
		}
	}
	if gw.SNAT != nil {
		r.SNAT = *gw.SNAT
	} else if gw.Clear {
		r.SNAT = true
	}
	if _, err := s.routers.Update(ctx, r.ID, func(x *Router) error {
		x.GatewayNetworkID, x.GatewayPortID, x.SNAT = r.GatewayNetworkID, r.GatewayPortID, r.SNAT
		return nil
	}); err != nil {
		return err
	}
	return s.settleRouter(ctx, r.ID, left)
}

// otherAddresses reports whether a gateway's addresses are to change. As in neutron
// (_check_for_external_ip_change) only the subnets and the addresses that are named
// count: asking for one more of the same subnet without naming it is no change.
func otherAddresses(have, want []FixedIP) bool {
	if len(want) == 0 {
		return false
	}
	subnets, addresses := map[string]bool{}, map[string]bool{}
	named, chosen := map[string]bool{}, map[string]bool{}
	for _, f := range have {
		subnets[f.SubnetID], addresses[f.Address] = true, true
	}
	for _, f := range want {
		if f.SubnetID != "" {
			named[f.SubnetID] = true
		}
		if f.Address != "" {
			chosen[f.Address] = true
		}
	}
	return !maps.Equal(subnets, named) || !maps.Equal(addresses, chosen)
}

func (s *Service) dropGateway(ctx context.Context, r *Router) error {
	if r.GatewayPortID == "" {
		return nil
	}
	used, err := s.floatingips.Exists(ctx, store.Eq("router_id", r.ID))
	if err != nil {
		return err
	}
	if used {
		return nacre.Errorf(nacre.Conflict, "RouterExternalGatewayInUseByFloatingIp", "Gateway cannot be updated for router %s, since a gateway to external network %s is required by one or more floating IPs.", r.ID, r.GatewayNetworkID)
	}
	err = s.dropPort(ctx, r.GatewayPortID, r.GatewayNetworkID)
	r.GatewayPortID, r.GatewayNetworkID = "", ""
	return err
}

func (s *Service) makeGateway(ctx context.Context, r *Router, gw *GatewayChange) error {
	n, err := s.Network(ctx, gw.NetworkID)
	if err != nil {
		return err
	}
	if !n.External {
		return nacre.Errorf(nacre.Invalid, "BadRequest", "Bad router request: Network %s is not an external network.", n.ID)
	}
	p, err := s.insertPort(ctx, NewPort{Port: Port{NetworkID: n.ID, AdminUp: true, DeviceOwner: OwnerGateway, DeviceID: r.ID}, FixedIPs: gw.FixedIPs}, &n)
	if err != nil {
		return err
	}
	if len(p.FixedIPs) == 0 {
		return nacre.Errorf(nacre.Invalid, "BadRequest", "Bad router request: No IPs available for external network %s.", n.ID)
	}
	for _, f := range p.FixedIPs {
		sn, err := s.subnets.Get(ctx, f.SubnetID)
		if err != nil {
			return err
		}
		if err := s.noOverlap(ctx, r, &sn); err != nil {
			return err
		}
	}
	r.GatewayPortID, r.GatewayNetworkID = p.ID, n.ID
	return nil
}
