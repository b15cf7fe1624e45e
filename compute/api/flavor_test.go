package api_test

import (
	"context"
	"net/http"
	"testing"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/flavors"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/keypairs"
	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/compute/internal/computetest"
)

func ptr[T any](v T) *T { return &v }

func TestFlavors(t *testing.T) {
	each(t, nil, func(t *testing.T, c *cloud) {
		ctx := context.Background()
		admin, user := c.client("admin", "2.61"), c.client("p1", "2.61")
		f, err := flavors.Create(ctx, admin, flavors.CreateOpts{ID: "f1", Name: "small", RAM: 64, VCPUs: 1, Disk: ptr(1), Swap: ptr(2), Description: "little"}).Extract()
		require.NoError(t, err)
		require.Equal(t, "f1", f.ID)
		require.True(t, f.IsPublic)
		require.Equal(t, 2, f.Swap)
		for i, name := range []string{"a", "b"} {
			_, err := flavors.Create(ctx, admin, flavors.CreateOpts{Name: name, RAM: 128 + i, VCPUs: 1, Disk: ptr(2), IsPublic: ptr(name == "a")}).Extract()
			require.NoError(t, err)
		}
		names := func(cl *gophercloud.ServiceClient, o flavors.ListOpts) []string {
			pages, err := flavors.ListDetail(cl, o).AllPages(ctx)
			require.NoError(t, err)
			fs, err := flavors.ExtractFlavors(pages)
			require.NoError(t, err)
			var out []string
			for _, f := range fs {
				out = append(out, f.Name)
			}
			return out
		}
		require.ElementsMatch(t, []string{"small", "a"}, names(user, flavors.ListOpts{}))
		require.ElementsMatch(t, []string{"small", "a"}, names(admin, flavors.ListOpts{}))
		require.ElementsMatch(t, []string{"small", "a", "b"}, names(admin, flavors.ListOpts{AccessType: flavors.AllAccess}))
		require.ElementsMatch(t, []string{"b"}, names(admin, flavors.ListOpts{AccessType: flavors.PrivateAccess}))
		require.Equal(t, []string{"a"}, names(user, flavors.ListOpts{MinRAM: 65}))
		require.Equal(t, []string{"a"}, names(user, flavors.ListOpts{MinDisk: 2}))
		require.Equal(t, []string{"small", "a"}, names(user, flavors.ListOpts{SortKey: "memory_mb", SortDir: "asc", Limit: 1}), "over two pages")

		// Access of projects to what is not public.
		var private string
		pages, err := flavors.ListDetail(admin, flavors.ListOpts{AccessType: flavors.PrivateAccess}).AllPages(ctx)
		require.NoError(t, err)
		fs, err := flavors.ExtractFlavors(pages)
		require.NoError(t, err)
		private = fs[0].ID
		_, err = flavors.Get(ctx, user, private).Extract()
		require.True(t, gophercloud.ResponseCodeIs(err, http.StatusNotFound))
		_, err = flavors.AddAccess(ctx, admin, private, flavors.AddAccessOpts{Tenant: "p1"}).Extract()
		require.NoError(t, err)
		_, err = flavors.AddAccess(ctx, admin, private, flavors.AddAccessOpts{Tenant: "p1"}).Extract()
		require.True(t, gophercloud.ResponseCodeIs(err, http.StatusConflict))
		_, err = flavors.Get(ctx, user, private).Extract()
		require.NoError(t, err)
		require.ElementsMatch(t, []string{"small", "a", "b"}, names(user, flavors.ListOpts{}))
		pages, err = flavors.ListAccesses(admin, private).AllPages(ctx)
		require.NoError(t, err)
		access, err := flavors.ExtractAccesses(pages)
		require.NoError(t, err)
		require.Equal(t, []flavors.FlavorAccess{{FlavorID: private, TenantID: "p1"}}, access)
		_, err = flavors.RemoveAccess(ctx, admin, private, flavors.RemoveAccessOpts{Tenant: "p1"}).Extract()
		require.NoError(t, err)
		c.fails(404, "itemNotFound", "Access list not available for public flavors.", c.do("GET", "/v2.1/flavors/f1/os-flavor-access", "admin", "", ""))

		// Extra specs.
		specs, err := flavors.CreateExtraSpecs(ctx, admin, "f1", flavors.ExtraSpecsOpts{"hw:cpu_policy": "CPU-POLICY", "x": "y"}).Extract()
		require.NoError(t, err)
		require.Equal(t, map[string]string{"hw:cpu_policy": "CPU-POLICY", "x": "y"}, specs)
		one, err := flavors.UpdateExtraSpec(ctx, admin, "f1", flavors.ExtraSpecsOpts{"x": "z"}).Extract()
		require.NoError(t, err)
		require.Equal(t, map[string]string{"x": "z"}, one)
		one, err = flavors.GetExtraSpec(ctx, user, "f1", "x").Extract()
		require.NoError(t, err)
		require.Equal(t, map[string]string{"x": "z"}, one)
		require.NoError(t, flavors.DeleteExtraSpec(ctx, admin, "f1", "x").ExtractErr())
		c.fails(404, "itemNotFound", "Flavor f1 has no extra specs with key x.", c.do("DELETE", "/v2.1/flavors/f1/os-extra_specs/x", "admin", "", ""))
		specs, err = flavors.ListExtraSpecs(ctx, user, "f1").Extract()
		require.NoError(t, err)
		require.Equal(t, map[string]string{"hw:cpu_policy": "CPU-POLICY"}, specs)

		// The view by version.
		old := []string{"OS-FLV-DISABLED:disabled", "OS-FLV-EXT-DATA:ephemeral", "disk", "id", "links", "name", "os-flavor-access:is_public", "ram", "rxtx_factor", "swap", "vcpus"}
		view := func(version string) []string {
			return keysOf(c.do("GET", "/v2.1/flavors/f1", "p1", version, "").at("flavor"))
		}
		require.Equal(t, old, view("2.54"))
		require.Equal(t, sortedUnion(old, []string{"description"}), view("2.55"))
		require.Equal(t, sortedUnion(old, []string{"description", "extra_specs"}), view("2.61"))
		require.Equal(t, []string{"id", "links", "name"}, keysOf(c.do("GET", "/v2.1/flavors", "p1", "2.54", "").at("flavors").([]any)[0]))
		require.Equal(t, []string{"description", "id", "links", "name"}, keysOf(c.do("GET", "/v2.1/flavors", "p1", "2.55", "").at("flavors").([]any)[0]))
		require.Equal(t, "", c.do("GET", "/v2.1/flavors/"+private, "admin", "2.74", "").at("flavor", "swap"), "no swap was text")
		require.Equal(t, 0.0, c.do("GET", "/v2.1/flavors/"+private, "admin", "2.75", "").at("flavor", "swap"))

		f, err = flavors.Update(ctx, admin, "f1", flavors.UpdateOpts{Description: "less"}).Extract()
		require.NoError(t, err)
		require.Equal(t, "less", f.Description)
		require.NoError(t, flavors.Delete(ctx, admin, "f1").ExtractErr())

		for body, message := range map[string]string{
			`{"flavor": {"name": "x", "ram": 0, "vcpus": 1, "disk": 1}}`:             "less than the minimum of 1",
			`{"flavor": {"name": "x", "ram": 1, "vcpus": 1}}`:                        "'disk' is a required property",
			`{"flavor": {"name": "x", "ram": 1, "vcpus": 1, "disk": 1, "swap": -1}}`: "less than the minimum of 0",
			`{"flavor": {"name": " ", "ram": 1, "vcpus": 1, "disk": 1}}`:             "name",
		} {
			c.fails(400, "badRequest", message, c.do("POST", "/v2.1/flavors", "admin", "", body))
		}
		c.fails(409, "conflictingRequest", "Flavor with name a already exists.", c.do("POST", "/v2.1/flavors", "admin", "", `{"flavor": {"name": "a", "ram": 1, "vcpus": 1, "disk": 1}}`))
		c.fails(403, "forbidden", "os-flavor-manage:create", c.do("POST", "/v2.1/flavors", "p1", "", `{"flavor": {"name": "x", "ram": 1, "vcpus": 1, "disk": 1}}`))
		c.fails(400, "badRequest", "Additional properties are not allowed ('x' was unexpected)", c.do("GET", "/v2.1/flavors?x=1", "p1", "2.75", ""))
		require.Equal(t, 200, c.do("GET", "/v2.1/flavors?x=1", "p1", "2.74", "").code)
		c.fails(400, "badRequest", "Invalid is_public filter [what]", c.do("GET", "/v2.1/flavors?is_public=what", "admin", "", ""))
		c.fails(404, "itemNotFound", "Flavor f1 could not be found.", c.do("GET", "/v2.1/flavors/f1", "p1", "", ""))
	})
}

const publicKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0MbQQhLM2CW9sZM5y8p3kXcEe8mTB7pSVDHM0lCDDj me"

func TestKeypairs(t *testing.T) {
	each(t, nil, func(t *testing.T, c *cloud) {
		ctx := context.Background()
		k, err := keypairs.Create(ctx, c.client("p1", ""), keypairs.CreateOpts{Name: "mine", PublicKey: publicKey}).Extract()
		require.NoError(t, err)
		require.Regexp(t, "^([0-9a-f]{2}:){15}[0-9a-f]{2}$", k.Fingerprint)
		require.Empty(t, k.PrivateKey)
		made, err := keypairs.Create(ctx, c.client("p1", "2.2"), keypairs.CreateOpts{Name: "made", Type: "ssh"}).Extract()
		require.NoError(t, err)
		require.Contains(t, made.PrivateKey, "PRIVATE KEY")

		post := func(version, body string) answer {
			return c.do("POST", "/v2.1/os-keypairs", "p1", version, `{"keypair": `+body+`}`)
		}
		a := post("2.1", `{"name": "k1", "public_key": "`+publicKey+`"}`)
		require.Equal(t, 200, a.code)
		require.Equal(t, []string{"fingerprint", "name", "public_key", "user_id"}, keysOf(a.at("keypair")))
		a = post("2.2", `{"name": "k2"}`)
		require.Equal(t, 201, a.code)
		require.Equal(t, []string{"fingerprint", "name", "private_key", "public_key", "type", "user_id"}, keysOf(a.at("keypair")))
		a = post("2.92", `{"name": "k3@home.example", "public_key": "`+publicKey+`"}`)
		require.Equal(t, 201, a.code, a.raw)
		for _, tc := range []struct{ version, body, message string }{
			{"2.1", `{"name": "x", "type": "ssh"}`, "Additional properties are not allowed ('type' was unexpected)"},
			{"2.9", `{"name": "x", "user_id": "u"}`, "Additional properties are not allowed ('user_id' was unexpected)"},
			{"2.92", `{"name": "x"}`, "'public_key' is a required property"},
			{"2.91", `{"name": "a@b"}`, "Invalid input for field/attribute name. Value: a@b. 'a@b' does not match"},
			{"2.2", `{"name": "x", "type": "rsa"}`, "'rsa' is not one of ['ssh', 'x509']"},
			{"2.1", `{"name": "x", "public_key": "what"}`, "Keypair data is invalid: failed to generate fingerprint"},
			{"2.1", `{"name": ""}`, "name"},
			{"2.1", `{}`, "'name' is a required property"},
		} {
			c.fails(400, "badRequest", tc.message, post(tc.version, tc.body))
		}
		c.fails(409, "conflictingRequest", "Key pair 'mine' already exists.", post("", `{"name": "mine"}`))

		list := func(version, query string) (names []string, raw answer) {
			raw = c.do("GET", "/v2.1/os-keypairs?"+query, "p1", version, "")
			for _, x := range raw.at("keypairs").([]any) {
				names = append(names, x.(map[string]any)["keypair"].(map[string]any)["name"].(string))
			}
			return names, raw
		}
		all, raw := list("", "limit=1")
		require.Equal(t, []string{"k1", "k2", "k3@home.example", "made", "mine"}, all, "paging came with 2.35")
		require.Equal(t, []string{"fingerprint", "name", "public_key"}, keysOf(raw.at("keypairs").([]any)[0].(map[string]any)["keypair"]))
		some, raw := list("2.35", "limit=2&marker=k2")
		require.Equal(t, []string{"k3@home.example", "made"}, some)
		require.Contains(t, raw.raw, "keypairs_links")
		require.Equal(t, []string{"fingerprint", "name", "public_key", "type"}, keysOf(raw.at("keypairs").([]any)[0].(map[string]any)["keypair"]))

		one := c.do("GET", "/v2.1/os-keypairs/mine", "p1", "2.2", "")
		require.Equal(t, []string{"created_at", "deleted", "deleted_at", "fingerprint", "id", "name", "public_key", "type", "updated_at", "user_id"}, keysOf(one.at("keypair")))
		// The administrator looks at another user's by user_id, from 2.10 on.
		require.Equal(t, 404, c.do("GET", "/v2.1/os-keypairs/mine?user_id=user-p1", "admin", "2.9", "").code)
		require.Equal(t, 200, c.do("GET", "/v2.1/os-keypairs/mine?user_id=user-p1", "admin", "2.10", "").code)
		c.fails(403, "forbidden", "os-keypairs:show", c.do("GET", "/v2.1/os-keypairs/mine?user_id=user-p1", "p2", "2.10", ""))
		c.fails(404, "itemNotFound", "Keypair mine not found for user user-p2", c.do("GET", "/v2.1/os-keypairs/mine", "p2", "", ""))
		require.Equal(t, 202, c.do("DELETE", "/v2.1/os-keypairs/k1", "p1", "2.1", "").code)
		require.Equal(t, 204, c.do("DELETE", "/v2.1/os-keypairs/k2", "p1", "2.2", "").code)
		c.fails(404, "itemNotFound", "Keypair k2 not found", c.do("DELETE", "/v2.1/os-keypairs/k2", "p1", "", ""))
		require.NoError(t, c.Compute.SetQuota(computetest.Admin(), "p1", map[string]int64{"key_pairs": 3}, false))
		c.fails(403, "forbidden", "Quota exceeded, too many key pairs.", post("", `{"name": "more"}`))
	})
}
