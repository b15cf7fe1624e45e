package memstore

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nacre-cloud/nacre/store"
)

// Options shape an engine. The zero value is what tests and the embedded cloud use.
type Options struct {
	// ReadCommitted lets transactions run side by side and see what others
	// commit meanwhile, as PostgreSQL does at that isolation level.
	ReadCommitted bool
	// Wait is how long to wait for another transaction; 0 means 10 seconds.
	Wait time.Duration
}

// Engine is a store.Engine in memory. Use New.
type Engine struct {
	opt Options

	// mu guards tables and the committed rows in them. It is held for a
	// statement's work in memory, never across a wait.
	mu     sync.RWMutex
	tables map[string]*table
	stamps map[string]int

	// writer holds one element while a transaction or a writing statement runs;
	// holder is that transaction.
	writer chan struct{}
	holder atomic.Pointer[tx]
	locks  lockTable

	gate store.Gate
}

var _ store.Engine = (*Engine)(nil)

// New opens an empty store.
func New(o Options) *Engine {
	if o.Wait == 0 {
		o.Wait = 10 * time.Second
	}
	return &Engine{
		opt: o, tables: map[string]*table{}, stamps: map[string]int{}, writer: make(chan struct{}, 1),
		locks: lockTable{held: map[string]*lock{}},
	}
}

// Migrate implements store.Engine. Tables of several areas may share an engine.
func (e *Engine) Migrate(ctx context.Context, s *store.Schema, apply bool) error {
	if x, err := e.tx(ctx); err != nil || x != nil {
		return fmt.Errorf("%w: Migrate within a transaction", store.ErrTx)
	}
	x := &tx{e: e, Guard: store.NewGuard(store.Here())}
	if err := e.gate.Enter(); err != nil {
		return err
	}
	defer e.gate.Leave()
	if err := e.takeWriter(ctx, x); err != nil {
		return err
	}
	defer e.giveWriter()

	e.mu.RLock()
	stamp, stamped := e.stamps[s.Area]
	missing := e.missing(s)
	e.mu.RUnlock()
	if missing == "" && stamped && stamp >= s.Version {
		return nil
	}
	if !apply {
		if missing == "" {
			missing = fmt.Sprintf("version %d of %s", s.Version, s.Area)
		}
		return fmt.Errorf("%w: there is no %s", store.ErrSchema, missing)
	}
	if !stamped {
		stamp = s.Version
	}
	return e.migrate(ctx, x, s, stamp)
}

func (e *Engine) missing(s *store.Schema) string {
	for _, def := range s.Tables {
		t := e.tables[def.Name]
		if t == nil {
			return "table " + def.Name
		}
		if l := t.lacks(def); l != "" {
			return l
		}
	}
	return ""
}

// migrate makes what is missing and runs the steps after stamp; on failure all
// is as it was.
func (e *Engine) migrate(ctx context.Context, x *tx, s *store.Schema, stamp int) (err error) {
	var drop []string
	for _, step := range s.Steps {
		if step.Version > stamp {
			drop = append(drop, step.Drop...)
		}
	}
	e.mu.Lock()
	before := e.tables
	e.tables = maps.Clone(before)
	for _, def := range s.Tables {
		old := e.tables[def.Name]
		if old != nil && old.lacks(def) == "" && !old.drops(drop) {
			continue
		}
		var t *table
		if t, err = rebuild(old, def, drop); err != nil {
			break
		}
		e.tables[def.Name] = t
	}
	e.mu.Unlock()
	defer func() {
		if err != nil {
			e.mu.Lock()
			e.tables = before
			e.mu.Unlock()
		}
	}()
	if err != nil {
		return err
	}
	if err = e.runSteps(ctx, x, s, stamp); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.stamps[s.Area] = max(stamp, s.Version)
	return nil
}

// runSteps runs the steps in x, which has the writer's place already.
func (e *Engine) runSteps(ctx context.Context, x *tx, s *store.Schema, stamp int) error {
	defer x.End(func() { e.locks.release(x) })
	steps := slices.SortedFunc(slices.Values(s.Steps), func(a, b store.Step) int { return a.Version - b.Version })
	for _, step := range steps {
		if step.Version <= stamp || step.Fill == nil {
			continue
		}
		if err := step.Fill(store.WithTx(ctx, e, x), e); err != nil {
			return fmt.Errorf("store: %s: step %d (%s): %w", s.Area, step.Version, step.Name, err)
		}
	}
	return x.commit(ctx)
}
