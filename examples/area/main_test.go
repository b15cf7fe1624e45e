package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAreaAlone(t *testing.T) {
	h, err := start(t.Context(), people{"alice": true, "bob": true})
	require.NoError(t, err)
	srv := httptest.NewServer(h)
	defer srv.Close()
	do := func(method, path, token, body string) (int, string) {
		r, err := http.NewRequestWithContext(t.Context(), method, srv.URL+path, strings.NewReader(body))
		require.NoError(t, err)
		r.Header.Set("X-Auth-Token", token)
		r.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		defer resp.Body.Close() //nolint:errcheck // read only
		text, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return resp.StatusCode, string(text)
	}
	code, text := do("POST", "/v2/images", "alice", `{"name": "hers"}`)
	require.Equal(t, 201, code, text)
	_, text = do("GET", "/v2/images", "alice", "")
	require.Contains(t, text, "hers")
	_, text = do("GET", "/v2/images", "bob", "")
	require.NotContains(t, text, "hers")
	code, _ = do("GET", "/v2/images", "mallory", "")
	require.Equal(t, 401, code)
}
