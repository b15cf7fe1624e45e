// Package backend is the contract between image and whatever keeps the bytes of
// images: a small [Driver] interface that imports the module root only. Drivers:
// backend/file, backend/mem, backend/s3, backend/object (Swift's API) and the
// read-only backend/web (glance's http). backend/backendtest is the suite that each passes.
//
// What a driver can do beyond keeping bytes it shows by further interfaces:
// [Described] (what administrators see), [Addresser] (URLs for the locations API),
// [Remote] (bytes at URLs that others gave) and [Lender] (blobs that others hold on to).
package backend

import (
	"context"
	"io"

	"github.com/nacre-cloud/nacre"
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

// Described is a driver that tells about itself.
type Described interface {
	// Kind is glance's name for the type: file, http, swift, s3, rbd.
	Kind() string
	// Properties are shown to administrators; never secrets.
	Properties() map[string]any
}

// Addresser is a driver that can name a blob by a URL.
type Addresser interface {
	URL(key string) string
}

// Remote is a driver that reads what is at a URL. Its Put is
// nacre.NotImplemented.
type Remote interface {
	// CheckURL refuses a URL that the driver can't or may not read, with
	// nacre.Invalid, without reading it.
	CheckURL(ctx context.Context, url string) error
	// OpenURL reads it; size is -1 when unknown.
	OpenURL(ctx context.Context, url string) (r io.ReadCloser, size int64, err error)
}

// Lender is a driver whose blobs others hold on to, as clones do.
type Lender interface {
	// InUse is nacre.Conflict with Code "InUse" while somebody holds on to a blob,
	// so that it could not be deleted; a blob that is not there is in nobody's use.
	InUse(ctx context.Context, key string) error
}

// Full is a disk, or a store's allowance, that has no room left; err, which may be
// nil, goes to the log.
func Full(err error) error {
	return &nacre.Error{Kind: nacre.TooLarge, Code: "StorageFull", Message: "Image storage media is full: There is not enough disk space on the image storage media.", Err: err}
}
