package image

import (
	"context"
	"crypto/md5" //nolint:gosec // glance's checksum is MD5
	"crypto/sha512"
	"encoding/hex"
	"hash"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/internal/diskimage"
	"github.com/nacre-cloud/nacre/store"
)

// intake is a stream of bytes on its way into a driver: hashed, inspected, bounded
// and alive.
type intake struct {
	s    *Service
	ctx  context.Context
	id   string
	key  string
	r    io.Reader
	sums *sums
	// inspect is nil for bytes that are not taken for an image yet.
	inspect *diskimage.Inspector
	verify  *verifier
	left    int64
	// mine matches the image's row as long as the bytes are wanted.
	mine    store.Where
	beat    time.Time
	refused error
}

func (s *Service) newIntake(id, key string, r io.Reader, left int64, mine store.Where) *intake {
	return &intake{s: s, id: id, key: key, r: r, sums: newSums(), inspect: diskimage.NewInspector(), left: left, mine: mine, beat: time.Now()}
}

// Read implements io.Reader, for drivers that read.
func (t *intake) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	if n == 0 {
		return 0, err
	}
	if serr := t.see(p[:n]); serr != nil {
		return 0, serr
	}
	t.sums.write(p[:n])
	return n, err
}

// WriteTo implements io.WriterTo, for drivers that copy: what is hashed is written
// from the same buffers, while it is hashed.
func (t *intake) WriteTo(w io.Writer) (total int64, err error) {
	for {
		c := t.sums.next()
		var rerr error
		for len(c.b) < cap(c.b) && rerr == nil {
			have, n := len(c.b), 0
			if n, rerr = t.r.Read(c.b[have:cap(c.b)]); n == 0 {
				continue
			}
			c.b = c.b[:have+n]
			if err := t.see(c.b[have:]); err != nil {
				return total, err
			}
		}
		t.sums.send(c, 1)
		n, werr := w.Write(c.b)
		total += int64(n)
		t.sums.release(c)
		switch {
		case werr != nil:
			return total, werr
		case rerr == io.EOF: //nolint:errorlint // readers give io.EOF itself
			return total, nil
		case rerr != nil:
			return total, rerr
		}
	}
}

// see looks at bytes that came: whether they are too many, what they are, whether
// they are still wanted.
func (t *intake) see(p []byte) error {
	if t.left -= int64(len(p)); t.left < 0 {
		return t.refuse(tooLarge())
	}
	if t.inspect != nil {
		_, _ = t.inspect.Write(p)
		if err := t.inspect.Check(); err != nil {
			return t.refuse(err)
		}
	}
	if time.Since(t.beat) > t.s.c.UploadTimeout/4 {
		t.beat = time.Now()
		switch n, err := t.s.images.UpdateWhere(t.ctx, t.mine, store.Set{"heartbeat": time.Now().UTC()}); {
		case err != nil:
			t.s.log.Warn("upload heartbeat", "image", t.id, "error", err)
		case n == 0:
			return t.refuse(gone(t.id))
		}
	}
	return nil
}

func (t *intake) refuse(err error) error {
	t.refused = err
	return err
}

func tooLarge() error {
	return nacre.Errorf(nacre.TooLarge, "", "Image exceeds the storage quota: The size of the data will exceed the limit.")
}

// check has a signature checked too, once all bytes have come; v may be nil.
func (t *intake) check(v *verifier) {
	if t.verify = v; v != nil {
		t.sums.add(v.h)
	}
}

// sums hashes in goroutines of their own, so that an upload runs at the speed of the
// slowest hash, not of all together. The bytes pass in a few buffers that
// are used again.
type sums struct {
	in   []chan *chunk
	h    []hash.Hash
	wg   sync.WaitGroup
	once sync.Once
	cur  *chunk
	free chan *chunk
}

type chunk struct {
	b    []byte
	left atomic.Int32
}

const (
	chunkSize = 256 << 10
	chunks    = 16
)

func newSums() *sums {
	s := &sums{free: make(chan *chunk, chunks)}
	for range chunks {
		s.free <- &chunk{}
	}
	s.add(md5.New()) //nolint:gosec // as above
	s.add(sha512.New())
	return s
}

// add is for before the first byte.
func (s *sums) add(h hash.Hash) {
	in := make(chan *chunk, chunks)
	s.in, s.h = append(s.in, in), append(s.h, h)
	s.wg.Go(func() {
		for c := range in {
			h.Write(c.b)
			s.release(c)
		}
	})
}

// next is a buffer to fill.
func (s *sums) next() *chunk {
	c := <-s.free
	if c.b == nil {
		c.b = make([]byte, 0, chunkSize)
	}
	c.b = c.b[:0]
	return c
}

// send has a buffer hashed, which so many others hold too: each releases it.
func (s *sums) send(c *chunk, others int32) {
	c.left.Store(int32(len(s.in)) + others)
	for i := range s.in {
		s.in[i] <- c
	}
}

func (s *sums) release(c *chunk) {
	if c.left.Add(-1) == 0 {
		s.free <- c
	}
}

func (s *sums) write(p []byte) {
	for len(p) > 0 {
		if s.cur == nil {
			s.cur = s.next()
		}
		n := min(len(p), chunkSize-len(s.cur.b))
		s.cur.b = append(s.cur.b, p[:n]...)
		p = p[n:]
		if len(s.cur.b) == chunkSize {
			s.flush()
		}
	}
}

func (s *sums) flush() {
	if c := s.cur; c != nil {
		s.cur = nil
		s.send(c, 0)
	}
}

func (s *sums) stop() {
	s.once.Do(func() {
		s.flush()
		for i := range s.in {
			close(s.in[i])
		}
		s.wg.Wait()
	})
}

func (s *sums) sum() (md5sum, sha512sum string) {
	s.stop()
	return hex.EncodeToString(s.h[0].Sum(nil)), hex.EncodeToString(s.h[1].Sum(nil))
}
