//go:build libvirt && cgo

package libvirt

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	lv "libvirt.org/go/libvirt"

	"github.com/nacre-cloud/nacre"
)

// The event loop is libvirt's and belongs to the process; it runs while any
// driver is open.
var loop struct {
	once  sync.Once
	err   error
	mu    sync.Mutex
	users int
	done  chan struct{}
}

// tick makes the loop look whether it is still needed, in milliseconds.
const tick = 200

func loopUp() error {
	loop.once.Do(func() {
		if loop.err = lv.EventRegisterDefaultImpl(); loop.err == nil {
			_, loop.err = lv.EventAddTimeout(tick, func(int) {})
		}
	})
	if loop.err != nil {
		return loop.err
	}
	loop.mu.Lock()
	defer loop.mu.Unlock()
	if loop.users++; loop.users > 1 {
		return nil
	}
	done := make(chan struct{})
	loop.done = done
	go func() {
		defer close(done)
		for {
			loop.mu.Lock()
			needed := loop.users > 0
			loop.mu.Unlock()
			if !needed || lv.EventRunDefaultImpl() != nil {
				return
			}
		}
	}()
	return nil
}

func loopDown() {
	loop.mu.Lock()
	loop.users--
	last, done := loop.users == 0, loop.done
	loop.mu.Unlock()
	if last {
		<-done
	}
}

// connection is a link to libvirt that is made anew when it broke.
type connection struct {
	uri string
	// onEvent is told of each domain whose state changed; onReboot of each reset.
	onEvent, onReboot func(id string)

	mu        sync.Mutex
	conn      *lv.Connect
	callbacks []int
	made      int // how many connections there were
	broken    atomic.Bool
}

var errDown = errors.New("libvirt does not answer")

// get is a live connection, on which the caller has a reference of its own: it
// calls Close when done, and the memory stays while another replaces the
// connection.
func (c *connection) get() (*lv.Connect, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn != nil && !c.broken.Load() {
		if ok, err := c.conn.IsAlive(); ok && err == nil {
			return c.conn, c.conn.Ref()
		}
	}
	c.drop()
	conn, err := lv.NewConnect(c.uri)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errDown, err)
	}
	if err := c.subscribe(conn); err != nil {
		_, _ = conn.Close()
		return nil, err
	}
	c.conn = conn
	c.made++
	c.broken.Store(false)
	return conn, conn.Ref()
}

func (c *connection) subscribe(conn *lv.Connect) error {
	tell := func(to func(string), d *lv.Domain) {
		if id, err := d.GetUUIDString(); err == nil {
			to(id)
		}
	}
	life, err := conn.DomainEventLifecycleRegister(nil, func(_ *lv.Connect, d *lv.Domain, _ *lv.DomainEventLifecycle) { tell(c.onEvent, d) })
	if err != nil {
		return err
	}
	reboot, err := conn.DomainEventRebootRegister(nil, func(_ *lv.Connect, d *lv.Domain) { tell(c.onReboot, d) })
	if err != nil {
		return err
	}
	c.callbacks = []int{life, reboot}
	// The mock driver has no keep-alive.
	if err := conn.SetKeepAlive(5, 3); err != nil && !isCode(err, lv.ERR_NO_SUPPORT) {
		return err
	}
	return nil
}

// epoch changes with each new connection. Another call than the watchdog's may
// have made it, so the watchdog compares with what it saw last.
func (c *connection) epoch() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.made
}

// drop gives up the connection; c.mu is held.
func (c *connection) drop() {
	if c.conn == nil {
		return
	}
	for _, id := range c.callbacks {
		// Each holds the connection; on a dead one only our side is undone.
		_ = c.conn.DomainEventDeregister(id)
	}
	_, _ = c.conn.Close()
	c.conn, c.callbacks = nil, nil
}

func (c *connection) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop()
}

// watchdog notices a connection that broke while nobody called, makes it anew,
// and then calls restored: events of the time between are lost.
func (c *connection) watchdog(stop <-chan struct{}, restored func()) {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	seen := 0
	for {
		select {
		case <-stop:
			return
		case <-t.C:
		}
		conn, err := c.get()
		if err != nil {
			continue
		}
		_, _ = conn.Close()
		if now := c.epoch(); now != seen {
			seen = now
			restored()
		}
	}
}

func isCode(err error, codes ...lv.ErrorNumber) bool {
	var e lv.Error
	if !errors.As(err, &e) {
		return false
	}
	for _, c := range codes {
		if e.Code == c {
			return true
		}
	}
	return false
}

// fault turns a libvirt error into one that a user may read, with the cause for
// the log. A broken connection stays what it is: it is tried again for longer.
func (c *connection) fault(doing string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errDown):
		return err
	case isCode(err, lv.ERR_RPC, lv.ERR_NO_CONNECT, lv.ERR_INVALID_CONN):
		c.broken.Store(true)
		return fmt.Errorf("%w: %w", errDown, err)
	}
	if ok, aliveErr := c.alive(); !ok || aliveErr != nil {
		return fmt.Errorf("%w: %w", errDown, err)
	}
	return &nacre.Error{Kind: nacre.Unavailable, Code: "fault", Message: "The hypervisor could not " + doing + " the server.", Err: err}
}

func (c *connection) alive() (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn == nil {
		return false, nil
	}
	return c.conn.IsAlive()
}
