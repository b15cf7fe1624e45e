package ldap

import (
	"context"
	"time"

	goldap "github.com/go-ldap/ldap/v3"
)

// pool keeps idle connections for a while.
type pool struct {
	idle     chan pooled
	lifetime time.Duration
}

type pooled struct {
	*goldap.Conn
	until time.Time
}

func newPool(size int, lifetime time.Duration) pool {
	return pool{make(chan pooled, max(0, size)), lifetime}
}

// take is an idle connection; none has no Conn.
func (p *pool) take() pooled {
	for {
		select {
		case c := <-p.idle:
			if !c.IsClosing() && time.Now().Before(c.until) {
				return c
			}
			c.Close() //nolint:errcheck // of no use
		default:
			return pooled{}
		}
	}
}

func (p *pool) give(c pooled) {
	select {
	case p.idle <- c:
	default:
		c.Close() //nolint:errcheck // one too many
	}
}

func (p *pool) close() {
	for {
		select {
		case c := <-p.idle:
			c.Close() //nolint:errcheck // idle
		default:
			return
		}
	}
}

// use does something on a connection of a pool, or else on a new one, and again
// where the server can't be reached. An idle connection that the server has closed
// meanwhile does not count.
func (d *Driver) use(ctx context.Context, p *pool, open func() (*goldap.Conn, error), do func(*goldap.Conn) error) error {
	for try := 1; ; {
		if err := ctx.Err(); err != nil {
			return err
		}
		c := p.take()
		fresh := c.Conn == nil
		var err error
		if fresh {
			c.until = time.Now().Add(p.lifetime)
			c.Conn, err = open()
		}
		if err == nil {
			err = do(c.Conn)
			if !goldap.IsErrorWithCode(err, goldap.ErrorNetwork) {
				p.give(c)
				return err
			}
			c.Close() //nolint:errcheck // of no use
		}
		switch {
		case !fresh:
			continue
		case !goldap.IsErrorWithCode(err, goldap.ErrorNetwork):
			return err
		}
		if try++; try > d.cfg.Retries {
			return err
		}
		wait := time.NewTimer(d.cfg.RetryDelay)
		select {
		case <-ctx.Done():
			wait.Stop()
			return ctx.Err()
		case <-wait.C:
		}
	}
}
