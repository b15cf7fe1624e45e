package fake

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/compute/hypervisor"
)

// MidReceive and MidMigrate are the fault points inside Receive, when the instance is
// recorded as partial, and inside Migrate, when the guest stands still and was not
// handed over yet.
const (
	MidReceive = "MidReceive"
	MidMigrate = "MidMigrate"
)

var (
	_ hypervisor.Mover  = (*Driver)(nil)
	_ hypervisor.Lander = (*Driver)(nil)
)

// guestFile is all that a simulated server has.
const guestFile = "guest"

// maxGuest bounds what is read of a peer, in bytes.
const maxGuest = 1 << 20

func (d *Driver) guest(id string) ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	in, ok := d.instances[id]
	if !ok || in.Partial {
		return nil, hypervisor.NotFound(id)
	}
	return json.Marshal(in)
}

// Files implements hypervisor.Mover.
func (d *Driver) Files(ctx context.Context, id string) ([]hypervisor.File, error) {
	if err := d.fail(ctx, "Files", id); err != nil {
		return nil, err
	}
	data, err := d.guest(id)
	if err != nil {
		return nil, err
	}
	return []hypervisor.File{{Name: guestFile, Size: int64(len(data))}}, nil
}

// OpenFile implements hypervisor.Mover.
func (d *Driver) OpenFile(ctx context.Context, id, name string) (io.ReadCloser, error) {
	if err := d.fail(ctx, "OpenFile", id); err != nil {
		return nil, err
	}
	if name != guestFile {
		return nil, nacre.Errorf(nacre.NotFound, "file", "The server has no file %s.", name)
	}
	data, err := d.guest(id)
	return io.NopCloser(bytes.NewReader(data)), err
}

// begin records an instance as partial; there says that it is complete already.
func (d *Driver) begin(spec hypervisor.Spec, expected bool) (there bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	old := d.instances[spec.ID]
	if old != nil && !old.Partial {
		return true, nil
	}
	in := &instance{Spec: spec, Partial: true, Power: hypervisor.Shutdown, Expected: expected}
	if old != nil {
		in.version = old.version
	}
	if err := d.save(in); err != nil {
		return false, err
	}
	d.instances[spec.ID] = in
	return false, nil
}

// Receive implements hypervisor.Mover.
func (d *Driver) Receive(ctx context.Context, spec hypervisor.Spec, from hypervisor.Peer) error {
	if err := spec.Check(); err != nil {
		return err
	}
	if err := d.fail(ctx, "Receive", spec.ID); err != nil {
		return err
	}
	if there, err := d.begin(spec, false); there || err != nil {
		return err
	}
	if err := d.fail(ctx, MidReceive, spec.ID); err != nil {
		return err
	}
	r, err := from.Open(ctx, guestFile)
	if err != nil {
		return err
	}
	was, err := readGuest(r)
	if err := errors.Join(err, r.Close()); err != nil {
		return err
	}
	_, err = d.change(spec.ID, func(in *instance) error {
		in.Partial, in.Boots, in.Console = false, was.Boots, was.Console
		return nil
	})
	return err
}

func readGuest(r io.Reader) (*instance, error) {
	in := &instance{}
	data, err := io.ReadAll(io.LimitReader(r, maxGuest))
	if err == nil {
		err = json.Unmarshal(data, in)
	}
	if err != nil {
		return nil, &nacre.Error{Kind: nacre.Unavailable, Code: "fault", Message: "The other host's server could not be read.", Err: err}
	}
	return in, nil
}

// Prepare implements hypervisor.Mover.
func (d *Driver) Prepare(ctx context.Context, spec hypervisor.Spec, from hypervisor.Peer) (string, error) {
	if err := spec.Check(); err != nil {
		return "", err
	}
	if err := d.fail(ctx, "Prepare", spec.ID); err != nil {
		return "", err
	}
	if _, err := from.Files(ctx); err != nil {
		return "", err
	}
	_, err := d.begin(spec, true)
	return "fake://" + d.cfg.Name, err
}

// handing bounds how long a guest stands still while it is handed over.
const handing = 10 * time.Second

// Migrate implements hypervisor.Mover. The guest stands still before it is handed over,
// and goes on here only when the peer has said that it did not take it.
func (d *Driver) Migrate(ctx context.Context, id, _ string, to hypervisor.Peer, progress func(hypervisor.Progress)) error {
	d.mu.Lock()
	in := d.instances[id]
	d.mu.Unlock()
	switch {
	case in == nil || in.Partial:
		return hypervisor.NotFound(id)
	case in.Moved:
		return nil
	case !in.Sending:
		total := int64(in.Spec.MemoryMB) << 20
		progress(hypervisor.Progress{MemoryTotal: total, MemoryLeft: total})
		if err := d.fail(ctx, "Migrate", id); err != nil {
			return err
		}
		if _, err := d.change(id, func(in *instance) error {
			if in.Power != hypervisor.Running && in.Power != hypervisor.Paused {
				return hypervisor.BadPower(id, in.Power, "live migrate")
			}
			in.Before, in.Power, in.Sending = in.Power, hypervisor.Paused, true
			return nil
		}); err != nil {
			return err
		}
		if err := d.fail(context.WithoutCancel(ctx), MidMigrate, id); err != nil {
			return err
		}
	}
	data, err := d.guest(id)
	if err != nil {
		return err
	}
	hand, cancel := context.WithTimeout(context.WithoutCancel(ctx), handing)
	defer cancel()
	err = to.Send(hand, bytes.NewReader(data))
	var e *nacre.Error
	if errors.As(err, &e) && e.Kind != nacre.Unavailable {
		_, back := d.change(id, func(in *instance) error {
			in.Power, in.Sending = in.Before, false
			return nil
		})
		return errors.Join(back, err)
	} else if err != nil {
		return err
	}
	if in, err = d.change(id, func(in *instance) error {
		in.Power, in.Sending, in.Moved = hypervisor.Shutdown, false, true
		return nil
	}); err != nil {
		return err
	}
	d.taps(in.Spec, false)
	return nil
}

// Land implements hypervisor.Lander.
func (d *Driver) Land(ctx context.Context, id string, guest io.Reader) error {
	if err := d.fail(ctx, "Land", id); err != nil {
		return err
	}
	was, err := readGuest(guest)
	if err != nil {
		return err
	}
	fresh := false
	in, err := d.change(id, func(in *instance) error {
		switch {
		case !in.Partial && !in.Moved && in.alive():
			return nil
		case !in.Expected:
			return nacre.Errorf(nacre.Conflict, "migration", "The server %s is not expected here.", id)
		}
		fresh = true
		in.Partial, in.Expected, in.Power = false, false, cmp.Or(was.Before, hypervisor.Running)
		in.Boots, in.Booted, in.Console = was.Boots, was.Booted, was.Console
		return nil
	})
	if errors.Is(err, nacre.NotFound) {
		return nacre.Errorf(nacre.Conflict, "migration", "The server %s is not expected here.", id)
	}
	if err == nil && fresh {
		d.taps(in.Spec, true)
		d.notify.Notify(id)
	}
	return err
}

// Hurry implements hypervisor.Mover: a simulated guest has no pace to lose.
func (d *Driver) Hurry(ctx context.Context, id string) error {
	if err := d.fail(ctx, "Hurry", id); err != nil {
		return err
	}
	_, err := d.Get(ctx, id)
	return err
}
