package diskimage_test

import (
	"bytes"
	"encoding/binary"
)

// The images here are made by hand, so that each field is where the format's
// specification says and nowhere else.

const mib = 1 << 20

func pad(b []byte, n int) []byte {
	return append(b, make([]byte, max(0, n-len(b)))...)
}

type patch struct {
	at  int
	val any // uint16, uint32, uint64 or string
}

// patched returns a copy with values written in an order of bytes.
func patched(b []byte, order binary.ByteOrder, ps ...patch) []byte {
	b = bytes.Clone(b)
	for _, p := range ps {
		switch v := p.val.(type) {
		case uint16:
			order.PutUint16(b[p.at:], v)
		case uint32:
			order.PutUint32(b[p.at:], v)
		case uint64:
			order.PutUint64(b[p.at:], v)
		case string:
			copy(b[p.at:], v)
		}
	}
	return b
}

func be(b []byte, ps ...patch) []byte { return patched(b, binary.BigEndian, ps...) }
func le(b []byte, ps ...patch) []byte { return patched(b, binary.LittleEndian, ps...) }

func qcow2(ps ...patch) []byte {
	b := be(make([]byte, 256<<10), patch{0, "QFI\xfb"}, patch{4, uint32(3)}, patch{20, uint32(16)}, patch{24, uint64(10 * mib)},
		patch{100, uint32(104)}, patch{104, uint32(0x6803f857)}, patch{108, uint32(48)})
	return be(b, ps...)
}

const vmdkText = `# Disk DescriptorFile
version=1
CID=7b1e28d5
parentCID=ffffffff
createType="monolithicSparse"

# Extent description
RW 20480 SPARSE "disk.vmdk"

# The Disk Data Base
#DDB

ddb.virtualHWVersion = "4"
ddb.adapterType = "ide"
`

func vmdk(text string, ps ...patch) []byte {
	b := le(make([]byte, 128<<10), patch{0, "KDMV"}, patch{4, uint32(1)}, patch{8, uint32(3)}, patch{12, uint64(20480)},
		patch{20, uint64(128)}, patch{28, uint64(1)}, patch{36, uint64(20)}, patch{44, uint32(512)}, patch{56, uint64(26)},
		patch{512, text})
	return le(b, ps...)
}

// footed gives a VMDK a footer, as VMware's tools do.
func footed(b []byte, ps ...patch) []byte {
	b = le(b, patch{56, ^uint64(0)})
	footer := le(b[:512], append([]patch{{56, uint64(100)}}, ps...)...)
	b = append(b, le(make([]byte, 512), patch{0, uint64(1)}, patch{12, uint32(3)})...)
	return append(append(b, footer...), make([]byte, 512)...)
}

func vdi(ps ...patch) []byte {
	return le(le(make([]byte, 4096), patch{0, "<<< Oracle VM VirtualBox Disk Image >>>\n"}, patch{0x40, uint32(0xbeda107f)},
		patch{0x4c, uint32(1)}, patch{0x170, uint64(10 * mib)}), ps...)
}

func vhdFooter(kind uint32, size uint64, ps ...patch) []byte {
	return be(be(make([]byte, 512), patch{0, "conectix"}, patch{40, size}, patch{48, size}, patch{60, kind}), ps...)
}

func vhd(kind uint32, ps ...patch) []byte {
	f := vhdFooter(kind, 10*mib, ps...)
	return append(append(bytes.Clone(f), make([]byte, 8192)...), f...)
}

const (
	guidMeta   = "\x06\xa2\x7c\x8b\x90\x47\x9a\x4b\xb8\xfe\x57\x5f\x05\x0f\x88\x6e"
	guidBAT    = "\x66\x77\xc2\x2d\x23\xf6\x00\x42\x9d\x64\x11\x5e\x9b\xfd\x4a\x08"
	guidSize   = "\x24\x42\xa5\x2f\x1b\xcd\x76\x48\xb2\x11\x5d\xbe\xd8\x3b\xf4\xb8"
	guidParams = "\x37\x67\xa1\xca\x36\xfa\x43\x4d\xb3\xb6\x33\xf0\xaa\x44\xe7\x6b"
	guidParent = "\x2d\x5f\xd3\xa8\x0b\xb3\x4d\x45\xab\xf7\xd3\xd8\x48\x34\xab\x0c"
)

const (
	vhdxTable = 192 << 10
	vhdxMeta  = 2 * mib
)

func vhdx(ps ...patch) []byte {
	b := le(make([]byte, 3*mib), patch{0, "vhdxfile"},
		patch{vhdxTable, "regi"}, patch{vhdxTable + 8, uint32(2)},
		patch{vhdxTable + 16, guidBAT}, patch{vhdxTable + 32, uint64(3 * mib)}, patch{vhdxTable + 40, uint32(mib)},
		patch{vhdxTable + 48, guidMeta}, patch{vhdxTable + 64, uint64(vhdxMeta)}, patch{vhdxTable + 72, uint32(mib)},
		patch{vhdxMeta, "metadata"}, patch{vhdxMeta + 10, uint16(2)},
		patch{vhdxMeta + 32, guidParams}, patch{vhdxMeta + 48, uint32(65536)}, patch{vhdxMeta + 52, uint32(8)},
		patch{vhdxMeta + 64, guidSize}, patch{vhdxMeta + 80, uint32(65544)}, patch{vhdxMeta + 84, uint32(8)},
		patch{vhdxMeta + 65536, uint32(32 * mib)},
		patch{vhdxMeta + 65544, uint64(10 * mib)})
	return le(b, ps...)
}

func iso(ps ...patch) []byte {
	return le(le(make([]byte, 64<<10), patch{32 << 10, "\x01CD001\x01"}, patch{32<<10 + 80, uint32(5120)}, patch{32<<10 + 128, uint16(2048)}), ps...)
}

var mbrPatches = []patch{{446, "\x80\x00\x01\x01\x83\x00\x00\x00"}, {454, uint32(2048)}, {458, uint32(18432)}, {510, "\x55\xaa"}}

func mbr() []byte { return le(make([]byte, 64<<10), mbrPatches...) }

func gpt() []byte {
	return le(make([]byte, 64<<10), patch{450, "\xee"}, patch{454, uint32(1)}, patch{458, ^uint32(0)}, patch{510, "\x55\xaa"}, patch{512, "EFI PART"})
}

func luks(version uint16) []byte {
	return be(make([]byte, 4*mib), patch{0, "LUKS\xba\xbe"}, patch{6, version}, patch{104, uint32(4096)})
}

func ploop(ps ...patch) []byte {
	return le(le(make([]byte, 4096), patch{0, "WithouFreSpacExt"}, patch{16, uint32(2)}, patch{36, uint64(20480)}), ps...)
}

// fat is a file system's boot sector, which ends as an MBR does.
func fat() []byte {
	b := le(make([]byte, 64<<10), patch{0, "\xeb\x3c\x90MSDOS5.0"}, patch{54, "FAT16   "}, patch{510, "\x55\xaa"})
	copy(b[62:510], bytes.Repeat([]byte("This is not a bootable disk. "), 20))
	return b
}
