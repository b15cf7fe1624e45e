package main

import (
	"bytes"
	"testing"

	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/imagedata"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/images"
	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/servers/cloudtest"
)

func TestBoot(t *testing.T) {
	cloud := cloudtest.Start(t)
	im, err := images.Create(t.Context(), cloud.Demo.Image, images.CreateOpts{Name: "small", DiskFormat: "raw", ContainerFormat: "bare"}).Extract()
	require.NoError(t, err)
	require.NoError(t, imagedata.Upload(t.Context(), cloud.Demo.Image, im.ID, bytes.NewReader(make([]byte, 4096))).ExtractErr())

	sv, err := boot(t.Context(), cloud.Demo.Compute, "hello", im.ID, "42", cloud.Seeded.DemoNetworkID)
	require.NoError(t, err)
	require.Contains(t, sv.Addresses, "demo")
	require.NoError(t, servers.Delete(t.Context(), cloud.Demo.Compute, sv.ID).ExtractErr())

	_, err = boot(t.Context(), cloud.Demo.Compute, "hello", im.ID, "no-flavor", cloud.Seeded.DemoNetworkID)
	require.Error(t, err)
}
