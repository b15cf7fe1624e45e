//go:build realtest

package libvirt

import (
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestProbe shows that the probe's code is right: emulation, which surely works,
// passes, and what can't run it does not.
func TestProbe(t *testing.T) {
	emulator, err := exec.LookPath("qemu-system-x86_64")
	require.NoError(t, err)
	require.NoError(t, probe(t.Context(), emulator, "tcg", "max"))
	require.Error(t, probe(t.Context(), emulator, "nonexistent", "max"))
	require.Error(t, probe(t.Context(), emulator, "tcg", "486"), "a processor without long mode")
	require.Error(t, probe(t.Context(), "/nonexistent", "tcg", "max"))
}
