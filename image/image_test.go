package image_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/image"
	"github.com/nacre-cloud/nacre/image/backend"
	"github.com/nacre-cloud/nacre/image/backend/file"
	"github.com/nacre-cloud/nacre/image/backend/mem"
	"github.com/nacre-cloud/nacre/store"
	"github.com/nacre-cloud/nacre/store/bunstore"
	"github.com/nacre-cloud/nacre/store/memstore"
	"github.com/nacre-cloud/nacre/store/storetest"
)

// world is an image service and what it stands on.
type world struct {
	*testing.T
	engine  store.Engine
	backend backend.Driver
	s       *image.Service
	// setup changes the configuration of the services that are made.
	setup func(*image.Config)
}

var engines = map[string]func(t *testing.T, dir string) (store.Engine, backend.Driver, error){
	"memstore": func(*testing.T, string) (store.Engine, backend.Driver, error) {
		return memstore.New(memstore.Options{}), &mem.Driver{}, nil
	},
	"sqlite": func(_ *testing.T, dir string) (store.Engine, backend.Driver, error) {
		e, err := bunstore.OpenSQLite(filepath.Join(dir, "i.db"), bunstore.Options{Synchronous: "OFF"})
		if err != nil {
			return nil, nil, err
		}
		b, err := file.New(filepath.Join(dir, "blobs"), file.Options{NoSync: true})
		return e, b, err
	},
}

// onEach runs a test in a bubble of time, on each pair of engine and backend.
func onEach(t *testing.T, test func(w *world)) {
	for name := range engines {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) { open(t, name, dir, test) })
		})
	}
}

func open(t *testing.T, name, dir string, test func(w *world)) {
	e, b, err := engines[name](t, dir)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	require.NoError(t, e.Migrate(t.Context(), image.Schema(), true))
	w := &world{T: t, engine: e, backend: b}
	w.s = w.service(e)
	test(w)
}

func (w *world) service(e store.Engine) *image.Service {
	c := image.Config{Engine: e, Backend: w.backend, UploadTimeout: 50 * time.Millisecond}
	if w.setup != nil {
		w.setup(&c)
	}
	s, err := image.New(c)
	require.NoError(w, err)
	return s
}

// alone is a service that takes over from one that died, at once.
func (w *world) alone() *image.Service {
	setup := w.setup
	defer func() { w.setup = setup }()
	w.setup = func(c *image.Config) {
		if setup != nil {
			setup(c)
		}
		c.Alone = true
	}
	return w.service(w.engine)
}

// run lets a service work until stop.
func run(s *image.Service) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.Run(ctx) })
	return func() { cancel(); wg.Wait() }
}

func as(ctx context.Context, project string, roles ...string) context.Context {
	return nacre.WithCaller(ctx, &nacre.Caller{UserID: "user-" + project, ProjectID: project, Roles: append(roles, "member", "reader")})
}

func (w *world) mine() context.Context { return as(w.Context(), "p1") }

func (w *world) create(ctx context.Context, format string) string {
	w.Helper()
	im, err := w.s.Create(ctx, image.Image{Name: "x", DiskFormat: format, ContainerFormat: "bare"})
	require.NoError(w, err)
	return im.ID
}

func (w *world) get(id string) image.Image {
	w.Helper()
	im, err := w.s.Get(as(w.Context(), "p0", "admin"), id)
	require.NoError(w, err)
	return im
}

// clean settles all work and lets the audit look.
func (w *world) clean() {
	w.Helper()
	s := w.rest()
	found, err := s.Audit(w.Context(), true)
	require.NoError(w, err)
	require.Empty(w, found)
}

// rest settles all work.
func (w *world) rest() *image.Service {
	w.Helper()
	s := w.alone()
	defer run(s)()
	require.Eventually(w, func() bool {
		n, err := s.Waiting(w.Context())
		return err == nil && n == 0
	}, 5*time.Minute, 20*time.Millisecond, "work is left")
	return s
}

func (w *world) blobs() int {
	w.Helper()
	keys, err := w.backend.List(w.Context())
	require.NoError(w, err)
	return len(keys)
}

// qcow2 is a header, optionally with a backing file.
func qcow2(backing string) []byte {
	b := make([]byte, 64<<10)
	copy(b, "QFI\xfb")
	binary.BigEndian.PutUint32(b[4:], 2)
	binary.BigEndian.PutUint32(b[20:], 16)
	binary.BigEndian.PutUint64(b[24:], 1<<30)
	binary.BigEndian.PutUint32(b[36:], 1)
	binary.BigEndian.PutUint64(b[40:], 1<<16)
	binary.BigEndian.PutUint64(b[48:], 1<<16)
	if backing != "" {
		binary.BigEndian.PutUint64(b[8:], 1024)
		binary.BigEndian.PutUint32(b[16:], uint32(len(backing)))
		copy(b[1024:], backing)
	}
	return b
}

func TestUpload(t *testing.T) {
	onEach(t, func(w *world) {
		ctx := w.mine()
		id := w.create(ctx, "raw")
		_, _, ok, err := w.s.Open(ctx, id)
		require.NoError(w, err)
		require.False(w, ok, "nothing to read yet")
		data := bytes.Repeat([]byte("nacre "), 100_000)
		im, err := w.s.Upload(ctx, id, bytes.NewReader(data), int64(len(data)))
		require.NoError(w, err)
		require.Equal(w, image.Active, im.Status)
		require.EqualValues(w, len(data), im.Size)
		require.Len(w, im.Checksum, 32)
		require.Len(w, im.HashValue, 128)
		_, r, ok, err := w.s.Open(ctx, id)
		require.NoError(w, err)
		require.True(w, ok)
		got, err := io.ReadAll(r)
		require.NoError(w, err)
		require.NoError(w, r.Close())
		require.True(w, bytes.Equal(data, got))
		_, err = w.s.Upload(ctx, id, bytes.NewReader(data), -1)
		require.ErrorIs(w, err, nacre.Conflict, "a second time")
		w.clean()
		require.Equal(w, 1, w.blobs())

		require.NoError(w, w.s.Delete(ctx, id))
		_, err = w.s.Get(ctx, id)
		require.ErrorIs(w, err, nacre.NotFound)
		w.clean()
		require.Zero(w, w.blobs(), "the bytes follow")
		require.ErrorIs(w, w.s.Delete(ctx, id), nacre.NotFound)
	})
}

type broken struct{ after io.Reader }

func (b broken) Read(p []byte) (int, error) {
	n, err := b.after.Read(p)
	if errors.Is(err, io.EOF) {
		err = errors.New("the connection broke")
	}
	return n, err
}

// An upload that fails leaves nothing, and the image is queued again.
func TestUploadRefused(t *testing.T) {
	onEach(t, func(w *world) {
		ctx := w.mine()
		zeros := make([]byte, 1<<20)
		for name, c := range map[string]struct {
			format string
			data   io.Reader
			size   int64
			kind   nacre.Kind
		}{
			"cut off":             {"raw", broken{bytes.NewReader(zeros)}, -1, nacre.Internal},
			"shorter than said":   {"raw", bytes.NewReader(zeros), 2 << 20, nacre.Invalid},
			"not qcow2":           {"qcow2", bytes.NewReader(zeros), -1, nacre.UnsupportedMedia},
			"qcow2 as raw":        {"raw", bytes.NewReader(qcow2("")), -1, nacre.UnsupportedMedia},
			"backing file":        {"qcow2", bytes.NewReader(qcow2("/etc/shadow")), -1, nacre.UnsupportedMedia},
			"backing file as raw": {"raw", bytes.NewReader(qcow2("/etc/shadow")), -1, nacre.UnsupportedMedia},
			"too large":           {"raw", bytes.NewReader(zeros), 1 << 50, nacre.TooLarge},
		} {
			id := w.create(ctx, c.format)
			_, err := w.s.Upload(ctx, id, c.data, c.size)
			require.Error(w, err, name)
			require.Equal(w, c.kind, nacre.KindOf(err), "%s: %v", name, err)
			require.Equal(w, image.Queued, w.get(id).Status, name)
			require.Empty(w, w.get(id).BlobKey, name)
			require.Zero(w, w.blobs(), name)
			// It can be tried again.
			good := zeros
			if c.format == "qcow2" {
				good = qcow2("")
			}
			im, err := w.s.Upload(ctx, id, bytes.NewReader(good), -1)
			require.NoError(w, err, name)
			require.Equal(w, image.Active, im.Status)
			require.NoError(w, w.s.Delete(ctx, id))
			w.clean()
			require.Zero(w, w.blobs(), name)
		}
		im, err := w.s.Create(ctx, image.Image{Name: "no formats"})
		require.NoError(w, err)
		_, err = w.s.Upload(ctx, im.ID, bytes.NewReader(zeros), -1)
		require.ErrorIs(w, err, nacre.Invalid)
	})
}

func TestDiskFull(t *testing.T) {
	e := memstore.New(memstore.Options{})
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	require.NoError(t, e.Migrate(t.Context(), image.Schema(), true))
	w := &world{T: t, engine: e, backend: &mem.Driver{Limit: 100}}
	w.s = w.service(e)
	id := w.create(w.mine(), "raw")
	_, err := w.s.Upload(w.mine(), id, bytes.NewReader(make([]byte, 200)), -1)
	require.ErrorIs(t, err, nacre.TooLarge)
	require.Equal(t, image.Queued, w.get(id).Status)
	_, err = w.s.Upload(w.mine(), id, bytes.NewReader(make([]byte, 50)), -1)
	require.NoError(t, err)
	w.clean()
}

// slow gives one byte, then what fn says, then the end.
type slow struct {
	n  int
	fn func()
}

func (r *slow) Read(p []byte) (int, error) {
	if r.n++; r.n == 2 {
		r.fn()
	}
	if r.n > 3 {
		return 0, io.EOF
	}
	p[0] = 0
	return 1, nil
}

// An image that is deleted while it is uploaded is gone, bytes and all.
func TestDeleteDuringUpload(t *testing.T) {
	onEach(t, func(w *world) {
		stop := run(w.s)
		ctx := w.mine()
		id := w.create(ctx, "raw")
		_, err := w.s.Upload(ctx, id, &slow{fn: func() {
			require.NoError(w, w.s.Delete(ctx, id))
			_, err := w.s.Get(ctx, id)
			require.ErrorIs(w, err, nacre.NotFound)
			time.Sleep(time.Minute) // past the time after which its bytes are removed
		}}, -1)
		require.ErrorIs(w, err, nacre.NotFound)
		stop()
		w.clean()
		require.Zero(w, w.blobs())
	})
}

// A process that dies in an upload or a deletion, at any store call: afterwards
// each image is queued without bytes, active with them, or gone with them.
func TestCrashAtEachCall(t *testing.T) {
	eachCall(t, func(call, n int) bool { return call >= n })
}

// So it is when one store call fails, even a commit that did happen.
func TestHiccupAtEachCall(t *testing.T) {
	eachCall(t, func(call, n int) bool { return call == n })
}

func eachCall(t *testing.T, fails func(call, n int) bool) {
	crashed := errors.New("crashed")
	onEach(t, func(w *world) {
		ctx := w.mine()
		for _, op := range []struct {
			name string
			do   func(s *image.Service, id string) error
		}{
			{"upload", func(s *image.Service, id string) error {
				_, err := s.Upload(ctx, id, bytes.NewReader(make([]byte, 5000)), 5000)
				return err
			}},
			{"delete", func(s *image.Service, id string) error { return s.Delete(ctx, id) }},
		} {
			for n := 1; ; n++ {
				require.Less(w, n, 60)
				calls, hit := 0, false
				sick := w.service(storetest.Faulty(w.engine, func(string, string) error {
					if calls++; !fails(calls, n) {
						return nil
					}
					hit = true
					return crashed
				}))
				id := w.create(ctx, "raw")
				if op.name == "delete" {
					_, err := w.s.Upload(ctx, id, bytes.NewReader(make([]byte, 5000)), -1)
					require.NoError(w, err)
				}
				err := op.do(sick, id)
				if hit {
					require.Error(w, err)
				}
				w.clean()
				im, err := w.s.Get(ctx, id)
				switch {
				case errors.Is(err, nacre.NotFound):
					require.Equal(w, "delete", op.name)
					require.Zero(w, w.blobs())
				case err != nil:
					require.NoError(w, err)
				case im.Status == image.Queued:
					require.Zero(w, w.blobs())
				default:
					require.Equal(w, image.Active, im.Status, "%s, call %d", op.name, n)
					require.Equal(w, 1, w.blobs())
				}
				if err == nil {
					require.NoError(w, w.s.Delete(ctx, id))
					w.clean()
				}
				if !hit {
					break
				}
			}
		}
	})
}

// The audit finds each kind of damage that is planted.
func TestAudit(t *testing.T) {
	onEach(t, func(w *world) {
		ctx := w.mine()
		rows := store.NewTable[image.Image](w.engine, "image")
		for name, c := range map[string]struct {
			plant func(id, key string) error
			want  string
		}{
			"bytes gone": {func(_, key string) error { return w.backend.Delete(ctx, key) }, "its bytes are gone"},
			"other bytes": {func(_, key string) error {
				_, err := w.backend.Put(ctx, key, bytes.NewReader(make([]byte, 100)))
				return err
			}, "do not have the hash"},
			"other size": {func(id, _ string) error {
				_, err := rows.Update(ctx, id, func(im *image.Image) error { im.Size++; return nil })
				return err
			}, "shows a size of 101"},
			"nobody's bytes": {func(string, string) error {
				_, err := w.backend.Put(ctx, "abcdef00", bytes.NewReader([]byte("x")))
				return err
			}, "belongs to no image"},
			"saving for ever": {func(id, _ string) error {
				_, err := rows.Update(ctx, id, func(im *image.Image) error { im.Status, im.BlobKey = image.Saving, "abcdef01"; return nil })
				return err
			}, "nothing watches it"},
		} {
			id := w.create(ctx, "raw")
			_, err := w.s.Upload(ctx, id, bytes.NewReader(bytes.Repeat([]byte{7}, 100)), -1)
			require.NoError(w, err)
			key := w.get(id).Locations[0].Key
			w.clean()
			require.NoError(w, c.plant(id, key))
			found, err := w.s.Audit(ctx, true)
			require.NoError(w, err)
			require.Len(w, found, 1, name)
			require.Contains(w, found[0].Problem, c.want)
			require.NoError(w, rows.Delete(ctx, id))
			require.NoError(w, w.backend.Delete(ctx, key))
			require.NoError(w, w.backend.Delete(ctx, "abcdef00"))
		}
	})
}

// Who may see and do what.
func TestWho(t *testing.T) {
	onEach(t, func(w *world) {
		mine, other, reader, admin := w.mine(), as(w.Context(), "p2"), nacre.WithCaller(w.Context(), &nacre.Caller{ProjectID: "p1", Roles: []string{"reader"}}), as(w.Context(), "p0", "admin")
		data := bytes.NewReader(make([]byte, 10))
		for _, visibility := range []string{"private", "shared", "community", "public"} {
			ctx := mine
			if visibility == "public" {
				_, err := w.s.Create(mine, image.Image{Visibility: visibility})
				require.ErrorIs(w, err, nacre.Forbidden)
				ctx = admin
			}
			im, err := w.s.Create(ctx, image.Image{Visibility: visibility, DiskFormat: "raw", ContainerFormat: "bare", OwnerID: "p1"})
			require.NoError(w, err)
			_, err = w.s.Get(other, im.ID)
			hidden := visibility == "private" || visibility == "shared"
			want := nacre.Forbidden
			if hidden {
				require.ErrorIs(w, err, nacre.NotFound, visibility)
				want = nacre.NotFound
			} else {
				require.NoError(w, err, visibility)
			}
			require.ErrorIs(w, w.s.Delete(other, im.ID), want, visibility)
			_, err = w.s.Update(other, im.ID, func(*image.Image) error { return nil })
			require.ErrorIs(w, err, want, visibility)
			_, err = w.s.Upload(other, im.ID, data, -1)
			require.ErrorIs(w, err, want, visibility)
			require.ErrorIs(w, w.s.Delete(reader, im.ID), nacre.Forbidden, "a reader")
			_, err = w.s.Update(mine, im.ID, func(im *image.Image) error { im.Protected = true; return nil })
			require.NoError(w, err)
			require.ErrorIs(w, w.s.Delete(mine, im.ID), nacre.Forbidden, "protected")
			_, err = w.s.Update(mine, im.ID, func(im *image.Image) error { im.Protected = false; return nil })
			require.NoError(w, err)
			require.NoError(w, w.s.Delete(mine, im.ID))
		}
		_, err := w.s.List(w.Context(), nacre.Query{})
		require.ErrorIs(w, err, nacre.Unauthenticated)
		_, err = w.s.Create(mine, image.Image{OwnerID: "p2"})
		require.ErrorIs(w, err, nacre.Forbidden)
	})
}

func TestMembers(t *testing.T) {
	onEach(t, func(w *world) {
		mine, theirs, third := w.mine(), as(w.Context(), "p2"), as(w.Context(), "p3")
		id := w.create(mine, "raw")
		_, err := w.s.Upload(mine, id, bytes.NewReader(make([]byte, 10)), -1)
		require.NoError(w, err)
		_, err = w.s.AddMember(theirs, id, "p2")
		require.ErrorIs(w, err, nacre.NotFound)
		m, err := w.s.AddMember(mine, id, "p2")
		require.NoError(w, err)
		require.Equal(w, "pending", m.Status)
		_, err = w.s.AddMember(mine, id, "p2")
		require.ErrorIs(w, err, nacre.Conflict)
		_, err = w.s.AddMember(mine, id, "")
		require.ErrorIs(w, err, nacre.Invalid)
		_, err = w.s.AddMember(mine, id, "p4")
		require.NoError(w, err)

		_, err = w.s.Get(theirs, id)
		require.NoError(w, err, "seen at once")
		_, r, ok, err := w.s.Open(theirs, id)
		require.NoError(w, err)
		require.True(w, ok)
		require.NoError(w, r.Close())
		_, err = w.s.Get(third, id)
		require.ErrorIs(w, err, nacre.NotFound)
		listed := func(ctx context.Context, status string) int {
			q := nacre.Query{}
			if status != "" {
				q.Filters = append(q.Filters, nacre.Filter{Name: "member_status", Value: status})
			}
			ims, err := w.s.List(ctx, q)
			require.NoError(w, err)
			return len(ims)
		}
		require.Equal(w, []int{0, 1, 1, 0}, []int{listed(theirs, ""), listed(theirs, "pending"), listed(theirs, "all"), listed(third, "all")})
		_, err = w.s.SetMember(mine, id, "p2", "accepted")
		require.ErrorIs(w, err, nacre.Forbidden, "not the owner's decision")
		_, err = w.s.SetMember(theirs, id, "p2", "perhaps")
		require.ErrorIs(w, err, nacre.Invalid)
		_, err = w.s.SetMember(theirs, id, "p4", "accepted")
		require.ErrorIs(w, err, nacre.NotFound, "nor another member's")
		m, err = w.s.SetMember(theirs, id, "p2", "accepted")
		require.NoError(w, err)
		require.Equal(w, "accepted", m.Status)
		require.Equal(w, 1, listed(theirs, ""))
		all, err := w.s.Members(mine, id)
		require.NoError(w, err)
		require.Len(w, all, 2)
		own, err := w.s.Members(theirs, id)
		require.NoError(w, err)
		require.Len(w, own, 1)
		_, err = w.s.Member(theirs, id, "p4")
		require.ErrorIs(w, err, nacre.NotFound)
		require.ErrorIs(w, w.s.RemoveMember(theirs, id, "p2"), nacre.Forbidden)
		require.ErrorIs(w, w.s.Delete(theirs, id), nacre.Forbidden)
		require.NoError(w, w.s.RemoveMember(mine, id, "p2"))
		require.ErrorIs(w, w.s.RemoveMember(mine, id, "p2"), nacre.NotFound)
		_, err = w.s.Get(theirs, id)
		require.ErrorIs(w, err, nacre.NotFound)

		private, err := w.s.Create(mine, image.Image{Visibility: "private"})
		require.NoError(w, err)
		_, err = w.s.AddMember(mine, private.ID, "p2")
		require.ErrorIs(w, err, nacre.Forbidden)
		require.NoError(w, w.s.Delete(mine, id))
		n, err := store.NewTable[image.Member](w.engine, "image_member").Count(w.Context())
		require.NoError(w, err)
		require.Zero(w, n, "memberships go with the image")
	})
}
