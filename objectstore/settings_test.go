package objectstore_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/objectstore"
	"github.com/nacre-cloud/nacre/store"
)

// All containers of a name are found, however many there are, and but for those of
// deleted accounts; at the cost of a statement for each hundred.
func TestSettingsNamed(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		const rules = "X-Container-Meta-Rules"
		make := func(from, to int, meta string) {
			for i := from; i < to; i++ {
				p := fmt.Sprint("p", i)
				_, err := w.PutContainer(as(p, "u", "member"), objectstore.Ref{Account: "AUTH_" + p, Container: "site"}, objectstore.ContainerChange{Meta: map[string]string{rules: meta}})
				require.NoError(t, err)
			}
		}
		named := func(until func(meta map[string]string) bool) (n int, statements int64) {
			ctx, count := store.CountStatements(t.Context())
			for meta, err := range w.SettingsNamed(ctx, "site") {
				require.NoError(t, err)
				if n++; until(meta) {
					break
				}
			}
			return n, count.Load()
		}
		all := func(map[string]string) bool { return false }
		n, statements := named(all)
		require.Zero(t, n)
		require.EqualValues(t, 1, statements)
		make(0, 50, "none")
		n, statements = named(all)
		require.Equal(t, 50, n)
		require.EqualValues(t, 1, statements)

		make(50, 150, "none")
		make(150, 151, "some")
		seen := map[string]int{}
		n, statements = named(func(meta map[string]string) bool { seen[meta[rules]]++; return false })
		require.Equal(t, 151, n)
		require.EqualValues(t, 2, statements)
		require.Equal(t, map[string]int{"none": 150, "some": 1}, seen)
		n, statements = named(func(map[string]string) bool { return true })
		require.Equal(t, 1, n)
		require.EqualValues(t, 1, statements)

		require.NoError(t, w.DeleteAccount(nacre.AsService(t.Context(), "identity"), "AUTH_p150"))
		n, _ = named(func(meta map[string]string) bool { return meta[rules] == "some" })
		require.Equal(t, 150, n)
	})
}
