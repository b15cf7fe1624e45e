//go:build ceph && cgo

package rados

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/nacre-cloud/nacre/objectstore/blob"
)

const (
	// partSize is the most bytes of a blob that one RADOS object holds, blockSize
	// those under one checksum, sumSize the checksum's, stride both.
	partSize  = 4 << 20
	blockSize = 64 << 10
	sumSize   = 4
	stride    = blockSize + sumSize
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// newID is 8 digits of the second it was made in and 32 random ones.
func newID(now time.Time) string {
	var b [20]byte
	binary.BigEndian.PutUint32(b[:4], uint32(now.Unix())) //nolint:gosec // until 2106
	rand.Read(b[4:])                                      //nolint:errcheck // never fails
	return hex.EncodeToString(b[:])
}

// ref is what a key says.
type ref struct {
	id   string
	size int64
}

var (
	keyRE  = regexp.MustCompile(`^r([0-9a-f]{40})-([0-9a-f]{1,15})$`)
	lostRE = regexp.MustCompile(`^l([0-9a-f]{40})$`)
	idRE   = regexp.MustCompile(`^[0-9a-f]{40}$`)
)

func parse(key string) (ref, bool) {
	m := keyRE.FindStringSubmatch(key)
	if m == nil {
		return ref{}, false
	}
	n, err := strconv.ParseInt(m[2], 16, 64)
	return ref{m[1], n}, err == nil && ref{m[1], n}.key() == key
}

func (r ref) key() string                { return fmt.Sprintf("r%s-%x", r.id, r.size) }
func (r ref) cut() bool                  { return r.size > partSize }
func (r ref) part(n int64) string        { return partName(r.id, n) }
func partName(id string, n int64) string { return fmt.Sprintf("%s.%d", id, n) }

// object is the one that holds part n, and at what size.
func (r ref) object(n int64) (name string, size int64) {
	if !r.cut() {
		return r.key(), r.size
	}
	return r.part(n), min(partSize, r.size-n*partSize)
}

// made is when an id was.
func made(id string) time.Time {
	n, err := strconv.ParseUint(id[:8], 16, 32)
	if err != nil {
		return time.Time{}
	}
	return time.Unix(int64(n), 0) //nolint:gosec // 32 bits
}

// lostKey is the key of what an unfinished Put left.
func lostKey(id string) string { return "l" + id }

func sum(id string, part, block int64, data []byte) uint32 {
	at := fmt.Appendf(nil, "%s %d %d ", id, part, block)
	return crc32.Update(crc32.Checksum(at, castagnoli), castagnoli, data)
}

// pack interleaves a part's data with its checksums.
func pack(id string, part int64, data []byte) []byte {
	blocks := (len(data) + blockSize - 1) / blockSize
	out := make([]byte, 0, len(data)+blocks*sumSize)
	for b := range blocks {
		d := data[b*blockSize : min((b+1)*blockSize, len(data))]
		out = binary.BigEndian.AppendUint32(append(out, d...), sum(id, part, int64(b), d))
	}
	return out
}

// span is where in a part's object the blocks of the bytes from off up to end lie,
// of a part of that size.
func span(off, end, size int64) (from, to int64) {
	first, last := off/blockSize, (end-1)/blockSize
	return first * stride, min(size, (last+1)*blockSize) + (last+1)*sumSize
}

// unpack checks blocks that begin with block first, and leaves their data.
func unpack(id string, part, first int64, packed []byte) ([]byte, error) {
	out := packed[:0]
	for b := first; len(packed) > 0; b++ {
		n := min(stride, len(packed))
		if n <= sumSize {
			return nil, blob.ErrRotten
		}
		d, s := packed[:n-sumSize], binary.BigEndian.Uint32(packed[n-sumSize:n])
		if sum(id, part, b, d) != s {
			return nil, blob.ErrRotten
		}
		packed, out = packed[n:], append(out, d...) // out never gets ahead
	}
	return out, nil
}

// isPart tells a part's name from a head's.
func isPart(name string) bool { return strings.Contains(name, ".") }
