package objectstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/store"
)

// NullVersion is the id of a version that was put when none were kept.
const NullVersion = "null"

// Timestamp is a time as Swift writes it: seconds with five decimals.
func Timestamp(t time.Time) string {
	return fmt.Sprintf("%010d.%05d", t.Unix(), t.Nanosecond()/10000)
}

// versionOrder sorts later times first.
func versionOrder(t time.Time) string { return fmt.Sprintf("%016x", ^uint64(t.UnixMicro())) }

func versionOf(d *Data) string { return cmp.Or(d.Version, NullVersion) }

// asVersion makes an older version of an object.
func asVersion(c *Container, name string, d Data) Version {
	order := versionOrder(d.At)
	return Version{ID: c.ID + order + newID()[:8], Container: c.ID, Name: name, Order: order, Data: d}
}

// keepOld keeps the object that is about to be replaced, where the container keeps
// versions, and gives the new one its version. It says whether the old one's blob
// lives on.
func (b *batch) keepOld(c, legacy *Container, old, o *Object) (bool, error) {
	switch {
	case legacy != nil:
		return b.keepLegacy(c, legacy, old, o.Name())
	case c.Versions == "":
		return false, nil
	case c.Versions == "enabled":
		o.Version = Timestamp(b.now)
	default:
		o.Version = NullVersion
	}
	return b.replaced(c, o.Name(), old)
}

// replaced stashes the present object, which a new version or a mark is about to
// replace. While versions are suspended there is one version "null" only.
func (b *batch) replaced(c *Container, name string, old *Object) (keep bool, err error) {
	if old != nil && (c.Versions == "enabled" || versionOf(&old.Data) != NullVersion) {
		d := old.Data
		d.Version = versionOf(&d)
		b.stash(asVersion(c, name, d))
		keep = true
	}
	if c.Versions == "suspended" {
		vs, err := b.s.versions.Where(b.ctx, store.Eq("container", c.ID), store.Eq("name", name), store.Eq("version", NullVersion))
		if err != nil {
			return false, b.fail(err)
		}
		for _, v := range vs {
			b.unstash(v, false)
		}
	}
	return keep, nil
}

// deleteObject deletes the object as its container wants it.
func (b *batch) deleteObject(c, legacy *Container, id string, old *Object) (Deleted, error) {
	name := id[idLen+1:]
	switch {
	case legacy != nil:
		return Deleted{}, b.deleteLegacy(c, legacy, id, old)
	case c.Versions == "":
		if old == nil {
			return Deleted{}, notFound()
		}
		return Deleted{}, b.set(c.ID, id, nil, false)
	}
	keep, err := b.replaced(c, name, old)
	if err != nil {
		return Deleted{}, err
	}
	d := Data{At: b.now, Version: Timestamp(b.now), ContentType: "application/x-deleted;swift_versions_deleted=1", Etag: emptyMD5}
	if c.Versions == "suspended" {
		d.Version = NullVersion
	}
	v := asVersion(c, name, d)
	v.Marker = true
	b.stash(v)
	if b.rows[id] != nil {
		err = b.set(c.ID, id, nil, keep)
	}
	return Deleted{Version: d.Version, Marker: true}, err
}

const emptyMD5 = "d41d8cd98f00b204e9800998ecf8427e"

// deleteVersion deletes one version for good.
func (b *batch) deleteVersion(c *Container, id string, o DeleteOptions) (Deleted, error) {
	out, name := Deleted{Version: o.Version}, id[idLen+1:]
	old, err := b.get(id)
	if err != nil {
		return out, err
	}
	if old != nil && versionOf(&old.Data) == o.Version {
		if err := b.set(c.ID, id, nil, false); err != nil || !o.Promote {
			return out, err
		}
		return b.promote(c, id, out, "")
	}
	if old != nil {
		out.Current = versionOf(&old.Data)
	}
	v, err := b.version(c, name, o.Version)
	if err != nil {
		return out, err
	}
	out.Marker = v.Marker
	b.unstash(v, false)
	if old == nil && o.Promote {
		return b.promote(c, id, out, v.ID)
	}
	return out, nil
}

// promote makes the newest older version the object, unless that is a mark.
func (b *batch) promote(c *Container, id string, out Deleted, except string) (Deleted, error) {
	vs, err := b.s.versions.Select(b.ctx, store.Select{Where: store.And(store.Eq("container", c.ID), store.Eq("name", id[idLen+1:])), Order: []store.Order{{Column: "version_order"}}, Limit: 2})
	if err != nil {
		return out, b.fail(err)
	}
	vs = slices.DeleteFunc(vs, func(v Version) bool { return v.ID == except })
	if len(vs) == 0 || vs[0].Marker {
		return out, nil
	}
	b.unstash(vs[0], true)
	out.Current = vs[0].Data.Version
	return out, b.set(c.ID, id, &Object{ID: id, Data: vs[0].Data}, false)
}

func (b *batch) version(c *Container, name, version string) (Version, error) {
	v, err := b.s.versions.One(b.ctx, store.Eq("container", c.ID), store.Eq("name", name), store.Eq("version", version))
	switch {
	case errors.Is(err, store.ErrNoRow):
		return v, notFound()
	case err != nil:
		return v, b.fail(err)
	}
	return v, nil
}

// Restore makes an older version the object.
func (s *Service) Restore(ctx context.Context, r Ref, version string) (Object, error) {
	c, err := s.writable(ctx, r)
	if err != nil {
		return Object{}, err
	}
	if c.Versions == "" {
		return Object{}, invalid("version-aware operations require that the container is versioned")
	}
	id := c.ID + "/" + r.Object
	var out Object
	err = s.commit(ctx, &change{containers: []string{c.ID}, objects: []string{id}, alone: true, apply: func(b *batch) error {
		old, err := b.get(id)
		if err != nil {
			return err
		}
		if old != nil && versionOf(&old.Data) == version {
			out = *s.vault.seen(old)
			return nil
		}
		v, err := b.version(b.containers[c.ID], r.Object, version)
		if err != nil {
			return err
		}
		if v.Marker {
			return notFound()
		}
		b.unstash(v, true)
		if old != nil {
			d := old.Data
			d.Version = versionOf(&d)
			b.stash(asVersion(b.containers[c.ID], r.Object, d))
		}
		row := Object{ID: id, Data: v.Data}
		out = *s.vault.seen(&row)
		return b.set(c.ID, id, &row, old != nil)
	}})
	return out, err
}

// listVersions lists objects with their older versions, newest first.
func (s *Service) listVersions(ctx context.Context, c Container, q ListQuery) ([]ObjectEntry, error) {
	if q.Reverse {
		return nil, invalid("reverse is not supported with versions")
	}
	base := c.ID + "/"
	var out []ObjectEntry
	name, after := q.Marker, ""
	if q.VersionMarker != "" {
		after = s.orderOf(ctx, c, q.Marker, q.VersionMarker)
	}
	last, skip := "", ""
	for len(out) < q.Limit {
		n := q.Limit - len(out) + 1
		from := func(column, base string) []store.Where {
			var w window
			w.startsWith(base + q.Prefix)
			if q.EndMarker != "" {
				w.lower(base + q.EndMarker)
			}
			if skip != "" {
				w.behind(base + skip)
			} else if name != "" {
				w.raise(base+name, true)
			}
			return w.where(column)
		}
		rows, err := s.rows.Select(ctx, store.Select{Where: store.And(from("id", base)...), Limit: n})
		if err != nil {
			return nil, err
		}
		w := store.And(from("name", "")...)
		if after != "" && skip == "" {
			w = store.Or(w, store.And(store.Eq("name", name), store.Greater("version_order", after)))
		}
		vs, err := s.versions.Select(ctx, store.Select{Where: store.And(store.Eq("container", c.ID), w), Order: []store.Order{{Column: "name"}, {Column: "version_order"}}, Limit: n})
		if err != nil {
			return nil, err
		}
		for i := range rows {
			s.vault.tags(&rows[i].Etag, &rows[i].ListEtag)
		}
		for i := range vs {
			s.vault.tags(&vs[i].Etag, &vs[i].ListEtag)
		}
		es, orders := mergeVersions(rows, vs, n, name, after)
		whole := len(rows) < n && len(vs) < n
		skip = ""
		for i, e := range es {
			if len(out) == q.Limit {
				break
			}
			name, after = e.Name, orders[i]
			sub := q.common(e.Name)
			switch {
			case sub == "":
				out = append(out, e)
			case sub != last && sub != q.Marker:
				out = append(out, ObjectEntry{Name: sub, Subdir: true})
			}
			if last = sub; sub != "" && i == len(es)-1 {
				skip = sub
			}
		}
		if whole || len(es) == 0 {
			break
		}
	}
	return out, nil
}

// orderOf is where a version sorts.
func (s *Service) orderOf(ctx context.Context, c Container, name, version string) string {
	if v, err := s.versions.One(ctx, store.Eq("container", c.ID), store.Eq("name", name), store.Eq("version", version)); err == nil {
		return v.Order
	}
	if o, err := s.objects.Get(ctx, c.ID+"/"+name); err == nil && versionOf(&o.Data) == version {
		return "0" // behind the newest is before all older ones
	}
	sec, frac, _ := strings.Cut(version, ".")
	n, err1 := strconv.ParseInt(sec, 10, 64)
	m, err2 := strconv.ParseInt(frac, 10, 64)
	if err1 != nil || err2 != nil {
		return ""
	}
	return versionOrder(time.UnixMicro(n*1e6 + m*10))
}

// mergeVersions merges newest ones and older ones by name, n at most: as far as
// both lists tell. The orders are where to go on. (name, after) is where the lists
// began.
func mergeVersions(rows []row, vs []Version, n int, name, after string) (es []ObjectEntry, orders []string) {
	i, j := 0, 0
	seen := ""
	if after != "" {
		seen = name
	}
	for (i < len(rows) || j < len(vs)) && len(es) < n {
		if i == len(rows) && len(rows) == n || j == len(vs) && len(vs) == n {
			break
		}
		if i < len(rows) && (j == len(vs) || rows[i].ID[idLen+1:] <= vs[j].Name) {
			e := rows[i].entry()
			e.Version = cmp.Or(rows[i].Version, NullVersion)
			es, orders, seen = append(es, e), append(orders, "0"), e.Name
			i++
			continue
		}
		v := vs[j]
		e := ObjectEntry{Name: v.Name, Bytes: v.Bytes, Etag: v.Etag, SLOEtag: v.SLOEtag(), S3Etag: v.S3Etag(), ContentType: v.ContentType, Modified: v.Modified(), Kind: v.Kind, Target: v.Target, Version: v.Data.Version,
			Marker: v.Marker, Latest: v.Marker && seen != v.Name}
		es, orders, seen = append(es, e), append(orders, v.Order), v.Name
		j++
	}
	return es, orders
}

// legacyContainer is the container that X-Versions-Location or X-History-Location
// names, or nil.
func (s *Service) legacyContainer(ctx context.Context, c Container) (*Container, error) {
	loc := cmp.Or(c.Meta[versionsLoc], c.Meta[historyLoc])
	if loc == "" {
		return nil, nil
	}
	l, err := s.findContainer(ctx, Ref{Account: c.Account, Container: loc})
	if errors.Is(err, nacre.NotFound) {
		return nil, nacre.Errorf(nacre.Precondition, "", "The container for versions (%s) does not exist", loc)
	}
	return &l, err
}

func legacyPrefix(name string) string { return fmt.Sprintf("%03x%s/", len(name), name) }

// keepLegacy moves the present object into the container of older ones.
func (b *batch) keepLegacy(_, legacy *Container, old *Object, name string) (bool, error) {
	if old == nil {
		return false, nil
	}
	v := *old
	v.ID = legacy.ID + "/" + legacyPrefix(name) + Timestamp(old.At)
	return true, b.set(legacy.ID, v.ID, &v, false)
}

// deleteLegacy deletes an object: with X-History-Location it and a mark go to the
// older ones, with X-Versions-Location the newest of those takes its place.
func (b *batch) deleteLegacy(c, legacy *Container, id string, old *Object) error {
	name := id[idLen+1:]
	if c.Meta[historyLoc] != "" {
		if old == nil {
			return notFound()
		}
		if _, err := b.keepLegacy(c, legacy, old, name); err != nil {
			return err
		}
		mark := Object{ID: legacy.ID + "/" + legacyPrefix(name) + Timestamp(b.now), Data: Data{At: b.now, ContentType: "application/x-deleted;swift_versions_deleted=1", Etag: emptyMD5}}
		if err := b.set(legacy.ID, mark.ID, &mark, false); err != nil {
			return err
		}
		return b.set(c.ID, id, nil, true)
	}
	vs, err := b.s.objects.Select(b.ctx, store.Select{Where: store.And(prefixed("id", legacy.ID+"/"+legacyPrefix(name))...), Order: order(true), Limit: 1})
	if err != nil {
		return b.fail(err)
	}
	if len(vs) == 0 {
		if old == nil {
			return notFound()
		}
		return b.set(c.ID, id, nil, false)
	}
	if vs[0].ContentType == "application/x-deleted;swift_versions_deleted=1" {
		if err := b.set(legacy.ID, vs[0].ID, nil, false); err != nil {
			return err
		}
		return b.set(c.ID, id, nil, false)
	}
	if err := b.set(legacy.ID, vs[0].ID, nil, true); err != nil {
		return err
	}
	back := Object{ID: id, Data: vs[0].Data}
	return b.set(c.ID, id, &back, false)
}
