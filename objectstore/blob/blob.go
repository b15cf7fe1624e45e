// Package blob is the contract between the object store and whatever keeps the
// bytes of objects: a small [Store] interface that imports the module root only.
// Engines: blob/fs (files; the embedded default), blob/rados (Ceph) and blob/mem (tests).
// blob/blobtest is the suite that each passes.
//
// A blob is written once and never changed. Its key is made by the store, so a
// store may say in it where the bytes are and needs no index of its own. Names,
// accounts, metadata and counts are not the store's business: the object store
// keeps them as rows, commits a row only after Put has returned (or the wait of
// [Starter]), and takes away what no row names with Walk and Delete. A crash at any instant therefore leaves
// at worst a blob that nobody knows, never an object without bytes.
package blob

import (
	"context"
	"io"
	"time"

	"github.com/nacre-cloud/nacre"
)

// Store keeps blobs. Safe for concurrent use. A key that the store never made,
// or one that was deleted, is nacre.NotFound.
type Store interface {
	// Put stores all of r and returns its key and size in bytes. Afterwards the
	// blob is durable and whole. After an error nothing is kept; a crash may leave
	// a blob that nobody knows, which Walk shows. size is what r will give, or -1
	// when that isn't known; it is a hint only. An error of r's comes back
	// unchanged (wrapped at most). A full disk is [ErrFull].
	Put(ctx context.Context, r io.Reader, size int64) (key string, n int64, err error)
	// Open reads n bytes from offset off on; n < 0 means to the end. The bytes are
	// checked as they are read: rotten ones end the reading with [ErrRotten] and
	// are never handed out. A blob that is deleted while it is read can be read to
	// its end.
	Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, error)
	// Delete removes blobs. Those that are not there are success. What it frees may
	// be given back to the disk later.
	Delete(ctx context.Context, keys ...string) error
	// Walk shows every blob that is there, in any order, until fn fails. Blobs that
	// are put or deleted meanwhile may be shown or not.
	Walk(ctx context.Context, fn func(Info) error) error
	// Verify reads a blob as a whole. A rotten one is ErrRotten; it is set aside,
	// so that it can be looked at, and from then on not found by Open.
	Verify(ctx context.Context, key string) error
	// Close ends all use. Blobs that are being read may be cut off.
	Close() error
}

// Starter is a Store that knows a blob's key before the blob is durable, so that what
// is to name it can be made ready meanwhile.
type Starter interface {
	// Start is Put but that the blob need not be durable yet: it is once wait has
	// returned nil, and must not be relied on before. An error of wait's is for good. It
	// may be called more than once, or not at all; nil says that there is nothing to wait
	// for.
	Start(ctx context.Context, r io.Reader, size int64) (key string, n int64, wait func() error, err error)
}

// Start is s's own Start, or Put where s has none.
func Start(ctx context.Context, s Store, r io.Reader, size int64) (key string, n int64, wait func() error, err error) {
	if st, ok := s.(Starter); ok {
		return st.Start(ctx, r, size)
	}
	key, n, err = s.Put(ctx, r, size)
	return key, n, nil, err
}

// Reporter is a Store that knows how full it is.
type Reporter interface {
	Usage() (Usage, error)
}

// Usage is how many bytes a store has room for, how many of them are free, and how many
// blobs were damaged and are set aside.
type Usage struct {
	Size, Free int64
	Rotten     int
}

// Info is what Walk shows of a blob.
type Info struct {
	Key  string
	Size int64
	// At is when it was put, to the second or better.
	At time.Time
}

// The errors of a store beside nacre.NotFound.
var (
	// ErrFull is a store that has no room.
	ErrFull = &nacre.Error{Kind: nacre.Unavailable, Code: "StorageFull", Message: "There is no room left in the object store."}
	// ErrRotten is a blob whose bytes are not those that were put.
	ErrRotten = &nacre.Error{Kind: nacre.Internal, Code: "Rotten", Message: "The object's data is damaged."}
)

// NotFound is the error of a key without a blob.
func NotFound(key string) error { return nacre.Errorf(nacre.NotFound, "blob", "no blob %s", key) }
