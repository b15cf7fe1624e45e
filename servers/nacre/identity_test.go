package main

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity"
	"github.com/nacre-cloud/nacre/identity/credential"
	"github.com/nacre-cloud/nacre/identity/fernet"
	"github.com/nacre-cloud/nacre/servers"
	"github.com/nacre-cloud/nacre/servers/kit"
	"github.com/nacre-cloud/nacre/servers/parts"
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

// TestSharedKeys changes the keys of a cloud whose copies share them where the copies
// look for them.
func TestSharedKeys(t *testing.T) {
	dir := t.TempDir()
	cfg := kit.Default()
	cfg.StateDir, cfg.SharedDir, cfg.URL = filepath.Join(dir, "state"), filepath.Join(dir, "shared"), "http://cloud.test"
	t.Setenv("NACRE_SHARED_DIR", cfg.SharedDir)
	at := func(args ...string) string {
		t.Helper()
		out, err := nacreCommand(append(args, "--state-dir", cfg.StateDir)...)
		require.NoError(t, err, out)
		return out
	}
	require.NoError(t, os.MkdirAll(cfg.SharedDir, 0o700))
	at("receipt", "setup")
	cloud, err := servers.OpenLocal(t.Context(), cfg, parts.All, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	defer func() { require.NoError(t, cloud.Close()) }()

	// What a receipt's repository makes is read by the cloud, and what tokens' does is not.
	receipts := func(keys string) error {
		k, err := fernet.Open(filepath.Join(cfg.SharedDir, keys))
		require.NoError(t, err)
		admin := cloud.Bootstrapped.UserID
		text, err := k.PackReceipt(fernet.Receipt{UserID: admin, Methods: []string{"password"}, IssuedAt: time.Now().UTC(), ExpiresAt: time.Now().UTC().Add(time.Minute).Truncate(time.Second)})
		require.NoError(t, err)
		_, _, err = cloud.Identity.Authenticate(t.Context(), identity.AuthRequest{Methods: []string{"password"}, User: identity.NameRef{ID: admin}, Password: adminPassword(t, cfg.SharedDir), Receipt: text})
		return err
	}
	require.NoError(t, receipts("receipt-keys"))
	require.ErrorContains(t, receipts("fernet-keys"), "Could not find auth receipt")

	for _, name := range []string{"fernet", "credential", "receipt"} {
		before, err := filepath.Glob(filepath.Join(cfg.SharedDir, name+"-keys", "*"))
		require.NoError(t, err)
		at(name, "rotate")
		after, err := filepath.Glob(filepath.Join(cfg.SharedDir, name+"-keys", "*"))
		require.NoError(t, err)
		require.NotEqual(t, before, after)
		require.NoDirExists(t, filepath.Join(cfg.StateDir, name+"-keys"))
	}
	require.Contains(t, at("credential", "migrate"), "credentials under the primary key")
	require.Contains(t, at("doctor"), "nothing found")

	// The keys of JWS tokens are where identity's settings are.
	settings := filepath.Join(dir, "etc", "identity.yaml")
	t.Setenv("NACRE_IDENTITY", settings)
	require.Contains(t, at("token", "setup"), filepath.Join(dir, "etc", "jws-keys"))

	require.NoError(t, os.RemoveAll(filepath.Join(cfg.SharedDir, "credential-keys")))
	for _, what := range []string{"migrate", "rotate"} {
		_, err = nacreCommand("credential", what, "--state-dir", cfg.StateDir)
		require.ErrorContains(t, err, "nacre credential setup makes it")
	}
}

func adminPassword(t *testing.T, dir string) string {
	b, err := os.ReadFile(filepath.Join(dir, "secrets.json"))
	require.NoError(t, err)
	var doc map[string]string
	require.NoError(t, json.Unmarshal(b, &doc))
	return doc["admin_password"]
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
