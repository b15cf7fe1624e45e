package diskimage

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/nacre-cloud/nacre"
)

// Format is what an image is, by Glance's name for it (disk_format) where it has one.
type Format string

// The formats that are told apart.
const (
	Raw   Format = "raw"
	QCOW2 Format = "qcow2"
	VMDK  Format = "vmdk"
	VDI   Format = "vdi"
	VHD   Format = "vhd" // QEMU calls it vpc
	VHDX  Format = "vhdx"
	ISO   Format = "iso"
	Ploop Format = "ploop"
	// GPT is a bare disk with a partition table, GPT or MBR.
	GPT Format = "gpt"
	// LUKS is an encrypted bare disk.
	LUKS Format = "luks"
	// QED is known only to be refused.
	QED Format = "qed"
)

// Info is what an image turned out to be.
type Info struct {
	Format Format
	// VirtualSize is the size in bytes of the disk that a guest sees.
	VirtualSize int64
	// Size is the size of the image in bytes.
	Size int64
	// FixedVHD says that a bare disk ends with the footer of a fixed-size VHD,
	// which has no other mark. Such a file is both.
	FixedVHD bool
}

// DiskSize is the virtual size in bytes under a declared disk_format that
// matches: what is taken for raw is as large as the file. It is 0 where the
// format does not tell (ami and the like).
func (i Info) DiskSize(declared string) int64 {
	switch {
	case declared == string(Raw):
		return i.Size
	case declared == string(VHD) && i.FixedVHD:
		return i.Size - vhdFooter
	case declared == string(i.Format):
		return i.VirtualSize
	}
	return 0
}

// flat formats are the disk's own bytes: reading them as raw is harmless.
func (f Format) flat() bool { return f == Raw || f == GPT || f == LUKS || f == ISO }

// opaque are the disk formats that say nothing of the content's structure.
var opaque = []string{"ami", "ari", "aki"}

// Match checks a declared disk_format against the content. They must be equal,
// except that a bare disk may have a partition table, encryption or an ISO file
// system in it. Unknown disk formats (an operator's own) must not turn out to be
// a known one. The error is nacre.UnsupportedMedia.
func (i Info) Match(declared string) error {
	ok := declared == string(i.Format)
	switch {
	case declared == string(Raw):
		ok = i.Format.flat()
	case declared == string(VHD) && i.FixedVHD:
		ok = true
	case slices.Contains(opaque, declared) || !known(declared):
		ok = i.Format == Raw
	}
	if ok {
		return nil
	}
	return &nacre.Error{
		Kind: nacre.UnsupportedMedia, Code: "format_mismatch",
		Message: fmt.Sprintf("Image disk_format %s does not match stream data %s", declared, i.Format),
	}
}

func known(f string) bool {
	switch Format(f) {
	case Raw, QCOW2, VMDK, VDI, VHD, VHDX, ISO, Ploop, GPT, LUKS, QED:
		return true
	}
	return false
}

// headSize is what is looked at first: an ISO's volume descriptor ends there.
const headSize = 34 << 10

// vhdFooter is the length of a VHD's footer.
const vhdFooter = 512

// tailSize is how much of the end is kept: a VMDK footer is 1.5 KiB.
const tailSize = 1536

// maxVirtual is the largest disk that is believed: 1 EiB. Anything near the end
// of 64 bits overflows in the programs that calculate with it.
const maxVirtual = 1 << 60

// region is a part of the image that a format wants to see.
type region struct {
	off  int64
	size int64
	buf  []byte
}

func (r *region) complete() bool { return int64(len(r.buf)) == r.size }

// next is the offset of the first byte that is still wanted.
func (r *region) next() int64 { return r.off + int64(len(r.buf)) }

// feed takes what it wants of the bytes at pos.
func (r *region) feed(pos int64, p []byte) {
	if skip := r.next() - pos; !r.complete() && skip >= 0 && skip < int64(len(p)) {
		p = p[skip:]
		if want := r.size - int64(len(r.buf)); int64(len(p)) > want {
			p = p[:want]
		}
		r.buf = append(r.buf, p...)
	}
}

// format looks at one kind of image. step is called whenever a region that it
// asked for may have grown, until it says done.
type format interface {
	step(in *Inspector) (done bool)
}

// Inspector inspects an image that is written to it. The zero value is not
// usable; use NewInspector. It is not safe for concurrent use.
type Inspector struct {
	info     Info
	pos      int64
	head     *region
	regions  []*region
	detected bool
	format   format
	done     bool
	ended    bool
	tail     []byte
	problems []string
	several  []Format
}

// NewInspector inspects from the image's first byte on.
func NewInspector() *Inspector {
	head := &region{size: headSize}
	return &Inspector{head: head, regions: []*region{head}, info: Info{Format: Raw}}
}

// Write looks at the next bytes. It always takes all of them.
func (in *Inspector) Write(p []byte) (int, error) {
	n := len(p)
	in.feed(in.pos, p)
	in.pos += int64(n)
	if n >= tailSize {
		in.tail = append(in.tail[:0], p[n-tailSize:]...)
	} else {
		if drop := len(in.tail) + n - tailSize; drop > 0 {
			in.tail = in.tail[:copy(in.tail, in.tail[drop:])]
		}
		in.tail = append(in.tail, p...)
	}
	return n, nil
}

// feed hands bytes to the regions until nobody asks for more of them.
func (in *Inspector) feed(pos int64, p []byte) {
	for {
		for _, r := range in.regions {
			r.feed(pos, p)
		}
		before := len(in.regions)
		in.step()
		if len(in.regions) == before {
			return
		}
	}
}

// step lets the format look, once it is known which that is.
func (in *Inspector) step() {
	if !in.detected && (in.head.complete() || in.ended) {
		in.detected = true
		in.detect()
	}
	if in.detected && in.format != nil && !in.done {
		in.done = in.format.step(in)
	}
}

// want asks for a part of the image. What was passed already and is not in the
// head can't be had any more; then the region stays incomplete.
func (in *Inspector) want(off, size int64) *region {
	r := &region{off: off, size: size}
	if off >= 0 && off < int64(len(in.head.buf)) {
		r.feed(0, in.head.buf)
	}
	in.regions = append(in.regions, r)
	return r
}

// unsafe notes a reason to refuse the image.
func (in *Inspector) unsafe(format string, args ...any) {
	if p := fmt.Sprintf(format, args...); !slices.Contains(in.problems, p) {
		in.problems = append(in.problems, p)
	}
}

// size sets the virtual size, if it can be one.
func (in *Inspector) size(n uint64) {
	if n > maxVirtual {
		in.unsafe("a virtual size of %d bytes", n)
		return
	}
	in.info.VirtualSize = int64(n)
}

// Check is nil, or why the image will be refused whatever follows.
func (in *Inspector) Check() error {
	switch {
	case len(in.several) > 0:
		names := make([]string, len(in.several))
		for i, f := range in.several {
			names[i] = string(f)
		}
		return &nacre.Error{
			Kind: nacre.UnsupportedMedia, Code: "ambiguous_format",
			Message: "Multiple formats detected: " + strings.Join(names, ", "),
		}
	case len(in.problems) > 0:
		return &nacre.Error{
			Kind: nacre.UnsupportedMedia, Code: "unsafe_image", Message: "Image failed safety checks",
			Detail: string(in.info.Format) + ": " + strings.Join(in.problems, "; "),
		}
	}
	return nil
}

// Finish says what the image was, after its last byte. The Info is as far as it
// was understood when there is an error too.
func (in *Inspector) Finish() (Info, error) {
	in.end(in.pos)
	return in.info, in.Check()
}

// end is the end of the image, total bytes long.
func (in *Inspector) end(total int64) {
	in.ended = true
	in.info.Size = total
	// A step at the end may still ask for what is in the head.
	in.feed(0, nil)
	if in.format != nil && !in.done {
		in.unsafe("a truncated header")
	}
	if f, ok := in.format.(interface{ end(*Inspector) }); ok {
		f.end(in)
	}
	if in.format == nil && in.info.VirtualSize == 0 {
		in.info.VirtualSize = total
	}
	if in.info.Format.flat() {
		in.fixedVHD()
	}
}

// Inspect reads an image to its end.
func Inspect(r io.Reader) (Info, error) {
	in := NewInspector()
	if _, err := io.Copy(in, r); err != nil {
		return Info{}, fmt.Errorf("diskimage: %w", err)
	}
	return in.Finish()
}

// InspectAt inspects an image of known size without reading all of it.
func InspectAt(r io.ReaderAt, size int64) (Info, error) {
	in := NewInspector()
	buf := make([]byte, 64<<10)
	for i := 0; i < len(in.regions); i++ {
		for g := in.regions[i]; !g.complete() && g.next() >= 0 && g.next() < size; {
			n, err := r.ReadAt(buf[:min(int64(len(buf)), size-g.next())], g.next())
			if n == 0 {
				if err == nil || errors.Is(err, io.EOF) {
					err = io.ErrUnexpectedEOF
				}
				return Info{}, fmt.Errorf("diskimage: %w", err)
			}
			in.feed(g.next(), buf[:n])
		}
		if i == 0 {
			in.ended = !in.head.complete()
			in.step()
		}
	}
	tail := make([]byte, min(size, tailSize))
	if n, err := r.ReadAt(tail, size-int64(len(tail))); n < len(tail) {
		return Info{}, fmt.Errorf("diskimage: %w", err)
	}
	in.tail = tail
	in.end(size)
	return in.info, in.Check()
}
