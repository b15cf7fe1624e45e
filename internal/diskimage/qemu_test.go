//go:build realtest

package diskimage_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/internal/diskimage"
)

// What qemu-img makes is recognised, with the size that it was asked for.
func TestQEMUImages(t *testing.T) {
	dir := t.TempDir()
	img := func(args ...string) {
		t.Helper()
		cmd := exec.Command("qemu-img", args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "qemu-img %v: %s", args, out)
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "content"), mbr(), 0o600))
	img("resize", "-f", "raw", "content", "10M")
	for _, c := range []struct {
		format, options string
		want            diskimage.Format
		unsafe          string
	}{
		{"raw", "", diskimage.GPT, ""},
		{"qcow2", "compat=0.10", diskimage.QCOW2, ""},
		{"qcow2", "compat=1.1,lazy_refcounts=on", diskimage.QCOW2, ""},
		{"qcow2", "compression_type=zstd", diskimage.QCOW2, ""},
		{"qcow2", "cluster_size=2M", diskimage.QCOW2, ""},
		{"qcow2", "data_file=elsewhere", diskimage.QCOW2, "external data file"},
		{"vmdk", "subformat=monolithicSparse", diskimage.VMDK, ""},
		{"vmdk", "subformat=streamOptimized", diskimage.VMDK, ""},
		{"vmdk", "subformat=monolithicFlat", diskimage.VMDK, "other files"},
		{"vmdk", "subformat=twoGbMaxExtentSparse", diskimage.VMDK, "other files"},
		{"vdi", "", diskimage.VDI, ""},
		{"vdi", "static=on", diskimage.VDI, ""},
		{"vpc", "subformat=dynamic,force_size=on", diskimage.VHD, ""},
		{"vpc", "subformat=fixed,force_size=on", diskimage.GPT, ""},
		{"vhdx", "", diskimage.VHDX, ""},
		{"vhdx", "subformat=fixed", diskimage.VHDX, ""},
		{"parallels", "", diskimage.Ploop, ""},
		{"qed", "", diskimage.QED, "not allowed"},
	} {
		t.Run(c.format+","+c.options, func(t *testing.T) {
			name := c.format + ".img"
			args := []string{"convert", "-f", "raw", "-O", c.format}
			if c.options != "" {
				args = append(args, "-o", c.options)
			}
			img(append(args, "content", name)...)
			f, err := os.Open(filepath.Join(dir, name))
			require.NoError(t, err)
			defer f.Close()
			st, err := f.Stat()
			require.NoError(t, err)
			info, err := diskimage.InspectAt(f, st.Size())
			streamed, serr := diskimage.Inspect(f)
			require.Equal(t, info, streamed)
			require.Equal(t, err, serr)
			require.Equal(t, c.want, info.Format)
			if c.unsafe != "" {
				var e *nacre.Error
				require.ErrorAs(t, err, &e)
				require.Contains(t, e.Detail, c.unsafe)
				return
			}
			require.NoError(t, err)
			declared := map[string]string{"vpc": "vhd", "parallels": "ploop"}[c.format]
			if declared == "" {
				declared = c.format
			}
			require.NoError(t, info.Match(declared))
			require.EqualValues(t, 10*mib, info.DiskSize(declared))
			require.NoError(t, os.Remove(f.Name()))
		})
	}
	img("create", "-f", "qcow2", "-b", "content", "-F", "raw", "overlay")
	f, err := os.Open(filepath.Join(dir, "overlay"))
	require.NoError(t, err)
	defer f.Close()
	_, err = diskimage.Inspect(f)
	require.ErrorIs(t, err, nacre.UnsupportedMedia)

	img("create", "-f", "luks", "--object", "secret,id=s,data=x", "-o", "key-secret=s,iter-time=10", "encrypted", "10M")
	f, err = os.Open(filepath.Join(dir, "encrypted"))
	require.NoError(t, err)
	defer f.Close()
	info, err := diskimage.Inspect(f)
	require.NoError(t, err)
	require.Equal(t, diskimage.LUKS, info.Format)
	require.EqualValues(t, 10*mib, info.VirtualSize)
}
