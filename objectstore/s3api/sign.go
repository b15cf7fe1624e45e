package s3api

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // version 2 of the signatures is made with it
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/nacre-cloud/nacre"
)

// skew is how far a request's time may be from ours.
const skew = 15 * time.Minute

// SignV1 is the HMAC-SHA1 signature of a text, which version 2 of the scheme and
// Keystone's s3tokens use.
func SignV1(secret string, text []byte) string {
	m := hmac.New(sha1.New, []byte(secret))
	m.Write(text)
	return base64.StdEncoding.EncodeToString(m.Sum(nil))
}

func hmac256(key []byte, text string) []byte {
	m := hmac.New(sha256.New, key)
	m.Write([]byte(text))
	return m.Sum(nil)
}

func signingKey(secret, date, region, service string) []byte {
	k := hmac256([]byte("AWS4"+secret), date)
	return hmac256(hmac256(hmac256(k, region), service), "aws4_request")
}

// authenticate checks the signature and finds whose request it is.
func (c *call) authenticate() error {
	auth := c.r.Header.Get("Authorization")
	switch {
	case strings.HasPrefix(auth, "AWS4-HMAC-SHA256 "):
		return c.v4Header(strings.TrimPrefix(auth, "AWS4-HMAC-SHA256 "))
	case strings.HasPrefix(auth, "AWS "):
		return c.v2Header(strings.TrimPrefix(auth, "AWS "))
	case c.has("X-Amz-Signature"):
		return c.v4Query()
	case c.has("AWSAccessKeyId"):
		return c.v2Query()
	case auth != "":
		return fault("AuthorizationHeaderMalformed")
	}
	return fault("AccessDenied")
}

// who looks the key up and becomes its owner.
func (c *call) who(access string) (string, error) {
	secret, caller, err := c.Keys.Key(c.ctx, access)
	if errors.Is(err, nacre.NotFound) || errors.Is(err, nacre.Unauthenticated) {
		return "", fault("InvalidAccessKeyId")
	}
	if err != nil {
		return "", err
	}
	if caller.ProjectID == "" {
		return "", fault("AccessDenied")
	}
	c.ctx = nacre.WithCaller(c.ctx, caller)
	c.account, c.owner = c.svc.Prefix()+caller.ProjectID, caller.ProjectID
	return secret, nil
}

// scope is a version 4 credential: key/date/region/service/aws4_request.
type scope struct{ access, date, region, service string }

func parseScope(s string) (scope, bool) {
	p := strings.Split(s, "/")
	if len(p) < 5 || p[len(p)-1] != "aws4_request" || p[len(p)-2] != "s3" {
		return scope{}, false
	}
	n := len(p)
	return scope{strings.Join(p[:n-4], "/"), p[n-4], p[n-3], p[n-2]}, true
}

func (s scope) String() string { return s.date + "/" + s.region + "/" + s.service + "/aws4_request" }

func (c *call) v4Header(auth string) error {
	f := map[string]string{}
	for part := range strings.SplitSeq(auth, ",") {
		k, v, _ := strings.Cut(strings.TrimSpace(part), "=")
		f[k] = v
	}
	sc, ok := parseScope(f["Credential"])
	if !ok || f["Signature"] == "" || f["SignedHeaders"] == "" {
		return fault("AuthorizationHeaderMalformed")
	}
	at := c.r.Header.Get("X-Amz-Date")
	t, err := time.Parse("20060102T150405Z", at)
	if err != nil {
		if t, err = http.ParseTime(c.r.Header.Get("Date")); err != nil {
			return fault("AccessDenied")
		}
		at = t.UTC().Format("20060102T150405Z")
	}
	if d := c.now().Sub(t); d > skew || d < -skew {
		return fault("RequestTimeTooSkewed")
	}
	if t.UTC().Format("20060102") != sc.date {
		return fault("AuthorizationHeaderMalformed")
	}
	payload := c.r.Header.Get("X-Amz-Content-Sha256")
	if payload == "" {
		return fault("InvalidRequest")
	}
	key, err := c.verifyV4(sc, at, strings.Split(f["SignedHeaders"], ";"), f["Signature"], payload, c.q)
	if err != nil {
		return err
	}
	return c.openBody(payload, &chain{key: key, at: at, scope: sc.String(), last: f["Signature"]})
}

func (c *call) v4Query() error {
	sc, ok := parseScope(c.q.Get("X-Amz-Credential"))
	at := c.q.Get("X-Amz-Date")
	t, err := time.Parse("20060102T150405Z", at)
	expires, err2 := strconv.Atoi(c.q.Get("X-Amz-Expires"))
	if !ok || err != nil || err2 != nil || expires < 1 || expires > 604800 || c.q.Get("X-Amz-Algorithm") != "AWS4-HMAC-SHA256" || t.UTC().Format("20060102") != sc.date {
		return fault("AuthorizationQueryParametersError")
	}
	now := c.now()
	if t.Sub(now) > skew || now.After(t.Add(time.Duration(expires)*time.Second)) {
		return newFault("AccessDenied", "Request has expired")
	}
	q := url.Values{}
	for k, v := range c.q {
		if k != "X-Amz-Signature" {
			q[k] = v
		}
	}
	payload := c.r.Header.Get("X-Amz-Content-Sha256")
	if payload == "" {
		payload = "UNSIGNED-PAYLOAD"
	}
	if _, err := c.verifyV4(sc, at, strings.Split(c.q.Get("X-Amz-SignedHeaders"), ";"), c.q.Get("X-Amz-Signature"), payload, q); err != nil {
		return err
	}
	return c.openBody(payload, nil)
}

func (c *call) verifyV4(sc scope, at string, signed []string, signature, payload string, q url.Values) ([]byte, error) {
	if !slices.Contains(signed, "host") {
		return nil, fault("AccessDenied")
	}
	// What changes the meaning of a request must be signed.
	for name := range c.r.Header {
		if n := strings.ToLower(name); strings.HasPrefix(n, "x-amz-") && !slices.Contains(signed, n) && n != "x-amz-content-sha256" {
			return nil, newFault("AccessDenied", "There were headers present in the request which were not signed")
		}
	}
	secret, err := c.who(sc.access)
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	b.WriteString(c.r.Method + "\n" + escape(c.rawPath(), false) + "\n" + canonicalQuery(q) + "\n")
	for _, name := range signed {
		b.WriteString(name + ":" + c.header(name) + "\n")
	}
	b.WriteString("\n" + strings.Join(signed, ";") + "\n" + payload)
	sum := sha256.Sum256([]byte(b.String()))
	key := signingKey(secret, sc.date, sc.region, sc.service)
	want := hex.EncodeToString(hmac256(key, "AWS4-HMAC-SHA256\n"+at+"\n"+sc.String()+"\n"+hex.EncodeToString(sum[:])))
	if !hmac.Equal([]byte(want), []byte(signature)) {
		return nil, fault("SignatureDoesNotMatch")
	}
	return key, nil
}

// rawPath is the path as the client sent it, decoded, with what the mount took off.
func (c *call) rawPath() string {
	p, _, _ := strings.Cut(c.r.RequestURI, "?")
	if _, rest, ok := strings.Cut(p, "://"); ok {
		if i := strings.IndexByte(rest, '/'); i >= 0 {
			p = rest[i:]
		}
	}
	if u, err := url.PathUnescape(p); err == nil && u != "" {
		return u
	}
	return c.r.URL.Path
}

// header is a signed header's canonical value.
func (c *call) header(name string) string {
	switch name {
	case "host":
		return c.r.Host
	case "content-length":
		return strconv.FormatInt(c.r.ContentLength, 10)
	}
	vs := slices.Clone(c.r.Header[http.CanonicalHeaderKey(name)])
	for i, v := range vs {
		vs[i] = strings.Join(strings.Fields(v), " ")
	}
	return strings.Join(vs, ",")
}

// escape encodes as signatures of version 4 want it.
func escape(s string, slash bool) string {
	var b bytes.Buffer
	for i := range len(s) {
		ch := s[i]
		switch {
		case 'a' <= ch && ch <= 'z', 'A' <= ch && ch <= 'Z', '0' <= ch && ch <= '9', ch == '-', ch == '.', ch == '_', ch == '~', ch == '/' && !slash:
			b.WriteByte(ch)
		default:
			const digits = "0123456789ABCDEF"
			b.Write([]byte{'%', digits[ch>>4], digits[ch&15]})
		}
	}
	return b.String()
}

func canonicalQuery(q url.Values) string {
	var out []string
	for k, vs := range q {
		for _, v := range vs {
			out = append(out, escape(k, true)+"="+escape(v, true))
		}
	}
	sort.Strings(out)
	return strings.Join(out, "&")
}

// subresources are the query parameters that version 2 signs.
var subresources = []string{"acl", "cors", "delete", "encryption", "lifecycle", "location", "logging", "notification", "object-lock", "partNumber", "policy", "replication", "requestPayment",
	"response-cache-control", "response-content-disposition", "response-content-encoding", "response-content-language", "response-content-type", "response-expires",
	"restore", "tagging", "torrent", "uploadId", "uploads", "versionId", "versioning", "versions", "website"}

func (c *call) v2Header(auth string) error {
	access, signature, ok := strings.Cut(auth, ":")
	if !ok {
		return fault("AuthorizationHeaderMalformed")
	}
	date := c.r.Header.Get("Date")
	said := date
	if d := c.r.Header.Get("X-Amz-Date"); d != "" {
		date, said = "", d
	}
	t, err := http.ParseTime(said)
	if err != nil {
		if t, err = time.Parse(time.RFC1123Z, said); err != nil {
			return fault("AccessDenied")
		}
	}
	if d := c.now().Sub(t); d > skew || d < -skew {
		return fault("RequestTimeTooSkewed")
	}
	if err := c.verifyV2(access, signature, date); err != nil {
		return err
	}
	return c.openBody("UNSIGNED-PAYLOAD", nil)
}

func (c *call) v2Query() error {
	expires, err := strconv.ParseInt(c.q.Get("Expires"), 10, 64)
	if err != nil {
		return fault("AccessDenied")
	}
	if c.now().Unix() > expires {
		return newFault("AccessDenied", "Request has expired")
	}
	if err := c.verifyV2(c.q.Get("AWSAccessKeyId"), c.q.Get("Signature"), c.q.Get("Expires")); err != nil {
		return err
	}
	return c.openBody("UNSIGNED-PAYLOAD", nil)
}

func (c *call) verifyV2(access, signature, date string) error {
	secret, err := c.who(access)
	if err != nil {
		return err
	}
	var b strings.Builder
	b.WriteString(c.r.Method + "\n" + c.r.Header.Get("Content-Md5") + "\n" + c.r.Header.Get("Content-Type") + "\n" + date + "\n")
	var amz []string
	for name := range c.r.Header {
		if n := strings.ToLower(name); strings.HasPrefix(n, "x-amz-") {
			amz = append(amz, n)
		}
	}
	sort.Strings(amz)
	for _, n := range amz {
		b.WriteString(n + ":" + c.header(n) + "\n")
	}
	p, _, _ := strings.Cut(c.r.RequestURI, "?")
	if c.virtual {
		p = "/" + c.bucket + p
	}
	b.WriteString(p)
	sep := "?"
	for _, s := range subresources {
		if vs, ok := c.q[s]; ok {
			b.WriteString(sep + s)
			if vs[0] != "" {
				b.WriteString("=" + vs[0])
			}
			sep = "&"
		}
	}
	if !hmac.Equal([]byte(SignV1(secret, []byte(b.String()))), []byte(signature)) {
		return fault("SignatureDoesNotMatch")
	}
	return nil
}
