package api

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Many who ask for one name at once ask once, and what was known stays while nobody knows.
func TestAliasesAreAskedForOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		answer, err := "c.auth-p.storage.test.", error(nil)
		var a aliases
		find := func(ctx context.Context) string {
			return a.find(ctx, "www.mine.test", func(ctx context.Context, _ string) (string, error) {
				asked.Add(1)
				select {
				case <-time.After(time.Second):
					return answer, err
				case <-ctx.Done():
					return "", ctx.Err()
				}
			})
		}
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() { assert.Equal(t, "c.auth-p.storage.test", find(t.Context())) })
		}
		synctest.Wait()
		broken, cancel := context.WithCancel(t.Context())
		cancel()
		require.Empty(t, find(broken), "who goes does not wait")
		wg.Wait()
		require.EqualValues(t, 1, asked.Load())

		answer, err = "", errors.New("no answer")
		time.Sleep(2 * aliasFor)
		require.Equal(t, "c.auth-p.storage.test", find(t.Context()))
		require.Equal(t, "c.auth-p.storage.test", find(t.Context()))
		require.EqualValues(t, 2, asked.Load())
		err = &net.DNSError{IsNotFound: true}
		time.Sleep(aliasFor)
		require.Empty(t, find(t.Context()), "it is none any more")
		require.Empty(t, find(t.Context()))
		require.EqualValues(t, 3, asked.Load())
	})
}
