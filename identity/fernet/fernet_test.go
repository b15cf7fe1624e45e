package fernet

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	user = "0123456789abcdef0123456789abcdef"
	proj = "fedcba9876543210fedcba9876543210"
)

// samples has a token of each kind.
func samples() map[string]Token {
	base := Token{UserID: user, Methods: []string{"password"}, IssuedAt: time.Unix(1_700_000_000, 0).UTC(), ExpiresAt: time.Unix(1_700_003_600, 0).UTC()}
	mk := func(f func(*Token)) Token {
		t := base
		t.AuditIDs = []string{NewAuditID()}
		f(&t)
		return t
	}
	return map[string]Token{
		"unscoped":   mk(func(t *Token) {}),
		"domain":     mk(func(t *Token) { t.DomainID = proj }),
		"domain-raw": mk(func(t *Token) { t.DomainID = "default" }),
		"project":    mk(func(t *Token) { t.ProjectID = proj; t.AuditIDs = append(t.AuditIDs, NewAuditID()) }),
		"project-raw": mk(func(t *Token) {
			t.UserID, t.ProjectID = "a-user-of-ldap", "p"
			t.Methods = []string{"token", "password"}
		}),
		"trust": mk(func(t *Token) { t.ProjectID, t.TrustID = proj, user }),
		"fed":   mk(func(t *Token) { t.IdPID, t.ProtocolID, t.GroupIDs = "okta", "openid", []string{proj, "cn=staff"} }),
		"fed-project": mk(func(t *Token) {
			t.ProjectID, t.IdPID, t.ProtocolID, t.GroupIDs, t.Methods = proj, proj, "saml2", []string{user}, []string{"mapped"}
		}),
		"fed-domain": mk(func(t *Token) { t.DomainID, t.IdPID, t.ProtocolID = "default", "okta", "openid" }),
		"oauth":      mk(func(t *Token) { t.ProjectID, t.AccessTokenID, t.Methods = proj, user, []string{"oauth1"} }),
		"oauth2": mk(func(t *Token) {
			t.ProjectID, t.Thumbprint = proj, "4Zpd0MTOIUYRNZGy8bMmkDBQaeNzpPNcaLjL7r7mTmY"
		}),
		"oauth2-domain": mk(func(t *Token) { t.DomainID, t.Thumbprint = "default", "thumb" }),
		"totp":          mk(func(t *Token) { t.Methods = []string{"totp", "password"} }),
		"system":        mk(func(t *Token) { t.System = "all" }),
		"app":           mk(func(t *Token) { t.ProjectID, t.AppCredID = proj, user; t.Methods = []string{"application_credential"} }),
	}
}

func TestRoundTrip(t *testing.T) {
	keys := Memory()
	for name, tok := range samples() {
		text, err := keys.Pack(tok)
		require.NoError(t, err)
		require.NotContains(t, text, "=")
		require.Less(t, len(text), 320, name)
		got, err := keys.Unpack(text)
		require.NoError(t, err)
		require.Equal(t, tok, got, name)
		got, err = keys.Unpack(text + strings.Repeat("=", (4-len(text)%4)%4))
		require.NoError(t, err)
		require.Equal(t, tok, got, name)
	}
}

// Tokens that Debian's keystone 22.0.2 made.
func TestGolden(t *testing.T) {
	keys, err := New(goldenKey)
	require.NoError(t, err)
	require.NotEmpty(t, golden)
	for _, g := range golden {
		got, err := keys.Unpack(g.text)
		require.NoError(t, err)
		require.Equal(t, g.token, got)
	}
}

func TestEncrypt(t *testing.T) {
	keys := Memory()
	for _, plain := range []string{"", "x", strings.Repeat("long", 5000)} {
		text, err := keys.Encrypt([]byte(plain))
		require.NoError(t, err)
		require.Zero(t, len(text)%4, "it is padded")
		got, err := keys.Decrypt(text)
		require.NoError(t, err)
		require.Equal(t, plain, string(got))
		_, err = Memory().Decrypt(text)
		require.ErrorIs(t, err, ErrToken)
	}
}

func TestForeignAndBrokenTokens(t *testing.T) {
	keys := Memory()
	text, err := keys.Pack(samples()["project"])
	require.NoError(t, err)
	_, err = Memory().Unpack(text)
	require.ErrorIs(t, err, ErrToken)
	raw, err := base64.RawURLEncoding.DecodeString(text)
	require.NoError(t, err)
	for i := range raw {
		bad := append([]byte(nil), raw...)
		bad[i] ^= 1
		_, err := keys.Unpack(base64.RawURLEncoding.EncodeToString(bad))
		require.ErrorIs(t, err, ErrToken)
		_, err = keys.Unpack(base64.RawURLEncoding.EncodeToString(raw[:i]))
		require.ErrorIs(t, err, ErrToken)
	}
	for _, bad := range []string{"", "x", "not a token", strings.Repeat("A", 100), strings.Repeat("A", 1<<20), "gAAAAA" + strings.Repeat("A", 200)} {
		_, err := keys.Unpack(bad)
		require.ErrorIs(t, err, ErrToken)
	}
}

func TestRepository(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "fernet-keys")
	_, err := Open(dir)
	require.Error(t, err)
	require.NoError(t, Init(dir))
	require.NoError(t, Init(dir), "an initialized repository stays")
	files := func() []int {
		n, err := keyFiles(dir)
		require.NoError(t, err)
		return n
	}
	require.Equal(t, []int{0, 1}, files())
	info, err := os.Stat(filepath.Join(dir, "1"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())

	keys, err := Open(dir)
	require.NoError(t, err)
	look := func() { keys.looked.Store(0) }
	first, err := keys.Pack(samples()["project"])
	require.NoError(t, err)
	staged, err := os.ReadFile(filepath.Join(dir, "0"))
	require.NoError(t, err)
	require.NoError(t, Rotate(dir, 3))
	require.Equal(t, []int{0, 1, 2}, files())
	primary, err := os.ReadFile(filepath.Join(dir, "2"))
	require.NoError(t, err)
	require.Equal(t, staged, primary)
	look()
	_, err = keys.Unpack(first)
	require.NoError(t, err)
	second, err := keys.Pack(samples()["project"])
	require.NoError(t, err)

	require.NoError(t, Rotate(dir, 3))
	require.Equal(t, []int{0, 2, 3}, files())
	look()
	_, err = keys.Unpack(first)
	require.ErrorIs(t, err, ErrToken, "its key is gone")
	_, err = keys.Unpack(second)
	require.NoError(t, err)

	require.NoError(t, os.WriteFile(filepath.Join(dir, "4"), nil, 0o600))
	_, err = Open(dir)
	require.NoError(t, err, "an empty key file is ignored")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "4"), []byte("short"), 0o600))
	_, err = Open(dir)
	require.Error(t, err)
	require.NoError(t, os.Remove(filepath.Join(dir, "0")))
	require.Error(t, Rotate(dir, 3))
}

// A length that is claimed makes no room before the bytes are there.
func TestClaimedLengths(t *testing.T) {
	for name, payload := range map[string]string{
		"bytes of an id":  "\x95\x00\x92\xc3\xc6\xff\xff\xff\xff",
		"text of an id":   "\x95\x00\x92\xc2\xdb\xff\xff\xff\xff",
		"groups":          "\x98\x04\x92\xc2\xa1x\x01\xdd\xff\xff\xff\xff",
		"the whole array": "\xdd\xff\xff\xff\xff\x00",
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := decode([]byte(payload))
		runtime.ReadMemStats(&after)
		require.Error(t, err, name)
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(1<<20), name)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte("\x98\n\x92\xc3\xc6\xa5{\x8c\xcf\xc4\x10000R0000000000000"))
	for _, tok := range samples() {
		b, err := tok.encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		tok, err := decode(payload)
		if err != nil {
			return
		}
		tok.IssuedAt = time.Unix(0, 0).UTC()
		if tok.ExpiresAt.Year() > 9999 || tok.ExpiresAt.Year() < 1 {
			return
		}
		_, _ = tok.encode()
	})
}

func BenchmarkUnpack(b *testing.B) {
	keys := Memory()
	text, err := keys.Pack(samples()["project"])
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := keys.Unpack(text); err != nil {
			b.Fatal(err)
		}
	}
}

func TestReceipt(t *testing.T) {
	keys := Memory()
	r := Receipt{UserID: user, Methods: []string{"totp", "password"}, IssuedAt: time.Unix(1_700_000_000, 0).UTC(), ExpiresAt: time.Unix(1_700_000_300, 0).UTC()}
	text, err := keys.PackReceipt(r)
	require.NoError(t, err)
	got, err := keys.UnpackReceipt(text)
	require.NoError(t, err)
	require.Equal(t, r, got)
	_, err = keys.Unpack(text)
	require.ErrorIs(t, err, ErrToken, "it is no token, even under the same key")
	token, err := keys.Pack(samples()["project"])
	require.NoError(t, err)
	_, err = keys.UnpackReceipt(token)
	require.ErrorIs(t, err, ErrToken)
	_, err = Memory().UnpackReceipt(text)
	require.ErrorIs(t, err, ErrToken)
}

// FuzzReceipt goes past the seal, which is random and would make each input a new one.
func FuzzReceipt(f *testing.F) {
	f.Add([]byte{0x93, 0x92, 0xc2, 0xa1, 'x', 0x02, 0xcb, 0x41, 0xd9, 0x55, 0x00, 0x00, 0x00, 0x00, 0x00})
	f.Fuzz(func(t *testing.T, payload []byte) {
		if r, err := receiptOf(payload, time.Unix(0, 0)); err == nil && r.UserID == "" && len(r.Methods) > len(methods) {
			t.Fatal("methods that there are not")
		}
	})
}
