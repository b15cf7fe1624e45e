package api

import (
	"cmp"
	"errors"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/objectstore"
)

// kept are the headers that are kept with an object beside X-Object-Meta-….
var kept = []string{"Content-Encoding", "Content-Disposition", "Content-Language", "Cache-Control", "Expires", "X-Robots-Tag", "X-Object-Manifest"}

func invalid(format string, args ...any) error {
	return nacre.Errorf(nacre.Invalid, "", format, args...)
}

func precondition(format string, args ...any) error {
	return nacre.Errorf(nacre.Precondition, "", format, args...)
}

func unescape(s string) string {
	if u, err := url.PathUnescape(s); err == nil {
		return u
	}
	return s
}

// objectMeta are the request's headers that are to be kept.
func objectMeta(h http.Header) map[string]string {
	out := map[string]string{}
	for name, vs := range h {
		if strings.HasPrefix(name, "X-Object-Meta-") {
			out[name] = strings.TrimSpace(vs[0])
		}
	}
	for _, name := range kept {
		if v := h.Get(name); v != "" {
			out[name] = v
		}
	}
	return out
}

// expiry reads X-Delete-After and X-Delete-At.
func (c *call) expiry(h http.Header) (time.Time, error) {
	if v := h.Get("X-Delete-After"); v != "" {
		n, err := strconv.ParseInt(v, 10, 64)
		switch {
		case err != nil:
			return time.Time{}, invalid("Non-integer X-Delete-After")
		case n <= 0:
			return time.Time{}, invalid("X-Delete-After in past")
		}
		return c.svc.Now().Add(time.Duration(min(n, 1<<32)) * time.Second).Truncate(time.Second), nil
	}
	v := h.Get("X-Delete-At")
	if v == "" {
		return time.Time{}, nil
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		return time.Time{}, invalid("Non-integer X-Delete-At")
	}
	at := time.Unix(min(n, 9999999999), 0).UTC()
	if !at.After(c.svc.Now()) {
		return at, invalid("X-Delete-At in past")
	}
	return at, nil
}

// contentType is what the request says, or what the name tells.
func contentType(h http.Header, name string) string {
	if t := h.Get("Content-Type"); t != "" && !isTrue(h.Get("X-Detect-Content-Type")) {
		return t
	}
	if t := mime.TypeByExtension(path.Ext(name)); t != "" {
		t, _, _ = strings.Cut(t, ";")
		return t
	}
	return "application/octet-stream"
}

// length is the body's size, -1 when it is chunked.
func (c *call) length() (int64, error) {
	if c.r.ContentLength != 0 || c.r.Header.Get("Content-Length") != "" || len(c.r.TransferEncoding) > 0 {
		return c.r.ContentLength, nil
	}
	if c.r.Context().Value(http.ServerContextKey) != nil {
		return 0, nacre.Errorf(nacre.Invalid, "LengthRequired", "Missing Content-Length header.")
	}
	return 0, nil
}

// newObject is what a PUT's headers say.
func (c *call) newObject() (objectstore.NewObject, error) {
	h := c.r.Header
	n := objectstore.NewObject{Ref: c.ref, Body: c.r.Body, Etag: strings.Trim(h.Get("Etag"), `"`), ContentType: contentType(h, c.ref.Object), Meta: objectMeta(h)}
	var err error
	if n.Expires, err = c.expiry(h); err != nil {
		return n, err
	}
	if m := h.Get("X-Object-Manifest"); m != "" {
		m = strings.TrimLeft(unescape(m), "/")
		container, prefix, ok := strings.Cut(m, "/")
		if !ok || container == "" || prefix == "" || strings.ContainsAny(m, "?&") {
			return n, invalid("X-Object-Manifest must be in the format container/prefix")
		}
		n.Kind, n.Target = objectstore.KindDLO, m
	}
	if v := h.Get("If-None-Match"); v != "" {
		if v != "*" {
			return n, invalid("If-None-Match only supports *")
		}
		n.If = func(old *objectstore.Object) error {
			if old != nil {
				return precondition("")
			}
			return nil
		}
	}
	return n, nil
}

// link makes a symlink of n when the request says so.
func (c *call) link(n *objectstore.NewObject) error {
	h := c.r.Header
	target := h.Get("X-Symlink-Target")
	if target == "" {
		if h.Get("X-Symlink-Target-Etag") != "" || h.Get("X-Symlink-Target-Account") != "" {
			return invalid("X-Symlink-Target header is required with X-Symlink-Target-Etag")
		}
		return nil
	}
	if n.Size != 0 {
		return invalid("Symlink requests require a zero byte body")
	}
	container, object, ok := strings.Cut(strings.TrimLeft(unescape(target), "/"), "/")
	if !ok {
		return precondition("X-Symlink-Target header must be of the form <container name>/<object name>")
	}
	account := c.ref.Account
	if a := h.Get("X-Symlink-Target-Account"); a != "" {
		account = unescape(a)
	}
	if h.Get("Content-Type") == "" {
		n.ContentType = "application/symlink"
	}
	return c.svc.NewLink(c.ctx, n, objectstore.Ref{Account: account, Container: container, Object: object}, strings.Trim(h.Get("X-Symlink-Target-Etag"), `"`))
}

func (c *call) putObject() {
	if c.r.Header.Get("X-Copy-From") != "" {
		c.copyHere()
		return
	}
	if v := c.param("version-id"); v != "" {
		o, err := c.svc.Restore(c.ctx, c.ref, v)
		if err != nil {
			c.fail(err)
			return
		}
		c.created(o)
		return
	}
	n, err := c.newObject()
	if err == nil {
		n.Size, err = c.length()
	}
	if err == nil {
		err = c.link(&n)
	}
	if err == nil && c.param("multipart-manifest") == "put" {
		err = c.readManifest(&n)
	}
	if err != nil {
		c.failPut(err)
		return
	}
	if n.Kind == objectstore.KindSLO && isTrue(c.param("heartbeat")) {
		c.putSlowly(n)
		return
	}
	o, err := c.svc.Put(c.ctx, n)
	if err != nil {
		c.failPut(err)
		return
	}
	c.created(o)
}

func (c *call) failPut(err error) {
	var e *nacre.Error
	if errors.As(err, &e) && e.Code == "LengthRequired" {
		c.plain(http.StatusLengthRequired)
		return
	}
	var cut *http.MaxBytesError
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &cut) {
		c.text(499, "Client disconnected")
		return
	}
	c.fail(err)
}

func (c *call) created(o objectstore.Object) {
	h := c.w.Header()
	h.Set("Last-Modified", modified(o.At))
	tag := o.Etag
	if o.Kind == objectstore.KindSLO {
		tag = `"` + o.SLOEtag() + `"`
	}
	h.Set("Etag", tag)
	if o.Version != "" {
		h.Set("X-Object-Version-Id", o.Version)
	}
	c.quote()
	c.plain(http.StatusCreated)
}

// objectHeaders shows an object's headers.
func (c *call) objectHeaders(o *objectstore.Content) {
	h := c.w.Header()
	for k, v := range o.Meta() {
		if !strings.HasPrefix(k, "X-Object-Sysmeta-") {
			h.Set(k, v)
		}
	}
	h.Set("Content-Type", o.ContentType)
	h.Set("Last-Modified", modified(o.Modified()))
	h.Set("X-Timestamp", objectstore.Timestamp(o.Modified()))
	h.Set("Accept-Ranges", "bytes")
	tag := o.Tag
	if o.Composed {
		tag = `"` + tag + `"`
	}
	h.Set("Etag", tag)
	if !o.Expires.IsZero() {
		h.Set("X-Delete-At", strconv.FormatInt(o.Expires.Unix(), 10))
	}
	if o.Kind == objectstore.KindSLO {
		h.Set("X-Static-Large-Object", "True")
		h.Set("X-Manifest-Etag", o.Etag)
	}
	if o.Version != "" || o.Container.Versions != "" {
		h.Set("X-Object-Version-Id", cmp.Or(o.Version, objectstore.NullVersion))
	}
	if o.Kind == objectstore.KindSymlink {
		account, rest, _ := strings.Cut(o.Target, "/")
		h.Set("X-Symlink-Target", escapePath(rest))
		if account != c.ref.Account {
			h.Set("X-Symlink-Target-Account", account)
		}
		if t := o.Meta()["X-Object-Sysmeta-Symlink-Target-Etag"]; t != "" {
			h.Set("X-Symlink-Target-Etag", t)
			h.Set("X-Symlink-Target-Bytes", strconv.FormatInt(o.Bytes, 10))
		}
	}
	c.quote()
	if len(o.Via) > 0 {
		h.Set("Content-Location", "/v1/"+escapePath(o.Ref.String()))
	}
}

func (c *call) getObject() {
	o := objectstore.GetOptions{Version: c.param("version-id"), Link: c.param("symlink") == "get", Manifest: c.param("multipart-manifest") == "get"}
	for try := 0; ; try++ {
		content, err := c.svc.Get(c.ctx, c.ref, o)
		if err != nil {
			c.failGet(err)
			return
		}
		if again := c.show(content, o.Manifest) && try < 5; !again {
			return
		}
	}
}

func (c *call) failGet(err error) {
	var e *nacre.Error
	if errors.As(err, &e) && e.Code == "DeleteMarker" {
		c.w.Header().Set("X-Object-Version-Id", c.param("version-id"))
		c.w.Header().Set("Content-Type", "application/x-deleted;swift_versions_deleted=1")
	}
	c.fail(err)
}

// show answers with an object; again says that it was replaced before a byte was
// sent.
func (c *call) show(o *objectstore.Content, manifest bool) (again bool) {
	c.objectHeaders(o)
	h := c.w.Header()
	if manifest && o.Kind == objectstore.KindSLO {
		h.Set("Content-Type", "application/json; charset=utf-8")
		if c.param("format") == "raw" {
			body, err := c.svc.RawManifest(c.ctx, o)
			if err != nil {
				c.fail(err)
				return false
			}
			c.body(http.StatusOK, "application/json; charset=utf-8", string(body))
			return false
		}
	}
	if c.signed != nil {
		c.signed.headers(c)
	}
	if status := conditional(c.r.Header, o); status != 0 {
		if status == http.StatusNotModified {
			h.Del("Content-Type")
			c.w.WriteHeader(status)
			return false
		}
		for k := range o.Meta() {
			h.Del(k)
		}
		c.plain(status)
		return false
	}
	return c.send(o)
}

func (c *call) postObject() {
	h := c.r.Header
	expires, err := c.expiry(h)
	if err != nil {
		c.fail(err)
		return
	}
	target := ""
	_, err = c.svc.PostObject(c.ctx, c.ref, objectstore.ObjectChange{Meta: objectMeta(h), ContentType: h.Get("Content-Type"), Expires: expires, If: func(old *objectstore.Object) error {
		if old.Kind == objectstore.KindSymlink {
			target = old.Target
		}
		return nil
	}})
	switch {
	case err != nil:
		c.fail(err)
	case target != "":
		// The link has it now; the target, which was meant, may get it, too.
		c.w.Header().Set("Location", c.base+"/v1/"+escapePath(target))
		c.text(http.StatusTemporaryRedirect, "The requested POST was applied to a symlink. POST directly to the target to apply requested metadata.")
	default:
		c.plain(http.StatusAccepted)
	}
}

func (c *call) deleteObject() {
	if c.param("multipart-manifest") == "delete" {
		c.deleteManifest()
		return
	}
	d, err := c.svc.Delete(c.ctx, c.ref, objectstore.DeleteOptions{Version: c.param("version-id")})
	if err != nil {
		c.fail(err)
		return
	}
	if d.Version != "" {
		c.w.Header().Set("X-Object-Version-Id", d.Version)
	}
	if d.Current != "" {
		c.w.Header().Set("X-Object-Current-Version-Id", d.Current)
	}
	c.plain(http.StatusNoContent)
}

// copyObject is COPY.
func (c *call) copyObject() {
	d := c.r.Header.Get("Destination")
	container, object, ok := strings.Cut(strings.TrimLeft(unescape(d), "/"), "/")
	switch {
	case d == "":
		c.fail(precondition("Destination header required"))
		return
	case !ok || container == "" || object == "":
		c.fail(precondition("Destination header must be of the form <container name>/<object name>"))
		return
	}
	to := objectstore.Ref{Account: c.ref.Account, Container: container, Object: object}
	if a := c.r.Header.Get("Destination-Account"); a != "" {
		to.Account = unescape(a)
	}
	c.copy(c.ref, to)
}

// copyHere is PUT with X-Copy-From.
func (c *call) copyHere() {
	container, object, ok := strings.Cut(strings.TrimLeft(unescape(c.r.Header.Get("X-Copy-From")), "/"), "/")
	switch {
	case !ok || container == "" || object == "":
		c.fail(precondition("X-Copy-From header must be of the form <container name>/<object name>"))
		return
	case c.r.ContentLength > 0:
		c.fail(invalid("Copy requests require a zero byte body"))
		return
	}
	from := objectstore.Ref{Account: c.ref.Account, Container: container, Object: object}
	if a := c.r.Header.Get("X-Copy-From-Account"); a != "" {
		from.Account = unescape(a)
	}
	c.copy(from, c.ref)
}

func (c *call) copy(from, to objectstore.Ref) {
	h := c.r.Header
	manifest := c.param("multipart-manifest") == "get"
	src, body, err := c.svc.Read(c.ctx, from, objectstore.GetOptions{Version: c.param("version-id"), Link: c.param("symlink") == "get", Manifest: manifest})
	if err != nil {
		c.failGet(err)
		return
	}
	defer body.Close() //nolint:errcheck // read only
	if status := conditional(h, src); status != 0 {
		c.plain(status)
		return
	}
	c.ref = to
	n, err := c.newObject()
	if err != nil {
		c.fail(err)
		return
	}
	n.Body, n.Size = body, src.Length
	if h.Get("Content-Type") == "" {
		n.ContentType = src.ContentType
	}
	if !isTrue(h.Get("X-Fresh-Metadata")) {
		meta := src.Meta()
		delete(meta, "X-Object-Manifest")
		maps.DeleteFunc(meta, func(k, _ string) bool { return strings.HasPrefix(k, "X-Object-Sysmeta-") })
		maps.Copy(meta, n.Meta)
		n.Meta = meta
		if h.Get("X-Delete-At") == "" && h.Get("X-Delete-After") == "" {
			n.Expires = src.Expires
		}
	}
	switch {
	case src.Kind == objectstore.KindSymlink:
		n.Kind, n.Target, n.Body, n.Size = src.Kind, src.Target, nil, 0
	case manifest && src.Kind == objectstore.KindDLO && n.Target == "":
		n.Kind, n.Target = src.Kind, src.Target
		n.Meta["X-Object-Manifest"] = src.Meta()["X-Object-Manifest"]
	case manifest && src.Kind == objectstore.KindSLO:
		raw, err := c.svc.RawManifest(c.ctx, src)
		if err == nil {
			err = c.parseManifest(&n, raw)
		}
		if err != nil {
			c.fail(err)
			return
		}
	}
	o, err := c.svc.Put(c.ctx, n)
	if err != nil {
		c.failPut(err)
		return
	}
	out := c.w.Header()
	out.Set("X-Copied-From-Account", escapePath(from.Account))
	out.Set("X-Copied-From", escapePath(from.Container+"/"+from.Object))
	out.Set("X-Copied-From-Last-Modified", modified(src.Modified()))
	if v := src.Version; v != "" {
		out.Set("X-Copied-From-Version-Id", v)
	}
	for k, v := range n.Meta {
		out.Set(k, v)
	}
	c.created(o)
}
