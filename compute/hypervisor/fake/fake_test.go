package fake_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/compute/hypervisor"
	"github.com/nacre-cloud/nacre/compute/hypervisor/fake"
	"github.com/nacre-cloud/nacre/compute/hypervisor/hypervisortest"
)

// plane is a data plane that only remembers taps.
type plane struct {
	mu   sync.Mutex
	taps map[string]bool
}

func (p *plane) tap(name string, up bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if up {
		p.taps[name] = true
	} else {
		delete(p.taps, name)
	}
}

func (p *plane) list() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Sorted(maps.Keys(p.taps))
}

func TestContract(t *testing.T) {
	for _, dir := range []bool{false, true} {
		t.Run(fmt.Sprintf("dir=%v", dir), func(t *testing.T) {
			p := &plane{taps: map[string]bool{}}
			cfg := fake.Config{ReadImages: true, OnTap: p.tap}
			if dir {
				cfg.Dir = t.TempDir()
			}
			open := func(t *testing.T) hypervisor.Driver {
				d, err := fake.New(cfg)
				require.NoError(t, err)
				return d
			}
			other, err := fake.New(fake.Config{Name: "other"})
			require.NoError(t, err)
			o := hypervisortest.Options{
				Peer: func(*testing.T) hypervisor.Driver { return other },
				New:  open,
				Taps: func(*testing.T) []string { return p.list() },
				// The name is in the console, with the boot.
				BootText: "login:",
				PowerOff: func(t *testing.T, d hypervisor.Driver, id string) {
					require.NoError(t, d.(*fake.Driver).PowerOff(id))
				},
				Interrupt: func(t *testing.T, d hypervisor.Driver, id string) {
					var remove func()
					remove = d.(*fake.Driver).Fault(fake.MidCreate, id, func(context.Context, string) error {
						remove()
						return errors.New("killed")
					})
				},
			}
			if dir {
				o.Reopen = open
				o.Leftovers = func(t *testing.T, id string) []string {
					found, err := filepath.Glob(filepath.Join(cfg.Dir, id+"*"))
					require.NoError(t, err)
					return found
				}
			}
			hypervisortest.Run(t, o)
			require.Empty(t, p.list())
		})
	}
}

func spec(id string) hypervisor.Spec {
	return hypervisor.Spec{ID: id, Name: "instance-" + id, DisplayName: "vm-" + id, VCPUs: 1, MemoryMB: 64, RootGB: 1,
		NICs: []hypervisor.NIC{{PortID: "port-" + id, MAC: "fa:16:3e:00:00:01", MTU: 1450}}}
}

func TestConsoleNamesTheServer(t *testing.T) {
	d, err := fake.New(fake.Config{})
	require.NoError(t, err)
	require.NoError(t, d.Create(t.Context(), spec("a"), nil))
	out, err := d.Console(t.Context(), "a", 1000)
	require.NoError(t, err)
	require.Empty(t, out, "paused before its first instruction")
	require.NoError(t, d.Resume(t.Context(), "a"))
	out, err = d.Console(t.Context(), "a", 1000)
	require.NoError(t, err)
	require.Contains(t, string(out), "fake console: vm-a login:")
	for range 3000 {
		require.NoError(t, d.Reboot(t.Context(), "a", true, 0))
	}
	out, err = d.Console(t.Context(), "a", -1)
	require.NoError(t, err)
	require.LessOrEqual(t, len(out), 64<<10)
}

func TestFoundAgainAsItWas(t *testing.T) {
	p := &plane{taps: map[string]bool{}}
	dir := t.TempDir()
	d, err := fake.New(fake.Config{Dir: dir})
	require.NoError(t, err)
	for _, id := range []string{"running", "paused", "stopped", "partial"} {
		if id == "partial" {
			d.Fault(fake.MidCreate, id, func(context.Context, string) error { return io.EOF })
			require.ErrorIs(t, d.Create(t.Context(), spec(id), nil), io.EOF)
			continue
		}
		require.NoError(t, d.Create(t.Context(), spec(id), nil))
	}
	require.NoError(t, d.Resume(t.Context(), "running"))
	require.NoError(t, d.Stop(t.Context(), "stopped", 0))
	want, err := d.List(t.Context())
	require.NoError(t, err)
	console, err := d.Console(t.Context(), "running", -1)
	require.NoError(t, err)

	// What a write that was cut off leaves is not an instance.
	require.NoError(t, os.WriteFile(filepath.Join(dir, "x.1.json.tmp"), []byte(`{"sp`), 0o600))
	again, err := fake.New(fake.Config{Dir: dir, OnTap: p.tap})
	require.NoError(t, err)
	got, err := again.List(t.Context())
	require.NoError(t, err)
	require.Equal(t, want, got)
	require.Len(t, got, 4)
	require.Equal(t, []string{hypervisor.TapName("port-paused"), hypervisor.TapName("port-running")}, p.list())
	same, err := again.Console(t.Context(), "running", -1)
	require.NoError(t, err)
	require.Equal(t, string(console), string(same))
	require.NoFileExists(t, filepath.Join(dir, "x.1.json.tmp"))

	require.NoError(t, os.WriteFile(filepath.Join(dir, "y.1.json"), []byte(`{"sp`), 0o600))
	_, err = fake.New(fake.Config{Dir: dir})
	require.ErrorContains(t, err, "y.1.json", "a damaged state is told, never silently forgotten")
}

func TestFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, err := fake.New(fake.Config{})
		require.NoError(t, err)
		slow := d.Fault("Create", "", func(ctx context.Context, _ string) error {
			select {
			case <-time.After(10 * time.Second):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		begin := time.Now()
		var wg sync.WaitGroup
		for _, id := range []string{"a", "b"} {
			wg.Go(func() { require.NoError(t, d.Create(t.Context(), spec(id), nil)) })
		}
		wg.Wait()
		require.Equal(t, 10*time.Second, time.Since(begin), "one slow instance does not hold up another")
		c, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, d.Create(c, spec("c"), nil), context.DeadlineExceeded)
		slow()
		d.Fault("Resume", "a", func(context.Context, string) error { return hypervisor.Fault("no") })
		require.Error(t, d.Resume(t.Context(), "a"))
		require.NoError(t, d.Resume(t.Context(), "b"))
	})
}

func TestCrash(t *testing.T) {
	p := &plane{taps: map[string]bool{}}
	d, err := fake.New(fake.Config{OnTap: p.tap})
	require.NoError(t, err)
	watch, err := d.Watch(t.Context())
	require.NoError(t, err)
	require.NoError(t, d.Create(t.Context(), spec("a"), nil))
	require.NoError(t, d.Resume(t.Context(), "a"))
	require.NoError(t, d.Crash("a"))
	require.Equal(t, "a", <-watch)
	in, err := d.Get(t.Context(), "a")
	require.NoError(t, err)
	require.Equal(t, hypervisor.Crashed, in.Power)
	require.Empty(t, p.list())
	require.NoError(t, d.Start(t.Context(), spec("a")))
	require.NoError(t, d.Resume(t.Context(), "a"))
}

func TestHostCountsDisk(t *testing.T) {
	d, err := fake.New(fake.Config{DiskGB: 10})
	require.NoError(t, err)
	require.NoError(t, d.Create(t.Context(), spec("a"), nil))
	h, err := d.Host(t.Context())
	require.NoError(t, err)
	require.Equal(t, 10, h.DiskGB)
	require.Equal(t, 9, h.DiskFreeGB)
	require.Equal(t, []int{64, 256 << 10}, []int{h.VCPUs, h.MemoryMB})
}

func TestImageIsChecked(t *testing.T) {
	d, err := fake.New(fake.Config{ReadImages: true})
	require.NoError(t, err)
	s := spec("a")
	s.ImageID = "img"
	for name, img := range map[string]hypervisor.Image{
		"size": {Size: 4}, "hash": {Size: 3, Hash: "sha512:00"},
	} {
		require.Error(t, d.Create(t.Context(), s, oneImage{img}), name)
		in, err := d.Get(t.Context(), "a")
		require.NoError(t, err)
		require.True(t, in.Partial)
	}
	require.NoError(t, d.Create(t.Context(), s, oneImage{hypervisor.Image{Size: 3}}))
}

type oneImage struct{ img hypervisor.Image }

func (o oneImage) Open(context.Context, string, string) (io.ReadCloser, hypervisor.Image, error) {
	return io.NopCloser(strings.NewReader("abc")), o.img, nil
}

func BenchmarkBoot(b *testing.B) {
	for _, dir := range []bool{false, true} {
		b.Run(fmt.Sprintf("dir=%v", dir), func(b *testing.B) {
			cfg := fake.Config{}
			if dir {
				cfg.Dir = b.TempDir()
			}
			d, err := fake.New(cfg)
			require.NoError(b, err)
			i := 0
			for b.Loop() {
				i++
				id := fmt.Sprint("vm", i)
				if err := d.Create(b.Context(), spec(id), nil); err != nil {
					b.Fatal(err)
				}
				if err := d.Resume(b.Context(), id); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "boots/s")
		})
	}
}
