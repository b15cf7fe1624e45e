package api_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/api"
)

// kept is a resource with the fields that are the server's to set.
type kept struct {
	// at is where it is made, by POST or, with an id of the client's, by PUT.
	at, method, kind string
	// body makes one; "NEW" is another name each time.
	body string
	// made are fields that nobody chooses when one is made, with what is tried;
	// changed are those that nobody changes later. links are tried of each.
	made, changed map[string]string
	// final is what can't be changed at all; owned what its owner makes.
	final, owned bool
}

// keptResources are all that routes make or change by a body.
func keptResources(w *world) []kept {
	fill := strings.NewReplacer("SERVICE", w.ids["services"], "PROJECT", w.ids["projects"], "DOMAIN", w.ids["domains"], "USER", w.ids["users"], "TRUSTEE", w.ids["trustee"])
	id := map[string]string{"id": `"chosen"`}
	rules := `"rules":[{"local":[{"user":{"name":"{0}"}}],"remote":[{"type":"U"}]}]`
	all := []kept{
		{at: "/v3/users", kind: "user", body: `"name":"NEW","domain_id":"DOMAIN"`, made: map[string]string{"id": `"chosen"`, "password_expires_at": `"2001-01-01T00:00:00.000000"`, "federated": `[{"idp_id":"idp","protocols":[{"protocol_id":"nix","unique_id":"x"}]}]`},
			changed: map[string]string{"id": `"chosen"`, "password_expires_at": `"2001-01-01T00:00:00.000000"`, "created_at": `"x"`, "last_active_at": `"x"`, "domain_id": `"default"`}},
		{at: "/v3/projects", kind: "project", body: `"name":"NEW","domain_id":"DOMAIN"`, made: id, changed: map[string]string{"id": `"chosen"`, "is_domain": `true`, "domain_id": `"default"`, "parent_id": `"PROJECT"`}},
		{at: "/v3/domains", kind: "domain", body: `"name":"NEW"`, made: map[string]string{"id": `"chosen"`}, changed: id},
		{at: "/v3/groups", kind: "group", body: `"name":"NEW","domain_id":"DOMAIN"`, made: id, changed: map[string]string{"id": `"chosen"`, "domain_id": `"default"`}},
		{at: "/v3/roles", kind: "role", body: `"name":"NEW"`, made: id, changed: map[string]string{"id": `"chosen"`, "domain_id": `"DOMAIN"`}},
		{at: "/v3/services", kind: "service", body: `"type":"NEW"`, made: id, changed: id},
		{at: "/v3/endpoints", kind: "endpoint", body: `"service_id":"SERVICE","interface":"admin","url":"http://NEW"`, made: id, changed: id},
		{at: "/v3/regions", kind: "region", body: `"description":"NEW"`, changed: id}, // its id is the client's to choose
		{at: "/v3/policies", kind: "policy", body: `"type":"NEW","blob":"b"`, made: id, changed: id},
		{at: "/v3/credentials", kind: "credential", body: `"type":"NEW","blob":"b","user_id":"USER"`, made: id, changed: map[string]string{"id": `"chosen"`, "encrypted_blob": `"x"`, "key_hash": `"x"`}},
		{at: "/v3/registered_limits", kind: "registered_limit", body: `"service_id":"SERVICE","resource_name":"NEW","default_limit":1`, made: id, changed: id},
		{at: "/v3/limits", kind: "limit", body: `"service_id":"SERVICE","resource_name":"cores","resource_limit":1,"domain_id":"DOMAIN"`, made: id,
			changed: map[string]string{"id": `"chosen"`, "service_id": `"x"`, "resource_name": `"x"`, "project_id": `"PROJECT"`, "domain_id": `"default"`, "region_id": `"RegionOne"`}},
		{at: "/v3/OS-EP-FILTER/endpoint_groups", kind: "endpoint_group", body: `"name":"NEW","filters":{"interface":"admin"}`, made: id, changed: id},
		{at: "/v3/OS-OAUTH1/consumers", kind: "consumer", body: `"description":"NEW"`, made: map[string]string{"id": `"chosen"`, "secret": `"chosen"`}, changed: map[string]string{"id": `"chosen"`, "secret": `"chosen"`}},
		{at: "/v3/OS-FEDERATION/identity_providers/NEW", method: "PUT", kind: "identity_provider", body: `"enabled":false`, made: id, changed: map[string]string{"id": `"chosen"`, "domain_id": `"default"`}},
		{at: "/v3/OS-FEDERATION/mappings/NEW", method: "PUT", kind: "mapping", body: rules, made: id, changed: id},
		{at: "/v3/OS-FEDERATION/identity_providers/idp/protocols/NEW", method: "PUT", kind: "protocol", body: `"mapping_id":"mapping"`, made: id, changed: id},
		{at: "/v3/OS-FEDERATION/service_providers/NEW", method: "PUT", kind: "service_provider", body: `"auth_url":"http://n","sp_url":"http://n"`, made: id, changed: id},
		{at: "/v3/OS-TRUST/trusts", kind: "trust", final: true, owned: true, body: `"trustor_user_id":"USER","trustee_user_id":"TRUSTEE","impersonation":false,"project_id":"PROJECT","roles":[{"name":"member"}]`,
			made: map[string]string{"id": `"chosen"`, "deleted_at": `"2001-01-01T00:00:00.000000Z"`, "redelegated_trust_id": `"chosen"`, "roles_links": `{"self":"x"}`}},
		{at: "/v3/users/USER/application_credentials", kind: "application_credential", final: true, owned: true, body: `"name":"NEW"`, made: map[string]string{"id": `"chosen"`, "project_id": `"chosen"`, "user_id": `"chosen"`, "system": `"all"`}},
	}
	for i := range all {
		all[i].at, all[i].body = fill.Replace(all[i].at), fill.Replace(all[i].body)
		if all[i].method == "" {
			all[i].method = "POST"
		}
		for _, fields := range []map[string]string{all[i].made, all[i].changed} {
			for k, v := range fields {
				fields[k] = fill.Replace(v)
			}
		}
	}
	return all
}

// TestReadOnlyFields holds that what is the server's to say is neither chosen nor
// changed by a body, whoever sends it.
func TestReadOnlyFields(t *testing.T) {
	w := newWorld(t)
	c := &cloud{t: t, svc: w.svc, h: w.h}
	n := 0
	for _, k := range keptResources(w) {
		token := w.tokens["S.admin"]
		if k.owned {
			token = w.tokens["owner"]
		}
		send := func(more string) (int, map[string]any, string) {
			n++
			name := strings.NewReplacer("NEW", "new"+string(rune('a'+n/26))+string(rune('a'+n%26)))
			body, open, end := name.Replace(k.body)+more, `{"`+k.kind+`":{`, "}}"
			if strings.HasSuffix(k.kind, "limit") {
				open, end = `{"`+k.kind+`s":[{`, "}]}" // made by the dozen
			}
			at := name.Replace(k.at)
			code, _, m := c.do(k.method, at, token, open+body+end)
			if code != 201 {
				return code, m, ""
			}
			made, _ := m[k.kind].(map[string]any)
			if made == nil {
				made = m[k.kind+"s"].([]any)[0].(map[string]any)
			}
			if k.method == "POST" {
				at += "/" + made["id"].(string)
			}
			return code, made, at
		}
		code, plain, at := send("")
		require.Equal(t, 201, code, "%s: %v", k.kind, plain)
		for field, value := range withLinks(k.made) {
			if k.kind == "limit" {
				require.Equal(t, 204, first(c.do("DELETE", at, token, ""))) // there is one of each resource
			}
			code, made, _ := send(`,"` + field + `":` + value)
			if k.kind == "limit" {
				_, _, at = send("")
			}
			if code != 201 {
				require.Contains(t, []int{400, 403}, code, "%s with %s: %v", k.kind, field, made)
				continue
			}
			require.NotEqual(t, strings.Trim(value, `"`), made[field], "%s: %s is chosen", k.kind, field)
			require.Regexp(t, "^http://cloud/", inner(made, "links", "self"))
			if field == "federated" {
				_, _, m := c.do("GET", "/v3/users?idp_id=idp&unique_id=x", token, "")
				require.Empty(t, m["users"], "nobody becomes the user of an identity provider by saying so")
			}
		}
		if k.final {
			require.Contains(t, []int{404, 405}, first(c.do("PATCH", at, token, `{"`+k.kind+`":{}}`)), k.kind)
			continue
		}
		_, _, before := c.do("GET", at, token, "")
		for field, value := range withLinks(k.changed) {
			_, _, m := c.do("PATCH", at, token, `{"`+k.kind+`":{"`+field+`":`+value+`}}`)
			_, _, after := c.do("GET", at, token, "")
			was, shown := before[k.kind].(map[string]any)[field]
			if is := after[k.kind].(map[string]any)[field]; shown {
				require.Equal(t, was, is, "%s: %s is changed: %v", k.kind, field, m)
			}
			require.Equal(t, inner(before, k.kind).(map[string]any)["blob"], inner(after, k.kind).(map[string]any)["blob"])
		}
	}
}

func withLinks(fields map[string]string) map[string]string {
	out := map[string]string{"links": `{"self":"x"}`}
	for k, v := range fields {
		out[k] = v
	}
	return out
}

func first(code int, _ any, _ any) int { return code }

// TestKeptResourcesAreAll holds keptResources to the routes: each that makes or changes
// something by an envelope of its own is tried.
func TestKeptResourcesAreAll(t *testing.T) {
	w := newWorld(t)
	var tried []string
	for _, k := range keptResources(w) {
		tried = append(tried, k.method+" "+variable.ReplaceAllString(k.at, ""))
	}
	// These have no resource of their own in the body: what they name is theirs to name.
	others := []string{"/v3/auth/", "/v3/ec2tokens", "/v3/s3tokens", "/tags", "/password", "/authorize/", "/config", "/OS-EC2", "/_token", "request_token", "access_token", "OAUTH2"}
	for _, op := range api.Operations() {
		if op.Method != "POST" && op.Method != "PATCH" && op.Method != "PUT" || slices.ContainsFunc(others, func(o string) bool { return strings.Contains(op.Path, o) }) || w.body(op.Method, op.Path) == "" {
			continue
		}
		path := op.Path
		if i := strings.LastIndex(path, "/{"); op.Method != "POST" && i >= 0 {
			path = path[:i]
		}
		path = w.path(path)
		require.True(t, slices.ContainsFunc(tried, func(s string) bool { _, at, _ := strings.Cut(s, " "); return strings.TrimSuffix(at, "/NEW") == path }), "%s %s is not tried", op.Method, op.Path)
	}
}

// TestFieldsOfOthers holds that nobody reaches by a field of what he may send what
// only others may.
func TestFieldsOfOthers(t *testing.T) {
	w := newWorld(t)
	c := &cloud{t: t, svc: w.svc, h: w.h}
	admin := w.tokens["S.admin"]
	roles := map[string]string{}
	_, _, m := c.do("GET", "/v3/roles", admin, "")
	for _, r := range m["roles"].([]any) {
		roles[r.(map[string]any)["name"].(string)] = r.(map[string]any)["id"].(string)
	}
	make := func(kind, body string) string {
		code, _, m := c.do("POST", "/v3/"+kind+"s", admin, `{"`+kind+`":`+body+`}`)
		require.Equal(t, 201, code, m)
		return inner(m, kind, "id").(string)
	}
	elsewhere := make("domain", `{"name":"X"}`)
	far := make("project", `{"name":"X","domain_id":"`+elsewhere+`"}`)
	fill := strings.NewReplacer("ADMIN", roles["admin"], "ELSEWHERE", elsewhere, "FAR", far, "USER", w.ids["users"], "TRUSTEE", w.ids["trustee"], "PROJECT", w.ids["projects"], "DOMAIN", w.ids["domains"], "GROUP", w.ids["groups"], "CREDENTIAL", w.ids["credentials"])
	trust := func(more string) string {
		return `{"trust":{"trustor_user_id":"USER","trustee_user_id":"TRUSTEE","impersonation":true,"project_id":"PROJECT","roles":[{"name":"member"}]` + more + `}}`
	}
	for _, x := range [][4]string{
		{"owner", "POST", "/v3/credentials", `{"credential":{"type":"cert","blob":"b","user_id":"TRUSTEE"}}`},
		{"owner", "PATCH", "/v3/credentials/CREDENTIAL", `{"credential":{"user_id":"TRUSTEE"}}`},
		{"owner", "POST", "/v3/users/TRUSTEE/credentials/OS-EC2", `{"tenant_id":"PROJECT"}`},
		{"owner", "POST", "/v3/users/TRUSTEE/application_credentials", `{"application_credential":{"name":"x"}}`},
		{"owner", "POST", "/v3/users/USER/application_credentials", `{"application_credential":{"name":"x","roles":[{"name":"admin"}]}}`},
		{"owner", "POST", "/v3/users/USER/application_credentials", `{"application_credential":{"name":"x","roles":[{"id":"ADMIN"}]}}`},
		{"owner", "POST", "/v3/users/USER/application_credentials", `{"application_credential":{"name":"x","project_id":"FAR"}}`},
		{"owner", "POST", "/v3/OS-TRUST/trusts", strings.Replace(trust(""), "member", "admin", 1)},
		{"owner", "POST", "/v3/OS-TRUST/trusts", strings.Replace(trust(""), "PROJECT", "FAR", 1)},
		{"owner", "POST", "/v3/OS-TRUST/trusts", strings.Replace(trust(""), `"trustor_user_id":"USER"`, `"trustor_user_id":"TRUSTEE"`, 1)},
		{"owner", "PATCH", "/v3/users/USER", `{"user":{"enabled":true}}`},
		{"owner", "PATCH", "/v3/users/USER", `{"user":{"options":{"ignore_lockout_failure_attempts":true}}}`},
		{"owner", "PATCH", "/v3/users/USER", `{"user":{"default_project_id":"FAR"}}`},
		{"owner", "PATCH", "/v3/projects/PROJECT", `{"project":{"enabled":true}}`},
		// Who manages a domain does so within it, and without administrators.
		{"D.manager", "POST", "/v3/users", `{"user":{"name":"x","domain_id":"ELSEWHERE"}}`},
		{"D.manager", "POST", "/v3/groups", `{"group":{"name":"x","domain_id":"ELSEWHERE"}}`},
		{"D.manager", "POST", "/v3/projects", `{"project":{"name":"x","domain_id":"ELSEWHERE"}}`},
		{"D.manager", "POST", "/v3/projects", `{"project":{"name":"x","domain_id":"DOMAIN","parent_id":"FAR"}}`},
		{"D.manager", "POST", "/v3/projects", `{"project":{"name":"x","parent_id":"FAR"}}`},
		{"D.manager", "POST", "/v3/projects", `{"project":{"name":"x","is_domain":true}}`},
		{"D.manager", "PATCH", "/v3/projects/PROJECT", `{"project":{"domain_id":"ELSEWHERE"}}`},
		{"D.manager", "PATCH", "/v3/users/USER", `{"user":{"domain_id":"ELSEWHERE"}}`},
		{"D.manager", "PATCH", "/v3/groups/GROUP", `{"group":{"domain_id":"ELSEWHERE"}}`},
		{"D.manager", "PATCH", "/v3/domains/DOMAIN", `{"domain":{"enabled":false}}`},
		{"D.manager", "PUT", "/v3/projects/PROJECT/users/USER/roles/ADMIN", ""},
		{"D.manager", "PUT", "/v3/domains/DOMAIN/groups/GROUP/roles/ADMIN", ""},
		{"D.manager", "PUT", "/v3/projects/FAR/users/USER/roles/" + roles["member"], ""},
		{"P.manager", "PUT", "/v3/projects/PROJECT/users/USER/roles/ADMIN", ""},
	} {
		code, _, m := c.do(x[1], fill.Replace(x[2]), w.tokens[x[0]], fill.Replace(x[3]))
		require.Contains(t, []int{400, 401, 403, 404}, code, "%v: %v", x, m)
	}
	// Who changes a password by knowing it changes that alone.
	code, _, m := c.do("POST", fill.Replace("/v3/users/USER/password"), "", `{"user":{"original_password":"pw","password":"new","enabled":false,"domain_id":"default","name":"x"}}`)
	require.Contains(t, []int{204, 400}, code, m)
	u, err := w.svc.GetUser(nacre.AsService(t.Context(), "test"), w.ids["users"])
	require.NoError(t, err)
	require.Equal(t, []any{"owner", true, w.ids["domains"]}, []any{u.Name, u.Enabled, u.DomainID})
	_, _, m = c.do("GET", "/v3/role_assignments?role.id="+roles["admin"]+"&user.id="+w.ids["users"], admin, "")
	require.Empty(t, m["role_assignments"])
}
