// Package conformance is a public suite, written with gophercloud, that says
// whether an endpoint behaves as OpenStack: ours, a DevStack, a product.
//
//	func TestCloud(t *testing.T) {
//		conformance.Run(t, conformance.Target{Admin: admin, User: user, External: "public", Flavor: "m1.tiny", Image: disk, ImageFormat: "qcow2"})
//	}
//
// It covers identity, image, network, compute and placement, a story that goes through all of
// them, and bad input: the status that the real service gives, and nothing left
// behind. Everything it makes has a random name and is deleted again, so it may run
// against a cloud that is in use. What it needs and the target lacks fails; nothing
// is skipped.
package conformance

import (
	"context"
	"crypto/rand"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"
	"github.com/stretchr/testify/require"
)

// Target is the cloud under test.
type Target struct {
	// Admin has the role admin, User the role member, on two different projects.
	// Both came from password authentication.
	Admin, User *gophercloud.ProviderClient
	// UserAuth are the options that User authenticated with.
	UserAuth gophercloud.AuthOptions
	// Endpoint chooses from the catalog; the zero value takes public ones.
	Endpoint gophercloud.EndpointOpts
	// External is the name of an external network with a free address.
	External string
	// Flavor is the name of a flavor that Image boots in.
	Flavor string
	// Image gives the bytes of a bootable disk, each time anew; ImageFormat is
	// "qcow2" or "raw".
	Image       func() io.Reader
	ImageFormat string
	// Console is a text that the guest writes to its serial console as it boots;
	// empty is any text.
	Console string
	// Metadata reads a path of the metadata service as a guest would, if the
	// suite can be given that.
	Metadata func(ctx context.Context, serverID, projectID, path string) (status int, body string, err error)
	// Audit looks for what should not be, when all of a test's objects are gone,
	// if the target has such a thing.
	Audit func(ctx context.Context) error
	// Timeout bounds each wait, for a boot above all; 0 means 5 minutes. Poll is
	// the time between looks; 0 means a second.
	Timeout, Poll time.Duration
}

// Run runs the whole suite.
func Run(t *testing.T, target Target) {
	if target.Timeout == 0 {
		target.Timeout = 5 * time.Minute
	}
	if target.Poll == 0 {
		target.Poll = time.Second
	}
	if target.Endpoint.Availability == "" {
		target.Endpoint.Availability = gophercloud.AvailabilityPublic
	}
	for _, part := range []struct {
		name string
		run  func(t *testing.T, s *suite)
	}{
		{"Identity", identity}, {"Image", image}, {"Network", network}, {"Compute", compute}, {"Placement", placement}, {"Story", story}, {"BadInput", badInput},
	} {
		t.Run(part.name, func(t *testing.T) {
			s := newSuite(t, target)
			part.run(t, s)
		})
	}
	if target.Audit != nil {
		require.NoError(t, target.Audit(t.Context()), "the audit after everything is deleted")
	}
}

// suite is the target with its clients.
type suite struct {
	Target
	admin, user *clients
}

// clients are one user's.
type clients struct {
	identity, image, network, compute, placement *gophercloud.ServiceClient
	// project and id are the ids of project and user.
	project, id string
}

func newSuite(t *testing.T, target Target) *suite {
	s := &suite{Target: target}
	s.admin, s.user = s.clients(t, target.Admin), s.clients(t, target.User)
	require.NotEqual(t, s.admin.project, s.user.project, "Admin and User must have different projects")
	return s
}

func (s *suite) clients(t *testing.T, p *gophercloud.ProviderClient) *clients {
	c := &clients{}
	for _, f := range []struct {
		to   **gophercloud.ServiceClient
		make func(*gophercloud.ProviderClient, gophercloud.EndpointOpts) (*gophercloud.ServiceClient, error)
	}{{&c.identity, openstack.NewIdentityV3}, {&c.image, openstack.NewImageV2}, {&c.network, openstack.NewNetworkV2}, {&c.compute, openstack.NewComputeV2},
		{&c.placement, openstack.NewPlacementV1}} {
		sc, err := f.make(p, s.Endpoint)
		require.NoError(t, err)
		*f.to = sc
	}
	auth, ok := p.GetAuthResult().(tokens.CreateResult)
	require.True(t, ok, "Admin and User must have authenticated with a password")
	user, err := auth.ExtractUser()
	require.NoError(t, err)
	project, err := auth.ExtractProject()
	require.NoError(t, err)
	require.NotNil(t, project, "Admin and User must be scoped to projects")
	c.id, c.project = user.ID, project.ID
	return c
}

// at is a client that asks for a microversion.
func at(c *gophercloud.ServiceClient, version string) *gophercloud.ServiceClient {
	copied := *c
	copied.Microversion = version
	return &copied
}

// name is a new random name.
func name(what string) string { return "conformance-" + what + "-" + strings.ToLower(rand.Text()[:8]) }

// status demands that err is the answer with that status.
func status(t *testing.T, want int, err error, what ...any) {
	t.Helper()
	require.Error(t, err, what...)
	require.Truef(t, gophercloud.ResponseCodeIs(err, want), "want %d, got: %v %v", want, err, what)
}

// eventually polls until look says done.
func (s *suite) eventually(t *testing.T, what string, look func() (done bool, saw string)) {
	t.Helper()
	deadline := time.Now().Add(s.Timeout)
	for {
		done, saw := look()
		if done {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v; last seen: %s", what, s.Timeout, saw)
		}
		time.Sleep(s.Poll)
	}
}

// after deletes something at the test's end. What is gone already is fine.
func after(t *testing.T, what string, del func(ctx context.Context) error) {
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := del(ctx); err != nil && !gophercloud.ResponseCodeIs(err, 404) {
			t.Errorf("deleting %s: %v", what, err)
		}
	})
}

func ptr[T any](v T) *T { return &v }
