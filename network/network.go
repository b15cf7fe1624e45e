package network

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/internal/policy"
	"github.com/nacre-cloud/nacre/network/dataplane"
	"github.com/nacre-cloud/nacre/store"
)

func missing(kind, code, id string) *nacre.Error {
	return nacre.Errorf(nacre.NotFound, code, "%s %s could not be found.", kind, id)
}

func networkNotFound(id string) *nacre.Error { return missing("Network", "NetworkNotFound", id) }

func (s *Service) netTarget(n *Network) policy.Map {
	return policy.Map{"project_id": n.ProjectID, "tenant_id": n.ProjectID, "shared": truth(n.Shared), "router:external": truth(n.External), "network_id": n.ID}
}

func truth(b bool) string {
	if b {
		return "True"
	}
	return "False"
}

// own restricts a list to what the caller's project owns; administrators see all.
func (s *Service) own(ctx context.Context) (store.Where, *nacre.Caller, error) {
	c, err := s.caller(ctx)
	if err != nil {
		return store.Where{}, nil, err
	}
	if c.HasRole("admin") || c.HasRole("service") {
		return store.All(), c, nil
	}
	return store.Eq("project_id", c.ProjectID), c, nil
}

// seenNetworks are the networks that the caller may use.
func (s *Service) seenNetworks(ctx context.Context) (store.Where, error) {
	w, _, err := s.own(ctx)
	if err != nil || w.Op == store.OpAll {
		return w, err
	}
	return store.Or(w, store.Eq("shared", true), store.Eq("external", true)), nil
}

var networkColumns = columns(map[string]string{"admin_state_up": "admin_state_up", "shared": "shared", "router:external": "external", "is_default": "is_default", "status": "status", "mtu": "mtu",
	"provider:network_type": "network_type", "provider:segmentation_id": "segmentation_id", "provider:physical_network": "physical_network", "port_security_enabled": "port_security_enabled", "dns_domain": "dns_domain"})

// Networks lists the networks that the caller may see, with the ids of each one's
// subnets. Two statements, three with a marker.
func (s *Service) Networks(ctx context.Context, q nacre.Query) ([]Network, map[string][]string, error) {
	w, err := s.seenNetworks(ctx)
	if err != nil {
		return nil, nil, err
	}
	ns, err := list(ctx, s, s.networks, q, w, networkColumns, special{
		"subnets": func(v []string) (store.Where, error) {
			return store.InSelect("id", s.subnets, "network_id", store.In("id", v)), nil
		},
	})
	if err != nil {
		return nil, nil, err
	}
	subs, err := s.subnetIDs(ctx, ns)
	return ns, subs, err
}

func (s *Service) subnetIDs(ctx context.Context, ns []Network) (map[string][]string, error) {
	ids := make([]string, len(ns))
	for i := range ns {
		ids[i] = ns[i].ID
	}
	out := map[string][]string{}
	if len(ids) == 0 {
		return out, nil
	}
	subs, err := s.subnets.Where(ctx, store.In("network_id", ids))
	for _, sn := range subs {
		out[sn.NetworkID] = append(out[sn.NetworkID], sn.ID)
	}
	return out, err
}

// Network is one network that the caller may see.
func (s *Service) Network(ctx context.Context, id string) (Network, error) {
	w, err := s.seenNetworks(ctx)
	if err != nil {
		return Network{}, err
	}
	n, err := s.networks.One(ctx, store.Eq("id", id), w)
	return n, store.WrapNotFound(err, func() *nacre.Error { return networkNotFound(id) })
}

// NetworkSubnets are the ids of a network's subnets.
func (s *Service) NetworkSubnets(ctx context.Context, n Network) ([]string, error) {
	m, err := s.subnetIDs(ctx, []Network{n})
	return m[n.ID], err
}

// CreateNetwork makes a network. Type empty is vxlan, with a free VNI.
func (s *Service) CreateNetwork(ctx context.Context, n Network) (Network, error) {
	c, err := s.caller(ctx)
	if err != nil {
		return n, err
	}
	if n.ProjectID == "" {
		n.ProjectID = c.ProjectID
	}
	if err := s.mayNetwork(ctx, "create_network", &n, n.Shared, n.External, n.Default, n.Type != "" || n.Physical != "" || n.Segment != 0); err != nil {
		return n, err
	}
	if err := s.provider(&n); err != nil {
		return n, err
	}
	n.Status = Active
	asked := n
	err = s.tx(ctx, func(ctx context.Context) error {
		n = asked
		if err := s.reserve(ctx, "network", n.ProjectID, 1, func(ctx context.Context) (int64, error) {
			return s.networks.Count(ctx, store.Eq("project_id", n.ProjectID))
		}); err != nil {
			return err
		}
		if _, err := s.defaultGroup(ctx, n.ProjectID); err != nil {
			return err
		}
		s.fresh(ctx, &n.Std)
		if n.Type == "vxlan" && n.Segment == 0 {
			if err := s.freeSegment(ctx, &n); err != nil {
				return err
			}
		}
		if err := s.networks.Insert(ctx, n); err != nil {
			return err
		}
		return s.emit(ctx, "network.create.end", &n.Std)
	})
	switch {
	case store.IsDuplicate(err, "network_segment"):
		err = nacre.Errorf(nacre.Conflict, "TunnelIdInUse", "Unable to create the network. The tunnel ID %d is in use.", n.Segment)
	case store.IsDuplicate(err, "network_physical"):
		err = nacre.Errorf(nacre.Conflict, "FlatNetworkInUse", "Unable to create the flat network. Physical network %s is in use.", n.Physical)
	}
	return n, err
}

// mayNetwork enforces the rules of what is special about a network.
func (s *Service) mayNetwork(ctx context.Context, rule string, n *Network, shared, external, def, provider bool) error {
	t := s.netTarget(n)
	if err := s.enforce(ctx, rule, t); err != nil {
		return err
	}
	for name, on := range map[string]bool{":shared": shared, ":router:external": external, ":is_default": def, ":provider:network_type": provider} {
		if on {
			if err := s.enforce(ctx, rule+name, t); err != nil {
				return err
			}
		}
	}
	return nil
}

// provider validates and completes the provider attributes.
func (s *Service) provider(n *Network) error {
	bad := func(format string, args ...any) error {
		return nacre.Errorf(nacre.Invalid, "InvalidInput", "Invalid input for operation: "+format+".", args...)
	}
	if n.Type == "" {
		if n.Physical != "" || n.Segment != 0 {
			return bad("network_type required")
		}
		n.Type = "vxlan"
	}
	mtu := s.c.MTU
	switch n.Type {
	case "flat":
		switch {
		case n.Physical == "":
			return bad("physical_network required for flat provider network")
		case !slices.Contains(s.c.Physical, n.Physical):
			return bad("physical_network '%s' unknown for flat provider network", n.Physical)
		case n.Segment != 0:
			return bad("segmentation_id prohibited for flat provider network")
		}
	case "local":
		if n.Physical != "" || n.Segment != 0 {
			return bad("physical_network and segmentation_id prohibited for local provider network")
		}
	case "vxlan":
		if n.Physical != "" {
			return bad("physical_network specified for vxlan network")
		}
		if n.Segment < 0 || n.Segment > 1<<24-1 {
			return bad("segmentation_id out of range (1 through 16777215)")
		}
		mtu -= 50
	default:
		return bad("network_type value '%s' not supported: no driver of this cloud serves it; flat, local and vxlan are", n.Type)
	}
	if n.MTU == 0 {
		n.MTU = mtu
	}
	if n.MTU > mtu {
		return bad("MTU %d is larger than the %d bytes that a %s network can carry", n.MTU, mtu, n.Type)
	}
	if n.MTU < 68 {
		return bad("MTU %d is too small", n.MTU)
	}
	return nil
}

// freeSegment takes a VNI that nobody has. They are drawn at random out of 24
// bits; a clash with a concurrent request meets the unique index.
func (s *Service) freeSegment(ctx context.Context, n *Network) error {
	for range 20 {
		vni := rand.IntN(1<<24-2) + 1
		used, err := s.networks.Exists(ctx, store.Eq("network_type", "vxlan"), store.Eq("segmentation_id", vni))
		if err != nil {
			return err
		}
		if !used {
			n.Segment = vni
			return nil
		}
	}
	return nacre.Errorf(nacre.Unavailable, "NoNetworkAvailable", "Unable to create the network. No available network found in maximum allowed attempts.")
}

// UpdateNetwork changes a network by fn.
func (s *Service) UpdateNetwork(ctx context.Context, id string, fn func(*Network) error) (Network, error) {
	old, err := s.Network(ctx, id)
	if err != nil {
		return old, err
	}
	if err := s.enforce(ctx, "update_network", s.netTarget(&old)); err != nil {
		return old, err
	}
	var out Network
	err = s.tx(ctx, func(ctx context.Context) error {
		n, err := s.networks.Update(ctx, id, func(n *Network) error {
			before := *n
			if err := s.expected(ctx, &n.Std); err != nil {
				return err
			}
			if err := fn(n); err != nil {
				return err
			}
			if before.Type != n.Type || before.Physical != n.Physical || before.Segment != n.Segment {
				return nacre.Errorf(nacre.Invalid, "InvalidInput", "Invalid input for operation: Plugin does not support updating provider attributes.")
			}
			if n.MTU != before.MTU {
				if err := s.provider(n); err != nil {
					return err
				}
			}
			touched(&n.Std)
			return s.mayNetwork(ctx, "update_network", n, n.Shared != before.Shared, n.External != before.External, n.Default != before.Default, false)
		})
		if err != nil {
			return store.WrapNotFound(err, func() *nacre.Error { return networkNotFound(id) })
		}
		out = n
		if err := s.netInUse(ctx, &old, &n); err != nil {
			return err
		}
		if old.External != n.External {
			if err := store.Lock(ctx, s.c.Engine, "network/"+id); err != nil {
				return err
			}
			if err := s.settleDHCP(ctx, &n); err != nil {
				return err
			}
		}
		if old.AdminUp != n.AdminUp || old.MTU != n.MTU || old.External != n.External || old.Name != n.Name {
			if err := s.changed(ctx, dataplane.KindNetwork, id); err != nil {
				return err
			}
		}
		return s.emit(ctx, "network.update.end", &n.Std)
	})
	return out, err
}

// netInUse refuses to take away what others build on.
func (s *Service) netInUse(ctx context.Context, old, n *Network) error {
	if old.External && !n.External {
		used, err := s.ports.Exists(ctx, store.Eq("network_id", n.ID), store.In("device_owner", []string{OwnerGateway, OwnerFloatingIP}))
		if err != nil {
			return err
		}
		if used {
			return nacre.Errorf(nacre.Conflict, "ExternalNetworkInUse", "External network %s cannot be updated to be made non-external, since it has existing gateway ports.", n.ID)
		}
	}
	if old.Shared && !n.Shared && !n.External {
		used, err := s.ports.Exists(ctx, store.Eq("network_id", n.ID), store.Not(store.Eq("project_id", n.ProjectID)), store.Not(store.Eq("project_id", "")))
		if err != nil {
			return err
		}
		if used {
			return nacre.Errorf(nacre.Conflict, "InvalidSharedSetting", "Unable to reconfigure sharing settings for network %s. Multiple tenants are using it.", n.Name)
		}
	}
	return nil
}

// DeleteNetwork removes a network with its subnets and DHCP port. Others' ports
// on it are NetworkInUse.
func (s *Service) DeleteNetwork(ctx context.Context, id string) error {
	old, err := s.Network(ctx, id)
	if err != nil {
		return err
	}
	if err := s.enforce(ctx, "delete_network", s.netTarget(&old)); err != nil {
		return err
	}
	return s.tx(ctx, func(ctx context.Context) error {
		if err := store.Lock(ctx, s.c.Engine, "network/"+id); err != nil {
			return err
		}
		if _, err := s.networks.GetForUpdate(ctx, id); err != nil {
			return store.WrapNotFound(err, func() *nacre.Error { return networkNotFound(id) })
		}
		// Floating IPs that nobody uses don't hold their network (neutron's
		// delete_disassociated_floatingips).
		loose, err := s.floatingips.Where(ctx, store.Eq("floating_network_id", id), store.Eq("port_id", ""))
		if err != nil {
			return err
		}
		for i := range loose {
			if err := s.dropFloatingIP(ctx, &loose[i]); err != nil {
				return err
			}
		}
		used, err := s.ports.Exists(ctx, store.Eq("network_id", id), store.Not(store.Eq("device_owner", OwnerDHCP)))
		if err != nil {
			return err
		}
		if used {
			return nacre.Errorf(nacre.Conflict, "NetworkInUse", "Unable to complete operation on network %s. There are one or more ports still in use on the network.", id)
		}
		if _, err := s.ports.DeleteWhere(ctx, store.Eq("network_id", id)); err != nil {
			return err
		}
		if _, err := s.allocations.DeleteWhere(ctx, store.Eq("network_id", id)); err != nil {
			return err
		}
		if _, err := s.tags.DeleteWhere(ctx, store.InSelect("object_id", s.subnets, "id", store.Eq("network_id", id))); err != nil {
			return err
		}
		if _, err := s.subnets.DeleteWhere(ctx, store.Eq("network_id", id)); err != nil {
			return err
		}
		if err := s.setTags(ctx, id, nil); err != nil {
			return err
		}
		if err := s.remove(ctx, dataplane.KindNetwork, id, ""); err != nil {
			return err
		}
		if err := s.networks.Delete(ctx, id); err != nil {
			return err
		}
		return s.emit(ctx, "network.delete.end", &old.Std)
	})
}

// isGone reports a row that is not there.
func isGone(err error) bool { return errors.Is(err, store.ErrNoRow) }

func lower(s string) string { return strings.ToLower(strings.TrimSpace(s)) }
