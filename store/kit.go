package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nacre-cloud/nacre"
)

// Guard is for engines: it keeps one transaction to the rules. Its statements
// run one at a time, a failed one dooms it, and after its end all is ErrTx.
type Guard struct {
	// Site is where the transaction began.
	Site Site

	turn   chan struct{}
	done   bool
	failed error
}

// NewGuard is the guard of a transaction that begins; site is Here() in the
// engine's InTx.
func NewGuard(site Site) *Guard {
	return &Guard{Site: site, turn: make(chan struct{}, 1)}
}

// Statement runs fn as the next statement. Any failure but ErrNoRow dooms the
// transaction; so does a context that has ended.
func (g *Guard) Statement(ctx context.Context, fn func() error) error {
	g.turn <- struct{}{}
	defer func() { <-g.turn }()
	if err := g.usable(); err != nil {
		return err
	}
	err := ctx.Err()
	if err == nil {
		err = fn()
	}
	if err != nil && !errors.Is(err, ErrNoRow) {
		g.failed = err
	}
	return err
}

// Commit runs fn, which commits, unless the transaction is doomed or ctx ended.
func (g *Guard) Commit(ctx context.Context, fn func() error) error {
	g.turn <- struct{}{}
	defer func() { <-g.turn }()
	if err := g.usable(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return fn()
}

// End runs fn, which gives back what the transaction holds, once no statement
// runs. Later statements fail.
func (g *Guard) End(fn func()) {
	g.turn <- struct{}{}
	defer func() { <-g.turn }()
	g.done = true
	fn()
}

// usable is nil, or why the transaction can't go on. A lost race stays one, so
// that the outermost function runs again whatever it did with the first error.
func (g *Guard) usable() error {
	switch {
	case g.done:
		return fmt.Errorf("%w: the transaction begun at %s has ended", ErrTx, g.Site)
	case errors.Is(g.failed, ErrRaced):
		return ErrRaced
	case g.failed != nil:
		return fmt.Errorf("%w: an earlier statement failed: %v", ErrTx, g.failed) //nolint:errorlint // a later statement must not pass for the first one's failure
	}
	return nil
}

// Busy is for engines: the error of a wait for another transaction that lasted
// too long, nacre.Unavailable. Its cause names the holder.
func Busy(waited time.Duration, holder string) error {
	return &nacre.Error{
		Kind: nacre.Unavailable, Code: "store_busy", Message: "The database is busy; please retry",
		Err: fmt.Errorf("store: waited %v for %s", waited, holder),
	}
}

// Gate is for engines: it counts what runs, so that Close can wait for it. The
// zero value is open.
type Gate struct {
	mu     sync.Mutex
	active int
	closed bool
	idle   chan struct{}
}

// Enter lets one more in; after Close it is nacre.Unavailable.
func (g *Gate) Enter() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return &nacre.Error{Kind: nacre.Unavailable, Code: "store_closed", Message: "The database is closed"}
	}
	g.active++
	return nil
}

// Leave undoes an Enter.
func (g *Gate) Leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.active--; g.active == 0 && g.idle != nil {
		close(g.idle)
		g.idle = nil
	}
}

// Close lets nobody in any more and waits for those within. It tells whether
// this was the first Close.
func (g *Gate) Close() bool {
	g.mu.Lock()
	first := !g.closed
	g.closed = true
	if g.active > 0 && g.idle == nil {
		g.idle = make(chan struct{})
	}
	idle := g.idle
	g.mu.Unlock()
	if idle != nil {
		<-idle
	}
	return first
}
