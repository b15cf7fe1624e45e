package image_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/image"
	"github.com/nacre-cloud/nacre/image/backend"
	"github.com/nacre-cloud/nacre/image/backend/mem"
	"github.com/nacre-cloud/nacre/store/storetest"
)

// pages is a Fetcher of what is in it.
type pages map[string][]byte

func (p pages) Check(_ context.Context, url string) error {
	if !strings.HasPrefix(url, "http://") {
		return nacre.Errorf(nacre.Invalid, "", "not that scheme")
	}
	return nil
}

func (p pages) Fetch(ctx context.Context, url string) (io.ReadCloser, int64, error) {
	b, ok := p[url]
	if !ok {
		return nil, 0, nacre.Errorf(nacre.Invalid, "", "The URL can't be fetched: the server answered 404")
	}
	if c := nacre.CallerFrom(ctx); c.Service != "image" || c.Token != "" {
		return nil, 0, errors.New("a fetch with a user's rights")
	}
	return io.NopCloser(bytes.NewReader(b)), int64(len(b)), nil
}

// sick is a store whose writes fail.
type sick struct{ mem.Driver }

func (*sick) Put(context.Context, string, io.Reader) (int64, error) {
	return 0, errors.New("the store is sick")
}

// several gives the world three stores, the last of which is sick.
func (w *world) several() []*mem.Driver {
	ds := []*mem.Driver{{}, {}}
	bad := &sick{}
	staging := &mem.Driver{}
	w.setup = func(c *image.Config) {
		c.Backend = nil
		c.Stores = []image.Store{{ID: "one", Driver: ds[0]}, {ID: "two", Driver: ds[1]}, {ID: "sick", Driver: bad}}
		c.Staging = staging
		c.Fetcher = pages{"http://x/disk": make([]byte, 5000), "http://x/bad": qcow2("/etc/shadow")}
	}
	w.s = w.service(w.engine)
	return append(ds, staging)
}

func (w *world) admin() context.Context { return as(w.Context(), "p0", "admin") }

// settled waits until an image has no import in hand.
func (w *world) settled(id string) image.Image {
	w.Helper()
	stop := run(w.alone())
	defer stop()
	require.Eventually(w, func() bool { return w.get(id).ImportTask == "" }, time.Minute, 5*time.Millisecond)
	time.Sleep(time.Second) // so that the next task is a later one
	return w.get(id)
}

func (w *world) task(id string) image.Task {
	w.Helper()
	ts, err := w.s.ImageTasks(w.admin(), id)
	require.NoError(w, err)
	require.NotEmpty(w, ts)
	return ts[len(ts)-1]
}

func keysOf(w *world, ds ...*mem.Driver) int {
	n := 0
	for _, d := range ds {
		keys, err := d.List(w.Context())
		require.NoError(w, err)
		n += len(keys)
	}
	return n
}

func TestStageAndImport(t *testing.T) {
	onEach(t, func(w *world) {
		ds := w.several()
		ctx := w.mine()
		id := w.create(ctx, "raw")
		_, err := w.s.Import(ctx, id, image.ImportRequest{Method: image.GlanceDirect})
		require.ErrorIs(w, err, nacre.Conflict, "nothing is staged")
		require.NoError(w, w.s.Stage(ctx, id, bytes.NewReader(make([]byte, 3000)), -1))
		im := w.get(id)
		require.Equal(w, image.Uploading, im.Status)
		require.EqualValues(w, 3000, im.Size)
		require.ErrorIs(w, w.s.Stage(ctx, id, bytes.NewReader(nil), -1), nacre.Conflict, "staged already")
		w.clean()
		_, err = w.s.Import(as(w.Context(), "p2"), id, image.ImportRequest{Method: image.GlanceDirect})
		require.ErrorIs(w, err, nacre.NotFound)
		for _, bad := range []image.ImportRequest{{Method: "teleport"}, {Method: image.CopyImage}, {Method: image.GlanceDirect, Stores: []string{"three"}}, {Method: image.GlanceDirect, AllStores: true, Stores: []string{"one"}}} {
			_, err = w.s.Import(ctx, id, bad)
			require.Error(w, err, bad)
		}
		task, err := w.s.Import(ctx, id, image.ImportRequest{Method: image.GlanceDirect, Stores: []string{"two", "one"}})
		require.NoError(w, err)
		im = w.get(id)
		require.Equal(w, image.Importing, im.Status)
		require.Equal(w, task.ID, im.ImportTask)
		require.Equal(w, []string{"two", "one"}, im.ImportingTo)
		_, err = w.s.Import(ctx, id, image.ImportRequest{Method: image.GlanceDirect})
		require.ErrorIs(w, err, nacre.Conflict, "one at a time")
		im = w.settled(id)
		require.Equal(w, image.Active, im.Status)
		require.Len(w, im.Locations, 2)
		require.Len(w, im.HashValue, 128)
		require.Equal(w, "success", w.task(id).Status)
		require.Equal(w, map[string]any{"image_id": id}, w.task(id).Result)
		w.clean()
		require.Equal(w, 2, keysOf(w, ds...), "one copy in each store, none staged")
		_, c, ok, err := w.s.Open(ctx, id, "one")
		require.NoError(w, err)
		require.True(w, ok)
		require.Equal(w, "one", c.Store)
		require.NoError(w, c.Close())

		// A copy goes, the last does not.
		require.ErrorIs(w, w.s.DeleteFromStore(ctx, "one", id), nacre.Forbidden, "only administrators")
		require.ErrorIs(w, w.s.DeleteFromStore(w.admin(), "three", id), nacre.Conflict)
		require.ErrorIs(w, w.s.DeleteFromStore(w.admin(), "sick", id), nacre.NotFound)
		require.NoError(w, w.s.DeleteFromStore(w.admin(), "two", id))
		require.ErrorIs(w, w.s.DeleteFromStore(w.admin(), "one", id), nacre.Forbidden)
		w.clean()
		require.Equal(w, 1, keysOf(w, ds...))
		_, err = w.s.Import(ctx, id, image.ImportRequest{Method: image.CopyImage, Stores: []string{"two"}})
		require.ErrorIs(w, err, nacre.Forbidden)
		_, err = w.s.Import(w.admin(), id, image.ImportRequest{Method: image.CopyImage, Stores: []string{"one"}})
		require.ErrorIs(w, err, nacre.Invalid, "it is there")
		_, err = w.s.Import(w.admin(), id, image.ImportRequest{Method: image.CopyImage, Stores: []string{"two"}})
		require.NoError(w, err)
		require.Equal(w, image.Active, w.get(id).Status, "a copied image stays active")
		require.Len(w, w.settled(id).Locations, 2)

		// A sick store: all or nothing, or some.
		_, err = w.s.Import(w.admin(), id, image.ImportRequest{Method: image.CopyImage, Stores: []string{"sick"}})
		require.NoError(w, err)
		im = w.settled(id)
		require.Equal(w, image.Active, im.Status)
		require.Len(w, im.Locations, 2)
		require.Equal(w, []string{"sick"}, im.FailedImport)
		require.Equal(w, "failure", w.task(id).Status)
		require.NoError(w, w.s.Delete(ctx, id))
		w.clean()
		require.Zero(w, keysOf(w, ds...))
	})
}

func TestImportFails(t *testing.T) {
	onEach(t, func(w *world) {
		ds := w.several()
		ctx := w.mine()
		for name, c := range map[string]struct {
			q     image.ImportRequest
			stage []byte
			want  string
			text  string
		}{
			"all must":      {image.ImportRequest{Method: image.GlanceDirect, Stores: []string{"one", "sick"}}, make([]byte, 100), image.Queued, "the store is sick"},
			"some may":      {image.ImportRequest{Method: image.GlanceDirect, Stores: []string{"sick", "one"}, SomeStores: true}, make([]byte, 100), image.Active, ""},
			"none did":      {image.ImportRequest{Method: image.GlanceDirect, Stores: []string{"sick"}, SomeStores: true}, make([]byte, 100), image.Queued, "None of the uploads finished!"},
			"unsafe":        {image.ImportRequest{Method: image.GlanceDirect}, qcow2("/etc/shadow"), image.Queued, ""},
			"other format":  {image.ImportRequest{Method: image.GlanceDirect}, qcow2(""), image.Queued, ""},
			"web":           {image.ImportRequest{Method: image.WebDownload, URI: "http://x/disk"}, nil, image.Active, ""},
			"web, gone":     {image.ImportRequest{Method: image.WebDownload, URI: "http://x/nothing"}, nil, image.Queued, "404"},
			"web, unsafe":   {image.ImportRequest{Method: image.WebDownload, URI: "http://x/bad"}, nil, image.Queued, ""},
			"web, all must": {image.ImportRequest{Method: image.WebDownload, URI: "http://x/disk", AllStores: true}, nil, image.Queued, "the store is sick"},
		} {
			id := w.create(ctx, "raw")
			if c.stage != nil {
				require.NoError(w, w.s.Stage(ctx, id, bytes.NewReader(c.stage), int64(len(c.stage))), name)
			}
			_, err := w.s.Import(ctx, id, c.q)
			require.NoError(w, err, name)
			im := w.settled(id)
			require.Equal(w, c.want, im.Status, "%s: %s", name, w.task(id).Message)
			task := w.task(id)
			if c.want == image.Active {
				require.Equal(w, "success", task.Status, name)
				require.Len(w, im.Locations, 1, name)
			} else {
				require.Equal(w, "failure", task.Status, name)
				require.NotEmpty(w, task.Message, name)
				require.Contains(w, task.Message, c.text, name)
				require.Empty(w, im.Locations, name)
				require.False(w, im.HasSize, name)
				require.NotEmpty(w, im.FailedImport, name)
				w.clean()
				require.Zero(w, keysOf(w, ds...), "%s: nothing is left", name)
				// It can be tried again.
				_, err = w.s.Upload(ctx, id, bytes.NewReader(make([]byte, 10)), -1)
				require.NoError(w, err, name)
			}
			require.NoError(w, w.s.Delete(ctx, id))
			w.clean()
			require.Zero(w, keysOf(w, ds...), name)
		}
		id := w.create(ctx, "raw")
		_, err := w.s.Import(ctx, id, image.ImportRequest{Method: image.WebDownload, URI: "file:///etc/shadow"})
		require.ErrorIs(w, err, nacre.Invalid)
		require.Equal(w, image.Queued, w.get(id).Status)
	})
}

// upside turns bytes around, and calls that a conversion.
type upside struct{ fail bool }

func (u upside) Convert(_ context.Context, r io.Reader, from, to string) (io.ReadCloser, error) {
	if u.fail {
		return nil, nacre.Errorf(nacre.UnsupportedMedia, "", "The image could not be converted.")
	}
	b, err := io.ReadAll(r)
	return io.NopCloser(bytes.NewReader(append([]byte(from+">"+to+":"), b[:8]...))), err
}

func zipped(b []byte) []byte {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	_, _ = z.Write(b)
	_ = z.Close()
	return out.Bytes()
}

func TestImportPlugins(t *testing.T) {
	onEach(t, func(w *world) {
		ctx := w.mine()
		convert := upside{}
		w.setup = func(c *image.Config) {
			c.Converter, c.MaxSize = convert, 1<<20
			c.Import = image.ImportOptions{Decompress: true, ConvertTo: "raw", Inject: map[string]string{"os_type": "linux", "os_glance_x": "no"}, InjectIgnoreRoles: []string{"admin"}}
		}
		w.s = w.service(w.engine)
		do := func(ctx context.Context, format, container string, data []byte) image.Image {
			im, err := w.s.Create(ctx, image.Image{DiskFormat: format, ContainerFormat: container})
			require.NoError(w, err)
			require.NoError(w, w.s.Stage(ctx, im.ID, bytes.NewReader(data), -1))
			_, err = w.s.Import(ctx, im.ID, image.ImportRequest{Method: image.GlanceDirect})
			require.NoError(w, err)
			return w.settled(im.ID)
		}
		im := do(ctx, "qcow2", "bare", zipped(qcow2("")))
		require.Equal(w, image.Active, im.Status, w.task(im.ID).Message)
		require.Equal(w, "raw", im.DiskFormat)
		require.Equal(w, map[string]string{"os_type": "linux"}, im.Properties)
		_, c, _, err := w.s.Open(ctx, im.ID)
		require.NoError(w, err)
		b, err := io.ReadAll(c)
		require.NoError(w, err)
		require.NoError(w, c.Close())
		require.Equal(w, "qcow2>raw:"+string(qcow2("")[:8]), string(b))

		im = do(w.admin(), "raw", "bare", zipped(make([]byte, 4096)))
		require.Equal(w, image.Active, im.Status, w.task(im.ID).Message)
		require.EqualValues(w, 4096, im.Size)
		require.Empty(w, im.Properties, "administrators are left alone")
		im = do(ctx, "raw", "compressed", zipped(make([]byte, 4096)))
		require.Less(w, im.Size, int64(4096), "declared compressed, and kept so")

		bomb := zipped(make([]byte, 4<<20))
		require.Less(w, len(bomb), 1<<20)
		for name, data := range map[string][]byte{"bomb": bomb, "cut off": zipped(bytes.Repeat([]byte("x1y2"), 9999))[:60], "unsafe inside": zipped(qcow2("/etc/shadow"))} {
			im = do(ctx, "qcow2", "bare", data)
			require.Equal(w, image.Queued, im.Status, name)
		}
		convert.fail = true
		w.s = w.service(w.engine)
		im = do(ctx, "qcow2", "bare", qcow2(""))
		require.Equal(w, image.Queued, im.Status)
		require.Contains(w, w.task(im.ID).Message, "could not be converted")
		w.clean()
	})
}

// A process that dies while it stages or imports, at any store call.
func TestImportCrashes(t *testing.T) {
	crashed := errors.New("crashed")
	onEach(t, func(w *world) {
		ds := w.several()
		ctx := w.mine()
		for _, op := range []string{"stage", "import", "work", "web", "copy", "delete"} {
			stride := 1
			if strings.HasSuffix(w.Name(), "sqlite") {
				stride = 5 // memstore sees each call; here it is the engine's own errors
			}
			if testing.Short() {
				stride = 7
			}
			for n := 1; ; n += stride {
				require.Less(w, n, 200)
				id := w.create(ctx, "raw")
				if op != "web" && op != "stage" {
					require.NoError(w, w.s.Stage(ctx, id, bytes.NewReader(make([]byte, 500)), -1))
				}
				q := image.ImportRequest{Method: image.GlanceDirect, Stores: []string{"one", "two"}}
				switch op {
				case "web":
					q = image.ImportRequest{Method: image.WebDownload, URI: "http://x/disk"}
				case "copy":
					_, err := w.s.Import(ctx, id, image.ImportRequest{Method: image.GlanceDirect})
					require.NoError(w, err)
					w.settled(id)
					q = image.ImportRequest{Method: image.CopyImage, Stores: []string{"two"}}
				}
				if op != "stage" && op != "import" {
					_, err := w.s.Import(w.admin(), id, q)
					require.NoError(w, err)
				}
				var calls atomic.Int64
				var hit atomic.Bool
				dying, die := context.WithCancel(ctx)
				bad := w.service(storetest.Faulty(w.engine, func(string, string) error {
					if calls.Add(1) < int64(n) {
						return nil
					}
					hit.Store(true)
					die()
					return crashed
				}))
				switch op {
				case "stage":
					_ = bad.Stage(dying, id, bytes.NewReader(make([]byte, 500)), 500)
				case "import":
					_, _ = bad.Import(dying, id, q)
				case "delete":
					_ = bad.Delete(dying, id)
				default:
					// Some calls of the work, then its process is gone.
					stop := make(chan struct{})
					go func() { defer close(stop); _ = bad.Run(dying) }()
					for i := 0; i < 400 && !hit.Load(); i++ {
						time.Sleep(5 * time.Millisecond)
						if im, err := w.s.Get(w.admin(), id); err == nil && im.ImportTask == "" {
							break
						}
					}
					die()
					<-stop
				}
				die()
				w.clean()
				im, err := w.s.Get(ctx, id)
				if errors.Is(err, nacre.NotFound) {
					require.Equal(w, "delete", op)
					require.Zero(w, keysOf(w, ds...))
				} else {
					require.NoError(w, err)
					require.Empty(w, im.ImportTask, "%s, call %d", op, n)
					require.Contains(w, []string{image.Queued, image.Uploading, image.Active}, im.Status, "%s, call %d", op, n)
					want := map[string]int{image.Queued: 0, image.Uploading: 1, image.Active: len(im.Locations)}[im.Status]
					require.Equal(w, want, keysOf(w, ds...), "%s, call %d: %s", op, n, im.Status)
					require.NoError(w, w.s.Delete(ctx, id))
				}
				w.clean()
				require.Zero(w, keysOf(w, ds...), "%s, call %d", op, n)
				if !hit.Load() {
					break
				}
			}
		}
	})
}

// An image that is deleted while it is imported leaves nothing, and its task says
// so.
func TestDeleteDuringImport(t *testing.T) {
	onEach(t, func(w *world) {
		ds := w.several()
		ctx := w.mine()
		id := w.create(ctx, "raw")
		require.NoError(w, w.s.Stage(ctx, id, bytes.NewReader(make([]byte, 500)), -1))
		task, err := w.s.Import(ctx, id, image.ImportRequest{Method: image.GlanceDirect, Stores: []string{"one", "two"}})
		require.NoError(w, err)
		require.NoError(w, w.s.Delete(ctx, id))
		got, err := w.s.Task(w.admin(), task.ID)
		require.NoError(w, err)
		require.Equal(w, "failure", got.Status)
		w.clean()
		require.Zero(w, keysOf(w, ds...))
	})
}

// faulty is a backend one of whose calls fails, before or after it took effect.
type faulty struct {
	backend.Driver
	calls, fail int
	after       bool
}

func (f *faulty) ask(do func() error) error {
	f.calls++
	if f.calls != f.fail {
		return do()
	}
	if f.after {
		_ = do()
	}
	return errors.New("the backend failed")
}

func (f *faulty) Put(ctx context.Context, key string, r io.Reader) (n int64, err error) {
	err = f.ask(func() (err error) { n, err = f.Driver.Put(ctx, key, r); return err })
	return n, err
}

func (f *faulty) Open(ctx context.Context, key string) (r io.ReadCloser, n int64, err error) {
	err = f.ask(func() (err error) { r, n, err = f.Driver.Open(ctx, key); return err })
	if err != nil && r != nil {
		_ = r.Close()
	}
	return r, n, err
}

func (f *faulty) Delete(ctx context.Context, key string) error {
	return f.ask(func() error { return f.Driver.Delete(ctx, key) })
}

// Each call of the backend fails once, in uploads, imports and deletions.
func TestBackendFaults(t *testing.T) {
	onEach(t, func(w *world) {
		ctx := w.mine()
		good := w.backend
		for _, op := range []string{"upload", "refused", "stage", "import", "delete"} {
			for i := 0; ; i++ {
				f := &faulty{Driver: good, fail: i/2 + 1, after: i%2 == 1}
				id := w.create(ctx, "raw")
				w.s = w.service(w.engine)
				switch op {
				case "import":
					require.NoError(w, w.s.Stage(ctx, id, bytes.NewReader(make([]byte, 500)), -1))
				case "delete":
					_, err := w.s.Upload(ctx, id, bytes.NewReader(make([]byte, 500)), -1)
					require.NoError(w, err)
				}
				w.backend = f
				w.s = w.service(w.engine)
				var err error
				switch op {
				case "upload":
					_, err = w.s.Upload(ctx, id, bytes.NewReader(make([]byte, 500)), 500)
				case "refused":
					_, err = w.s.Upload(ctx, id, bytes.NewReader(qcow2("/x")), -1)
					require.Error(w, err)
				case "stage":
					err = w.s.Stage(ctx, id, bytes.NewReader(make([]byte, 500)), 500)
				case "import":
					_, err = w.s.Import(ctx, id, image.ImportRequest{Method: image.GlanceDirect})
					require.NoError(w, err)
					w.settled(id)
				case "delete":
					err = w.s.Delete(ctx, id)
				}
				w.rest() // with the faulty backend still: its one fault is past, or hits here
				hit := f.calls >= f.fail
				w.backend = good
				w.s = w.service(w.engine)
				w.clean()
				im, gerr := w.s.Get(ctx, id)
				switch {
				case gerr != nil:
					require.Equal(w, "delete", op)
					require.Zero(w, w.blobs())
				case im.Status == image.Queued:
					require.Zero(w, w.blobs(), "%s, call %d: %v", op, f.fail, err)
				default:
					require.Contains(w, []string{image.Active, image.Uploading}, im.Status)
					require.Equal(w, 1, w.blobs(), "%s, call %d", op, f.fail)
				}
				if gerr == nil {
					require.NoError(w, w.s.Delete(ctx, id))
					w.clean()
				}
				require.Zero(w, w.blobs())
				if !hit || i > 40 {
					break
				}
			}
		}
	})
}
