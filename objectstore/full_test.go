//go:build realtest

package objectstore_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/nacre-cloud/nacre/objectstore"
	"github.com/nacre-cloud/nacre/objectstore/blob"
	blobfs "github.com/nacre-cloud/nacre/objectstore/blob/fs"
	"github.com/nacre-cloud/nacre/store/bunstore"
)

// The disk of the bytes, of the rows, or of both is full: what is new is refused
// without a trace, all that was acknowledged reads back, and once something else
// has gone the store takes more.
func TestFullDisk(t *testing.T) {
	for _, c := range []struct {
		name        string
		rows, bytes bool // on the small disk
	}{{"bytes", false, true}, {"rows", true, false}, {"both", true, true}} {
		t.Run(c.name, func(t *testing.T) {
			small, large := t.TempDir(), t.TempDir()
			require.NoError(t, unix.Mount("tmpfs", small, "tmpfs", 0, "size=24m"), "this test mounts a small tmpfs: it needs root")
			defer func() { require.NoError(t, unix.Unmount(small, unix.MNT_DETACH)) }()
			on := map[bool]string{true: small, false: large}
			e, err := bunstore.OpenSQLite(filepath.Join(on[c.rows], "db"), bunstore.Options{})
			require.NoError(t, err)
			blobs, err := blobfs.New(filepath.Join(on[c.bytes], "blobs"), blobfs.Options{Reserve: 6 << 20})
			require.NoError(t, err)
			defer func() { require.NoError(t, blobs.Close()) }()
			ballast := filepath.Join(small, "ballast")
			require.NoError(t, os.WriteFile(ballast, make([]byte, 1<<20), 0o600))
			w := newWorld(t, objectstore.Config{Engine: e, Blobs: blobs, Grace: -time.Hour, Secrets: testSecrets})
			w.container(t, "c")
			body := strings.Repeat("x", 8000)
			meta := map[string]string{}
			for i := range 15 {
				meta[fmt.Sprintf("X-Object-Meta-%d", i)] = strings.Repeat("m", 250)
			}
			put := func(i int) error {
				_, err := w.Put(w.ctx, objectstore.NewObject{Ref: ref("c", fmt.Sprintf("%05d", i)), Body: strings.NewReader(body), Size: int64(len(body)), Meta: meta})
				return err
			}
			n := 0
			for err = put(n); err == nil; err = put(n) {
				n++
				require.Less(t, n, 20000, "the disk is never full")
			}
			if c.bytes {
				require.True(t, errors.Is(err, blob.ErrFull) || c.rows, "%v", err)
			}
			require.Greater(t, n, 50)
			whole := func() {
				t.Helper()
				names := w.names(t, "c", objectstore.ListQuery{})
				require.GreaterOrEqual(t, len(names), n)
				for _, name := range names {
					got, err := w.get(ref("c", name), objectstore.GetOptions{})
					require.NoError(t, err)
					require.True(t, got == body)
				}
			}
			whole()
			for i := range 10 {
				if err := put(n + 1 + i); err == nil {
					n++
				}
			}
			whole()
			// Deleting gives room, on the full disk itself, as long as bytes leave rows
			// some of it.
			if c.bytes {
				for i := range 40 {
					_, err := w.Delete(w.ctx, ref("c", fmt.Sprintf("%05d", i)), objectstore.DeleteOptions{})
					require.NoError(t, err)
				}
				n -= 40
				require.NoError(t, w.Tidy(t.Context()))
				whole()
				require.NoError(t, put(60000))
				n++
			}
			require.NoError(t, os.Remove(ballast))
			require.NoError(t, put(50000))
			_, err = w.Delete(w.ctx, ref("c", "50000"), objectstore.DeleteOptions{})
			require.NoError(t, err)
			whole()
			require.NoError(t, w.Tidy(t.Context()))
			_, err = w.Sweep(t.Context())
			require.NoError(t, err)
			w.audit(t)
		})
	}
}
