package remote

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/gophercloud/gophercloud/v2"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/store"
)

// Config says who asks, and where others are. IdentityURL, Username and Password are
// required.
type Config struct {
	// IdentityURL is the identity service's v3 root.
	IdentityURL string
	// Username and Password are the service's own, in UserDomain (a name; empty is
	// Default), on Project (empty is "service") in ProjectDomain.
	Username, Password, UserDomain string
	Project, ProjectDomain         string
	// Region and Interface choose from the catalog; Interface empty is "internal".
	Region, Interface string
	// Endpoints are addresses by service type ("network") to use instead of the
	// catalog's, as the catalog would have them.
	Endpoints map[string]string
	// Transport is for proxies and certificates; nil is net/http's with a short dial.
	Transport http.RoundTripper
	Log       *slog.Logger
}

// Cloud is the services in other processes. It is safe for concurrent use.
type Cloud struct {
	c    Config
	http *http.Client

	mu  sync.Mutex
	own *login
	// dns says that the network service names ports, as it said at dnsAt.
	dns   bool
	dnsAt time.Time
}

// New makes a Cloud. It asks nothing yet.
func New(c Config) (*Cloud, error) {
	for name, value := range map[string]string{"IdentityURL": c.IdentityURL, "Username": c.Username, "Password": c.Password} {
		if value == "" {
			return nil, fmt.Errorf("remote: Config.%s is missing", name)
		}
	}
	c.IdentityURL = strings.TrimRight(c.IdentityURL, "/")
	c.UserDomain, c.ProjectDomain, c.Project = cmp.Or(c.UserDomain, "Default"), cmp.Or(c.ProjectDomain, "Default"), cmp.Or(c.Project, "service")
	c.Interface = cmp.Or(c.Interface, string(gophercloud.AvailabilityInternal))
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Transport == nil {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.DialContext = (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}).DialContext
		t.MaxIdleConnsPerHost = 64
		c.Transport = t
	}
	// A redirect would take the token along.
	return &Cloud{c: c, http: &http.Client{Transport: c.Transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}, nil
}

// deadline bounds a request whose answer is not a stream.
const deadline = 30 * time.Second

// api is a service as one caller reaches it.
type api struct {
	c *Cloud
	// typ is the service's in the catalog, endpoint its address with the version, and
	// headers what goes with each request.
	typ, endpoint string
	headers       map[string]string
	// by is the service's own log-in.
	by *login
	// user has the token of the user who asks; nil is that the service does, with its
	// own rights.
	user *gophercloud.ProviderClient
}

// as is a service for whoever the context names. version is the API's version in the
// path, which the catalog may have or leave out.
func (c *Cloud) as(ctx context.Context, typ, version string) (*api, error) {
	if err := store.Outside(ctx); err != nil {
		return nil, err
	}
	caller := nacre.CallerFrom(ctx)
	if caller == nil || caller.Service == "" && caller.Token == "" {
		return nil, nacre.Errorf(nacre.Unauthenticated, "", "There is no token to ask the %s service with.", typ)
	}
	own, err := c.service(ctx, nil)
	if err != nil {
		return nil, err
	}
	base, err := c.address(own, typ, version)
	if err != nil && time.Since(own.at) > again {
		// It may have come since.
		if own, err = c.service(ctx, own); err == nil {
			base, err = c.address(own, typ, version)
		}
	}
	if err != nil {
		return nil, err
	}
	a := &api{c: c, typ: typ, endpoint: base, headers: map[string]string{}, by: own}
	if id := cmp.Or(caller.GlobalRequestID, caller.RequestID); id != "" {
		a.headers["X-OpenStack-Request-ID"] = id
	}
	if caller.Service == "" {
		a.user = &gophercloud.ProviderClient{HTTPClient: *c.http, UserAgent: own.UserAgent}
		a.user.SetToken(caller.Token)
	}
	return a, nil
}

func (c *Cloud) address(own *login, typ, version string) (string, error) {
	base := c.c.Endpoints[typ]
	switch {
	case typ == "identity" && base == "":
		base = c.c.IdentityURL
	case base == "":
		var err error
		base, err = own.EndpointLocator(gophercloud.EndpointOpts{Type: typ, Region: c.c.Region, Availability: gophercloud.Availability(c.c.Interface)})
		if err != nil {
			return "", &nacre.Error{Kind: nacre.Unavailable, Code: typ, Message: "The catalog has no " + typ + " service.", Err: err}
		}
	}
	base = strings.TrimRight(base, "/") + "/"
	if !strings.HasSuffix(base, "/"+version+"/") {
		base += version + "/"
	}
	return base, nil
}

// tries is how often a request that may be repeated is sent.
const tries = 3

// do sends a request and decodes the answer. repeat says that sending it twice does no
// harm. What changes something is waited for even when the caller is called off, up to
// the caller's own deadline: the other side goes on all the same, and who was told that it
// is over would clear away too early.
func (a *api) do(ctx context.Context, method, path string, in, out any, repeat bool, headers ...string) error {
	h := maps.Clone(a.headers)
	for i := 0; i+1 < len(headers); i += 2 {
		h[headers[i]] = headers[i+1]
	}
	if method != http.MethodGet {
		if err := ctx.Err(); err != nil {
			return err
		}
		at, ok := ctx.Deadline()
		if ctx = context.WithoutCancel(ctx); ok {
			var cancel context.CancelFunc
			ctx, cancel = context.WithDeadline(ctx, at)
			defer cancel()
		}
	}
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	wait := 100 * time.Millisecond
	for n := 1; ; n++ {
		resp, err := a.send(ctx, method, path, gophercloud.RequestOpts{JSONBody: in, JSONResponse: out, MoreHeaders: h, OkCodes: []int{200, 201, 202, 204, 207}})
		if err == nil {
			return resp.Body.Close()
		}
		if n == tries || !transient(err, repeat) {
			return a.fault(err)
		}
		select {
		case <-ctx.Done():
			return a.fault(err)
		case <-time.After(wait):
		}
		wait *= 4
	}
}

// transient says that a request may succeed when it is sent again.
func transient(err error, repeat bool) bool {
	var dial *net.OpError
	if errors.As(err, &dial) && dial.Op == "dial" {
		return true // it was never sent
	}
	if !repeat {
		return false
	}
	var code gophercloud.ErrUnexpectedResponseCode
	if errors.As(err, &code) {
		return code.Actual == http.StatusBadGateway || code.Actual == http.StatusServiceUnavailable || code.Actual == http.StatusGatewayTimeout
	}
	var cut *url.Error
	return errors.As(err, &cut)
}

func (a *api) get(ctx context.Context, path string, out any) error {
	return a.do(ctx, http.MethodGet, path, nil, out, true)
}

func (a *api) put(ctx context.Context, path string, in, out any, headers ...string) error {
	return a.do(ctx, http.MethodPut, path, in, out, true, headers...)
}

func (a *api) post(ctx context.Context, path string, in, out any) error {
	return a.do(ctx, http.MethodPost, path, in, out, false)
}

// remove deletes; what is gone already is deleted.
func (a *api) remove(ctx context.Context, path string) error {
	err := a.do(ctx, http.MethodDelete, path, nil, nil, true)
	if errors.Is(err, nacre.NotFound) {
		return nil
	}
	return err
}

// object is JSON's.
type object = map[string]any

// in adds values under a name to a query, a list of requests that are not too long.
func in(path, name string, values []string) []string {
	const most = 40
	var out []string
	for len(values) > 0 {
		n := min(most, len(values))
		q := url.Values{name: values[:n]}
		sep := "?"
		if strings.Contains(path, "?") {
			sep = "&"
		}
		out, values = append(out, path+sep+q.Encode()), values[n:]
	}
	return out
}

// listAll gets lists that are called name in the answers, all pages of each.
func listAll[T any](ctx context.Context, a *api, name string, paths ...string) ([]T, error) {
	var all []T
	for _, path := range paths {
		for path != "" {
			var page map[string]jsonRaw
			if err := a.get(ctx, path, &page); err != nil {
				return nil, err
			}
			var items []T
			if err := page[name].decode(&items); err != nil {
				return nil, err
			}
			all = append(all, items...)
			next, err := nextPage(page, name)
			if err != nil {
				return nil, err
			}
			path = next
		}
	}
	return all, nil
}
