package store

import (
	"context"
	"errors"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nacre-cloud/nacre"
)

// attempts is how often the outermost transaction runs before a lost race
// becomes the caller's problem.
const attempts = 5

type txKey struct{}

type txValue struct {
	engine Engine
	tx     any
}

// WithTx is for engines: the context in which a transaction's function runs. tx
// is the engine's own handle, which it finds again with TxFrom.
func WithTx(ctx context.Context, e Engine, tx any) context.Context {
	return context.WithValue(ctx, txKey{}, &txValue{engine: root(e), tx: tx})
}

// TxFrom is for engines: the handle of the context's transaction when it is one
// of e. A transaction of another engine is ErrTx.
func TxFrom(ctx context.Context, e Engine) (tx any, err error) {
	v, _ := ctx.Value(txKey{}).(*txValue)
	if v == nil {
		return nil, nil
	}
	if v.engine != root(e) {
		return nil, ErrTx
	}
	return v.tx, nil
}

// root finds the engine beneath wrappers, which have a method Unwrap() Engine.
func root(e Engine) Engine {
	for {
		u, ok := e.(interface{ Unwrap() Engine })
		if !ok {
			return e
		}
		e = u.Unwrap()
	}
}

// InTx runs fn in a transaction of e. Nested in one of the same engine it joins
// it. The outermost call runs fn again when it raced, five times at most; then
// the error is nacre.Unavailable.
func InTx(ctx context.Context, e Engine, fn func(ctx context.Context) error) error {
	switch tx, err := TxFrom(ctx, e); {
	case err != nil:
		return err
	case tx != nil:
		return fn(ctx)
	}
	var err error
	for try := range attempts {
		if try > 0 {
			// A short random wait parts those who collided.
			select {
			case <-time.After(time.Duration(rand.IntN(1<<try)+1) * time.Millisecond):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		hooks := &commitHooks{}
		if err = e.InTx(context.WithValue(ctx, hooksKey{}, hooks), fn); !errors.Is(err, ErrRaced) {
			if err == nil {
				for _, f := range hooks.fns {
					f()
				}
			}
			return err
		}
	}
	return &nacre.Error{Kind: nacre.Unavailable, Code: "raced", Message: "Too many concurrent changes; please retry", Err: err}
}

type hooksKey struct{}

type commitHooks struct{ fns []func() }

// AfterCommit runs fn once the context's transaction has been committed, or at
// once when there is none. It is for hints (waking a worker) that may be lost
// with the process; whatever must happen is a row.
func AfterCommit(ctx context.Context, fn func()) {
	if h, _ := ctx.Value(hooksKey{}).(*commitHooks); h != nil && Outside(ctx) != nil {
		h.fns = append(h.fns, fn)
		return
	}
	fn()
}

// Outside fails with ErrTx when ctx is inside a transaction. Edges between
// areas, buses and drivers call it first: what they do can't be rolled back.
func Outside(ctx context.Context) error {
	if v, _ := ctx.Value(txKey{}).(*txValue); v != nil {
		return ErrTx
	}
	return nil
}

// Inside reports whether ctx is in a transaction of e.
func Inside(ctx context.Context, e Engine) bool {
	tx, err := TxFrom(ctx, e)
	return err == nil && tx != nil
}

// Detach returns a context with ctx's values but outside any transaction and
// without its cancellation, for work that goes on after a request.
func Detach(ctx context.Context) context.Context {
	return context.WithValue(context.WithoutCancel(ctx), txKey{}, nil)
}

// Lock serialises against others that lock any of these keys, until the
// transaction ends. Whoever counts or chooses under a limit takes it first.
func Lock(ctx context.Context, e Engine, keys ...string) error {
	if !Inside(ctx, e) {
		return ErrTx
	}
	keys = slices.Clone(keys)
	slices.Sort(keys)
	return e.Lock(ctx, slices.Compact(keys))
}

type counterKey struct{}

// CountStatements returns a context in which every call of a Table is counted,
// for tests that hold a route to its number of statements.
func CountStatements(ctx context.Context) (context.Context, *atomic.Int64) {
	n := new(atomic.Int64)
	return context.WithValue(ctx, counterKey{}, n), n
}

func count(ctx context.Context) {
	if n, ok := ctx.Value(counterKey{}).(*atomic.Int64); ok {
		n.Add(1)
	}
}

// jsonNames are the JSON keys that a struct type knows.
func jsonNames(t reflect.Type) map[string]bool {
	names := map[string]bool{}
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "" && f.Type.Kind() == reflect.Struct:
			for k := range jsonNames(f.Type) {
				names[k] = true
			}
		case name != "":
			names[name] = true
		default:
			names[f.Name] = true
		}
	}
	return names
}
