//go:build ceph && cgo && realtest

package main

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/imagedata"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/images"
	"github.com/gophercloud/gophercloud/v2/openstack/objectstorage/v1/containers"
	"github.com/gophercloud/gophercloud/v2/openstack/objectstorage/v1/objects"
	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/internal/realserver"
	"github.com/nacre-cloud/nacre/servers"
	"github.com/nacre-cloud/nacre/servers/kit"
	"github.com/nacre-cloud/nacre/servers/parts"
)

// onCeph is an all-in-one that keeps images and objects in a Ceph cluster.
func onCeph(t *testing.T, c *realserver.CephCluster) kit.Config {
	t.Helper()
	dir := t.TempDir()
	cfg := kit.Default()
	cfg.StateDir, cfg.Image, cfg.Objects = filepath.Join(dir, "state"), filepath.Join(dir, "small.raw"), "rados"
	require.NoError(t, os.MkdirAll(filepath.Join(cfg.StateDir, "objects"), 0o700))
	for path, text := range map[string]string{
		cfg.Image: strings.Repeat("\x00", 64<<10),
		filepath.Join(cfg.StateDir, "image.yaml"): fmt.Sprintf(`
stores: [{name: ceph, type: rbd, rbd_store_ceph_conf: %q, rbd_store_pool: images}]
glance_store: {default_backend: ceph}
default: {show_image_direct_url: true}
`, c.Conf()),
		filepath.Join(cfg.StateDir, "objects", "rados.yaml"): fmt.Sprintf("{ceph_conf: %q, pool: objects, grace: 1s}", c.Conf()),
	} {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	}
	return cfg
}

func TestCeph(t *testing.T) {
	c := realserver.Ceph(t, "images", "objects")
	cfg := onCeph(t, c)
	srv := httptest.NewUnstartedServer(nil)
	t.Cleanup(srv.Close)
	cfg.URL = "http://" + srv.Listener.Addr().String()
	var cloud *servers.Local
	srv.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { cloud.Handler().ServeHTTP(w, r) })
	open := func() {
		var err error
		cloud, err = servers.OpenLocal(t.Context(), cfg, parts.All, slog.New(slog.DiscardHandler))
		require.NoError(t, err)
	}
	open()
	defer func() { require.NoError(t, cloud.Close()) }()
	srv.Start()
	require.NoError(t, cloud.Ready(t.Context()))

	p := &process{t: t, state: cfg.StateDir}
	compute := p.client(t.Context())
	im, err := openstack.NewImageV2(compute.ProviderClient, gophercloud.EndpointOpts{Region: "RegionOne"})
	require.NoError(t, err)
	os1, err := openstack.NewObjectStorageV1(compute.ProviderClient, gophercloud.EndpointOpts{Region: "RegionOne"})
	require.NoError(t, err)
	data := bytes.Repeat([]byte("0123456789abcdef"), 9<<20/16)

	made, err := images.Create(t.Context(), im, images.CreateOpts{Name: "big", DiskFormat: "raw", ContainerFormat: "bare"}).Extract()
	require.NoError(t, err)
	require.NoError(t, imagedata.Upload(t.Context(), im, made.ID, bytes.NewReader(data)).ExtractErr())
	got, err := images.Get(t.Context(), im, made.ID).Extract()
	require.NoError(t, err)
	require.Equal(t, images.ImageStatusActive, got.Status)
	require.EqualValues(t, len(data), got.SizeBytes)
	require.Contains(t, fmt.Sprint(got.Properties["direct_url"]), "rbd://"+strings.TrimSpace(c.Ctl(t, "fsid"))+"/images/")

	require.NoError(t, containers.Create(t.Context(), os1, "box", nil).Err)
	require.NoError(t, objects.Create(t.Context(), os1, "box", "thing", objects.CreateOpts{Content: bytes.NewReader(data)}).Err)

	require.NoError(t, cloud.Close())
	open()
	require.NoError(t, cloud.Ready(t.Context()))
	body, err := imagedata.Download(t.Context(), im, made.ID).Extract()
	require.NoError(t, err)
	back, err := io.ReadAll(body)
	require.NoError(t, err)
	require.NoError(t, body.Close())
	require.True(t, bytes.Equal(data, back))
	thing := objects.Download(t.Context(), os1, "box", "thing", nil)
	back, err = thing.ExtractContent()
	require.NoError(t, err)
	require.True(t, bytes.Equal(data, back))

	require.NoError(t, images.Delete(t.Context(), im, made.ID).ExtractErr())
	require.NoError(t, objects.Delete(t.Context(), os1, "box", "thing", nil).Err)
	names := func(args ...string) []string {
		out, err := exec.Command(args[0], append([]string{"-c", c.Conf()}, args[1:]...)...).Output()
		if err != nil {
			return []string{err.Error()}
		}
		return strings.Fields(string(out))
	}
	require.Eventually(t, func() bool {
		// The cloud's own first image stays.
		return len(names("rbd", "ls", "images")) == 1 && len(names("rados", "-p", "objects", "--all", "ls")) == 0
	}, 2*time.Minute, 500*time.Millisecond)
}
