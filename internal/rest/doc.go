// Package rest is the HTTP kit of every API: routes as data, strict decoding,
// microversions, each service's error dialect, links and paging.
//
// An API is a [Service] made from a table of [Route] rows. A row names method,
// path, microversion range, success status and policy names, and holds its
// handler as an [Op], made with [Do] (no body), [In] (a JSON body decoded into
// a struct) or [Raw] (the handler reads and writes by itself):
//
//	{Method: "POST", Path: "/v3/users", Status: 201, Policy: []string{"identity:create_user"},
//		Op: rest.In(func(r *rest.Request, b *createUser) (any, error) { … })},
//
// Rows with the same method and path are told apart by microversion and, for
// action routes, by the single key of the body. The table also answers
// Operations, from which matrices and coverage are generated.
//
// # Bodies
//
// Fields are checked by tags while decoding; a wrong body is answered in the
// service's own words before the handler runs:
//
//	Name  string            `json:"name" valid:"required,min=1,max=255"`
//	Nets  *Nets             `json:"networks" since:"2.37" valid:"required"`
//	Perso []File            `json:"personality" until:"2.56"`
//	Extra map[string]any    `json:"-" extra:"true"`
//
// valid options: required, null (null is allowed and leaves the zero value),
// min=N, max=N (length of text, lists and maps; value of numbers), pattern=RE
// (must be last), enum=a|b|c, format=uuid|uri|hex|cidr|ip|mac|base64, lax (numbers and booleans may
// come as text, as many of nova's and all of neutron's do). since and until
// bound the microversions in which a field is there at all, inclusive, at any
// depth, in requests and in views. [Opt] tells absent, null and set apart.
// Unknown fields are rejected, ignored or kept in the field tagged extra, as the
// route says.
//
// # Views
//
// What a handler returns is encoded as JSON by the same since and until tags.
// nil means no body. A [Status] or headers set on the Request change the rest.
//
// # Errors
//
// An *nacre.Error is rendered by the service's [Dialect]; any other error is a
// bare 500 with the request id, and is logged.
package rest
