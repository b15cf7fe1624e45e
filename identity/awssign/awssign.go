// Package awssign checks the signatures with which requests to Amazon's services
// are signed, as Keystone's ec2tokens and s3tokens do for an OpenStack cloud's.
//
//	at, ok := (&awssign.Request{Signature: …, Host: …, …}).Verify(secret)
//	ok := awssign.VerifyS3(secret, signature, stringToSign)
//
// Versions 2 and 4 are known for EC2, and 1 and 4 for S3. Versions 0 and 1 of EC2
// don't cover what they ask for and are refused. Comparisons take the same time
// whatever differs. The caller looks at the time that was signed.
package awssign

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // version 1 of S3's signatures is made with it
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"hash"
	"maps"
	"net"
	"regexp"
	"slices"
	"strings"
)

// Request is what a service saw of a signed request.
type Request struct {
	Signature        string
	Host, Verb, Path string
	// Params are those of the query string, or of version 2's form.
	Params map[string]string
	// Headers and BodyHash (SHA-256, hex) are for version 4.
	Headers  map[string]string
	BodyHash string
}

// Verify compares the signature and returns the time that was signed, as it was
// written; no other time in the request means anything. Some
// clients sign the host without its port.
func (r *Request) Verify(secret string) (at string, ok bool) {
	hosts := []string{r.Host}
	if h, _, err := net.SplitHostPort(r.Host); err == nil {
		hosts = append(hosts, h)
	}
	for _, host := range hosts {
		want, at, err := r.sign(secret, host)
		if err != nil {
			return "", false
		}
		if hmac.Equal([]byte(want), []byte(r.Signature)) {
			return at, true
		}
	}
	return "", false
}

var errSignature = errors.New("awssign: not a signature that is known")

func (r *Request) sign(secret, host string) (signature, at string, err error) {
	if r.Params["SignatureVersion"] == "2" {
		return r.sign2(secret, host)
	}
	if r.Params["SignatureVersion"] == "" && (strings.HasPrefix(r.header("Authorization"), "AWS4-HMAC-SHA256") || r.Params["X-Amz-Algorithm"] == "AWS4-HMAC-SHA256") {
		return r.sign4(secret, host)
	}
	return "", "", errSignature
}

func (r *Request) header(name string) string {
	for k, v := range r.Headers {
		if strings.EqualFold(strings.TrimSpace(k), name) {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

func (r *Request) sign2(secret, host string) (signature, at string, err error) {
	params := maps.Clone(r.Params)
	params["SignatureMethod"] = "HmacSHA256"
	delete(params, "Signature")
	text := r.Verb + "\n" + host + "\n" + r.Path + "\n" + canonicalQuery(params)
	return base64.StdEncoding.EncodeToString(sum(sha256.New, []byte(secret), []byte(text))), params["Timestamp"], nil
}

// canonicalQuery sorts and escapes parameters as Amazon's signatures want it.
func canonicalQuery(params map[string]string) string {
	pairs := make([]string, 0, len(params))
	for _, k := range slices.Sorted(maps.Keys(params)) {
		pairs = append(pairs, escape(k)+"="+escape(params[k]))
	}
	return strings.Join(pairs, "&")
}

// escape is RFC 3986's, with upper-case digits.
func escape(s string) string {
	const hexDigits = "0123456789ABCDEF"
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-_.~", c) >= 0 {
			b.WriteByte(c)
		} else {
			b.WriteString(string([]byte{'%', hexDigits[c>>4], hexDigits[c&15]}))
		}
	}
	return b.String()
}

// oldBoto signs the host without its port, whatever it sends.
var oldBoto = regexp.MustCompile(`^Boto/2\.[0-9]\.[0-2]`)

// auth4 is a part of the Authorization header, or the parameter in its stead.
func (r *Request) auth4(name string) string {
	if h := r.header("Authorization"); h != "" {
		_, rest, _ := strings.Cut(h, name+"=")
		v, _, _ := strings.Cut(rest, ",")
		return strings.TrimSpace(v)
	}
	return r.Params["X-Amz-"+name]
}

func (r *Request) sign4(secret, host string) (signature, at string, err error) {
	at = r.header("X-Amz-Date")
	if at == "" {
		at = r.Params["X-Amz-Date"]
	}
	scope := strings.Split(r.auth4("Credential"), "/")
	if len(scope) != 5 || scope[4] != "aws4_request" || len(scope[1]) != len("20060102") || !strings.HasPrefix(at, scope[1]) {
		return "", "", errSignature
	}
	signed := r.auth4("SignedHeaders")
	var headers strings.Builder
	for _, h := range strings.Split(signed, ";") {
		v := r.header(h)
		if h == "host" {
			if host != r.Host || oldBoto.MatchString(r.header("User-Agent")) {
				v, _, _ = strings.Cut(v, ":")
			}
		}
		if v != "" {
			headers.WriteString(h + ":" + v + "\n")
		}
	}
	query := ""
	if !strings.EqualFold(r.Verb, "POST") {
		params := maps.Clone(r.Params)
		delete(params, "X-Amz-Signature")
		query = canonicalQuery(params)
	}
	canonical := strings.Join([]string{strings.ToUpper(r.Verb), r.Path, query, headers.String(), signed, r.BodyHash}, "\n")
	hashed := sha256.Sum256([]byte(canonical))
	text := strings.Join([]string{"AWS4-HMAC-SHA256", at, strings.Join(scope[1:], "/"), hex.EncodeToString(hashed[:])}, "\n")
	key := []byte("AWS4" + secret)
	for _, part := range scope[1:] {
		key = sum(sha256.New, key, []byte(part))
	}
	return hex.EncodeToString(sum(sha256.New, key, []byte(text))), at, nil
}

// VerifyS3 compares the signature of an S3 request's string to sign.
func VerifyS3(secret, signature string, stringToSign []byte) bool {
	want, ok := signS3(secret, stringToSign)
	return ok && hmac.Equal([]byte(want), []byte(signature))
}

// signS3 signs by version 4 when the text says so, else by version 1.
func signS3(secret string, text []byte) (string, bool) {
	if !bytes.HasPrefix(text, []byte("AWS4")) {
		return base64.StdEncoding.EncodeToString(sum(sha1.New, []byte(secret), text)), true
	}
	lines := bytes.Split(text, []byte("\n"))
	if len(lines) != 4 || string(lines[0]) != "AWS4-HMAC-SHA256" {
		return "", false
	}
	scope := bytes.Split(lines[2], []byte("/"))
	if len(scope) != 4 || string(scope[3]) != "aws4_request" || !slices.Contains([]string{"s3", "iam", "sts"}, string(scope[2])) {
		return "", false
	}
	key := []byte("AWS4" + secret)
	for _, part := range scope {
		key = sum(sha256.New, key, part)
	}
	return hex.EncodeToString(sum(sha256.New, key, text)), true
}

func sum(h func() hash.Hash, key, text []byte) []byte {
	m := hmac.New(h, key)
	m.Write(text)
	return m.Sum(nil)
}
