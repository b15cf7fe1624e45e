//go:build ceph && cgo && realtest

package rbd_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/image/backend"
	"github.com/nacre-cloud/nacre/image/backend/backendtest"
	"github.com/nacre-cloud/nacre/image/backend/rbd"
	"github.com/nacre-cloud/nacre/internal/realserver"
)

const key = "0a1b2c3d-0000-4000-8000-000000000002"

// cluster is a Ceph with the pool images, and its command for block devices.
type cluster struct{ *realserver.CephCluster }

func (c cluster) run(args ...string) (string, error) {
	out, err := exec.Command("rbd", append([]string{"-c", c.Conf()}, args...)...).CombinedOutput()
	return string(out), err
}

func (c cluster) rbd(t testing.TB, args ...string) string {
	t.Helper()
	out, err := c.run(args...)
	require.NoError(t, err, "rbd %v: %s", args, out)
	return out
}

func (c cluster) open(t testing.TB, change func(*rbd.Options)) *rbd.Driver {
	t.Helper()
	o := rbd.Options{ConfigFile: c.Conf(), Pool: "images"}
	if change != nil {
		change(&o)
	}
	d, err := rbd.New(o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	return d
}

func TestCeph(t *testing.T) {
	c := cluster{realserver.Ceph(t, "images", "volumes")}
	t.Run("Contract", func(t *testing.T) {
		backendtest.Run(t, func(t *testing.T) backend.Driver {
			d := c.open(t, nil)
			t.Cleanup(func() { // one pool for all
				keys, err := d.List(context.Background())
				require.NoError(t, err)
				for _, k := range keys {
					require.NoError(t, d.Delete(context.Background(), k))
				}
			})
			return d
		})
	})
	t.Run("Layout", func(t *testing.T) { layout(t, c) })
	t.Run("Sizes", func(t *testing.T) { sizes(t, c) })
	t.Run("InUse", func(t *testing.T) { inUse(t, c) })
	t.Run("Trash", func(t *testing.T) { trash(t, c) })
	t.Run("Unfinished", func(t *testing.T) { unfinished(t, c) })
	t.Run("Memory", func(t *testing.T) { memory(t, c) })
	t.Run("Settings", func(t *testing.T) { fromSettings(t, c) })
	t.Run("Full", func(t *testing.T) { full(t, c) })
}

func random(n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(1, uint64(n)))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func put(t testing.TB, d *rbd.Driver, key string, data []byte) {
	t.Helper()
	n, err := d.Put(t.Context(), key, iotest.HalfReader(bytes.NewReader(data)))
	require.NoError(t, err)
	require.EqualValues(t, len(data), n)
}

// layout is Glance's: what the command sees, and what it can do with it.
func layout(t *testing.T, c cluster) {
	d := c.open(t, nil)
	data := random(9<<20 + 5)
	put(t, d, key, data)
	fsid := strings.TrimSpace(c.Ctl(t, "fsid"))
	require.Equal(t, "rbd://"+fsid+"/images/"+key+"/snap", d.URL(key))
	require.Equal(t, "rbd", d.Kind())
	require.Equal(t, map[string]any{"chunk_size": 8 << 20, "pool": "images", "thin_provisioning": false, "fsid": fsid}, d.Properties())
	var info struct {
		Size       int64 `json:"size"`
		ObjectSize int64 `json:"object_size"`
	}
	require.NoError(t, json.Unmarshal([]byte(c.rbd(t, "info", "images/"+key+"@snap", "--format", "json")), &info))
	require.EqualValues(t, len(data), info.Size)
	require.EqualValues(t, 8<<20, info.ObjectSize)
	var snaps []struct{ Name, Protected string }
	require.NoError(t, json.Unmarshal([]byte(c.rbd(t, "snap", "ls", "images/"+key, "--format", "json")), &snaps))
	require.Len(t, snaps, 1)
	require.Equal(t, "true", snaps[0].Protected)
	file := filepath.Join(t.TempDir(), "out")
	c.rbd(t, "export", "images/"+key+"@snap", file)
	b, err := os.ReadFile(file)
	require.NoError(t, err)
	require.True(t, bytes.Equal(data, b))
	_, err = d.Put(t.Context(), key, strings.NewReader("other"))
	require.Error(t, err, "a key is written once")
	r, size, err := d.Open(t.Context(), key)
	require.NoError(t, err)
	require.EqualValues(t, len(data), size)
	b, err = io.ReadAll(r)
	require.NoError(t, err)
	require.True(t, bytes.Equal(data, b), "the first one stays")
	require.NoError(t, r.Close())
	require.NoError(t, d.Delete(t.Context(), key))
	require.Empty(t, strings.TrimSpace(c.rbd(t, "ls", "images")))
}

// sizes around those at which the device grows.
func sizes(t *testing.T, c cluster) {
	for _, thin := range []bool{false, true} {
		d := c.open(t, func(o *rbd.Options) { o.ChunkSize = 1 << 16; o.Thin = thin })
		for _, n := range []int{0, 1, 1<<16 - 1, 1 << 16, 1<<16 + 1, 1 << 17, 1<<17 + 1, 1<<18 + 7} {
			data := random(n)
			clear(data[min(n, 1<<16):min(n, 1<<17)]) // a hole
			put(t, d, key, data)
			r, size, err := d.Open(t.Context(), key)
			require.NoError(t, err)
			require.EqualValues(t, n, size)
			got, err := io.ReadAll(r)
			require.NoError(t, err)
			require.True(t, bytes.Equal(data, got), "%d bytes", n)
			require.NoError(t, r.Close())
			if n == 1<<18+7 {
				var du struct {
					Images []struct {
						Used int64 `json:"used_size"`
					}
				}
				require.NoError(t, json.Unmarshal([]byte(c.rbd(t, "du", "images/"+key, "--format", "json")), &du))
				used := int64(0)
				for _, i := range du.Images {
					used += i.Used
				}
				require.EqualValues(t, map[bool]int{false: n, true: n - 1<<16}[thin], used, "thin: %v", thin)
			}
			require.NoError(t, d.Delete(t.Context(), key))
		}
	}
}

// inUse: an image with clones of either format, or with somebody's snapshot, stays as
// it is.
func inUse(t *testing.T, c cluster) {
	d := c.open(t, nil)
	ctx := t.Context()
	put(t, d, key, []byte("hello"))
	refused := func() {
		t.Helper()
		require.ErrorIs(t, d.InUse(ctx, key), nacre.Conflict)
		err := d.Delete(ctx, key)
		require.ErrorIs(t, err, nacre.Conflict)
		var e *nacre.Error
		require.ErrorAs(t, err, &e)
		require.Equal(t, "InUse", e.Code)
		r, _, err := d.Open(ctx, key)
		require.NoError(t, err)
		b, err := io.ReadAll(r)
		require.NoError(t, err)
		require.Equal(t, "hello", string(b))
		require.NoError(t, r.Close())
		require.Contains(t, c.rbd(t, "snap", "ls", "images/"+key, "--format", "json"), `"protected":"true"`)
	}
	for _, format := range []string{"1", "2"} {
		c.rbd(t, "clone", "--rbd-default-clone-format", format, "images/"+key+"@snap", "volumes/child")
		refused()
		c.rbd(t, "rm", "volumes/child")
	}
	c.rbd(t, "snap", "create", "images/"+key+"@mine")
	refused()
	c.rbd(t, "snap", "rm", "images/"+key+"@mine")
	require.NoError(t, d.InUse(ctx, key))
	require.NoError(t, d.Delete(ctx, key))
	require.NoError(t, d.Delete(ctx, key))
	require.NoError(t, d.InUse(ctx, key), "what is not there is in nobody's use")
}

// trash holds an image that was being read when it was deleted, for no longer.
func trash(t *testing.T, c cluster) {
	d := c.open(t, nil)
	put(t, d, key, random(4<<20))
	r, _, err := d.Open(t.Context(), key)
	require.NoError(t, err)
	require.NoError(t, d.Delete(t.Context(), key))
	_, _, err = d.Open(t.Context(), key)
	require.ErrorIs(t, err, nacre.NotFound)
	if b, err := io.ReadAll(r); err == nil {
		require.True(t, bytes.Equal(random(4<<20), b), "never other bytes")
	}
	require.NoError(t, r.Close())
	require.Eventually(t, func() bool {
		if d.Delete(context.Background(), key) != nil {
			return false
		}
		out, err := c.run("trash", "ls", "images")
		return err == nil && strings.TrimSpace(out) == ""
	}, time.Minute, 200*time.Millisecond)
	out, err := exec.Command("rados", "-c", c.Conf(), "-p", "images", "ls").Output()
	require.NoError(t, err)
	require.NotContains(t, string(out), "rbd_data", "the space is given back")
}

// unfinished is an upload whose process died: not there to read, shown to audits,
// gone by Delete, or by another upload.
func unfinished(t *testing.T, c cluster) {
	d := c.open(t, nil)
	ctx := t.Context()
	for _, end := range []func(){
		func() { require.NoError(t, d.Delete(ctx, key)) },
		func() { put(t, d, key, []byte("again")); require.NoError(t, d.Delete(ctx, key)) },
	} {
		c.rbd(t, "create", "images/"+key, "--size", "1M")
		_, _, err := d.Open(ctx, key)
		require.ErrorIs(t, err, nacre.NotFound)
		keys, err := d.List(ctx)
		require.NoError(t, err)
		require.Equal(t, []string{key}, keys)
		end()
		require.Empty(t, strings.TrimSpace(c.rbd(t, "ls", "images")))
	}
	c.rbd(t, "create", "images/somebody_elses", "--size", "1M")
	keys, err := d.List(ctx)
	require.NoError(t, err)
	require.Empty(t, keys)
	require.Error(t, d.Delete(ctx, "somebody_elses"))
	c.rbd(t, "rm", "images/somebody_elses")
}

type zeros struct {
	n    int64
	most uint64
}

func (z *zeros) Read(p []byte) (int, error) {
	if z.n <= 0 {
		return 0, io.EOF
	}
	n := int(min(z.n, int64(len(p))))
	if z.n -= int64(n); z.n%(16<<20) < int64(n) {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		z.most = max(z.most, m.HeapAlloc)
	}
	return n, nil
}

// memory is flat, however large the image.
func memory(t *testing.T, c cluster) {
	d := c.open(t, nil)
	var before runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	z := &zeros{n: 192 << 20}
	n, err := d.Put(t.Context(), key, z)
	require.NoError(t, err)
	require.EqualValues(t, 192<<20, n)
	require.Less(t, z.most, before.HeapAlloc+(24<<20))
	require.NoError(t, d.Delete(t.Context(), key))
}

func fromSettings(t *testing.T, c cluster) {
	decode := func(text string) func(any) error {
		return func(into any) error { return yaml.Unmarshal([]byte(text), into) }
	}
	d, err := rbd.FromSettings(decode("rbd_store_ceph_conf: " + c.Conf() + "\nrbd_store_chunk_size: 4\nrbd_thin_provisioning: true"))
	require.NoError(t, err)
	require.Equal(t, 4<<20, d.Properties()["chunk_size"])
	require.NoError(t, d.Close())
	for _, text := range []string{"rbd_store_chunk_size: 3", "rbd_store_ceph_conf: /no/such/file", "rbd_store_ceph_conf: " + c.Conf() + "\nrbd_store_pool: none",
		"rbd_store_ceph_conf: " + c.Conf() + "\nrbd_store_user: nobody\nrados_connect_timeout: 3"} {
		_, err := rbd.FromSettings(decode(text))
		require.Error(t, err, text)
	}
}

// full: a cluster that can hold no more says so, and the upload leaves nothing.
func full(t *testing.T, c cluster) {
	d := c.open(t, func(o *rbd.Options) { o.Timeout = 10 * time.Second })
	put(t, d, key, random(2<<20))
	defer c.FillUp(t)()
	const other = "0a1b2c3d-0000-4000-8000-000000000003"
	require.Eventually(t, func() bool {
		_, err := d.Put(context.Background(), other, bytes.NewReader(random(1<<20)))
		if err == nil {
			_ = d.Delete(context.Background(), other)
			return false
		}
		var e *nacre.Error
		return nacre.KindOf(err) == nacre.TooLarge && errors.As(err, &e) && e.Code == "StorageFull"
	}, 90*time.Second, 200*time.Millisecond)
	keys, err := d.List(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{key}, keys)
	require.NoError(t, d.Delete(t.Context(), key), "room can be made")
}
