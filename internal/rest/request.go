package rest

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/internal/access"
)

// Request is one call of a route.
type Request struct {
	*http.Request
	// W is for raw handlers; others return their answer.
	W http.ResponseWriter
	// Version is the negotiated microversion, 0 where there are none.
	Version Version
	// Route is the row that matched; nil in a Fallback.
	Route *Route

	svc    *Service
	status int
	wrote  bool
}

// Var is a path variable.
func (r *Request) Var(name string) string { return r.PathValue(name) }

// SetStatus replaces the route's success status.
func (r *Request) SetStatus(code int) { r.status = code }

// Set sets a response header.
func (r *Request) Set(name, value string) { r.W.Header().Set(name, value) }

// Caller is who asks; never nil on a route that is not public.
func (r *Request) Caller() *nacre.Caller { return nacre.CallerFrom(r.Context()) }

type prefixKey struct{}

// Mount serves h below a prefix ("/compute") and lets links know of it.
func Mount(prefix string, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		ctx := context.WithValue(req.Context(), prefixKey{}, prefixOf(req)+prefix)
		r2 := req.WithContext(ctx)
		u := *req.URL
		u.Path = strings.TrimPrefix(u.Path, prefix)
		u.RawPath = strings.TrimPrefix(u.RawPath, prefix)
		if u.Path == "" {
			u.Path = "/"
		}
		r2.URL = &u
		h.ServeHTTP(w, r2)
	})
}

// Prefix is what Mount took off a request's path.
func Prefix(req *http.Request) string { return prefixOf(req) }

func prefixOf(req *http.Request) string {
	p, _ := req.Context().Value(prefixKey{}).(string)
	return p
}

// Base is the absolute URL of the service's root as the client sees it, without
// a slash at the end: scheme, Host and mount prefix.
func (r *Request) Base() string { return hostURL(r.Request) + prefixOf(r.Request) }

func hostURL(req *http.Request) string {
	scheme := "http"
	if req.TLS != nil {
		scheme = "https"
	}
	if p := req.Header.Get("X-Forwarded-Proto"); p == "http" || p == "https" {
		scheme = p
	}
	return scheme + "://" + req.Host
}

// identify finds out who asks for a path, as it was before it was rewritten.
func (s *Service) identify(r *Request, id, path string, public bool) error {
	ctx := r.Context()
	c := nacre.CallerFrom(ctx)
	if c == nil && s.Tokens != nil {
		got, service, err := s.guard.Identify(ctx, access.Request{Token: r.Header.Get("X-Auth-Token"), ServiceToken: r.Header.Get("X-Service-Token"),
			Method: r.Method, Path: path, Prefix: prefixOf(r.Request)})
		switch {
		case err == nil:
			c, ctx = got, access.WithService(ctx, service)
		case public:
		case nacre.KindOf(err) == nacre.Unauthenticated, nacre.KindOf(err) == nacre.NotFound:
			return s.unauthenticated(r)
		default:
			return err
		}
	}
	if c == nil {
		if !public {
			return s.unauthenticated(r)
		}
		// A public route's caller is nobody; the request id is still wanted in events.
		r.Request = r.WithContext(WithRequestID(ctx, id))
		return nil
	}
	cc := *c
	cc.RequestID, cc.RemoteAddr = id, r.RemoteAddr
	if g := r.Request.Header.Get("X-Openstack-Request-Id"); validGlobalID(g) {
		cc.GlobalRequestID = g
	}
	r.Request = r.WithContext(WithRequestID(nacre.WithCaller(ctx, &cc), id))
	return nil
}

type requestIDKey struct{}

// WithRequestID puts a request id into a context, for callers that are nobody yet.
func WithRequestID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, requestIDKey{}, id)
}

// RequestID is the context's request id, or "".
func RequestID(ctx context.Context) string {
	if c := nacre.CallerFrom(ctx); c != nil && c.RequestID != "" {
		return c.RequestID
	}
	id, _ := ctx.Value(requestIDKey{}).(string)
	return id
}

func validGlobalID(g string) bool {
	if len(g) != 40 || !strings.HasPrefix(g, "req-") {
		return false
	}
	for _, c := range g[4:] {
		if c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'f') && (c < 'A' || c > 'F') {
			return false
		}
	}
	return true
}

func (s *Service) unauthenticated(r *Request) error {
	uri := s.AuthURI
	if strings.HasPrefix(uri, "/") {
		uri = hostURL(r.Request) + uri
	}
	if uri != "" {
		r.Set("WWW-Authenticate", fmt.Sprintf("Keystone uri=%q", uri))
	}
	return nacre.Errorf(nacre.Unauthenticated, "Unauthorized", "The request you have made requires authentication.")
}
