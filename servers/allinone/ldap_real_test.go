//go:build realtest

package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/go-ldap/ldap/v3"
	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/internal/realserver"
)

// id makes something and returns its id.
func (l *local) id(path, kind, body string) string {
	l.t.Helper()
	_, m := l.ask(201, "POST", path, l.admin, `{"`+kind+`":`+body+`}`)
	return m[kind].(map[string]any)["id"].(string)
}

func (l *local) role(name string) string {
	l.t.Helper()
	_, m := l.ask(200, "GET", "/identity/v3/roles?name="+name, l.admin, "")
	return m["roles"].([]any)[0].(map[string]any)["id"].(string)
}

// TestDirectoryByFile has users of OpenLDAP's slapd log in, as identity.yaml in the
// state directory says, before and after a restart.
func TestDirectoryByFile(t *testing.T) {
	s := realserver.OpenLDAP(t)
	root := s.Root(t)
	add := func(dn string, attrs map[string][]string) {
		req := ldap.NewAddRequest(dn, nil)
		for k, v := range attrs {
			req.Attribute(k, v)
		}
		require.NoError(t, root.Add(req), dn)
	}
	add(s.Suffix, map[string][]string{"objectClass": {"dcObject", "organization"}, "dc": {"example"}, "o": {"Example"}})
	add("ou=Users,"+s.Suffix, map[string][]string{"objectClass": {"organizationalUnit"}, "ou": {"Users"}})
	for name, enabled := range map[string]string{"alice": "TRUE", "bob": "FALSE"} {
		add("cn="+name[:1]+"1,ou=Users,"+s.Suffix, map[string][]string{"objectClass": {"inetOrgPerson", "nacreUser"}, "cn": {name[:1] + "1"}, "sn": {name}, "mail": {name + "@example.com"}, "title": {"captain"},
			"userPassword": {"pw of " + name}, "enabled": {enabled}})
	}

	state := filepath.Join(t.TempDir(), "state")
	require.NoError(t, os.MkdirAll(state, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(state, "ldap-password"), []byte(s.RootPassword+"\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(state, "identity.yaml"), []byte(`
domains:
  corp:
    identity: {driver: ldap}
    ldap:
      url: `+s.LDAPS+`
      tls_cacertfile: `+s.CertFile+`
      suffix: `+s.Suffix+`
      user: `+s.RootDN+`
      password_file: ldap-password
      user_additional_attribute_mapping: ["title:rank"]
`), 0o600))
	l := openLocal(t, state)
	domain := l.id("/identity/v3/domains", "domain", `{"name":"corp"}`)
	project := l.id("/identity/v3/projects", "project", `{"name":"bridge","domain_id":"`+domain+`"}`)
	_, m := l.ask(200, "GET", "/identity/v3/users?domain_id="+domain, l.admin, "")
	require.Len(t, m["users"], 2)
	alice, bob := m["users"].([]any)[0].(map[string]any), m["users"].([]any)[1].(map[string]any)
	if alice["name"] == "bob" {
		alice, bob = bob, alice
	}
	require.Equal(t, false, bob["enabled"])
	l.ask(401, "POST", "/identity/v3/auth/tokens", "", `{"auth":{"identity":{"methods":["password"],"password":{"user":{"name":"bob","domain":{"name":"corp"},"password":"pw of bob"}}}}}`)
	require.Equal(t, "alice", alice["name"])
	require.Equal(t, "alice@example.com", alice["email"])
	require.Equal(t, "captain", alice["rank"])
	l.ask(204, "PUT", "/identity/v3/projects/"+project+"/users/"+alice["id"].(string)+"/roles/"+l.role("member"), l.admin, "")
	l.ask(403, "POST", "/identity/v3/users", l.admin, `{"user":{"name":"bob","domain_id":"`+domain+`"}}`)
	token, _ := l.login("corp", "alice", "pw of alice", "bridge")
	l.ask(200, "GET", "/compute/v2.1/servers", token, "")
	require.NoError(t, l.Close())

	l = openLocal(t, state)
	defer func() { require.NoError(t, l.Close()) }()
	l.ask(200, "GET", "/compute/v2.1/servers", token, "")
	again, _ := l.login("corp", "alice", "pw of alice", "bridge")
	l.ask(200, "GET", "/compute/v2.1/servers", again, "")
	l.ask(401, "POST", "/identity/v3/auth/tokens", "", `{"auth":{"identity":{"methods":["password"],"password":{"user":{"name":"alice","domain":{"name":"corp"},"password":"wrong"}}}}}`)
}
