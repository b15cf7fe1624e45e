package objectstore

import (
	"cmp"
	"context"
	"crypto/cipher"
	"encoding/hex"
	"errors"
	"io"
	"maps"
	"strings"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/objectstore/blob"
	"github.com/nacre-cloud/nacre/store"
)

// NewObject is an object to be put.
type NewObject struct {
	Ref
	// Body is read to its end, and not closed. Size is what it will give, or -1.
	Body io.Reader
	Size int64
	// Etag, if set, is the MD5 that the body must have.
	Etag        string
	ContentType string
	// Meta are the headers to keep.
	Meta    map[string]string
	Expires time.Time
	// If, if set, is asked before anything is read and again when the object is
	// committed; old is nil when there is none.
	If func(old *Object) error
	// Kind and Target make a symlink or a dynamic large object.
	Kind, Target string
	// Segments make a static large object: Body is then not read.
	Segments []Segment
	// Check is asked once the body has been read, before the object is committed,
	// with the body's MD5 in hex.
	Check func(md5 string, size int64) error
	// ListEtag is ";s3_etag=" and the entity tag that S3 shows, or empty.
	ListEtag string

	// bytes is what the listing shows, when it isn't the blob's size.
	bytes int64
	// durable, if set, returns once the blob is.
	durable func() error
}

// ErrEtag is a body whose MD5 is not the one promised.
var ErrEtag = &nacre.Error{Kind: nacre.Invalid, Code: "Unprocessable", Message: "Unable to process the contained instructions"}

// ErrTooLarge is a body over the limit of an object.
var ErrTooLarge = &nacre.Error{Kind: nacre.TooLarge, Message: "Your request is too large."}

// Put makes an object, or replaces it. It is durable and listed when Put returns.
func (s *Service) Put(ctx context.Context, n NewObject) (Object, error) {
	c, err := s.checkPut(ctx, &n)
	if err != nil {
		return Object{}, err
	}
	if len(n.Segments) > 0 || n.Kind == KindSLO {
		if err := s.prepareSLO(ctx, &n); err != nil {
			return Object{}, err
		}
	}
	o, err := s.receive(ctx, &n)
	if err != nil {
		return Object{}, err
	}
	for try := 1; ; try++ {
		o.ID = c.ID + "/" + n.Object
		if err = s.commitPut(ctx, c, &n, &o); err == nil {
			return o, nil
		}
		if again := errors.Is(err, errChanged) || errors.Is(err, nacre.NotFound); try < 4 && again {
			// What was known of the container was old. What it is now may forbid this.
			s.cache.forget(n.Ref)
			if c, err = s.writable(ctx, n.Ref); err == nil {
				continue
			}
		}
		// Where it isn't known whether the row is there, the blob stays: if it is not,
		// the sweep finds it.
		if u := (*unsure)(nil); !errors.As(err, &u) {
			s.drop(ctx, o.Blob)
		}
		return Object{}, err
	}
}

// errChanged is a container that is no longer what a change went by.
var errChanged = &nacre.Error{Kind: nacre.Unavailable, Message: "The container has just changed; please retry."}

// drop deletes a blob whose object did not come about. What it can't delete now
// the sweep will.
func (s *Service) drop(ctx context.Context, key string) {
	if key == "" {
		return
	}
	if err := s.c.Blobs.Delete(context.WithoutCancel(ctx), key); err != nil {
		s.log.Warn("a blob was left behind", "blob", key, "error", err)
	}
}

// checkPut is all that can be said before the body is read.
func (s *Service) checkPut(ctx context.Context, n *NewObject) (Container, error) {
	if err := s.checkNames(n.Ref); err != nil {
		return Container{}, err
	}
	c, err := s.findContainer(ctx, n.Ref)
	if err != nil && !errors.Is(err, nacre.NotFound) {
		return c, err
	}
	if denied := s.allow(ctx, n.Ref, write, c.Meta[writeACL]); denied != nil {
		return c, denied
	}
	if err != nil {
		return c, err
	}
	if n.Size > s.c.Limits.FileSize {
		return c, ErrTooLarge
	}
	if err := s.checkMeta("object", n.Meta); err != nil {
		return c, err
	}
	if !n.Expires.IsZero() && !n.Expires.After(s.c.Now()) {
		return c, invalid("X-Delete-At in past")
	}
	if n.If != nil {
		old, err := s.current(ctx, c.ID+"/"+n.Object)
		if err != nil {
			return c, err
		}
		if err := n.If(old); err != nil {
			return c, err
		}
	}
	if n.Size > 0 {
		// A first look, so that what can't be kept need not be sent.
		if err := s.withinQuota(ctx, quotaAsk{c: c, id: c.ID + "/" + n.Object, size: n.Size, exempt: s.Reseller(ctx)}); err != nil {
			return c, err
		}
	}
	return c, nil
}

// current is an object's row, nil when there is none or it has expired.
func (s *Service) current(ctx context.Context, id string) (*Object, error) {
	o, err := s.objects.Get(ctx, id)
	if errors.Is(err, store.ErrNoRow) || err == nil && expired(&o.Data, s.c.Now()) {
		return nil, nil
	}
	s.vault.reveal(&o.Data)
	return &o, err
}

// meter counts and sums what is read, up to a limit.
type meter struct {
	r     io.Reader
	n     int64
	limit int64
	sum   *bodySum
}

func (m *meter) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	m.n += int64(n)
	m.sum.write(p[:n])
	if m.n > m.limit {
		return n, ErrTooLarge
	}
	return n, err
}

// ErrCutOff is a body that ended before its announced size.
var ErrCutOff = &nacre.Error{Kind: nacre.Invalid, Code: "CutOff", Message: "The body ended early."}

// receive stores the body and makes the object's row of it.
func (s *Service) receive(ctx context.Context, n *NewObject) (Object, error) {
	if err := store.Outside(ctx); err != nil {
		return Object{}, err
	}
	o := Object{Data: Data{ContentType: cmp.Or(n.ContentType, "application/octet-stream"), Kind: n.Kind, Target: n.Target, Expires: n.Expires.UTC(), ListEtag: n.ListEtag}}
	if n.Expires.IsZero() {
		o.Expires = time.Time{}
	}
	o.setMeta(n.Meta)
	m := &meter{r: n.Body, limit: s.c.Limits.FileSize, sum: newBodySum()}
	defer m.sum.stop()
	if n.Body == nil {
		m.r = strings.NewReader("")
	}
	var first [1]byte
	k, err := io.ReadAtLeast(m, first[:], 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return o, err
	}
	if k > 0 {
		body := io.MultiReader(strings.NewReader(string(first[:])), m)
		if s.vault.on() {
			o.key = newBodyKey()
			stream, err := bodyStream(o.key, 0)
			if err != nil {
				return o, err
			}
			body = cipher.StreamReader{S: stream, R: body}
		}
		if o.Blob, o.Size, n.durable, err = blob.Start(ctx, s.c.Blobs, body, n.Size); err != nil {
			return o, err
		}
	}
	o.Etag = hex.EncodeToString(m.sum.sum())
	switch {
	case n.Size >= 0 && o.Size != n.Size:
		err = ErrCutOff
	case n.Etag != "" && !strings.EqualFold(n.Etag, o.Etag):
		err = ErrEtag
	case n.Check != nil:
		err = n.Check(o.Etag, o.Size)
	default:
		err = nil
	}
	if err != nil {
		s.drop(ctx, o.Blob)
		return o, err
	}
	o.Bytes = o.Size
	if n.bytes > 0 {
		o.Bytes = n.bytes
	}
	return o, nil
}

// commitPut makes the row known.
func (s *Service) commitPut(ctx context.Context, c Container, n *NewObject, o *Object) error {
	ch := &change{containers: []string{c.ID}, objects: []string{o.ID}, durable: n.durable}
	legacy, err := s.legacyContainer(ctx, c)
	if err != nil {
		return err
	}
	if legacy != nil {
		ch.containers = append(ch.containers, legacy.ID)
	}
	sealed, err := s.vault.sealed(o.Data, c.ID)
	if err != nil {
		return err
	}
	exempt := s.Reseller(ctx)
	// Whether versions are kept is known in the transaction only; if so it wants to
	// see them.
	ch.alone = c.Versions != "" || legacy != nil
	ch.apply = func(b *batch) error {
		cont := b.containers[c.ID]
		if cont.Versions != c.Versions {
			return errChanged
		}
		old, err := b.get(o.ID)
		if err != nil {
			return err
		}
		if old != nil && old.Blob != "" && old.Blob == o.Blob {
			// An earlier try was committed after all.
			*o = *s.vault.seen(old)
			return nil
		}
		if n.If != nil {
			if err := n.If(s.vault.seen(old)); err != nil {
				return err
			}
		}
		if err := s.withinQuota(b.ctx, quotaAsk{c: *cont, b: b, old: b.rows[o.ID], size: o.Bytes, exempt: exempt}); err != nil {
			return err
		}
		o.At, o.Version = b.now, ""
		keep, err := b.keepOld(cont, legacy, old, o)
		if err != nil {
			return err
		}
		row := *o
		row.Etag, row.ListEtag, row.Headers = sealed.Etag, sealed.ListEtag, sealed.Headers
		return b.set(c.ID, o.ID, &row, keep)
	}
	return s.commit(ctx, ch)
}

// ObjectChange is what a POST sets on an object: it replaces what users had set.
type ObjectChange struct {
	// Meta are the new headers; those the service keeps itself stay.
	Meta        map[string]string
	ContentType string // empty: as it was
	Expires     time.Time
	// If is asked of the present object.
	If func(old *Object) error
}

// PostObject replaces an object's metadata.
func (s *Service) PostObject(ctx context.Context, r Ref, ch ObjectChange) (Object, error) {
	c, err := s.writable(ctx, r)
	if err != nil {
		return Object{}, err
	}
	if err := s.checkMeta("object", ch.Meta); err != nil {
		return Object{}, err
	}
	if !ch.Expires.IsZero() && !ch.Expires.After(s.c.Now()) {
		return Object{}, invalid("X-Delete-At in past")
	}
	id := c.ID + "/" + r.Object
	var out Object
	err = s.commit(ctx, &change{containers: []string{c.ID}, objects: []string{id}, apply: func(b *batch) error {
		old, err := b.get(id)
		if err != nil {
			return err
		}
		if old == nil {
			return notFound()
		}
		if old = s.vault.seen(old); old.locked != nil {
			return old.locked
		}
		if ch.If != nil {
			if err := ch.If(old); err != nil {
				return err
			}
		}
		out = *old
		meta := maps.Clone(ch.Meta)
		if meta == nil {
			meta = map[string]string{}
		}
		for k, v := range old.Meta() {
			if strings.HasPrefix(k, "X-Object-Sysmeta-") {
				meta[k] = v
			}
		}
		out.setMeta(meta)
		out.Posted, out.Expires = b.now, ch.Expires
		if ch.ContentType != "" {
			out.ContentType = ch.ContentType
		}
		if out.Kind == KindDLO || out.Kind == "" {
			out.Kind, out.Target = "", meta["X-Object-Manifest"]
			if out.Target != "" {
				out.Kind = KindDLO
			}
		}
		row := out
		if row.Data, err = s.vault.sealed(out.Data, c.ID); err != nil {
			return err
		}
		return b.set(c.ID, id, &row, false)
	}})
	return out, err
}

// writable is the container in which the caller may write.
func (s *Service) writable(ctx context.Context, r Ref) (Container, error) {
	if err := s.checkNames(r); err != nil {
		return Container{}, err
	}
	c, err := s.findContainer(ctx, r)
	if err != nil && !errors.Is(err, nacre.NotFound) {
		return c, err
	}
	if denied := s.allow(ctx, r, write, c.Meta[writeACL]); denied != nil {
		return c, denied
	}
	return c, err
}

// DeleteOptions narrow a deletion.
type DeleteOptions struct {
	// Version deletes that version; empty the object, of which an older version may
	// be kept.
	Version string
	// Promote makes the newest older version the object when its present one is
	// deleted, as S3 does.
	Promote bool
	If      func(old *Object) error
}

// Deleted says what a deletion did in a container with versions.
type Deleted struct {
	// Version is that of the mark which was made, or the version that was deleted.
	Version string
	// Marker says that Version is a mark of deletion.
	Marker bool
	// Current is the version that is the object now; empty is none.
	Current string
}

// Delete deletes an object, or a version of one.
func (s *Service) Delete(ctx context.Context, r Ref, o DeleteOptions) (Deleted, error) {
	c, err := s.writable(ctx, r)
	if err != nil {
		return Deleted{}, err
	}
	legacy, err := s.legacyContainer(ctx, c)
	if err != nil {
		return Deleted{}, err
	}
	id := c.ID + "/" + r.Object
	ch := &change{containers: []string{c.ID}, objects: []string{id}, alone: c.Versions != "" || legacy != nil || o.Version != ""}
	if legacy != nil {
		ch.containers = append(ch.containers, legacy.ID)
	}
	var out Deleted
	ch.apply = func(b *batch) error {
		cont := b.containers[c.ID]
		if cont.Versions != c.Versions {
			return errChanged
		}
		old, err := b.get(id)
		if err != nil {
			return err
		}
		if o.If != nil {
			if err := o.If(s.vault.seen(old)); err != nil {
				return err
			}
		}
		if o.Version != "" {
			out, err = b.deleteVersion(cont, id, o)
			return err
		}
		out, err = b.deleteObject(cont, legacy, id, old)
		return err
	}
	err = s.commit(ctx, ch)
	if errors.Is(err, errChanged) {
		s.cache.forget(r)
	}
	return out, err
}
