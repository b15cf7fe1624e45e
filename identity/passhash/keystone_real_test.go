//go:build realtest

package passhash

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const keystoneHashes = `
import sys, logging
logging.disable(logging.CRITICAL)
import keystone.conf
keystone.conf.configure()
CONF = keystone.conf.CONF
CONF([], project="keystone")
from keystone.common import password_hashing as p
for line in sys.stdin:
    assert p.check_password("correct horse", line.strip()), line
    assert not p.check_password("wrong", line.strip()), line
for algorithm, rounds in (("bcrypt", 4), ("scrypt", 4), ("pbkdf2_sha512", 10)):
    CONF.set_override("password_hash_algorithm", algorithm, "identity")
    CONF.set_override("password_hash_rounds", rounds, "identity")
    print(p.hash_password("correct horse"))
`

// TestSameAsKeystone has Debian's Keystone check our hashes, and checks its.
func TestSameAsKeystone(t *testing.T) {
	var in strings.Builder
	for algorithm, rounds := range map[string]int{Bcrypt: 4, Scrypt: 4, PBKDF2: 10} {
		h, err := New(algorithm, rounds)
		require.NoError(t, err)
		text, err := h.Hash("correct horse")
		require.NoError(t, err)
		in.WriteString(text + "\n")
	}
	cmd := exec.Command("/usr/bin/python3", "-c", keystoneHashes)
	cmd.Stdin = strings.NewReader(in.String())
	out, err := cmd.Output()
	require.NoError(t, err, "needs Debian's python3-keystone")
	lines := strings.Fields(string(out))
	require.Len(t, lines, 3)
	for _, hash := range lines {
		require.True(t, Verify(hash, "correct horse"), hash)
	}
}
