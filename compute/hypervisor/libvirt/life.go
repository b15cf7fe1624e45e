//go:build libvirt && cgo

package libvirt

import (
	"context"
	"errors"
	"os"
	"time"

	lv "libvirt.org/go/libvirt"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/compute/hypervisor"
)

// Create implements hypervisor.Driver. While the directory is marked as partial
// nothing in it is trusted: a create that was cut off starts over.
func (d *Driver) Create(ctx context.Context, spec hypervisor.Spec, images hypervisor.Images) error {
	if err := spec.Check(); err != nil {
		return err
	}
	if _, err := chooseHardware(spec.ImageProperties); err != nil {
		return err
	}
	in, err := d.Get(ctx, spec.ID)
	switch {
	case err == nil && !in.Partial:
		return nil
	case err != nil && !errors.Is(err, nacre.NotFound):
		return err
	}
	if err := d.forget(spec.ID); err != nil {
		return err
	}
	d.know(spec.ID, true)
	if err := d.disks.begin(spec.ID); err != nil {
		return err
	}
	if err := d.disks.make(ctx, spec, images); err != nil {
		return err
	}
	if err := d.launch(ctx, spec); err != nil {
		return err
	}
	return d.disks.complete(spec.ID)
}

// forget removes a domain of ours with all that libvirt keeps for it; files stay.
func (d *Driver) forget(id string) error {
	dom, err := d.domain(id)
	switch {
	case errors.Is(err, nacre.NotFound):
		return nil
	case errors.Is(err, errForeign):
		return nacre.Errorf(nacre.Conflict, "foreign", "The host runs a machine with the server's id %s that is not Nacre's.", id)
	case err != nil:
		return err
	}
	defer dom.Free()
	if err := dom.Destroy(); err != nil && !isCode(err, lv.ERR_OPERATION_INVALID, lv.ERR_NO_DOMAIN) {
		return d.conn.fault("destroy", err)
	}
	err = dom.UndefineFlags(lv.DOMAIN_UNDEFINE_MANAGED_SAVE | lv.DOMAIN_UNDEFINE_SNAPSHOTS_METADATA | lv.DOMAIN_UNDEFINE_CHECKPOINTS_METADATA | lv.DOMAIN_UNDEFINE_NVRAM)
	if isCode(err, lv.ERR_INVALID_ARG, lv.ERR_NO_SUPPORT) {
		err = dom.Undefine() // a libvirt (or its mock driver) that knows fewer flags
	}
	if err != nil && !isCode(err, lv.ERR_NO_DOMAIN) {
		return d.conn.fault("undefine", err)
	}
	return nil
}

// define gives libvirt the server's definition. The caller frees the domain.
func (d *Driver) define(ctx context.Context, spec hypervisor.Spec) (*lv.Domain, error) {
	m, err := d.offer(ctx)
	if err != nil {
		return nil, err
	}
	xml, err := domainXML(spec, m, func(name string) string { return d.disks.path(spec.ID, name) }, func(name string) bool { return d.disks.has(spec.ID, name) })
	if err != nil {
		return nil, err
	}
	conn, err := d.conn.get()
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	dom, err := conn.DomainDefineXML(xml)
	if err != nil {
		return nil, d.conn.fault("define", err)
	}
	return dom, nil
}

// launch defines the domain and starts it paused.
func (d *Driver) launch(ctx context.Context, spec hypervisor.Spec) error {
	m, err := d.offer(ctx)
	if err != nil {
		return err
	}
	dom, err := d.define(ctx, spec)
	if err != nil {
		return err
	}
	defer dom.Free()
	if err := ctx.Err(); err != nil {
		return err
	}
	if m.domain == "test" { // the mock driver can't start paused
		if err := dom.Create(); err != nil {
			return d.conn.fault("start", err)
		}
		return d.conn.fault("pause", dom.Suspend())
	}
	return d.conn.fault("start", dom.CreateWithFlags(lv.DOMAIN_START_PAUSED))
}

// Start implements hypervisor.Driver. The definition is made anew, so that the
// server starts with the NICs that it has now.
func (d *Driver) Start(ctx context.Context, spec hypervisor.Spec) error {
	return d.with(ctx, spec.ID, "start", func(_ *lv.Domain, p hypervisor.Power) error {
		switch {
		case d.disks.has(spec.ID, partialFile):
			return hypervisor.BadPower(spec.ID, hypervisor.NoState, "start")
		case p == hypervisor.Running || p == hypervisor.Paused:
			return nil
		case !d.disks.has(spec.ID, rootFile):
			return nacre.Errorf(nacre.Conflict, "vanished", "The server's root disk is not on the host any more.")
		case d.disks.has(spec.ID, movedFile):
			if err := os.Remove(d.disks.path(spec.ID, movedFile)); err != nil {
				return hostFault(err)
			}
		}
		return d.launch(ctx, spec)
	})
}

// Resume implements hypervisor.Driver.
func (d *Driver) Resume(ctx context.Context, id string) error {
	return d.with(ctx, id, "resume", func(dom *lv.Domain, p hypervisor.Power) error {
		switch p {
		case hypervisor.Running:
			return nil
		case hypervisor.Paused:
			return dom.Resume()
		}
		return hypervisor.BadPower(id, p, "resume")
	})
}

// Pause implements hypervisor.Driver.
func (d *Driver) Pause(ctx context.Context, id string) error {
	return d.with(ctx, id, "pause", func(dom *lv.Domain, p hypervisor.Power) error {
		switch p {
		case hypervisor.Paused:
			return nil
		case hypervisor.Running:
			return dom.Suspend()
		}
		return hypervisor.BadPower(id, p, "pause")
	})
}

// knock is how often a guest is asked again to turn itself off: one that is
// still booting does not hear the first time.
const knock = 3 * time.Second

// Stop implements hypervisor.Driver.
func (d *Driver) Stop(ctx context.Context, id string, grace time.Duration) error {
	return d.with(ctx, id, "stop", func(dom *lv.Domain, p hypervisor.Power) error {
		if p == hypervisor.Running && grace > 0 {
			var asked time.Time
			off, err := d.poll(ctx, id, grace, func() (bool, error) {
				if active, err := dom.IsActive(); err != nil || !active {
					return err == nil, err
				}
				if time.Since(asked) > knock {
					asked = time.Now()
					if err := dom.Shutdown(); err != nil && !isCode(err, lv.ERR_OPERATION_INVALID) {
						return false, err
					}
				}
				return false, nil
			})
			if off || err != nil {
				return err
			}
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		if err := dom.Destroy(); err != nil && !isCode(err, lv.ERR_OPERATION_INVALID) {
			return err
		}
		return nil
	})
}

// Reboot implements hypervisor.Driver. The emulator process, and with it the
// taps, lives on.
func (d *Driver) Reboot(ctx context.Context, id string, hard bool, grace time.Duration) error {
	return d.with(ctx, id, "reboot", func(dom *lv.Domain, p hypervisor.Power) error {
		if p != hypervisor.Running {
			return hypervisor.BadPower(id, p, "reboot")
		}
		if !hard && grace > 0 {
			done := d.expectReboot(id)
			if err := dom.Reboot(lv.DOMAIN_REBOOT_ACPI_POWER_BTN); err == nil {
				again, cancel := context.WithTimeout(ctx, grace)
				defer cancel()
				select {
				case <-done:
					return d.awaitRunning(ctx, id, dom)
				case <-again.Done():
					if err := ctx.Err(); err != nil {
						return err
					}
				}
			} else if !isCode(err, lv.ERR_INVALID_ARG, lv.ERR_NO_SUPPORT, lv.ERR_OPERATION_INVALID) {
				return err
			}
			d.cfg.Log.InfoContext(ctx, "the guest did not reboot by itself and is reset", "server", id)
		}
		err := dom.Reset(0)
		if isCode(err, lv.ERR_NO_SUPPORT) {
			err = dom.Reboot(0) // the mock driver
		}
		if err != nil {
			return err
		}
		return d.awaitRunning(ctx, id, dom)
	})
}

func (d *Driver) expectReboot(id string) <-chan struct{} {
	c := make(chan struct{})
	d.mu.Lock()
	defer d.mu.Unlock()
	d.reboots[id] = append(d.reboots[id], c)
	return c
}

// awaitRunning waits until the processors run again after a reset.
func (d *Driver) awaitRunning(ctx context.Context, id string, dom *lv.Domain) error {
	ok, err := d.poll(ctx, id, 10*time.Second, func() (bool, error) {
		state, _, err := dom.GetState()
		return state == lv.DOMAIN_RUNNING, err
	})
	if err == nil && !ok {
		err = errors.Join(ctx.Err(), hypervisor.Fault("The server does not run after its reboot."))
	}
	return err
}

// Delete implements hypervisor.Driver.
func (d *Driver) Delete(ctx context.Context, id string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !hypervisor.SafeID(id) {
		return nil
	}
	if err := d.forget(id); err != nil {
		if errors.Is(err, nacre.Conflict) {
			return nil // somebody else's, of which nothing is ours to remove
		}
		return err
	}
	if err := d.disks.remove(id); err != nil {
		return err
	}
	d.know(id, false)
	return nil
}
