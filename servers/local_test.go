package servers_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/images"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.yaml.in/yaml/v3"

	nacreservers "github.com/nacre-cloud/nacre/servers"
	"github.com/nacre-cloud/nacre/servers/kit"
	"github.com/nacre-cloud/nacre/servers/parts"
	"github.com/nacre-cloud/nacre/store"
	"github.com/nacre-cloud/nacre/store/bunstore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func config(tb testing.TB) kit.Config {
	c := kit.Default()
	dir := tb.TempDir()
	c.StateDir, c.URL, c.Hosts = filepath.Join(dir, "state"), "http://cloud.test", []string{"node1", "node2"}
	c.Image = filepath.Join(dir, "small.raw")
	require.NoError(tb, os.WriteFile(c.Image, make([]byte, 64<<10), 0o600))
	return c
}

func open(tb testing.TB, c kit.Config) *nacreservers.Local {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cloud, err := nacreservers.OpenLocal(ctx, c, parts.All, slog.New(slog.DiscardHandler))
	require.NoError(tb, err)
	require.NoError(tb, cloud.Ready(ctx))
	return cloud
}

// demo is the demo user's compute and image, with the password of clouds.yaml.
func demo(tb testing.TB, cloud *nacreservers.Local) (compute, image *gophercloud.ServiceClient) {
	var doc struct {
		Clouds map[string]struct {
			Auth map[string]string
		}
	}
	data, err := os.ReadFile(cloud.Credentials)
	require.NoError(tb, err)
	require.NoError(tb, yaml.Unmarshal(data, &doc))
	auth := doc.Clouds["nacre"].Auth
	require.Equal(tb, "http://cloud.test/identity/v3", auth["auth_url"])
	p, err := cloud.Client(tb.Context(), gophercloud.AuthOptions{Username: auth["username"], Password: auth["password"], DomainID: auth["user_domain_id"], TenantName: auth["project_name"]})
	require.NoError(tb, err)
	compute, err = openstack.NewComputeV2(p, cloud.Endpoint())
	require.NoError(tb, err)
	image, err = openstack.NewImageV2(p, cloud.Endpoint())
	require.NoError(tb, err)
	return compute, image
}

func waitFor(tb testing.TB, compute *gophercloud.ServiceClient, id, want string) *servers.Server {
	for deadline := time.Now().Add(20 * time.Second); ; {
		sv, err := servers.Get(tb.Context(), compute, id).Extract()
		require.NoError(tb, err)
		if sv.Status == want {
			return sv
		}
		require.NotEqual(tb, "ERROR", sv.Status, "%+v", sv.Fault)
		require.True(tb, time.Now().Before(deadline), "%s instead of %s", sv.Status, want)
		time.Sleep(2 * time.Millisecond)
	}
}

// TestFoundAgain stops a cloud and starts it again: everything is as it was, and
// what is found can be used.
func TestFoundAgain(t *testing.T) {
	c := config(t)
	cloud := open(t, c)
	compute, image := demo(t, cloud)
	pages, err := images.List(image, nil).AllPages(t.Context())
	require.NoError(t, err)
	ims, err := images.ExtractImages(pages)
	require.NoError(t, err)
	require.Len(t, ims, 1)
	require.Equal(t, "small", ims[0].Name)
	var ids []string
	for _, name := range []string{"runs", "stands"} {
		sv, err := servers.Create(t.Context(), compute, servers.CreateOpts{Name: name, ImageRef: ims[0].ID, FlavorRef: "42"}, nil).Extract()
		require.NoError(t, err)
		waitFor(t, compute, sv.ID, "ACTIVE")
		ids = append(ids, sv.ID)
	}
	require.NoError(t, servers.Stop(t.Context(), compute, ids[1]).ExtractErr())
	before := []*servers.Server{waitFor(t, compute, ids[0], "ACTIVE"), waitFor(t, compute, ids[1], "SHUTOFF")}
	old, err := os.ReadFile(cloud.Credentials)
	require.NoError(t, err)

	_, err = nacreservers.OpenLocal(t.Context(), c, parts.All, slog.New(slog.DiscardHandler))
	require.ErrorContains(t, err, "in use by another process")
	require.NoError(t, cloud.Close())

	cloud = open(t, c)
	now, err := os.ReadFile(cloud.Credentials)
	require.NoError(t, err)
	require.Equal(t, string(old), string(now))
	compute, image = demo(t, cloud)
	for i, id := range ids {
		sv, err := servers.Get(t.Context(), compute, id).Extract()
		require.NoError(t, err)
		require.Equal(t, before[i].Status, sv.Status)
		require.Equal(t, before[i].Addresses, sv.Addresses)
		require.Equal(t, before[i].HostID, sv.HostID)
	}
	pages, err = images.List(image, nil).AllPages(t.Context())
	require.NoError(t, err)
	again, err := images.ExtractImages(pages)
	require.NoError(t, err)
	require.Len(t, again, 1, "seeding does nothing twice")
	require.NoError(t, servers.Start(t.Context(), compute, ids[1]).ExtractErr())
	waitFor(t, compute, ids[1], "ACTIVE")
	for _, id := range ids {
		require.NoError(t, servers.Delete(t.Context(), compute, id).ExtractErr())
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	require.NoError(t, cloud.Rest(ctx))
	findings, err := cloud.Audit(ctx)
	require.NoError(t, err)
	require.Empty(t, findings)
	require.NoError(t, cloud.Close())
}

func TestOpenLocalRefuses(t *testing.T) {
	for what, change := range map[string]func(*kit.Config){
		`there is no "vmware" here, only fake`: func(c *kit.Config) { c.Hypervisor = "vmware" },
		`can't be a host's name`:               func(c *kit.Config) { c.Hosts = []string{"../up"} },
		`external: `:                           func(c *kit.Config) { c.External = "300.0.0.0/8" },
		`no such file`:                         func(c *kit.Config) { c.Image += ".gone" },
	} {
		c := config(t)
		change(&c)
		_, err := nacreservers.OpenLocal(t.Context(), c, parts.All, slog.New(slog.DiscardHandler))
		require.ErrorContains(t, err, what)
		state, err := kit.OpenState(c.StateDir)
		require.NoError(t, err, "a failed start lets go of everything")
		require.NoError(t, state.Close())
	}
}

// As whom a process asks others when nothing is said: as the first of its areas that has
// a user; identity has none.
func TestServiceUserIsTheArea(t *testing.T) {
	for user, areas := range map[string][]string{"glance": {"identity", "image", "compute"}, "nova": {"compute", "identity"}, "swift": {"objectstore"}} {
		c := config(t)
		c.Areas, c.Bus = areas, "nats"
		_, err := nacreservers.OpenLocal(t.Context(), c, parts.All, slog.New(slog.DiscardHandler))
		require.EqualError(t, err, "service_password is not set: the other functions are asked as "+user)
	}
}

func TestNewRefuses(t *testing.T) {
	_, err := nacreservers.New(t.Context(), nacreservers.Config{})
	require.ErrorContains(t, err, "AdminPassword is missing")
	_, err = nacreservers.New(t.Context(), nacreservers.Config{AdminPassword: "x"})
	require.ErrorContains(t, err, "lacks identity")
	engines := map[string]store.Engine{}
	for _, area := range nacreservers.Areas() {
		e, err := bunstore.OpenSQLite("", bunstore.Options{})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, e.Close()) })
		engines[area] = e
	}
	_, err = nacreservers.New(t.Context(), nacreservers.Config{AdminPassword: "x", Engines: engines})
	require.ErrorIs(t, err, store.ErrSchema, "a server never migrates at its start")
}

// BenchmarkRestart is the time from the start on an existing state to ready.
func BenchmarkRestart(b *testing.B) {
	c := config(b)
	require.NoError(b, open(b, c).Close())
	for b.Loop() {
		cloud := open(b, c)
		b.StopTimer()
		require.NoError(b, cloud.Close())
		b.StartTimer()
	}
}
