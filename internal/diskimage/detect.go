package diskimage

import (
	"bytes"
	"encoding/binary"
	"strings"
)

// detect finds the formats whose marks the head has.
func (in *Inspector) detect() {
	h := in.head.buf
	var found []Format
	var looks []format
	add := func(f Format, look format) {
		found, looks = append(found, f), append(looks, look)
	}
	if bytes.HasPrefix(h, []byte("QFI\xfb")) {
		add(QCOW2, qcow2{})
	}
	if bytes.HasPrefix(h, []byte("QED\x00")) {
		add(QED, qed{})
	}
	if bytes.HasPrefix(h, []byte("KDMV")) || bytes.HasPrefix(h, []byte("COWD")) || isVMDKText(h) {
		add(VMDK, &vmdk{})
	}
	if len(h) >= 0x44 && binary.LittleEndian.Uint32(h[0x40:]) == 0xbeda107f {
		add(VDI, vdi{})
	}
	if bytes.HasPrefix(h, []byte("conectix")) {
		add(VHD, vhd{})
	}
	if bytes.HasPrefix(h, []byte("vhdxfile")) {
		add(VHDX, &vhdx{})
	}
	if bytes.HasPrefix(h, []byte("LUKS\xba\xbe")) {
		add(LUKS, luks{})
	}
	if bytes.HasPrefix(h, []byte("WithoutFreeSpace")) || bytes.HasPrefix(h, []byte("WithouFreSpacExt")) {
		add(Ploop, ploop{})
	}
	if isISO(h) {
		add(ISO, iso{})
	}
	if isPartitioned(h) {
		// An ISO for sticks has a partition table in the area that ISO leaves free.
		if len(found) != 1 || found[0] != ISO {
			add(GPT, nil)
		}
	}
	switch len(found) {
	case 0:
	case 1:
		in.info.Format, in.format = found[0], looks[0]
	default:
		in.several = found
		in.info.Format = found[0]
	}
}

// isPartitioned finds an MBR, a GPT's protective one included, that is no file
// system's boot sector, which ends with the same two bytes: each of its four
// entries has a possible boot flag, and one of them a type and a size.
func isPartitioned(h []byte) bool {
	if len(h) < 512 || h[510] != 0x55 || h[511] != 0xaa {
		return false
	}
	used := false
	for e := 446; e < 510; e += 16 {
		if h[e]&0x7f != 0 {
			return false
		}
		if h[e+4] != 0 && binary.LittleEndian.Uint32(h[e+12:]) != 0 {
			used = true
		}
	}
	return used
}

func isISO(h []byte) bool {
	if len(h) < 32<<10+6 {
		return false
	}
	switch string(h[32<<10+1 : 32<<10+6]) {
	case "CD001", "NSR02", "NSR03":
		return true
	}
	return false
}

// isVMDKText finds a VMDK descriptor without data, as QEMU does: the first line
// that is neither empty nor a comment gives a version.
func isVMDKText(h []byte) bool {
	if len(h) > 2048 {
		h = h[:2048]
	}
	if bytes.HasPrefix(bytes.ToLower(h), []byte("# disk descriptorfile")) {
		return true
	}
	if len(h) == 0 || h[0] != '#' {
		return false
	}
	for line := range strings.Lines(string(h)) {
		switch line = strings.TrimSpace(line); {
		case line == "" || line[0] == '#':
		default:
			return strings.HasPrefix(strings.ToLower(line), "version=")
		}
	}
	return false
}

// qcow2 is QEMU's format; see docs/interop/qcow2 there.
type qcow2 struct{}

// The incompatible features that QEMU and oslo.utils know: dirty, corrupt,
// external data file, compression type.
const (
	qcow2Features = 0xf
	qcow2DataFile = 1 << 2
)

func (qcow2) step(in *Inspector) bool {
	h := in.head.buf
	if len(h) < 72 {
		return false
	}
	version := binary.BigEndian.Uint32(h[4:])
	if binary.BigEndian.Uint64(h[8:]) != 0 {
		in.unsafe("it has a backing file")
	}
	if version != 2 && version != 3 {
		in.unsafe("unknown version %d", version)
		return true
	}
	if bits := binary.BigEndian.Uint32(h[20:]); bits < 9 || bits > 21 {
		in.unsafe("clusters of 2^%d bytes", bits)
	}
	in.size(binary.BigEndian.Uint64(h[24:]))
	if version == 2 { // its header ends here
		return true
	}
	if len(h) < 104 {
		return false
	}
	features := binary.BigEndian.Uint64(h[72:])
	if features&qcow2DataFile != 0 {
		in.unsafe("it has an external data file")
	}
	if features&^qcow2Features != 0 {
		in.unsafe("unknown features %#x", features&^qcow2Features)
	}
	if n := binary.BigEndian.Uint32(h[100:]); n < 104 || n%8 != 0 {
		in.unsafe("a header of %d bytes", n)
		return true
	}
	return qcow2Extensions(in, h)
}

// qcow2Extensions walks the header extensions for the name of a data file, which
// has no place in an image whose features deny it.
func qcow2Extensions(in *Inspector, h []byte) bool {
	at := uint64(binary.BigEndian.Uint32(h[100:]))
	for at+8 <= uint64(len(h)) {
		kind, size := binary.BigEndian.Uint32(h[at:]), uint64(binary.BigEndian.Uint32(h[at+4:]))
		switch kind {
		case 0:
			return true
		case 0x44415441:
			in.unsafe("it names an external data file")
			return true
		}
		at += 8 + (size+7)&^7
	}
	// They may fill the first cluster; what is beyond the head is not looked for,
	// since without the feature bit QEMU ignores such a name.
	return true
}

// qed is refused: nobody uses it, and nobody looks after it.
type qed struct{}

func (qed) step(in *Inspector) bool {
	in.unsafe("this file format is not allowed")
	return true
}

// vdi is VirtualBox's format.
type vdi struct{}

func (vdi) step(in *Inspector) bool {
	h := in.head.buf
	if len(h) < 512 {
		return false
	}
	if kind := binary.LittleEndian.Uint32(h[0x4c:]); kind != 1 && kind != 2 {
		in.unsafe("type %d, which has a parent", kind)
	}
	in.size(binary.LittleEndian.Uint64(h[0x170:]))
	return true
}

// vhd is Microsoft's older format, of dynamic size: a copy of its footer is first.
type vhd struct{}

func (vhd) step(in *Inspector) bool {
	h := in.head.buf
	if len(h) < 512 {
		return false
	}
	if kind := binary.BigEndian.Uint32(h[60:]); kind != 2 && kind != 3 {
		in.unsafe("type %d, which has a parent", kind)
	}
	in.size(binary.BigEndian.Uint64(h[48:]))
	return true
}

// fixedVHD looks for a footer behind a disk of just the size that it tells.
func (in *Inspector) fixedVHD() {
	if len(in.tail) < vhdFooter {
		return
	}
	f := in.tail[len(in.tail)-vhdFooter:]
	in.info.FixedVHD = bytes.HasPrefix(f, []byte("conectix")) && binary.BigEndian.Uint32(f[60:]) == 2 &&
		binary.BigEndian.Uint64(f[48:]) == uint64(in.info.Size-vhdFooter)
}

// luks is a disk under LUKS 1 or 2.
type luks struct{}

func (luks) step(in *Inspector) bool {
	if len(in.head.buf) < 592 {
		return false
	}
	if v := binary.BigEndian.Uint16(in.head.buf[6:]); v != 1 && v != 2 {
		in.unsafe("unknown version %d", v)
	}
	return true
}

// end takes the header away from the size; LUKS 2 tells its own in JSON, which is
// not looked into, so there the size is the file's.
func (luks) end(in *Inspector) {
	in.info.VirtualSize = in.info.Size
	h := in.head.buf
	if len(h) < 592 || binary.BigEndian.Uint16(h[6:]) != 1 {
		return
	}
	off := int64(binary.BigEndian.Uint32(h[104:])) * 512
	if off > in.info.Size {
		in.unsafe("a payload beyond its end")
		return
	}
	in.info.VirtualSize -= off
}

// ploop is the format of Parallels and Virtuozzo.
type ploop struct{}

func (ploop) step(in *Inspector) bool {
	h := in.head.buf
	if len(h) < 64 {
		return false
	}
	if v := binary.LittleEndian.Uint32(h[16:]); v != 2 {
		in.unsafe("unknown version %d", v)
	}
	sectors := binary.LittleEndian.Uint64(h[36:])
	if bytes.HasPrefix(h, []byte("WithoutFreeSpace")) {
		sectors &= 0xffffffff
	}
	in.sectors(sectors)
	return true
}

func (in *Inspector) sectors(n uint64) {
	if n > maxVirtual/512 {
		in.unsafe("a virtual size of %d sectors", n)
		return
	}
	in.size(n * 512)
}

// iso is ISO 9660 or UDF.
type iso struct{}

func (iso) step(in *Inspector) bool {
	d := in.head.buf[32<<10:]
	if len(d) < 2048 {
		return false
	}
	if d[0] == 1 && string(d[1:6]) == "CD001" {
		in.size(uint64(binary.LittleEndian.Uint32(d[80:])) * uint64(binary.LittleEndian.Uint16(d[128:])))
	}
	return true
}

// end gives a UDF, whose size lies deeper, the file's.
func (iso) end(in *Inspector) {
	if in.info.VirtualSize == 0 {
		in.info.VirtualSize = in.info.Size
	}
}
