package fs

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// datasync syncs what is needed to read the file's bytes again.
func datasync(f *os.File) error { return unix.Fdatasync(int(f.Fd())) }

// writeBack has the kernel begin to write a range of a file. It promises nothing, and so
// its error means nothing: the sync that follows says what holds.
func writeBack(f *os.File, off, n int64) {
	_ = unix.SyncFileRange(int(f.Fd()), off, n, unix.SYNC_FILE_RANGE_WRITE)
}

// punch makes zeros of a range and gives its whole blocks back to the disk.
func punch(f *os.File, off, n int64) error {
	err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return zero(f, off, n)
	}
	return err
}

// nextData is where data begins at or after off; -1 when there is none.
func nextData(f *os.File, off int64) (int64, error) {
	at, err := f.Seek(off, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) {
		return -1, nil
	}
	if errors.Is(err, unix.EINVAL) { // a file system that can't tell
		end, err := f.Seek(0, io.SeekEnd)
		if off >= end {
			off = -1
		}
		return off, err
	}
	return at, err
}

// allHole tells whether a file takes no room any more.
func allHole(f *os.File) (bool, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return false, err
	}
	return st.Blocks == 0, nil
}

// space is what a directory's file system has in all, and what is free for us.
func space(dir string) (all, free int64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, 0, err
	}
	return int64(st.Blocks) * st.Bsize, int64(st.Bavail) * st.Bsize, nil //nolint:gosec // no disk has so much
}
