package identity

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/internal/policy"
	"github.com/nacre-cloud/nacre/store"
)

// AccessRule is a request that an application credential may make. Tokens of one
// that has rules are shown only to a service that says that it enforces them.
type AccessRule struct {
	ID      string `store:"id,pk" json:"id"`
	UserID  string `store:"user_id,unique=access_rule_request" json:"-"`
	Service string `store:"service,unique=access_rule_request" json:"service"`
	Method  string `store:"method,unique=access_rule_request" json:"method"`
	Path    string `store:"path,unique=access_rule_request" json:"path"`
	// Created orders a user's rules.
	Created time.Time `store:"created_at" json:"-"`
}

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
			return nil, invalid("Invalid input for field 'access_rules': a rule is an id, or a path that begins with a slash, a method and a service's type")
		}
		had, err := s.rules.Where(ctx, store.Eq("user_id", userID), store.Eq("service", r.Service), store.Eq("method", r.Method), store.Eq("path", r.Path))
		if err != nil {
			return nil, err
		}
		if len(had) > 0 {
			out = append(out, had[0])
			continue
		}
		r.ID, r.UserID, r.Created = s.newID(), userID, now.Add(time.Duration(i)*time.Microsecond)
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
	if err := s.enforce(ctx, "list_access_rules", ruleTarget(userID)); err != nil {
		return nil, err
	}
	if len(q.Sort) == 0 {
		q.Sort = []nacre.SortKey{{Field: "created_at"}}
	}
	return list(ctx, s.rules, q, columns{"id", "service", "path", "method", "created_at"}, store.Eq("user_id", userID))
}

// GetAccessRule shows a user's access rule.
func (s *Service) GetAccessRule(ctx context.Context, userID, id string) (AccessRule, error) {
	if err := s.enforce(ctx, "get_access_rule", ruleTarget(userID)); err != nil {
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
	if err := s.enforce(ctx, "delete_access_rule", ruleTarget(userID)); err != nil {
		return err
	}
	return s.tx(ctx, func(ctx context.Context) error {
		r, err := s.rules.GetForUpdate(ctx, id)
		if err == nil && r.UserID != userID {
			err = store.ErrNoRow
		}
		if err != nil {
			return store.WrapNotFound(err, noAccessRule(id))
		}
		creds, err := s.appCreds.Where(ctx, store.Eq("user_id", userID))
		if err != nil {
			return err
		}
		if slices.ContainsFunc(creds, func(a AppCredential) bool {
			return slices.ContainsFunc(a.AccessRules, func(x AccessRule) bool { return x.ID == id })
		}) {
			return forbidden("May not delete access rule in use")
		}
		return s.rules.Delete(ctx, id)
	})
}
