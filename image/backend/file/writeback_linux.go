package file

import (
	"os"
	"syscall"
)

// syncFileRangeWrite is Linux's SYNC_FILE_RANGE_WRITE.
const syncFileRangeWrite = 2

// writeBack has the kernel begin to write a range of a file. It promises nothing,
// and so its error means nothing: the fsync that follows says what holds.
func writeBack(f *os.File, off, n int64) {
	c, err := f.SyscallConn()
	if err != nil {
		return
	}
	_ = c.Control(func(fd uintptr) { _ = syscall.SyncFileRange(int(fd), off, n, syncFileRangeWrite) })
}
