package main

import (
	"testing"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/flavors"
	"github.com/stretchr/testify/require"
)

func TestOpenedAgain(t *testing.T) {
	dir := t.TempDir()
	for range 2 {
		cloud, err := open(t.Context(), dir, "http://cloud.test", "secret")
		require.NoError(t, err)
		client, err := cloud.Client(t.Context(), gophercloud.AuthOptions{Username: "admin", Password: "secret", TenantName: "admin"})
		require.NoError(t, err)
		compute, err := openstack.NewComputeV2(client, cloud.Endpoint())
		require.NoError(t, err)
		pages, err := flavors.ListDetail(compute, nil).AllPages(t.Context())
		require.NoError(t, err)
		fs, err := flavors.ExtractFlavors(pages)
		require.NoError(t, err)
		require.Len(t, fs, 6)
		require.NoError(t, cloud.Close())
		for _, e := range cloud.Config().Engines {
			require.NoError(t, e.Close())
		}
	}
}
