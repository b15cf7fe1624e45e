//go:build realtest

package federation

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// keystone evaluates lines of JSON, a mapping's rules and an assertion, with
// Debian's real Keystone code.
const keystone = `
import json, sys, logging, jsonschema
logging.disable(logging.CRITICAL)
import keystone.conf
keystone.conf.configure()
keystone.conf.CONF([], project="keystone")
from keystone.federation import utils
for line in sys.stdin:
    c = json.loads(line)
    out = {}
    try:
        utils.validate_mapping_structure({"rules": c["rules"]})
        out["valid"] = True
    except Exception as e:
        out["valid"] = False
    try:
        p = utils.RuleProcessor("m", c["rules"]).process(c["assertion"])
        groups = [{"name": g["name"], "domain": g["domain"]} for g in p["group_names"]]
        out["user"], out["groups"], out["ids"], out["projects"] = p["user"], groups, sorted(p["group_ids"]), p["projects"]
    except Exception as e:
        out["error"] = type(e).__name__ + ": " + str(e)
    print(json.dumps(out), flush=True)
`

type verdict struct {
	Valid bool `json:"valid"`
	User  struct {
		ID, Name, Email, Type string
	} `json:"user"`
	Groups []struct {
		Name   string
		Domain struct{ ID, Name string }
	} `json:"groups"`
	IDs      []string `json:"ids"`
	Projects []struct {
		Name  string
		Roles []struct{ Name string }
	} `json:"projects"`
	Error string `json:"error"`
}

// maker makes rules at random that are mostly right.
type maker struct{ *rand.Rand }

func pick[T any](m maker, vs ...T) T { return vs[m.IntN(len(vs))] }

func (m maker) text() string {
	return pick(m, "{0}", "{1}", "{0} {1}", "u", "{0}-x", "{{{0}}}", "{2}", "{}", "é{0}")
}

func (m maker) remote() map[string]any {
	r := map[string]any{"type": pick(m, "a", "b", "c", "groups", "none")}
	list := []any{}
	for range 1 + m.IntN(3) {
		list = append(list, pick(m, "x", "y", "g1", "g2", "^g", "1$", "it's", "."))
	}
	if kind := pick(m, "", "", "any_one_of", "not_any_of", "blacklist", "whitelist"); kind != "" {
		r[kind] = list
		if m.IntN(2) == 0 {
			r["regex"] = m.IntN(2) == 0
		}
	} else if m.IntN(12) == 0 {
		r["regex"] = true
	}
	return r
}

func (m maker) local() map[string]any {
	l := map[string]any{}
	if m.IntN(2) == 0 {
		u := map[string]any{pick(m, "name", "id"): m.text()}
		if m.IntN(3) == 0 {
			u["email"] = m.text()
		}
		if m.IntN(4) == 0 {
			u["type"] = pick(m, "ephemeral", "local", "other")
		}
		l["user"] = u
	}
	domain := map[string]any{pick(m, "id", "name"): "d"}
	switch m.IntN(6) {
	case 0:
		l["group"] = map[string]any{"id": m.text()}
	case 1:
		l["group"] = map[string]any{"name": m.text(), "domain": domain}
	case 2:
		l["groups"] = m.text()
		if m.IntN(5) > 0 {
			l["domain"] = domain
		}
	case 3:
		l["group_ids"] = m.text()
	case 4:
		l["projects"] = []any{map[string]any{"name": m.text(), "roles": []any{map[string]any{"name": pick(m, "member", "{0}")}}}}
	}
	if m.IntN(20) == 0 {
		l["surprise"] = 1
	}
	return l
}

// letters are texts with their letters in order: where several values were filtered,
// Keystone's order of them is a set's, another one each time.
func letters(texts ...string) []string {
	out := make([]string, len(texts))
	for i, s := range texts {
		r := []rune(s)
		slices.Sort(r)
		out[i] = string(r)
	}
	return out
}

// TestSameAsKeystone holds that rules give what the real Keystone makes of them.
func TestSameAsKeystone(t *testing.T) {
	cmd := exec.Command("/usr/bin/python3", "-c", keystone)
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	outPipe, err := cmd.StdoutPipe()
	require.NoError(t, err)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	require.NoError(t, cmd.Start())
	out := bufio.NewReader(outPipe)
	m := maker{rand.New(rand.NewPCG(1, 2))}
	agreed, mapped := 0, 0
	for n := range 3000 {
		var rules []any
		for range 1 + m.IntN(2) {
			var local, remote []any
			for range 1 + m.IntN(3) {
				local = append(local, m.local())
			}
			for range 1 + m.IntN(3) {
				remote = append(remote, m.remote())
			}
			rules = append(rules, map[string]any{"local": local, "remote": remote})
		}
		assertion := map[string]string{"a": pick(m, "x", "y", "x;y"), "b": pick(m, "g1", "it's", `q"'`), "groups": pick(m, "g1;g2", "g1;it's", "['g1', 'g2']", "z", "g2;x;y")}
		line, err := json.Marshal(map[string]any{"rules": rules, "assertion": assertion})
		require.NoError(t, err)
		_, err = fmt.Fprintf(in, "%s\n", line)
		require.NoError(t, err)
		answer, err := out.ReadBytes('\n')
		require.NoError(t, err, stderr.String())
		var want verdict
		require.NoError(t, json.Unmarshal(answer, &want), string(answer))

		require.Equal(t, want.Valid, len(CheckMapping(rules, "1.0")) == 0, "case %d: %s\n%s\n%v", n, line, answer, CheckMapping(rules, "1.0"))
		if !want.Valid {
			continue
		}
		got, err := (&Mapping{ID: "m", Rules: rules}).Evaluate(Split(assertion))
		if strings.HasPrefix(want.Error, "TypeError") {
			continue // it crashes: text that is Python, but no list
		}
		if want.Error != "" || want.User.Type == "other" {
			require.Error(t, err, "case %d: %s\n%s", n, line, answer)
			agreed++
			continue
		}
		require.NoError(t, err, "case %d: %s\n%s", n, line, answer)
		require.Equal(t, letters(want.User.ID, want.User.Name, want.User.Email), letters(got.UserID, got.UserName, got.Email), "case %d: %s", n, line)
		require.Equal(t, want.User.Type == "local", got.Local, "case %d: %s", n, line)
		names := func(gs []GroupRef) []string {
			out := []string{}
			for _, g := range gs {
				out = append(out, letters(g.Name)[0]+"@"+g.Domain.ID+g.Domain.Name)
			}
			slices.Sort(out)
			return slices.Compact(out)
		}
		var groups []GroupRef
		for _, g := range want.Groups {
			groups = append(groups, GroupRef{g.Name, DomainRef(g.Domain)})
		}
		require.Equal(t, names(groups), names(got.Groups), "case %d: %s\n%s", n, line, answer)
		require.ElementsMatch(t, letters(want.IDs...), letters(got.GroupIDs...), "case %d: %s\n%s", n, line, answer)
		require.Len(t, got.Projects, len(want.Projects), "case %d: %s\n%s", n, line, answer)
		for i, p := range want.Projects {
			require.Equal(t, letters(p.Name, p.Roles[0].Name), letters(got.Projects[i].Name, got.Projects[i].Roles[0]), "case %d: %s\n%s", n, line, answer)
		}
		agreed, mapped = agreed+1, mapped+1
	}
	require.NoError(t, in.Close())
	require.NoError(t, cmd.Wait(), stderr.String())
	t.Logf("%d valid mappings agreed, of which %d gave a user", agreed, mapped)
	require.Greater(t, mapped, 200)
}
