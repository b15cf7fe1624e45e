package cloudtest_test

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/imagedata"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/images"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/floatingips"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"
	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/bus"
	"github.com/nacre-cloud/nacre/bus/bustest"
	"github.com/nacre-cloud/nacre/servers/cloudtest"
	"github.com/nacre-cloud/nacre/servers/conformance"
)

// TestConformanceDoubledAndReordered runs the whole suite while every message
// comes twice and half of them out of order.
func TestConformanceDoubledAndReordered(t *testing.T) {
	faulty := bustest.Faulty(bus.NewMemory(bus.MemoryOptions{}), bustest.Options{Double: 1, Reorder: 0.5, Seed: 7})
	conformance.Run(t, target(cloudtest.Start(t, cloudtest.Options{Transport: faulty})))
	n := faulty.Counts()
	require.Positive(t, n.Doubled)
	require.Positive(t, n.Reordered)
}

// TestNineOfTenMessagesLost tells the story of a server while nine of ten
// messages are lost. It still ends well; only later, in the bubble's time.
func TestNineOfTenMessagesLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		faulty := bustest.Faulty(bus.NewMemory(bus.MemoryOptions{}), bustest.Options{Drop: 0.9, Seed: 3})
		cloud := cloudtest.Start(t, cloudtest.Options{Transport: faulty, ReportInterval: 2 * time.Second, Patience: 2 * time.Hour})
		ctx, c := t.Context(), cloud.Demo
		eventually := func(what string, ok func() bool) {
			t.Helper()
			for deadline := time.Now().Add(2 * time.Hour); !ok(); time.Sleep(time.Second) {
				require.True(t, time.Now().Before(deadline), what)
			}
		}
		im, err := images.Create(ctx, c.Image, images.CreateOpts{Name: "im", DiskFormat: "raw", ContainerFormat: "bare"}).Extract()
		require.NoError(t, err)
		require.NoError(t, imagedata.Upload(ctx, c.Image, im.ID, bytes.NewReader(make([]byte, 4096))).ExtractErr())
		sv, err := servers.Create(ctx, c.Compute, servers.CreateOpts{Name: "vm", ImageRef: im.ID, FlavorRef: "42", Networks: []servers.Network{{UUID: cloud.Seeded.DemoNetworkID}}}, nil).Extract()
		require.NoError(t, err)
		status := func() string {
			got, err := servers.Get(ctx, c.Compute, sv.ID).Extract()
			if gophercloud.ResponseCodeIs(err, 404) {
				return "gone"
			}
			require.NoError(t, err)
			require.NotEqual(t, "ERROR", got.Status, got.Fault.Message)
			return got.Status
		}
		eventually("ACTIVE", func() bool { return status() == "ACTIVE" })
		pages, err := ports.List(c.Network, ports.ListOpts{DeviceID: sv.ID}).AllPages(ctx)
		require.NoError(t, err)
		ps, err := ports.ExtractPorts(pages)
		require.NoError(t, err)
		require.Len(t, ps, 1)
		fip, err := floatingips.Create(ctx, c.Network, floatingips.CreateOpts{FloatingNetworkID: cloud.Seeded.PublicNetworkID, PortID: ps[0].ID}).Extract()
		require.NoError(t, err)
		eventually("the floating IP is ACTIVE", func() bool {
			f, err := floatingips.Get(ctx, c.Network, fip.ID).Extract()
			require.NoError(t, err)
			return f.Status == "ACTIVE"
		})
		require.NoError(t, floatingips.Delete(ctx, c.Network, fip.ID).ExtractErr())
		require.NoError(t, servers.Delete(ctx, c.Compute, sv.ID).ExtractErr())
		eventually("gone", func() bool { return status() == "gone" })
		require.NoError(t, images.Delete(ctx, c.Image, im.ID).ExtractErr())
		require.Positive(t, faulty.Counts().Dropped)
	})
}
