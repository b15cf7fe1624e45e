package revoke

import (
	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/kit"
)

// Rules are the policy defaults of Keystone 2025.1 for revocation events; they build on
// its rules admin_required, owner and service_or_admin.
func Rules() []nacre.Rule { return kit.Rules(defaults) }

// defaults are the rules below "identity:".
var defaults = kit.Defaults{
	// revoke_event
	{"list_revoke_events", "rule:service_or_admin", kit.SystemOrProject, "List the revocation events", "", "GET /v3/OS-REVOKE/events"},
}
