package network

import (
	"context"
	"slices"
	"strings"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/network/dataplane"
	"github.com/nacre-cloud/nacre/store"
)

// Binding is a port's binding to one host. A port has one active binding at most,
// which is its binding:host_id, and any number of inactive ones (neutron's
// binding-extended): their hosts wire the port too, so that a guest can move there.
type Binding struct {
	Host     string         `json:"host"`
	VNICType string         `json:"vnic_type"`
	Profile  map[string]any `json:"profile"`
	// Active is set in answers.
	Active bool `json:"-"`
	// Failed says that the host is none that this cloud has.
	Failed bool `json:"-"`
}

func bindingNotFound(port, host string) *nacre.Error {
	return nacre.Errorf(nacre.NotFound, "PortBindingNotFound", "Binding for port %s for host %s could not be found.", port, host)
}

func withoutBinding(bs []Binding, host string) []Binding {
	return slices.DeleteFunc(slices.Clone(bs), func(b Binding) bool { return b.Host == host })
}

// bindings are all bindings of a port, the active one first.
func (p *Port) bindings() []Binding {
	var out []Binding
	if p.Host != "" {
		out = append(out, Binding{Host: p.Host, VNICType: p.VNICType, Profile: p.Profile, Active: true, Failed: p.BindingFailed})
	}
	return append(out, p.Inactive...)
}

func (p *Port) binding(host string) (Binding, error) {
	for _, b := range p.bindings() {
		if b.Host == host {
			return b, nil
		}
	}
	return Binding{}, bindingNotFound(p.ID, host)
}

// bindable enforces a rule, and that a port is one that may have several bindings.
func (s *Service) bindable(ctx context.Context, rule, id string) (Port, error) {
	if err := s.enforce(ctx, rule, nil); err != nil {
		return Port{}, err
	}
	p, err := s.ports.Get(ctx, id)
	if err != nil {
		return p, store.WrapNotFound(err, func() *nacre.Error { return portNotFound(id) })
	}
	if !strings.HasPrefix(p.DeviceOwner, ownerCompute) && !strings.HasPrefix(p.DeviceOwner, "manila:") {
		err = nacre.Errorf(nacre.Invalid, "BadRequest", "Bad port request: Invalid port %s. Operation only valid on compute and shared filesystem ports.", id)
	}
	return p, err
}

// PortBindings are the bindings of a port, the active one first.
func (s *Service) PortBindings(ctx context.Context, port string) ([]Binding, error) {
	p, err := s.bindable(ctx, "get_port_binding", port)
	return p.bindings(), err
}

// PortBinding is a port's binding to a host.
func (s *Service) PortBinding(ctx context.Context, port, host string) (Binding, error) {
	p, err := s.bindable(ctx, "get_port_binding", port)
	if err != nil {
		return Binding{}, err
	}
	return p.binding(host)
}

// CreatePortBinding binds a port to one more host: inactively, unless it is bound
// nowhere.
func (s *Service) CreatePortBinding(ctx context.Context, port string, b Binding) (Binding, error) {
	p, err := s.rebind(ctx, "create_port_binding", port, func(ctx context.Context, p *Port) error {
		if _, err := p.binding(b.Host); err == nil {
			return nacre.Errorf(nacre.Conflict, "PortBindingAlreadyExists", "Binding for port %s on host %s already exists.", port, b.Host)
		}
		return s.addBinding(ctx, p, b)
	})
	if err != nil {
		return Binding{}, err
	}
	return p.binding(b.Host)
}

// addBinding binds a port to a host that it has no binding to.
func (s *Service) addBinding(ctx context.Context, p *Port, b Binding) error {
	if b.Host == "" {
		return nacre.Errorf(nacre.Invalid, "HTTPBadRequest", "Invalid input for host. Reason: '' is not a host.")
	}
	known, err := s.known(ctx, b.Host)
	if err != nil {
		return err
	}
	if !known {
		return nacre.Errorf(nacre.Unavailable, "PortBindingError", "Binding for port %s on host %s could not be created or updated.", p.ID, b.Host)
	}
	if b.VNICType == "" {
		b.VNICType = "normal"
	}
	b.Profile = plainProfile(b.Profile)
	if p.Host == "" {
		p.Host, p.VNICType, p.Profile, p.Status = b.Host, b.VNICType, b.Profile, Down
		return nil
	}
	p.Inactive = append(slices.Clone(p.Inactive), b)
	return nil
}

// BindingChange is what may change about a binding; nil leaves it.
type BindingChange struct {
	VNICType *string
	Profile  *map[string]any
}

// UpdatePortBinding changes a binding.
func (s *Service) UpdatePortBinding(ctx context.Context, port, host string, c BindingChange) (Binding, error) {
	p, err := s.rebind(ctx, "create_port_binding", port, func(_ context.Context, p *Port) error {
		b, err := p.binding(host)
		if err != nil {
			return err
		}
		if c.VNICType != nil {
			b.VNICType = *c.VNICType
		}
		if c.Profile != nil {
			b.Profile = plainProfile(*c.Profile)
		}
		if b.Active {
			p.VNICType, p.Profile = b.VNICType, b.Profile
			return nil
		}
		p.Inactive = slices.Clone(p.Inactive)
		p.Inactive[slices.IndexFunc(p.Inactive, func(x Binding) bool { return x.Host == host })] = b
		return nil
	})
	if err != nil {
		return Binding{}, err
	}
	return p.binding(host)
}

// DeletePortBinding takes away a port's binding to a host. With the active one the
// others go too: the port is bound nowhere then.
func (s *Service) DeletePortBinding(ctx context.Context, port, host string) error {
	_, err := s.rebind(ctx, "delete_port_binding", port, func(_ context.Context, p *Port) error {
		b, err := p.binding(host)
		if err != nil {
			return err
		}
		if b.Active {
			p.Host, p.Inactive, p.BindingFailed, p.Status = "", nil, false, Down
			return nil
		}
		p.Inactive = withoutBinding(p.Inactive, host)
		return nil
	})
	return err
}

// ActivatePortBinding makes an inactive binding the active one, which becomes
// inactive in turn.
func (s *Service) ActivatePortBinding(ctx context.Context, port, host string) (Binding, error) {
	p, err := s.rebind(ctx, "activate", port, func(ctx context.Context, p *Port) error {
		if p.Host == host && host != "" {
			return nacre.Errorf(nacre.Conflict, "PortBindingAlreadyActive", "Binding for port %s on host %s is already active.", port, host)
		}
		return s.activate(ctx, p, host)
	})
	if err != nil {
		return Binding{}, err
	}
	return p.binding(host)
}

// activate swaps a port's active binding for the one to host.
func (s *Service) activate(ctx context.Context, p *Port, host string) error {
	b, err := p.binding(host)
	if err != nil {
		return err
	}
	rest := withoutBinding(p.Inactive, host)
	if p.Host != "" && !p.BindingFailed {
		rest = append(rest, Binding{Host: p.Host, VNICType: p.VNICType, Profile: p.Profile})
	}
	p.Host, p.VNICType, p.Profile, p.Inactive, p.BindingFailed, p.Status = host, b.VNICType, b.Profile, rest, false, Down
	// Its host may have wired it already.
	wired, err := s.places.Exists(ctx, store.Eq("id", placeID(host, dataplane.KindPort, p.ID)), store.Eq("gone", false), store.Eq("pending", false), store.Eq("active", true))
	if wired {
		p.Status = Active
	}
	return err
}

// rebind changes a port's bindings.
func (s *Service) rebind(ctx context.Context, rule, id string, change func(ctx context.Context, p *Port) error) (Port, error) {
	p, err := s.bindable(ctx, rule, id)
	if err != nil {
		return p, err
	}
	err = s.tx(ctx, func(ctx context.Context) error {
		p, err = s.rebindPort(ctx, &p, nil, change)
		return err
	})
	if err == nil {
		s.tellPort(ctx, NetworkChanged, &p)
	}
	return p, err
}

// rebindPort does what rebind does, in the caller's transaction, and if need, unless
// it is nil, says so of the port as it is then.
func (s *Service) rebindPort(ctx context.Context, p *Port, need func(*Port) bool, change func(ctx context.Context, p *Port) error) (Port, error) {
	if err := s.holdNetwork(ctx, p.NetworkID); err != nil {
		return *p, err
	}
	old, err := s.ports.GetForUpdate(ctx, p.ID)
	if err != nil {
		return old, store.WrapNotFound(err, func() *nacre.Error { return portNotFound(p.ID) })
	}
	if need != nil && !need(&old) {
		return old, nil
	}
	next := old
	if err := change(ctx, &next); err != nil {
		return old, err
	}
	return s.savePort(ctx, &old, next)
}

// BindServerPorts gives each port that a server was given an inactive binding to a
// host, unless it has a binding to it. Calls are compute's, as the service.
func (s *Service) BindServerPorts(ctx context.Context, project, server, host string) error {
	return s.rebindServer(ctx, "create_port_binding", project, server, func(p *Port) bool {
		_, err := p.binding(host)
		return err != nil
	}, func(ctx context.Context, p *Port) error {
		return s.addBinding(ctx, p, Binding{Host: host, VNICType: p.VNICType, Profile: p.Profile})
	})
}

// ActivateServerPorts makes the bindings of a server's ports to a host the active
// ones. Those that are stay so.
func (s *Service) ActivateServerPorts(ctx context.Context, project, server, host string) error {
	return s.rebindServer(ctx, "activate", project, server, func(p *Port) bool { return p.Host != host },
		func(ctx context.Context, p *Port) error { return s.activate(ctx, p, host) })
}

// UnbindServerPorts takes away the inactive bindings of a server's ports to a host.
func (s *Service) UnbindServerPorts(ctx context.Context, project, server, host string) error {
	return s.rebindServer(ctx, "delete_port_binding", project, server, func(p *Port) bool {
		return slices.ContainsFunc(p.Inactive, func(b Binding) bool { return b.Host == host })
	}, func(_ context.Context, p *Port) error {
		p.Inactive = withoutBinding(p.Inactive, host)
		return nil
	})
}

// rebindServer changes the bindings of those of a server's ports that need it, all or
// none.
func (s *Service) rebindServer(ctx context.Context, rule, project, server string, need func(*Port) bool, change func(ctx context.Context, p *Port) error) error {
	if err := store.Outside(ctx); err != nil {
		return err
	}
	if err := s.enforce(ctx, rule, nil); err != nil {
		return err
	}
	return s.tx(ctx, func(ctx context.Context) error {
		if err := store.Lock(ctx, s.c.Engine, "server/"+server); err != nil {
			return err
		}
		ps, err := s.served(ctx, project, server)
		if err != nil {
			return err
		}
		for i := range ps {
			if !need(&ps[i]) {
				continue
			}
			if _, err := s.rebindPort(ctx, &ps[i], need, change); err != nil {
				return err
			}
		}
		return nil
	})
}

// served are a server's ports, by their networks: whoever changes several holds one
// network after the other.
func (s *Service) served(ctx context.Context, project, server string, ws ...store.Where) ([]Port, error) {
	ws = append(ws, store.Eq("device_id", server), store.Eq("served", true), store.Eq("project_id", project))
	return s.ports.Select(ctx, store.Select{Where: store.And(ws...), Order: []store.Order{{Column: "network_id"}}})
}
