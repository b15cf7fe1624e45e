package image

import (
	"context"
	"io"
)

// Limits tells how much a project may have: unified limits in identity, by
// glance's resource names (the Quota… constants). A resource that has no limit is
// missing, or negative.
type Limits interface {
	Limits(ctx context.Context, project string) (map[string]int64, error)
}

// Fetcher opens a URL that a user gave, for web-download. It refuses what the
// operator's filters and the network's safety refuse: nacre.Invalid. size is -1
// when it is not told.
type Fetcher interface {
	// Check says whether a URL may be fetched at all, before any work is put.
	Check(ctx context.Context, url string) error
	Fetch(ctx context.Context, url string) (r io.ReadCloser, size int64, err error)
}

// Remote is another cloud's image service, for glance-download.
type Remote interface {
	// Open reads an image of another region with the rights of the caller in ctx,
	// whose token is there. service is the endpoint's interface, "public" say.
	// What the caller may not see is nacre.NotFound.
	Open(ctx context.Context, region, service, imageID string) (RemoteImage, io.ReadCloser, error)
}

// RemoteImage is what glance-download takes over.
type RemoteImage struct {
	Status, DiskFormat, ContainerFormat string
	Size                                int64
	Properties                          map[string]string
}

// Converter turns a disk image into another format. It is handed readers and
// gives one, so that it alone knows about files and programs. The formats are
// those that image has itself found, never guessed. The returned reader's Close
// removes what the conversion used. Its bounds are its own; exceeding one is an
// error.
type Converter interface {
	Convert(ctx context.Context, r io.Reader, from, to string) (io.ReadCloser, error)
}

// KeyManager keeps the certificates by which images are signed.
type KeyManager interface {
	// Certificate is an X.509 certificate, DER or PEM; nacre.NotFound when
	// there is none of that id.
	Certificate(ctx context.Context, id string) ([]byte, error)
}
