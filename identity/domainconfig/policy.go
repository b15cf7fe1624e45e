package domainconfig

import (
	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/kit"
)

// Rules are the policy defaults of Keystone 2025.1 for domains' configurations; they
// build on its rule admin_required.
func Rules() []nacre.Rule {
	read := func(paths ...string) []string {
		var out []string
		for _, p := range paths {
			out = append(out, "GET "+p, "HEAD "+p)
		}
		return out
	}
	write := func(method string) []string {
		return []string{method + " /v3/domains/{domain_id}/config", method + " /v3/domains/{domain_id}/config/{group}", method + " /v3/domains/{domain_id}/config/{group}/{option}"}
	}
	rules := []nacre.Rule{
		{Name: "create_domain_config", Check: kit.Admin, Description: "Set a domain's configuration", Operations: []string{"PUT /v3/domains/{domain_id}/config"}},
		{Name: "get_domain_config", Check: kit.AdminOrSystemReader, Description: "Show a domain's configuration", Operations: read("/v3/domains/{domain_id}/config", "/v3/domains/{domain_id}/config/{group}", "/v3/domains/{domain_id}/config/{group}/{option}")},
		{Name: "get_security_compliance_domain_config", Scopes: kit.AnyScope, Description: "Show the rules for passwords", Operations: read("/v3/domains/{domain_id}/config/security_compliance", "/v3/domains/{domain_id}/config/security_compliance/{option}")},
		{Name: "update_domain_config", Check: kit.Admin, Description: "Change a domain's configuration", Operations: write("PATCH")},
		{Name: "delete_domain_config", Check: kit.Admin, Description: "Delete a domain's configuration", Operations: write("DELETE")},
		{Name: "get_domain_config_default", Check: kit.AdminOrSystemReader, Description: "Show what holds where a domain says nothing", Operations: read("/v3/domains/config/default", "/v3/domains/config/{group}/default", "/v3/domains/config/{group}/{option}/default")},
	}
	for i := range rules {
		r := &rules[i]
		r.Name = "identity:" + r.Name
		if r.Scopes == nil {
			r.Scopes = kit.SystemOrProject
			r.DeprecatedName, r.DeprecatedCheck = r.Name, kit.Admin
		}
	}
	return rules
}
