package s3api

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/objectstore"
)

// uploadOf names, in a large object's metadata, the upload that made it: its parts
// go when it goes.
const uploadOf = "X-Object-Sysmeta-S3-Upload"

// kept are the headers that are kept with an object.
var kept = []string{"Content-Encoding", "Content-Disposition", "Content-Language", "Cache-Control", "Expires"}

// meta are the request's headers that are to be kept.
func meta(h http.Header) map[string]string {
	out := map[string]string{}
	for name, vs := range h {
		if k, ok := strings.CutPrefix(name, "X-Amz-Meta-"); ok {
			out["X-Object-Meta-"+k] = strings.Join(vs, ",")
		}
	}
	for _, k := range kept {
		v := h.Get(k)
		if k == "Content-Encoding" {
			v = strings.Trim(strings.TrimSpace(strings.ReplaceAll(v, "aws-chunked", "")), ", ")
		}
		if v != "" {
			out[k] = v
		}
	}
	return out
}

func (c *call) newObject() (objectstore.NewObject, error) {
	h := c.r.Header
	n := objectstore.NewObject{Ref: c.ref(), Body: c.body, Size: c.size, ContentType: cmp.Or(h.Get("Content-Type"), "binary/octet-stream"), Meta: meta(h)}
	for _, name := range []string{"X-Amz-Server-Side-Encryption-Customer-Algorithm", "X-Amz-Object-Lock-Mode", "X-Amz-Website-Redirect-Location"} {
		if h.Get(name) != "" {
			return n, fault("NotImplemented")
		}
	}
	if m := h.Get("Content-Md5"); m != "" {
		sum, err := base64.StdEncoding.DecodeString(m)
		if err != nil || len(sum) != 16 {
			return n, fault("InvalidDigest")
		}
		n.Etag = hex.EncodeToString(sum)
	}
	n.If = func(old *objectstore.Object) error {
		switch {
		case h.Get("If-None-Match") == "*" && old != nil:
			return fault("PreconditionFailed")
		case h.Get("If-Match") != "" && old == nil:
			return fault("NoSuchKey")
		case h.Get("If-Match") != "" && strings.Trim(h.Get("If-Match"), `"`) != old.S3Etag():
			return fault("PreconditionFailed")
		}
		return nil
	}
	return n, nil
}

// put stores an object, and deletes the parts of an upload that it replaced.
func (c *call) put(n objectstore.NewObject) (objectstore.Object, error) {
	var replaced *objectstore.Object
	check := n.If
	n.If = func(old *objectstore.Object) error {
		replaced = old
		if check == nil {
			return nil
		}
		return check(old)
	}
	o, err := c.svc.Put(c.ctx, n)
	if err != nil {
		return o, err
	}
	if replaced != nil && o.Version == "" {
		c.dropParts(replaced.Meta()[uploadOf])
	}
	return o, nil
}

// dropParts deletes the parts of an upload whose object is gone. What fails is only
// room that is not given back.
func (c *call) dropParts(upload string) {
	if upload == "" {
		return
	}
	key, id, ok := strings.Cut(upload, "\n")
	if !ok {
		return
	}
	if err := c.deleteParts(context.WithoutCancel(c.ctx), key, id); err != nil {
		c.Log.WarnContext(c.ctx, "the parts of an upload were left behind", "bucket", c.bucket, "key", key, "error", err)
	}
}

func (c *call) putObject() error {
	if src := c.r.Header.Get("X-Amz-Copy-Source"); src != "" {
		return c.copyObject(src)
	}
	n, err := c.newObject()
	if err != nil {
		return err
	}
	if strings.HasSuffix(c.key, "/") && c.size == 0 && c.r.Header.Get("Content-Type") == "" {
		n.ContentType = "application/x-directory"
	}
	o, err := c.put(n)
	if err != nil {
		return c.keyError(err)
	}
	h := c.w.Header()
	h.Set("ETag", `"`+o.S3Etag()+`"`)
	c.version(o.Version)
	for name := range algorithms {
		if v := c.r.Header.Get("X-Amz-Checksum-" + name); v != "" {
			h.Set("X-Amz-Checksum-"+name, v)
		}
	}
	c.w.WriteHeader(http.StatusOK)
	return nil
}

func (c *call) version(v string) {
	if v != "" {
		c.w.Header().Set("X-Amz-Version-Id", v)
	}
}

func (c *call) deleteObject() error {
	d, err := c.remove(c.ref(), c.q.Get("versionId"))
	if err != nil && !errors.Is(err, nacre.NotFound) {
		return err
	}
	if err != nil {
		// Deleting what isn't there is success, if there is a bucket.
		if _, cerr := c.svc.Container(c.ctx, objectstore.Ref{Account: c.account, Container: c.bucket}); cerr != nil {
			return c.bucketError(cerr)
		}
	}
	c.version(d.Version)
	if d.Marker {
		c.w.Header().Set("X-Amz-Delete-Marker", "true")
	}
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}

// remove deletes an object or a version, with the parts that made it.
func (c *call) remove(r objectstore.Ref, version string) (objectstore.Deleted, error) {
	upload := ""
	o, err := c.svc.Get(c.ctx, r, objectstore.GetOptions{Version: version, Manifest: true, Link: true})
	if err == nil && (version != "" || o.Container.Versions == "") {
		upload = o.Meta()[uploadOf]
	}
	d, err := c.svc.Delete(c.ctx, r, objectstore.DeleteOptions{Version: version, Promote: true})
	if err == nil {
		c.dropParts(upload)
	}
	return d, err
}

// seeker reads an object as http.ServeContent wants it.
type seeker struct {
	ctx  context.Context
	o    *objectstore.Content
	off  int64
	body io.ReadCloser
	at   int64
}

func (s *seeker) Seek(off int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		off += s.off
	case io.SeekEnd:
		off += s.o.Length
	}
	s.off = off
	return off, nil
}

func (s *seeker) Read(p []byte) (int, error) {
	if s.body == nil || s.at != s.off {
		if err := s.close(); err != nil {
			return 0, err
		}
		body, err := s.o.Open(s.ctx, s.off, -1)
		if err != nil {
			return 0, err
		}
		s.body, s.at = body, s.off
	}
	n, err := s.body.Read(p)
	s.off, s.at = s.off+int64(n), s.at+int64(n)
	return n, err
}

func (s *seeker) close() error {
	if s.body == nil {
		return nil
	}
	err := s.body.Close()
	s.body = nil
	return err
}

func (c *call) getObject() error {
	var o *objectstore.Content
	var s *seeker
	for try := 0; ; try++ {
		var err error
		if o, err = c.svc.Get(c.ctx, c.ref(), objectstore.GetOptions{Version: c.q.Get("versionId")}); err != nil {
			return c.keyError(err)
		}
		s = &seeker{ctx: c.ctx, o: o}
		if c.r.Method == http.MethodHead || o.Length == 0 || c.r.Header.Get("Range") != "" {
			break
		}
		// What can't be read is known before the answer begins.
		s.body, err = o.Open(c.ctx, 0, -1)
		if err == nil {
			break
		}
		if !objectstore.Replaced(err) || try > 4 {
			return err
		}
	}
	defer s.close() //nolint:errcheck // read only
	h := c.w.Header()
	for k, v := range o.Meta() {
		if name, ok := strings.CutPrefix(k, "X-Object-Meta-"); ok {
			h.Set("X-Amz-Meta-"+name, v)
		} else if !strings.HasPrefix(k, "X-") {
			h.Set(k, v)
		}
	}
	h.Set("Content-Type", o.ContentType)
	h.Set("ETag", `"`+o.S3Etag()+`"`)
	if o.Composed && o.Kind == objectstore.KindDLO {
		h.Set("ETag", `"`+o.Tag+`-N"`)
	}
	if o.Container.Versions != "" {
		c.version(cmp.Or(o.Version, objectstore.NullVersion))
	}
	for param, name := range map[string]string{"response-content-type": "Content-Type", "response-content-language": "Content-Language", "response-expires": "Expires",
		"response-cache-control": "Cache-Control", "response-content-disposition": "Content-Disposition", "response-content-encoding": "Content-Encoding"} {
		if v := c.q.Get(param); v != "" {
			h.Set(name, v)
		}
	}
	at := o.Modified().Truncate(time.Second)
	w := &watched{ResponseWriter: c.w, c: c}
	http.ServeContent(w, c.r, "", at, s)
	return nil
}

// watched turns ServeContent's own errors into S3's.
type watched struct {
	http.ResponseWriter
	c      *call
	failed bool
}

func (w *watched) WriteHeader(code int) {
	if code == http.StatusRequestedRangeNotSatisfiable || code == http.StatusPreconditionFailed {
		w.failed = true
		for _, k := range []string{"Content-Length", "Content-Type", "ETag", "Last-Modified"} {
			w.Header().Del(k)
		}
		w.c.fail(fault(map[int]string{416: "InvalidRange", 412: "PreconditionFailed"}[code]))
		return
	}
	w.ResponseWriter.WriteHeader(code)
}

func (w *watched) Write(p []byte) (int, error) {
	if w.failed {
		return len(p), nil
	}
	return w.ResponseWriter.Write(p)
}

func (c *call) noTags() error {
	if _, err := c.svc.Get(c.ctx, c.ref(), objectstore.GetOptions{Manifest: true}); err != nil {
		return c.keyError(err)
	}
	return c.xml(http.StatusOK, struct {
		XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ Tagging"`
		TagSet  struct{}
	}{})
}

// source finds what X-Amz-Copy-Source names.
func (c *call) source(src string) (*objectstore.Content, error) {
	path, query, _ := strings.Cut(src, "?")
	path, err := url.PathUnescape(strings.TrimPrefix(path, "/"))
	if err != nil {
		return nil, fault("InvalidArgument")
	}
	q, err := url.ParseQuery(query)
	if err != nil {
		return nil, fault("InvalidArgument")
	}
	bucket, key, ok := strings.Cut(path, "/")
	if !ok || key == "" || strings.HasSuffix(bucket, segments) {
		return nil, fault("InvalidArgument")
	}
	o, err := c.svc.Get(c.ctx, objectstore.Ref{Account: c.account, Container: bucket, Object: key}, objectstore.GetOptions{Version: q.Get("versionId")})
	if err != nil {
		var e *nacre.Error
		if errors.As(err, &e) && e.Code == "DeleteMarker" {
			return nil, fault("InvalidRequest")
		}
		if errors.Is(err, nacre.NotFound) {
			if _, cerr := c.svc.Container(c.ctx, objectstore.Ref{Account: c.account, Container: bucket}); errors.Is(cerr, nacre.NotFound) {
				return nil, fault("NoSuchBucket")
			}
			return nil, fault("NoSuchKey")
		}
		return nil, err
	}
	h, at := c.r.Header, o.Modified().Truncate(time.Second)
	tag := func(name string) bool { return strings.Trim(h.Get(name), `"`) == o.S3Etag() }
	if h.Get("X-Amz-Copy-Source-If-Match") != "" && !tag("X-Amz-Copy-Source-If-Match") || h.Get("X-Amz-Copy-Source-If-None-Match") != "" && tag("X-Amz-Copy-Source-If-None-Match") {
		return nil, fault("PreconditionFailed")
	}
	if t, err := http.ParseTime(h.Get("X-Amz-Copy-Source-If-Modified-Since")); err == nil && !at.After(t) {
		return nil, fault("PreconditionFailed")
	}
	if t, err := http.ParseTime(h.Get("X-Amz-Copy-Source-If-Unmodified-Since")); err == nil && at.After(t) {
		return nil, fault("PreconditionFailed")
	}
	return o, nil
}

func (c *call) copyObject(src string) error {
	o, err := c.source(src)
	if err != nil {
		return err
	}
	n, err := c.newObject()
	if err != nil {
		return err
	}
	switch c.r.Header.Get("X-Amz-Metadata-Directive") {
	case "", "COPY":
		if o.Ref == n.Ref && o.Newest {
			return newFault("InvalidRequest", "This copy request is illegal because it is trying to copy an object to itself without changing the object's metadata, storage class, website redirect location or encryption attributes.")
		}
		n.Meta, n.ContentType = o.Meta(), o.ContentType
		maps.DeleteFunc(n.Meta, func(k, _ string) bool { return strings.HasPrefix(k, "X-Object-Sysmeta-") || k == "X-Object-Manifest" })
	case "REPLACE":
	default:
		return fault("InvalidArgument")
	}
	body, err := o.Open(c.ctx, 0, -1)
	if err != nil {
		return err
	}
	defer body.Close() //nolint:errcheck // read only
	n.Body, n.Size, n.Etag, n.If = body, o.Length, "", nil
	made, err := c.put(n)
	if err != nil {
		return c.keyError(err)
	}
	if o.Version != "" {
		c.w.Header().Set("X-Amz-Copy-Source-Version-Id", o.Version)
	}
	c.version(made.Version)
	return c.xml(http.StatusOK, struct {
		XMLName      xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ CopyObjectResult"`
		LastModified string
		ETag         string
	}{LastModified: stamp(made.At), ETag: `"` + made.S3Etag() + `"`})
}
