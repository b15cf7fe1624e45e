package storetest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/store"
)

// Bench measures an engine: opening with 60 tables, insert, get, select of 100
// rows, update and transaction, through Table.
func Bench(b *testing.B, open func(b *testing.B) store.Engine) {
	b.Run("open60", func(b *testing.B) {
		s := &store.Schema{Area: "bench"}
		for i := range 60 {
			s.Tables = append(s.Tables, store.Define[row](fmt.Sprintf("table_%02d", i)))
		}
		for b.Loop() {
			e := open(b)
			require.NoError(b, e.Migrate(b.Context(), s, true))
			require.NoError(b, e.Close())
		}
	})
	ctx := b.Context()
	e := open(b)
	defer e.Close()
	require.NoError(b, e.Migrate(ctx, &store.Schema{Area: "bench", Tables: []*store.TableDef{store.Define[row]("rows")}}, true))
	rows := store.NewTable[row](e, "rows")
	for i := range 1000 {
		require.NoError(b, rows.Insert(ctx, benchRow(i)))
	}
	n := 1000
	b.Run("insert", func(b *testing.B) {
		for b.Loop() {
			require.NoError(b, rows.Insert(ctx, benchRow(n)))
			n++
		}
	})
	b.Run("get", func(b *testing.B) {
		i := 0
		for b.Loop() {
			_, err := rows.Get(ctx, benchID(i%1000))
			require.NoError(b, err)
			i++
		}
	})
	b.Run("select100", func(b *testing.B) {
		for b.Loop() {
			vs, err := rows.Where(ctx, store.Eq("project_id", "project-3"))
			require.NoError(b, err)
			require.Len(b, vs, 100)
		}
	})
	b.Run("page100", func(b *testing.B) {
		for b.Loop() {
			vs, err := rows.Select(ctx, store.Select{Limit: 100, After: []any{benchID(500)}})
			require.NoError(b, err)
			require.Len(b, vs, 100)
		}
	})
	b.Run("update", func(b *testing.B) {
		i := 0
		for b.Loop() {
			_, err := rows.Update(ctx, benchID(i%1000), func(r *row) error { r.Status = fmt.Sprint(i); return nil })
			require.NoError(b, err)
			i++
		}
	})
	b.Run("tx4", func(b *testing.B) {
		for b.Loop() {
			require.NoError(b, store.InTx(ctx, e, func(ctx context.Context) error {
				if err := store.Lock(ctx, e, "quota"); err != nil {
					return err
				}
				if _, err := rows.Get(ctx, benchID(1)); err != nil {
					return err
				}
				if err := rows.Insert(ctx, benchRow(n)); err != nil {
					return err
				}
				n++
				_, err := rows.UpdateWhere(ctx, store.Eq("id", benchID(2)), store.Set{"size": store.Increment(0)})
				return err
			}))
		}
	})
}

// row is shaped like a resource: ten columns, JSON and times, three indexes.
type row struct {
	ID      string            `store:"id,pk"`
	Project string            `store:"project_id,index"`
	Name    string            `store:"name,unique"`
	Status  string            `store:"status"`
	Host    *string           `store:"host,index"`
	Size    int64             `store:"size"`
	On      bool              `store:"enabled"`
	Meta    map[string]string `store:"meta,json"`
	Created time.Time         `store:"created_at"`
	Updated time.Time         `store:"updated_at,null"`
}

func benchID(i int) string { return fmt.Sprintf("%08x-0000-4000-8000-%012x", uint32(i)*2654435761, i) }

func benchRow(i int) row {
	project := "other"
	if i < 1000 {
		project = fmt.Sprintf("project-%d", i%10)
	}
	return row{
		ID: benchID(i), Project: project, Name: fmt.Sprintf("name-%d", i), Status: "ACTIVE", Size: int64(i), On: true,
		Meta: map[string]string{"a": "b"}, Created: time.Unix(int64(i), 0),
	}
}
