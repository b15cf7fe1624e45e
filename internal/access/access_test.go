package access

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
)

func TestMatches(t *testing.T) {
	for _, c := range []struct {
		pattern string
		yes, no []string
	}{
		{"/v2.1/servers", []string{"/v2.1/servers"}, []string{"/v2.1/servers/", "/v2.1/serversx", "/v2x1/servers", "/compute/v2.1/servers", "/v2.1/server", ""}},
		{"/v2.1/servers/*/ips", []string{"/v2.1/servers/1/ips"}, []string{"/v2.1/servers//ips", "/v2.1/servers/1/2/ips", "/v2.1/servers/1/ipsx"}},
		{"/v2.1/servers/{server_id}/ips", []string{"/v2.1/servers/1/ips"}, []string{"/v2.1/servers/1/2/ips", "/v2.1/servers/{server_id}/x"}},
		{"/v2.1/**", []string{"/v2.1/", "/v2.1/servers", "/v2.1/servers/1/ips"}, []string{"/v2.1", "/v2/servers"}},
		{"**/ips", []string{"/a/b/ips", "/ips"}, []string{"/a/ips/b"}},
		{"/a*c", []string{"/abc", "/abbc"}, []string{"/ac", "/a/c"}},
		{"/***", []string{"/a", "/a/b"}, []string{"/", "/a/"}},
		{"/a{b", []string{"/a{b"}, []string{"/ab", "/aXb"}},
		{"/(a|b)+", []string{"/(a|b)+"}, []string{"/a", "/ab"}},
		{"/ü*", []string{"/üx"}, []string{"/ü"}},
	} {
		for _, p := range c.yes {
			require.True(t, matches(c.pattern, p), "%s %s", c.pattern, p)
		}
		for _, p := range c.no {
			require.False(t, matches(c.pattern, p), "%s %s", c.pattern, p)
		}
	}
	for pattern, want := range map[string]bool{"/v1/*": false, "/v1/*/*": false, "/v1/**": true, "/v1/c/o": false, "/v1/c%2fo": false} {
		require.Equal(t, want, names(pattern, "/v1/c%2fo"), pattern)
	}
	require.False(t, matches(strings.Repeat("**a", 75)+"b", "/"+strings.Repeat("a", 1<<14)), "no pattern takes exponential time")
}

// inspector knows tokens by their text.
type inspector struct {
	tokens map[string]known
	asked  int
}

func (v *inspector) ValidateToken(ctx context.Context, token string) (*nacre.Caller, error) {
	c, rules, err := v.InspectToken(ctx, token, false)
	if err == nil && len(rules) > 0 {
		return nil, nacre.Unauthenticated
	}
	return c, err
}

func (v *inspector) InspectToken(_ context.Context, token string, expired bool) (*nacre.Caller, []nacre.AccessRule, error) {
	v.asked++
	k, ok := v.tokens[token]
	if !ok || !expired && time.Now().After(k.caller.ExpiresAt) {
		return nil, nil, nacre.Unauthenticated
	}
	return k.caller, k.rules, nil
}

// plain hides what a validator knows besides.
type plain struct{ nacre.TokenValidator }

func TestGuard(t *testing.T) {
	soon, past := time.Now().Add(time.Hour), time.Now().Add(-time.Hour)
	rules := []nacre.AccessRule{{Service: "compute", Method: "GET", Path: "/v2.1/servers"}, {Service: "image", Method: "POST", Path: "/v2/images"}}
	v := &inspector{tokens: map[string]known{
		"free":    {caller: &nacre.Caller{UserID: "free", ExpiresAt: soon}},
		"robot":   {caller: &nacre.Caller{UserID: "robot", ExpiresAt: soon}, rules: rules},
		"over":    {caller: &nacre.Caller{UserID: "robot", ExpiresAt: past}, rules: rules},
		"nova":    {caller: &nacre.Caller{UserID: "nova", Roles: []string{"Service"}, ExpiresAt: soon}},
		"limited": {caller: &nacre.Caller{UserID: "nova", Roles: []string{"service"}, ExpiresAt: soon}, rules: rules[:1]},
	}}
	try := func(g *Guard, token, service, method, path string) bool {
		c, s, err := g.Identify(t.Context(), Request{Token: token, ServiceToken: service, Method: method, Path: path, Prefix: "/compute"})
		if err != nil {
			require.ErrorIs(t, err, nacre.Unauthenticated)
			return false
		}
		require.NotNil(t, c)
		require.Equal(t, service != "", s != nil)
		return true
	}
	for name, cache := range map[string]time.Duration{"asked each time": 0, "remembered": time.Minute} {
		t.Run(name, func(t *testing.T) {
			g := &Guard{Tokens: v, Service: "compute", CacheFor: cache}
			for range 2 {
				require.True(t, try(g, "free", "", "DELETE", "/anything"))
				require.True(t, try(g, "robot", "", "GET", "/v2.1/servers"))
				require.False(t, try(g, "robot", "", "POST", "/v2.1/servers"), "another method")
				require.False(t, try(g, "robot", "", "GET", "/v2.1/flavors"), "another path")
				require.False(t, try(g, "robot", "", "POST", "/v2/images"), "another service's rule")
				require.True(t, try(g, "robot", "nova", "POST", "/v2.1/flavors"), "what a service does for the user")
				require.False(t, try(g, "robot", "robot", "POST", "/v2.1/flavors"), "a user is no service")
				require.False(t, try(g, "robot", "nonsense", "GET", "/v2.1/servers"), "a bad service token spoils it")
				require.False(t, try(g, "free", "limited", "GET", "/v2.1/flavors"), "a service's rules bind it")
				require.True(t, try(g, "free", "limited", "GET", "/v2.1/servers"))
				require.False(t, try(g, "over", "", "GET", "/v2.1/servers"))
				require.True(t, try(g, "over", "nova", "GET", "/v2.1/servers"))
			}
		})
	}
	g := &Guard{Tokens: v, Service: "compute", AnyService: true, ServiceRoles: []string{"glance"}}
	require.True(t, try(g, "free", "nova", "GET", "/x"))
	require.False(t, try(g, "robot", "nova", "GET", "/x"), "it opens nothing")
	require.False(t, try(g, "over", "nova", "GET", "/v2.1/servers"), "it opens nothing")

	g = &Guard{Tokens: v}
	require.True(t, try(g, "free", "", "GET", "/"))
	require.False(t, try(g, "robot", "", "GET", "/v2.1/servers"), "a service without a type can't tell")
	require.False(t, try(g, "robot", "nova", "GET", "/v2.1/servers"), "a service without a type can't tell")
	require.False(t, try(&Guard{Tokens: plain{v}, Service: "compute"}, "robot", "", "GET", "/v2.1/servers"), "a validator that tells no rules")
	require.True(t, try(&Guard{Tokens: v, Service: "identity"}, "robot", "", "GET", "/v3/auth/tokens"), "every token may look at itself")
	require.False(t, try(&Guard{Tokens: v, Service: "identity"}, "robot", "", "DELETE", "/v3/auth/tokens"))

	v.tokens["mounted"] = known{caller: v.tokens["robot"].caller, rules: []nacre.AccessRule{{Service: "compute", Method: "GET", Path: "/compute/v2.1/servers"}}}
	require.True(t, try(&Guard{Tokens: v, Service: "compute"}, "mounted", "", "GET", "/v2.1/servers"), "rules may be written with the prefix")

	v.asked = 0
	g = &Guard{Tokens: v, Service: "compute", CacheFor: time.Minute}
	for range 5 {
		require.True(t, try(g, "robot", "nova", "GET", "/x"))
	}
	require.Equal(t, 2, v.asked)
	c, s, err := g.Identify(t.Context(), Request{ServiceToken: "nova"})
	require.NoError(t, err)
	require.Nil(t, c, "a service's token stands for no user")
	require.Equal(t, s, ServiceFrom(WithService(t.Context(), s)))
}
