package store_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/store"
	"github.com/nacre-cloud/nacre/store/memstore"
)

type rowV1 struct {
	ID   string `store:"id,pk"`
	Name string `store:"name,unique=row_name"`
	Meta metaV1 `store:"meta,json"`
}

type metaV1 struct {
	Color string `json:"color"`
	Size  int    `json:"size,omitempty"`
}

// rowV2 is what a newer program makes of the same table.
type rowV2 struct {
	ID   string `store:"id,pk"`
	Name string `store:"name,unique=row_name"`
	Meta metaV2 `store:"meta,json"`
}

type metaV2 struct {
	metaV1
	Shape string `json:"shape"`
	Deep  struct {
		X int `json:"x"`
	} `json:"deep"`
}

func open(t *testing.T) (store.Engine, *store.Table[rowV1]) {
	t.Helper()
	e := memstore.New(memstore.Options{})
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	require.NoError(t, e.Migrate(t.Context(), &store.Schema{Area: "test", Tables: []*store.TableDef{store.Define[rowV1]("rows")}}, true))
	return e, store.NewTable[rowV1](e, "rows")
}

// AfterCommit runs once, after the commit, and never for what was rolled back or
// run again.
func TestAfterCommit(t *testing.T) {
	e, rows := open(t)
	ctx := t.Context()
	var ran []string
	seen := func(what string) func() {
		return func() {
			ok, err := rows.Exists(ctx, store.Eq("id", what))
			require.NoError(t, err)
			require.True(t, ok, "the row is there for everybody by then")
			ran = append(ran, what)
		}
	}
	tries := 0
	require.NoError(t, store.InTx(ctx, e, func(ctx context.Context) error {
		tries++
		require.NoError(t, rows.Insert(ctx, rowV1{ID: "a", Name: "a"}))
		// A nested transaction joins; its hooks wait for the outermost.
		require.NoError(t, store.InTx(ctx, e, func(ctx context.Context) error {
			store.AfterCommit(ctx, seen("a"))
			return nil
		}))
		require.Empty(t, ran)
		if tries < 3 {
			return store.ErrRaced
		}
		return nil
	}))
	require.Equal(t, 3, tries)
	require.Equal(t, []string{"a"}, ran)

	require.Error(t, store.InTx(ctx, e, func(ctx context.Context) error {
		store.AfterCommit(ctx, seen("never"))
		return errors.New("no")
	}))
	require.Equal(t, []string{"a"}, ran)

	store.AfterCommit(ctx, seen("a"))
	require.Equal(t, []string{"a", "a"}, ran, "without a transaction at once")

	require.NoError(t, store.InTx(ctx, e, func(ctx context.Context) error {
		store.AfterCommit(store.Detach(ctx), seen("a"))
		require.Len(t, ran, 3, "a detached context is outside")
		return nil
	}))
}

func TestInTxRaces(t *testing.T) {
	e, rows := open(t)
	tries := 0
	err := store.InTx(t.Context(), e, func(ctx context.Context) error {
		tries++
		// Only the outermost runs again.
		return store.InTx(ctx, e, func(ctx context.Context) error {
			require.NoError(t, rows.Insert(ctx, rowV1{ID: "a", Name: "a"}))
			return store.ErrRaced
		})
	})
	require.Equal(t, 5, tries)
	require.ErrorIs(t, err, nacre.Unavailable)
	require.ErrorIs(t, err, store.ErrRaced)
	n, err := rows.Count(t.Context())
	require.NoError(t, err)
	require.Zero(t, n)

	tries = 0
	ctx, cancel := context.WithCancel(t.Context())
	require.ErrorIs(t, store.InTx(ctx, e, func(context.Context) error {
		tries++
		cancel()
		return store.ErrRaced
	}), context.Canceled)
	require.Equal(t, 1, tries)
}

// A finished transaction's context is an error, never a fall-back, whatever is
// tried with it.
func TestFinishedTransaction(t *testing.T) {
	e, rows := open(t)
	var old context.Context
	require.NoError(t, store.InTx(t.Context(), e, func(ctx context.Context) error {
		old = ctx
		return rows.Insert(ctx, rowV1{ID: "a", Name: "a"})
	}))
	_, err := rows.Get(old, "a")
	require.ErrorIs(t, err, store.ErrTx)
	require.ErrorIs(t, rows.Insert(old, rowV1{ID: "b", Name: "b"}), store.ErrTx)
	require.ErrorIs(t, store.Lock(old, e, "k"), store.ErrTx)
	require.ErrorIs(t, store.InTx(old, e, func(ctx context.Context) error {
		_, err := rows.Get(ctx, "a")
		return err
	}), store.ErrTx)
	_, err = rows.Update(old, "a", func(r *rowV1) error { r.Name = "z"; return nil })
	require.ErrorIs(t, err, store.ErrTx)
	require.ErrorIs(t, store.Outside(old), store.ErrTx)
	v, err := rows.Get(store.Detach(old), "a")
	require.NoError(t, err)
	require.Equal(t, "a", v.Name)
}

// The key in the context belongs to one engine.
func TestTwoEngines(t *testing.T) {
	e, _ := open(t)
	e2, rows2 := open(t)
	require.NoError(t, store.InTx(t.Context(), e, func(ctx context.Context) error {
		require.True(t, store.Inside(ctx, e))
		require.False(t, store.Inside(ctx, e2))
		_, err := rows2.Get(ctx, "a")
		require.ErrorIs(t, err, store.ErrTx)
		require.ErrorIs(t, store.InTx(ctx, e2, func(context.Context) error { return nil }), store.ErrTx)
		return nil
	}))
	require.ErrorIs(t, store.Lock(t.Context(), e, "k"), store.ErrTx, "a lock needs a transaction")
}

func TestExistsOneAndCount(t *testing.T) {
	_, rows := open(t)
	ctx := t.Context()
	ok, err := rows.Exists(ctx)
	require.NoError(t, err)
	require.False(t, ok)
	_, err = rows.One(ctx, store.Eq("name", "x"))
	require.ErrorIs(t, err, store.ErrNoRow)
	require.NoError(t, rows.Insert(ctx))
	require.NoError(t, rows.Insert(ctx, rowV1{ID: "b", Name: "2"}, rowV1{ID: "a", Name: "1"}))
	counted, n := store.CountStatements(ctx)
	ok, err = rows.Exists(counted, store.Eq("name", "2"))
	require.NoError(t, err)
	require.True(t, ok)
	require.EqualValues(t, 1, n.Load())
	one, err := rows.One(ctx)
	require.NoError(t, err)
	require.Equal(t, "a", one.ID)
	ok, err = rows.Exists(ctx, store.Eq("id", "a"), store.Eq("name", "2"))
	require.NoError(t, err)
	require.False(t, ok)
	require.ErrorIs(t, rows.Delete(ctx, "zzz"), store.ErrNoRow)
}

func TestWrapNotFound(t *testing.T) {
	mine := nacre.Errorf(nacre.NotFound, "ThingNotFound", "Thing x could not be found.")
	with := func() *nacre.Error { return mine }
	require.NoError(t, store.WrapNotFound(nil, with))
	require.Same(t, mine, store.WrapNotFound(store.ErrNoRow, with))
	other := errors.New("disk on fire")
	require.Equal(t, other, store.WrapNotFound(other, with))
}

// An older program's update keeps what a newer one wrote into a JSON object, and
// can still take away what it knows.
func TestUpdateKeepsUnknownKeys(t *testing.T) {
	e, old := open(t)
	newer := store.NewTable[rowV2](e, "rows")
	ctx := t.Context()
	v := rowV2{ID: "a", Name: "a", Meta: metaV2{metaV1: metaV1{Color: "red", Size: 3}, Shape: "round"}}
	v.Meta.Deep.X = 7
	require.NoError(t, newer.Insert(ctx, v))
	out, err := old.Update(ctx, "a", func(r *rowV1) error {
		require.Equal(t, metaV1{"red", 3}, r.Meta)
		r.Meta = metaV1{Color: "blue"}
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, metaV1{Color: "blue"}, out.Meta)
	got, err := newer.Get(ctx, "a")
	require.NoError(t, err)
	v.Meta.Color, v.Meta.Size = "blue", 0
	require.Equal(t, v, got)
}

// What an older program's update does not touch stays as a newer one wrote it, also
// what lies deeper in it.
func TestUpdateLeavesOtherJSONAlone(t *testing.T) {
	type listV1 struct {
		ID    string            `store:"id,pk"`
		Name  string            `store:"name"`
		Parts []metaV1          `store:"parts,json"`
		By    map[string]metaV1 `store:"parts_by,json"`
	}
	type listV2 struct {
		ID    string            `store:"id,pk"`
		Name  string            `store:"name"`
		Parts []metaV2          `store:"parts,json"`
		By    map[string]metaV2 `store:"parts_by,json"`
	}
	e := memstore.New(memstore.Options{})
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	require.NoError(t, e.Migrate(t.Context(), &store.Schema{Area: "test", Tables: []*store.TableDef{store.Define[listV1]("lists")}}, true))
	old, newer := store.NewTable[listV1](e, "lists"), store.NewTable[listV2](e, "lists")
	part := metaV2{metaV1: metaV1{Color: "red"}, Shape: "round"}
	want := listV2{ID: "a", Name: "b", Parts: []metaV2{part}, By: map[string]metaV2{"x": part}}
	v := want
	v.Name = "a"
	require.NoError(t, newer.Insert(t.Context(), v))
	_, err := old.Update(t.Context(), "a", func(r *listV1) error { r.Name = "b"; return nil })
	require.NoError(t, err)
	got, err := newer.Get(t.Context(), "a")
	require.NoError(t, err)
	require.Equal(t, want, got)
	_, err = old.Update(t.Context(), "a", func(r *listV1) error { r.Parts = nil; return nil })
	require.NoError(t, err)
	got, err = newer.Get(t.Context(), "a")
	require.NoError(t, err)
	require.Empty(t, got.Parts)
	require.Equal(t, want.By, got.By)
}

// Who replaces a row that he has read writes no JSON that he did not change, and of what
// he changes keeps what he does not know. That is one more statement, then alone.
func TestReplaceLeavesOtherJSONAlone(t *testing.T) {
	type thingV1 struct {
		ID   string  `store:"id,pk"`
		Name string  `store:"name"`
		Meta metaV1  `store:"meta,json"`
		More *metaV1 `store:"more,json,null"`
	}
	type thingV2 struct {
		ID   string  `store:"id,pk"`
		Name string  `store:"name"`
		Meta metaV2  `store:"meta,json"`
		More *metaV2 `store:"more,json,null"`
	}
	e := memstore.New(memstore.Options{})
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	require.NoError(t, e.Migrate(t.Context(), &store.Schema{Area: "test", Tables: []*store.TableDef{store.Define[thingV1]("things")}}, true))
	old, newer := store.NewTable[thingV1](e, "things"), store.NewTable[thingV2](e, "things")
	red, blue := metaV2{metaV1: metaV1{Color: "red"}, Shape: "round"}, metaV2{metaV1: metaV1{Color: "blue"}, Shape: "round"}
	require.NoError(t, newer.Insert(t.Context(), thingV2{ID: "a", Name: "a", Meta: red, More: &red}))
	for _, step := range []struct {
		change     func(v *thingV1)
		statements int64
		want       thingV2
	}{
		{func(v *thingV1) { v.Name = "b" }, 1, thingV2{ID: "a", Name: "b", Meta: red, More: &red}},
		{func(v *thingV1) { v.Meta.Color, v.More = "blue", &metaV1{Color: "blue"} }, 2, thingV2{ID: "a", Name: "b", Meta: blue, More: &blue}},
		{func(v *thingV1) { v.More = nil }, 2, thingV2{ID: "a", Name: "b", Meta: blue}},
	} {
		require.NoError(t, store.InTx(t.Context(), e, func(ctx context.Context) error {
			was, err := old.GetForUpdate(ctx, "a")
			require.NoError(t, err)
			v := was
			step.change(&v)
			counted, n := store.CountStatements(ctx)
			require.NoError(t, old.Replace(counted, &was, &v))
			require.Equal(t, step.statements, n.Load())
			return nil
		}))
		got, err := newer.Get(t.Context(), "a")
		require.NoError(t, err)
		require.Equal(t, step.want, got)
	}
	require.ErrorIs(t, store.InTx(t.Context(), e, func(ctx context.Context) error {
		return old.Replace(ctx, &thingV1{ID: "gone"}, &thingV1{ID: "gone", Meta: metaV1{Color: "red"}})
	}), store.ErrRaced)
}

// An update writes what changed, once, and not the key; a failed one is no change.
func TestUpdate(t *testing.T) {
	_, rows := open(t)
	ctx := t.Context()
	require.NoError(t, rows.Insert(ctx, rowV1{ID: "a", Name: "1"}, rowV1{ID: "b", Name: "2"}))
	_, err := rows.Update(ctx, "none", func(*rowV1) error { return nil })
	require.ErrorIs(t, err, store.ErrNoRow)
	_, err = rows.Update(ctx, "a", func(r *rowV1) error { r.ID = "c"; return nil })
	require.Error(t, err)
	_, err = rows.Update(ctx, "a", func(r *rowV1) error { r.Name = "2"; return nil })
	require.True(t, store.IsDuplicate(err, "row_name"))
	require.False(t, store.IsDuplicate(err, "other"))
	require.ErrorIs(t, err, nacre.Conflict)
	mine := errors.New("mine")
	_, err = rows.Update(ctx, "a", func(r *rowV1) error { r.Name = "9"; return mine })
	require.ErrorIs(t, err, mine)
	counted, n := store.CountStatements(ctx)
	_, err = rows.Update(counted, "a", func(*rowV1) error { return nil })
	require.NoError(t, err)
	require.EqualValues(t, 1, n.Load(), "no change, no write")
	got, err := rows.Get(ctx, "a")
	require.NoError(t, err)
	require.Equal(t, "1", got.Name)
}

// Times are microseconds in UTC; the zero time stays the zero time.
func TestTimes(t *testing.T) {
	type event struct {
		ID string    `store:"id,pk"`
		At time.Time `store:"at"`
		No time.Time `store:"no"`
	}
	e := memstore.New(memstore.Options{})
	defer e.Close()
	require.NoError(t, e.Migrate(t.Context(), &store.Schema{Area: "test", Tables: []*store.TableDef{store.Define[event]("events")}}, true))
	events := store.NewTable[event](e, "events")
	at := time.Date(2026, 1, 2, 3, 4, 5, 678901234, time.FixedZone("x", 3600))
	require.NoError(t, events.Insert(t.Context(), event{ID: "a", At: at}))
	got, err := events.One(t.Context(), store.Eq("at", at))
	require.NoError(t, err)
	require.Equal(t, at.UTC().Truncate(time.Microsecond), got.At)
	require.True(t, got.No.IsZero())
}
