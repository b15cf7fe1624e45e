//go:build !linux

package bunstore

// useMutexes has nothing to do: the driver's mutexes are Go's own.
func useMutexes() {}
