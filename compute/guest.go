package compute

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/compute/hypervisor"
	"github.com/nacre-cloud/nacre/compute/metadata"
	"github.com/nacre-cloud/nacre/store"
)

// Guest is what a guest may read of itself, for the metadata service. project is
// the one that the signed headers name.
func (s *Service) Guest(ctx context.Context, server, project string) (*metadata.Instance, error) {
	sv, err := s.servers.Get(ctx, server)
	if errors.Is(err, store.ErrNoRow) || err == nil && (sv.Deleted || project != "" && sv.ProjectID != project) {
		return nil, serverNotFound(server)
	}
	if err != nil {
		return nil, err
	}
	if len(sv.Ports) > 0 {
		// What the guest reads is what its ports are now, not what was last shown.
		byServer, err := s.c.Networks.Ports(nacre.AsService(ctx, "compute"), server)
		if err != nil {
			return nil, err
		}
		sv.Ports = byServer[server]
	}
	return s.instanceOf(&sv), nil
}

// HostGuest is Guest for a host: of the servers that are on it, or on their way to it.
func (s *Service) HostGuest(ctx context.Context, host, server, project string) (*metadata.Instance, error) {
	here, err := s.servers.Exists(ctx, store.Eq("id", server), store.Or(store.Eq("host", host), store.Eq("other_host", host)))
	if err != nil {
		return nil, err
	}
	if host == "" || !here {
		return nil, serverNotFound(server)
	}
	return s.Guest(ctx, server, project)
}

func (s *Service) instanceOf(sv *Server) *metadata.Instance {
	in := &metadata.Instance{
		UUID: sv.ID, Name: sv.Name, Hostname: sv.Hostname, Domain: s.c.DNSDomain, ProjectID: sv.ProjectID, AvailabilityZone: sv.AvailabilityZone,
		LaunchIndex: sv.LaunchIndex, ReservationID: sv.ReservationID, Flavor: sv.Flavor.Name, EC2ID: "i-" + sv.ID[:8], AMIID: fmt.Sprintf("ami-%.8s", sv.ImageID),
		Meta: sv.Metadata,
	}
	if sv.UserData != "" {
		if data, err := base64.StdEncoding.DecodeString(sv.UserData); err == nil {
			in.UserData = data
		}
	}
	for _, f := range sv.Injected {
		in.Injected = append(in.Injected, metadata.InjectedFile(f))
	}
	if sv.KeyName != "" {
		in.Keys = []metadata.Key{{Name: sv.KeyName, Type: sv.KeyType, Data: sv.KeyData}}
	}
	for _, p := range sv.Ports {
		in.SecurityGroups = append(in.SecurityGroups, p.SecurityGroups...)
		link := metadata.Link{ID: hypervisor.TapName(p.ID), PortID: p.ID, MAC: p.MAC, Type: "bridge", MTU: p.MTU, NetworkID: p.NetworkID}
		for _, sn := range p.Subnets {
			sub := metadata.Subnet{CIDR: sn.CIDR, Gateway: sn.Gateway, DNS: sn.DNS, DHCP: sn.DHCP}
			for _, r := range sn.Routes {
				sub.Routes = append(sub.Routes, metadata.Route(r))
			}
			for _, a := range p.Addresses {
				if a.SubnetID == sn.ID {
					sub.Addresses = append(sub.Addresses, a.Address)
				}
			}
			link.Subnets = append(link.Subnets, sub)
		}
		for _, a := range p.Addresses {
			in.PublicIPv4s = append(in.PublicIPv4s, slices.DeleteFunc(slices.Clone(a.Floating), netip.Addr.Is6)...)
		}
		in.Links = append(in.Links, link)
		if p.Tag != "" {
			in.Devices = append(in.Devices, metadata.Device{Type: "nic", Bus: "none", MAC: p.MAC, Tags: []string{p.Tag}})
		}
	}
	slices.Sort(in.SecurityGroups)
	in.SecurityGroups = slices.Compact(in.SecurityGroups)
	return in
}

// HostImage streams an image to a host that has a server of it: the endpoint
// that agents fetch images from.
func (s *Service) HostImage(ctx context.Context, host, server, image string) (io.ReadCloser, hypervisor.Image, error) {
	sv, err := s.servers.Get(ctx, server)
	if errors.Is(err, store.ErrNoRow) || err == nil && (sv.Deleted || sv.Host != host || sv.ImageID != image) {
		return nil, hypervisor.Image{}, nacre.Errorf(nacre.Forbidden, "", "host %s has no server %s of image %s", host, server, image)
	}
	if err != nil {
		return nil, hypervisor.Image{}, err
	}
	rc, err := s.c.Images.Open(nacre.AsService(ctx, "compute"), image)
	return rc, sv.ImageInfo, err
}
