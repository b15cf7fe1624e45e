//go:build libvirt && cgo

package libvirt

import (
	"context"
	"fmt"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
	"libvirt.org/go/libvirtxml"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/compute/hypervisor"
)

// offer is what guests get on this host, found out once.
func (d *Driver) offer(ctx context.Context) (machine, error) {
	d.mu.Lock()
	m := d.machine
	d.mu.Unlock()
	if m != nil {
		return *m, nil
	}
	found, reason, err := d.findOffer(ctx)
	if err != nil {
		return machine{}, err
	}
	d.cfg.Log.InfoContext(ctx, "guests run on", "type", found.domain, "emulator", found.emulator, "reason", reason)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.machine, d.reason = &found, reason
	return found, nil
}

func (d *Driver) findOffer(ctx context.Context) (machine, string, error) {
	conn, err := d.conn.get()
	if err != nil {
		return machine{}, "", err
	}
	defer conn.Close()
	kind, err := conn.GetType()
	if err != nil {
		return machine{}, "", d.conn.fault("describe", err)
	}
	if strings.EqualFold(kind, "test") {
		return machine{domain: "test", arch: "i686"}, "libvirt's mock driver runs no guests", nil
	}
	caps := func(virt string) (*libvirtxml.DomainCaps, error) {
		doc, err := conn.GetDomainCapabilities("", "x86_64", "q35", virt, 0)
		if err != nil {
			return nil, err
		}
		c := &libvirtxml.DomainCaps{}
		return c, c.Unmarshal(doc)
	}
	reason := "software emulation is configured"
	if d.cfg.Accel != "tcg" {
		c, err := caps("kvm")
		switch {
		case err != nil:
			reason = "libvirt offers no KVM on this host"
		default:
			if err = d.cfg.probe(ctx, c.Path); err != nil {
				reason = "KVM is offered but does not work: " + err.Error()
			}
		}
		if err == nil {
			m := machine{domain: "kvm", emulator: c.Path, arch: c.Arch}
			for _, mode := range c.CPU.Modes {
				m.hostModel = m.hostModel || mode.Name == "host-model" && mode.Supported == "yes"
			}
			return m, "", nil
		}
		if ctx.Err() != nil {
			return machine{}, "", ctx.Err()
		}
		if d.cfg.Accel == "kvm" {
			return machine{}, "", nacre.Errorf(nacre.Unavailable, "kvm", "KVM is configured, but %s.", reason)
		}
	}
	c, err := caps("qemu")
	if err != nil {
		return machine{}, "", fmt.Errorf("libvirt offers no emulation of x86_64 with the q35 machine: %w", err)
	}
	return machine{domain: "qemu", emulator: c.Path, arch: c.Arch}, reason, nil
}

// Host implements hypervisor.Driver.
func (d *Driver) Host(ctx context.Context) (hypervisor.Host, error) {
	m, err := d.offer(ctx)
	if err != nil {
		return hypervisor.Host{}, err
	}
	conn, err := d.conn.get()
	if err != nil {
		return hypervisor.Host{}, err
	}
	defer conn.Close()
	h := hypervisor.Host{Address: d.cfg.Address, Accelerated: m.domain == "kvm"}
	d.mu.Lock()
	h.Reason = d.reason
	d.mu.Unlock()
	if h.Name, err = conn.GetHostname(); err != nil {
		return h, d.conn.fault("describe", err)
	}
	if h.Type, err = conn.GetType(); err != nil {
		return h, d.conn.fault("describe", err)
	}
	version, err := conn.GetVersion()
	if err != nil {
		return h, d.conn.fault("describe", err)
	}
	h.Version = int(version)
	node, err := conn.GetNodeInfo()
	if err != nil {
		return h, d.conn.fault("describe", err)
	}
	h.VCPUs, h.MemoryMB = int(node.Cpus), int(node.Memory/1024)
	h.Sockets, h.Cores, h.Threads = int(node.Sockets*node.Nodes), int(node.Cores), int(node.Threads)
	h.Arch = "x86_64"
	doc, err := conn.GetCapabilities()
	if err != nil {
		return h, d.conn.fault("describe", err)
	}
	var caps libvirtxml.Caps
	if err := caps.Unmarshal(doc); err != nil {
		return h, err
	}
	if cpu := caps.Host.CPU; cpu != nil {
		h.Arch, h.CPUModel, h.CPUVendor = cpu.Arch, cpu.Model, cpu.Vendor
		for _, f := range cpu.FeatureFlags {
			h.CPUFeatures = append(h.CPUFeatures, f.Name)
		}
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(d.cfg.InstancesDir, &fs); err != nil {
		return h, err
	}
	h.DiskGB, h.DiskFreeGB = int(fs.Blocks*uint64(fs.Bsize)>>30), int(fs.Bavail*uint64(fs.Bsize)>>30)
	// Informational; a host without the command has none.
	if out, err := exec.CommandContext(ctx, "uptime").Output(); err == nil {
		h.Uptime = strings.TrimSpace(string(out))
	}
	return h, nil
}
