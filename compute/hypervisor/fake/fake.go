// Package fake is a simulated hypervisor: a real small implementation of
// [hypervisor.Driver] with its own state, in memory or in a directory of small
// JSON files, so that a simulated cloud is found again as it was.
//
//	d, err := fake.New(fake.Config{Dir: "/var/lib/nacre/fake", OnTap: dataplane.Tap})
//
// Guests boot at once and obey at once. They write a console log that names
// the server. Every power transition is that of a real machine: a create leaves
// the guest paused, a stopped guest has no taps, a reboot keeps them.
//
// Servers move between simulated hosts as between real ones: what they have is read
// from the peer, a running guest is handed to it.
//
// Faults are planted with [Driver.Fault]: a function that runs before (or, for
// [MidCreate], in the middle of) a method on one instance or on all; it may
// wait, fail, or count. [Driver.PowerOff] and [Driver.Crash] are what a guest
// does by itself.
//
// What it promises: it passes hypervisortest; state written to Dir is complete
// or not there, whatever instant the process dies at; nothing here touches the
// host outside Dir.
package fake

import (
	"cmp"
	"context"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/compute/hypervisor"
)

// Config says what host is simulated. The zero value is a memory-only host of
// 64 processors, 256 GiB of memory and 4 TiB of disk named "fake".
type Config struct {
	// Name is the hypervisor's host name; "fake" if empty.
	Name string
	// Dir keeps the instances over a restart; empty keeps them in memory.
	Dir string
	// VCPUs, MemoryMB (MiB) and DiskGB (GiB) are the host's totals; 0 takes the default.
	VCPUs, MemoryMB, DiskGB int
	// ReadImages makes Create read the whole image and check its size and hash,
	// as a real driver would; without it images are not opened.
	ReadImages bool
	// OnTap is told of each tap device that comes and goes, from the goroutine
	// of the call that made it, and in New for guests that are found alive. Nil
	// is fine.
	OnTap func(tap string, up bool)
}

// MidCreate is the fault point inside Create, after the instance was recorded as
// partial and before it is complete. A fault that fails there leaves what a
// crash would leave.
const MidCreate = "MidCreate"

// consoleLimit bounds the simulated console log of one instance, in bytes.
const consoleLimit = 64 << 10

// Driver is a simulated hypervisor.
type Driver struct {
	cfg    Config
	notify hypervisor.Notifier
	opened time.Time

	mu        sync.Mutex
	instances map[string]*instance
	faults    []*fault
}

var _ hypervisor.Driver = (*Driver)(nil)

// instance is the whole state of a guest, as it is kept in Dir.
type instance struct {
	Spec    hypervisor.Spec  `json:"spec"`
	Power   hypervisor.Power `json:"power"`
	Partial bool             `json:"partial,omitempty"`
	Boots   int              `json:"boots"`
	// Booted is set once the guest ran since it was last made paused: its
	// console shows the boot then, not at create.
	Booted  bool   `json:"booted"`
	Console string `json:"console"`
	// Expected guests come running from another host. Sending ones are on their way to
	// one, and stand still until that host says whether they arrived; Moved ones did.
	Expected bool `json:"expected,omitempty"`
	Sending  bool `json:"sending,omitempty"`
	Moved    bool `json:"moved,omitempty"`
	// Before is what a Sending guest's power was.
	Before hypervisor.Power `json:"before,omitempty"`

	version int
}

type fault struct {
	method, id string
	f          func(ctx context.Context, id string) error
}

// New opens a simulated host, with the instances that Dir holds.
func New(cfg Config) (*Driver, error) {
	cfg.Name = cmp.Or(cfg.Name, "fake")
	cfg.VCPUs = cmp.Or(cfg.VCPUs, 64)
	cfg.MemoryMB = cmp.Or(cfg.MemoryMB, 256<<10)
	cfg.DiskGB = cmp.Or(cfg.DiskGB, 4<<10)
	d := &Driver{cfg: cfg, opened: time.Now(), instances: map[string]*instance{}}
	if err := d.load(); err != nil {
		return nil, err
	}
	for _, tap := range d.Taps() {
		d.tap(tap, true)
	}
	return d, nil
}

// Fault plants f before each call of method ("Create", "Start", …, or
// MidCreate) on the instance id, or on all if id is empty. f may wait; an error
// that it returns is the call's. The returned function takes it away.
func (d *Driver) Fault(method, id string, f func(ctx context.Context, id string) error) (remove func()) {
	ft := &fault{method: method, id: id, f: f}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faults = append(d.faults, ft)
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.faults = slices.DeleteFunc(d.faults, func(x *fault) bool { return x == ft })
	}
}

func (d *Driver) fail(ctx context.Context, method, id string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	d.mu.Lock()
	if len(d.faults) == 0 {
		d.mu.Unlock()
		return nil
	}
	faults := slices.Clone(d.faults)
	d.mu.Unlock()
	for _, ft := range faults {
		if ft.method == method && (ft.id == "" || ft.id == id) {
			if err := ft.f(ctx, id); err != nil {
				return err
			}
		}
	}
	return nil
}

// PowerOff is the guest turning itself off.
func (d *Driver) PowerOff(id string) error { return d.byItself(id, hypervisor.Shutdown, "Power down") }

// Crash is the emulator dying.
func (d *Driver) Crash(id string) error { return d.byItself(id, hypervisor.Crashed, "Kernel panic") }

func (d *Driver) byItself(id string, to hypervisor.Power, line string) error {
	in, err := d.change(id, func(in *instance) error {
		if in.Power != hypervisor.Running {
			return hypervisor.BadPower(id, in.Power, "power off")
		}
		in.Power = to
		in.log("%s", line)
		return nil
	})
	if err != nil {
		return err
	}
	d.taps(in.Spec, false)
	d.notify.Notify(id)
	return nil
}

// Taps are the names of the tap devices that are there now, sorted.
func (d *Driver) Taps() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var taps []string
	for _, in := range d.instances {
		if in.alive() {
			for _, n := range in.Spec.NICs {
				taps = append(taps, hypervisor.TapName(n.PortID))
			}
		}
	}
	slices.Sort(taps)
	return taps
}

func (d *Driver) tap(name string, up bool) {
	if d.cfg.OnTap != nil {
		d.cfg.OnTap(name, up)
	}
}

func (d *Driver) taps(s hypervisor.Spec, up bool) {
	for _, n := range s.NICs {
		d.tap(hypervisor.TapName(n.PortID), up)
	}
}

func (in *instance) alive() bool {
	return in.Power == hypervisor.Running || in.Power == hypervisor.Paused
}

func (in *instance) log(format string, args ...any) {
	in.Console += "fake console: " + fmt.Sprintf(format, args...) + "\n"
	if over := len(in.Console) - consoleLimit; over > 0 {
		in.Console = in.Console[over:]
	}
}

func (in *instance) boot() {
	in.Boots++
	in.Booted = true
	name := cmp.Or(in.Spec.DisplayName, in.Spec.Name, in.Spec.ID)
	in.log("BIOS")
	in.log("Booting image %s, boot %d", cmp.Or(in.Spec.ImageID, "(none)"), in.Boots)
	for i, n := range in.Spec.NICs {
		in.log("eth%d: %s mtu %d", i, n.MAC, n.MTU)
	}
	in.log("%s login:", name)
}

func (in *instance) view() hypervisor.Instance {
	return hypervisor.Instance{ID: in.Spec.ID, Name: in.Spec.Name, Power: in.Power, Partial: in.Partial, Moved: in.Moved, Moving: in.Sending,
		VCPUs: in.Spec.VCPUs, MemoryMB: in.Spec.MemoryMB}
}

// change edits an instance and keeps it, or leaves it as it was if f fails.
func (d *Driver) change(id string, f func(*instance) error) (*instance, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	old, ok := d.instances[id]
	if !ok {
		return nil, hypervisor.NotFound(id)
	}
	in := *old
	if err := f(&in); err != nil {
		return nil, err
	}
	if err := d.save(&in); err != nil {
		return nil, err
	}
	d.instances[id] = &in
	return &in, nil
}

// Host implements hypervisor.Driver.
func (d *Driver) Host(ctx context.Context) (hypervisor.Host, error) {
	if err := d.fail(ctx, "Host", ""); err != nil {
		return hypervisor.Host{}, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	used := 0
	for _, in := range d.instances {
		used += in.Spec.RootGB + in.Spec.EphemeralGB
	}
	return hypervisor.Host{
		Name: d.cfg.Name, Type: "fake", Version: 1000, Address: "127.0.0.1",
		VCPUs: d.cfg.VCPUs, MemoryMB: d.cfg.MemoryMB, DiskGB: d.cfg.DiskGB, DiskFreeGB: max(0, d.cfg.DiskGB-used),
		Arch: "x86_64", CPUModel: "fake", CPUVendor: "fake", Sockets: 1, Cores: d.cfg.VCPUs, Threads: 1,
		Reason: "the hypervisor is simulated", Uptime: uptime(time.Now(), d.opened),
	}, nil
}

// uptime is what the uptime command would print on a host without users.
func uptime(now, since time.Time) string {
	up := now.Sub(since)
	days, clock := "", fmt.Sprintf("%d min", int(up.Minutes()))
	if n := int(up.Hours()) / 24; n > 0 {
		days = fmt.Sprintf("%d days, ", n)
	}
	if up >= time.Hour {
		clock = fmt.Sprintf("%2d:%02d", int(up.Hours())%24, int(up.Minutes())%60)
	}
	return fmt.Sprintf("%s up %s%s,  0 users,  load average: 0.00, 0.00, 0.00", now.UTC().Format(time.TimeOnly), days, clock)
}

// List implements hypervisor.Driver; it sorts by id.
func (d *Driver) List(ctx context.Context) ([]hypervisor.Instance, error) {
	if err := d.fail(ctx, "List", ""); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	list := make([]hypervisor.Instance, 0, len(d.instances))
	for _, id := range slices.Sorted(maps.Keys(d.instances)) {
		list = append(list, d.instances[id].view())
	}
	return list, nil
}

// Get implements hypervisor.Driver.
func (d *Driver) Get(ctx context.Context, id string) (hypervisor.Instance, error) {
	if err := d.fail(ctx, "Get", id); err != nil {
		return hypervisor.Instance{}, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	in, ok := d.instances[id]
	if !ok {
		return hypervisor.Instance{}, hypervisor.NotFound(id)
	}
	return in.view(), nil
}

// Create implements hypervisor.Driver.
func (d *Driver) Create(ctx context.Context, spec hypervisor.Spec, images hypervisor.Images) error {
	if err := spec.Check(); err != nil {
		return err
	}
	if err := d.fail(ctx, "Create", spec.ID); err != nil {
		return err
	}
	d.mu.Lock()
	if in, ok := d.instances[spec.ID]; ok && !in.Partial {
		d.mu.Unlock()
		return nil
	}
	in := &instance{Spec: spec, Partial: true, Power: hypervisor.Shutdown}
	if old := d.instances[spec.ID]; old != nil {
		in.version = old.version
	}
	if err := d.save(in); err != nil {
		d.mu.Unlock()
		return err
	}
	d.instances[spec.ID] = in
	d.mu.Unlock()
	if err := d.fail(ctx, MidCreate, spec.ID); err != nil {
		return err
	}
	if d.cfg.ReadImages && spec.ImageID != "" {
		if err := readImage(ctx, images, spec); err != nil {
			return err
		}
	}
	_, err := d.change(spec.ID, func(in *instance) error {
		in.Partial, in.Power, in.Booted = false, hypervisor.Paused, false
		return nil
	})
	if err == nil {
		d.taps(spec, true)
	}
	return err
}

func readImage(ctx context.Context, images hypervisor.Images, spec hypervisor.Spec) error {
	if images == nil {
		return hypervisor.Fault("no source of images is configured on this host")
	}
	r, img, err := images.Open(ctx, spec.ID, spec.ImageID)
	if err != nil {
		return err
	}
	defer r.Close()
	h := sha512.New()
	n, err := io.Copy(h, r)
	if err != nil {
		return &nacre.Error{Kind: nacre.Unavailable, Code: "fault",
			Message: "The image " + spec.ImageID + " could not be read.", Err: err}
	}
	if n != img.Size {
		return hypervisor.Fault("The image %s has %d bytes, of which %d came.", spec.ImageID, img.Size, n)
	}
	if want, ok := strings.CutPrefix(img.Hash, "sha512:"); ok && want != hex.EncodeToString(h.Sum(nil)) {
		return hypervisor.Fault("The image %s does not match its hash.", spec.ImageID)
	}
	return nil
}

// Start implements hypervisor.Driver.
func (d *Driver) Start(ctx context.Context, spec hypervisor.Spec) error {
	if err := d.fail(ctx, "Start", spec.ID); err != nil {
		return err
	}
	fresh := false
	in, err := d.change(spec.ID, func(in *instance) error {
		if in.Partial {
			return hypervisor.BadPower(spec.ID, hypervisor.NoState, "start")
		}
		if fresh = !in.alive(); fresh {
			in.Spec, in.Power, in.Booted, in.Moved = spec, hypervisor.Paused, false, false
		}
		return nil
	})
	if err == nil && fresh {
		d.taps(in.Spec, true)
	}
	return err
}

// Resume implements hypervisor.Driver.
func (d *Driver) Resume(ctx context.Context, id string) error {
	if err := d.fail(ctx, "Resume", id); err != nil {
		return err
	}
	_, err := d.change(id, func(in *instance) error {
		if !in.alive() {
			return hypervisor.BadPower(id, in.Power, "resume")
		}
		in.Power, in.Sending = hypervisor.Running, false
		if !in.Booted {
			in.boot()
		}
		return nil
	})
	return err
}

// Pause implements hypervisor.Driver.
func (d *Driver) Pause(ctx context.Context, id string) error {
	if err := d.fail(ctx, "Pause", id); err != nil {
		return err
	}
	_, err := d.change(id, func(in *instance) error {
		if !in.alive() {
			return hypervisor.BadPower(id, in.Power, "pause")
		}
		in.Power = hypervisor.Paused
		return nil
	})
	return err
}

// Stop implements hypervisor.Driver; a simulated guest turns itself off at once.
func (d *Driver) Stop(ctx context.Context, id string, grace time.Duration) error {
	if err := d.fail(ctx, "Stop", id); err != nil {
		return err
	}
	was := false
	in, err := d.change(id, func(in *instance) error {
		was = in.alive()
		if was && grace > 0 && in.Power == hypervisor.Running {
			in.log("Power down")
		}
		in.Power, in.Sending = hypervisor.Shutdown, false
		return nil
	})
	if err == nil && was {
		d.taps(in.Spec, false)
	}
	return err
}

// Reboot implements hypervisor.Driver.
func (d *Driver) Reboot(ctx context.Context, id string, hard bool, grace time.Duration) error {
	if err := d.fail(ctx, "Reboot", id); err != nil {
		return err
	}
	_, err := d.change(id, func(in *instance) error {
		if in.Power != hypervisor.Running {
			return hypervisor.BadPower(id, in.Power, "reboot")
		}
		if !hard {
			in.log("Restarting system")
		}
		in.boot()
		return nil
	})
	return err
}

// Delete implements hypervisor.Driver.
func (d *Driver) Delete(ctx context.Context, id string) error {
	if err := d.fail(ctx, "Delete", id); err != nil {
		return err
	}
	d.mu.Lock()
	in, ok := d.instances[id]
	if !ok {
		d.mu.Unlock()
		return nil
	}
	if err := d.remove(id, in.version); err != nil {
		d.mu.Unlock()
		return err
	}
	delete(d.instances, id)
	d.mu.Unlock()
	if in.alive() {
		d.taps(in.Spec, false)
	}
	return nil
}

// Console implements hypervisor.Driver.
func (d *Driver) Console(ctx context.Context, id string, limit int) ([]byte, error) {
	if err := d.fail(ctx, "Console", id); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	in, ok := d.instances[id]
	if !ok {
		return nil, hypervisor.NotFound(id)
	}
	out := in.Console
	if limit >= 0 && len(out) > limit {
		out = out[len(out)-limit:]
	}
	return []byte(out), nil
}

// Watch implements hypervisor.Driver.
func (d *Driver) Watch(ctx context.Context) (<-chan string, error) {
	if err := d.fail(ctx, "Watch", ""); err != nil {
		return nil, err
	}
	return d.notify.Watch(ctx), nil
}
