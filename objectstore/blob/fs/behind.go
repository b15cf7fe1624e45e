package fs

import (
	"context"
	"encoding/binary"
	"hash/crc32"
	"io"
	"os"
	"sync"
)

// A large file is written by two goroutines beside the one that reads its body: one hands
// chunks to the kernel and one has it begin with the disk, each of which may have to wait
// while the body's own sum, which is slow, need not. ahead bounds the chunks between them,
// step is what the disk is given at a time; there is so much less for the sync at the end.
const (
	ahead = 32
	step  = 2 << 20
)

// behind writes a large file's chunks.
type behind struct {
	s     *Store
	f     *os.File
	work  chan part
	begun chan int64
	// failed is closed with the first error, which is err.
	failed chan struct{}
	err    error
	wg     sync.WaitGroup
	size   int64
	// sums are those of the chunks.
	sums []byte
}

// part is the beginning of a buffer of the store's.
type part struct {
	buf *[]byte
	n   int
}

// behind begins a large file with its first chunk; end must be called.
func (s *Store) behind(f *os.File, first []byte) *behind {
	w := &behind{s: s, f: f, work: make(chan part, ahead), begun: make(chan int64, ahead), failed: make(chan struct{})}
	w.wg.Go(func() {
		for off := range w.begun {
			writeBack(f, off, step)
		}
	})
	w.wg.Go(func() {
		defer close(w.begun)
		w.write(first)
		for p := range w.work {
			w.write((*p.buf)[:p.n])
			s.bufs.Put(p.buf)
		}
	})
	return w
}

func (w *behind) write(p []byte) {
	if w.err != nil {
		return
	}
	w.sums = binary.LittleEndian.AppendUint32(w.sums, crc32.Checksum(p, castagnoli))
	if _, w.err = w.f.Write(p); w.err != nil {
		close(w.failed)
		return
	}
	if w.size += int64(len(p)); w.s.sync && w.size%step == 0 {
		w.begun <- w.size - step
	}
}

// feed gives it a chunk that was read and all that comes after that.
func (w *behind) feed(ctx context.Context, p part, r io.Reader) (err error) {
	for p.n > 0 && err == nil {
		if err = ctx.Err(); err == nil {
			err = w.s.room(p.n)
		}
		if err != nil {
			break
		}
		select {
		case w.work <- p:
		case <-w.failed:
			return w.err
		}
		if p.n < chunk {
			return nil
		}
		p.buf = w.s.bufs.Get().(*[]byte)
		p.n, err = readChunk(r, *p.buf)
	}
	w.s.bufs.Put(p.buf)
	return err
}

// end waits until all is written that it was given.
func (w *behind) end() error {
	close(w.work)
	w.wg.Wait()
	return w.err
}
