package roster_test

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/internal/roster"
	"github.com/nacre-cloud/nacre/store"
	"github.com/nacre-cloud/nacre/store/memstore"
)

type host struct {
	ID      string    `store:"id,pk"`
	Created time.Time `store:"created_at"`
}

// Hosts that somebody else adds are heard within a second, and looked at once.
func TestHostsThatCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := memstore.New(memstore.Options{})
		t.Cleanup(func() { require.NoError(t, e.Close()) })
		require.NoError(t, e.Migrate(t.Context(), &store.Schema{Area: "test", Tables: []*store.TableDef{store.Define[host]("host")}}, true))
		hosts := store.NewTable[host](e, "host")
		add := func(id string) {
			require.NoError(t, hosts.Insert(context.Background(), host{ID: id, Created: time.Now().UTC()}))
		}
		var heard []string
		r := roster.New(hosts, func(h *host) string { return h.ID }, func(name string) error { heard = append(heard, name); return nil }, slog.New(slog.DiscardHandler))
		require.NoError(t, r.Look(t.Context()))
		require.Empty(t, heard)
		add("a")
		require.NoError(t, r.Look(t.Context()))
		ctx, stop := context.WithCancel(t.Context())
		go r.Run(ctx)
		time.Sleep(10 * time.Second)
		require.Equal(t, []string{"a"}, heard, "nothing came")
		add("b")
		time.Sleep(1100 * time.Millisecond)
		synctest.Wait()
		require.Equal(t, []string{"a", "a", "b"}, heard)
		stop()
		synctest.Wait()
	})
}
