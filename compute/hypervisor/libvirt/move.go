//go:build libvirt && cgo

package libvirt

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/url"
	"strings"
	"time"

	lv "libvirt.org/go/libvirt"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/compute/hypervisor"
)

var _ hypervisor.Mover = (*Driver)(nil)

// movedFile marks a server whose guest was sent to another host.
const movedFile = "moved"

// offer is what the source of a live migration must know of the target.
type offer struct {
	// URI is the target's libvirtd, To where its emulator listens.
	URI string `json:"uri"`
	To  string `json:"to"`
	// Instances and Base are where the disks lie there.
	Instances string `json:"instances"`
	Base      string `json:"base"`
}

// Files implements hypervisor.Mover.
func (d *Driver) Files(ctx context.Context, id string) ([]hypervisor.File, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if !hypervisor.SafeID(id) || !d.disks.has(id, rootFile) || d.disks.has(id, partialFile) {
		return nil, hypervisor.NotFound(id)
	}
	return d.disks.files(ctx, id)
}

// OpenFile implements hypervisor.Mover.
func (d *Driver) OpenFile(ctx context.Context, id, name string) (io.ReadCloser, error) {
	if _, err := d.Files(ctx, id); err != nil {
		return nil, err
	}
	return d.disks.open(ctx, id, name)
}

// fresh makes an empty directory for a server that comes; there says that it is here.
func (d *Driver) fresh(ctx context.Context, spec hypervisor.Spec) (there bool, err error) {
	if err := spec.Check(); err != nil {
		return false, err
	}
	if _, err := chooseHardware(spec.ImageProperties); err != nil {
		return false, err
	}
	in, err := d.Get(ctx, spec.ID)
	switch {
	case err == nil && !in.Partial:
		return true, nil
	case err != nil && !errors.Is(err, nacre.NotFound):
		return false, err
	}
	if err := d.forget(spec.ID); err != nil {
		return false, err
	}
	d.know(spec.ID, true)
	return false, d.disks.begin(spec.ID)
}

// Receive implements hypervisor.Mover.
func (d *Driver) Receive(ctx context.Context, spec hypervisor.Spec, from hypervisor.Peer) error {
	if there, err := d.fresh(ctx, spec); there || err != nil {
		return err
	}
	if err := d.disks.take(ctx, spec, from); err != nil {
		return err
	}
	dom, err := d.define(ctx, spec)
	if err != nil {
		return err
	}
	_ = dom.Free()
	return d.disks.complete(spec.ID)
}

// Prepare implements hypervisor.Mover.
func (d *Driver) Prepare(ctx context.Context, spec hypervisor.Spec, from hypervisor.Peer) (string, error) {
	if d.cfg.LiveURI == "" {
		return "", nacre.Errorf(nacre.Invalid, "migration", "The host is not set up for live migration to it.")
	}
	u, err := url.Parse(d.cfg.LiveURI)
	if err != nil {
		return "", nacre.Errorf(nacre.Invalid, "config", "The host's URI for live migration is not valid.")
	}
	there, err := d.fresh(ctx, spec)
	if err == nil && !there {
		if err = d.disks.expect(ctx, spec, from); err == nil {
			err = d.disks.complete(spec.ID)
		}
	}
	if err != nil {
		return "", err
	}
	text, err := json.Marshal(offer{URI: d.cfg.LiveURI, To: "tcp://" + u.Hostname(), Instances: d.cfg.InstancesDir, Base: d.cfg.BaseDir})
	return string(text), err
}

// moving reports whether libvirt keeps the guest still because it is on its way.
func moving(dom *lv.Domain) (bool, error) {
	state, reason, err := dom.GetState()
	why := lv.DomainPausedReason(reason)
	return err == nil && state == lv.DOMAIN_PAUSED && (why == lv.DOMAIN_PAUSED_MIGRATION || why == lv.DOMAIN_PAUSED_STARTING_UP), err
}

// sent reports whether libvirt says that the guest was sent away.
func sent(dom *lv.Domain) bool {
	state, reason, err := dom.GetState()
	return err == nil && state == lv.DOMAIN_SHUTOFF && lv.DomainShutoffReason(reason) == lv.DOMAIN_SHUTOFF_MIGRATED
}

// Migrate implements hypervisor.Mover: libvirt's own, from daemon to daemon, with the
// disks. The definition stays here until the server is deleted here.
func (d *Driver) Migrate(ctx context.Context, id, text string, _ hypervisor.Peer, progress func(hypervisor.Progress)) error {
	var to offer
	if err := json.Unmarshal([]byte(text), &to); err != nil || to.URI == "" {
		return nacre.Errorf(nacre.Invalid, "migration", "The other host's offer can't be read.")
	}
	if d.disks.has(id, movedFile) {
		return nil
	}
	// A call that ends with ctx would leave the domain as it is: the job is ended here.
	return d.with(context.WithoutCancel(ctx), id, "migrate", func(dom *lv.Domain, p hypervisor.Power) error {
		if err := d.awaitJob(ctx, dom, progress); err != nil {
			return err
		}
		if sent(dom) {
			return d.markMoved(id)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if p != hypervisor.Running && p != hypervisor.Paused {
			return hypervisor.BadPower(id, p, "live migrate")
		}
		params, err := d.migrateParams(dom, to)
		if err != nil {
			return err
		}
		flags := lv.MIGRATE_LIVE | lv.MIGRATE_PEER2PEER | lv.MIGRATE_PERSIST_DEST | lv.MIGRATE_NON_SHARED_INC | lv.MIGRATE_AUTO_CONVERGE
		if d.cfg.NativeTLS {
			flags |= lv.MIGRATE_TLS
		}
		done := make(chan error, 1)
		go func() { done <- dom.MigrateToURI3(to.URI, params, flags) }()
		err = d.followJob(ctx, dom, done, progress)
		switch {
		case err == nil, sent(dom):
			return d.markMoved(id)
		case ctx.Err() != nil:
			return ctx.Err()
		}
		d.cfg.Log.WarnContext(ctx, "a live migration failed", "server", id, "err", err)
		return err
	})
}

func (d *Driver) markMoved(id string) error {
	return d.disks.mark(id, movedFile)
}

// migrateParams say where the guest goes, with the paths that its disks have there.
func (d *Driver) migrateParams(dom *lv.Domain, to offer) (*lv.DomainMigrateParameters, error) {
	params := &lv.DomainMigrateParameters{URISet: true, URI: to.To}
	if to.Instances == d.cfg.InstancesDir && to.Base == d.cfg.BaseDir {
		return params, nil
	}
	paths := strings.NewReplacer(d.cfg.InstancesDir+"/", to.Instances+"/", d.cfg.BaseDir+"/", to.Base+"/")
	live, err := dom.GetXMLDesc(lv.DOMAIN_XML_MIGRATABLE | lv.DOMAIN_XML_SECURE)
	if err != nil {
		return nil, err
	}
	kept, err := dom.GetXMLDesc(lv.DOMAIN_XML_INACTIVE | lv.DOMAIN_XML_SECURE)
	if err != nil {
		return nil, err
	}
	params.DestXMLSet, params.DestXML = true, paths.Replace(live)
	params.PersistXMLSet, params.PersistXML = true, paths.Replace(kept)
	return params, nil
}

// awaitJob waits for a migration that an earlier life of the agent began, or ends it.
func (d *Driver) awaitJob(ctx context.Context, dom *lv.Domain, progress func(hypervisor.Progress)) error {
	busy := func() bool {
		info, err := dom.GetJobInfo()
		return err == nil && info.Type != lv.DOMAIN_JOB_NONE
	}
	if !busy() {
		return nil
	}
	done := make(chan error, 1)
	go func() {
		t := time.NewTicker(200 * time.Millisecond)
		defer t.Stop()
		for busy() {
			<-t.C
		}
		done <- nil
	}()
	return d.followJob(ctx, dom, done, progress)
}

// followJob tells of a migration's progress until it is over; when ctx ends it is called
// off.
func (d *Driver) followJob(ctx context.Context, dom *lv.Domain, done <-chan error, progress func(hypervisor.Progress)) error {
	t := time.NewTicker(hypervisor.ProgressEvery)
	defer t.Stop()
	off := ctx.Done()
	for {
		select {
		case err := <-done:
			return err
		case <-off:
			off = nil
			_ = dom.AbortJob() // too late is what the result says
		case <-t.C:
			if ctx.Err() != nil {
				_ = dom.AbortJob()
			}
		}
		if s, err := dom.GetJobStats(0); err == nil && s.MemTotalSet {
			progress(hypervisor.Progress{MemoryTotal: int64(s.MemTotal), MemoryDone: int64(s.MemProcessed), MemoryLeft: int64(s.MemRemaining),
				DiskTotal: int64(s.DiskTotal), DiskDone: int64(s.DiskProcessed), DiskLeft: int64(s.DiskRemaining)})
		}
	}
}

// hurried is how long a hurried guest may stand still, in milliseconds.
const hurried = 60_000

// Hurry implements hypervisor.Mover.
func (d *Driver) Hurry(ctx context.Context, id string) error {
	return d.with(ctx, id, "hurry", func(dom *lv.Domain, _ hypervisor.Power) error { return dom.MigrateSetMaxDowntime(hurried, 0) })
}
