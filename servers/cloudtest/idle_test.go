package cloudtest_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/services"
	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/servers/cloudtest"
)

// TestHostsStayUp holds that a host that only reports at its own interval never
// counts as down in between: a boot at the wrong second would find no valid host.
func TestHostsStayUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cloud := cloudtest.Start(t)
		for range 600 {
			time.Sleep(time.Second)
			pages, err := services.List(cloud.Admin.Compute, services.ListOpts{Binary: "nova-compute"}).AllPages(t.Context())
			require.NoError(t, err)
			list, err := services.ExtractServices(pages)
			require.NoError(t, err)
			require.Len(t, list, 1)
			require.Equal(t, "up", list[0].State)
		}
	})
}
