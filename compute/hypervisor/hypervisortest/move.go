package hypervisortest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/compute/hypervisor"
)

// direct is a peer in this process.
type direct struct {
	d  hypervisor.Mover
	id string
	// cut breaks what is read off in the middle.
	cut bool
}

func (p *direct) Files(ctx context.Context) ([]hypervisor.File, error) { return p.d.Files(ctx, p.id) }

func (p *direct) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	r, err := p.d.OpenFile(ctx, p.id, name)
	if err != nil || !p.cut {
		return r, err
	}
	p.cut = false
	data, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil {
		return nil, err
	}
	return io.NopCloser(io.MultiReader(bytes.NewReader(data[:len(data)/2]), brokenReader{})), nil
}

func (p *direct) Send(ctx context.Context, guest io.Reader) error {
	l, ok := p.d.(hypervisor.Lander)
	if !ok {
		return nacre.Errorf(nacre.Conflict, "migration", "no guest is expected here")
	}
	return l.Land(ctx, p.id, guest)
}

// pair gives the drivers of two hosts and a server on the first, created and resumed.
func (s *suite) pair(t *testing.T) (from, to hypervisor.Driver, spec hypervisor.Spec) {
	from, spec = s.open(t)
	to = s.Peer(t)
	t.Cleanup(func() { require.NoError(t, to.Delete(context.Background(), spec.ID)) })
	s.create(t, from, spec)
	require.NoError(t, from.Resume(ctx(t), spec.ID))
	s.booted(t, from, spec.ID, 1)
	return from, to, spec
}

func testColdMove(t *testing.T, s *suite) {
	if s.Peer == nil {
		return
	}
	from, to, spec := s.pair(t)
	require.NoError(t, from.Stop(ctx(t), spec.ID, s.Timeout))
	source := &direct{d: from.(hypervisor.Mover), id: spec.ID, cut: true}
	files, err := source.Files(ctx(t))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	_, err = source.d.OpenFile(ctx(t), spec.ID, "../"+spec.ID)
	require.Error(t, err)

	target := to.(hypervisor.Mover)
	require.Error(t, target.Receive(ctx(t), spec, source), "what breaks off is no server")
	if in, err := to.Get(ctx(t), spec.ID); err == nil {
		require.True(t, in.Partial)
	}
	for range 2 {
		require.NoError(t, target.Receive(ctx(t), spec, source))
		in, err := to.Get(ctx(t), spec.ID)
		require.NoError(t, err)
		require.False(t, in.Partial)
		require.Equal(t, hypervisor.Shutdown, in.Power)
	}
	require.NoError(t, from.Delete(ctx(t), spec.ID))
	require.NoError(t, to.Start(ctx(t), spec))
	if s.OnPaused != nil {
		s.OnPaused(t, spec)
	}
	require.NoError(t, to.Resume(ctx(t), spec.ID))
	s.booted(t, to, spec.ID, 1)
	require.NoError(t, to.Stop(ctx(t), spec.ID, 0))
}

func testLiveMove(t *testing.T, s *suite) {
	if s.Peer == nil || s.NoLive {
		return
	}
	from, to, spec := s.pair(t)
	source := &direct{d: from.(hypervisor.Mover), id: spec.ID}
	target := &direct{d: to.(hypervisor.Mover), id: spec.ID}
	offer := ""
	for range 2 {
		var err error
		offer, err = target.d.Prepare(ctx(t), spec, source)
		require.NoError(t, err)
		require.NotEmpty(t, offer)
		in, err := to.Get(ctx(t), spec.ID)
		require.NoError(t, err)
		require.True(t, in.Partial, "nothing runs there yet")
	}
	off, cancel := context.WithCancel(ctx(t))
	cancel()
	require.ErrorIs(t, source.d.Migrate(off, spec.ID, offer, target, func(hypervisor.Progress) {}), context.Canceled)
	require.Equal(t, hypervisor.Running, power(t, from, spec.ID), "called off, it runs on")

	_, err := target.d.Prepare(ctx(t), spec, source)
	require.NoError(t, err)
	seen := 0
	for range 2 {
		require.NoError(t, source.d.Migrate(ctx(t), spec.ID, offer, target, func(hypervisor.Progress) { seen++ }))
		in, err := from.Get(ctx(t), spec.ID)
		require.NoError(t, err)
		require.True(t, in.Moved)
		require.Equal(t, hypervisor.Shutdown, in.Power)
		in, err = to.Get(ctx(t), spec.ID)
		require.NoError(t, err)
		require.False(t, in.Partial)
		require.Equal(t, hypervisor.Running, in.Power)
	}
	require.Positive(t, seen)
	require.NoError(t, from.Delete(ctx(t), spec.ID))
	s.requireGone(t, from, hypervisor.Spec{ID: spec.ID})
	require.Equal(t, hypervisor.Running, power(t, to, spec.ID))

	// Back it goes paused, and stays so.
	require.NoError(t, to.Pause(ctx(t), spec.ID))
	offer, err = source.d.Prepare(ctx(t), spec, target)
	require.NoError(t, err)
	require.NoError(t, target.d.Migrate(ctx(t), spec.ID, offer, source, func(hypervisor.Progress) {}))
	in, err := from.Get(ctx(t), spec.ID)
	require.NoError(t, err)
	require.False(t, in.Partial || in.Moving || in.Moved)
	require.Equal(t, hypervisor.Paused, in.Power)
	require.NoError(t, to.Delete(ctx(t), spec.ID))
	from, to = to, from
	require.NoError(t, to.Resume(ctx(t), spec.ID))
	require.NoError(t, to.Reboot(ctx(t), spec.ID, true, 0))
	require.NoError(t, to.Stop(ctx(t), spec.ID, 0))
}
