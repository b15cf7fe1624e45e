package identity_test

import (
	"context"
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
	"github.com/nacre-cloud/nacre/identity/limit"
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
	var users, groups, projects, roles, services, regions, endpoints, domains pile
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
	drops := []func(r *rand.Rand) error{
		func(r *rand.Rand) error { return c.DeleteUser(ctx, users.one(r)) },
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
}

func TestStorm(t *testing.T) {
	e := memstore.New(memstore.Options{ReadCommitted: true})
	defer func() { require.NoError(t, e.Close()) }()
	storm(t, e, 8, 800)
}
