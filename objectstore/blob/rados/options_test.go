package rados_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/objectstore/blob/rados"
)

// What a file can't mean is an error that names the file.
func TestBadFiles(t *testing.T) {
	file := filepath.Join(t.TempDir(), "rados.yaml")
	_, err := rados.FromFile(t.Context(), file, nil)
	require.ErrorIs(t, err, os.ErrNotExist)
	for _, text := range []string{"pools: x", "timeout: soon", "grace: -1h", "- x"} {
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		_, err := rados.FromFile(t.Context(), file, nil)
		require.ErrorContains(t, err, file, text)
	}
}
