package objectstore

import (
	"context"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/store"
)

// SetSysmeta sets what a front end keeps with an object, or with a version of it,
// under "X-Object-Sysmeta-…"; empty takes it away. Neither what users have set nor
// the object's times change. It says which version it was.
func (s *Service) SetSysmeta(ctx context.Context, r Ref, version, name, value string) (string, error) {
	c, err := s.writable(ctx, r)
	if err != nil {
		return "", err
	}
	id, out := c.ID+"/"+r.Object, ""
	err = s.commit(ctx, &change{containers: []string{c.ID}, objects: []string{id}, alone: version != "", apply: func(b *batch) error {
		old, err := b.get(id)
		if err != nil {
			return err
		}
		if version != "" && (old == nil || versionOf(&old.Data) != version) {
			out = version
			return b.setVersionSysmeta(c, r.Object, version, name, value)
		}
		if old == nil {
			return notFound()
		}
		row := *old
		out = row.Version
		if err := s.withSysmeta(&row.Data, c.ID, name, value); err != nil {
			return err
		}
		return b.set(c.ID, id, &row, false)
	}})
	return out, err
}

// withSysmeta changes data as it is in its row.
func (s *Service) withSysmeta(d *Data, container, name, value string) error {
	if s.vault.reveal(d); d.locked != nil {
		return d.locked
	}
	meta := d.Meta()
	if meta[name] = value; value == "" {
		delete(meta, name)
	}
	d.setMeta(meta)
	var err error
	*d, err = s.vault.sealed(*d, container)
	return err
}

func (b *batch) setVersionSysmeta(c Container, object, version, name, value string) error {
	v, err := b.version(&c, object, version)
	if err != nil {
		return err
	}
	if v.Marker {
		return &nacre.Error{Kind: nacre.NotFound, Code: "DeleteMarker", Message: "The resource could not be found."}
	}
	if err := b.s.withSysmeta(&v.Data, c.ID, name, value); err != nil {
		return err
	}
	if _, err := b.s.versions.UpdateWhere(b.ctx, store.Eq("id", v.ID), store.Set{"etag": v.Etag, "list_etag": v.ListEtag, "meta": v.Headers}); err != nil {
		return b.fail(err)
	}
	return nil
}
