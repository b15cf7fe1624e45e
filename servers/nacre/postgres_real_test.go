//go:build realtest

package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/internal/realserver"
	"github.com/nacre-cloud/nacre/servers"
)

// TestOnPostgreSQL has the same commands work on databases that a server has.
func TestOnPostgreSQL(t *testing.T) {
	p := realserver.Postgres(t)
	t.Setenv("NACRE_ENGINE", "postgres")
	t.Setenv("NACRE_ENGINE_URL", p.Areas(t, servers.Areas()...))
	dir := t.TempDir()
	fromNothing(t, dir, "nacre db migrate")
	out, err := nacreCommand("audit", "--settle", "0s", "--state-dir", dir)
	require.NoError(t, err, out)
	require.Equal(t, "nothing found\n", out)
}
