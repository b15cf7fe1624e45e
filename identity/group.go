package identity

import (
	"context"
	"errors"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/kit"
	"github.com/nacre-cloud/nacre/identity/revoke"
	"github.com/nacre-cloud/nacre/internal/policy"
	"github.com/nacre-cloud/nacre/store"
)

// GroupChange is what is given of a group: at its creation Name must be set; in
// an update nil leaves a field as it is.
type GroupChange struct {
	DomainID, Name, Description *string
	Extra                       map[string]any
}

func groupTarget(g *Group) policy.Map {
	if g.DomainID == "" {
		return nil
	}
	return policy.Map{"target.group.id": g.ID, "target.group.domain_id": g.DomainID}
}

// CreateGroup makes a group.
func (s *Service) CreateGroup(ctx context.Context, ch GroupChange) (Group, error) {
	g := Group{ID: s.area.NewID(), DomainID: callerDomain(ctx), Extra: ch.Extra}
	kit.SetIf(&g.DomainID, ch.DomainID)
	kit.SetIf(&g.Name, ch.Name)
	kit.SetIf(&g.Description, ch.Description)
	if err := s.area.Enforce(ctx, "create_group", groupTarget(&g)); err != nil {
		return Group{}, err
	}
	if err := kit.CheckName("name", g.Name, 64); err != nil {
		return Group{}, err
	}
	err := s.area.Tx(ctx, func(ctx context.Context) error {
		if err := s.liveDomain(ctx, g.DomainID); err != nil {
			return err
		}
		if err := s.writable(ctx, g.DomainID); err != nil {
			return err
		}
		if err := s.groups.Insert(ctx, g); err != nil {
			return kit.OrConflict(err, "group", g.Name, g.DomainID)
		}
		return s.area.Happened(ctx, "group", "created", g.ID)
	})
	return g, err
}

func (s *Service) group(ctx context.Context, id, rule string) (Group, error) {
	g, err := s.groups.Get(ctx, id)
	if deny := s.area.Enforce(ctx, rule, groupTarget(&g)); deny != nil {
		return Group{}, deny
	}
	if err := keptElsewhere(g.Source, rule); err != nil {
		return Group{}, err
	}
	return g, kit.OrNotFound(err, "group", id)
}

// GetGroup shows a group.
func (s *Service) GetGroup(ctx context.Context, id string) (Group, error) {
	return s.group(ctx, id, "get_group")
}

var groupColumns = kit.Columns{"id", "domain_id", "name"}

// ListGroups lists groups.
func (s *Service) ListGroups(ctx context.Context, q nacre.Query) ([]Group, error) {
	own := kit.OwnDomain(ctx)
	if err := s.area.Enforce(ctx, "list_groups", policy.Map{"target.group.domain_id": own}); err != nil {
		return nil, err
	}
	var ws, filters []store.Where
	if own != "" {
		ws = append(ws, store.Eq("domain_id", own))
	}
	if w, ok, err := s.directoryGroups(ctx, q, own); err != nil {
		return nil, err
	} else if ok {
		filters = append(filters, w)
	}
	return kit.ListFiltered(ctx, s.groups, q, groupColumns, filters, ws...)
}

// UpdateGroup changes a group.
func (s *Service) UpdateGroup(ctx context.Context, id string, ch GroupChange) (Group, error) {
	old, err := s.group(ctx, id, "update_group")
	if err != nil {
		return Group{}, err
	}
	if ch.Name != nil {
		if err := kit.CheckName("name", *ch.Name, 64); err != nil {
			return Group{}, err
		}
	}
	var out Group
	err = s.area.Tx(ctx, func(ctx context.Context) (err error) {
		out, err = s.groups.Update(ctx, id, func(g *Group) error {
			if ch.DomainID != nil && *ch.DomainID != g.DomainID {
				return kit.Invalid("Cannot change Domain ID")
			}
			kit.SetIf(&g.Name, ch.Name)
			kit.SetIf(&g.Description, ch.Description)
			g.Extra = kit.Merge(g.Extra, ch.Extra)
			return nil
		})
		if err != nil {
			name := ""
			kit.SetIf(&name, ch.Name)
			return kit.OrNotFound(kit.OrConflict(err, "group", name, old.DomainID), "group", id)
		}
		return s.area.Happened(ctx, "group", "updated", id)
	})
	return out, err
}

// DeleteGroup removes a group with its memberships and roles.
func (s *Service) DeleteGroup(ctx context.Context, id string) error {
	g, err := s.group(ctx, id, "delete_group")
	if err != nil {
		return err
	}
	return s.area.Tx(ctx, func(ctx context.Context) error { return s.dropGroups(ctx, []Group{g}) })
}

func (s *Service) dropGroups(ctx context.Context, gs []Group) error {
	if len(gs) == 0 {
		return nil
	}
	ids := make([]string, len(gs))
	for i := range gs {
		ids[i] = gs[i].ID
		if err := s.area.Happened(ctx, "group", "deleted", gs[i].ID); err != nil {
			return err
		}
	}
	if _, err := s.groups.DeleteWhere(ctx, store.In("id", ids)); err != nil {
		return err
	}
	members, err := s.members.Where(ctx, store.In("group_id", ids))
	if err != nil {
		return err
	}
	var stale []revoke.Row
	for _, m := range members {
		stale = append(stale, revoke.Row{UserID: m.UserID, Stale: true})
	}
	if err := s.Revocations.Record(ctx, stale...); err != nil {
		return err
	}
	if err := s.Assignments.GroupsDeleted(ctx, ids); err != nil {
		return err
	}
	_, err = s.members.DeleteWhere(ctx, store.In("group_id", ids))
	return err
}

// both reads a user and a group for a rule about their relation.
func (s *Service) both(ctx context.Context, userID, groupID, rule string) error {
	u, uerr := s.users.Get(ctx, userID)
	g, gerr := s.groups.Get(ctx, groupID)
	target := policy.Map{}
	for k, v := range userTarget(&u) {
		target[k] = v
	}
	for k, v := range groupTarget(&g) {
		target[k] = v
	}
	if err := s.area.Enforce(ctx, rule, target); err != nil {
		return err
	}
	if err := keptElsewhere(g.Source, rule); err != nil {
		return err
	}
	if uerr == nil {
		_, uerr = s.refresh(ctx, u)
	}
	if err := kit.OrNotFound(uerr, "user", userID); err != nil {
		return err
	}
	return kit.OrNotFound(gerr, "group", groupID)
}

// AddToGroup makes a user a member; doing so again changes nothing.
func (s *Service) AddToGroup(ctx context.Context, userID, groupID string) error {
	if err := s.both(ctx, userID, groupID, "add_user_to_group"); err != nil {
		return err
	}
	return s.area.Tx(ctx, func(ctx context.Context) error {
		if err := kit.Hold(ctx, s.users, "user", userID); err != nil {
			return err
		}
		if err := kit.Hold(ctx, s.groups, "group", groupID); err != nil {
			return err
		}
		m := membership{ID: groupID + "|" + userID, GroupID: groupID, UserID: userID}
		if _, err := s.members.Get(ctx, m.ID); !errors.Is(err, store.ErrNoRow) {
			return err
		}
		if err := s.members.Insert(ctx, m); err != nil {
			return err
		}
		if err := s.Revocations.Record(ctx, revoke.Row{UserID: userID, Stale: true}); err != nil {
			return err
		}
		return s.area.Happened(ctx, "group", "updated", groupID)
	})
}

// InGroup is NotFound when the user is no member.
func (s *Service) InGroup(ctx context.Context, userID, groupID string) error {
	if err := s.both(ctx, userID, groupID, "check_user_in_group"); err != nil {
		return err
	}
	_, err := s.members.One(ctx, store.Eq("id", groupID+"|"+userID), current())
	return store.WrapNotFound(err, func() *nacre.Error {
		return nacre.Errorf(nacre.NotFound, "user", "User '%s' not found in group '%s'", userID, groupID)
	})
}

// RemoveFromGroup ends a membership. Roles held by it are gone from the user's
// tokens.
func (s *Service) RemoveFromGroup(ctx context.Context, userID, groupID string) error {
	if err := s.both(ctx, userID, groupID, "remove_user_from_group"); err != nil {
		return err
	}
	return s.area.Tx(ctx, func(ctx context.Context) error {
		if err := s.members.Delete(ctx, groupID+"|"+userID); err != nil {
			return store.WrapNotFound(err, func() *nacre.Error {
				return nacre.Errorf(nacre.NotFound, "user", "User '%s' not found in group '%s'", userID, groupID)
			})
		}
		if err := s.Revocations.Record(ctx, revoke.Row{UserID: userID, Stale: true}); err != nil {
			return err
		}
		return s.area.Happened(ctx, "group", "updated", groupID)
	})
}

// ListGroupsOf lists a user's groups.
func (s *Service) ListGroupsOf(ctx context.Context, userID string, q nacre.Query) ([]Group, error) {
	if _, err := s.user(ctx, userID, "list_groups_for_user"); err != nil {
		return nil, err
	}
	return kit.List(ctx, s.groups, q, groupColumns, store.InSelect("id", s.members, "group_id", store.And(store.Eq("user_id", userID), current())))
}

// ListMembers lists a group's users.
func (s *Service) ListMembers(ctx context.Context, groupID string, q nacre.Query) ([]User, error) {
	g, err := s.group(ctx, groupID, "list_users_in_group")
	if err != nil {
		return nil, err
	}
	if err := s.refreshMembers(ctx, g); err != nil {
		return nil, err
	}
	return kit.List(ctx, s.users, q, userColumns, store.InSelect("id", s.members, "user_id", store.And(store.Eq("group_id", groupID), current())))
}

// groupsOf are the ids of a user's groups.
func (s *Service) groupsOf(ctx context.Context, userID string) ([]string, error) {
	ms, err := s.members.Where(ctx, store.Eq("user_id", userID), current())
	ids := make([]string, len(ms))
	for i := range ms {
		ids[i] = ms[i].GroupID
	}
	return ids, err
}
