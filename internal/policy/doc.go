// Package policy is oslo.policy's rule language: it compiles an area's default
// rules and an operator's policy.yaml, and answers whether a caller may do what
// a rule guards.
//
//	p, err := policy.New(policy.Config{Area: "identity", Rules: identity.Rules(), EnforceScope: true})
//	err = p.Enforce(ctx, "identity:get_user", policy.Map{"target.user.domain_id": "default"})
//
// # Language
//
// A rule is an expression of checks, joined by `and`, `or`, `not` and
// parentheses (not binds tightest, then and):
//
//	@  or an empty rule      always true
//	!                        always false
//	rule:NAME                another rule
//	role:NAME                the caller holds the role, whatever its case
//	ATTR:TEXT                the caller's attribute equals TEXT
//	ATTR:None                the caller lacks the attribute
//	'x':TEXT  True:TEXT      the literal equals TEXT
//	field:RES:NAME=VALUE     the target's attribute equals VALUE (neutron; VALUE may be ~REGEXP)
//
// TEXT may name attributes of the target: project_id:%(target.project_id)s.
// A check whose target attribute, or whose caller attribute, is missing is
// false; so nobody passes by having the same nothing as the target. The older
// list form ([["a:b", "c:d"], ["e:f"]], an or of ands) is read too.
//
// Attributes of the caller are user_id, user_domain_id, project_id (tenant_id),
// project_domain_id, domain_id, system_scope, is_admin ("True" for the admin
// role), is_admin_project, and keystone's nested names (token.project.domain.id,
// token.user.id, user.domain.id, …). service_roles are those of a service caller.
//
// # Targets
//
// Values are compared as text. A target says "True" and "False" for booleans and
// "None" for a null that rules ask about (None:%(target.role.domain_id)s); for
// an attribute that it does not have it says so with ok = false.
//
// # Service callers
//
// A caller made by nacre.AsService is an administrator of every scope: it holds
// admin and the roles that admin implies, scope types do not bind it, and
// ownership checks (project_id:, user_id:, domain_id:, tenant_id:) hold where
// the target has the attribute.
//
// # Overrides
//
// Config.Overrides or Config.File replace rules and add new ones, in YAML or
// JSON, as oslo.policy reads them. A rule that replaces another one of old
// honours an override under the old name, and (unless EnforceNewDefaults) passes
// whom the old default passed. The file is looked at once a second; one that
// does not compile is reported and the rules before it stay.
package policy
