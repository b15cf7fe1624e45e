package realserver

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

// CephCluster is a Ceph of one monitor and one OSD, which keeps its data in a file.
type CephCluster struct {
	dir      string
	mon, osd process
}

const cephConf = `[global]
fsid = %[1]s
mon host = [v2:127.0.0.1:%[2]d,v1:127.0.0.1:%[3]d]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind ipv6 = false
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
auth allow insecure global id reclaim = false
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon allow pool delete = true
mon warn on pool no redundancy = false
mon data avail crit = 1
mon data avail warn = 2
run dir = %[4]s
admin socket = %[4]s/$name.$pid.$cctid.asok
pid file =
log file =
log to stderr = true
err to stderr = true
keyring = %[4]s/keyring
mon data = %[4]s/mon.$id
osd data = %[4]s/osd.$id
osd objectstore = bluestore
bluestore block size = 4294967296
bluestore fsck on mount = false
bluestore cache autotune = false
bluestore cache size = 67108864
osd memory target = 939524096
`

// Ceph starts a cluster (Debian's ceph-mon and ceph-osd) with these pools, in some
// ten seconds. It has no manager, which counts and shows but serves no data.
func Ceph(t testing.TB, pools ...string) *CephCluster {
	t.Helper()
	for _, bin := range []string{"ceph", "ceph-mon", "ceph-osd", "ceph-authtool", "monmaptool"} {
		_, err := exec.LookPath(bin)
		require.NoError(t, err, "Ceph is not installed (apt-get install ceph-mon ceph-osd ceph-common)")
	}
	dir, attr := directory(t, "ceph", "ceph")
	c := &CephCluster{dir: dir}
	fsid, v2, v1 := uuid.NewString(), Port(t), Port(t)
	require.NoError(t, os.WriteFile(c.Conf(), fmt.Appendf(nil, cephConf, fsid, v2, v1, dir), 0o644)) //nolint:gosec // the daemons' user reads it
	run := func(args ...string) string {
		t.Helper()
		cmd := exec.Command(args[0], args[1:]...)
		cmd.SysProcAttr, cmd.Dir, cmd.Env = attr, dir, append(os.Environ(), "CEPH_CONF="+c.Conf())
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%v: %s", args, out)
		return string(out)
	}
	daemon := func(args ...string) func() *exec.Cmd {
		return func() *exec.Cmd {
			cmd := exec.Command(args[0], append(args[1:], "-f", "-c", c.Conf())...)
			cmd.SysProcAttr, cmd.Dir = attr, dir
			return cmd
		}
	}
	run("ceph-authtool", "--create-keyring", "keyring", "--gen-key", "-n", "mon.", "--cap", "mon", "allow *")
	run("ceph-authtool", "keyring", "--gen-key", "-n", "client.admin", "--cap", "mon", "allow *", "--cap", "osd", "allow *")
	run("ceph-authtool", "keyring", "--gen-key", "-n", "osd.0", "--cap", "mon", "allow profile osd", "--cap", "osd", "allow *")
	require.NoError(t, os.Chmod(filepath.Join(dir, "keyring"), 0o644)) //nolint:gosec // a key of this test
	run("monmaptool", "--create", "--clobber", "--fsid", fsid, "--addv", "a", fmt.Sprintf("[v2:127.0.0.1:%d,v1:127.0.0.1:%d]", v2, v1), "monmap")
	run("ceph-mon", "--mkfs", "-i", "a", "--monmap", "monmap", "--keyring", "keyring")
	c.mon = process{t: t, make: daemon("ceph-mon", "-i", "a"), up: func() error { return c.try("mon", "stat") }}
	c.mon.begin(t)
	c.Ctl(t, "mon", "enable-msgr2")
	osd := uuid.NewString()
	c.Ctl(t, "osd", "new", osd, "0")
	require.NoError(t, os.Mkdir(filepath.Join(dir, "osd.0"), 0o755)) //nolint:gosec // the daemon's user owns it next
	if attr.Credential != nil {
		require.NoError(t, os.Chown(filepath.Join(dir, "osd.0"), int(attr.Credential.Uid), int(attr.Credential.Gid)))
	}
	run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
	c.osd = process{t: t, make: daemon("ceph-osd", "-i", "0"), up: func() error {
		if out, err := c.ctl("osd", "stat"); err != nil || !strings.Contains(out, "1 up") {
			return fmt.Errorf("no OSD is up: %s", out)
		}
		return nil
	}}
	c.osd.begin(t)
	for _, pool := range pools {
		c.Ctl(t, "osd", "pool", "create", pool, "8")
		c.Ctl(t, "osd", "pool", "application", "enable", pool, "nacre")
	}
	return c
}

// Conf is the cluster's configuration file, for the user client.admin.
func (c *CephCluster) Conf() string { return filepath.Join(c.dir, "ceph.conf") }

func (c *CephCluster) ctl(args ...string) (string, error) {
	out, err := exec.Command("ceph", append([]string{"-c", c.Conf(), "--connect-timeout", "20"}, args...)...).CombinedOutput()
	return string(out), err
}

func (c *CephCluster) try(args ...string) error {
	_, err := c.ctl(args...)
	return err
}

// Ctl runs the command ceph.
func (c *CephCluster) Ctl(t testing.TB, args ...string) string {
	t.Helper()
	out, err := c.ctl(args...)
	require.NoError(t, err, "%s", out)
	return out
}

// FillUp has the cluster take itself for full, as soon as it notices; the function
// that it gives ends that.
func (c *CephCluster) FillUp(t testing.TB) (end func()) {
	t.Helper()
	ratios := func(near, backfill, full string) {
		for _, r := range [][2]string{{"nearfull", near}, {"backfillfull", backfill}, {"full", full}} {
			c.Ctl(t, "osd", "set-"+r[0]+"-ratio", r[1])
		}
	}
	ratios("0.0001", "0.0002", "0.0003")
	return func() { ratios("0.85", "0.90", "0.95") }
}

// Crash ends the daemon that keeps the data, as a power cut would, and starts it
// again.
func (c *CephCluster) Crash() {
	c.osd.end(syscall.SIGKILL)
	c.osd.Start()
}
