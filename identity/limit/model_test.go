package limit

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNoLimitIsMoreThanAny(t *testing.T) {
	for _, c := range []struct {
		a, b int
		more bool
	}{{1, 2, false}, {2, 2, false}, {3, 2, true}, {-1, 2, true}, {2, -1, false}, {-1, -1, false}, {0, -1, false}} {
		require.Equal(t, c.more, more(c.a, c.b), "%d and %d", c.a, c.b)
	}
	for n, ok := range map[int]bool{-2: false, -1: true, 0: true, 1<<31 - 1: true, 1 << 31: false} {
		require.Equal(t, ok, checkLimit("cores", n) == nil, "%d", n)
	}
	old := &Limit{ID: "1", ProjectID: "p", ServiceID: "s", ResourceName: "cores", ResourceLimit: 5}
	changed := []Limit{{ProjectID: "p", ServiceID: "s", ResourceName: "ram", ResourceLimit: 7}, {ProjectID: "p", ServiceID: "s", ResourceName: "cores", ResourceLimit: 6}}
	require.Equal(t, 6, newest(old, changed).ResourceLimit, "a change counts as it will be")
	require.Equal(t, 5, newest(old, changed[:1]).ResourceLimit)
}
