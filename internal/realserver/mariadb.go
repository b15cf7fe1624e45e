package realserver

import (
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Maria is a MariaDB server on a socket of its own.
type Maria struct {
	process
	dir string
	n   atomic.Int64
}

// MariaDB starts a server (Debian's mariadb-server). It takes some three seconds.
func MariaDB(t testing.TB) *Maria {
	t.Helper()
	const server = "/usr/sbin/mariadbd"
	require.FileExists(t, server, "MariaDB is not installed (apt-get install mariadb-server)")
	dir, attr := directory(t, "mariadb", "mysql")
	data := filepath.Join(dir, "data")
	install := exec.Command("mariadb-install-db", "--no-defaults", "--datadir="+data, "--auth-root-authentication-method=normal", "--skip-test-db")
	install.SysProcAttr, install.Dir = attr, dir
	out, err := install.CombinedOutput()
	require.NoError(t, err, "%s", out)
	m := &Maria{dir: dir}
	m.process = process{t: t, make: func() *exec.Cmd {
		c := exec.Command(server, "--no-defaults", "--datadir="+data, "--socket="+m.Socket(), "--pid-file="+filepath.Join(dir, "pid"), "--skip-networking",
			"--innodb-flush-log-at-trx-commit=2", "--innodb-doublewrite=0", "--innodb-buffer-pool-size=256M", "--skip-log-bin",
			// A collation that does not compare by bytes, so that ours shows.
			"--character-set-server=utf8mb4", "--collation-server=utf8mb4_unicode_ci")
		c.SysProcAttr, c.Dir = attr, dir
		return c
	}, up: func() error {
		c, err := net.DialTimeout("unix", m.Socket(), time.Second)
		if err != nil {
			return err
		}
		return c.Close()
	}}
	m.begin(t)
	return m
}

// Socket is where the server listens.
func (m *Maria) Socket() string { return filepath.Join(m.dir, "s") }

// URL is the one of a database, for the user root; an empty name is no database.
func (m *Maria) URL(database string) string {
	return fmt.Sprintf("mariadb://root@localhost/%s?socket=%s", database, m.Socket())
}

// Database makes a new database and gives its URL.
func (m *Maria) Database(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("t%d", m.n.Add(1))
	m.SQL(t, "CREATE DATABASE "+name)
	return m.URL(name)
}

// SQL runs a statement as the operator would, and gives what it prints.
func (m *Maria) SQL(t testing.TB, statement string) string {
	t.Helper()
	c := exec.Command("mariadb", "--no-defaults", "--socket="+m.Socket(), "--user=root", "--batch", "--skip-column-names", "-e", statement)
	out, err := c.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return strings.TrimSpace(string(out))
}
