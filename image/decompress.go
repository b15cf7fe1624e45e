package image

import (
	"archive/zip"
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"io"

	"github.com/nacre-cloud/nacre"
)

// decompressed unpacks gzip, bzip2, or a zip file with one file in it, up to limit
// bytes; anything else passes as it is. It is streamed; only a zip needs a reader
// that can seek. What is damaged or too large fails while it is read. LHA, which
// glance knows where a module of Python's is there, is refused as glance does
// without it.
func decompressed(raw io.ReadCloser, limit int64) (io.ReadCloser, bool, error) {
	head := make([]byte, 5)
	n, err := io.ReadFull(raw, head)
	head = head[:n]
	if err != nil && n == 0 {
		return withHead(head, raw), false, nil
	}
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b, 8}):
		z, err := gzip.NewReader(bufio.NewReaderSize(withHead(head, raw), 256<<10))
		if err != nil {
			return nil, false, damaged(err)
		}
		return bounded(z, raw, limit), true, nil
	case bytes.HasPrefix(head, []byte("BZh")):
		return bounded(bzip2.NewReader(bufio.NewReaderSize(withHead(head, raw), 256<<10)), raw, limit), true, nil
	case bytes.HasPrefix(head, []byte("PK\x03\x04")):
		return unzip(raw, limit)
	case len(head) == 5 && string(head[2:5]) == "-lh":
		return nil, false, nacre.Errorf(nacre.UnsupportedMedia, "", "LHA archives can't be unpacked.")
	}
	return withHead(head, raw), false, nil
}

func damaged(err error) error {
	return &nacre.Error{Kind: nacre.UnsupportedMedia, Message: "The compressed image is damaged.", Err: err}
}

type joined struct {
	io.Reader
	io.Closer
}

func withHead(head []byte, r io.ReadCloser) io.ReadCloser {
	return joined{io.MultiReader(bytes.NewReader(head), r), r}
}

// bound ends a bomb.
type bound struct {
	r    io.Reader
	left int64
}

func (b *bound) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, tooLarge()
	}
	if err != nil && err != io.EOF { //nolint:errorlint // readers give io.EOF itself
		err = damaged(err)
	}
	return n, err
}

func bounded(r io.Reader, c io.Closer, limit int64) io.ReadCloser {
	return joined{&bound{r, limit}, c}
}

// seekAt reads at offsets of a seeker.
type seekAt struct{ io.ReadSeeker }

func (s seekAt) ReadAt(p []byte, off int64) (int, error) {
	if _, err := s.Seek(off, io.SeekStart); err != nil {
		return 0, err
	}
	return io.ReadFull(s.ReadSeeker, p)
}

func unzip(raw io.ReadCloser, limit int64) (io.ReadCloser, bool, error) {
	seeker, ok := raw.(io.ReadSeeker)
	if !ok {
		return nil, false, nacre.Errorf(nacre.UnsupportedMedia, "", "A zip file can't be unpacked from this staging store.")
	}
	size, err := seeker.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, false, err
	}
	z, err := zip.NewReader(seekAt{seeker}, size)
	if err != nil {
		return nil, false, damaged(err)
	}
	if len(z.File) != 1 || z.File[0].FileInfo().IsDir() {
		return nil, false, nacre.Errorf(nacre.UnsupportedMedia, "", "Archive contains more than one file.")
	}
	if z.File[0].Flags&1 != 0 {
		return nil, false, nacre.Errorf(nacre.UnsupportedMedia, "", "The archive is encrypted.")
	}
	f, err := z.File[0].Open()
	if err != nil {
		return nil, false, damaged(err)
	}
	return bounded(f, raw, limit), true, nil
}
