package conformance

import (
	"bytes"
	"context"
	"crypto/sha512"
	"encoding/hex"
	"io"
	"testing"

	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/imagedata"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/images"
	"github.com/stretchr/testify/require"
)

func image(t *testing.T, s *suite) {
	t.Run("Life", s.imageLife)
	t.Run("List", s.imageList)
	t.Run("Formats", s.imageFormats)
}

// newImage records an image of the user's that goes at the test's end.
func (s *suite) newImage(t *testing.T, o images.CreateOpts) *images.Image {
	t.Helper()
	im, err := images.Create(t.Context(), s.user.image, o).Extract()
	require.NoError(t, err)
	after(t, "image", func(ctx context.Context) error { return images.Delete(ctx, s.user.image, im.ID).ExtractErr() })
	return im
}

// bootable uploads the target's image.
func (s *suite) bootable(t *testing.T) *images.Image {
	t.Helper()
	im := s.newImage(t, images.CreateOpts{Name: name("image"), DiskFormat: s.ImageFormat, ContainerFormat: "bare"})
	require.NoError(t, imagedata.Upload(t.Context(), s.user.image, im.ID, s.Target.Image()).ExtractErr())
	got, err := images.Get(t.Context(), s.user.image, im.ID).Extract()
	require.NoError(t, err)
	require.Equal(t, images.ImageStatusActive, got.Status)
	return got
}

func (s *suite) imageLife(t *testing.T) {
	ctx, c := t.Context(), s.user.image
	im := s.newImage(t, images.CreateOpts{Name: name("image"), DiskFormat: "raw", ContainerFormat: "bare", Tags: []string{"one"}, Properties: map[string]string{"os_distro": "debian"}})
	require.Equal(t, images.ImageStatusQueued, im.Status)
	require.Equal(t, s.user.project, im.Owner)
	require.Equal(t, "debian", im.Properties["os_distro"])
	require.Equal(t, []string{"one"}, im.Tags)

	data := bytes.Repeat([]byte("nacre "), 100_000)
	require.NoError(t, imagedata.Upload(ctx, c, im.ID, bytes.NewReader(data)).ExtractErr())
	got, err := images.Get(ctx, c, im.ID).Extract()
	require.NoError(t, err)
	require.Equal(t, images.ImageStatusActive, got.Status)
	require.EqualValues(t, len(data), got.SizeBytes)
	sum := sha512.Sum512(data)
	require.Equal(t, "sha512", got.Properties["os_hash_algo"])
	require.Equal(t, hex.EncodeToString(sum[:]), got.Properties["os_hash_value"])
	status(t, 409, imagedata.Upload(ctx, c, im.ID, bytes.NewReader(data)).ExtractErr(), "a second upload")

	r, err := imagedata.Download(ctx, c, im.ID).Extract()
	require.NoError(t, err)
	back, err := io.ReadAll(r)
	require.NoError(t, err)
	require.NoError(t, r.Close())
	require.True(t, bytes.Equal(data, back), "the bytes came back changed")

	patched, err := images.Update(ctx, c, im.ID, images.UpdateOpts{images.ReplaceImageName{NewName: "renamed"}, images.ReplaceImageTags{NewTags: []string{"two"}},
		images.UpdateImageProperty{Op: images.AddOp, Name: "hw_disk_bus", Value: "virtio"}}).Extract()
	require.NoError(t, err)
	require.Equal(t, "renamed", patched.Name)
	require.Equal(t, []string{"two"}, patched.Tags)
	require.Equal(t, "virtio", patched.Properties["hw_disk_bus"])

	_, err = images.Get(ctx, s.admin.image, im.ID).Extract()
	require.NoError(t, err, "administrators see every image")
	_, err = images.Update(ctx, c, im.ID, images.UpdateOpts{images.UpdateVisibility{Visibility: images.ImageVisibilityPublic}}).Extract()
	status(t, 403, err, "publicizing by a member")

	_, err = images.Update(ctx, c, im.ID, images.UpdateOpts{images.ReplaceImageProtected{NewProtected: true}}).Extract()
	require.NoError(t, err)
	status(t, 403, images.Delete(ctx, c, im.ID).ExtractErr(), "deleting a protected image")
	_, err = images.Update(ctx, c, im.ID, images.UpdateOpts{images.ReplaceImageProtected{NewProtected: false}}).Extract()
	require.NoError(t, err)
	require.NoError(t, images.Delete(ctx, c, im.ID).ExtractErr())
	_, err = images.Get(ctx, c, im.ID).Extract()
	status(t, 404, err)
}

func (s *suite) imageList(t *testing.T) {
	ctx, c := t.Context(), s.user.image
	tag := name("tag")
	for range 5 {
		s.newImage(t, images.CreateOpts{Name: name("image"), Tags: []string{tag}})
	}
	seen := map[string]bool{}
	pages := 0
	err := images.List(c, images.ListOpts{Limit: 2, Tags: []string{tag}}).EachPage(ctx, pageOf(images.ExtractImages, func(ims []images.Image) {
		pages++
		for _, im := range ims {
			seen[im.ID] = true
		}
	}))
	require.NoError(t, err)
	require.Len(t, seen, 5)
	require.GreaterOrEqual(t, pages, 3)
}

func (s *suite) imageFormats(t *testing.T) {
	ctx, c := t.Context(), s.user.image
	qcow2 := func(mark func([]byte)) io.Reader {
		h := make([]byte, 1<<16)
		copy(h, "QFI\xfb\x00\x00\x00\x03")
		h[23] = 16     // cluster bits
		h[24+6] = 0x10 // virtual size 1 MiB
		h[100+3] = 104 // header length
		mark(h)
		return bytes.NewReader(h)
	}
	for what, r := range map[string]io.Reader{
		"raw bytes that claim to be qcow2": bytes.NewReader(make([]byte, 1<<16)),
		"a qcow2 with a backing file": qcow2(func(h []byte) {
			h[14], h[15] = 2, 0 // backing file offset 512
			h[19] = 11
			copy(h[512:], "/etc/passwd")
		}),
		"a qcow2 with a data file": qcow2(func(h []byte) { h[79] = 4 }),
	} {
		im := s.newImage(t, images.CreateOpts{Name: name("image"), DiskFormat: "qcow2", ContainerFormat: "bare"})
		err := imagedata.Upload(ctx, c, im.ID, r).ExtractErr()
		require.Error(t, err, what)
		got, err := images.Get(ctx, c, im.ID).Extract()
		require.NoError(t, err)
		require.NotEqual(t, images.ImageStatusActive, got.Status, what)
	}
	im := s.newImage(t, images.CreateOpts{Name: name("image")})
	status(t, 400, imagedata.Upload(ctx, c, im.ID, bytes.NewReader([]byte("x"))).ExtractErr(), "an upload without formats")
}
