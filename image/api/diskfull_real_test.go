//go:build realtest

package api_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/image"
	"github.com/nacre-cloud/nacre/image/api"
	"github.com/nacre-cloud/nacre/image/backend/file"
	"github.com/nacre-cloud/nacre/image/importer"
	"github.com/nacre-cloud/nacre/internal/rest"
	"github.com/nacre-cloud/nacre/store/bunstore"
)

// tiny is a file system of so many MiB.
func tiny(t *testing.T, mib string) string {
	dir := t.TempDir()
	require.NoError(t, syscall.Mount("nacre-test", dir, "tmpfs", 0, "size="+mib+"m,mode=0700"), "this test mounts: it needs root")
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(dir, 0)) })
	return dir
}

func fileStore(t *testing.T, dir string) *file.Driver {
	d, err := file.New(dir, file.Options{})
	require.NoError(t, err)
	return d
}

// held counts the files below a directory.
func held(t *testing.T, dir string) int {
	n := 0
	require.NoError(t, filepath.WalkDir(dir, func(_ string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			n++
		}
		return err
	}))
	return n
}

// TestDiskFull fills real file systems by every way that bytes take: uploads,
// staging, downloads, imports, copies, conversions, the cache. Each ends as in
// Glance, and nothing is left.
func TestDiskFull(t *testing.T) {
	small, roomy, staging, cache, work := tiny(t, "4"), tiny(t, "64"), tiny(t, "8"), tiny(t, "2"), tiny(t, "1")
	e, err := bunstore.OpenSQLite(filepath.Join(t.TempDir(), "i.db"), bunstore.Options{})
	require.NoError(t, err)
	defer e.Close() //nolint:errcheck // a test's
	require.NoError(t, e.Migrate(t.Context(), image.Schema(), true))
	disk := make([]byte, 6<<20)
	for i := range disk {
		disk[i] = byte(i * 7) // not zeros, which conversions leave out
	}
	pages := http.NewServeMux()
	pages.HandleFunc("/disk", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(append(disk, disk...)) })
	srv := httptest.NewServer(pages)
	defer srv.Close()
	fetcher, err := importer.NewFetcher(importer.FetchConfig{AllowNets: []string{"127.0.0.0/8"}, AllowPorts: []int{}})
	require.NoError(t, err)
	c := image.Config{Engine: e, Stores: []image.Store{{ID: "small", Driver: fileStore(t, small)}, {ID: "roomy", Driver: fileStore(t, roomy)}}, Staging: fileStore(t, staging),
		Cache: image.CacheOptions{Driver: fileStore(t, cache)}, Fetcher: fetcher, UploadTimeout: 200 * time.Millisecond, Alone: true}
	start := func() (*world, func()) {
		s, err := image.New(c)
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _ = s.Run(ctx) })
		return &world{T: t, s: s, h: rest.Transport(rest.Mount("/image", api.New(api.Config{Image: s, Tokens: callers})))}, func() { cancel(); wg.Wait() }
	}
	w, stop := start()
	rests := func() {
		t.Helper()
		require.Eventually(t, func() bool { n, err := w.s.Waiting(t.Context()); return err == nil && n == 0 }, time.Minute, 20*time.Millisecond)
		found, err := w.s.Audit(t.Context(), true)
		require.NoError(t, err)
		require.Empty(t, found)
	}
	me := nacre.WithCaller(t.Context(), callers["one"])
	create := func() string {
		im, err := w.s.Create(me, image.Image{DiskFormat: "raw", ContainerFormat: "bare"})
		require.NoError(t, err)
		return im.ID
	}
	status := func(id string) string {
		im, err := w.s.Get(me, id)
		require.NoError(t, err)
		return im.Status
	}
	ended := func(id string) image.Task {
		var task image.Task
		require.Eventually(t, func() bool {
			ts, err := w.s.ImageTasks(nacre.WithCaller(context.Background(), callers["admin"]), id)
			if !assert.NoError(t, err) || len(ts) == 0 {
				return false
			}
			task = ts[len(ts)-1]
			return task.Status == "failure" || task.Status == "success"
		}, time.Minute, 20*time.Millisecond)
		return task
	}
	const octets, full = "application/octet-stream", "Image storage media is full"

	// Uploads and staging: 413 in Glance's words, and the image is queued again.
	id := create()
	for path, n := range map[string]int{"file": 1, "stage": 2} {
		body := w.want(413, "one", "PUT", "/v2/images/"+id+"/"+path, strings.Repeat(string(disk), n), "Content-Type", octets)
		require.Contains(t, body, full)
		require.Equal(t, image.Queued, status(id))
	}
	rests()
	require.Zero(t, held(t, small)+held(t, staging))

	// What is fetched does not fit into the staging store.
	w.want(202, "one", "POST", "/v2/images/"+id+"/import", `{"method":{"name":"web-download","uri":"`+srv.URL+`/disk"}}`, "Content-Type", "application/json")
	task := ended(id)
	require.Equal(t, "failure", task.Status)
	require.Contains(t, task.Message, full)
	require.Equal(t, image.Queued, status(id))

	// What is staged does not fit into the store.
	w.want(204, "one", "PUT", "/v2/images/"+id+"/stage", string(disk), "Content-Type", octets)
	w.want(202, "one", "POST", "/v2/images/"+id+"/import", `{"method":{"name":"glance-direct"},"stores":["roomy","small"]}`, "Content-Type", "application/json")
	require.Contains(t, ended(id).Message, full)
	require.Equal(t, image.Queued, status(id))
	rests()
	require.Zero(t, held(t, small)+held(t, roomy)+held(t, staging))

	// Into one store of two, if that is enough; then the other copy fails and this
	// one stays.
	w.want(204, "one", "PUT", "/v2/images/"+id+"/stage", string(disk), "Content-Type", octets)
	w.want(202, "one", "POST", "/v2/images/"+id+"/import", `{"method":{"name":"glance-direct"},"stores":["small","roomy"],"all_stores_must_succeed":false}`, "Content-Type", "application/json")
	require.Equal(t, "success", ended(id).Status)
	w.want(202, "admin", "POST", "/v2/images/"+id+"/import", `{"method":{"name":"copy-image"},"stores":["small"]}`, "Content-Type", "application/json")
	require.Contains(t, ended(id).Message, full)
	require.Equal(t, image.Active, status(id))
	rests()
	require.Equal(t, 1, held(t, roomy))
	require.Zero(t, held(t, small)+held(t, staging))

	// A cache without room: the image is read from its store.
	w.want(202, "admin", "PUT", "/v2/cache/"+id, "")
	require.Equal(t, string(disk), w.want(200, "one", "GET", "/v2/images/"+id+"/file", ""))
	w.want(204, "admin", "DELETE", "/v2/cache/"+id, "")
	rests()
	require.Zero(t, held(t, cache))

	// Room that comes back is used.
	require.NoError(t, w.s.Delete(me, id))
	rests()
	id = create()
	w.want(204, "one", "PUT", "/v2/images/"+id+"/file", string(disk[:3<<20]), "Content-Type", octets)
	require.NoError(t, w.s.Delete(me, id))
	rests()
	stop()

	// No room for a conversion.
	c.Converter, c.Import.ConvertTo = &importer.QemuImg{Dir: work}, "qcow2"
	w, stop = start()
	id = create()
	w.want(204, "one", "PUT", "/v2/images/"+id+"/stage", string(disk), "Content-Type", octets)
	w.want(202, "one", "POST", "/v2/images/"+id+"/import", `{"method":{"name":"glance-direct"}}`, "Content-Type", "application/json")
	require.Contains(t, ended(id).Message, "no room to convert")
	require.Equal(t, image.Queued, status(id))
	rests()
	require.Zero(t, held(t, work)+held(t, staging)+held(t, small)+held(t, roomy))
	stop()
}
