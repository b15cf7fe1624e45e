package libvirt

import (
	"bytes"
	"context"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/compute/hypervisor"
)

func dirEntries(t *testing.T, dir string) []string {
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestManyBootsShareOneDownload(t *testing.T) {
	b, err := openBase(t.TempDir())
	require.NoError(t, err)
	src := newSource("img", "raw", bytes.Repeat([]byte("x"), 1<<20))
	name := baseName(src.img)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			r, img, _ := src.Open(t.Context(), "", "")
			require.NoError(t, b.fill(t.Context(), name, img, r))
		})
	}
	wg.Wait()
	require.EqualValues(t, 1<<20, src.read)
	require.Equal(t, []string{name}, dirEntries(t, b.dir))
}

func TestOneBrokenDownloadDoesNotFailTheOthers(t *testing.T) {
	b, err := openBase(t.TempDir())
	require.NoError(t, err)
	src := newSource("img", "raw", bytes.Repeat([]byte("x"), 1<<20))
	src.breaks = 1
	name := baseName(src.img)
	failed := 0
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			r, img, _ := src.Open(t.Context(), "", "")
			if err := b.fill(t.Context(), name, img, r); err != nil {
				mu.Lock()
				failed++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	require.LessOrEqual(t, failed, 1)
	require.Equal(t, []string{name}, dirEntries(t, b.dir), "the broken part is gone, the copy is there")
}

func TestDownloadIsChecked(t *testing.T) {
	b, err := openBase(t.TempDir())
	require.NoError(t, err)
	data := []byte("hello")
	good := newSource("img", "raw", data)
	short, wrong := good.img, good.img
	short.Size = 6
	wrong.Hash = "sha512:00"
	for _, img := range []hypervisor.Image{short, wrong} {
		err := b.fill(t.Context(), "x", img, bytes.NewReader(data))
		require.ErrorIs(t, err, nacre.Unavailable)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, b.fill(cancelled, "x", good.img, bytes.NewReader(data)), context.Canceled)
	require.Empty(t, dirEntries(t, b.dir))
	unknown := good.img
	unknown.Hash, unknown.Size = "", 0
	require.NoError(t, b.fill(t.Context(), "x", unknown, bytes.NewReader(data)))
}

func TestCutOffDownloadsAreCleaned(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "abc.123"+partSuffix), nil, 0o600))
	_, err := openBase(dir)
	require.NoError(t, err)
	require.Empty(t, dirEntries(t, dir))
}

func TestCopiesGoWithTheirLastUser(t *testing.T) {
	dir := t.TempDir()
	d, err := openDisks(filepath.Join(dir, "instances"), filepath.Join(dir, "base"))
	require.NoError(t, err)
	for id, base := range map[string]string{"a": "one", "b": "one", "c": "two"} {
		require.NoError(t, d.begin(id))
		require.NoError(t, os.WriteFile(d.path(id, baseFile), []byte(base+"\n"), 0o600))
		require.NoError(t, os.WriteFile(d.base.path(base), nil, 0o600))
	}
	require.NoError(t, d.remove("a"))
	require.Equal(t, []string{"one", "two"}, dirEntries(t, d.base.dir))
	require.NoError(t, d.remove("b"))
	require.Equal(t, []string{"two"}, dirEntries(t, d.base.dir))
	require.NoError(t, os.WriteFile(d.base.path("orphan"), nil, 0o600))
	_, err = openDisks(d.dir, d.base.dir)
	require.NoError(t, err)
	require.Equal(t, []string{"two"}, dirEntries(t, d.base.dir), "what a crash left is swept at start")
}

func qcow2(change func(head []byte)) []byte {
	head := make([]byte, 104)
	copy(head, "QFI\xfb")
	binary.BigEndian.PutUint32(head[4:], 3)
	binary.BigEndian.PutUint64(head[24:], 1<<30)
	if change != nil {
		change(head)
	}
	return head
}

func TestVirtualSize(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x")
	size := func(data []byte, format string) (int64, error) {
		require.NoError(t, os.WriteFile(file, data, 0o600))
		return virtualSize(file, format)
	}
	n, err := size(qcow2(nil), "qcow2")
	require.NoError(t, err)
	require.EqualValues(t, 1<<30, n)
	n, err = size(qcow2(func(h []byte) { binary.BigEndian.PutUint64(h[8:], 200) }), "raw")
	require.NoError(t, err, "what is said to be raw is raw, whatever it looks like")
	require.EqualValues(t, 104, n)
	for name, change := range map[string]func(h []byte){
		"backing file":    func(h []byte) { binary.BigEndian.PutUint64(h[8:], 200) },
		"data file":       func(h []byte) { binary.BigEndian.PutUint64(h[72:], 1<<2) },
		"unknown feature": func(h []byte) { binary.BigEndian.PutUint64(h[72:], 1<<9) },
		"version":         func(h []byte) { binary.BigEndian.PutUint32(h[4:], 4) },
		"magic":           func(h []byte) { h[0] = 'X' },
		"size":            func(h []byte) { binary.BigEndian.PutUint64(h[24:], 1<<63) },
	} {
		_, err := size(qcow2(change), "qcow2")
		require.ErrorIs(t, err, nacre.Invalid, name)
	}
	_, err = size([]byte("QFI"), "qcow2")
	require.ErrorIs(t, err, nacre.Invalid)
	_, err = size(nil, "vmdk")
	require.ErrorIs(t, err, nacre.Invalid)
}

func TestFlavorTooSmall(t *testing.T) {
	dir := t.TempDir()
	d, err := openDisks(filepath.Join(dir, "instances"), filepath.Join(dir, "base"))
	require.NoError(t, err)
	require.NoError(t, d.begin("a"))
	src := newSource("img", "qcow2", qcow2(func(h []byte) { binary.BigEndian.PutUint64(h[24:], 2<<30) }))
	spec := hypervisor.Spec{ID: "a", ImageID: "img", RootGB: 1}
	err = d.make(t.Context(), spec, src)
	require.ErrorIs(t, err, nacre.Invalid)
	require.ErrorContains(t, err, "Flavor's disk is too small for requested image. Flavor disk is 1073741824 bytes, image is 2147483648 bytes.")
	require.NoError(t, d.remove("a"))
	require.Empty(t, dirEntries(t, d.base.dir))
}

func TestConsoleTail(t *testing.T) {
	d := &disks{dir: t.TempDir()}
	require.NoError(t, os.Mkdir(filepath.Join(d.dir, "a"), 0o700))
	out, err := d.console("a", 10)
	require.NoError(t, err)
	require.Empty(t, out)
	require.NoError(t, os.WriteFile(d.path("a", consoleFile), []byte("world"), 0o600))
	require.NoError(t, os.WriteFile(d.path("a", consoleFile+".0"), []byte("hello "), 0o600))
	for limit, want := range map[int]string{0: "", 3: "rld", 5: "world", 7: "o world", 100: "hello world", -1: "hello world"} {
		out, err := d.console("a", limit)
		require.NoError(t, err)
		require.Equal(t, want, string(out), limit)
	}
}

func TestDomainXML(t *testing.T) {
	spec := hypervisor.Spec{ID: "11111111-2222-4333-8444-555555555555", Name: "instance-00000001", DisplayName: "<a>\x00&", FlavorName: "m1",
		VCPUs: 2, MemoryMB: 512, NICs: []hypervisor.NIC{{PortID: "abcdefgh-ijklm", MAC: "fa:16:3e:00:00:01", MTU: 1450}}}
	file := func(name string) string { return "/i/" + name }
	make := func(m machine, has ...string) string {
		x, err := domainXML(spec, m, file, func(name string) bool { return strings.Contains(strings.Join(has, " "), name) })
		require.NoError(t, err)
		return x
	}
	x := make(machine{domain: "qemu", emulator: "/usr/bin/q", arch: "x86_64"}, configFile)
	for _, want := range []string{
		`<domain type="qemu">`, `machine="q35"`, `<model>Nehalem</model>`, `<smbios mode="sysinfo">`, `<entry name="manufacturer">OpenStack Foundation</entry>`,
		`<entry name="product">OpenStack Nova</entry>`, `<entry name="serial">` + spec.ID, `<target dev="tapabcdefgh-ij"`, `<mtu size="1450"`, `<source file="/i/disk.config"`,
		`<readonly>`, `<log file="/i/console.log" append="off"`, `<nova:name>&lt;a&gt;&amp;</nova:name>`, `<address>/dev`,
	} {
		if want == `<address>/dev` {
			require.NotContains(t, x, want)
			continue
		}
		require.Contains(t, x, want)
	}
	require.True(t, isOurs(x, spec.ID))
	require.False(t, isOurs(x, "other"))
	require.False(t, isOurs(strings.ReplaceAll(x, ownNamespace, "urn:x"), spec.ID))
	require.False(t, isOurs("<domain/>", spec.ID))
	require.False(t, isOurs("no xml", spec.ID))
	require.Contains(t, make(machine{domain: "kvm", hostModel: true}), `<cpu mode="host-model">`)
	require.Contains(t, make(machine{domain: "kvm"}), `<cpu mode="host-passthrough">`)

	spec.ImageProperties = map[string]string{"hw_disk_bus": "scsi", "hw_vif_model": "e1000"}
	x = make(machine{domain: "qemu"})
	require.Contains(t, x, `model="virtio-scsi"`)
	require.Contains(t, x, `dev="sda"`)
	require.Contains(t, x, `<model type="e1000">`)
	spec.ImageProperties = map[string]string{"hw_disk_bus": "ide"}
	require.Contains(t, make(machine{domain: "qemu"}), `machine="pc"`)
	for _, bad := range []map[string]string{{"hw_disk_bus": "floppy"}, {"hw_vif_model": "ne2k"}, {"hw_machine_type": "virt"}, {"hw_machine_type": "q35", "hw_disk_bus": "ide"}} {
		_, err := chooseHardware(bad)
		require.ErrorIs(t, err, nacre.Invalid, bad)
	}
}
