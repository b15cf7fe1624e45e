package objectstore

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/store"
)

// An account that was its project's own once is marked with the project; only such
// ones go when their project goes, never one that the reseller made by another name.
// projectGone marks that this is why an account was deleted.
const (
	projectOf   = "X-Account-Sysmeta-Project-Id"
	projectGone = "X-Account-Sysmeta-Project-Gone"
)

// projectID is the project whose account has a name; empty is none.
func (s *Service) projectID(account string) string {
	for _, p := range s.prefixes() {
		if id, ok := strings.CutPrefix(account, p); ok {
			return id
		}
	}
	return ""
}

// prefixes are what the names of a project's accounts begin with.
func (s *Service) prefixes() []string {
	if s.c.ServicePrefix == "" {
		return []string{s.c.Prefix}
	}
	return []string{s.c.Prefix, s.c.ServicePrefix}
}

// ProjectChanged is a hint that a project is no more, or is there again. It looks by
// itself what is true, and deletes the project's account or takes that back.
func (s *Service) ProjectChanged(ctx context.Context, id string) error {
	if err := store.Outside(ctx); err != nil || s.c.Projects == nil {
		return err
	}
	there, err := s.c.Projects.Existing(ctx, id)
	if err != nil {
		return err
	}
	for _, p := range s.prefixes() {
		a, err := s.accounts.Get(ctx, p+id)
		if err == nil {
			err = s.followAccount(ctx, a, id, there[id])
		}
		if err != nil && !errors.Is(err, store.ErrNoRow) {
			return err
		}
	}
	return nil
}

// errManyGone is a comparison that found more accounts without a project than with.
var errManyGone = errors.New("objectstore: identity knows less than half of the projects whose accounts there are; nothing is deleted by that")

// Compare asks of every account whether its project is there, since what is told of
// that may be lost. Where most of the projects are gone, that is a fault of identity's
// (its database is empty, or an old one), and no account goes by it.
func (s *Service) Compare(ctx context.Context) error {
	if s.c.Projects == nil {
		return nil
	}
	var gone []Account
	last, there := "", 0
	for {
		as, err := s.accounts.Select(ctx, store.Select{Where: store.Greater("name", last), Limit: page})
		if err != nil {
			return err
		}
		ids := make([]string, 0, len(as))
		for _, a := range as {
			last = a.Name
			if id := s.projectID(a.Name); id != "" {
				ids = append(ids, id)
			}
		}
		exists, err := s.c.Projects.Existing(ctx, ids...)
		if err != nil {
			return err
		}
		for _, a := range as {
			switch id := s.projectID(a.Name); {
			case id == "":
			case exists[id]:
				there++
				if err := s.followAccount(ctx, a, id, true); err != nil {
					return err
				}
			case a.Deleted.IsZero() && a.Meta[projectOf] == id:
				gone = append(gone, a)
			}
		}
		if len(as) < page {
			break
		}
	}
	if len(gone) > there {
		return errManyGone
	}
	for _, a := range gone {
		if err := s.followAccount(ctx, a, s.projectID(a.Name), false); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) followAccount(ctx context.Context, a Account, id string, exists bool) error {
	if !s.follow(&a, id, exists) {
		return nil
	}
	defer s.cache.forgetAccount(a.Name)
	_, err := s.accounts.Update(ctx, a.Name, func(a *Account) error {
		s.follow(a, id, exists)
		return nil
	})
	if errors.Is(err, store.ErrNoRow) {
		return nil
	}
	if err == nil && !exists {
		s.log.Info("an account was deleted, since its project is gone", "account", a.Name)
		s.wake()
	}
	return err
}

// follow makes an account what its project wants, and says whether that is a change.
func (s *Service) follow(a *Account, id string, exists bool) bool {
	now := s.c.Now().UTC()
	switch {
	case !exists && a.Deleted.IsZero() && a.Meta[projectOf] == id:
		a.Deleted, a.Meta[projectGone] = now, "true"
	case exists && a.Meta[projectGone] != "" && a.Deleted.Add(s.c.ReapDelay).After(now):
		a.Deleted = time.Time{}
		delete(a.Meta, projectGone)
	case exists && a.Deleted.IsZero() && a.Meta[projectOf] == "":
		if a.Meta == nil {
			a.Meta = map[string]string{}
		}
		a.Meta[projectOf] = id
	default:
		return false
	}
	return true
}

// Reap empties accounts that were deleted long enough ago, and forgets them.
func (s *Service) Reap(ctx context.Context) error {
	as, err := s.accounts.Where(ctx, store.Not(store.IsNull("deleted_at")), store.LessEq("deleted_at", s.c.Now().UTC().Add(-s.c.ReapDelay)))
	if err != nil {
		return err
	}
	for _, a := range as {
		cs, err := s.containers.Where(ctx, store.Eq("account", a.Name))
		if err != nil {
			return err
		}
		for _, c := range cs {
			if err := s.emptyContainer(ctx, c); err != nil {
				return err
			}
		}
		if err := s.accounts.Delete(ctx, a.Name); err != nil && !errors.Is(err, store.ErrNoRow) {
			return err
		}
		s.cache.forgetAccount(a.Name)
	}
	return nil
}

// emptyContainer takes away all that a container holds, and the container.
func (s *Service) emptyContainer(ctx context.Context, c Container) error {
	for {
		rows, err := s.rows.Select(ctx, store.Select{Where: store.And(prefixed("id", c.ID+"/")...), Limit: page})
		if err != nil {
			return err
		}
		if err := s.removeAll(ctx, c.ID, rows); err != nil {
			return err
		}
		vs, err := s.versions.Select(ctx, store.Select{Where: store.Eq("container", c.ID), Limit: page})
		if err != nil {
			return err
		}
		for _, v := range vs {
			if err := s.removeVersion(ctx, v); err != nil {
				return err
			}
		}
		if len(rows)+len(vs) == 0 {
			break
		}
	}
	err := s.DeleteContainer(nacre.AsService(ctx, "objectstore"), Ref{Account: c.Account, Container: c.Name})
	if errors.Is(err, nacre.NotFound) {
		return nil
	}
	return err
}

// removeAll deletes rows of a container for good, in one transaction.
func (s *Service) removeAll(ctx context.Context, container string, rows []row) error {
	if len(rows) == 0 {
		return nil
	}
	ids := make([]string, len(rows))
	for i := range rows {
		ids[i] = rows[i].ID
	}
	err := s.commit(ctx, &change{containers: []string{container}, objects: ids, alone: true, apply: func(b *batch) error {
		for _, id := range ids {
			if err := b.set(container, id, nil, false); err != nil {
				return err
			}
		}
		return nil
	}})
	if errors.Is(err, nacre.NotFound) {
		return nil
	}
	return err
}
