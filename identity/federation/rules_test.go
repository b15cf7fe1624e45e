package federation

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
)

func mapping(t testing.TB, version, rules string) *Mapping {
	t.Helper()
	m := &Mapping{ID: "m", SchemaVersion: version}
	require.NoError(t, json.Unmarshal([]byte(rules), &m.Rules))
	require.Empty(t, CheckMapping(m.Rules, version))
	return m
}

func TestRules(t *testing.T) {
	bob := map[string]string{"UserName": "bob", "Email": "bob@example.com", "Groups": "dev;ops;it's", "Type": "Customer", "One": "dev"}
	for name, tc := range map[string]struct {
		version, rules string
		want           Mapped
	}{
		"a user by two values": {"1.0", `[{"local": [{"user": {"name": "{0} <{1}>", "email": "{1}"}}], "remote": [{"type": "UserName"}, {"type": "Email"}]}]`,
			Mapped{UserName: "bob <bob@example.com>", Email: "bob@example.com"}},
		"a condition takes no number": {"1.0", `[{"local": [{"user": {"id": "{0}"}}], "remote": [{"type": "Type", "any_one_of": ["Customer", "x"]}, {"type": "UserName"}]}]`,
			Mapped{UserID: "bob"}},
		"groups by name": {"1.0", `[{"local": [{"user": {"name": "u"}}, {"groups": "{0}", "domain": {"id": "d"}}], "remote": [{"type": "Groups"}]}]`,
			Mapped{UserName: "u", Groups: []GroupRef{{"dev", DomainRef{ID: "d"}}, {"ops", DomainRef{ID: "d"}}, {"it's", DomainRef{ID: "d"}}}}},
		"one group": {"1.0", `[{"local": [{"user": {"name": "u"}, "groups": "{0}", "domain": {"name": "D"}}], "remote": [{"type": "One"}]}]`,
			Mapped{UserName: "u", Groups: []GroupRef{{"dev", DomainRef{Name: "D"}}}}},
		"whitelist": {"1.0", `[{"local": [{"user": {"name": "u"}}, {"group_ids": "{0}"}], "remote": [{"type": "Groups", "whitelist": ["ops", "dev", "other"]}]}]`,
			Mapped{UserName: "u", GroupIDs: []string{"dev", "ops"}}},
		"a whitelist that fits nothing": {"1.0", `[{"local": [{"user": {"name": "u"}}, {"group_ids": "{0}"}], "remote": [{"type": "Groups", "whitelist": ["other"]}]}]`,
			Mapped{UserName: "u"}},
		"blacklist by expression": {"1.0", `[{"local": [{"user": {"name": "u"}}, {"group_ids": "{0}"}], "remote": [{"type": "Groups", "regex": true, "blacklist": ["^d", "s$"]}]}]`,
			Mapped{UserName: "u"}},
		"whitelist by expression": {"1.0", `[{"local": [{"user": {"name": "u"}}, {"group_ids": "{0}"}], "remote": [{"type": "Groups", "regex": true, "whitelist": ["[do]"]}]}]`,
			Mapped{UserName: "u", GroupIDs: []string{"dev", "ops"}}},
		"not any of": {"1.0", `[{"local": [{"user": {"name": "no"}}], "remote": [{"type": "Groups", "not_any_of": ["ops"]}]},
			{"local": [{"user": {"name": "yes"}}, {"group": {"id": "g"}}], "remote": [{"type": "Groups", "not_any_of": ["x"]}]}]`,
			Mapped{UserName: "yes", GroupIDs: []string{"g"}}},
		"the first user counts, groups add up": {"1.0", `[{"local": [{"user": {"name": "a"}, "group": {"id": "1"}}], "remote": [{"type": "UserName"}]},
			{"local": [{"user": {"name": "b"}, "group": {"name": "n", "domain": {"name": "D"}}}], "remote": [{"type": "UserName"}]}]`,
			Mapped{UserName: "a", GroupIDs: []string{"1"}, Groups: []GroupRef{{"n", DomainRef{Name: "D"}}}}},
		"local": {"1.0", `[{"local": [{"user": {"name": "{0}", "type": "local", "domain": {"name": "D"}}}], "remote": [{"type": "UserName"}]}]`,
			Mapped{UserName: "bob", Local: true, UserDomain: &DomainRef{Name: "D"}}},
		"projects": {"1.0", `[{"local": [{"user": {"name": "u"}}, {"projects": [{"name": "of {0}", "roles": [{"name": "member"}, {"name": "reader"}]}]}], "remote": [{"type": "UserName"}]}]`,
			Mapped{UserName: "u", HasProjects: true, Projects: []ProjectRef{{Name: "of bob", Roles: []string{"member", "reader"}}}}},
		"projects in a domain": {"2.0", `[{"local": [{"user": {"name": "u"}, "domain": {"id": "d"}, "projects": [{"name": "p", "roles": []}, {"name": "q", "domain": {"name": "E"}, "roles": []}]}], "remote": [{"type": "UserName"}]}]`,
			Mapped{UserName: "u", UserDomain: &DomainRef{ID: "d"}, HasProjects: true, Projects: []ProjectRef{{Name: "p", Domain: &DomainRef{ID: "d"}}, {Name: "q", Domain: &DomainRef{Name: "E"}}}}},
		"braces": {"1.0", `[{"local": [{"user": {"name": "{{{0}}} {}"}}], "remote": [{"type": "UserName"}]}]`, Mapped{UserName: "{bob} bob"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := mapping(t, tc.version, tc.rules).Evaluate(Split(bob))
			require.NoError(t, err)
			tc.want.MappingID, tc.want.SchemaVersion = "m", tc.version
			require.Equal(t, tc.want, got)
		})
	}
}

// TestGroupsOfAnotherKeystone reads groups with their domains, as Keystone asserts
// them.
func TestGroupsOfAnotherKeystone(t *testing.T) {
	m := mapping(t, "1.0", `[{"local": [{"user": {"name": "u"}, "groups": "{0}"}], "remote": [{"type": "openstack_groups"}]}]`)
	got, err := m.Evaluate(Assertion{"openstack_groups": {`JSON:{"name":"g1","domain":{"name":"Default"}}`, `JSON:{"name":"g2","domain":{"id":"x"}}`}})
	require.NoError(t, err)
	require.Equal(t, []GroupRef{{"g1", DomainRef{Name: "Default"}}, {"g2", DomainRef{ID: "x"}}}, got.Groups)
	_, err = m.Evaluate(Assertion{"openstack_groups": {`JSON:{"name":"g1"}`}})
	require.ErrorIs(t, err, nacre.Unauthenticated)
}

// TestValuesKeepApart holds that a value with a semicolon or quotes is one value
// when whoever asserted it said so.
func TestValuesKeepApart(t *testing.T) {
	m := mapping(t, "1.0", `[{"local": [{"user": {"name": "u"}, "groups": "{0}", "domain": {"id": "d"}}], "remote": [{"type": "g"}]}]`)
	hard := []string{"a;admins", `x', 'admins`, `y"]`, "tab\tnew\nline\\", "é\x01"}
	got, err := m.Evaluate(Assertion{"g": hard})
	require.NoError(t, err)
	require.Len(t, got.Groups, len(hard))
	for i, g := range got.Groups {
		require.Equal(t, hard[i], g.Name)
	}
}

func TestProjectsJSON(t *testing.T) {
	m := mapping(t, "3.0", `[{"local": [{"user": {"name": "u"}, "projects_json": "{0}", "domain": {"id": "d"}}], "remote": [{"type": "p"}]}]`)
	got, err := m.Evaluate(Assertion{"p": {`[{"name": "a", "roles": [{"name": "member"}]}]`}})
	require.NoError(t, err)
	require.Equal(t, []ProjectRef{{Name: "a", Domain: &DomainRef{ID: "d"}, Roles: []string{"member"}}}, got.Projects)
	require.True(t, got.SyncsProjects())
	for _, bad := range []string{`{}`, `[{"name": 1}]`, `no`} {
		_, err = m.Evaluate(Assertion{"p": {bad}})
		require.ErrorIs(t, err, nacre.Unauthenticated)
	}
}

func TestMappingsThatFail(t *testing.T) {
	for name, rules := range map[string]string{
		"nothing fits":          `[{"local": [{"user": {"name": "u"}}], "remote": [{"type": "none"}]}]`,
		"no such value":         `[{"local": [{"user": {"name": "{1}"}}], "remote": [{"type": "UserName"}]}]`,
		"a lone brace":          `[{"local": [{"user": {"name": "{0"}}], "remote": [{"type": "UserName"}]}]`,
		"a name for a number":   `[{"local": [{"user": {"name": "{user}"}}], "remote": [{"type": "UserName"}]}]`,
		"an unread expression":  `[{"local": [{"user": {"name": "u"}}], "remote": [{"type": "UserName", "regex": true, "not_any_of": ["(?!x)"]}]}]`,
		"groups of no domain":   `[{"local": [{"user": {"name": "u"}, "groups": "{0}"}], "remote": [{"type": "UserName"}]}]`,
		"an attribute's object": `[{"local": [{"user": {"name": "{0.__class__}"}}], "remote": [{"type": "UserName"}]}]`,
	} {
		t.Run(name, func(t *testing.T) {
			_, err := mapping(t, "1.0", rules).Evaluate(Assertion{"UserName": {"bob"}})
			require.ErrorIs(t, err, nacre.Unauthenticated)
		})
	}
}

func TestCheckMapping(t *testing.T) {
	for rules, want := range map[string]string{
		`[]`:                            "[] is too short",
		`["x"]`:                         "'x' is not of type 'object'",
		`[{"local": []}]`:               "'remote' is a required property",
		`[{"local": [], "remote": []}]`: "[] is too short",
		`[{"local": [], "remote": [{"type": "a"}], "more": 1}]`:                                              "Additional properties are not allowed ('more' was unexpected)",
		`[{"local": [{"user": {"name": 1}}], "remote": [{"type": "a"}]}]`:                                    "1 is not of type 'string'",
		`[{"local": [{"user": {"type": "x"}}], "remote": [{"type": "a"}]}]`:                                  "'x' is not one of ['ephemeral', 'local']",
		`[{"local": [{"group": {"name": "g"}}], "remote": [{"type": "a"}]}]`:                                 "is not valid under any of the given schemas",
		`[{"local": [], "remote": [{"type": "a", "any_one_of": ["x"], "not_any_of": ["y"]}]}]`:               "is not valid under any of the given schemas",
		`[{"local": [], "remote": [{"type": "a", "any_one_of": "x"}]}]`:                                      "is not valid under any of the given schemas",
		`[{"local": [], "remote": [{"any_one_of": ["x"]}]}]`:                                                 "is not valid under any of the given schemas",
		`[{"local": [{"projects": [{"name": "p"}]}], "remote": [{"type": "a"}]}]`:                            "'roles' is a required property",
		`[{"local": [{"projects": [{"name": "p", "roles": [], "domain": {}}]}], "remote": [{"type": "a"}]}]`: "Additional properties are not allowed ('domain' was unexpected)",
	} {
		var rs []any
		require.NoError(t, json.Unmarshal([]byte(rules), &rs))
		require.Contains(t, strings.Join(CheckMapping(rs, "1.0"), "\n"), want, rules)
	}
	require.NotEmpty(t, CheckMapping([]any{map[string]any{}}, "9.9"))
}

// FuzzRules holds that no rules and no assertion make the engine panic, and that
// it fails in one way only.
func FuzzRules(f *testing.F) {
	f.Add(`[{"local": [{"user": {"name": "{0}"}, "groups": "{1}", "domain": {"id": "d"}}], "remote": [{"type": "a"}, {"type": "b", "whitelist": ["x"], "regex": true}]}]`, "1.0", "v", "x;['y']")
	f.Add(`[{"local": [{"projects_json": "{0}", "group": {"name": "{}", "domain": {"name": "{1}"}}}], "remote": [{"type": "a"}, {"type": "b", "any_one_of": ["x"]}]}]`, "3.0", `[{"name":"p","roles":[{"name":"r"}]}]`, "x")
	f.Add(`[{"local": [{"group_ids": "{{}}{0}"}], "remote": [{"type": "b"}]}]`, "2.0", "", `["\x41', u'b", 'JSON:{"name"']`)
	f.Fuzz(func(t *testing.T, rules, version, a, b string) {
		m := Mapping{ID: "m", SchemaVersion: version}
		if json.Unmarshal([]byte(rules), &m.Rules) != nil {
			return
		}
		wrong := CheckMapping(m.Rules, version)
		_, err := m.Evaluate(Split(map[string]string{"a": a, "b": b}))
		if err != nil && !errors.Is(err, nacre.Unauthenticated) {
			t.Fatalf("%v (the schema says %v)", err, wrong)
		}
		vs := strings.Split(b, ";")
		if got := pyStrings(pyList(vs)); strings.ToValidUTF8(b, "") == b && strings.Join(got, ";") != b {
			t.Fatalf("%q came back as %q", vs, got)
		}
	})
}
