//go:build linux

package linux

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Clean takes away everything of ours on this host, and nothing else: the
// namespaces, uplinks, bridges that we made, rules, and the state under stateDir.
// net.ipv4.ip_forward becomes what it was. Taps of guests that still run go back to
// the host's namespace, down. It needs no state: an empty stateDir, or one that
// is gone, is fine. No driver may be open. It goes on after an error, and joins
// them all.
func Clean(ctx context.Context, stateDir string) error {
	root, err := thisSpace()
	if err != nil {
		return err
	}
	defer root.close()
	var failed []error
	note := func(err error) {
		if err != nil {
			failed = append(failed, err)
		}
	}
	names, err := ourSpaces()
	note(err)
	for _, name := range names {
		s, err := openSpace(name)
		if err == nil {
			err = emptySpace(s, root)
			s.close()
			note(err)
		}
		note(deleteSpace(name))
	}
	was, table, err := hostRecord(ctx, root)
	note(err)
	links, err := root.nl.LinkList()
	note(err)
	for _, l := range links {
		// Taps of guests bear our mark too, but are not ours.
		if ours(l) && (l.Type() == "bridge" || l.Type() == "vxlan" || strings.HasPrefix(l.Attrs().Name, uplinkPrefix)) {
			note(root.deleteLink(l.Attrs().Name))
		}
	}
	note(cleanForward(ctx))
	if table {
		_, err := run(ctx, "", "nft", "delete", "table", "inet", "nacre")
		note(err)
	}
	if was != "" {
		note(root.sysctl("net/ipv4/ip_forward=" + was))
	}
	if stateDir != "" {
		note(os.RemoveAll(filepath.Join(stateDir, stateFolder)))
	}
	return errors.Join(failed...)
}

// cleanForward removes the rules of ours from the host's FORWARD chain.
func cleanForward(ctx context.Context) error {
	if _, err := tool("iptables"); err != nil {
		return nil
	}
	out, err := run(ctx, "", "iptables", "-w", "5", "-S", "FORWARD")
	if err != nil {
		return fmt.Errorf("the FORWARD chain: %w", err)
	}
	var failed error
	for line := range strings.Lines(out) {
		fields := strings.Fields(line)
		if len(fields) > 2 && fields[0] == "-A" && strings.Contains(line, "--comment "+alias+" ") {
			fields[0] = "-D"
			_, err := run(ctx, "", "iptables", append([]string{"-w", "5"}, fields...)...)
			failed = errors.Join(failed, err)
		}
	}
	return failed
}
