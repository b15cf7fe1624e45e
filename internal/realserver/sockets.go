package realserver

import (
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// SpeaksOnlyTo fails the test if a process listens, has sockets that are no TCP, or
// connections to other than those addresses. It returns the other ends of those that stand,
// of which there must be one.
func SpeaksOnlyTo(t testing.TB, pid int, addresses ...string) (peers []string) {
	t.Helper()
	peers, listening, others := sockets(t, pid)
	require.Empty(t, listening, "it listens")
	require.Zero(t, others, "it has sockets that are no TCP")
	require.NotEmpty(t, peers)
	for _, peer := range peers {
		require.Contains(t, addresses, peer, "it has a connection elsewhere")
	}
	return peers
}

// sockets are those that a process has open: the other ends of the TCP connections that
// stand, what it listens on, and how many sockets there are that are no TCP at all.
func sockets(t testing.TB, pid int) (peers, listening []string, others int) {
	t.Helper()
	links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	require.NoError(t, err)
	require.NotEmpty(t, links)
	own := map[string]bool{}
	for _, l := range links {
		if to, err := os.Readlink(l); err == nil && strings.HasPrefix(to, "socket:[") {
			own[strings.TrimSuffix(strings.TrimPrefix(to, "socket:["), "]")] = true
		}
	}
	for _, file := range []string{"tcp", "tcp6"} {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", pid, file))
		require.NoError(t, err)
		for line := range strings.Lines(string(text)) {
			f := strings.Fields(line)
			if len(f) < 10 || !own[f[9]] {
				continue
			}
			delete(own, f[9])
			switch f[3] {
			case "01":
				peers = append(peers, socketAddress(t, f[2]))
			case "0A":
				listening = append(listening, socketAddress(t, f[1]))
			}
		}
	}
	return peers, listening, len(own)
}

// socketAddress reads what /proc/net/tcp has: IPv4 in the machine's order, or IPv6 that
// maps it.
func socketAddress(t testing.TB, text string) string {
	t.Helper()
	host, port, ok := strings.Cut(text, ":")
	require.True(t, ok, text)
	b, err := hex.DecodeString(host[max(0, len(host)-8):])
	require.NoError(t, err)
	n, err := strconv.ParseUint(port, 16, 16)
	require.NoError(t, err)
	return fmt.Sprintf("%d.%d.%d.%d:%d", b[3], b[2], b[1], b[0], n)
}
