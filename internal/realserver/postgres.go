package realserver

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// PostgreSQL is a database server, on a socket in a directory of its own.
type PostgreSQL struct {
	process
	bin, dir string
	n        atomic.Int64
	// for TLS, over TCP
	port int
	cert string
}

// Postgres starts a server (Debian's postgresql) that forgets all at the end. Its
// collation does not sort by bytes, so that an engine's own shows.
func Postgres(t testing.TB) *PostgreSQL {
	t.Helper()
	bins, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	require.NoError(t, err)
	require.NotEmpty(t, bins, "PostgreSQL is not installed (apt-get install postgresql)")
	dir, attr := directory(t, "pg", "postgres")
	p := &PostgreSQL{bin: slices.Max(bins), dir: dir, port: Port(t)}
	var key string
	p.cert, key = certificate(t, dir, attr)
	data := filepath.Join(dir, "data")
	initdb := exec.Command(filepath.Join(p.bin, "initdb"), "-D", data, "-U", "postgres", "-A", "trust", "-N", "-E", "UTF8",
		"--locale", "C.UTF-8", "--locale-provider", "icu", "--icu-locale", "en")
	initdb.SysProcAttr, initdb.Dir = attr, dir
	out, err := initdb.CombinedOutput()
	require.NoError(t, err, "%s", out)
	p.process = process{t: t, make: func() *exec.Cmd {
		c := exec.Command(filepath.Join(p.bin, "postgres"), "-D", data, "-k", dir, "-c", "listen_addresses=127.0.0.1", "-c", "port="+strconv.Itoa(p.port), "-c", "ssl=on", "-c", "ssl_cert_file="+p.cert, "-c", "ssl_key_file="+key,
			"-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off", "-c", "deadlock_timeout=50ms")
		c.SysProcAttr, c.Dir = attr, dir
		return c
	}, up: func() error {
		return exec.Command(filepath.Join(p.bin, "pg_isready"), "-q", "-h", dir, "-p", strconv.Itoa(p.port)).Run()
	}}
	p.begin(t)
	t.Cleanup(p.Stop) // before it would be killed, which leaves shared memory behind
	return p
}

// Stop ends the server without waiting for its clients, in order nevertheless.
func (p *PostgreSQL) Stop() { p.end(syscall.SIGINT) }

// Database makes a new database and gives its DSN.
func (p *PostgreSQL) Database(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("t%d", p.n.Add(1))
	out, err := exec.Command(filepath.Join(p.bin, "createdb"), "-h", p.dir, "-p", strconv.Itoa(p.port), "-U", "postgres", name).CombinedOutput()
	require.NoError(t, err, "%s", out)
	return fmt.Sprintf("host=%s port=%d user=postgres dbname=%s sslmode=disable", p.dir, p.port, name)
}
