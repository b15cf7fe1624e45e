package api_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/objectstore"
	"github.com/nacre-cloud/nacre/objectstore/api"
)

// What a browser asks about a path that Swift serves is Swift's; about any other, and
// about what lies in a bucket by its host, it is Amazon's.
func TestWhoseOptions(t *testing.T) {
	w := start(t, func(c *api.Config, _ *objectstore.Config) {
		c.Domains = []string{"storage.test"}
		c.S3 = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	})
	for path, amazons := range map[string]bool{
		"/": false, "/info": false, "/healthcheck": false, "/crossdomain.xml": false, "/v1/crossdomain.xml": false, "/recon/version": false,
		"/endpoints": false, "/endpoints/": false, "/endpoints/AUTH_p/c": false, "/v1/endpoints": false, "/v1/endpoints/AUTH_p/c": false,
		"/auth": false, "/auth/v1": false, "/auth/v1.0": false, "/v1.0": false, "/v1/AUTH_p": false, "/v1/AUTH_p/c/o": false, "/v1.0/AUTH_p/c/o": false,
		"/bucket": true, "/bucket/key": true, "/information": true, "/endpoints2/key": true,
	} {
		require.Equal(t, amazons, w.do("", "OPTIONS", path, "", "Origin: http://a.test").StatusCode == http.StatusTeapot, path)
		require.NotEqual(t, http.StatusTeapot, w.do("", "OPTIONS", path, "").StatusCode, "no browser asks for "+path)
	}
	for _, path := range []string{"/key", "/info", "/endpoints", "/recon/version"} {
		require.Equal(t, http.StatusTeapot, w.do("", "OPTIONS", path, "", "Origin: http://a.test", "Host: bucket.storage.test").StatusCode, path)
		require.NotEqual(t, http.StatusTeapot, w.do("", "OPTIONS", path, "", "Origin: http://a.test", "Host: c.auth-p.storage.test").StatusCode, path)
	}
}
