package federation

import (
	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/kit"
)

// Rules are the policy defaults of Keystone 2025.1 for federation; they build on
// its rule admin_required.
func Rules() []nacre.Rule { return kit.Rules(defaults) }

// defaults are the rules below "identity:".
var defaults = kit.Defaults{
	{"create_identity_provider", kit.Admin, kit.SystemOrProject, "Create an identity provider", kit.Admin, "PUT /v3/OS-FEDERATION/identity_providers/{idp_id}"},
	{"list_identity_providers", kit.AdminOrSystemReader, kit.SystemOrProject, "List identity providers", kit.Admin, "GET /v3/OS-FEDERATION/identity_providers\nHEAD /v3/OS-FEDERATION/identity_providers"},
	{"get_identity_provider", kit.AdminOrSystemReader, kit.SystemOrProject, "Show an identity provider", kit.Admin, "GET /v3/OS-FEDERATION/identity_providers/{idp_id}\nHEAD /v3/OS-FEDERATION/identity_providers/{idp_id}"},
	{"update_identity_provider", kit.Admin, kit.SystemOrProject, "Change an identity provider", kit.Admin, "PATCH /v3/OS-FEDERATION/identity_providers/{idp_id}"},
	{"delete_identity_provider", kit.Admin, kit.SystemOrProject, "Delete an identity provider", kit.Admin, "DELETE /v3/OS-FEDERATION/identity_providers/{idp_id}"},
	{"create_mapping", kit.Admin, kit.SystemOrProject, "Create a mapping", kit.Admin, "PUT /v3/OS-FEDERATION/mappings/{mapping_id}"},
	{"get_mapping", kit.AdminOrSystemReader, kit.SystemOrProject, "Show a mapping", kit.Admin, "GET /v3/OS-FEDERATION/mappings/{mapping_id}\nHEAD /v3/OS-FEDERATION/mappings/{mapping_id}"},
	{"list_mappings", kit.AdminOrSystemReader, kit.SystemOrProject, "List mappings", kit.Admin, "GET /v3/OS-FEDERATION/mappings\nHEAD /v3/OS-FEDERATION/mappings"},
	{"delete_mapping", kit.Admin, kit.SystemOrProject, "Delete a mapping", kit.Admin, "DELETE /v3/OS-FEDERATION/mappings/{mapping_id}"},
	{"update_mapping", kit.Admin, kit.SystemOrProject, "Change a mapping", kit.Admin, "PATCH /v3/OS-FEDERATION/mappings/{mapping_id}"},
	{"create_protocol", kit.Admin, kit.SystemOrProject, "Create a protocol", kit.Admin, "PUT /v3/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}"},
	{"update_protocol", kit.Admin, kit.SystemOrProject, "Change a protocol", kit.Admin, "PATCH /v3/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}"},
	{"get_protocol", kit.AdminOrSystemReader, kit.SystemOrProject, "Show a protocol", kit.Admin, "GET /v3/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}"},
	{"list_protocols", kit.AdminOrSystemReader, kit.SystemOrProject, "List protocols", kit.Admin, "GET /v3/OS-FEDERATION/identity_providers/{idp_id}/protocols"},
	{"delete_protocol", kit.Admin, kit.SystemOrProject, "Delete a protocol", kit.Admin, "DELETE /v3/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}"},
	{"create_service_provider", kit.Admin, kit.SystemOrProject, "Create a service provider", kit.Admin, "PUT /v3/OS-FEDERATION/service_providers/{service_provider_id}"},
	{"list_service_providers", kit.AdminOrSystemReader, kit.SystemOrProject, "List service providers", kit.Admin, "GET /v3/OS-FEDERATION/service_providers\nHEAD /v3/OS-FEDERATION/service_providers"},
	{"get_service_provider", kit.AdminOrSystemReader, kit.SystemOrProject, "Show a service provider", kit.Admin, "GET /v3/OS-FEDERATION/service_providers/{service_provider_id}\nHEAD /v3/OS-FEDERATION/service_providers/{service_provider_id}"},
	{"update_service_provider", kit.Admin, kit.SystemOrProject, "Change a service provider", kit.Admin, "PATCH /v3/OS-FEDERATION/service_providers/{service_provider_id}"},
	{"delete_service_provider", kit.Admin, kit.SystemOrProject, "Delete a service provider", kit.Admin, "DELETE /v3/OS-FEDERATION/service_providers/{service_provider_id}"},
}
