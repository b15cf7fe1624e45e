package api

import (
	"net/http"
	"regexp"
	"strings"

	"github.com/nacre-cloud/nacre/internal/rest"
)

// homeBase begins the names of relations and parameters in Keystone's JSON home
// document (draft-nottingham-json-home-03).
const homeBase = "https://docs.openstack.org/api/openstack-identity/3/"

// homeRelations are what the document names: by extension, a relation and its
// path on each line. Clients find an operation by the relation's name.
var homeRelations = []struct{ extension, relations string }{
	{"", `
access_rule /users/{user_id}/access_rules/{access_rule_id}
access_rules /users/{user_id}/access_rules
application_credential /users/{user_id}/application_credentials/{application_credential_id}
application_credentials /users/{user_id}/application_credentials
auth_catalog /auth/catalog
auth_domains /auth/domains
auth_projects /auth/projects
auth_system /auth/system
auth_tokens /auth/tokens
credential /credentials/{credential_id}
credentials /credentials
domain /domains/{domain_id}
domain_config /domains/{domain_id}/config
domain_config_default /domains/config/default
domain_config_default_group /domains/config/{group}/default
domain_config_default_option /domains/config/{group}/{option}/default
domain_config_group /domains/{domain_id}/config/{group}
domain_config_option /domains/{domain_id}/config/{group}/{option}
domain_group_role /domains/{domain_id}/groups/{group_id}/roles/{role_id}
domain_group_roles /domains/{domain_id}/groups/{group_id}/roles
domain_user_role /domains/{domain_id}/users/{user_id}/roles/{role_id}
domain_user_roles /domains/{domain_id}/users/{user_id}/roles
domains /domains
endpoint /endpoints/{endpoint_id}
endpoints /endpoints
group /groups/{group_id}
group_user /groups/{group_id}/users/{user_id}
group_users /groups/{group_id}/users
groups /groups
implied_role /roles/{prior_role_id}/implies/{implied_role_id}
implied_roles /roles/{prior_role_id}/implies
limit /limits/{limit_id}
limit_model /limits/model
limits /limits
policies /policies
policy /policies/{policy_id}
project /projects/{project_id}
project_group_role /projects/{project_id}/groups/{group_id}/roles/{role_id}
project_group_roles /projects/{project_id}/groups/{group_id}/roles
project_tags /projects/{project_id}/tags/{value}
project_user_role /projects/{project_id}/users/{user_id}/roles/{role_id}
project_user_roles /projects/{project_id}/users/{user_id}/roles
projects /projects
region /regions/{region_id}
regions /regions
registered_limit /registered_limits/{registered_limit_id}
registered_limits /registered_limits
role /roles/{role_id}
role_assignments /role_assignments
role_inferences /role_inferences
roles /roles
service /services/{service_id}
services /services
system_group_role /system/groups/{group_id}/roles/{role_id}
system_group_roles /system/groups/{group_id}/roles
system_user_role /system/users/{user_id}/roles/{role_id}
system_user_roles /system/users/{user_id}/roles
user /users/{user_id}
user_change_password /users/{user_id}/password
user_groups /users/{user_id}/groups
user_projects /users/{user_id}/projects
users /users
`},
	{"ext/OS-EC2/1.0/", `
ec2tokens /ec2tokens
user_credential /users/{user_id}/credentials/OS-EC2/{credential_id}
user_credentials /users/{user_id}/credentials/OS-EC2
`},
	{"ext/OS-ENDPOINT-POLICY/1.0/", `
endpoint_policy /endpoints/{endpoint_id}/OS-ENDPOINT-POLICY/policy
endpoint_policy_association /policies/{policy_id}/OS-ENDPOINT-POLICY/endpoints/{endpoint_id}
policy_endpoints /policies/{policy_id}/OS-ENDPOINT-POLICY/endpoints
region_and_service_policy_association /policies/{policy_id}/OS-ENDPOINT-POLICY/services/{service_id}/regions/{region_id}
service_policy_association /policies/{policy_id}/OS-ENDPOINT-POLICY/services/{service_id}
`},
	{"ext/OS-EP-FILTER/1.0/", `
endpoint_group /OS-EP-FILTER/endpoint_groups/{endpoint_group_id}
endpoint_group_to_project_association /OS-EP-FILTER/endpoint_groups/{endpoint_group_id}/projects/{project_id}
endpoint_groups /OS-EP-FILTER/endpoint_groups
endpoint_projects /OS-EP-FILTER/endpoints/{endpoint_id}/projects
endpoints_in_endpoint_group /OS-EP-FILTER/endpoint_groups/{endpoint_group_id}/endpoints
project_endpoint /OS-EP-FILTER/projects/{project_id}/endpoints/{endpoint_id}
project_endpoint_groups /OS-EP-FILTER/projects/{project_id}/endpoint_groups
project_endpoints /OS-EP-FILTER/projects/{project_id}/endpoints
projects_associated_with_endpoint_group /OS-EP-FILTER/endpoint_groups/{endpoint_group_id}/projects
`},
	{"ext/OS-FEDERATION/1.0/", `
domains /auth/domains
ecp /auth/OS-FEDERATION/saml2/ecp
identity_provider /OS-FEDERATION/identity_providers/{idp_id}
identity_provider_protocol /OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}
identity_provider_protocol_auth /OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}/auth
identity_provider_protocols /OS-FEDERATION/identity_providers/{idp_id}/protocols
identity_providers /OS-FEDERATION/identity_providers
identity_providers_websso /auth/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}/websso
mapping /OS-FEDERATION/mappings/{mapping_id}
mappings /OS-FEDERATION/mappings
metadata /OS-FEDERATION/saml2/metadata
projects /auth/projects
saml2 /auth/OS-FEDERATION/saml2
service_provider /OS-FEDERATION/service_providers/{sp_id}
service_providers /OS-FEDERATION/service_providers
websso /auth/OS-FEDERATION/websso/{protocol_id}
`},
	{"ext/OS-INHERIT/1.0/", `
domain_group_role_inherited_to_projects /OS-INHERIT/domains/{domain_id}/groups/{group_id}/roles/{role_id}/inherited_to_projects
domain_group_roles_inherited_to_projects /OS-INHERIT/domains/{domain_id}/groups/{group_id}/roles/inherited_to_projects
domain_user_role_inherited_to_projects /OS-INHERIT/domains/{domain_id}/users/{user_id}/roles/{role_id}/inherited_to_projects
domain_user_roles_inherited_to_projects /OS-INHERIT/domains/{domain_id}/users/{user_id}/roles/inherited_to_projects
project_group_role_inherited_to_projects /OS-INHERIT/projects/{project_id}/groups/{group_id}/roles/{role_id}/inherited_to_projects
project_user_role_inherited_to_projects /OS-INHERIT/projects/{project_id}/users/{user_id}/roles/{role_id}/inherited_to_projects
`},
	{"ext/OS-OAUTH1/1.0/", `
access_tokens /OS-OAUTH1/access_token
authorize_request_token /OS-OAUTH1/authorize/{request_token_id}
consumer /OS-OAUTH1/consumers/{consumer_id}
consumers /OS-OAUTH1/consumers
request_tokens /OS-OAUTH1/request_token
user_access_token /users/{user_id}/OS-OAUTH1/access_tokens/{access_token_id}
user_access_token_role /users/{user_id}/OS-OAUTH1/access_tokens/{access_token_id}/roles/{role_id}
user_access_token_roles /users/{user_id}/OS-OAUTH1/access_tokens/{access_token_id}/roles
user_access_tokens /users/{user_id}/OS-OAUTH1/access_tokens
`},
	{"ext/OS-OAUTH2/1.0/", `
token /OS-OAUTH2/token
`},
	{"ext/OS-PKI/1.0/", `
revocations /auth/tokens/OS-PKI/revoked
`},
	{"ext/OS-REVOKE/1.0/", `
events /OS-REVOKE/events
`},
	{"ext/OS-SIMPLE-CERT/1.0/", `
ca_certificate /OS-SIMPLE-CERT/ca
certificates /OS-SIMPLE-CERT/certificates
`},
	{"ext/OS-TRUST/1.0/", `
trust /OS-TRUST/trusts/{trust_id}
trust_role /OS-TRUST/trusts/{trust_id}/roles/{role_id}
trust_roles /OS-TRUST/trusts/{trust_id}/roles
trusts /OS-TRUST/trusts
`},
	{"ext/s3tokens/1.0/", `
s3tokens /s3tokens
`},
}

// homeParams are the parameters that are named otherwise than by themselves.
var homeParams = map[string]string{
	"group": "param/config_group", "option": "param/config_option", "prior_role_id": "param/role_id", "implied_role_id": "param/role_id", "value": "param/tag_value",
	"endpoint_group_id": "ext/OS-EP-FILTER/1.0/param/endpoint_group_id", "trust_id": "ext/OS-TRUST/1.0/param/trust_id",
	"idp_id": "ext/OS-FEDERATION/1.0/param/idp_id", "protocol_id": "ext/OS-FEDERATION/1.0/param/protocol_id", "mapping_id": "ext/OS-FEDERATION/1.0/param/mapping_id", "sp_id": "ext/OS-FEDERATION/1.0/param/sp_id",
	"request_token_id": "ext/OS-OAUTH1/1.0/param/request_token_id", "consumer_id": "ext/OS-OAUTH1/1.0/param/consumer_id", "access_token_id": "ext/OS-OAUTH1/1.0/param/access_token_id",
}

var homeVariable = regexp.MustCompile(`\{([^}]*)\}`)

// homeDocument is the document with paths below a prefix.
func homeDocument(prefix string) object {
	resources := object{}
	for _, ext := range homeRelations {
		for line := range strings.Lines(strings.TrimSpace(ext.relations)) {
			rel, path, _ := strings.Cut(strings.TrimSpace(line), " ")
			about := object{}
			if names := homeVariable.FindAllStringSubmatch(path, -1); len(names) == 0 {
				about["href"] = prefix + path
			} else {
				vars := object{}
				for _, n := range names {
					param := homeParams[n[1]]
					if param == "" {
						param = "param/" + n[1]
					}
					vars[n[1]] = homeBase + param
				}
				about["href-template"], about["href-vars"] = prefix+path, vars
			}
			if strings.HasPrefix(path, "/limits") || strings.HasPrefix(path, "/registered_limits") {
				about["hints"] = object{"status": "experimental"}
			}
			resources[homeBase+ext.extension+"rel/"+rel] = about
		}
	}
	return object{"resources": resources}
}

const homeType = "application/json-home"

// wantsHome says whether a client asks for the document instead of the version.
func wantsHome(r *rest.Request) bool {
	accept := strings.Join(r.Header.Values("Accept"), ",")
	return strings.Contains(accept, homeType) && !strings.Contains(accept, "application/json,") && !strings.HasSuffix(accept, "application/json")
}

func home(r *rest.Request, prefix string) any {
	r.SetStatus(http.StatusOK)
	r.Set("Content-Type", homeType)
	return homeDocument(prefix)
}
