package password

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPattern(t *testing.T) {
	for _, c := range []struct{ pattern, good, bad string }{
		{`^(?=.*\d)(?=.*[a-zA-Z]).{7,}$`, "abcdef1", "abcdefg"},
		{`^(?=.*\d)(?=.*[a-zA-Z]).{7,}$`, "1234567a", "12345a"},
		{`(?!.*password).{4,}`, "secret", "mypassword"},
		{`^(?=.*[)\]]).+$`, "a)b", "ab"},
		{`^(?=.*[]x)]).+$`, "a]b", "ab"},
		{``, "", "\x00never"},
	} {
		parts, err := passwordPattern(c.pattern)
		require.NoError(t, err, c.pattern)
		s := &Service{strength: parts, rules: Compliance{PasswordRules: "the rules"}}
		require.NoError(t, s.CheckStrength(c.good), "%s: %s", c.pattern, c.good)
		if c.pattern != "" {
			require.ErrorContains(t, s.CheckStrength(c.bad), "the rules", "%s: %s", c.pattern, c.bad)
		}
	}
	for _, broken := range []string{"(?=.*", "^(?=[a)", "(?=*)", "[", "a(?=b)"} {
		_, err := passwordPattern(broken)
		require.Error(t, err, broken)
	}
}

func TestRulesThatContradict(t *testing.T) {
	for name, c := range map[string]Compliance{
		"negative": {LockoutAttempts: -1}, "no day left": {PasswordDays: 3, MinPasswordDays: 3}, "no pattern": {PasswordRegex: "("},
	} {
		require.Error(t, c.check(), name)
	}
	require.NoError(t, (&Compliance{PasswordDays: 3, MinPasswordDays: 2, PasswordRegex: ".+"}).check())
}
