package nacre

import "context"

// Target is what a policy rule looks at: an object's attributes by name
// ("project_id", "user_id", "target.user.domain_id"). ok is false for a name
// the object does not have.
type Target interface {
	Attr(name string) (value string, ok bool)
}

// Enforcer decides whether the context's caller may do what a rule guards.
// Enforce returns nil, or an *Error of kind Forbidden (Unauthenticated when
// there is no caller). An area whose Enforcer is nil uses its own default rules.
type Enforcer interface {
	Enforce(ctx context.Context, rule string, target Target) error
}

// PolicyOptions adjust an area's default rules; the zero value is what the real
// service ships with in 2025.1. They do not matter to an area with an Enforcer of
// its own.
type PolicyOptions struct {
	// File is the path of a policy.yaml (or JSON) of oslo.policy. It is read again
	// when it changes; one that is not there is an empty one, and one that does not
	// compile is an error at the start and a logged one, without effect, later.
	File string
	// EnforceScope and EnforceNewDefaults are oslo.policy's settings of those names.
	EnforceScope, EnforceNewDefaults *bool
}

// TokenValidator turns a token into who it stands for. A token that is unknown,
// expired or revoked is an *Error of kind Unauthenticated; a validator that
// cannot know (its identity service is unreachable) fails closed with Unavailable.
type TokenValidator interface {
	ValidateToken(ctx context.Context, token string) (*Caller, error)
}

// TokenInspector is a TokenValidator that tells more, for who enforces it.
// ValidateToken refuses a token that is limited by access rules, as its asker does
// not look at them.
type TokenInspector interface {
	TokenValidator
	// InspectToken also says which requests the token is limited to, where it is;
	// whoever asks must refuse others. With expired it knows a token for a while
	// after its end, for a service that goes on with what a user began.
	InspectToken(ctx context.Context, token string, expired bool) (*Caller, []AccessRule, error)
}

// AccessRule is a request that a token is limited to, as Keystone's application
// credentials have them.
type AccessRule struct {
	// Service is the type of the service in the catalog: "compute".
	Service string
	Method  string
	// Path is below the service's root: "/v2.1/servers". * and {name} stand for a
	// part between slashes, ** for any number of them.
	Path string
}

// IDs makes identifiers. Tests replace it to get the same ones each time.
type IDs interface {
	// NewID is a random UUID: dashed, lower case.
	NewID() string
}

// Rule is a policy rule with its default, as the real service documents it.
type Rule struct {
	// Name as in policy.yaml: "os_compute_api:servers:create".
	Name string
	// Check is the default, in oslo.policy's language.
	Check string
	// Scopes are the scope types it may be used with: "system", "domain", "project".
	Scopes []string
	// Description says what the rule guards.
	Description string
	// Operations are "METHOD path" lines.
	Operations []string
	// DeprecatedName and DeprecatedCheck are the rule's predecessor, which is
	// honoured (or'ed) unless new defaults are enforced.
	DeprecatedName, DeprecatedCheck string
}

// Operation is a route of an area's API, for documents, matrices and coverage.
type Operation struct {
	Method, Path string
	// Action is the body key of an action route ("os-start"), else empty.
	Action string
	// Min and Max bound the microversions; empty means unbounded.
	Min, Max string
	// Status is the success code.
	Status int
	// Policies are the rules that guard it.
	Policies []string
}

// Finding is something that an audit holds to be wrong.
type Finding struct {
	// Area, Kind and ID name the object: "compute", "server", an id.
	Area, Kind, ID string
	// Problem says what does not hold, for an operator to read.
	Problem string
}
