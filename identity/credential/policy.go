package credential

import (
	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/kit"
)

const (
	adminOrCredentialOwner         = kit.Admin + " or user_id:%(target.credential.user_id)s"
	adminOrReaderOrCredentialOwner = kit.AdminOrSystemReader + " or user_id:%(target.credential.user_id)s"
)

// Rules are the policy defaults of Keystone 2025.1 for credentials; they build on
// its rules admin_required, owner and service_or_admin.
func Rules() []nacre.Rule { return kit.Rules(defaults) }

// defaults are the rules below "identity:".
var defaults = kit.Defaults{
	// credential
	{"get_credential", adminOrReaderOrCredentialOwner, kit.AnyScope, "Show a credential", kit.Admin, "GET /v3/credentials/{credential_id}"},
	{"list_credentials", adminOrReaderOrCredentialOwner, kit.AnyScope, "List credentials", kit.Admin, "GET /v3/credentials"},
	{"create_credential", adminOrCredentialOwner, kit.AnyScope, "Create a credential", kit.Admin, "POST /v3/credentials"},
	{"update_credential", adminOrCredentialOwner, kit.AnyScope, "Change a credential", kit.Admin, "PATCH /v3/credentials/{credential_id}"},
	{"delete_credential", adminOrCredentialOwner, kit.AnyScope, "Delete a credential", kit.Admin, "DELETE /v3/credentials/{credential_id}"},

	// ec2_credential
	{"ec2_get_credential", adminOrReaderOrCredentialOwner, kit.SystemOrProject, "Show an EC2 credential", "rule:admin_required or (rule:owner and user_id:%(target.credential.user_id)s)", "GET /v3/users/{user_id}/credentials/OS-EC2/{credential_id}"},
	{"ec2_list_credentials", kit.AdminOrReaderOrOwner, kit.SystemOrProject, "List EC2 credentials", "rule:admin_or_owner", "GET /v3/users/{user_id}/credentials/OS-EC2"},
	{"ec2_create_credential", "(rule:admin_required) or (role:member and user_id:%(target.credential.user_id)s)", kit.SystemOrProject, "Create an EC2 credential", "rule:admin_or_owner", "POST /v3/users/{user_id}/credentials/OS-EC2"},
	{"ec2_delete_credential", "(rule:admin_required) or (role:member and user_id:%(target.credential.user_id)s)", kit.SystemOrProject, "Delete an EC2 credential", "rule:admin_required or (rule:owner and user_id:%(target.credential.user_id)s)", "DELETE /v3/users/{user_id}/credentials/OS-EC2/{credential_id}"},
}
