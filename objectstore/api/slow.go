package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nacre-cloud/nacre/objectstore"
)

// slowly does work that may take long and answers with the body that it gives. Where
// it does, and with atOnce in any case, the answer begins early, with a space now and
// then, so that nobody between takes the connection for dead.
func (c *call) slowly(status int, typ string, atOnce bool, work func() string) {
	done, broken := make(chan string, 1), make(chan any, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				broken <- p
			}
		}()
		done <- work()
	}()
	tick := time.NewTicker(c.Heartbeat)
	defer tick.Stop()
	begun := false
	space := func() {
		if !begun {
			c.w.Header().Set("Content-Type", typ)
			c.w.WriteHeader(status)
			begun = true
		}
		_, _ = c.w.Write([]byte(" ")) // a client that is gone ends the request's context
		_ = http.NewResponseController(c.w).Flush()
	}
	if atOnce {
		space()
	}
	for {
		select {
		case <-tick.C:
			space()
		case p := <-broken:
			panic(p) // in the request's own goroutine, where it ends the request alone
		case body := <-done:
			if begun {
				_, _ = c.w.Write([]byte("\r\n\r\n" + body))
			} else {
				c.body(status, typ, body)
			}
			return
		}
	}
}

// putSlowly is the PUT of a manifest with heartbeat=on: the answer begins before the
// segments have been looked at, and tells in its body what became of it.
func (c *call) putSlowly(n objectstore.NewObject) {
	f, err := c.format()
	if err != nil {
		c.failPut(err)
		return
	}
	c.slowly(http.StatusAccepted, f, true, func() string {
		o, err := c.svc.Put(c.ctx, n)
		said := map[string]string{"Response Body": "", "Response Status": statusLine(http.StatusCreated)}
		var problems [][2]string
		if err == nil {
			said["Etag"], said["Last Modified"] = `"`+o.SLOEtag()+`"`, modified(o.At)
		} else {
			status, text := statusOf(err)
			var m *objectstore.ManifestError
			if errors.As(err, &m) {
				problems, text = m.Problems, ""
			}
			if text == "" {
				text = explanations[status]
			}
			said["Response Status"], said["Response Body"] = statusLine(status), reason(status)+"\n"+text
			if status >= 500 {
				c.Log.ErrorContext(c.ctx, "a request failed", "method", c.r.Method, "path", c.path, "status", status, "error", err)
			}
		}
		return outcome(f, "upload", said, problems)
	})
}

// outcome is what became of an operation, in a format.
func outcome(f, root string, said map[string]string, problems [][2]string) string {
	var names []string
	for name := range said {
		names = append(names, name)
	}
	slices.Sort(names)
	var b strings.Builder
	switch {
	case f == "application/json":
		doc := map[string]any{"Errors": append([][2]string{}, problems...)}
		for name, v := range said {
			doc[name] = v
		}
		out, _ := json.Marshal(doc) // strings always can be
		return string(out)
	case strings.HasSuffix(f, "/xml"):
		b.WriteString("<" + root + ">\n")
		for _, name := range names {
			tag := strings.ReplaceAll(strings.ToLower(name), " ", "_")
			fmt.Fprintf(&b, "<%s>%s</%s>\n", tag, escapeXML(said[name]), tag)
		}
		b.WriteString("<errors>\n")
		for _, p := range problems {
			fmt.Fprintf(&b, "<object><name>%s</name><status>%s</status></object>\n", escapeXML(p[0]), escapeXML(p[1]))
		}
		b.WriteString("</errors>\n</" + root + ">\n")
	default:
		for _, name := range names {
			fmt.Fprintf(&b, "%s: %s\n", name, said[name])
		}
		b.WriteString("Errors:\n")
		for _, p := range problems {
			b.WriteString(p[0] + ", " + p[1] + "\n")
		}
	}
	return b.String()
}

// together is how many deletions of a bulk operation go at the same time: the store
// commits them as one.
const together = 32

// deleteAll deletes objects and then containers, until too much fails.
func (c *call) deleteAll(res *bulk, objects, containers []objectstore.Ref) {
	for len(objects) > 0 && len(res.errors) < maxFaults {
		some := objects[:min(together, len(objects))]
		objects = objects[len(some):]
		errs := make([]error, len(some))
		var wg sync.WaitGroup
		for i, r := range some {
			wg.Go(func() { _, errs[i] = c.svc.Delete(c.ctx, r, objectstore.DeleteOptions{}) })
		}
		wg.Wait()
		for i, err := range errs {
			res.deleted(some[i], err)
		}
	}
	for _, r := range containers {
		if len(res.errors) >= maxFaults {
			break
		}
		res.deleted(r, c.svc.DeleteContainer(c.ctx, r))
	}
	if len(res.errors) >= maxFaults {
		res.status, res.body = http.StatusBadRequest, "Max delete failures exceeded"
	}
}

func (b *bulk) deleted(r objectstore.Ref, err error) {
	status := http.StatusNoContent
	if err != nil {
		status, _ = statusOf(err)
	}
	b.add(r, status)
}

// Whether tags of objects are quoted is set on the container or the account.
const (
	accountTags   = "X-Account-Sysmeta-Rfc-Compliant-Etags"
	containerTags = "X-Container-Sysmeta-Rfc-Compliant-Etags"
)

// quotedTags tells whether tags of objects are to be quoted, as RFC 9110 wants it and
// Swift by itself doesn't.
func (c *call) quotedTags() bool {
	meta, err := c.svc.Settings(c.ctx, c.ref)
	if err == nil && meta[containerTags] == "" {
		meta, err = c.svc.AccountSettings(c.ctx, c.ref.Account)
	}
	return err == nil && isTrue(meta[containerTags]+meta[accountTags])
}

// quote quotes the tag of an answer, if that is wanted.
func (c *call) quote() {
	h := c.w.Header()
	if tag := h.Get("Etag"); tag != "" && !strings.HasSuffix(tag, `"`) && c.quotedTags() {
		h.Set("Etag", `"`+tag+`"`)
	}
}

// tagSetting puts what a request says of quoting into a change, and shown shows it.
func (c *call) tagSetting(client, kept string, change map[string]string) {
	if v, ok := c.r.Header[client]; ok {
		switch v := strings.TrimSpace(v[0]); {
		case v == "":
			change[kept] = ""
		case isTrue(v):
			change[kept] = "True"
		default:
			change[kept] = "False"
		}
	}
	if c.r.Header.Get("X-Remove-"+client[2:]) != "" {
		change[kept] = ""
	}
}

const (
	accountTagsSet   = "X-Account-Rfc-Compliant-Etags"
	containerTagsSet = "X-Container-Rfc-Compliant-Etags"
)

func (c *call) showTagSetting(client, value string) {
	if value != "" {
		c.w.Header().Set(client, value)
	}
}
