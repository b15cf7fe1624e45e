package api

import (
	"net/http"
	"slices"
	"strings"
)

// isS3 tells Amazon's requests by how they are signed. What a browser asks before a
// request isn't signed; it is Amazon's where it is not about a path of Swift's.
func (a *api) isS3(r *http.Request) bool {
	auth := r.Header.Get("Authorization")
	if strings.HasPrefix(auth, "AWS ") || strings.HasPrefix(auth, "AWS4-") {
		return true
	}
	q := r.URL.RawQuery
	if strings.Contains(q, "X-Amz-Signature=") || strings.Contains(q, "AWSAccessKeyId=") {
		return true
	}
	return r.Method == http.MethodOptions && r.Header.Get("Origin") != "" && !a.isSwift(r)
}

// fixed are the paths that are no bucket's.
var fixed = []string{"/", "/info", "/healthcheck", "/crossdomain.xml", "/auth", "/auth/v1", "/auth/v1.0", "/v1.0"}

func (a *api) isSwift(r *http.Request) bool {
	path := r.URL.Path
	for _, p := range []string{"/v1/", "/v1.0/", "/recon/", "/endpoints/"} {
		if strings.HasPrefix(path, p) {
			return true
		}
	}
	for _, d := range a.Domains {
		if head, ok := below(a.hostOf(r), d); ok {
			prefix := strings.ToLower(a.svc.Prefix())
			return strings.Contains(head, ".") || strings.HasPrefix(head, prefix) || strings.HasPrefix(head, strings.Replace(prefix, "_", "-", 1))
		}
	}
	return slices.Contains(fixed, path)
}
