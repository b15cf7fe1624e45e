package realserver

import (
	"fmt"
	"net"
	"net/url"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Maria is a MariaDB server on a socket and a port of its own, with TLS.
type Maria struct {
	process
	dir  string
	port int
	n    atomic.Int64
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
	m := &Maria{dir: dir, port: Port(t)}
	certificate(t, dir, attr)
	m.process = process{t: t, make: func() *exec.Cmd {
		c := exec.Command(server, "--no-defaults", "--datadir="+data, "--socket="+m.Socket(), "--pid-file="+filepath.Join(dir, "pid"), "--bind-address=127.0.0.1", "--port="+strconv.Itoa(m.port),
			"--ssl-cert="+m.CA(), "--ssl-key="+filepath.Join(dir, "key.pem"),
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

// CA is the file with the certificate that the server shows, for 127.0.0.1.
func (m *Maria) CA() string { return filepath.Join(m.dir, "cert.pem") }

// TLSURL is the one of a database over TCP with TLS, for the user secure, whom the
// server refuses without it.
func (m *Maria) TLSURL(t testing.TB, database string) string {
	t.Helper()
	m.SQL(t, "CREATE OR REPLACE USER secure@'%' IDENTIFIED BY 'se:cret/?' REQUIRE SSL; GRANT ALL ON "+database+".* TO secure@'%'")
	return fmt.Sprintf("mariadb://secure:%s@127.0.0.1:%d/%s?tls=true&ca=%s", url.QueryEscape("se:cret/?"), m.port, database, m.CA())
}

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
