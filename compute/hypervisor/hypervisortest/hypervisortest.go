// Package hypervisortest is the suite that every [hypervisor.Driver] passes:
// Nacre's own simulated and libvirt drivers, and yours.
//
//	func TestContract(t *testing.T) {
//		hypervisortest.Run(t, hypervisortest.Options{
//			New: func(t *testing.T) hypervisor.Driver { return mydriver.New(t.TempDir()) },
//		})
//	}
//
// What a driver can't do in a given environment is said by a field of [Options],
// in the open; the suite itself never skips.
package hypervisortest

import (
	"bytes"
	"context"
	"crypto/sha512"
	"encoding/hex"
	"io"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/compute/hypervisor"
)

// Options says what is tested and in which environment.
type Options struct {
	// New opens the driver. It is called once for each subtest; drivers of one
	// host may share it.
	New func(t *testing.T) hypervisor.Driver
	// Reopen opens a second driver over the same state, as an agent that starts
	// anew would. Nil: the driver keeps nothing over a restart.
	Reopen func(t *testing.T) hypervisor.Driver
	// Image is the bootable image; nil means 1 MiB of zeros, raw.
	Image *Image
	// MemoryMB of each guest; 0 means 64.
	MemoryMB int
	// BootText is what a guest prints once it booted; it is waited for before a
	// guest is asked to turn itself off. Empty: guests don't really run.
	BootText string
	// Timeout bounds each wait for a guest; 0 means 10 s.
	Timeout time.Duration
	// Taps lists the tap devices that are there; nil if none are made.
	Taps func(t *testing.T) []string
	// OnPaused is called with a created, still paused instance's spec, to do
	// what a data plane does with its taps.
	OnPaused func(t *testing.T, spec hypervisor.Spec)
	// PowerOff makes a running guest turn itself off; nil if it can't be made to.
	PowerOff func(t *testing.T, d hypervisor.Driver, id string)
	// Interrupt makes the next Create of the id fail in its middle, as a crash
	// would. Nil: the images' stream breaks instead.
	Interrupt func(t *testing.T, d hypervisor.Driver, id string)
	// Leftovers lists what is on the host because of an instance (files,
	// definitions); it must be empty after Delete. Nil: only List is looked at.
	Leftovers func(t *testing.T, id string) []string
	// Peer opens the driver of another host, to which servers can move; nil: they can't.
	// NoLive says that in this environment they can only while they are off.
	Peer   func(t *testing.T) hypervisor.Driver
	NoLive bool
	// NoConsole says that this environment gives no serial console.
	NoConsole bool
}

// Image is an image and its bytes.
type Image struct {
	Format string
	Data   []byte
}

type suite struct {
	Options
	images *images
}

// Run runs the suite.
func Run(t *testing.T, o Options) {
	if o.Timeout == 0 {
		o.Timeout = 10 * time.Second
	}
	if o.MemoryMB == 0 {
		o.MemoryMB = 64
	}
	if o.Image == nil {
		o.Image = &Image{Format: "raw", Data: make([]byte, 1<<20)}
	}
	s := &suite{Options: o, images: newImages(o.Image)}
	for _, c := range []struct {
		name string
		f    func(*testing.T, *suite)
	}{
		{"Host", testHost},
		{"Absent", testAbsent},
		{"BadSpec", testBadSpec},
		{"Life", testLife},
		{"Idempotent", testIdempotent},
		{"WrongPower", testWrongPower},
		{"InterruptedCreate", testInterruptedCreate},
		{"DeletePartial", testDeletePartial},
		{"MissingImage", testMissingImage},
		{"Parallel", testParallel},
		{"Reopen", testReopen},
		{"PowerOff", testPowerOff},
		{"Watch", testWatch},
		{"ColdMove", testColdMove},
		{"LiveMove", testLiveMove},
	} {
		t.Run(c.name, func(t *testing.T) { c.f(t, s) })
	}
}

func ctx(t *testing.T) context.Context {
	c, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	return c
}

var counter atomic.Uint32

func (s *suite) spec() hypervisor.Spec {
	id, port, n := uuid.NewString(), uuid.NewString(), counter.Add(1)
	return hypervisor.Spec{
		ID: id, Name: "instance-" + id[:8], DisplayName: "contract-" + id[:4],
		ProjectID: "5f705771ccfb4f2fb5b1ed1a33ea1d5d", UserID: "5a1f6b3e6c044a0f9d3ff8f4a6a9fbbb", FlavorName: "m1.tiny",
		VCPUs: 1, MemoryMB: s.MemoryMB, ImageID: s.images.id,
		NICs: []hypervisor.NIC{{PortID: port, MAC: macOf(n), MTU: 1450, Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.5")}}},
		ConfigDrive: map[string][]byte{
			"openstack/latest/meta_data.json": []byte(`{"uuid": "` + id + `", "hostname": "contract", "name": "contract"}`),
		},
	}
}

func macOf(n uint32) string {
	const hexDigits = "0123456789abcdef"
	b := []byte("fa:16:3e:00:00:00")
	for i, shift := range []int{9, 10, 12, 13, 15, 16} {
		b[shift] = hexDigits[n>>(4*(5-i))&15]
	}
	return string(b)
}

// open gives a driver and a spec whose instance is deleted at the end.
func (s *suite) open(t *testing.T) (hypervisor.Driver, hypervisor.Spec) {
	d, spec := s.New(t), s.spec()
	t.Cleanup(func() {
		c, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		require.NoError(t, d.Delete(c, spec.ID))
	})
	return d, spec
}

func power(t *testing.T, d hypervisor.Driver, id string) hypervisor.Power {
	in, err := d.Get(ctx(t), id)
	require.NoError(t, err)
	return in.Power
}

func (s *suite) requireTaps(t *testing.T, spec hypervisor.Spec, there bool) {
	t.Helper()
	if s.Taps == nil {
		return
	}
	for _, n := range spec.NICs {
		require.Equal(t, there, slices.Contains(s.Taps(t), hypervisor.TapName(n.PortID)), "tap of port %s", n.PortID)
	}
}

func (s *suite) requireGone(t *testing.T, d hypervisor.Driver, spec hypervisor.Spec) {
	t.Helper()
	_, err := d.Get(ctx(t), spec.ID)
	require.ErrorIs(t, err, nacre.NotFound)
	list, err := d.List(ctx(t))
	require.NoError(t, err)
	require.False(t, slices.ContainsFunc(list, func(in hypervisor.Instance) bool { return in.ID == spec.ID }))
	if s.Taps != nil {
		s.requireTaps(t, spec, false)
	}
	if s.Leftovers != nil {
		require.Empty(t, s.Leftovers(t, spec.ID))
	}
}

// booted waits until the guest has printed BootText at least n times.
func (s *suite) booted(t *testing.T, d hypervisor.Driver, id string, n int) {
	t.Helper()
	if s.BootText == "" {
		return
	}
	s.eventually(t, "the guest's boot", func() bool {
		out, err := d.Console(ctx(t), id, 1<<20)
		require.NoError(t, err)
		return bytes.Count(out, []byte(s.BootText)) >= n
	})
}

func (s *suite) eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(s.Timeout); ; time.Sleep(20 * time.Millisecond) {
		if f() {
			return
		}
		if time.Now().After(end) {
			require.FailNow(t, "waited in vain for "+what)
		}
	}
}

// create makes the instance and does the data plane's part.
func (s *suite) create(t *testing.T, d hypervisor.Driver, spec hypervisor.Spec) {
	t.Helper()
	require.NoError(t, d.Create(ctx(t), spec, s.images))
	require.Equal(t, hypervisor.Paused, power(t, d, spec.ID))
	s.requireTaps(t, spec, true)
	if s.OnPaused != nil {
		s.OnPaused(t, spec)
	}
}

// images is a source of one image that counts and can break off.
type images struct {
	id    string
	img   *Image
	hash  string
	mu    sync.Mutex
	opens int
	cut   bool
}

func newImages(img *Image) *images {
	sum := sha512.Sum512(img.Data)
	return &images{id: uuid.NewString(), img: img, hash: "sha512:" + hex.EncodeToString(sum[:])}
}

func (i *images) Open(_ context.Context, _, imageID string) (io.ReadCloser, hypervisor.Image, error) {
	if imageID != i.id {
		return nil, hypervisor.Image{}, nacre.Errorf(nacre.NotFound, "ImageNotFound", "Image %s could not be found.", imageID)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.opens++
	var r io.Reader = bytes.NewReader(i.img.Data)
	if i.cut {
		i.cut = false
		r = io.MultiReader(bytes.NewReader(i.img.Data[:len(i.img.Data)/2]), brokenReader{})
	}
	return io.NopCloser(r), hypervisor.Image{ID: i.id, Format: i.img.Format, Size: int64(len(i.img.Data)), Hash: i.hash}, nil
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }
