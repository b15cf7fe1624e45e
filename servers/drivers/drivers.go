// Package drivers has the drivers and buses that a program which runs hosts links, by
// the names that its configuration uses.
package drivers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"

	"github.com/nacre-cloud/nacre/bus"
	"github.com/nacre-cloud/nacre/bus/amqp"
	"github.com/nacre-cloud/nacre/bus/nats"
	"github.com/nacre-cloud/nacre/compute/hypervisor"
	hypervisorfake "github.com/nacre-cloud/nacre/compute/hypervisor/fake"
	"github.com/nacre-cloud/nacre/compute/hypervisor/libvirt"
	"github.com/nacre-cloud/nacre/network/dataplane"
	dataplanefake "github.com/nacre-cloud/nacre/network/dataplane/fake"
	"github.com/nacre-cloud/nacre/network/dataplane/linux"
	"github.com/nacre-cloud/nacre/servers/host"
	"github.com/nacre-cloud/nacre/servers/kit"
)

// Parts are all of them.
var Parts = host.Parts{
	Transports: map[string]func(context.Context, kit.Config, *slog.Logger) (bus.Transport, error){
		"memory": func(context.Context, kit.Config, *slog.Logger) (bus.Transport, error) {
			return bus.NewMemory(bus.MemoryOptions{}), nil
		},
		"amqp": openAMQP,
		"nats": openNATS,
	},
	Hypervisors: map[string]func(context.Context, host.Site) (hypervisor.Driver, error){"fake": fakeHypervisor, "libvirt": libvirtHypervisor},
	Dataplanes:  map[string]func(context.Context, host.Site) (dataplane.Driver, error){"fake": fakeDataplane, "linux": linuxDataplane},
}

// openAMQP and openNATS open a bus as a host where the configuration is a node's.
func openAMQP(ctx context.Context, cfg kit.Config, log *slog.Logger) (bus.Transport, error) {
	if cfg.BusURL == "" {
		return nil, errors.New("bus_url is not set")
	}
	trust, err := host.TLS(cfg)
	if err != nil {
		return nil, err
	}
	o := amqp.Options{URL: cfg.BusURL, TLS: trust, Log: log}
	if cfg.Control != "" {
		o.Host = cfg.Hosts[0]
	}
	t, err := amqp.Open(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("the broker: %w", err)
	}
	return t, nil
}

func openNATS(ctx context.Context, cfg kit.Config, log *slog.Logger) (bus.Transport, error) {
	if cfg.BusURL == "" {
		return nil, errors.New("bus_url is not set")
	}
	trust, err := host.TLS(cfg)
	if err != nil {
		return nil, err
	}
	o := nats.Options{URL: cfg.BusURL, TLS: trust, Log: log}
	if cfg.Control != "" {
		o.Host = cfg.Hosts[0]
	}
	t, err := nats.Open(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("the broker: %w", err)
	}
	return t, nil
}

func fakeHypervisor(_ context.Context, s host.Site) (hypervisor.Driver, error) {
	return hypervisorfake.New(hypervisorfake.Config{Name: s.Name, Dir: filepath.Join(s.Dir, "guests"), ReadImages: true})
}

func fakeDataplane(_ context.Context, s host.Site) (dataplane.Driver, error) {
	return dataplanefake.New(dataplanefake.Config{StateDir: s.Dir})
}

func libvirtHypervisor(_ context.Context, s host.Site) (hypervisor.Driver, error) {
	d, err := libvirt.New(libvirt.Config{InstancesDir: s.Config.Instances, Accel: s.Config.Accel, Address: s.Config.MyIP, LiveURI: s.Config.LiveURI, NativeTLS: s.Config.LiveTLS, Log: s.Log})
	if err != nil {
		return nil, err
	}
	return d, nil
}

// linuxDataplane lays the external network on a bridge of its own, on which the
// host has the gateway's address and hides what comes from it behind its own.
func linuxDataplane(ctx context.Context, s host.Site) (dataplane.Driver, error) {
	public := linux.Physical{Masquerade: true}
	if s.External.IsValid() {
		public.HostAddresses = []netip.Prefix{netip.PrefixFrom(s.External.Masked().Addr().Next(), s.External.Bits())}
	}
	var tunnel netip.Addr
	if text := cmp.Or(s.Config.TunnelAddress, s.Config.MyIP); text != "" {
		var err error
		if tunnel, err = netip.ParseAddr(text); err != nil {
			return nil, fmt.Errorf("tunnel_address: %w", err)
		}
	}
	d, err := linux.New(ctx, linux.Config{
		StateDir: filepath.Join(s.Dir, "network"), TunnelAddress: tunnel, Physical: map[string]linux.Physical{"public": public},
		Metadata: s.Metadata, MetadataURL: s.Metadata.URL(), MetadataSecret: s.Metadata.Secret(), Log: s.Log,
	})
	if err != nil {
		return nil, err
	}
	return d, nil
}
