package api

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/nacre-cloud/nacre/objectstore"
)

// tempURL is a valid signed URL.
type tempURL struct {
	expires  time.Time
	filename string
	inline   bool
}

// digestOf reads a signature: "sha256:base64…", or hex whose length tells the digest.
func digestOf(sig string) (algorithm string, sum []byte, ok bool) {
	if name, text, found := strings.Cut(sig, ":"); found {
		text = strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(text, "="))
		sum, err := base64.RawStdEncoding.DecodeString(text)
		return name, sum, err == nil
	}
	algorithm, ok = map[int]string{40: "sha1", 64: "sha256", 128: "sha512"}[len(sig)]
	sum, err := hex.DecodeString(sig)
	return algorithm, sum, ok && err == nil
}

// expiresAt reads seconds since 1970 or an ISO 8601 time; what is past is none.
func expiresAt(s string, now time.Time) (int64, bool) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		for _, f := range []string{"2006-01-02T15:04:05Z", "2006-01-02T15:04:05-0700", "2006-01-02T15:04:05", "2006-01-02"} {
			if t, perr := time.Parse(f, s); perr == nil {
				n, err = t.Unix(), nil
				break
			}
		}
	}
	return n, err == nil && n >= now.Unix()
}

func (c *call) badURL() bool {
	c.w.Header().Set("Www-Authenticate", fmt.Sprintf("Swift realm=%q", c.ref.Account))
	c.text(http.StatusUnauthorized, "401 Unauthorized: Temp URL invalid\n")
	return true
}

// tempurl checks a signed URL. A valid one replaces the caller; done says that the
// request has been answered.
func (c *call) tempurl() (done bool) {
	if !c.has("temp_url_sig") && !c.has("temp_url_expires") {
		return false
	}
	m := c.r.Method
	expires, ok := expiresAt(c.param("temp_url_expires"), c.svc.Now())
	if !ok {
		return c.badURL()
	}
	algorithm, sum, ok := digestOf(c.param("temp_url_sig"))
	if !ok || c.ref.Container == "" || !strings.Contains("GET HEAD PUT POST DELETE", m) {
		return c.badURL()
	}
	prefix, scoped := c.param("temp_url_prefix"), c.has("temp_url_prefix")
	root := c.ref.Object == "" && scoped && prefix == "" && (m == http.MethodGet || m == http.MethodHead)
	if strings.Trim(c.ref.Object, "/") == "" && !root {
		return c.badURL()
	}
	what := c.ref.String()
	kind := ""
	if scoped {
		if !strings.HasPrefix(c.ref.Object, prefix) {
			return c.badURL()
		}
		kind, what = "prefix:", c.ref.Account+"/"+c.ref.Container+"/"+prefix
	}
	lead := ""
	if ips := c.param("temp_url_ip_range"); ips != "" {
		if !fromRange(c.r.RemoteAddr, ips) {
			return c.badURL()
		}
		lead = "ip=" + ips + "\n"
	}
	methods := []string{m}
	if m == http.MethodHead {
		methods = []string{"HEAD", "GET", "POST", "PUT"}
	}
	var texts []string
	for _, m := range methods {
		for _, base := range c.bases() {
			texts = append(texts, fmt.Sprintf("%s%s\n%d\n%s%s/v1/%s", lead, m, expires, kind, base, what))
		}
	}
	signed, err := c.svc.Verify(c.ctx, c.ref, algorithm, sum, texts...)
	if err != nil {
		c.fail(err)
		return true
	}
	if signed == nil {
		return c.badURL()
	}
	// What would reach beyond the object that was signed is refused, or not seen.
	if m == http.MethodPut || m == http.MethodPost {
		for _, h := range []string{"X-Object-Manifest", "X-Symlink-Target", "X-Copy-From"} {
			if c.r.Header.Get(h) != "" {
				c.text(http.StatusBadRequest, "The header '"+h+"' is not allowed in this tempurl")
				return true
			}
		}
	}
	c.r.Header.Del("X-Timestamp")
	for _, name := range []string{"multipart-manifest", "extract-archive", "bulk-delete", "symlink", "version-id"} {
		if m != http.MethodGet && m != http.MethodHead || name != "version-id" {
			delete(c.q, name)
		}
	}
	c.ctx = objectstore.WithAccess(c.ctx, objectstore.Access{Signed: signed})
	c.signed = &tempURL{expires: time.Unix(expires, 0), filename: c.param("filename"), inline: c.has("inline")}
	if root {
		// A listing of what was signed is for a static web site only.
		return c.badURL()
	}
	return false
}

// bases are the prefixes under which a path may have been signed.
func (c *call) bases() []string {
	if c.base == "" {
		return []string{""}
	}
	return []string{"", c.base}
}

func fromRange(remote, ips string) bool {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		host = remote
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	if p, err := netip.ParsePrefix(ips); err == nil {
		return p.Masked() == p && p.Contains(addr.Unmap())
	}
	a, err := netip.ParseAddr(ips)
	return err == nil && a == addr.Unmap()
}

// headers hides and adds what a signed URL's answer has.
func (t *tempURL) headers(c *call) {
	h := c.w.Header()
	for k := range h {
		if strings.HasPrefix(k, "X-Object-Meta-") && !strings.HasPrefix(k, "X-Object-Meta-Public-") {
			h.Del(k)
		}
	}
	disposition := h.Get("Content-Disposition")
	switch {
	case t.inline && t.filename != "":
		disposition = named("inline", t.filename)
	case t.inline:
		disposition = "inline"
	case t.filename != "":
		disposition = named("attachment", t.filename)
	case disposition == "":
		disposition = named("attachment", path.Base(strings.TrimRight(c.path, "/")))
	}
	h.Set("Content-Disposition", strings.ReplaceAll(disposition, "\n", "%0A"))
	h.Set("Expires", t.expires.UTC().Format(http.TimeFormat))
}

func named(kind, name string) string {
	quoted := strings.ReplaceAll(strings.ReplaceAll(name, `\`, `\\`), `"`, `\"`)
	return fmt.Sprintf("%s; filename=\"%s\"; filename*=UTF-8''%s", kind, strings.ReplaceAll(quoted, "\r", ""), url.PathEscape(name))
}
