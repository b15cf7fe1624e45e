package objectstore

import (
	"context"
	"errors"
	"io"
	"strings"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/objectstore/blob"
	"github.com/nacre-cloud/nacre/store"
)

// GetOptions say how an object is looked at.
type GetOptions struct {
	// Version is the version's id; empty is the newest.
	Version string
	// Link shows a symlink itself, and not where it points.
	Link bool
	// Manifest shows a large object's manifest, and not what it is made of.
	Manifest bool
}

// Content is an object that can be read.
type Content struct {
	// Object has the metadata that answers; of a symlink, the target's.
	Object
	// Ref is where it was found, Via the links that were followed, outermost first.
	Ref Ref
	Via []Object
	// Length is what reading all of it gives; Tag its entity tag, Composed whether
	// that is one of several objects together.
	Length   int64
	Tag      string
	Composed bool
	// Container is where it is. Its counts may be old.
	Container Container
	// Newest says that it isn't an older version.
	Newest bool

	open func(ctx context.Context, off, n int64) (io.ReadCloser, error)
}

// Open reads n bytes from off on; n < 0 is to the end. Close it.
func (c *Content) Open(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	if n < 0 {
		n = c.Length - off
	}
	if n <= 0 {
		return io.NopCloser(strings.NewReader("")), nil
	}
	return c.open(ctx, off, n)
}

// maxLinks is how many symlinks are followed, maxDepth how deep large objects nest.
const (
	maxLinks = 2
	maxDepth = 10
)

// Get finds an object for reading.
func (s *Service) Get(ctx context.Context, r Ref, o GetOptions) (*Content, error) {
	var via []Object
	for {
		c, err := s.find(ctx, r, o.Version)
		if err != nil {
			return nil, err
		}
		if c.Kind != KindSymlink || o.Link {
			c.Via = via
			return c, s.prepare(ctx, c, o, 0)
		}
		if len(via) == maxLinks {
			return nil, conflict("Too many levels of symbolic links, maximum allowed is %d", maxLinks)
		}
		via = append(via, c.Object)
		account, rest, _ := strings.Cut(c.Target, "/")
		container, object, _ := strings.Cut(rest, "/")
		next := Ref{account, container, object}
		if want := c.Meta()["X-Object-Sysmeta-Symlink-Target-Etag"]; want != "" {
			t, err := s.find(ctx, next, "")
			if err != nil {
				return nil, err
			}
			if t.Kind != KindSymlink && t.Etag != want && t.SLOEtag() != want {
				return nil, conflict("X-Symlink-Target-Etag headers do not match")
			}
		}
		r, o.Version = next, ""
	}
}

// find is an object as it is kept.
func (s *Service) find(ctx context.Context, r Ref, version string) (*Content, error) {
	if err := s.checkNames(r); err != nil {
		return nil, err
	}
	cont, err := s.findContainer(ctx, r)
	if err != nil && !errors.Is(err, nacre.NotFound) {
		return nil, err
	}
	if denied := s.allow(ctx, r, read, cont.Meta[readACL]); denied != nil {
		return nil, denied
	}
	if err != nil {
		return nil, err
	}
	out := &Content{Ref: r, Container: cont, Newest: true}
	o, err := s.current(ctx, cont.ID+"/"+r.Object)
	if err != nil {
		return nil, err
	}
	if version != "" && (o == nil || versionOf(&o.Data) != version) {
		v, err := s.versions.One(ctx, store.Eq("container", cont.ID), store.Eq("name", r.Object), store.Eq("version", version))
		if err != nil {
			return nil, store.WrapNotFound(err, notFound)
		}
		if v.Marker {
			return nil, &nacre.Error{Kind: nacre.NotFound, Code: "DeleteMarker", Message: "The resource could not be found."}
		}
		s.vault.reveal(&v.Data)
		o, out.Newest = &Object{ID: cont.ID + "/" + r.Object, Data: v.Data}, false
	}
	if o == nil {
		return nil, notFound()
	}
	if o.locked != nil {
		return nil, o.locked
	}
	out.Object = *o
	return out, nil
}

// prepare makes an object readable.
func (s *Service) prepare(ctx context.Context, c *Content, o GetOptions, depth int) error {
	c.Length, c.Tag = c.Size, c.Etag
	c.open = func(ctx context.Context, off, n int64) (io.ReadCloser, error) { return s.bytes(ctx, c, off, n) }
	switch {
	case o.Manifest:
		return nil
	case c.Kind == KindSLO:
		return s.prepareReadSLO(c, depth)
	case c.Kind == KindDLO:
		return s.prepareReadDLO(ctx, c, depth)
	}
	return nil
}

// bytes reads an object's own blob. One that was replaced between the look at the
// row and this is looked up again.
func (s *Service) bytes(ctx context.Context, c *Content, off, n int64) (io.ReadCloser, error) {
	if err := store.Outside(ctx); err != nil {
		return nil, err
	}
	r, err := s.c.Blobs.Open(ctx, c.Blob, off, n)
	if err == nil {
		return decrypted(s.watched(r, c.Blob, c.Ref), c.key, off)
	}
	if errors.Is(err, blob.ErrRotten) {
		s.setAside(c.Blob, c.Ref)
		return nil, err
	}
	if !errors.Is(err, nacre.NotFound) {
		return nil, err
	}
	now, gerr := s.current(ctx, c.ID)
	switch {
	case gerr != nil:
		return nil, gerr
	case now == nil:
		return nil, notFound()
	case now.Blob == c.Blob:
		// As in Swift, what was set aside is not found, though it is listed.
		s.log.Error("an object's bytes are gone", "object", c.Ref.String(), "blob", c.Blob)
		return nil, notFound()
	}
	return nil, errReplaced
}

// setAside has the store look at a whole blob in which rot was met, and set it aside.
func (s *Service) setAside(key string, of Ref) {
	err := s.c.Blobs.Verify(context.Background(), key)
	s.log.Error("an object's bytes are damaged", "object", of.String(), "blob", key, "error", err)
}

// rotWatch reads a blob, and sets it aside when it meets rot.
type rotWatch struct {
	io.ReadCloser
	s   *Service
	key string
	of  Ref
}

func (s *Service) watched(r io.ReadCloser, key string, of Ref) io.ReadCloser {
	w := &rotWatch{r, s, key, of}
	if to, ok := r.(io.WriterTo); ok {
		return &rotWatchTo{w, to}
	}
	return w
}

func (r *rotWatch) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	return n, r.seen(err)
}

func (r *rotWatch) seen(err error) error {
	if errors.Is(err, blob.ErrRotten) {
		r.s.setAside(r.key, r.of)
	}
	return err
}

// rotWatchTo is of a blob that writes itself.
type rotWatchTo struct {
	*rotWatch
	to io.WriterTo
}

func (r *rotWatchTo) WriteTo(w io.Writer) (int64, error) {
	n, err := r.to.WriteTo(w)
	return n, r.seen(err)
}

// errReplaced is an object that was replaced while it was about to be read.
var errReplaced = &nacre.Error{Kind: nacre.Unavailable, Code: "Replaced", Message: "The object has just been replaced; please retry."}

// Read finds an object and opens all of it, again when it is replaced meanwhile.
func (s *Service) Read(ctx context.Context, r Ref, o GetOptions) (*Content, io.ReadCloser, error) {
	for try := 0; ; try++ {
		c, err := s.Get(ctx, r, o)
		if err != nil {
			return nil, nil, err
		}
		body, err := c.Open(ctx, 0, -1)
		if errors.Is(err, errReplaced) && try < 4 {
			continue
		}
		return c, body, err
	}
}

// Replaced tells whether reading failed since the object was just replaced: then
// the caller gets it anew.
func Replaced(err error) bool { return errors.Is(err, errReplaced) }

// SLOEtag is a static large object's entity tag, or "".
func (d *Data) SLOEtag() string {
	tag, _, _ := strings.Cut(d.ListEtag, ";")
	return tag
}

// S3Etag is the entity tag that S3 shows: that of a multipart upload, or the MD5.
func (d *Data) S3Etag() string { return S3Etag(d.Etag, d.ListEtag) }

// S3Etag is the entity tag that S3 shows of what a listing says.
func S3Etag(etag, listEtag string) string {
	if _, tag, ok := strings.Cut(listEtag, ";s3_etag="); ok {
		return tag
	}
	if listEtag != "" {
		return listEtag + "-N"
	}
	return etag
}

// link is a symlink's target for a row.
func link(r Ref) string { return r.Account + "/" + r.Container + "/" + r.Object }

// NewLink makes of n a symlink to target. etag, if not empty, is what the target
// must have, now and whenever the link is followed.
func (s *Service) NewLink(ctx context.Context, n *NewObject, target Ref, etag string) error {
	if target.Container == "" || target.Object == "" {
		return nacre.Errorf(nacre.Precondition, "", "X-Symlink-Target header must be of the form <container name>/<object name>")
	}
	if err := s.checkNames(target); err != nil {
		return err
	}
	if target == n.Ref {
		return invalid("Symlink cannot target itself")
	}
	n.Kind, n.Target = KindSymlink, link(target)
	if etag == "" {
		return nil
	}
	t, err := s.Get(ctx, target, GetOptions{})
	if errors.Is(err, nacre.NotFound) {
		return conflict("X-Symlink-Target does not exist")
	}
	if err != nil {
		return err
	}
	if t.Tag != etag && t.Etag != etag {
		return conflict("Object Etag %q does not match X-Symlink-Target-Etag header %q", t.Tag, etag)
	}
	n.Meta["X-Object-Sysmeta-Symlink-Target-Etag"] = etag
	n.bytes = t.Length
	return nil
}
