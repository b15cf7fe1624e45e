package appcred

import (
	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/kit"
)

// Rules are the policy defaults of Keystone 2025.1 for application credentials; they build on
// its rules admin_required, owner and service_or_admin.
func Rules() []nacre.Rule { return kit.Rules(defaults) }

// defaults are the rules below "identity:".
var defaults = kit.Defaults{
	// application_credential
	{"get_application_credential", kit.AdminOrReaderOrOwner, kit.SystemOrProject, "Show an application credential", "rule:admin_or_owner", "GET /v3/users/{user_id}/application_credentials/{application_credential_id}\nHEAD /v3/users/{user_id}/application_credentials/{application_credential_id}"},
	{"list_application_credentials", kit.AdminOrReaderOrOwner, kit.SystemOrProject, "List application credentials", "rule:admin_or_owner", "GET /v3/users/{user_id}/application_credentials\nHEAD /v3/users/{user_id}/application_credentials"},
	{"create_application_credential", kit.Owner, kit.ProjectOnly, "Create an application credential", "", "POST /v3/users/{user_id}/application_credentials"},
	{"delete_application_credential", "rule:admin_or_owner", kit.SystemOrProject, "Delete an application credential", "", "DELETE /v3/users/{user_id}/application_credentials/{application_credential_id}"},

	// access_rule
	{"get_access_rule", "(role:reader and system_scope:all) or user_id:%(target.user.id)s", kit.SystemOrProject, "Show an access rule", "", "GET /v3/users/{user_id}/access_rules/{access_rule_id}\nHEAD /v3/users/{user_id}/access_rules/{access_rule_id}"},
	{"list_access_rules", "(role:reader and system_scope:all) or user_id:%(target.user.id)s", kit.SystemOrProject, "List access rules", "", "GET /v3/users/{user_id}/access_rules\nHEAD /v3/users/{user_id}/access_rules"},
	{"delete_access_rule", "(role:admin and system_scope:all) or user_id:%(target.user.id)s", kit.SystemOrProject, "Delete an access rule", "", "DELETE /v3/users/{user_id}/access_rules/{access_rule_id}"},
}
