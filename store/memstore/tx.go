package memstore

import (
	"context"
	"fmt"
	"time"

	"github.com/nacre-cloud/nacre/store"
)

// tx is a transaction.
type tx struct {
	*store.Guard
	e        *Engine
	overlays map[string]*overlay

	// locks and waits belong to the engine's lockTable.
	locks []*lock
	waits *lock
}

// InTx implements store.Engine.
func (e *Engine) InTx(ctx context.Context, fn func(ctx context.Context) error) error {
	if x, err := e.tx(ctx); err != nil {
		return err
	} else if x != nil {
		return fmt.Errorf("%w: a transaction of the engine within one", store.ErrTx)
	}
	x := &tx{e: e, Guard: store.NewGuard(store.Here())}
	if err := e.begin(ctx, x); err != nil {
		return err
	}
	defer x.end()
	if err := fn(store.WithTx(ctx, e, x)); err != nil {
		return err
	}
	return x.commit(ctx)
}

func (e *Engine) tx(ctx context.Context) (*tx, error) {
	h, err := store.TxFrom(ctx, e)
	if h == nil || err != nil {
		return nil, err
	}
	return h.(*tx), nil
}

// begin takes the place of the writer, or in READ COMMITTED just joins.
func (e *Engine) begin(ctx context.Context, x *tx) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := e.gate.Enter(); err != nil {
		return err
	}
	if e.opt.ReadCommitted {
		return nil
	}
	if err := e.takeWriter(ctx, x); err != nil {
		e.gate.Leave()
		return err
	}
	return nil
}

func (e *Engine) takeWriter(ctx context.Context, x *tx) error {
	select {
	case e.writer <- struct{}{}:
	default:
		timer := time.NewTimer(e.opt.Wait)
		defer timer.Stop()
		select {
		case e.writer <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			return busy(e.opt.Wait, e.holder.Load())
		}
	}
	if x != nil {
		e.holder.Store(x)
	}
	return nil
}

func (e *Engine) giveWriter() {
	e.holder.Store(nil)
	<-e.writer
}

// end finishes the transaction; what was not committed is forgotten.
func (x *tx) end() {
	x.End(func() {
		x.overlays = nil
		if x.e.opt.ReadCommitted {
			x.e.locks.release(x)
		} else {
			x.e.giveWriter()
		}
	})
	x.e.gate.Leave()
}

// commit merges the overlays into the tables.
func (x *tx) commit(ctx context.Context) error {
	return x.Commit(ctx, func() error {
		x.e.mu.Lock()
		defer x.e.mu.Unlock()
		for name, o := range x.overlays {
			if x.e.tables[name] != o.t { // migrated meanwhile
				return store.ErrRaced
			}
		}
		for _, o := range x.overlays {
			for id := range o.touched {
				o.t.put(o.t.rows[id], o.rows[id])
			}
		}
		return nil
	})
}

// Lock implements store.Engine. Writers are serial, so it has nothing to wait
// for, except in READ COMMITTED.
func (e *Engine) Lock(ctx context.Context, keys []string) error {
	x, err := e.tx(ctx)
	if err != nil {
		return err
	}
	if x == nil {
		return fmt.Errorf("%w: Lock needs a transaction", store.ErrTx)
	}
	return x.Statement(ctx, func() error {
		for _, k := range keys {
			if err := x.lock(ctx, "key\x00"+k); err != nil {
				return err
			}
		}
		return nil
	})
}

// lock takes a lock in READ COMMITTED mode.
func (x *tx) lock(ctx context.Context, name string) error {
	if !x.e.opt.ReadCommitted {
		return nil
	}
	return x.e.locks.take(ctx, x, name, x.e.opt.Wait)
}

// Close implements store.Engine: it waits for running transactions and forgets
// all rows.
func (e *Engine) Close() error {
	e.gate.Close()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.tables = nil
	return nil
}
