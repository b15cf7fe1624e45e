package objectstore_test

import (
	"context"
	"crypto/md5" //nolint:gosec // Swift's entity tags
	"encoding/hex"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/objectstore"
	"github.com/nacre-cloud/nacre/objectstore/blob"
	"github.com/nacre-cloud/nacre/objectstore/blob/fs"
	"github.com/nacre-cloud/nacre/objectstore/blob/mem"
	"github.com/nacre-cloud/nacre/store"
	"github.com/nacre-cloud/nacre/store/bunstore"
	"github.com/nacre-cloud/nacre/store/memstore"
)

func sum(s string) string {
	m := md5.Sum([]byte(s)) //nolint:gosec // Swift's entity tags
	return hex.EncodeToString(m[:])
}

// world is a service with its parts.
type world struct {
	*objectstore.Service
	engine store.Engine
	blobs  blob.Store
	ctx    context.Context
}

var engines = map[string]func(tb testing.TB) store.Engine{
	"memstore": func(testing.TB) store.Engine { return memstore.New(memstore.Options{}) },
	"sqlite": func(tb testing.TB) store.Engine {
		e, err := bunstore.OpenSQLite("", bunstore.Options{})
		require.NoError(tb, err)
		return e
	},
}

// onEach runs a test on every engine, and audits in the end.
func onEach(t *testing.T, fn func(t *testing.T, w *world)) {
	for name, open := range engines {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, objectstore.Config{Engine: open(t)})
			fn(t, w)
			w.audit(t)
		})
	}
	t.Run("encrypted", func(t *testing.T) {
		w := newWorld(t, objectstore.Config{Secrets: testSecrets})
		fn(t, w)
		w.audit(t)
	})
}

func newWorld(tb testing.TB, c objectstore.Config) *world {
	if c.Engine == nil {
		c.Engine = memstore.New(memstore.Options{})
	}
	if c.Blobs == nil {
		c.Blobs = &mem.Store{}
	}
	require.NoError(tb, c.Engine.Migrate(context.Background(), objectstore.Schema(), true))
	tb.Cleanup(func() { require.NoError(tb, c.Engine.Close()) })
	s, err := objectstore.New(c)
	require.NoError(tb, err)
	return &world{Service: s, engine: c.Engine, blobs: c.Blobs, ctx: as("p", "u", "member")}
}

func as(project, user string, roles ...string) context.Context {
	return nacre.WithCaller(context.Background(), &nacre.Caller{UserID: user, UserName: user, ProjectID: project, ProjectName: project, Roles: roles, UserDomainID: "default", ProjectDomainID: "default"})
}

// audit also demands that every blob has a row.
func (w *world) audit(tb testing.TB) {
	tb.Helper()
	ctx := context.Background()
	fs, err := w.Audit(ctx, true)
	require.NoError(tb, err)
	require.Empty(tb, fs)
	require.NoError(tb, w.Tidy(ctx))
	fresh, err := objectstore.New(objectstore.Config{Engine: w.engine, Blobs: w.blobs, Grace: -time.Hour})
	require.NoError(tb, err)
	lost, err := fresh.Sweep(ctx)
	require.NoError(tb, err)
	require.Zero(tb, lost, "blobs without a row")
}

func ref(parts ...string) objectstore.Ref {
	parts = append(append([]string{"AUTH_p"}, parts...), "", "")
	return objectstore.Ref{Account: parts[0], Container: parts[1], Object: parts[2]}
}

func (w *world) container(tb testing.TB, name string, meta ...string) {
	tb.Helper()
	ch := objectstore.ContainerChange{Meta: map[string]string{}}
	for i := 0; i < len(meta); i += 2 {
		ch.Meta[meta[i]] = meta[i+1]
	}
	_, err := w.PutContainer(w.ctx, ref(name), ch)
	require.NoError(tb, err)
}

func (w *world) put(tb testing.TB, container, name, body string) objectstore.Object {
	tb.Helper()
	o, err := w.Put(w.ctx, objectstore.NewObject{Ref: ref(container, name), Body: strings.NewReader(body), Size: int64(len(body)), ContentType: "text/plain"})
	require.NoError(tb, err)
	return o
}

func (w *world) get(r objectstore.Ref, o objectstore.GetOptions) (string, error) {
	_, body, err := w.Read(w.ctx, r, o)
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(body)
	if cerr := body.Close(); err == nil {
		err = cerr
	}
	return string(b), err
}

func (w *world) names(tb testing.TB, container string, q objectstore.ListQuery) []string {
	tb.Helper()
	_, es, err := w.ListObjects(w.ctx, ref(container), q)
	require.NoError(tb, err)
	out := []string{}
	for _, e := range es {
		out = append(out, e.Name)
	}
	return out
}

func TestPutGetDelete(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		w.container(t, "c")
		for _, body := range []string{"", "x", strings.Repeat("y", 100000)} {
			o := w.put(t, "c", "o", body)
			require.Equal(t, sum(body), o.Etag)
			got, err := w.get(ref("c", "o"), objectstore.GetOptions{})
			require.NoError(t, err)
			require.Equal(t, body, got)
			c, err := w.Container(w.ctx, ref("c"))
			require.NoError(t, err)
			require.EqualValues(t, 1, c.Objects)
			require.EqualValues(t, len(body), c.Bytes)
		}
		require.ErrorIs(t, w.DeleteContainer(w.ctx, ref("c")), nacre.Conflict)
		_, err := w.Delete(w.ctx, ref("c", "o"), objectstore.DeleteOptions{})
		require.NoError(t, err)
		_, err = w.Delete(w.ctx, ref("c", "o"), objectstore.DeleteOptions{})
		require.ErrorIs(t, err, nacre.NotFound)
		require.NoError(t, w.DeleteContainer(w.ctx, ref("c")))
		_, err = w.Put(w.ctx, objectstore.NewObject{Ref: ref("c", "o"), Body: strings.NewReader("x"), Size: 1})
		require.ErrorIs(t, err, nacre.NotFound)
	})
}

func TestWrongBodiesLeaveNothing(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		w.container(t, "c")
		w.put(t, "c", "o", "before")
		long := strings.Repeat("z", 200000)
		for _, n := range []objectstore.NewObject{
			{Body: strings.NewReader("abc"), Size: 4}, {Body: strings.NewReader(long), Size: 3}, {Body: strings.NewReader(long), Size: -1, Etag: sum("other")},
			{Body: io.MultiReader(strings.NewReader(long), failing{}), Size: -1},
		} {
			n.Ref = ref("c", "o")
			_, err := w.Put(w.ctx, n)
			require.Error(t, err)
		}
		got, err := w.get(ref("c", "o"), objectstore.GetOptions{})
		require.NoError(t, err)
		require.Equal(t, "before", got)
	})
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestListing(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		w.container(t, "c")
		for _, n := range []string{"a", "a/", "a/1", "a/2", "a/b/c", "a0", "b/1", "b/2", "é/x", "z"} {
			w.put(t, "c", n, n)
		}
		type q = objectstore.ListQuery
		path := func(s string) *string { return &s }
		for _, c := range []struct {
			q    q
			want string
		}{
			{q{}, "a a/ a/1 a/2 a/b/c a0 b/1 b/2 z é/x"},
			{q{Limit: 3}, "a a/ a/1"},
			{q{Marker: "a/1", Limit: 2}, "a/2 a/b/c"},
			{q{EndMarker: "a/1"}, "a a/"},
			{q{Prefix: "a/"}, "a/ a/1 a/2 a/b/c"},
			{q{Delimiter: "/"}, "a a/ a0 b/ z é/"},
			{q{Delimiter: "/", Limit: 2}, "a a/"},
			{q{Delimiter: "/", Limit: 2, Marker: "a/"}, "a0 b/"},
			{q{Delimiter: "/", Prefix: "a/"}, "a/ a/1 a/2 a/b/"},
			{q{Reverse: true}, "é/x z b/2 b/1 a0 a/b/c a/2 a/1 a/ a"},
			{q{Reverse: true, Marker: "b/1", Limit: 2}, "a0 a/b/c"},
			{q{Reverse: true, EndMarker: "b/1"}, "é/x z b/2"},
			{q{Reverse: true, Delimiter: "/"}, "é/ z b/ a0 a/ a"},
			{q{Path: path("")}, "a a/ a0 z"},
			{q{Path: path("a")}, "a/1 a/2"},
			{q{Path: path("a/")}, "a/1 a/2"},
			{q{Prefix: "é"}, "é/x"},
			{q{Prefix: "q"}, ""},
		} {
			require.Equal(t, c.want, strings.Join(w.names(t, "c", c.q), " "), "%+v", c.q)
		}
		_, _, err := w.ListObjects(w.ctx, ref("c"), q{Limit: 10001})
		require.ErrorIs(t, err, nacre.Precondition)
	})
}

// A listing with a delimiter is the listing without, folded: on random names, page
// by page, both ways.
func TestListingWithDelimiterIsAFold(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		w.container(t, "c")
		for i := range 300 {
			w.put(t, "c", fmt.Sprintf("%d/%d/%d", i*7%5, i*13%40, i), "")
			w.put(t, "c", fmt.Sprintf("%d-%d", i*7%5, i), "")
		}
		for _, reverse := range []bool{false, true} {
			for _, prefix := range []string{"", "1", "1/", "3/2"} {
				var want []string
				for _, n := range w.names(t, "c", objectstore.ListQuery{Prefix: prefix, Reverse: reverse}) {
					if i := strings.Index(n[len(prefix):], "/"); i >= 0 {
						n = n[:len(prefix)+i+1]
					}
					if len(want) == 0 || want[len(want)-1] != n {
						want = append(want, n)
					}
				}
				for _, limit := range []int{1, 7, 0} {
					var got []string
					q := objectstore.ListQuery{Prefix: prefix, Delimiter: "/", Reverse: reverse, Limit: limit}
					for {
						es := w.names(t, "c", q)
						got = append(got, es...)
						if limit == 0 || len(es) < limit {
							break
						}
						q.Marker = es[len(es)-1]
					}
					require.Equal(t, want, got, "prefix %q, reverse %v, limit %d", prefix, reverse, limit)
				}
			}
		}
	})
}

func TestConcurrentPutsIntoOneContainer(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		w.container(t, "c")
		var wg sync.WaitGroup
		fail := make(chan error, 16)
		for i := range 16 {
			wg.Go(func() {
				for j := range 30 {
					body := strings.Repeat("x", i+j)
					name := fmt.Sprintf("o%d", (i*30+j)%100)
					if _, err := w.Put(w.ctx, objectstore.NewObject{Ref: ref("c", name), Body: strings.NewReader(body), Size: int64(len(body))}); err != nil {
						fail <- err
					}
					if j%5 == 4 {
						if _, err := w.Delete(w.ctx, ref("c", name), objectstore.DeleteOptions{}); nacre.KindOf(err) != nacre.NotFound && err != nil {
							fail <- err
						}
					}
				}
			})
		}
		wg.Wait()
		close(fail)
		require.NoError(t, <-fail)
		c, err := w.Container(w.ctx, ref("c"))
		require.NoError(t, err)
		require.EqualValues(t, len(w.names(t, "c", objectstore.ListQuery{})), c.Objects)
	})
}

func BenchmarkService(b *testing.B) {
	e, err := bunstore.OpenSQLite(b.TempDir()+"/db", bunstore.Options{})
	require.NoError(b, err)
	blobs, err := fs.New(b.TempDir(), fs.Options{})
	require.NoError(b, err)
	w := newWorld(b, objectstore.Config{Engine: e, Blobs: blobs})
	w.container(b, "c")
	body := strings.Repeat("x", 1024)
	for _, by := range []int{1, 16} {
		b.Run(fmt.Sprintf("put-1k/by-%d", by), func(b *testing.B) {
			var wg sync.WaitGroup
			turns := make(chan int, b.N)
			for i := range b.N {
				turns <- i
			}
			close(turns)
			for range by {
				wg.Go(func() {
					for i := range turns {
						if _, err := w.Put(w.ctx, objectstore.NewObject{Ref: ref("c", fmt.Sprintf("%d-%d-%d", b.N, by, i)), Body: strings.NewReader(body), Size: 1024}); err != nil {
							b.Error(err)
						}
					}
				})
			}
			wg.Wait()
		})
	}
	b.Run("get-1k", func(b *testing.B) {
		w.put(b, "c", "one", body)
		for b.Loop() {
			if _, err := w.get(ref("c", "one"), objectstore.GetOptions{}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("list-10k", func(b *testing.B) {
		w.container(b, "l")
		for i := range 10000 {
			w.put(b, "l", fmt.Sprintf("object-%08d", i), "")
		}
		b.ResetTimer()
		for b.Loop() {
			require.Len(b, w.names(b, "l", objectstore.ListQuery{}), 10000)
		}
	})
}
