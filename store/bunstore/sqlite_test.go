package bunstore_test

import (
	"context"
	"database/sql"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/store"
	"github.com/nacre-cloud/nacre/store/bunstore"
	"github.com/nacre-cloud/nacre/store/storetest"
)

func openTemp(t testing.TB) *bunstore.Engine {
	t.Helper()
	e, err := bunstore.OpenSQLite("", bunstore.Options{})
	require.NoError(t, err)
	return e
}

func TestSQLiteContract(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Engine { return openTemp(t) })
}

func BenchmarkSQLite(b *testing.B) {
	storetest.Bench(b, func(b *testing.B) store.Engine { return openTemp(b) })
}

type pet struct {
	ID   string `store:"id,pk"`
	Name string `store:"name,unique"`
}

func petSchema() *store.Schema {
	return &store.Schema{Area: "pets", Tables: []*store.TableDef{store.Define[pet]("pets")}}
}

// pets makes the table with the row a in it.
func pets(t testing.TB, e store.Engine) *store.Table[pet] {
	t.Helper()
	require.NoError(t, e.Migrate(t.Context(), petSchema(), true))
	tab := store.NewTable[pet](e, "pets")
	require.NoError(t, tab.Insert(t.Context(), pet{ID: "a", Name: "a"}))
	return tab
}

// A wait for the writer ends by its deadline or the context, and the error says
// where the holder began. Reading waits for nobody.
func TestSQLiteBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, err := bunstore.OpenSQLite("", bunstore.Options{Wait: time.Minute})
		require.NoError(t, err)
		defer e.Close()
		tab := pets(t, e)
		require.NoError(t, store.InTx(t.Context(), e, func(in context.Context) error {
			begun := time.Now()
			err := tab.Insert(t.Context(), pet{ID: "c", Name: "c"})
			require.ErrorIs(t, err, nacre.Unavailable)
			require.Contains(t, err.Error(), "sqlite_test.go:")
			require.Contains(t, err.Error(), "bunstore_test.TestSQLiteBusy")
			require.Equal(t, time.Minute, time.Since(begun))

			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			require.ErrorIs(t, e.InTx(ctx, func(context.Context) error { return nil }), context.DeadlineExceeded)
			_, err = tab.Get(t.Context(), "a")
			require.NoError(t, err)
			return tab.Insert(in, pet{ID: "c", Name: "c"})
		}))
	})
}

// The rows are there after Close and Open, for the owner's eyes only.
func TestSQLiteFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "odd ?name%20#&.db")
	ctx := t.Context()
	for round := range 2 {
		e, err := bunstore.OpenSQLite(path, bunstore.Options{})
		require.NoError(t, err)
		if round == 0 {
			pets(t, e)
			for _, suffix := range []string{"", "-wal"} {
				st, err := os.Stat(path + suffix)
				require.NoError(t, err)
				require.EqualValues(t, 0o600, st.Mode().Perm(), suffix)
			}
		}
		require.NoError(t, e.Migrate(ctx, petSchema(), false))
		got, err := store.NewTable[pet](e, "pets").Get(ctx, "a")
		require.NoError(t, err)
		require.Equal(t, pet{"a", "a"}, got)
		require.NoError(t, e.Close())
		require.NoError(t, e.Close())
		_, err = store.NewTable[pet](e, "pets").Get(ctx, "a")
		require.ErrorIs(t, err, nacre.Unavailable)
	}
	_, err := bunstore.OpenSQLite(filepath.Join(t.TempDir(), "no", "such", "dir"), bunstore.Options{})
	require.Error(t, err)
	_, err = bunstore.OpenSQLite(path, bunstore.Options{Synchronous: "MAYBE"})
	require.Error(t, err)
	require.NoError(t, os.WriteFile(path, []byte("this is no database, however long one looks at it"), 0o600))
	_, err = bunstore.OpenSQLite(path, bunstore.Options{})
	require.Error(t, err)
}

// A second process that writes to the file is waited for, within the deadline.
func TestSQLiteOtherProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	e, err := bunstore.OpenSQLite(path, bunstore.Options{Wait: 500 * time.Millisecond})
	require.NoError(t, err)
	defer e.Close()
	tab := pets(t, e)
	other, err := sql.Open("sqlite", "file:"+path+"?_txlock=immediate")
	require.NoError(t, err)
	defer other.Close()
	tx, err := other.Begin()
	require.NoError(t, err)
	_, err = tx.Exec("UPDATE pets SET name = 'b'")
	require.NoError(t, err)
	got, err := tab.Get(t.Context(), "a")
	require.NoError(t, err)
	require.Equal(t, "a", got.Name)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, tab.Insert(ctx, pet{ID: "c", Name: "c"}), context.DeadlineExceeded)
	require.ErrorIs(t, e.InTx(t.Context(), func(context.Context) error { return nil }), nacre.Unavailable)
	require.ErrorIs(t, tab.Insert(t.Context(), pet{ID: "c", Name: "c"}), nacre.Unavailable)
	soon := time.AfterFunc(100*time.Millisecond, func() { tx.Commit() })
	defer soon.Stop()
	require.NoError(t, tab.Insert(t.Context(), pet{ID: "c", Name: "c"}))
	got, err = tab.Get(t.Context(), "a")
	require.NoError(t, err)
	require.Equal(t, "b", got.Name)
}

// What a transaction leaves unread or fails at does not reach the next one.
func TestSQLiteCanceledStatement(t *testing.T) {
	e := openTemp(t)
	defer e.Close()
	tab := pets(t, e)
	for range 20 {
		ctx, cancel := context.WithCancel(t.Context())
		go cancel()
		_ = store.InTx(ctx, e, func(ctx context.Context) error {
			_, err := tab.UpdateWhere(ctx, store.All(), store.Set{"name": "changed"})
			if err == nil {
				err = context.Canceled
			}
			return err
		})
	}
	got, err := tab.Get(t.Context(), "a")
	require.NoError(t, err)
	require.Equal(t, "a", got.Name)
	_, err = tab.Update(t.Context(), "a", func(p *pet) error { p.Name = "b"; return nil })
	require.NoError(t, err)
}
