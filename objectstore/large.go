package objectstore

import (
	"bytes"
	"context"
	"crypto/md5" //nolint:gosec // Swift's entity tags are MD5 sums
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/objectstore/blob"
)

// Segment is a part of a static large object, as a user gives it.
type Segment struct {
	// Path is "/container/object". Data are the bytes themselves, in base64, instead.
	Path string `json:"path,omitempty"`
	Data string `json:"data,omitempty"`
	// Etag and Size, if given, are what the segment must have.
	Etag string `json:"etag,omitempty"`
	Size *int64 `json:"size_bytes,omitempty"`
	// Range is the part of it that counts: "0-99", "100-", "-5".
	Range string `json:"range,omitempty"`
}

// manifestItem is a segment as a manifest keeps it.
type manifestItem struct {
	Name        string `json:"name,omitempty"`
	Hash        string `json:"hash,omitempty"`
	Bytes       int64  `json:"bytes"`
	Range       string `json:"range,omitempty"`
	SubSLO      bool   `json:"sub_slo,omitempty"`
	ContentType string `json:"content_type,omitempty"`
	Modified    string `json:"last_modified,omitempty"`
	Data        string `json:"data,omitempty"`
}

// length is what the item gives to the whole.
func (m *manifestItem) length() int64 {
	if m.Data != "" {
		return int64(base64.StdEncoding.DecodedLen(len(m.Data)) - strings.Count(m.Data, "="))
	}
	from, to, ok := segmentRange(m.Range, m.Bytes)
	if !ok {
		return 0
	}
	return to - from
}

// segmentRange reads "a-b", "a-" or "-n" of size bytes as [from, to).
func segmentRange(r string, size int64) (from, to int64, ok bool) {
	if r == "" {
		return 0, size, true
	}
	a, b, found := strings.Cut(r, "-")
	if !found {
		return 0, 0, false
	}
	first, err1 := strconv.ParseInt(a, 10, 64)
	last, err2 := strconv.ParseInt(b, 10, 64)
	switch {
	case a == "" && err2 == nil && last > 0:
		return max(0, size-last), size, size > 0
	case err1 == nil && b == "":
		return first, size, first >= 0 && first < size
	case err1 == nil && err2 == nil && first >= 0 && first <= last:
		return first, min(last+1, size), first < size
	}
	return 0, 0, false
}

// ManifestError lists what is wrong with the segments of a manifest.
type ManifestError struct {
	// Problems are pairs: the segment's path, and a status or a remark.
	Problems [][2]string
}

func (e *ManifestError) Error() string {
	var b strings.Builder
	b.WriteString("Errors:\n")
	for _, p := range e.Problems {
		b.WriteString(p[0] + ", " + p[1] + "\n")
	}
	return b.String()
}

// Unwrap makes it a bad request.
func (e *ManifestError) Unwrap() error { return nacre.Invalid }

// prepareSLO checks every segment with the caller's own rights and makes the
// manifest the body.
func (s *Service) prepareSLO(ctx context.Context, n *NewObject) error {
	problems := &ManifestError{}
	var items []manifestItem
	tags := md5.New() //nolint:gosec // see the import
	var total int64
	etag := n.Etag
	for i := range n.Segments {
		seg := &n.Segments[i]
		item, problem, err := s.checkSegment(ctx, n.Ref, seg)
		if err != nil {
			return err
		}
		if problem != "" {
			problems.Problems = append(problems.Problems, [2]string{seg.Path, problem})
			continue
		}
		switch {
		case item.Data != "":
			data, _ := base64.StdEncoding.DecodeString(item.Data) // checked
			sum := md5.Sum(data)                                  //nolint:gosec // see the import
			tags.Write([]byte(hex.EncodeToString(sum[:])))
		case item.Range != "":
			fmt.Fprintf(tags, "%s:%s;", item.Hash, item.Range)
		default:
			tags.Write([]byte(item.Hash))
		}
		total += item.length()
		items = append(items, item)
	}
	if len(problems.Problems) > 0 {
		return problems
	}
	tag := hex.EncodeToString(tags.Sum(nil))
	if etag != "" && !strings.EqualFold(etag, tag) {
		return ErrEtag
	}
	body, err := json.Marshal(items)
	if err != nil {
		return err
	}
	n.Etag, n.Body, n.Size, n.Kind, n.bytes = "", bytes.NewReader(body), int64(len(body)), KindSLO, total
	n.ListEtag = tag + n.ListEtag
	return nil
}

// checkSegment looks a segment up. problem is what Swift says of it.
func (s *Service) checkSegment(ctx context.Context, of Ref, seg *Segment) (item manifestItem, problem string, err error) {
	if seg.Data != "" {
		if _, err := base64.StdEncoding.DecodeString(seg.Data); err != nil {
			return item, "Value must be valid base64", nil
		}
		return manifestItem{Data: seg.Data}, "", nil
	}
	container, object, _ := strings.Cut(strings.TrimPrefix(seg.Path, "/"), "/")
	r := Ref{of.Account, container, object}
	if r == of {
		return item, "manifest must not include itself", nil
	}
	// Whoever may write here may not learn by this what lies elsewhere.
	c, err := s.Get(ctx, r, GetOptions{})
	if err != nil {
		switch nacre.KindOf(err) {
		case nacre.NotFound:
			return item, "404 Not Found", nil
		case nacre.Forbidden:
			return item, "403 Forbidden", nil
		case nacre.Unauthenticated:
			return item, "401 Unauthorized", nil
		case nacre.Conflict:
			return item, "409 Conflict", nil
		case nacre.Precondition, nacre.Invalid:
			return item, "400 Bad Request", nil
		}
		return item, "", err
	}
	item = manifestItem{Name: "/" + container + "/" + object, Hash: c.Tag, Bytes: c.Length, SubSLO: c.Kind == KindSLO, ContentType: c.ContentType,
		Modified: c.Modified().UTC().Format("2006-01-02T15:04:05.000000")}
	if c.Kind == KindDLO {
		item.Hash, item.Bytes = c.Etag, c.Size
	}
	if seg.Range != "" {
		from, to, ok := segmentRange(seg.Range, item.Bytes)
		if !ok {
			return item, "Unsatisfiable Range", nil
		}
		if from != 0 || to != item.Bytes {
			item.Range = fmt.Sprintf("%d-%d", from, to-1)
		}
	}
	switch {
	case seg.Size != nil && *seg.Size != item.Bytes:
		return item, "Size Mismatch", nil
	case seg.Etag != "" && !strings.EqualFold(strings.Trim(seg.Etag, `"`), item.Hash):
		return item, "Etag Mismatch", nil
	case item.Bytes == 0:
		return item, "Too Small; each segment must be at least 1 byte.", nil
	}
	return item, "", nil
}

// part is a piece of a large object.
type part struct {
	size int64
	open func(ctx context.Context, off, n int64) (io.ReadCloser, error)
}

// compose reads parts one after the other; each is opened when it is reached, and
// closed when it is left.
type compose struct {
	ctx   context.Context
	parts []part
	off   int64 // within the first of parts
	left  int64
	cur   io.ReadCloser
}

func openParts(ctx context.Context, parts []part, off, n int64) (io.ReadCloser, error) {
	for len(parts) > 0 && off >= parts[0].size {
		off -= parts[0].size
		parts = parts[1:]
	}
	c := &compose{ctx: ctx, parts: parts, off: off, left: n}
	// What is wrong with the first is known before any answer.
	if err := c.next(); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return c, nil
}

func (c *compose) next() error {
	if len(c.parts) == 0 || c.left <= 0 {
		return io.EOF
	}
	p := c.parts[0]
	n := min(p.size-c.off, c.left)
	r, err := p.open(c.ctx, c.off, n)
	if err != nil {
		return err
	}
	c.cur = &exactly{ReadCloser: r, left: n}
	c.parts, c.off, c.left = c.parts[1:], 0, c.left-n
	return nil
}

func (c *compose) Read(p []byte) (int, error) {
	for {
		if c.cur == nil {
			if err := c.next(); err != nil {
				return 0, err
			}
		}
		n, err := c.cur.Read(p)
		if err == io.EOF { //nolint:errorlint // a wrapped one is no end
			err = c.cur.Close()
			c.cur = nil
			if err == nil && n == 0 {
				continue
			}
		}
		return n, err
	}
}

func (c *compose) Close() error {
	c.parts, c.left = nil, 0
	if c.cur == nil {
		return nil
	}
	err := c.cur.Close()
	c.cur = nil
	return err
}

// exactly fails when a part ends early.
type exactly struct {
	io.ReadCloser
	left int64
}

func (e *exactly) Read(p []byte) (int, error) {
	n, err := e.ReadCloser.Read(p)
	e.left -= int64(n)
	if err == io.EOF && e.left > 0 { //nolint:errorlint // a wrapped one is no end
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// manifest reads a static large object's manifest.
func (s *Service) manifest(ctx context.Context, c *Content) ([]manifestItem, error) {
	r, err := s.bytes(ctx, c, 0, -1)
	if err != nil {
		return nil, err
	}
	var items []manifestItem
	err = json.NewDecoder(io.LimitReader(r, 64<<20)).Decode(&items)
	if err = errors.Join(err, r.Close()); err != nil {
		return nil, fmt.Errorf("%w: the manifest: %w", blob.ErrRotten, err)
	}
	return items, nil
}

// prepareReadSLO makes a static large object readable. Segments are looked up, with
// the caller's own rights, when they are reached.
func (s *Service) prepareReadSLO(c *Content, depth int) error {
	c.Length, c.Tag, c.Composed = c.Bytes, c.SLOEtag(), true
	c.open = func(ctx context.Context, off, n int64) (io.ReadCloser, error) {
		if depth >= maxDepth {
			return nil, conflict("Max recursion depth exceeded")
		}
		items, err := s.manifest(ctx, c)
		if err != nil {
			return nil, err
		}
		parts := make([]part, len(items))
		for i := range items {
			parts[i] = s.part(c.Ref.Account, &items[i], depth)
		}
		return openParts(ctx, parts, off, n)
	}
	return nil
}

func (s *Service) part(account string, m *manifestItem, depth int) part {
	if m.Data != "" {
		return part{m.length(), func(_ context.Context, off, n int64) (io.ReadCloser, error) {
			data, err := base64.StdEncoding.DecodeString(m.Data)
			if err != nil {
				return nil, err
			}
			return io.NopCloser(bytes.NewReader(data[off : off+n])), nil
		}}
	}
	from, _, _ := segmentRange(m.Range, m.Bytes)
	return part{m.length(), func(ctx context.Context, off, n int64) (io.ReadCloser, error) {
		container, object, _ := strings.Cut(strings.TrimPrefix(m.Name, "/"), "/")
		return s.openSegment(ctx, Ref{account, container, object}, m.Hash, m.Bytes, from+off, n, depth)
	}}
}

// openSegment opens a segment that must be what it was.
func (s *Service) openSegment(ctx context.Context, r Ref, etag string, size, off, n int64, depth int) (io.ReadCloser, error) {
	for try := 0; ; try++ {
		c, err := s.segment(ctx, r, depth)
		if err != nil {
			s.log.Warn("a segment can't be read", "segment", r.String(), "error", err)
			return nil, conflict("A segment of the object can't be read.")
		}
		if c.Tag != etag || c.Length != size {
			s.log.Warn("a segment has changed", "segment", r.String())
			return nil, conflict("A segment of the object has changed.")
		}
		body, err := c.Open(ctx, off, n)
		if errors.Is(err, errReplaced) && try < 4 {
			continue
		}
		return body, err
	}
}

func (s *Service) segment(ctx context.Context, r Ref, depth int) (*Content, error) {
	for range maxLinks + 1 {
		c, err := s.find(ctx, r, "")
		if err != nil {
			return nil, err
		}
		if c.Kind != KindSymlink {
			// A dynamic manifest is a segment as it stands.
			return c, s.prepare(ctx, c, GetOptions{Manifest: c.Kind == KindDLO}, depth+1)
		}
		account, rest, _ := strings.Cut(c.Target, "/")
		container, object, _ := strings.Cut(rest, "/")
		r = Ref{account, container, object}
	}
	return nil, conflict("Too many levels of symbolic links")
}

// prepareReadDLO makes a dynamic large object of what there is now.
func (s *Service) prepareReadDLO(ctx context.Context, c *Content, depth int) error {
	container, prefix, _ := strings.Cut(c.Target, "/")
	r := Ref{Account: c.Ref.Account, Container: container}
	cont, err := s.findContainer(ctx, r)
	if err != nil && !errors.Is(err, nacre.NotFound) {
		return err
	}
	c.Length, c.Composed = 0, true
	tags := md5.New() //nolint:gosec // see the import
	var parts []part
	if err == nil {
		// Listing needs the right to read there, as if the user had asked for it.
		if denied := s.allow(ctx, r, read, cont.Meta[readACL]); denied != nil && accessOf(ctx).Signed == nil {
			return denied
		}
		q := ListQuery{Prefix: prefix, Limit: int(s.c.Limits.ContainerListing)}
		for {
			es, err := s.list(ctx, cont, q)
			if err != nil {
				return err
			}
			for _, e := range es {
				if (Ref{r.Account, r.Container, e.Name}) == c.Ref {
					continue
				}
				parts = append(parts, s.dynamicPart(r, e, depth))
				tags.Write([]byte(e.Etag))
				c.Length += e.Bytes
			}
			if len(es) < q.Limit {
				break
			}
			q.Marker = es[len(es)-1].Name
		}
	}
	c.Tag = hex.EncodeToString(tags.Sum(nil))
	c.open = func(ctx context.Context, off, n int64) (io.ReadCloser, error) { return openParts(ctx, parts, off, n) }
	return nil
}

func (s *Service) dynamicPart(r Ref, e ObjectEntry, depth int) part {
	r.Object = e.Name
	return part{e.Bytes, func(ctx context.Context, off, n int64) (io.ReadCloser, error) {
		if depth >= maxDepth {
			return nil, conflict("Max recursion depth exceeded")
		}
		tag := e.Etag
		if e.Kind == KindSLO {
			tag = e.SLOEtag
		}
		return s.openSegment(ctx, r, tag, e.Bytes, off, n, depth)
	}}
}

// Parts are the lengths of what a static large object is made of; nil of any other.
func (s *Service) Parts(ctx context.Context, c *Content) ([]int64, error) {
	if c.Kind != KindSLO {
		return nil, nil
	}
	items, err := s.manifest(ctx, c)
	out := make([]int64, len(items))
	for i := range items {
		out[i] = items[i].length()
	}
	return out, err
}

// Segments names what a static large object is made of, its own manifest last.
func (s *Service) Segments(ctx context.Context, c *Content) ([]Ref, error) {
	return s.segments(ctx, c, 0)
}

func (s *Service) segments(ctx context.Context, c *Content, depth int) ([]Ref, error) {
	items, err := s.manifest(ctx, c)
	if err != nil {
		return nil, err
	}
	var out []Ref
	for _, m := range items {
		if m.Name == "" {
			continue
		}
		container, object, _ := strings.Cut(strings.TrimPrefix(m.Name, "/"), "/")
		r := Ref{c.Ref.Account, container, object}
		if m.SubSLO {
			sub, err := s.Get(ctx, r, GetOptions{Manifest: true})
			if err == nil && sub.Kind == KindSLO && depth < maxDepth {
				more, err := s.segments(ctx, sub, depth+1)
				if err != nil {
					return nil, err
				}
				out = append(out, more[:len(more)-1]...)
			}
		}
		if !slices.Contains(out, r) {
			out = append(out, r)
		}
	}
	return append(out, c.Ref), nil
}

// RawManifest is a manifest as it would be put again.
func (s *Service) RawManifest(ctx context.Context, c *Content) ([]byte, error) {
	items, err := s.manifest(ctx, c)
	if err != nil {
		return nil, err
	}
	out := make([]Segment, len(items))
	for i, m := range items {
		out[i] = Segment{Path: m.Name, Data: m.Data, Etag: m.Hash, Range: m.Range}
		if m.Data == "" {
			out[i].Size = &items[i].Bytes
		}
	}
	return json.Marshal(out)
}
