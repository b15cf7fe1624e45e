// Package libvirt runs guests with QEMU, through libvirt.
//
//	d, err := libvirt.New(libvirt.Config{InstancesDir: "/var/lib/nacre/instances"})
//	defer d.Close()
//
// It is compiled with the build tag libvirt (and cgo); without it New says so and
// everything else still builds. With the tag libvirt_dlopen too, neither libvirt's
// headers nor its library are needed to build: the library is loaded at run time.
//
// Guests run on KVM if libvirt's domain capabilities offer it and a probe shows
// that it runs code at speed (a /dev/kvm may be there, be offered, and yet not
// work, as on some nested hosts), else by software emulation. Host says which and
// why.
//
// What lies where: InstancesDir/<server id>/ holds "disk" (a qcow2 overlay),
// "disk.config", "disk.eph0", "disk.swap", "console.log", "base" (the name of the
// image copy in use) and, while the instance is being made, "partial". BaseDir
// holds the image copies, each shared by all that boot from it, and none that
// nobody uses. Sizes and formats come from the caller: qemu-img is always told
// the format, has limits of memory and time, and no header is believed.
//
// A domain is ours if its metadata says so. Others are not listed and never
// touched, whatever is asked.
//
// Between two hosts a server's files are pulled while it is off; a running one is sent by
// libvirt, from daemon to daemon, with its disks. "moved" in its directory says that it
// was.
//
// A NIC is a tap device that QEMU holds open. The data plane may move it into
// another network namespace: nothing here looks for it again.
package libvirt

import (
	"cmp"
	"context"
	"log/slog"
	"path/filepath"

	"github.com/nacre-cloud/nacre/compute/hypervisor"
)

// Config says how guests are run. The zero value runs them on the system's QEMU
// below /var/lib/nacre.
type Config struct {
	// URI of libvirt; "qemu:///system" if empty.
	URI string
	// InstancesDir is "/var/lib/nacre/instances" if empty; BaseDir is "base" beside it.
	InstancesDir, BaseDir string
	// Accel is "auto" (the default), "kvm" or "tcg".
	Accel string
	// Address is the host's own address, as shown to operators; empty means
	// 127.0.0.1.
	Address string
	// LiveURI is where other hosts' libvirtd reaches this one's for servers that
	// come running, "qemu+tls://10.0.0.2/system"; empty says that none comes.
	LiveURI string
	// NativeTLS has guests leave this host encrypted by QEMU's own TLS, their disks too
	// (VIR_MIGRATE_TLS): both hosts' QEMU needs certificates.
	NativeTLS bool
	Log       *slog.Logger

	// probe replaces the probe of KVM in tests.
	probe func(ctx context.Context, emulator string) error
}

func (c Config) withDefaults() Config {
	c.URI = cmp.Or(c.URI, "qemu:///system")
	c.InstancesDir = filepath.Clean(cmp.Or(c.InstancesDir, "/var/lib/nacre/instances"))
	c.BaseDir = cmp.Or(c.BaseDir, filepath.Join(filepath.Dir(c.InstancesDir), "base"))
	c.Accel = cmp.Or(c.Accel, "auto")
	c.Address = cmp.Or(c.Address, "127.0.0.1")
	c.Log = cmp.Or(c.Log, slog.Default())
	if c.probe == nil {
		c.probe = probeKVM
	}
	return c
}

var _ hypervisor.Driver = (*Driver)(nil)
