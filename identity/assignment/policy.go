package assignment

import (
	"strings"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/kit"
)

const (
	// A grant is within the caller's domain when actor and target both are.
	inDomain = "(role:ROLE and domain_id:%(target.user.domain_id)s and domain_id:%(target.project.domain_id)s) or " +
		"(role:ROLE and domain_id:%(target.user.domain_id)s and domain_id:%(target.domain.id)s) or " +
		"(role:ROLE and domain_id:%(target.group.domain_id)s and domain_id:%(target.project.domain_id)s) or " +
		"(role:ROLE and domain_id:%(target.group.domain_id)s and domain_id:%(target.domain.id)s)"
	ofRole = "(domain_id:%(target.role.domain_id)s or None:%(target.role.domain_id)s)"
)

var (
	checkGrants  = kit.Admin + " or (" + kit.SystemReader + " or (" + within("reader") + ") and " + ofRole + ")"
	listGrants   = kit.Admin + " or (" + kit.SystemReader + " or " + within("reader") + ")"
	manageGrants = kit.Admin + " or (" + within("admin") + ") and " + ofRole + " or (" + within("manager") + ") and rule:domain_managed_target_role"
)

func within(role string) string { return strings.ReplaceAll(inDomain, "ROLE", role) }

// Rules are the policy defaults of Keystone 2025.1 for roles and their assignments; they build on
// its rules admin_required, owner and service_or_admin.
func Rules() []nacre.Rule { return kit.Rules(defaults) }

// defaults are the rules below "identity:".
var defaults = kit.Defaults{
	// grant
	{"check_grant", checkGrants, kit.AnyScope, "Say whether a role is assigned", kit.Admin, "HEAD /v3/projects/{project_id}/users/{user_id}/roles/{role_id}\nGET /v3/projects/{project_id}/users/{user_id}/roles/{role_id}\nHEAD /v3/projects/{project_id}/groups/{group_id}/roles/{role_id}\nGET /v3/projects/{project_id}/groups/{group_id}/roles/{role_id}\nHEAD /v3/domains/{domain_id}/users/{user_id}/roles/{role_id}\nGET /v3/domains/{domain_id}/users/{user_id}/roles/{role_id}\nHEAD /v3/domains/{domain_id}/groups/{group_id}/roles/{role_id}\nGET /v3/domains/{domain_id}/groups/{group_id}/roles/{role_id}\nHEAD /v3/OS-INHERIT/projects/{project_id}/users/{user_id}/roles/{role_id}/inherited_to_projects\nGET /v3/OS-INHERIT/projects/{project_id}/users/{user_id}/roles/{role_id}/inherited_to_projects\nHEAD /v3/OS-INHERIT/projects/{project_id}/groups/{group_id}/roles/{role_id}/inherited_to_projects\nGET /v3/OS-INHERIT/projects/{project_id}/groups/{group_id}/roles/{role_id}/inherited_to_projects\nHEAD /v3/OS-INHERIT/domains/{domain_id}/users/{user_id}/roles/{role_id}/inherited_to_projects\nGET /v3/OS-INHERIT/domains/{domain_id}/users/{user_id}/roles/{role_id}/inherited_to_projects\nHEAD /v3/OS-INHERIT/domains/{domain_id}/groups/{group_id}/roles/{role_id}/inherited_to_projects\nGET /v3/OS-INHERIT/domains/{domain_id}/groups/{group_id}/roles/{role_id}/inherited_to_projects"},
	{"list_grants", listGrants, kit.AnyScope, "List the roles that a user or group has on a project or domain", kit.Admin, "GET /v3/projects/{project_id}/users/{user_id}/roles\nHEAD /v3/projects/{project_id}/users/{user_id}/roles\nGET /v3/projects/{project_id}/groups/{group_id}/roles\nHEAD /v3/projects/{project_id}/groups/{group_id}/roles\nGET /v3/domains/{domain_id}/users/{user_id}/roles\nHEAD /v3/domains/{domain_id}/users/{user_id}/roles\nGET /v3/domains/{domain_id}/groups/{group_id}/roles\nHEAD /v3/domains/{domain_id}/groups/{group_id}/roles\nGET /v3/OS-INHERIT/domains/{domain_id}/groups/{group_id}/roles/inherited_to_projects\nGET /v3/OS-INHERIT/domains/{domain_id}/users/{user_id}/roles/inherited_to_projects"},
	{"create_grant", manageGrants, kit.AnyScope, "Assign a role on a project or domain", kit.Admin, "PUT /v3/projects/{project_id}/users/{user_id}/roles/{role_id}\nPUT /v3/projects/{project_id}/groups/{group_id}/roles/{role_id}\nPUT /v3/domains/{domain_id}/users/{user_id}/roles/{role_id}\nPUT /v3/domains/{domain_id}/groups/{group_id}/roles/{role_id}\nPUT /v3/OS-INHERIT/projects/{project_id}/users/{user_id}/roles/{role_id}/inherited_to_projects\nPUT /v3/OS-INHERIT/projects/{project_id}/groups/{group_id}/roles/{role_id}/inherited_to_projects\nPUT /v3/OS-INHERIT/domains/{domain_id}/users/{user_id}/roles/{role_id}/inherited_to_projects\nPUT /v3/OS-INHERIT/domains/{domain_id}/groups/{group_id}/roles/{role_id}/inherited_to_projects"},
	{"revoke_grant", manageGrants, kit.AnyScope, "Take a role on a project or domain away", kit.Admin, "DELETE /v3/projects/{project_id}/users/{user_id}/roles/{role_id}\nDELETE /v3/projects/{project_id}/groups/{group_id}/roles/{role_id}\nDELETE /v3/domains/{domain_id}/users/{user_id}/roles/{role_id}\nDELETE /v3/domains/{domain_id}/groups/{group_id}/roles/{role_id}\nDELETE /v3/OS-INHERIT/projects/{project_id}/users/{user_id}/roles/{role_id}/inherited_to_projects\nDELETE /v3/OS-INHERIT/projects/{project_id}/groups/{group_id}/roles/{role_id}/inherited_to_projects\nDELETE /v3/OS-INHERIT/domains/{domain_id}/users/{user_id}/roles/{role_id}/inherited_to_projects\nDELETE /v3/OS-INHERIT/domains/{domain_id}/groups/{group_id}/roles/{role_id}/inherited_to_projects"},
	{"list_system_grants_for_user", kit.AdminOrSystemReader, kit.SystemOrProject, "List system grants for user", kit.Admin, "HEAD /v3/system/users/{user_id}/roles\nGET /v3/system/users/{user_id}/roles"},
	{"check_system_grant_for_user", kit.AdminOrSystemReader, kit.SystemOrProject, "Look for a system grant for user", kit.Admin, "HEAD /v3/system/users/{user_id}/roles/{role_id}\nGET /v3/system/users/{user_id}/roles/{role_id}"},
	{"create_system_grant_for_user", kit.Admin, kit.SystemOrProject, "Create a system grant for user", "", "PUT /v3/system/users/{user_id}/roles/{role_id}"},
	{"revoke_system_grant_for_user", kit.Admin, kit.SystemOrProject, "Take away a system grant for user", "", "DELETE /v3/system/users/{user_id}/roles/{role_id}"},
	{"list_system_grants_for_group", kit.AdminOrSystemReader, kit.SystemOrProject, "List system grants for group", kit.Admin, "HEAD /v3/system/groups/{group_id}/roles\nGET /v3/system/groups/{group_id}/roles"},
	{"check_system_grant_for_group", kit.AdminOrSystemReader, kit.SystemOrProject, "Look for a system grant for group", kit.Admin, "HEAD /v3/system/groups/{group_id}/roles/{role_id}\nGET /v3/system/groups/{group_id}/roles/{role_id}"},
	{"create_system_grant_for_group", kit.Admin, kit.SystemOrProject, "Create a system grant for group", "", "PUT /v3/system/groups/{group_id}/roles/{role_id}"},
	{"revoke_system_grant_for_group", kit.Admin, kit.SystemOrProject, "Take away a system grant for group", "", "DELETE /v3/system/groups/{group_id}/roles/{role_id}"},

	// implied_role
	{"get_implied_role", kit.AdminOrSystemReader, kit.SystemOrProject, "Show an implied role", kit.Admin, "GET /v3/roles/{prior_role_id}/implies/{implied_role_id}"},
	{"list_implied_roles", kit.AdminOrSystemReader, kit.SystemOrProject, "List implied roles", kit.Admin, "GET /v3/roles/{prior_role_id}/implies\nHEAD /v3/roles/{prior_role_id}/implies"},
	{"create_implied_role", kit.Admin, kit.SystemOrProject, "Create an implied role", "", "PUT /v3/roles/{prior_role_id}/implies/{implied_role_id}"},
	{"delete_implied_role", kit.Admin, kit.SystemOrProject, "Delete an implied role", "", "DELETE /v3/roles/{prior_role_id}/implies/{implied_role_id}"},
	{"list_role_inference_rules", kit.AdminOrSystemReader, kit.SystemOrProject, "List which role implies which", kit.Admin, "GET /v3/role_inferences\nHEAD /v3/role_inferences"},
	{"check_implied_role", kit.AdminOrSystemReader, kit.SystemOrProject, "Look for an implied role", kit.Admin, "HEAD /v3/roles/{prior_role_id}/implies/{implied_role_id}"},

	// role
	{"get_role", "(rule:admin_required or (role:reader and system_scope:all)) or (role:manager and rule:domain_managed_target_role)", kit.AnyScope, "Show a role", kit.Admin, "GET /v3/roles/{role_id}\nHEAD /v3/roles/{role_id}"},
	{"list_roles", "(rule:admin_required or (role:reader and system_scope:all)) or (role:manager and not domain_id:None)", kit.AnyScope, "List roles", kit.Admin, "GET /v3/roles\nHEAD /v3/roles"},
	{"create_role", kit.Admin, kit.SystemOrProject, "Create a role", "", "POST /v3/roles"},
	{"update_role", kit.Admin, kit.SystemOrProject, "Change a role", "", "PATCH /v3/roles/{role_id}"},
	{"delete_role", kit.Admin, kit.SystemOrProject, "Delete a role", "", "DELETE /v3/roles/{role_id}"},
	{"get_domain_role", kit.AdminOrSystemReader, kit.SystemOrProject, "Show a domain role", kit.Admin, "GET /v3/roles/{role_id}\nHEAD /v3/roles/{role_id}"},
	{"list_domain_roles", kit.AdminOrSystemReader, kit.SystemOrProject, "List domain roles", kit.Admin, "GET /v3/roles?domain_id={domain_id}\nHEAD /v3/roles?domain_id={domain_id}"},
	{"create_domain_role", kit.Admin, kit.SystemOrProject, "Create a domain role", "", "POST /v3/roles"},
	{"update_domain_role", kit.Admin, kit.SystemOrProject, "Change a domain role", "", "PATCH /v3/roles/{role_id}"},
	{"delete_domain_role", kit.Admin, kit.SystemOrProject, "Delete a domain role", "", "DELETE /v3/roles/{role_id}"},

	// role_assignment
	{"list_role_assignments", kit.AdminOrReaderOfDomain, kit.AnyScope, "List role assignments", kit.Admin, "GET /v3/role_assignments\nHEAD /v3/role_assignments"},
	{"list_role_assignments_for_tree", kit.AdminOrReaderOfDomain, kit.AnyScope, "List role assignments on a project and those below it", kit.Admin, "GET /v3/role_assignments?include_subtree\nHEAD /v3/role_assignments?include_subtree"},
}
