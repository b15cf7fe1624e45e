//go:build realtest

package access

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// judge answers each pair of a path and a rule's path as keystonemiddleware does.
const judge = `
import json, sys
from keystonemiddleware.auth_token import _path_matches
print(json.dumps([bool(_path_matches(path, pattern)) for path, pattern in json.load(sys.stdin)]))
`

// TestMatchesAsKeystonemiddleware has Debian's keystonemiddleware judge random rules.
// Its literals are regular expressions, which ours are not: there are none here.
func TestMatchesAsKeystonemiddleware(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	word := func(parts []string) string {
		var b strings.Builder
		for range 1 + r.IntN(6) {
			b.WriteString(parts[r.IntN(len(parts))])
		}
		return b.String()
	}
	pairs := make([][2]string, 20_000)
	for i := range pairs {
		pairs[i] = [2]string{"/" + word([]string{"a", "b", "/", "/a", "ab"}), "/" + word([]string{"a", "b", "/", "*", "**", "{x}", "/a", "ab"})}
	}
	in, err := json.Marshal(pairs)
	require.NoError(t, err)
	cmd := exec.Command("/usr/bin/python3", "-W", "ignore", "-c", judge)
	cmd.Stdin = bytes.NewReader(in)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, "%s", &stderr)
	var want []bool
	require.NoError(t, json.Unmarshal(out, &want))
	require.Len(t, want, len(pairs))
	yes := 0
	for i, p := range pairs {
		require.Equal(t, want[i], matches(p[1], p[0]), "path %s, rule %s", p[0], p[1])
		if want[i] {
			yes++
		}
	}
	require.Greater(t, yes, 100, "some must match")
}
