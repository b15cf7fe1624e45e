package libvirt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/compute/hypervisor"
	"github.com/nacre-cloud/nacre/internal/configdrive"
)

// disks are the instances' directories.
type disks struct {
	dir  string
	base *base
	// choose covers the choice of a base copy (its name is written down) against
	// the sweep of those that nobody uses.
	choose sync.Mutex
}

// Names in an instance's directory.
const (
	rootFile      = "disk"
	configFile    = "disk.config"
	ephemeralFile = "disk.eph0"
	swapFile      = "disk.swap"
	consoleFile   = "console.log"
	baseFile      = "base"
	partialFile   = "partial"
)

func openDisks(dir, baseDir string) (*disks, error) {
	// Not listable, but the emulator's user gets to the disks that it is given.
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return nil, err
	}
	b, err := openBase(baseDir)
	if err != nil {
		return nil, err
	}
	d := &disks{dir: dir, base: b}
	return d, d.sweep()
}

func (d *disks) path(id, name string) string { return filepath.Join(d.dir, id, name) }

func (d *disks) has(id, name string) bool {
	_, err := os.Lstat(d.path(id, name))
	return err == nil
}

// ids are the servers that have a directory here.
func (d *disks) ids() ([]string, error) {
	entries, err := os.ReadDir(d.dir)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, e := range entries {
		if e.IsDir() && hypervisor.SafeID(e.Name()) {
			ids = append(ids, e.Name())
		}
	}
	return ids, nil
}

// begin makes the directory and marks it as partial.
func (d *disks) begin(id string) error {
	dir := filepath.Join(d.dir, id)
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return hostFault(err)
	}
	return errors.Join(d.mark(id, partialFile), syncDir(d.dir))
}

// mark makes an empty file that says something of the server.
func (d *disks) mark(id, name string) error {
	if err := os.WriteFile(d.path(id, name), nil, 0o600); err != nil {
		return hostFault(err)
	}
	return syncDir(filepath.Join(d.dir, id))
}

// complete takes the mark away.
func (d *disks) complete(id string) error {
	if err := os.Remove(d.path(id, partialFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return hostFault(err)
	}
	return syncDir(filepath.Join(d.dir, id))
}

// remove takes the directory away, and the image copy if this was its last user.
func (d *disks) remove(id string) error {
	if err := os.RemoveAll(filepath.Join(d.dir, id)); err != nil {
		return hostFault(err)
	}
	return d.sweep()
}

func (d *disks) sweep() error {
	d.choose.Lock()
	defer d.choose.Unlock()
	ids, err := d.ids()
	if err != nil {
		return err
	}
	used := map[string]bool{}
	for _, id := range ids {
		name, err := os.ReadFile(d.path(id, baseFile))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return err
		}
		used[strings.TrimSpace(string(name))] = true
	}
	return d.base.sweep(used)
}

// make fills the directory: root, ephemeral and swap disks, config drive. What a
// former attempt left is made anew.
func (d *disks) make(ctx context.Context, spec hypervisor.Spec, images hypervisor.Images) error {
	if spec.ImageID == "" {
		return nacre.Errorf(nacre.Invalid, "spec", "The server has no image to boot from.")
	}
	if images == nil {
		return hypervisor.Fault("No source of images is configured on this host.")
	}
	r, img, err := images.Open(ctx, spec.ID, spec.ImageID)
	if err != nil {
		return err
	}
	err = d.root(ctx, spec, img, r)
	if err := errors.Join(err, r.Close()); err != nil {
		return err
	}
	if spec.EphemeralGB > 0 {
		if err := d.blank(ctx, d.path(spec.ID, ephemeralFile), int64(spec.EphemeralGB)<<30, "mkfs.ext4", "-q", "-F", "-L", "ephemeral0"); err != nil {
			return err
		}
	}
	if spec.SwapMB > 0 {
		if err := d.blank(ctx, d.path(spec.ID, swapFile), int64(spec.SwapMB)<<20, "mkswap"); err != nil {
			return err
		}
	}
	if spec.ConfigDrive != nil {
		if err := configdrive.Write(d.path(spec.ID, configFile), spec.ConfigDrive); err != nil {
			return hostFault(err)
		}
	}
	return nil
}

func (d *disks) root(ctx context.Context, spec hypervisor.Spec, img hypervisor.Image, r io.Reader) error {
	if img.Format != "raw" && img.Format != "qcow2" {
		_, err := virtualSize(os.DevNull, img.Format)
		return err
	}
	name := baseName(img)
	d.choose.Lock()
	err := os.WriteFile(d.path(spec.ID, baseFile), []byte(name+"\n"), 0o600)
	d.choose.Unlock()
	if err != nil {
		return hostFault(err)
	}
	if err := d.base.fill(ctx, name, img, r); err != nil {
		return err
	}
	has, err := virtualSize(d.base.path(name), img.Format)
	if err != nil {
		return err
	}
	size := int64(spec.RootGB) << 30
	if size == 0 {
		size = (has + 511) / 512 * 512
	}
	if size < has {
		return nacre.Errorf(nacre.Invalid, "FlavorDiskSmallerThanImage",
			"Flavor's disk is too small for requested image. Flavor disk is %d bytes, image is %d bytes.", size, has)
	}
	disk := d.path(spec.ID, rootFile)
	if err := os.Remove(disk); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return hostFault(err)
	}
	// -u: the base is not opened, so nothing in it is parsed.
	return tool(ctx, "qemu-img", "create", "-q", "-f", "qcow2", "-u", "-F", img.Format, "-b", d.base.path(name), disk, fmt.Sprint(size))
}

// blank makes a sparse raw disk and lets a tool format it.
func (d *disks) blank(ctx context.Context, path string, size int64, format ...string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return hostFault(err)
	}
	if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
		return hostFault(err)
	}
	return tool(ctx, format[0], append(format[1:], path)...)
}

// toolTimeout, toolMemory (bytes) and toolCPU (seconds) bound the tools that
// touch what users brought.
const (
	toolTimeout = 2 * time.Minute
	toolMemory  = 1 << 30
	toolCPU     = 30
)

// tool runs a program of the host within limits.
func tool(ctx context.Context, name string, args ...string) error {
	_, err := toolOutput(ctx, name, args...)
	return err
}

// toolOutput is tool, and what the program says.
func toolOutput(ctx context.Context, name string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, toolTimeout)
	defer cancel()
	limits := []string{fmt.Sprintf("--as=%d", toolMemory), fmt.Sprintf("--cpu=%d", toolCPU), name}
	cmd := exec.CommandContext(ctx, "prlimit", append(limits, args...)...)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "MALLOC_ARENA_MAX=1"}
	out, err := cmd.CombinedOutput()
	switch {
	case err == nil:
		return out, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case strings.Contains(string(out), "No space left on device"):
		return nil, &nacre.Error{Kind: nacre.Unavailable, Code: "fault", Message: "The host has no space left for the server's disks.", Err: err}
	}
	return nil, &nacre.Error{Kind: nacre.Unavailable, Code: "fault", Message: "The server's disks could not be made on the host.",
		Err: fmt.Errorf("%s %s: %w: %.400s", name, strings.Join(args, " "), err, out)}
}

// console is the tail of the console log: the newest file, and before it what
// virtlogd has rolled over.
func (d *disks) console(id string, limit int) ([]byte, error) {
	var tail []byte
	for _, name := range []string{consoleFile, consoleFile + ".0", consoleFile + ".1"} {
		if limit >= 0 && len(tail) >= limit {
			break
		}
		part, err := readTail(d.path(id, name), limit-len(tail))
		if errors.Is(err, fs.ErrNotExist) {
			break
		} else if err != nil {
			return nil, err
		}
		tail = append(part, tail...)
	}
	return tail, nil
}

// maxConsole bounds what is read of a console whatever is asked, in bytes.
const maxConsole = 8 << 20

func readTail(path string, limit int) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if limit < 0 || limit > maxConsole {
		limit = maxConsole
	}
	n := min(int64(limit), info.Size())
	out := make([]byte, n)
	read, err := f.ReadAt(out, info.Size()-n)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return out[:read], nil
}
