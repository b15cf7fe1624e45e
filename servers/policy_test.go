package servers_test

import (
	"bytes"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/keypairs"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/images"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	nacreservers "github.com/nacre-cloud/nacre/servers"
	"github.com/nacre-cloud/nacre/servers/parts"
)

// TestPolicyFiles shows an operator's policy.yaml at work: as it stands at the
// start, as it is changed under the running cloud, and as it is broken.
func TestPolicyFiles(t *testing.T) {
	c := config(t)
	dir := filepath.Join(c.StateDir, "policy")
	require.NoError(t, os.MkdirAll(dir, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "compute.yaml"), []byte("\"os_compute_api:os-keypairs:create\": \"!\"\n"), 0o600))
	var log record
	cloud, err := nacreservers.OpenLocal(t.Context(), c, parts.All, slog.New(slog.NewTextHandler(&log, nil)))
	require.NoError(t, err)
	require.NoError(t, cloud.Ready(t.Context()))
	t.Cleanup(func() { require.NoError(t, cloud.Close()) })
	compute, image := demo(t, cloud)

	create := func(name string) error {
		_, err := keypairs.Create(t.Context(), compute, keypairs.CreateOpts{Name: name}).Extract()
		return err
	}
	err = create("a")
	require.True(t, gophercloud.ResponseCodeIs(err, http.StatusForbidden), "%v", err)
	require.ErrorContains(t, err, "os_compute_api:os-keypairs:create")

	// Another area's file, while the cloud runs; and the first one's mended.
	require.NoError(t, os.WriteFile(filepath.Join(dir, "compute.yaml"), nil, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "image.yaml"), []byte("add_image: role:nobody\n"), 0o600))
	require.Eventually(t, func() bool { return create("a") == nil }, 10*time.Second, 50*time.Millisecond)
	add := func() error {
		_, err := images.Create(t.Context(), image, images.CreateOpts{Name: "x"}).Extract()
		return err
	}
	require.Eventually(t, func() bool { return gophercloud.ResponseCodeIs(add(), http.StatusForbidden) }, 10*time.Second, 50*time.Millisecond)

	// A file that makes no sense changes nothing, and the log says so.
	// It comes by a rename, as an editor saves: what is read is whole.
	broken := filepath.Join(dir, "new")
	require.NoError(t, os.WriteFile(broken, []byte("add_image: rule:not_there\n"), 0o600))
	require.NoError(t, os.Rename(broken, filepath.Join(dir, "image.yaml")))
	require.Eventually(t, func() bool {
		assert.True(t, gophercloud.ResponseCodeIs(add(), http.StatusForbidden))
		return strings.Contains(log.text(), "the policy file does not compile") && strings.Contains(log.text(), "image.yaml")
	}, 10*time.Second, 50*time.Millisecond)
}

// record keeps what is logged.
type record struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (r *record) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.b.Write(p)
}

func (r *record) text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.b.String()
}

// TestPolicyMistakes shows that a cloud does not start on rules that it can't read.
func TestPolicyMistakes(t *testing.T) {
	for want, change := range map[string]func(dir string){
		"network": func(dir string) {
			require.NoError(t, os.WriteFile(filepath.Join(dir, "network.yaml"), []byte("create_network: rule:not_there\n"), 0o600))
		},
		"placement.yaml": func(dir string) {
			require.NoError(t, os.WriteFile(filepath.Join(dir, "placement.yaml"), []byte("- a list\n"), 0o600))
		},
	} {
		c := config(t)
		c.PolicyDir = t.TempDir()
		change(c.PolicyDir)
		_, err := nacreservers.OpenLocal(t.Context(), c, parts.All, slog.New(slog.DiscardHandler))
		require.ErrorContains(t, err, want)
	}
	c := config(t)
	c.PolicyDir = filepath.Join(t.TempDir(), "gone")
	_, err := nacreservers.OpenLocal(t.Context(), c, parts.All, slog.New(slog.DiscardHandler))
	require.ErrorContains(t, err, "policy_dir")
	c.PolicyDir, c.PolicyNoScope = "", []string{"computer"}
	_, err = nacreservers.OpenLocal(t.Context(), c, parts.All, slog.New(slog.DiscardHandler))
	require.ErrorContains(t, err, `no area "computer"`)
}
