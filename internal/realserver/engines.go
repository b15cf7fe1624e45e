package realserver

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/store"
	"github.com/nacre-cloud/nacre/store/bunstore"
)

// Engines start a server of each database that serves several processes. Each
// function makes a new database there; what it returns opens an engine on it, also
// inside a synctest bubble.
func Engines(t testing.TB) map[string]func(t testing.TB) func(t testing.TB) store.Engine {
	t.Helper()
	pg, maria := Postgres(t), MariaDB(t)
	opener := func(database func(testing.TB) string, open func(string, bunstore.Options) (*bunstore.Engine, error)) func(t testing.TB) func(t testing.TB) store.Engine {
		return func(t testing.TB) func(t testing.TB) store.Engine {
			dsn := database(t)
			return func(t testing.TB) store.Engine {
				e, err := open(dsn, bunstore.Options{})
				require.NoError(t, err)
				return e
			}
		}
	}
	return map[string]func(t testing.TB) func(t testing.TB) store.Engine{
		"postgres": opener(pg.Database, bunstore.OpenPostgres), "mariadb": opener(maria.Database, bunstore.OpenMariaDB),
	}
}
