package api

import (
	"net/http"
	"slices"
	"strings"
)

// exposed are the headers that scripts of other origins always see.
var exposed = []string{"cache-control", "content-language", "content-type", "expires", "last-modified", "pragma", "etag", "x-timestamp", "x-trans-id", "x-openstack-request-id"}

// allowedOrigin tells whether an origin may come, and how that is said.
func allowedOrigin(origin string, allowed []string) (string, bool) {
	switch {
	case slices.Contains(allowed, "*"):
		return "*", true
	case slices.Contains(allowed, origin):
		return origin, true
	}
	return "", false
}

func (c *call) origins() ([]string, map[string]string) {
	allowed := slices.Clone(c.Origins)
	if c.ref.Container == "" {
		return allowed, nil
	}
	meta, err := c.svc.Settings(c.ctx, c.ref)
	if err != nil {
		return allowed, nil
	}
	return append(allowed, strings.Fields(meta["X-Container-Meta-Access-Control-Allow-Origin"])...), meta
}

// cors adds to an answer what lets scripts of another origin see it.
func (c *call) cors() {
	origin := c.r.Header.Get("Origin")
	if origin == "" {
		return
	}
	allowed, meta := c.origins()
	say, ok := allowedOrigin(origin, allowed)
	if !ok {
		return
	}
	h := c.w.Header()
	h.Set("Access-Control-Allow-Origin", say)
	if say != "*" {
		h.Add("Vary", "Origin")
	}
	names := append(slices.Clone(exposed), strings.Fields(strings.ToLower(meta["X-Container-Meta-Access-Control-Expose-Headers"]))...)
	h.Set("Access-Control-Expose-Headers", strings.Join(names, ", "))
}

func (c *call) corsAll() {
	if c.r.Header.Get("Origin") != "" {
		c.w.Header().Set("Access-Control-Allow-Origin", "*")
	}
}

// options answers OPTIONS: a browser's question before a request, or what may be
// done here.
func (c *call) options() {
	h := c.w.Header()
	methods := "HEAD, GET, PUT, POST, OPTIONS, DELETE"
	if c.ref.Object != "" {
		methods += ", COPY"
	}
	h.Set("Allow", methods)
	origin := c.r.Header.Get("Origin")
	if origin == "" {
		c.plain(http.StatusOK)
		return
	}
	allowed, meta := c.origins()
	say, ok := allowedOrigin(origin, allowed)
	want := c.r.Header.Get("Access-Control-Request-Method")
	if !ok || want == "" || !slices.Contains(strings.Split(methods, ", "), want) {
		c.plain(http.StatusUnauthorized)
		return
	}
	h.Set("Access-Control-Allow-Origin", say)
	if say != "*" {
		h.Add("Vary", "Origin")
	}
	h.Set("Access-Control-Allow-Methods", methods)
	if age := meta["X-Container-Meta-Access-Control-Max-Age"]; age != "" {
		h.Set("Access-Control-Max-Age", age)
	}
	names := strings.Fields(meta["X-Container-Meta-Access-Control-Allow-Headers"])
	if r := c.r.Header.Get("Access-Control-Request-Headers"); r != "" {
		for n := range strings.SplitSeq(r, ",") {
			names = append(names, strings.TrimSpace(n))
		}
	}
	if len(names) > 0 {
		h.Set("Access-Control-Allow-Headers", strings.Join(names, ", "))
		h.Add("Vary", "Access-Control-Request-Headers")
	}
	c.plain(http.StatusOK)
}
