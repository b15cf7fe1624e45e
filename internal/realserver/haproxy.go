package realserver

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// HAProxy runs a proxy (Debian's haproxy) with a configuration, and waits until address,
// where it says to listen, takes connections.
func HAProxy(t testing.TB, conf, address string) {
	t.Helper()
	bin, err := exec.LookPath("haproxy")
	if err != nil {
		bin = "/usr/sbin/haproxy"
	}
	require.FileExists(t, bin, "HAProxy is not installed (apt-get install haproxy)")
	path := filepath.Join(t.TempDir(), "haproxy.cfg")
	require.NoError(t, os.WriteFile(path, []byte(conf), 0o600))
	p := process{t: t, make: func() *exec.Cmd {
		c := exec.Command(bin, "-db", "-f", path)
		c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
		return c
	}, up: func() error {
		c, err := net.DialTimeout("tcp", address, time.Second)
		if err != nil {
			return err
		}
		return c.Close()
	}}
	p.begin(t)
}
