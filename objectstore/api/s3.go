package api

import (
	"net/http"
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

// isSwift tells whether a path is Swift's: below one of Domains the host says what it
// is in.
func (a *api) isSwift(r *http.Request) bool {
	route := routeOf(r.URL.Path)
	for _, d := range a.Domains {
		if head, ok := below(a.hostOf(r), d); ok {
			prefix := strings.ToLower(a.svc.Prefix())
			return route == routeAccount || strings.Contains(head, ".") || strings.HasPrefix(head, prefix) || strings.HasPrefix(head, strings.Replace(prefix, "_", "-", 1))
		}
	}
	return route != "" || r.URL.Path == "/"
}
