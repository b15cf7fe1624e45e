package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/image/backend/file"
	"github.com/nacre-cloud/nacre/network"
	"github.com/nacre-cloud/nacre/servers"
	"github.com/nacre-cloud/nacre/store"
	"github.com/nacre-cloud/nacre/store/bunstore"
)

func nacreCommand(args ...string) (string, error) {
	var out bytes.Buffer
	err := run(args, &out)
	return out.String(), err
}

// state makes the state of a cloud, and lets damage change it.
func state(t *testing.T, damage func(cloud *servers.Cloud)) string {
	dir := t.TempDir()
	engines := map[string]store.Engine{}
	require.NoError(t, os.Mkdir(filepath.Join(dir, "db"), 0o700))
	for _, area := range servers.Areas() {
		e, err := bunstore.OpenSQLite(filepath.Join(dir, "db", area+".db"), bunstore.Options{})
		require.NoError(t, err)
		engines[area] = e
	}
	require.NoError(t, servers.Migrate(t.Context(), engines, true))
	images, err := file.New(filepath.Join(dir, "images"), file.Options{})
	require.NoError(t, err)
	cloud, err := servers.New(t.Context(), servers.Config{Engines: engines, Images: images, AdminPassword: "secret"})
	require.NoError(t, err)
	damage(cloud)
	require.NoError(t, cloud.Close())
	for _, e := range engines {
		require.NoError(t, e.Close())
	}
	return dir
}

func TestAudit(t *testing.T) {
	out, err := nacreCommand("audit", "--state-dir", state(t, func(*servers.Cloud) {}))
	require.NoError(t, err)
	require.Equal(t, "nothing found\n", out)

	damaged := state(t, func(cloud *servers.Cloud) {
		ctx := nacre.AsService(t.Context(), "test")
		n, err := cloud.Network.CreateNetwork(ctx, network.Network{Std: network.Std{Name: "n", ProjectID: cloud.Bootstrapped.ProjectID}, AdminUp: true})
		require.NoError(t, err)
		_, err = cloud.Network.AddHost(ctx, "node1")
		require.NoError(t, err)
		_, err = cloud.Network.EnsureServerPort(ctx, network.ServerPortRequest{ProjectID: cloud.Bootstrapped.ProjectID, ServerID: "11111111-1111-4111-8111-111111111111",
			NIC: network.ServerNIC{NetworkID: n.ID}, Host: "node1", Zone: "nova"})
		require.NoError(t, err)
	})
	out, err = nacreCommand("audit", "--state-dir", damaged, "--settle", "0s")
	require.ErrorIs(t, err, errFound)
	require.Contains(t, out, "belongs to server 11111111-1111-4111-8111-111111111111")
	out, err = nacreCommand("audit", "--state-dir", damaged, "--settle", "0s", "-o", "json")
	require.ErrorIs(t, err, errFound)
	require.Contains(t, out, `"Area": "network"`)

	_, err = nacreCommand("audit", "--state-dir", t.TempDir())
	require.ErrorContains(t, err, "holds no cloud")
}

func TestPolicy(t *testing.T) {
	out, err := nacreCommand("policy", "list", "compute")
	require.NoError(t, err)
	require.Contains(t, out, "os_compute_api:servers:create")
	out, err = nacreCommand("policy", "explain", "os_compute_api:servers:create", "--project", "p", "--target", "project_id=p")
	require.NoError(t, err)
	require.Regexp(t, "^yes", out)
	out, err = nacreCommand("policy", "explain", "os_compute_api:servers:create", "--project", "p", "--target", "project_id=other")
	require.NoError(t, err)
	require.Regexp(t, "^no", out)
	_, err = nacreCommand("policy", "explain", "no:such:rule")
	require.ErrorContains(t, err, "there is no rule")
	_, err = nacreCommand("policy", "list", "weather")
	require.Error(t, err)
}
