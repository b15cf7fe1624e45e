package objectstore_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/objectstore"
	blobfs "github.com/nacre-cloud/nacre/objectstore/blob/fs"
	"github.com/nacre-cloud/nacre/objectstore/blob/mem"
	"github.com/nacre-cloud/nacre/store/bunstore"
	"github.com/nacre-cloud/nacre/store/memstore"
)

func secretOf(n byte) []byte { return bytes.Repeat([]byte{n}, 32) }

var testSecrets = &objectstore.Secrets{ByID: map[string][]byte{"": secretOf(1)}}

// reopen is another service on the same rows and bytes.
func (w *world) reopen(tb testing.TB, c objectstore.Config) *world {
	c.Engine, c.Blobs = w.engine, w.blobs
	s, err := objectstore.New(c)
	require.NoError(tb, err)
	return &world{Service: s, engine: w.engine, blobs: w.blobs, ctx: w.ctx}
}

// Nothing of what was put is in any file: neither body nor metadata nor tags, in no
// coding that one would look for.
func TestNothingPlainIsOnDisk(t *testing.T) {
	story := func(t *testing.T, secrets *objectstore.Secrets) (onDisk []byte, secret []string) {
		dir := t.TempDir()
		e, err := bunstore.OpenSQLite(filepath.Join(dir, "db"), bunstore.Options{})
		require.NoError(t, err)
		blobs, err := blobfs.New(filepath.Join(dir, "blobs"), blobfs.Options{})
		require.NoError(t, err)
		w := newWorld(t, objectstore.Config{Engine: e, Blobs: blobs, Secrets: secrets})
		on := true
		_, err = w.PutContainer(w.ctx, ref("v"), objectstore.ContainerChange{Versions: &on})
		require.NoError(t, err)
		w.container(t, "old")
		w.container(t, "c", "X-Versions-Location", "old")
		small, large := "the small plain text", strings.Repeat("a large plain text\n", 20000)
		for _, c := range []string{"c", "v"} {
			for _, body := range []string{small, large, small + "!"} {
				o, err := w.Put(w.ctx, objectstore.NewObject{Ref: ref(c, "o"), Body: strings.NewReader(body), Size: -1, Meta: map[string]string{"X-Object-Meta-Colour": "ultramarine", "X-Object-Sysmeta-Inner": "vermilion"}, ListEtag: ";s3_etag=cafecafecafe-2"})
				require.NoError(t, err)
				require.Equal(t, sum(body), o.Etag)
			}
		}
		_, err = w.PostObject(w.ctx, ref("c", "o"), objectstore.ObjectChange{Meta: map[string]string{"X-Object-Meta-Shade": "aquamarine"}})
		require.NoError(t, err)
		_, err = w.Put(w.ctx, objectstore.NewObject{Ref: ref("c", "slo"), Segments: []objectstore.Segment{{Path: "/c/o"}, {Data: base64.StdEncoding.EncodeToString([]byte("inline plain text"))}}})
		require.NoError(t, err)
		w.audit(t)
		require.NoError(t, blobs.Close())
		require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			b, err := os.ReadFile(path)
			onDisk = append(onDisk, b...)
			return err
		}))
		for _, s := range []string{"plain text", "Colour", "ultramarine", "vermilion", "aquamarine", "cafecafecafe", sum(small), sum(large), sum(small + "!"), "size_bytes", "last_modified"} {
			secret = append(secret, s, base64.StdEncoding.EncodeToString([]byte(s))[:len(s)/3*4])
		}
		return onDisk, secret
	}
	b, secret := story(t, nil)
	seen := 0
	for _, s := range secret {
		if bytes.Contains(b, []byte(s)) {
			seen++
		}
	}
	require.Greater(t, seen, 8, "the search finds what is there in the open")
	b, secret = story(t, testSecrets)
	require.Greater(t, len(b), 1<<19)
	for _, s := range secret {
		require.False(t, bytes.Contains(b, []byte(s)), "%q is on the disk", s)
	}
}

// Every part of a body reads as it was put, whatever the offset.
func TestRangesOfEncryptedBodies(t *testing.T) {
	w := newWorld(t, objectstore.Config{Secrets: testSecrets})
	w.container(t, "c")
	body := make([]byte, 100000)
	_, _ = rand.Read(body)
	w.put(t, "c", "o", string(body))
	c, err := w.Get(w.ctx, ref("c", "o"), objectstore.GetOptions{})
	require.NoError(t, err)
	for _, off := range []int64{0, 1, 15, 16, 17, 4095, 4096, 65535, 65536, 99999} {
		for _, n := range []int64{1, 15, 16, 17, 33, 5000, -1} {
			r, err := c.Open(w.ctx, off, n)
			require.NoError(t, err)
			got, err := io.ReadAll(r)
			require.NoError(t, err)
			require.NoError(t, r.Close())
			end := int64(len(body))
			if n >= 0 {
				end = min(end, off+n)
			}
			require.True(t, bytes.Equal(body[off:end], got[:end-off]), "%d bytes from %d", n, off)
		}
	}
}

// Secrets are rotated: what was put before encryption, under the old secret and
// under the new one all reads; a service that lacks a secret says so of what is
// sealed by it, and of nothing else.
func TestSecretsRotate(t *testing.T) {
	for name, open := range engines {
		t.Run(name, func(t *testing.T) {
			first := newWorld(t, objectstore.Config{Engine: open(t)})
			first.container(t, "c")
			first.container(t, "archive")
			first.put(t, "c", "plain", "plain")
			old := first.reopen(t, objectstore.Config{Secrets: &objectstore.Secrets{ByID: map[string][]byte{"": secretOf(1)}}})
			old.put(t, "c", "one", "one")
			both := map[string][]byte{"": secretOf(1), "2": secretOf(2)}
			now := first.reopen(t, objectstore.Config{Secrets: &objectstore.Secrets{ByID: both, Active: "2"}})
			now.put(t, "c", "two", "two")
			check := func(w *world, locked ...string) {
				t.Helper()
				_, es, err := w.ListObjects(w.ctx, ref("c"), objectstore.ListQuery{})
				require.NoError(t, err)
				require.Len(t, es, 3)
				for _, e := range es {
					got, err := w.get(ref("c", e.Name), objectstore.GetOptions{})
					if strings.Contains(strings.Join(locked, " "), e.Name) {
						require.ErrorIs(t, err, objectstore.ErrLocked, e.Name)
						require.Equal(t, "<unknown>", e.Etag)
						continue
					}
					require.NoError(t, err, e.Name)
					require.Equal(t, e.Name, got)
					require.Equal(t, sum(e.Name), e.Etag)
				}
				fs, err := w.Audit(t.Context(), true)
				require.NoError(t, err)
				require.Len(t, fs, len(locked))
			}
			check(now)
			check(old, "two")
			check(first, "one", "two")
			wrong := first.reopen(t, objectstore.Config{Secrets: &objectstore.Secrets{ByID: map[string][]byte{"": secretOf(9), "2": secretOf(2)}, Active: "2"}})
			check(wrong, "one")
			off := first.reopen(t, objectstore.Config{Secrets: &objectstore.Secrets{ByID: both, Active: "2", Disabled: true}})
			check(off)
			off.put(t, "c", "plain", "plain")
			check(first, "one", "two")

			// What is locked can't be changed, but be replaced and be deleted.
			_, err := wrong.PostObject(wrong.ctx, ref("c", "one"), objectstore.ObjectChange{})
			require.ErrorIs(t, err, objectstore.ErrLocked)
			wrong.put(t, "c", "one", "one")
			check(now)
			_, err = first.Delete(first.ctx, ref("c", "two"), objectstore.DeleteOptions{})
			require.NoError(t, err)
			now.put(t, "c", "two", "two")
			now.audit(t)
		})
	}
}

// A sealed row may move to another container, and to a version and back.
func TestSealedRowsMove(t *testing.T) {
	for name, open := range engines {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, objectstore.Config{Engine: open(t), Secrets: testSecrets})
			w.container(t, "old")
			w.container(t, "c", "X-Versions-Location", "old")
			w.put(t, "c", "o", "one")
			w.put(t, "c", "o", "two")
			kept := w.names(t, "old", objectstore.ListQuery{})
			require.Len(t, kept, 1)
			got, err := w.get(ref("old", kept[0]), objectstore.GetOptions{})
			require.NoError(t, err)
			require.Equal(t, "one", got)
			_, err = w.Delete(w.ctx, ref("c", "o"), objectstore.DeleteOptions{})
			require.NoError(t, err)
			got, err = w.get(ref("c", "o"), objectstore.GetOptions{})
			require.NoError(t, err)
			require.Equal(t, "one", got)

			on := true
			_, err = w.PutContainer(w.ctx, ref("v"), objectstore.ContainerChange{Versions: &on})
			require.NoError(t, err)
			first := w.put(t, "v", "o", "one")
			w.put(t, "v", "o", "two")
			_, es, err := w.ListObjects(w.ctx, ref("v"), objectstore.ListQuery{Versions: true})
			require.NoError(t, err)
			require.Equal(t, []string{sum("two"), sum("one")}, []string{es[0].Etag, es[1].Etag})
			o, err := w.Restore(w.ctx, ref("v", "o"), first.Version)
			require.NoError(t, err)
			require.Equal(t, sum("one"), o.Etag)
			got, err = w.get(ref("v", "o"), objectstore.GetOptions{})
			require.NoError(t, err)
			require.Equal(t, "one", got)
			w.audit(t)
		})
	}
}

func TestReadSecrets(t *testing.T) {
	b := func(n byte) string { return base64.StdEncoding.EncodeToString(secretOf(n)) }
	s, err := objectstore.ReadSecrets(strings.NewReader("# ours\n[keymaster]\nencryption_root_secret = " + b(1) + "\nencryption_root_secret_2=" + b(2) +
		"\nactive_root_secret_id = 2\nmeta_version_to_write = 3\n[kms_keymaster]\nkey_id = x\n"))
	require.NoError(t, err)
	require.Equal(t, &objectstore.Secrets{ByID: map[string][]byte{"": secretOf(1), "2": secretOf(2)}, Active: "2"}, s)
	s, err = objectstore.ReadSecrets(strings.NewReader("encryption_root_secret_a.b=" + b(1) + "\ndisable_encryption = yes\n"))
	require.NoError(t, err)
	require.True(t, s.Disabled)
	for text, want := range map[string]string{
		"":                                   "there is no encryption_root_secret",
		"[kms_keymaster]\nkey_id = x":        "there is no encryption_root_secret",
		"encryption_root_secret = changeme":  `the root secret "" is shorter than 32 bytes`,
		"encryption_root_secret = ?":         "line 1: encryption_root_secret is not base64",
		"encryption_root_secret_2 = " + b(1): `no root secret "" to encrypt with`,
		"root_secret = " + b(1):              `unknown option "root_secret"`,
		"encryption_root_secret_ä = " + b(1): "can't be a root secret's id",
		"what":                               "line 1 is no option",
	} {
		_, err := objectstore.ReadSecrets(strings.NewReader(text))
		require.ErrorContains(t, err, want, "%q", text)
	}
	_, err = objectstore.New(objectstore.Config{Engine: memstore.New(memstore.Options{}), Blobs: &mem.Store{}, Secrets: &objectstore.Secrets{}})
	require.ErrorContains(t, err, "no root secret")
}

// A body that ends early leaves nothing, encrypted as well.
func TestEncryptedBodiesThatBreakOff(t *testing.T) {
	w := newWorld(t, objectstore.Config{Secrets: testSecrets, Grace: -time.Hour})
	w.container(t, "c")
	broken := errors.New("the client went away")
	_, err := w.Put(context.WithoutCancel(w.ctx), objectstore.NewObject{Ref: ref("c", "o"), Body: io.MultiReader(strings.NewReader("some"), errReader{broken}), Size: -1})
	require.ErrorIs(t, err, broken)
	_, err = w.Put(w.ctx, objectstore.NewObject{Ref: ref("c", "o"), Body: strings.NewReader("some"), Size: 4, Etag: sum("other")})
	require.ErrorIs(t, err, objectstore.ErrEtag)
	require.Empty(t, w.names(t, "c", objectstore.ListQuery{}))
	w.audit(t)
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }
