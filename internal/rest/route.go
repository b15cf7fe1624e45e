package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"reflect"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/internal/access"
)

// Unknown says what happens to body fields that the struct does not have.
type Unknown uint8

// The ways with unknown fields.
const (
	Reject Unknown = iota
	Ignore
	Keep
)

// Route is one row of an API's table.
type Route struct {
	// Method and Path as in net/http's patterns: "GET", "/servers/{id}".
	Method, Path string
	// Action is the body's single key, for action routes ("os-start").
	Action string
	// Min and Max bound the microversions, inclusive ("2.37"); empty is open.
	Min, Max string
	// Status is the success status; 0 means 200, or 204 without a body.
	Status int
	// Policy names the rules that the handler's service methods enforce.
	Policy []string
	// Unknown is what to do with unknown body fields.
	Unknown Unknown
	// MaxBody bounds a decoded body in bytes; 0 means the service's own.
	MaxBody int64
	// Public routes need no token (version documents, authentication).
	Public bool
	// Statements is how many statements the route may cost; 0 means 3. Lists
	// are held to it by tests.
	Statements int
	// View is the zero value of what the handler returns, for documents.
	View any
	// Op is the handler.
	Op Op
}

// Op is a handler together with the type of its body.
type Op struct {
	body reflect.Type
	call func(r *Request, body any) (any, error)
	raw  func(r *Request) error
}

// Do is a handler without a body.
func Do(f func(r *Request) (any, error)) Op {
	return Op{call: func(r *Request, _ any) (any, error) { return f(r) }}
}

// In is a handler with a JSON body of type B.
func In[B any](f func(r *Request, body *B) (any, error)) Op {
	return Op{body: reflect.TypeFor[B](), call: func(r *Request, b any) (any, error) { return f(r, b.(*B)) }}
}

// Raw is a handler that reads the body and writes the answer by itself, for
// uploads and downloads. An error is rendered only if nothing was written.
func Raw(f func(r *Request) error) Op { return Op{raw: f} }

// Service is an API: a table of routes and what they have in common.
type Service struct {
	// Name labels logs and metrics, and is the service's type in the catalog, by
	// which access rules name it: "compute".
	Name    string
	Dialect *Dialect
	// Versions is nil for a service without microversions.
	Versions *Microversions
	Routes   []Route
	// Tokens validates X-Auth-Token; one that has CacheFor is asked as often again only. Nil leaves the caller to the context
	// (in-process use behind somebody else's authentication).
	Tokens nacre.TokenValidator
	// AuthURI is announced in WWW-Authenticate on a 401; relative to the host
	// when it begins with "/".
	AuthURI string
	// MaxBody bounds decoded bodies; 0 means 1 MiB (nova and keystone refuse
	// more than 112 KiB; set it where that is so).
	MaxBody int64
	// StrictSlash leaves a slash at the end of paths of two and more segments, so
	// that they are none of the routes' (glance, nova: "/v2/images/" is not the list).
	StrictSlash bool
	// Rewrite, if set, changes a path before routing (an optional project id).
	Rewrite func(path string) string
	// Fallback, if set, answers where no route matches, before the 404.
	Fallback func(r *Request) (any, error)
	// Observe is told of every answer, by route template.
	Observe func(method, route string, status int, took time.Duration)
	// NewID makes request ids; nil means random.
	NewID func() string
	Log   *slog.Logger

	mux    *http.ServeMux
	groups map[string]*group
	guard  access.Guard
}

type group struct{ rows []*Route }

// Handler builds the mux. Ambiguous paths and wrong tables panic: they are
// faults in the program that any test that starts the service finds.
func (s *Service) Handler() http.Handler {
	s.mux, s.groups = http.NewServeMux(), map[string]*group{}
	s.guard = access.Guard{Tokens: s.Tokens, Service: s.Name}
	if slow, ok := s.Tokens.(interface{ CacheFor() time.Duration }); ok {
		s.guard.CacheFor = slow.CacheFor()
	}
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	if s.MaxBody == 0 {
		s.MaxBody = 1 << 20
	}
	for i := range s.Routes {
		rt := &s.Routes[i]
		if rt.Op.call == nil && rt.Op.raw == nil {
			panic(fmt.Sprintf("rest: %s %s has no handler", rt.Method, rt.Path))
		}
		V(rt.Min)
		V(rt.Max)
		if rt.Op.body != nil {
			planOf(rt.Op.body) // a wrong tag panics here, not at the first request
		}
		key := rt.Method + " " + rt.Path
		g := s.groups[key]
		if g == nil {
			g = &group{}
			s.groups[key] = g
			pattern := key
			if strings.HasSuffix(rt.Path, "/") {
				pattern += "{$}"
			}
			s.mux.HandleFunc(pattern, func(w http.ResponseWriter, _ *http.Request) {
				d := w.(*sink)
				d.g, d.pattern = g, key
			})
		}
		g.rows = append(g.rows, rt)
	}
	return http.HandlerFunc(s.serve)
}

// Operations is the table for documents and coverage.
func (s *Service) Operations() []nacre.Operation {
	ops := make([]nacre.Operation, 0, len(s.Routes))
	for _, r := range s.Routes {
		ops = append(ops, nacre.Operation{Method: r.Method, Path: r.Path, Action: r.Action, Min: r.Min, Max: r.Max, Status: r.status(true), Policies: r.Policy})
	}
	return ops
}

func (r *Route) status(body bool) int {
	switch {
	case r.Status != 0:
		return r.Status
	case body:
		return http.StatusOK
	}
	return http.StatusNoContent
}

// statusWriter remembers what was sent.
type statusWriter struct {
	http.ResponseWriter
	r    *Request
	code int
}

func (w *statusWriter) WriteHeader(code int) {
	if !w.r.wrote {
		w.code, w.r.wrote = code, true
	}
	w.ResponseWriter.WriteHeader(code)
}

func (w *statusWriter) Write(b []byte) (int, error) {
	if !w.r.wrote {
		w.code, w.r.wrote = http.StatusOK, true
	}
	return w.ResponseWriter.Write(b)
}

func (w *statusWriter) ReadFrom(src io.Reader) (int64, error) {
	if !w.r.wrote {
		w.code, w.r.wrote = http.StatusOK, true
	}
	return io.Copy(w.ResponseWriter, src)
}

func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (s *Service) serve(w http.ResponseWriter, req *http.Request) {
	start := time.Now()
	r := &Request{Request: req, svc: s}
	sw := &statusWriter{ResponseWriter: w, r: r}
	r.W = sw
	id := s.requestID()
	w.Header().Set("X-Openstack-Request-Id", id)
	if s.Name == "compute" {
		w.Header().Set("X-Compute-Request-Id", id)
	}
	template := "unmatched"
	defer func() {
		if p := recover(); p != nil {
			if p == http.ErrAbortHandler { //nolint:errorlint // net/http compares the same way
				panic(p)
			}
			s.Log.ErrorContext(req.Context(), "panic", "service", s.Name, "request", id, "value", p, "stack", string(debug.Stack()))
			if !r.wrote {
				s.fail(r, id, errors.New("panic"))
			}
		}
		if s.Observe != nil {
			s.Observe(req.Method, template, sw.code, time.Since(start))
		}
	}()
	sent := req.URL.EscapedPath()
	if p := req.URL.Path; len(p) > 1 && strings.HasSuffix(p, "/") || s.Rewrite != nil {
		u := *req.URL
		u.Path, u.RawPath = s.rewrite(u.Path), s.rewrite(u.RawPath)
		req.URL = &u
	}
	rows, pattern, allow := s.match(req)
	if pattern != "" {
		template = pattern
	}
	public := len(rows) > 0 && rows[0].Public
	if err := s.identify(r, id, sent, public); err != nil {
		s.fail(r, id, err)
		return
	}
	if len(rows) == 0 {
		s.unmatched(r, id, allow)
		return
	}
	v, err := s.Versions.negotiate(req.Header)
	r.Version = v
	if err != nil {
		s.fail(r, id, err)
		return
	}
	s.Versions.announce(w.Header(), v)
	if err := s.dispatch(r, rows); err != nil {
		s.fail(r, id, err)
	}
}

func (s *Service) rewrite(p string) string {
	if len(p) > 1 && !(s.StrictSlash && strings.Count(p, "/") > 2) {
		p = "/" + strings.Trim(p, "/")
	}
	if s.Rewrite != nil {
		p = s.Rewrite(p)
	}
	return p
}

// sink is the ResponseWriter of the mux's own run, which only finds the group
// and sets the path values.
type sink struct {
	g       *group
	pattern string
	h       http.Header
}

func (d *sink) Header() http.Header {
	if d.h == nil {
		d.h = http.Header{}
	}
	return d.h
}
func (d *sink) Write(b []byte) (int, error) { return len(b), nil }
func (d *sink) WriteHeader(int)             {}

// match finds the rows for a path; without one it says which methods would do.
func (s *Service) match(req *http.Request) (rows []*Route, pattern, allow string) {
	var d sink
	s.mux.ServeHTTP(&d, req)
	if d.g != nil {
		return d.g.rows, d.pattern, ""
	}
	return nil, "", d.h.Get("Allow")
}

func (s *Service) unmatched(r *Request, id, allow string) {
	if s.Fallback != nil {
		out, err := s.Fallback(r)
		if err != nil {
			s.fail(r, id, err)
			return
		}
		if out != nil {
			s.reply(r, out)
			return
		}
	}
	err := nacre.Errorf(nacre.NotFound, "no_route", "%s", s.Dialect.NoRoute)
	if allow != "" && !s.Dialect.NoMethod404 {
		r.Set("Allow", allow)
		r.status = http.StatusMethodNotAllowed
		err = nacre.Errorf(nacre.Invalid, "method_not_allowed", "The method specified is not allowed for this resource.")
	}
	s.fail(r, id, err)
}

// dispatch picks the row by microversion and action, decodes and calls.
func (s *Service) dispatch(r *Request, rows []*Route) error {
	var body []byte
	decoded := false
	read := func(limit int64) error {
		if decoded {
			return nil
		}
		decoded = true
		if limit == 0 {
			limit = s.MaxBody
		}
		b, err := io.ReadAll(io.LimitReader(r.Body, limit+1))
		if err != nil {
			return nacre.Errorf(nacre.Invalid, "body", "The request body could not be read.")
		}
		if int64(len(b)) > limit {
			return nacre.Errorf(nacre.TooLarge, "RequestTooLarge", "Request is too large.")
		}
		body = b
		return nil
	}
	if rows[0].Action != "" {
		if err := read(rows[0].MaxBody); err != nil {
			return err
		}
		key, err := actionKey(body)
		if err != nil {
			return err
		}
		rows = slices.DeleteFunc(slices.Clone(rows), func(rt *Route) bool { return rt.Action != key })
		if len(rows) == 0 {
			return nacre.Errorf(nacre.Invalid, "no_action", "There is no such action: %s", key)
		}
	}
	i := slices.IndexFunc(rows, func(rt *Route) bool { return r.Version.in(V(rt.Min), V(rt.Max)) })
	if i < 0 {
		return nacre.Errorf(nacre.NotFound, "no_route", "%s", s.Dialect.NoRoute)
	}
	rt := rows[i]
	r.Route = rt
	if rt.Op.raw != nil {
		return rt.Op.raw(r)
	}
	var arg any
	if rt.Op.body != nil {
		if err := read(rt.MaxBody); err != nil {
			return err
		}
		v := reflect.New(rt.Op.body)
		if err := s.decode(r, body, v.Elem()); err != nil {
			return err
		}
		arg = v.Interface()
	}
	out, err := rt.Op.call(r, arg)
	if err != nil {
		return err
	}
	s.reply(r, out)
	return nil
}

func actionKey(body []byte) (string, error) {
	var m map[string]json.RawMessage
	if err := json.Unmarshal(body, &m); err != nil {
		return "", nacre.Errorf(nacre.Invalid, "malformed", "Malformed request body")
	}
	if len(m) != 1 {
		return "", nacre.Errorf(nacre.Invalid, "malformed", "There is no such action: ")
	}
	for k := range m {
		return k, nil
	}
	return "", nil
}

func (s *Service) decode(r *Request, body []byte, v reflect.Value) error {
	if len(bytes.TrimSpace(body)) == 0 {
		body = []byte("{}")
		if r.Route.Op.body.Kind() != reflect.Struct {
			return nil
		}
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	var tree any
	if err := dec.Decode(&tree); err != nil {
		return s.Dialect.malformed(err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return s.Dialect.malformed(errors.New("extra data"))
	}
	d := &decoder{version: r.Version, unknown: r.Route.Unknown, lax: s.Dialect.Lax}
	if fe := d.assign(tree, v, nil, rules{}); fe != nil {
		return s.Dialect.invalid(fe)
	}
	return nil
}

// reply encodes a handler's answer.
func (s *Service) reply(r *Request, out any) {
	status := r.status
	if status == 0 {
		switch {
		case r.Route != nil:
			status = r.Route.status(out != nil)
		case out != nil:
			status = http.StatusOK
		default:
			status = http.StatusNoContent
		}
	}
	if out == nil {
		if status != http.StatusNoContent && r.W.Header().Get("Content-Type") == "" && s.Dialect.EmptyType != "" {
			r.Set("Content-Type", s.Dialect.EmptyType)
		}
		if status != http.StatusNoContent {
			r.Set("Content-Length", "0")
		}
		r.W.WriteHeader(status)
		return
	}
	buf := bufPool.Get().(*[]byte)
	defer func() { *buf = (*buf)[:0]; bufPool.Put(buf) }()
	b, err := appendJSON((*buf)[:0], reflect.ValueOf(out), r.Version)
	*buf = b
	if err != nil {
		s.fail(r, RequestID(r.Context()), err)
		return
	}
	h := r.W.Header()
	if h.Get("Content-Type") == "" {
		h.Set("Content-Type", s.Dialect.contentType())
	}
	h.Set("Content-Length", strconv.Itoa(len(b)))
	r.W.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = r.W.Write(b)
	}
}

// fail renders an error in the service's dialect.
func (s *Service) fail(r *Request, id string, err error) {
	var e *nacre.Error
	if !errors.As(err, &e) {
		if errors.Is(err, context.Canceled) && r.Context().Err() != nil {
			r.status = 499
		}
		s.Log.ErrorContext(r.Context(), "request failed", "service", s.Name, "request", id, "method", r.Method, "path", r.URL.Path, "error", err)
		e = &nacre.Error{Kind: nacre.Internal, Message: s.Dialect.internal(id)}
	}
	status := s.Dialect.status(e)
	if r.status == http.StatusMethodNotAllowed || r.status == 499 {
		status = r.status
	}
	if status >= 500 && e.Err != nil {
		s.Log.ErrorContext(r.Context(), "request failed", "service", s.Name, "request", id, "method", r.Method, "path", r.URL.Path, "error", e)
	}
	if r.wrote {
		return
	}
	if s.Versions != nil && r.W.Header().Get("OpenStack-API-Version") == "" && r.Route == nil {
		s.Versions.announce(r.W.Header(), r.Version)
	}
	ct, body := s.Dialect.Body(ErrorInfo{Status: status, Err: e, RequestID: id, Versions: s.Versions})
	if e.Kind == nacre.Unauthenticated && s.Dialect.Middleware401 {
		ct, body = "application/json", middleware401
	}
	h := r.W.Header()
	h.Set("Content-Type", ct)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	r.W.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = r.W.Write(body)
	}
}

// middleware401 is keystonemiddleware's own answer, which stands before the services.
var middleware401 = []byte(`{"error": {"code": 401, "title": "Unauthorized", "message": "The request you have made requires authentication."}}`)
