package domainconfig

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
)

func TestOptionsThatAreRefused(t *testing.T) {
	for name, c := range map[string]Options{
		"nothing": {}, "an empty group": {"ldap": {}}, "another group": {"token": {"expiration": 1}}, "another option": {"ldap": {"pool": 1}},
	} {
		require.ErrorIs(t, c.check(), nacre.Forbidden, name)
	}
	whole := Options{"ldap": {"url": "ldaps://n", "password": "p"}, "identity": {"driver": "ldap"}}
	require.NoError(t, whole.check())
	require.Equal(t, Options{"ldap": {"url": "ldaps://n"}, "identity": {"driver": "ldap"}}, whole.shown(), "a secret is kept, never shown")
	require.ErrorIs(t, whole.only("ldap", ""), nacre.Forbidden)
	require.ErrorIs(t, Options{"ldap": {"url": "n"}}.only("ldap", "suffix"), nacre.Forbidden)
	require.NoError(t, Options{"ldap": {"url": "n"}}.only("ldap", "url"))
	no := errors.New("no directory answers")
	s := &Service{try: func(Options) error { return no }}
	require.ErrorIs(t, s.tried(whole), no)
}
