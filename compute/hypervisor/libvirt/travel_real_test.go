//go:build realtest

package libvirt

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/compute/hypervisor"
)

// neighbour is another host's directories, as a peer.
type neighbour struct {
	d    *disks
	id   string
	read []string
	cut  int64 // if set, files end there
}

func (n *neighbour) Files(ctx context.Context) ([]hypervisor.File, error) {
	return n.d.files(ctx, n.id)
}

func (n *neighbour) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	n.read = append(n.read, name)
	r, err := n.d.open(ctx, n.id, name)
	if err == nil && n.cut > 0 {
		return struct {
			io.Reader
			io.Closer
		}{io.LimitReader(r, n.cut), r}, nil
	}
	return r, err
}

func (n *neighbour) Send(context.Context, io.Reader) error { panic("libvirt sends guests itself") }

func hostDisks(t *testing.T) *disks {
	t.Helper()
	dir := t.TempDir()
	d, err := openDisks(filepath.Join(dir, "instances"), filepath.Join(dir, "base"))
	require.NoError(t, err)
	return d
}

// guestRead is what a guest sees of a root disk.
func guestRead(t *testing.T, d *disks, id string) []byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "raw")
	require.NoError(t, tool(t.Context(), "qemu-img", "convert", "-f", "qcow2", "-O", "raw", d.path(id, rootFile), out))
	data, err := os.ReadFile(out)
	require.NoError(t, err)
	return data
}

func TestDisksTravel(t *testing.T) {
	from, to := hostDisks(t), hostDisks(t)
	image := bytes.Repeat([]byte("image "), 1<<16)
	spec := hypervisor.Spec{ID: "vm", ImageID: "img", SwapMB: 1, EphemeralGB: 0}
	require.NoError(t, from.begin("vm"))
	require.NoError(t, from.make(t.Context(), hypervisor.Spec{ID: "vm", ImageID: "img"}, newSource("img", "raw", image)))
	require.NoError(t, sparse(from.path("vm", swapFile), 1<<20))
	require.NoError(t, os.WriteFile(from.path("vm", configFile), []byte("a config drive"), 0o600))
	// What the guest wrote lies in the overlay.
	patch := filepath.Join(t.TempDir(), "patch")
	require.NoError(t, os.WriteFile(patch, bytes.Repeat([]byte{7}, 4096), 0o600))
	out, err := exec.Command("qemu-io", "-f", "qcow2", "-c", "write -P 7 65536 4096", from.path("vm", rootFile)).CombinedOutput()
	require.NoError(t, err, string(out))
	want := guestRead(t, from, "vm")
	require.Equal(t, bytes.Repeat([]byte{7}, 4096), want[65536:65536+4096])

	p := &neighbour{d: from, id: "vm"}
	require.NoError(t, to.begin("vm"))
	require.NoError(t, to.take(t.Context(), spec, p))
	require.Equal(t, want, guestRead(t, to, "vm"))
	top, err := to.overlay(t.Context(), "vm")
	require.NoError(t, err)
	require.Equal(t, to.base.dir, filepath.Dir(top.Backing))
	config, err := os.ReadFile(to.path("vm", configFile))
	require.NoError(t, err)
	require.Equal(t, "a config drive", string(config))
	require.Len(t, p.read, 4)

	// Again, larger, with another swap disk; the image copy is there already.
	p.read = nil
	spec.RootGB, spec.SwapMB, spec.EphemeralGB = 1, 2, 1
	require.NoError(t, to.take(t.Context(), spec, p))
	require.Len(t, p.read, 3)
	top, err = to.overlay(t.Context(), "vm")
	require.NoError(t, err)
	require.EqualValues(t, 1<<30, top.Virtual)
	require.Equal(t, want, guestRead(t, to, "vm")[:len(want)])
	for name, size := range map[string]int64{swapFile: 2 << 20, ephemeralFile: 1 << 30} {
		info, err := os.Stat(to.path("vm", name))
		require.NoError(t, err)
		require.Equal(t, size, info.Size(), name)
	}
	// What is on an ephemeral disk stays on it while it grows.
	written, third := []byte("the guest's own"), hostDisks(t)
	f, err := os.OpenFile(to.path("vm", ephemeralFile), os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteAt(written, 1<<29)
	require.NoError(t, errors.Join(err, f.Close()))
	require.NoError(t, third.begin("vm"))
	require.NoError(t, third.take(t.Context(), hypervisor.Spec{ID: "vm", RootGB: 1, SwapMB: 2, EphemeralGB: 2}, &neighbour{d: to, id: "vm"}))
	f, err = os.Open(third.path("vm", ephemeralFile))
	require.NoError(t, err)
	defer f.Close()
	got := make([]byte, len(written))
	_, err = f.ReadAt(got, 1<<29)
	require.NoError(t, err)
	require.Equal(t, written, got)
	info, err := f.Stat()
	require.NoError(t, err)
	require.EqualValues(t, 2<<30, info.Size())

	spec.SwapMB, spec.EphemeralGB = 0, 0
	require.NoError(t, to.take(t.Context(), spec, p))
	require.False(t, to.has("vm", ephemeralFile))
	require.False(t, to.has("vm", swapFile))

	// Back onto a smaller flavor it does not fit.
	require.NoError(t, from.begin("back"))
	err = from.take(t.Context(), hypervisor.Spec{ID: "back", RootGB: 1}, &neighbour{d: to, id: "vm"})
	require.NoError(t, err)
	require.NoError(t, to.grow(t.Context(), hypervisor.Spec{ID: "vm", RootGB: 2}, 1<<30))
	require.ErrorIs(t, from.take(t.Context(), hypervisor.Spec{ID: "back", RootGB: 1}, &neighbour{d: to, id: "vm"}), nacre.Invalid)

	// A file that breaks off is not taken for whole.
	require.ErrorIs(t, to.take(t.Context(), spec, &neighbour{d: from, id: "vm", cut: 1000}), nacre.Unavailable)
	// No other file is given away, and the last user of the image copy takes it along.
	for _, name := range []string{baseFile, consoleFile, "../" + "vm/disk", "x", ""} {
		_, err := from.open(t.Context(), "vm", name)
		require.ErrorIs(t, err, nacre.NotFound, name)
	}
	require.NoError(t, to.remove("vm"))
	require.Empty(t, dirEntries(t, to.base.dir))
}

func TestDisksOfAnExpectedGuest(t *testing.T) {
	from, to := hostDisks(t), hostDisks(t)
	require.NoError(t, from.begin("vm"))
	require.NoError(t, from.make(t.Context(), hypervisor.Spec{ID: "vm", ImageID: "img", RootGB: 1}, newSource("img", "raw", bytes.Repeat([]byte("image "), 1000))))
	require.NoError(t, sparse(from.path("vm", swapFile), 1<<20))
	require.NoError(t, os.WriteFile(from.path("vm", configFile), []byte("a config drive"), 0o600))
	p := &neighbour{d: from, id: "vm"}
	require.NoError(t, to.begin("vm"))
	require.NoError(t, to.expect(t.Context(), hypervisor.Spec{ID: "vm", RootGB: 1}, p))
	require.Len(t, p.read, 2, "the image copy and the config drive; the rest comes with the guest")
	a, err := from.files(t.Context(), "vm")
	require.NoError(t, err)
	b, err := to.files(t.Context(), "vm")
	require.NoError(t, err)
	require.Len(t, b, len(a))
	for i := range a {
		require.Equal(t, a[i].Name, b[i].Name)
		require.Equal(t, a[i].Virtual, b[i].Virtual, a[i].Name)
	}
}
