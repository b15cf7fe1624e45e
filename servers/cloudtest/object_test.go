package cloudtest_test

import (
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/projects"
	"github.com/gophercloud/gophercloud/v2/openstack/objectstorage/v1/accounts"
	"github.com/gophercloud/gophercloud/v2/openstack/objectstorage/v1/containers"
	"github.com/gophercloud/gophercloud/v2/openstack/objectstorage/v1/objects"
	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/bus"
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

// A project's account goes with the project: by the event that identity sends, and
// where that is lost by the object store's own look.
func TestAccountsGoWithTheirProjects(t *testing.T) {
	for name, transport := range map[string]bus.Transport{"told": nil, "lost": deaf{bus.NewMemory(bus.MemoryOptions{})}} {
		t.Run(name, func(t *testing.T) {
			cloud := cloudtest.Start(t, cloudtest.Options{Transport: transport})
			ctx := t.Context()
			require.NoError(t, containers.Create(ctx, cloud.Demo.Objects, "c", nil).Err)
			require.NoError(t, objects.Create(ctx, cloud.Demo.Objects, "c", "o", objects.CreateOpts{Content: strings.NewReader("hello")}).Err)
			require.NoError(t, containers.Create(ctx, cloud.Admin.Objects, "stays", nil).Err)
			require.NoError(t, projects.Delete(ctx, cloud.Admin.Identity, cloud.Demo.ProjectID).ExtractErr())
			service := nacre.AsService(ctx, "test")
			if transport != nil {
				a, err := cloud.Cloud.Objects.Account(service, "AUTH_"+cloud.Demo.ProjectID)
				require.NoError(t, err)
				require.EqualValues(t, 1, a.Objects)
				require.NoError(t, cloud.Cloud.Objects.Compare(service))
			}
			require.Eventually(t, func() bool {
				a, err := cloud.Cloud.Objects.Account(service, "AUTH_"+cloud.Demo.ProjectID)
				n, werr := cloud.Cloud.Objects.Waiting(service)
				return err == nil && a.Created.IsZero() && a.Containers == 0 && werr == nil && n == 0
			}, 20*time.Second, 5*time.Millisecond)
			a, err := cloud.Cloud.Objects.Account(service, "AUTH_"+cloud.Admin.ProjectID)
			require.NoError(t, err)
			require.EqualValues(t, 1, a.Containers)
		})
	}
}

// deaf loses all that identity tells.
type deaf struct{ bus.Transport }

func (d deaf) Publisher(k bus.Kind) (message.Publisher, error) {
	p, err := d.Transport.Publisher(k)
	return deafPublisher{p}, err
}

type deafPublisher struct{ message.Publisher }

func (d deafPublisher) Publish(topic string, ms ...*message.Message) error {
	if topic == "notifications.identity" {
		return nil
	}
	return d.Publisher.Publish(topic, ms...)
}
