package catalog

import (
	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/kit"
)

// Rules are the policy defaults of Keystone 2025.1 for the catalog; they build on
// its rules admin_required, owner and service_or_admin.
func Rules() []nacre.Rule { return kit.Rules(defaults) }

// defaults are the rules below "identity:".
var defaults = kit.Defaults{
	// service
	{"get_service", kit.AdminOrSystemReader, kit.SystemOrProject, "Show a service", kit.Admin, "GET /v3/services/{service_id}"},
	{"list_services", kit.AdminOrSystemReader, kit.SystemOrProject, "List services", kit.Admin, "GET /v3/services"},
	{"create_service", kit.Admin, kit.SystemOrProject, "Create a service", "", "POST /v3/services"},
	{"update_service", kit.Admin, kit.SystemOrProject, "Change a service", "", "PATCH /v3/services/{service_id}"},
	{"delete_service", kit.Admin, kit.SystemOrProject, "Delete a service", "", "DELETE /v3/services/{service_id}"},

	// endpoint
	{"get_endpoint", kit.AdminOrSystemReader, kit.SystemOrProject, "Show an endpoint", kit.Admin, "GET /v3/endpoints/{endpoint_id}"},
	{"list_endpoints", kit.AdminOrSystemReader, kit.SystemOrProject, "List endpoints", kit.Admin, "GET /v3/endpoints"},
	{"create_endpoint", kit.Admin, kit.SystemOrProject, "Create an endpoint", "", "POST /v3/endpoints"},
	{"update_endpoint", kit.Admin, kit.SystemOrProject, "Change an endpoint", "", "PATCH /v3/endpoints/{endpoint_id}"},
	{"delete_endpoint", kit.Admin, kit.SystemOrProject, "Delete an endpoint", "", "DELETE /v3/endpoints/{endpoint_id}"},

	// region
	{"get_region", "", kit.AnyScope, "Show a region", "", "GET /v3/regions/{region_id}\nHEAD /v3/regions/{region_id}"},
	{"list_regions", "", kit.AnyScope, "List regions", "", "GET /v3/regions\nHEAD /v3/regions"},
	{"create_region", kit.Admin, kit.SystemOrProject, "Create a region", "", "POST /v3/regions\nPUT /v3/regions/{region_id}"},
	{"update_region", kit.Admin, kit.SystemOrProject, "Change a region", "", "PATCH /v3/regions/{region_id}"},
	{"delete_region", kit.Admin, kit.SystemOrProject, "Delete a region", "", "DELETE /v3/regions/{region_id}"},

	// project_endpoint
	{"list_projects_for_endpoint", kit.AdminOrSystemReader, kit.SystemOrProject, "List projects for endpoint", kit.Admin, "GET /v3/OS-EP-FILTER/endpoints/{endpoint_id}/projects"},
	{"add_endpoint_to_project", kit.Admin, kit.SystemOrProject, "Add an endpoint to project", "", "PUT /v3/OS-EP-FILTER/projects/{project_id}/endpoints/{endpoint_id}"},
	{"check_endpoint_in_project", kit.AdminOrSystemReader, kit.SystemOrProject, "Look for an endpoint in project", kit.Admin, "GET /v3/OS-EP-FILTER/projects/{project_id}/endpoints/{endpoint_id}\nHEAD /v3/OS-EP-FILTER/projects/{project_id}/endpoints/{endpoint_id}"},
	{"list_endpoints_for_project", kit.AdminOrSystemReader, kit.SystemOrProject, "List endpoints for project", kit.Admin, "GET /v3/OS-EP-FILTER/projects/{project_id}/endpoints"},
	{"remove_endpoint_from_project", kit.Admin, kit.SystemOrProject, "Remove an endpoint from project", "", "DELETE /v3/OS-EP-FILTER/projects/{project_id}/endpoints/{endpoint_id}"},

	// endpoint_group
	{"create_endpoint_group", kit.Admin, kit.SystemOrProject, "Create an endpoint group", "", "POST /v3/OS-EP-FILTER/endpoint_groups"},
	{"list_endpoint_groups", kit.AdminOrSystemReader, kit.SystemOrProject, "List endpoint groups", kit.Admin, "GET /v3/OS-EP-FILTER/endpoint_groups"},
	{"get_endpoint_group", kit.AdminOrSystemReader, kit.SystemOrProject, "Show an endpoint group", kit.Admin, "GET /v3/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}\nHEAD /v3/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}"},
	{"update_endpoint_group", kit.Admin, kit.SystemOrProject, "Change an endpoint group", "", "PATCH /v3/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}"},
	{"delete_endpoint_group", kit.Admin, kit.SystemOrProject, "Delete an endpoint group", "", "DELETE /v3/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}"},
	{"list_projects_associated_with_endpoint_group", kit.AdminOrSystemReader, kit.SystemOrProject, "List the projects that see an endpoint group", kit.Admin, "GET /v3/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}/projects"},
	{"list_endpoints_associated_with_endpoint_group", kit.AdminOrSystemReader, kit.SystemOrProject, "List the endpoints of an endpoint group", kit.Admin, "GET /v3/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}/endpoints"},
	{"get_endpoint_group_in_project", kit.AdminOrSystemReader, kit.SystemOrProject, "Say whether a project sees an endpoint group", kit.Admin, "GET /v3/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}/projects/{project_id}\nHEAD /v3/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}/projects/{project_id}"},
	{"list_endpoint_groups_for_project", kit.AdminOrSystemReader, kit.SystemOrProject, "List the endpoint groups that a project sees", kit.Admin, "GET /v3/OS-EP-FILTER/projects/{project_id}/endpoint_groups"},
	{"add_endpoint_group_to_project", kit.Admin, kit.SystemOrProject, "Let a project see an endpoint group", "", "PUT /v3/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}/projects/{project_id}"},
	{"remove_endpoint_group_from_project", kit.Admin, kit.SystemOrProject, "No longer let a project see an endpoint group", "", "DELETE /v3/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}/projects/{project_id}"},

	// policy
	{"get_policy", kit.AdminOrSystemReader, kit.SystemOrProject, "Show a policy", kit.Admin, "GET /v3/policies/{policy_id}"},
	{"list_policies", kit.AdminOrSystemReader, kit.SystemOrProject, "List policies", kit.Admin, "GET /v3/policies"},
	{"create_policy", kit.Admin, kit.SystemOrProject, "Create a policy", "", "POST /v3/policies"},
	{"update_policy", kit.Admin, kit.SystemOrProject, "Change a policy", "", "PATCH /v3/policies/{policy_id}"},
	{"delete_policy", kit.Admin, kit.SystemOrProject, "Delete a policy", "", "DELETE /v3/policies/{policy_id}"},

	// policy_association
	{"create_policy_association_for_endpoint", kit.Admin, kit.SystemOrProject, "Associate a policy with an endpoint", "", "PUT /v3/policies/{policy_id}/OS-ENDPOINT-POLICY/endpoints/{endpoint_id}"},
	{"check_policy_association_for_endpoint", kit.AdminOrSystemReader, kit.SystemOrProject, "Say whether a policy is associated with an endpoint", kit.Admin, "GET /v3/policies/{policy_id}/OS-ENDPOINT-POLICY/endpoints/{endpoint_id}\nHEAD /v3/policies/{policy_id}/OS-ENDPOINT-POLICY/endpoints/{endpoint_id}"},
	{"delete_policy_association_for_endpoint", kit.Admin, kit.SystemOrProject, "End the association of a policy with an endpoint", "", "DELETE /v3/policies/{policy_id}/OS-ENDPOINT-POLICY/endpoints/{endpoint_id}"},
	{"create_policy_association_for_service", kit.Admin, kit.SystemOrProject, "Associate a policy with a service", "", "PUT /v3/policies/{policy_id}/OS-ENDPOINT-POLICY/services/{service_id}"},
	{"check_policy_association_for_service", kit.AdminOrSystemReader, kit.SystemOrProject, "Say whether a policy is associated with a service", kit.Admin, "GET /v3/policies/{policy_id}/OS-ENDPOINT-POLICY/services/{service_id}\nHEAD /v3/policies/{policy_id}/OS-ENDPOINT-POLICY/services/{service_id}"},
	{"delete_policy_association_for_service", kit.Admin, kit.SystemOrProject, "End the association of a policy with a service", "", "DELETE /v3/policies/{policy_id}/OS-ENDPOINT-POLICY/services/{service_id}"},
	{"create_policy_association_for_region_and_service", kit.Admin, kit.SystemOrProject, "Associate a policy with a region and a service", "", "PUT /v3/policies/{policy_id}/OS-ENDPOINT-POLICY/services/{service_id}/regions/{region_id}"},
	{"check_policy_association_for_region_and_service", kit.AdminOrSystemReader, kit.SystemOrProject, "Say whether a policy is associated with a region and a service", kit.Admin, "GET /v3/policies/{policy_id}/OS-ENDPOINT-POLICY/services/{service_id}/regions/{region_id}\nHEAD /v3/policies/{policy_id}/OS-ENDPOINT-POLICY/services/{service_id}/regions/{region_id}"},
	{"delete_policy_association_for_region_and_service", kit.Admin, kit.SystemOrProject, "End the association of a policy with a region and a service", "", "DELETE /v3/policies/{policy_id}/OS-ENDPOINT-POLICY/services/{service_id}/regions/{region_id}"},
	{"get_policy_for_endpoint", kit.AdminOrSystemReader, kit.SystemOrProject, "Show the policy of an endpoint", kit.Admin, "GET /v3/endpoints/{endpoint_id}/OS-ENDPOINT-POLICY/policy\nHEAD /v3/endpoints/{endpoint_id}/OS-ENDPOINT-POLICY/policy"},
	{"list_endpoints_for_policy", kit.AdminOrSystemReader, kit.SystemOrProject, "List the endpoints of a policy", kit.Admin, "GET /v3/policies/{policy_id}/OS-ENDPOINT-POLICY/endpoints"},
}
