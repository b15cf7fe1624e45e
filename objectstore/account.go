package objectstore

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/store"
)

// AccountInfo is an account with what it holds.
type AccountInfo struct {
	Account
	Usage
	Containers int64
	// Policies are the shares of the storage policies that are in use.
	Policies map[string]PolicyUsage
	// ACL is the account's own, as JSON; empty for those who don't own it.
	ACL string
}

// Usage is what is in an account or container.
type Usage struct{ Objects, Bytes int64 }

// PolicyUsage is a storage policy's share.
type PolicyUsage struct {
	Usage
	Containers int64
}

// ErrGone is an account that was deleted.
var ErrGone = &nacre.Error{Kind: nacre.NotFound, Code: "Gone", Message: "The account has been deleted."}

// Account shows an account. One that was never used is empty.
func (s *Service) Account(ctx context.Context, name string) (AccountInfo, error) {
	r := Ref{Account: name}
	if err := s.checkNames(r); err != nil {
		return AccountInfo{}, err
	}
	if err := s.allow(ctx, r, read, ""); err != nil {
		return AccountInfo{}, err
	}
	a, err := s.findAccount(ctx, name)
	if err != nil {
		return AccountInfo{}, err
	}
	if !a.Deleted.IsZero() {
		return AccountInfo{}, ErrGone
	}
	out := AccountInfo{Account: a, Policies: map[string]PolicyUsage{}}
	if s.Owner(ctx, name) {
		out.ACL = a.Meta[accountACL]
	}
	return out, s.sum(ctx, &out)
}

func (s *Service) sum(ctx context.Context, a *AccountInfo) error {
	gs, err := s.containers.Aggregate(ctx, store.Aggregate{Where: store.Eq("account", a.Name), By: []string{"policy"}, Sum: []string{"objects", "bytes", "version_bytes"}})
	for _, g := range gs {
		u := PolicyUsage{Usage: Usage{Objects: g.Sums[0], Bytes: g.Sums[1] + g.Sums[2]}, Containers: g.Count}
		policy, _ := g.Key[0].(string)
		a.Policies[policy] = u
		a.Objects, a.Bytes, a.Containers = a.Objects+u.Objects, a.Bytes+u.Bytes, a.Containers+u.Containers
	}
	return err
}

// AccountChange are headers to set (empty: to remove), and the account's ACL if
// not nil.
type AccountChange struct {
	Meta map[string]string
	ACL  *string
}

// PostAccount changes an account's metadata, and makes the account if need be.
func (s *Service) PostAccount(ctx context.Context, name string, ch AccountChange) error {
	r := Ref{Account: name}
	if err := s.checkNames(r); err != nil {
		return err
	}
	if err := s.allow(ctx, r, write, ""); err != nil {
		return err
	}
	if err := s.checkQuotas(ctx, ch.Meta); err != nil {
		return err
	}
	change := ch.Meta
	if ch.ACL != nil {
		if err := checkAccountACL(*ch.ACL); err != nil {
			return err
		}
		change = map[string]string{accountACL: *ch.ACL}
		for k, v := range ch.Meta {
			change[k] = v
		}
	}
	defer s.cache.forget(r)
	return store.InTx(ctx, s.c.Engine, func(ctx context.Context) error {
		a, err := s.ensureAccount(ctx, name)
		if err != nil {
			return err
		}
		meta, err := s.merge("account", a.Meta, change)
		if err != nil {
			return err
		}
		_, err = s.accounts.Update(ctx, name, func(a *Account) error {
			a.Meta, a.Changed = meta, s.c.Now().UTC()
			return nil
		})
		return err
	})
}

// PutAccount makes an account; made is false when it was there. It is for the
// reseller's administrator, where Config.AccountManagement allows it at all.
func (s *Service) PutAccount(ctx context.Context, name string, ch AccountChange) (made bool, err error) {
	if err := s.manage(ctx); err != nil {
		return false, err
	}
	a, err := s.findAccount(ctx, name)
	if err != nil {
		return false, err
	}
	if !a.Deleted.IsZero() {
		return false, ErrGone
	}
	return a.Created.IsZero(), s.PostAccount(ctx, name, ch)
}

func (s *Service) manage(ctx context.Context) error {
	if c := nacre.CallerFrom(ctx); c != nil && c.Service != "" {
		return nil
	}
	if !s.c.AccountManagement {
		return nacre.Errorf(nacre.NotImplemented, "MethodNotAllowed", "The method is not allowed for this resource.")
	}
	if !s.Reseller(ctx) {
		return denied(ctx)
	}
	return nil
}

// DeleteAccount marks an account as deleted: it is gone for its users at once, and
// Run takes away what it holds. It is for the reseller's administrator and for
// services (a project that ended).
func (s *Service) DeleteAccount(ctx context.Context, name string) error {
	if err := s.manage(ctx); err != nil {
		return err
	}
	if err := s.allow(ctx, Ref{Account: name}, remove, ""); err != nil {
		return err
	}
	defer s.cache.forgetAccount(name)
	_, err := s.accounts.Update(ctx, name, func(a *Account) error {
		if a.Deleted.IsZero() {
			a.Deleted = s.c.Now().UTC()
		}
		return nil
	})
	if err == nil {
		s.wake()
	}
	return store.WrapNotFound(err, notFound)
}

// ensureAccount is the account, made if need be. In a transaction.
func (s *Service) ensureAccount(ctx context.Context, name string) (Account, error) {
	a, err := s.accounts.GetForUpdate(ctx, name)
	if errors.Is(err, store.ErrNoRow) {
		now := s.c.Now().UTC()
		a = Account{Name: name, Created: now, Changed: now, Meta: map[string]string{}}
		if c := nacre.CallerFrom(ctx); c != nil && c.ProjectID != "" && c.ProjectID == s.projectID(name) {
			a.Meta[projectOf] = c.ProjectID
		}
		if err = s.accounts.Insert(ctx, a); store.IsDuplicate(err) {
			err = errors.Join(store.ErrRaced, err)
		}
	}
	if err == nil && !a.Deleted.IsZero() {
		err = ErrGone
	}
	return a, err
}

// ListQuery asks for a page of a listing. The zero value is the first page.
type ListQuery struct {
	Prefix, Delimiter string
	// Marker and EndMarker are names: what comes after the one and before the
	// other. With Reverse the order is turned round, and so are they.
	Marker, EndMarker string
	// Path, if set, asks for what lies directly in a pseudo-directory.
	Path *string
	// Limit is how many at most; 0 means the service's own limit, which also bounds it.
	Limit   int
	Reverse bool
	// Versions asks for older versions as well; VersionMarker is the version after
	// which to go on at Marker.
	Versions      bool
	VersionMarker string

	// markers shows names that end in the delimiter, and no common prefixes.
	markers bool
}

// ContainerEntry is a line of an account's listing: a container or, with Subdir,
// what several begin with.
type ContainerEntry struct {
	Name           string
	Objects, Bytes int64
	Changed        time.Time
	Policy         string
	Subdir         bool
}

// ListContainers lists an account's containers.
func (s *Service) ListContainers(ctx context.Context, account string, q ListQuery) (AccountInfo, []ContainerEntry, error) {
	info, err := s.Account(ctx, account)
	if err != nil {
		return info, nil, err
	}
	lim := int(s.c.Limits.AccountListing)
	if q.Limit < 0 || q.Limit > lim {
		return info, nil, nacre.Errorf(nacre.Precondition, "", "Maximum limit is %d", lim)
	}
	if q.Limit == 0 {
		q.Limit = lim
	}
	in := store.Eq("account", account)
	var out []ContainerEntry
	var page []Container
	err = q.pages("name", "", func(w []store.Where, limit int) (names []string, err error) {
		page, err = s.containers.Select(ctx, store.Select{Where: store.And(append(w, in)...), Order: []store.Order{{Column: "name", Desc: q.Reverse}}, Limit: limit})
		for _, c := range page {
			names = append(names, c.Name)
		}
		return names, err
	}, func(i int) {
		c := page[i]
		out = append(out, ContainerEntry{Name: c.Name, Objects: c.Objects, Bytes: c.Bytes + c.VersionBytes, Changed: c.Changed, Policy: c.Policy})
	}, func(sub string) { out = append(out, ContainerEntry{Name: sub, Subdir: true}) })
	return info, out, err
}

// pages reads a listing page by page. read reads one and gives the names in it; row
// takes the i-th of these into the answer, and sub a common prefix. Where one
// common prefix fills a page, the next begins behind it: what it hides is not read.
func (q *ListQuery) pages(column, base string, read func(w []store.Where, limit int) ([]string, error), row func(i int), sub func(prefix string)) error {
	w := q.window(base)
	size := q.Limit
	if q.Delimiter != "" {
		size = min(64, q.Limit)
	}
	have, last := 0, ""
	for have < q.Limit {
		limit := min(size, q.Limit)
		names, err := read(w.where(column), limit)
		if err != nil {
			return err
		}
		before := have
		for i, n := range names {
			if have == q.Limit {
				return nil
			}
			prefix := q.common(n)
			switch {
			case prefix == "":
				row(i)
				have++
			case prefix != last && prefix != q.Marker && !q.markers:
				// A marker that is itself a common prefix was shown with it.
				sub(prefix)
				have++
			}
			last = prefix
		}
		if len(names) < limit {
			return nil
		}
		if size = min(2*size, 1024); have-before <= 1 {
			size = 2
		}
		q.past(&w, base, names[len(names)-1], last)
	}
	return nil
}

// window is a range of names, [lo, hi) or, with over, (lo, hi). It is kept as one
// bound on each side: of two, an engine may take the wrong one for its index.
type window struct {
	lo, hi string
	over   bool
}

// startsWith narrows the window to what begins with p.
func (w *window) startsWith(p string) {
	w.raise(p, false)
	if next, ok := after(p); ok {
		w.lower(next)
	} else {
		w.lower(p + beyond)
	}
}

// behind narrows the window to what sorts behind all that begins with p.
func (w *window) behind(p string) {
	if next, ok := after(p); ok {
		w.raise(next, false)
	} else {
		w.raise(p+beyond, true)
	}
}

func (w *window) raise(lo string, over bool) {
	if lo > w.lo || lo == w.lo && over {
		w.lo, w.over = lo, over
	}
}

func (w *window) lower(hi string) {
	if w.hi == "" || hi < w.hi {
		w.hi = hi
	}
}

func (w *window) where(column string) []store.Where {
	var out []store.Where
	switch {
	case w.over:
		out = append(out, store.Greater(column, w.lo))
	case w.lo != "":
		out = append(out, store.GreaterEq(column, w.lo))
	}
	if w.hi != "" {
		out = append(out, store.Less(column, w.hi))
	}
	return out
}

// window is what a listing may show.
func (q *ListQuery) window(base string) window {
	lo, hi := q.Marker, q.EndMarker
	if q.Reverse {
		lo, hi = hi, lo
	}
	var w window
	if q.Prefix != "" || base != "" {
		w.startsWith(base + q.Prefix)
	}
	if lo != "" {
		w.raise(base+lo, true)
	}
	if hi != "" {
		w.lower(base + hi)
	}
	return w
}

// past narrows the window to what comes after a name, or after the common prefix
// that it has.
func (q *ListQuery) past(w *window, base, name, prefix string) {
	switch {
	case prefix == "" && q.Reverse:
		w.lower(base + name)
	case prefix == "":
		w.raise(base+name, true)
	case q.Reverse:
		w.lower(base + prefix)
	default:
		w.behind(base + prefix)
	}
}

// common is a name's part up to the first delimiter behind the prefix; empty when
// there is none. With markers a name that ends there is a name.
func (q *ListQuery) common(name string) string {
	if q.Delimiter == "" || len(name) < len(q.Prefix) {
		return ""
	}
	j := strings.Index(name[len(q.Prefix):], q.Delimiter)
	if j < 0 {
		return ""
	}
	p := name[:len(q.Prefix)+j+len(q.Delimiter)]
	if q.markers && p == name {
		return ""
	}
	return p
}

// beyond sorts after all that begins with a prefix and is valid text: no name has
// so many of the last character there is.
var beyond = strings.Repeat("\U0010ffff", 8)

// prefixed are the rows that begin with a prefix, as a range that an index serves.
func prefixed(column, p string) []store.Where {
	var w window
	w.startsWith(p)
	return w.where(column)
}

// after is the least text behind all that begins with p; ok is false where there
// is none that every database takes.
func after(p string) (string, bool) {
	if n := len(p); n > 0 && p[n-1] < 0x7f {
		return p[:n-1] + string(rune(p[n-1]+1)), true
	}
	return "", false
}
