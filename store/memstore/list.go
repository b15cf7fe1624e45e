package memstore

import (
	"encoding/binary"
	"math"
	"sort"
	"strings"

	"github.com/nacre-cloud/nacre/store"
)

// row is one version of a row. It is never changed once it can be seen.
type row struct {
	id   string
	vals []any
	rev  int64
	// keys are the row's sort keys in the table's indexes.
	keys []string
}

// byID is the list number of the primary key; others are index numbers.
const byID = -1

// chunkMax bounds what an insertion has to move.
const chunkMax = 256

// list holds rows in order of (index key, id), in chunks.
type list struct {
	n      int // byID or the index number
	chunks [][]*row
}

func (l *list) compare(r *row, key, id string) int {
	if l.n != byID {
		if c := strings.Compare(r.keys[l.n], key); c != 0 {
			return c
		}
	}
	return strings.Compare(r.id, id)
}

func (l *list) key(r *row) string {
	if l.n == byID {
		return ""
	}
	return r.keys[l.n]
}

// find is the position of the first row that is not before (key, id). The
// position may be one past the end of its chunk.
func (l *list) find(key, id string) (c, i int) {
	c = sort.Search(len(l.chunks), func(k int) bool { return l.compare(l.chunks[k][0], key, id) > 0 })
	if c > 0 {
		c--
	}
	if c < len(l.chunks) {
		chunk := l.chunks[c]
		i = sort.Search(len(chunk), func(k int) bool { return l.compare(chunk[k], key, id) >= 0 })
	}
	return c, i
}

func (l *list) insert(r *row) {
	if len(l.chunks) == 0 {
		l.chunks = append(l.chunks, append(make([]*row, 0, 4), r))
		return
	}
	c, i := l.find(l.key(r), r.id)
	chunk := append(l.chunks[c], nil)
	copy(chunk[i+1:], chunk[i:])
	chunk[i] = r
	l.chunks[c] = chunk
	if len(chunk) <= chunkMax {
		return
	}
	// Rows that arrive in order fill the last chunk, and leave full ones behind.
	at := chunkMax / 2
	if c == len(l.chunks)-1 && i == len(chunk)-1 {
		at = chunkMax
	}
	right := append(make([]*row, 0, chunkMax+1), chunk[at:]...)
	clear(chunk[at:])
	l.chunks[c] = chunk[:at]
	l.chunks = append(l.chunks, nil)
	copy(l.chunks[c+2:], l.chunks[c+1:])
	l.chunks[c+1] = right
}

func (l *list) remove(r *row) {
	c, i := l.find(l.key(r), r.id)
	chunk := l.chunks[c]
	copy(chunk[i:], chunk[i+1:])
	chunk[len(chunk)-1] = nil
	l.chunks[c] = chunk[:len(chunk)-1]
	if len(l.chunks[c]) == 0 {
		l.chunks = append(l.chunks[:c], l.chunks[c+1:]...)
	}
}

// replace puts b where a is; both sort alike.
func (l *list) replace(a, b *row) {
	c, i := l.find(l.key(a), a.id)
	l.chunks[c][i] = b
}

// walk visits the rows from (key, id) on, until fn says stop.
func (l *list) walk(key, id string, fn func(*row) bool) {
	c, i := l.find(key, id)
	for ; c < len(l.chunks); c, i = c+1, 0 {
		for _, r := range l.chunks[c][i:] {
			if !fn(r) {
				return
			}
		}
	}
}

// appendKey adds a value so that keys compare as values do, NULL lowest, and no
// value's key is the beginning of another's.
func appendKey(b []byte, v any) []byte {
	if v == nil {
		return append(b, 0)
	}
	b = append(b, 1)
	switch x := v.(type) {
	case string: // holds no NUL
		b = append(b, x...)
		return append(b, 0)
	case int64:
		return binary.BigEndian.AppendUint64(b, uint64(x)^1<<63)
	case bool:
		if x {
			return append(b, 1)
		}
		return append(b, 0)
	case float64:
		if x == 0 {
			x = 0 // -0 equals 0
		}
		u := math.Float64bits(x)
		if u>>63 == 1 {
			u = ^u
		} else {
			u |= 1 << 63
		}
		return binary.BigEndian.AppendUint64(b, u)
	case []byte:
		for _, c := range x {
			if b = append(b, c); c == 0 {
				b = append(b, 0xff)
			}
		}
		return append(b, 0, 0)
	}
	return b
}

// compare orders two column values of one type, NULL lowest.
func compare(a, b any) int {
	switch {
	case a == nil && b == nil:
		return 0
	case a == nil:
		return -1
	case b == nil:
		return 1
	}
	switch x := a.(type) {
	case string:
		return strings.Compare(x, b.(string))
	case int64:
		return order(x, b.(int64))
	case float64:
		return order(x, b.(float64))
	case bool:
		y := b.(bool)
		switch {
		case x == y:
			return 0
		case y:
			return -1
		}
		return 1
	case []byte:
		return strings.Compare(string(x), string(b.([]byte)))
	}
	return 0
}

func order[T int64 | float64](a, b T) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// zero is what a row from before a column was added holds in it.
func zero(c store.Column) any {
	if c.Null {
		return nil
	}
	switch c.Type {
	case store.Int:
		return int64(0)
	case store.Bool:
		return false
	case store.Float:
		return float64(0)
	case store.Bytes:
		return []byte{}
	case store.Time:
		return int64(math.MinInt64)
	case store.JSON:
		return []byte("null")
	}
	return ""
}
