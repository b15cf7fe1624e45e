package identity

import (
	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/kit"
)

// What the default rules are made of; the wording is that of keystone's
// common/policies, so that an operator finds each again.
const (
	admin                       = kit.Admin
	systemReader                = kit.SystemReader
	owner                       = kit.Owner
	adminOrSystemReader         = kit.AdminOrSystemReader
	adminOrReaderOfDomain       = kit.AdminOrReaderOfDomain
	adminOrReaderOfGroup        = adminOrSystemReader + " or (role:reader and domain_id:%(target.group.domain_id)s)"
	adminOrManagerOfGroup       = admin + " or (role:manager and domain_id:%(target.group.domain_id)s)"
	adminOrManagerOfMembers     = admin + " or (role:manager and domain_id:%(target.group.domain_id)s and domain_id:%(target.user.domain_id)s)"
	adminOrManagerOfUser        = admin + " or (role:manager and token.domain.id:%(target.user.domain_id)s)"
	ofProjectDomain             = "domain_id:%(target.project.domain_id)s and not None:%(target.project.domain_id)s"
	adminOrReaderOfProject      = adminOrSystemReader + " or (role:reader and " + ofProjectDomain + ") or project_id:%(target.project.id)s"
	adminOrProjectDomainManager = admin + " or (role:manager and " + ofProjectDomain + ")"
	adminOrReaderOrOwner        = kit.AdminOrReaderOrOwner
)

var (
	anyScope        = kit.AnyScope
	systemOrProject = kit.SystemOrProject
	projectOnly     = kit.ProjectOnly
)

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
	rules = append(rules, kit.Rules(defaults)...)
	return append(rules, partRules()...)
}

// defaults are the rules below "identity:".
var defaults = kit.Defaults{

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
