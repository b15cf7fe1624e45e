// Package storetest is the contract of store.Engine as a test suite. Whoever
// writes an engine runs it:
//
//	func TestContract(t *testing.T) {
//		storetest.Run(t, func(t *testing.T) store.Engine {
//			return myengine.Open(t.TempDir())
//		})
//	}
//
// Each call of open gives an engine on a new, empty database; Run closes it.
// Nothing in the suite needs more than READ COMMITTED, and all of it holds on an
// engine whose writers are serial.
//
// [Faulty] wraps an engine for the tests of those who use one: it fails or
// "crashes" the process at a chosen call.
package storetest

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/store"
)

// Run tests an engine. open is called often, for a new empty database each time.
func Run(t *testing.T, open func(t *testing.T) store.Engine) {
	s := suite{open: func(t *testing.T) store.Engine {
		e := open(t)
		t.Cleanup(func() { require.NoError(t, e.Close()) })
		return e
	}}
	t.Run("rows", s.rows)
	t.Run("where", s.where)
	t.Run("order", s.order)
	t.Run("aggregate", s.aggregate)
	t.Run("tx", s.tx)
	t.Run("concurrent", s.concurrent)
	t.Run("migrate", s.migrate)
	t.Run("differential", s.differential)
	t.Run("faulty", s.faulty)
}

type suite struct {
	open func(t *testing.T) store.Engine
}

// meta is a JSON column's type.
type meta struct {
	Color string   `json:"color,omitempty"`
	Tags  []string `json:"tags,omitempty"`
}

// thing has a column of each type and an index of each kind.
type thing struct {
	ID     string          `store:"id,pk"`
	Owner  string          `store:"owner,unique=thing_name"`
	Name   *string         `store:"name,unique=thing_name"`
	Kind   string          `store:"kind,null,index=thing_kind"`
	Size   int64           `store:"size,index=thing_kind"`
	Count  *int            `store:"cnt"`
	Ratio  float64         `store:"ratio"`
	On     bool            `store:"active"`
	Blob   []byte          `store:"blob_data"`
	Hash   []byte          `store:"hash,null,unique=thing_hash"`
	Meta   meta            `store:"meta,json"`
	Raw    json.RawMessage `store:"raw,json,null"`
	Made   time.Time       `store:"made_at"`
	Gone   time.Time       `store:"gone_at,null"`
	Hidden string
}

// part belongs to a thing.
type part struct {
	ID    string `store:"id,pk"`
	Thing string `store:"thing_id,null,index"`
	Label string `store:"label,unique"`
}

// counter is what concurrent tests fight over.
type counter struct {
	ID string `store:"id,pk"`
	N  int64  `store:"n"`
}

type tables struct {
	engine   store.Engine
	things   *store.Table[thing]
	parts    *store.Table[part]
	counters *store.Table[counter]
}

func schema() *store.Schema {
	return &store.Schema{Area: "storetest", Tables: []*store.TableDef{
		store.Define[thing]("things"), store.Define[part]("parts"), store.Define[counter]("counters"),
	}}
}

func on(e store.Engine) tables {
	return tables{
		engine: e, things: store.NewTable[thing](e, "things"), parts: store.NewTable[part](e, "parts"),
		counters: store.NewTable[counter](e, "counters"),
	}
}

// fresh opens an engine with the suite's tables.
func (s suite) fresh(t *testing.T) (tables, context.Context) {
	t.Helper()
	e := s.open(t)
	ctx := deadline(t)
	require.NoError(t, e.Migrate(ctx, schema(), true))
	return on(e), ctx
}

// deadline keeps a deadlock from hanging the suite.
func deadline(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func ptr[T any](v T) *T { return &v }

func ids[T any](vs []T, id func(T) string) []string {
	out := make([]string, 0, len(vs))
	for _, v := range vs {
		out = append(out, id(v))
	}
	return out
}

func thingIDs(vs []thing) []string { return ids(vs, func(v thing) string { return v.ID }) }
