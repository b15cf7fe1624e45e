package api

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// below is what stands before a domain in a Host header.
func below(host, domain string) (string, bool) {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return strings.CutSuffix(strings.ToLower(host), "."+strings.ToLower(strings.TrimPrefix(domain, ".")))
}

// remap turns container.account.DOMAIN/object into the path of that object; false
// when it has been answered.
func (c *call) remap() bool {
	host := c.hostOf(c.r)
	for _, d := range c.Domains {
		head, ok := below(host, d)
		if !ok {
			continue
		}
		parts := strings.Split(head, ".")
		if len(parts) > 2 {
			c.text(http.StatusBadRequest, "Bad domain in host header")
			return false
		}
		account, container := parts[len(parts)-1], ""
		if len(parts) == 2 {
			container = "/" + parts[0]
		}
		prefix := c.svc.Prefix()
		if !strings.HasPrefix(strings.ToLower(account), strings.ToLower(prefix)) {
			// A host name has no underscore: AUTH-x is AUTH_x.
			account = strings.TrimPrefix(strings.Replace(account, strings.ToLower(strings.Replace(prefix, "_", "-", 1)), "", 1), prefix)
		} else {
			account = account[len(prefix):]
		}
		if p := c.path; !strings.HasPrefix(p, "/v1/"+prefix) {
			c.path = "/v1/" + prefix + account + container + p
		}
		return true
	}
	return true
}

// hostOf is the Host header, or the name below one of Domains that it is an alias of.
func (a *api) hostOf(r *http.Request) string {
	if a.Alias == nil || a.ours(r.Host) {
		return r.Host
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if net.ParseIP(strings.Trim(host, "[]")) != nil || !strings.Contains(host, ".") {
		return r.Host
	}
	if to := a.aliases.find(r.Context(), strings.ToLower(host), a.Alias); a.ours(to) {
		return to
	}
	return r.Host
}

func (a *api) ours(host string) bool {
	for _, d := range a.Domains {
		if _, ok := below(host, d); ok {
			return true
		}
	}
	return false
}

// aliases remembers what names are aliases of, for a minute.
type aliases struct {
	mu    sync.Mutex
	known map[string]*alias
}

type alias struct {
	to    string
	until time.Time
	// asking is closed when whoever asks has been told; nil while nobody does.
	asking chan struct{}
}

const (
	aliasFor  = time.Minute
	aliasWait = 2 * time.Second
	aliasMax  = 10000
)

// find is the name behind a name; empty where there is none, or nobody says so in time.
// Of those who want one name at the same time one asks.
func (a *aliases) find(ctx context.Context, host string, lookup func(context.Context, string) (string, error)) string {
	a.mu.Lock()
	k := a.known[host]
	if k == nil {
		if a.known == nil || len(a.known) >= aliasMax {
			a.known = map[string]*alias{}
		}
		k = &alias{}
		a.known[host] = k
	}
	to, asking, fresh := k.to, k.asking, time.Now().Before(k.until)
	if !fresh && asking == nil {
		k.asking = make(chan struct{})
	}
	a.mu.Unlock()
	switch {
	case fresh:
		return to
	case asking == nil:
		return a.ask(ctx, k, host, lookup)
	}
	select {
	case <-asking:
	case <-ctx.Done():
		return ""
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return k.to
}

// ask finds out what a name is an alias of, for all who wait, whatever becomes of the
// request that it is asked for. That nobody could say is not remembered, as Swift's
// cname_lookup does not; what was known stays.
func (a *aliases) ask(ctx context.Context, k *alias, host string, lookup func(context.Context, string) (string, error)) string {
	defer func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		close(k.asking)
		k.asking = nil
	}()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), aliasWait)
	defer cancel()
	to, err := lookup(ctx, host)
	a.mu.Lock()
	defer a.mu.Unlock()
	var none *net.DNSError
	switch {
	case err == nil:
		k.to, k.until = strings.TrimSuffix(to, "."), time.Now().Add(aliasFor)
	case errors.As(err, &none) && none.IsNotFound:
		k.to, k.until = "", time.Now().Add(aliasFor)
	case k.to != "":
		k.until = time.Now().Add(aliasWait)
	}
	return k.to
}
