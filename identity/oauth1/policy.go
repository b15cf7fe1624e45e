package oauth1

import (
	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/kit"
)

// Rules are the policy defaults of Keystone 2025.1 for OAuth; they build on its
// rule admin_required.
func Rules() []nacre.Rule { return kit.Rules(defaults) }

// defaults are the rules below "identity:".
var defaults = kit.Defaults{
	{"get_consumer", kit.AdminOrSystemReader, kit.SystemOrProject, "Show a consumer", kit.Admin, "GET /v3/OS-OAUTH1/consumers/{consumer_id}"},
	{"list_consumers", kit.AdminOrSystemReader, kit.SystemOrProject, "List consumers", kit.Admin, "GET /v3/OS-OAUTH1/consumers"},
	{"create_consumer", kit.Admin, kit.SystemOrProject, "Create a consumer", "", "POST /v3/OS-OAUTH1/consumers"},
	{"update_consumer", kit.Admin, kit.SystemOrProject, "Change a consumer", "", "PATCH /v3/OS-OAUTH1/consumers/{consumer_id}"},
	{"delete_consumer", kit.Admin, kit.SystemOrProject, "Delete a consumer", "", "DELETE /v3/OS-OAUTH1/consumers/{consumer_id}"},
	{"authorize_request_token", kit.Admin, kit.ProjectOnly, "Authorize a request token", "", "PUT /v3/OS-OAUTH1/authorize/{request_token_id}"},
	{"get_access_token", kit.Admin, kit.ProjectOnly, "Show an access token", "", "GET /v3/users/{user_id}/OS-OAUTH1/access_tokens/{access_token_id}"},
	{"get_access_token_role", kit.Admin, kit.ProjectOnly, "Show a role of an access token", "", "GET /v3/users/{user_id}/OS-OAUTH1/access_tokens/{access_token_id}/roles/{role_id}"},
	{"list_access_tokens", kit.Admin, kit.ProjectOnly, "List a user's access tokens", "", "GET /v3/users/{user_id}/OS-OAUTH1/access_tokens"},
	{"list_access_token_roles", kit.Admin, kit.ProjectOnly, "List the roles of an access token", "", "GET /v3/users/{user_id}/OS-OAUTH1/access_tokens/{access_token_id}/roles"},
	{"delete_access_token", kit.Admin, kit.ProjectOnly, "Delete an access token", "", "DELETE /v3/users/{user_id}/OS-OAUTH1/access_tokens/{access_token_id}"},
}
