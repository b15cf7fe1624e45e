package oauth1

import (
	"context"
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // RFC 5849's own
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/kit"
	"github.com/nacre-cloud/nacre/store"
)

// lifetime is how far from now a signed request's time may be.
const lifetime = 10 * time.Minute

// Request is a request that may be signed.
type Request struct {
	Method string
	// URL is the absolute URL as the client sees it, with its query.
	URL string
	// Authorization is the header.
	Authorization string
	// Form are a form body's fields; nil when the body is none.
	Form url.Values
}

// param reads what the client says of itself.
type params map[string]string

// parse reads the Authorization header: scheme OAuth, then name="value" pairs,
// each percent-encoded. A name that is there twice is refused.
func parse(header string) (params, error) {
	scheme, rest, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "OAuth") {
		return nil, nacre.Errorf(nacre.Invalid, "ValidationError", "No Authorization headers found, cannot proceed with OAuth related calls.")
	}
	p := params{}
	for part := range strings.SplitSeq(rest, ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		name, v, ok := strings.Cut(part, "=")
		v = strings.TrimSpace(v)
		if !ok || len(v) < 2 || v[0] != '"' || v[len(v)-1] != '"' {
			return nil, malformed()
		}
		k, err1 := url.PathUnescape(strings.TrimSpace(name))
		val, err2 := url.PathUnescape(v[1 : len(v)-1])
		if _, twice := p[k]; err1 != nil || err2 != nil || twice {
			return nil, malformed()
		}
		p[k] = val
	}
	return p, nil
}

func malformed() error {
	return nacre.Errorf(nacre.Invalid, "ValidationError", "The Authorization header is malformed.")
}

// escape is RFC 3986's, with nothing but unreserved characters left.
func escape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._~", c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// base is the signature base string (RFC 5849, 3.4.1).
func (r *Request) base(p params) (string, error) {
	u, err := url.Parse(r.URL)
	if err != nil {
		return "", malformed()
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return "", malformed()
	}
	type pair struct{ k, v string }
	var pairs []pair
	for _, vals := range []url.Values{query, r.Form} {
		for k, vs := range vals {
			for _, v := range vs {
				pairs = append(pairs, pair{escape(k), escape(v)})
			}
		}
	}
	for k, v := range p {
		if k != "oauth_signature" && k != "realm" {
			pairs = append(pairs, pair{escape(k), escape(v)})
		}
	}
	slices.SortFunc(pairs, func(a, b pair) int {
		if c := strings.Compare(a.k, b.k); c != 0 {
			return c
		}
		return strings.Compare(a.v, b.v)
	})
	lines := make([]string, len(pairs))
	for i, e := range pairs {
		lines[i] = e.k + "=" + e.v
	}
	host := strings.ToLower(u.Host)
	if h, port, ok := strings.Cut(host, ":"); ok && (u.Scheme == "http" && port == "80" || u.Scheme == "https" && port == "443") {
		host = h
	}
	path := u.EscapedPath()
	if path == "" {
		path = "/"
	}
	return strings.ToUpper(r.Method) + "&" + escape(strings.ToLower(u.Scheme)+"://"+host+path) + "&" + escape(strings.Join(lines, "&")), nil
}

// signed reports whether the signature is that of the secrets.
func (r *Request) signed(p params, consumerSecret, tokenSecret string) (bool, error) {
	key := escape(consumerSecret) + "&" + escape(tokenSecret)
	want := key
	var h func() hash.Hash
	switch p["oauth_signature_method"] {
	case "HMAC-SHA1":
		h = sha1.New
	case "HMAC-SHA256":
		h = sha256.New
	case "PLAINTEXT":
	default:
		return false, nil
	}
	if h != nil {
		base, err := r.base(p)
		if err != nil {
			return false, err
		}
		m := hmac.New(h, []byte(key))
		m.Write([]byte(base))
		want = base64.StdEncoding.EncodeToString(m.Sum(nil))
	}
	return subtle.ConstantTimeCompare([]byte(p["oauth_signature"]), []byte(want)) == 1, nil
}

// check says whether a request is signed with these secrets, now and for the
// first time.
func (s *Service) check(ctx context.Context, r *Request, p params, consumerSecret, tokenSecret string) error {
	for _, k := range []string{"oauth_signature", "oauth_signature_method", "oauth_timestamp", "oauth_nonce"} {
		if p[k] == "" {
			return kit.Expecting(k, "request")
		}
	}
	if v, ok := p["oauth_version"]; ok && v != "1.0" {
		return unauthorized("Invalid OAuth version.")
	}
	at, err := strconv.ParseInt(p["oauth_timestamp"], 10, 64)
	if d := time.Since(time.Unix(at, 0)); err != nil || d > lifetime || d < -lifetime {
		return unauthorized("Timestamp given is invalid, differ from allowed by over 600 seconds.")
	}
	ok, err := r.signed(p, consumerSecret, tokenSecret)
	if err != nil {
		return err
	}
	if !ok {
		return unauthorized("Invalid signature")
	}
	sum := sha256.Sum256([]byte(strings.Join([]string{escape(p["oauth_consumer_key"]), escape(p["oauth_token"]), p["oauth_timestamp"], escape(p["oauth_nonce"])}, "&")))
	return s.area.Tx(ctx, func(ctx context.Context) error {
		if _, err := s.nonces.DeleteWhere(ctx, store.Less("until", time.Now())); err != nil {
			return err
		}
		err := s.nonces.Insert(ctx, nonce{ID: hex.EncodeToString(sum[:]), Until: time.Unix(at, 0).Add(lifetime + time.Minute)})
		if store.IsDuplicate(err) {
			return unauthorized("The request was sent before.")
		}
		return err
	})
}
