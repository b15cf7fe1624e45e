package conformance

import (
	"testing"

	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/flavors"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/openstack/placement/v1/allocations"
	"github.com/gophercloud/gophercloud/v2/openstack/placement/v1/resourceproviders"
	"github.com/stretchr/testify/require"
)

// placement holds what is allocated to a server against its flavor, and what its
// host offers against what is allocated there.
func placement(t *testing.T, s *suite) {
	ctx, c := t.Context(), at(s.admin.placement, "1.28")
	f, err := flavors.Get(ctx, s.user.compute, s.flavor(t)).Extract()
	require.NoError(t, err)
	im := s.bootable(t)
	sv, err := s.create(t, servers.CreateOpts{Name: name("server"), ImageRef: im.ID, FlavorRef: f.ID, Networks: "none"})
	require.NoError(t, err)
	s.becomes(t, sv.ID, "ACTIVE")

	have, err := allocations.Get(ctx, c, sv.ID).Extract()
	require.NoError(t, err)
	require.Len(t, have.Allocations, 1, "a server is on one host")
	require.Equal(t, s.user.project, *have.ProjectID)
	for provider, a := range have.Allocations {
		require.Equal(t, f.VCPUs, a.Resources["VCPU"])
		require.Equal(t, f.RAM, a.Resources["MEMORY_MB"])
		require.Equal(t, f.Disk, a.Resources["DISK_GB"])
		inv, err := resourceproviders.GetInventories(ctx, c, provider).Extract()
		require.NoError(t, err)
		use, err := resourceproviders.GetUsages(ctx, c, provider).Extract()
		require.NoError(t, err)
		for class, n := range a.Resources {
			i := inv.Inventories[class]
			require.GreaterOrEqual(t, use.Usages[class], n, class)
			require.LessOrEqual(t, float64(use.Usages[class]), float64(i.Total-i.Reserved)*float64(i.AllocationRatio), class)
		}
	}
	ps, err := all(ctx, resourceproviders.List(c, nil), resourceproviders.ExtractResourceProviders)
	require.NoError(t, err)
	require.NotEmpty(t, ps)
	_, err = resourceproviders.List(at(s.user.placement, "1.28"), nil).AllPages(ctx)
	status(t, 403, err, "providers listed by a member")
	_, err = resourceproviders.Get(ctx, c, nothing).Extract()
	status(t, 404, err)

	require.NoError(t, s.destroy(ctx, sv.ID))
	have, err = allocations.Get(ctx, c, sv.ID).Extract()
	require.NoError(t, err)
	require.Empty(t, have.Allocations, "a deleted server holds nothing")
}
