package limit

import (
	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/kit"
)

// Rules are the policy defaults of Keystone 2025.1 for limits; they build on
// its rules admin_required, owner and service_or_admin.
func Rules() []nacre.Rule { return kit.Rules(defaults) }

// defaults are the rules below "identity:".
var defaults = kit.Defaults{
	// limit
	{"get_limit_model", "", kit.AnyScope, "Show a limit model", "", "GET /v3/limits/model\nHEAD /v3/limits/model"},
	{"get_limit", "rule:admin_required or (role:reader and system_scope:all) or (domain_id:%(target.limit.domain.id)s or domain_id:%(target.limit.project.domain_id)s) or (project_id:%(target.limit.project_id)s and not None:%(target.limit.project_id)s)", kit.AnyScope, "Show a limit", "", "GET /v3/limits/{limit_id}\nHEAD /v3/limits/{limit_id}"},
	{"list_limits", "", kit.AnyScope, "List limits", "", "GET /v3/limits\nHEAD /v3/limits"},
	{"create_limits", kit.Admin, kit.SystemOrProject, "Create a limits", "", "POST /v3/limits"},
	{"update_limit", kit.Admin, kit.SystemOrProject, "Change a limit", "", "PATCH /v3/limits/{limit_id}"},
	{"delete_limit", kit.Admin, kit.SystemOrProject, "Delete a limit", "", "DELETE /v3/limits/{limit_id}"},

	// registered_limit
	{"get_registered_limit", "", kit.AnyScope, "Show a registered limit", "", "GET /v3/registered_limits/{registered_limit_id}\nHEAD /v3/registered_limits/{registered_limit_id}"},
	{"list_registered_limits", "", kit.AnyScope, "List registered limits", "", "GET /v3/registered_limits\nHEAD /v3/registered_limits"},
	{"create_registered_limits", kit.Admin, kit.SystemOrProject, "Create a registered limits", "", "POST /v3/registered_limits"},
	{"update_registered_limit", kit.Admin, kit.SystemOrProject, "Change a registered limit", "", "PATCH /v3/registered_limits/{registered_limit_id}"},
	{"delete_registered_limit", kit.Admin, kit.SystemOrProject, "Delete a registered limit", "", "DELETE /v3/registered_limits/{registered_limit_id}"},
}
