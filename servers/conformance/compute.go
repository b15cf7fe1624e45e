package conformance

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/availabilityzones"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/flavors"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/hypervisors"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/keypairs"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/limits"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/quotasets"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/secgroups"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/services"
	"github.com/stretchr/testify/require"
)

func compute(t *testing.T, s *suite) {
	t.Run("Versions", s.microversions)
	t.Run("Flavors", s.flavors)
	t.Run("Keypairs", s.keypairs)
	t.Run("Hosts", s.hosts)
	t.Run("Quota", s.computeQuota)
	t.Run("Servers", s.servers)
	t.Run("SecurityGroups", s.computeGroups)
}

// get asks compute for a path with a raw microversion header, and returns the
// answer's status and header.
func (s *suite) get(t *testing.T, path, version string) (int, http.Header) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.user.compute.ServiceURL(path), nil)
	require.NoError(t, err)
	r.Header.Set("X-Auth-Token", s.User.Token())
	if version != "" {
		r.Header.Set("OpenStack-API-Version", "compute "+version)
	}
	resp, err := s.User.HTTPClient.Do(r)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	return resp.StatusCode, resp.Header
}

func (s *suite) microversions(t *testing.T) {
	code, h := s.get(t, "flavors", "")
	require.Equal(t, 200, code)
	require.Equal(t, "compute 2.1", h.Get("OpenStack-API-Version"))
	require.Equal(t, "2.1", h.Get("X-OpenStack-Nova-API-Version"))
	require.Contains(t, h.Values("Vary"), "OpenStack-API-Version")
	code, h = s.get(t, "flavors", "2.60")
	require.Equal(t, 200, code)
	require.Equal(t, "compute 2.60", h.Get("OpenStack-API-Version"))
	for version, want := range map[string]int{"latest": 200, "2.9999": 406, "two": 400} {
		code, _ = s.get(t, "flavors", version)
		require.Equal(t, want, code, version)
	}
}

// flavor is the id of the target's flavor.
func (s *suite) flavor(t *testing.T) string {
	t.Helper()
	fs, err := all(t.Context(), flavors.ListDetail(s.user.compute, nil), flavors.ExtractFlavors)
	require.NoError(t, err)
	for _, f := range fs {
		if f.Name == s.Flavor {
			return f.ID
		}
	}
	t.Fatalf("there is no flavor %q", s.Flavor)
	return ""
}

func (s *suite) flavors(t *testing.T) {
	ctx, c := t.Context(), s.admin.compute
	f, err := flavors.Create(ctx, c, flavors.CreateOpts{Name: name("flavor"), RAM: 256, VCPUs: 1, Disk: ptr(1), IsPublic: ptr(false)}).Extract()
	require.NoError(t, err)
	after(t, "flavor", func(ctx context.Context) error { return flavors.Delete(ctx, c, f.ID).ExtractErr() })
	_, err = flavors.Get(ctx, s.user.compute, f.ID).Extract()
	status(t, 404, err, "a flavor without access")
	_, err = flavors.AddAccess(ctx, c, f.ID, flavors.AddAccessOpts{Tenant: s.user.project}).Extract()
	require.NoError(t, err)
	got, err := flavors.Get(ctx, s.user.compute, f.ID).Extract()
	require.NoError(t, err)
	require.Equal(t, 256, got.RAM)
	_, err = flavors.RemoveAccess(ctx, c, f.ID, flavors.RemoveAccessOpts{Tenant: s.user.project}).Extract()
	require.NoError(t, err)
	specs, err := flavors.CreateExtraSpecs(ctx, c, f.ID, flavors.ExtraSpecsOpts{"hw:cpu_policy": "shared"}).Extract()
	require.NoError(t, err)
	require.Equal(t, map[string]string{"hw:cpu_policy": "shared"}, specs)
	_, err = flavors.Create(ctx, c, flavors.CreateOpts{Name: f.Name, RAM: 256, VCPUs: 1, Disk: ptr(1)}).Extract()
	status(t, 409, err, "a flavor's name twice")
	_, err = flavors.Create(ctx, s.user.compute, flavors.CreateOpts{Name: name("flavor"), RAM: 256, VCPUs: 1, Disk: ptr(1)}).Extract()
	status(t, 403, err, "a flavor made by a member")
}

func (s *suite) newKeypair(t *testing.T) *keypairs.KeyPair {
	t.Helper()
	c := s.user.compute
	k, err := keypairs.Create(t.Context(), c, keypairs.CreateOpts{Name: name("key")}).Extract()
	require.NoError(t, err)
	after(t, "keypair", func(ctx context.Context) error { return keypairs.Delete(ctx, c, k.Name, nil).ExtractErr() })
	return k
}

func (s *suite) keypairs(t *testing.T) {
	ctx, c := t.Context(), s.user.compute
	k := s.newKeypair(t)
	require.Contains(t, k.PrivateKey, "PRIVATE KEY")
	require.Contains(t, k.PublicKey, "ssh-")
	got, err := keypairs.Get(ctx, c, k.Name, nil).Extract()
	require.NoError(t, err)
	require.Equal(t, k.Fingerprint, got.Fingerprint)
	require.Empty(t, got.PrivateKey)
	_, err = keypairs.Create(ctx, c, keypairs.CreateOpts{Name: k.Name}).Extract()
	status(t, 409, err, "a keypair's name twice")
	_, err = keypairs.Create(ctx, c, keypairs.CreateOpts{Name: name("key"), PublicKey: "not a key"}).Extract()
	status(t, 400, err, "a public key that is none")
	_, err = keypairs.Get(ctx, s.admin.compute, k.Name, nil).Extract()
	status(t, 404, err, "another user's keypair")
}

func (s *suite) hosts(t *testing.T) {
	ctx := t.Context()
	hs, err := all(ctx, hypervisors.List(s.admin.compute, nil), hypervisors.ExtractHypervisors)
	require.NoError(t, err)
	require.NotEmpty(t, hs)
	require.Positive(t, hs[0].VCPUs)
	ss, err := all(ctx, services.List(s.admin.compute, nil), services.ExtractServices)
	require.NoError(t, err)
	require.NotEmpty(t, ss)
	zs, err := all(ctx, availabilityzones.List(s.user.compute), availabilityzones.ExtractAvailabilityZones)
	require.NoError(t, err)
	require.NotEmpty(t, zs)
	_, err = hypervisors.List(s.user.compute, nil).AllPages(ctx)
	status(t, 403, err, "hypervisors listed by a member")
}

func (s *suite) computeQuota(t *testing.T) {
	ctx := t.Context()
	l, err := limits.Get(ctx, s.user.compute, nil).Extract()
	require.NoError(t, err)
	require.NotZero(t, l.Absolute.MaxTotalInstances)
	q, err := quotasets.Get(ctx, s.admin.compute, s.user.project).Extract()
	require.NoError(t, err)
	after(t, "quota", func(ctx context.Context) error {
		_, err := quotasets.Update(ctx, s.admin.compute, s.user.project, quotasets.UpdateOpts{Instances: &q.Instances}).Extract()
		return err
	})
	used, err := quotasets.GetDetail(ctx, s.admin.compute, s.user.project).Extract()
	require.NoError(t, err)
	_, err = quotasets.Update(ctx, s.admin.compute, s.user.project, quotasets.UpdateOpts{Instances: ptr(used.Instances.InUse)}).Extract()
	require.NoError(t, err)
	im := s.bootable(t)
	_, err = s.create(t, servers.CreateOpts{Name: name("server"), ImageRef: im.ID, FlavorRef: s.flavor(t), Networks: "none"})
	status(t, 403, err, "a server over the quota")
	_, err = quotasets.Update(ctx, s.user.compute, s.user.project, quotasets.UpdateOpts{Instances: ptr(1000)}).Extract()
	status(t, 403, err, "a quota set by a member")
}

// create asks for a server, by 2.60 so that networks may be named "none".
func (s *suite) create(t *testing.T, o servers.CreateOptsBuilder) (*servers.Server, error) {
	t.Helper()
	c := at(s.user.compute, "2.60")
	sv, err := servers.Create(t.Context(), c, o, nil).Extract()
	if err == nil {
		after(t, "server", func(ctx context.Context) error { return s.destroy(ctx, sv.ID) })
	}
	return sv, err
}

// destroy deletes a server and waits until it is gone.
func (s *suite) destroy(ctx context.Context, id string) error {
	if err := servers.Delete(ctx, s.user.compute, id).ExtractErr(); err != nil {
		return err
	}
	for {
		_, err := servers.Get(ctx, s.user.compute, id).Extract()
		if gophercloud.ResponseCodeIs(err, 404) {
			return nil
		}
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("server %s is still there: %w", id, ctx.Err())
		case <-time.After(s.Poll):
		}
	}
}

// becomes waits for a server's status. ERROR is the end of waiting.
func (s *suite) becomes(t *testing.T, id, want string) *servers.Server {
	t.Helper()
	var sv *servers.Server
	s.eventually(t, "server "+id+" becomes "+want, func() (bool, string) {
		var err error
		sv, err = servers.Get(t.Context(), s.user.compute, id).Extract()
		require.NoError(t, err)
		if sv.Status == "ERROR" && want != "ERROR" {
			t.Fatalf("server %s is in ERROR: %s", id, sv.Fault.Message)
		}
		return sv.Status == want && sv.TaskState == "", sv.Status + "/" + sv.TaskState
	})
	return sv
}

func (s *suite) servers(t *testing.T) {
	ctx, c := t.Context(), s.user.compute
	im := s.bootable(t)
	sv, err := s.create(t, servers.CreateOpts{Name: name("server"), ImageRef: im.ID, FlavorRef: s.flavor(t), Networks: "none", Metadata: map[string]string{"k": "v"}})
	require.NoError(t, err)
	require.NotEmpty(t, sv.AdminPass)
	got := s.becomes(t, sv.ID, "ACTIVE")
	require.Equal(t, im.ID, got.Image["id"])
	require.Equal(t, map[string]string{"k": "v"}, got.Metadata)
	require.NotEmpty(t, got.HostID)
	require.Empty(t, got.Addresses)

	list, err := all(ctx, servers.List(c, servers.ListOpts{Name: got.Name}), servers.ExtractServers)
	require.NoError(t, err)
	require.Len(t, list, 1)
	renamed, err := servers.Update(ctx, c, sv.ID, servers.UpdateOpts{Name: name("renamed")}).Extract()
	require.NoError(t, err)
	require.NotEqual(t, got.Name, renamed.Name)
	md, err := servers.UpdateMetadata(ctx, c, sv.ID, servers.MetadataOpts{"k2": "v2"}).Extract()
	require.NoError(t, err)
	require.Equal(t, map[string]string{"k": "v", "k2": "v2"}, md)

	require.NoError(t, servers.Pause(ctx, c, sv.ID).ExtractErr())
	s.becomes(t, sv.ID, "PAUSED")
	require.NoError(t, servers.Unpause(ctx, c, sv.ID).ExtractErr())
	s.becomes(t, sv.ID, "ACTIVE")
	status(t, 409, servers.Start(ctx, c, sv.ID).ExtractErr(), "starting what runs")
	require.NoError(t, servers.Lock(ctx, c, sv.ID).ExtractErr())
	require.NoError(t, servers.Unlock(ctx, c, sv.ID).ExtractErr())
	_, err = servers.Get(ctx, s.admin.compute, sv.ID).Extract()
	require.NoError(t, err, "administrators see every server")

	require.NoError(t, servers.Delete(ctx, c, sv.ID).ExtractErr())
	s.eventually(t, "the server is gone", func() (bool, string) {
		_, err := servers.Get(ctx, c, sv.ID).Extract()
		return gophercloud.ResponseCodeIs(err, 404), "still there"
	})
}

// computeGroups asks nova for groups, as clients of the time before 2.36 do.
func (s *suite) computeGroups(t *testing.T) {
	ctx := t.Context()
	c := *s.user.compute
	c.Microversion = "2.1"
	g, err := secgroups.Create(ctx, &c, secgroups.CreateOpts{Name: name("group"), Description: "d"}).Extract()
	require.NoError(t, err)
	after(t, "group", func(ctx context.Context) error { return secgroups.Delete(ctx, &c, g.ID).ExtractErr() })
	r, err := secgroups.CreateRule(ctx, &c, secgroups.CreateRuleOpts{ParentGroupID: g.ID, FromPort: 22, ToPort: 23, IPProtocol: "TCP", CIDR: "10.0.0.0/8"}).Extract()
	require.NoError(t, err)
	_, err = secgroups.CreateRule(ctx, &c, secgroups.CreateRuleOpts{ParentGroupID: g.ID, FromPort: 1, ToPort: 65535, IPProtocol: "udp", FromGroupID: g.ID}).Extract()
	require.NoError(t, err)
	got, err := secgroups.Get(ctx, &c, g.ID).Extract()
	require.NoError(t, err)
	require.Len(t, got.Rules, 2)
	listed, err := all(ctx, secgroups.List(&c), secgroups.ExtractSecurityGroups)
	require.NoError(t, err)
	require.True(t, slices.ContainsFunc(listed, func(x secgroups.SecurityGroup) bool { return x.ID == g.ID && len(x.Rules) == 2 }))
	require.NoError(t, secgroups.DeleteRule(ctx, &c, r.ID).ExtractErr())
	status(t, 404, secgroups.DeleteRule(ctx, &c, r.ID).ExtractErr(), "a rule that is gone")
}

func deleter(c *gophercloud.ServiceClient, flavor string) func(context.Context) error {
	return func(ctx context.Context) error { return flavors.Delete(ctx, c, flavor).ExtractErr() }
}
