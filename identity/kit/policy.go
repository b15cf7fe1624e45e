package kit

import (
	"strings"

	"github.com/nacre-cloud/nacre"
)

// What the default rules are made of; the wording is that of keystone's
// common/policies, so that an operator finds each again.
const (
	Admin                = "rule:admin_required"
	SystemReader         = "(role:reader and system_scope:all)"
	Owner                = "user_id:%(user_id)s"
	AdminOrSystemReader  = Admin + " or " + SystemReader
	AdminOrReaderOrOwner = AdminOrSystemReader + " or rule:owner"
	// Of the domain that a list is limited to.
	AdminOrReaderOfDomain = AdminOrSystemReader + " or (role:reader and domain_id:%(target.domain_id)s)"
)

// The scopes that rules hold for.
var (
	AnyScope        = []string{"system", "domain", "project"}
	SystemOrProject = []string{"system", "project"}
	ProjectOnly     = []string{"project"}
)

// Defaults are default rules as data, a line each; names are without "identity:".
type Defaults = []struct {
	Name, Check string
	Scopes      []string
	Description string
	// Was is the default before secure RBAC; empty is the same.
	Was string
	// Operations are the requests that it is asked for, one a line.
	Operations string
}

// Rules are the rules that defaults make.
func Rules(defaults Defaults) []nacre.Rule {
	rules := make([]nacre.Rule, len(defaults))
	for i, r := range defaults {
		rules[i] = nacre.Rule{Name: "identity:" + r.Name, Check: r.Check, Scopes: r.Scopes, Description: r.Description, DeprecatedCheck: r.Was}
		if r.Was != "" {
			rules[i].DeprecatedName = rules[i].Name
		}
		if r.Operations != "" {
			rules[i].Operations = strings.Split(r.Operations, "\n")
		}
	}
	return rules
}
