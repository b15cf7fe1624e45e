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
	"github.com/nacre-cloud/nacre/store/bunstore"
)

// TestFromNothing makes an identity service by commands alone, as an operator of
// Keystone is used to.
func TestFromNothing(t *testing.T) {
	dir := t.TempDir()
	at := func(args ...string) string {
		t.Helper()
		out, err := nacreCommand(append(args, "--state-dir", dir)...)
		require.NoError(t, err, out)
		return out
	}
	_, err := nacreCommand("bootstrap", "--bootstrap-password", "secret", "--state-dir", dir)
	require.ErrorContains(t, err, "holds no cloud")
	_, err = nacreCommand("db", "migrate", "--check", "--state-dir", dir)
	require.Error(t, err)
	at("db", "migrate")
	at("db", "migrate", "--check", "--area", "identity")
	out, err := nacreCommand("doctor", "--state-dir", dir)
	require.ErrorIs(t, err, errFound)
	require.Contains(t, out, "nacre fernet setup makes it")
	require.Contains(t, out, "there is no default domain")
	at("fernet", "setup")
	at("credential", "setup")
	at("receipt", "setup")
	at("bootstrap", "--bootstrap-password", "secret", "--bootstrap-public-url", "http://cloud/identity/v3")
	require.Contains(t, at("doctor"), "nothing found")

	// What it made works, and goes on working through rotations.
	e, err := bunstore.OpenSQLite(filepath.Join(dir, "db", "identity.db"), bunstore.Options{})
	require.NoError(t, err)
	keys, err := fernet.Open(filepath.Join(dir, "fernet-keys"))
	require.NoError(t, err)
	sealed, err := fernet.Open(filepath.Join(dir, "credential-keys"))
	require.NoError(t, err)
	svc, err := identity.New(identity.Config{Engine: e, Keys: keys, CredentialKeys: sealed})
	require.NoError(t, err)
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
	at("fernet", "rotate")
	require.Contains(t, at("credential", "migrate"), "1 credentials")
	require.Contains(t, at("doctor"), "nothing found")

	e, err = bunstore.OpenSQLite(filepath.Join(dir, "db", "identity.db"), bunstore.Options{})
	require.NoError(t, err)
	defer e.Close() //nolint:errcheck // of a test
	keys, err = fernet.Open(filepath.Join(dir, "fernet-keys"))
	require.NoError(t, err)
	sealed, err = fernet.Open(filepath.Join(dir, "credential-keys"))
	require.NoError(t, err)
	svc, err = identity.New(identity.Config{Engine: e, Keys: keys, CredentialKeys: sealed})
	require.NoError(t, err)
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
}

func TestHelpIsNoError(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, run([]string{"--help"}, &out))
	require.Contains(t, out.String(), "The operator's tool for a Nacre cloud.")
	require.Error(t, run([]string{"nonsense"}, &out))
	require.Error(t, run(nil, &out))
}
