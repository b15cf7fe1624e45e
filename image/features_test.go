package image_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"io"
	"math/big"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/image"
	"github.com/nacre-cloud/nacre/image/backend"
	"github.com/nacre-cloud/nacre/image/backend/mem"
	"github.com/nacre-cloud/nacre/store/storetest"
)

func TestQuota(t *testing.T) {
	onEach(t, func(w *world) {
		limits := image.FixedLimits{image.QuotaCount: 3, image.QuotaSize: 2, image.QuotaStage: 1, image.QuotaUploading: 1}
		w.setup = func(c *image.Config) { c.Limits = limits }
		w.s = w.service(w.engine)
		ctx := w.mine()
		a, b := w.create(ctx, "raw"), w.create(ctx, "raw")
		mib := make([]byte, 1<<20)
		_, err := w.s.Upload(ctx, a, bytes.NewReader(mib), int64(len(mib)))
		require.NoError(w, err)
		// Announced, announced too little, and not announced at all.
		_, err = w.s.Upload(ctx, b, bytes.NewReader(make([]byte, 3<<20)), 3<<20)
		require.ErrorIs(w, err, nacre.QuotaExceeded)
		_, err = w.s.Upload(ctx, b, bytes.NewReader(make([]byte, 3<<20)), 1<<20)
		require.Error(w, err)
		_, err = w.s.Upload(ctx, b, bytes.NewReader(make([]byte, 3<<20)), -1)
		require.ErrorIs(w, err, nacre.TooLarge)
		require.Equal(w, image.Queued, w.get(b).Status)
		require.ErrorIs(w, w.s.Stage(ctx, b, bytes.NewReader(make([]byte, 2<<20)), 2<<20), nacre.QuotaExceeded)
		require.ErrorIs(w, w.s.Stage(ctx, b, bytes.NewReader(make([]byte, 2<<20)), -1), nacre.TooLarge)

		// Two at once can't together take what one may: the second is refused at
		// the beginning (one upload at a time), or at the end.
		limits[image.QuotaUploading] = 5
		w.create(ctx, "raw")
		c := w.create(as(w.Context(), "p9"), "raw")
		require.NotEmpty(w, c)
		_, err = w.s.Create(ctx, image.Image{})
		require.ErrorIs(w, err, nacre.QuotaExceeded, "a fourth image")
		_, err = w.s.Upload(ctx, b, &slow{fn: func() {
			ims, err := w.s.List(ctx, nacre.Query{Filters: []nacre.Filter{{Name: "status", Value: "queued"}}})
			require.NoError(w, err)
			_, err = w.s.Upload(ctx, ims[0].ID, bytes.NewReader(mib), -1)
			require.NoError(w, err)
		}}, -1)
		require.ErrorIs(w, err, nacre.QuotaExceeded, "a byte over two MiB")
		usage, err := w.s.UsageOf(ctx)
		require.NoError(w, err)
		require.Equal(w, image.Usage{Usage: 2, Limit: 2}, usage[image.QuotaSize])
		require.Equal(w, image.Usage{Usage: 3, Limit: 3}, usage[image.QuotaCount])
		require.Equal(w, image.Usage{Usage: 0, Limit: 5}, usage[image.QuotaUploading])
		w.clean()
	})
}

// What a deleted image's upload still writes counts no more than it stays: the
// upload is stopped and its bytes go (the storage quota can't be outrun).
func TestStorageQuota(t *testing.T) {
	onEach(t, func(w *world) {
		w.setup = func(c *image.Config) { c.StorageQuota = 1000 }
		w.s = w.service(w.engine)
		ctx := w.mine()
		for range 3 {
			id := w.create(ctx, "raw")
			_, err := w.s.Upload(ctx, id, bytes.NewReader(make([]byte, 900)), -1)
			require.NoError(w, err)
			other := w.create(ctx, "raw")
			_, err = w.s.Upload(ctx, other, bytes.NewReader(make([]byte, 101)), -1)
			require.ErrorIs(w, err, nacre.TooLarge)
			require.NoError(w, w.s.Delete(ctx, id))
			_, err = w.s.Upload(ctx, other, bytes.NewReader(make([]byte, 101)), -1)
			require.NoError(w, err)
			require.NoError(w, w.s.Delete(ctx, other))
		}
		w.clean()
		require.Zero(w, w.blobs())
	})
}

func TestProtectedProperties(t *testing.T) {
	p, err := image.ParseProtections("# roles\n[^x_.*]\ncreate = boss\nread = @\nupdate = boss\ndelete = boss\n[^secret$]\ncreate = boss\nread = boss\nupdate = boss\ndelete = !\n[^free.*]\ncreate = @\nread = @\nupdate = @\ndelete = @\n", false)
	require.NoError(t, err)
	onEach(t, func(w *world) {
		w.setup = func(c *image.Config) { c.Protections = p }
		w.s = w.service(w.engine)
		mine, boss := w.mine(), as(w.Context(), "p1", "boss")
		for _, name := range []string{"x_a", "secret", "unmentioned"} {
			_, err := w.s.Create(mine, image.Image{Properties: map[string]string{name: "1"}})
			require.ErrorIs(w, err, nacre.Forbidden, name)
		}
		im, err := w.s.Create(boss, image.Image{Properties: map[string]string{"x_a": "1", "secret": "s", "free": "f"}})
		require.NoError(w, err)
		got, err := w.s.Get(mine, im.ID)
		require.NoError(w, err)
		require.Equal(w, map[string]string{"x_a": "1", "free": "f"}, got.Properties)
		set := func(ctx context.Context, fn func(map[string]string)) error {
			_, err := w.s.Update(ctx, im.ID, func(im *image.Image) error { fn(im.Properties); return nil })
			return err
		}
		require.ErrorIs(w, set(mine, func(p map[string]string) { p["x_a"] = "2" }), nacre.Forbidden)
		require.ErrorIs(w, set(mine, func(p map[string]string) { delete(p, "x_a") }), nacre.Forbidden)
		require.ErrorIs(w, set(mine, func(p map[string]string) { p["x_b"] = "2" }), nacre.Forbidden)
		require.ErrorIs(w, set(mine, func(p map[string]string) { p["secret"] = "2" }), nacre.Forbidden)
		require.ErrorIs(w, set(boss, func(p map[string]string) { delete(p, "secret") }), nacre.Forbidden)
		require.NoError(w, set(mine, func(p map[string]string) { p["free"], p["free2"] = "g", "h" }))
		got, err = w.s.Get(boss, im.ID)
		require.NoError(w, err)
		require.Equal(w, map[string]string{"x_a": "1", "free": "g", "free2": "h", "secret": "s"}, got.Properties, "what was hidden is kept")
		ims, err := w.s.List(mine, nacre.Query{})
		require.NoError(w, err)
		require.NotContains(w, ims[0].Properties, "secret")
	})
	for _, bad := range []string{"[(]\n", "create = x\n", "[a]\ncreate = x\n", "[a]\ncreate = @,!\nread=@\nupdate=@\ndelete=@\n", "[a]\nwrite = x\n"} {
		_, err := image.ParseProtections(bad, false)
		require.Error(t, err, bad)
	}
}

type keys map[string][]byte

func (k keys) Certificate(_ context.Context, id string) ([]byte, error) {
	if b, ok := k[id]; ok {
		return b, nil
	}
	return nil, nacre.Errorf(nacre.NotFound, "", "no")
}

func certificate(t *testing.T, key crypto.Signer, from, to time.Time) []byte {
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "signer"}, NotBefore: from, NotAfter: to}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func TestSignedImages(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	ecKey, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	require.NoError(t, err)
	now := time.Now()
	ks := keys{"rsa": certificate(t, rsaKey, now.AddDate(-40, 0, 0), now.AddDate(9, 0, 0)), "ec": certificate(t, ecKey, now.AddDate(-40, 0, 0), now.AddDate(9, 0, 0)),
		"old": certificate(t, rsaKey, now.AddDate(-40, 0, 0), now.AddDate(-30, 0, 0))}
	data := bytes.Repeat([]byte("signed"), 1000)
	sum := sha256.Sum256(data)
	pss, err := rsa.SignPSS(rand.Reader, rsaKey, crypto.SHA256, sum[:], nil)
	require.NoError(t, err)
	ec, err := ecdsa.SignASN1(rand.Reader, ecKey, sum[:])
	require.NoError(t, err)
	onEach(t, func(w *world) {
		w.setup = func(c *image.Config) { c.Keys = ks }
		w.s = w.service(w.engine)
		ctx := w.mine()
		do := func(sig []byte, hash, kind, cert string, data []byte) error {
			im, err := w.s.Create(ctx, image.Image{DiskFormat: "raw", ContainerFormat: "bare", Properties: map[string]string{"img_signature": base64.StdEncoding.EncodeToString(sig),
				"img_signature_hash_method": hash, "img_signature_key_type": kind, "img_signature_certificate_uuid": cert}})
			require.NoError(w, err)
			_, err = w.s.Upload(ctx, im.ID, bytes.NewReader(data), -1)
			status := w.get(im.ID).Status
			require.Equal(w, err == nil, status == image.Active)
			require.NoError(w, w.s.Stage(ctx, w.create(ctx, "raw"), strings.NewReader("x"), -1))
			return err
		}
		require.NoError(w, do(pss, "SHA-256", "RSA-PSS", "rsa", data))
		require.NoError(w, do(ec, "SHA-256", "ECC_SECP384R1", "ec", data))
		other := append([]byte("x"), data[1:]...)
		for name, err := range map[string]error{
			"other bytes": do(pss, "SHA-256", "RSA-PSS", "rsa", other), "other bytes, EC": do(ec, "SHA-256", "ECC_SECP384R1", "ec", other),
			"other hash": do(pss, "SHA-512", "RSA-PSS", "rsa", data), "no such hash": do(pss, "MD5", "RSA-PSS", "rsa", data), "other key": do(pss, "SHA-256", "ECC_SECP384R1", "ec", data),
			"wrong type": do(pss, "SHA-256", "ECC_SECP384R1", "rsa", data), "no certificate": do(pss, "SHA-256", "RSA-PSS", "none", data), "expired": do(pss, "SHA-256", "RSA-PSS", "old", data),
		} {
			require.ErrorIs(w, err, nacre.Invalid, name)
		}
	})
}

// A full disk, on the backend of files: nothing is left, by either entry.
func TestDiskFullOnFiles(t *testing.T) {
	onEach(t, func(w *world) {
		w.backend = full{w.backend}
		w.s = w.service(w.engine)
		ctx := w.mine()
		id := w.create(ctx, "raw")
		_, err := w.s.Upload(ctx, id, bytes.NewReader(make([]byte, 1<<20)), -1)
		require.ErrorIs(w, err, nacre.TooLarge)
		require.ErrorIs(w, w.s.Stage(ctx, id, bytes.NewReader(make([]byte, 1<<20)), -1), nacre.TooLarge)
		require.Equal(w, image.Queued, w.get(id).Status)
		w.clean()
		require.Zero(w, w.blobs())
	})
}

// full is a backend whose disk is full after some bytes.
type full struct{ backend.Driver }

func (f full) Put(ctx context.Context, key string, r io.Reader) (int64, error) {
	n, err := f.Driver.Put(ctx, key, io.MultiReader(io.LimitReader(r, 100<<10), failing{}))
	return n, &nacre.Error{Kind: nacre.TooLarge, Code: "StorageFull", Message: "full", Err: err}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, syscall.ENOSPC }

func TestCache(t *testing.T) {
	onEach(t, func(w *world) {
		cache := &mem.Driver{}
		w.setup = func(c *image.Config) { c.Cache = image.CacheOptions{Driver: cache, MaxSize: 1500} }
		w.s = w.service(w.engine)
		ctx := w.mine()
		var ids []string
		for range 3 {
			id := w.create(ctx, "raw")
			_, err := w.s.Upload(ctx, id, bytes.NewReader(bytes.Repeat([]byte("c"), 1000)), -1)
			require.NoError(w, err)
			require.NoError(w, w.s.CacheImage(w.admin(), id))
			ids = append(ids, id)
			w.clean()
			time.Sleep(time.Second)
		}
		// From the cache, though the store is gone.
		require.NoError(w, w.backend.Delete(ctx, w.get(ids[0]).Locations[0].Key))
		_, c, ok, err := w.s.Open(ctx, ids[0])
		require.NoError(w, err)
		require.True(w, ok)
		require.Empty(w, c.Store)
		require.NoError(w, c.Close())
		_, _, _, err = w.s.Open(as(w.Context(), "p2"), ids[0])
		require.ErrorIs(w, err, nacre.NotFound, "policy is asked before the cache")
		files, n, err := w.s.PruneCache(w.admin())
		require.NoError(w, err)
		require.EqualValues(w, 2, files)
		require.EqualValues(w, 2000, n)
		cached, _, err := w.s.CacheState(w.admin())
		require.NoError(w, err)
		require.Len(w, cached, 1)
		require.Equal(w, ids[0], cached[0].ID, "the one used last stays")
		require.NoError(w, w.s.Delete(ctx, ids[0]))
		stop := run(w.alone())
		require.Eventually(w, func() bool { return keysOf(w, cache) == 0 }, time.Minute, 10*time.Millisecond, "a deleted image leaves the cache")
		stop()

		// A crash at any call of the copying.
		for n := 1; ; n++ {
			require.NoError(w, w.s.CacheImage(w.admin(), ids[1]))
			calls, hit := 0, false
			dying, die := context.WithCancel(ctx)
			bad := w.service(storetest.Faulty(w.engine, func(string, string) error {
				if calls++; calls < n {
					return nil
				}
				hit = true
				die()
				return syscall.EIO
			}))
			done := make(chan struct{})
			go func() { defer close(done); _ = bad.Run(dying) }()
			time.Sleep(3 * time.Second)
			die()
			<-done
			w.clean()
			require.Equal(w, 1, keysOf(w, cache), "call %d", n)
			require.NoError(w, w.s.UncacheImage(w.admin(), ids[1]))
			w.clean()
			require.Zero(w, keysOf(w, cache), "call %d", n)
			if !hit || n > 40 {
				break
			}
		}
	})
}
