//go:build realtest

package importer_test

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/image/importer"
	"github.com/nacre-cloud/nacre/internal/diskimage"
)

// Each format that qemu-img makes is converted to each that imports convert to, and
// the disk stays the same.
func TestConvert(t *testing.T) {
	dir := t.TempDir()
	disk := bytes.Repeat([]byte("nacre 16 bytes.."), 64<<10)
	require.NoError(t, os.WriteFile(dir+"/disk.raw", disk, 0o600))
	q := &importer.QemuImg{Dir: t.TempDir()}
	for glance, qemu := range map[string]string{"raw": "raw", "qcow2": "qcow2", "vmdk": "vmdk", "vdi": "vdi", "vhd": "vpc", "vhdx": "vhdx"} {
		args := []string{"convert", "-f", "raw", "-O", qemu}
		if qemu == "vmdk" {
			args = append(args, "-o", "subformat=monolithicSparse")
		}
		out, err := exec.Command("qemu-img", append(args, dir+"/disk.raw", dir+"/out."+qemu)...).CombinedOutput()
		require.NoError(t, err, string(out))
		for _, to := range []string{"raw", "qcow2", "vmdk"} {
			f, err := os.Open(dir + "/out." + qemu)
			require.NoError(t, err)
			r, err := q.Convert(t.Context(), f, glance, to)
			require.NoError(t, err, "%s to %s", glance, to)
			require.NoError(t, f.Close())
			b, err := io.ReadAll(r)
			require.NoError(t, err)
			require.NoError(t, r.Close())
			info, err := diskimage.Inspect(bytes.NewReader(b))
			require.NoError(t, err)
			require.NoError(t, info.Match(to))
			if to == "raw" {
				require.True(t, bytes.HasPrefix(b, disk), "from %s", glance)
			}
		}
	}
	left, err := os.ReadDir(q.Dir)
	require.NoError(t, err)
	require.Empty(t, left)

	// A disk larger than allowed, and an output larger than allowed.
	big := dir + "/big.qcow2"
	out, err := exec.Command("qemu-img", "create", "-f", "qcow2", big, "2T").CombinedOutput()
	require.NoError(t, err, string(out))
	f, err := os.Open(big)
	require.NoError(t, err)
	defer f.Close() //nolint:errcheck // read only
	_, err = q.Convert(t.Context(), f, "qcow2", "raw")
	require.ErrorIs(t, err, nacre.TooLarge)
	small := &importer.QemuImg{Dir: q.Dir, MaxOutput: 64 << 10}
	_, err = small.Convert(t.Context(), bytes.NewReader(disk), "raw", "qcow2")
	require.ErrorIs(t, err, nacre.UnsupportedMedia)
	if left, err = os.ReadDir(q.Dir); err != nil || len(left) > 0 {
		require.Fail(t, "files are left", "%v %v", left, err)
	}
}
