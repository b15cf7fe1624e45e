package diskimage

import (
	"bytes"
	"encoding/binary"
)

// vhdx is Microsoft's format; see [MS-VHDX]. A table of regions leads to a table
// of metadata, which leads to the items.
type vhdx struct {
	table, meta  *region
	size, params *region
}

const (
	vhdxTable    = 192 << 10
	vhdxTableLen = 64 << 10
)

// GUIDs as they are on disk.
var (
	vhdxMetadata = []byte("\x06\xa2\x7c\x8b\x90\x47\x9a\x4b\xb8\xfe\x57\x5f\x05\x0f\x88\x6e") // 8B7CA206-4790-4B9A-B8FE-575F050F886E
	vhdxDiskSize = []byte("\x24\x42\xa5\x2f\x1b\xcd\x76\x48\xb2\x11\x5d\xbe\xd8\x3b\xf4\xb8") // 2FA54224-CD1B-4876-B211-5DBED83BF4B8
	vhdxParams   = []byte("\x37\x67\xa1\xca\x36\xfa\x43\x4d\xb3\xb6\x33\xf0\xaa\x44\xe7\x6b") // CAA16737-FA36-4D43-B3B6-33F0AA44E76B
	vhdxParent   = []byte("\x2d\x5f\xd3\xa8\x0b\xb3\x4d\x45\xab\xf7\xd3\xd8\x48\x34\xab\x0c") // A8D35F2D-B30B-454D-ABF7-D3D84834AB0C
)

func (v *vhdx) step(in *Inspector) bool {
	if v.table == nil {
		v.table = in.want(vhdxTable, vhdxTableLen)
	}
	if v.meta == nil {
		if !v.table.complete() {
			return false
		}
		off, ok := v.findMetadata(in)
		if !ok {
			return true
		}
		v.meta = in.want(off, vhdxTableLen)
	}
	if v.size == nil {
		if !v.meta.complete() {
			return false
		}
		if !v.findItems(in) {
			return true
		}
	}
	if !v.size.complete() || !v.params.complete() {
		return false
	}
	in.size(binary.LittleEndian.Uint64(v.size.buf))
	if binary.LittleEndian.Uint32(v.params.buf[4:])&2 != 0 {
		in.unsafe("it has a parent disk")
	}
	return true
}

// findMetadata finds the metadata region's offset in the table of regions.
func (v *vhdx) findMetadata(in *Inspector) (int64, bool) {
	b := v.table.buf
	count := binary.LittleEndian.Uint32(b[8:])
	if string(b[:4]) != "regi" || count > 2047 {
		in.unsafe("no table of regions")
		return 0, false
	}
	for e := 16; count > 0; e, count = e+32, count-1 {
		if bytes.Equal(b[e:e+16], vhdxMetadata) {
			off := binary.LittleEndian.Uint64(b[e+16:])
			// Regions begin after the first MiB. One before it would have passed by.
			if off < 1<<20 || off > maxVirtual {
				break
			}
			return int64(off), true
		}
	}
	in.unsafe("no metadata")
	return 0, false
}

// findItems finds the items in the table of metadata; they lie behind it.
func (v *vhdx) findItems(in *Inspector) bool {
	b := v.meta.buf
	count := binary.LittleEndian.Uint16(b[10:])
	if string(b[:8]) != "metadata" || count > 2047 {
		in.unsafe("no table of metadata")
		return false
	}
	for e := 32; count > 0; e, count = e+32, count-1 {
		id, off := b[e:e+16], binary.LittleEndian.Uint32(b[e+16:])
		item := func(r **region) bool {
			if *r != nil || off < vhdxTableLen {
				return false
			}
			*r = in.want(v.meta.off+int64(off), 8)
			return true
		}
		ok := true
		switch {
		case bytes.Equal(id, vhdxDiskSize):
			ok = item(&v.size)
		case bytes.Equal(id, vhdxParams):
			ok = item(&v.params)
		case bytes.Equal(id, vhdxParent):
			in.unsafe("it has a parent disk")
		}
		if !ok {
			in.unsafe("malformed metadata")
			return false
		}
	}
	if v.size == nil || v.params == nil {
		in.unsafe("no virtual size or no parameters in its metadata")
		return false
	}
	return true
}
