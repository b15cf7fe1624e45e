package credential

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// The vectors of RFC 6238, appendix B, for SHA-1; ours have six digits of eight.
func TestPasscodesOfTheRFC(t *testing.T) {
	secret, err := totpSecret("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ")
	require.NoError(t, err)
	require.Equal(t, "12345678901234567890", string(secret))
	for at, want := range map[int64]string{59: "287082", 1111111109: "081804", 1111111111: "050471", 1234567890: "005924", 2000000000: "279037", 20000000000: "353130"} {
		require.Equal(t, want, totpCode(secret, at/30), "at %d", at)
	}
	require.NoError(t, checkTOTPBlob("GEZDGNBVGY3TQOI="), "padded")
	for _, blob := range []string{"", "no base32", "GEZDGNBVGY3TQOI=x"} {
		require.Error(t, checkTOTPBlob(blob), blob)
	}
}
