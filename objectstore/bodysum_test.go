package objectstore

import (
	"crypto/md5" //nolint:gosec // what is tested
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// However a body comes, its sum is the library's; one that is given up ends as well.
func TestBodySum(t *testing.T) {
	body := make([]byte, 3<<20+17)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range body {
		body[i] = byte(r.Uint32())
	}
	for _, size := range []int{0, 1, sumInline - 1, sumInline, sumInline + 1, sumInline + sumChunk, len(body)} {
		for _, piece := range []int{1000, 4096, 64 << 10, 1 << 20, len(body)} {
			d := newBodySum()
			for part := range slices.Chunk(body[:size], piece) {
				d.write(part)
			}
			want := md5.Sum(body[:size]) //nolint:gosec // see above
			require.Equal(t, want[:], d.sum(), "%d by %d", size, piece)
			d.stop()
		}
	}
	d := newBodySum()
	d.write(body)
	d.stop()
	d.stop()
}
