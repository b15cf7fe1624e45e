package objectstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/objectstore"
	"github.com/nacre-cloud/nacre/objectstore/blob"
	"github.com/nacre-cloud/nacre/objectstore/blob/mem"
	"github.com/nacre-cloud/nacre/store/memstore"
	"github.com/nacre-cloud/nacre/store/storetest"
)

var errCrash = errors.New("the process was killed")

// fuse lets so many calls through; then the process is as good as dead: every call
// fails, and what was under way may have happened or not.
type fuse struct {
	left  atomic.Int64
	calls atomic.Int64
	after bool // the fatal call still takes effect
	once  bool // all is well again after the one call
}

// burn tells whether the call may take place, and whether its answer is heard.
func (f *fuse) burn() (does, heard bool) {
	f.calls.Add(1)
	switch n := f.left.Add(-1); {
	case n >= 0:
		return true, true
	case n == -1:
		return f.after, false
	}
	return f.once, f.once
}

// ask is for storetest.Faulty, which has a call of its own for "committed, and
// nobody heard of it".
func (f *fuse) ask(string, string) error {
	if _, heard := f.burn(); !heard {
		return errCrash
	}
	return nil
}

// mortalBlobs are cut off by a fuse. What was not waited for is not on the disk.
type mortalBlobs struct {
	blob.Store
	f *fuse
	// floating are the blobs that are not on the disk.
	floating map[string]bool
}

func mortal(s blob.Store, f *fuse) mortalBlobs { return mortalBlobs{s, f, map[string]bool{}} }

func (b mortalBlobs) Start(ctx context.Context, r io.Reader, n int64) (string, int64, func() error, error) {
	key, size, err := b.Put(ctx, r, n)
	if err != nil {
		return "", 0, nil, err
	}
	b.floating[key] = true
	return key, size, sync.OnceValue(func() error {
		does, heard := b.f.burn()
		if does {
			delete(b.floating, key)
		} else if err := b.Store.Delete(ctx, key); err != nil { // lost, whatever comes
			return err
		}
		if !heard {
			return errCrash
		}
		return nil
	}), nil
}

// sink is a power cut.
func (b mortalBlobs) sink(t *testing.T) {
	for key := range b.floating {
		require.NoError(t, b.Store.Delete(t.Context(), key))
	}
}

func (b mortalBlobs) Put(ctx context.Context, r io.Reader, n int64) (string, int64, error) {
	does, heard := b.f.burn()
	if !does {
		return "", 0, errCrash
	}
	key, size, err := b.Store.Put(ctx, r, n)
	if !heard {
		return "", 0, errCrash
	}
	return key, size, err
}

func (b mortalBlobs) Delete(ctx context.Context, keys ...string) error {
	does, heard := b.f.burn()
	if !does {
		return errCrash
	}
	err := b.Store.Delete(ctx, keys...)
	if !heard {
		return errCrash
	}
	return err
}

// life is what a process does until it dies: puts, overwrites, deletes, a large
// object, versions. It tells of each put that was acknowledged.
func life(ctx context.Context, s *objectstore.Service, acked map[string]string) error {
	put := func(c, name, body string) error {
		_, err := s.Put(ctx, objectstore.NewObject{Ref: ref(c, name), Body: strings.NewReader(body), Size: int64(len(body))})
		if err == nil {
			acked[c+"/"+name] = body
		} else {
			delete(acked, c+"/"+name) // the old or the new: either is right
		}
		return err
	}
	del := func(c, name string) error {
		delete(acked, c+"/"+name)
		_, err := s.Delete(ctx, ref(c, name), objectstore.DeleteOptions{})
		return err
	}
	on := true
	steps := []func() error{
		func() error {
			_, err := s.PutContainer(ctx, ref("c"), objectstore.ContainerChange{})
			return err
		},
		func() error {
			_, err := s.PutContainer(ctx, ref("v"), objectstore.ContainerChange{Versions: &on})
			return err
		},
		func() error { return put("c", "a", "one") },
		func() error { return put("c", "a", strings.Repeat("two", 30000)) },
		func() error { return put("c", "b", "b") },
		func() error { return put("v", "o", "one") },
		func() error { return put("v", "o", "two") },
		func() error { return del("v", "o") },
		func() error {
			_, err := s.Put(ctx, objectstore.NewObject{Ref: ref("c", "slo"), Segments: []objectstore.Segment{{Path: "/c/a"}, {Path: "/c/b"}}})
			if err == nil {
				acked["c/slo"] = strings.Repeat("two", 30000) + "b"
			}
			return err
		},
		func() error { return put("c", "a", strings.Repeat("two", 30000)) },
		func() error { return del("c", "slo") },
		func() error { return s.Tidy(ctx) },
		func() error { return put("c", "z", "") },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// One call fails, and all is well again: the process goes on, and does not know
// whether what it asked for was done.
func TestOneFaultAtEveryCall(t *testing.T) {
	for mode := range 4 {
		after, secrets := mode%2 == 1, []*objectstore.Secrets{nil, testSecrets}[mode/2]
		for n := int64(0); ; n++ {
			f := &fuse{after: after, once: true}
			f.left.Store(n)
			engine, blobs := memstore.New(memstore.Options{}), &mem.Store{}
			require.NoError(t, engine.Migrate(t.Context(), objectstore.Schema(), true))
			w := &world{engine: engine, blobs: blobs, ctx: as("p", "u", "member")}
			var err error
			w.Service, err = objectstore.New(objectstore.Config{Engine: storetest.Faulty(engine, f.ask), Blobs: mortal(blobs, f), Grace: -time.Hour, Secrets: secrets})
			require.NoError(t, err)
			acked := map[string]string{}
			failed := life(w.ctx, w.Service, acked)
			if f.left.Load() >= 0 {
				require.NoError(t, failed)
				require.Greater(t, n, int64(20), "the fuse was never met")
				break
			}
			for name, body := range acked {
				c, o, _ := strings.Cut(name, "/")
				got, err := w.get(ref(c, o), objectstore.GetOptions{})
				require.NoError(t, err, "%s, after a fault at call %d", name, n)
				require.True(t, body == got, "%s, after a fault at call %d", name, n)
			}
			require.NoError(t, w.Tidy(t.Context()))
			_, err = w.Sweep(t.Context())
			require.NoError(t, err)
			w.audit(t)
			require.NoError(t, engine.Close())
		}
	}
}

// The process dies at each call of the store or of the blobs, before it took effect
// and after. Whatever was acknowledged is there, whatever is listed reads back,
// counts are right, and nothing is left over once it has been swept.
func TestCrashAtEveryCall(t *testing.T) {
	for mode := range 4 {
		after, secrets := mode%2 == 1, []*objectstore.Secrets{nil, testSecrets}[mode/2]
		for n := int64(0); ; n++ {
			f := &fuse{after: after}
			f.left.Store(n)
			engine, blobs := memstore.New(memstore.Options{}), &mem.Store{}
			require.NoError(t, engine.Migrate(t.Context(), objectstore.Schema(), true))
			theirs := mortal(blobs, f)
			dying, err := objectstore.New(objectstore.Config{Engine: storetest.Faulty(engine, f.ask), Blobs: theirs, Secrets: secrets})
			require.NoError(t, err)
			acked := map[string]string{}
			died := life(as("p", "u", "member"), dying, acked)
			theirs.sink(t)

			w := &world{engine: engine, blobs: blobs, ctx: as("p", "u", "member")}
			w.Service, err = objectstore.New(objectstore.Config{Engine: engine, Blobs: blobs, Grace: -time.Hour, Secrets: secrets})
			require.NoError(t, err)
			for name, body := range acked {
				c, o, _ := strings.Cut(name, "/")
				got, err := w.get(ref(c, o), objectstore.GetOptions{})
				require.NoError(t, err, "%s, killed at call %d", name, n)
				require.True(t, body == got, "%s, killed at call %d", name, n)
			}
			require.NoError(t, w.Tidy(t.Context()))
			_, err = w.Sweep(t.Context())
			require.NoError(t, err)
			w.audit(t)
			require.NoError(t, engine.Close())
			if died == nil {
				require.Greater(t, n, int64(20), "the fuse was never met")
				break
			}
			require.ErrorIs(t, died, errCrash)
		}
	}
}

// What can't be synced is refused, and nothing else that comes at the same time; the
// object that it was to replace stays.
func TestUnsyncedBytesAreNoObject(t *testing.T) {
	blobs := unsyncable{&mem.Store{}}
	w := newWorld(t, objectstore.Config{Blobs: blobs, Grace: -time.Hour})
	w.container(t, "c")
	w.put(t, "c", "bad", "old")
	var wg sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		wg.Go(func() {
			name, body := fmt.Sprintf("good-%d", i), "fine"
			if i == 3 {
				name, body = "bad", "wrong"
			}
			_, errs[i] = w.Put(w.ctx, objectstore.NewObject{Ref: ref("c", name), Body: strings.NewReader(body), Size: -1})
		})
	}
	wg.Wait()
	for i, err := range errs {
		if i == 3 {
			require.ErrorIs(t, err, errCrash)
			continue
		}
		require.NoError(t, err)
	}
	got, err := w.get(ref("c", "bad"), objectstore.GetOptions{})
	require.NoError(t, err)
	require.Equal(t, "old", got)
	require.Len(t, w.names(t, "c", objectstore.ListQuery{}), 8)
	n, err := w.Sweep(t.Context())
	require.NoError(t, err)
	require.Equal(t, 1, n, "what it was is swept")
	w.audit(t)
}

// unsyncable loses what is "wrong".
type unsyncable struct{ *mem.Store }

func (b unsyncable) Start(ctx context.Context, r io.Reader, _ int64) (string, int64, func() error, error) {
	body, err := io.ReadAll(r)
	if err != nil {
		return "", 0, nil, err
	}
	key, n, err := b.Put(ctx, bytes.NewReader(body), -1)
	return key, n, func() error {
		if string(body) == "wrong" {
			return errCrash
		}
		return nil
	}, err
}

// A disk that is full refuses what is new, and keeps what there is.
func TestFullStore(t *testing.T) {
	w := newWorld(t, objectstore.Config{Blobs: fullBlobs{&mem.Store{}}})
	w.container(t, "c")
	w.put(t, "c", "empty", "")
	_, err := w.Put(w.ctx, objectstore.NewObject{Ref: ref("c", "o"), Body: strings.NewReader("x"), Size: 1})
	require.ErrorIs(t, err, blob.ErrFull)
	require.Equal(t, []string{"empty"}, w.names(t, "c", objectstore.ListQuery{}))
	w.audit(t)
}

type fullBlobs struct{ *mem.Store }

func (fullBlobs) Put(context.Context, io.Reader, int64) (string, int64, error) {
	return "", 0, blob.ErrFull
}

// Rotten bytes are never handed out, and the audit finds them.
func TestRot(t *testing.T) {
	blobs := &mem.Store{}
	w := newWorld(t, objectstore.Config{Blobs: blobs})
	w.container(t, "c")
	o := w.put(t, "c", "o", strings.Repeat("x", 1000))
	w.put(t, "c", "p", "fine")
	require.NoError(t, blobs.Damage(o.Blob))
	fs, err := w.Audit(t.Context(), true)
	require.NoError(t, err)
	require.Equal(t, []nacre.Finding{{Area: "objectstore", Kind: "object", ID: "AUTH_p/c/o", Problem: "its bytes are damaged (blob " + o.Blob + ")"}}, fs)
	_, err = w.get(ref("c", "o"), objectstore.GetOptions{})
	require.ErrorIs(t, err, blob.ErrRotten)
	// Whoever met it has set it aside; it is listed still, and not found.
	_, err = w.get(ref("c", "o"), objectstore.GetOptions{})
	require.ErrorIs(t, err, nacre.NotFound)
	require.Equal(t, []string{"o", "p"}, w.names(t, "c", objectstore.ListQuery{}))
	found, err := w.Scrub(t.Context())
	require.NoError(t, err)
	require.Len(t, found, 1)
	// A new one takes its place.
	w.put(t, "c", "o", "new")
	w.audit(t)
}

// Blobs that are young are left: their object may be on its way.
func TestSweepLeavesWhatIsUnderWay(t *testing.T) {
	blobs := &mem.Store{}
	w := newWorld(t, objectstore.Config{Blobs: blobs})
	_, _, err := blobs.Put(t.Context(), strings.NewReader("lost"), 4)
	require.NoError(t, err)
	n, err := w.Sweep(t.Context())
	require.NoError(t, err)
	require.Zero(t, n)
	later, err := objectstore.New(objectstore.Config{Engine: w.engine, Blobs: blobs, Now: func() time.Time { return time.Now().Add(2 * time.Hour) }})
	require.NoError(t, err)
	n, err = later.Sweep(t.Context())
	require.NoError(t, err)
	require.Equal(t, 1, n)
}

func TestDeletedAccountIsEmptied(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		on := true
		_, err := w.PutContainer(w.ctx, ref("v"), objectstore.ContainerChange{Versions: &on})
		require.NoError(t, err)
		for i := range 5 {
			w.put(t, "v", "o", fmt.Sprint(i))
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go w.Run(ctx) //nolint:errcheck // it ends with ctx
		require.ErrorIs(t, w.DeleteAccount(w.ctx, "AUTH_p"), nacre.NotImplemented)
		require.NoError(t, w.DeleteAccount(nacre.AsService(ctx, "identity"), "AUTH_p"))
		require.Eventually(t, func() bool {
			a, err := w.Account(nacre.AsService(ctx, "test"), "AUTH_p")
			n, werr := w.Waiting(ctx)
			return err == nil && a.Containers == 0 && werr == nil && n == 0
		}, 5*time.Second, 5*time.Millisecond)
	})
}
