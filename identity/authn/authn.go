// Package authn is middleware that finds out who asks, for Nacre's services and
// for a product's own.
//
//	h = authn.Middleware(validator, authn.Options{AuthURI: "http://cloud/identity/v3"})(h)
//	…
//	caller := nacre.CallerFrom(r.Context())
//
// The validator is an identity.Service, or anything else that turns a token into
// a nacre.Caller. A request without a good X-Auth-Token is answered 401 in the
// words of keystonemiddleware, with WWW-Authenticate naming the identity
// service; when the validator can't know, 503.
//
// A caller that is in the request's context already (put there by middleware
// outside this one) is believed.
//
// A service that goes on with a user's work shows its own token beside the
// user's, in X-Service-Token. One that has a role of Options.ServiceRoles may do
// so with a user's token that has ended meanwhile, as far as the validator knows
// it still; [ServiceFrom] says who it is.
//
// A token of an application credential with access rules is good for the requests
// that one of its rules names, by service type (Options.ServiceType), method and
// path; for others it is answered 401. What a service does for the user is not
// held to the rules. A validator that is a nacre.TokenInspector knows both ended
// tokens and rules; another is asked for neither.
//
// Headers that only this middleware may set (X-User-Id, X-Roles, …) are taken
// away from every request, however they are spelled. With Options.Headers they
// are set anew for a handler that reads them, as a proxy to a WSGI service does.
//
// [Remote] asks an identity service over HTTP: a Keystone, or Nacre's.
package authn

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/internal/access"
)

// Options of Middleware. Zero values work.
type Options struct {
	// AuthURI is the identity service's public URL, for WWW-Authenticate. One
	// that begins with "/" is completed with the request's host.
	AuthURI string
	// Public paths pass without a token: exact ones, and those below a path that
	// ends in "/*". A good token is still looked at.
	Public []string
	// Optional passes every request; a bad token is as none. The handler decides.
	Optional bool
	// CacheFor is how long an answer of the validator is used again. It delays
	// revocations by that much, so leave it 0 for a validator that is fast itself.
	CacheFor time.Duration
	// ServiceRoles make a service token one; nil is "service", as in keystonemiddleware.
	ServiceRoles []string
	// AnyService takes a service token without such a role too, though not with a
	// user's token that has ended or whose access rules say no:
	// service_token_roles_required = false.
	AnyService bool
	// ServiceType is the type of the service that is protected, as the catalog has
	// it ("compute"). Without one, tokens that are limited by access rules are refused.
	ServiceType string
	// Prefix is where the service is mounted ("/compute"), if that was taken off the
	// path of the requests that come here: rules may be written with it or without.
	Prefix string
	// Bearer also takes a token from "Authorization: Bearer …", as OAuth 2.0's
	// clients send it.
	Bearer bool
	// Headers sets X-User-Id, X-Roles and the like for the handler.
	Headers bool
}

// ServiceFrom is the service that shows its own token beside the user's, or nil.
func ServiceFrom(ctx context.Context) *nacre.Caller { return access.ServiceFrom(ctx) }

type guard struct {
	access.Guard
	o    Options
	next http.Handler
}

// Middleware puts the caller into the context of the requests that a handler gets.
func Middleware(v nacre.TokenValidator, o Options) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return &guard{o: o, next: next, Guard: access.Guard{
			Tokens: v, Service: o.ServiceType, ServiceRoles: o.ServiceRoles, AnyService: o.AnyService, CacheFor: o.CacheFor,
		}}
	}
}

func (g *guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r = r.WithContext(r.Context())
	r.Header = clean(r.Header)
	if nacre.CallerFrom(r.Context()) != nil {
		g.next.ServeHTTP(w, r)
		return
	}
	c, service, err := g.Identify(r.Context(), access.Request{Token: g.token(r), ServiceToken: r.Header.Get("X-Service-Token"),
		Method: r.Method, Path: r.URL.EscapedPath(), Prefix: g.o.Prefix})
	switch {
	case c != nil:
		own := *c
		own.RemoteAddr = r.RemoteAddr
		ctx := access.WithService(nacre.WithCaller(r.Context(), &own), service)
		if g.o.Headers {
			tell(r.Header, "", &own)
			if service != nil {
				tell(r.Header, "Service-", service)
			}
		}
		g.next.ServeHTTP(w, r.WithContext(ctx))
	case g.o.Optional || g.public(r.URL.Path):
		if g.o.Headers {
			r.Header.Set("X-Identity-Status", "Invalid")
		}
		g.next.ServeHTTP(w, r)
	case err == nil || errors.Is(err, nacre.Unauthenticated) || errors.Is(err, nacre.NotFound):
		w.Header().Set("WWW-Authenticate", `Keystone uri="`+g.authURI(r)+`"`)
		answer(w, http.StatusUnauthorized, "Unauthorized", "The request you have made requires authentication.")
	default:
		answer(w, http.StatusServiceUnavailable, "Service Unavailable", "The Keystone service is temporarily unavailable.")
	}
}

func (g *guard) token(r *http.Request) string {
	if t := r.Header.Get("X-Auth-Token"); t != "" || !g.o.Bearer {
		return t
	}
	scheme, t, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(t)
}

func (g *guard) public(path string) bool {
	for _, p := range g.o.Public {
		if below, ok := strings.CutSuffix(p, "/*"); ok {
			if path == below || strings.HasPrefix(path, below+"/") {
				return true
			}
		} else if path == p {
			return true
		}
	}
	return false
}

func (g *guard) authURI(r *http.Request) string {
	if !strings.HasPrefix(g.o.AuthURI, "/") {
		return g.o.AuthURI
	}
	scheme := "http"
	if r.TLS != nil || r.Header.Get("X-Forwarded-Proto") == "https" {
		scheme = "https"
	}
	return scheme + "://" + r.Host + g.o.AuthURI
}

func answer(w http.ResponseWriter, code int, title, message string) {
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	w.WriteHeader(code)
	_, _ = fmt.Fprintf(w, `{"error": {"message": %q, "code": %d, "title": %q}}`, message, code, title)
}
