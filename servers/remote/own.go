package remote

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"

	"github.com/nacre-cloud/nacre"
)

const (
	// early is how long before its end the service's token gives way to a new one: what
	// is asked now still has to get there.
	early = time.Minute
	// again is how old a log-in must be whose catalog lacks a service, for one more.
	again = time.Minute
)

// login is the service's own client as one log-in made it, with that token and catalog.
type login struct {
	*gophercloud.ProviderClient
	at, until time.Time
}

// service is the service's log-in, made anew when its token is about to end, and when it
// is the one that did not do.
func (c *Cloud) service(ctx context.Context, bad *login) (*login, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.own != nil && c.own != bad && time.Until(c.own.until) > early {
		return c.own, nil
	}
	own, err := c.login(ctx)
	if err != nil {
		return nil, &nacre.Error{Kind: nacre.Unavailable, Code: "identity", Message: "The identity service does not know this service, or does not answer.", Err: err}
	}
	c.own = own
	return own, nil
}

func (c *Cloud) login(ctx context.Context) (*login, error) {
	p, err := openstack.NewClient(c.c.IdentityURL)
	if err != nil {
		return nil, err
	}
	p.HTTPClient = *c.http
	p.UserAgent.Prepend("nacre")
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	err = openstack.Authenticate(ctx, p, gophercloud.AuthOptions{
		IdentityEndpoint: c.c.IdentityURL, Username: c.c.Username, Password: c.c.Password, DomainName: c.c.UserDomain,
		Scope: &gophercloud.AuthScope{ProjectName: c.c.Project, DomainName: c.c.ProjectDomain},
	})
	if err != nil {
		return nil, err
	}
	made, ok := p.GetAuthResult().(tokens.CreateResult)
	if !ok {
		return nil, errors.New("the identity service is none of version 3")
	}
	token, err := made.ExtractToken()
	if err != nil {
		return nil, err
	}
	return &login{p, time.Now(), token.ExpiresAt}, nil
}

// send sends a request. When it is refused, it may be for the service's own token, shown
// alone or beside a user's, which was revoked: a new one is tried once. What was refused
// so changed nothing.
func (a *api) send(ctx context.Context, method, path string, o gophercloud.RequestOpts) (*http.Response, error) {
	headers := o.MoreHeaders
	by := a.by
	for renewed := false; ; renewed = true {
		client := by.ProviderClient
		if a.user != nil {
			client = a.user
			o.MoreHeaders = maps.Clone(headers)
			o.MoreHeaders["X-Service-Token"] = by.Token()
		}
		resp, err := client.Request(ctx, method, a.endpoint+path, &o)
		if renewed || !gophercloud.ResponseCodeIs(err, http.StatusUnauthorized) {
			return resp, err
		}
		if by, err = a.c.service(ctx, by); err != nil {
			return nil, err
		}
	}
}
