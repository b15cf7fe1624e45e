package objectstore

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/store"
)

// What S3 keeps beside objects, for it and for what works behind it.
const (
	// SegmentsSuffix is what the name of the container of a bucket's parts ends in. An
	// upload is an object "key/id" of the type UploadType there, its parts are
	// "key/id/NNNNN".
	SegmentsSuffix = "+segments"
	UploadType     = "application/x-nacre-upload"
	// UploadOf names, in a large object's metadata, the upload that made it ("key",
	// a line break, "id"): its parts go when it goes.
	UploadOf = "X-Object-Sysmeta-S3-Upload"
	// ObjectTags are an object's tags as a query string.
	ObjectTags = "X-Object-Sysmeta-S3-Tags"
	// LifecycleRules are a container's rules, as JSON.
	LifecycleRules = "X-Container-Sysmeta-S3-Lifecycle"
)

// LifecycleRule says which objects of a container go by themselves.
type LifecycleRule struct {
	ID       string `json:"id"`
	Disabled bool   `json:"disabled,omitempty"`
	// Prefix, Tags and the sizes (0 is no bound) say what it is about.
	Prefix  string            `json:"prefix,omitempty"`
	Tags    map[string]string `json:"tags,omitempty"`
	Larger  int64             `json:"larger,omitempty"`
	Smaller int64             `json:"smaller,omitempty"`
	// Days after they were put, or at Date, objects are deleted. Markers takes away
	// marks of deletion behind which there is nothing.
	Days    int       `json:"days,omitempty"`
	Date    time.Time `json:"date,omitzero"`
	Markers bool      `json:"markers,omitempty"`
	// OldDays after they were replaced, all but the newest OldKeep of the older
	// versions are deleted.
	OldDays int `json:"old_days,omitempty"`
	OldKeep int `json:"old_keep,omitempty"`
	// AbortDays after it began, an upload that was not finished is given up.
	AbortDays int `json:"abort_days,omitempty"`
}

// Lifecycle are a container's rules.
func (c *Container) Lifecycle() []LifecycleRule {
	var rules []LifecycleRule
	if text := c.Meta[LifecycleRules]; text != "" {
		_ = json.Unmarshal([]byte(text), &rules) // written by front ends only
	}
	return rules
}

// midnight is when what is to happen so many days after t does: at the next midnight.
func midnight(t time.Time, days int) time.Time {
	t = t.UTC().AddDate(0, 0, days)
	day := t.Truncate(24 * time.Hour)
	if day.Before(t) {
		day = day.AddDate(0, 0, 1)
	}
	return day
}

// covers says that a rule is about an object.
func (r *LifecycleRule) covers(name string, d *Data) bool {
	if r.Disabled || !strings.HasPrefix(name, r.Prefix) || r.Larger > 0 && d.Bytes <= r.Larger || r.Smaller > 0 && d.Bytes >= r.Smaller {
		return false
	}
	if len(r.Tags) == 0 {
		return true
	}
	have, _ := url.ParseQuery(d.Meta()[ObjectTags])
	for k, v := range r.Tags {
		if have.Get(k) != v {
			return false
		}
	}
	return true
}

// expires is when a rule deletes an object; zero is never.
func (r *LifecycleRule) expires(d *Data) time.Time {
	switch {
	case r.Days > 0:
		return midnight(d.At, r.Days)
	case !r.Date.IsZero():
		return r.Date
	}
	return time.Time{}
}

// ExpiresBy is when an object goes, and by which rule; zero is never.
func (c *Container) ExpiresBy(o *Object) (at time.Time, rule string) {
	for _, r := range c.Lifecycle() {
		if !r.covers(o.Name(), &o.Data) {
			continue
		}
		if t := r.expires(&o.Data); !t.IsZero() && (at.IsZero() || t.Before(at)) {
			at, rule = t, r.ID
		}
	}
	return at, rule
}

// Age does what the rules of containers want by now.
func (s *Service) Age(ctx context.Context) error {
	last := ""
	for {
		cs, err := s.containers.Select(ctx, store.Select{Where: store.Greater("id", last), Limit: page})
		if err != nil {
			return err
		}
		for i := range cs {
			last = cs[i].ID
			for _, r := range cs[i].Lifecycle() {
				if r.Disabled {
					continue
				}
				if err := s.age(ctx, &cs[i], &r); err != nil {
					return err
				}
			}
		}
		if len(cs) < page {
			return nil
		}
	}
}

func (s *Service) age(ctx context.Context, c *Container, r *LifecycleRule) error {
	if r.Days > 0 || !r.Date.IsZero() {
		if err := s.ageObjects(ctx, c, r); err != nil {
			return err
		}
	}
	if r.OldDays > 0 || r.Markers {
		if err := s.ageVersions(ctx, c, r); err != nil {
			return err
		}
	}
	if r.AbortDays > 0 {
		return s.ageUploads(ctx, c, r)
	}
	return nil
}

func (s *Service) ageObjects(ctx context.Context, c *Container, r *LifecycleRule) error {
	var w window
	w.startsWith(c.ID + "/" + r.Prefix)
	for {
		os, err := s.objects.Select(ctx, store.Select{Where: store.And(w.where("id")...), Limit: page})
		if err != nil {
			return err
		}
		for i := range os {
			o := &os[i]
			w.raise(o.ID, true)
			if s.vault.reveal(&o.Data); !r.covers(o.Name(), &o.Data) || r.expires(&o.Data).After(s.c.Now()) {
				continue
			}
			if err := s.ageObject(ctx, c, o); err != nil {
				return err
			}
		}
		if len(os) < page {
			return nil
		}
	}
}

// ageObject deletes an object, as its container wants it, if it is still the one.
func (s *Service) ageObject(ctx context.Context, c *Container, o *Object) error {
	ctx = nacre.AsService(ctx, "objectstore")
	_, err := s.Delete(ctx, Ref{c.Account, c.Name, o.Name()}, DeleteOptions{If: func(now *Object) error {
		if now == nil || !now.At.Equal(o.At) {
			return notFound()
		}
		return nil
	}})
	if errors.Is(err, nacre.NotFound) {
		return nil
	}
	if err == nil && c.Versions == "" {
		err = s.DropUpload(ctx, c.Account, c.Name, o.Meta()[UploadOf])
	}
	return err
}

// ageVersions looks at older versions: each ceased to be the object when the next
// newer one was put.
func (s *Service) ageVersions(ctx context.Context, c *Container, r *LifecycleRule) error {
	var w window
	w.startsWith(r.Prefix)
	name, newer, nth := "", time.Time{}, 0
	after := []any(nil)
	for {
		vs, err := s.versions.Select(ctx, store.Select{Where: store.And(append(w.where("name"), store.Eq("container", c.ID))...),
			Order: []store.Order{{Column: "name"}, {Column: "version_order"}}, After: after, Limit: page})
		if err != nil {
			return err
		}
		current, err := s.putAt(ctx, c.ID, vs)
		if err != nil {
			return err
		}
		for i := range vs {
			v := &vs[i]
			after = []any{v.Name, v.Order, v.ID}
			if v.Name != name {
				name, newer, nth = v.Name, current[c.ID+"/"+v.Name], 0
			}
			since := newer
			newer = v.At
			if since.IsZero() { // it is a mark, and what is seen of the object
				if err := s.ageMark(ctx, c, v, r); err != nil {
					return err
				}
				continue
			}
			nth++
			if s.vault.reveal(&v.Data); r.OldDays == 0 || nth <= r.OldKeep || !r.covers(v.Name, &v.Data) || midnight(since, r.OldDays).After(s.c.Now()) {
				continue
			}
			if err := s.removeVersion(ctx, *v); err != nil && !errors.Is(err, nacre.NotFound) {
				return err
			}
			if err := s.DropUpload(ctx, c.Account, c.Name, v.Meta()[UploadOf]); err != nil {
				return err
			}
		}
		if len(vs) < page {
			return nil
		}
	}
}

// putAt is when the objects of versions were put, by the objects' ids; what has none is
// not in it.
func (s *Service) putAt(ctx context.Context, container string, vs []Version) (map[string]time.Time, error) {
	out := map[string]time.Time{}
	ids := make([]string, 0, len(vs))
	for i := range vs {
		ids = append(ids, container+"/"+vs[i].Name)
	}
	if len(ids) == 0 {
		return out, nil
	}
	os, err := s.rows.Where(ctx, store.In("id", slices.Compact(ids)))
	for i := range os {
		out[os[i].ID] = os[i].At
	}
	return out, err
}

// ageMark takes away a mark of deletion behind which there is nothing.
func (s *Service) ageMark(ctx context.Context, c *Container, v *Version, r *LifecycleRule) error {
	if !r.Markers || !v.Marker {
		return nil
	}
	err := s.commit(ctx, &change{containers: []string{c.ID}, objects: []string{c.ID + "/" + v.Name}, alone: true, apply: func(b *batch) error {
		vs, err := s.versions.Select(b.ctx, store.Select{Where: store.And(store.Eq("container", c.ID), store.Eq("name", v.Name)), Limit: 2})
		if err != nil {
			return b.fail(err)
		}
		if len(vs) == 1 && vs[0].ID == v.ID && b.rows[c.ID+"/"+v.Name] == nil {
			b.unstash(vs[0], false)
		}
		return nil
	}})
	if errors.Is(err, nacre.NotFound) {
		return nil
	}
	return err
}

// ageUploads gives up uploads that were not finished.
func (s *Service) ageUploads(ctx context.Context, c *Container, r *LifecycleRule) error {
	parts, err := s.findContainer(ctx, Ref{Account: c.Account, Container: c.Name + SegmentsSuffix})
	if errors.Is(err, nacre.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	var w window
	w.startsWith(parts.ID + "/" + r.Prefix)
	for {
		rows, err := s.rows.Select(ctx, store.Select{Where: store.And(w.where("id")...), Limit: page})
		if err != nil {
			return err
		}
		for i := range rows {
			w.raise(rows[i].ID, true)
			if rows[i].ContentType != UploadType || midnight(rows[i].At, r.AbortDays).After(s.c.Now()) {
				continue
			}
			// The upload goes first: no part can come to it any more.
			if err := s.removeAll(ctx, parts.ID, rows[i:i+1]); err != nil {
				return err
			}
			name := rows[i].ID[idLen+1:]
			at := strings.LastIndexByte(name, '/')
			if err := s.DropUpload(ctx, c.Account, c.Name, name[:max(at, 0)]+"\n"+name[at+1:]); err != nil {
				return err
			}
		}
		if len(rows) < page {
			return nil
		}
	}
}

// DropUpload deletes the parts of an upload, as UploadOf names it. It asks nobody:
// it is for who has deleted the object.
func (s *Service) DropUpload(ctx context.Context, account, bucket, upload string) error {
	key, id, ok := strings.Cut(upload, "\n")
	if !ok {
		return nil
	}
	parts, err := s.findContainer(ctx, Ref{Account: account, Container: bucket + SegmentsSuffix})
	if errors.Is(err, nacre.NotFound) {
		return nil
	}
	for err == nil {
		var rows []row
		rows, err = s.rows.Select(ctx, store.Select{Where: store.And(prefixed("id", parts.ID+"/"+key+"/"+id+"/")...), Limit: page})
		if err != nil || len(rows) == 0 {
			break
		}
		err = s.removeAll(ctx, parts.ID, rows)
	}
	return err
}
