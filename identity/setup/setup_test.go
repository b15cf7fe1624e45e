package setup_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/identity"
	"github.com/nacre-cloud/nacre/identity/domainconfig"
	"github.com/nacre-cloud/nacre/identity/jws"
	"github.com/nacre-cloud/nacre/identity/ldap"
	"github.com/nacre-cloud/nacre/identity/limit"
	"github.com/nacre-cloud/nacre/identity/password"
	"github.com/nacre-cloud/nacre/identity/setup"
	"github.com/nacre-cloud/nacre/store/memstore"
)

func read(t *testing.T, text string) (identity.Config, error) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "identity.yaml")
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "key"), []byte("secret\n"), 0o600))
	require.NoError(t, jws.Create(filepath.Join(dir, "made")))
	c := identity.Config{Engine: memstore.New(memstore.Options{}), BcryptCost: 4, TokenTTL: time.Minute}
	apply, err := setup.Read(file)
	if err == nil {
		apply(&c)
	}
	return c, err
}

func TestRead(t *testing.T) {
	c, err := read(t, "")
	require.NoError(t, err)
	require.Equal(t, identity.Config{Engine: c.Engine, BcryptCost: 4, TokenTTL: time.Minute}, c, "an empty file changes nothing")

	c, err = read(t, `
security_compliance:
  lockout_failure_attempts: 2
  lockout_duration: 5
  disable_user_account_days_inactive: 90
  password_expires_days: 30
  unique_last_password_count: 3
  minimum_password_age: 1
  password_regex: '^(?=.*\d).{7,}$'
  password_regex_description: seven
  change_password_upon_first_use: true
  report_invalid_password_hash: [event]
  invalid_password_hash_secret_key_file: key
identity: {password_hash_algorithm: scrypt, password_hash_rounds: 14, strict_password_check: true}
token: {expiration: 7200, allow_rescope_scoped_token: false}
unified_limit: {enforcement_model: strict_two_level}
default: {max_project_tree_depth: 3}
`)
	require.NoError(t, err)
	require.Equal(t, password.Compliance{LockoutAttempts: 2, LockoutFor: 5 * time.Second, InactiveDays: 90, PasswordDays: 30, UniquePasswords: 3, MinPasswordDays: 1,
		PasswordRegex: `^(?=.*\d).{7,}$`, PasswordRules: "seven", ChangeUponFirstUse: true, ReportKey: "secret"}, c.Compliance)
	require.Equal(t, "scrypt", c.PasswordHash)
	require.Equal(t, 14, c.PasswordRounds)
	require.Equal(t, 4, c.BcryptCost)
	require.True(t, c.StrictPasswords)
	require.Equal(t, 2*time.Hour, c.TokenTTL)
	require.True(t, c.NoRescope)
	require.Equal(t, limit.Strict, c.LimitModel)
	require.Equal(t, 3, c.MaxProjectDepth)
	_, err = identity.New(c)
	require.NoError(t, err)

	c, err = read(t, "domains: {corp: {identity: {driver: ldap}, ldap: {url: ldap://h, page_size: 5, password_file: key}}}")
	require.NoError(t, err)
	require.Equal(t, map[string]domainconfig.Options{"corp": {"identity": {"driver": "ldap"}, "ldap": {"url": "ldap://h", "page_size": 5, "password": "secret"}}}, c.DomainConfigs)
	c.OpenDirectory = ldap.Open
	_, err = identity.New(c)
	require.NoError(t, err)
	c.DomainConfigs["corp"]["ldap"]["chase_referrals"] = true
	_, err = identity.New(c)
	require.ErrorContains(t, err, "corp: ldap: chase_referrals")
	c.DomainConfigs["corp"]["ldap"] = map[string]any{"uri": "ldap://h"}
	_, err = identity.New(c)
	require.ErrorContains(t, err, "Option uri in group ldap is not supported")

	c, err = read(t, "identity: {password_hash_rounds: 13}\n")
	require.NoError(t, err)
	require.Equal(t, 13, c.BcryptCost)
}

func TestMistakes(t *testing.T) {
	for text, want := range map[string]string{
		"security_complaints: {}":                                      "security_complaints",
		"security_compliance: {lockout_failure_attempts: -1}":          "negative",
		"security_compliance: {lockout_duration: 0}":                   "lockout_duration",
		"security_compliance: {report_invalid_password_hash: [event]}": "secret_key_file",
		"token: {provider: uuid}":                                      `"uuid"`,
		"token: {provider: jws}":                                       "token provider",
		"token: {expiration: -1}":                                      "negative",
		"domains: {corp: {ldap: {password_file: gone}}}":               "no such file",
		"- a list": "cannot unmarshal",
	} {
		_, err := read(t, text)
		require.ErrorContains(t, err, want, text)
	}
	_, err := setup.Read(filepath.Join(t.TempDir(), "gone"))
	require.ErrorIs(t, err, os.ErrNotExist)
}
