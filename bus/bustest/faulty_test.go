package bustest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/bus"
)

func quick(*testing.T) bus.Transport {
	return bus.NewMemory(bus.MemoryOptions{FirstWait: 2 * time.Millisecond, MaxWait: 50 * time.Millisecond})
}

func TestMemory(t *testing.T) { Run(t, quick) }

// A faulty transport without faults is as good as the one beneath.
func TestHarmless(t *testing.T) {
	Run(t, func(t *testing.T) bus.Transport { return Faulty(quick(t), Options{}) })
}

// arrivals publishes n numbered messages through a faulty bus and returns what
// arrived, in order.
func arrivals(t *testing.T, n int, o Options) (got []int, c Counts) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := Faulty(bus.NewMemory(bus.MemoryOptions{}), o)
		b := bus.New(f, nil)
		ctx, cancel := context.WithCancel(t.Context())
		var mu sync.Mutex
		wait, err := b.Subscribe(ctx, bus.Queue, "q", "", func(_ context.Context, body []byte) error {
			mu.Lock()
			defer mu.Unlock()
			var i int
			_, err := fmt.Sscan(string(body), &i)
			got = append(got, i)
			return err
		})
		require.NoError(t, err)
		for i := range n {
			require.NoError(t, b.Publish(ctx, bus.Queue, "q", i))
			time.Sleep(time.Millisecond)
		}
		time.Sleep(holdBack + o.Delay)
		synctest.Wait()
		cancel()
		wait()
		require.NoError(t, b.Close())
		c = f.Counts()
	})
	return got, c
}

func TestDrop(t *testing.T) {
	got, c := arrivals(t, 2000, Options{Drop: 0.9, Seed: 1})
	require.InDelta(t, 200, len(got), 60)
	require.IsIncreasing(t, got)
	require.EqualValues(t, 2000, c.Published)
	require.EqualValues(t, 2000-len(got), c.Dropped)

	none, _ := arrivals(t, 50, Options{Drop: 1})
	require.Empty(t, none)

	again, _ := arrivals(t, 2000, Options{Drop: 0.9, Seed: 1})
	require.Equal(t, got, again, "the same seed, the same fate")
	other, _ := arrivals(t, 2000, Options{Drop: 0.9, Seed: 2})
	require.NotEqual(t, got, other)
}

func TestDouble(t *testing.T) {
	got, _ := arrivals(t, 100, Options{Double: 1})
	require.Len(t, got, 200)
	for i := range 100 {
		require.Equal(t, []int{i, i}, got[2*i:2*i+2])
	}
}

func TestReorder(t *testing.T) {
	got, c := arrivals(t, 500, Options{Reorder: 0.5, Seed: 7})
	require.Positive(t, c.Reordered)
	require.Len(t, got, 500, "reordering loses nothing")
	require.False(t, slices.IsSorted(got), "nothing was overtaken")
	swaps := 0
	for i := 1; i < len(got); i++ {
		if got[i] < got[i-1] {
			swaps++
		}
	}
	require.Greater(t, swaps, 50)
	last, _ := arrivals(t, 1, Options{Reorder: 1})
	require.Equal(t, []int{0}, last, "one that nothing overtakes arrives all the same")
}

func TestDelay(t *testing.T) {
	got, c := arrivals(t, 200, Options{Delay: 100 * time.Millisecond, Seed: 3})
	require.Len(t, got, 200)
	require.False(t, slices.IsSorted(got), "nothing was overtaken")
	require.EqualValues(t, 200, c.Delayed)
}

// Late messages die with the transport and leave nothing behind.
func TestCloseWhileLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := Faulty(bus.NewMemory(bus.MemoryOptions{}), Options{Delay: time.Hour, Double: 0.5, Seed: 1})
		b := bus.New(f, nil)
		for i := range 100 {
			require.NoError(t, b.Publish(t.Context(), bus.Queue, "q", i))
		}
		require.NoError(t, b.Close())
		require.Error(t, b.Publish(t.Context(), bus.Queue, "q", 0))
	})
}
