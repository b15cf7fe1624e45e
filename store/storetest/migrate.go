package storetest

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/store"
)

// The same table in three releases.
type itemV0 struct {
	ID   string `store:"id,pk"`
	Name string `store:"name"`
}

type itemV1 struct {
	ID    string         `store:"id,pk"`
	Title string         `store:"title,index"`
	Name  string         `store:"name,unique"`
	Size  int            `store:"size"`
	Note  *string        `store:"note"`
	On    bool           `store:"is_on"`
	Ratio float64        `store:"ratio"`
	Blob  []byte         `store:"blob_data"`
	Made  time.Time      `store:"made_at"`
	Meta  map[string]any `store:"meta,json"`
}

func schemaV0() *store.Schema {
	return &store.Schema{Area: "items", Tables: []*store.TableDef{store.Define[itemV0]("items")}}
}

func schemaV2(fill func(ctx context.Context, e store.Engine) error) *store.Schema {
	return &store.Schema{
		Area: "items", Version: 2, Tables: []*store.TableDef{store.Define[itemV1]("items"), store.Define[counter]("item_counts")},
		Steps: []store.Step{
			{Version: 1, Name: "no data to move"},
			{Version: 2, Name: "titles and counts", Fill: fill},
		},
	}
}

// fillV2 gives each item a title and a counter.
func fillV2(ctx context.Context, e store.Engine) error {
	items, counts := store.NewTable[itemV1](e, "items"), store.NewTable[counter](e, "item_counts")
	vs, err := items.Where(ctx)
	if err != nil {
		return err
	}
	for _, v := range vs {
		if _, err := items.Update(ctx, v.ID, func(v *itemV1) error { v.Title = "The " + v.Name; return nil }); err != nil {
			return err
		}
		if err := counts.Insert(ctx, counter{v.ID, 1}); err != nil {
			return err
		}
	}
	return nil
}

// loose is a table whose names were unique once.
type looseV0 struct {
	ID   string `store:"id,pk"`
	Name string `store:"name,unique=name"`
}

type looseV1 struct {
	ID   string `store:"id,pk"`
	Name string `store:"name,index=by_name"`
}

func (s suite) migrate(t *testing.T) {
	t.Run("an index that goes", func(t *testing.T) {
		e, ctx := s.open(t), deadline(t)
		before := &store.Schema{Area: "loose", Tables: []*store.TableDef{store.Define[looseV0]("loose")}}
		after := &store.Schema{Area: "loose", Version: 1, Tables: []*store.TableDef{store.Define[looseV1]("loose")}, Steps: []store.Step{{Version: 1, Name: "names need not differ", Drop: []string{"loose.name", "loose.never_there"}}}}
		require.NoError(t, e.Migrate(ctx, before, true))
		old := store.NewTable[looseV0](e, "loose")
		require.NoError(t, old.Insert(ctx, looseV0{"1", "a"}))
		require.True(t, store.IsDuplicate(old.Insert(ctx, looseV0{"2", "a"})))
		require.NoError(t, e.Migrate(ctx, after, true))
		require.NoError(t, e.Migrate(ctx, after, false))
		require.NoError(t, store.NewTable[looseV1](e, "loose").Insert(ctx, looseV1{"2", "a"}))
	})
	t.Run("a new database", func(t *testing.T) {
		e, ctx := s.open(t), deadline(t)
		items := store.NewTable[itemV1](e, "items")
		require.ErrorIs(t, e.Migrate(ctx, schemaV2(fillV2), false), store.ErrSchema)
		_, err := items.Where(ctx)
		require.Error(t, err, "nothing was made")
		require.NoError(t, e.Migrate(ctx, schemaV2(func(context.Context, store.Engine) error {
			t.Error("a new database runs no steps")
			return nil
		}), true))
		require.NoError(t, e.Migrate(ctx, schemaV2(fillV2), false))
		require.NoError(t, e.Migrate(ctx, schemaV2(fillV2), true))
		require.NoError(t, items.Insert(ctx, itemV1{ID: "a", Name: "n"}))
		// Another area may share the database.
		require.NoError(t, e.Migrate(ctx, schema(), true))
		require.NoError(t, on(e).counters.Insert(ctx, counter{"a", 1}))
	})

	t.Run("an old one and a new one end equal", func(t *testing.T) {
		ctx := deadline(t)
		stepped, fresh := s.open(t), s.open(t)
		require.NoError(t, stepped.Migrate(ctx, schemaV0(), true))
		old := store.NewTable[itemV0](stepped, "items")
		require.NoError(t, old.Insert(ctx, itemV0{"a", "x"}, itemV0{"b", "y"}))
		require.ErrorIs(t, stepped.Migrate(ctx, schemaV2(fillV2), false), store.ErrSchema)
		require.NoError(t, stepped.Migrate(ctx, schemaV2(fillV2), true))
		require.NoError(t, stepped.Migrate(ctx, schemaV2(func(context.Context, store.Engine) error {
			t.Error("a step runs once")
			return nil
		}), true))
		require.NoError(t, fresh.Migrate(ctx, schemaV2(fillV2), true))

		items := store.NewTable[itemV1](stepped, "items")
		same := store.NewTable[itemV1](fresh, "items")
		got, err := items.Where(ctx)
		require.NoError(t, err)
		require.Equal(t, []itemV1{
			{ID: "a", Name: "x", Title: "The x", Blob: []byte{}}, {ID: "b", Name: "y", Title: "The y", Blob: []byte{}},
		}, got)
		n, err := store.NewTable[counter](stepped, "item_counts").Count(ctx)
		require.NoError(t, err)
		require.EqualValues(t, 2, n)
		for _, tab := range []*store.Table[itemV1]{items, same} {
			require.NoError(t, tab.Insert(ctx, itemV1{ID: "c", Name: "z", Title: "t", Note: ptr("")}))
			require.True(t, store.IsDuplicate(tab.Insert(ctx, itemV1{ID: "d", Name: "z"}), "items_name"))
			c, err := tab.One(ctx, store.Eq("title", "t"))
			require.NoError(t, err)
			require.Equal(t, itemV1{ID: "c", Name: "z", Title: "t", Note: ptr(""), Blob: []byte{}}, c)
		}

		// The old binary runs on beside the new one.
		require.NoError(t, stepped.Migrate(ctx, schemaV0(), false))
		require.NoError(t, stepped.Migrate(ctx, schemaV0(), true))
		require.NoError(t, old.Insert(ctx, itemV0{"old", "old"}))
		_, err = old.Update(ctx, "a", func(v *itemV0) error { v.Name = "xx"; return nil })
		require.NoError(t, err)
		v0, err := old.Where(ctx, store.Prefix("name", "x"))
		require.NoError(t, err)
		require.Equal(t, []itemV0{{"a", "xx"}}, v0)
		v, err := items.Get(ctx, "a")
		require.NoError(t, err)
		require.Equal(t, "The x", v.Title)
		v, err = items.Get(ctx, "old")
		require.NoError(t, err)
		require.Equal(t, itemV1{ID: "old", Name: "old", Blob: []byte{}}, v)
		require.NoError(t, stepped.Migrate(ctx, schemaV2(fillV2), false), "the stamp did not go back")
		older := schemaV0()
		older.Tables = append(older.Tables, store.Define[part]("parts"))
		require.NoError(t, stepped.Migrate(ctx, older, true))
		require.NoError(t, store.NewTable[part](stepped, "parts").Insert(ctx, part{ID: "p"}))
		require.NoError(t, stepped.Migrate(ctx, schemaV2(func(context.Context, store.Engine) error {
			t.Error("the stamp went back")
			return nil
		}), true))
	})

	t.Run("a failed step changes nothing", func(t *testing.T) {
		e, ctx := s.open(t), deadline(t)
		require.NoError(t, e.Migrate(ctx, schemaV0(), true))
		old := store.NewTable[itemV0](e, "items")
		require.NoError(t, old.Insert(ctx, itemV0{"a", "x"}))
		require.ErrorIs(t, e.Migrate(ctx, schemaV2(func(ctx context.Context, e store.Engine) error {
			if err := fillV2(ctx, e); err != nil {
				return err
			}
			return errBoom
		}), true), errBoom)
		_, err := store.NewTable[itemV1](e, "items").Where(ctx)
		require.Error(t, err)
		got, err := old.Where(ctx)
		require.NoError(t, err)
		require.Equal(t, []itemV0{{"a", "x"}}, got)
		require.NoError(t, e.Migrate(ctx, schemaV2(fillV2), true))
	})

	t.Run("rows that break a new rule", func(t *testing.T) {
		e, ctx := s.open(t), deadline(t)
		require.NoError(t, e.Migrate(ctx, schemaV0(), true))
		old := store.NewTable[itemV0](e, "items")
		require.NoError(t, old.Insert(ctx, itemV0{"a", "x"}, itemV0{"b", "x"}))
		err := e.Migrate(ctx, schemaV2(fillV2), true)
		require.True(t, store.IsDuplicate(err, "items_name"), "%v", err)
		require.NoError(t, old.Insert(ctx, itemV0{"c", "x"}))
	})
}
