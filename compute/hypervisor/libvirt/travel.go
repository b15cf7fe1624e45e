package libvirt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/compute/hypervisor"
)

// What a server takes along when it moves to another host: the overlay with what the
// guest wrote, the image copy below it, its other disks. The console log stays.

// ownFiles are the names that may travel besides the image copy.
var ownFiles = []string{rootFile, ephemeralFile, swapFile, configFile}

// qcow2Info is what qemu-img tells of an overlay.
type qcow2Info struct {
	Virtual       int64  `json:"virtual-size"`
	Backing       string `json:"backing-filename"`
	BackingFormat string `json:"backing-filename-format"`
}

// overlay looks at a server's root disk, also while the guest runs.
func (d *disks) overlay(ctx context.Context, id string) (info qcow2Info, err error) {
	out, err := toolOutput(ctx, "qemu-img", "info", "-U", "--output=json", "-f", "qcow2", d.path(id, rootFile))
	if err != nil {
		return info, err
	}
	if err := json.Unmarshal(out, &info); err != nil {
		return info, hypervisor.Fault("The server's root disk could not be read.")
	}
	return info, nil
}

// files lists what a server has, its image copy first.
func (d *disks) files(ctx context.Context, id string) ([]hypervisor.File, error) {
	top, err := d.overlay(ctx, id)
	if err != nil {
		return nil, err
	}
	var out []hypervisor.File
	if top.Backing != "" {
		info, err := os.Stat(top.Backing)
		if err != nil {
			return nil, hostFault(err)
		}
		virtual, err := virtualSize(top.Backing, top.BackingFormat)
		if err != nil {
			return nil, err
		}
		out = append(out, hypervisor.File{Name: filepath.Base(top.Backing), Size: info.Size(), Shared: true, Format: top.BackingFormat, Virtual: virtual})
	}
	for _, name := range ownFiles {
		info, err := os.Stat(d.path(id, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return nil, hostFault(err)
		}
		f := hypervisor.File{Name: name, Size: info.Size(), Format: "raw", Virtual: info.Size(), Fixed: name == configFile}
		if name == rootFile {
			f.Format, f.Virtual = "qcow2", top.Virtual
		}
		out = append(out, f)
	}
	return out, nil
}

// open reads one of a server's files.
func (d *disks) open(ctx context.Context, id, name string) (io.ReadCloser, error) {
	path := d.path(id, name)
	if !slices.Contains(ownFiles, name) {
		top, err := d.overlay(ctx, id)
		if err != nil {
			return nil, err
		}
		if path = top.Backing; path == "" || filepath.Base(path) != name {
			return nil, nacre.Errorf(nacre.NotFound, "file", "The server has no file %s.", name)
		}
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, hostFault(err)
	}
	return f, nil
}

// expect makes what a guest that comes running needs: disks of its disks' sizes, which
// are filled while it runs, and what does not change whole.
func (d *disks) expect(ctx context.Context, spec hypervisor.Spec, from hypervisor.Peer) error {
	files, err := from.Files(ctx)
	if err != nil {
		return err
	}
	base, err := d.takeBase(ctx, spec.ID, files, from)
	if err != nil {
		return err
	}
	for _, f := range files {
		path := d.path(spec.ID, f.Name)
		switch {
		case f.Shared:
		case f.Name == rootFile:
			args := []string{"create", "-q", "-f", "qcow2"}
			if base.Name != "" {
				args = append(args, "-u", "-F", base.Format, "-b", d.base.path(base.Name))
			}
			err = tool(ctx, "qemu-img", append(args, path, fmt.Sprint(f.Virtual))...)
		case f.Fixed:
			err = fetch(ctx, from, f, path)
		default:
			err = sparse(path, f.Virtual)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// take copies all that a server has on a host where it is off, and makes it what spec
// says: its root and ephemeral disks grow (what is on them does not: that is the guest's),
// its swap disk is made anew where its size is another.
func (d *disks) take(ctx context.Context, spec hypervisor.Spec, from hypervisor.Peer) error {
	files, err := from.Files(ctx)
	if err != nil {
		return err
	}
	base, err := d.takeBase(ctx, spec.ID, files, from)
	if err != nil {
		return err
	}
	for _, f := range files {
		if f.Shared {
			continue
		}
		if err := fetch(ctx, from, f, d.path(spec.ID, f.Name)); err != nil {
			return err
		}
		if f.Name != rootFile {
			continue
		}
		if base.Name != "" {
			if err := tool(ctx, "qemu-img", "rebase", "-q", "-u", "-f", "qcow2", "-F", base.Format, "-b", d.base.path(base.Name), d.path(spec.ID, rootFile)); err != nil {
				return err
			}
		}
		if err := d.grow(ctx, spec, f.Virtual); err != nil {
			return err
		}
	}
	return d.refit(ctx, spec)
}

// grow makes a root disk as large as the flavor says. It never shrinks.
func (d *disks) grow(ctx context.Context, spec hypervisor.Spec, has int64) error {
	want := int64(spec.RootGB) << 30
	switch {
	case want == 0 || want == has:
		return nil
	case want < has:
		return nacre.Errorf(nacre.Invalid, "ResizeError", "Resize error: Unable to resize disk down.")
	}
	return tool(ctx, "qemu-img", "resize", "-q", "-f", "qcow2", d.path(spec.ID, rootFile), fmt.Sprint(want))
}

// refit makes the disks that the flavor has besides the root disk fit it.
func (d *disks) refit(ctx context.Context, spec hypervisor.Spec) error {
	for _, x := range []struct {
		name   string
		size   int64
		anew   bool // it holds nothing that must be kept
		format []string
	}{
		{ephemeralFile, int64(spec.EphemeralGB) << 30, false, []string{"mkfs.ext4", "-q", "-F", "-L", "ephemeral0"}},
		{swapFile, int64(spec.SwapMB) << 20, true, []string{"mkswap"}},
	} {
		path := d.path(spec.ID, x.name)
		info, err := os.Stat(path)
		there := err == nil
		switch {
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return hostFault(err)
		case x.size == 0 && there:
			err = os.Remove(path)
		case x.size > 0 && (!there || x.anew && info.Size() != x.size):
			err = d.blank(ctx, path, x.size, x.format...)
		case there && info.Size() < x.size:
			err = os.Truncate(path, x.size)
		default:
			err = nil
		}
		if err != nil {
			return hostFault(err)
		}
	}
	return nil
}

// takeBase makes sure of the image copy that the root disk is made on.
func (d *disks) takeBase(ctx context.Context, id string, files []hypervisor.File, from hypervisor.Peer) (base hypervisor.File, err error) {
	for _, f := range files {
		switch {
		case f.Shared && base.Name == "" && f.Name != "" && f.Name == filepath.Base(f.Name) && !strings.HasPrefix(f.Name, "."):
			base = f
		case f.Shared || !slices.Contains(ownFiles, f.Name):
			return base, nacre.Errorf(nacre.Invalid, "migration", "The other host offers a file %q, which no server has.", f.Name)
		}
	}
	if base.Name == "" {
		return base, nil
	}
	d.choose.Lock()
	err = os.WriteFile(d.path(id, baseFile), []byte(base.Name+"\n"), 0o600)
	d.choose.Unlock()
	if err != nil {
		return base, hostFault(err)
	}
	r := &lateReader{open: func() (io.ReadCloser, error) { return from.Open(ctx, base.Name) }}
	err = d.base.fill(ctx, base.Name, hypervisor.Image{ID: base.Name, Format: base.Format, Size: base.Size}, r)
	if err := errors.Join(err, r.Close()); err != nil {
		return base, err
	}
	_, err = virtualSize(d.base.path(base.Name), base.Format)
	return base, err
}

// lateReader opens what it reads when it is read first.
type lateReader struct {
	open func() (io.ReadCloser, error)
	r    io.ReadCloser
}

// Read implements io.Reader.
func (l *lateReader) Read(p []byte) (int, error) {
	if l.r == nil {
		r, err := l.open()
		if err != nil {
			return 0, err
		}
		l.r = r
	}
	return l.r.Read(p)
}

// Close implements io.Closer.
func (l *lateReader) Close() error {
	if l.r == nil {
		return nil
	}
	return l.r.Close()
}

// fetch copies a file of another host, with holes where it is zero.
func fetch(ctx context.Context, from hypervisor.Peer, f hypervisor.File, path string) error {
	r, err := from.Open(ctx, f.Name)
	if err != nil {
		return err
	}
	defer r.Close()
	out, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return hostFault(err)
	}
	n, err := copySparse(ctx, out, r)
	if err == nil {
		err = hostFaultOrNil(errors.Join(out.Truncate(n), out.Sync()))
	}
	if err := errors.Join(err, out.Close()); err != nil {
		return err
	}
	if n != f.Size {
		return hypervisor.Fault("Of the server's file %s, which has %d bytes, %d came from the other host.", f.Name, f.Size, n)
	}
	return nil
}

func hostFaultOrNil(err error) error {
	if err == nil {
		return nil
	}
	return hostFault(err)
}

// copySparse writes what is not zero where it belongs, and says how much there was.
func copySparse(ctx context.Context, out *os.File, r io.Reader) (n int64, err error) {
	buf, zero := make([]byte, 256<<10), make([]byte, 256<<10)
	for {
		if err := ctx.Err(); err != nil {
			return n, err
		}
		k, err := io.ReadFull(r, buf)
		if k > 0 && string(buf[:k]) != string(zero[:k]) {
			if _, err := out.WriteAt(buf[:k], n); err != nil {
				return n, hostFault(err)
			}
		}
		n += int64(k)
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF) && k < len(buf):
			return n, nil
		case err != nil:
			return n, &nacre.Error{Kind: nacre.Unavailable, Code: "peer", Message: "The other host's file could not be read to its end.", Err: err}
		}
	}
}

// sparse makes an empty file of a size.
func sparse(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return hostFault(err)
	}
	return hostFaultOrNil(errors.Join(f.Truncate(size), f.Close()))
}
