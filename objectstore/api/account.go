package api

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/objectstore"
)

func secs(d time.Duration) string { return strconv.FormatInt(int64(d/time.Second), 10) }

// stamp is a time in listings.
func stamp(t time.Time) string { return t.UTC().Format(stampLayout) }

// stampLayout is that of times in listings.
const stampLayout = "2006-01-02T15:04:05.000000"

// modified is a Last-Modified header: the second after, so that a copy that is
// dated by it is never older.
func modified(t time.Time) string {
	if t.Nanosecond() > 0 {
		t = t.Truncate(time.Second).Add(time.Second)
	}
	return t.UTC().Format(http.TimeFormat)
}

// format is what a listing shall come in.
func (c *call) format() (string, error) {
	types := map[string]string{"json": "application/json", "xml": "application/xml", "plain": "text/plain"}
	if f, ok := c.q["format"]; ok {
		if t := types[strings.ToLower(f[len(f)-1])]; t != "" {
			return t, nil
		}
		return "text/plain", nil
	}
	c.w.Header().Add("Vary", "Accept")
	accept := c.r.Header.Get("Accept")
	if accept == "" {
		return "text/plain", nil
	}
	best, quality := "", 0.0
	for part := range strings.SplitSeq(accept, ",") {
		mt, params, _ := strings.Cut(strings.TrimSpace(part), ";")
		mt = strings.TrimSpace(mt)
		if !strings.Contains(mt, "/") {
			return "", nacre.Errorf(nacre.Invalid, "", "Invalid Accept header")
		}
		q := 1.0
		if _, v, ok := strings.Cut(params, "q="); ok {
			v, _, _ = strings.Cut(v, ";")
			var err error
			if q, err = strconv.ParseFloat(strings.TrimSpace(v), 64); err != nil {
				return "", nacre.Errorf(nacre.Invalid, "", "Invalid Accept header")
			}
		}
		for _, t := range []string{"text/plain", "application/json", "application/xml", "text/xml"} {
			group, _, _ := strings.Cut(t, "/")
			if (mt == t || mt == "*/*" || mt == group+"/*") && q > quality {
				best, quality = t, q
			}
		}
	}
	if best == "" {
		return "", nacre.Errorf(nacre.NotAcceptable, "", "No acceptable format")
	}
	return best, nil
}

func (c *call) listQuery() (objectstore.ListQuery, error) {
	q := objectstore.ListQuery{Prefix: c.param("prefix"), Delimiter: c.param("delimiter"), Marker: c.param("marker"), EndMarker: c.param("end_marker"), Reverse: isTrue(c.param("reverse"))}
	if c.has("path") {
		p := c.param("path")
		q.Path = &p
	}
	if c.has("versions") && !falsy(c.param("versions")) {
		q.Versions, q.VersionMarker = true, c.param("version_marker")
	}
	if l := c.param("limit"); l != "" {
		n, err := strconv.Atoi(l)
		if err == nil && n == 0 {
			n = -2 // nothing at all is asked for
		}
		if err != nil {
			n = 0 // Swift takes what is no number for its own limit
		}
		if n < -2 {
			n = -1
		}
		q.Limit = n
	}
	return q, nil
}

func falsy(s string) bool { return s != "" && !isTrue(s) }

// userHeaders are the request's headers of a kind ("X-Account-Meta-"), and those
// to be removed with an empty value.
func (c *call) userHeaders(kind string) map[string]string {
	out := map[string]string{}
	remove := "X-Remove-" + strings.TrimPrefix(kind, "X-")
	for name, vs := range c.r.Header {
		switch {
		case strings.HasPrefix(name, kind):
			out[name] = strings.TrimSpace(vs[0])
		case strings.HasPrefix(name, remove):
			out[kind+name[len(remove):]] = ""
		}
	}
	return out
}

func (c *call) getAccount() {
	f, err := c.format()
	if err != nil {
		c.fail(err)
		return
	}
	q, err := c.listQuery()
	if err != nil {
		c.fail(err)
		return
	}
	var info objectstore.AccountInfo
	var es []objectstore.ContainerEntry
	switch {
	case c.r.Method == http.MethodHead, q.Limit == -2:
		info, err = c.svc.Account(c.ctx, c.ref.Account)
	default:
		info, es, err = c.svc.ListContainers(c.ctx, c.ref.Account, q)
	}
	if err != nil {
		c.fail(err)
		return
	}
	h := c.w.Header()
	at := info.Created
	if at.IsZero() {
		at = c.svc.Now()
	}
	h.Set("X-Timestamp", objectstore.Timestamp(at))
	h.Set("X-Account-Container-Count", strconv.FormatInt(info.Containers, 10))
	h.Set("X-Account-Object-Count", strconv.FormatInt(info.Objects, 10))
	h.Set("X-Account-Bytes-Used", strconv.FormatInt(info.Bytes, 10))
	for name, u := range info.Policies {
		p := "X-Account-Storage-Policy-" + name
		h.Set(p+"-Container-Count", strconv.FormatInt(u.Containers, 10))
		h.Set(p+"-Object-Count", strconv.FormatInt(u.Objects, 10))
		h.Set(p+"-Bytes-Used", strconv.FormatInt(u.Bytes, 10))
	}
	owner := c.svc.Owner(c.ctx, c.ref.Account)
	for k, v := range info.Meta {
		if strings.HasPrefix(k, "X-Account-Meta-") && (owner || !objectstore.OwnerOnly(k)) {
			h.Set(k, v)
		}
	}
	for header, kept := range c.quotaHeaders() {
		if q := info.Meta[kept]; q != "" {
			h.Set(header, q)
		}
	}
	c.showTagSetting(accountTagsSet, info.Meta[accountTags])
	if info.ACL != "" {
		h.Set("X-Account-Access-Control", info.ACL)
	}
	h.Set("Accept-Ranges", "bytes")
	if c.r.Method == http.MethodHead {
		h.Set("Content-Type", f+"; charset=utf-8")
		h.Set("Content-Length", "0")
		c.w.WriteHeader(http.StatusNoContent)
		return
	}
	c.listing(f, containersText(f, c.ref.Account, es))
}

// listing answers a listing; an empty text is 204.
func (c *call) listing(f, body string) {
	if body == "" {
		c.w.Header().Set("Content-Type", f+"; charset=utf-8")
		c.w.Header().Set("Content-Length", "0")
		c.w.WriteHeader(http.StatusNoContent)
		return
	}
	c.body(http.StatusOK, f+"; charset=utf-8", body)
}

func escapeXML(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s))
	return b.String()
}

func containersText(f, account string, es []objectstore.ContainerEntry) string {
	var b strings.Builder
	switch f {
	case "application/json":
		type entry struct {
			Name     string `json:"name,omitempty"`
			Count    *int64 `json:"count,omitempty"`
			Bytes    *int64 `json:"bytes,omitempty"`
			Modified string `json:"last_modified,omitempty"`
			Policy   string `json:"storage_policy,omitempty"`
			Subdir   string `json:"subdir,omitempty"`
		}
		out := make([]entry, len(es))
		for i := range es {
			if e := &es[i]; e.Subdir {
				out[i] = entry{Subdir: e.Name}
			} else {
				out[i] = entry{Name: e.Name, Count: &e.Objects, Bytes: &e.Bytes, Modified: stamp(e.Changed), Policy: e.Policy}
			}
		}
		text, _ := json.Marshal(out) // strings and numbers always can be
		return string(text)
	case "application/xml", "text/xml":
		fmt.Fprintf(&b, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<account name=\"%s\">\n", escapeXML(account))
		for _, e := range es {
			if e.Subdir {
				fmt.Fprintf(&b, "<subdir name=\"%s\" />\n", escapeXML(e.Name))
				continue
			}
			fmt.Fprintf(&b, "<container><name>%s</name><count>%d</count><bytes>%d</bytes><last_modified>%s</last_modified><storage_policy>%s</storage_policy></container>\n",
				escapeXML(e.Name), e.Objects, e.Bytes, stamp(e.Changed), escapeXML(e.Policy))
		}
		b.WriteString("</account>")
	default:
		for _, e := range es {
			b.WriteString(e.Name + "\n")
		}
	}
	return b.String()
}

// quotaHeaders are the headers of an account's quotas, and what each is kept as.
func (c *call) quotaHeaders() map[string]string {
	out := map[string]string{"X-Account-Quota-Bytes": "X-Account-Meta-Quota-Bytes", "X-Account-Quota-Count": "X-Account-Sysmeta-Quota-Count"}
	for _, p := range c.svc.Policies() {
		for _, what := range []string{"Bytes", "Count"} {
			out["X-Account-Quota-"+what+"-Policy-"+p] = "X-Account-Sysmeta-Quota-" + what + "-Policy-" + p
		}
	}
	return out
}

func (c *call) accountChange() objectstore.AccountChange {
	ch := objectstore.AccountChange{Meta: c.userHeaders("X-Account-Meta-")}
	for header, kept := range c.quotaHeaders() {
		if q, ok := c.r.Header[http.CanonicalHeaderKey(header)]; ok {
			ch.Meta[kept] = strings.TrimSpace(q[0])
		}
		if c.r.Header.Get("X-Remove-"+header[2:]) != "" {
			ch.Meta[kept] = ""
		}
	}
	c.tagSetting(accountTagsSet, accountTags, ch.Meta)
	if acl, ok := c.r.Header["X-Account-Access-Control"]; ok {
		text := strings.TrimSpace(acl[0])
		if text == "{}" {
			text = ""
		}
		ch.ACL = &text
	}
	return ch
}

func (c *call) postAccount() {
	if err := c.svc.PostAccount(c.ctx, c.ref.Account, c.accountChange()); err != nil {
		c.fail(err)
		return
	}
	c.plain(http.StatusNoContent)
}

func (c *call) putAccount() {
	made, err := c.svc.PutAccount(c.ctx, c.ref.Account, c.accountChange())
	switch {
	case err != nil:
		c.fail(err)
	case made:
		c.plain(http.StatusCreated)
	default:
		c.plain(http.StatusAccepted)
	}
}

func (c *call) deleteAccount() {
	if err := c.svc.DeleteAccount(c.ctx, c.ref.Account); err != nil {
		c.fail(err)
		return
	}
	c.plain(http.StatusNoContent)
}

// escapePath encodes a path as Swift quotes it.
func escapePath(p string) string {
	parts := strings.Split(p, "/")
	for i := range parts {
		parts[i] = url.PathEscape(parts[i])
	}
	return strings.Join(parts, "/")
}
