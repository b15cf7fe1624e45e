// Package object keeps images in an object store that speaks Swift's API. An image
// is a static large object: its bytes are segments in a container of their own,
// streamed one after the other, and a manifest under its key makes them visible at
// once. So its size need not be known and nothing is held in memory.
//
// The store is first spoken to when it is first needed: a cloud starts though it is
// away, and may be the one that serves it.
package object

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/objectstorage/v1/containers"
	"github.com/gophercloud/gophercloud/v2/openstack/objectstorage/v1/objects"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/image/backend"
)

// Options of New.
type Options struct {
	// Container of the manifests; empty means "glance". The segments are in the one
	// with "_segments" behind.
	Container string
	// CreateContainer makes both with the first image, where they are missing.
	CreateContainer bool
	// Reference is what locations call the store; empty means "default".
	Reference string
	// SegmentSize in bytes; 0 means 200 MiB, glance's
	// swift_store_large_object_chunk_size. A manifest has at most 1,000 segments.
	SegmentSize int64
}

// Driver implements backend.Driver.
type Driver struct {
	o       Options
	connect func(context.Context) (*gophercloud.ServiceClient, error)

	mu   sync.Mutex
	c    *gophercloud.ServiceClient
	made bool
}

var (
	_ backend.Driver    = (*Driver)(nil)
	_ backend.Described = (*Driver)(nil)
	_ backend.Addresser = (*Driver)(nil)
)

// New makes the driver, without a request. connect gives the client of an account
// at the first use; it must be able to authenticate again.
func New(connect func(context.Context) (*gophercloud.ServiceClient, error), o Options) *Driver {
	o.Container, o.Reference, o.SegmentSize = cmp.Or(o.Container, "glance"), cmp.Or(o.Reference, "default"), cmp.Or(o.SegmentSize, 200<<20)
	return &Driver{o: o, connect: connect}
}

// client is the account's.
func (d *Driver) client(ctx context.Context) (*gophercloud.ServiceClient, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.c == nil {
		c, err := d.connect(ctx)
		if err != nil {
			return nil, fmt.Errorf("object: the store can't be reached: %w", err)
		}
		d.c = c
	}
	return d.c, nil
}

// containers makes the containers where they are missing, once.
func (d *Driver) containers(ctx context.Context, c *gophercloud.ServiceClient) error {
	d.mu.Lock()
	done := d.made || !d.o.CreateContainer
	d.mu.Unlock()
	if done {
		return nil
	}
	for _, name := range []string{d.o.Container, d.segments()} {
		if _, err := containers.Create(ctx, c, name, nil).Extract(); err != nil {
			return err
		}
	}
	d.mu.Lock()
	d.made = true
	d.mu.Unlock()
	return nil
}

func (d *Driver) segments() string { return d.o.Container + "_segments" }

// source counts, and remembers the error of what it reads.
type source struct {
	ctx context.Context
	r   *bufio.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	if s.err == nil {
		s.err = s.ctx.Err()
	}
	if s.err != nil {
		return 0, s.err
	}
	n, err := s.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

type counted struct {
	r io.Reader
	n int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

type segment struct {
	Path string `json:"path"`
	Size int64  `json:"size_bytes"`
}

// Put implements backend.Driver.
func (d *Driver) Put(ctx context.Context, key string, r io.Reader) (int64, error) {
	c, err := d.client(ctx)
	if err == nil {
		err = d.containers(ctx, c)
	}
	if err != nil {
		return 0, err
	}
	n, err := d.put(ctx, c, key, r)
	if err != nil {
		return n, errors.Join(worded(err), d.Delete(context.WithoutCancel(ctx), key))
	}
	return n, nil
}

func (d *Driver) put(ctx context.Context, c *gophercloud.ServiceClient, key string, r io.Reader) (int64, error) {
	src := &source{ctx: ctx, r: bufio.NewReaderSize(r, 256<<10)}
	var list []segment
	total := int64(0)
	for {
		if _, err := src.r.Peek(1); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return total, err
		}
		name := fmt.Sprintf("%s/%08d", key, len(list))
		part := &counted{r: io.LimitReader(src, d.o.SegmentSize)}
		_, err := objects.Create(ctx, c, d.segments(), name, objects.CreateOpts{Content: part, NoETag: true}).Extract()
		if src.err != nil {
			return total, src.err
		}
		if err != nil {
			return total, err
		}
		total += part.n
		list = append(list, segment{"/" + d.segments() + "/" + name, part.n})
	}
	if len(list) == 0 {
		_, err := objects.Create(ctx, c, d.o.Container, key, objects.CreateOpts{Content: bytes.NewReader(nil), ContentType: "application/octet-stream"}).Extract()
		return 0, err
	}
	manifest, err := json.Marshal(list)
	if err != nil {
		return total, err
	}
	_, err = objects.Create(ctx, c, d.o.Container, key, objects.CreateOpts{Content: bytes.NewReader(manifest), MultipartManifest: "put", NoETag: true, ContentType: "application/octet-stream"}).Extract()
	return total, err
}

func worded(err error) error {
	var e gophercloud.ErrUnexpectedResponseCode
	if errors.As(err, &e) {
		switch e.Actual {
		case http.StatusNotFound:
			return nacre.Errorf(nacre.NotFound, "", "no such blob")
		case http.StatusRequestEntityTooLarge, http.StatusInsufficientStorage:
			return backend.Full(err)
		}
	}
	return err
}

// Open implements backend.Driver. The reader seeks: it asks for the rest from
// there.
func (d *Driver) Open(ctx context.Context, key string) (io.ReadCloser, int64, error) {
	c, err := d.client(ctx)
	if err != nil {
		return nil, 0, err
	}
	res := objects.Download(ctx, c, d.o.Container, key, nil)
	if res.Err != nil {
		return nil, 0, worded(res.Err)
	}
	size, err := strconv.ParseInt(res.Header.Get("Content-Length"), 10, 64)
	if err != nil {
		return nil, 0, errors.Join(fmt.Errorf("object: %s: no length: %w", key, err), res.Body.Close())
	}
	return &reader{ctx: ctx, c: c, d: d, key: key, size: size, body: res.Body}, size, nil
}

type reader struct {
	ctx  context.Context
	c    *gophercloud.ServiceClient
	d    *Driver
	key  string
	size int64
	body io.ReadCloser // nil when at has moved
	at   int64
}

func (r *reader) Seek(off int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		off += r.at
	case io.SeekEnd:
		off += r.size
	}
	if off < 0 {
		return 0, errors.New("object: seek before the beginning")
	}
	if off != r.at && r.body != nil {
		_ = r.body.Close()
		r.body = nil
	}
	r.at = off
	return off, nil
}

func (r *reader) Read(p []byte) (int, error) {
	if r.at >= r.size {
		return 0, io.EOF
	}
	if r.body == nil {
		res := objects.Download(r.ctx, r.c, r.d.o.Container, r.key, rangeFrom(r.at))
		if res.Err != nil {
			return 0, worded(res.Err)
		}
		r.body = res.Body
	}
	n, err := r.body.Read(p)
	r.at += int64(n)
	if errors.Is(err, io.EOF) && r.at < r.size {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

type rangeFrom int64

// ToObjectDownloadParams implements gophercloud's DownloadOptsBuilder.
func (r rangeFrom) ToObjectDownloadParams() (map[string]string, string, error) {
	return map[string]string{"Range": fmt.Sprintf("bytes=%d-", int64(r))}, "", nil
}

func (r *reader) Close() error {
	if r.body == nil {
		return nil
	}
	return r.body.Close()
}

// Delete implements backend.Driver: the manifest first, so that nobody reads an
// image half of which is gone.
func (d *Driver) Delete(ctx context.Context, key string) error {
	c, err := d.client(ctx)
	if err != nil {
		return err
	}
	if _, err := objects.Delete(ctx, c, d.o.Container, key, nil).Extract(); err != nil && !errors.Is(worded(err), nacre.NotFound) {
		return err
	}
	names, err := names(ctx, c, d.segments(), key+"/")
	if err != nil {
		return err
	}
	for _, n := range names {
		if _, err := objects.Delete(ctx, c, d.segments(), n, nil).Extract(); err != nil && !errors.Is(worded(err), nacre.NotFound) {
			return err
		}
	}
	return nil
}

// names are the objects of a container; one that is missing has none.
func names(ctx context.Context, c *gophercloud.ServiceClient, container, prefix string) ([]string, error) {
	pages, err := objects.List(c, container, objects.ListOpts{Prefix: prefix}).AllPages(ctx)
	if errors.Is(worded(err), nacre.NotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return objects.ExtractNames(pages)
}

// List implements backend.Driver.
func (d *Driver) List(ctx context.Context) ([]string, error) {
	c, err := d.client(ctx)
	if err != nil {
		return nil, err
	}
	keys, err := names(ctx, c, d.o.Container, "")
	if err != nil {
		return nil, err
	}
	parts, err := names(ctx, c, d.segments(), "")
	if err != nil {
		return nil, err
	}
	for _, p := range parts {
		key, _, _ := strings.Cut(p, "/")
		if !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	return keys, nil
}

// Kind implements backend.Described.
func (d *Driver) Kind() string { return "swift" }

// Properties implements backend.Described.
func (d *Driver) Properties() map[string]any {
	return map[string]any{"container": d.o.Container, "large_object_size": d.o.SegmentSize >> 20, "large_object_chunk_size": d.o.SegmentSize >> 20}
}

// URL implements backend.Addresser, in glance's form for stores that are configured:
// it tells no address, account or key.
func (d *Driver) URL(key string) string {
	return "swift+config://" + d.o.Reference + "/" + d.o.Container + "/" + key
}
