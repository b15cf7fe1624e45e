//go:build realtest

package bunstore_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/internal/realserver"
	"github.com/nacre-cloud/nacre/store"
	"github.com/nacre-cloud/nacre/store/bunstore"
)

// A server that gives fewer connections than an engine would have makes it slower, and
// nothing fails.
func TestPostgresCrowded(t *testing.T) {
	s := realserver.Postgres(t)
	dsn := strings.ReplaceAll(s.Areas(t, "crowded"), "{area}", "crowded")
	c, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	_, err = c.Exec(t.Context(), "ALTER DATABASE nacre_crowded CONNECTION LIMIT 3")
	require.NoError(t, err)
	require.NoError(t, c.Close(t.Context()))
	e, err := bunstore.OpenPostgres(dsn, bunstore.Options{})
	require.NoError(t, err)
	crowded(t, e)
}

func TestMariaDBCrowded(t *testing.T) {
	s := realserver.MariaDB(t)
	dsn := strings.ReplaceAll(s.Areas(t, "crowded"), "{area}", "crowded")
	s.SQL(t, "ALTER USER nacre_crowded@localhost WITH MAX_USER_CONNECTIONS 3")
	e, err := bunstore.OpenMariaDB(dsn, bunstore.Options{})
	require.NoError(t, err)
	crowded(t, e)
}

func crowded(t *testing.T, e *bunstore.Engine) {
	defer e.Close() //nolint:errcheck // the server goes too
	tab := pets(t, e)
	var wg sync.WaitGroup
	for n := range 16 {
		wg.Go(func() {
			for i := range 20 {
				id := fmt.Sprintf("crowd-%d-%d", n, i)
				assert.NoError(t, store.InTx(t.Context(), e, func(ctx context.Context) error {
					return tab.Insert(ctx, pet{ID: id, Name: id})
				}))
			}
		})
	}
	wg.Wait()
	n, err := tab.Count(t.Context(), store.Prefix("id", "crowd-"))
	require.NoError(t, err)
	require.EqualValues(t, 16*20, n)
}
