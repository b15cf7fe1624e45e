package diskimage_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/internal/diskimage"
)

// inspected runs all ways to inspect, which must agree.
func inspected(t testing.TB, img []byte) (diskimage.Info, error) {
	t.Helper()
	info, err := diskimage.Inspect(bytes.NewReader(img))
	at, errAt := diskimage.InspectAt(bytes.NewReader(img), int64(len(img)))
	require.Equal(t, info, at, "a file and a stream are the same")
	require.Equal(t, err, errAt)
	for _, size := range []int{511, 4096, 65537} {
		in := diskimage.NewInspector()
		for rest := img; len(rest) > 0; {
			n, err := in.Write(rest[:min(size, len(rest))])
			require.NoError(t, err)
			rest = rest[n:]
		}
		got, errGot := in.Finish()
		require.Equal(t, info, got, "in pieces of %d", size)
		require.Equal(t, err, errGot, "in pieces of %d", size)
	}
	return info, err
}

func TestGood(t *testing.T) {
	raw := bytes.Repeat([]byte("nothing in particular "), 4000)
	streamOptimized := strings.Replace(vmdkText, "monolithicSparse", "streamOptimized", 1)
	for name, c := range map[string]struct {
		img  []byte
		want diskimage.Format
		size int64
	}{
		"raw":               {raw, diskimage.Raw, int64(len(raw))},
		"empty":             {nil, diskimage.Raw, 0},
		"one byte":          {[]byte("x"), diskimage.Raw, 1},
		"zeros":             {make([]byte, mib), diskimage.Raw, mib},
		"qcow2":             {qcow2(), diskimage.QCOW2, 10 * mib},
		"qcow2 small":       {qcow2()[:200], diskimage.QCOW2, 10 * mib},
		"qcow2 dirty, zstd": {qcow2(patch{72, uint64(1 | 8)}), diskimage.QCOW2, 10 * mib},
		"qcow2 v2":          {qcow2(patch{4, uint32(2)}, patch{72, ^uint64(0)}), diskimage.QCOW2, 10 * mib},
		"vmdk":              {vmdk(vmdkText), diskimage.VMDK, 10 * mib},
		"vmdk stream":       {vmdk(streamOptimized, patch{4, uint32(3)}), diskimage.VMDK, 10 * mib},
		"vmdk footer":       {footed(vmdk(streamOptimized)), diskimage.VMDK, 10 * mib},
		"vmdk long":         {pad(vmdk(vmdkText, patch{36, uint64(1<<54 + 1)}), 2*mib), diskimage.VMDK, 10 * mib},
		"vdi":               {vdi(), diskimage.VDI, 10 * mib},
		"vdi fixed":         {vdi(patch{0x4c, uint32(2)}), diskimage.VDI, 10 * mib},
		"vhd":               {vhd(3), diskimage.VHD, 10 * mib},
		"vhdx":              {vhdx(), diskimage.VHDX, 10 * mib},
		"iso":               {iso(), diskimage.ISO, 10 * mib},
		"udf":               {iso(patch{32 << 10, "\x00NSR03\x01"}), diskimage.ISO, 64 << 10},
		"iso for sticks":    {iso(mbrPatches...), diskimage.ISO, 10 * mib},
		"mbr":               {mbr(), diskimage.GPT, 64 << 10},
		"gpt":               {gpt(), diskimage.GPT, 64 << 10},
		"fat":               {fat(), diskimage.Raw, 64 << 10},
		"luks1":             {luks(1), diskimage.LUKS, 2 * mib},
		"luks2":             {luks(2), diskimage.LUKS, 4 * mib},
		"ploop":             {ploop(), diskimage.Ploop, 10 * mib},
		"ploop old":         {ploop(patch{0, "WithoutFreeSpace"}, patch{40, ^uint32(0)}), diskimage.Ploop, 10 * mib},
		"almost vmdk text":  {[]byte("# a script\necho version=1\n"), diskimage.Raw, 26},
	} {
		t.Run(name, func(t *testing.T) {
			info, err := inspected(t, c.img)
			require.NoError(t, err)
			require.Equal(t, diskimage.Info{Format: c.want, VirtualSize: c.size, Size: int64(len(c.img))}, info)
			require.NoError(t, info.Match(string(c.want)))
			require.Equal(t, c.size, info.DiskSize(string(c.want)))
		})
	}
}

func TestUnsafe(t *testing.T) {
	text := func(old, new string) []byte { return vmdk(strings.Replace(vmdkText, old, new, 1)) }
	for name, c := range map[string]struct {
		img  []byte
		want string
	}{
		"qcow2 backing file":          {qcow2(patch{8, uint64(512)}, patch{16, uint32(11)}, patch{512, "/etc/passwd"}), "backing file"},
		"qcow2 v2 backing file":       {qcow2(patch{4, uint32(2)}, patch{8, uint64(512)}), "backing file"},
		"qcow1 backing file":          {qcow2(patch{4, uint32(1)}, patch{8, uint64(512)}), "backing file"},
		"qcow2 data file":             {qcow2(patch{72, uint64(4)}), "external data file"},
		"qcow2 data file name":        {qcow2(patch{160, uint32(0x44415441)}, patch{164, uint32(5)}, patch{168, "/x/y/"}), "names an external data file"},
		"qcow2 feature 4":             {qcow2(patch{72, uint64(1 << 4)}), "unknown features 0x10"},
		"qcow2 feature 63":            {qcow2(patch{72, uint64(1 << 63)}), "unknown features"},
		"qcow2 version":               {qcow2(patch{4, uint32(4)}), "unknown version 4"},
		"qcow2 clusters":              {qcow2(patch{20, uint32(40)}), "clusters"},
		"qcow2 size":                  {qcow2(patch{24, uint64(1 << 63)}), "virtual size"},
		"qcow2 size, 1 EiB and a bit": {qcow2(patch{24, uint64(1<<60 + 512)}), "virtual size"},
		"qcow2 header length":         {qcow2(patch{100, uint32(72)}), "header of 72"},
		"qcow2 truncated":             {qcow2()[:100], "truncated"},
		"qcow2 magic only":            {qcow2()[:4], "truncated"},
		"qed":                         {pad([]byte("QED\x00"), 4096), "not allowed"},
		"vmdk flat":                   {text("monolithicSparse", "monolithicFlat"), "not supported"},
		"vmdk no type":                {text(`createType="monolithicSparse"`, ""), "not supported"},
		"vmdk two types":              {text("createType", "createType=\"streamOptimized\"\ncreateType"), "two types"},
		"vmdk path":                   {text("disk.vmdk", "/dev/sda"), "another file"},
		"vmdk windows path":           {text("disk.vmdk", `c:\x`), "another file"},
		"vmdk flat extent":            {text(`SPARSE "disk.vmdk"`, `FLAT "disk" 0`), "another file"},
		"vmdk two extents":            {text("# The", "RW 1 SPARSE \"x\"\n# The"), "2 extents"},
		"vmdk no extents":             {text(`RW 20480 SPARSE "disk.vmdk"`, ""), "0 extents"},
		"vmdk parent":                 {text("createType", "parentFileNameHint=\"/etc/passwd\"\ncreateType"), "parent"},
		"vmdk parent in a comment":    {text("# The", "# parentFileNameHint=\"/etc/passwd\""), "parent"},
		"vmdk parent cid":             {text("ffffffff", "12345678"), "parent"},
		"vmdk odd line":               {text("# The", "include other"), "not understood"},
		"vmdk binary text":            {text("# The", "\x00# The"), "no text"},
		"vmdk utf-8":                  {text("# The", "# Thé"), "no text"},
		"vmdk only text":              {[]byte(vmdkText), "other files"},
		"vmdk only text, other first": {[]byte("# hello\n\nversion=1\n"), "other files"},
		"vmdk esx":                    {pad([]byte("COWD"), 4096), "not supported"},
		"vmdk version":                {vmdk(vmdkText, patch{4, uint32(9)}), "version"},
		"vmdk descriptor elsewhere":   {vmdk(vmdkText, patch{28, uint64(2)}), "where it belongs"},
		"vmdk descriptor far":         {vmdk(vmdkText, patch{28, uint64(1<<55 + 1)}), "where it belongs"},
		"vmdk no descriptor":          {vmdk(vmdkText, patch{28, uint64(0)}, patch{36, uint64(0)}), "where it belongs"},
		"vmdk no capacity":            {vmdk(vmdkText, patch{12, uint64(0)}), "capacity"},
		"vmdk size":                   {vmdk(vmdkText, patch{12, uint64(1 << 60)}), "virtual size"},
		"vmdk truncated":              {vmdk(vmdkText)[:700], "truncated"},
		"vmdk footer lies":            {footed(vmdk(vmdkText), patch{28, uint64(7)}), "contradicts"},
		"vmdk footer missing":         {vmdk(vmdkText, patch{56, ^uint64(0)}), "contradicts"},
		"vdi parent":                  {vdi(patch{0x4c, uint32(4)}), "parent"},
		"vdi size":                    {vdi(patch{0x170, ^uint64(0)}), "virtual size"},
		"vdi truncated":               {vdi()[:0x50], "truncated"},
		"vhd parent":                  {vhd(4), "parent"},
		"vhd size":                    {vhd(3, patch{48, ^uint64(0)}), "virtual size"},
		"vhd truncated":               {vhd(3)[:500], "truncated"},
		"vhdx parent":                 {vhdx(patch{vhdxMeta + 65540, uint32(2)}), "parent"},
		"vhdx parent locator":         {vhdx(patch{vhdxMeta + 10, uint16(3)}, patch{vhdxMeta + 96, guidParent}), "parent"},
		"vhdx size":                   {vhdx(patch{vhdxMeta + 65544, ^uint64(0)}), "virtual size"},
		"vhdx no table":               {vhdx(patch{vhdxTable, "xxxx"}), "no table of regions"},
		"vhdx too many regions":       {vhdx(patch{vhdxTable + 8, uint32(2048)}), "no table of regions"},
		"vhdx no metadata region":     {vhdx(patch{vhdxTable + 8, uint32(1)}), "no metadata"},
		"vhdx metadata in the past":   {vhdx(patch{vhdxTable + 64, uint64(0)}), "no metadata"},
		"vhdx metadata nowhere":       {vhdx(patch{vhdxTable + 64, ^uint64(0)}), "no metadata"},
		"vhdx metadata beyond":        {vhdx(patch{vhdxTable + 64, uint64(64 * mib)}), "truncated"},
		"vhdx no metadata table":      {vhdx(patch{vhdxMeta, "x"}), "no table of metadata"},
		"vhdx many items":             {vhdx(patch{vhdxMeta + 10, uint16(2048)}), "no table of metadata"},
		"vhdx no size":                {vhdx(patch{vhdxMeta + 10, uint16(1)}), "no virtual size"},
		"vhdx two sizes":              {vhdx(patch{vhdxMeta + 10, uint16(3)}, patch{vhdxMeta + 96, guidSize}), "malformed"},
		"vhdx item in the table":      {vhdx(patch{vhdxMeta + 80, uint32(64)}), "malformed"},
		"vhdx truncated":              {vhdx()[:vhdxMeta+65540], "truncated"},
		"luks version":                {luks(3), "version"},
		"luks payload":                {luks(1)[:mib], "beyond its end"},
		"luks truncated":              {luks(1)[:100], "truncated"},
		"ploop version":               {ploop(patch{16, uint32(1)}), "version"},
		"ploop size":                  {ploop(patch{36, ^uint64(0)}), "virtual size"},
		"iso truncated":               {iso()[:33<<10], "truncated"},
	} {
		t.Run(name, func(t *testing.T) {
			info, err := inspected(t, c.img)
			require.ErrorIs(t, err, nacre.UnsupportedMedia)
			var e *nacre.Error
			require.True(t, errors.As(err, &e))
			require.Equal(t, "unsafe_image", e.Code)
			require.Contains(t, e.Detail, c.want)
			require.NotEqual(t, diskimage.Raw, info.Format)
		})
	}
}

func TestAmbiguous(t *testing.T) {
	for name, img := range map[string][]byte{
		"qcow2 and iso":  qcow2(patch{32 << 10, "\x01CD001"}),
		"qcow2 and mbr":  le(qcow2(), mbrPatches...),
		"qcow2 and vdi":  le(qcow2(), patch{0x40, uint32(0xbeda107f)}),
		"vdi, iso, mbr":  le(pad(vdi(), 64<<10), append([]patch{{32 << 10, "\x01CD001"}}, mbrPatches...)...),
		"vmdk and iso":   vmdk(vmdkText, patch{32 << 10, "\x01CD001"}),
		"vhdx and an os": le(vhdx(), mbrPatches...),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := inspected(t, img)
			require.ErrorIs(t, err, nacre.UnsupportedMedia)
			require.ErrorContains(t, err, "Multiple formats detected")
		})
	}
}

func TestMatch(t *testing.T) {
	fixed := append(mbr(), vhdFooter(2, 64<<10)...)
	for _, c := range []struct {
		declared string
		img      []byte
		ok       bool
		size     int64
	}{
		{"raw", make([]byte, 4096), true, 4096},
		{"raw", mbr(), true, 64 << 10},
		{"raw", gpt(), true, 64 << 10},
		{"raw", iso(), true, 64 << 10},
		{"raw", luks(1), true, 4 * mib},
		{"raw", fixed, true, 64<<10 + 512},
		{"raw", qcow2(), false, 0},
		{"raw", vmdk(vmdkText), false, 0},
		{"raw", vhdx(), false, 0},
		{"raw", vhd(3), false, 0},
		{"raw", vdi(), false, 0},
		{"raw", ploop(), false, 0},
		{"gpt", gpt(), true, 64 << 10},
		{"gpt", make([]byte, 4096), false, 0},
		{"qcow2", qcow2(), true, 10 * mib},
		{"qcow2", make([]byte, 4096), false, 0},
		{"qcow2", mbr(), false, 0},
		{"qcow2", nil, false, 0},
		{"vmdk", qcow2(), false, 0},
		{"vhd", vhd(3), true, 10 * mib},
		{"vhd", fixed, true, 64 << 10},
		{"vhd", mbr(), false, 0},
		{"vhdx", vhd(3), false, 0},
		{"iso", iso(), true, 10 * mib},
		{"iso", mbr(), false, 0},
		{"ami", make([]byte, 4096), true, 0},
		{"aki", qcow2(), false, 0},
		{"own-format", make([]byte, 4096), true, 0},
		{"own-format", vmdk(vmdkText), false, 0},
	} {
		info, err := inspected(t, c.img)
		require.NoError(t, err)
		err = info.Match(c.declared)
		if c.ok {
			require.NoError(t, err, "%s is %s", c.declared, info.Format)
			require.Equal(t, c.size, info.DiskSize(c.declared), "%s is %s", c.declared, info.Format)
			continue
		}
		require.ErrorIs(t, err, nacre.UnsupportedMedia, "%s is %s", c.declared, info.Format)
		require.ErrorContains(t, err, "does not match stream data "+string(info.Format))
	}
}

// An upload can stop as soon as its head shows that it will be refused.
func TestCheckMidway(t *testing.T) {
	in := diskimage.NewInspector()
	_, err := in.Write(qcow2(patch{8, uint64(512)})[:34<<10])
	require.NoError(t, err)
	require.ErrorIs(t, in.Check(), nacre.UnsupportedMedia)

	in = diskimage.NewInspector()
	img := vhdx()
	for i := range img {
		if n, err := in.Write(img[i : i+1]); n != 1 || err != nil || in.Check() != nil {
			t.Fatal(i, n, err, in.Check())
		}
	}
	info, err := in.Finish()
	require.NoError(t, err)
	require.EqualValues(t, 10*mib, info.VirtualSize)
}

func TestReadErrors(t *testing.T) {
	broken := errors.New("broken")
	_, err := diskimage.Inspect(io.MultiReader(bytes.NewReader(qcow2()), iotest.ErrReader(broken)))
	require.ErrorIs(t, err, broken)
	_, err = diskimage.InspectAt(bytes.NewReader(qcow2()), 10*mib)
	require.ErrorIs(t, err, io.EOF, "the file is shorter than was said")
}

// A large stream costs no more memory than its head.
func TestMemory(t *testing.T) {
	in := diskimage.NewInspector()
	chunk := make([]byte, 64<<10)
	first := pad(vmdk(vmdkText, patch{36, uint64(1 << 50)}), 128<<10)
	_, err := in.Write(first)
	require.NoError(t, err)
	for range 64 {
		_, err = in.Write(chunk)
		require.NoError(t, err)
	}
	require.Zero(t, testing.AllocsPerRun(100, func() { _, _ = in.Write(chunk) }))
	_, err = in.Finish()
	require.NoError(t, err)
}

func FuzzInspect(f *testing.F) {
	for _, img := range [][]byte{
		qcow2()[:4096], vmdk(vmdkText)[:12<<10], vdi(), vhd(3), iso(), mbr()[:1024], luks(1)[:4096], ploop(), []byte(vmdkText), footed(vmdk(vmdkText)[:12<<10]),
	} {
		f.Add(img, uint16(512), false)
		f.Add(img, uint16(7), true)
	}
	base := vhdx()
	f.Fuzz(func(t *testing.T, img []byte, size uint16, inVHDX bool) {
		if inVHDX { // as the tables of a VHDX, which random bytes would hardly reach
			b := bytes.Clone(base)
			half := len(img) / 2
			copy(b[vhdxTable+8:vhdxTable+65536], img[:half])
			copy(b[vhdxMeta+8:], img[half:])
			img = b
		}
		info, err := diskimage.Inspect(bytes.NewReader(img))
		at, errAt := diskimage.InspectAt(bytes.NewReader(img), int64(len(img)))
		require.Equal(t, info, at)
		require.Equal(t, err, errAt)
		in := diskimage.NewInspector()
		step := max(1, int(size), len(img)/1000)
		for rest := img; len(rest) > 0; rest = rest[min(step, len(rest)):] {
			_, _ = in.Write(rest[:min(step, len(rest))])
		}
		got, errGot := in.Finish()
		require.Equal(t, info, got)
		require.Equal(t, err, errGot)
		require.EqualValues(t, len(img), info.Size)
		require.GreaterOrEqual(t, info.VirtualSize, int64(0))
	})
}

func BenchmarkInspect(b *testing.B) {
	in := diskimage.NewInspector()
	chunk := make([]byte, 64<<10)
	b.SetBytes(int64(len(chunk)))
	for b.Loop() {
		_, _ = in.Write(chunk)
	}
}
