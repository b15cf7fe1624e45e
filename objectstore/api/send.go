package api

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nacre-cloud/nacre/objectstore"
)

// conditional looks at If-Match and its kin: 0, 304 or 412.
func conditional(h http.Header, o *objectstore.Content) int {
	matches := func(header string) bool {
		for tag := range strings.SplitSeq(header, ",") {
			tag = strings.Trim(strings.TrimPrefix(strings.TrimSpace(tag), "W/"), `"`)
			if tag == "*" || tag == o.Tag {
				return true
			}
		}
		return false
	}
	at := o.Modified().Truncate(time.Second)
	if m := h.Get("If-Match"); m != "" && !matches(m) {
		return http.StatusPreconditionFailed
	}
	if m := h.Get("If-None-Match"); m != "" {
		if matches(m) {
			return http.StatusNotModified
		}
	} else if t, err := http.ParseTime(h.Get("If-Modified-Since")); err == nil && !at.After(t) {
		return http.StatusNotModified
	}
	if t, err := http.ParseTime(h.Get("If-Unmodified-Since")); err == nil && h.Get("If-Match") == "" && at.After(t) {
		return http.StatusPreconditionFailed
	}
	return 0
}

// span is a range of bytes, [from, to).
type span struct{ from, to int64 }

// maxRanges bounds the ranges of one request.
const maxRanges = 50

// ranges reads a Range header for size bytes. ok is false when none of them can be
// served; none means all of it.
func ranges(header string, size int64) (out []span, ok bool) {
	list, found := strings.CutPrefix(strings.ToLower(strings.TrimSpace(header)), "bytes=")
	if !found {
		return nil, true
	}
	any := false
	for part := range strings.SplitSeq(list, ",") {
		a, b, dash := strings.Cut(strings.TrimSpace(part), "-")
		if !dash || a == "" && b == "" {
			return nil, true
		}
		first, err1 := strconv.ParseInt(a, 10, 64)
		last, err2 := strconv.ParseInt(b, 10, 64)
		if a != "" && err1 != nil || b != "" && err2 != nil || a != "" && b != "" && last < first {
			return nil, true // no range at all
		}
		any = true
		switch {
		case a == "":
			if last > 0 && size > 0 {
				out = append(out, span{max(0, size-last), size})
			}
		case first >= size:
		case b == "":
			out = append(out, span{first, size})
		default:
			out = append(out, span{first, min(last+1, size)})
		}
	}
	if !any || len(out) == 0 {
		return nil, false
	}
	if len(out) > maxRanges || overlapping(out) {
		return nil, false
	}
	return out, true
}

// overlapping tells a request that asks for the same bytes too often, which is an
// attack and not a need.
func overlapping(in []span) bool {
	s := slices.Clone(in)
	slices.SortFunc(s, func(a, b span) int { return int(min(max(a.from-b.from, -1), 1)) })
	n := 0
	for i := 1; i < len(s); i++ {
		if s[i].from < s[i-1].to {
			n++
		}
	}
	return n > 2
}

var buffers = sync.Pool{New: func() any { b := make([]byte, 64<<10); return &b }}

// send answers with an object's bytes, or the ranges that were asked for. again
// says that nothing was sent since the object has just been replaced.
func (c *call) send(o *objectstore.Content) (again bool) {
	h := c.w.Header()
	want, answered := c.partNumber(o)
	if answered {
		return false
	}
	if rg := c.r.Header.Get("Range"); rg != "" && c.rangeHolds(o) {
		var ok bool
		if want, ok = ranges(rg, o.Length); !ok {
			h.Set("Content-Range", fmt.Sprintf("bytes */%d", o.Length))
			for k := range o.Meta() {
				h.Del(k)
			}
			c.plain(http.StatusRequestedRangeNotSatisfiable)
			return false
		}
	}
	status, from, n := http.StatusOK, int64(0), o.Length
	switch len(want) {
	case 0:
	case 1:
		status, from, n = http.StatusPartialContent, want[0].from, want[0].to-want[0].from
		h.Set("Content-Range", contentRange(want[0], o.Length))
	default:
		return c.sendParts(o, want)
	}
	h.Set("Content-Length", strconv.FormatInt(n, 10))
	if c.r.Method == http.MethodHead {
		c.w.WriteHeader(status)
		return false
	}
	body, err := o.Open(c.ctx, from, n)
	if err != nil {
		return c.notOpened(o, err)
	}
	defer body.Close() //nolint:errcheck // read only
	c.w.WriteHeader(status)
	c.pump(o, body)
	return false
}

// partNumber is the range of the part of a static large object that part-number asks
// for. answered says that there is no such part.
func (c *call) partNumber(o *objectstore.Content) (want []span, answered bool) {
	if !c.has("part-number") || o.Kind != objectstore.KindSLO || !o.Composed {
		return nil, false
	}
	refuse := func(status int, text string) ([]span, bool) {
		for k := range o.Meta() {
			c.w.Header().Del(k)
		}
		c.text(status, text)
		return nil, true
	}
	n, err := strconv.Atoi(c.param("part-number"))
	switch {
	case err != nil || n < 1:
		return refuse(http.StatusBadRequest, "Part number must be an integer greater than 0")
	case c.r.Header.Get("Range") != "":
		return refuse(http.StatusBadRequest, "Range requests are not supported with part number queries")
	}
	parts, err := c.svc.Parts(c.ctx, o)
	if err != nil {
		c.fail(err)
		return nil, true
	}
	c.w.Header().Set("X-Parts-Count", strconv.Itoa(len(parts)))
	if n > len(parts) {
		c.w.Header().Set("Content-Range", fmt.Sprintf("bytes */%d", o.Length))
		return refuse(http.StatusRequestedRangeNotSatisfiable, "The requested part number is not satisfiable")
	}
	var s span
	for _, length := range parts[:n-1] {
		s.from += length
	}
	s.to = s.from + parts[n-1]
	return []span{s}, false
}

func contentRange(s span, size int64) string {
	return fmt.Sprintf("bytes %d-%d/%d", s.from, s.to-1, size)
}

// rangeHolds looks at If-Range.
func (c *call) rangeHolds(o *objectstore.Content) bool {
	v := c.r.Header.Get("If-Range")
	if v == "" || strings.Trim(v, `"`) == o.Tag {
		return true
	}
	t, err := http.ParseTime(v)
	return err == nil && !o.Modified().Truncate(time.Second).After(t)
}

// notOpened answers that an object can't be read.
func (c *call) notOpened(o *objectstore.Content, err error) (again bool) {
	if objectstore.Replaced(err) {
		return true
	}
	h := c.w.Header()
	for _, k := range []string{"Content-Length", "Content-Range", "Etag", "Last-Modified", "Accept-Ranges", "X-Timestamp"} {
		h.Del(k)
	}
	for k := range o.Meta() {
		h.Del(k)
	}
	c.fail(err)
	return false
}

// pump sends a body. One that breaks off cuts the connection, since the client has
// been promised more.
func (c *call) pump(o *objectstore.Content, body io.Reader) {
	buf := buffers.Get().(*[]byte)
	_, err := io.CopyBuffer(struct{ io.Writer }{c.w}, body, *buf)
	buffers.Put(buf)
	if err == nil {
		return
	}
	if c.r.Context().Err() == nil {
		c.Log.WarnContext(c.ctx, "an answer was cut off", "object", o.Ref.String(), "error", err)
	}
	panic(http.ErrAbortHandler)
}

// sendParts answers with several ranges.
func (c *call) sendParts(o *objectstore.Content, want []span) (again bool) {
	var b [16]byte
	_, _ = rand.Read(b[:])
	boundary := hex.EncodeToString(b[:])
	h := c.w.Header()
	head := func(s span) string {
		return fmt.Sprintf("--%s\r\nContent-Type: %s\r\nContent-Range: %s\r\n\r\n", boundary, o.ContentType, contentRange(s, o.Length))
	}
	end := "--" + boundary + "--"
	n := int64(len(end))
	for _, s := range want {
		n += int64(len(head(s))) + s.to - s.from + 2
	}
	// The first is opened before anything is said.
	first, err := o.Open(c.ctx, want[0].from, want[0].to-want[0].from)
	if err != nil {
		return c.notOpened(o, err)
	}
	h.Set("Content-Type", "multipart/byteranges;boundary="+boundary)
	h.Set("Content-Length", strconv.FormatInt(n, 10))
	c.w.WriteHeader(http.StatusPartialContent)
	for i, s := range want {
		body := first
		if i > 0 {
			if body, err = o.Open(c.ctx, s.from, s.to-s.from); err != nil {
				c.Log.WarnContext(c.ctx, "an answer was cut off", "object", o.Ref.String(), "error", err)
				panic(http.ErrAbortHandler)
			}
		}
		func() {
			defer body.Close() //nolint:errcheck // read only
			c.pump(o, io.MultiReader(strings.NewReader(head(s)), body, strings.NewReader("\r\n")))
		}()
	}
	if _, err := io.WriteString(c.w, end); err != nil && !errors.Is(err, http.ErrHandlerTimeout) {
		panic(http.ErrAbortHandler)
	}
	return false
}
