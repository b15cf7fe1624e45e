package servers_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/imagedata"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/images"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/identity/fernet"
	nacreservers "github.com/nacre-cloud/nacre/servers"
	"github.com/nacre-cloud/nacre/store"
	"github.com/nacre-cloud/nacre/store/memstore"
)

// region is a cloud with an address of its own.
type region struct {
	*nacreservers.Cloud
	name string
}

// regions are two clouds in one process, on sockets, with one identity: its keys
// and its database.
func regions(t *testing.T, names ...string) []region {
	keys, credentials := fernet.Memory(), fernet.Memory()
	engine := func() store.Engine {
		e := memstore.New(memstore.Options{})
		t.Cleanup(func() { require.NoError(t, e.Close()) })
		return e
	}
	shared := engine()
	var out []region
	for _, name := range names {
		var cloud *nacreservers.Cloud
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { cloud.Handler().ServeHTTP(w, r) }))
		t.Cleanup(srv.Close)
		c := nacreservers.Config{URL: srv.URL, Region: name, AdminPassword: "secret", BcryptCost: 4, Keys: keys, CredentialKeys: credentials, Engines: map[string]store.Engine{"identity": shared}, Alone: true}
		for _, area := range nacreservers.Areas()[1:] {
			c.Engines[area] = engine()
		}
		require.NoError(t, nacreservers.Migrate(t.Context(), c.Engines, true))
		var err error
		cloud, err = nacreservers.New(t.Context(), c)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, cloud.Close()) })
		out = append(out, region{cloud, name})
	}
	t.Cleanup(http.DefaultTransport.(*http.Transport).CloseIdleConnections)
	return out
}

// images is the region's image service, as somebody.
func (r region) images(t *testing.T, auth gophercloud.AuthOptions) *gophercloud.ServiceClient {
	p, err := r.Client(t.Context(), auth)
	require.NoError(t, err)
	c, err := openstack.NewImageV2(p, gophercloud.EndpointOpts{Region: r.name})
	require.NoError(t, err)
	return c
}

// download asks a region to import an image of another one, and waits until the
// import has ended.
func download(t *testing.T, c *gophercloud.ServiceClient, from, service, id string) (*images.Image, string) {
	im, err := images.Create(t.Context(), c, images.CreateOpts{Name: "copy", DiskFormat: "qcow2", ContainerFormat: "bare"}).Extract()
	require.NoError(t, err)
	method := map[string]string{"name": "glance-download", "glance_region": from, "glance_image_id": id}
	if service != "" {
		method["glance_service_interface"] = service
	}
	res, err := c.Post(t.Context(), c.ServiceURL("images", im.ID, "import"), map[string]any{"method": method}, nil, &gophercloud.RequestOpts{OkCodes: []int{202}})
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	var tasks struct {
		Tasks []struct{ Status, Message string }
	}
	require.Eventually(t, func() bool {
		// The task first: what it ended in is what the image then shows.
		res, err := c.Get(context.Background(), c.ServiceURL("images", im.ID, "tasks"), &tasks, nil)
		if !assert.NoError(t, err) {
			return true
		}
		_ = res.Body.Close()
		got, err := images.Get(context.Background(), c, im.ID).Extract()
		if !assert.NoError(t, err) {
			return true
		}
		im = got
		return len(tasks.Tasks) == 1 && (tasks.Tasks[0].Status == "success" || tasks.Tasks[0].Status == "failure")
	}, time.Minute, 10*time.Millisecond)
	require.Len(t, tasks.Tasks, 1)
	return im, tasks.Tasks[0].Message
}

// TestGlanceDownload brings an image from one region to another with the user's own
// rights.
func TestGlanceDownload(t *testing.T) {
	rs := regions(t, "north", "south")
	admin := gophercloud.AuthOptions{Username: "admin", Password: "secret", TenantName: "admin"}
	north, south := rs[0].images(t, admin), rs[1].images(t, admin)
	require.NotEqual(t, north.Endpoint, south.Endpoint, "the catalog has both")
	data := bytes.Repeat([]byte("from the north "), 100_000)
	im, err := images.Create(t.Context(), north, images.CreateOpts{Name: "original", DiskFormat: "raw", ContainerFormat: "bare", Properties: map[string]string{"hw_disk_bus": "scsi", "colour": "red"}}).Extract()
	require.NoError(t, err)

	got, message := download(t, south, "North", "", im.ID)
	require.Equal(t, images.ImageStatusQueued, got.Status)
	require.Contains(t, message, "status should be active instead of queued")

	require.NoError(t, imagedata.Upload(t.Context(), north, im.ID, bytes.NewReader(data)).ExtractErr())
	for _, service := range []string{"", "internal"} {
		got, message = download(t, south, "North", service, im.ID)
		require.Equal(t, images.ImageStatusActive, got.Status, message)
		require.Equal(t, "raw", got.DiskFormat)
		require.Equal(t, "scsi", got.Properties["hw_disk_bus"])
		require.NotContains(t, got.Properties, "colour")
		body, err := imagedata.Download(t.Context(), south, got.ID).Extract()
		require.NoError(t, err)
		all, err := io.ReadAll(body)
		require.NoError(t, err)
		require.NoError(t, body.Close())
		require.True(t, bytes.Equal(data, all))
	}
	// Within one region, too.
	got, message = download(t, north, "north", "", im.ID)
	require.Equal(t, images.ImageStatusActive, got.Status, message)

	// Who may not see it there does not get it here, though this service might.
	_, err = rs[1].Seed(t.Context(), nacreservers.Seed{DemoPassword: "other"})
	require.NoError(t, err)
	demo := rs[1].images(t, gophercloud.AuthOptions{Username: "demo", Password: "other", TenantName: "demo"})
	got, message = download(t, demo, "north", "", im.ID)
	require.Equal(t, images.ImageStatusQueued, got.Status)
	require.Contains(t, message, "404")

	_, message = download(t, south, "west", "", im.ID)
	require.Contains(t, message, "glance endpoint not found for region west")
	_, message = download(t, south, "north", "", "11111111-2222-4333-8444-555555555555")
	require.Contains(t, message, "404")

	for _, r := range rs {
		require.NoError(t, r.Rest(t.Context()))
		findings, err := r.Audit(t.Context())
		require.NoError(t, err)
		require.Empty(t, findings)
	}
}
