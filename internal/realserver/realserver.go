// Package realserver starts the real servers that tests judge Nacre by: brokers
// and databases of Debian's packages, each on ports and directories of its own, as
// a child that ends with the test. Only tests with the tag realtest import it.
//
//	broker := realserver.RabbitMQ(t)
//	tr, err := amqp.Open(ctx, amqp.Options{URL: broker.URL()})
//
// A server that is not installed fails the test, with the name of its package: a
// suite that is asked for must not be silently left out. As root a server runs as
// the user that its package made.
package realserver

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// lines gathers what a server says, for the log of a test that fails.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) tail() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.b.Bytes()
	return string(b[max(0, len(b)-4000):])
}

// Port is a TCP port of 127.0.0.1 that nobody listens on.
func Port(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close() //nolint:errcheck // nothing was written
	return l.Addr().(*net.TCPAddr).Port
}

// directory makes a directory that belongs to the user (when we are root), and the
// attributes with which a child runs as that user.
func directory(t testing.TB, name, as string) (string, *syscall.SysProcAttr) {
	t.Helper()
	dir, err := os.MkdirTemp("", "nacre-"+name+"-")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) }) //nolint:errcheck // the system's own directory for such
	attr := &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if os.Geteuid() == 0 {
		u, err := user.Lookup(as)
		require.NoError(t, err)
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		require.NoError(t, err)
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		require.NoError(t, err)
		require.NoError(t, os.Chown(dir, int(uid), int(gid)))
		attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	return dir, attr
}

// process is a server that can be stopped and started again on the same state.
type process struct {
	t    testing.TB
	make func() *exec.Cmd
	up   func() error

	cmd  *exec.Cmd
	done chan struct{}
	log  lines
}

// Start starts the server and waits until it answers, for at most a minute.
func (p *process) Start() {
	p.t.Helper()
	p.cmd, p.done = p.make(), make(chan struct{})
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	require.NoError(p.t, p.cmd.Start())
	cmd, done := p.cmd, p.done
	go func() {
		defer close(done)
		_ = cmd.Wait()
	}()
	var err error
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if err = p.up(); err == nil {
			return
		}
		select {
		case <-done:
			require.FailNow(p.t, "the server ended", p.log.tail())
		default:
		}
	}
	require.NoError(p.t, err, p.log.tail())
}

// Kill ends the server at once, as a fault would.
func (p *process) Kill() { p.end(syscall.SIGKILL) }

// Stop ends the server in order, within 20 s.
func (p *process) Stop() { p.end(syscall.SIGTERM) }

func (p *process) end(sig syscall.Signal) {
	if p.cmd == nil {
		return
	}
	_ = syscall.Kill(-p.cmd.Process.Pid, sig)
	select {
	case <-p.done:
	case <-time.After(20 * time.Second):
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
		<-p.done
	}
	p.cmd = nil
}

func (p *process) begin(t testing.TB) {
	t.Helper()
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("the end of the server's log:\n%s", p.log.tail())
		}
	})
	p.Start()
}
