package passhash

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// hashes are passlib 1.7.4's, which is what Keystone stored until 2024.
var hashes = map[string]string{
	"bcrypt":      "$2b$04$aoGa1e1Ah0M3abjpIJ7qfuB/PnIW.nXsSiIi/JqFfPy8uierZ1jr2",
	"bcrypt2a":    "$2a$04$Q7zcp.C1oi9aaCQ4lIg0veX/h62/KtkFcakgUS8ErzxFFgxgDOAkW",
	"bcrypt2y":    "$2y$04$q5vXxHtxxbYB6An40CXKre4CBnvvTt0pC7WWNb/QsVktbHdT4QF2C",
	"sha1":        "$bcrypt-sha256$2b,4$lU4qgXt07lL5giUckXoDJ.$fUei14lu3UQ5bs06NL0kx2QKGmGReEa",
	"sha2":        "$bcrypt-sha256$v=2,t=2b,r=4$.dwkbQvJBm4q6cuR0KTCAu$t6MVA7DdJ3YM3L6/25ebGoQ4AWIV.wO",
	"scrypt":      "$scrypt$ln=4,r=8,p=1$iXEuhdD6n5PynlMKAeA8Bw$2eR1t8Dj5U1Ij4e2WDu7o/mVhsJO2nkCeaDgqp3MMsQ",
	"scrypt82":    "$scrypt$ln=4,r=4,p=2$sTbmfC9ljHHO$JFPvoJVIGd0ixw7Pk9w5Md7olSLxCqvKrXknGi4rpt4",
	"pbkdf2":      "$pbkdf2-sha512$10$C0FoDeFc650TgnBujTHmnA$AksAb.Z2a/MnYnq4zhO/UQ9JNdPH5C0n/RwjHcrXJNDdgy6m6KcHwcuxxvua3fwQOgMWNhi3CL4wlU4xUyIJ1Q",
	"long-bcrypt": "$2b$04$K3Qo3T8XRFRXXzWO83uxO.TuOJvGxaXiVS03q7zt6KRD7Crx8DA1i",
	"long-sha":    "$bcrypt-sha256$v=2,t=2b,r=4$4f/oK7FV6rQoKaBqSZiSyu$BeFFwQNYvUmbK3inkabl8d8VJdQD3KC",
}

func secretOf(name string) string {
	if strings.HasPrefix(name, "long") {
		return strings.Repeat("é", 50)
	}
	return "correct horse"
}

func TestVerify(t *testing.T) {
	for name, hash := range hashes {
		require.True(t, Verify(hash, secretOf(name)), name)
		require.False(t, Verify(hash, "wrong horse"), name)
		require.False(t, Verify(hash, ""), name)
		for i := range hash {
			require.False(t, Verify(hash[:i], secretOf(name)), "%s cut at %d", name, i)
		}
	}
	require.True(t, Verify(hashes["long-bcrypt"], strings.Repeat("é", 36)), "bcrypt looks at 72 bytes")
	require.False(t, Verify(hashes["long-sha"], strings.Repeat("é", 36)))
}

func TestVerifyOdd(t *testing.T) {
	for _, hash := range []string{
		"", "$", "$$$$", "plain", "$6$abc$def", "$scrypt$", "$scrypt$$$", "$scrypt$ln=40,r=8,p=1$AAAA$AAAA", "$scrypt$ln=16,r=1000000,p=1$AAAA$AAAA",
		"$scrypt$ln=16,r=8,p=9999999999$AAAA$AAAA", "$scrypt$ln=4,r=8,p=1$AAAA$", "$scrypt$ln=0,r=8,p=1$AAAA$AAAA", "$scrypt$ln=4,r=0,p=1$AAAA$AAAA", "$pbkdf2-sha512$0$AA$AA",
		"$pbkdf2-sha512$99999999999$AA$AA", "$pbkdf2-sha512$-1$AA$AA", "$pbkdf2-sha512$10$AA$", "$bcrypt-sha256$v=2,t=2b,r=99$x$y", "$bcrypt-sha256$$$", "$2b$99$x", "$2",
	} {
		require.False(t, Verify(hash, ""), hash)
		require.False(t, Verify(hash, "x"), hash)
	}
}

func TestHash(t *testing.T) {
	for algorithm, rounds := range map[string]int{Bcrypt: 4, BcryptSHA256: 4, Scrypt: 4, PBKDF2: 10} {
		h, err := New(algorithm, rounds)
		require.NoError(t, err)
		long := strings.Repeat("x", 100)
		for _, pw := range []string{"correct horse", "", "pässwörd", long} {
			a, err := h.Hash(pw)
			require.NoError(t, err)
			b, err := h.Hash(pw)
			require.NoError(t, err)
			require.NotEqual(t, a, b, "the salt is random")
			require.True(t, Verify(a, pw), a)
			require.False(t, Verify(a, pw+"x") && pw != long)
			c, err := h.Cheap().Hash(pw)
			require.NoError(t, err)
			require.True(t, Verify(c, pw))
		}
		_, err = New(algorithm, -1)
		require.Error(t, err)
		_, err = New(algorithm, 0)
		require.NoError(t, err)
	}
	_, err := New("md5", 0)
	require.Error(t, err)
}

func FuzzVerify(f *testing.F) {
	for name, hash := range hashes {
		f.Add(hash, secretOf(name))
	}
	f.Fuzz(func(t *testing.T, hash, pw string) {
		// A high cost is not wrong, but too slow to fuzz.
		if strings.HasPrefix(hash, "$2") || strings.HasPrefix(hash, "$scrypt") || len(hash) > 200 {
			return
		}
		Verify(hash, pw)
	})
}
