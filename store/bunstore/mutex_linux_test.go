package bunstore

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	sqlite3 "modernc.org/sqlite/lib"
)

// Mutexes exclude others and let their holder in again; a connection's are none.
func TestMutexes(t *testing.T) {
	useMutexes()
	require.True(t, locks.ready.Load(), "SQLite has taken ours")
	require.EqualValues(t, noMutex, locks.alloc(sqlite3.SQLITE_MUTEX_RECURSIVE))
	require.EqualValues(t, sqlite3.SQLITE_MUTEX_STATIC_VFS1, locks.alloc(sqlite3.SQLITE_MUTEX_STATIC_VFS1))
	p, q := locks.alloc(sqlite3.SQLITE_MUTEX_FAST), locks.alloc(sqlite3.SQLITE_MUTEX_FAST)
	require.NotEqual(t, p, q)
	m := locks.get(p)
	n := 0
	var wg sync.WaitGroup
	for id := range int32(8) {
		wg.Go(func() {
			for range 1000 {
				m.enter(id + 1)
				m.enter(id + 1)
				n++
				m.leave()
				m.leave()
			}
		})
	}
	wg.Wait()
	require.Equal(t, 8000, n)
	m.enter(1)
	require.True(t, m.try(1))
	require.False(t, m.try(2))
	m.leave()
	require.False(t, m.try(2))
	m.leave()
	require.True(t, m.try(2))
	m.leave()
	locks.release(q)
	require.Equal(t, q, locks.alloc(sqlite3.SQLITE_MUTEX_FAST), "what was given back is given again")
	locks.release(p)
	locks.release(q)
	locks.release(sqlite3.SQLITE_MUTEX_STATIC_VFS1)
	require.NotEqual(t, uintptr(sqlite3.SQLITE_MUTEX_STATIC_VFS1), locks.alloc(sqlite3.SQLITE_MUTEX_FAST))
}
