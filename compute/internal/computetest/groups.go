package computetest

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/compute"
	"github.com/nacre-cloud/nacre/store"
)

// Groups is compute.SecurityGroups in memory: each project's caller sees its own
// groups, an administrator all.
type Groups struct {
	mu   sync.Mutex
	n    int
	list []compute.SecurityGroup
	// On maps a server to the ids of its groups.
	On map[string][]string
}

var _ compute.SecurityGroups = (*Groups)(nil)

func (g *Groups) id() string {
	g.n++
	return fmt.Sprintf("00000000-0000-4000-8000-%012d", g.n)
}

// seen is where a group that the caller may see lies, or -1. The lock is held.
func (g *Groups) seen(ctx context.Context, id string) (int, error) {
	if err := store.Outside(ctx); err != nil {
		return -1, err
	}
	c := nacre.CallerFrom(ctx)
	i := slices.IndexFunc(g.list, func(x compute.SecurityGroup) bool {
		return x.ID == id && (x.ProjectID == c.ProjectID || c.HasRole("admin"))
	})
	if i < 0 {
		return i, nacre.Errorf(nacre.NotFound, "", "Security group %s does not exist", id)
	}
	return i, nil
}

// Groups implements compute.SecurityGroups.
func (g *Groups) Groups(_ context.Context, project string) ([]compute.SecurityGroup, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(g.list), func(x compute.SecurityGroup) bool { return project != "" && x.ProjectID != project }), nil
}

// ServerGroups implements compute.SecurityGroups.
func (g *Groups) ServerGroups(_ context.Context, server string) ([]compute.SecurityGroup, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(g.list), func(x compute.SecurityGroup) bool { return !slices.Contains(g.On[server], x.ID) }), nil
}

// Group implements compute.SecurityGroups.
func (g *Groups) Group(ctx context.Context, id string) (compute.SecurityGroup, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	i, err := g.seen(ctx, id)
	if err != nil {
		return compute.SecurityGroup{}, err
	}
	return g.list[i], nil
}

// CreateGroup implements compute.SecurityGroups: "default" is taken.
func (g *Groups) CreateGroup(ctx context.Context, name, description string) (compute.SecurityGroup, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if name == "default" {
		return compute.SecurityGroup{}, nacre.Errorf(nacre.Conflict, "", "Default security group already exists.")
	}
	x := compute.SecurityGroup{ID: g.id(), Name: name, Description: description, ProjectID: nacre.CallerFrom(ctx).ProjectID}
	g.list = append(g.list, x)
	return x, nil
}

// UpdateGroup implements compute.SecurityGroups.
func (g *Groups) UpdateGroup(ctx context.Context, id, name, description string) (compute.SecurityGroup, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	i, err := g.seen(ctx, id)
	if err != nil {
		return compute.SecurityGroup{}, err
	}
	g.list[i].Name, g.list[i].Description = name, description
	return g.list[i], nil
}

// DeleteGroup implements compute.SecurityGroups: one with members is in use.
func (g *Groups) DeleteGroup(ctx context.Context, id string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	i, err := g.seen(ctx, id)
	if err != nil {
		return err
	}
	for _, on := range g.On {
		if slices.Contains(on, id) {
			return nacre.Errorf(nacre.Conflict, "", "Security Group %s in use.", id)
		}
	}
	g.list = slices.Delete(g.list, i, i+1)
	return nil
}

// Rule implements compute.SecurityGroups.
func (g *Groups) Rule(_ context.Context, id string) (compute.SecurityGroupRule, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, x := range g.list {
		for _, r := range x.Rules {
			if r.ID == id {
				return r, nil
			}
		}
	}
	return compute.SecurityGroupRule{}, nacre.Errorf(nacre.NotFound, "", "Security group rule %s does not exist", id)
}

// CreateRule implements compute.SecurityGroups.
func (g *Groups) CreateRule(ctx context.Context, r compute.SecurityGroupRule) (compute.SecurityGroupRule, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	i, err := g.seen(ctx, r.GroupID)
	if err != nil {
		return r, err
	}
	r.ID = g.id()
	g.list[i].Rules = append(slices.Clone(g.list[i].Rules), r)
	return r, nil
}

// DeleteRule implements compute.SecurityGroups.
func (g *Groups) DeleteRule(_ context.Context, id string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := range g.list {
		g.list[i].Rules = slices.DeleteFunc(slices.Clone(g.list[i].Rules), func(r compute.SecurityGroupRule) bool { return r.ID == id })
	}
	return nil
}
