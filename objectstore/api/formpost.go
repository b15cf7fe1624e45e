package api

import (
	"errors"
	"fmt"
	"html"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/objectstore"
)

// formFault is a form that can't be taken.
type formFault struct {
	status int
	text   string
}

func (f *formFault) Error() string { return f.text }

// maxField bounds a field of a form that is no file.
const maxField = 4096

// form makes objects of the files in a browser's form, by the signature in it.
func (c *call) form() {
	if c.ref.Container == "" {
		c.plain(http.StatusMethodNotAllowed)
		return
	}
	fields := map[string]string{}
	status, text, err := c.formFiles(fields)
	var fault *formFault
	switch {
	case errors.As(err, &fault):
		c.text(fault.status, "FormPost: "+fault.text)
		return
	case err != nil && status == 0:
		c.failPut(err)
		return
	}
	redirect := fields["redirect"]
	if redirect == "" {
		body := statusLine(status)
		if text != "" {
			body += "\r\nFormPost: " + text
		}
		c.body(status, "text/plain", body)
		return
	}
	sep := "?"
	if strings.Contains(redirect, "?") {
		sep = "&"
	}
	redirect += fmt.Sprintf("%sstatus=%d&message=%s", sep, status, url.QueryEscape(text))
	c.w.Header().Set("Location", redirect)
	c.body(http.StatusSeeOther, "text/html; charset=UTF-8", fmt.Sprintf("<html><body><p><a href=\"%s\">Click to continue...</a></p></body></html>", html.EscapeString(redirect)))
}

// formFiles stores the form's files, as long as they may be stored.
func (c *call) formFiles(fields map[string]string) (status int, text string, err error) {
	_, params, err := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	if err != nil || params["boundary"] == "" {
		return 0, "", &formFault{http.StatusBadRequest, "invalid starting boundary"}
	}
	parts := multipart.NewReader(c.r.Body, params["boundary"])
	files := 0
	for {
		p, err := parts.NextRawPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return 0, "", &formFault{http.StatusBadRequest, "invalid starting boundary"}
		}
		_, disp, _ := mime.ParseMediaType(p.Header.Get("Content-Disposition"))
		name, isFile := disp["filename"]
		if !isFile || name == "" {
			if isFile {
				continue // a file field that was left empty
			}
			v, err := io.ReadAll(io.LimitReader(p, maxField))
			if err != nil {
				return 0, "", err
			}
			fields[strings.ToLower(disp["name"])] = strings.TrimRight(string(v), "\r\n-")
			continue
		}
		files++
		most, err := number(fields, "max_file_count")
		if err != nil {
			return 0, "", err
		}
		if int64(files) > most {
			return http.StatusBadRequest, "Max File Count Exceeded", nil
		}
		if err := c.formFile(fields, name, p); err != nil {
			var fault *formFault
			if errors.As(err, &fault) || c.r.Context().Err() != nil {
				return 0, "", err
			}
			status, text = statusOf(err)
			return status, text, nil
		}
	}
	if files == 0 {
		return http.StatusBadRequest, "No Files To Process", nil
	}
	return http.StatusCreated, "", nil
}

func number(fields map[string]string, name string) (int64, error) {
	v := fields[name]
	if v == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		return 0, &formFault{http.StatusBadRequest, name + " not an integer"}
	}
	return n, nil
}

func (c *call) formFile(fields map[string]string, name string, p *multipart.Part) error {
	size, err := number(fields, "max_file_size")
	if err != nil {
		return err
	}
	expires, err := number(fields, "expires")
	if err != nil {
		return err
	}
	if expires < c.svc.Now().Unix() {
		return &formFault{http.StatusUnauthorized, "Form Expired"}
	}
	algorithm, sum, ok := digestOf(fields["signature"])
	var signed *objectstore.Signed
	if ok {
		var texts []string
		for _, base := range c.bases() {
			texts = append(texts, fmt.Sprintf("%s%s\n%s\n%s\n%s\n%s", base, c.path, fields["redirect"], orZero(fields["max_file_size"]), orZero(fields["max_file_count"]), orZero(fields["expires"])))
		}
		if signed, err = c.svc.Verify(c.ctx, c.ref, algorithm, sum, texts...); err != nil {
			return err
		}
	}
	if signed == nil {
		return &formFault{http.StatusUnauthorized, "Invalid Signature"}
	}
	h := http.Header{}
	for field, header := range map[string]string{"x_delete_at": "X-Delete-At", "x_delete_after": "X-Delete-After"} {
		if v := fields[field]; v != "" {
			if _, err := number(fields, field); err != nil {
				return err
			}
			h.Set(header, v)
		}
	}
	typ := fields["content-type"]
	if typ == "" {
		typ = p.Header.Get("Content-Type")
	}
	if typ == "" {
		typ = "application/octet-stream"
	}
	encoding := fields["content-encoding"]
	if encoding == "" {
		encoding = p.Header.Get("Content-Encoding")
	}
	// The form is for what begins as its address does, and for nothing else.
	r := c.ref
	r.Object += name
	n := objectstore.NewObject{Ref: r, Body: &capped{p, size}, Size: -1, ContentType: typ, Meta: map[string]string{}}
	if encoding != "" {
		n.Meta["Content-Encoding"] = encoding
	}
	if n.Expires, err = c.expiry(h); err != nil {
		return err
	}
	_, err = c.svc.Put(objectstore.WithAccess(c.ctx, objectstore.Access{Signed: signed}), n)
	if errors.Is(err, errFormSize) {
		return &formFault{http.StatusBadRequest, "max_file_size exceeded"}
	}
	return err
}

func orZero(s string) string {
	if s == "" {
		return "0"
	}
	return s
}

var errFormSize = nacre.Errorf(nacre.TooLarge, "FormSize", "max_file_size exceeded")

// capped fails behind so many bytes.
type capped struct {
	r    io.Reader
	left int64
}

func (l *capped) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	if l.left -= int64(n); l.left < 0 {
		return n, errFormSize
	}
	return n, err
}
