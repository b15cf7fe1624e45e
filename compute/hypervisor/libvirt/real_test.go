//go:build realtest && libvirt && cgo

package libvirt

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	lv "libvirt.org/go/libvirt"

	"github.com/nacre-cloud/nacre/compute/hypervisor"
	"github.com/nacre-cloud/nacre/compute/hypervisor/hypervisortest"
)

// These tests run real guests on qemu:///system. They need root, QEMU, libvirt
// and what tools/guest-image needs, and fail where something is missing.

const bootTimeout = 120 * time.Second

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	require.NoError(t, err, "%s %v: %s", name, args, out)
	return strings.TrimSpace(string(out))
}

// real is a host of the tests: libvirt up, directories that the emulator's user
// can reach, a network namespace that plays the data plane.
type real struct {
	cfg   Config
	conn  *lv.Connect
	ns    string
	image *hypervisortest.Image
}

func newReal(t *testing.T) *real {
	require.Zero(t, os.Geteuid(), "must be root")
	run(t, "../../../tools/libvirt-up")
	lines := strings.Split(run(t, "../../../tools/guest-image"), "\n")
	data, err := os.ReadFile(lines[len(lines)-1])
	require.NoError(t, err)
	dir, err := os.MkdirTemp("/var/lib", "nacre-test-")
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o711))
	r := &real{cfg: Config{InstancesDir: filepath.Join(dir, "instances")}, image: &hypervisortest.Image{Format: "qcow2", Data: data},
		ns: fmt.Sprintf("nacre-hv-%d", os.Getpid())}
	run(t, "ip", "netns", "add", r.ns)
	r.conn, err = lv.NewConnect("qemu:///system")
	require.NoError(t, err)
	t.Cleanup(func() {
		_, _ = r.conn.Close()
		run(t, "ip", "netns", "del", r.ns)
		require.NoError(t, os.RemoveAll(dir))
	})
	return r
}

func (r *real) open(t *testing.T) hypervisor.Driver {
	d, err := New(r.cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	return d
}

// taps are the tap devices here and in the data plane's namespace.
func (r *real) taps(t *testing.T) []string {
	var names []string
	for _, args := range [][]string{{"-br", "link"}, {"-n", r.ns, "-br", "link"}} {
		for _, line := range strings.Split(run(t, "ip", args...), "\n") {
			if name := strings.Fields(line); len(name) > 0 && strings.HasPrefix(name[0], "tap") {
				names = append(names, name[0])
			}
		}
	}
	return names
}

// wire moves the taps away, as the data plane does.
func (r *real) wire(t *testing.T, spec hypervisor.Spec) {
	for _, n := range spec.NICs {
		tap := hypervisor.TapName(n.PortID)
		require.Contains(t, run(t, "ip", "-br", "link", "show", tap), tap)
		run(t, "ip", "link", "set", tap, "netns", r.ns)
		run(t, "ip", "-n", r.ns, "link", "set", tap, "up")
	}
}

func TestContractOnQEMU(t *testing.T) {
	r := newReal(t)
	hypervisortest.Run(t, hypervisortest.Options{
		New: r.open, Reopen: r.open, Image: r.image, MemoryMB: 192, BootText: "guest: boot finished", Timeout: bootTimeout,
		Taps: r.taps, OnPaused: r.wire,
		Leftovers: func(t *testing.T, id string) []string { return leftovers(t, r.conn, r.cfg, id) },
		PowerOff: func(t *testing.T, _ hypervisor.Driver, id string) {
			// The button is pressed behind the driver's back.
			run(t, "virsh", "-q", "-c", "qemu:///system", "qemu-monitor-command", id, "--hmp", "system_powerdown")
		},
	})
	bases, err := os.ReadDir(r.cfg.withDefaults().BaseDir)
	require.NoError(t, err)
	require.Empty(t, bases)
}

// TestGuestSeesItsHardware boots one guest with every kind of disk and looks at
// what it finds.
func TestGuestSeesItsHardware(t *testing.T) {
	r := newReal(t)
	d := r.open(t)
	id := uuid.NewString()
	spec := hypervisor.Spec{
		ID: id, Name: "instance-0000cafe", DisplayName: `<web> & "co"`, ProjectID: "p", UserID: "u", FlavorName: "m1.nano",
		VCPUs: 2, MemoryMB: 256, RootGB: 1, SwapMB: 16, EphemeralGB: 1, ImageID: uuid.NewString(),
		NICs: []hypervisor.NIC{{PortID: uuid.NewString(), MAC: "fa:16:3e:11:22:33", MTU: 1450}},
		ConfigDrive: map[string][]byte{
			"openstack/latest/meta_data.json": []byte(`{"uuid": "` + id + `", "hostname": "web.novalocal", "name": "web"}`),
			"openstack/latest/user_data": []byte("#!/bin/sh\necho vendor $(cat /sys/class/dmi/id/sys_vendor)\necho product $(cat /sys/class/dmi/id/product_name)\n" +
				"echo serial $(cat /sys/class/dmi/id/product_serial)\necho uuid $(cat /sys/class/dmi/id/product_uuid)\necho cpus $(nproc)\nblkid\ncat /sys/class/net/eth0/address /sys/class/net/eth0/mtu\n" +
				"cat /sys/class/misc/hw_random/rng_current\n"),
		},
	}
	t.Cleanup(func() { require.NoError(t, d.Delete(context.Background(), id)) })
	begin := time.Now()
	require.NoError(t, d.Create(t.Context(), spec, r.source(spec.ImageID)))
	t.Logf("created, paused, in %s", time.Since(begin))
	r.wire(t, spec)
	require.NoError(t, d.Resume(t.Context(), id))
	console := r.booted(t, d, id)
	t.Logf("booted in %s", time.Since(begin))
	for _, want := range []string{
		"metadata source=config-drive", "hostname=web", "user-data: vendor OpenStack Foundation", "user-data: product OpenStack Nova",
		"user-data: serial " + id, "user-data: uuid " + id, "user-data: cpus 2", "user-data: fa:16:3e:11:22:33", "user-data: 1450", "user-data: virtio_rng.0",
		`LABEL="ephemeral0"`, `TYPE="swap"`,
	} {
		require.Contains(t, console, want)
	}
	xml := run(t, "virsh", "-q", "-c", "qemu:///system", "dumpxml", id)
	for _, want := range []string{"<nova:name>&lt;web&gt; &amp; \"co\"</nova:name>", `<nova:flavor name="m1.nano">`, "listen='127.0.0.1'"} {
		require.Contains(t, xml, want)
	}
	require.Contains(t, run(t, "virsh", "-q", "-c", "qemu:///system", "dominfo", id), "Autostart:      disable")
	h, err := d.Host(t.Context())
	require.NoError(t, err)
	t.Logf("host: %+v", h)
	require.Equal(t, "QEMU", h.Type)
	if info, err := os.Stat(filepath.Join(r.cfg.InstancesDir, id)); err == nil {
		require.Equal(t, os.FileMode(0o711), info.Mode().Perm())
	}

	// With the tap in another namespace the domain can still be asked for its
	// numbers, saved, and shut down by its own will.
	run(t, "virsh", "-q", "-c", "qemu:///system", "domstats", id)
	begin = time.Now()
	require.NoError(t, d.Stop(t.Context(), id, bootTimeout))
	t.Logf("stopped in %s", time.Since(begin))
	out, err := d.Console(t.Context(), id, 1<<20)
	require.NoError(t, err)
	require.Contains(t, string(out), "guest: shutting down", "it was asked, not killed")
	require.Empty(t, slices.DeleteFunc(r.taps(t), func(s string) bool { return s != hypervisor.TapName(spec.NICs[0].PortID) }))
}

// ownLibvirtd is a libvirtd of the test's own, in mount namespaces of its own, so
// that nobody else's guests notice what is done to it. It uses no cgroups: where
// no systemd runs, libvirt 9.0 loses guests over a restart because of them.
type ownLibvirtd struct {
	dir, uri string
	daemon   *exec.Cmd
}

func newLibvirtd(t *testing.T) *ownLibvirtd {
	dir, err := os.MkdirTemp("/var/lib", "nacre-test-libvirt-")
	require.NoError(t, err)
	l := &ownLibvirtd{dir: dir, uri: "qemu:///system?socket=" + dir + "/run/libvirt/libvirt-sock"}
	require.NoError(t, os.Chmod(dir, 0o755))
	for _, sub := range []string{"run/libvirt", "lib/qemu", "lib/images", "log", "etc"} {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, sub), 0o755))
	}
	run(t, "cp", "-a", "/etc/libvirt/.", dir+"/etc")
	require.NoError(t, os.RemoveAll(dir+"/etc/qemu/networks/autostart"))
	require.NoError(t, os.WriteFile(dir+"/etc/qemu.conf", []byte("cgroup_controllers = []\n"), 0o644))
	virtlogd := l.command("virtlogd")
	l.start(t)
	t.Cleanup(func() {
		require.NoError(t, l.daemon.Process.Kill())
		_, _ = l.daemon.Process.Wait()
		require.NoError(t, virtlogd.Process.Kill())
		_, _ = virtlogd.Process.Wait()
		require.NoError(t, os.RemoveAll(dir))
	})
	require.NoError(t, virtlogd.Start())
	return l
}

// command runs a daemon in the foreground, seeing the test's directories.
func (l *ownLibvirtd) command(daemon string) *exec.Cmd {
	script := "mount --bind $D/run /run && mount --bind $D/lib /var/lib/libvirt && mount --bind $D/log /var/log/libvirt && mount --bind $D/etc /etc/libvirt && exec " + daemon
	cmd := exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-c", script)
	cmd.Env = append(os.Environ(), "D="+l.dir)
	return cmd
}

func (l *ownLibvirtd) start(t *testing.T) {
	l.daemon = l.command("libvirtd")
	require.NoError(t, l.daemon.Start())
	require.Eventually(t, func() bool {
		return exec.Command("virsh", "-q", "-c", l.uri, "version").Run() == nil
	}, 2*time.Minute, 200*time.Millisecond)
}

// TestLibvirtdRestart kills and restarts the daemon under the driver and a guest
// whose tap is in another network namespace.
func TestLibvirtdRestart(t *testing.T) {
	r := newReal(t)
	l := newLibvirtd(t)
	r.cfg.URI = l.uri
	d := r.open(t)
	id := uuid.NewString()
	spec := hypervisor.Spec{ID: id, Name: "instance-0000beef", VCPUs: 1, MemoryMB: 192, ImageID: uuid.NewString(),
		NICs: []hypervisor.NIC{{PortID: uuid.NewString(), MAC: "fa:16:3e:11:22:44", MTU: 1450}}}
	t.Cleanup(func() { require.NoError(t, d.Delete(context.Background(), id)) })
	require.NoError(t, d.Create(t.Context(), spec, r.source(spec.ImageID)))
	r.wire(t, spec)
	require.NoError(t, d.Resume(t.Context(), id))
	watch, err := d.Watch(t.Context())
	require.NoError(t, err)

	require.NoError(t, l.daemon.Process.Kill())
	_, _ = l.daemon.Process.Wait()
	_, err = d.Get(t.Context(), id)
	require.ErrorIs(t, err, errDown, "a daemon that is gone is no fault of the server's")
	l.start(t)
	require.Eventually(t, func() bool {
		in, err := d.Get(t.Context(), id)
		return err == nil && in.Power == hypervisor.Running
	}, 30*time.Second, 100*time.Millisecond)
	late := time.After(30 * time.Second)
	for seen := false; !seen; {
		select {
		case got := <-watch:
			seen = got == id
		case <-late:
			require.FailNow(t, "watchers were not told to look again")
		}
	}
	r.booted(t, d, id) // it ran on
	run(t, "virsh", "-q", "-c", l.uri, "destroy", id)
	late = time.After(10 * time.Second)
	for off := false; !off; {
		select {
		case <-watch:
			in, err := d.Get(t.Context(), id)
			require.NoError(t, err)
			off = in.Power == hypervisor.Shutdown
		case <-late:
			require.FailNow(t, "events do not come after the restart")
		}
	}
}

func (r *real) source(id string) hypervisor.Images {
	return newSource(id, r.image.Format, r.image.Data)
}

func (r *real) booted(t *testing.T, d hypervisor.Driver, id string) string {
	t.Helper()
	for end := time.Now().Add(bootTimeout); ; time.Sleep(100 * time.Millisecond) {
		out, err := d.Console(t.Context(), id, 1<<20)
		require.NoError(t, err)
		console := strings.ReplaceAll(string(out), "\r", "")
		if strings.Contains(console, "guest: boot finished") {
			return console
		}
		if time.Now().After(end) {
			require.FailNow(t, "the guest did not boot", console)
		}
	}
}
