// Package backend is the contract between image and whatever keeps the bytes of
// images: a small [Driver] interface that imports the module root only. Drivers:
// backend/file, backend/mem. backend/backendtest is the suite that each passes.
package backend

import (
	"context"
	"io"
)

// Driver keeps blobs by key. Keys are made by image, lower-case hex and dashes;
// a key is written once and never again. Safe for concurrent use.
type Driver interface {
	// Put stores all of r under key and returns the size in bytes. Afterwards the
	// blob is durable and whole; after an error, or a crash, nothing is visible
	// under the key. A full disk is nacre.TooLarge with Code "StorageFull".
	Put(ctx context.Context, key string, r io.Reader) (int64, error)
	// Open reads a blob; nacre.NotFound when it is not there. The reader is also
	// an io.Seeker where the driver can seek.
	Open(ctx context.Context, key string) (io.ReadCloser, int64, error)
	// Delete removes a blob and whatever an unfinished Put left under its key. One
	// that is not there is success.
	Delete(ctx context.Context, key string) error
	// List names every key, also those of unfinished Puts, for audits.
	List(ctx context.Context) ([]string, error)
}
