package cloudtest_test

import (
	"net/http"
	"testing"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/applicationcredentials"
	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity"
	"github.com/nacre-cloud/nacre/identity/assignment"
	"github.com/nacre-cloud/nacre/servers/cloudtest"
)

// A program that may list servers, and nothing else of the cloud.
func TestAccessRules(t *testing.T) {
	cloud := cloudtest.Start(t)
	ctx := t.Context()
	login := func(name string, rules ...applicationcredentials.AccessRule) *gophercloud.ProviderClient {
		app, err := applicationcredentials.Create(ctx, cloud.Demo.Identity, cloud.Demo.ID, applicationcredentials.CreateOpts{Name: name, AccessRules: rules}).Extract()
		require.NoError(t, err)
		p, err := cloud.Client(ctx, gophercloud.AuthOptions{IdentityEndpoint: cloud.Config().URL + "/identity/v3", ApplicationCredentialID: app.ID, ApplicationCredentialSecret: app.Secret})
		require.NoError(t, err)
		return p
	}
	robot := login("robot", applicationcredentials.AccessRule{Service: "compute", Method: "GET", Path: "/v2.1/servers"})
	user, err := cloudtest.NewUser(robot, cloud.Endpoint())
	require.NoError(t, err)
	_, err = servers.ListSimple(user.Compute, nil).AllPages(ctx)
	require.NoError(t, err)

	name, password := "nova", "nova-password"
	root := nacre.AsService(ctx, "test")
	nova, err := cloud.Cloud.Identity.CreateUser(root, identity.UserChange{Name: &name, Password: &password})
	require.NoError(t, err)
	ids := cloud.Bootstrapped
	require.NoError(t, cloud.Cloud.Identity.Assignments.CreateGrant(root, assignment.Grant{UserID: nova.ID, ProjectID: ids.ProjectID, RoleID: ids.Roles["service"]}))
	service := cloud.As(t, cloud.AuthOptions(name, password, "admin")).Token()
	status := func(p *gophercloud.ProviderClient, method, path, service string) int {
		r, err := http.NewRequestWithContext(ctx, method, cloud.Config().URL+path, http.NoBody)
		require.NoError(t, err)
		r.Header.Set("X-Auth-Token", p.Token())
		if service != "" {
			r.Header.Set("X-Service-Token", service)
		}
		resp, err := p.HTTPClient.Do(r)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		return resp.StatusCode
	}
	for _, c := range []struct {
		method, path string
		robot, whole int
	}{
		{"GET", "/compute/v2.1/servers", 200, 200},
		{"GET", "/compute/v2.1/servers?limit=1", 200, 200},
		{"GET", "/compute/v2.1/servers/detail", 401, 200},
		{"GET", "/compute/v2.1/" + cloud.Demo.ProjectID + "/servers", 401, 200},
		{"POST", "/compute/v2.1/servers", 401, 400},
		{"GET", "/compute/v2.1/flavors", 401, 200},
		{"GET", "/compute/", 200, 200},
		{"GET", "/placement/resource_providers", 401, 403},
		{"GET", "/image/v2/images", 401, 200},
		{"GET", "/network/v2.0/networks", 401, 200},
		{"GET", "/object-store/v1/AUTH_" + cloud.Demo.ProjectID, 401, 204},
		{"GET", "/identity/v3/users/" + cloud.Demo.ID + "/application_credentials", 401, 200},
		{"GET", "/identity/v3/auth/projects", 401, 200},
	} {
		require.Equal(t, c.robot, status(robot, c.method, c.path, ""), "%s %s", c.method, c.path)
		require.Equal(t, c.whole, status(robot, c.method, c.path, service), "%s %s: what a service does for it", c.method, c.path)
		require.Equal(t, c.whole, status(cloud.Demo.ProviderClient, c.method, c.path, ""), "%s %s: without rules", c.method, c.path)
	}
	require.Equal(t, 401, status(robot, "GET", "/compute/v2.1/flavors", robot.Token()), "it is no service")

	net := login("net", applicationcredentials.AccessRule{Service: "network", Method: "GET", Path: "/network/v2.0/**"}, applicationcredentials.AccessRule{Service: "object-store", Method: "GET", Path: "/v1/AUTH_*"},
		applicationcredentials.AccessRule{Service: "image", Method: "GET", Path: "/v2/images"}, applicationcredentials.AccessRule{Service: "identity", Method: "GET", Path: "/v3/auth/projects"})
	for path, want := range map[string]int{"/network/v2.0/networks": 200, "/network/v2.0/networks/1": 404, "/object-store/v1/AUTH_" + cloud.Demo.ProjectID: 204, "/image/v2/images": 200, "/image/v2/schemas/image": 401,
		"/identity/v3/auth/projects": 200, "/identity/v3/auth/catalog": 401, "/compute/v2.1/servers": 401} {
		require.Equal(t, want, status(net, "GET", path, ""), path)
	}
}
