//go:build realtest

package bunstore_test

import (
	"bytes"
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/internal/realserver"
	"github.com/nacre-cloud/nacre/store"
	"github.com/nacre-cloud/nacre/store/bunstore"
	"github.com/nacre-cloud/nacre/store/storetest"
)

func openMaria(t testing.TB, m *realserver.Maria, o bunstore.Options) *bunstore.Engine {
	t.Helper()
	e, err := bunstore.OpenMariaDB(m.Database(t), o)
	require.NoError(t, err)
	return e
}

func TestMariaDB(t *testing.T) {
	m := realserver.MariaDB(t)
	t.Run("Contract", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) store.Engine { return openMaria(t, m, bunstore.Options{}) })
	})
	t.Run("Busy", func(t *testing.T) { mariaBusy(t, m) })
	t.Run("LongValues", func(t *testing.T) { mariaLongValues(t, m) })
	t.Run("UsesIndexes", func(t *testing.T) { mariaUsesIndexes(t, m) })
	t.Run("TLS", func(t *testing.T) { mariaTLS(t, m) })
	t.Run("Gone", func(t *testing.T) { mariaGone(t, m) })
	t.Run("MigrationCutOff", func(t *testing.T) { mariaMigrationCutOff(t, m) })
}

func BenchmarkMariaDB(b *testing.B) {
	m := realserver.MariaDB(b)
	storetest.Bench(b, func(b *testing.B) store.Engine { return openMaria(b, m, bunstore.Options{}) })
}

// Waiting for a row, a name, a lock or a connection has a deadline.
func mariaBusy(t *testing.T, m *realserver.Maria) {
	e := openMaria(t, m, bunstore.Options{Wait: time.Second, Conns: 2})
	defer e.Close()
	tab := pets(t, e)
	ctx := t.Context()
	require.NoError(t, e.InTx(ctx, func(in context.Context) error {
		require.NoError(t, store.Lock(in, e, "k"))
		_, err := tab.UpdateWhere(in, store.Eq("id", "a"), store.Set{"name": "x"})
		require.NoError(t, err)

		for name, fn := range map[string]func(ctx context.Context) error{
			"row":  func(ctx context.Context) error { _, err := tab.GetForUpdate(ctx, "a"); return err },
			"name": func(ctx context.Context) error { return tab.Insert(ctx, pet{ID: "x", Name: "x"}) },
			"lock": func(ctx context.Context) error { return store.Lock(ctx, e, "k") },
			"connection": func(context.Context) error {
				err := tab.Insert(ctx, pet{ID: "y", Name: "y"})
				require.ErrorContains(t, err, "mariadb_test.go:")
				return err
			},
		} {
			require.ErrorIs(t, e.InTx(ctx, fn), nacre.Unavailable, name)
		}
		_, err = tab.UpdateWhere(ctx, store.Eq("id", "a"), store.Set{"name": "y"})
		require.ErrorIs(t, err, nacre.Unavailable, "a statement alone")
		short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		defer cancel()
		begun := time.Now()
		_, err = tab.UpdateWhere(short, store.Eq("id", "a"), store.Set{"name": "z"})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Less(t, time.Since(begun), 800*time.Millisecond, "the context ends a wait")
		return nil
	}))
	got, err := tab.Get(ctx, "a")
	require.NoError(t, err)
	require.Equal(t, "x", got.Name, "what was given up changed nothing")
}

// A server that goes away is Unavailable, and one that comes back is used again.
func mariaGone(t *testing.T, m *realserver.Maria) {
	e := openMaria(t, m, bunstore.Options{Wait: time.Second})
	defer e.Close()
	tab := pets(t, e)
	ctx := t.Context()
	for _, end := range []func(){m.Stop, m.Kill} {
		err := store.InTx(ctx, e, func(in context.Context) error {
			require.NoError(t, tab.Insert(in, pet{ID: "b", Name: "b"}))
			end()
			return tab.Insert(in, pet{ID: "c", Name: "c"})
		})
		require.ErrorIs(t, err, nacre.Unavailable)
		_, err = tab.Get(ctx, "a")
		require.ErrorIs(t, err, nacre.Unavailable)
		m.Start()
		require.Eventually(t, func() bool { _, err := tab.Get(ctx, "a"); return err == nil }, 20*time.Second, 20*time.Millisecond)
		n, err := tab.Count(ctx)
		require.NoError(t, err)
		require.EqualValues(t, 1, n)
	}
}

// object is the longest text that OpenStack makes unique: an object's name within
// its container and account, 1,024 bytes of UTF-8 after twice 256.
type object struct {
	ID        string `store:"id,pk"`
	Account   string `store:"account,unique=object"`
	Container string `store:"container,unique=object"`
	Name      string `store:"name,unique=object"`
	Note      string `store:"note"`
	Body      []byte `store:"body"`
}

func mariaLongValues(t *testing.T, m *realserver.Maria) {
	e := openMaria(t, m, bunstore.Options{})
	defer e.Close()
	ctx := t.Context()
	require.NoError(t, e.Migrate(ctx, &store.Schema{Area: "objects", Tables: []*store.TableDef{store.Define[object]("objects")}}, true))
	tab := store.NewTable[object](e, "objects")
	long := strings.Repeat("ä", 512)
	for _, o := range []object{
		{ID: "1", Account: long[:256], Container: long[:256], Name: long},
		{ID: "2", Account: long[:256], Container: long[:256], Name: long[:1022] + "Ä"},
		{ID: "3", Account: "a", Container: "c", Name: "n "},
		{ID: "4", Account: "a", Container: "c", Name: "n", Note: strings.Repeat("x'\\\n", 1<<18)},
		{ID: "5", Account: "a", Container: "c", Name: "N", Body: bytes.Repeat([]byte{0, 0xff, '\''}, 1<<20)},
	} {
		require.NoError(t, tab.Insert(ctx, o))
		got, err := tab.Get(ctx, o.ID)
		require.NoError(t, err)
		require.True(t, o.Note == got.Note && bytes.Equal(o.Body, got.Body), o.ID)
	}
	require.True(t, store.IsDuplicate(tab.Insert(ctx, object{ID: "6", Account: long[:256], Container: long[:256], Name: long}), "object"))
	require.ErrorIs(t, tab.Insert(ctx, object{ID: "6", Name: long + "x"}), nacre.Invalid)

	var many []object // more than the server takes in one statement
	for i := range 40 {
		id := strings.Repeat("m", i+1)
		many = append(many, object{ID: id, Name: id, Body: bytes.Repeat([]byte("x"), 1<<20)})
	}
	require.NoError(t, tab.Insert(ctx, many...))
	n, err := tab.Count(ctx)
	require.NoError(t, err)
	require.EqualValues(t, 45, n)
	require.ErrorIs(t, tab.Insert(ctx, object{ID: "7", Name: "7", Body: make([]byte, 20<<20)}), nacre.TooLarge)
	require.NoError(t, tab.Insert(ctx, object{ID: "7", Name: "7"}), "the connection is good as before")
}

type petV1 struct {
	ID    string `store:"id,pk"`
	Name  string `store:"name,unique"`
	Owner string `store:"owner,index"`
}

// A migration that dies with its database is taken up where it stopped, and two at
// once are one after the other.
func mariaMigrationCutOff(t *testing.T, m *realserver.Maria) {
	url := m.Database(t)
	open := func() *bunstore.Engine {
		e, err := bunstore.OpenMariaDB(url, bunstore.Options{})
		require.NoError(t, err)
		t.Cleanup(func() { assert.NoError(t, e.Close()) })
		return e
	}
	e, other := open(), open()
	pets(t, e)
	ctx := t.Context()
	fills := 0
	v1 := &store.Schema{Area: "pets", Version: 1, Tables: []*store.TableDef{store.Define[petV1]("pets")}}
	v1.Steps = []store.Step{{Version: 1, Name: "owners", Fill: func(ctx context.Context, on store.Engine) error {
		if fills++; fills == 1 {
			m.Kill() // after the column and the index
			return errors.New("lost")
		}
		_, err := store.NewTable[petV1](on, "pets").UpdateWhere(ctx, store.All(), store.Set{"owner": "nobody"})
		return err
	}}}
	require.Error(t, e.Migrate(ctx, v1, true))
	m.Start()
	require.ErrorIs(t, other.Migrate(ctx, v1, false), store.ErrSchema)
	done := make(chan error, 2)
	for _, engine := range []*bunstore.Engine{e, other} {
		go func() { done <- engine.Migrate(ctx, v1, true) }()
	}
	require.NoError(t, <-done)
	require.NoError(t, <-done)
	require.Equal(t, 2, fills)
	require.NoError(t, e.Migrate(ctx, v1, false))
	got, err := store.NewTable[petV1](e, "pets").Get(ctx, "a")
	require.NoError(t, err)
	require.Equal(t, petV1{"a", "a", "nobody"}, got)
}

func databaseOf(url string) string {
	before, _, _ := strings.Cut(url, "?")
	return before[strings.LastIndex(before, "/")+1:]
}

// Over TLS, with a server that shows a certificate which is trusted for its name.
func mariaTLS(t *testing.T, m *realserver.Maria) {
	url := m.Database(t)
	good := m.TLSURL(t, databaseOf(url))
	try := func(url string) error {
		e, err := bunstore.OpenMariaDB(url, bunstore.Options{})
		require.NoError(t, err)
		defer e.Close()
		return e.Migrate(t.Context(), petSchema(), true)
	}
	require.NoError(t, try(good))
	require.ErrorIs(t, try(strings.Replace(good, "tls=true", "tls=false", 1)), nacre.Unavailable, "the server wants it")
	require.Error(t, try(good[:strings.Index(good, "&ca=")]), "nobody vouches for it")
	require.Error(t, try(strings.Replace(good, "@127.0.0.1", "@localhost", 1)), "the certificate is another's")
}

// A page of a list is read off an index, unsorted, and so is a row by its name.
func mariaUsesIndexes(t *testing.T, m *realserver.Maria) {
	url := m.Database(t)
	database := databaseOf(url)
	e, err := bunstore.OpenMariaDB(url, bunstore.Options{})
	require.NoError(t, err)
	defer e.Close()
	ctx := t.Context()
	schema := petSchema()
	schema.Tables = append(schema.Tables, store.Define[object]("objects"))
	require.NoError(t, e.Migrate(ctx, schema, true))
	var rows []pet
	var objects []object
	for i := range 2000 {
		name := strings.Repeat("n", i%50) + strconv.Itoa(i)
		rows = append(rows, pet{ID: name, Name: name})
		objects = append(objects, object{ID: name, Account: "a", Container: "c" + strconv.Itoa(i%2), Name: name})
	}
	require.NoError(t, store.NewTable[pet](e, "pets").Insert(ctx, rows...))
	require.NoError(t, store.NewTable[object](e, "objects").Insert(ctx, objects...))
	m.SQL(t, "ANALYZE TABLE "+database+".pets, "+database+".objects")
	status := func(name string) int {
		n, err := strconv.Atoi(strings.Fields(m.SQL(t, "SHOW GLOBAL STATUS LIKE '"+name+"'"))[1])
		require.NoError(t, err)
		return n
	}
	box := store.And(store.Eq("account", "a"), store.Eq("container", "c1"))
	for _, q := range []struct {
		table int
		store.Select
	}{
		{0, store.Select{Where: store.Eq("name", "n1")}},
		{0, store.Select{Order: []store.Order{{Column: "name"}}, After: []any{"nnn", "x"}}},
		{0, store.Select{Order: []store.Order{{Column: "name", Desc: true}}}},
		{0, store.Select{Where: store.Prefix("name", "nnn"), Order: []store.Order{{Column: "name"}}}},
		{0, store.Select{After: []any{"nnn"}}},
		{1, store.Select{Where: box, Order: []store.Order{{Column: "name"}}, After: []any{"nnn", "x"}}},
		{1, store.Select{Where: store.And(box, store.Prefix("name", "nnn")), Order: []store.Order{{Column: "name"}}}},
	} {
		sorted, read := status("Sort_rows"), status("Rows_read")
		q.Limit = 10
		got, err := e.Select(ctx, schema.Tables[q.table], q.Select)
		require.NoError(t, err)
		require.NotEmpty(t, got)
		require.Equal(t, sorted, status("Sort_rows"), "%+v", q)
		require.Less(t, status("Rows_read"), read+30, "%+v", q)
	}
}
