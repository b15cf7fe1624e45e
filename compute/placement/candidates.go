package placement

import (
	"context"
	"slices"
	"strings"
)

// Group is one request group of allocation candidates.
type Group struct {
	Resources Resources
	Demand
	// InTree is any provider of the tree that serves it.
	InTree string
}

// Request asks for allocation candidates. Groups by suffix: the one without ("")
// may be served by several providers of a tree, each other one by a single one.
type Request struct {
	Groups map[string]Group
	// Isolate wants different providers for the suffixed groups.
	Isolate bool
	// RootRequired and RootForbidden are traits of the tree's root.
	RootRequired, RootForbidden []string
	// SameSubtree are lists of suffixes whose providers must be in one subtree of
	// which one of them is the root.
	SameSubtree [][]string
	// Limit is the most candidates; 0 means all.
	Limit int
	// Flat wants no candidate with two providers of one tree (microversions
	// before 1.29).
	Flat bool
}

// Candidate is one way to serve a Request.
type Candidate struct {
	// Allocations by provider, fit for SetAllocations.
	Allocations map[string]Resources
	// Mappings are the providers that serve each group, by suffix.
	Mappings map[string][]string
}

// perTree bounds the combinations that are tried of one tree.
const perTree = 10_000

// Candidates finds how a request could be served just now, and what the providers
// of the trees concerned have left. At most five statements.
func (s *Service) Candidates(ctx context.Context, r Request) ([]Candidate, []Free, error) {
	if err := s.can(ctx, "allocation_candidates:list", nil); err != nil {
		return nil, nil, err
	}
	if err := s.checkRequest(ctx, r); err != nil {
		return nil, nil, err
	}
	ps, err := s.providers.Where(ctx)
	if err != nil {
		return nil, nil, err
	}
	free, err := s.freeOf(ctx, ps)
	if err != nil {
		return nil, nil, err
	}
	f := finder{r: r, free: free, trees: map[string][]*Free{}, seen: map[string]bool{}}
	var roots []string
	slices.SortFunc(ps, func(a, b Provider) int { return strings.Compare(a.Name, b.Name) })
	for _, p := range ps {
		if f.trees[p.RootID] == nil {
			roots = append(roots, p.RootID)
		}
		f.trees[p.RootID] = append(f.trees[p.RootID], free[p.ID])
		if slices.Contains(p.Traits, sharing) {
			f.shared = append(f.shared, free[p.ID])
		}
	}
	for _, root := range roots {
		if r.Limit > 0 && len(f.out) >= r.Limit {
			break
		}
		f.tree(root)
	}
	if r.Limit > 0 && len(f.out) > r.Limit {
		f.out = f.out[:r.Limit]
	}
	return f.out, f.summaries(ps), nil
}

func (s *Service) checkRequest(ctx context.Context, r Request) error {
	var classes, traits []string
	for _, g := range r.Groups {
		classes = append(classes, keys(g.Resources)...)
		traits = append(traits, g.traits()...)
	}
	traits = append(append(traits, r.RootRequired...), r.RootForbidden...)
	if missing, err := s.unknown(ctx, "class", classes); err != nil {
		return err
	} else if len(missing) > 0 {
		return invalid("Invalid resource class in resources parameter: No such resource class %s.", missing[0])
	}
	missing, err := s.unknown(ctx, "trait", traits)
	if err == nil && len(missing) > 0 {
		err = invalid("No such trait(s): %s.", join(missing))
	}
	return err
}

type finder struct {
	r      Request
	free   map[string]*Free
	trees  map[string][]*Free
	shared []*Free
	seen   map[string]bool
	out    []Candidate
}

// choice is a provider for a part of the request.
type choice struct {
	suffix string
	f      *Free
	r      Resources
}

// tree adds the candidates of one tree and of what is shared with it.
func (f *finder) tree(root string) {
	rf := f.free[root]
	if rf == nil || !(Demand{Required: each(f.r.RootRequired), Forbidden: f.r.RootForbidden}).traitsFit(rf.Provider.Traits) {
		return
	}
	members := f.trees[root]
	all := slices.Clone(members)
	for _, sh := range f.shared {
		if sh.Provider.RootID != root && slices.ContainsFunc(members, func(m *Free) bool { return anyOf(m.Provider.Aggregates, sh.Provider.Aggregates) }) {
			all = append(all, sh)
		}
	}
	var parts [][]choice
	for _, suffix := range keys(f.r.Groups) {
		g := f.r.Groups[suffix]
		from := slices.DeleteFunc(slices.Clone(all), func(p *Free) bool { return !f.eligible(g, suffix, p) })
		if suffix != "" {
			parts = append(parts, choices(suffix, from, g.Resources))
			continue
		}
		for _, class := range keys(g.Resources) {
			parts = append(parts, choices("", from, Resources{class: g.Resources[class]}))
		}
	}
	tries := 0
	picked := make([]choice, 0, len(parts))
	var walk func(i int)
	walk = func(i int) {
		if f.r.Limit > 0 && len(f.out) >= f.r.Limit || tries > perTree {
			return
		}
		if i == len(parts) {
			tries++
			f.add(root, picked)
			return
		}
		for _, c := range parts[i] {
			picked = append(picked, c)
			walk(i + 1)
			picked = picked[:len(picked)-1]
		}
	}
	walk(0)
}

func each(names []string) [][]string {
	out := make([][]string, len(names))
	for i, n := range names {
		out[i] = []string{n}
	}
	return out
}

// eligible reports whether a provider may serve (a part of) a group. What the
// group without suffix requires of traits is asked of all its providers together.
func (f *finder) eligible(g Group, suffix string, p *Free) bool {
	if g.InTree != "" {
		if in := f.free[g.InTree]; in == nil || in.Provider.RootID != p.Provider.RootID {
			return false
		}
	}
	if suffix != "" {
		return g.traitsFit(p.Provider.Traits) && g.aggregatesFit(p.Provider.Aggregates)
	}
	// Without a suffix the aggregates of the root hold for its tree.
	aggs := p.Provider.Aggregates
	if root := f.free[p.Provider.RootID]; root != nil && root != p {
		aggs = append(slices.Clone(aggs), root.Provider.Aggregates...)
	}
	return !anyOf(p.Provider.Traits, g.Forbidden) && g.aggregatesFit(aggs)
}

func choices(suffix string, from []*Free, r Resources) []choice {
	var out []choice
	for _, p := range from {
		if ok, _ := p.Fits(r); ok {
			out = append(out, choice{suffix, p, r})
		}
	}
	return out
}

// add keeps a combination that holds as a whole, once.
func (f *finder) add(root string, picked []choice) {
	c := Candidate{Allocations: map[string]Resources{}, Mappings: map[string][]string{}}
	var plain []string // traits of those that serve the group without suffix
	inTree := false
	for _, p := range picked {
		id := p.f.Provider.ID
		inTree = inTree || p.f.Provider.RootID == root
		if f.r.Isolate && p.suffix != "" {
			for suffix, by := range c.Mappings {
				if suffix != "" && slices.Contains(by, id) {
					return
				}
			}
		}
		if !slices.Contains(c.Mappings[p.suffix], id) {
			c.Mappings[p.suffix] = append(c.Mappings[p.suffix], id)
		}
		if p.suffix == "" {
			plain = append(plain, p.f.Provider.Traits...)
		}
		if len(p.r) == 0 {
			continue
		}
		if c.Allocations[id] == nil {
			c.Allocations[id] = Resources{}
		}
		for class, n := range p.r {
			c.Allocations[id][class] += n
		}
	}
	if !inTree || len(c.Allocations) == 0 {
		return
	}
	if g, ok := f.r.Groups[""]; ok && !(Demand{Required: g.Required}).traitsFit(plain) {
		return
	}
	// Several parts may have met on one provider.
	roots := map[string]int{}
	for id, r := range c.Allocations {
		if ok, _ := f.free[id].Fits(r); !ok {
			return
		}
		roots[f.free[id].Provider.RootID]++
		if f.r.Flat && roots[f.free[id].Provider.RootID] > 1 {
			return
		}
	}
	for _, suffixes := range f.r.SameSubtree {
		if !f.oneSubtree(suffixes, c.Mappings) {
			return
		}
	}
	if key := signature(c); !f.seen[key] {
		f.seen[key] = true
		f.out = append(f.out, c)
	}
}

// oneSubtree reports whether one of the providers of these groups is above, or
// is, each of the others.
func (f *finder) oneSubtree(suffixes []string, mappings map[string][]string) bool {
	var ids []string
	for _, s := range suffixes {
		ids = append(ids, mappings[s]...)
	}
	return slices.ContainsFunc(ids, func(top string) bool {
		return !slices.ContainsFunc(ids, func(id string) bool {
			for id != "" && id != top && f.free[id] != nil {
				id = f.free[id].Provider.ParentID
			}
			return id != top
		})
	})
}

func signature(c Candidate) string {
	var b strings.Builder
	for _, suffix := range keys(c.Mappings) {
		b.WriteString(suffix + "=" + strings.Join(sorted(c.Mappings[suffix]), ",") + ";")
	}
	for _, id := range keys(c.Allocations) {
		b.WriteString(id + ":" + strings.Join(keys(c.Allocations[id]), ",") + ";")
	}
	return b.String()
}

// summaries are the providers of the trees that candidates are in; with Flat only
// those that serve one.
func (f *finder) summaries(ps []Provider) []Free {
	used, roots := map[string]bool{}, map[string]bool{}
	for _, c := range f.out {
		for _, by := range c.Mappings {
			for _, id := range by {
				used[id], roots[f.free[id].Provider.RootID] = true, true
			}
		}
	}
	var out []Free
	for _, p := range ps {
		if used[p.ID] || !f.r.Flat && roots[p.RootID] {
			out = append(out, *f.free[p.ID])
		}
	}
	return out
}
