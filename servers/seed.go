package servers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/compute"
	"github.com/nacre-cloud/nacre/identity"
	"github.com/nacre-cloud/nacre/identity/assignment"
	"github.com/nacre-cloud/nacre/image"
	"github.com/nacre-cloud/nacre/network"
)

// Seed is what a new cloud is given besides its administrator. Zero values leave
// things out.
type Seed struct {
	// Flavors are made where their names are not taken.
	Flavors []compute.Flavor
	// DemoPassword makes user and project "demo", if set; RandomPassword says that
	// it holds 128 random bits.
	DemoPassword   string
	RandomPassword bool
	// External makes the flat network "public" on the physical network of the
	// same name with this subnet, if valid, without DHCP. Its gateway is the
	// first address.
	External netip.Prefix
	// Private gives project demo a network and subnet "demo" with this range, if
	// valid, and with External a router between them. DNS goes to its guests.
	Private netip.Prefix
	DNS     []string
	// Image is a public image, if it has a name.
	Image SeedImage
}

// SeedImage is an image to be there.
type SeedImage struct {
	Name, DiskFormat string
	Properties       map[string]string
	// Open gives the bytes; it is called only when the image is not there yet.
	Open func() (io.ReadCloser, error)
}

// DefaultFlavors are m1.nano (192 MiB, 1 GiB) and the five that OpenStack clouds
// traditionally begin with; the smallest disks are 1 GiB.
func DefaultFlavors() []compute.Flavor {
	f := func(id, name string, ram, vcpus, disk int) compute.Flavor {
		return compute.Flavor{ID: id, Name: name, RAM: ram, VCPUs: vcpus, Disk: disk, Public: true, RXTXFactor: 1}
	}
	return []compute.Flavor{f("42", "m1.nano", 192, 1, 1), f("1", "m1.tiny", 512, 1, 1), f("2", "m1.small", 2048, 1, 20), f("3", "m1.medium", 4096, 2, 40),
		f("4", "m1.large", 8192, 4, 80), f("5", "m1.xlarge", 16384, 8, 160)}
}

// Seeded are the ids of what a Seed made or found.
type Seeded struct {
	DemoUserID, DemoProjectID                    string
	PublicNetworkID, DemoNetworkID, DemoSubnetID string
	DemoRouterID, ImageID                        string
}

// Seed makes what is missing of a seed. What is there already is found by its
// name and left as it is, so a cloud may be seeded at each start.
func (cl *Cloud) Seed(ctx context.Context, s Seed) (Seeded, error) {
	var out Seeded
	ctx = nacre.AsService(ctx, "servers")
	for _, step := range []struct {
		what string
		do   func(context.Context, Seed, *Seeded) error
	}{
		{"flavors", cl.seedFlavors}, {"demo project", cl.seedDemo}, {"external network", cl.seedExternal}, {"demo network", cl.seedPrivate},
		{"demo router", cl.seedRouter}, {"image", cl.seedImage},
	} {
		if err := step.do(ctx, s, &out); err != nil {
			return out, fmt.Errorf("seeding the %s: %w", step.what, err)
		}
	}
	return out, nil
}

func (cl *Cloud) seedFlavors(ctx context.Context, s Seed, _ *Seeded) error {
	if len(s.Flavors) == 0 {
		return nil
	}
	have, err := cl.Compute.Flavors(ctx, nacre.Query{Filters: []nacre.Filter{{Name: "is_public", Value: "None"}}})
	if err != nil {
		return err
	}
	taken := map[string]bool{}
	for _, f := range have {
		taken[f.Name], taken["id:"+f.ID] = true, true
	}
	for _, f := range s.Flavors {
		if taken[f.Name] || taken["id:"+f.ID] {
			continue
		}
		if _, err := cl.Compute.CreateFlavor(ctx, f); err != nil {
			return err
		}
	}
	return nil
}

func byName(name string, more ...nacre.Filter) nacre.Query {
	return nacre.Query{Filters: append([]nacre.Filter{{Name: "name", Value: name}}, more...)}
}

func (cl *Cloud) seedDemo(ctx context.Context, s Seed, out *Seeded) error {
	if s.DemoPassword == "" {
		return nil
	}
	name := "demo"
	project, err := cl.seedProject(ctx, name)
	if err != nil {
		return err
	}
	u, made, err := cl.seedUser(ctx, identity.UserChange{Name: &name, Password: &s.DemoPassword, RandomPassword: s.RandomPassword, DefaultProjectID: &project.ID})
	if err != nil {
		return err
	}
	out.DemoProjectID, out.DemoUserID = project.ID, u.ID
	if !made {
		return nil // a role that the user lacks may have been taken from it
	}
	return cl.Identity.Assignments.CreateGrant(ctx, assignment.Grant{UserID: u.ID, ProjectID: project.ID, RoleID: cl.Bootstrapped.Roles["member"]})
}

// seedProject finds a project of the default domain by its name, or makes it.
func (cl *Cloud) seedProject(ctx context.Context, name string) (identity.Project, error) {
	domain := identity.DefaultDomain
	ps, err := cl.Identity.ListProjects(ctx, byName(name, nacre.Filter{Name: "domain_id", Value: domain}))
	if err != nil {
		return identity.Project{}, err
	}
	if len(ps) > 0 {
		return ps[0], nil
	}
	return cl.Identity.CreateProject(ctx, identity.ProjectChange{Name: &name, DomainID: &domain})
}

// seedUser finds a user of the default domain by its name, or makes it.
func (cl *Cloud) seedUser(ctx context.Context, c identity.UserChange) (u identity.User, made bool, err error) {
	domain := identity.DefaultDomain
	us, err := cl.Identity.ListUsers(ctx, byName(*c.Name, nacre.Filter{Name: "domain_id", Value: domain}))
	if err != nil {
		return u, false, err
	}
	if len(us) > 0 {
		return us[0], false, nil
	}
	c.DomainID = &domain
	u, err = cl.Identity.CreateUser(ctx, c)
	return u, err == nil, err
}

func (cl *Cloud) seedExternal(ctx context.Context, s Seed, out *Seeded) error {
	if !s.External.IsValid() {
		return nil
	}
	n, err := cl.ensureNetwork(ctx, network.Network{Std: network.Std{Name: "public", ProjectID: cl.Bootstrapped.ProjectID, Tags: []string{}}, AdminUp: true, External: true, Default: true,
		Type: "flat", Physical: "public", PortSecurity: true})
	if err != nil {
		return err
	}
	out.PublicNetworkID = n.ID
	_, err = cl.ensureSubnet(ctx, network.NewSubnet{NoDHCP: true, Subnet: network.Subnet{Std: network.Std{Name: "public", ProjectID: cl.Bootstrapped.ProjectID}, NetworkID: n.ID,
		CIDR: s.External.Masked().String(), IPVersion: version(s.External)}})
	return err
}

func (cl *Cloud) seedPrivate(ctx context.Context, s Seed, out *Seeded) error {
	if !s.Private.IsValid() || out.DemoProjectID == "" {
		return nil
	}
	n, err := cl.ensureNetwork(ctx, network.Network{Std: network.Std{Name: "demo", ProjectID: out.DemoProjectID}, AdminUp: true, PortSecurity: true})
	if err != nil {
		return err
	}
	out.DemoNetworkID = n.ID
	sn, err := cl.ensureSubnet(ctx, network.NewSubnet{Subnet: network.Subnet{Std: network.Std{Name: "demo", ProjectID: out.DemoProjectID}, NetworkID: n.ID,
		CIDR: s.Private.Masked().String(), IPVersion: version(s.Private), DHCP: true, DNS: s.DNS}})
	out.DemoSubnetID = sn.ID
	return err
}

func version(p netip.Prefix) int {
	if p.Addr().Is6() {
		return 6
	}
	return 4
}

func (cl *Cloud) ensureNetwork(ctx context.Context, want network.Network) (network.Network, error) {
	ns, _, err := cl.Network.Networks(ctx, byName(want.Name, nacre.Filter{Name: "project_id", Value: want.ProjectID}))
	if err != nil {
		return want, err
	}
	if len(ns) > 0 {
		return ns[0], nil
	}
	return cl.Network.CreateNetwork(ctx, want)
}

func (cl *Cloud) ensureSubnet(ctx context.Context, want network.NewSubnet) (network.Subnet, error) {
	sns, err := cl.Network.Subnets(ctx, nacre.Query{Filters: []nacre.Filter{{Name: "network_id", Value: want.NetworkID}}})
	if err != nil {
		return want.Subnet, err
	}
	if len(sns) > 0 {
		return sns[0], nil
	}
	return cl.Network.CreateSubnet(ctx, want)
}

// seedRouter makes the router at once with its gateway and then its interface; one
// that was left without the interface by a crash gets it at the next start.
func (cl *Cloud) seedRouter(ctx context.Context, s Seed, out *Seeded) error {
	if out.DemoSubnetID == "" || out.PublicNetworkID == "" {
		return nil
	}
	rs, err := cl.Network.Routers(ctx, byName("demo", nacre.Filter{Name: "project_id", Value: out.DemoProjectID}))
	if err != nil {
		return err
	}
	if len(rs) == 0 {
		r, err := cl.Network.CreateRouter(ctx, network.Router{Std: network.Std{Name: "demo", ProjectID: out.DemoProjectID}, AdminUp: true},
			&network.GatewayChange{NetworkID: out.PublicNetworkID})
		if err != nil {
			return err
		}
		rs = append(rs, r)
	}
	out.DemoRouterID = rs[0].ID
	legs, err := cl.Network.Ports(ctx, nacre.Query{Filters: []nacre.Filter{{Name: "device_id", Value: rs[0].ID}, {Name: "device_owner", Value: network.OwnerRouter}}})
	if err != nil || len(legs) > 0 {
		return err
	}
	_, err = cl.Network.AddInterface(ctx, rs[0].ID, out.DemoSubnetID, "")
	return err
}

func (cl *Cloud) seedImage(ctx context.Context, s Seed, out *Seeded) error {
	if s.Image.Name == "" {
		return nil
	}
	ims, err := cl.Image.List(ctx, byName(s.Image.Name, nacre.Filter{Name: "visibility", Value: "public"}))
	if err != nil {
		return err
	}
	for _, im := range ims {
		if im.Status == image.Active {
			out.ImageID = im.ID
			return nil
		}
	}
	r, err := s.Image.Open()
	if err != nil {
		return err
	}
	defer r.Close() //nolint:errcheck // read only
	im, err := cl.Image.Create(ctx, image.Image{Name: s.Image.Name, OwnerID: cl.Bootstrapped.ProjectID, Visibility: "public", DiskFormat: s.Image.DiskFormat, ContainerFormat: "bare",
		Properties: s.Image.Properties})
	if err != nil {
		return err
	}
	if _, err := cl.Image.Upload(ctx, im.ID, r, -1); err != nil {
		return errors.Join(err, cl.Image.Delete(ctx, im.ID))
	}
	out.ImageID = im.ID
	return nil
}
