package objects_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/network/dataplane"
	"github.com/nacre-cloud/nacre/network/dataplane/internal/objects"
)

func TestFoundAgain(t *testing.T) {
	dir := t.TempDir()
	s, err := objects.Open(dir)
	require.NoError(t, err)
	for _, g := range []int64{3, 2} {
		changed, err := s.PutPort(dataplane.Port{ID: "p", NetworkID: "n", Tap: "t", Generation: g})
		require.NoError(t, err)
		require.Equal(t, g == 3, changed)
	}
	// What a crash left half written is not an object.
	half := filepath.Join(dir, "port", ".new-1")
	require.NoError(t, os.WriteFile(half, []byte("{"), 0o600))
	s, err = objects.Open(dir)
	require.NoError(t, err)
	require.NoFileExists(t, half)
	require.Equal(t, []dataplane.Ref{{Kind: dataplane.KindPort, ID: "p", Generation: 3}}, s.List())
	require.Len(t, s.PortsOf("n"), 1)
	p, ok := s.PortByTap("t")
	require.True(t, ok)
	require.Equal(t, "p", p.ID)
	_, err = s.PutPort(dataplane.Port{ID: "p", NetworkID: "m", Tap: "u", Generation: 4})
	require.NoError(t, err)
	require.Empty(t, s.PortsOf("n"))
	_, ok = s.PortByTap("t")
	require.False(t, ok)
	require.NoError(t, s.Delete(dataplane.KindPort, "p"))
	require.Empty(t, s.PortsOf("m"))

	// To forget an object that cannot be read would be to forget what is wired.
	require.NoError(t, os.WriteFile(filepath.Join(dir, "router", "r.json"), []byte("{"), 0o600))
	_, err = objects.Open(dir)
	require.ErrorContains(t, err, "r.json")
}
