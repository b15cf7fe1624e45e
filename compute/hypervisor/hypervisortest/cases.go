package hypervisortest

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/compute/hypervisor"
)

func testHost(t *testing.T, s *suite) {
	h, err := s.New(t).Host(ctx(t))
	require.NoError(t, err)
	require.NotEmpty(t, h.Name)
	require.NotEmpty(t, h.Type)
	require.Positive(t, h.Version)
	require.Positive(t, h.VCPUs)
	require.Positive(t, h.MemoryMB)
	require.Positive(t, h.DiskGB)
	require.GreaterOrEqual(t, h.DiskGB, h.DiskFreeGB)
	require.NotEmpty(t, h.Arch)
	require.Positive(t, h.Sockets*h.Cores*h.Threads)
	if !h.Accelerated {
		require.NotEmpty(t, h.Reason, "a host without acceleration says why")
	}
}

func testAbsent(t *testing.T, s *suite) {
	d, id := s.New(t), uuid.NewString()
	spec := s.spec()
	spec.ID = id
	_, err := d.Get(ctx(t), id)
	require.ErrorIs(t, err, nacre.NotFound)
	_, err = d.Console(ctx(t), id, 100)
	require.ErrorIs(t, err, nacre.NotFound)
	require.ErrorIs(t, d.Start(ctx(t), spec), nacre.NotFound)
	require.ErrorIs(t, d.Resume(ctx(t), id), nacre.NotFound)
	require.ErrorIs(t, d.Pause(ctx(t), id), nacre.NotFound)
	require.ErrorIs(t, d.Stop(ctx(t), id, 0), nacre.NotFound)
	require.ErrorIs(t, d.Reboot(ctx(t), id, true, 0), nacre.NotFound)
	require.NoError(t, d.Delete(ctx(t), id), "deleting what is not there succeeds")
}

func testBadSpec(t *testing.T, s *suite) {
	d := s.New(t)
	for name, f := range map[string]func(*hypervisor.Spec){
		"no id":       func(p *hypervisor.Spec) { p.ID = "" },
		"path":        func(p *hypervisor.Spec) { p.ID = "../../etc/passwd" },
		"no vcpu":     func(p *hypervisor.Spec) { p.VCPUs = 0 },
		"no memory":   func(p *hypervisor.Spec) { p.MemoryMB = 0 },
		"minus disk":  func(p *hypervisor.Spec) { p.RootGB = -1 },
		"bad port id": func(p *hypervisor.Spec) { p.NICs[0].PortID = "a/b" },
	} {
		spec := s.spec()
		f(&spec)
		require.ErrorIs(t, d.Create(ctx(t), spec, s.images), nacre.Invalid, name)
	}
}

func testLife(t *testing.T, s *suite) {
	d, spec := s.open(t)
	s.create(t, d, spec)
	in, err := d.Get(ctx(t), spec.ID)
	require.NoError(t, err)
	require.Equal(t, hypervisor.Instance{ID: spec.ID, Name: spec.Name, Power: hypervisor.Paused, VCPUs: 1, MemoryMB: s.MemoryMB}, in)
	list, err := d.List(ctx(t))
	require.NoError(t, err)
	require.Contains(t, list, in)

	require.NoError(t, d.Resume(ctx(t), spec.ID))
	require.Equal(t, hypervisor.Running, power(t, d, spec.ID))
	s.booted(t, d, spec.ID, 1)
	if !s.NoConsole {
		out, err := d.Console(ctx(t), spec.ID, 1<<20)
		require.NoError(t, err)
		require.NotEmpty(t, out)
		tail, err := d.Console(ctx(t), spec.ID, 10)
		require.NoError(t, err)
		require.LessOrEqual(t, len(tail), 10)
	}

	require.NoError(t, d.Pause(ctx(t), spec.ID))
	require.Equal(t, hypervisor.Paused, power(t, d, spec.ID))
	s.requireTaps(t, spec, true)
	require.NoError(t, d.Resume(ctx(t), spec.ID))

	require.NoError(t, d.Reboot(ctx(t), spec.ID, true, 0))
	require.Equal(t, hypervisor.Running, power(t, d, spec.ID))
	s.requireTaps(t, spec, true)
	s.booted(t, d, spec.ID, 2)
	require.NoError(t, d.Reboot(ctx(t), spec.ID, false, s.Timeout))
	require.Equal(t, hypervisor.Running, power(t, d, spec.ID))
	s.requireTaps(t, spec, true)
	s.booted(t, d, spec.ID, 3)

	require.NoError(t, d.Stop(ctx(t), spec.ID, s.Timeout))
	require.Equal(t, hypervisor.Shutdown, power(t, d, spec.ID))
	s.requireTaps(t, spec, false)
	require.NoError(t, d.Start(ctx(t), spec))
	require.Equal(t, hypervisor.Paused, power(t, d, spec.ID))
	s.requireTaps(t, spec, true)
	if s.OnPaused != nil {
		s.OnPaused(t, spec)
	}
	require.NoError(t, d.Resume(ctx(t), spec.ID))
	require.Equal(t, hypervisor.Running, power(t, d, spec.ID))
	require.NoError(t, d.Stop(ctx(t), spec.ID, 0))
	require.Equal(t, hypervisor.Shutdown, power(t, d, spec.ID))

	require.NoError(t, d.Delete(ctx(t), spec.ID))
	s.requireGone(t, d, spec)
}

func testIdempotent(t *testing.T, s *suite) {
	d, spec := s.open(t)
	s.create(t, d, spec)
	require.NoError(t, d.Create(ctx(t), spec, s.images))
	require.Equal(t, hypervisor.Paused, power(t, d, spec.ID))
	require.NoError(t, d.Pause(ctx(t), spec.ID))
	require.NoError(t, d.Start(ctx(t), spec), "paused counts as started")
	require.Equal(t, hypervisor.Paused, power(t, d, spec.ID))
	for range 2 {
		require.NoError(t, d.Resume(ctx(t), spec.ID))
		require.Equal(t, hypervisor.Running, power(t, d, spec.ID))
	}
	require.NoError(t, d.Start(ctx(t), spec))
	require.NoError(t, d.Create(ctx(t), spec, s.images))
	require.Equal(t, hypervisor.Running, power(t, d, spec.ID), "running stays running")
	for range 2 {
		require.NoError(t, d.Stop(ctx(t), spec.ID, 0))
		require.Equal(t, hypervisor.Shutdown, power(t, d, spec.ID))
	}
	for range 2 {
		require.NoError(t, d.Start(ctx(t), spec))
		require.Equal(t, hypervisor.Paused, power(t, d, spec.ID))
	}
	require.NoError(t, d.Stop(ctx(t), spec.ID, time.Second), "a paused guest can't answer, and is stopped all the same")
	require.Equal(t, hypervisor.Shutdown, power(t, d, spec.ID))
	for range 2 {
		require.NoError(t, d.Delete(ctx(t), spec.ID))
		s.requireGone(t, d, spec)
	}
}

func testWrongPower(t *testing.T, s *suite) {
	d, spec := s.open(t)
	s.create(t, d, spec)
	require.NoError(t, d.Stop(ctx(t), spec.ID, 0))
	require.ErrorIs(t, d.Resume(ctx(t), spec.ID), nacre.Conflict)
	require.ErrorIs(t, d.Pause(ctx(t), spec.ID), nacre.Conflict)
	require.ErrorIs(t, d.Reboot(ctx(t), spec.ID, true, 0), nacre.Conflict)
	require.ErrorIs(t, d.Reboot(ctx(t), spec.ID, false, 0), nacre.Conflict)
	require.Equal(t, hypervisor.Shutdown, power(t, d, spec.ID))
}

// interrupt makes a Create fail in its middle.
func (s *suite) interrupt(t *testing.T, d hypervisor.Driver, spec *hypervisor.Spec) {
	if s.Interrupt != nil {
		s.Interrupt(t, d, spec.ID)
	} else {
		// An image of its own, so that no cached copy hides the break.
		img := *s.images.img
		img.Data = append(slices.Clone(img.Data), make([]byte, 512)...)
		own := newImages(&img)
		own.cut = true
		s.images = own
		spec.ImageID = own.id
	}
	require.Error(t, d.Create(ctx(t), *spec, s.images))
}

func testInterruptedCreate(t *testing.T, s *suite) {
	own := *s
	d, spec := own.open(t)
	own.interrupt(t, d, &spec)
	list, err := d.List(ctx(t))
	require.NoError(t, err)
	for _, in := range list {
		if in.ID == spec.ID {
			require.True(t, in.Partial)
			require.NotEqual(t, hypervisor.Running, in.Power)
		}
	}
	own.create(t, d, spec)
	in, err := d.Get(ctx(t), spec.ID)
	require.NoError(t, err)
	require.False(t, in.Partial)
	require.NoError(t, d.Resume(ctx(t), spec.ID))
	own.booted(t, d, spec.ID, 1)
	require.NoError(t, d.Delete(ctx(t), spec.ID))
	own.requireGone(t, d, spec)
}

func testDeletePartial(t *testing.T, s *suite) {
	own := *s
	d, spec := own.open(t)
	own.interrupt(t, d, &spec)
	require.NoError(t, d.Delete(ctx(t), spec.ID))
	own.requireGone(t, d, spec)
}

func testMissingImage(t *testing.T, s *suite) {
	d, spec := s.open(t)
	spec.ImageID = uuid.NewString()
	err := d.Create(ctx(t), spec, s.images)
	require.ErrorIs(t, err, nacre.NotFound)
	require.ErrorContains(t, err, spec.ImageID)
	require.NoError(t, d.Delete(ctx(t), spec.ID))
	s.requireGone(t, d, spec)
}

func testParallel(t *testing.T, s *suite) {
	d := s.New(t)
	const n = 4
	specs := make([]hypervisor.Spec, n)
	for i := range specs {
		specs[i] = s.spec()
	}
	each := func(f func(hypervisor.Spec) error) {
		t.Helper()
		var wg sync.WaitGroup
		errs := make([]error, n)
		for i, spec := range specs {
			wg.Go(func() { errs[i] = f(spec) })
		}
		wg.Wait()
		for _, err := range errs {
			require.NoError(t, err)
		}
	}
	c := ctx(t)
	t.Cleanup(func() {
		for _, spec := range specs {
			require.NoError(t, d.Delete(context.Background(), spec.ID))
		}
	})
	each(func(p hypervisor.Spec) error { return d.Create(c, p, s.images) })
	for _, p := range specs {
		require.Equal(t, hypervisor.Paused, power(t, d, p.ID))
		s.requireTaps(t, p, true)
	}
	each(func(p hypervisor.Spec) error { return d.Resume(c, p.ID) })
	each(func(p hypervisor.Spec) error { return d.Stop(c, p.ID, 0) })
	each(func(p hypervisor.Spec) error { return d.Delete(c, p.ID) })
	for _, p := range specs {
		s.requireGone(t, d, p)
	}
}

func testReopen(t *testing.T, s *suite) {
	if s.Reopen == nil {
		return
	}
	d, spec := s.open(t)
	s.create(t, d, spec)
	require.NoError(t, d.Resume(ctx(t), spec.ID))
	before, err := d.Get(ctx(t), spec.ID)
	require.NoError(t, err)
	again := s.Reopen(t)
	after, err := again.Get(ctx(t), spec.ID)
	require.NoError(t, err)
	require.Equal(t, before, after)
	s.requireTaps(t, spec, true)
	require.NoError(t, again.Stop(ctx(t), spec.ID, 0))
	require.NoError(t, again.Delete(ctx(t), spec.ID))
	s.requireGone(t, again, spec)
}

func testPowerOff(t *testing.T, s *suite) {
	if s.PowerOff == nil {
		return
	}
	d, spec := s.open(t)
	watch, err := d.Watch(ctx(t))
	require.NoError(t, err)
	s.create(t, d, spec)
	require.NoError(t, d.Resume(ctx(t), spec.ID))
	s.booted(t, d, spec.ID, 1)
	s.PowerOff(t, d, spec.ID)
	late := time.After(s.Timeout)
	for {
		select {
		case id, ok := <-watch:
			require.True(t, ok)
			if id != spec.ID || power(t, d, spec.ID) != hypervisor.Shutdown {
				continue
			}
		case <-late:
			require.FailNow(t, "Watch told of no power off")
		}
		break
	}
	s.requireTaps(t, spec, false)
	require.NoError(t, d.Start(ctx(t), spec))
	require.Equal(t, hypervisor.Paused, power(t, d, spec.ID))
}

func testWatch(t *testing.T, s *suite) {
	d := s.New(t)
	c, cancel := context.WithCancel(t.Context())
	watch, err := d.Watch(c)
	require.NoError(t, err)
	cancel()
	late := time.After(s.Timeout)
	for {
		select {
		case _, ok := <-watch:
			if !ok {
				return
			}
		case <-late:
			require.FailNow(t, "the channel did not close with its context")
		}
	}
}
