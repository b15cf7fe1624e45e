//go:build !linux

package fs

import (
	"io"
	"math"
	"os"
)

func datasync(f *os.File) error { return f.Sync() }

// writeBack does nothing here: the sync does it all.
func writeBack(*os.File, int64, int64) {}

func punch(f *os.File, off, n int64) error { return zero(f, off, n) }

func nextData(f *os.File, off int64) (int64, error) {
	end, err := f.Seek(0, io.SeekEnd)
	if off >= end {
		off = -1
	}
	return off, err
}

// allHole reads the file: where there are no holes, zeros tell.
func allHole(f *os.File) (bool, error) {
	b := make([]byte, 1<<20)
	for off := int64(0); ; off += int64(len(b)) {
		n, err := f.ReadAt(b, off)
		for _, c := range b[:n] {
			if c != 0 {
				return false, nil
			}
		}
		if err == io.EOF { //nolint:errorlint // ReadAt's own
			return true, nil
		}
		if err != nil {
			return false, err
		}
	}
}

// space is not known here: the disk itself says when it is full.
func space(string) (all, free int64, err error) { return math.MaxInt64, math.MaxInt64, nil }
