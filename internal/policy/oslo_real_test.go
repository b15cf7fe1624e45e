//go:build realtest

package policy

import (
	"encoding/json"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
)

// oracle reads lines of {rules, creds, target} and answers whether oslo.policy
// (Debian's python3-oslo.policy) passes rule "r".
const oracle = `
import json, sys, logging
logging.disable(logging.CRITICAL)
from oslo_config import cfg
from oslo_policy import policy
conf = cfg.ConfigOpts(); conf([])
for line in sys.stdin:
    case = json.loads(line)
    e = policy.Enforcer(conf, use_conf=False)
    e.set_rules(policy.Rules.from_dict(case["rules"]), overwrite=True, use_conf=False)
    print(json.dumps(bool(e.enforce("r", case["target"], case["creds"]))))
`

// TestSameAsOslo compares random rules with the real oslo.policy.
func TestSameAsOslo(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	pick := func(xs ...string) string { return xs[rnd.IntN(len(xs))] }
	var expr func(depth int) string
	expr = func(depth int) string {
		if depth == 0 || rnd.IntN(4) == 0 {
			return pick("@", "!", "role:admin", "role:Member", "role:%(role)s", "rule:x", "rule:y", "user_id:%(user_id)s", "user_id:alice",
				"project_id:%(project_id)s", "project_id:%(missing)s", "project_id:p%(n)s", "'a':%(letter)s", `"b":%(letter)s`, "True:%(yes)s", "1:%(n)s",
				"project_id:%(user_id)s", "user_id:%(target.user.id)s", "is_admin_project:True", "nowhere:%(letter)s")
		}
		switch rnd.IntN(5) {
		case 0:
			return "not " + expr(0)
		case 1:
			return "not (" + expr(depth-1) + ")"
		case 2:
			return expr(depth-1) + pick(" and ", " AND ") + expr(depth-1)
		case 3:
			return expr(depth-1) + " or " + expr(depth-1)
		}
		return "(" + expr(depth-1) + ")"
	}
	type testCase struct {
		Rules  map[string]string `json:"rules"`
		Creds  map[string]any    `json:"creds"`
		Target map[string]string `json:"target"`
	}
	var in strings.Builder
	var want []bool
	var cases []testCase
	for range 3000 {
		c := testCase{
			Rules:  map[string]string{"r": expr(4), "x": expr(0), "y": expr(1)},
			Creds:  map[string]any{"user_id": pick("alice", "bob"), "project_id": pick("p1", "p2"), "roles": []string{pick("admin", "MEMBER", "reader"), "other"}, "is_admin_project": true},
			Target: map[string]string{"user_id": pick("alice", "bob"), "project_id": pick("p1", "p3"), "n": pick("1", "2"), "letter": pick("a", "b"), "yes": pick("True", "False"), "role": pick("ADMIN", "other"), "target.user.id": "alice"},
		}
		// Only r may refer to rules: x and y must not be cyclic.
		for _, name := range []string{"x", "y"} {
			c.Rules[name] = strings.NewReplacer("rule:x", "@", "rule:y", "!").Replace(c.Rules[name])
		}
		var rules []nacre.Rule
		for name, text := range c.Rules {
			rules = append(rules, nacre.Rule{Name: name, Check: text})
		}
		p, err := New(Config{Rules: rules})
		require.NoError(t, err, c.Rules)
		want = append(want, p.Allowed(as(nacre.Caller{UserID: c.Creds["user_id"].(string), ProjectID: c.Creds["project_id"].(string), Roles: c.Creds["roles"].([]string), AdminProject: true}), "r", Map(c.Target)))
		cases = append(cases, c)
		require.NoError(t, json.NewEncoder(&in).Encode(c))
	}
	cmd := exec.Command("/usr/bin/python3", "-c", oracle)
	cmd.Stdin = strings.NewReader(in.String())
	out, err := cmd.Output()
	require.NoError(t, err, "needs Debian's python3-oslo.policy")
	lines := strings.Fields(string(out))
	require.Len(t, lines, len(want))
	yes := 0
	for i, l := range lines {
		require.Equal(t, l == "true", want[i], "%v", cases[i])
		if want[i] {
			yes++
		}
	}
	require.Greater(t, yes, len(want)/10)
	require.Less(t, yes, len(want)*9/10)
}
