package api

import (
	"errors"
	"net/http"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity"
	"github.com/nacre-cloud/nacre/internal/rest"
)

// oauth2Routes are OAuth 2.0's token endpoint, for clients that know no other way:
// an application credential's id and secret are the client's, and what they get
// is a token like any other.
func (h *handlers) oauth2Routes() []rest.Route {
	return []rest.Route{
		{Method: "POST", Path: "/v3/OS-OAUTH2/token", Public: true, Statements: 30, Op: rest.Raw(h.oauth2Token)},
	}
}

// maxForm bounds the token endpoint's body.
const maxForm = 16 << 10

func (h *handlers) oauth2Token(r *rest.Request) error {
	r.Body = http.MaxBytesReader(r.W, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		return oauth2Fail(r, http.StatusBadRequest, "invalid_request", "The request body could not be read.")
	}
	switch grant := r.PostForm.Get("grant_type"); grant {
	case "":
		return oauth2Fail(r, http.StatusBadRequest, "invalid_request", "The parameter grant_type is required.")
	case "client_credentials":
	default:
		return oauth2Fail(r, http.StatusBadRequest, "unsupported_grant_type", "The parameter grant_type "+grant+" is not supported.")
	}
	client, secret := r.PostForm.Get("client_id"), r.PostForm.Get("client_secret")
	if user, pw, ok := r.BasicAuth(); ok {
		client, secret = user, pw
	}
	if client == "" || secret == "" {
		return oauth2Fail(r, http.StatusUnauthorized, "invalid_client", "Client authentication failed.")
	}
	text, info, err := h.svc.Authenticate(r.Context(), identity.AuthRequest{Methods: []string{"application_credential"}, AppCredID: client, AppCredSecret: secret})
	switch {
	case errors.Is(err, nacre.Unauthenticated):
		return oauth2Fail(r, http.StatusUnauthorized, "invalid_client", "The request you have made requires authentication.")
	case err != nil:
		return err
	}
	return oauth2Answer(r, http.StatusOK, object{"access_token": text, "token_type": "Bearer", "expires_in": int(time.Until(info.ExpiresAt).Round(time.Second).Seconds())})
}

// oauth2Fail answers in RFC 6749's words instead of Keystone's own.
func oauth2Fail(r *rest.Request, status int, code, about string) error {
	if status == http.StatusUnauthorized {
		r.Set("WWW-Authenticate", `Keystone uri="`+r.Base()+`/v3"`)
	}
	return oauth2Answer(r, status, object{"error": code, "error_description": about})
}

func oauth2Answer(r *rest.Request, status int, body object) error {
	b, err := rest.JSON(body, 0)
	if err != nil {
		return err
	}
	r.Set("Content-Type", "application/json")
	r.Set("Cache-Control", "no-store")
	r.Set("Pragma", "no-cache")
	r.W.WriteHeader(status)
	_, err = r.W.Write(b)
	return err
}
