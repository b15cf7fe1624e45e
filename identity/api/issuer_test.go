package api_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/require"
)

// issuer is a small OpenID Connect provider: discovery, keys, the code, password
// and client credential grants, introspection. Everybody's password is "idp".
type issuer struct {
	*httptest.Server
	t   testing.TB
	key *rsa.PrivateKey

	mu    sync.Mutex
	codes map[string]url.Values
}

func newIssuer(t testing.TB) *issuer {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	i := &issuer{t: t, key: key, codes: map[string]url.Values{}}
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, v any) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v)
	}
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]any{"issuer": i.URL, "authorization_endpoint": i.URL + "/authorize", "token_endpoint": i.URL + "/token", "jwks_uri": i.URL + "/keys",
			"introspection_endpoint": i.URL + "/introspect", "id_token_signing_alg_values_supported": []string{"RS256"}})
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &key.PublicKey, KeyID: "k", Algorithm: "RS256", Use: "sig"}}})
	})
	mux.HandleFunc("GET /authorize", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		code := rand.Text()
		i.mu.Lock()
		i.codes[code] = q
		i.mu.Unlock()
		http.Redirect(w, r, q.Get("redirect_uri")+"?"+url.Values{"code": {code}, "state": {q.Get("state")}}.Encode(), http.StatusFound)
	})
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		client, secret, _ := r.BasicAuth()
		if client != "keystone" || secret != "client secret" && secret != url.QueryEscape("client secret") {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		claims := i.claims("alice")
		switch r.PostForm.Get("grant_type") {
		case "authorization_code":
			i.mu.Lock()
			q, ok := i.codes[r.PostForm.Get("code")]
			delete(i.codes, r.PostForm.Get("code"))
			i.mu.Unlock()
			sum := sha256.Sum256([]byte(r.PostForm.Get("code_verifier")))
			if !ok || q.Get("code_challenge") != base64.RawURLEncoding.EncodeToString(sum[:]) || q.Get("redirect_uri") != r.PostForm.Get("redirect_uri") {
				w.WriteHeader(http.StatusBadRequest)
				return
			}
			claims["nonce"] = q.Get("nonce")
		case "password":
			if r.PostForm.Get("password") != "idp" {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			claims = i.claims(r.PostForm.Get("username"))
		case "client_credentials":
			claims = i.claims("robot")
		default:
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		text := i.sign(claims)
		answer(w, map[string]any{"access_token": text, "id_token": text, "token_type": "Bearer", "expires_in": 300})
	})
	mux.HandleFunc("POST /introspect", func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		if r.PostForm.Get("token") != "opaque" {
			answer(w, map[string]any{"active": false})
			return
		}
		c := i.claims("opal")
		c["active"] = true
		answer(w, c)
	})
	i.Server = httptest.NewServer(mux)
	t.Cleanup(i.Close)
	return i
}

func (i *issuer) claims(user string) map[string]any {
	now := time.Now()
	return map[string]any{"iss": i.URL, "sub": "id-" + user, "aud": "keystone", "iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(),
		"preferred_username": user, "email": user + "@example.com", "groups": []string{"dev", "x;admins"}}
}

func (i *issuer) sign(claims map[string]any) string {
	return signWith(i.t, i.key, claims)
}

func signWith(t testing.TB, key *rsa.PrivateKey, claims map[string]any) string {
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: key, KeyID: "k"}}, nil)
	require.NoError(t, err)
	b, err := json.Marshal(claims)
	require.NoError(t, err)
	o, err := s.Sign(b)
	require.NoError(t, err)
	text, err := o.CompactSerialize()
	require.NoError(t, err)
	return text
}
