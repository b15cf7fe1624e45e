package appcred

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/kit"
	"github.com/nacre-cloud/nacre/internal/policy"
	"github.com/nacre-cloud/nacre/store"
)

const maxRulePath = 225

var serviceType = regexp.MustCompile(`\A[a-zA-Z0-9-]{1,64}\z`)

// accessRules finds or makes a user's rules, in the context's transaction. A rule
// that has an id must be there.
func (s *Service) accessRules(ctx context.Context, userID string, asked []AccessRule) ([]AccessRule, error) {
	var out []AccessRule
	now := time.Now().UTC()
	for i, r := range asked {
		if r.ID != "" {
			got, err := s.rules.Get(ctx, r.ID)
			if err == nil && got.UserID != userID {
				err = store.ErrNoRow
			}
			if err != nil {
				return nil, store.WrapNotFound(err, noAccessRule(r.ID))
			}
			out = append(out, got)
			continue
		}
		if !slices.Contains([]string{"POST", "GET", "HEAD", "PATCH", "PUT", "DELETE"}, r.Method) || !strings.HasPrefix(r.Path, "/") || len(r.Path) > maxRulePath || !serviceType.MatchString(r.Service) {
			return nil, kit.Invalid("Invalid input for field 'access_rules': a rule is an id, or a path that begins with a slash, a method and a service's type")
		}
		had, err := s.rules.Where(ctx, store.Eq("user_id", userID), store.Eq("service", r.Service), store.Eq("method", r.Method), store.Eq("path", r.Path))
		if err != nil {
			return nil, err
		}
		if len(had) > 0 {
			out = append(out, had[0])
			continue
		}
		r.ID, r.UserID, r.Created = s.area.NewID(), userID, now.Add(time.Duration(i)*time.Microsecond)
		if err := s.rules.Insert(ctx, r); err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

func noAccessRule(id string) func() *nacre.Error {
	return func() *nacre.Error {
		return nacre.Errorf(nacre.NotFound, "access rule", "Could not find Access Rule: %s.", id)
	}
}

func ruleTarget(userID string) policy.Map {
	return policy.Map{"target.user.id": userID, "user_id": userID}
}

// ListAccessRules lists a user's access rules.
func (s *Service) ListAccessRules(ctx context.Context, userID string, q nacre.Query) ([]AccessRule, error) {
	if err := s.area.Enforce(ctx, "list_access_rules", ruleTarget(userID)); err != nil {
		return nil, err
	}
	if len(q.Sort) == 0 {
		q.Sort = []nacre.SortKey{{Field: "created_at"}}
	}
	return kit.List(ctx, s.rules, q, kit.Columns{"id", "service", "path", "method", "created_at"}, store.Eq("user_id", userID))
}

// GetAccessRule shows a user's access rule.
func (s *Service) GetAccessRule(ctx context.Context, userID, id string) (AccessRule, error) {
	if err := s.area.Enforce(ctx, "get_access_rule", ruleTarget(userID)); err != nil {
		return AccessRule{}, err
	}
	r, err := s.rules.Get(ctx, id)
	if err == nil && r.UserID != userID {
		r, err = AccessRule{}, store.ErrNoRow
	}
	return r, store.WrapNotFound(err, noAccessRule(id))
}

// DeleteAccessRule removes a rule that no application credential has.
func (s *Service) DeleteAccessRule(ctx context.Context, userID, id string) error {
	if err := s.area.Enforce(ctx, "delete_access_rule", ruleTarget(userID)); err != nil {
		return err
	}
	return s.area.Tx(ctx, func(ctx context.Context) error {
		r, err := s.rules.GetForUpdate(ctx, id)
		if err == nil && r.UserID != userID {
			err = store.ErrNoRow
		}
		if err != nil {
			return store.WrapNotFound(err, noAccessRule(id))
		}
		creds, err := s.credentials.Where(ctx, store.Eq("user_id", userID))
		if err != nil {
			return err
		}
		if slices.ContainsFunc(creds, func(a Credential) bool {
			return slices.ContainsFunc(a.AccessRules, func(x AccessRule) bool { return x.ID == id })
		}) {
			return kit.Forbidden("May not delete access rule in use")
		}
		return s.rules.Delete(ctx, id)
	})
}
