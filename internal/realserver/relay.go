package realserver

import (
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TCPRelay passes connections on to an address, and can be cut as a link is: nothing
// gets through any more, and neither end is told.
type TCPRelay struct {
	l  net.Listener
	to string
	wg sync.WaitGroup

	mu     sync.Mutex
	whole  chan struct{} // closed while it passes on
	cut    bool
	closed bool
	conns  map[net.Conn]bool
}

// Relay starts one, on a port of its own.
func Relay(t testing.TB, to string) *TCPRelay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	r := &TCPRelay{l: l, to: to, whole: make(chan struct{}), conns: map[net.Conn]bool{}}
	close(r.whole)
	r.wg.Go(r.accept)
	t.Cleanup(r.close)
	return r
}

// Address is where it listens.
func (r *TCPRelay) Address() string { return r.l.Addr().String() }

// Cut stops all traffic, also that of connections that come. What one end sends
// meanwhile, its end included, arrives once the link is mended.
func (r *TCPRelay) Cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.cut {
		r.cut, r.whole = true, make(chan struct{})
	}
}

// Mend lets traffic pass again.
func (r *TCPRelay) Mend() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cut {
		r.cut = false
		close(r.whole)
	}
}

func (r *TCPRelay) close() {
	_ = r.l.Close()
	r.Mend()
	r.mu.Lock()
	r.closed = true
	for c := range r.conns {
		_ = c.Close()
	}
	r.mu.Unlock()
	r.wg.Wait()
}

// wait waits until the link is whole.
func (r *TCPRelay) wait() {
	r.mu.Lock()
	whole := r.whole
	r.mu.Unlock()
	<-whole
}

// keep notes a connection, to be closed at the end.
func (r *TCPRelay) keep(c net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		_ = c.Close()
		return false
	}
	r.conns[c] = true
	return true
}

func (r *TCPRelay) drop(c net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.conns, c)
	_ = c.Close()
}

func (r *TCPRelay) accept() {
	for {
		c, err := r.l.Accept()
		if err != nil {
			return
		}
		if r.keep(c) {
			r.wg.Go(func() { r.join(c) })
		}
	}
}

// join joins a connection to one of its own until either ends.
func (r *TCPRelay) join(near net.Conn) {
	defer r.drop(near)
	r.wait()
	far, err := net.DialTimeout("tcp", r.to, 5*time.Second)
	if err != nil || !r.keep(far) {
		return
	}
	defer r.drop(far)
	var both sync.WaitGroup
	pump := func(to, from net.Conn) {
		buf := make([]byte, 32<<10)
		for {
			n, err := from.Read(buf)
			r.wait()
			if n > 0 {
				if _, werr := to.Write(buf[:n]); werr != nil {
					err = werr
				}
			}
			if err != nil {
				_ = to.Close()
				_ = from.Close()
				return
			}
		}
	}
	both.Go(func() { pump(far, near) })
	both.Go(func() { pump(near, far) })
	both.Wait()
}
