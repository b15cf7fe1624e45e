package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/imageimport"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/images"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/tasks"
	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/image"
	"github.com/nacre-cloud/nacre/image/backend/file"
)

// fetcher gives the same bytes for each URL of a host that it knows.
type fetcher struct{}

func (fetcher) Check(_ context.Context, url string) error {
	if !strings.HasPrefix(url, "http://ok.test/") {
		return nacre.Errorf(nacre.Invalid, "", "The URL does not pass filtering: %s", url)
	}
	return nil
}

func (fetcher) Fetch(context.Context, string) (io.ReadCloser, int64, error) {
	return io.NopCloser(strings.NewReader(strings.Repeat("z", 5000))), 5000, nil
}

// full is a world with every switch on, whose service runs.
func full(t *testing.T, test func(w *world)) {
	onEachWith(t, func(c *image.Config) {
		second, err := file.New(t.TempDir(), file.Options{NoSync: true})
		require.NoError(t, err)
		c.Stores = []image.Store{{ID: "fast", Driver: c.Backend, Description: "the first"}, {ID: "slow", Driver: second}}
		c.Fetcher, c.Limits = fetcher{}, image.FixedLimits{image.QuotaCount: 20, image.QuotaSize: 100, image.QuotaUploading: 5}
		c.ShowDirectURL, c.ShowLocations = true, true
	}, func(w *world) {
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { defer close(done); _ = w.s.Run(ctx) }()
		defer func() { cancel(); <-done }()
		test(w)
	})
}

func (w *world) until(id, status string) *images.Image {
	w.Helper()
	var im *images.Image
	require.Eventually(w, func() bool {
		var err error
		im, err = images.Get(w.Context(), w.client("admin"), id).Extract()
		return err == nil && string(im.Status) == status && im.Properties["os_glance_import_task"] == nil
	}, 20*time.Second, 5*time.Millisecond)
	return im
}

func (w *world) json(token, path string) map[string]any {
	w.Helper()
	var out map[string]any
	require.NoError(w, json.Unmarshal([]byte(w.want(200, token, "GET", path, "")), &out))
	return out
}

func TestImport(t *testing.T) {
	full(t, func(w *world) {
		ctx, c := w.Context(), w.client("one")
		info, err := imageimport.Get(ctx, c).Extract()
		require.NoError(w, err)
		require.Equal(w, []string{"glance-direct", "web-download", "copy-image"}, info.ImportMethods.Value)
		res, _ := w.do("one", "POST", "/v2/images", `{"name":"i","disk_format":"raw","container_format":"bare"}`, "Content-Type", "application/json")
		require.Equal(w, "fast,slow", res.Header.Get("OpenStack-image-store-ids"))
		require.Equal(w, "glance-direct,web-download,copy-image", res.Header.Get("OpenStack-image-import-methods"))

		im := w.create("one", images.CreateOpts{Name: "a", DiskFormat: "raw", ContainerFormat: "bare"})
		at := "/v2/images/" + im.ID
		w.want(415, "one", "PUT", at+"/stage", "x", "Content-Type", "application/json")
		w.want(404, "two", "PUT", at+"/stage", "x", "Content-Type", "application/octet-stream")
		w.want(204, "one", "PUT", at+"/stage", strings.Repeat("s", 3000), "Content-Type", "application/octet-stream")
		require.Equal(w, "uploading", w.json("one", at)["status"])
		for body, status := range map[string]int{
			`{}`:                                 400,
			`{"method":{}}`:                      400,
			`{"method":{"name":"teleport"}}`:     400,
			`{"method":{"name":"web-download"}}`: 400,
			`{"method":{"name":"copy-image"}}`:   409,
			`{"method":{"name":"glance-direct"},"all_stores":"yes"}`:                       400,
			`{"method":{"name":"glance-direct"},"all_stores_must_succeed":1}`:              400,
			`{"method":{"name":"glance-direct"},"stores":["nope"]}`:                        409,
			`{"method":{"name":"web-download","uri":"http://ok.test/x"}}`:                  409,
			`{"method":{"name":"web-download","uri":"http://127.0.0.1:5000/identity/v3"}}`: 400,
		} {
			w.want(status, "one", "POST", at+"/import", body, "Content-Type", "application/json")
		}
		w.want(404, "two", "POST", at+"/import", `{"method":{"name":"glance-direct"}}`, "Content-Type", "application/json")
		w.want(202, "one", "POST", at+"/import", `{"method":{"name":"glance-direct"},"stores":["slow"]}`, "Content-Type", "application/json")
		w.until(im.ID, "active")
		shown := w.json("one", at)
		require.Equal(w, "slow", shown["stores"])
		require.Contains(w, fmt.Sprint(shown["direct_url"]), "file://", "where the owner may see it")
		w.want(202, "admin", "POST", at+"/import", `{"method":{"name":"copy-image"},"all_stores":true}`, "Content-Type", "application/json")
		w.until(im.ID, "active")
		require.Equal(w, "slow,fast", w.json("one", at)["stores"])
		w.want(200, "one", "GET", at+"/file?prefer=fast", "")
		w.want(400, "one", "GET", at+"/file?prefer=none", "")
		w.want(403, "one", "DELETE", "/v2/stores/slow/"+im.ID, "")
		w.want(204, "admin", "DELETE", "/v2/stores/slow/"+im.ID, "")
		w.want(404, "admin", "DELETE", "/v2/stores/slow/"+im.ID+"x", "")
		got := w.json("one", at+"/tasks")["tasks"].([]any)
		require.Len(w, got, 2)
		require.Equal(w, "success", got[0].(map[string]any)["status"])
		w.want(404, "two", "GET", at+"/tasks", "")

		web := w.create("one", images.CreateOpts{Name: "w", DiskFormat: "raw", ContainerFormat: "bare"})
		require.NoError(w, imageimport.Create(ctx, c, web.ID, imageimport.CreateOpts{Name: imageimport.WebDownloadMethod, URI: "http://ok.test/disk"}).ExtractErr())
		require.EqualValues(w, 5000, w.until(web.ID, "active").SizeBytes)
	})
}

func TestTasks(t *testing.T) {
	full(t, func(w *world) {
		ctx, c := w.Context(), w.client("admin")
		w.want(403, "one", "GET", "/v2/tasks", "")
		for _, body := range []string{`{}`, `{"type":"import"}`, `{"type":"export","input":{}}`, `{"type":"import","input":{"import_from":"file:///etc/passwd","import_from_format":"raw","image_properties":{}}}`} {
			w.want(400, "admin", "POST", "/v2/tasks", body, "Content-Type", "application/json")
		}
		task, err := tasks.Create(ctx, c, tasks.CreateOpts{Type: "import", Input: map[string]any{"import_from": "http://ok.test/x", "import_from_format": "raw",
			"image_properties": map[string]any{"container_format": "bare", "name": "by task"}}}).Extract()
		require.NoError(w, err)
		require.Eventually(w, func() bool {
			task, err = tasks.Get(ctx, c, task.ID).Extract()
			return err == nil && task.Status == "success"
		}, 20*time.Second, 5*time.Millisecond)
		require.False(w, task.ExpiresAt.IsZero())
		im := w.until(task.Result["image_id"].(string), "active")
		require.Equal(w, "by task", im.Name)
		pages, err := tasks.List(c, tasks.ListOpts{Limit: 1}).AllPages(ctx)
		require.NoError(w, err)
		list, err := tasks.ExtractTasks(pages)
		require.NoError(w, err)
		require.Len(w, list, 1)
		w.want(404, "admin", "GET", "/v2/tasks/"+im.ID, "")
		w.want(400, "admin", "GET", "/v2/tasks?status=odd", "")
	})
}

func TestInfo(t *testing.T) {
	full(t, func(w *world) {
		require.Equal(w, map[string]any{"stores": []any{map[string]any{"id": "fast", "description": "the first", "default": "true"}, map[string]any{"id": "slow"}}}, w.json("one", "/v2/info/stores"))
		w.want(403, "one", "GET", "/v2/info/stores/detail", "")
		detail := w.json("admin", "/v2/info/stores/detail")["stores"].([]any)
		require.Equal(w, "file", detail[1].(map[string]any)["type"])
		im := w.create("one", images.CreateOpts{Name: "a", DiskFormat: "raw", ContainerFormat: "bare"})
		w.want(204, "one", "PUT", "/v2/images/"+im.ID+"/file", strings.Repeat("u", 3<<20), "Content-Type", "application/octet-stream")
		usage := w.json("one", "/v2/info/usage")["usage"].(map[string]any)
		require.Equal(w, map[string]any{"usage": 3.0, "limit": 100.0}, usage["image_size_total"])
		require.Equal(w, map[string]any{"usage": 1.0, "limit": 20.0}, usage["image_count_total"])
		require.Equal(w, map[string]any{"usage": 0.0, "limit": -1.0}, usage["image_stage_total"])
	})
}

func TestCacheAPI(t *testing.T) {
	full(t, func(w *world) {
		im := w.create("one", images.CreateOpts{Name: "a", DiskFormat: "raw", ContainerFormat: "bare", Visibility: ptr(images.ImageVisibilityPrivate)})
		at := "/v2/cache/" + im.ID
		w.want(400, "admin", "PUT", at, "")
		w.want(204, "one", "PUT", "/v2/images/"+im.ID+"/file", "hello", "Content-Type", "application/octet-stream")
		for _, r := range [][2]string{{"PUT", at}, {"DELETE", at}, {"GET", "/v2/cache"}, {"DELETE", "/v2/cache"}, {"POST", "/v2/cache/clean"}, {"POST", "/v2/cache/prune"}} {
			w.want(403, "one", r[0], r[1], "")
		}
		w.want(404, "admin", "PUT", "/v2/cache/nope", "")
		w.want(202, "admin", "PUT", at, "")
		require.Eventually(w, func() bool { return len(w.json("admin", "/v2/cache")["cached_images"].([]any)) == 1 }, 20*time.Second, 5*time.Millisecond)
		// A cached image is no more open than another.
		w.want(404, "two", "GET", "/v2/images/"+im.ID+"/file", "")
		w.want(401, "", "GET", "/v2/images/"+im.ID+"/file", "")
		require.Equal(w, "hello", w.want(200, "one", "GET", "/v2/images/"+im.ID+"/file", ""))
		entry := w.json("admin", "/v2/cache")["cached_images"].([]any)[0].(map[string]any)
		require.Equal(w, 1.0, entry["hits"])
		require.Equal(w, 5.0, entry["size"])
		w.want(204, "one", "POST", "/v2/images/"+im.ID+"/actions/deactivate", "")
		w.want(403, "one", "GET", "/v2/images/"+im.ID+"/file", "")
		w.want(400, "admin", "DELETE", "/v2/cache", "", "X-Image-Cache-Clear-Target", "all")
		w.want(204, "admin", "DELETE", "/v2/cache", "", "X-Image-Cache-Clear-Target", "queue")
		require.Len(w, w.json("admin", "/v2/cache")["cached_images"], 1)
		w.want(204, "admin", "POST", "/v2/cache/clean", "")
		require.Contains(w, w.want(200, "admin", "POST", "/v2/cache/prune", ""), `"total_files_pruned":0`)
		w.want(204, "admin", "DELETE", at, "")
		w.want(204, "admin", "DELETE", at, "")
		require.Empty(w, w.json("admin", "/v2/cache")["cached_images"])
	})
}

func TestRanges(t *testing.T) {
	full(t, func(w *world) {
		im := w.create("one", images.CreateOpts{Name: "a", DiskFormat: "raw", ContainerFormat: "bare"})
		at := "/v2/images/" + im.ID + "/file"
		w.want(204, "one", "PUT", at, "0123456789", "Content-Type", "application/octet-stream")
		for _, c := range []struct{ header, value, body, content string }{
			{"Range", "bytes=0-4", "01234", "bytes 0-4/10"}, {"Range", "bytes=7-", "789", "bytes 7-9/10"}, {"Range", "bytes=-2", "89", "bytes 8-9/10"},
			{"Content-Range", "bytes 2-3/10", "23", "bytes 2-3/10"},
		} {
			res, b := w.do("one", "GET", at, "", c.header, c.value)
			require.Equal(w, http.StatusPartialContent, res.StatusCode, c.value)
			require.Equal(w, c.body, b)
			require.Equal(w, c.content, res.Header.Get("Content-Range"))
		}
		w.want(416, "one", "GET", at, "", "Range", "bytes=20-30")
		res, _ := w.do("one", "GET", at, "")
		require.Equal(w, 200, res.StatusCode)
		w.want(304, "one", "GET", at, "", "If-None-Match", res.Header.Get("Etag"))
		w.want(412, "one", "GET", at, "", "If-Match", `"other"`)
	})
}

func ptr[T any](v T) *T { return &v }
