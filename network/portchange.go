package network

import (
	"context"
	"slices"
	"strings"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/store"
)

// PortChange is what may change about a port; nil leaves it.
type PortChange struct {
	Name, Description, DeviceID, DeviceOwner, MAC, Host, VNICType, DNSName *string
	AdminUp, PortSecurity, Trusted                                         *bool
	FixedIPs                                                               *[]FixedIP
	SecurityGroups                                                         *[]string
	Pairs                                                                  *[]Pair
	DHCPOptions                                                            *[]DHCPOption
	Profile                                                                *map[string]any
	// Tags changes the standard attributes alone.
	Tags func(*Std) error
}

// UpdatePort changes a port.
func (s *Service) UpdatePort(ctx context.Context, id string, c PortChange) (Port, error) {
	old, err := s.Port(ctx, id)
	if err != nil {
		return old, err
	}
	n, err := s.networks.Get(ctx, old.NetworkID)
	if err != nil {
		return old, err
	}
	t := s.portTarget(&old, &n)
	if err := s.enforce(ctx, "update_port", t); err != nil {
		return old, err
	}
	withIP := c.FixedIPs != nil && slices.ContainsFunc(*c.FixedIPs, func(f FixedIP) bool { return f.Address != "" })
	for name, on := range map[string]bool{":mac_address": c.MAC != nil, ":fixed_ips": c.FixedIPs != nil, ":fixed_ips:ip_address": withIP, ":binding:host_id": c.Host != nil, ":binding:profile": c.Profile != nil && len(*c.Profile) > 0,
		":port_security_enabled": c.PortSecurity != nil, ":allowed_address_pairs": c.Pairs != nil, ":device_owner": c.DeviceOwner != nil && strings.HasPrefix(*c.DeviceOwner, "network:"), ":trusted": c.Trusted != nil} {
		if on {
			if err := s.enforce(ctx, "update_port"+name, t); err != nil {
				return old, err
			}
		}
	}
	var out Port
	err = s.tx(ctx, func(ctx context.Context) error {
		var err error
		out, err = s.changePort(ctx, id, &n, c)
		return err
	})
	if err == nil && c.Tags == nil {
		s.tellPort(ctx, NetworkChanged, &out)
	}
	return out, err
}

// changePort does what UpdatePort does, in the caller's transaction and without
// asking policy.
func (s *Service) changePort(ctx context.Context, id string, n *Network, c PortChange) (Port, error) {
	if err := s.holdNetwork(ctx, n.ID); err != nil {
		return Port{}, err
	}
	old, err := s.ports.GetForUpdate(ctx, id)
	if err != nil {
		return old, store.WrapNotFound(err, func() *nacre.Error { return portNotFound(id) })
	}
	if err := s.expected(ctx, &old.Std); err != nil {
		return old, err
	}
	p := old
	for _, f := range []struct{ to, from *string }{{&p.Name, c.Name}, {&p.Description, c.Description}, {&p.DeviceID, c.DeviceID}, {&p.DeviceOwner, c.DeviceOwner}, {&p.MAC, c.MAC}, {&p.Host, c.Host}, {&p.VNICType, c.VNICType}, {&p.DNSName, c.DNSName}} {
		if f.from != nil {
			*f.to = *f.from
		}
	}
	if c.AdminUp != nil {
		p.AdminUp = *c.AdminUp
	}
	if c.DHCPOptions != nil {
		p.DHCPOptions = *c.DHCPOptions
	}
	if c.Tags != nil {
		if err := c.Tags(&p.Std); err != nil {
			return p, err
		}
	}
	secured := p.PortSecurity
	in := NewPort{SecurityGroups: p.SecurityGroups, PortSecurity: &secured, Trusted: c.Trusted}
	if c.SecurityGroups != nil {
		in.SecurityGroups = *c.SecurityGroups
		if in.SecurityGroups == nil {
			in.SecurityGroups = []string{}
		}
	}
	if c.PortSecurity != nil {
		if in.PortSecurity = c.PortSecurity; !*c.PortSecurity && c.SecurityGroups == nil && len(p.SecurityGroups) > 0 {
			return p, nacre.Errorf(nacre.Conflict, "PortSecurityPortHasSecurityGroup", "Port has security group associated. Cannot disable port security or IP address until security group is removed.")
		}
	}
	if c.Pairs != nil {
		p.Pairs = *c.Pairs
	}
	status := p.Status
	if err := s.completePort(ctx, &in, &p, n); err != nil {
		return p, err
	}
	if p.Status = status; p.Host != old.Host {
		p.Status = Down
		if p.BindingFailed, err = s.unbindable(ctx, &p); err != nil {
			return p, err
		}
		p.Inactive = withoutBinding(p.Inactive, p.Host)
	}
	if p.Host == "" || p.DeviceID != old.DeviceID {
		p.Inactive = nil
	}
	if p.DeviceID != old.DeviceID {
		// Whose it was is no longer so; compute says it again when it attaches it.
		p.Served, p.Made, p.NICIndex, p.NICTag = false, false, 0, ""
	}
	if c.Profile != nil {
		if err := p.takeProfile(*c.Profile); err != nil {
			return p, err
		}
	}
	if c.MAC != nil && p.MAC != old.MAC {
		if old.Host != "" {
			return p, nacre.Errorf(nacre.Conflict, "PortBound", "Unable to complete operation on port %s, port is already bound, port type: tap, old_mac %s, new_mac %s.", id, old.MAC, p.MAC)
		}
		if err := s.claimMAC(ctx, &p); err != nil {
			return p, err
		}
	}
	if c.FixedIPs != nil {
		if err := s.readdress(ctx, &p, n, *c.FixedIPs); err != nil {
			return p, err
		}
	}
	return s.savePort(ctx, &old, p)
}

// savePort writes a changed port and has whom it concerns told, in the caller's
// transaction, which holds the old one.
func (s *Service) savePort(ctx context.Context, old *Port, p Port) (Port, error) {
	touched(&p.Std)
	out, err := s.ports.Update(ctx, p.ID, func(x *Port) error {
		gen := max(x.Generation, p.Generation)
		if hostsSeePort(old, &p) {
			gen++
		}
		*x = p
		x.Generation = gen
		return nil
	})
	if err != nil {
		return out, err
	}
	if err := s.join(ctx, old, &out); err != nil {
		return out, err
	}
	if err := s.settlePort(ctx, old, &out); err != nil {
		return out, err
	}
	return out, s.emit(ctx, "port.update.end", &out.Std)
}

// hostsSeePort reports whether a change is one that hosts must hear of. A host that a
// port leaves remembers its generation as gone, so the port goes on with a higher one.
func hostsSeePort(a, b *Port) bool {
	return !slices.Equal(slices.Sorted(slices.Values(carriers(a))), slices.Sorted(slices.Values(carriers(b)))) || a.MAC != b.MAC || a.AdminUp != b.AdminUp || a.DeviceID != b.DeviceID || a.DeviceOwner != b.DeviceOwner || a.PortSecurity != b.PortSecurity || a.DNSName != b.DNSName ||
		!slices.Equal(a.FixedIPs, b.FixedIPs) || !slices.Equal(a.SecurityGroups, b.SecurityGroups) || !slices.Equal(a.Pairs, b.Pairs) || !slices.Equal(a.DHCPOptions, b.DHCPOptions)
}
