package api_test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDomainConfig(t *testing.T) {
	c := newCloud(t)
	admin := c.token("admin", "secret", onAdmin)
	d := dig(c.put("POST", "/v3/domains", `{"domain":{"name":"d"}}`), "domain", "id").(string)
	path := "/v3/domains/" + d + "/config"
	c.fails(404, "Could not find any options in domain configuration for domain "+d, "GET", path, admin, "")
	code, _, m := c.do("PUT", path, admin, `{"config":{"identity":{"driver":"ldap"},"ldap":{"url":"ldap://x","user":"cn=a,%(password)s","password":"hidden"}}}`)
	require.Equal(t, 201, code, m)
	require.Equal(t, map[string]any{"identity": map[string]any{"driver": "ldap"}, "ldap": map[string]any{"url": "ldap://x", "user": "cn=a,%(password)s"}}, m["config"])
	code, _, m = c.do("PUT", path, admin, `{"config":{"identity":{"driver":"sql"},"ldap":{"url":"ldap://y","password":"hidden"}}}`)
	require.Equal(t, 200, code, m)
	_, _, m = c.do("GET", path, admin, "")
	require.Equal(t, map[string]any{"identity": map[string]any{"driver": "sql"}, "ldap": map[string]any{"url": "ldap://y"}}, m["config"])
	_, _, m = c.do("GET", path+"/ldap", admin, "")
	require.Equal(t, map[string]any{"ldap": map[string]any{"url": "ldap://y"}}, m["config"])
	_, _, m = c.do("GET", path+"/ldap/url", admin, "")
	require.Equal(t, map[string]any{"url": "ldap://y"}, m["config"])
	c.fails(404, "Could not find option password in group ldap", "GET", path+"/ldap/password", admin, "")
	c.fails(404, "Could not find option suffix in group ldap", "GET", path+"/ldap/suffix", admin, "")
	c.fails(403, "Group catalog is not supported", "GET", path+"/catalog", admin, "")
	c.fails(403, "Option x in group ldap is not supported", "GET", path+"/ldap/x", admin, "")
	c.fails(403, "No options specified", "PUT", path, admin, `{"config":{}}`)
	c.fails(403, "should be a dictionary of options", "PUT", path, admin, `{"config":{"ldap":"x"}}`)
	c.fails(404, "Could not find domain: nix", "PUT", "/v3/domains/nix/config", admin, `{"config":{"ldap":{"url":"x"}}}`)

	_, _, m = c.do("PATCH", path, admin, `{"config":{"ldap":{"suffix":"dc=x"}}}`)
	require.Equal(t, "dc=x", dig(m, "config", "ldap", "suffix"))
	require.Equal(t, "sql", dig(m, "config", "identity", "driver"))
	c.put("PATCH", path+"/ldap", `{"config":{"ldap":{"url":"ldap://z"}}}`)
	c.put("PATCH", path+"/ldap/suffix", `{"config":{"suffix":"dc=z"}}`)
	c.put("PATCH", path+"/ldap/password", `{"config":{"password":"other"}}`)
	c.fails(403, "request to update group ldap, but config provided contains group identity instead", "PATCH", path+"/ldap", admin, `{"config":{"identity":{"driver":"x"}}}`)
	c.fails(403, "but config provided contains option url instead", "PATCH", path+"/ldap/suffix", admin, `{"config":{"url":"x"}}`)
	c.fails(404, "Could not find option user_filter in group ldap", "PATCH", path+"/ldap/user_filter", admin, `{"config":{"user_filter":"x"}}`)

	c.put("DELETE", path+"/ldap/suffix", "")
	c.fails(404, "", "DELETE", path+"/ldap/suffix", admin, "")
	c.put("DELETE", path+"/identity", "")
	c.put("DELETE", path, "")
	c.fails(404, "", "GET", path, admin, "")

	_, _, m = c.do("GET", "/v3/domains/config/default", admin, "")
	require.Equal(t, "inetOrgPerson", dig(m, "config", "ldap", "user_objectclass"))
	require.NotContains(t, dig(m, "config", "ldap"), "password")
	_, _, m = c.do("GET", "/v3/domains/config/identity/default", admin, "")
	require.Equal(t, map[string]any{"identity": map[string]any{"driver": "sql", "list_limit": nil}}, m["config"])
	_, _, m = c.do("GET", "/v3/domains/config/ldap/url/default", admin, "")
	require.Equal(t, map[string]any{"url": "ldap://localhost"}, m["config"])
	c.fails(403, "Reading the default for option password in group ldap is not supported", "GET", "/v3/domains/config/ldap/password/default", admin, "")

	// Anybody may read the rules for passwords, nobody else may read more.
	c.put("POST", "/v3/users", `{"user":{"name":"u","domain_id":"default","password":"pw"}}`)
	plain := c.token("u", "pw", "")
	code, _, m = c.do("GET", "/v3/domains/default/config/security_compliance", plain, "")
	require.Equal(t, 200, code, m)
	require.Contains(t, dig(m, "config", "security_compliance"), "password_regex")
	c.fails(403, "any domain other than the default domain", "GET", path+"/security_compliance", plain, "")
	c.fails(403, "", "GET", "/v3/domains/default/config/security_compliance/lockout_duration", plain, "")
	c.fails(403, "", "GET", path, plain, "")
	c.fails(403, "", "GET", "/v3/domains/nix/config", plain, "")
}
