package keydir_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/image/keydir"
)

func TestCertificates(t *testing.T) {
	dir := t.TempDir()
	outside := filepath.Join(dir, "outside.pem")
	require.NoError(t, os.WriteFile(outside, []byte("secret"), 0o600))
	in := filepath.Join(dir, "in")
	require.NoError(t, os.Mkdir(in, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(in, "a-1.pem"), []byte("A"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(in, "b"), []byte("B"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(in, "large"), []byte(strings.Repeat("x", 100<<10)), 0o600))
	require.NoError(t, os.Symlink(outside, filepath.Join(in, "link.pem")))
	d, err := keydir.Open(in)
	require.NoError(t, err)
	for id, want := range map[string]string{"a-1": "A", "b": "B"} {
		got, err := d.Certificate(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, want, string(got))
	}
	for _, id := range []string{"none", "", "../outside", "..", "in/b", "a-1.pem", "b\x00"} {
		_, err := d.Certificate(t.Context(), id)
		require.ErrorIs(t, err, nacre.NotFound, id)
	}
	_, err = d.Certificate(t.Context(), "link")
	require.Error(t, err, "out of the directory")
	_, err = d.Certificate(t.Context(), "large")
	require.ErrorContains(t, err, "too large")
	require.NoError(t, os.WriteFile(filepath.Join(in, "later.pem"), []byte("L"), 0o600))
	_, err = d.Certificate(t.Context(), "later")
	require.NoError(t, err, "files are read at each use")

	_, err = keydir.Open(filepath.Join(dir, "gone"))
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = keydir.Open(outside)
	require.ErrorContains(t, err, "no directory")
}
