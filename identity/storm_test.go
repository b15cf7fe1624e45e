package identity_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity"
	"github.com/nacre-cloud/nacre/identity/assignment"
	"github.com/nacre-cloud/nacre/identity/catalog"
	"github.com/nacre-cloud/nacre/identity/credential"
	"github.com/nacre-cloud/nacre/identity/domainconfig"
	"github.com/nacre-cloud/nacre/identity/federation"
	"github.com/nacre-cloud/nacre/identity/limit"
	"github.com/nacre-cloud/nacre/identity/oauth1"
	"github.com/nacre-cloud/nacre/store"
	"github.com/nacre-cloud/nacre/store/memstore"
)

// pile is what there is of a kind, for writers side by side.
type pile struct {
	mu  sync.Mutex
	ids []string
}

func (p *pile) add(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ids = append(p.ids, id); len(p.ids) > 4 {
		p.ids = p.ids[1:]
	}
}

// one is one of them, or one that was there.
func (p *pile) one(r *rand.Rand) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.ids) == 0 {
		return "none"
	}
	return p.ids[r.IntN(len(p.ids))]
}

// storm is writers side by side who make, join and delete the same few things.
// Nothing may be left that refers to what is gone.
func storm(t *testing.T, e store.Engine, writers, steps int) {
	c := newCloud(t, e)
	ctx, cancel := context.WithTimeout(nacre.AsService(t.Context(), "storm"), 2*time.Minute)
	defer cancel()
	var users, groups, projects, roles, services, regions, endpoints, domains, consumers, idps pile
	_, err := c.Federation.CreateMapping(ctx, federation.Mapping{ID: "m", Rules: []any{map[string]any{
		"local": []any{map[string]any{"user": map[string]any{"name": "{0}"}}}, "remote": []any{map[string]any{"type": "X"}}}}})
	require.NoError(t, err)
	domains.add("default")
	made := func(p *pile, id string, err error) error {
		if err == nil {
			p.add(id)
		}
		return err
	}
	name := func(r *rand.Rand) *string { return ref(fmt.Sprintf("n%d", r.IntN(6))) }
	var last atomic.Pointer[assignment.Grant]
	grant := func(r *rand.Rand) assignment.Grant {
		g := assignment.Grant{UserID: users.one(r), ProjectID: projects.one(r), RoleID: roles.one(r)}
		if r.IntN(2) == 0 {
			g.UserID, g.GroupID = "", groups.one(r)
		}
		if r.IntN(3) == 0 {
			g.ProjectID, g.DomainID, g.Inherited = "", domains.one(r), true
		}
		return g
	}
	ops := []func(r *rand.Rand) error{
		func(r *rand.Rand) error {
			d, err := c.CreateDomain(ctx, identity.ProjectChange{Name: name(r)})
			return made(&domains, d.ID, err)
		},
		func(r *rand.Rand) error {
			u, err := c.CreateUser(ctx, identity.UserChange{Name: name(r), DomainID: ref(domains.one(r)), Password: ref("pw")})
			return made(&users, u.ID, err)
		},
		func(r *rand.Rand) error {
			g, err := c.CreateGroup(ctx, identity.GroupChange{Name: name(r), DomainID: ref(domains.one(r))})
			return made(&groups, g.ID, err)
		},
		func(r *rand.Rand) error {
			ch := identity.ProjectChange{Name: name(r), DomainID: ref(domains.one(r))}
			if r.IntN(2) == 0 {
				ch.DomainID, ch.ParentID = nil, ref(projects.one(r))
			}
			p, err := c.CreateProject(ctx, ch)
			return made(&projects, p.ID, err)
		},
		func(r *rand.Rand) error { return c.AddProjectTag(ctx, projects.one(r), *name(r)) },
		func(r *rand.Rand) error { return c.DeleteProjectTag(ctx, projects.one(r), *name(r)) },
		func(r *rand.Rand) error {
			x, err := c.Assignments.CreateRole(ctx, assignment.RoleChange{Name: name(r)})
			return made(&roles, x.ID, err)
		},
		func(r *rand.Rand) error {
			_, err := c.Assignments.CreateImplied(ctx, roles.one(r), roles.one(r))
			return err
		},
		func(r *rand.Rand) error { return c.AddToGroup(ctx, users.one(r), groups.one(r)) },
		func(r *rand.Rand) error { return c.RemoveFromGroup(ctx, users.one(r), groups.one(r)) },
		func(r *rand.Rand) error {
			g := grant(r)
			err := c.Assignments.CreateGrant(ctx, g)
			if err == nil {
				last.Store(&g)
			}
			return err
		},
		func(r *rand.Rand) error {
			if g := last.Swap(nil); g != nil {
				return c.Assignments.DeleteGrant(ctx, *g)
			}
			return nacre.NotFound
		},
		func(r *rand.Rand) error {
			x, err := c.Catalog.CreateService(ctx, catalog.ServiceChange{Type: name(r), Name: name(r)})
			return made(&services, x.ID, err)
		},
		func(r *rand.Rand) error {
			x, err := c.Catalog.CreateRegion(ctx, catalog.RegionChange{ID: *name(r)})
			return made(&regions, x.ID, err)
		},
		func(r *rand.Rand) error {
			x, err := c.Catalog.CreateEndpoint(ctx, catalog.EndpointChange{ServiceID: ref(services.one(r)), RegionID: ref(regions.one(r)), Interface: ref("public"), URL: ref("http://x")})
			return made(&endpoints, x.ID, err)
		},
		func(r *rand.Rand) error {
			return c.Catalog.AddEndpointToProject(ctx, projects.one(r), endpoints.one(r))
		},
		func(r *rand.Rand) error {
			_, err := c.Limits.CreateRegisteredLimits(ctx, []limit.RegisteredLimit{{ServiceID: services.one(r), ResourceName: "cores", DefaultLimit: 5}})
			return err
		},
		func(r *rand.Rand) error {
			_, err := c.Limits.CreateLimits(ctx, []limit.Limit{{ServiceID: services.one(r), ProjectID: identity.Ref(projects.one(r)), ResourceName: "cores", ResourceLimit: 3}})
			return err
		},
	}
	ops = append(ops, signedStorm(c, ctx, made, &users, &projects, &consumers)...)
	ops = append(ops, []func(r *rand.Rand) error{
		func(r *rand.Rand) error {
			_, err := c.Credentials.CreateEC2(ctx, users.one(r), projects.one(r))
			return err
		},
		func(r *rand.Rand) error {
			_, _, err := c.DomainConfigs.Put(ctx, domains.one(r), domainconfig.Options{"ldap": {"url": "ldap://" + *name(r)}})
			return err
		},
		func(r *rand.Rand) error {
			id := *name(r)
			_, err := c.Federation.CreateIdentityProvider(ctx, id, federation.IdentityProviderChange{DomainID: ref(domains.one(r)), RemoteIDs: &[]string{id}})
			return made(&idps, id, err)
		},
		func(r *rand.Rand) error {
			_, err := c.Federation.CreateProtocol(ctx, idps.one(r), "p", federation.ProtocolChange{MappingID: ref("m")})
			return err
		},
		func(r *rand.Rand) error {
			known := []identity.Federated{{IdPID: idps.one(r), Protocols: []identity.FederatedAccount{{ProtocolID: "p", UniqueID: *name(r)}}}}
			_, err := c.UpdateUser(ctx, users.one(r), identity.UserChange{Federated: &known})
			return err
		},
	}...)
	drops := []func(r *rand.Rand) error{
		func(r *rand.Rand) error { return c.DeleteUser(ctx, users.one(r)) },
		func(r *rand.Rand) error { return c.OAuth.DeleteConsumer(ctx, consumers.one(r)) },
		func(r *rand.Rand) error { return c.Federation.DeleteProtocol(ctx, idps.one(r), "p") },
		func(r *rand.Rand) error { return c.Federation.DeleteIdentityProvider(ctx, idps.one(r)) },
		func(r *rand.Rand) error { return c.DeleteGroup(ctx, groups.one(r)) },
		func(r *rand.Rand) error { return c.DeleteProject(ctx, projects.one(r)) },
		func(r *rand.Rand) error { return c.Assignments.DeleteRole(ctx, roles.one(r)) },
		func(r *rand.Rand) error { return c.Catalog.DeleteService(ctx, services.one(r)) },
		func(r *rand.Rand) error { return c.Catalog.DeleteRegion(ctx, regions.one(r)) },
		func(r *rand.Rand) error { return c.Catalog.DeleteEndpoint(ctx, endpoints.one(r)) },
		func(r *rand.Rand) error {
			id := domains.one(r)
			if id == "default" {
				return nil
			}
			if _, err := c.UpdateDomain(ctx, id, identity.ProjectChange{Enabled: ref(false)}); err != nil {
				return err
			}
			return c.DeleteDomain(ctx, id)
		},
	}
	joins := len(ops)
	ops = append(ops, drops...)
	var done atomic.Int64
	var wg sync.WaitGroup
	for n := range writers {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(n), 1))
			for range steps {
				op := r.IntN(joins)
				if r.IntN(8) == 0 {
					op = joins + r.IntN(len(drops))
				}
				switch err := ops[op](r); nacre.KindOf(err) {
				case nacre.NotFound, nacre.Conflict, nacre.Invalid, nacre.Forbidden, nacre.Unavailable:
				default:
					if err != nil {
						t.Errorf("operation %d: %v", op, err)
					}
					done.Add(1)
				}
			}
		})
	}
	wg.Wait()
	require.Greater(t, done.Load(), int64(writers*steps/10), "few operations went well: it is no storm")
	c.clean()
	// The audit asks not whose they are; these were of users and for projects there were.
	orphans, err := store.NewTable[credential.Credential](e, "credential").Where(ctx, store.Or(
		store.Not(store.InSelect("user_id", store.NewTable[identity.User](e, "user"), "id", store.All())),
		store.Not(store.InSelect("project_id", store.NewTable[identity.Project](e, "project"), "id", store.All()))))
	require.NoError(t, err)
	require.Empty(t, orphans)
}

// signedStorm makes consumers, and has users authorize them.
func signedStorm(c *cloud, ctx context.Context, made func(*pile, string, error) error, users, projects, consumers *pile) []func(*rand.Rand) error {
	var secrets sync.Map
	return []func(*rand.Rand) error{
		func(*rand.Rand) error {
			x, err := c.OAuth.CreateConsumer(ctx, oauth1.ConsumerChange{})
			secrets.Store(x.ID, x.Secret)
			return made(consumers, x.ID, err)
		},
		func(r *rand.Rand) error {
			id := consumers.one(r)
			secret, ok := secrets.Load(id)
			if !ok {
				return nacre.NotFound
			}
			req, err := c.OAuth.NewRequestToken(ctx, signed(r.Int(), id, secret.(string), "", "", ""), projects.one(r))
			if err != nil || r.IntN(4) == 0 {
				return err
			}
			user := nacre.WithCaller(ctx, &nacre.Caller{UserID: users.one(r), ProjectID: req.ProjectID, Roles: []string{"admin"}})
			verifier, err := c.OAuth.Authorize(user, req.ID, nil)
			if err == nil {
				_, err = c.OAuth.NewAccessToken(ctx, signed(r.Int(), id, secret.(string), req.ID, req.Secret, verifier))
			}
			if errors.Is(err, nacre.Unauthenticated) {
				err = nacre.NotFound // the consumer is, or the domain is disabled
			}
			return err
		},
	}
}

func TestStorm(t *testing.T) {
	e := memstore.New(memstore.Options{ReadCommitted: true})
	defer func() { require.NoError(t, e.Close()) }()
	storm(t, e, 8, 800)
}
