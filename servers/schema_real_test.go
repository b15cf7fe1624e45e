//go:build realtest

package servers_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/internal/realserver"
	"github.com/nacre-cloud/nacre/servers"
	"github.com/nacre-cloud/nacre/store/bunstore"
)

// Each area's tables can be made on MariaDB, whose bounds are the narrowest, and
// need nothing more once they are there; also when all share a database.
func TestSchemasOnMariaDB(t *testing.T) {
	m := realserver.MariaDB(t)
	shared, err := bunstore.OpenMariaDB(m.Database(t), bunstore.Options{})
	require.NoError(t, err)
	defer shared.Close()
	for _, area := range servers.Areas() {
		own, err := bunstore.OpenMariaDB(m.Database(t), bunstore.Options{})
		require.NoError(t, err)
		for _, e := range []*bunstore.Engine{own, shared} {
			require.NoError(t, e.Migrate(t.Context(), servers.Schema(area), true), area)
			require.NoError(t, e.Migrate(t.Context(), servers.Schema(area), false), area)
		}
		require.NoError(t, own.Close())
	}
}
