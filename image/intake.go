package image

import (
	"context"
	"crypto/md5" //nolint:gosec // glance's checksum is MD5
	"crypto/sha512"
	"encoding/hex"
	"hash"
	"io"
	"sync"
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

func (t *intake) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	if n == 0 {
		return 0, err
	}
	if t.left -= int64(n); t.left < 0 {
		return 0, t.refuse(tooLarge())
	}
	t.sums.write(p[:n])
	if t.inspect != nil {
		_, _ = t.inspect.Write(p[:n])
		if ierr := t.inspect.Check(); ierr != nil {
			return 0, t.refuse(ierr)
		}
	}
	if t.verify != nil {
		t.verify.write(p[:n])
	}
	if time.Since(t.beat) > t.s.c.UploadTimeout/4 {
		t.beat = time.Now()
		switch n, herr := t.s.images.UpdateWhere(t.ctx, t.mine, store.Set{"heartbeat": time.Now().UTC()}); {
		case herr != nil:
			t.s.log.Warn("upload heartbeat", "image", t.id, "error", herr)
		case n == 0:
			return 0, t.refuse(gone(t.id))
		}
	}
	return n, err
}

func (t *intake) refuse(err error) error {
	t.refused = err
	return err
}

func tooLarge() error {
	return nacre.Errorf(nacre.TooLarge, "", "Image exceeds the storage quota: The size of the data will exceed the limit.")
}

// sums hashes in two goroutines of their own, so that an upload runs at the speed
// of the slower hash, not of both together. The bytes pass in a few buffers that
// are used again.
type sums struct {
	in   [2]chan *chunk
	h    [2]hash.Hash
	wg   sync.WaitGroup
	once sync.Once
	cur  *chunk
	free chan *chunk
}

type chunk struct {
	b    []byte
	mu   sync.Mutex
	left int
}

const (
	chunkSize = 256 << 10
	chunks    = 8
)

func newSums() *sums {
	s := &sums{h: [2]hash.Hash{md5.New(), sha512.New()}, free: make(chan *chunk, chunks)} //nolint:gosec // as above
	for range chunks {
		s.free <- &chunk{}
	}
	for i := range s.in {
		s.in[i] = make(chan *chunk, chunks)
		s.wg.Go(func() {
			for c := range s.in[i] {
				s.h[i].Write(c.b)
				c.mu.Lock()
				c.left--
				done := c.left == 0
				c.mu.Unlock()
				if done {
					s.free <- c
				}
			}
		})
	}
	return s
}

func (s *sums) write(p []byte) {
	for len(p) > 0 {
		if s.cur == nil {
			s.cur = <-s.free
			if s.cur.b == nil {
				s.cur.b = make([]byte, 0, chunkSize)
			}
			s.cur.b = s.cur.b[:0]
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
	c := s.cur
	if c == nil {
		return
	}
	s.cur = nil
	c.left = len(s.in)
	for i := range s.in {
		s.in[i] <- c
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
