package identity

import (
	"strings"

	"github.com/nacre-cloud/nacre"
)

// What the default rules are made of; the wording is that of keystone's
// common/policies, so that an operator finds each again.
const (
	admin                          = "rule:admin_required"
	systemReader                   = "(role:reader and system_scope:all)"
	owner                          = "user_id:%(user_id)s"
	adminOrSystemReader            = admin + " or " + systemReader
	adminOrReaderOfDomain          = adminOrSystemReader + " or (role:reader and domain_id:%(target.domain_id)s)"
	adminOrReaderOfGroup           = adminOrSystemReader + " or (role:reader and domain_id:%(target.group.domain_id)s)"
	adminOrManagerOfGroup          = admin + " or (role:manager and domain_id:%(target.group.domain_id)s)"
	adminOrManagerOfMembers        = admin + " or (role:manager and domain_id:%(target.group.domain_id)s and domain_id:%(target.user.domain_id)s)"
	adminOrManagerOfUser           = admin + " or (role:manager and token.domain.id:%(target.user.domain_id)s)"
	ofProjectDomain                = "domain_id:%(target.project.domain_id)s and not None:%(target.project.domain_id)s"
	adminOrReaderOfProject         = adminOrSystemReader + " or (role:reader and " + ofProjectDomain + ") or project_id:%(target.project.id)s"
	adminOrProjectDomainManager    = admin + " or (role:manager and " + ofProjectDomain + ")"
	adminOrReaderOrOwner           = adminOrSystemReader + " or rule:owner"
	adminOrCredentialOwner         = admin + " or user_id:%(target.credential.user_id)s"
	adminOrReaderOrCredentialOwner = adminOrSystemReader + " or user_id:%(target.credential.user_id)s"

	// A grant is within the caller's domain when actor and target both are.
	inDomain = "(role:ROLE and domain_id:%(target.user.domain_id)s and domain_id:%(target.project.domain_id)s) or " +
		"(role:ROLE and domain_id:%(target.user.domain_id)s and domain_id:%(target.domain.id)s) or " +
		"(role:ROLE and domain_id:%(target.group.domain_id)s and domain_id:%(target.project.domain_id)s) or " +
		"(role:ROLE and domain_id:%(target.group.domain_id)s and domain_id:%(target.domain.id)s)"
	ofRole = "(domain_id:%(target.role.domain_id)s or None:%(target.role.domain_id)s)"
)

var (
	checkGrants  = admin + " or (" + systemReader + " or (" + within("reader") + ") and " + ofRole + ")"
	listGrants   = admin + " or (" + systemReader + " or " + within("reader") + ")"
	manageGrants = admin + " or (" + within("admin") + ") and " + ofRole + " or (" + within("manager") + ") and rule:domain_managed_target_role"

	anyScope        = []string{"system", "domain", "project"}
	systemOrProject = []string{"system", "project"}
	projectOnly     = []string{"project"}
)

func within(role string) string { return strings.ReplaceAll(inDomain, "ROLE", role) }

// Rules are the policy defaults of Keystone 2025.1 for what is built.
func Rules() []nacre.Rule {
	rules := []nacre.Rule{
		{Name: "admin_required", Check: "role:admin or is_admin:1", Description: "An administrator"},
		{Name: "service_role", Check: "role:service", Description: "Another service"},
		{Name: "service_or_admin", Check: "rule:admin_required or rule:service_role", Description: "An administrator or another service"},
		{Name: "owner", Check: owner, Description: "The user in question"},
		{Name: "admin_or_owner", Check: "rule:admin_required or rule:owner", Description: "An administrator or the user in question"},
		{Name: "token_subject", Check: "user_id:%(target.token.user_id)s", Description: "The user of the token in question"},
		{Name: "admin_or_token_subject", Check: "rule:admin_required or rule:token_subject", Description: "An administrator or the user of the token in question"},
		{Name: "service_admin_or_token_subject", Check: "rule:service_or_admin or rule:token_subject", Description: "A service, an administrator or the user of the token in question"},
		{Name: "domain_managed_target_role", Check: "'manager':%(target.role.name)s or 'member':%(target.role.name)s or 'reader':%(target.role.name)s", Description: "A role that a domain's manager may assign"},
	}
	for _, r := range defaults {
		rule := nacre.Rule{Name: "identity:" + r.name, Check: r.check, Scopes: r.scopes, Description: r.description, DeprecatedCheck: r.was}
		if r.was != "" {
			rule.DeprecatedName = rule.Name
		}
		if r.operations != "" {
			rule.Operations = strings.Split(r.operations, "\n")
		}
		rules = append(rules, rule)
	}
	return append(rules, partRules()...)
}

// defaults are the rules below "identity:".
var defaults = []struct {
	name, check string
	scopes      []string
	description string
	// was is the default before secure RBAC.
	was        string
	operations string
}{

	// auth
	{"get_auth_catalog", "", nil, "Show the catalog of the caller's token", "", "GET /v3/auth/catalog\nHEAD /v3/auth/catalog"},
	{"get_auth_projects", "", nil, "List the projects that the caller can get a token for", "", "GET /v3/auth/projects\nHEAD /v3/auth/projects"},
	{"get_auth_domains", "", nil, "List the domains that the caller can get a token for", "", "GET /v3/auth/domains\nHEAD /v3/auth/domains"},
	{"get_auth_system", "", nil, "Say whether the caller can get a token for the system", "", "GET /v3/auth/system\nHEAD /v3/auth/system"},

	// domain
	{"get_domain", "rule:admin_required or (role:reader and system_scope:all) or token.domain.id:%(target.domain.id)s or token.project.domain.id:%(target.domain.id)s", anyScope, "Show a domain", "rule:admin_required or token.project.domain.id:%(target.domain.id)s", "GET /v3/domains/{domain_id}"},
	{"list_domains", "rule:admin_required or (role:reader and system_scope:all) or (role:reader and domain_id:%(target.domain.id)s)", anyScope, "List domains", admin, "GET /v3/domains"},
	{"create_domain", admin, systemOrProject, "Create a domain", "", "POST /v3/domains"},
	{"update_domain", admin, systemOrProject, "Change a domain", "", "PATCH /v3/domains/{domain_id}"},
	{"delete_domain", admin, systemOrProject, "Delete a domain", "", "DELETE /v3/domains/{domain_id}"},

	// endpoint
	{"get_endpoint", adminOrSystemReader, systemOrProject, "Show an endpoint", admin, "GET /v3/endpoints/{endpoint_id}"},
	{"list_endpoints", adminOrSystemReader, systemOrProject, "List endpoints", admin, "GET /v3/endpoints"},
	{"create_endpoint", admin, systemOrProject, "Create an endpoint", "", "POST /v3/endpoints"},
	{"update_endpoint", admin, systemOrProject, "Change an endpoint", "", "PATCH /v3/endpoints/{endpoint_id}"},
	{"delete_endpoint", admin, systemOrProject, "Delete an endpoint", "", "DELETE /v3/endpoints/{endpoint_id}"},

	// grant
	{"check_grant", checkGrants, anyScope, "Say whether a role is assigned", admin, "HEAD /v3/projects/{project_id}/users/{user_id}/roles/{role_id}\nGET /v3/projects/{project_id}/users/{user_id}/roles/{role_id}\nHEAD /v3/projects/{project_id}/groups/{group_id}/roles/{role_id}\nGET /v3/projects/{project_id}/groups/{group_id}/roles/{role_id}\nHEAD /v3/domains/{domain_id}/users/{user_id}/roles/{role_id}\nGET /v3/domains/{domain_id}/users/{user_id}/roles/{role_id}\nHEAD /v3/domains/{domain_id}/groups/{group_id}/roles/{role_id}\nGET /v3/domains/{domain_id}/groups/{group_id}/roles/{role_id}\nHEAD /v3/OS-INHERIT/projects/{project_id}/users/{user_id}/roles/{role_id}/inherited_to_projects\nGET /v3/OS-INHERIT/projects/{project_id}/users/{user_id}/roles/{role_id}/inherited_to_projects\nHEAD /v3/OS-INHERIT/projects/{project_id}/groups/{group_id}/roles/{role_id}/inherited_to_projects\nGET /v3/OS-INHERIT/projects/{project_id}/groups/{group_id}/roles/{role_id}/inherited_to_projects\nHEAD /v3/OS-INHERIT/domains/{domain_id}/users/{user_id}/roles/{role_id}/inherited_to_projects\nGET /v3/OS-INHERIT/domains/{domain_id}/users/{user_id}/roles/{role_id}/inherited_to_projects\nHEAD /v3/OS-INHERIT/domains/{domain_id}/groups/{group_id}/roles/{role_id}/inherited_to_projects\nGET /v3/OS-INHERIT/domains/{domain_id}/groups/{group_id}/roles/{role_id}/inherited_to_projects"},
	{"list_grants", listGrants, anyScope, "List the roles that a user or group has on a project or domain", admin, "GET /v3/projects/{project_id}/users/{user_id}/roles\nHEAD /v3/projects/{project_id}/users/{user_id}/roles\nGET /v3/projects/{project_id}/groups/{group_id}/roles\nHEAD /v3/projects/{project_id}/groups/{group_id}/roles\nGET /v3/domains/{domain_id}/users/{user_id}/roles\nHEAD /v3/domains/{domain_id}/users/{user_id}/roles\nGET /v3/domains/{domain_id}/groups/{group_id}/roles\nHEAD /v3/domains/{domain_id}/groups/{group_id}/roles\nGET /v3/OS-INHERIT/domains/{domain_id}/groups/{group_id}/roles/inherited_to_projects\nGET /v3/OS-INHERIT/domains/{domain_id}/users/{user_id}/roles/inherited_to_projects"},
	{"create_grant", manageGrants, anyScope, "Assign a role on a project or domain", admin, "PUT /v3/projects/{project_id}/users/{user_id}/roles/{role_id}\nPUT /v3/projects/{project_id}/groups/{group_id}/roles/{role_id}\nPUT /v3/domains/{domain_id}/users/{user_id}/roles/{role_id}\nPUT /v3/domains/{domain_id}/groups/{group_id}/roles/{role_id}\nPUT /v3/OS-INHERIT/projects/{project_id}/users/{user_id}/roles/{role_id}/inherited_to_projects\nPUT /v3/OS-INHERIT/projects/{project_id}/groups/{group_id}/roles/{role_id}/inherited_to_projects\nPUT /v3/OS-INHERIT/domains/{domain_id}/users/{user_id}/roles/{role_id}/inherited_to_projects\nPUT /v3/OS-INHERIT/domains/{domain_id}/groups/{group_id}/roles/{role_id}/inherited_to_projects"},
	{"revoke_grant", manageGrants, anyScope, "Take a role on a project or domain away", admin, "DELETE /v3/projects/{project_id}/users/{user_id}/roles/{role_id}\nDELETE /v3/projects/{project_id}/groups/{group_id}/roles/{role_id}\nDELETE /v3/domains/{domain_id}/users/{user_id}/roles/{role_id}\nDELETE /v3/domains/{domain_id}/groups/{group_id}/roles/{role_id}\nDELETE /v3/OS-INHERIT/projects/{project_id}/users/{user_id}/roles/{role_id}/inherited_to_projects\nDELETE /v3/OS-INHERIT/projects/{project_id}/groups/{group_id}/roles/{role_id}/inherited_to_projects\nDELETE /v3/OS-INHERIT/domains/{domain_id}/users/{user_id}/roles/{role_id}/inherited_to_projects\nDELETE /v3/OS-INHERIT/domains/{domain_id}/groups/{group_id}/roles/{role_id}/inherited_to_projects"},
	{"list_system_grants_for_user", adminOrSystemReader, systemOrProject, "List system grants for user", admin, "HEAD /v3/system/users/{user_id}/roles\nGET /v3/system/users/{user_id}/roles"},
	{"check_system_grant_for_user", adminOrSystemReader, systemOrProject, "Look for a system grant for user", admin, "HEAD /v3/system/users/{user_id}/roles/{role_id}\nGET /v3/system/users/{user_id}/roles/{role_id}"},
	{"create_system_grant_for_user", admin, systemOrProject, "Create a system grant for user", "", "PUT /v3/system/users/{user_id}/roles/{role_id}"},
	{"revoke_system_grant_for_user", admin, systemOrProject, "Take away a system grant for user", "", "DELETE /v3/system/users/{user_id}/roles/{role_id}"},
	{"list_system_grants_for_group", adminOrSystemReader, systemOrProject, "List system grants for group", admin, "HEAD /v3/system/groups/{group_id}/roles\nGET /v3/system/groups/{group_id}/roles"},
	{"check_system_grant_for_group", adminOrSystemReader, systemOrProject, "Look for a system grant for group", admin, "HEAD /v3/system/groups/{group_id}/roles/{role_id}\nGET /v3/system/groups/{group_id}/roles/{role_id}"},
	{"create_system_grant_for_group", admin, systemOrProject, "Create a system grant for group", "", "PUT /v3/system/groups/{group_id}/roles/{role_id}"},
	{"revoke_system_grant_for_group", admin, systemOrProject, "Take away a system grant for group", "", "DELETE /v3/system/groups/{group_id}/roles/{role_id}"},

	// group
	{"get_group", adminOrReaderOfGroup, anyScope, "Show a group", admin, "GET /v3/groups/{group_id}\nHEAD /v3/groups/{group_id}"},
	{"list_groups", adminOrReaderOfGroup, anyScope, "List groups", admin, "GET /v3/groups\nHEAD /v3/groups"},
	{"list_groups_for_user", "(rule:admin_required) or (role:reader and system_scope:all) or (role:reader and domain_id:%(target.user.domain_id)s) or user_id:%(user_id)s", anyScope, "List groups for user", "rule:admin_or_owner", "GET /v3/users/{user_id}/groups\nHEAD /v3/users/{user_id}/groups"},
	{"create_group", adminOrManagerOfGroup, anyScope, "Create a group", admin, "POST /v3/groups"},
	{"update_group", adminOrManagerOfGroup, anyScope, "Change a group", admin, "PATCH /v3/groups/{group_id}"},
	{"delete_group", adminOrManagerOfGroup, anyScope, "Delete a group", admin, "DELETE /v3/groups/{group_id}"},
	{"list_users_in_group", adminOrReaderOfGroup, anyScope, "List users in group", admin, "GET /v3/groups/{group_id}/users\nHEAD /v3/groups/{group_id}/users"},
	{"remove_user_from_group", adminOrManagerOfMembers, anyScope, "Remove a user from group", admin, "DELETE /v3/groups/{group_id}/users/{user_id}"},
	{"check_user_in_group", "(rule:admin_required) or (role:reader and system_scope:all) or (role:reader and domain_id:%(target.group.domain_id)s and domain_id:%(target.user.domain_id)s)", anyScope, "Say whether a user is in a group", admin, "HEAD /v3/groups/{group_id}/users/{user_id}\nGET /v3/groups/{group_id}/users/{user_id}"},
	{"add_user_to_group", adminOrManagerOfMembers, anyScope, "Add a user to group", admin, "PUT /v3/groups/{group_id}/users/{user_id}"},

	// implied_role
	{"get_implied_role", adminOrSystemReader, systemOrProject, "Show an implied role", admin, "GET /v3/roles/{prior_role_id}/implies/{implied_role_id}"},
	{"list_implied_roles", adminOrSystemReader, systemOrProject, "List implied roles", admin, "GET /v3/roles/{prior_role_id}/implies\nHEAD /v3/roles/{prior_role_id}/implies"},
	{"create_implied_role", admin, systemOrProject, "Create an implied role", "", "PUT /v3/roles/{prior_role_id}/implies/{implied_role_id}"},
	{"delete_implied_role", admin, systemOrProject, "Delete an implied role", "", "DELETE /v3/roles/{prior_role_id}/implies/{implied_role_id}"},
	{"list_role_inference_rules", adminOrSystemReader, systemOrProject, "List which role implies which", admin, "GET /v3/role_inferences\nHEAD /v3/role_inferences"},
	{"check_implied_role", adminOrSystemReader, systemOrProject, "Look for an implied role", admin, "HEAD /v3/roles/{prior_role_id}/implies/{implied_role_id}"},

	// project
	{"get_project", adminOrReaderOfProject, anyScope, "Show a project", "rule:admin_required or project_id:%(target.project.id)s", "GET /v3/projects/{project_id}"},
	{"list_projects", adminOrReaderOfDomain, anyScope, "List projects", admin, "GET /v3/projects"},
	{"list_user_projects", "(rule:admin_required) or (role:reader and system_scope:all) or (role:reader and domain_id:%(target.user.domain_id)s) or user_id:%(target.user.id)s", anyScope, "List user projects", "rule:admin_or_owner", "GET /v3/users/{user_id}/projects"},
	{"create_project", adminOrProjectDomainManager, anyScope, "Create a project", admin, "POST /v3/projects"},
	{"update_project", adminOrProjectDomainManager, anyScope, "Change a project", admin, "PATCH /v3/projects/{project_id}"},
	{"delete_project", adminOrProjectDomainManager, anyScope, "Delete a project", admin, "DELETE /v3/projects/{project_id}"},
	{"list_project_tags", adminOrReaderOfProject, anyScope, "List project tags", "rule:admin_required or project_id:%(target.project.id)s", "GET /v3/projects/{project_id}/tags\nHEAD /v3/projects/{project_id}/tags"},
	{"get_project_tag", adminOrReaderOfProject, anyScope, "Show a project tag", "rule:admin_required or project_id:%(target.project.id)s", "GET /v3/projects/{project_id}/tags/{value}\nHEAD /v3/projects/{project_id}/tags/{value}"},
	{"update_project_tags", adminOrProjectDomainManager, anyScope, "Change a project tags", admin, "PUT /v3/projects/{project_id}/tags"},
	{"create_project_tag", adminOrProjectDomainManager, anyScope, "Create a project tag", admin, "PUT /v3/projects/{project_id}/tags/{value}"},
	{"delete_project_tags", adminOrProjectDomainManager, anyScope, "Delete a project tags", admin, "DELETE /v3/projects/{project_id}/tags"},
	{"delete_project_tag", adminOrProjectDomainManager, anyScope, "Delete a project tag", admin, "DELETE /v3/projects/{project_id}/tags/{value}"},

	// project_endpoint
	{"list_projects_for_endpoint", adminOrSystemReader, systemOrProject, "List projects for endpoint", admin, "GET /v3/OS-EP-FILTER/endpoints/{endpoint_id}/projects"},
	{"add_endpoint_to_project", admin, systemOrProject, "Add an endpoint to project", "", "PUT /v3/OS-EP-FILTER/projects/{project_id}/endpoints/{endpoint_id}"},
	{"check_endpoint_in_project", adminOrSystemReader, systemOrProject, "Look for an endpoint in project", admin, "GET /v3/OS-EP-FILTER/projects/{project_id}/endpoints/{endpoint_id}\nHEAD /v3/OS-EP-FILTER/projects/{project_id}/endpoints/{endpoint_id}"},
	{"list_endpoints_for_project", adminOrSystemReader, systemOrProject, "List endpoints for project", admin, "GET /v3/OS-EP-FILTER/projects/{project_id}/endpoints"},
	{"remove_endpoint_from_project", admin, systemOrProject, "Remove an endpoint from project", "", "DELETE /v3/OS-EP-FILTER/projects/{project_id}/endpoints/{endpoint_id}"},

	// endpoint_group
	{"create_endpoint_group", admin, systemOrProject, "Create an endpoint group", "", "POST /v3/OS-EP-FILTER/endpoint_groups"},
	{"list_endpoint_groups", adminOrSystemReader, systemOrProject, "List endpoint groups", admin, "GET /v3/OS-EP-FILTER/endpoint_groups"},
	{"get_endpoint_group", adminOrSystemReader, systemOrProject, "Show an endpoint group", admin, "GET /v3/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}\nHEAD /v3/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}"},
	{"update_endpoint_group", admin, systemOrProject, "Change an endpoint group", "", "PATCH /v3/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}"},
	{"delete_endpoint_group", admin, systemOrProject, "Delete an endpoint group", "", "DELETE /v3/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}"},
	{"list_projects_associated_with_endpoint_group", adminOrSystemReader, systemOrProject, "List the projects that see an endpoint group", admin, "GET /v3/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}/projects"},
	{"list_endpoints_associated_with_endpoint_group", adminOrSystemReader, systemOrProject, "List the endpoints of an endpoint group", admin, "GET /v3/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}/endpoints"},
	{"get_endpoint_group_in_project", adminOrSystemReader, systemOrProject, "Say whether a project sees an endpoint group", admin, "GET /v3/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}/projects/{project_id}\nHEAD /v3/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}/projects/{project_id}"},
	{"list_endpoint_groups_for_project", adminOrSystemReader, systemOrProject, "List the endpoint groups that a project sees", admin, "GET /v3/OS-EP-FILTER/projects/{project_id}/endpoint_groups"},
	{"add_endpoint_group_to_project", admin, systemOrProject, "Let a project see an endpoint group", "", "PUT /v3/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}/projects/{project_id}"},
	{"remove_endpoint_group_from_project", admin, systemOrProject, "No longer let a project see an endpoint group", "", "DELETE /v3/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}/projects/{project_id}"},

	// policy_association
	{"create_policy_association_for_endpoint", admin, systemOrProject, "Associate a policy with an endpoint", "", "PUT /v3/policies/{policy_id}/OS-ENDPOINT-POLICY/endpoints/{endpoint_id}"},
	{"check_policy_association_for_endpoint", adminOrSystemReader, systemOrProject, "Say whether a policy is associated with an endpoint", admin, "GET /v3/policies/{policy_id}/OS-ENDPOINT-POLICY/endpoints/{endpoint_id}\nHEAD /v3/policies/{policy_id}/OS-ENDPOINT-POLICY/endpoints/{endpoint_id}"},
	{"delete_policy_association_for_endpoint", admin, systemOrProject, "End the association of a policy with an endpoint", "", "DELETE /v3/policies/{policy_id}/OS-ENDPOINT-POLICY/endpoints/{endpoint_id}"},
	{"create_policy_association_for_service", admin, systemOrProject, "Associate a policy with a service", "", "PUT /v3/policies/{policy_id}/OS-ENDPOINT-POLICY/services/{service_id}"},
	{"check_policy_association_for_service", adminOrSystemReader, systemOrProject, "Say whether a policy is associated with a service", admin, "GET /v3/policies/{policy_id}/OS-ENDPOINT-POLICY/services/{service_id}\nHEAD /v3/policies/{policy_id}/OS-ENDPOINT-POLICY/services/{service_id}"},
	{"delete_policy_association_for_service", admin, systemOrProject, "End the association of a policy with a service", "", "DELETE /v3/policies/{policy_id}/OS-ENDPOINT-POLICY/services/{service_id}"},
	{"create_policy_association_for_region_and_service", admin, systemOrProject, "Associate a policy with a region and a service", "", "PUT /v3/policies/{policy_id}/OS-ENDPOINT-POLICY/services/{service_id}/regions/{region_id}"},
	{"check_policy_association_for_region_and_service", adminOrSystemReader, systemOrProject, "Say whether a policy is associated with a region and a service", admin, "GET /v3/policies/{policy_id}/OS-ENDPOINT-POLICY/services/{service_id}/regions/{region_id}\nHEAD /v3/policies/{policy_id}/OS-ENDPOINT-POLICY/services/{service_id}/regions/{region_id}"},
	{"delete_policy_association_for_region_and_service", admin, systemOrProject, "End the association of a policy with a region and a service", "", "DELETE /v3/policies/{policy_id}/OS-ENDPOINT-POLICY/services/{service_id}/regions/{region_id}"},
	{"get_policy_for_endpoint", adminOrSystemReader, systemOrProject, "Show the policy of an endpoint", admin, "GET /v3/endpoints/{endpoint_id}/OS-ENDPOINT-POLICY/policy\nHEAD /v3/endpoints/{endpoint_id}/OS-ENDPOINT-POLICY/policy"},
	{"list_endpoints_for_policy", adminOrSystemReader, systemOrProject, "List the endpoints of a policy", admin, "GET /v3/policies/{policy_id}/OS-ENDPOINT-POLICY/endpoints"},

	// revoke_event
	{"list_revoke_events", "rule:service_or_admin", systemOrProject, "List the revocation events", "", "GET /v3/OS-REVOKE/events"},

	// region
	{"get_region", "", anyScope, "Show a region", "", "GET /v3/regions/{region_id}\nHEAD /v3/regions/{region_id}"},
	{"list_regions", "", anyScope, "List regions", "", "GET /v3/regions\nHEAD /v3/regions"},
	{"create_region", admin, systemOrProject, "Create a region", "", "POST /v3/regions\nPUT /v3/regions/{region_id}"},
	{"update_region", admin, systemOrProject, "Change a region", "", "PATCH /v3/regions/{region_id}"},
	{"delete_region", admin, systemOrProject, "Delete a region", "", "DELETE /v3/regions/{region_id}"},

	// role
	{"get_role", "(rule:admin_required or (role:reader and system_scope:all)) or (role:manager and rule:domain_managed_target_role)", anyScope, "Show a role", admin, "GET /v3/roles/{role_id}\nHEAD /v3/roles/{role_id}"},
	{"list_roles", "(rule:admin_required or (role:reader and system_scope:all)) or (role:manager and not domain_id:None)", anyScope, "List roles", admin, "GET /v3/roles\nHEAD /v3/roles"},
	{"create_role", admin, systemOrProject, "Create a role", "", "POST /v3/roles"},
	{"update_role", admin, systemOrProject, "Change a role", "", "PATCH /v3/roles/{role_id}"},
	{"delete_role", admin, systemOrProject, "Delete a role", "", "DELETE /v3/roles/{role_id}"},
	{"get_domain_role", adminOrSystemReader, systemOrProject, "Show a domain role", admin, "GET /v3/roles/{role_id}\nHEAD /v3/roles/{role_id}"},
	{"list_domain_roles", adminOrSystemReader, systemOrProject, "List domain roles", admin, "GET /v3/roles?domain_id={domain_id}\nHEAD /v3/roles?domain_id={domain_id}"},
	{"create_domain_role", admin, systemOrProject, "Create a domain role", "", "POST /v3/roles"},
	{"update_domain_role", admin, systemOrProject, "Change a domain role", "", "PATCH /v3/roles/{role_id}"},
	{"delete_domain_role", admin, systemOrProject, "Delete a domain role", "", "DELETE /v3/roles/{role_id}"},

	// role_assignment
	{"list_role_assignments", adminOrReaderOfDomain, anyScope, "List role assignments", admin, "GET /v3/role_assignments\nHEAD /v3/role_assignments"},
	{"list_role_assignments_for_tree", adminOrReaderOfDomain, anyScope, "List role assignments on a project and those below it", admin, "GET /v3/role_assignments?include_subtree\nHEAD /v3/role_assignments?include_subtree"},

	// service
	{"get_service", adminOrSystemReader, systemOrProject, "Show a service", admin, "GET /v3/services/{service_id}"},
	{"list_services", adminOrSystemReader, systemOrProject, "List services", admin, "GET /v3/services"},
	{"create_service", admin, systemOrProject, "Create a service", "", "POST /v3/services"},
	{"update_service", admin, systemOrProject, "Change a service", "", "PATCH /v3/services/{service_id}"},
	{"delete_service", admin, systemOrProject, "Delete a service", "", "DELETE /v3/services/{service_id}"},

	// token
	{"check_token", "rule:admin_required or (role:reader and system_scope:all) or rule:token_subject", anyScope, "Say whether a token is good", "rule:admin_or_token_subject", "HEAD /v3/auth/tokens"},
	{"validate_token", "rule:admin_required or (role:reader and system_scope:all) or rule:service_role or rule:token_subject", anyScope, "Show what a token stands for", "rule:service_admin_or_token_subject", "GET /v3/auth/tokens"},
	{"revoke_token", "rule:admin_required or rule:token_subject", anyScope, "End a token", "rule:admin_or_token_subject", "DELETE /v3/auth/tokens"},

	// user
	{"get_user", "(rule:admin_required) or (role:reader and system_scope:all) or (role:reader and token.domain.id:%(target.user.domain_id)s) or user_id:%(target.user.id)s", anyScope, "Show a user", "rule:admin_or_owner", "GET /v3/users/{user_id}\nHEAD /v3/users/{user_id}"},
	{"list_users", adminOrReaderOfDomain, anyScope, "List users", admin, "GET /v3/users\nHEAD /v3/users"},
	{"list_projects_for_user", "", nil, "List the projects that a user has a role on", "", "GET /v3/auth/projects"},
	{"list_domains_for_user", "", nil, "List the domains that a user has a role on", "", "GET /v3/auth/domains"},
	{"create_user", adminOrManagerOfUser, anyScope, "Create a user", admin, "POST /v3/users"},
	{"update_user", adminOrManagerOfUser, anyScope, "Change a user", admin, "PATCH /v3/users/{user_id}"},
	{"delete_user", adminOrManagerOfUser, anyScope, "Delete a user", admin, "DELETE /v3/users/{user_id}"},

	// application_credential
	{"get_application_credential", adminOrReaderOrOwner, systemOrProject, "Show an application credential", "rule:admin_or_owner", "GET /v3/users/{user_id}/application_credentials/{application_credential_id}\nHEAD /v3/users/{user_id}/application_credentials/{application_credential_id}"},
	{"list_application_credentials", adminOrReaderOrOwner, systemOrProject, "List application credentials", "rule:admin_or_owner", "GET /v3/users/{user_id}/application_credentials\nHEAD /v3/users/{user_id}/application_credentials"},
	{"create_application_credential", owner, projectOnly, "Create an application credential", "", "POST /v3/users/{user_id}/application_credentials"},
	{"delete_application_credential", "rule:admin_or_owner", systemOrProject, "Delete an application credential", "", "DELETE /v3/users/{user_id}/application_credentials/{application_credential_id}"},

	// access_rule
	{"get_access_rule", "(role:reader and system_scope:all) or user_id:%(target.user.id)s", systemOrProject, "Show an access rule", "", "GET /v3/users/{user_id}/access_rules/{access_rule_id}\nHEAD /v3/users/{user_id}/access_rules/{access_rule_id}"},
	{"list_access_rules", "(role:reader and system_scope:all) or user_id:%(target.user.id)s", systemOrProject, "List access rules", "", "GET /v3/users/{user_id}/access_rules\nHEAD /v3/users/{user_id}/access_rules"},
	{"delete_access_rule", "(role:admin and system_scope:all) or user_id:%(target.user.id)s", systemOrProject, "Delete an access rule", "", "DELETE /v3/users/{user_id}/access_rules/{access_rule_id}"},

	// credential
	{"get_credential", adminOrReaderOrCredentialOwner, anyScope, "Show a credential", admin, "GET /v3/credentials/{credential_id}"},
	{"list_credentials", adminOrReaderOrCredentialOwner, anyScope, "List credentials", admin, "GET /v3/credentials"},
	{"create_credential", adminOrCredentialOwner, anyScope, "Create a credential", admin, "POST /v3/credentials"},
	{"update_credential", adminOrCredentialOwner, anyScope, "Change a credential", admin, "PATCH /v3/credentials/{credential_id}"},
	{"delete_credential", adminOrCredentialOwner, anyScope, "Delete a credential", admin, "DELETE /v3/credentials/{credential_id}"},

	// ec2_credential
	{"ec2_get_credential", adminOrReaderOrCredentialOwner, systemOrProject, "Show an EC2 credential", "rule:admin_required or (rule:owner and user_id:%(target.credential.user_id)s)", "GET /v3/users/{user_id}/credentials/OS-EC2/{credential_id}"},
	{"ec2_list_credentials", adminOrReaderOrOwner, systemOrProject, "List EC2 credentials", "rule:admin_or_owner", "GET /v3/users/{user_id}/credentials/OS-EC2"},
	{"ec2_create_credential", "(rule:admin_required) or (role:member and user_id:%(target.credential.user_id)s)", systemOrProject, "Create an EC2 credential", "rule:admin_or_owner", "POST /v3/users/{user_id}/credentials/OS-EC2"},
	{"ec2_delete_credential", "(rule:admin_required) or (role:member and user_id:%(target.credential.user_id)s)", systemOrProject, "Delete an EC2 credential", "rule:admin_required or (rule:owner and user_id:%(target.credential.user_id)s)", "DELETE /v3/users/{user_id}/credentials/OS-EC2/{credential_id}"},

	// limit
	{"get_limit_model", "", anyScope, "Show a limit model", "", "GET /v3/limits/model\nHEAD /v3/limits/model"},
	{"get_limit", "rule:admin_required or (role:reader and system_scope:all) or (domain_id:%(target.limit.domain.id)s or domain_id:%(target.limit.project.domain_id)s) or (project_id:%(target.limit.project_id)s and not None:%(target.limit.project_id)s)", anyScope, "Show a limit", "", "GET /v3/limits/{limit_id}\nHEAD /v3/limits/{limit_id}"},
	{"list_limits", "", anyScope, "List limits", "", "GET /v3/limits\nHEAD /v3/limits"},
	{"create_limits", admin, systemOrProject, "Create a limits", "", "POST /v3/limits"},
	{"update_limit", admin, systemOrProject, "Change a limit", "", "PATCH /v3/limits/{limit_id}"},
	{"delete_limit", admin, systemOrProject, "Delete a limit", "", "DELETE /v3/limits/{limit_id}"},

	// registered_limit
	{"get_registered_limit", "", anyScope, "Show a registered limit", "", "GET /v3/registered_limits/{registered_limit_id}\nHEAD /v3/registered_limits/{registered_limit_id}"},
	{"list_registered_limits", "", anyScope, "List registered limits", "", "GET /v3/registered_limits\nHEAD /v3/registered_limits"},
	{"create_registered_limits", admin, systemOrProject, "Create a registered limits", "", "POST /v3/registered_limits"},
	{"update_registered_limit", admin, systemOrProject, "Change a registered limit", "", "PATCH /v3/registered_limits/{registered_limit_id}"},
	{"delete_registered_limit", admin, systemOrProject, "Delete a registered limit", "", "DELETE /v3/registered_limits/{registered_limit_id}"},

	// policy
	{"get_policy", adminOrSystemReader, systemOrProject, "Show a policy", admin, "GET /v3/policies/{policy_id}"},
	{"list_policies", adminOrSystemReader, systemOrProject, "List policies", admin, "GET /v3/policies"},
	{"create_policy", admin, systemOrProject, "Create a policy", "", "POST /v3/policies"},
	{"update_policy", admin, systemOrProject, "Change a policy", "", "PATCH /v3/policies/{policy_id}"},
	{"delete_policy", admin, systemOrProject, "Delete a policy", "", "DELETE /v3/policies/{policy_id}"},

	// trust
	{"create_trust", "user_id:%(target.trust.trustor_user_id)s", projectOnly, "Create a trust", "", "POST /v3/OS-TRUST/trusts"},
	{"list_trusts", adminOrSystemReader, systemOrProject, "List trusts", admin, "GET /v3/OS-TRUST/trusts\nHEAD /v3/OS-TRUST/trusts"},
	{"list_trusts_for_trustor", "(rule:admin_required) or (role:reader and system_scope:all or user_id:%(target.trust.trustor_user_id)s)", systemOrProject, "List trusts for trustor", "", "GET /v3/OS-TRUST/trusts?trustor_user_id={trustor_user_id}\nHEAD /v3/OS-TRUST/trusts?trustor_user_id={trustor_user_id}"},
	{"list_trusts_for_trustee", "(rule:admin_required) or (role:reader and system_scope:all or user_id:%(target.trust.trustee_user_id)s)", systemOrProject, "List trusts for trustee", "", "GET /v3/OS-TRUST/trusts?trustee_user_id={trustee_user_id}\nHEAD /v3/OS-TRUST/trusts?trustee_user_id={trustee_user_id}"},
	{"list_roles_for_trust", "(rule:admin_required) or (role:reader and system_scope:all or user_id:%(target.trust.trustor_user_id)s or user_id:%(target.trust.trustee_user_id)s)", systemOrProject, "List roles for trust", "user_id:%(target.trust.trustor_user_id)s or user_id:%(target.trust.trustee_user_id)s", "GET /v3/OS-TRUST/trusts/{trust_id}/roles\nHEAD /v3/OS-TRUST/trusts/{trust_id}/roles"},
	{"get_role_for_trust", "(rule:admin_required) or (role:reader and system_scope:all or user_id:%(target.trust.trustor_user_id)s or user_id:%(target.trust.trustee_user_id)s)", systemOrProject, "Show a role for trust", "user_id:%(target.trust.trustor_user_id)s or user_id:%(target.trust.trustee_user_id)s", "GET /v3/OS-TRUST/trusts/{trust_id}/roles/{role_id}\nHEAD /v3/OS-TRUST/trusts/{trust_id}/roles/{role_id}"},
	{"delete_trust", "rule:admin_required or user_id:%(target.trust.trustor_user_id)s", systemOrProject, "Delete a trust", "user_id:%(target.trust.trustor_user_id)s", "DELETE /v3/OS-TRUST/trusts/{trust_id}"},
	{"get_trust", "(rule:admin_required) or (role:reader and system_scope:all or user_id:%(target.trust.trustor_user_id)s or user_id:%(target.trust.trustee_user_id)s)", systemOrProject, "Show a trust", "user_id:%(target.trust.trustor_user_id)s or user_id:%(target.trust.trustee_user_id)s", "GET /v3/OS-TRUST/trusts/{trust_id}\nHEAD /v3/OS-TRUST/trusts/{trust_id}"},

	// s3tokens
	{"ec2tokens_validate", "rule:service_or_admin", anyScope, "Check the signature of an EC2 request, for a token", "", "POST /v3/ec2tokens"},
	{"s3tokens_validate", "rule:service_or_admin", anyScope, "Check the signature of an S3 request", "", "POST /v3/s3tokens"},
}
