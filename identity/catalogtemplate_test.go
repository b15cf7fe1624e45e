package identity_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity"
	"github.com/nacre-cloud/nacre/identity/catalog"
)

const classic = `# config for templated catalog
catalog.RegionOne.identity.publicURL = http://cloud:5000/v3
catalog.RegionOne.identity.internalURL = http://inside:5000/v3
catalog.RegionOne.identity.name = Identity Service
catalog.RegionOne.object_store.publicURL = http://cloud:8080/v1/AUTH_$(tenant_id)s
catalog.RegionTwo.identity.publicURL = http://two:5000/v3/%(user_id)s
`

func TestCatalogTemplate(t *testing.T) {
	eachEngine(t, func(t *testing.T, c *cloud) {
		tpl, err := catalog.ParseTemplate(strings.NewReader(classic))
		require.NoError(t, err)
		c.Service = c.anotherWith(func(cfg *identity.Config) { cfg.CatalogTemplate = tpl })
		_, err = c.Bootstrap(t.Context(), identity.Bootstrap{Password: "secret", Services: []identity.BootstrapService{{Type: "x", Name: "x", Public: "http://x"}}})
		require.NoError(t, err)

		cat, err := c.Catalog.For(t.Context(), "u", "p")
		require.NoError(t, err)
		require.Len(t, cat, 2)
		require.Equal(t, "Identity Service", cat[0].Name)
		require.Len(t, cat[0].Endpoints, 3)
		require.Equal(t, "http://two:5000/v3/u", cat[0].Endpoints[2].URL)
		require.Equal(t, "http://cloud:8080/v1/AUTH_p", cat[1].Endpoints[0].URL)
		cat, err = c.Catalog.For(t.Context(), "u", "")
		require.NoError(t, err)
		require.Empty(t, cat[1].Endpoints)

		ss, err := c.Catalog.ListServices(c.admin, query("type", "object-store"))
		require.NoError(t, err)
		require.Len(t, ss, 1)
		es, err := c.Catalog.ListEndpoints(c.admin, query("interface", "public"))
		require.NoError(t, err)
		require.Len(t, es, 3)
		e, err := c.Catalog.GetEndpoint(c.admin, "RegionTwo-identity-public")
		require.NoError(t, err)
		require.Equal(t, "identity", e.ServiceID)
		rs, err := c.Catalog.ListRegions(c.admin, nacre.Query{})
		require.NoError(t, err)
		require.Len(t, rs, 2)
		_, err = c.Catalog.GetService(c.admin, "nix")
		require.ErrorIs(t, err, nacre.NotFound)

		_, err = c.Catalog.CreateService(c.admin, catalog.ServiceChange{Type: ref("x")})
		require.ErrorIs(t, err, nacre.NotImplemented)
		_, err = c.Catalog.CreateRegion(c.admin, catalog.RegionChange{ID: "x"})
		require.ErrorIs(t, err, nacre.NotImplemented)

		// The stored catalog is as it was.
		c.Service = c.another()
		cat, err = c.Catalog.For(t.Context(), "u", "p")
		require.NoError(t, err)
		require.ElementsMatch(t, []string{"http://cloud/identity", "http://cloud/v1/AUTH_p"}, []string{cat[0].Endpoints[0].URL, cat[1].Endpoints[0].URL})
	})
}

// TestNoOtherReferences holds that a URL in the catalog refers to nothing but who
// asks (the administrator's token could be read that way once).
func TestNoOtherReferences(t *testing.T) {
	for _, bad := range []string{"$(admin_token)s", "%(admin_token)s", "$(public_port)s", "$()s"} {
		_, err := catalog.ParseTemplate(strings.NewReader("catalog.R.compute.publicURL = http://x/" + bad + "\n"))
		require.ErrorContains(t, err, "line 1", bad)
	}
	for _, bad := range []string{"", "catalog.R.compute = x", "catalog.R.compute.name = x"} {
		_, err := catalog.ParseTemplate(strings.NewReader(bad))
		require.Error(t, err, bad)
	}
	eachEngine(t, func(t *testing.T, c *cloud) {
		ss, err := c.Catalog.ListServices(c.admin, nacre.Query{})
		require.NoError(t, err)
		for _, bad := range []string{"$(admin_token)s", "%(admin_token)s", "$(password)s"} {
			_, err = c.Catalog.CreateEndpoint(c.admin, catalog.EndpointChange{ServiceID: ref(ss[0].ID), Interface: ref("public"), URL: ref("http://x/" + bad)})
			require.ErrorIs(t, err, nacre.Invalid, bad)
		}
	})
}
