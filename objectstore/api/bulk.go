package api

import (
	"archive/tar"
	"bufio"
	"compress/bzip2"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/objectstore"
)

// bulk is the answer of an operation on many objects: always 200, with what became
// of it in the body.
type bulk struct {
	names  []string
	counts map[string]int
	errors [][2]string
	status int
	body   string
	worst  int
}

func newBulk(names ...string) *bulk {
	return &bulk{names: names, counts: map[string]int{}, worst: http.StatusBadRequest}
}

func (b *bulk) add(r objectstore.Ref, status int) {
	switch {
	case status/100 == 2:
		b.counts[b.names[0]]++
	case status == http.StatusNotFound && len(b.names) > 1:
		b.counts[b.names[1]]++
	default:
		name := r.Container
		if r.Object != "" {
			name += "/" + r.Object
		}
		b.fault(name, status)
	}
}

func (b *bulk) fault(name string, status int) {
	if status >= 500 {
		b.worst = http.StatusBadGateway
	}
	b.errors = append(b.errors, [2]string{escapePath(name), statusLine(status)})
}

func statusLine(status int) string { return fmt.Sprintf("%d %s", status, reason(status)) }

// maxFaults is how many failures end a bulk operation.
const maxFaults = 1000

// bulkSlowly does the work of a bulk operation and answers.
func (c *call) bulkSlowly(b *bulk, work func()) {
	f, err := c.format()
	if err != nil {
		c.fail(err)
		return
	}
	c.slowly(http.StatusOK, f, false, func() string {
		work()
		return b.text(f)
	})
}

func (c *call) bulkAnswer(b *bulk) {
	f, err := c.format()
	if err != nil {
		c.fail(err)
		return
	}
	c.body(http.StatusOK, f, b.text(f))
}

// text is the answer, in a format.
func (b *bulk) text(f string) string {
	switch {
	case b.status != 0:
	case len(b.errors) > 0:
		b.status = b.worst
	default:
		b.status = http.StatusOK
		if len(b.names) == 1 {
			b.status = http.StatusCreated
		}
		n := 0
		for _, v := range b.counts {
			n += v
		}
		if n == 0 {
			b.status, b.body = http.StatusBadRequest, "Invalid Tar File: No Valid Files"
			if len(b.names) > 1 {
				b.body = "Invalid bulk delete."
			}
		}
	}
	var text strings.Builder
	switch f {
	case "application/json":
		doc := map[string]any{"Response Status": statusLine(b.status), "Response Body": b.body, "Errors": append([][2]string{}, b.errors...)}
		for _, n := range b.names {
			doc[n] = b.counts[n]
		}
		out, _ := json.Marshal(doc) // strings and numbers always can be
		text.Write(out)
	case "application/xml", "text/xml":
		root := "delete"
		if len(b.names) == 1 {
			root = "extract"
		}
		text.WriteString("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<" + root + ">\n")
		for _, n := range b.names {
			tag := strings.ReplaceAll(strings.ToLower(n), " ", "_")
			fmt.Fprintf(&text, "<%s>%d</%s>\n", tag, b.counts[n], tag)
		}
		fmt.Fprintf(&text, "<response_body>%s</response_body>\n<response_status>%s</response_status>\n<errors>\n", escapeXML(b.body), statusLine(b.status))
		for _, e := range b.errors {
			fmt.Fprintf(&text, "<object><name>%s</name><status>%s</status></object>\n", escapeXML(e[0]), e[1])
		}
		text.WriteString("</errors>\n</" + root + ">\n")
	default:
		for _, n := range b.names {
			fmt.Fprintf(&text, "%s: %d\n", n, b.counts[n])
		}
		fmt.Fprintf(&text, "Response Body: %s\nResponse Status: %s\nErrors:\n", b.body, statusLine(b.status))
		for _, e := range b.errors {
			text.WriteString(e[0] + ", " + e[1] + "\n")
		}
	}
	return text.String()
}

// bulkDelete deletes the objects, and after them the containers, that the body
// names one a line.
func (c *call) bulkDelete() {
	res := newBulk("Number Deleted", "Number Not Found")
	if t := c.r.Header.Get("Content-Type"); t != "" && !strings.HasPrefix(t, "text/plain") {
		res.status = http.StatusNotAcceptable
		c.bulkAnswer(res)
		return
	}
	objects, containers, err := c.toDelete(res)
	if err != nil {
		c.failPut(err)
		return
	}
	c.bulkSlowly(res, func() {
		if res.status == 0 {
			c.deleteAll(res, objects, containers)
		}
	})
}

func (c *call) toDelete(res *bulk) (objects, containers []objectstore.Ref, err error) {
	if _, err := c.length(); err != nil {
		return nil, nil, err
	}
	most := c.svc.Limits().BulkDeletes
	lines := bufio.NewScanner(c.r.Body)
	lines.Buffer(nil, 3*2*1300)
	n := int64(0)
	for lines.Scan() {
		name := strings.TrimSpace(lines.Text())
		if name == "" {
			continue
		}
		if n++; n > most {
			res.status, res.body = http.StatusRequestEntityTooLarge, fmt.Sprintf("Maximum Bulk Deletes: %d per request", most)
			return nil, nil, nil
		}
		name = strings.TrimLeft(unescape(name), "/")
		if !utf8.ValidString(name) || strings.Contains(name, "\x00") {
			res.fault(name, http.StatusPreconditionFailed)
			continue
		}
		r := objectstore.Ref{Account: c.ref.Account}
		if r.Container, r.Object, _ = strings.Cut(name, "/"); strings.Trim(r.Object, "/") == "" {
			r.Object = ""
			containers = append(containers, r)
		} else {
			objects = append(objects, r)
		}
	}
	if errors.Is(lines.Err(), bufio.ErrTooLong) {
		res.status, res.body = http.StatusBadRequest, "Invalid File Name"
		return nil, nil, nil
	}
	return objects, containers, lines.Err()
}

// extract makes objects of the files in an archive.
func (c *call) extract() {
	res := newBulk("Number Files Created")
	if _, err := c.length(); err != nil {
		c.failPut(err)
		return
	}
	var in io.Reader = c.r.Body
	var err error
	switch strings.Trim(strings.ToLower(c.param("extract-archive")), ".") {
	case "tar":
	case "tar.gz":
		in, err = gzip.NewReader(in)
	case "tar.bz2":
		in = bzip2.NewReader(in)
	default:
		c.text(http.StatusBadRequest, "Unsupported archive format")
		return
	}
	if err == nil {
		err = c.extractFrom(tar.NewReader(in), res)
	}
	switch {
	case err == nil || errors.Is(err, io.EOF):
	case errors.Is(err, errStop):
	case nacre.KindOf(err) == nacre.Internal:
		res.status, res.body = http.StatusBadRequest, "Invalid Tar File: "+err.Error()
	default:
		c.fail(err)
		return
	}
	c.bulkAnswer(res)
}

var errStop = errors.New("enough")

func (c *call) extractFrom(t *tar.Reader, res *bulk) error {
	base := strings.Trim(strings.TrimPrefix(c.ref.String(), c.ref.Account), "/")
	meta := objectMeta(c.r.Header)
	expires, err := c.expiry(c.r.Header)
	if err != nil {
		return err
	}
	seen, made := map[string]bool{}, int64(0)
	for len(res.errors) < maxFaults {
		f, err := t.Next()
		if err != nil {
			return err
		}
		if f.Typeflag != tar.TypeReg {
			continue
		}
		name := strings.TrimLeft(strings.TrimPrefix(f.Name, "./"), "/")
		if base != "" {
			name = base + "/" + name
		}
		r := objectstore.Ref{Account: c.ref.Account}
		if r.Container, r.Object, _ = strings.Cut(name, "/"); r.Object == "" {
			continue // a file that lies in no container
		}
		if !utf8.ValidString(name) || strings.Contains(name, "\x00") {
			res.fault(name, http.StatusPreconditionFailed)
			continue
		}
		if !seen[r.Container] {
			seen[r.Container] = true
			_, err := c.svc.Container(c.ctx, r)
			if errors.Is(err, nacre.NotFound) {
				if made++; made > c.svc.Limits().BulkContainers {
					res.status, res.body = http.StatusBadRequest, fmt.Sprintf("More than %d containers to create from tar.", c.svc.Limits().BulkContainers)
					return errStop
				}
				_, err = c.svc.PutContainer(c.ctx, r, objectstore.ContainerChange{})
			}
			if errors.Is(err, nacre.Unauthenticated) {
				return err
			}
			if err != nil && !errors.Is(err, nacre.Forbidden) {
				status, _ := statusOf(err)
				res.fault(r.Container, status)
				continue
			}
		}
		n := objectstore.NewObject{Ref: r, Body: t, Size: f.Size, ContentType: contentType(http.Header{}, r.Object), Meta: map[string]string{}, Expires: expires}
		for k, v := range meta {
			n.Meta[k] = v
		}
		for k, v := range f.PAXRecords {
			if key, ok := strings.CutPrefix(k, "SCHILY.xattr.user.meta."); ok {
				n.Meta[http.CanonicalHeaderKey("X-Object-Meta-"+key)] = v
			} else if k == "SCHILY.xattr.user.mime_type" {
				n.ContentType = v
			}
		}
		if _, err := c.svc.Put(c.ctx, n); err != nil {
			if errors.Is(err, nacre.Unauthenticated) || c.ctx.Err() != nil {
				return err
			}
			status, _ := statusOf(err)
			res.fault(name, status)
			continue
		}
		res.counts[res.names[0]]++
	}
	return nil
}
