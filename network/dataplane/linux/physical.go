//go:build linux

package linux

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"

	"github.com/nacre-cloud/nacre/network/dataplane"
)

// uplinkPrefix begins the host's end of a flat network's uplink.
const uplinkPrefix = "nu-"

func checkPhysical(all map[string]Physical) error {
	used := map[string]string{}
	for name, p := range all {
		bridge := p.bridge()
		if len(bridge) > 15 || strings.ContainsAny(bridge, "/ \"\n") {
			return fmt.Errorf("linux data plane: %q cannot be a bridge", bridge)
		}
		if other, ok := used[bridge]; ok {
			return fmt.Errorf("linux data plane: physical networks %s and %s are both on bridge %s", other, name, bridge)
		}
		used[bridge] = name
	}
	return nil
}

func (p Physical) bridge() string {
	if p.Bridge == "" {
		return DefaultBridge
	}
	return p.Bridge
}

// ensureBridgeFilter loads br_netfilter where it is a module. Loading turns it on
// for every bridge of the host; it is turned off again there, so that bridges of
// others go on as before.
func ensureBridgeFilter(ctx context.Context, root *space) error {
	const flag = "/proc/sys/net/bridge/bridge-nf-call-iptables"
	if _, err := os.Stat(flag); err == nil {
		return nil
	}
	if _, err := run(ctx, "", "modprobe", "br_netfilter"); err != nil {
		return fmt.Errorf("linux data plane: the kernel's br_netfilter is needed: %w", err)
	}
	return root.sysctl(
		"net/bridge/bridge-nf-call-iptables=0",
		"net/bridge/bridge-nf-call-ip6tables=0",
		"net/bridge/bridge-nf-call-arptables=0",
	)
}

// ensureUplink connects a flat network's bridge with its physical network's.
func (d *Driver) ensureUplink(ctx context.Context, n *network, want dataplane.Network, bridge netlink.Link) error {
	if err := d.host.lock(ctx); err != nil {
		return err
	}
	defer d.host.unlock()
	physical := d.c.Physical[want.Physical]
	outer, err := d.ensurePhysical(ctx, physical)
	if err != nil {
		return fmt.Errorf("physical network %s: %w", want.Physical, err)
	}
	name := uplinkPrefix + short(n.id)
	inner, err := n.space.link(uplinkName)
	if err != nil {
		return err
	}
	end, err := d.root.link(name)
	if err != nil {
		return err
	}
	if inner == nil || end == nil {
		if err := errors.Join(n.space.deleteLink(uplinkName), d.root.deleteLink(name)); err != nil {
			return err
		}
		v := &netlink.Veth{LinkAttrs: netlink.NewLinkAttrs(), PeerName: uplinkName, PeerNamespace: netlink.NsFd(int(n.space.handle))}
		v.Name, v.MTU = name, want.MTU
		// A bridge takes the lowest MAC of its ports for its own; one of others
		// must not change it for ours.
		v.HardwareAddr = stableMAC(name)
		v.HardwareAddr[0] = 0xfe
		if err := d.root.nl.LinkAdd(v); err != nil {
			return fmt.Errorf("make uplink %s: %w", name, err)
		}
		if end, err = d.root.link(name); err != nil || end == nil {
			return errors.Join(err, fmt.Errorf("uplink %s went as soon as it was made", name))
		}
		if err := d.root.nl.LinkSetAlias(end, alias); err != nil {
			return fmt.Errorf("mark uplink %s: %w", name, err)
		}
		if inner, err = n.space.link(uplinkName); err != nil || inner == nil {
			return errors.Join(err, fmt.Errorf("uplink %s went as soon as it was made", name))
		}
	}
	// The host has no address on the veth itself, not even a link-local one.
	if err := d.root.sysctl("-net/ipv6/conf/" + name + "/disable_ipv6=1"); err != nil {
		return err
	}
	if err := d.root.join(end, outer, want.MTU); err != nil {
		return err
	}
	return n.space.join(inner, bridge, want.MTU)
}

// ensurePhysical makes the bridge and what the host does for it.
func (d *Driver) ensurePhysical(ctx context.Context, p Physical) (netlink.Link, error) {
	name := p.bridge()
	l, err := d.root.link(name)
	if err != nil {
		return nil, err
	}
	if l == nil {
		b := &netlink.Bridge{LinkAttrs: netlink.NewLinkAttrs()}
		b.Name, b.HardwareAddr = name, stableMAC(name)
		if err := d.root.nl.LinkAdd(b); err != nil {
			return nil, fmt.Errorf("make bridge %s: %w", name, err)
		}
		if l, err = d.root.link(name); err != nil || l == nil {
			return nil, errors.Join(err, fmt.Errorf("bridge %s went as soon as it was made", name))
		}
		if err := d.root.nl.LinkSetAlias(l, alias); err != nil {
			return nil, fmt.Errorf("mark bridge %s: %w", name, err)
		}
		l.Attrs().Alias = alias
	}
	if l.Type() != "bridge" {
		return nil, fmt.Errorf("%s is a %s, not a bridge", name, l.Type())
	}
	if ours(l) {
		if err := d.root.setUp(l, true); err != nil {
			return nil, err
		}
		if _, err := d.root.setAddresses(l, p.HostAddresses); err != nil {
			return nil, err
		}
	}
	if err := d.ensureHostRules(ctx); err != nil {
		return nil, err
	}
	if p.Masquerade {
		if err := ensureForward(ctx, name); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// ours says that a link bears our mark.
func ours(l netlink.Link) bool {
	a := l.Attrs().Alias
	return a == alias || strings.HasPrefix(a, alias+" ")
}

var recorded = regexp.MustCompile(alias + ` ip_forward=([01])`)

// record writes what net.ipv4.ip_forward was before us.
func record(was string) string { return alias + " ip_forward=" + was }

// hostRecord reads what net.ipv4.ip_forward was before us, empty when nothing
// tells, and whether our table is there. The table tells, and, since others may
// flush all tables, our bridges' aliases do.
func hostRecord(ctx context.Context, root *space) (was string, table bool, err error) {
	out, err := run(ctx, "", "nft", "list", "tables")
	if err != nil {
		return "", false, err
	}
	if slices.Contains(strings.Split(out, "\n"), "table inet nacre") {
		table = true
		if out, err = run(ctx, "", "nft", "list", "table", "inet", "nacre"); err != nil {
			return "", table, err
		}
		if m := recorded.FindStringSubmatch(out); m != nil {
			return m[1], table, nil
		}
	}
	links, err := root.nl.LinkList()
	if err != nil {
		return "", table, err
	}
	for _, l := range links {
		if m := recorded.FindStringSubmatch(l.Attrs().Alias); m != nil && l.Type() == "bridge" {
			return m[1], table, nil
		}
	}
	return "", table, nil
}

// ensureHostRules loads the host's own table, if any physical network needs it.
// It runs in the host's namespace, as every command that is run bare.
func (d *Driver) ensureHostRules(ctx context.Context) error {
	needed, masquerade := false, false
	for _, p := range d.c.Physical {
		needed = needed || p.Masquerade || len(p.HostAddresses) > 0
		masquerade = masquerade || p.Masquerade
	}
	if !needed {
		return nil
	}
	was, _, err := hostRecord(ctx, d.root)
	if err != nil {
		return err
	}
	if was == "" {
		if was, err = readSysctl("net/ipv4/ip_forward"); err != nil {
			return err
		}
	}
	if _, err := run(ctx, compileHost(d.c.Physical, was), "nft", "-f", "-"); err != nil {
		return fmt.Errorf("load the host's rules: %w", err)
	}
	if !masquerade {
		return nil
	}
	for _, p := range d.c.Physical {
		l, err := d.root.link(p.bridge())
		if err != nil {
			return err
		}
		if l != nil && l.Attrs().Alias == alias {
			if err := d.root.nl.LinkSetAlias(l, record(was)); err != nil {
				return fmt.Errorf("mark bridge %s: %w", p.bridge(), err)
			}
		}
	}
	return d.root.sysctl("net/ipv4/ip_forward=1")
}

// compileHost writes the host's table.
func compileHost(all map[string]Physical, ipForward string) string {
	var names []string
	for name := range all {
		names = append(names, name)
	}
	slices.Sort(names)
	var forward, input, nat []string
	for _, name := range names {
		p := all[name]
		on := `"` + p.bridge() + `"`
		forward = append(forward, "iifname "+on+" ip daddr 169.254.0.0/16 drop")
		if !p.HostServices && len(p.HostAddresses) > 0 {
			input = append(input,
				"iifname "+on+" ct state established,related accept",
				"iifname "+on+" icmp type echo-request accept",
				"iifname "+on+" icmpv6 type { 1, 2, 3, 4, 128, 133, 134, 135, 136 } accept",
				"iifname "+on+" drop")
		}
		if p.Masquerade {
			for _, a := range p.HostAddresses {
				if a.Addr().Is4() {
					nat = append(nat, "ip saddr "+netip.PrefixFrom(a.Addr(), a.Bits()).Masked().String()+" oifname != "+on+" masquerade")
				}
			}
		}
	}
	var b strings.Builder
	b.WriteString("table inet nacre\ndelete table inet nacre\ntable inet nacre {\ncomment \"" + record(ipForward) + "\"\n")
	base(&b, "c_forward", "forward", -10, forward...)
	base(&b, "c_input", "input", -10, input...)
	natBase(&b, "c_postrouting", "postrouting", 100, nat...)
	b.WriteString("}\n")
	return b.String()
}

// ensureForward lets a bridge's traffic through a FORWARD chain whose policy is to
// drop, after the rules that are there, so that others' rules are heard first.
func ensureForward(ctx context.Context, bridge string) error {
	if _, err := tool("iptables"); err != nil {
		return nil
	}
	out, err := run(ctx, "", "iptables", "-w", "5", "-S", "FORWARD")
	if err != nil {
		return fmt.Errorf("the FORWARD chain: %w", err)
	}
	if !strings.Contains(out, "-P FORWARD DROP") {
		return nil
	}
	for _, side := range []string{"-i", "-o"} {
		rule := []string{"FORWARD", side, bridge, "-m", "comment", "--comment", alias, "-j", "ACCEPT"}
		if _, err := run(ctx, "", "iptables", append([]string{"-w", "5", "-C"}, rule...)...); err == nil {
			continue
		}
		if _, err := run(ctx, "", "iptables", append([]string{"-w", "5", "-A"}, rule...)...); err != nil {
			return fmt.Errorf("let %s through FORWARD: %w", bridge, err)
		}
	}
	return nil
}
