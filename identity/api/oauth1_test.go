package api_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/oauth1"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"
	"github.com/stretchr/testify/require"
)

// authorized makes a consumer and lets it act for the administrator.
func (c *cloud) authorized(t *testing.T, client *gophercloud.ServiceClient, method oauth1.SignatureMethod, roles ...oauth1.Role) (*oauth1.Consumer, *oauth1.Token) {
	t.Helper()
	consumer, err := oauth1.CreateConsumer(t.Context(), client, oauth1.CreateConsumerOpts{Description: "d"}).Extract()
	require.NoError(t, err)
	req, err := oauth1.RequestToken(t.Context(), client, oauth1.RequestTokenOpts{OAuthConsumerKey: consumer.ID, OAuthConsumerSecret: consumer.Secret,
		OAuthSignatureMethod: method, RequestedProjectID: c.ids.ProjectID}).Extract()
	require.NoError(t, err)
	verifier, err := oauth1.AuthorizeToken(t.Context(), client, req.OAuthToken, oauth1.AuthorizeTokenOpts{Roles: roles}).Extract()
	require.NoError(t, err)
	opts := oauth1.CreateAccessTokenOpts{OAuthConsumerKey: consumer.ID, OAuthConsumerSecret: consumer.Secret, OAuthToken: req.OAuthToken,
		OAuthTokenSecret: req.OAuthTokenSecret, OAuthVerifier: "wrong123", OAuthSignatureMethod: method}
	_, err = oauth1.CreateAccessToken(t.Context(), client, opts).Extract()
	require.True(t, gophercloud.ResponseCodeIs(err, 401), err)
	opts.OAuthVerifier = verifier.OAuthVerifier
	token, err := oauth1.CreateAccessToken(t.Context(), client, opts).Extract()
	require.NoError(t, err)
	_, err = oauth1.CreateAccessToken(t.Context(), client, opts).Extract()
	require.True(t, gophercloud.ResponseCodeIs(err, 404), "a request token is good once: %v", err)
	return consumer, token
}

func authOptions(consumer *oauth1.Consumer, token *oauth1.Token, method oauth1.SignatureMethod) *oauth1.AuthOptions {
	return &oauth1.AuthOptions{OAuthConsumerKey: consumer.ID, OAuthConsumerSecret: consumer.Secret, OAuthToken: token.OAuthToken, OAuthTokenSecret: token.OAuthTokenSecret, OAuthSignatureMethod: method}
}

func TestOAuth(t *testing.T) {
	c := newCloud(t)
	client := c.admin()
	for _, method := range []oauth1.SignatureMethod{oauth1.HMACSHA1, oauth1.PLAINTEXT} {
		consumer, access := c.authorized(t, client, method, oauth1.Role{Name: "reader"})
		got := oauth1.Create(t.Context(), client, authOptions(consumer, access, method))
		require.NoError(t, got.Err)
		roles, err := got.ExtractRoles()
		require.NoError(t, err)
		require.Equal(t, []tokens.Role{{ID: c.ids.Roles["reader"], Name: "reader"}}, roles, "only what was authorized, though the user is an administrator")
		var ext struct{ oauth1.TokenExt }
		require.NoError(t, got.ExtractInto(&ext))
		require.Equal(t, consumer.ID, ext.OAuth1.ConsumerID)
		text := got.Header.Get("X-Subject-Token")

		// What was delegated can't be widened.
		c.fails(403, "", "POST", "/v3/auth/tokens", "", `{"auth":{"identity":{"methods":["token"],"token":{"id":"`+text+`"}},"scope":`+onAdmin+`}}`)
		c.fails(403, "", "PUT", "/v3/OS-OAUTH1/authorize/x", text, `{"roles":[]}`)
		c.fails(403, "", "GET", "/v3/users/"+c.ids.UserID+"/OS-OAUTH1/access_tokens", text, "")

		list, err := oauth1.ListAccessTokens(client, c.ids.UserID).AllPages(t.Context())
		require.NoError(t, err)
		all, err := oauth1.ExtractAccessTokens(list)
		require.NoError(t, err)
		require.Len(t, all, 1)
		require.Equal(t, access.OAuthToken, all[0].ID)
		_, _, one := c.raw("GET", "/v3/users/"+c.ids.UserID+"/OS-OAUTH1/access_tokens/"+access.OAuthToken, client.Token(), "")
		require.NotContains(t, one, access.OAuthTokenSecret)
		_, _, one = c.raw("GET", "/v3/OS-OAUTH1/consumers/"+consumer.ID, client.Token(), "")
		require.NotContains(t, one, "secret")
		c.fails(404, "", "GET", "/v3/users/other/OS-OAUTH1/access_tokens/"+access.OAuthToken, client.Token(), "")
		c.fails(404, "Could not find role", "GET", "/v3/users/"+c.ids.UserID+"/OS-OAUTH1/access_tokens/"+access.OAuthToken+"/roles/"+c.ids.Roles["admin"], client.Token(), "")

		require.NoError(t, oauth1.RevokeAccessToken(t.Context(), client, c.ids.UserID, access.OAuthToken).ExtractErr())
		c.fails(401, "", "GET", "/v3/auth/projects", text, "")
		require.True(t, gophercloud.ResponseCodeIs(oauth1.Create(t.Context(), client, authOptions(consumer, access, method)).Err, 401))
	}
}

// oauthDoesNotWiden holds that nobody authorizes roles that it does not have, and
// that a role taken away is gone from what was authorized.
func oauthDoesNotWiden(t *testing.T) {
	c := newCloud(t)
	client := c.admin()
	project := dig(c.put("POST", "/v3/projects", `{"project":{"name":"p","domain_id":"default"}}`), "project", "id").(string)
	user := dig(c.put("POST", "/v3/users", `{"user":{"name":"u","domain_id":"default","password":"pw"}}`), "user", "id").(string)
	path := "/v3/projects/" + project + "/users/" + user + "/roles/"
	c.put("PUT", path+c.ids.Roles["admin"], "")
	token := c.token("u", "pw", `{"project":{"id":"`+project+`"}}`)
	consumer, err := oauth1.CreateConsumer(t.Context(), client, oauth1.CreateConsumerOpts{}).Extract()
	require.NoError(t, err)
	req, err := oauth1.RequestToken(t.Context(), client, oauth1.RequestTokenOpts{OAuthConsumerKey: consumer.ID, OAuthConsumerSecret: consumer.Secret,
		OAuthSignatureMethod: oauth1.HMACSHA1, RequestedProjectID: project}).Extract()
	require.NoError(t, err)
	c.fails(401, "authorizing user does not have role required", "PUT", "/v3/OS-OAUTH1/authorize/"+req.OAuthToken, token, `{"roles":[{"id":"`+c.ids.Roles["service"]+`"}]}`)
	code, _, m := c.do("PUT", "/v3/OS-OAUTH1/authorize/"+req.OAuthToken, token, `{"roles":[{"name":"admin"}]}`)
	require.Equal(t, 200, code, m)
	access, err := oauth1.CreateAccessToken(t.Context(), client, oauth1.CreateAccessTokenOpts{OAuthConsumerKey: consumer.ID, OAuthConsumerSecret: consumer.Secret,
		OAuthToken: req.OAuthToken, OAuthTokenSecret: req.OAuthTokenSecret, OAuthVerifier: dig(m, "token", "oauth_verifier").(string), OAuthSignatureMethod: oauth1.HMACSHA1}).Extract()
	require.NoError(t, err)
	got := oauth1.Create(t.Context(), client, authOptions(consumer, access, oauth1.HMACSHA1))
	require.NoError(t, got.Err)
	c.put("PUT", path+c.ids.Roles["reader"], "")
	c.put("DELETE", path+c.ids.Roles["admin"], "")
	got = oauth1.Create(t.Context(), client, authOptions(consumer, access, oauth1.HMACSHA1))
	require.NoError(t, got.Err)
	roles, err := got.ExtractRoles()
	require.NoError(t, err)
	require.Equal(t, []tokens.Role{{ID: c.ids.Roles["reader"], Name: "reader"}}, roles)
	c.put("DELETE", path+c.ids.Roles["reader"], "")
	require.True(t, gophercloud.ResponseCodeIs(oauth1.Create(t.Context(), client, authOptions(consumer, access, oauth1.HMACSHA1)).Err, 401))
}

// TestOAuthSignatures holds that a signed request is good once, at its time, for
// what was signed.
func TestOAuthSignatures(t *testing.T) {
	c := newCloud(t)
	client := c.admin()
	consumer, access := c.authorized(t, client, oauth1.HMACSHA1, oauth1.Role{Name: "reader"})
	signed := func(edit func(*oauth1.AuthOptions)) string {
		o := authOptions(consumer, access, oauth1.HMACSHA1)
		edit(o)
		h, err := o.ToTokenV3HeadersMap(map[string]any{"method": "POST", "url": base + "/v3/auth/tokens"})
		require.NoError(t, err)
		return h["Authorization"]
	}
	send := func(header, query string) int {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, base+"/v3/auth/tokens"+query, strings.NewReader(`{"auth":{"identity":{"methods":["oauth1"],"oauth1":{}}}}`))
		if header != "" {
			r.Header.Set("Authorization", header)
		}
		w := httptest.NewRecorder()
		c.h.ServeHTTP(w, r)
		return w.Code
	}
	good := signed(func(*oauth1.AuthOptions) {})
	require.Equal(t, 401, send(good, "?nocatalog"), "the query is signed too")
	require.Equal(t, 201, send(good, ""))
	require.Equal(t, 401, send(good, ""), "a second time")
	require.Equal(t, 401, send(strings.Replace(signed(func(*oauth1.AuthOptions) {}), "oauth_nonce=\"", "oauth_nonce=\"a", 1), ""))
	old, future := time.Now().Add(-11*time.Minute), time.Now().Add(11*time.Minute)
	require.Equal(t, 401, send(signed(func(o *oauth1.AuthOptions) { o.OAuthTimestamp = &old }), ""))
	require.Equal(t, 401, send(signed(func(o *oauth1.AuthOptions) { o.OAuthTimestamp = &future }), ""))
	require.Equal(t, 401, send(signed(func(o *oauth1.AuthOptions) { o.OAuthTokenSecret = "x" }), ""))
	require.Equal(t, 401, send(signed(func(o *oauth1.AuthOptions) { o.OAuthConsumerSecret = "x" }), ""))
	require.Equal(t, 401, send(signed(func(o *oauth1.AuthOptions) { o.OAuthToken = "x" }), ""))
	require.Equal(t, 400, send("", ""))
	require.Equal(t, 400, send("Basic eDp5", ""))
	require.Equal(t, 400, send(`OAuth oauth_token="`+access.OAuthToken+`", oauth_token="y"`, ""))
	require.Equal(t, 400, send(`OAuth oauth_token="`+access.OAuthToken+`", oauth_consumer_key="`+consumer.ID+`"`, ""))
	other, err := oauth1.CreateConsumer(t.Context(), client, oauth1.CreateConsumerOpts{}).Extract()
	require.NoError(t, err)
	require.Equal(t, 401, send(signed(func(o *oauth1.AuthOptions) {
		o.OAuthConsumerKey, o.OAuthConsumerSecret = other.ID, other.Secret
	}), ""), "another consumer with this one's token")
	require.NoError(t, oauth1.DeleteConsumer(t.Context(), client, consumer.ID).ExtractErr())
	require.Equal(t, 401, send(signed(func(*oauth1.AuthOptions) {}), ""))
}
