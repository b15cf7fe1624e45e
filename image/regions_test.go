package image_test

import (
	"bytes"
	"context"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/image"
)

// region is another region's images, by id; it tells who reads.
type region struct {
	images map[string]image.RemoteImage
	data   []byte
	tokens []string
}

func (r *region) Open(ctx context.Context, name, service, id string) (image.RemoteImage, io.ReadCloser, error) {
	c := nacre.CallerFrom(ctx)
	r.tokens = append(r.tokens, c.Token+" "+name+" "+service)
	im, ok := r.images[id]
	if !ok {
		return im, nil, nacre.Errorf(nacre.NotFound, "", "no image %s", id)
	}
	return im, io.NopCloser(bytes.NewReader(r.data)), nil
}

const remoteID = "11111111-2222-4333-8444-555555555555"

// glance-download takes over formats and some properties, reads with the token of
// whoever asked, and ends honestly where that token is gone.
func TestGlanceDownload(t *testing.T) {
	onEach(t, func(w *world) {
		data := bytes.Repeat([]byte("remote"), 1000)
		r := &region{data: data, images: map[string]image.RemoteImage{remoteID: {Status: image.Active, DiskFormat: "raw", ContainerFormat: "bare", Size: int64(len(data)),
			Properties: map[string]string{"hw_disk_bus": "scsi", "os_distro": "debian", "mine": "no", "owner": "p9", "os_glance_x": "no"}}}}
		w.setup = func(c *image.Config) { c.Remote = r }
		w.s = w.service(w.engine)
		ctx := nacre.WithCaller(w.Context(), &nacre.Caller{UserID: "u", ProjectID: "p1", Roles: []string{"member", "reader"}, Token: "secret"})
		ask := func(id string) string {
			im, err := w.s.Create(ctx, image.Image{DiskFormat: "qcow2", ContainerFormat: "bare"})
			require.NoError(w, err)
			_, err = w.s.Import(ctx, im.ID, image.ImportRequest{Method: image.GlanceDownload, Region: "two", RemoteID: id})
			require.NoError(w, err)
			return im.ID
		}
		done := func(id string, s *image.Service) (image.Image, image.Task) {
			defer run(s)()
			require.Eventually(w, func() bool { return w.get(id).ImportTask == "" }, 10*time.Minute, 5*time.Millisecond)
			return w.get(id), w.task(id)
		}
		im, task := done(ask(remoteID), w.s)
		require.Equal(w, image.Active, im.Status, task.Message)
		require.Equal(w, "raw", im.DiskFormat)
		require.EqualValues(w, len(data), im.Size)
		require.Equal(w, map[string]string{"hw_disk_bus": "scsi", "os_distro": "debian"}, im.Properties)
		require.Equal(w, "p1", im.OwnerID)
		require.Equal(w, []string{"secret two public"}, r.tokens)

		bad := r.images[remoteID]
		for what, change := range map[string]func(*image.RemoteImage){"status should be active instead of queued": func(x *image.RemoteImage) { x.Status = "queued" },
			"were announced": func(x *image.RemoteImage) { x.Size++ }, "match": func(x *image.RemoteImage) { x.DiskFormat = "qcow2" }, "is not one of": func(x *image.RemoteImage) { x.DiskFormat = "floppy" }} {
			x := bad
			change(&x)
			r.images[remoteID] = x
			im, task = done(ask(remoteID), w.s)
			require.Equal(w, image.Queued, im.Status, what)
			require.Contains(w, task.Message, what)
			require.Equal(w, "failure", task.Status)
		}
		r.images[remoteID] = bad
		im, task = done(ask("99999999-2222-4333-8444-555555555555"), w.s)
		require.Equal(w, image.Queued, im.Status)
		require.Contains(w, task.Message, "no image")

		// Another process took the request, and is gone.
		im, task = done(ask(remoteID), w.alone())
		require.Equal(w, image.Queued, im.Status)
		require.Contains(w, task.Message, "restarted")
		w.clean()
	})
}
