package api

import (
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity"
	"github.com/nacre-cloud/nacre/identity/oauth1"
	"github.com/nacre-cloud/nacre/internal/rest"
)

func (h *handlers) oauth() *oauth1.Service {
	if h.svc == nil {
		return nil
	}
	return h.svc.OAuth
}

type consumerEnvelope struct {
	Consumer struct {
		Description rest.Opt[string] `json:"description" valid:"null"`
		Extra       map[string]any   `json:"-" extra:"true"`
	} `json:"consumer"`
}

func (b *consumerEnvelope) change() oauth1.ConsumerChange {
	return oauth1.ConsumerChange{Description: orNil(b.Consumer.Description), Extra: unknown(b.Consumer.Extra)}
}

type consumerBody struct {
	oauth1.Consumer
	Links links `json:"links"`
}

func consumerView(r *rest.Request, c *oauth1.Consumer) consumerBody {
	return consumerBody{*c, self(r, "OS-OAUTH1", "consumers", c.ID)}
}

func (h *handlers) oauthRoutes() []rest.Route {
	o := h.oauth()
	const path = "/v3/OS-OAUTH1/consumers"
	signed := func(path string, f func(*rest.Request) error) rest.Route {
		return rest.Route{Method: "POST", Path: path, Public: true, Statements: 12, Op: rest.Raw(f)}
	}
	return append([]rest.Route{
		{Method: "GET", Path: path, Policy: id("list_consumers"), Op: rest.Do(func(r *rest.Request) (any, error) {
			cs, err := o.ListConsumers(r.Context())
			return plainList(r, "consumers", cs, consumerView), err
		})},
		{Method: "POST", Path: path, Status: http.StatusCreated, Policy: id("create_consumer"), Unknown: rest.Keep, Statements: 8, Op: rest.In(func(r *rest.Request, b *consumerEnvelope) (any, error) {
			delete(b.Consumer.Extra, "secret")
			c, err := o.CreateConsumer(r.Context(), b.change())
			return object{"consumer": consumerView(r, &c)}, err
		})},
		{Method: "GET", Path: path + "/{id}", Policy: id("get_consumer"), Op: rest.Do(func(r *rest.Request) (any, error) {
			c, err := o.GetConsumer(r.Context(), r.Var("id"))
			return object{"consumer": consumerView(r, &c)}, err
		})},
		{Method: "PATCH", Path: path + "/{id}", Policy: id("update_consumer"), Unknown: rest.Keep, Statements: 8, Op: rest.In(func(r *rest.Request, b *consumerEnvelope) (any, error) {
			if err := matching(r, b.Consumer.Extra, "consumer"); err != nil {
				return nil, err
			}
			c, err := o.UpdateConsumer(r.Context(), r.Var("id"), b.change())
			return object{"consumer": consumerView(r, &c)}, err
		})},
		{Method: "DELETE", Path: path + "/{id}", Policy: id("delete_consumer"), Statements: 10, Op: removed(o.DeleteConsumer)},
		signed("/v3/OS-OAUTH1/request_token", func(r *rest.Request) error {
			t, err := o.NewRequestToken(r.Context(), signedRequest(r), r.Header.Get("Requested-Project-Id"))
			return oauthAnswer(r, t.ID, t.Secret, t.ExpiresAt, err)
		}),
		signed("/v3/OS-OAUTH1/access_token", func(r *rest.Request) error {
			t, err := o.NewAccessToken(r.Context(), signedRequest(r))
			return oauthAnswer(r, t.ID, t.Secret, t.ExpiresAt, err)
		}),
		{Method: "PUT", Path: "/v3/OS-OAUTH1/authorize/{id}", Policy: id("authorize_request_token"), Statements: 12, Op: rest.In(h.authorize)},
	}, h.accessTokenRoutes()...)
}

// signedRequest is what a client's signature is about.
func signedRequest(r *rest.Request) *oauth1.Request {
	u := r.Base() + r.URL.EscapedPath()
	if r.URL.RawQuery != "" {
		u += "?" + r.URL.RawQuery
	}
	out := &oauth1.Request{Method: r.Method, URL: u, Authorization: r.Header.Get("Authorization")}
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		if form, err := postForm(r); err == nil {
			out.Form = form
		}
	}
	return out
}

func oauthAnswer(r *rest.Request, token, secret string, expires time.Time, err error) error {
	if err != nil {
		return err
	}
	body := "oauth_token=" + url.QueryEscape(token) + "&oauth_token_secret=" + url.QueryEscape(secret) + "&oauth_expires_at=" + expires.Format("2006-01-02T15:04:05.000000Z")
	r.W.Header().Set("Content-Type", "application/x-www-form-urlencoded")
	r.W.WriteHeader(http.StatusCreated)
	_, err = r.W.Write([]byte(body))
	return err
}

type authorizeBody struct {
	Roles []struct {
		ID   rest.Opt[string] `json:"id"`
		Name rest.Opt[string] `json:"name"`
	} `json:"roles"`
}

func (h *handlers) authorize(r *rest.Request, b *authorizeBody) (any, error) {
	var roles []oauth1.Role
	for _, x := range b.Roles {
		if x.ID.Set == x.Name.Set {
			return nil, nacre.Errorf(nacre.Invalid, "SchemaValidationError", "Invalid input for field 'roles': each names a role by either id or name")
		}
		roles = append(roles, oauth1.Role{ID: x.ID.Value, Name: x.Name.Value})
	}
	verifier, err := h.oauth().Authorize(r.Context(), r.Var("id"), roles)
	return object{"token": object{"oauth_verifier": verifier}}, err
}

type accessTokenBody struct {
	ID         string      `json:"id"`
	ConsumerID string      `json:"consumer_id"`
	UserID     string      `json:"authorizing_user_id"`
	ProjectID  string      `json:"project_id"`
	ExpiresAt  rest.Micros `json:"expires_at"`
	Links      object      `json:"links"`
}

func accessTokenView(r *rest.Request, t *oauth1.AccessToken) accessTokenBody {
	self := self(r, "users", t.UserID, "OS-OAUTH1", "access_tokens", t.ID).Self
	return accessTokenBody{t.ID, t.ConsumerID, t.UserID, t.ProjectID, rest.Micros(t.ExpiresAt), object{"self": self, "roles": self + "/roles"}}
}

func (h *handlers) accessTokenRoutes() []rest.Route {
	o := h.oauth()
	const path = "/v3/users/{user}/OS-OAUTH1/access_tokens"
	return []rest.Route{
		{Method: "GET", Path: path, Policy: id("list_access_tokens"), Op: rest.Do(func(r *rest.Request) (any, error) {
			ts, err := o.ListAccessTokens(r.Context(), r.Var("user"))
			return plainList(r, "access_tokens", ts, accessTokenView), err
		})},
		{Method: "GET", Path: path + "/{id}", Policy: id("get_access_token"), Op: rest.Do(func(r *rest.Request) (any, error) {
			t, err := o.GetAccessToken(r.Context(), r.Var("user"), r.Var("id"))
			return object{"access_token": accessTokenView(r, &t)}, err
		})},
		{Method: "DELETE", Path: path + "/{id}", Policy: id("delete_access_token"), Statements: 8, Op: rest.Do(func(r *rest.Request) (any, error) {
			return nil, o.DeleteAccessToken(r.Context(), r.Var("user"), r.Var("id"))
		})},
		{Method: "GET", Path: path + "/{id}/roles", Policy: id("list_access_token_roles"), Op: rest.Do(func(r *rest.Request) (any, error) {
			ids, err := o.AccessTokenRoles(r.Context(), r.Var("user"), r.Var("id"))
			if err != nil {
				return nil, err
			}
			rs, err := h.svc.Assignments.Roles(r.Context(), ids)
			return plainList(r, "roles", rs, roleView), err
		})},
		{Method: "GET", Path: path + "/{id}/roles/{role}", Policy: id("get_access_token_role"), Op: rest.Do(func(r *rest.Request) (any, error) {
			if err := o.AccessTokenRole(r.Context(), r.Var("user"), r.Var("id"), r.Var("role")); err != nil {
				return nil, err
			}
			rs, err := h.svc.Assignments.Roles(r.Context(), []string{r.Var("role")})
			if err != nil || len(rs) == 0 {
				return nil, err
			}
			return object{"role": roleView(r, &rs[0])}, nil
		})},
	}
}

// tokenOAuth is what a token says of the access token behind it.
type tokenOAuth struct {
	AccessTokenID string `json:"access_token_id"`
	ConsumerID    string `json:"consumer_id"`
}

func oauthOf(i *identity.TokenInfo) *tokenOAuth {
	if i.Access == nil {
		return nil
	}
	return &tokenOAuth{i.Access.ID, i.Access.ConsumerID}
}
