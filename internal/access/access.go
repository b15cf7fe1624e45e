// Package access finds out who makes a request, as keystonemiddleware does: the
// user behind X-Auth-Token, the service behind X-Service-Token, and whether an
// application credential's access rules let the token make this request. It
// stands behind every API of ours (package rest) and behind identity/authn.
package access

import (
	"context"
	"errors"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/nacre-cloud/nacre"
)

// Guard decides who may come in. Only Tokens must be set.
type Guard struct {
	Tokens nacre.TokenValidator
	// Service is the type of the service that is guarded, as access rules name it.
	// Without one, tokens that are limited by rules are refused.
	Service string
	// ServiceRoles make a service token one; nil is "service".
	ServiceRoles []string
	// AnyService takes a service token without such a role too, but it opens
	// nothing then: neither an ended token nor one whose rules say no.
	AnyService bool
	// CacheFor is how long an answer of Tokens is used again.
	CacheFor time.Duration

	mu    sync.Mutex
	cache map[string]known
}

// Request is what of a request decides.
type Request struct {
	Token, ServiceToken string
	Method              string
	// Path is the request's, as sent, below the API's root; Prefix is where that is
	// mounted. Rules are written with it or without.
	Path, Prefix string
}

// known is what a validator says of a token.
type known struct {
	caller *nacre.Caller
	rules  []nacre.AccessRule
	until  time.Time
}

// maxCached bounds the cache; it begins anew when full.
const maxCached = 10_000

var anyService = []string{"service"}

// Identify says who makes a request: nobody without a token. service is who shows
// a service token beside it, or nil. A bad service token spoils a good user's.
func (g *Guard) Identify(ctx context.Context, q Request) (user, service *nacre.Caller, err error) {
	trusted := false
	if q.ServiceToken != "" {
		k, err := g.look(ctx, q.ServiceToken, false)
		if err != nil {
			return nil, nil, err
		}
		roles := g.ServiceRoles
		if roles == nil {
			roles = anyService
		}
		trusted = slices.ContainsFunc(roles, k.caller.HasRole)
		if !trusted && !g.AnyService {
			return nil, nil, refused("the service token has no role of a service")
		}
		if !g.allows(k.rules, q) {
			return nil, nil, refused("the service token's access rules don't allow the request")
		}
		service = k.caller
	}
	if q.Token == "" {
		return nil, service, nil
	}
	k, err := g.look(ctx, q.Token, trusted)
	if err != nil {
		return nil, nil, err
	}
	// What a service does for a user, the user did not ask of this one: no rule is for it.
	if !(trusted && g.Service != "") && !g.allows(k.rules, q) {
		return nil, nil, refused("the token's access rules don't allow the request")
	}
	return k.caller, service, nil
}

// look asks the validator, or remembers.
func (g *Guard) look(ctx context.Context, token string, expired bool) (known, error) {
	now := time.Now()
	if g.CacheFor > 0 {
		g.mu.Lock()
		hit, ok := g.cache[token]
		g.mu.Unlock()
		if ok && now.Before(hit.until) {
			return hit, nil
		}
	}
	var k known
	var err error
	if inspector, ok := g.Tokens.(nacre.TokenInspector); ok {
		k.caller, k.rules, err = inspector.InspectToken(ctx, token, expired)
	} else {
		k.caller, err = g.Tokens.ValidateToken(ctx, token)
	}
	if err != nil || g.CacheFor <= 0 {
		return k, err
	}
	// One that has ended is never kept: it is good with a service's token alone.
	k.until = now.Add(g.CacheFor)
	if !k.caller.ExpiresAt.IsZero() && k.caller.ExpiresAt.Before(k.until) {
		k.until = k.caller.ExpiresAt
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.cache == nil || len(g.cache) >= maxCached {
		g.cache = map[string]known{}
	}
	g.cache[token] = k
	return k, nil
}

// allows is true for a token without rules, and for one with a rule for the request.
func (g *Guard) allows(rules []nacre.AccessRule, q Request) bool {
	switch {
	case len(rules) == 0:
		return true
	case g.Service == "":
		return false
	case g.Service == "identity" && q.Method == http.MethodGet && strings.HasSuffix(q.Path, "/v3/auth/tokens"):
		return true // every token may look at itself
	}
	return slices.ContainsFunc(rules, func(r nacre.AccessRule) bool {
		return r.Service == g.Service && r.Method == q.Method && (names(r.Path, q.Path) || q.Prefix != "" && names(r.Path, q.Prefix+q.Path))
	})
}

var slashes = strings.NewReplacer("%2F", "/", "%2f", "/")

// names says whether a rule's path names one as sent. An escaped slash parts names
// for one service and is within one for another: the rule must hold either way.
func names(pattern, path string) bool {
	return matches(pattern, path) && matches(pattern, slashes.Replace(path))
}

// matches compares a path with a rule's, in which * and {anything} stand for what
// is between two slashes, and ** for whatever follows.
func matches(pattern, path string) bool {
	var re strings.Builder
	re.WriteString(`(?s)\A`)
	for pattern != "" {
		end := strings.Index(pattern, "}")
		switch {
		case strings.HasPrefix(pattern, "**"):
			re.WriteString(`.*`)
			pattern = pattern[2:]
		case pattern[0] == '*':
			re.WriteString(`[^/]+`)
			pattern = pattern[1:]
		case pattern[0] == '{' && end > 0:
			re.WriteString(`[^/]+`)
			pattern = pattern[end+1:]
		default:
			_, size := utf8.DecodeRuneInString(pattern)
			re.WriteString(regexp.QuoteMeta(pattern[:size]))
			pattern = pattern[size:]
		}
	}
	re.WriteString(`\z`)
	// One that is too big for a pattern allows nothing.
	r, err := regexp.Compile(re.String())
	return err == nil && r.MatchString(path)
}

func refused(why string) error {
	return &nacre.Error{Kind: nacre.Unauthenticated, Code: "Unauthorized", Message: "The request you have made requires authentication.", Err: errors.New(why)}
}

type serviceKey struct{}

// WithService puts the service that shows a service token into a context.
func WithService(ctx context.Context, c *nacre.Caller) context.Context {
	if c == nil {
		return ctx
	}
	return context.WithValue(ctx, serviceKey{}, c)
}

// ServiceFrom is the service that shows its own token beside the user's, or nil.
func ServiceFrom(ctx context.Context) *nacre.Caller {
	c, _ := ctx.Value(serviceKey{}).(*nacre.Caller)
	return c
}
