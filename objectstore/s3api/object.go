package s3api

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/objectstore"
)

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
	tags, err := headerTags(h)
	if err != nil {
		return n, err
	}
	if tags != "" {
		n.Meta[objectTags] = tags
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
		c.dropParts(replaced.Meta()[objectstore.UploadOf])
	}
	return o, nil
}

// dropParts deletes the parts of an upload whose object is gone. What fails is only
// room that is not given back.
func (c *call) dropParts(upload string) {
	if err := c.svc.DropUpload(context.WithoutCancel(c.ctx), c.account, c.bucket, upload); err != nil {
		c.Log.WarnContext(c.ctx, "the parts of an upload were left behind", "bucket", c.bucket, "upload", upload, "error", err)
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
		upload = o.Meta()[objectstore.UploadOf]
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
	if n := len(tagsOf(o.Meta()[objectTags])); n > 0 {
		h.Set("X-Amz-Tagging-Count", strconv.Itoa(n))
	}
	c.showExpiration(&o.Container, &o.Object)
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
	r, err := c.partNumber(o)
	if err != nil {
		for k := range h {
			if k != "X-Amz-Request-Id" && k != "X-Trans-Id" {
				h.Del(k)
			}
		}
		return err
	}
	at := o.Modified().Truncate(time.Second)
	w := &watched{ResponseWriter: c.w, c: c}
	http.ServeContent(w, r, "", at, s)
	return nil
}

// partNumber makes of a request for a part of an object one for a range.
func (c *call) partNumber(o *objectstore.Content) (*http.Request, error) {
	if !c.has("partNumber") {
		return c.r, nil
	}
	n, err := strconv.Atoi(c.q.Get("partNumber"))
	switch {
	case err != nil || n < 1 || n > maxParts:
		return nil, newFault("InvalidArgument", "Part number must be an integer between 1 and "+strconv.Itoa(maxParts)+", inclusive")
	case c.r.Header.Get("Range") != "":
		return nil, newFault("InvalidRequest", "Cannot specify both Range header and partNumber query parameter")
	}
	parts, err := c.svc.Parts(c.ctx, o)
	if err != nil {
		return nil, err
	}
	if parts == nil {
		parts = []int64{o.Length}
	} else {
		c.w.Header().Set("X-Amz-Mp-Parts-Count", strconv.Itoa(len(parts)))
	}
	if n > len(parts) {
		return nil, fault("InvalidPartNumber")
	}
	from := int64(0)
	for _, length := range parts[:n-1] {
		from += length
	}
	r := c.r.Clone(c.ctx)
	if o.Length > 0 {
		r.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", from, from+parts[n-1]-1))
	}
	return r, nil
}

// attributes answers GetObjectAttributes.
func (c *call) attributes() error {
	o, err := c.svc.Get(c.ctx, c.ref(), objectstore.GetOptions{Version: c.q.Get("versionId")})
	if err != nil {
		return c.keyError(err)
	}
	type partsXML struct{ PartsCount int }
	out := struct {
		XMLName      xml.Name  `xml:"http://s3.amazonaws.com/doc/2006-03-01/ GetObjectAttributesResponse"`
		ETag         string    `xml:"ETag,omitempty"`
		Parts        *partsXML `xml:"ObjectParts,omitempty"`
		StorageClass string    `xml:"StorageClass,omitempty"`
		Size         *int64    `xml:"ObjectSize,omitempty"`
	}{}
	wanted := strings.Join(c.r.Header.Values("X-Amz-Object-Attributes"), ",")
	if wanted == "" {
		return fault("InvalidArgument")
	}
	for name := range strings.SplitSeq(wanted, ",") {
		switch strings.TrimSpace(name) {
		case "ETag":
			out.ETag = o.S3Etag()
		case "ObjectSize":
			out.Size = &o.Length
		case "StorageClass":
			out.StorageClass = "STANDARD"
		case "ObjectParts":
			parts, err := c.svc.Parts(c.ctx, o)
			if err != nil {
				return err
			}
			if parts != nil {
				out.Parts = &partsXML{len(parts)}
			}
		case "Checksum": // none is kept
		default:
			return fault("InvalidArgument")
		}
	}
	c.version(o.Version)
	c.w.Header().Set("Last-Modified", o.Modified().UTC().Format(http.TimeFormat))
	return c.xml(http.StatusOK, out)
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
	given := n.Meta[objectTags]
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
	switch c.r.Header.Get("X-Amz-Tagging-Directive") {
	case "", "COPY":
		given = o.Meta()[objectTags]
	case "REPLACE":
	default:
		return fault("InvalidArgument")
	}
	if delete(n.Meta, objectTags); given != "" {
		n.Meta[objectTags] = given
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
