package oauth1

import "github.com/nacre-cloud/nacre"

// Rules are the policy defaults of Keystone 2025.1 for OAuth; they build on its
// rule admin_required.
func Rules() []nacre.Rule {
	const admin = "rule:admin_required"
	const reader = "rule:admin_required or (role:reader and system_scope:all)"
	both, project := []string{"system", "project"}, []string{"project"}
	var out []nacre.Rule
	for _, r := range []struct {
		name, check, description, operations string
		scopes                               []string
	}{
		{"get_consumer", reader, "Show a consumer", "GET /v3/OS-OAUTH1/consumers/{consumer_id}", both},
		{"list_consumers", reader, "List consumers", "GET /v3/OS-OAUTH1/consumers", both},
		{"create_consumer", admin, "Create a consumer", "POST /v3/OS-OAUTH1/consumers", both},
		{"update_consumer", admin, "Change a consumer", "PATCH /v3/OS-OAUTH1/consumers/{consumer_id}", both},
		{"delete_consumer", admin, "Delete a consumer", "DELETE /v3/OS-OAUTH1/consumers/{consumer_id}", both},
		{"authorize_request_token", admin, "Authorize a request token", "PUT /v3/OS-OAUTH1/authorize/{request_token_id}", project},
		{"get_access_token", admin, "Show an access token", "GET /v3/users/{user_id}/OS-OAUTH1/access_tokens/{access_token_id}", project},
		{"get_access_token_role", admin, "Show a role of an access token", "GET /v3/users/{user_id}/OS-OAUTH1/access_tokens/{access_token_id}/roles/{role_id}", project},
		{"list_access_tokens", admin, "List a user's access tokens", "GET /v3/users/{user_id}/OS-OAUTH1/access_tokens", project},
		{"list_access_token_roles", admin, "List the roles of an access token", "GET /v3/users/{user_id}/OS-OAUTH1/access_tokens/{access_token_id}/roles", project},
		{"delete_access_token", admin, "Delete an access token", "DELETE /v3/users/{user_id}/OS-OAUTH1/access_tokens/{access_token_id}", project},
	} {
		rule := nacre.Rule{Name: "identity:" + r.name, Check: r.check, Scopes: r.scopes, Description: r.description, Operations: []string{r.operations}}
		if r.check == reader {
			rule.DeprecatedName, rule.DeprecatedCheck = rule.Name, admin
		}
		out = append(out, rule)
	}
	return out
}
