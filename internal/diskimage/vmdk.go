package diskimage

import (
	"bytes"
	"encoding/binary"
	"strings"
)

// vmdk is VMware's format, in its variants of a single sparse file. Its
// descriptor is text that can name other files, so that every line must be
// understood.
type vmdk struct {
	desc *region
}

const (
	// vmdkDescOffset and vmdkDescMax are where and how long QEMU lets a descriptor be.
	vmdkDescOffset = 512
	vmdkDescMax    = 1<<20 - 1
	// vmdkHintMax is how much QEMU searches for the hint to a parent, whatever
	// the descriptor's length, and also in comments.
	vmdkHintMax = 20 * 512
	// vmdkAtEnd as the grain directory's offset says that a footer has it.
	vmdkAtEnd = 1<<64 - 1
)

func (v *vmdk) step(in *Inspector) bool {
	h := in.head.buf
	if !bytes.HasPrefix(h, []byte("KDMV")) {
		in.unsafe("a variant whose data are in other files or that is not supported")
		return true
	}
	if len(h) < 512 {
		return false
	}
	if v.desc == nil {
		if n := binary.LittleEndian.Uint32(h[4:]); n < 1 || n > 3 {
			in.unsafe("unknown version %d", n)
			return true
		}
		capacity := binary.LittleEndian.Uint64(h[12:])
		offset, size := binary.LittleEndian.Uint64(h[28:]), binary.LittleEndian.Uint64(h[36:])
		if capacity == 0 { // QEMU then trusts the descriptor alone
			in.unsafe("no capacity in its header")
			return true
		}
		in.sectors(capacity)
		if offset*512 != vmdkDescOffset || offset != 1 || size == 0 {
			in.unsafe("no descriptor where it belongs")
			return true
		}
		v.desc = in.want(vmdkDescOffset, int64(min(size, vmdkDescMax/512+1)*512))
		v.desc.size = min(v.desc.size, vmdkDescMax)
	}
	if !v.desc.complete() {
		return false
	}
	if bytes.Contains(h[vmdkDescOffset:min(len(h), vmdkDescOffset+vmdkHintMax)], []byte("parentFileNameHint")) {
		in.unsafe("it has a parent disk")
	}
	v.descriptor(in)
	return true
}

// descriptor checks the text line by line.
func (v *vmdk) descriptor(in *Inspector) {
	text := bytes.TrimRight(v.desc.buf, "\x00")
	for _, c := range text {
		if c >= 0x7f || c < ' ' && c != '\n' && c != '\r' && c != '\t' {
			in.unsafe("a descriptor that is no text")
			return
		}
	}
	extents, kind := 0, ""
	for line := range strings.Lines(strings.ToLower(string(text))) {
		line = strings.TrimSpace(line)
		word, _, _ := strings.Cut(line, " ")
		key, value, isField := strings.Cut(line, "=")
		key, value = strings.TrimSpace(key), strings.Trim(strings.TrimSpace(value), `"`)
		switch {
		case line == "" || line[0] == '#' || strings.HasPrefix(line, "ddb."):
		case word == "rw" || word == "rdonly" || word == "noaccess":
			extents++
			v.extent(in, line)
		case isField && !strings.ContainsAny(key, " \t"):
			switch key {
			case "createtype":
				if kind != "" {
					in.unsafe("a descriptor of two types")
				}
				kind = value
			case "parentfilenamehint":
				in.unsafe("it has a parent disk")
			case "parentcid":
				if value != "ffffffff" {
					in.unsafe("it has a parent disk")
				}
			}
		default:
			in.unsafe("a descriptor line that is not understood")
		}
	}
	if kind != "monolithicsparse" && kind != "streamoptimized" {
		in.unsafe("type %.64q, which is not supported", kind)
	}
	if extents != 1 {
		in.unsafe("%d extents instead of one", extents)
	}
}

// extent checks a line such as `RW 2048 SPARSE "disk.vmdk"`: the extent is this
// file, whatever its name, but no path.
func (v *vmdk) extent(in *Inspector, line string) {
	f := strings.Fields(line)
	if len(f) < 4 || f[2] != "sparse" || strings.ContainsAny(line, `/\`) {
		in.unsafe("an extent in another file")
	}
}

// end checks a footer, which QEMU prefers to the header: it may differ from that
// in the place of the grain directory only.
func (v *vmdk) end(in *Inspector) {
	h := in.head.buf
	if len(h) < 512 || !bytes.HasPrefix(h, []byte("KDMV")) || binary.LittleEndian.Uint64(h[56:]) != vmdkAtEnd {
		return
	}
	if len(in.tail) < tailSize {
		in.unsafe("a truncated footer")
		return
	}
	f := in.tail[len(in.tail)-tailSize+512:][:512]
	if !bytes.Equal(f[:48], h[:48]) || binary.LittleEndian.Uint64(f[56:]) == vmdkAtEnd {
		in.unsafe("a footer that contradicts its header")
	}
}
