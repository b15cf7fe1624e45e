package api

import (
	"net/http"
	"strings"
)

// isS3 tells Amazon's requests by how they are signed.
func isS3(r *http.Request) bool {
	a := r.Header.Get("Authorization")
	if strings.HasPrefix(a, "AWS ") || strings.HasPrefix(a, "AWS4-") {
		return true
	}
	q := r.URL.RawQuery
	return strings.Contains(q, "X-Amz-Signature=") || strings.Contains(q, "AWSAccessKeyId=")
}
