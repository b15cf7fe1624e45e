package bunstore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/nacre-cloud/nacre/store"
)

// Options shape an engine. Zero values work.
type Options struct {
	// Wait is how long to wait for another transaction; 0 means 10 seconds.
	Wait time.Duration
	// Readers is how many connections read on SQLite; 0 means 4.
	Readers int
	// Conns is how many connections there are on PostgreSQL or MariaDB; 0 means 16.
	Conns int
	// Synchronous is SQLite's setting of that name: FULL (the default; a commit
	// survives a power cut), NORMAL (the last ones may not) or OFF.
	Synchronous string
}

func (o Options) withDefaults() Options {
	if o.Wait == 0 {
		o.Wait = 10 * time.Second
	}
	if o.Readers == 0 {
		o.Readers = 4
	}
	if o.Conns == 0 {
		o.Conns = 16
	}
	if o.Synchronous == "" {
		o.Synchronous = "FULL"
	}
	return o
}

// Engine is a store.Engine on a SQL database. Use OpenSQLite, OpenPostgres or
// OpenMariaDB.
type Engine struct {
	dialect dialect
	opt     Options
	// write and read are one pool where any connection does either.
	write, read *pool
	gate        store.Gate
	temp        string
	written     sync.Map // *store.TableDef → *texts
}

var _ store.Engine = (*Engine)(nil)

// tx is a transaction.
type tx struct {
	*store.Guard
	s     *session
	begun time.Time
}

func (e *Engine) tx(ctx context.Context) (*tx, error) {
	h, err := store.TxFrom(ctx, e)
	if h == nil || err != nil {
		return nil, err
	}
	return h.(*tx), nil
}

// InTx implements store.Engine.
func (e *Engine) InTx(ctx context.Context, fn func(ctx context.Context) error) error {
	if x, err := e.tx(ctx); err != nil {
		return err
	} else if x != nil {
		return fmt.Errorf("%w: a transaction of the engine within one", store.ErrTx)
	}
	x := &tx{Guard: store.NewGuard(store.Here()), begun: time.Now()}
	return e.run(ctx, x, fn)
}

// run runs fn in x from its begin to its end.
func (e *Engine) run(ctx context.Context, x *tx, fn func(ctx context.Context) error) error {
	if err := e.gate.Enter(); err != nil {
		return err
	}
	defer e.gate.Leave()
	s, err := e.write.acquire(ctx, e.opt.Wait)
	if err != nil {
		return e.failure(ctx, err, nil)
	}
	defer e.write.release(s)
	if err := e.begin(ctx, s); err != nil {
		return err
	}
	x.s = s
	e.write.held(x)
	defer e.write.freed(x)
	committed := false
	defer x.End(func() {
		if !committed {
			e.rollback(ctx, s)
		}
	})
	if err := fn(store.WithTx(ctx, e, x)); err != nil {
		return err
	}
	return x.Commit(ctx, func() error {
		if _, err := s.exec(ctx, query{text: "COMMIT"}); err != nil {
			return e.failure(ctx, err, nil)
		}
		committed = true
		return nil
	})
}

// begin begins a transaction. Where another process has the writer's place, it
// asks again until Options.Wait is over: SQLite's own wait would not end with
// the context.
func (e *Engine) begin(ctx context.Context, s *session) error {
	since := time.Now()
	for {
		_, err := s.exec(ctx, query{text: e.dialect.begin()})
		if err == nil {
			return nil
		}
		err = e.failure(ctx, err, nil)
		if !errors.Is(err, store.ErrRaced) {
			e.rollback(ctx, s)
			return err
		}
		if time.Since(since) >= e.opt.Wait {
			return store.Busy(e.opt.Wait, "another process that writes to the database")
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("store: %w", ctx.Err())
		}
	}
}

// rollback undoes what the session has begun, also when its context has ended.
// A connection that can't even do that is thrown away.
func (e *Engine) rollback(ctx context.Context, s *session) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if _, err := s.exec(ctx, plain("ROLLBACK")); err != nil {
		s.broken = true
	}
}

// failure turns a driver's error into what Engine promises.
func (e *Engine) failure(ctx context.Context, err error, def *store.TableDef) error {
	if err == nil {
		return nil
	}
	if c := ctx.Err(); c != nil {
		return fmt.Errorf("store: %w", c)
	}
	return e.dialect.classify(err, def)
}

// alone runs one statement outside any transaction.
func (e *Engine) alone(ctx context.Context, p *pool, fn func(s *session) error) error {
	if err := e.gate.Enter(); err != nil {
		return err
	}
	defer e.gate.Leave()
	s, err := p.acquire(ctx, e.opt.Wait)
	if err != nil {
		return err
	}
	defer p.release(s)
	return fn(s)
}

// reading runs fn as a reading statement, in the context's transaction if any.
func (e *Engine) reading(ctx context.Context, def *store.TableDef, fn func(s *session) error) error {
	return e.statement(ctx, e.read, def, fn)
}

// writing runs fn as a writing statement. One that loses a race on its own, or may
// outlast its context, is run as a transaction.
func (e *Engine) writing(ctx context.Context, def *store.TableDef, fn func(s *session) error) error {
	x, err := e.tx(ctx)
	if err != nil {
		return err
	}
	if x != nil || !e.dialect.lasting() {
		err = e.statement(ctx, e.write, def, fn)
		if x != nil || !errors.Is(err, store.ErrRaced) {
			return err
		}
	}
	return store.InTx(ctx, e, func(ctx context.Context) error { return e.statement(ctx, e.write, def, fn) })
}

func (e *Engine) statement(ctx context.Context, p *pool, def *store.TableDef, fn func(s *session) error) error {
	x, err := e.tx(ctx)
	if err != nil {
		return err
	}
	if x == nil {
		return e.failure(ctx, e.alone(ctx, p, fn), def)
	}
	return x.Statement(ctx, func() error { return e.failure(ctx, fn(x.s), def) })
}

// Lock implements store.Engine.
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
			if err := e.dialect.lock(ctx, x.s, k); err != nil {
				return e.failure(ctx, err, nil)
			}
		}
		return nil
	})
}

// Close implements store.Engine. It may be called more than once.
func (e *Engine) Close() error {
	if !e.gate.Close() {
		return nil
	}
	err := e.read.close()
	if e.write != e.read {
		err = errors.Join(err, e.write.close())
	}
	if e.temp != "" {
		err = errors.Join(err, os.RemoveAll(e.temp))
	}
	return err
}
