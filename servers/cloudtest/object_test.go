package cloudtest_test

import (
	"strings"
	"testing"

	"github.com/gophercloud/gophercloud/v2/openstack/objectstorage/v1/accounts"
	"github.com/gophercloud/gophercloud/v2/openstack/objectstorage/v1/containers"
	"github.com/gophercloud/gophercloud/v2/openstack/objectstorage/v1/objects"
	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/servers/cloudtest"
)

// The object store of an embedded cloud, by the catalog and a project's own token.
func TestObjects(t *testing.T) {
	cloud := cloudtest.Start(t)
	ctx, demo := t.Context(), cloud.Demo.Objects
	require.NoError(t, containers.Create(ctx, demo, "c", nil).Err)
	require.NoError(t, objects.Create(ctx, demo, "c", "dir/o", objects.CreateOpts{Content: strings.NewReader("hello"), Metadata: map[string]string{"Color": "red"}}).Err)
	got := objects.Download(ctx, demo, "c", "dir/o", nil)
	body, err := got.ExtractContent()
	require.NoError(t, err)
	require.Equal(t, "hello", string(body))
	pages, err := objects.List(demo, "c", objects.ListOpts{}).AllPages(ctx)
	require.NoError(t, err)
	names, err := objects.ExtractNames(pages)
	require.NoError(t, err)
	require.Equal(t, []string{"dir/o"}, names)
	a, err := accounts.Get(ctx, demo, nil).Extract()
	require.NoError(t, err)
	require.EqualValues(t, 5, a.BytesUsed)
	// Another project's account is its own: the administrator, too, needs the role
	// that the object store gives for that.
	admin := *cloud.Admin.Objects
	admin.Endpoint = demo.Endpoint
	require.ErrorContains(t, containers.Create(ctx, &admin, "x", nil).Err, "403")
	require.NoError(t, objects.Delete(ctx, demo, "c", "dir/o", nil).Err)
	_, err = containers.Delete(ctx, demo, "c").Extract()
	require.NoError(t, err)
}
