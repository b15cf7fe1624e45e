//go:build realtest

package bunstore_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/store"
	"github.com/nacre-cloud/nacre/store/bunstore"
	"github.com/nacre-cloud/nacre/store/storetest"
)

// server is a PostgreSQL server of our own, on a socket in a directory of its own.
type server struct {
	dir string
	cmd *exec.Cmd
	log bytes.Buffer
	n   atomic.Int64
}

// startPostgres fails the test when there is no PostgreSQL: a suite that is
// asked for must not be silently left out.
func startPostgres(t testing.TB) *server {
	t.Helper()
	bins, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	require.NoError(t, err)
	require.NotEmpty(t, bins, "PostgreSQL is not installed (apt-get install postgresql)")
	bin := slices.Max(bins)
	dir, err := os.MkdirTemp("", "nacre-pg-")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	attr := &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() == 0 { // the server refuses root
		u, err := user.Lookup("postgres")
		require.NoError(t, err)
		uid, err := strconv.Atoi(u.Uid)
		require.NoError(t, err)
		gid, err := strconv.Atoi(u.Gid)
		require.NoError(t, err)
		require.NoError(t, os.Chown(dir, uid, gid))
		attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	data := filepath.Join(dir, "data")
	// A collation that does not sort by bytes, so that ours shows.
	initdb := exec.Command(filepath.Join(bin, "initdb"), "-D", data, "-U", "postgres", "-A", "trust", "-N", "-E", "UTF8",
		"--locale", "C.UTF-8", "--locale-provider", "icu", "--icu-locale", "en")
	initdb.SysProcAttr, initdb.Dir = attr, dir
	out, err := initdb.CombinedOutput()
	require.NoError(t, err, "%s", out)

	s := &server{dir: dir}
	s.cmd = exec.Command(filepath.Join(bin, "postgres"), "-D", data, "-k", dir, "-c", "listen_addresses=",
		"-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off", "-c", "deadlock_timeout=50ms")
	s.cmd.SysProcAttr, s.cmd.Dir, s.cmd.Stderr = attr, dir, &s.log
	require.NoError(t, s.cmd.Start())
	t.Cleanup(func() {
		s.stop()
		if t.Failed() {
			t.Logf("the end of the server's log:\n%s", s.log.Bytes()[max(0, s.log.Len()-4000):])
		}
	})
	e, err := bunstore.OpenPostgres(s.dsn(""), bunstore.Options{})
	require.NoError(t, err)
	defer e.Close()
	require.Eventually(t, func() bool {
		return e.InTx(context.Background(), func(context.Context) error { return nil }) == nil
	}, 30*time.Second, 20*time.Millisecond, "the server does not answer")
	return s
}

func (s *server) stop() {
	if s.cmd.ProcessState == nil {
		s.cmd.Process.Signal(syscall.SIGINT) // does not wait for clients
		s.cmd.Wait()
	}
}

func (s *server) dsn(database string) string {
	if database == "" {
		database = "postgres"
	}
	return fmt.Sprintf("host=%s user=postgres dbname=%s sslmode=disable", s.dir, database)
}

// open gives an engine on a new database.
func (s *server) open(t testing.TB, o bunstore.Options) *bunstore.Engine {
	t.Helper()
	name := fmt.Sprintf("t%d", s.n.Add(1))
	bins, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	require.NoError(t, err)
	out, err := exec.Command(filepath.Join(slices.Max(bins), "createdb"), "-h", s.dir, "-U", "postgres", name).CombinedOutput()
	require.NoError(t, err, "%s", out)
	e, err := bunstore.OpenPostgres(s.dsn(name), o)
	require.NoError(t, err)
	return e
}

func TestPostgresContract(t *testing.T) {
	s := startPostgres(t)
	storetest.Run(t, func(t *testing.T) store.Engine { return s.open(t, bunstore.Options{}) })
}

func BenchmarkPostgres(b *testing.B) {
	s := startPostgres(b)
	storetest.Bench(b, func(b *testing.B) store.Engine { return s.open(b, bunstore.Options{}) })
}

// Waiting for a row, a name, a lock or a connection has a deadline.
func TestPostgresBusy(t *testing.T) {
	s := startPostgres(t)
	e := s.open(t, bunstore.Options{Wait: 200 * time.Millisecond, Conns: 2})
	defer e.Close()
	tab := pets(t, e)
	ctx := t.Context()
	require.NoError(t, e.InTx(ctx, func(in context.Context) error {
		require.NoError(t, store.Lock(in, e, "k"))
		_, err := tab.UpdateWhere(in, store.Eq("id", "a"), store.Set{"name": "x"})
		require.NoError(t, err)

		for name, fn := range map[string]func(ctx context.Context) error{
			"row":  func(ctx context.Context) error { _, err := tab.GetForUpdate(ctx, "a"); return err },
			"name": func(ctx context.Context) error { return tab.Insert(ctx, pet{ID: "x", Name: "x"}) },
			"lock": func(ctx context.Context) error { return store.Lock(ctx, e, "k") },
			"connection": func(context.Context) error {
				err := tab.Insert(ctx, pet{ID: "y", Name: "y"})
				require.ErrorContains(t, err, "postgres_test.go:")
				return err
			},
		} {
			require.ErrorIs(t, e.InTx(ctx, fn), nacre.Unavailable, name)
		}
		_, err = tab.UpdateWhere(ctx, store.Eq("id", "a"), store.Set{"name": "y"})
		require.ErrorIs(t, err, nacre.Unavailable, "a statement alone")
		return nil
	}))
}

// A server that goes away is Unavailable, and one that comes back is used again.
func TestPostgresGone(t *testing.T) {
	s := startPostgres(t)
	e := s.open(t, bunstore.Options{Wait: time.Second})
	defer e.Close()
	tab := pets(t, e)
	ctx := t.Context()
	err := store.InTx(ctx, e, func(in context.Context) error {
		require.NoError(t, tab.Insert(in, pet{ID: "b", Name: "b"}))
		s.stop()
		return tab.Insert(in, pet{ID: "c", Name: "c"})
	})
	require.ErrorIs(t, err, nacre.Unavailable)
	_, err = tab.Get(ctx, "a")
	require.ErrorIs(t, err, nacre.Unavailable)

	again := exec.Command(s.cmd.Path, s.cmd.Args[1:]...)
	again.SysProcAttr, again.Dir, again.Stderr = s.cmd.SysProcAttr, s.dir, &s.log
	require.NoError(t, again.Start())
	s.cmd = again
	require.Eventually(t, func() bool { _, err := tab.Get(ctx, "a"); return err == nil }, 20*time.Second, 20*time.Millisecond)
	n, err := tab.Count(ctx)
	require.NoError(t, err)
	require.EqualValues(t, 1, n)
}
