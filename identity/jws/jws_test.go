package jws

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/identity/fernet"
)

// repository makes a directory in Keystone's layout.
func repository(t testing.TB) (private, public string) {
	t.Helper()
	dir := t.TempDir()
	private, public = filepath.Join(dir, "private"), filepath.Join(dir, "public")
	require.NoError(t, os.Mkdir(public, 0o700))
	require.NoError(t, Create(private))
	require.NoError(t, os.Rename(filepath.Join(private, "public.pem"), filepath.Join(public, "first.pem")))
	return private, public
}

func sample() fernet.Token {
	return fernet.Token{UserID: "alice", Methods: []string{"password", "totp"}, ProjectID: "p", IssuedAt: time.Unix(1_700_000_000, 0).UTC(), ExpiresAt: time.Unix(1_700_003_600, 0).UTC(), AuditIDs: []string{fernet.NewAuditID()}}
}

func TestRoundTrip(t *testing.T) {
	keys, err := Open(repository(t))
	require.NoError(t, err)
	for name, f := range map[string]func(*fernet.Token){
		"project": func(*fernet.Token) {}, "domain": func(t *fernet.Token) { t.ProjectID, t.DomainID = "", "d" }, "system": func(t *fernet.Token) { t.ProjectID, t.System = "", "all" },
		"trust": func(t *fernet.Token) { t.TrustID = "t" }, "app": func(t *fernet.Token) { t.AppCredID = "a" }, "oauth": func(t *fernet.Token) { t.AccessTokenID = "x" },
		"federated": func(t *fernet.Token) { t.IdPID, t.ProtocolID, t.GroupIDs = "i", "saml2", []string{"g", "h"} }, "certificate": func(t *fernet.Token) { t.Thumbprint = "x" },
		"unscoped": func(t *fernet.Token) { t.ProjectID = "" },
	} {
		tok := sample()
		f(&tok)
		text, err := keys.Pack(tok)
		require.NoError(t, err)
		got, err := keys.Unpack(text)
		require.NoError(t, err)
		require.Equal(t, tok, got, name)
		parts := strings.Split(text, ".")
		for _, bad := range []string{"", "x", parts[0] + "." + parts[1] + ".", parts[0] + "." + parts[1] + "x." + parts[2], strings.Repeat("x", maxLen+1)} {
			_, err := keys.Unpack(bad)
			require.ErrorIs(t, err, fernet.ErrToken)
		}
	}
}

// What is not signed by ES256 with a key of the repository is no token.
func TestForged(t *testing.T) {
	private, public := repository(t)
	keys, err := Open(private, public)
	require.NoError(t, err)
	payload := []byte(`{"sub":"alice","iat":1700000000,"exp":1900000000,"openstack_methods":["password"],"openstack_audit_ids":[]}`)
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	pem, err := os.ReadFile(filepath.Join(public, "first.pem"))
	require.NoError(t, err)
	for _, key := range []jose.SigningKey{{Algorithm: jose.ES256, Key: stranger}, {Algorithm: jose.HS256, Key: pem}} {
		s, err := jose.NewSigner(key, nil)
		require.NoError(t, err)
		signed, err := s.Sign(payload)
		require.NoError(t, err)
		text, err := signed.CompactSerialize()
		require.NoError(t, err)
		_, err = keys.Unpack(text)
		require.ErrorIs(t, err, fernet.ErrToken)
	}
	// {"alg":"none"}
	_, err = keys.Unpack("eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSIsImV4cCI6MTkwMDAwMDAwMH0.")
	require.ErrorIs(t, err, fernet.ErrToken)
}

func TestRotation(t *testing.T) {
	private, public := repository(t)
	keys, err := Open(private, public)
	require.NoError(t, err)
	old, err := keys.Pack(sample())
	require.NoError(t, err)
	again := func() { keys.looked.Store(0) }

	next := t.TempDir()
	require.NoError(t, Create(next))
	require.Error(t, Create(next), "no key is replaced")
	require.NoError(t, os.Rename(filepath.Join(next, privateFile), filepath.Join(private, privateFile)))
	again()
	text, err := keys.Pack(sample())
	require.NoError(t, err)
	_, err = keys.Unpack(text)
	require.NoError(t, err, "a key that nobody could check does not sign yet")
	require.NoError(t, os.Rename(filepath.Join(next, "public.pem"), filepath.Join(public, "second.pem")))
	again()
	text, err = keys.Pack(sample())
	require.NoError(t, err)
	for _, good := range []string{old, text} {
		_, err = keys.Unpack(good)
		require.NoError(t, err)
	}
	require.NoError(t, os.Remove(filepath.Join(public, "first.pem")))
	again()
	_, err = keys.Unpack(text)
	require.NoError(t, err)
	_, err = keys.Unpack(old)
	require.ErrorIs(t, err, fernet.ErrToken)
	require.NoError(t, os.RemoveAll(public))
	again()
	_, err = keys.Unpack(text)
	require.NoError(t, err, "a directory that can't be read leaves the keys as they were")
	_, err = Open(private, public)
	require.Error(t, err)
}

func FuzzUnpack(f *testing.F) {
	keys, err := Open(repository(f))
	require.NoError(f, err)
	text, err := keys.Pack(sample())
	require.NoError(f, err)
	f.Add(text)
	f.Fuzz(func(t *testing.T, s string) {
		if _, err := keys.Unpack(s); err == nil && s != text {
			// Base64 may be spelled in more than one way, but nothing is made up.
			require.Equal(t, strings.Split(text, ".")[1], strings.Split(s, ".")[1])
		}
	})
}
