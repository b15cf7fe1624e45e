//go:build realtest

package servers_test

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	computeapi "github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

// previousRelease builds the programs of the release that tools/previous-release names.
func previousRelease(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../tools/previous-release")
	require.NoError(t, err)
	commit, source := strings.TrimSpace(string(text)), t.TempDir()
	git := exec.Command("git", "-c", "safe.directory=*", "-C", "..", "archive", "--output", filepath.Join(source, "release.tar"), commit)
	out, err := git.CombinedOutput()
	require.NoError(t, err, "the previous release, %s, is not in this clone, or this is none; git fetch --unshallow gets it: %s", commit, out)
	out, err = exec.Command("tar", "-C", source, "-xf", filepath.Join(source, "release.tar")).CombinedOutput()
	require.NoError(t, err, string(out))
	to := t.TempDir()
	buildPrograms(t, filepath.Join(source, "servers"), to)
	return to
}

// TestUpgrade upgrades a cloud as an operator does: the programs of the previous release
// run, two copies of each function and two hosts; this release's `nacre db migrate`
// brings the databases forward beneath them; then one copy of each function and one host
// are replaced under load. In the mix the conformance suite passes, and what a copy of
// one release makes on a host of either, a copy of the other sees through its life. Then
// the rest is replaced, under load again.
func TestUpgrade(t *testing.T) {
	on := onPostgres(t)
	on.release = previousRelease(t)
	c := startCopies(t, on)
	c.unlimited(t)
	image := c.begin(t)
	l := startLoad(t, c, image)
	c.bin = t.TempDir()
	buildPrograms(t, ".", c.bin)
	for _, f := range functions {
		c.tool("--config", c.programs[f+"-1"].config, "db", "migrate", "--area", f)
	}
	c.tool("--config", c.programs["identity-1"].config, "db", "migrate", "--area", "objectstore")
	c.replace(t, "-2")
	l.stop()
	l.settle(t)
	t.Run("Mix", func(t *testing.T) { c.mix(t, image) })
	t.Run("Conformance", c.conformance)
	l = startLoad(t, c, image)
	c.replace(t, "-1")
	l.stop()
	l.settle(t)
}

// replace stops programs of the release before, one after the other, and starts those of
// this one in their place.
func (c *copies) replace(t *testing.T, which string) {
	for _, f := range append(functions, "host") {
		p := c.programs[f+which]
		require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
		ended := make(chan struct{})
		go func() { defer close(ended); _ = p.cmd.Wait() }()
		select {
		case <-ended:
		case <-time.After(time.Minute):
			p.kill()
			t.Fatalf("%s does not end", p.name)
		}
		p.binary = filepath.Join(c.bin, filepath.Base(p.binary))
		require.NoError(t, p.start())
	}
}

// copy is the administrator's client of one copy of compute.
func (c *copies) copy(t *testing.T, name string) *gophercloud.ServiceClient {
	text, err := os.ReadFile(c.programs[name].config)
	require.NoError(t, err)
	var conf struct {
		Listen string `yaml:"listen"`
	}
	require.NoError(t, yaml.Unmarshal(text, &conf))
	compute, err := openstack.NewComputeV2(c.client("admin"), regionOne)
	require.NoError(t, err)
	compute.Endpoint = strings.Replace(compute.Endpoint, c.url, "http://"+conf.Listen, 1)
	compute.Microversion = "2.37"
	return compute
}

// mix has a copy of one release make a server on each host, and a copy of the other stop
// and delete it, and the reverse.
func (c *copies) mix(t *testing.T, image string) {
	one, two := c.copy(t, "compute-1"), c.copy(t, "compute-2")
	for _, host := range hostNames {
		for name, by := range map[string][2]*gophercloud.ServiceClient{"made by the previous release": {one, two}, "made by this release": {two, one}} {
			t.Run(host+" "+name, func(t *testing.T) {
				sv, err := computeapi.Create(t.Context(), by[0], computeapi.CreateOpts{Name: "mix", ImageRef: image, FlavorRef: "42", Networks: "none", AvailabilityZone: "nova:" + host}, nil).Extract()
				require.NoError(t, err)
				status := func(want string) {
					t.Helper()
					require.Eventually(t, func() bool {
						sv, err := computeapi.Get(t.Context(), by[1], sv.ID).Extract()
						return assert.NoError(t, err) && sv.Status == want
					}, time.Minute, 50*time.Millisecond, want)
				}
				status("ACTIVE")
				require.NoError(t, computeapi.Stop(t.Context(), by[1], sv.ID).ExtractErr())
				status("SHUTOFF")
				require.NoError(t, computeapi.Start(t.Context(), by[0], sv.ID).ExtractErr())
				status("ACTIVE")
				require.NoError(t, computeapi.Delete(t.Context(), by[1], sv.ID).ExtractErr())
				require.Eventually(t, func() bool {
					_, err := computeapi.Get(t.Context(), by[0], sv.ID).Extract()
					return gophercloud.ResponseCodeIs(err, http.StatusNotFound)
				}, time.Minute, 50*time.Millisecond, "the server is there yet")
			})
		}
	}
	require.NoError(t, c.audited(t.Context()))
}
