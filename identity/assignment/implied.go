package assignment

import (
	"context"
	"errors"
	"slices"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/kit"
	"github.com/nacre-cloud/nacre/store"
)

// impliedLock is held by who looks at which role implies which, to change it.
const impliedLock = "identity implied roles"

// Inference is a role and the roles that it implies directly.
type Inference struct {
	Prior   Role
	Implies []Role
}

// CreateImplied lets a role imply another.
func (s *Service) CreateImplied(ctx context.Context, priorID, impliedID string) (Inference, error) {
	if err := s.area.Enforce(ctx, "create_implied_role", nil); err != nil {
		return Inference{}, err
	}
	out, err := s.inference(ctx, priorID, impliedID)
	if err != nil {
		return out, err
	}
	err = s.area.Tx(ctx, func(ctx context.Context) error {
		if err := s.area.Lock(ctx, impliedLock); err != nil {
			return err
		}
		for _, id := range []string{priorID, impliedID} {
			if err := kit.Hold(ctx, s.roles, "role", id); err != nil {
				return err
			}
		}
		all, err := s.implied.Where(ctx)
		if err != nil {
			return err
		}
		switch {
		case out.Implies[0].Name == "admin" || out.Implies[0].DomainID != "" && out.Prior.DomainID == "":
			return kit.Forbidden("%s cannot be an implied roles.", impliedID)
		case priorID == impliedID || slices.Contains(closure(all, []string{impliedID}), priorID):
			return nacre.Errorf(nacre.Invalid, "ValidationError", "%s already implies %s: a role can't imply itself.", impliedID, priorID)
		}
		row := impliedRole{ID: priorID + "|" + impliedID, PriorID: priorID, ImpliedID: impliedID}
		if slices.ContainsFunc(all, func(i impliedRole) bool { return i.ID == row.ID }) {
			return kit.Conflict("implied_role", "Duplicate entry")
		}
		if err := s.implied.Insert(ctx, row); err != nil {
			return kit.OrConflict(err, "implied_role", "", "")
		}
		return s.parent.Lost(ctx, "", "")
	})
	return out, err
}

// inference reads two roles.
func (s *Service) inference(ctx context.Context, priorID, impliedID string) (Inference, error) {
	prior, err := s.roles.Get(ctx, priorID)
	if err != nil {
		return Inference{}, kit.OrNotFound(err, "role", priorID)
	}
	implied, err := s.roles.Get(ctx, impliedID)
	return Inference{Prior: prior, Implies: []Role{implied}}, kit.OrNotFound(err, "role", impliedID)
}

// GetImplied shows that a role implies another, or is NotFound.
func (s *Service) GetImplied(ctx context.Context, priorID, impliedID string) (Inference, error) {
	if err := s.area.Enforce(ctx, "get_implied_role", nil); err != nil {
		return Inference{}, err
	}
	if _, err := s.implied.Get(ctx, priorID+"|"+impliedID); err != nil {
		return Inference{}, store.WrapNotFound(err, func() *nacre.Error {
			return nacre.Errorf(nacre.NotFound, "implied role", "%s does not imply %s.", priorID, impliedID)
		})
	}
	return s.inference(ctx, priorID, impliedID)
}

// DeleteImplied ends that a role implies another.
func (s *Service) DeleteImplied(ctx context.Context, priorID, impliedID string) error {
	if err := s.area.Enforce(ctx, "delete_implied_role", nil); err != nil {
		return err
	}
	return s.area.Tx(ctx, func(ctx context.Context) error {
		if err := s.implied.Delete(ctx, priorID+"|"+impliedID); err != nil {
			return store.WrapNotFound(err, func() *nacre.Error {
				return nacre.Errorf(nacre.NotFound, "implied role", "%s does not imply %s.", priorID, impliedID)
			})
		}
		return s.parent.Lost(ctx, "", "")
	})
}

// ListImplied shows what a role implies directly.
func (s *Service) ListImplied(ctx context.Context, priorID string) (Inference, error) {
	if err := s.area.Enforce(ctx, "list_implied_roles", nil); err != nil {
		return Inference{}, err
	}
	prior, err := s.roles.Get(ctx, priorID)
	if err != nil {
		return Inference{}, kit.OrNotFound(err, "role", priorID)
	}
	implies, err := s.roles.Where(ctx, store.InSelect("id", s.implied, "implied_role_id", store.Eq("prior_role_id", priorID)))
	return Inference{Prior: prior, Implies: implies}, err
}

// ListInferences shows every role that implies another.
func (s *Service) ListInferences(ctx context.Context) ([]Inference, error) {
	if err := s.area.Enforce(ctx, "list_role_inference_rules", nil); err != nil {
		return nil, err
	}
	pairs, err := s.implied.Where(ctx)
	if err != nil {
		return nil, err
	}
	roles, err := s.roles.Where(ctx)
	if err != nil {
		return nil, err
	}
	byID := map[string]Role{}
	for _, r := range roles {
		byID[r.ID] = r
	}
	var out []Inference
	for _, p := range pairs { // ordered by prior role
		if len(out) == 0 || out[len(out)-1].Prior.ID != p.PriorID {
			out = append(out, Inference{Prior: byID[p.PriorID]})
		}
		last := &out[len(out)-1]
		last.Implies = append(last.Implies, byID[p.ImpliedID])
	}
	return out, nil
}

// closure is the roles with all that they imply, each once, given ones first.
func closure(pairs []impliedRole, ids []string) []string {
	out := []string{}
	for _, id := range ids {
		if !slices.Contains(out, id) {
			out = append(out, id)
		}
	}
	for i := 0; i < len(out); i++ {
		for _, p := range pairs {
			if p.PriorID == out[i] && !slices.Contains(out, p.ImpliedID) {
				out = append(out, p.ImpliedID)
			}
		}
	}
	return out
}

// Imply lets a role imply another unless it does already, within a transaction. It asks
// no policy.
func (s *Service) Imply(ctx context.Context, priorID, impliedID string) error {
	row := impliedRole{ID: priorID + "|" + impliedID, PriorID: priorID, ImpliedID: impliedID}
	if _, err := s.implied.Get(ctx, row.ID); !errors.Is(err, store.ErrNoRow) {
		return err
	}
	return s.implied.Insert(ctx, row)
}
