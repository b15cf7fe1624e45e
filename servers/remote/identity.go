package remote

import (
	"context"
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gophercloud/gophercloud/v2"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/authn"
	"github.com/nacre-cloud/nacre/objectstore"
)

// Tokens says who tokens stand for, as the identity service has it. What it said is
// believed for [Tokens.CacheFor].
func (c *Cloud) Tokens() (Tokens, error) {
	r, err := authn.NewRemote(authn.RemoteConfig{URL: c.c.IdentityURL, Client: &http.Client{Transport: c.c.Transport, Timeout: deadline}, Username: c.c.Username, Password: c.c.Password,
		UserDomain: c.c.UserDomain, Project: c.c.Project, ProjectDomain: c.c.ProjectDomain})
	return Tokens{r}, err
}

// Tokens validates tokens.
type Tokens struct{ *authn.Remote }

// CacheFor bounds how long a token that was revoked is still taken.
func (Tokens) CacheFor() time.Duration { return 3 * time.Second }

// Projects is the edge from the object store to an identity service.
func (c *Cloud) Projects() objectstore.Projects { return projects{c} }

type projects struct{ c *Cloud }

func (e projects) Existing(ctx context.Context, ids ...string) (map[string]bool, error) {
	a, err := e.c.as(nacre.AsService(ctx, "objectstore"), "identity", "v3")
	if err != nil {
		return nil, err
	}
	out := map[string]bool{}
	for _, id := range ids {
		switch err := a.get(ctx, "projects/"+url.PathEscape(id), &jsonRaw{}); {
		case err == nil:
			out[id] = true
		case nacre.KindOf(err) != nacre.NotFound:
			return nil, err
		}
	}
	return out, nil
}

// RegionEndpoint is where a region has a service, in the catalog of whoever the context
// names. Regions are told apart without case.
func (c *Cloud) RegionEndpoint(ctx context.Context, typ, region, iface string) (string, error) {
	a, err := c.as(ctx, "identity", "v3")
	if err != nil {
		return "", err
	}
	type entry struct {
		Type      string
		Endpoints []struct {
			URL, Interface string
			Region         string `json:"region_id"`
		}
	}
	entries, err := listAll[entry](ctx, a, "catalog", "auth/catalog")
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		for _, p := range e.Endpoints {
			if e.Type == typ && strings.EqualFold(p.Region, region) && p.Interface == iface {
				return p.URL, nil
			}
		}
	}
	return "", nacre.Errorf(nacre.NotFound, "", "%s %s endpoint not found for region %s", iface, typ, region)
}

// Login is a token on a project, both named, in the domain "default".
func (c *Cloud) Login(ctx context.Context, project, user, password string) (token, projectID string, expires time.Time, err error) {
	domain := object{"id": "default"}
	body := object{"auth": object{"identity": object{"methods": []string{"password"}, "password": object{"user": object{"name": user, "password": password, "domain": domain}}},
		"scope": object{"project": object{"name": project, "domain": domain}}}}
	anyone := &gophercloud.ProviderClient{HTTPClient: *c.http}
	var got struct {
		Token struct {
			Expires time.Time `json:"expires_at"`
			Project struct{ ID string }
		}
	}
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	resp, err := anyone.Request(ctx, http.MethodPost, c.c.IdentityURL+"/auth/tokens?nocatalog", &gophercloud.RequestOpts{JSONBody: body, JSONResponse: &got, OkCodes: []int{http.StatusCreated}})
	if err != nil {
		return "", "", expires, (&api{typ: "identity"}).fault(err)
	}
	defer resp.Body.Close() //nolint:errcheck // it was read
	return resp.Header.Get("X-Subject-Token"), got.Token.Project.ID, got.Token.Expires, nil
}

// Credential is the type and content of a credential by its id.
func (c *Cloud) Credential(ctx context.Context, id string) (typ, blob string, err error) {
	a, err := c.as(ctx, "identity", "v3")
	if err != nil {
		return "", "", err
	}
	var got struct{ Credential struct{ Type, Blob string } }
	err = a.get(ctx, "credentials/"+url.PathEscape(id), &got)
	return got.Credential.Type, got.Credential.Blob, err
}

// ValidateS3 says who stands behind a signature made with an access key's secret.
func (c *Cloud) ValidateS3(ctx context.Context, access, signature string, text []byte) (*nacre.Caller, error) {
	a, err := c.as(ctx, "identity", "v3")
	if err != nil {
		return nil, err
	}
	var got struct {
		Token struct {
			User, Project struct {
				ID, Name string
				Domain   struct{ ID, Name string }
			}
			Roles   []struct{ ID, Name string }
			Expires time.Time `json:"expires_at"`
		}
	}
	body := object{"credentials": object{"access": access, "signature": signature, "token": base64.URLEncoding.EncodeToString(text)}}
	if err := a.do(ctx, http.MethodPost, "s3tokens", body, &got, true); err != nil {
		return nil, err
	}
	t := &got.Token
	out := &nacre.Caller{UserID: t.User.ID, UserName: t.User.Name, UserDomainID: t.User.Domain.ID, UserDomainName: t.User.Domain.Name, ProjectID: t.Project.ID, ProjectName: t.Project.Name,
		ProjectDomainID: t.Project.Domain.ID, ProjectDomainName: t.Project.Domain.Name, AdminProject: true, ExpiresAt: t.Expires}
	for _, r := range t.Roles {
		out.Roles, out.RoleIDs = append(out.Roles, r.Name), append(out.RoleIDs, r.ID)
	}
	return out, nil
}
