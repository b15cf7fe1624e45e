//go:build realtest

package fs_test

import (
	"bytes"
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/nacre-cloud/nacre/objectstore/blob"
	"github.com/nacre-cloud/nacre/objectstore/blob/blobtest"
	blobfs "github.com/nacre-cloud/nacre/objectstore/blob/fs"
)

// A full disk refuses, keeps what it had, and takes more once there is room.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "size=2m"), "this test mounts a small tmpfs: it needs root")
	defer func() { require.NoError(t, unix.Unmount(dir, unix.MNT_DETACH)) }()
	s, err := blobfs.New(dir, blobfs.Options{})
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	for _, n := range []int{1 << 10, 300 << 10} {
		kept := []string{}
		for {
			key, _, err := s.Put(context.Background(), bytes.NewReader(blobtest.Bytes(n)), int64(n))
			if err != nil {
				require.ErrorIs(t, err, blob.ErrFull)
				break
			}
			kept = append(kept, key)
		}
		require.NotEmpty(t, kept)
		for _, k := range kept {
			require.NoError(t, s.Verify(t.Context(), k))
		}
		require.NoError(t, s.Delete(t.Context(), kept...))
		blobtest.Put(t, s, blobtest.Bytes(n))
	}
}
