//go:build ceph && cgo

package rbd

import (
	"errors"
	"io"

	"github.com/ceph/go-ceph/rbd"
)

// ahead is how many bytes are asked for at once.
const ahead = 1 << 20

// reader reads the snapshot of an image.
type reader struct {
	image *rbd.Image
	size  int64
	off   int64  // of the next byte to hand out
	data  []byte // from off on
	buf   []byte
}

func (r *reader) Read(p []byte) (int, error) {
	if r.image == nil {
		return 0, errors.New("rbd: the reader is closed")
	}
	if r.off >= r.size {
		return 0, io.EOF
	}
	if len(r.data) == 0 {
		if r.buf == nil {
			r.buf = make([]byte, min(ahead, r.size))
		}
		n, err := r.image.ReadAt(r.buf[:min(int64(len(r.buf)), r.size-r.off)], r.off)
		if n == 0 {
			if err == nil || errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return 0, fault(err)
		}
		r.data = r.buf[:n]
	}
	n := copy(p, r.data)
	r.data, r.off = r.data[n:], r.off+int64(n)
	return n, nil
}

func (r *reader) Seek(off int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		off += r.off
	case io.SeekEnd:
		off += r.size
	}
	if off < 0 {
		return 0, errors.New("rbd: seek before the beginning")
	}
	r.off, r.data = off, nil
	return off, nil
}

func (r *reader) Close() error {
	if r.image == nil {
		return nil
	}
	image := r.image
	r.image = nil
	return image.Close()
}
