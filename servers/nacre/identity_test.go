package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity"
	"github.com/nacre-cloud/nacre/identity/credential"
	"github.com/nacre-cloud/nacre/identity/fernet"
	"github.com/nacre-cloud/nacre/store"
)

// TestFromNothing makes an identity service by commands alone, as an operator of
// Keystone is used to.
func TestFromNothing(t *testing.T) { fromNothing(t, t.TempDir(), "holds no cloud") }

// fromNothing does so on the configured engine; without is what the commands say
// before there are tables.
func fromNothing(t *testing.T, dir, without string) {
	at := func(args ...string) string {
		t.Helper()
		out, err := nacreCommand(append(args, "--state-dir", dir)...)
		require.NoError(t, err, out)
		return out
	}
	fails := func(message string, args ...string) {
		t.Helper()
		out, err := nacreCommand(append(args, "--state-dir", dir)...)
		require.ErrorContains(t, err, message, out)
	}
	open := func() (*identity.Service, store.Engine) {
		c := &cli{StateDir: dir}
		require.NoError(t, c.load())
		e, err := c.openArea("identity", false)
		require.NoError(t, err)
		keys, err := fernet.Open(filepath.Join(dir, "fernet-keys"))
		require.NoError(t, err)
		sealed, err := fernet.Open(filepath.Join(dir, "credential-keys"))
		require.NoError(t, err)
		svc, err := identity.New(identity.Config{Engine: e, Keys: keys, CredentialKeys: sealed})
		require.NoError(t, err)
		return svc, e
	}
	fails(without, "bootstrap", "--bootstrap-password", "secret")
	fails(without, "doctor")
	fails("", "db", "migrate", "--check")
	fails(`no area "identitty"`, "db", "migrate", "--area", "identitty")
	at("db", "migrate")
	at("db", "migrate", "--check", "--area", "identity")
	out, err := nacreCommand("doctor", "--state-dir", dir)
	require.ErrorIs(t, err, errFound)
	require.Contains(t, out, "nacre fernet setup makes it")
	require.Contains(t, out, "there is no default domain")
	fails("fernet-keys", "fernet", "rotate")
	fails("Password", "bootstrap", "--bootstrap-password", "")
	at("fernet", "setup")
	at("credential", "setup")
	at("receipt", "setup")
	at("bootstrap", "--bootstrap-password", "secret", "--bootstrap-public-url", "http://cloud/identity/v3")
	require.Contains(t, at("doctor"), "nothing found")

	// What it made works, and goes on working through rotations.
	svc, e := open()
	named := identity.NameRef{Name: "admin", Domain: identity.DomainRef{Name: "Default"}}
	token, info, err := svc.Authenticate(t.Context(), identity.AuthRequest{Methods: []string{"password"}, User: named, Password: "secret", Project: &named})
	require.NoError(t, err)
	ctx := nacre.WithCaller(t.Context(), info.Caller())
	cred, err := svc.Credentials.Create(ctx, credential.Change{UserID: &info.User.ID, Type: ref("cert"), Blob: ref("precious")})
	require.NoError(t, err)
	require.NoError(t, e.Close())
	for range 5 {
		require.Contains(t, at("credential", "rotate"), "1 credentials")
	}
	fails("", "fernet", "rotate", "--max-active-keys", "0")
	at("fernet", "rotate")
	require.Contains(t, at("credential", "migrate"), "1 credentials")
	require.Contains(t, at("doctor"), "nothing found")

	svc, e = open()
	defer e.Close() //nolint:errcheck // of a test
	caller, err := svc.ValidateToken(t.Context(), token)
	require.NoError(t, err)
	got, err := svc.Credentials.Get(nacre.WithCaller(t.Context(), caller), cred.ID)
	require.NoError(t, err)
	require.Equal(t, "precious", got.Blob)

	// Two that are one, and one that all may read.
	b, err := os.ReadFile(filepath.Join(dir, "fernet-keys", "0"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "credential-keys", "9"), b, 0o600))
	require.NoError(t, os.Chmod(filepath.Join(dir, "fernet-keys"), 0o755))
	out, err = nacreCommand("doctor", "--state-dir", dir)
	require.ErrorIs(t, err, errFound)
	require.Contains(t, out, "the same key")
	require.Contains(t, out, "others may look into")
	at("token", "setup")
}

func ref[T any](v T) *T { return &v }

func TestMapping(t *testing.T) {
	dir := t.TempDir()
	rules, input := filepath.Join(dir, "rules.json"), filepath.Join(dir, "input")
	require.NoError(t, os.WriteFile(rules, []byte(`{"rules":[{"local":[{"user":{"name":"{0}"},"groups":"{1}","domain":{"name":"Default"}}],"remote":[{"type":"UserName"},{"type":"Groups"}]}]}`), 0o600))
	require.NoError(t, os.WriteFile(input, []byte("UserName: bob\nGroups: a;b\nnothing\n"), 0o600))
	out, err := nacreCommand("mapping", "test", "--rules", rules, "--input", input)
	require.NoError(t, err)
	var got map[string]any
	require.NoError(t, json.Unmarshal([]byte(out), &got))
	require.Equal(t, "bob", got["user"].(map[string]any)["name"])
	require.Len(t, got["group_names"], 2)
	require.NoError(t, os.WriteFile(rules, []byte(`[{"local":[]}]`), 0o600))
	_, err = nacreCommand("mapping", "test", "--rules", rules, "--input", input)
	require.ErrorContains(t, err, "'remote' is a required property")
	for _, bad := range []string{"", "{", "[1]", `{"rules":"x"}`, "null", "{}"} {
		require.NoError(t, os.WriteFile(rules, []byte(bad), 0o600))
		out, err = nacreCommand("mapping", "test", "--rules", rules, "--input", input)
		require.Error(t, err, "%q: %s", bad, out)
	}
	_, err = nacreCommand("mapping", "test", "--rules", filepath.Join(dir, "none"), "--input", input)
	require.Error(t, err)
	_, err = nacreCommand("mapping", "test", "--rules", rules, "--input", dir)
	require.Error(t, err)
}

func TestHelpIsNoError(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, run([]string{"--help"}, &out))
	require.Contains(t, out.String(), "The operator's tool for a Nacre cloud.")
	require.Error(t, run([]string{"nonsense"}, &out))
	require.Error(t, run(nil, &out))
}
