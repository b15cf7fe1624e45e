package ldap

import (
	"testing"
	"time"

	"github.com/nacre-cloud/nacre/identity/domainconfig"

	goldap "github.com/go-ldap/ldap/v3"
	"github.com/stretchr/testify/require"
)

// TestEnabled holds how directories say that a user is enabled.
func TestEnabled(t *testing.T) {
	for name, tc := range map[string]struct {
		cfg   Config
		value string
		want  bool
	}{
		"none":                {Config{}, "", true},
		"TRUE":                {Config{}, "TRUE", true},
		"true":                {Config{}, "true", true},
		"False":               {Config{}, "False", false},
		"FALSE":               {Config{}, "FALSE", false},
		"a number":            {Config{}, "1", true},
		"zero":                {Config{}, "0", false},
		"nonsense":            {Config{}, "maybe", false},
		"none, default off":   {Config{UserEnabledDefault: "false"}, "", false},
		"inverted TRUE":       {Config{UserEnabledInvert: true}, "TRUE", false},
		"inverted FALSE":      {Config{UserEnabledInvert: true, UserEnabledDefault: "False"}, "FALSE", true},
		"inverted, none":      {Config{UserEnabledInvert: true, UserEnabledDefault: "False"}, "", true},
		"inverted nonsense":   {Config{UserEnabledInvert: true}, "maybe", false},
		"mask, on":            {Config{UserEnabledMask: 2, UserEnabledDefault: "512"}, "512", true},
		"mask, off":           {Config{UserEnabledMask: 2, UserEnabledDefault: "512"}, "514", false},
		"mask, none":          {Config{UserEnabledMask: 2, UserEnabledDefault: "512"}, "", true},
		"mask, nonsense":      {Config{UserEnabledMask: 2, UserEnabledDefault: "512"}, "TRUE", false},
		"ignored":             {Config{UserAttributeIgnore: []string{"enabled"}}, "FALSE", true},
		"emulated, no member": {Config{UserEnabledEmulation: true}, "TRUE", false},
	} {
		t.Run(name, func(t *testing.T) {
			tc.cfg.URL = "ldap://x"
			d, err := New(tc.cfg)
			require.NoError(t, err)
			e := goldap.NewEntry("cn=a", map[string][]string{"ENABLED": {tc.value}})
			if tc.value == "" {
				e = goldap.NewEntry("cn=a", nil)
			}
			require.Equal(t, tc.want, d.enabled(e, nil))
		})
	}
	_, err := New(Config{URL: "ldap://x", UserEnabledMask: 2})
	require.ErrorContains(t, err, "user_enabled_default is a number")
	_, err = New(Config{URL: "ldap://x", Scope: "base"})
	require.Error(t, err)
	_, err = New(Config{})
	require.Error(t, err)
}

// TestOpen reads a domain's options, whatever shape JSON gave them.
func TestOpen(t *testing.T) {
	dir, err := Open(t.Context(), domainconfig.Options{"ldap": {"url": "ldap://h", "page_size": 5.0, "user_enabled_invert": "True", "user_enabled_mask": "2",
		"user_enabled_default": 512.0, "user_attribute_ignore": []any{"email"}, "group_members_are_ids": true}})
	require.NoError(t, err)
	cfg := dir.(*Driver).cfg
	require.Equal(t, 5, cfg.PageSize)
	require.True(t, cfg.UserEnabledInvert)
	require.Equal(t, 2, cfg.UserEnabledMask)
	require.Equal(t, "512", cfg.UserEnabledDefault)
	require.Equal(t, []string{"email"}, cfg.UserAttributeIgnore)
	require.True(t, cfg.GroupMembersAreIDs)
	dir, err = Open(t.Context(), domainconfig.Options{"ldap": {"use_pool": false, "use_auth_pool": "False", "pool_connection_lifetime": "60", "pool_retry_max": 1, "pool_retry_delay": 0.5, "alias_dereferencing": "always",
		"user_additional_attribute_mapping": "givenName:first, title: rank", "group_additional_attribute_mapping": []any{"businessCategory:kind"}, "debug_level": 0, "chase_referrals": false, "user_pass_attribute": "userPassword"}})
	require.NoError(t, err)
	cfg = dir.(*Driver).cfg
	require.Equal(t, -1, cfg.PoolSize)
	require.Equal(t, -1, cfg.AuthPoolSize)
	require.Equal(t, time.Minute, cfg.PoolLifetime)
	require.Equal(t, 1, cfg.Retries)
	require.Equal(t, 500*time.Millisecond, cfg.RetryDelay)
	require.Equal(t, "always", cfg.Aliases)
	require.Equal(t, map[string]string{"givenName": "first", "title": "rank"}, cfg.UserExtra)
	require.Equal(t, map[string]string{"businessCategory": "kind"}, cfg.GroupExtra)
	for option, v := range map[string]any{"chase_referrals": true, "debug_level": 4095, "alias_dereferencing": "sometimes", "tls_req_cert": "maybe", "tls_cacertfile": "/does/not/exist", "tls_cacertdir": "/does/not/exist",
		"user_additional_attribute_mapping": []any{"uid:id"}, "group_additional_attribute_mapping": "x"} {
		_, err = Open(t.Context(), domainconfig.Options{"ldap": {option: v}})
		require.Error(t, err, option)
	}
	_, err = Open(t.Context(), domainconfig.Options{"identity": {"list_limit": 5}})
	require.ErrorContains(t, err, "list_limit")
}
