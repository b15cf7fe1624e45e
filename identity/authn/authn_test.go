package authn

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
)

type validator struct {
	calls int
	down  bool
}

func (v *validator) ValidateToken(_ context.Context, token string) (*nacre.Caller, error) {
	v.calls++
	switch {
	case v.down:
		return nil, nacre.Unavailable
	case token != "good":
		return nil, nacre.Unauthenticated
	}
	return &nacre.Caller{UserID: "alice", ExpiresAt: time.Now().Add(time.Hour)}, nil
}

func get(h http.Handler, path, token string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("GET", "http://cloud"+path, nil)
	if token != "" {
		r.Header.Set("X-Auth-Token", token)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

var echo = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	if c := nacre.CallerFrom(r.Context()); c != nil {
		_, _ = w.Write([]byte(c.UserID))
		return
	}
	_, _ = w.Write([]byte("nobody"))
})

func TestMiddleware(t *testing.T) {
	v := &validator{}
	h := Middleware(v, Options{AuthURI: "/identity/v3", Public: []string{"/", "/docs/*"}})(echo)
	require.Equal(t, "alice", get(h, "/servers", "good").Body.String())
	for _, token := range []string{"", "bad"} {
		w := get(h, "/servers", token)
		require.Equal(t, 401, w.Code)
		require.Equal(t, `Keystone uri="http://cloud/identity/v3"`, w.Header().Get("WWW-Authenticate"))
		require.JSONEq(t, `{"error": {"message": "The request you have made requires authentication.", "code": 401, "title": "Unauthorized"}}`, w.Body.String())
	}
	require.Equal(t, "nobody", get(h, "/", "").Body.String())
	require.Equal(t, "nobody", get(h, "/docs/x", "bad").Body.String())
	require.Equal(t, "alice", get(h, "/docs", "good").Body.String())
	require.Equal(t, 401, get(h, "/docsx", "").Code)

	v.down = true
	require.Equal(t, 503, get(h, "/servers", "good").Code)

	h = Middleware(v, Options{Optional: true})(echo)
	require.Equal(t, "nobody", get(h, "/servers", "good").Body.String())
}

func TestCallerFromOutsideIsBelieved(t *testing.T) {
	v := &validator{}
	h := Middleware(v, Options{})(echo)
	outer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(w, r.WithContext(nacre.WithCaller(r.Context(), &nacre.Caller{UserID: "bob"})))
	})
	require.Equal(t, "bob", get(outer, "/", "bad").Body.String())
	require.Zero(t, v.calls)
}

func TestCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &validator{}
		h := Middleware(v, Options{CacheFor: time.Minute})(echo)
		for range 3 {
			require.Equal(t, "alice", get(h, "/", "good").Body.String())
		}
		require.Equal(t, 1, v.calls)
		time.Sleep(2 * time.Minute)
		get(h, "/", "good")
		require.Equal(t, 2, v.calls)
		get(h, "/", "bad")
		get(h, "/", "bad")
		require.Equal(t, 4, v.calls, "a refusal is not kept")
	})
}
