package fs

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/nacre-cloud/nacre/objectstore/blob"
)

// A record is a header (magic, size, time, the sum of all that and of the bytes)
// and the bytes, filled up to a multiple of align.
const (
	align  = 64
	header = 4 + 4 + 8 + 4
)

var recordMagic = [4]byte{'n', 'B', '1', '\n'}

// place is where a small blob is.
type place struct {
	seg  uint64
	off  int64
	size int64
}

func (p place) key() string { return fmt.Sprintf("s%012x-%08x-%05x", p.seg, p.off, p.size) }

func parseSmall(key string) (place, bool) {
	var p place
	if len(key) != 28 || key[0] != 's' {
		return p, false
	}
	if _, err := fmt.Sscanf(key, "s%012x-%08x-%05x", &p.seg, &p.off, &p.size); err != nil {
		return p, false
	}
	return p, p.key() == key && p.size <= Small
}

// length is what a record takes in its segment.
func (p place) length() int64 { return (header + p.size + align - 1) / align * align }

func record(data []byte, at time.Time) []byte {
	n := place{size: int64(len(data))}.length()
	b := make([]byte, header, n)
	copy(b, recordMagic[:])
	binary.LittleEndian.PutUint32(b[4:], uint32(len(data)))
	binary.LittleEndian.PutUint64(b[8:], uint64(at.Unix()))
	sum := crc32.Update(crc32.Checksum(b[:16], castagnoli), castagnoli, data)
	binary.LittleEndian.PutUint32(b[16:], sum)
	return append(b, data...)[:n]
}

// parseRecord gives a record's bytes and time, if it is whole.
func parseRecord(b []byte) (data []byte, at time.Time, ok bool) {
	if len(b) < header || !bytes.Equal(b[:4], recordMagic[:]) {
		return nil, at, false
	}
	n := int(binary.LittleEndian.Uint32(b[4:]))
	if n > Small || len(b) < header+n {
		return nil, at, false
	}
	data = b[header : header+n]
	sum := crc32.Update(crc32.Checksum(b[:16], castagnoli), castagnoli, data)
	return data, time.Unix(int64(binary.LittleEndian.Uint64(b[8:])), 0), sum == binary.LittleEndian.Uint32(b[16:])
}

// segments are the segment files of a store.
type segments struct {
	dir  string
	max  int64
	sync bool

	// mu guards what follows. Records are queued under it. The one that finds writing
	// false writes what has gathered; a goroutine of its own syncs that, and goes on with
	// what has come meanwhile.
	mu      sync.Mutex
	cond    *sync.Cond
	writing bool
	closed  bool
	queue   []*waiting
	active  *os.File
	seg     uint64
	off     int64
	// holed are segments of which something was removed while they were written to:
	// there may be room to give back. checked are those that were looked through.
	holed, checked map[uint64]bool

	files files
}

// waiting is a record on its way to the disk.
type waiting struct {
	rec []byte
	at  place
	// placed is closed once the record is written, and at is known; failed says that it
	// could not be. synced is closed once it is on the disk, or is not for err.
	placed, synced chan struct{}
	failed, err    error
}

func (w *waiting) wait() error {
	<-w.synced
	return w.err
}

func (s *segments) open(dir string, limit int64, durable bool) error {
	s.dir, s.max, s.sync = dir, limit, durable
	s.cond = sync.NewCond(&s.mu)
	s.holed, s.checked = map[uint64]bool{}, map[uint64]bool{}
	s.files.dir = dir
	nums, err := s.list()
	if err != nil {
		return err
	}
	if len(nums) > 0 {
		s.seg = nums[len(nums)-1]
	}
	// The number of the last segment that was ever begun outlives the segment, so
	// that no key comes twice.
	last, err := os.ReadFile(filepath.Join(dir, "last"))
	if err == nil {
		var n uint64
		if _, err := fmt.Sscanf(string(last), "%x", &n); err != nil {
			return fmt.Errorf("%s: %w", filepath.Join(dir, "last"), err)
		}
		s.seg = max(s.seg, n)
	} else if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func (s *segments) name(seg uint64) string {
	return filepath.Join(s.dir, fmt.Sprintf("%012x.seg", seg))
}

// list is the numbers of the segments there are, in order.
func (s *segments) list() ([]uint64, error) {
	es, err := os.ReadDir(s.dir)
	var out []uint64
	for _, e := range es {
		var n uint64
		if _, err := fmt.Sscanf(e.Name(), "%012x.seg", &n); err == nil && filepath.Base(s.name(n)) == e.Name() {
			out = append(out, n)
		}
	}
	return out, err
}

// put appends a blob. It is written when put returns.
func (s *segments) put(data []byte) (*waiting, error) {
	w := &waiting{rec: record(data, time.Now()), placed: make(chan struct{}), synced: make(chan struct{})}
	w.at.size = int64(len(data))
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil, os.ErrClosed
	}
	s.queue = append(s.queue, w)
	var mine []*waiting
	if !s.writing {
		s.writing, mine, s.queue = true, s.queue, nil
	}
	s.mu.Unlock()
	if mine != nil {
		err := s.write(mine)
		go s.settle(mine, err)
	} else {
		<-w.placed
	}
	return w, w.failed
}

// settle syncs what was written, if it was, and then writes and syncs what has
// gathered, until nothing has.
func (s *segments) settle(batch []*waiting, err error) {
	for {
		if err == nil && s.sync {
			if err = datasync(s.active); err != nil {
				s.abandon()
			}
		}
		for _, w := range batch {
			w.err = err
			close(w.synced)
		}
		s.mu.Lock()
		batch, s.queue = s.queue, nil
		if len(batch) == 0 {
			s.writing = false
			s.cond.Broadcast()
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
		err = s.write(batch)
	}
}

// write writes a batch. Only the goroutine that set writing, or the one that goes on
// for it, calls it, so active, seg and off are its own.
func (s *segments) write(batch []*waiting) error {
	err := s.append(batch)
	if err != nil {
		s.abandon()
	}
	for _, w := range batch {
		w.failed = err
		close(w.placed)
	}
	return err
}

func (s *segments) append(batch []*waiting) error {
	b := batch[0].rec
	if len(batch) > 1 {
		n := 0
		for _, w := range batch {
			n += len(w.rec)
		}
		b = make([]byte, 0, n)
		for _, w := range batch {
			b = append(b, w.rec...)
		}
	}
	if err := s.roll(int64(len(b))); err != nil {
		return err
	}
	off := s.off
	for _, w := range batch {
		w.at.seg, w.at.off = s.seg, off
		off += int64(len(w.rec))
	}
	if _, err := s.active.WriteAt(b, s.off); err != nil {
		return err
	}
	s.off = off
	return nil
}

// abandon leaves the segment after a failure, since what it holds at its end is not
// known.
func (s *segments) abandon() {
	if s.active != nil {
		_ = s.active.Close()
		s.leave()
	}
}

// leave says that the active segment is no longer written to. Removals look, so it
// says it under the lock, which the writer does not hold.
func (s *segments) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.active = nil
}

// seal ends the writing to the present segment.
func (s *segments) seal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.writing {
		s.cond.Wait()
	}
	if s.active != nil {
		_ = s.active.Close() // all of it is synced
		s.active = nil
	}
}

// roll begins a new segment when there is none or n more bytes don't fit.
func (s *segments) roll(n int64) error {
	if s.active != nil && s.off+n <= s.max {
		return nil
	}
	if s.active != nil {
		if err := s.active.Close(); err != nil {
			return err
		}
		s.leave()
	}
	next := s.seg + 1
	if err := s.note(next); err != nil {
		return err
	}
	f, err := os.OpenFile(s.name(next), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if s.sync {
		if err := syncPath(s.dir); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	s.mu.Lock()
	s.active, s.seg, s.off = f, next, 0
	s.mu.Unlock()
	return nil
}

// note keeps the number of the last segment, durably.
func (s *segments) note(seg uint64) error {
	path := filepath.Join(s.dir, "last")
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "%x\n", seg)
	if s.sync && err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func syncPath(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// raw is a record as it is on disk.
func (s *segments) raw(at place) ([]byte, error) {
	f, release, err := s.files.get(at.seg)
	if err != nil {
		return nil, err
	}
	defer release()
	b := make([]byte, header+at.size)
	_, err = f.ReadAt(b, at.off)
	return b, err
}

// read reads a blob as a whole, which is small, so that nothing that is deleted
// meanwhile can disturb it.
func (s *segments) read(key string, at place, off, n int64) (io.ReadCloser, error) {
	b, err := s.raw(at)
	if errors.Is(err, os.ErrNotExist) || err == io.EOF { //nolint:errorlint // ReadAt's own
		return nil, blob.NotFound(key)
	}
	if err != nil {
		return nil, rot(err)
	}
	data, _, ok := parseRecord(b)
	if !ok || int64(len(data)) != at.size {
		// A hole is a blob that was deleted; it is zeros throughout.
		if len(bytes.Trim(b, "\x00")) == 0 {
			return nil, blob.NotFound(key)
		}
		return nil, blob.ErrRotten
	}
	data = data[min(off, int64(len(data))):]
	if n >= 0 {
		data = data[:min(n, int64(len(data)))]
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

// walk shows every whole record of every segment.
func (s *segments) walk(ctx context.Context, fn func(blob.Info) error) error {
	nums, err := s.list()
	if err != nil {
		return err
	}
	for _, seg := range nums {
		if err := s.walkSegment(ctx, seg, fn); err != nil {
			return err
		}
	}
	return nil
}

func (s *segments) walkSegment(ctx context.Context, seg uint64, fn func(blob.Info) error) error {
	f, release, err := s.files.get(seg)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer release()
	s.mu.Lock()
	sealed, checked := s.active == nil || s.seg != seg, s.checked[seg]
	s.mu.Unlock()
	if sealed && !checked {
		if err := s.shrink(seg, f); err != nil {
			return err
		}
	}
	b := make([]byte, place{size: Small}.length())
	for off := int64(0); ; {
		if err := ctx.Err(); err != nil {
			return err
		}
		if off, err = nextData(f, off); err != nil || off < 0 {
			return err
		}
		off = off / align * align
		n, err := f.ReadAt(b, off)
		if err != nil && err != io.EOF { //nolint:errorlint // ReadAt's own
			return err
		}
		var step int64
		for i := 0; i+header <= n; i += int(step) {
			data, at, ok := parseRecord(b[i:n])
			step = align
			if !ok {
				if bytes.Equal(b[i:i+4], recordMagic[:]) && n == len(b) && i > 0 {
					break // it may go on beyond what was read
				}
				off += step
				continue
			}
			p := place{seg: seg, off: off, size: int64(len(data))}
			if err := fn(blob.Info{Key: p.key(), Size: p.size, At: at}); err != nil {
				return err
			}
			step = p.length()
			off += step
		}
		if n < len(b) {
			return nil
		}
	}
}

func (s *segments) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for s.writing || len(s.queue) > 0 {
		s.cond.Wait()
	}
	var err error
	if s.active != nil {
		err = s.active.Close()
		s.active = nil
	}
	return errors.Join(err, s.files.close())
}

// files keeps segments open for reading, the last used ones.
type files struct {
	dir  string
	mu   sync.Mutex
	open map[uint64]*file
	use  int64
}

type file struct {
	f    *os.File
	refs int
	used int64
	gone bool
}

// maxOpen bounds the segments that are open without being read.
const maxOpen = 128

func (c *files) get(seg uint64) (*os.File, func(), error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.open[seg]
	if h == nil {
		f, err := os.OpenFile(filepath.Join(c.dir, fmt.Sprintf("%012x.seg", seg)), os.O_RDWR, 0)
		if err != nil {
			return nil, nil, err
		}
		h = &file{f: f}
		if c.open == nil {
			c.open = map[uint64]*file{}
		}
		c.evict()
		c.open[seg] = h
	}
	c.use++
	h.refs, h.used = h.refs+1, c.use
	return h.f, func() { c.release(h) }, nil
}

func (c *files) release(h *file) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if h.refs--; h.refs == 0 && h.gone {
		_ = h.f.Close()
	}
}

// evict closes the file that was used longest ago, if there are too many.
func (c *files) evict() {
	if len(c.open) < maxOpen {
		return
	}
	var seg uint64
	var oldest *file
	for n, h := range c.open {
		if h.refs == 0 && (oldest == nil || h.used < oldest.used) {
			seg, oldest = n, h
		}
	}
	if oldest != nil {
		_ = oldest.f.Close()
		delete(c.open, seg)
	}
}

// forget drops a file that is removed.
func (c *files) forget(seg uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if h := c.open[seg]; h != nil {
		delete(c.open, seg)
		if h.gone = true; h.refs == 0 {
			_ = h.f.Close()
		}
	}
}

func (c *files) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var err error
	for seg, h := range c.open {
		err = errors.Join(err, h.f.Close())
		delete(c.open, seg)
	}
	return err
}
