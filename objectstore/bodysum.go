package objectstore

import (
	"crypto/md5" //nolint:gosec // Swift's ETag is MD5
	"hash"
	"sync"
)

// bodySum is the MD5 of what is written to it. A long body is summed by a goroutine of
// its own, so that an upload costs the slower of the sum and the disk, not both. stop
// ends it, whether it was asked for the sum or not.
type bodySum struct {
	h    hash.Hash
	n    int
	cur  *[]byte
	made int
	// work goes to the goroutine, free comes back from it.
	work, free chan *[]byte
	done       chan struct{}
}

const (
	// sumInline is what is summed at once: less is not worth a goroutine.
	sumInline = 256 << 10
	sumChunk  = 64 << 10
	sumChunks = 4
)

var sumBuffers = sync.Pool{New: func() any { b := make([]byte, 0, sumChunk); return &b }}

func newBodySum() *bodySum { return &bodySum{h: md5.New()} } //nolint:gosec // see the import

func (d *bodySum) write(p []byte) {
	if d.n += len(p); d.n <= sumInline {
		d.h.Write(p)
		return
	}
	if d.work == nil {
		d.work, d.free, d.done = make(chan *[]byte, sumChunks), make(chan *[]byte, sumChunks), make(chan struct{})
		go d.run()
	}
	for len(p) > 0 {
		if d.cur == nil {
			d.cur = d.next()
		}
		k := min(len(p), sumChunk-len(*d.cur))
		*d.cur = append(*d.cur, p[:k]...)
		if p = p[k:]; len(*d.cur) == sumChunk {
			d.work <- d.cur
			d.cur = nil
		}
	}
}

// next is a buffer to fill. The sum is waited for when it lags behind.
func (d *bodySum) next() *[]byte {
	if d.made < sumChunks {
		d.made++
		return sumBuffers.Get().(*[]byte)
	}
	return <-d.free
}

func (d *bodySum) run() {
	defer close(d.done)
	for b := range d.work {
		d.h.Write(*b)
		*b = (*b)[:0]
		d.free <- b
	}
}

// sum is that of all that was written; nothing may be written after it.
func (d *bodySum) sum() []byte {
	d.stop()
	return d.h.Sum(nil)
}

func (d *bodySum) stop() {
	if d.work == nil {
		return
	}
	if d.cur != nil {
		d.work <- d.cur
	}
	close(d.work)
	<-d.done
	for close(d.free); ; {
		b, ok := <-d.free
		if !ok {
			break
		}
		sumBuffers.Put(b)
	}
	d.work, d.cur = nil, nil
}
