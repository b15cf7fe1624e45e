package servers_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/images"
	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	computearea "github.com/nacre-cloud/nacre/compute"
	"github.com/nacre-cloud/nacre/compute/hypervisor"
	"github.com/nacre-cloud/nacre/compute/metadata"
	"github.com/nacre-cloud/nacre/servers/drivers"
	"github.com/nacre-cloud/nacre/servers/host"
	"github.com/nacre-cloud/nacre/servers/kit"
)

// TestHostElsewhere adds a host whose agents know of the cloud only its bus, its
// address and the host's secret: a server boots there, and the secret opens nothing
// that is not the host's.
func TestHostElsewhere(t *testing.T) {
	c := config(t)
	c.Hosts = []string{kit.None}
	cloud := open(t, c)
	t.Cleanup(func() { require.NoError(t, cloud.Close()) })
	compute, image := demo(t, cloud)
	web := httptest.NewServer(cloud.Handler())
	t.Cleanup(web.Close)

	add := func(p *gophercloud.ProviderClient, name string) (secret string, err error) {
		var answer struct {
			Host struct{ Name, Secret string }
		}
		resp, err := p.Request(t.Context(), "POST", "http://cloud.test/host/v1/hosts", &gophercloud.RequestOpts{
			JSONBody: map[string]any{"host": map[string]string{"name": name}}, JSONResponse: &answer, OkCodes: []int{201}})
		if err == nil {
			err = resp.Body.Close()
		}
		return answer.Host.Secret, err
	}
	_, err := add(compute.ProviderClient, "far")
	require.True(t, gophercloud.ResponseCodeIs(err, 403), "%v", err)
	admin, err := cloud.Client(t.Context(), gophercloud.AuthOptions{Username: "admin", Password: cloud.Config().AdminPassword, TenantName: "admin"})
	require.NoError(t, err)
	_, err = add(admin, "no/name")
	require.True(t, gophercloud.ResponseCodeIs(err, 400), "%v", err)
	old, err := add(admin, "far")
	require.NoError(t, err)
	secret, err := add(admin, "far")
	require.NoError(t, err)
	require.NotEqual(t, old, secret)
	other, err := add(admin, "other")
	require.NoError(t, err)

	remote := func(name, secret string) *host.Remote {
		r, err := host.NewRemote(web.URL, name, secret, web.Client())
		require.NoError(t, err)
		return r
	}
	far := remote("far", secret)
	dir := t.TempDir()
	hc, done, err := drivers.Parts.Open(t.Context(), host.Site{Name: "far", Dir: dir, Config: c, Metadata: far, Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	hc.Bus, hc.Images = cloud.Bus, far
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	t.Cleanup(func() { stop(); wg.Wait(); require.NoError(t, done()) })
	require.NoError(t, host.Start(ctx, hc, func(ctx context.Context, _ string, f func(context.Context) error) {
		wg.Go(func() { _ = f(ctx) })
	}))

	require.Eventually(t, func() bool {
		hosts, err := cloud.Compute.Hosts(nacre.AsService(t.Context(), "test"), "os_compute_api:os-services:list")
		return err == nil && slices.ContainsFunc(hosts, func(h computearea.Host) bool { return h.Name == "far" && cloud.Compute.Up(h) })
	}, 10*time.Second, 5*time.Millisecond, "the host reports")
	pages, err := images.List(image, nil).AllPages(t.Context())
	require.NoError(t, err)
	ims, err := images.ExtractImages(pages)
	require.NoError(t, err)
	sv, err := servers.Create(t.Context(), compute, servers.CreateOpts{Name: "away", ImageRef: ims[0].ID, FlavorRef: "42"}, nil).Extract()
	require.NoError(t, err)
	sv = waitFor(t, compute, sv.ID, "ACTIVE")
	left, err := filepath.Glob(filepath.Join(dir, "guests", "*"))
	require.NoError(t, err)
	require.NotEmpty(t, left, "the guest is on the host")

	rc, about, err := far.Open(t.Context(), sv.ID, ims[0].ID)
	require.NoError(t, err)
	body, err := io.ReadAll(rc)
	require.NoError(t, err)
	require.NoError(t, rc.Close())
	require.Len(t, body, 64<<10)
	require.Equal(t, int64(64<<10), about.Size)
	for name, r := range map[string]*host.Remote{"another host": remote("other", other), "a secret that ended": remote("far", old), "no host": remote("gone", secret)} {
		_, _, err := r.Open(t.Context(), sv.ID, ims[0].ID)
		require.ErrorIs(t, err, nacre.Forbidden, name)
	}
	_, _, err = far.Open(t.Context(), sv.ID, "another-image")
	require.ErrorIs(t, err, nacre.Forbidden)

	ask := func(r *host.Remote, key string) int {
		req, err := http.NewRequestWithContext(t.Context(), "GET", r.URL()+"/openstack/latest/meta_data.json", nil)
		require.NoError(t, err)
		req.Header.Set("X-Instance-ID", sv.ID)
		req.Header.Set("X-Tenant-ID", sv.TenantID)
		req.Header.Set("X-Instance-ID-Signature", metadata.Sign([]byte(key), sv.ID))
		resp, err := r.RoundTrip(req)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		return resp.StatusCode
	}
	require.Equal(t, 200, ask(far, far.Secret()))
	require.Equal(t, 403, ask(far, "another key"))
	require.Equal(t, 404, ask(remote("other", other), hypervisor.CredentialHash(other)), "the server is on another host")
	require.Equal(t, 401, ask(remote("far", old), hypervisor.CredentialHash(old)))
	require.NoError(t, servers.Delete(t.Context(), compute, sv.ID).ExtractErr())
	require.NoError(t, cloud.Rest(t.Context()))
}
