package bunstore

import (
	"sync"
	"sync/atomic"
	"unsafe"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

// SQLite takes a connection's lock in nearly every call, several times for each value
// that is read. On Linux the driver's locks are those of a C library made anew, which
// finds each of them in one map of the process, behind one lock that all connections
// wait for: a quarter of the time of a long list went there. These are Go's own, as
// the driver has them on other systems. And a connection's lock is none, as with
// SQLITE_OPEN_NOMUTEX: database/sql gives a connection to one goroutine at a time, and
// the driver's own state in it would not bear two anyway.

// A mutex may be taken again by who holds it: a connection's thread, by its number.
type mutex struct {
	sync.Mutex
	owner atomic.Int32
	depth int
}

func (m *mutex) enter(id int32) {
	if m.owner.Load() != id {
		m.Lock()
		m.owner.Store(id)
	}
	m.depth++
}

func (m *mutex) try(id int32) bool {
	if m.owner.Load() != id {
		if !m.TryLock() {
			return false
		}
		m.owner.Store(id)
	}
	m.depth++
	return true
}

func (m *mutex) leave() {
	if m.depth--; m.depth == 0 {
		m.owner.Store(0)
		m.Unlock()
	}
}

// mutexes gives SQLite numbers for mutexes; they stand for the pointers that it wants.
// Those of types that are numbers themselves (SQLITE_MUTEX_STATIC_…) are first.
type mutexes struct {
	mu   sync.Mutex
	all  atomic.Pointer[[]*mutex]
	free []uintptr
	// ready says that SQLite is initialised: what must be recursive from then on is a
	// connection's.
	ready atomic.Bool
}

const (
	staticMutexes = 32
	// noMutex is a number that no type has: a connection's.
	noMutex = 1
)

func (s *mutexes) get(p uintptr) *mutex { return (*s.all.Load())[p] }

// alloc is a mutex of a type: a new one where the type does not name one.
func (s *mutexes) alloc(typ int32) uintptr {
	if typ > sqlite3.SQLITE_MUTEX_RECURSIVE {
		if typ >= staticMutexes {
			return 0 // SQLite says that there is no memory
		}
		return uintptr(typ)
	}
	if typ == sqlite3.SQLITE_MUTEX_RECURSIVE && s.ready.Load() {
		return noMutex
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	old := *s.all.Load()
	if n := len(s.free); n > 0 {
		p := s.free[n-1]
		s.free = s.free[:n-1]
		return p
	}
	next := append(old[:len(old):len(old)], &mutex{})
	s.all.Store(&next)
	return uintptr(len(old))
}

func (s *mutexes) release(p uintptr) {
	if p < staticMutexes {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free = append(s.free, p)
}

var (
	locks        mutexes
	mutexMethods sqlite3.Tsqlite3_mutex_methods
)

// pointer is a function as SQLite, made into Go, calls it.
func pointer[F any](f F) uintptr { return *(*uintptr)(unsafe.Pointer(&f)) }

// useMutexes has SQLite use them. Where another part of the program has opened a
// database before, SQLite refuses, and goes on with the driver's.
var useMutexes = sync.OnceFunc(func() {
	first := make([]*mutex, staticMutexes)
	for i := range first {
		first[i] = &mutex{}
	}
	locks.all.Store(&first)
	mutexMethods = sqlite3.Tsqlite3_mutex_methods{
		FxMutexInit:  pointer(func(*libc.TLS) int32 { return sqlite3.SQLITE_OK }),
		FxMutexEnd:   pointer(func(*libc.TLS) int32 { return sqlite3.SQLITE_OK }),
		FxMutexAlloc: pointer(func(_ *libc.TLS, typ int32) uintptr { return locks.alloc(typ) }),
		FxMutexFree:  pointer(func(_ *libc.TLS, p uintptr) { locks.release(p) }),
		FxMutexEnter: pointer(func(t *libc.TLS, p uintptr) {
			if p != noMutex {
				locks.get(p).enter(t.ID)
			}
		}),
		FxMutexTry: pointer(func(t *libc.TLS, p uintptr) int32 {
			if p == noMutex || locks.get(p).try(t.ID) {
				return sqlite3.SQLITE_OK
			}
			return sqlite3.SQLITE_BUSY
		}),
		FxMutexLeave: pointer(func(_ *libc.TLS, p uintptr) {
			if p != noMutex {
				locks.get(p).leave()
			}
		}),
	}
	tls := libc.NewTLS()
	defer tls.Close()
	args := libc.NewVaList(uintptr(unsafe.Pointer(&mutexMethods)))
	defer libc.Xfree(tls, args)
	if sqlite3.Xsqlite3_config(tls, sqlite3.SQLITE_CONFIG_MUTEX, args) == sqlite3.SQLITE_OK {
		locks.ready.Store(sqlite3.Xsqlite3_initialize(tls) == sqlite3.SQLITE_OK)
	}
})
