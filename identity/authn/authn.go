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
package authn

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/nacre-cloud/nacre"
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
}

// maxCached bounds the cache; it begins anew when full.
const maxCached = 10_000

type cached struct {
	caller *nacre.Caller
	until  time.Time
}

type guard struct {
	v    nacre.TokenValidator
	o    Options
	next http.Handler

	mu    sync.Mutex
	cache map[string]cached
}

// Middleware puts the caller into the context of the requests that a handler gets.
func Middleware(v nacre.TokenValidator, o Options) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return &guard{v: v, o: o, next: next, cache: map[string]cached{}}
	}
}

func (g *guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if nacre.CallerFrom(r.Context()) != nil {
		g.next.ServeHTTP(w, r)
		return
	}
	c, err := g.validate(r)
	switch {
	case c != nil:
		own := *c
		own.RemoteAddr = r.RemoteAddr
		g.next.ServeHTTP(w, r.WithContext(nacre.WithCaller(r.Context(), &own)))
	case g.o.Optional || g.public(r.URL.Path):
		g.next.ServeHTTP(w, r)
	case err == nil || errors.Is(err, nacre.Unauthenticated) || errors.Is(err, nacre.NotFound):
		w.Header().Set("WWW-Authenticate", `Keystone uri="`+g.authURI(r)+`"`)
		answer(w, http.StatusUnauthorized, "Unauthorized", "The request you have made requires authentication.")
	default:
		answer(w, http.StatusServiceUnavailable, "Service Unavailable", "The Keystone service is temporarily unavailable.")
	}
}

func (g *guard) validate(r *http.Request) (*nacre.Caller, error) {
	token := r.Header.Get("X-Auth-Token")
	if token == "" {
		return nil, nil
	}
	now := time.Now()
	if g.o.CacheFor > 0 {
		g.mu.Lock()
		hit, ok := g.cache[token]
		g.mu.Unlock()
		if ok && now.Before(hit.until) {
			return hit.caller, nil
		}
	}
	c, err := g.v.ValidateToken(r.Context(), token)
	if err != nil || g.o.CacheFor <= 0 {
		return c, err
	}
	until := now.Add(g.o.CacheFor)
	if !c.ExpiresAt.IsZero() && c.ExpiresAt.Before(until) {
		until = c.ExpiresAt
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.cache) >= maxCached {
		clear(g.cache)
	}
	g.cache[token] = cached{c, until}
	return c, nil
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
