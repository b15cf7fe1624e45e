//go:build ceph && cgo && realtest

package rados_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/internal/realserver"
	"github.com/nacre-cloud/nacre/objectstore/blob"
	"github.com/nacre-cloud/nacre/objectstore/blob/blobtest"
	"github.com/nacre-cloud/nacre/objectstore/blob/rados"
)

var spaces atomic.Int64

func open(tb testing.TB, c *realserver.CephCluster, change func(*rados.Options)) *rados.Store {
	tb.Helper()
	o := rados.Options{ConfigFile: c.Conf(), Pool: "objects", Namespace: "t" + strconv.FormatInt(spaces.Add(1), 10), Timeout: time.Minute}
	if change != nil {
		change(&o)
	}
	s, err := rados.Open(context.Background(), o)
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, s.Close()) })
	return s
}

func TestCeph(t *testing.T) {
	c := realserver.Ceph(t, "objects")
	t.Run("Contract", func(t *testing.T) {
		blobtest.Run(t, func(tb testing.TB) blob.Store { return open(tb, c, nil) })
	})
	t.Run("Large", func(t *testing.T) { large(t, c) })
	t.Run("FlatMemory", func(t *testing.T) { flatMemory(t, c) })
	t.Run("Rotten", func(t *testing.T) { rotten(t, c) })
	t.Run("LeftOver", func(t *testing.T) { leftOver(t, c) })
	t.Run("Crash", func(t *testing.T) { crash(t, c) })
	t.Run("Full", func(t *testing.T) { full(t, c) })
	t.Run("Errors", func(t *testing.T) { mistakes(t, c) })
}

func BenchmarkCeph(b *testing.B) {
	c := realserver.Ceph(b, "objects")
	blobtest.Bench(b, func(tb testing.TB) blob.Store { return open(tb, c, nil) })
}

// objects are what is in a namespace of the pool, as the operator sees it.
func objects(t testing.TB, c *realserver.CephCluster, space string) []string {
	t.Helper()
	out, err := exec.Command("rados", "-c", c.Conf(), "-p", "objects", "-N", space, "ls").CombinedOutput()
	require.NoError(t, err, "%s", out)
	return strings.Fields(string(out))
}

const part = 4 << 20

// large blobs are cut, read from anywhere, read to the end while they are deleted,
// and their parts go in the end.
func large(t *testing.T, c *realserver.CephCluster) {
	var space string
	s := open(t, c, func(o *rados.Options) { o.Grace = 3 * time.Second; space = o.Namespace })
	ctx := t.Context()
	for _, n := range []int{part, part + 1, 2 * part, 2*part + 70000, 5*part - 1} {
		data := blobtest.Bytes(n)
		key := blobtest.Put(t, s, data)
		require.NoError(t, s.Verify(ctx, key))
		for _, off := range []int{0, part - 1, part, part + 65536, n - 1, n} {
			for _, l := range []int{-1, 1, 65537, part + 2} {
				got, err := blobtest.Get(s, key, int64(off), int64(l))
				require.NoError(t, err)
				from, to := min(off, n), n
				if l >= 0 {
					to = min(n, from+l)
				}
				require.True(t, bytes.Equal(data[from:to], got), "%d from %d of %d", l, off, n)
			}
		}
		r, err := s.Open(ctx, key, 0, -1)
		require.NoError(t, err)
		_, err = io.ReadFull(r, make([]byte, 10))
		require.NoError(t, err)
		require.NoError(t, s.Delete(ctx, key))
		_, err = s.Open(ctx, key, 0, -1)
		require.ErrorIs(t, err, nacre.NotFound)
		rest, err := io.ReadAll(r)
		require.NoError(t, err)
		require.True(t, bytes.Equal(data[10:], rest))
	}
	require.NoError(t, s.Walk(ctx, func(i blob.Info) error { return fmt.Errorf("%s is shown", i.Key) }))
	require.NotEmpty(t, objects(t, c, space), "parts stay for their readers")
	require.Eventually(t, func() bool { return len(objects(t, c, space)) == 0 && len(objects(t, c, space+".loose")) == 0 }, 40*time.Second, 500*time.Millisecond)
	failed := errors.New("the client went away")
	_, _, err := s.Put(ctx, io.MultiReader(bytes.NewReader(blobtest.Bytes(3*part)), iotest.ErrReader(failed)), -1)
	require.ErrorIs(t, err, failed)
	require.Empty(t, objects(t, c, space))
	require.Empty(t, objects(t, c, space+".loose"))
}

// zeros gives n bytes and remembers the most memory that was in use meanwhile.
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
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		z.most = max(z.most, m.HeapAlloc)
	}
	return n, nil
}

func flatMemory(t *testing.T, c *realserver.CephCluster) {
	s := open(t, c, nil)
	var before runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	z := &zeros{n: 256 << 20}
	key, n, err := s.Put(t.Context(), z, -1)
	require.NoError(t, err)
	require.EqualValues(t, 256<<20, n)
	require.Less(t, z.most, before.HeapAlloc+(24<<20))
	r, err := s.Open(t.Context(), key, 0, -1)
	require.NoError(t, err)
	n, err = io.Copy(io.Discard, r)
	require.NoError(t, err)
	require.EqualValues(t, 256<<20, n)
	require.NoError(t, r.Close())
}

// rotten bytes are found, never handed out, and set aside.
func rotten(t *testing.T, c *realserver.CephCluster) {
	var space string
	s := open(t, c, func(o *rados.Options) { space = o.Namespace })
	ctx := t.Context()
	file := filepath.Join(t.TempDir(), "x")
	cli := func(args ...string) {
		t.Helper()
		out, err := exec.Command("rados", append([]string{"-c", c.Conf(), "-p", "objects", "-N", space}, args...)...).CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	damage := func(name string) {
		t.Helper()
		cli("get", name, file)
		b, err := os.ReadFile(file)
		require.NoError(t, err)
		b[len(b)/2] ^= 1
		require.NoError(t, os.WriteFile(file, b, 0o600))
		cli("put", name, file)
	}
	for name, spoil := range map[string]func(key, id string){
		"a byte":         func(key, _ string) { damage(key) },
		"a part's byte":  func(_, id string) { damage(id + ".1") },
		"a missing part": func(_, id string) { cli("rm", id+".2") },
		"parts swapped":  func(_, id string) { cli("get", id+".0", file); cli("put", id+".1", file) },
		"cut off":        func(_, id string) { cli("truncate", id+".1", "1000") },
	} {
		n := 3*part - 5
		if name == "a byte" {
			n = 200000
		}
		data := blobtest.Bytes(n)
		key := blobtest.Put(t, s, data)
		id, _, _ := strings.Cut(key[1:], "-")
		spoil(key, id)
		got, err := blobtest.Get(s, key, 0, -1)
		require.ErrorIs(t, err, blob.ErrRotten, name)
		require.True(t, bytes.HasPrefix(data, got), name)
		require.ErrorIs(t, s.Verify(ctx, key), blob.ErrRotten, name)
		_, err = s.Open(ctx, key, 0, -1)
		require.ErrorIs(t, err, nacre.NotFound, name)
		require.Contains(t, objects(t, c, space+".rotten"), key)
		require.NoError(t, s.Walk(ctx, func(i blob.Info) error { return fmt.Errorf("%s is shown", i.Key) }), name)
	}
}

// leftOver is what a process leaves that dies while it puts: Walk shows it, Delete
// clears it, at whichever point it died.
func leftOver(t *testing.T, c *realserver.CephCluster) {
	var space string
	s := open(t, c, func(o *rados.Options) { space = o.Namespace })
	ctx := t.Context()
	whole := blobtest.Put(t, s, blobtest.Bytes(part+5))
	id, _, _ := strings.Cut(whole[1:], "-")
	put := func(in, name, text string) {
		t.Helper()
		cmd := exec.Command("rados", "-c", c.Conf(), "-p", "objects", "-N", in, "put", name, "-")
		cmd.Stdin = strings.NewReader(text)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	// Its Put died between the head and the end: the blob is there, and stays.
	put(space+".loose", id, `{"key":"`+whole+`"}`)
	// These died before they wrote a part, after one, and before the head.
	lost := map[string]bool{}
	for i, text := range []string{"", "{}", `{"key":"r` + strings.Repeat("3", 40) + `-400005"}`} {
		one := strings.Repeat(strconv.Itoa(i+1), 40)
		put(space+".loose", one, text)
		for n := range i {
			put(space, fmt.Sprintf("%s.%d", one, n), "data")
		}
		lost["l"+one] = true
	}
	require.NoError(t, s.Walk(ctx, func(i blob.Info) error {
		if i.Key != whole && !lost[i.Key] {
			return fmt.Errorf("%s is shown", i.Key)
		}
		if i.Key != whole {
			return s.Delete(ctx, i.Key)
		}
		return nil
	}))
	require.NoError(t, s.Delete(ctx, "l"+id), "the entry of a blob that is there")
	require.NoError(t, s.Verify(ctx, whole))
	require.Empty(t, objects(t, c, space+".loose"))
	require.Len(t, objects(t, c, space), 3, "a head and two parts")
}

// crash: what was acknowledged is there after the daemon that keeps it was killed.
func crash(t *testing.T, c *realserver.CephCluster) {
	s := open(t, c, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	var mu sync.Mutex
	put := map[string]int{}
	stop := make(chan struct{})
	fail := make(chan error, 4)
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				n := []int{100, 70000, part + 100}[i%3] + w
				key, _, err := s.Put(ctx, bytes.NewReader(blobtest.Bytes(n)), -1)
				if err != nil {
					fail <- err
					return
				}
				mu.Lock()
				put[key] = n
				mu.Unlock()
			}
		})
	}
	count := func() int { mu.Lock(); defer mu.Unlock(); return len(put) }
	for range 2 {
		before := count()
		require.Eventually(t, func() bool { return count() > before+20 }, time.Minute, 10*time.Millisecond)
		c.Crash()
	}
	before := count()
	require.Eventually(t, func() bool { return count() > before+5 }, time.Minute, 10*time.Millisecond, "puts go on by themselves")
	close(stop)
	wg.Wait()
	close(fail)
	require.NoError(t, <-fail, "an operation waits for the daemon")
	for key, n := range put {
		got, err := blobtest.Get(s, key, 0, -1)
		require.NoError(t, err)
		require.True(t, bytes.Equal(blobtest.Bytes(n), got))
	}
	shown := 0
	require.NoError(t, s.Walk(ctx, func(i blob.Info) error { shown++; return nil }))
	require.Equal(t, len(put), shown)
}

// full: a cluster that can hold no more is ErrFull at once, and what was there can be
// read and deleted.
func full(t *testing.T, c *realserver.CephCluster) {
	s := open(t, c, nil)
	key := blobtest.Put(t, s, blobtest.Bytes(100))
	defer c.FillUp(t)()
	require.Eventually(t, func() bool {
		_, _, err := s.Put(t.Context(), bytes.NewReader(blobtest.Bytes(1000)), -1)
		return errors.Is(err, blob.ErrFull)
	}, 30*time.Second, 100*time.Millisecond)
	got, err := blobtest.Get(s, key, 0, -1)
	require.NoError(t, err)
	require.Equal(t, blobtest.Bytes(100), got)
	require.NoError(t, s.Delete(t.Context(), key))
}

func mistakes(t *testing.T, c *realserver.CephCluster) {
	for name, o := range map[string]rados.Options{
		"no pool":      {ConfigFile: c.Conf()},
		"other pool":   {ConfigFile: c.Conf(), Pool: "nothing"},
		"no such user": {ConfigFile: c.Conf(), Pool: "objects", User: "nobody", Timeout: 3 * time.Second},
		"no such file": {ConfigFile: "/no/such/ceph.conf", Pool: "objects"},
	} {
		_, err := rados.Open(t.Context(), o)
		require.Error(t, err, name)
	}
	s := open(t, c, nil)
	require.NoError(t, s.Close())
	_, _, err := s.Put(t.Context(), strings.NewReader("x"), 1)
	require.ErrorIs(t, err, nacre.Unavailable)
}
