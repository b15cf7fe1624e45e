package s3api

import (
	"bufio"
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // one of the checksums that clients send
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"io"
	"strconv"
	"strings"
)

// checks are what a body must be when it has been read to its end.
type checks struct {
	sums []want
}

// want is a checksum and what it must be; text is known at the end only when it
// comes behind the body.
type want struct {
	h       hash.Hash
	text    func() string
	hex     bool
	failing string
}

func (k *checks) Write(p []byte) (int, error) {
	for _, w := range k.sums {
		_, _ = w.h.Write(p)
	}
	return len(p), nil
}

// verify tells whether all is as it must be.
func (k *checks) verify() error {
	for _, w := range k.sums {
		sum := w.h.Sum(nil)
		got := base64.StdEncoding.EncodeToString(sum)
		if w.hex {
			got = hex.EncodeToString(sum)
		}
		if got != w.text() {
			return fault(w.failing)
		}
	}
	return nil
}

// checked feeds the checks as it is read, and ends only when they hold.
type checked struct {
	r io.Reader
	k *checks
}

func (c *checked) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	_, _ = c.k.Write(p[:n])
	if err == io.EOF { //nolint:errorlint // a wrapped one is no end
		if bad := c.k.verify(); bad != nil {
			return n, bad
		}
	}
	return n, err
}

var algorithms = map[string]func() hash.Hash{
	"crc32": func() hash.Hash { return crc32.NewIEEE() }, "crc32c": func() hash.Hash { return crc32.New(crc32.MakeTable(crc32.Castagnoli)) },
	"sha1": sha1.New, "sha256": sha256.New, "crc64nvme": func() hash.Hash { return crc64.New(crc64.MakeTable(0x9a6c9329ac4bc9b5)) },
}

// openBody makes the request's body readable: without its chunks' framing, and
// checked.
func (c *call) openBody(payload string, ch *chain) error {
	c.body, c.size, c.check = c.r.Body, c.r.ContentLength, &checks{}
	streaming := strings.HasPrefix(payload, "STREAMING-")
	trailer := c.r.Header.Get("X-Amz-Trailer")
	switch payload {
	case "UNSIGNED-PAYLOAD":
	case "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER", "STREAMING-UNSIGNED-PAYLOAD-TRAILER":
		if ch == nil || payload == "STREAMING-UNSIGNED-PAYLOAD-TRAILER" {
			ch = nil
			if payload != "STREAMING-UNSIGNED-PAYLOAD-TRAILER" {
				return fault("InvalidRequest")
			}
		}
	default:
		if sum, err := hex.DecodeString(payload); streaming || err != nil || len(sum) != sha256.Size {
			return fault("InvalidRequest")
		}
		c.check.sums = append(c.check.sums, want{h: sha256.New(), text: func() string { return strings.ToLower(payload) }, hex: true, failing: "XAmzContentSHA256Mismatch"})
	}
	for name, h := range algorithms {
		if v := c.r.Header.Get("X-Amz-Checksum-" + name); v != "" {
			c.check.sums = append(c.check.sums, want{h: h(), text: func() string { return v }, failing: "BadDigest"})
		}
	}
	if streaming || strings.Contains(c.r.Header.Get("Content-Encoding"), "aws-chunked") {
		n, err := strconv.ParseInt(c.r.Header.Get("X-Amz-Decoded-Content-Length"), 10, 64)
		if err != nil || n < 0 {
			return fault("MissingContentLength")
		}
		f := &framed{in: bufio.NewReaderSize(c.r.Body, 64<<10), chain: ch, trailers: map[string]string{}, signed: strings.HasPrefix(payload, "STREAMING-AWS4")}
		c.body, c.size = f, n
		if name, ok := strings.CutPrefix(strings.ToLower(trailer), "x-amz-checksum-"); ok && algorithms[name] != nil {
			c.check.sums = append(c.check.sums, want{h: algorithms[name](), text: func() string { return f.trailers["x-amz-checksum-"+name] }, failing: "BadDigest"})
		}
	}
	if len(c.check.sums) > 0 {
		c.body = &checked{c.body, c.check}
	}
	return nil
}

// chain is the signatures of a body's chunks, each over the one before.
type chain struct {
	key             []byte
	at, scope, last string
}

const emptySHA = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

func (c *chain) next(sum []byte, signature string) bool {
	want := hex.EncodeToString(hmac256(c.key, "AWS4-HMAC-SHA256-PAYLOAD\n"+c.at+"\n"+c.scope+"\n"+c.last+"\n"+emptySHA+"\n"+hex.EncodeToString(sum)))
	c.last = want
	return hmac.Equal([]byte(want), []byte(signature))
}

func (c *chain) trailer(text, signature string) bool {
	sum := sha256.Sum256([]byte(text))
	want := hex.EncodeToString(hmac256(c.key, "AWS4-HMAC-SHA256-TRAILER\n"+c.at+"\n"+c.scope+"\n"+c.last+"\n"+hex.EncodeToString(sum[:])))
	return hmac.Equal([]byte(want), []byte(signature))
}

// framed reads an aws-chunked body. A chunk's bytes are handed out before its
// signature is known to be right; a wrong one ends the reading with an error, and
// what was read so far is not kept.
type framed struct {
	in       *bufio.Reader
	chain    *chain
	signed   bool
	left     int64
	sum      hash.Hash
	sig      string
	trailers map[string]string
	err      error
}

var errFrame = errors.New("s3api: the body's chunks are malformed")

func (f *framed) Read(p []byte) (int, error) {
	for f.err == nil && f.left == 0 {
		f.err = f.chunk()
	}
	if f.err != nil {
		return 0, f.err
	}
	n, err := f.in.Read(p[:min(int64(len(p)), f.left)])
	if f.sum != nil {
		f.sum.Write(p[:n])
	}
	if f.left -= int64(n); f.left == 0 && err == nil {
		err = f.endOfChunk()
	}
	if err == io.EOF { //nolint:errorlint // a wrapped one is no end
		err = io.ErrUnexpectedEOF
	}
	f.err = err
	return n, err
}

func (f *framed) line() (string, error) {
	s, err := f.in.ReadSlice('\n')
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return "", err
	}
	return strings.TrimRight(string(s), "\r\n"), nil
}

// chunk reads a chunk's head; the last one, of no bytes, is io.EOF.
func (f *framed) chunk() error {
	head, err := f.line()
	if err != nil {
		return err
	}
	size, ext, _ := strings.Cut(head, ";")
	n, err := strconv.ParseInt(strings.TrimSpace(size), 16, 64)
	if err != nil || n < 0 {
		return errFrame
	}
	f.sig = strings.TrimPrefix(ext, "chunk-signature=")
	if f.signed {
		f.sum = sha256.New()
	}
	if f.left = n; n > 0 {
		return nil
	}
	if f.signed && !f.chain.next(f.sum.Sum(nil), f.sig) {
		return fault("SignatureDoesNotMatch")
	}
	return f.end()
}

// endOfChunk reads what is behind a chunk's bytes and checks its signature.
func (f *framed) endOfChunk() error {
	if f.signed && !f.chain.next(f.sum.Sum(nil), f.sig) {
		return fault("SignatureDoesNotMatch")
	}
	s, err := f.line()
	if err == nil && s != "" {
		err = errFrame
	}
	return err
}

// end reads the trailers.
func (f *framed) end() error {
	var text strings.Builder
	signature := ""
	for {
		s, err := f.line()
		if errors.Is(err, io.ErrUnexpectedEOF) {
			break // some clients leave the last empty line out
		}
		if err != nil {
			return err
		}
		if s == "" {
			if len(f.trailers) > 0 && f.signed && signature == "" {
				continue
			}
			break
		}
		k, v, _ := strings.Cut(s, ":")
		k, v = strings.ToLower(strings.TrimSpace(k)), strings.TrimSpace(v)
		if k == "x-amz-trailer-signature" {
			signature = v
			continue
		}
		f.trailers[k] = v
		text.WriteString(k + ":" + v + "\n")
	}
	if len(f.trailers) > 0 && f.signed && !f.chain.trailer(text.String(), signature) {
		return fault("SignatureDoesNotMatch")
	}
	return io.EOF
}
