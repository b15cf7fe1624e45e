package federation

import (
	"strings"

	"github.com/nacre-cloud/nacre"
)

// Rules are the policy defaults of Keystone 2025.1 for federation; they build on
// its rule admin_required.
func Rules() []nacre.Rule {
	const admin = "rule:admin_required"
	const reader = "rule:admin_required or (role:reader and system_scope:all)"
	var out []nacre.Rule
	for _, r := range []struct{ name, check, description, operations string }{
		{"create_identity_provider", admin, "Create an identity provider", "PUT /v3/OS-FEDERATION/identity_providers/{idp_id}"},
		{"list_identity_providers", reader, "List identity providers", "GET /v3/OS-FEDERATION/identity_providers\nHEAD /v3/OS-FEDERATION/identity_providers"},
		{"get_identity_provider", reader, "Show an identity provider", "GET /v3/OS-FEDERATION/identity_providers/{idp_id}\nHEAD /v3/OS-FEDERATION/identity_providers/{idp_id}"},
		{"update_identity_provider", admin, "Change an identity provider", "PATCH /v3/OS-FEDERATION/identity_providers/{idp_id}"},
		{"delete_identity_provider", admin, "Delete an identity provider", "DELETE /v3/OS-FEDERATION/identity_providers/{idp_id}"},
		{"create_mapping", admin, "Create a mapping", "PUT /v3/OS-FEDERATION/mappings/{mapping_id}"},
		{"get_mapping", reader, "Show a mapping", "GET /v3/OS-FEDERATION/mappings/{mapping_id}\nHEAD /v3/OS-FEDERATION/mappings/{mapping_id}"},
		{"list_mappings", reader, "List mappings", "GET /v3/OS-FEDERATION/mappings\nHEAD /v3/OS-FEDERATION/mappings"},
		{"delete_mapping", admin, "Delete a mapping", "DELETE /v3/OS-FEDERATION/mappings/{mapping_id}"},
		{"update_mapping", admin, "Change a mapping", "PATCH /v3/OS-FEDERATION/mappings/{mapping_id}"},
		{"create_protocol", admin, "Create a protocol", "PUT /v3/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}"},
		{"update_protocol", admin, "Change a protocol", "PATCH /v3/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}"},
		{"get_protocol", reader, "Show a protocol", "GET /v3/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}"},
		{"list_protocols", reader, "List protocols", "GET /v3/OS-FEDERATION/identity_providers/{idp_id}/protocols"},
		{"delete_protocol", admin, "Delete a protocol", "DELETE /v3/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}"},
		{"create_service_provider", admin, "Create a service provider", "PUT /v3/OS-FEDERATION/service_providers/{service_provider_id}"},
		{"list_service_providers", reader, "List service providers", "GET /v3/OS-FEDERATION/service_providers\nHEAD /v3/OS-FEDERATION/service_providers"},
		{"get_service_provider", reader, "Show a service provider", "GET /v3/OS-FEDERATION/service_providers/{service_provider_id}\nHEAD /v3/OS-FEDERATION/service_providers/{service_provider_id}"},
		{"update_service_provider", admin, "Change a service provider", "PATCH /v3/OS-FEDERATION/service_providers/{service_provider_id}"},
		{"delete_service_provider", admin, "Delete a service provider", "DELETE /v3/OS-FEDERATION/service_providers/{service_provider_id}"},
	} {
		rule := nacre.Rule{Name: "identity:" + r.name, Check: r.check, Scopes: []string{"system", "project"}, Description: r.description, Operations: strings.Split(r.operations, "\n")}
		rule.DeprecatedName, rule.DeprecatedCheck = rule.Name, admin
		out = append(out, rule)
	}
	return out
}
