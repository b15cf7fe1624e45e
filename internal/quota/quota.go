// Package quota holds an area's limits for each project and checks use against
// them. Use is always counted from the rows themselves, under a lock, in the
// transaction that adds to it; it is never stored and so can't drift.
//
// A limit of -1 is unlimited. A project without a row of its own has the class
// default ("default"), and without that the built-in one.
package quota

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/store"
)

// Unlimited is the limit that nothing reaches.
const Unlimited = -1

// Limit is a row: a project's (or a class's) own limit of one resource.
type Limit struct {
	// ID is "<project>/<resource>", or "class:<name>/<resource>".
	ID       string `store:"id,pk"`
	Owner    string `store:"owner,index=quota_owner"`
	Resource string `store:"resource"`
	Value    int64  `store:"value"`
}

// Table is the definition for an area's schema.
func Table() *store.TableDef { return store.Define[Limit]("quota") }

// Kit answers what a project may have.
type Kit struct {
	rows     *store.Table[Limit]
	defaults map[string]int64
}

// New makes the kit of an area with its built-in defaults, which also name the
// resources that exist.
func New(e store.Engine, defaults map[string]int64) *Kit {
	return &Kit{rows: store.NewTable[Limit](e, "quota"), defaults: maps.Clone(defaults)}
}

// Resources are the resources that have a quota, sorted.
func (k *Kit) Resources() []string { return slices.Sorted(maps.Keys(k.defaults)) }

// Class owns the limits of a quota class in Set and Clear ("default").
func Class(name string) string { return "class:" + name }

// Defaults are the limits of a project that has none of its own.
func (k *Kit) Defaults(ctx context.Context) (map[string]int64, error) {
	return k.limits(ctx, Class("default"))
}

// Limits are the limits in force for a project. One statement.
func (k *Kit) Limits(ctx context.Context, project string) (map[string]int64, error) {
	return k.limits(ctx, Class("default"), project)
}

func (k *Kit) limits(ctx context.Context, owners ...string) (map[string]int64, error) {
	rows, err := k.rows.Where(ctx, store.In("owner", owners))
	if err != nil {
		return nil, err
	}
	out := maps.Clone(k.defaults)
	for _, owner := range owners {
		for _, r := range rows {
			if _, known := out[r.Resource]; known && r.Owner == owner {
				out[r.Resource] = r.Value
			}
		}
	}
	return out, nil
}

// Owned lists every project's own limits (neutron's quota list), by project.
// Classes are none.
func (k *Kit) Owned(ctx context.Context) (map[string]map[string]int64, error) {
	rows, err := k.rows.Where(ctx)
	if err != nil {
		return nil, err
	}
	out := map[string]map[string]int64{}
	for _, r := range rows {
		if _, known := k.defaults[r.Resource]; !known || strings.HasPrefix(r.Owner, Class("")) {
			continue
		}
		if out[r.Owner] == nil {
			out[r.Owner] = map[string]int64{}
		}
		out[r.Owner][r.Resource] = r.Value
	}
	return out, nil
}

// Set stores limits of a project or class.
func (k *Kit) Set(ctx context.Context, owner string, limits map[string]int64) error {
	return store.InTx(ctx, k.rows.Engine(), func(ctx context.Context) error {
		ids := make([]string, 0, len(limits))
		rows := make([]Limit, 0, len(limits))
		for _, r := range slices.Sorted(maps.Keys(limits)) {
			ids = append(ids, owner+"/"+r)
			rows = append(rows, Limit{ID: owner + "/" + r, Owner: owner, Resource: r, Value: limits[r]})
		}
		if _, err := k.rows.DeleteWhere(ctx, store.In("id", ids)); err != nil {
			return err
		}
		return k.rows.Insert(ctx, rows...)
	})
}

// Clear removes a project's own limits; it falls back to the defaults. It
// reports whether there were any.
func (k *Kit) Clear(ctx context.Context, owner string) (bool, error) {
	n, err := k.rows.DeleteWhere(ctx, store.Eq("owner", owner))
	return n > 0, err
}

// Over names the resources, sorted, in which used plus more would exceed the
// project's limit, with that limit. used must have been counted in the same
// transaction after Lock(ctx, project).
func (k *Kit) Over(ctx context.Context, project string, used, more map[string]int64) (map[string]int64, error) {
	limits, err := k.Limits(ctx, project)
	if err != nil {
		return nil, err
	}
	over := map[string]int64{}
	for r, d := range more {
		if max, ok := limits[r]; ok && max != Unlimited && d > 0 && d > max-used[r] {
			over[r] = max
		}
	}
	return over, nil
}

// Lock serialises the project's counts; call it first in the transaction.
func (k *Kit) Lock(ctx context.Context, project string) error {
	if project == "" {
		return nacre.Errorf(nacre.Invalid, "project", "A project is needed")
	}
	return store.Lock(ctx, k.rows.Engine(), "quota/"+project)
}
