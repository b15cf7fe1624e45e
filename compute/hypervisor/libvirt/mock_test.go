//go:build libvirt && cgo

package libvirt

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	lv "libvirt.org/go/libvirt"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/compute/hypervisor"
	"github.com/nacre-cloud/nacre/compute/hypervisor/hypervisortest"
)

// test:///default is libvirt's mock driver: real XML, real states, no guests. It
// lives in this process, and comes with a domain "test" that is not ours.
const mock = "test:///default"

// keepMock holds the mock open, for it forgets all with its last connection.
func keepMock(t *testing.T) *lv.Connect {
	c, err := lv.NewConnect(mock)
	require.NoError(t, err)
	t.Cleanup(func() { _, _ = c.Close() })
	return c
}

func TestContractOnMock(t *testing.T) {
	conn := keepMock(t)
	dir := t.TempDir()
	cfg := Config{URI: mock, InstancesDir: filepath.Join(dir, "instances")}
	open := func(t *testing.T) hypervisor.Driver {
		d, err := New(cfg)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, d.Close()) })
		return d
	}
	// Another host: a mock of its own, which lives as long as its driver.
	def := filepath.Join(dir, "other.xml")
	require.NoError(t, os.WriteFile(def, []byte("<node><cpu><mhz>6000</mhz><model>i986</model><active>2</active><nodes>1</nodes><sockets>1</sockets><cores>2</cores><threads>1</threads></cpu><memory>8388608</memory></node>"), 0o600))
	other := func(t *testing.T) hypervisor.Driver {
		d, err := New(Config{URI: "test://" + def, InstancesDir: filepath.Join(dir, "other", "instances")})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, d.Close()) })
		return d
	}
	hypervisortest.Run(t, hypervisortest.Options{
		New: open, Reopen: open, Peer: other, NoLive: true, NoConsole: true, Timeout: 2 * time.Second,
		Leftovers: func(t *testing.T, id string) []string { return leftovers(t, conn, cfg, id) },
		PowerOff: func(t *testing.T, _ hypervisor.Driver, id string) {
			dom, err := conn.LookupDomainByUUIDString(id)
			require.NoError(t, err)
			defer dom.Free()
			require.NoError(t, dom.Shutdown())
		},
	})
	bases, err := os.ReadDir(filepath.Join(dir, "base"))
	require.NoError(t, err)
	require.Empty(t, bases, "no image copy outlives its last user")
	dom, err := conn.LookupDomainByName("test")
	require.NoError(t, err, "others' machines stay")
	_ = dom.Free()
}

// leftovers is what the host has because of an instance.
func leftovers(t *testing.T, conn *lv.Connect, cfg Config, id string) []string {
	found, err := filepath.Glob(filepath.Join(cfg.InstancesDir, id+"*"))
	require.NoError(t, err)
	if dom, err := conn.LookupDomainByUUIDString(id); err == nil {
		found = append(found, "domain "+id)
		_ = dom.Free()
	}
	parts, err := filepath.Glob(filepath.Join(cfg.withDefaults().BaseDir, "*"+partSuffix))
	require.NoError(t, err)
	return append(found, parts...)
}

func TestForeignDomainIsNotTouched(t *testing.T) {
	conn := keepMock(t)
	d, err := New(Config{URI: mock, InstancesDir: filepath.Join(t.TempDir(), "instances")})
	require.NoError(t, err)
	defer d.Close()
	foreign, err := conn.LookupDomainByName("test")
	require.NoError(t, err)
	defer foreign.Free()
	id, err := foreign.GetUUIDString()
	require.NoError(t, err)

	list, err := d.List(t.Context())
	require.NoError(t, err)
	require.Empty(t, list)
	_, err = d.Get(t.Context(), id)
	require.ErrorIs(t, err, nacre.NotFound)
	require.ErrorIs(t, d.Stop(t.Context(), id, 0), nacre.NotFound)
	require.ErrorIs(t, d.Pause(t.Context(), id), nacre.NotFound)
	spec := hypervisor.Spec{ID: id, VCPUs: 1, MemoryMB: 64, ImageID: "x"}
	require.ErrorIs(t, d.Create(t.Context(), spec, nil), nacre.Conflict)
	require.NoError(t, d.Delete(t.Context(), id))
	active, err := foreign.IsActive()
	require.NoError(t, err)
	require.True(t, active)
}

func TestCloseEndsAll(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	for range 2 {
		d, err := New(Config{URI: mock, InstancesDir: filepath.Join(t.TempDir(), "instances")})
		require.NoError(t, err)
		require.NoError(t, d.Close())
		require.NoError(t, d.Close())
	}
}

func TestConfigIsChecked(t *testing.T) {
	_, err := New(Config{URI: mock, InstancesDir: t.TempDir(), Accel: "hax"})
	require.ErrorIs(t, err, nacre.Invalid)
	_, err = New(Config{URI: "qemu+unix:///system?socket=/nonexistent/sock", InstancesDir: filepath.Join(t.TempDir(), "i")})
	require.ErrorIs(t, err, errDown)
}
