package fs_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/objectstore/blob"
	"github.com/nacre-cloud/nacre/objectstore/blob/blobtest"
	blobfs "github.com/nacre-cloud/nacre/objectstore/blob/fs"
)

func open(tb testing.TB, dir string, o blobfs.Options) *blobfs.Store {
	s, err := blobfs.New(dir, o)
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, s.Close()) })
	return s
}

func TestStore(t *testing.T) {
	blobtest.Run(t, func(tb testing.TB) blob.Store { return open(tb, tb.TempDir(), blobfs.Options{}) })
}

func TestStoreOfManySegments(t *testing.T) {
	blobtest.Run(t, func(tb testing.TB) blob.Store {
		return open(tb, tb.TempDir(), blobfs.Options{Segment: 8 << 10, NoSync: true})
	})
}

func BenchmarkStore(b *testing.B) {
	blobtest.Bench(b, func(tb testing.TB) blob.Store { return open(tb, tb.TempDir(), blobfs.Options{}) })
}

// used is what a directory takes on disk.
func used(t *testing.T, dir string) (n int64) {
	require.NoError(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			var st syscall.Stat_t
			err = syscall.Lstat(path, &st)
			n += st.Blocks * 512
		}
		return err
	}))
	return n
}

func TestReopenedStoreFindsAllAndMakesNoKeyTwice(t *testing.T) {
	dir := t.TempDir()
	seen := map[string]bool{}
	for range 4 {
		s, err := blobfs.New(dir, blobfs.Options{})
		require.NoError(t, err)
		for k := range seen {
			got, err := blobtest.Get(s, k, 0, -1)
			require.NoError(t, err)
			require.Equal(t, blobtest.Bytes(10), got)
		}
		k := blobtest.Put(t, s, blobtest.Bytes(10))
		gone := blobtest.Put(t, s, blobtest.Bytes(11))
		require.NotContains(t, seen, k)
		require.NotContains(t, seen, gone)
		require.NoError(t, s.Delete(t.Context(), gone))
		seen[k] = true
		require.NoError(t, s.Close())
	}
	// With all of them deleted, numbers go on.
	s := open(t, dir, blobfs.Options{})
	for k := range seen {
		require.NoError(t, s.Delete(t.Context(), k))
	}
	require.NotContains(t, seen, blobtest.Put(t, s, blobtest.Bytes(10)))
}

func TestDeletingGivesRoomBack(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, blobfs.Options{Segment: 256 << 10, NoSync: true})
	before := used(t, dir)
	var keys []string
	for i := range 2000 {
		keys = append(keys, blobtest.Put(t, s, blobtest.Bytes(500+i%1000)))
	}
	full := used(t, dir)
	require.Greater(t, full, before+1<<20)
	require.NoError(t, s.Delete(t.Context(), keys[:1000]...))
	require.Less(t, used(t, dir)-before, (full-before)*6/10)
	require.NoError(t, s.Delete(t.Context(), keys[1000:]...))
	// What is left is the active segment's blocks that are shared with nothing.
	require.Less(t, used(t, dir)-before, int64(300<<10))
	for _, k := range []int{0, 500, 1999} {
		_, err := blobtest.Get(s, keys[k], 0, -1)
		require.ErrorIs(t, err, nacre.NotFound)
	}
}

// damage changes one byte of a file at an offset; a negative one counts from the end.
// Blobs that don't live long are deleted from the segment that is being written.
func TestShortLivedBlobsGiveRoomBack(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, blobfs.Options{Segment: 256 << 10, NoSync: true})
	before := used(t, dir)
	kept := blobtest.Put(t, s, blobtest.Bytes(700))
	for i := range 3000 {
		require.NoError(t, s.Delete(t.Context(), blobtest.Put(t, s, blobtest.Bytes(500+i%1000))))
	}
	require.Less(t, used(t, dir)-before, int64(600<<10))
	// What a process has left is given back by the next one's walk.
	require.NoError(t, s.Delete(t.Context(), kept))
	require.NoError(t, s.Close())
	s = open(t, dir, blobfs.Options{NoSync: true})
	require.NoError(t, s.Walk(t.Context(), func(blob.Info) error { return errors.New("there is nothing to show") }))
	require.Less(t, used(t, dir), before+8192)
}

func damage(t *testing.T, path string, at int64) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	st, err := f.Stat()
	require.NoError(t, err)
	if at < 0 {
		at += st.Size()
	}
	b := make([]byte, 1)
	_, err = f.ReadAt(b, at)
	require.NoError(t, err)
	b[0] ^= 0x10
	_, err = f.WriteAt(b, at)
	require.NoError(t, err)
	require.NoError(t, f.Close())
}

func TestRotIsFoundNeverHandedOutAndSetAside(t *testing.T) {
	for _, n := range []int{1000, 300000, 600000} {
		for _, at := range []int64{0, 25, 500, 200000, 400000, -1, -21} {
			dir := t.TempDir()
			s := open(t, dir, blobfs.Options{})
			other := blobtest.Put(t, s, blobtest.Bytes(77))
			key := blobtest.Put(t, s, blobtest.Bytes(n))
			path, shift := filepath.Join(dir, "large", key[1:3], key), int64(0)
			if n <= blobfs.Small {
				path, shift = filepath.Join(dir, "segments", "000000000001.seg"), 128
				if at < 0 {
					continue // what is behind the record is nobody's
				}
			}
			if at >= int64(n) {
				continue // among the sums
			}
			damage(t, path, at+shift)
			got, err := blobtest.Get(s, key, 0, -1)
			if n > blobfs.Small && at == -1 {
				// The trailer's own sum: only Verify's business, and no byte is wrong.
				require.NoError(t, err)
				require.True(t, bytes.Equal(blobtest.Bytes(n), got))
				continue
			}
			require.ErrorIs(t, err, blob.ErrRotten, "%d bytes, damaged at %d", n, at)
			require.True(t, bytes.HasPrefix(blobtest.Bytes(n), got), "what was handed out is right")
			if at > blobfs.Small {
				require.EqualValues(t, at/blobfs.Small*blobfs.Small, len(got), "and it is all that is")
			}
			require.ErrorIs(t, s.Verify(t.Context(), key), blob.ErrRotten)
			rotten, err := s.Rotten()
			require.NoError(t, err)
			require.Equal(t, []string{key}, rotten)
			_, err = blobtest.Get(s, key, 0, -1)
			require.ErrorIs(t, err, nacre.NotFound)
			require.NoError(t, s.Verify(t.Context(), other))
		}
	}
}

// What a power cut leaves of writes that were not synced is no blob.
func TestCutOffWritesAreNoBlobs(t *testing.T) {
	dir := t.TempDir()
	s, err := blobfs.New(dir, blobfs.Options{})
	require.NoError(t, err)
	first, last := blobtest.Put(t, s, blobtest.Bytes(3000)), blobtest.Put(t, s, blobtest.Bytes(3000))
	large := blobtest.Put(t, s, blobtest.Bytes(200000))
	require.NoError(t, s.Close())
	require.NoError(t, os.Truncate(filepath.Join(dir, "segments", "000000000001.seg"), 4000))
	require.NoError(t, os.Truncate(filepath.Join(dir, "large", large[1:3], large), 100000))
	s = open(t, dir, blobfs.Options{})
	sizes := map[string]int64{}
	require.NoError(t, s.Walk(t.Context(), func(i blob.Info) error { sizes[i.Key] = i.Size; return nil }))
	require.Equal(t, map[string]int64{first: 3000, large: -1}, sizes)
	_, err = blobtest.Get(s, last, 0, -1)
	require.Error(t, err)
	_, err = blobtest.Get(s, large, 0, -1)
	require.ErrorIs(t, err, blob.ErrRotten)
	require.NoError(t, s.Delete(t.Context(), large, last))
}

// A key that points into another blob's record takes nothing of it away.
func TestForeignKeyHarmsNothing(t *testing.T) {
	s := open(t, t.TempDir(), blobfs.Options{})
	key := blobtest.Put(t, s, blobtest.Bytes(500))
	require.NoError(t, s.Delete(t.Context(), "s000000000001-00000040-00005", "s000000000001-00000000-00005"))
	require.NoError(t, s.Verify(t.Context(), key))
}
