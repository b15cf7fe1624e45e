//go:build realtest

package api_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/internal/realserver"
	"github.com/nacre-cloud/nacre/store/bunstore"
)

// BenchmarkScalePostgres is a cloud at scale on PostgreSQL.
func BenchmarkScalePostgres(b *testing.B) {
	e, err := bunstore.OpenPostgres(realserver.Postgres(b).Database(b), bunstore.Options{})
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, e.Close()) })
	scale(b, e)
}
