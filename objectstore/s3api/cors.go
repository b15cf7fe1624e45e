package s3api

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"iter"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/objectstore"
)

// bucketCORS is where a bucket's rules for scripts of other origins lie, as JSON.
const bucketCORS = "X-Container-Sysmeta-S3-Cors"

// maxCORS bounds the rules of a bucket. What they take must also fit with it.
const maxCORS = 100

type corsRule struct {
	ID      string   `xml:"ID,omitempty" json:",omitempty"`
	Origins []string `xml:"AllowedOrigin"`
	Methods []string `xml:"AllowedMethod"`
	Headers []string `xml:"AllowedHeader" json:",omitempty"`
	Expose  []string `xml:"ExposeHeader" json:",omitempty"`
	MaxAge  *int     `xml:"MaxAgeSeconds" json:",omitempty"`
}

type corsXML struct {
	XMLName xml.Name   `xml:"CORSConfiguration"`
	Space   string     `xml:"xmlns,attr,omitempty"`
	Rules   []corsRule `xml:"CORSRule"`
}

// corsMethods are those that a rule may allow.
var corsMethods = []string{"GET", "PUT", "HEAD", "POST", "DELETE"}

// check refuses what is no rule.
func (r *corsRule) check() error {
	if len(r.Origins) == 0 || len(r.Methods) == 0 || len(r.ID) > 255 || r.MaxAge != nil && *r.MaxAge < 0 {
		return fault("MalformedXML")
	}
	for _, m := range r.Methods {
		if !slices.Contains(corsMethods, m) {
			return newFault("InvalidRequest", "Found unsupported HTTP method in CORS config. Unsupported method is "+m)
		}
	}
	for what, list := range map[string][]string{"AllowedOrigin": r.Origins, "AllowedHeader": r.Headers} {
		for _, v := range list {
			if strings.Count(v, "*") > 1 {
				return newFault("InvalidRequest", what+" \""+v+"\" can not have more than one wildcard.")
			}
		}
	}
	for _, v := range r.Expose {
		if strings.Contains(v, "*") {
			return newFault("InvalidRequest", "ExposeHeader \""+v+"\" contains wildcard. We currently do not support wildcard for ExposeHeader.")
		}
	}
	return nil
}

// matchesOne tells whether a pattern with one wildcard at most is v.
func matchesOne(pattern, v string) bool {
	head, tail, wild := strings.Cut(pattern, "*")
	if !wild {
		return pattern == v
	}
	return len(v) >= len(head)+len(tail) && strings.HasPrefix(v, head) && strings.HasSuffix(v, tail)
}

// allows tells whether scripts of an origin may make a request, with these headers of
// their own.
func (r *corsRule) allows(origin, method string, headers []string) bool {
	return slices.ContainsFunc(r.Origins, func(p string) bool { return matchesOne(p, origin) }) && slices.Contains(r.Methods, method) &&
		!slices.ContainsFunc(headers, func(h string) bool {
			return !slices.ContainsFunc(r.Headers, func(p string) bool { return matchesOne(strings.ToLower(p), strings.ToLower(h)) })
		})
}

func corsRules(meta map[string]string) []corsRule {
	var out []corsRule
	if text := meta[bucketCORS]; text != "" {
		_ = json.Unmarshal([]byte(text), &out) // made by putCORS
	}
	return out
}

func (c *call) putCORS() error {
	var doc corsXML
	if err := c.readXML(&doc); err != nil {
		return err
	}
	if len(doc.Rules) == 0 || len(doc.Rules) > maxCORS {
		return fault("MalformedXML")
	}
	for i := range doc.Rules {
		if err := doc.Rules[i].check(); err != nil {
			return err
		}
	}
	text, err := json.Marshal(doc.Rules)
	if err != nil {
		return err
	}
	return c.setBucket(http.StatusOK, bucketCORS, string(text), nil)
}

func (c *call) getCORS() error {
	cont, err := c.svc.Container(c.ctx, c.ref())
	if err != nil {
		return c.bucketError(err)
	}
	rules := corsRules(cont.Meta)
	if len(rules) == 0 {
		return fault("NoSuchCORSConfiguration")
	}
	return c.xml(http.StatusOK, corsXML{Space: namespace, Rules: rules})
}

func (c *call) deleteCORS() error {
	return c.setBucket(http.StatusNoContent, bucketCORS, "", nil)
}

// cors adds to an answer what lets scripts of another origin see it.
func (c *call) cors() error {
	origin := c.r.Header.Get("Origin")
	if origin == "" || c.bucket == "" {
		return nil
	}
	meta, err := c.svc.Settings(c.ctx, objectstore.Ref{Account: c.account, Container: c.bucket})
	if err != nil {
		return err
	}
	for _, r := range corsRules(meta) {
		if r.allows(origin, c.r.Method, nil) {
			c.admit(&r, origin)
			break
		}
	}
	return nil
}

// admit says that a rule lets an origin in.
func (c *call) admit(r *corsRule, origin string) {
	h := c.w.Header()
	if slices.Contains(r.Origins, "*") {
		h.Set("Access-Control-Allow-Origin", "*")
	} else {
		h.Set("Access-Control-Allow-Origin", origin)
		h.Set("Access-Control-Allow-Credentials", "true")
	}
	h.Set("Access-Control-Allow-Methods", strings.Join(r.Methods, ", "))
	if len(r.Expose) > 0 {
		h.Set("Access-Control-Expose-Headers", strings.Join(r.Expose, ", "))
	}
	h.Set("Vary", "Origin, Access-Control-Request-Headers, Access-Control-Request-Method")
}

// preflight answers a browser that asks whether a script may make a request. It is not
// signed. A signed URL tells whose the bucket is; else any bucket of that name may
// allow it, and the answer to the request itself goes by the bucket that it finds.
func (c *call) preflight() error {
	origin, method := c.r.Header.Get("Origin"), c.r.Header.Get("Access-Control-Request-Method")
	switch {
	case origin == "":
		return newFault("BadRequest", "Insufficient information. Origin request header needed.")
	case method == "" || !slices.Contains(corsMethods, method):
		return newFault("BadRequest", "Invalid Access-Control-Request-Method: "+method)
	}
	var headers []string
	for h := range strings.SplitSeq(c.r.Header.Get("Access-Control-Request-Headers"), ",") {
		if h = strings.TrimSpace(h); h != "" {
			headers = append(headers, h)
		}
	}
	any := false
	for meta, err := range c.candidates() {
		if err != nil {
			return err
		}
		for _, r := range corsRules(meta) {
			if any = true; !r.allows(origin, method, headers) {
				continue
			}
			c.admit(&r, origin)
			if len(headers) > 0 {
				c.w.Header().Set("Access-Control-Allow-Headers", strings.ToLower(strings.Join(headers, ", ")))
			}
			if r.MaxAge != nil {
				c.w.Header().Set("Access-Control-Max-Age", strconv.Itoa(*r.MaxAge))
			}
			c.w.WriteHeader(http.StatusOK)
			return nil
		}
	}
	if !any {
		return newFault("AccessForbidden", "CORSResponse: CORS is not enabled for this bucket.")
	}
	return newFault("AccessForbidden", "CORSResponse: This CORS request is not allowed. The origin, the method or the headers are not allowed by the bucket's rules.")
}

// candidates are the settings of the buckets that a question may be about.
func (c *call) candidates() iter.Seq2[map[string]string, error] {
	access := c.q.Get("AWSAccessKeyId")
	if sc, ok := parseScope(c.q.Get("X-Amz-Credential")); ok {
		access = sc.access
	}
	if access == "" {
		return c.svc.SettingsNamed(c.ctx, c.bucket)
	}
	return func(yield func(map[string]string, error) bool) {
		meta := map[string]string{}
		_, err := c.who(access)
		if err == nil {
			meta, err = c.svc.Settings(c.ctx, objectstore.Ref{Account: c.account, Container: c.bucket})
		} else if f := (*s3Error)(nil); errors.As(err, &f) || errors.Is(err, nacre.NotFound) {
			err = nil // nobody has rules
		}
		yield(meta, err)
	}
}
