package image_test

import (
	"archive/zip"
	"bytes"
	"encoding/hex"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/image"
)

// zipOf packs files of these sizes.
func zipOf(t *testing.T, change func(*zip.FileHeader), sizes ...int) []byte {
	var out bytes.Buffer
	z := zip.NewWriter(&out)
	for i, n := range sizes {
		h := &zip.FileHeader{Name: "disk" + string(rune('a'+i)), Method: zip.Deflate}
		if change != nil {
			change(h)
		}
		w, err := z.CreateHeader(h)
		require.NoError(t, err)
		_, err = w.Write(make([]byte, n))
		require.NoError(t, err)
	}
	require.NoError(t, z.Close())
	return out.Bytes()
}

// bzipped is 5,000 times "b" in bzip2.
const bzipped = "425a6839314159265359b67741210000098120900000800008200020a534198d46c13c5dc914e14242d9dd0484"

func TestDecompression(t *testing.T) {
	bz, err := hex.DecodeString(bzipped)
	require.NoError(t, err)
	damaged := append(bytes.Clone(bz[:20]), bytes.Repeat([]byte{0xff}, len(bz)-20)...)
	one := zipOf(t, nil, 5000)
	encrypted := bytes.Clone(one)
	encrypted[6] |= 1
	central := bytes.Index(encrypted, []byte("PK\x01\x02"))
	encrypted[central+8] |= 1
	onEach(t, func(w *world) {
		w.setup = func(c *image.Config) { c.MaxSize, c.Import.Decompress = 1<<20, true }
		w.s = w.service(w.engine)
		ctx := w.mine()
		do := func(data []byte) (image.Image, string) {
			id := w.create(ctx, "raw")
			require.NoError(w, w.s.Stage(ctx, id, bytes.NewReader(data), -1))
			_, err := w.s.Import(ctx, id, image.ImportRequest{Method: image.GlanceDirect})
			require.NoError(w, err)
			im := w.settled(id)
			return im, w.task(id).Message
		}
		for name, data := range map[string][]byte{"zip": one, "bzip2": bz} {
			im, message := do(data)
			require.Equal(w, image.Active, im.Status, name+": "+message)
			require.EqualValues(w, 5000, im.Size, name)
		}
		for name, c := range map[string]struct {
			data []byte
			want string
		}{
			"two files":     {zipOf(t, nil, 10, 10), "more than one file"},
			"a directory":   {zipOf(t, func(h *zip.FileHeader) { h.Name += "/" }, 0), "more than one file"},
			"a bomb":        {zipOf(t, nil, 4<<20), "storage quota"},
			"encrypted":     {encrypted, "encrypted"},
			"cut off":       {one[:len(one)-10], "damaged"},
			"damaged bzip2": {damaged, "damaged"},
			"LHA":           {[]byte("\x20\x00-lh5-" + string(make([]byte, 100))), "LHA"},
		} {
			im, message := do(c.data)
			require.Equal(w, image.Queued, im.Status, name)
			require.Contains(w, message, c.want, name)
		}
		w.clean()
	})
}
