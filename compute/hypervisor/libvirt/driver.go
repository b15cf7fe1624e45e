//go:build libvirt && cgo

package libvirt

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	lv "libvirt.org/go/libvirt"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/compute/hypervisor"
)

// Driver runs guests through libvirt. Close ends its connection, not the guests.
type Driver struct {
	cfg    Config
	disks  *disks
	conn   *connection
	notify hypervisor.Notifier
	stop   chan struct{}
	wg     sync.WaitGroup

	mu      sync.Mutex
	machine *machine
	reason  string          // why there is no acceleration
	known   map[string]bool // ids of ours that are or were here
	reboots map[string][]chan struct{}
}

// New opens the directories and libvirt. It fails if libvirt does not answer.
func New(cfg Config) (*Driver, error) {
	cfg = cfg.withDefaults()
	if !slices.Contains([]string{"auto", "kvm", "tcg"}, cfg.Accel) {
		return nil, nacre.Errorf(nacre.Invalid, "config", "The accelerator %q is none of auto, kvm, tcg.", cfg.Accel)
	}
	ds, err := openDisks(cfg.InstancesDir, cfg.BaseDir)
	if err != nil {
		return nil, err
	}
	if err := loopUp(); err != nil {
		return nil, err
	}
	d := &Driver{cfg: cfg, disks: ds, stop: make(chan struct{}), known: map[string]bool{}, reboots: map[string][]chan struct{}{}}
	d.conn = &connection{uri: cfg.URI, onEvent: d.changed, onReboot: d.rebooted}
	conn, err := d.conn.get()
	if err != nil {
		loopDown()
		return nil, err
	}
	_, _ = conn.Close()
	d.wg.Go(func() { d.conn.watchdog(d.stop, d.restored) })
	return d, nil
}

// Close ends the connection and every goroutine of the driver.
func (d *Driver) Close() error {
	d.mu.Lock()
	select {
	case <-d.stop:
		d.mu.Unlock()
		return nil
	default:
		close(d.stop)
	}
	d.mu.Unlock()
	d.wg.Wait()
	d.conn.close()
	loopDown()
	return nil
}

// changed tells the watchers of one of ours; it runs in the event loop.
func (d *Driver) changed(id string) {
	d.mu.Lock()
	ours := d.known[id]
	d.mu.Unlock()
	if ours {
		d.notify.Notify(id)
	}
}

func (d *Driver) rebooted(id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.reboots[id] {
		close(c)
	}
	delete(d.reboots, id)
}

// restored makes the watchers look at everything: events may have been lost.
func (d *Driver) restored() {
	list, err := d.List(context.Background())
	if err != nil {
		d.cfg.Log.Warn("libvirt came back but can't be listed", "err", err)
		return
	}
	d.mu.Lock()
	ids := make([]string, 0, len(d.known))
	for id := range d.known {
		ids = append(ids, id)
	}
	d.mu.Unlock()
	for _, in := range list {
		if !slices.Contains(ids, in.ID) {
			ids = append(ids, in.ID)
		}
	}
	for _, id := range ids {
		d.notify.Notify(id)
	}
}

func (d *Driver) know(id string, is bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if is {
		d.known[id] = true
	} else {
		delete(d.known, id)
	}
}

var errForeign = errors.New("a domain of that id is not ours")

// domain finds the domain of a server: nacre.NotFound if there is none,
// errForeign if it is somebody else's. The caller frees it.
func (d *Driver) domain(id string) (*lv.Domain, error) {
	conn, err := d.conn.get()
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	dom, err := conn.LookupDomainByUUIDString(id)
	if isCode(err, lv.ERR_NO_DOMAIN, lv.ERR_INVALID_ARG) {
		return nil, hypervisor.NotFound(id)
	} else if err != nil {
		return nil, d.conn.fault("find", err)
	}
	xml, err := dom.GetXMLDesc(0)
	if err == nil && !isOurs(xml, id) {
		err = errForeign
	}
	if err != nil {
		_ = dom.Free()
		if isCode(err, lv.ERR_NO_DOMAIN) {
			return nil, hypervisor.NotFound(id)
		}
		return nil, err
	}
	return dom, nil
}

// with calls f with the server's domain, which must be there and complete.
func (d *Driver) with(ctx context.Context, id, doing string, f func(*lv.Domain, hypervisor.Power) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	dom, err := d.domain(id)
	if errors.Is(err, errForeign) {
		return hypervisor.NotFound(id)
	} else if err != nil {
		return err
	}
	defer dom.Free()
	p, err := powerOf(dom)
	if err != nil {
		return d.conn.fault(doing, err)
	}
	err = f(dom, p)
	var known *nacre.Error
	if err == nil || errors.As(err, &known) || errors.Is(err, ctx.Err()) && ctx.Err() != nil {
		return err
	}
	return d.conn.fault(doing, err)
}

func powerOf(dom *lv.Domain) (hypervisor.Power, error) {
	state, reason, err := dom.GetState()
	if err != nil {
		return hypervisor.NoState, err
	}
	switch state {
	case lv.DOMAIN_RUNNING, lv.DOMAIN_BLOCKED, lv.DOMAIN_SHUTDOWN:
		return hypervisor.Running, nil
	case lv.DOMAIN_PAUSED:
		if lv.DomainPausedReason(reason) == lv.DOMAIN_PAUSED_CRASHED {
			return hypervisor.Crashed, nil
		}
		return hypervisor.Paused, nil
	case lv.DOMAIN_PMSUSPENDED:
		return hypervisor.Paused, nil
	case lv.DOMAIN_SHUTOFF:
		if lv.DomainShutoffReason(reason) == lv.DOMAIN_SHUTOFF_CRASHED {
			return hypervisor.Crashed, nil
		}
		return hypervisor.Shutdown, nil
	case lv.DOMAIN_CRASHED:
		return hypervisor.Crashed, nil
	}
	return hypervisor.NoState, nil
}

// List implements hypervisor.Driver: our domains, and directories without one.
func (d *Driver) List(ctx context.Context) ([]hypervisor.Instance, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	conn, err := d.conn.get()
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	doms, err := conn.ListAllDomains(0)
	if err != nil {
		return nil, d.conn.fault("list", err)
	}
	ids, err := d.disks.ids()
	for i := range doms {
		if id, err := doms[i].GetUUIDString(); err == nil && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
		_ = doms[i].Free()
	}
	if err != nil {
		return nil, err
	}
	slices.Sort(ids)
	list := []hypervisor.Instance{}
	for _, id := range ids {
		in, err := d.Get(ctx, id)
		if errors.Is(err, nacre.NotFound) {
			continue
		} else if err != nil {
			return nil, err
		}
		d.know(id, true)
		list = append(list, in)
	}
	return list, nil
}

// Get implements hypervisor.Driver.
func (d *Driver) Get(ctx context.Context, id string) (hypervisor.Instance, error) {
	if err := ctx.Err(); err != nil {
		return hypervisor.Instance{}, err
	}
	if !hypervisor.SafeID(id) {
		return hypervisor.Instance{}, hypervisor.NotFound(id)
	}
	dom, err := d.domain(id)
	switch {
	case errors.Is(err, errForeign), errors.Is(err, nacre.NotFound) && !d.disks.has(id, ""):
		return hypervisor.Instance{}, hypervisor.NotFound(id)
	case errors.Is(err, nacre.NotFound):
		// Only the directory: a create or a delete was cut off.
		return hypervisor.Instance{ID: id, Power: hypervisor.Shutdown, Partial: true}, nil
	case err != nil:
		return hypervisor.Instance{}, err
	}
	defer dom.Free()
	in := hypervisor.Instance{ID: id, Partial: d.disks.has(id, partialFile), Moved: d.disks.has(id, movedFile)}
	if in.Name, err = dom.GetName(); err == nil {
		if in.Power, err = powerOf(dom); err == nil {
			in.Moving, err = moving(dom)
		}
	}
	if err == nil {
		var info *lv.DomainInfo
		if info, err = dom.GetInfo(); err == nil {
			in.VCPUs, in.MemoryMB = int(info.NrVirtCpu), int(info.MaxMem/1024)
		}
	}
	if isCode(err, lv.ERR_NO_DOMAIN) {
		return hypervisor.Instance{}, hypervisor.NotFound(id)
	}
	return in, d.conn.fault("look at", err)
}

// Watch implements hypervisor.Driver.
func (d *Driver) Watch(ctx context.Context) (<-chan string, error) {
	return d.notify.Watch(ctx), ctx.Err()
}

// Console implements hypervisor.Driver.
func (d *Driver) Console(ctx context.Context, id string, limit int) ([]byte, error) {
	if _, err := d.Get(ctx, id); err != nil {
		return nil, err
	}
	return d.disks.console(id, limit)
}

// poll waits until done says so, looking at each change and each pause.
func (d *Driver) poll(ctx context.Context, id string, limit time.Duration, done func() (bool, error)) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	changes := d.notify.Watch(ctx)
	t := time.NewTicker(500 * time.Millisecond)
	defer t.Stop()
	for {
		if ok, err := done(); ok || err != nil {
			return ok, err
		}
		select {
		case <-ctx.Done():
			return false, nil
		case <-t.C:
		case changed, ok := <-changes:
			if ok && changed != id {
				continue
			}
		}
	}
}
