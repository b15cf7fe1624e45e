package main

import (
	"context"
	"net/netip"
	"path/filepath"

	"github.com/nacre-cloud/nacre/compute/hypervisor"
	hypervisorfake "github.com/nacre-cloud/nacre/compute/hypervisor/fake"
	"github.com/nacre-cloud/nacre/compute/hypervisor/libvirt"
	"github.com/nacre-cloud/nacre/network/dataplane"
	dataplanefake "github.com/nacre-cloud/nacre/network/dataplane/fake"
	"github.com/nacre-cloud/nacre/network/dataplane/linux"
	"github.com/nacre-cloud/nacre/servers"
)

func fakeHypervisor(_ context.Context, s servers.Site) (hypervisor.Driver, error) {
	return hypervisorfake.New(hypervisorfake.Config{Name: s.Name, Dir: filepath.Join(s.Dir, "guests"), ReadImages: true})
}

func fakeDataplane(_ context.Context, s servers.Site) (dataplane.Driver, error) {
	return dataplanefake.New(dataplanefake.Config{StateDir: s.Dir})
}

func libvirtHypervisor(_ context.Context, s servers.Site) (hypervisor.Driver, error) {
	d, err := libvirt.New(libvirt.Config{InstancesDir: s.Config.Instances, Accel: s.Config.Accel, Log: s.Log})
	if err != nil {
		return nil, err
	}
	return d, nil
}

// linuxDataplane lays the external network on a bridge of its own, on which the
// host has the gateway's address and hides what comes from it behind its own.
func linuxDataplane(ctx context.Context, s servers.Site) (dataplane.Driver, error) {
	public := linux.Physical{Masquerade: true}
	if s.External.IsValid() {
		public.HostAddresses = []netip.Prefix{netip.PrefixFrom(s.External.Masked().Addr().Next(), s.External.Bits())}
	}
	d, err := linux.New(ctx, linux.Config{
		StateDir: filepath.Join(s.Dir, "network"), Physical: map[string]linux.Physical{"public": public},
		Metadata: s.Metadata, MetadataURL: s.Metadata.URL(), MetadataSecret: s.Metadata.Secret(), Log: s.Log,
	})
	if err != nil {
		return nil, err
	}
	return d, nil
}
