package fs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
)

// remove makes a hole of a record. A segment that is no longer written to and
// holds nothing any more is removed. A record whose header is damaged is left,
// unless whatever is there is to go.
func (s *segments) remove(at place, whatever bool) error {
	f, release, err := s.files.get(at.seg)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer release()
	// The header says whether this is the blob, and not the inside of another.
	var h [8]byte
	if _, err := f.ReadAt(h[:], at.off); err == io.EOF || err == nil && !whatever && (!bytes.Equal(h[:4], recordMagic[:]) || int64(binary.LittleEndian.Uint32(h[4:])) != at.size) { //nolint:errorlint // ReadAt's own
		return nil
	} else if err != nil {
		return err
	}
	if err := punch(f, at.off, at.length()); err != nil {
		return err
	}
	s.mu.Lock()
	sealed := s.active == nil || s.seg != at.seg
	if !sealed {
		s.holed[at.seg] = true
	}
	s.mu.Unlock()
	if !sealed {
		return nil
	}
	if err := trim(f, at.off, at.length()); err != nil {
		return err
	}
	return s.dropEmpty(at.seg, f)
}

// squeeze gives back the room of what was removed from segments while they were
// written to, of those that no longer are.
func (s *segments) squeeze() error {
	s.mu.Lock()
	var done []uint64
	for seg := range s.holed {
		if s.active == nil || s.seg != seg {
			done = append(done, seg)
			delete(s.holed, seg)
		}
	}
	s.mu.Unlock()
	for _, seg := range done {
		f, release, err := s.files.get(seg)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err == nil {
			err = s.shrink(seg, f)
			release()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// shrink gives back every block of zeros of a segment that is not written to, and
// the segment when nothing is left of it.
func (s *segments) shrink(seg uint64, f *os.File) error {
	b := make([]byte, 64*block)
	for off := int64(0); ; off += int64(len(b)) {
		var err error
		if off, err = nextData(f, off); err != nil {
			return err
		}
		if off < 0 {
			break
		}
		off = off / block * block
		n, err := f.ReadAt(b, off)
		if err != nil && err != io.EOF { //nolint:errorlint // ReadAt's own
			return err
		}
		for at := 0; at < n; at += block {
			if len(bytes.Trim(b[at:min(at+block, n)], "\x00")) == 0 {
				if err := punch(f, off+int64(at), block); err != nil {
					return err
				}
			}
		}
		if n < len(b) {
			break
		}
	}
	s.mu.Lock()
	s.checked[seg] = true
	s.mu.Unlock()
	return s.dropEmpty(seg, f)
}

// dropEmpty removes a segment that has no data left.
func (s *segments) dropEmpty(seg uint64, f *os.File) error {
	empty, err := allHole(f)
	if err != nil || !empty {
		return err
	}
	s.files.forget(seg)
	s.mu.Lock()
	delete(s.checked, seg)
	s.mu.Unlock()
	if err := os.Remove(s.name(seg)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// block is the size of the disk's blocks, or a multiple of it.
const block = 4096

// trim gives the blocks at the ends of a hole back when all else in them is gone,
// too. The segment isn't written to any more, so nothing can appear in them.
func trim(f *os.File, off, n int64) error {
	first, last := off/block*block, (off+n-1)/block*block
	for _, at := range []int64{first, last} {
		b := make([]byte, block)
		m, err := f.ReadAt(b, at)
		if err != nil && err != io.EOF { //nolint:errorlint // ReadAt's own
			return err
		}
		if len(bytes.Trim(b[:m], "\x00")) == 0 {
			if err := punch(f, at, block); err != nil {
				return err
			}
		}
		if first == last {
			break
		}
	}
	return nil
}
