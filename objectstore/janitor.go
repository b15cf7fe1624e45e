package objectstore

import (
	"context"
	"errors"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/objectstore/blob"
	"github.com/nacre-cloud/nacre/store"
)

// Run does what goes on behind the requests, until ctx ends: blobs that no row
// names any more are deleted, objects whose time has come expire, deleted accounts
// are emptied, and now and then blobs are looked for that a crash has left, objects
// go that containers' lifecycles want gone, and accounts follow their projects.
func (s *Service) Run(ctx context.Context) error {
	expire, sweep := time.NewTicker(s.c.ExpireEvery), time.NewTicker(s.c.SweepEvery)
	defer expire.Stop()
	defer sweep.Stop()
	scrub, compare := time.NewTicker(s.c.ScrubEvery), time.NewTicker(s.c.CompareEvery)
	defer scrub.Stop()
	defer compare.Stop()
	note := func(what string, err error) {
		if err != nil && ctx.Err() == nil {
			s.log.Error("housekeeping failed; it is tried again", "what", what, "error", err)
		}
	}
	tidy := func() {
		note("garbage", s.Tidy(ctx))
		note("deleted accounts", s.Reap(ctx))
	}
	tidy()
	note("projects", s.Compare(ctx))
	// What is to be deleted gathers for a while: it costs a transaction and a sync,
	// which those who put and delete would wait for.
	var due <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.hint:
			if due == nil {
				due = time.After(gather)
			}
		case <-due:
			due = nil
			tidy()
		case <-expire.C:
			note("expired objects", s.Expire(ctx))
			tidy()
		case <-compare.C:
			note("projects", s.Compare(ctx))
		case <-sweep.C:
			_, err := s.Sweep(ctx)
			note("sweep", err)
			note("lifecycles", s.Age(ctx))
		case <-scrub.C:
			_, err := s.Scrub(ctx)
			note("scrub", err)
		}
	}
}

// gather is how long what is to be deleted may wait for more of the kind.
const gather = time.Second

// page is how many rows or blobs are worked on at once.
const page = 500

// Tidy deletes the blobs that are noted as garbage.
func (s *Service) Tidy(ctx context.Context) error {
	for {
		gs, err := s.garbage.Select(ctx, store.Select{Limit: page})
		if err != nil || len(gs) == 0 {
			return err
		}
		keys := make([]string, len(gs))
		for i, g := range gs {
			keys[i] = g.Blob
		}
		if err := s.c.Blobs.Delete(ctx, keys...); err != nil {
			return err
		}
		if _, err := s.garbage.DeleteWhere(ctx, store.In("blob", keys)); err != nil {
			return err
		}
	}
}

// Expire takes away the objects and versions whose time has come.
func (s *Service) Expire(ctx context.Context) error {
	now := s.c.Now().UTC()
	for {
		os, err := s.objects.Select(ctx, store.Select{Where: store.And(store.Not(store.IsNull("expires_at")), store.LessEq("expires_at", now)), Limit: page})
		if err != nil {
			return err
		}
		for _, o := range os {
			// It may have been posted to since.
			if err := s.remove(ctx, o.ID, func(o *Object) bool { return expired(&o.Data, now) }); err != nil {
				return err
			}
		}
		if len(os) < page {
			break
		}
	}
	for {
		vs, err := s.versions.Select(ctx, store.Select{Where: store.And(store.Not(store.IsNull("expires_at")), store.LessEq("expires_at", now)), Limit: page})
		if err != nil || len(vs) == 0 {
			return err
		}
		for _, v := range vs {
			if err := s.removeVersion(ctx, v); err != nil {
				return err
			}
		}
	}
}

// remove deletes a row for good if it is still as it should be.
func (s *Service) remove(ctx context.Context, id string, still func(*Object) bool) error {
	container := id[:idLen]
	err := s.commit(ctx, &change{containers: []string{container}, objects: []string{id}, apply: func(b *batch) error {
		if o := b.rows[id]; o == nil || !still(o) {
			return nil
		}
		return b.set(container, id, nil, false)
	}})
	if errors.Is(err, nacre.NotFound) {
		return nil
	}
	return err
}

func (s *Service) removeVersion(ctx context.Context, v Version) error {
	return s.commit(ctx, &change{containers: []string{v.Container}, alone: true, apply: func(b *batch) error {
		there, err := s.versions.Get(b.ctx, v.ID)
		if errors.Is(err, store.ErrNoRow) {
			return nil
		}
		if err != nil {
			return b.fail(err)
		}
		b.unstash(there, false)
		return nil
	}})
}

// Sweep deletes the blobs that no row names, which only a crash leaves, and says
// how many there were. Those younger than Config.Grace are left: their object may
// be on its way.
func (s *Service) Sweep(ctx context.Context) (int, error) {
	if err := store.Outside(ctx); err != nil {
		return 0, err
	}
	n, old := 0, s.c.Now().Add(-s.c.Grace)
	var some []string
	check := func() error {
		if len(some) == 0 {
			return nil
		}
		named, err := s.named(ctx, some)
		if err != nil {
			return err
		}
		var lost []string
		for _, k := range some {
			if !named[k] {
				lost = append(lost, k)
			}
		}
		n, some = n+len(lost), some[:0]
		return s.c.Blobs.Delete(ctx, lost...)
	}
	err := s.c.Blobs.Walk(ctx, func(i blob.Info) error {
		if i.At.After(old) {
			return nil
		}
		if some = append(some, i.Key); len(some) < page {
			return nil
		}
		return check()
	})
	if err == nil {
		err = check()
	}
	if n > 0 {
		s.log.Info("blobs that no object had were deleted", "count", n)
	}
	return n, err
}

// Scrub has the store read every blob of an object or version, and says of which
// the bytes are gone or damaged. The store sets damaged ones aside.
func (s *Service) Scrub(ctx context.Context) ([]nacre.Finding, error) {
	var out []nacre.Finding
	look := func(kind, id, key string) error {
		if key == "" {
			return nil
		}
		err := s.c.Blobs.Verify(ctx, key)
		if errors.Is(err, nacre.NotFound) || errors.Is(err, blob.ErrRotten) {
			s.log.Error("an object's bytes are gone or damaged", kind, id, "blob", key, "error", err)
			out = append(out, nacre.Finding{Area: "objectstore", Kind: kind, ID: id, Problem: err.Error()})
			err = nil
		}
		return err
	}
	for last := ""; ; {
		os, err := s.objects.Select(ctx, store.Select{Where: store.Greater("id", last), Limit: page})
		if err != nil {
			return out, err
		}
		for i := range os {
			if err := look("object", os[i].ID, os[i].Blob); err != nil {
				return out, err
			}
			last = os[i].ID
		}
		if len(os) < page {
			break
		}
	}
	for last := ""; ; {
		vs, err := s.versions.Select(ctx, store.Select{Where: store.Greater("id", last), Limit: page})
		if err != nil {
			return out, err
		}
		for i := range vs {
			if err := look("version", vs[i].Container+"/"+vs[i].Name, vs[i].Blob); err != nil {
				return out, err
			}
			last = vs[i].ID
		}
		if len(vs) < page {
			return out, nil
		}
	}
}

// named are those of some blobs that a row names.
func (s *Service) named(ctx context.Context, keys []string) (map[string]bool, error) {
	out := map[string]bool{}
	os, err := s.objects.Where(ctx, store.In("blob", keys))
	if err != nil {
		return nil, err
	}
	for _, o := range os {
		out[o.Blob] = true
	}
	vs, err := s.versions.Where(ctx, store.In("blob", keys))
	if err != nil {
		return nil, err
	}
	for _, v := range vs {
		out[v.Blob] = true
	}
	return out, nil
}
