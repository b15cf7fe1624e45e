package fs

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/nacre-cloud/nacre/objectstore/blob"
)

// chunk is how much of a large blob has a sum of its own. It is read group chunks at a
// time.
const (
	chunk = Small
	group = 4
)

var groups = sync.Pool{New: func() any { b := make([]byte, group*chunk); return &b }}

// A large file ends in the sums (4 bytes for each chunk), then the trailer: magic,
// size, the sums' own sum.
const trailer = 8 + 8 + 4

var largeMagic = [8]byte{'n', 'a', 'c', 'r', 'e', 'L', '1', '\n'}

// putLarge stores a first full chunk and the rest of r. When there is no rest the
// blob is small after all.
func (s *Store) putLarge(ctx context.Context, first []byte, r io.Reader) (_ string, _ int64, err error) {
	second := s.bufs.Get().(*[]byte)
	n, err := readChunk(r, *second)
	if err != nil || n == 0 {
		s.bufs.Put(second)
	}
	if err != nil {
		return "", 0, err
	}
	if n == 0 {
		w, err := s.segs.put(first)
		if err == nil {
			err = w.wait()
		}
		if err != nil {
			return "", 0, full(err)
		}
		return w.at.key(), int64(len(first)), nil
	}
	var id [16]byte
	_, _ = rand.Read(id[:])
	key := "b" + hex.EncodeToString(id[:])
	path, _ := s.largePath(key)
	f, err := s.create(path)
	if err != nil {
		return "", 0, full(err)
	}
	defer func() {
		if err != nil {
			err = full(errors.Join(err, f.Close(), os.Remove(path)))
		}
	}()
	w := s.behind(f, first)
	err = w.feed(ctx, part{second, n}, r)
	if late := w.end(); err == nil {
		err = late
	}
	if err != nil {
		return "", 0, err
	}
	size := w.size
	end := append(w.sums, largeMagic[:]...)
	end = binary.LittleEndian.AppendUint64(end, uint64(size))
	end = binary.LittleEndian.AppendUint32(end, crc32.Checksum(end, castagnoli))
	if _, err = f.Write(end); err != nil {
		return "", 0, err
	}
	if s.sync {
		if err = f.Sync(); err != nil {
			return "", 0, err
		}
	}
	if err = s.syncDir(filepath.Dir(path)); err != nil {
		return "", 0, err
	}
	if err = f.Close(); err != nil {
		return "", 0, errors.Join(err, os.Remove(path))
	}
	return key, size, nil
}

// readChunk fills b; less than that is the end. io.ReadFull won't do: a body that
// was cut off says io.ErrUnexpectedEOF, as ReadFull does of one that was short.
func readChunk(r io.Reader, b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var m int
		m, err = r.Read(b[n:])
		n += m
	}
	if err == io.EOF { //nolint:errorlint // a wrapped one is no end
		err = nil
	}
	return n, err
}

func (s *Store) create(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if !errors.Is(err, os.ErrNotExist) {
		return f, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	if err := s.syncDir(filepath.Join(s.dir, "large")); err != nil {
		return nil, err
	}
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
}

// largeReader reads a range of a large blob, some chunks at a time.
type largeReader struct {
	f   *os.File
	buf *[]byte
	// have is what is left of the present chunks.
	have []byte
	// next is the next chunk's number; size the blob's; left what is still wanted
	// after have.
	next       int64
	size, left int64
	skip       int64
}

func openLarge(key, path string, off, n int64) (_ io.ReadCloser, err error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, blob.NotFound(key)
	}
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
		}
	}()
	size, err := largeSize(f)
	if err != nil {
		return nil, err
	}
	r := &largeReader{f: f, size: size}
	off = min(off, size)
	r.left = size - off
	if n >= 0 {
		r.left = min(n, r.left)
	}
	r.next, r.skip = off/chunk, off%chunk
	return r, nil
}

// largeSize is the size of the blob in a file that is whole.
func largeSize(f *os.File) (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	var t [trailer]byte
	if st.Size() < trailer {
		return 0, fmt.Errorf("%w: the file is short", blob.ErrRotten)
	}
	if _, err := f.ReadAt(t[:], st.Size()-trailer); err != nil {
		return 0, rot(err)
	}
	size := int64(binary.LittleEndian.Uint64(t[8:]))
	if !bytes.Equal(t[:8], largeMagic[:]) || size < 0 || size+4*((size+chunk-1)/chunk)+trailer != st.Size() {
		return 0, fmt.Errorf("%w: the file has no trailer", blob.ErrRotten)
	}
	return size, nil
}

// rot counts what the disk can't read as rotten.
func rot(err error) error { return fmt.Errorf("%w: %w", blob.ErrRotten, err) }

func (r *largeReader) Read(p []byte) (int, error) {
	if err := r.fill(); err != nil {
		return 0, err
	}
	n := copy(p, r.have)
	r.have = r.have[n:]
	return n, nil
}

// WriteTo implements io.WriterTo: it saves a copy.
func (r *largeReader) WriteTo(w io.Writer) (total int64, err error) {
	for {
		if err := r.fill(); err != nil {
			if err == io.EOF { //nolint:errorlint // fill's own
				err = nil
			}
			return total, err
		}
		n, err := w.Write(r.have)
		total, r.have = total+int64(n), r.have[n:]
		if err != nil {
			return total, err
		}
	}
}

// fill has something to hand out, or says why not.
func (r *largeReader) fill() error {
	if len(r.have) > 0 {
		return nil
	}
	if r.left <= 0 {
		return io.EOF
	}
	if r.buf == nil {
		r.buf = groups.Get().(*[]byte)
	}
	n := min(group, (r.skip+r.left+chunk-1)/chunk)
	b, err := r.chunks(n)
	if err != nil && n > 1 {
		b, err = r.chunks(1) // what is before the damage is good
	}
	if err != nil {
		return err
	}
	r.next += (int64(len(b)) + chunk - 1) / chunk
	b = b[r.skip:]
	r.have, r.skip = b[:min(int64(len(b)), r.left)], 0
	r.left -= int64(len(r.have))
	return nil
}

// chunks reads the next n chunks and checks them.
func (r *largeReader) chunks(n int64) ([]byte, error) {
	at := r.next * chunk
	b := (*r.buf)[:min(n*chunk, r.size-at)]
	if _, err := r.f.ReadAt(b, at); err != nil {
		return nil, rot(err)
	}
	var sums [4 * group]byte
	if _, err := r.f.ReadAt(sums[:4*n], r.size+4*r.next); err != nil {
		return nil, rot(err)
	}
	for i := range n {
		part := b[i*chunk : min((i+1)*chunk, int64(len(b)))]
		if crc32.Checksum(part, castagnoli) != binary.LittleEndian.Uint32(sums[4*i:]) {
			return nil, blob.ErrRotten
		}
	}
	return b, nil
}

func (r *largeReader) Close() error {
	if r.buf != nil {
		groups.Put(r.buf)
		r.buf, r.have, r.left = nil, nil, 0
	}
	return r.f.Close()
}

func (s *Store) walkLarge(ctx context.Context, fn func(blob.Info) error) error {
	dirs, err := os.ReadDir(filepath.Join(s.dir, "large"))
	if err != nil {
		return err
	}
	for _, d := range dirs {
		es, err := os.ReadDir(filepath.Join(s.dir, "large", d.Name()))
		if err != nil {
			return err
		}
		for _, e := range es {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := s.showLarge(filepath.Join(s.dir, "large", d.Name(), e.Name()), fn); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Store) showLarge(path string, fn func(blob.Info) error) error {
	key := filepath.Base(path)
	if p, ok := s.largePath(key); !ok || p != path {
		return nil
	}
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // read only
	st, err := f.Stat()
	if err != nil {
		return err
	}
	size, err := largeSize(f)
	if err != nil {
		size = -1
	}
	return fn(blob.Info{Key: key, Size: size, At: st.ModTime()})
}

// zero writes zeros where the disk can't make holes.
func zero(f *os.File, off, n int64) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if n = min(n, st.Size()-off); n <= 0 {
		return nil
	}
	_, err = f.WriteAt(make([]byte, n), off)
	return err
}
