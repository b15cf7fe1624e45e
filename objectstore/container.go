package objectstore

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/store"
)

// ContainerChange are headers to set (empty: to remove) on a container. ACLs and
// the locations of versions are among them.
type ContainerChange struct {
	Meta map[string]string
	// Policy names the storage policy of a new container; empty is the default.
	Policy string
	// Versions turns the keeping of versions on and off, if not nil.
	Versions *bool
}

const (
	containerQuotaBytes = "X-Container-Meta-Quota-Bytes"
	containerQuotaCount = "X-Container-Meta-Quota-Count"
)

// PutContainer makes a container, or changes its metadata when it is there; made
// says which. Its account is made if need be.
func (s *Service) PutContainer(ctx context.Context, r Ref, ch ContainerChange) (made bool, err error) {
	if err := s.checkContainer(ctx, r, &ch); err != nil {
		return false, err
	}
	defer s.cache.forget(r)
	err = store.InTx(ctx, s.c.Engine, func(ctx context.Context) error {
		if _, err := s.ensureAccount(ctx, r.Account); err != nil {
			if errors.Is(err, ErrGone) {
				return notFound()
			}
			return err
		}
		c, err := s.containers.One(ctx, store.Eq("account", r.Account), store.Eq("name", r.Container))
		if made = errors.Is(err, store.ErrNoRow); !made {
			if err != nil {
				return err
			}
			if ch.Policy != "" && ch.Policy != c.Policy {
				return conflict("Storage policy can not be changed")
			}
			return s.changeContainer(ctx, c.ID, ch)
		}
		meta, err := s.merge("container", nil, ch.Meta)
		if err != nil {
			return err
		}
		if ch.Policy == "" {
			ch.Policy = s.c.Policies[0]
		}
		now := s.c.Now().UTC()
		c = Container{ID: newID(), Account: r.Account, Name: r.Container, Created: now, Changed: now, Policy: ch.Policy, Meta: meta}
		if err := c.turnVersions(ch.Versions); err != nil {
			return err
		}
		if err = s.containers.Insert(ctx, c); store.IsDuplicate(err) {
			err = errors.Join(store.ErrRaced, err)
		}
		return err
	})
	return made, err
}

func (c *Container) turnVersions(on *bool) error {
	if on == nil {
		return nil
	}
	if c.Meta[versionsLoc] != "" || c.Meta[historyLoc] != "" {
		return invalid("Cannot enable object versioning on a container that is already using the legacy versioned writes feature.")
	}
	switch {
	case *on:
		c.Versions = "enabled"
	case c.Versions != "":
		c.Versions = "suspended"
	}
	return nil
}

// changeContainer writes a change; in a transaction.
func (s *Service) changeContainer(ctx context.Context, id string, ch ContainerChange) error {
	_, err := s.containers.Update(ctx, id, func(c *Container) error {
		change := maps.Clone(ch.Meta)
		// Each of the two locations replaces the other.
		for a, b := range map[string]string{versionsLoc: historyLoc, historyLoc: versionsLoc} {
			if v := change[a]; v != "" {
				if c.Versions != "" {
					return invalid("Cannot set %s on a container with object versioning", a)
				}
				change[b] = ""
			}
		}
		meta, err := s.merge("container", c.Meta, change)
		if err != nil {
			return err
		}
		c.Meta, c.Changed = meta, s.c.Now().UTC()
		return c.turnVersions(ch.Versions)
	})
	return err
}

// checkContainer is what putting and posting have in common.
func (s *Service) checkContainer(ctx context.Context, r Ref, ch *ContainerChange) error {
	if err := s.checkNames(r); err != nil {
		return err
	}
	if err := s.allow(ctx, r, write, ""); err != nil {
		return err
	}
	if ch.Meta == nil {
		ch.Meta = map[string]string{}
	}
	for _, name := range []string{readACL, writeACL} {
		if acl, ok := ch.Meta[name]; ok {
			clean, err := CleanACL(name, acl)
			if err != nil {
				return err
			}
			ch.Meta[name] = clean
		}
	}
	for name, what := range map[string]string{containerQuotaBytes: "bytes", containerQuotaCount: "count"} {
		if q := ch.Meta[name]; q != "" {
			if n, err := strconv.ParseInt(q, 10, 64); err != nil || n < 0 {
				return invalid("Invalid %s quota.", what)
			}
		}
	}
	if ch.Meta[versionsLoc] != "" && ch.Meta[historyLoc] != "" {
		return invalid("Only one of X-Versions-Location or X-History-Location may be specified")
	}
	for _, name := range []string{versionsLoc, historyLoc} {
		if loc := ch.Meta[name]; loc != "" && strings.Contains(loc, "/") {
			return nacre.Errorf(nacre.Precondition, "", "Container name cannot contain slashes")
		}
	}
	if ch.Policy != "" && !slices.Contains(s.c.Policies, ch.Policy) {
		return invalid("Invalid X-Storage-Policy %q", ch.Policy)
	}
	return nil
}

// PostContainer changes a container's metadata.
func (s *Service) PostContainer(ctx context.Context, r Ref, ch ContainerChange) error {
	if err := s.checkContainer(ctx, r, &ch); err != nil {
		return err
	}
	if err := s.live(ctx, r.Account); err != nil {
		return err
	}
	defer s.cache.forget(r)
	return store.InTx(ctx, s.c.Engine, func(ctx context.Context) error {
		c, err := s.containers.One(ctx, store.Eq("account", r.Account), store.Eq("name", r.Container))
		if err != nil {
			return store.WrapNotFound(err, notFound)
		}
		return s.changeContainer(ctx, c.ID, ch)
	})
}

// DeleteContainer deletes an empty container.
func (s *Service) DeleteContainer(ctx context.Context, r Ref) error {
	if err := s.checkNames(r); err != nil {
		return err
	}
	if err := s.allow(ctx, r, write, ""); err != nil {
		return err
	}
	defer s.cache.forget(r)
	return store.InTx(ctx, s.c.Engine, func(ctx context.Context) error {
		c, err := s.containers.One(ctx, store.Eq("account", r.Account), store.Eq("name", r.Container))
		if err != nil {
			return store.WrapNotFound(err, notFound)
		}
		if err := store.Lock(ctx, s.c.Engine, "container/"+c.ID); err != nil {
			return err
		}
		full, err := s.objects.Exists(ctx, prefixed("id", c.ID+"/")...)
		if err == nil && !full {
			full, err = s.versions.Exists(ctx, store.Eq("container", c.ID))
		}
		if err != nil {
			return err
		}
		if full {
			return conflict("There was a conflict when trying to complete your request.")
		}
		return s.containers.Delete(ctx, c.ID)
	})
}

// Container shows a container with its counts. Where the caller does not own the
// account, Meta lacks the ACLs and keys.
func (s *Service) Container(ctx context.Context, r Ref) (Container, error) {
	if err := s.checkNames(r); err != nil {
		return Container{}, err
	}
	c, err := s.containers.One(ctx, store.Eq("account", r.Account), store.Eq("name", r.Container))
	if err != nil && !errors.Is(err, store.ErrNoRow) {
		return c, err
	}
	if denied := s.allow(ctx, Ref{Account: r.Account, Container: r.Container}, read, c.Meta[readACL]); denied != nil {
		return Container{}, denied
	}
	if err != nil {
		return c, notFound()
	}
	if err := s.live(ctx, r.Account); err != nil {
		return Container{}, err
	}
	if !s.Owner(ctx, r.Account) {
		c.Meta = maps.Clone(c.Meta)
		for k := range c.Meta {
			if ownerOnly(k) {
				delete(c.Meta, k)
			}
		}
	}
	return c, nil
}

// ownerOnly tells what only owners of the account see.
func ownerOnly(name string) bool {
	return slices.Contains([]string{readACL, writeACL, "X-Container-Sync-Key", "X-Container-Sync-To", "X-Container-Meta-Temp-Url-Key", "X-Container-Meta-Temp-Url-Key-2",
		"X-Account-Meta-Temp-Url-Key", "X-Account-Meta-Temp-Url-Key-2"}, name)
}

// OwnerOnly tells whether a header of an account or container is shown to owners
// of the account alone.
func OwnerOnly(name string) bool { return ownerOnly(name) }

// ObjectEntry is a line of a container's listing: an object, or with Subdir what
// the names of several begin with.
type ObjectEntry struct {
	Name        string
	Subdir      bool
	Bytes       int64
	Etag        string // of the bytes that are kept
	SLOEtag     string
	S3Etag      string
	ContentType string
	Modified    time.Time
	Kind        string
	Target      string
	// Version is the version's id where versions were asked for; Latest says that it
	// is what GET finds, Marker that it marks a deletion.
	Version        string
	Latest, Marker bool
}

// ListObjects lists a container.
func (s *Service) ListObjects(ctx context.Context, r Ref, q ListQuery) (Container, []ObjectEntry, error) {
	c, err := s.Container(ctx, r)
	if err != nil {
		return c, nil, err
	}
	lim := int(s.c.Limits.ContainerListing)
	if q.Limit < 0 || q.Limit > lim {
		return c, nil, nacre.Errorf(nacre.Precondition, "", "Maximum limit is %d", lim)
	}
	if q.Limit == 0 {
		q.Limit = lim
	}
	es, err := s.list(ctx, c, q)
	return c, es, err
}

func (s *Service) list(ctx context.Context, c Container, q ListQuery) ([]ObjectEntry, error) {
	if q.Versions {
		return s.listVersions(ctx, c, q)
	}
	if q.Path != nil {
		// What lies directly in a pseudo-directory: no common prefixes, and not the
		// directory's own object.
		q.Delimiter, q.Prefix, q.markers = "/", "", true
		if dir := strings.TrimRight(*q.Path, "/"); dir != "" {
			q.Prefix = dir + "/"
			q.Marker = max(q.Marker, q.Prefix)
		}
	}
	var out []ObjectEntry
	var page []line
	base := c.ID + "/"
	err := q.pages("id", base, func(w []store.Where, limit int) (names []string, err error) {
		page, err = s.lines.Select(ctx, store.Select{Where: store.And(w...), Order: order(q.Reverse), Limit: limit})
		names = make([]string, len(page))
		for i := range page {
			names[i] = page[i].ID[len(base):]
			s.vault.tags(&page[i].Etag, &page[i].ListEtag)
		}
		out = slices.Grow(out, len(page))
		return names, err
	}, func(i int) { out = append(out, page[i].entry()) }, func(sub string) { out = append(out, ObjectEntry{Name: sub, Subdir: true}) })
	return out, err
}

// order is by name: the key is always the last sort key.
func order(reverse bool) []store.Order {
	if reverse {
		return []store.Order{{Column: "id", Desc: true}}
	}
	return nil
}

func (r *line) entry() ObjectEntry {
	e := ObjectEntry{Name: r.ID[idLen+1:], Bytes: r.Bytes, Etag: r.Etag, ContentType: r.ContentType, Modified: r.At, Kind: r.Kind, Target: r.Target, Latest: true}
	e.SLOEtag, _, _ = strings.Cut(r.ListEtag, ";")
	e.S3Etag = S3Etag(r.Etag, r.ListEtag)
	if r.Posted.After(r.At) {
		e.Modified = r.Posted
	}
	return e
}

// accountACL's shape: three levels, each a list of names.
func checkAccountACL(text string) error {
	if text == "" {
		return nil
	}
	var acl map[string][]string
	if err := json.Unmarshal([]byte(text), &acl); err != nil {
		return invalid("X-Account-Access-Control header is not valid")
	}
	for level := range acl {
		if !slices.Contains([]string{"admin", "read-write", "read-only"}, level) {
			return invalid("X-Account-Access-Control header contains an unknown level %q", level)
		}
	}
	return nil
}
