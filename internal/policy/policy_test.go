package policy

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
)

func as(c nacre.Caller) context.Context { return nacre.WithCaller(context.Background(), &c) }

var alice = nacre.Caller{UserID: "alice", UserDomainID: "default", ProjectID: "p1", ProjectDomainID: "default", Roles: []string{"Member", "reader"}, AdminProject: true}

func TestLanguage(t *testing.T) {
	target := Map{"project_id": "p1", "target.user.id": "bob", "public": "True", "null": "None", "role": "MEMBER", "part": "p"}
	for _, c := range []struct {
		rule string
		want bool
	}{
		{"", true}, {"@", true}, {"!", false}, {"not !", true}, {"not not @", true},
		{"role:member", true}, {"role:MEMBER", true}, {"role:admin", false}, {"role:%(role)s", true},
		{"project_id:%(project_id)s", true}, {"tenant_id:%(project_id)s", true}, {"project_id:p1", true},
		{"project_id:%(part)s1", true}, {"project_id:%(part)s2", false}, {"project_id:%(part)s", false},
		{"user_id:%(target.user.id)s", false}, {"user_id:%(missing)s", false}, {"domain_id:%(missing)s", false},
		{"domain_id:%(null)s", false}, {"domain_id:None", true}, {"not project_id:None", true}, {"nowhere:None", false}, {"domain_id:", false},
		{"True:%(public)s", true}, {"False:%(public)s", false}, {"None:%(null)s", true}, {"None:%(missing)s", false},
		{"'bob':%(target.user.id)s", true}, {`"bob":%(target.user.id)s`, true}, {"'x':x", true}, {"1:1", true}, {"1:%(public)s", false},
		{"token.project.domain.id:default", true}, {"user.domain.id:default", true}, {"is_admin:False", true}, {"is_admin_project:True", true},
		{"! or @ and !", false}, {"@ or ! and !", true}, {"(@ or !) and !", false}, {"not @ or @", true}, {"not (@ or @)", false},
		{"role:member AND (role:reader Or role:admin)", true}, {"((role:member))", true},
		{"field:networks:public=True", true}, {"field:networks:public=~^Tr", true}, {"field:networks:public=~rue", false}, {"field:networks:shared=True", false},
		{"no.such.attribute:x", false},
	} {
		p, err := New(Config{Rules: []nacre.Rule{{Name: "r", Check: c.rule}}})
		require.NoError(t, err, c.rule)
		require.Equal(t, c.want, p.Allowed(as(alice), "r", target), c.rule)
		if c.want {
			require.NoError(t, p.Enforce(as(alice), "r", target), c.rule)
		} else {
			require.ErrorIs(t, p.Enforce(as(alice), "r", target), nacre.Forbidden, c.rule)
		}
	}
}

func TestWrongRules(t *testing.T) {
	for _, rule := range []string{"and", "@ and", "(@", "@)", "@ @", "nothing", ":x", "not", "rule:missing", "rule:r", "user_id:%(x", "user_id:%x", "http://x/", "field:x", "field:a:b=~("} {
		_, err := New(Config{Rules: []nacre.Rule{{Name: "r", Check: rule}}})
		require.Error(t, err, rule)
	}
	_, err := New(Config{Rules: []nacre.Rule{{Name: "a", Check: "rule:b"}, {Name: "b", Check: "@ or rule:c"}, {Name: "c", Check: "rule:a"}}})
	require.ErrorContains(t, err, "refers to itself")
	_, err = New(Config{Rules: []nacre.Rule{{Name: "a"}, {Name: "a"}}})
	require.ErrorContains(t, err, "twice")
	_, err = New(Config{Overrides: []byte("a: {b: c}")})
	require.ErrorContains(t, err, "is no rule")
}

func TestScope(t *testing.T) {
	rules := []nacre.Rule{{Name: "sys", Check: "role:reader", Scopes: []string{"system"}}, {Name: "proj", Check: "role:reader", Scopes: []string{"project"}}}
	system := nacre.Caller{UserID: "a", System: "all", Roles: []string{"reader"}}
	domain := nacre.Caller{UserID: "a", DomainID: "d", Roles: []string{"reader"}}
	strict, err := New(Config{Rules: rules, EnforceScope: true})
	require.NoError(t, err)
	lax, err := New(Config{Rules: rules})
	require.NoError(t, err)
	require.True(t, strict.Allowed(as(system), "sys", nil))
	require.False(t, strict.Allowed(as(system), "proj", nil))
	require.False(t, strict.Allowed(as(domain), "proj", nil))
	require.True(t, strict.Allowed(as(alice), "proj", nil))
	require.False(t, strict.Allowed(as(alice), "sys", nil))
	require.True(t, lax.Allowed(as(alice), "sys", nil))
	service := nacre.AsService(context.Background(), "compute")
	require.True(t, strict.Allowed(service, "sys", nil))
	require.True(t, strict.Allowed(service, "proj", nil))
}

func TestServiceCallerIsAdminEverywhere(t *testing.T) {
	p, err := New(Config{EnforceScope: true, Rules: []nacre.Rule{
		{Name: "owner", Check: "role:member and project_id:%(project_id)s", Scopes: []string{"project"}},
		{Name: "nobody", Check: "!"}, {Name: "service", Check: "service_roles:service"},
	}})
	require.NoError(t, err)
	ctx := nacre.AsService(as(alice), "compute")
	require.True(t, p.Allowed(ctx, "owner", Map{"project_id": "anyone's"}))
	require.False(t, p.Allowed(ctx, "owner", Map{}))
	require.False(t, p.Allowed(ctx, "nobody", nil))
	require.True(t, p.Allowed(ctx, "service", nil))
	require.False(t, p.Allowed(as(alice), "service", nil))
}

func TestDeprecatedDefaults(t *testing.T) {
	rules := []nacre.Rule{{Name: "new", Check: "role:admin", DeprecatedName: "old", DeprecatedCheck: "role:member"}}
	try := func(cfg Config) bool {
		cfg.Rules = rules
		p, err := New(cfg)
		require.NoError(t, err)
		return p.Allowed(as(alice), "new", nil)
	}
	require.True(t, try(Config{}))
	require.False(t, try(Config{EnforceNewDefaults: true}))
	require.False(t, try(Config{Overrides: []byte(`new: "!"`)}))
	require.True(t, try(Config{Overrides: []byte(`old: "@"`), EnforceNewDefaults: true}))
	require.False(t, try(Config{Overrides: []byte(`{"old": "!", "new": "role:admin"}`)}))
	require.True(t, try(Config{Overrides: []byte(`old: "rule:new"`)}), "an alias is no override")
}

func TestOverrides(t *testing.T) {
	p, err := New(Config{Rules: []nacre.Rule{{Name: "a", Check: "!"}, {Name: "b", Check: "!"}, {Name: "c", Check: "!"}}, Overrides: []byte(`
"friends": "user_id:alice or user_id:bob"
"a": "rule:friends"
"b": [["role:admin"], ["role:member", "role:reader"]]
"c":
`)})
	require.NoError(t, err)
	for _, r := range []string{"a", "b", "c", "friends"} {
		require.True(t, p.Allowed(as(alice), r, nil), r)
	}
	require.True(t, p.Has("friends"))
	require.False(t, p.Has("enemies"))
	require.Equal(t, nacre.Internal, nacre.KindOf(p.Enforce(as(alice), "enemies", nil)))
}

func TestFileIsReadAgain(t *testing.T) {
	file := filepath.Join(t.TempDir(), "policy.yaml")
	p, err := New(Config{Rules: []nacre.Rule{{Name: "a", Check: "!"}}, File: file})
	require.NoError(t, err)
	allowed := func() bool {
		p.looked.Store(0)
		return p.Allowed(as(alice), "a", nil)
	}
	write := func(text string) {
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		require.NoError(t, os.Chtimes(file, time.Time{}, time.Now().Add(time.Duration(len(text))*time.Second)))
	}
	require.False(t, allowed())
	write(`a: "@"`)
	require.True(t, allowed())
	write(`a: "this is no rule"`)
	require.True(t, allowed(), "the rules before a wrong file stay")
	require.NoError(t, os.Remove(file))
	require.False(t, allowed())
}

func TestDenials(t *testing.T) {
	p, err := New(Config{Rules: []nacre.Rule{{Name: "a", Check: "!"}}})
	require.NoError(t, err)
	require.EqualError(t, p.Enforce(as(alice), "a", nil), "a is disallowed by policy")
	require.ErrorIs(t, p.Enforce(context.Background(), "a", nil), nacre.Unauthenticated)
	require.False(t, p.Allowed(context.Background(), "a", nil))
	p, err = New(Config{Rules: []nacre.Rule{{Name: "a", Check: "!"}}, Denied: func(r string) string { return "no " + r + " for you" }})
	require.NoError(t, err)
	require.EqualError(t, p.Enforce(as(alice), "a", nil), "no a for you")
}

func TestExplain(t *testing.T) {
	p, err := New(Config{EnforceScope: true, Rules: []nacre.Rule{
		{Name: "admin", Check: "role:admin"},
		{Name: "get", Check: "rule:admin or project_id:%(project_id)s", Scopes: []string{"system"}},
	}})
	require.NoError(t, err)
	require.Equal(t, `no  get: "rule:admin or project_id:%(project_id)s"
  no  scope project (the rule is for: system)
  yes any of
    no  rule:admin
      no  role:admin (the caller holds: Member, reader)
    yes project_id:%(project_id)s (the caller: "p1", the target: "p1")
`, p.Explain(as(alice), "get", Map{"project_id": "p1"}))
	require.Contains(t, p.Explain(as(alice), "get", nil), "<no project_id>")
}

func FuzzParse(f *testing.F) {
	f.Add("not (role:admin or rule:a) and user_id:%(user_id)s")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := New(Config{Rules: []nacre.Rule{{Name: "a"}, {Name: "r", Check: text}}})
		if err == nil {
			p.Allowed(as(alice), "r", Map{"user_id": "alice"})
			p.Explain(as(alice), "r", nil)
		}
	})
}

func BenchmarkEnforce(b *testing.B) {
	p, err := New(Config{EnforceScope: true, Rules: []nacre.Rule{
		{Name: "admin_required", Check: "role:admin or is_admin:1"},
		{Name: "identity:get_user", Check: "(rule:admin_required) or (role:reader and system_scope:all) or (role:reader and token.domain.id:%(target.user.domain_id)s) or user_id:%(target.user.id)s", Scopes: []string{"system", "domain", "project"}},
	}})
	require.NoError(b, err)
	ctx := as(alice)
	var target nacre.Target = Map{"target.user.domain_id": "default", "target.user.id": "alice"}
	b.ReportAllocs()
	for b.Loop() {
		if err := p.Enforce(ctx, "identity:get_user", target); err != nil {
			b.Fatal(err)
		}
	}
}
