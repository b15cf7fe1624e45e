// Package importer holds what image's imports need of the outside: a [Fetcher] that
// downloads from URLs under a guard, for web-download and the http store, and
// [QemuImg], which converts disk images with qemu-img under limits.
//
// QemuImg never lets qemu-img guess a format, never hands it a name that a user
// made, and bounds its time, memory and output, because an image is an attack until
// shown otherwise. Image has inspected the bytes before.
package importer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/image"
	"github.com/nacre-cloud/nacre/internal/netguard"
)

// FetchConfig says what may be fetched; see glance's import_filtering_opts, whose
// defaults hold for the zero value: http and https, ports 80 and 443. Inner
// addresses are never reached but for AllowNets (CIDR).
type FetchConfig struct {
	AllowSchemes, DenySchemes []string
	AllowHosts, DenyHosts     []string
	AllowPorts, DenyPorts     []int
	AllowNets                 []string
}

// Fetcher implements image.Fetcher.
type Fetcher struct{ guard *netguard.Guard }

var _ image.Fetcher = (*Fetcher)(nil)

// NewFetcher makes a Fetcher.
func NewFetcher(c FetchConfig) (*Fetcher, error) {
	nets, err := netguard.ParseNets(c.AllowNets)
	if err != nil {
		return nil, err
	}
	g, err := netguard.New(netguard.Config{AllowSchemes: c.AllowSchemes, DenySchemes: c.DenySchemes, AllowHosts: c.AllowHosts, DenyHosts: c.DenyHosts,
		AllowPorts: c.AllowPorts, DenyPorts: c.DenyPorts, AllowNets: nets})
	return &Fetcher{g}, err
}

// Check implements image.Fetcher.
func (f *Fetcher) Check(_ context.Context, url string) error {
	_, err := f.guard.Check(url)
	return err
}

// Fetch implements image.Fetcher.
func (f *Fetcher) Fetch(ctx context.Context, url string) (io.ReadCloser, int64, error) {
	return f.guard.Get(ctx, url)
}

// QemuImg implements image.Converter with the qemu-img program. The zero value
// works where qemu-img and prlimit are installed.
type QemuImg struct {
	// Path of qemu-img; empty looks it up.
	Path string
	// Dir is where the input and the output lie meanwhile; empty is the system's
	// directory for temporary files.
	Dir string
	// MaxOutput bounds the output file and MaxVirtual the disk that a guest sees,
	// in bytes; 0 means 1 TiB each.
	MaxOutput, MaxVirtual int64
	// MaxMemory bounds the program's address space in bytes; 0 means 1 GiB.
	MaxMemory int64
	// CPU bounds its processor time, Timeout the time that all takes; 0 means
	// 15 and 60 minutes.
	CPU, Timeout time.Duration
}

var _ image.Converter = (*QemuImg)(nil)

// formats are qemu-img's names for glance's.
var formats = map[string]string{"raw": "raw", "qcow2": "qcow2", "vmdk": "vmdk", "vdi": "vdi", "vhd": "vpc", "vhdx": "vhdx", "ploop": "parallels"}

func or[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

// Convert implements image.Converter.
func (q *QemuImg) Convert(ctx context.Context, r io.Reader, from, to string) (io.ReadCloser, error) {
	src, dst := formats[from], formats[to]
	if src == "" || dst == "" {
		return nil, nacre.Errorf(nacre.Invalid, "", "An image can't be converted from %s to %s.", from, to)
	}
	ctx, cancel := context.WithTimeout(ctx, or(q.Timeout, time.Hour))
	defer cancel()
	dir, err := os.MkdirTemp(q.Dir, "nacre-convert-")
	if err != nil {
		return nil, err
	}
	out, err := q.convert(ctx, r, dir, src, dst)
	if err != nil {
		if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
			err = &nacre.Error{Kind: nacre.TooLarge, Code: "StorageFull", Message: "There is no room to convert the image.", Err: err}
		}
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return &output{out, dir}, nil
}

type output struct {
	*os.File
	dir string
}

func (o *output) Close() error { return errors.Join(o.File.Close(), os.RemoveAll(o.dir)) }

func (q *QemuImg) convert(ctx context.Context, r io.Reader, dir, src, dst string) (*os.File, error) {
	in, out := filepath.Join(dir, "in"), filepath.Join(dir, "out")
	if err := writeSparse(ctx, in, r); err != nil {
		return nil, err
	}
	raw, err := q.run(ctx, "info", "-f", src, "--output=json", in)
	if err != nil {
		return nil, err
	}
	var info struct {
		Format  string          `json:"format"`
		Virtual int64           `json:"virtual-size"`
		Backing json.RawMessage `json:"backing-filename"`
		Special struct {
			Data struct {
				DataFile json.RawMessage `json:"data-file"`
			} `json:"data"`
		} `json:"format-specific"`
	}
	if err := json.Unmarshal(raw, &info); err != nil {
		return nil, fmt.Errorf("qemu-img info: %w", err)
	}
	// The inspector has seen to these; qemu-img is asked again because it is
	// qemu-img that would follow them.
	switch {
	case info.Format != src:
		return nil, nacre.Errorf(nacre.UnsupportedMedia, "", "Image metadata disagrees about format")
	case info.Backing != nil:
		return nil, nacre.Errorf(nacre.UnsupportedMedia, "", "Images with backing files are not allowed")
	case info.Special.Data.DataFile != nil:
		return nil, nacre.Errorf(nacre.UnsupportedMedia, "", "Images with data-file set are not allowed")
	case info.Virtual > or(q.MaxVirtual, 1<<40):
		return nil, nacre.Errorf(nacre.TooLarge, "", "The image's disk of %d bytes is too large to be converted.", info.Virtual)
	}
	if _, err := q.run(ctx, "convert", "-f", src, "-O", dst, in, out); err != nil {
		return nil, err
	}
	// The input's room is needed no more.
	if err := os.Remove(in); err != nil {
		return nil, err
	}
	return os.Open(out)
}

// run runs qemu-img under prlimit.
func (q *QemuImg) run(ctx context.Context, args ...string) ([]byte, error) {
	limits := []string{"--as=" + strconv.FormatInt(or(q.MaxMemory, 1<<30), 10), "--cpu=" + strconv.Itoa(int(or(q.CPU, 15*time.Minute).Seconds())),
		"--fsize=" + strconv.FormatInt(or(q.MaxOutput, 1<<40), 10), "--core=0", "--", or(q.Path, "qemu-img")}
	cmd := exec.CommandContext(ctx, "prlimit", append(limits, args...)...)
	// Each thread's arena would take 64 MiB of what it may have.
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "MALLOC_ARENA_MAX=1"}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &limited{&stderr, 4 << 10}
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return nil, &nacre.Error{Kind: nacre.UnsupportedMedia, Message: "The conversion took too long.", Err: errors.Join(ctx.Err(), err)}
		}
		if errors.Is(err, exec.ErrNotFound) {
			return nil, fmt.Errorf("prlimit: %w", err)
		}
		return nil, &nacre.Error{Kind: nacre.UnsupportedMedia, Message: "The image could not be converted.", Err: fmt.Errorf("qemu-img %s: %w: %s", args[0], err, strings.TrimSpace(stderr.String()))}
	}
	return stdout.Bytes(), nil
}

type limited struct {
	w    io.Writer
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	n := min(len(p), l.left)
	l.left -= n
	if _, err := l.w.Write(p[:n]); err != nil {
		return 0, err
	}
	return len(p), nil
}

// writeSparse writes a file with holes for blocks of zeros.
func writeSparse(ctx context.Context, path string, r io.Reader) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	buf, zeros := make([]byte, 64<<10), make([]byte, 64<<10)
	size := int64(0)
	for {
		n, rerr := io.ReadFull(r, buf)
		if n > 0 && !bytes.Equal(buf[:n], zeros[:n]) {
			if _, err := f.WriteAt(buf[:n], size); err != nil {
				return errors.Join(err, f.Close())
			}
		}
		size += int64(n)
		if errors.Is(rerr, io.EOF) || errors.Is(rerr, io.ErrUnexpectedEOF) {
			break
		}
		if rerr == nil {
			rerr = ctx.Err()
		}
		if rerr != nil {
			return errors.Join(rerr, f.Close())
		}
	}
	return errors.Join(f.Truncate(size), f.Close())
}
