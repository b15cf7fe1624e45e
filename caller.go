package nacre

import (
	"context"
	"slices"
	"time"
)

// Caller is who asks: the identity behind a token, or a service of ours. It is
// immutable once it is in a context; copy before changing.
type Caller struct {
	UserID, UserName             string
	UserDomainID, UserDomainName string

	// At most one of project, domain and system scope is set; all are empty
	// for an unscoped token.
	ProjectID, ProjectName             string
	ProjectDomainID, ProjectDomainName string
	DomainID, DomainName               string
	// System is "all" for a system-scoped token.
	System string

	// Roles are names as identity knows them; policy compares them without case.
	Roles   []string
	RoleIDs []string

	// AdminProject is Keystone's is_admin_project: true also where no admin
	// project is configured.
	AdminProject bool

	// Token is the credential itself, kept only for the user's own request: it
	// is never stored and never sent over the bus.
	Token string `json:"-"`
	// ExpiresAt is when the token ends (UTC); zero for service callers.
	ExpiresAt time.Time
	// AuditIDs are the token's audit id and its parent's.
	AuditIDs []string
	// Methods are the authentication methods behind the token.
	Methods []string

	// RequestID is "req-" and a UUID; GlobalRequestID is the client's own, if any.
	RequestID, GlobalRequestID string
	// RemoteAddr is the client's address, for notifications and rate limits.
	RemoteAddr string

	// Service is the acting service's name when the call is made with service
	// privilege (AsService), else empty.
	Service string
}

// HasRole reports whether the caller holds a role, without regard to case.
func (c *Caller) HasRole(name string) bool {
	return c != nil && slices.ContainsFunc(c.Roles, func(r string) bool { return equalFold(r, name) })
}

// Stored is the caller without its token, fit to be kept with work that goes on
// after the request.
func (c *Caller) Stored() Caller {
	s := *c
	s.Token = ""
	return s
}

type callerKey struct{}

// WithCaller puts who asks into a context.
func WithCaller(ctx context.Context, c *Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// CallerFrom is who asks, or nil when nobody was identified.
func CallerFrom(ctx context.Context) *Caller {
	c, _ := ctx.Value(callerKey{}).(*Caller)
	return c
}

// AsService returns a context that acts with the privilege of the named service
// ("compute"), on behalf of the caller already in it: request ids are kept, the
// user's identity is not. It is the only way to get that privilege, and thus
// visible in review.
func AsService(ctx context.Context, service string) context.Context {
	s := &Caller{UserID: service, UserName: service, Roles: []string{"admin", "service"}, System: "all", AdminProject: true, Service: service}
	if c := CallerFrom(ctx); c != nil {
		s.RequestID, s.GlobalRequestID = c.RequestID, c.GlobalRequestID
	}
	return WithCaller(ctx, s)
}

func equalFold(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := 0; i < len(a); i++ {
		x, y := a[i], b[i]
		if 'A' <= x && x <= 'Z' {
			x += 'a' - 'A'
		}
		if 'A' <= y && y <= 'Z' {
			y += 'a' - 'A'
		}
		if x != y {
			return false
		}
	}
	return true
}
