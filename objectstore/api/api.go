// Package api is Swift's HTTP: /v1/{account}/{container}/{object} with plain text
// errors, listings in three formats, ranges, large objects, signed URLs and forms,
// static web sites, bulk operations, /info, /healthcheck and the old /auth/v1.0.
//
//	h := api.New(api.Config{Service: svc, Tokens: identity})
//
// The handler serves the API at its root. Mounted below a prefix (rest.Mount), it
// accepts signatures over the path with and without that prefix.
//
// Bodies stream both ways. An answer that can't be completed, since a segment is
// gone or bytes are damaged, is cut off, so that a client sees it.
package api

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/internal/access"
	"github.com/nacre-cloud/nacre/internal/rest"
	"github.com/nacre-cloud/nacre/objectstore"
	"github.com/nacre-cloud/nacre/objectstore/blob"
)

// Config of New. Service is required.
type Config struct {
	Service *objectstore.Service
	// Tokens validates X-Auth-Token. A token that isn't valid leaves the request
	// without a caller, and what everybody may is allowed.
	Tokens nacre.TokenValidator
	// Login makes a token of a user and a key, for /auth/v1.0; account is whose
	// storage it is. Nil turns that off.
	Login func(ctx context.Context, user, key string) (token, account string, expires time.Time, err error)
	// AuthURI is announced in WWW-Authenticate.
	AuthURI string
	// Domains are storage domains: container.account.DOMAIN is that container.
	Domains []string
	// Alias is the name that a host name is an alias of (a resolver's LookupCNAME), for
	// aliases of names below Domains; nil leaves names as they are. What it says is
	// believed for a minute, a *net.DNSError that IsNotFound too. Other errors say nothing.
	Alias func(ctx context.Context, host string) (string, error)
	// Origins may make cross-origin requests everywhere; containers have their own.
	Origins []string
	// Writes bounds the changes a second of each account; 0 is no bound.
	Writes int
	// Features are further entries of /info (s3api).
	Features map[string]any
	// S3, if set, gets the requests that are Amazon's, told by their signature.
	S3 http.Handler
	// Heartbeat is the time between signs of life in the answer to what takes long; 0
	// means 10 seconds.
	Heartbeat time.Duration
	// Observe is told of every answer, by the kind of path.
	Observe func(method, route string, status int, took time.Duration)
	Log     *slog.Logger
}

type api struct {
	Config
	svc   *objectstore.Service
	rates rates
	guard access.Guard

	aliases aliases
}

// New is the handler.
func New(c Config) http.Handler {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Heartbeat == 0 {
		c.Heartbeat = 10 * time.Second
	}
	if c.Observe == nil {
		c.Observe = func(string, string, int, time.Duration) {}
	}
	return &api{Config: c, svc: c.Service, rates: rates{most: c.Writes}, guard: access.Guard{Tokens: c.Tokens, Service: "object-store"}}
}

// call is one request.
type call struct {
	*api
	w    *answer
	r    *http.Request
	ctx  context.Context
	q    map[string][]string
	ref  objectstore.Ref
	path string // below the mount prefix
	base string // the mount prefix
	// signed is set for a valid signed URL.
	signed *tempURL
}

// answer notes what was answered.
type answer struct {
	http.ResponseWriter
	status int
}

func (a *answer) WriteHeader(code int) {
	if a.status == 0 {
		a.status = code
	}
	a.ResponseWriter.WriteHeader(code)
}

func (a *answer) Write(b []byte) (int, error) {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	return a.ResponseWriter.Write(b)
}

// WriteString implements io.StringWriter: what is long isn't copied.
func (a *answer) WriteString(s string) (int, error) {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	return io.WriteString(a.ResponseWriter, s)
}

// Unwrap is for http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if a.S3 != nil && a.isS3(r) {
		a.S3.ServeHTTP(w, r)
		return
	}
	begun := time.Now()
	hyphens(r.Header)
	c := &call{api: a, w: &answer{ResponseWriter: w}, r: r, path: r.URL.Path, base: rest.Prefix(r), q: r.URL.Query()}
	id := transID(begun)
	h := w.Header()
	h.Set("X-Trans-Id", id)
	h.Set("X-Openstack-Request-Id", id)
	route := "other"
	defer func() { a.Observe(r.Method, route, cmp.Or(c.w.status, http.StatusOK), time.Since(begun)) }()
	ctx := rest.WithRequestID(r.Context(), id)
	c.ctx = objectstore.WithAccess(ctx, objectstore.Access{Referrer: r.Referer()})
	if !c.remap() {
		return
	}
	switch at := routeOf(c.path); at {
	case "", routeAccount:
	default:
		route = at
		c.fixed(at)
		return
	}
	if !c.parse() {
		return
	}
	route = routeAccount
	switch {
	case c.ref.Object != "":
		route = "/v1/{account}/{container}/{object}"
	case c.ref.Container != "":
		route = "/v1/{account}/{container}"
	}
	if err := c.authenticate(); err != nil {
		c.fail(err)
		return
	}
	if !c.rates.allow(r.Method, c.ref.Account) {
		h.Set("Retry-After", "1")
		c.text(498, "Your request has been rate limited. Please slow down.\n")
		return
	}
	c.serve()
}

const (
	routeInfo        = "/info"
	routeHealth      = "/healthcheck"
	routeCrossDomain = "/crossdomain.xml"
	routeRecon       = "/recon"
	routeEndpoints   = "/endpoints"
	routeLogin       = "/auth/v1.0"
	routeAccount     = "/v1/{account}"
)

// routeOf is the kind of path that Swift serves; empty for none of them.
func routeOf(path string) string {
	switch {
	case path == routeInfo, path == routeHealth:
		return path
	case path == "/crossdomain.xml", path == "/v1/crossdomain.xml":
		return routeCrossDomain
	case strings.HasPrefix(path, "/recon/"):
		return routeRecon
	case strings.HasPrefix(path+"/", "/endpoints/"), strings.HasPrefix(path+"/", "/v1/endpoints/"):
		return routeEndpoints
	case path == "/auth/v1.0", path == "/auth/v1", path == "/v1.0", path == "/auth":
		return routeLogin
	case strings.HasPrefix(path, "/v1/"), strings.HasPrefix(path, "/v1.0/"):
		return routeAccount
	}
	return ""
}

// fixed serves what is no account's.
func (c *call) fixed(route string) {
	switch route {
	case routeInfo:
		c.info()
	case routeHealth:
		c.text(http.StatusOK, "OK")
	case routeCrossDomain:
		c.crossdomain()
	case routeRecon:
		c.recon()
	case routeEndpoints:
		c.endpoints(strings.TrimPrefix(strings.TrimPrefix(c.path, "/v1"), "/endpoints"))
	case routeLogin:
		c.login()
	}
}

// hyphens turns underscores in the names of headers into hyphens, as the gateways
// that Swift runs behind do.
func hyphens(h http.Header) {
	for name, vs := range h {
		if strings.HasPrefix(name, "X-") && strings.Contains(name, "_") {
			delete(h, name)
			if to := http.CanonicalHeaderKey(strings.ReplaceAll(name, "_", "-")); h[to] == nil {
				h[to] = vs
			}
		}
	}
}

func transID(at time.Time) string {
	var b [11]byte
	_, _ = rand.Read(b[:])
	return "tx" + hex.EncodeToString(b[:])[:21] + fmt.Sprintf("-%010x", at.Unix())
}

// parse splits the path; false when it has been answered.
func (c *call) parse() bool {
	rest, ok := strings.CutPrefix(c.path, "/v1/")
	if !ok {
		if rest, ok = strings.CutPrefix(c.path, "/v1.0/"); !ok {
			c.plain(http.StatusNotFound)
			return false
		}
	}
	c.ref.Account, rest, _ = strings.Cut(rest, "/")
	if c.ref.Account == "" {
		c.plain(http.StatusNotFound)
		return false
	}
	var more bool
	if c.ref.Container, rest, more = strings.Cut(rest, "/"); c.ref.Container == "" && more && rest != "" {
		c.plain(http.StatusNotFound)
		return false
	}
	c.ref.Object = rest
	return true
}

// authenticate finds out who asks.
func (c *call) authenticate() error {
	token := cmp.Or(c.r.Header.Get("X-Auth-Token"), c.r.Header.Get("X-Storage-Token"))
	if token == "" || c.Tokens == nil {
		return nil
	}
	caller, service, err := c.guard.Identify(c.ctx, access.Request{Token: token, ServiceToken: c.r.Header.Get("X-Service-Token"),
		Method: c.r.Method, Path: c.r.URL.EscapedPath(), Prefix: c.base})
	if errors.Is(err, nacre.Unauthenticated) {
		return nil
	}
	if err != nil {
		return err
	}
	c.ctx = access.WithService(nacre.WithCaller(c.ctx, caller), service)
	if service != nil {
		c.ctx = objectstore.WithAccess(c.ctx, objectstore.Access{Referrer: c.r.Referer(), ServiceRoles: service.Roles})
	}
	return nil
}

// serve runs the operation.
func (c *call) serve() {
	if c.r.Method == http.MethodOptions {
		c.options()
		return
	}
	c.cors()
	if done := c.tempurl(); done {
		return
	}
	if c.signed == nil && c.special() {
		return
	}
	var f func()
	switch {
	case c.ref.Object != "":
		f = map[string]func(){"GET": c.getObject, "HEAD": c.getObject, "PUT": c.putObject, "POST": c.postObject, "DELETE": c.deleteObject, "COPY": c.copyObject}[c.r.Method]
	case c.ref.Container != "":
		f = map[string]func(){"GET": c.getContainer, "HEAD": c.getContainer, "PUT": c.putContainer, "POST": c.postContainer, "DELETE": c.deleteContainer}[c.r.Method]
	default:
		f = map[string]func(){"GET": c.getAccount, "HEAD": c.getAccount, "PUT": c.putAccount, "POST": c.postAccount, "DELETE": c.deleteAccount}[c.r.Method]
	}
	if f == nil {
		c.notAllowed()
		return
	}
	f()
}

// special runs what is told by the query or the body's type.
func (c *call) special() bool {
	m := c.r.Method
	switch {
	case m == http.MethodPut && c.has("extract-archive"):
		c.extract()
	case (m == http.MethodPost || m == http.MethodDelete) && c.has("bulk-delete"):
		c.bulkDelete()
	case m == http.MethodPost && strings.HasPrefix(c.r.Header.Get("Content-Type"), "multipart/form-data"):
		c.form()
	case (m == http.MethodGet || m == http.MethodHead) && c.ref.Container != "" && c.web():
	default:
		return false
	}
	return true
}

func (c *call) has(name string) bool {
	_, ok := c.q[name]
	return ok
}

func (c *call) param(name string) string {
	if v := c.q[name]; len(v) > 0 {
		return v[len(v)-1]
	}
	return ""
}

func isTrue(s string) bool {
	switch strings.ToLower(s) {
	case "true", "1", "yes", "on", "t", "y":
		return true
	}
	return false
}

// explanations are the words of statuses, as Swift says them.
var explanations = map[int]string{
	400: "The server could not comply with the request since it is either malformed or otherwise incorrect.",
	401: "This server could not verify that you are authorized to access the document you requested.",
	403: "Access was denied to this resource.",
	404: "The resource could not be found.",
	405: "The method is not allowed for this resource.",
	406: "The resource is not available in a format acceptable to your browser.",
	408: "The server has waited too long for the request to be sent by the client.",
	409: "There was a conflict when trying to complete your request.",
	410: "This resource is no longer available.",
	411: "Content-Length header required.",
	412: "A precondition for this request was not met.",
	413: "The body of your request was too large for this server.",
	416: "The Range requested is not available.",
	422: "Unable to process the contained instructions",
	500: "The server has either erred or is incapable of performing the requested operation.",
	501: "The requested method is not implemented by this server.",
	503: "The server is currently unavailable. Please try again at a later time.",
	507: "There was not enough space to save the resource.",
}

func reason(status int) string {
	if status == 422 {
		return "Unprocessable Entity"
	}
	return http.StatusText(status)
}

// plain answers a status in the words that it always has.
func (c *call) plain(status int) {
	switch {
	case status == http.StatusUnauthorized:
		realm := escapePath(cmp.Or(c.ref.Account, "unknown"))
		c.w.Header().Add("Www-Authenticate", fmt.Sprintf("Swift realm=%q", realm))
		if c.AuthURI != "" {
			uri := c.AuthURI
			if strings.HasPrefix(uri, "/") {
				uri = scheme(c.r) + "://" + c.r.Host + uri
			}
			c.w.Header().Add("Www-Authenticate", fmt.Sprintf("Keystone uri=%q", uri))
		}
	case status < 400:
		c.w.Header().Set("Content-Length", "0")
		c.w.Header().Set("Content-Type", "text/html; charset=UTF-8")
		c.w.WriteHeader(status)
		return
	}
	c.body(status, "text/html; charset=UTF-8", fmt.Sprintf("<html><h1>%s</h1><p>%s</p></html>", reason(status), explanations[status]))
}

func (c *call) text(status int, body string) { c.body(status, "text/plain; charset=UTF-8", body) }

func (c *call) body(status int, typ, body string) {
	h := c.w.Header()
	h.Set("Content-Type", typ)
	h.Set("Content-Length", fmt.Sprint(len(body)))
	c.w.WriteHeader(status)
	if c.r.Method != http.MethodHead {
		_, _ = io.WriteString(c.w, body)
	}
}

func scheme(r *http.Request) string {
	if r.TLS != nil || r.Header.Get("X-Forwarded-Proto") == "https" {
		return "https"
	}
	return "http"
}

func (c *call) notAllowed() {
	allow := "HEAD, GET, PUT, POST, OPTIONS, DELETE"
	if c.ref.Object != "" {
		allow += ", COPY"
	}
	c.w.Header().Set("Allow", allow)
	c.plain(http.StatusMethodNotAllowed)
}

// statusOf is an error's status and words; no words are the status's own.
func statusOf(err error) (int, string) {
	var e *nacre.Error
	errors.As(err, &e)
	code, text := "", ""
	if e != nil {
		code, text = e.Code, e.Message
	}
	var m *objectstore.ManifestError
	switch kind := nacre.KindOf(err); {
	case errors.As(err, &m):
		return http.StatusBadRequest, m.Error()
	case errors.Is(err, blob.ErrFull):
		return http.StatusInsufficientStorage, ""
	case errors.Is(err, blob.ErrRotten):
		return http.StatusInternalServerError, ""
	case code == "Unprocessable":
		return http.StatusUnprocessableEntity, ""
	case code == "CutOff":
		return 499, "Client disconnected"
	case code == "Gone":
		return http.StatusGone, ""
	case code == "MethodNotAllowed":
		return http.StatusMethodNotAllowed, ""
	case kind == nacre.Invalid:
		return http.StatusBadRequest, text
	case kind == nacre.Unauthenticated:
		return http.StatusUnauthorized, ""
	case kind == nacre.Forbidden:
		return http.StatusForbidden, ""
	case kind == nacre.NotFound:
		return http.StatusNotFound, ""
	case kind == nacre.NotAcceptable:
		return http.StatusNotAcceptable, ""
	case kind == nacre.Conflict:
		return http.StatusConflict, text
	case kind == nacre.Precondition:
		return http.StatusPreconditionFailed, text
	case kind == nacre.QuotaExceeded, kind == nacre.TooLarge:
		return http.StatusRequestEntityTooLarge, text
	case kind == nacre.NotImplemented:
		return http.StatusNotImplemented, ""
	case kind == nacre.Unavailable:
		return http.StatusServiceUnavailable, ""
	}
	return http.StatusInternalServerError, ""
}

// fail answers an error.
func (c *call) fail(err error) {
	if c.r.Context().Err() != nil {
		c.w.status = 499 // nobody reads an answer
		return
	}
	status, text := statusOf(err)
	if status >= 500 {
		c.Log.ErrorContext(c.ctx, "a request failed", "method", c.r.Method, "path", c.path, "status", status, "error", err)
	}
	if status == http.StatusGone {
		c.w.Header().Set("X-Account-Status", "Deleted")
	}
	if status == http.StatusMethodNotAllowed {
		c.notAllowed()
		return
	}
	if status >= 400 && c.r.Body != nil && c.r.ContentLength != 0 {
		// What is left of a body that is not wanted is not worth reading.
		c.w.Header().Set("Connection", "close")
	}
	if text == "" || text == explanations[status] {
		c.plain(status)
		return
	}
	c.text(status, text)
}
