package oauth1

import (
	"context"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/kit"
	"github.com/nacre-cloud/nacre/store"
)

// ConsumerChange is what is given of a consumer; nil leaves the description as it
// is, and a pointer to nil takes it away.
type ConsumerChange struct {
	Description **string
	Extra       map[string]any
}

// CreateConsumer adds a consumer; only this answer has its secret.
func (s *Service) CreateConsumer(ctx context.Context, ch ConsumerChange) (Consumer, error) {
	c := Consumer{ID: s.area.NewID(), Secret: newSecret(), Extra: ch.Extra}
	if ch.Description != nil {
		c.Description = *ch.Description
	}
	if err := s.area.Enforce(ctx, "create_consumer", nil); err != nil {
		return Consumer{}, err
	}
	return c, s.area.Tx(ctx, func(ctx context.Context) error {
		if err := s.consumers.Insert(ctx, c); err != nil {
			return err
		}
		return s.area.Happened(ctx, "OS-OAUTH1:consumer", "created", c.ID)
	})
}

// GetConsumer shows a consumer.
func (s *Service) GetConsumer(ctx context.Context, id string) (Consumer, error) {
	if err := s.area.Enforce(ctx, "get_consumer", nil); err != nil {
		return Consumer{}, err
	}
	c, err := s.consumers.Get(ctx, id)
	c.Secret = ""
	return c, orNotFound(err, "Consumer not found")
}

// ListConsumers lists consumers.
func (s *Service) ListConsumers(ctx context.Context) ([]Consumer, error) {
	if err := s.area.Enforce(ctx, "list_consumers", nil); err != nil {
		return nil, err
	}
	cs, err := s.consumers.Where(ctx)
	for i := range cs {
		cs[i].Secret = ""
	}
	return cs, err
}

// UpdateConsumer changes a consumer.
func (s *Service) UpdateConsumer(ctx context.Context, id string, ch ConsumerChange) (Consumer, error) {
	if err := s.area.Enforce(ctx, "update_consumer", nil); err != nil {
		return Consumer{}, err
	}
	if _, ok := ch.Extra["secret"]; ok {
		return Consumer{}, nacre.Errorf(nacre.Invalid, "SchemaValidationError", "Invalid input for field 'consumer': the secret can't be changed")
	}
	if ch.Description == nil && len(ch.Extra) == 0 {
		return Consumer{}, nacre.Errorf(nacre.Invalid, "SchemaValidationError", "Invalid input for field 'consumer': {} does not have enough properties")
	}
	var out Consumer
	err := s.area.Tx(ctx, func(ctx context.Context) (err error) {
		out, err = s.consumers.Update(ctx, id, func(c *Consumer) error {
			if ch.Description != nil {
				c.Description = *ch.Description
			}
			if c.Extra == nil {
				c.Extra = map[string]any{}
			}
			for k, v := range ch.Extra {
				c.Extra[k] = v
			}
			return nil
		})
		if err != nil {
			return orNotFound(err, "Consumer not found")
		}
		return s.area.Happened(ctx, "OS-OAUTH1:consumer", "updated", id)
	})
	out.Secret = ""
	return out, err
}

// DeleteConsumer removes a consumer with its request and access tokens, and ends
// what was made with those.
func (s *Service) DeleteConsumer(ctx context.Context, id string) error {
	if err := s.area.Enforce(ctx, "delete_consumer", nil); err != nil {
		return err
	}
	return s.area.Tx(ctx, func(ctx context.Context) error {
		if err := s.consumers.Delete(ctx, id); err != nil {
			return orNotFound(err, "Consumer not found")
		}
		if err := s.drop(ctx, store.Eq("consumer_id", id)); err != nil {
			return err
		}
		return s.area.Happened(ctx, "OS-OAUTH1:consumer", "deleted", id)
	})
}

// drop removes request and access tokens, and has those who authorized the latter
// looked up again.
func (s *Service) drop(ctx context.Context, w store.Where) error {
	if _, err := s.requests.DeleteWhere(ctx, w); err != nil {
		return err
	}
	ts, err := s.access.Where(ctx, w)
	if err != nil {
		return err
	}
	var users []string
	for _, t := range ts {
		users = append(users, t.UserID)
	}
	if _, err := s.access.DeleteWhere(ctx, w); err != nil {
		return err
	}
	if len(users) == 0 {
		return nil
	}
	return s.parent.Lost(ctx, users...)
}

// UsersDeleted removes what users authorized, and ProjectsDeleted what was authorized or
// wished for on projects, within the transaction in which they go.
func (s *Service) UsersDeleted(ctx context.Context, ids []string) error {
	return s.drop(ctx, store.In("authorizing_user_id", ids))
}

// ProjectsDeleted is as UsersDeleted says. All that was made with the tokens is on the
// projects, and ends with them.
func (s *Service) ProjectsDeleted(ctx context.Context, ids []string) error {
	if _, err := s.requests.DeleteWhere(ctx, store.In("requested_project_id", ids)); err != nil {
		return err
	}
	_, err := s.access.DeleteWhere(ctx, store.In("project_id", ids))
	return err
}

// Audit says which tokens refer to nothing. users and projects are those that there are.
func (s *Service) Audit(a *kit.Audit, users, projects map[string]bool) {
	consumers := kit.Keys(a, s.consumers, func(c Consumer) string { return c.ID })
	kit.Each(a, "request_token", s.requests, func(t RequestToken) string { return t.ID }, func(t RequestToken) {
		a.Refers(t.ID, "consumer", t.ConsumerID, consumers)
		a.Refers(t.ID, "project", t.ProjectID, projects)
		a.Refers(t.ID, "user", t.UserID, users)
	})
	kit.Each(a, "access_token", s.access, func(t AccessToken) string { return t.ID }, func(t AccessToken) {
		a.Refers(t.ID, "consumer", t.ConsumerID, consumers)
		a.Refers(t.ID, "project", t.ProjectID, projects)
		a.Refers(t.ID, "user", t.UserID, users)
	})
}
