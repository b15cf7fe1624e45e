package api

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/internal/rest"
)

// incoming checks an upload's headers; size is -1 when it is not told.
func incoming(r *rest.Request) (size int64, err error) {
	ct, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if ct != "application/octet-stream" {
		return 0, nacre.Errorf(nacre.UnsupportedMedia, "", "The Content-Type must be application/octet-stream")
	}
	if told := r.Header.Get("X-Openstack-Image-Size"); told != "" {
		n, err := strconv.ParseInt(told, 10, 64)
		if err != nil || n < 0 {
			return 0, nacre.Errorf(nacre.Invalid, "", "Invalid or missing image size in request headers.")
		}
		return n, nil
	}
	if r.ContentLength == 0 {
		return -1, nil // in-process requests do not tell an unknown length from none
	}
	return r.ContentLength, nil
}

// failed words an upload that came to nothing: a body that ended early, and an
// image that was deleted meanwhile, which is 410 as nowhere else.
func failed(r *rest.Request, err error) error {
	var ne *nacre.Error
	switch {
	case !errors.As(err, &ne) && errors.Is(err, io.ErrUnexpectedEOF):
		return nacre.Errorf(nacre.Invalid, "", "The upload was cut off.")
	case ne != nil && ne.Code == "ImageGone":
		http.Error(r.W, ne.Message, http.StatusGone)
		return nil
	}
	return err
}

func (a *api) upload(r *rest.Request) error {
	size, err := incoming(r)
	if err != nil {
		return err
	}
	if _, err := a.s.UploadTo(r.Context(), r.Var("id"), r.Header.Get("X-Image-Meta-Store"), r.Body, size); err != nil {
		return failed(r, err)
	}
	r.W.WriteHeader(http.StatusNoContent)
	return nil
}

func (a *api) stage(r *rest.Request) error {
	size, err := incoming(r)
	if err != nil {
		return err
	}
	if err := a.s.Stage(r.Context(), r.Var("id"), r.Body, size); err != nil {
		return failed(r, err)
	}
	r.W.WriteHeader(http.StatusNoContent)
	return nil
}

func (a *api) download(r *rest.Request) error {
	var prefer []string
	for p := range strings.SplitSeq(r.URL.Query().Get("prefer"), ",") {
		if p = strings.TrimSpace(p); p != "" {
			prefer = append(prefer, p)
		}
	}
	im, body, ok, err := a.s.Open(r.Context(), r.Var("id"), prefer...)
	if err != nil {
		return err
	}
	if !ok {
		r.W.WriteHeader(http.StatusNoContent)
		return nil
	}
	defer body.Close() //nolint:errcheck // read only
	h := r.W.Header()
	h.Set("Content-Type", "application/octet-stream")
	if im.Checksum != "" {
		h.Set("Content-Md5", im.Checksum)
	}
	if im.HashValue != "" {
		// An image's bytes never change; so its hash stands for them.
		h.Set("Etag", `"`+im.HashValue[:min(len(im.HashValue), 64)]+`"`)
	}
	if body.Store != "" {
		h.Set("X-Openstack-Image-Store-Ids", body.Store)
	}
	if cr, ok := strings.CutPrefix(r.Header.Get("Content-Range"), "bytes "); ok && r.Header.Get("Range") == "" {
		// Glance still reads this of clients that put a range into the wrong header.
		span, _, _ := strings.Cut(cr, "/")
		r.Header.Set("Range", "bytes="+span)
	}
	seeker, can := body.ReadCloser.(io.ReadSeeker)
	if !can && body.Size >= 0 {
		seeker, can = &forward{r: body, size: body.Size}, true
	}
	if can {
		http.ServeContent(r.W, r.Request, "", im.Updated, seeker)
		return nil
	}
	r.W.WriteHeader(http.StatusOK)
	_, err = io.Copy(r.W, body)
	return err
}

// forward lets a stream of known size be served by ranges: it seeks by reading on.
type forward struct {
	r        io.Reader
	size     int64
	at, want int64
}

func (f *forward) Seek(off int64, whence int) (int64, error) {
	switch whence {
	case io.SeekEnd:
		off += f.size
	case io.SeekCurrent:
		off += f.want
	}
	f.want = off
	return off, nil
}

func (f *forward) Read(p []byte) (int, error) {
	if f.want < f.at {
		return 0, errors.New("image: the stream has passed that place")
	}
	if f.want > f.at {
		n, err := io.CopyN(io.Discard, f.r, f.want-f.at)
		if f.at += n; err != nil {
			return 0, err
		}
	}
	n, err := f.r.Read(p)
	f.at += int64(n)
	f.want = f.at
	return n, err
}
