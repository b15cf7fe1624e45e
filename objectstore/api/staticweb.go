package api

import (
	"errors"
	"fmt"
	"html"
	"net/http"
	"strings"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/objectstore"
)

// site is how a container is shown as a web site.
type site struct{ index, fault, listings, label, css, dir string }

// web answers a request of a browser for a container that is a web site, and says
// whether it did. Who comes with a token is no browser, unless X-Web-Mode says so.
func (c *call) web() bool {
	if nacre.CallerFrom(c.ctx) != nil && !isTrue(c.r.Header.Get("X-Web-Mode")) {
		return false
	}
	meta, err := c.svc.Settings(c.ctx, c.ref)
	if err != nil {
		c.fail(err)
		return true
	}
	m := func(name string) string { return strings.TrimSpace(meta["X-Container-Meta-Web-"+name]) }
	s := site{m("Index"), m("Error"), m("Listings"), m("Listings-Label"), m("Listings-Css"), m("Directory-Type")}
	if s.dir == "" {
		s.dir = "application/directory"
	}
	if s.index == "" && s.listings == "" && (s.fault == "" || c.ref.Object == "") {
		return false
	}
	if c.ref.Object == "" {
		c.webDir(s, "")
	} else {
		c.webObject(s)
	}
	return true
}

// webObject shows an object, or what a directory of that name has.
func (c *call) webObject(s site) {
	o, err := c.svc.Get(c.ctx, c.ref, objectstore.GetOptions{})
	switch {
	case err == nil && (o.ContentType != s.dir || o.Length > 1):
		c.getObject()
		return
	case err != nil && !errors.Is(err, nacre.NotFound):
		c.webFault(s, err)
		return
	}
	if s.index == "" && s.listings == "" {
		c.webFault(s, err)
		return
	}
	c.webDir(s, c.ref.Object)
}

// webDir shows a directory: its index page, or a listing.
func (c *call) webDir(s site, dir string) {
	slash := strings.HasSuffix(c.path, "/")
	prefix := dir
	if dir != "" && !slash {
		prefix += "/"
	}
	if s.index != "" {
		r := c.ref
		r.Object = prefix + s.index
		o, err := c.svc.Get(c.ctx, r, objectstore.GetOptions{})
		if err != nil && !errors.Is(err, nacre.NotFound) {
			c.webFault(s, err)
			return
		}
		if err == nil {
			if !slash {
				c.withSlash()
				return
			}
			c.show(o, false)
			return
		}
	}
	// Without the right to list, what isn't there can't be told from what is.
	_, es, err := c.svc.ListObjects(c.ctx, objectstore.Ref{Account: c.ref.Account, Container: c.ref.Container}, objectstore.ListQuery{Prefix: prefix, Delimiter: "/"})
	if err != nil {
		c.webFault(s, err)
		return
	}
	if dir != "" && len(es) == 0 || !isTrue(s.listings) {
		c.webFault(s, nacre.Errorf(nacre.NotFound, "", ""))
		return
	}
	if !slash {
		c.withSlash()
		return
	}
	c.body(http.StatusOK, "text/html; charset=UTF-8", c.webListing(s, prefix, es))
}

func (c *call) withSlash() {
	c.w.Header().Set("Location", scheme(c.r)+"://"+c.r.Host+c.base+escapePath(c.path)+"/")
	c.body(http.StatusMovedPermanently, "text/html; charset=UTF-8", "<html><h1>Moved Permanently</h1><p>The resource has moved permanently.</p></html>")
}

// webFault answers an error with the site's own page for it, if there is one.
func (c *call) webFault(s site, err error) {
	status, _ := statusOf(err)
	if s.fault != "" {
		r := c.ref
		r.Object = fmt.Sprintf("%d%s", status, s.fault)
		o, gerr := c.svc.Get(c.ctx, r, objectstore.GetOptions{})
		if gerr == nil {
			body, oerr := o.Open(c.ctx, 0, -1)
			if oerr == nil {
				defer body.Close() //nolint:errcheck // read only
				c.objectHeaders(o)
				c.w.Header().Set("Content-Length", fmt.Sprint(o.Length))
				c.w.WriteHeader(status)
				if c.r.Method != http.MethodHead {
					c.pump(o, body)
				}
				return
			}
		}
	}
	c.plain(status)
}

func (c *call) webListing(s site, prefix string, es []objectstore.ObjectEntry) string {
	var b strings.Builder
	label := c.path
	if s.label != "" {
		label = s.label + "/" + prefix
	}
	label = html.EscapeString(label)
	b.WriteString("<!DOCTYPE html>\n<html>\n<head>\n<title>Listing of " + label + "</title>\n")
	switch {
	case s.css == "":
		b.WriteString("<style type=\"text/css\">\nh1 {font-size: 1em; font-weight: bold;}\nth {text-align: left; padding: 0px 1em 0px 1em;}\ntd {padding: 0px 1em 0px 1em;}\na {text-decoration: none;}\n</style>\n")
	case strings.HasPrefix(s.css, "/"), strings.HasPrefix(s.css, "http://"), strings.HasPrefix(s.css, "https://"):
		fmt.Fprintf(&b, "<link rel=\"stylesheet\" type=\"text/css\" href=\"%s\" />\n", html.EscapeString(s.css))
	default:
		fmt.Fprintf(&b, "<link rel=\"stylesheet\" type=\"text/css\" href=\"%s%s\" />\n", strings.Repeat("../", strings.Count(prefix, "/")), html.EscapeString(escapePath(s.css)))
	}
	b.WriteString("</head>\n<body>\n<h1 id=\"title\">Listing of " + label + "</h1>\n<table id=\"listing\">\n<tr id=\"heading\"><th class=\"colname\">Name</th><th class=\"colsize\">Size</th><th class=\"coldate\">Date</th></tr>\n")
	row := func(class, href, name, size, date string) {
		fmt.Fprintf(&b, "<tr class=\"%s\"><td class=\"colname\"><a href=\"%s\">%s</a></td><td class=\"colsize\">%s</td><td class=\"coldate\">%s</td></tr>\n", class, html.EscapeString(href), html.EscapeString(name), size, date)
	}
	if prefix != "" {
		row("item", "../", "../", "&nbsp;", "&nbsp;")
	}
	href := func(name string) string { return "./" + strings.ReplaceAll(escapePath(name), ".", "%2E") }
	for _, e := range es {
		if name := strings.TrimPrefix(e.Name, prefix); e.Subdir {
			row("item subdir", href(name), name, "&nbsp;", "&nbsp;")
		}
	}
	for _, e := range es {
		name := strings.TrimPrefix(e.Name, prefix)
		if e.Subdir || name == "" {
			continue
		}
		class := "item"
		for t := range strings.SplitSeq(e.ContentType, "/") {
			class += " type-" + html.EscapeString(strings.ToLower(t))
		}
		row(class, href(name), name, human(e.Bytes), e.Modified.UTC().Format("2006-01-02 15:04:05"))
	}
	b.WriteString("</table>\n</body>\n</html>\n")
	return b.String()
}

// human is a size for people, in steps of 1024.
func human(n int64) string {
	units := []string{"", "Ki", "Mi", "Gi", "Ti", "Pi"}
	v, i := float64(n), 0
	for v >= 1024 && i < len(units)-1 {
		v, i = v/1024, i+1
	}
	return fmt.Sprintf("%.0f%s", v, units[i])
}
