package api

import (
	"net/http"
	"time"

	"github.com/nacre-cloud/nacre/identity"
	"github.com/nacre-cloud/nacre/internal/rest"
)

func (h *handlers) userRoutes() []rest.Route {
	return []rest.Route{
		{Method: "POST", Path: "/v3/users", Status: http.StatusCreated, Policy: id("create_user"), Unknown: rest.Keep, Statements: 7, Op: rest.In(func(r *rest.Request, b *userEnvelope) (any, error) {
			if err := required("name", "user", b.User.Name.Set); err != nil {
				return nil, err
			}
			u, err := h.svc.CreateUser(r.Context(), b.User.change())
			return object{"user": userView(r, &u)}, err
		})},
		{Method: "GET", Path: "/v3/users", Policy: id("list_users"), Op: rest.Do(func(r *rest.Request) (any, error) {
			q, err := query(r)
			if err != nil {
				return nil, err
			}
			us, err := h.svc.ListUsers(r.Context(), q)
			return collection(r, "users", q, us, userView, userID), err
		})},
		{Method: "GET", Path: "/v3/users/{id}", Policy: id("get_user"), Op: rest.Do(func(r *rest.Request) (any, error) {
			u, err := h.svc.GetUser(r.Context(), r.Var("id"))
			return object{"user": userView(r, &u)}, err
		})},
		{Method: "PATCH", Path: "/v3/users/{id}", Policy: id("update_user"), Unknown: rest.Keep, Statements: 9, Op: rest.In(func(r *rest.Request, b *userEnvelope) (any, error) {
			if err := matching(r, b.User.Extra, "user"); err != nil {
				return nil, err
			}
			u, err := h.svc.UpdateUser(r.Context(), r.Var("id"), b.User.change())
			return object{"user": userView(r, &u)}, err
		})},
		{Method: "DELETE", Path: "/v3/users/{id}", Policy: id("delete_user"), Statements: 26, Op: rest.Do(func(r *rest.Request) (any, error) {
			return nil, h.svc.DeleteUser(r.Context(), r.Var("id"))
		})},
		{Method: "POST", Path: "/v3/users/{id}/password", Status: http.StatusNoContent, Public: true, Statements: 10, Op: rest.In(func(r *rest.Request, b *passwordBody) (any, error) {
			return nil, h.svc.ChangePassword(r.Context(), r.Var("id"), b.User.Original, b.User.Password)
		})},
		{Method: "GET", Path: "/v3/users/{id}/projects", Policy: id("list_user_projects"), Statements: 9, Op: rest.Do(func(r *rest.Request) (any, error) {
			q, err := query(r)
			if err != nil {
				return nil, err
			}
			ps, err := h.svc.ListUserProjects(r.Context(), r.Var("id"), q)
			return collection(r, "projects", q, ps, projectView, projectID), err
		})},
		{Method: "GET", Path: "/v3/users/{id}/groups", Policy: id("list_groups_for_user"), Op: rest.Do(func(r *rest.Request) (any, error) {
			q, err := query(r)
			if err != nil {
				return nil, err
			}
			gs, err := h.svc.ListGroupsOf(r.Context(), r.Var("id"), q)
			return collection(r, "groups", q, gs, groupView, groupID), err
		})},
	}
}

type userEnvelope struct {
	User userFields `json:"user" valid:"required"`
}

type userFields struct {
	Name             rest.Opt[string]               `json:"name"`
	DomainID         rest.Opt[string]               `json:"domain_id"`
	Enabled          rest.Opt[bool]                 `json:"enabled"`
	DefaultProjectID rest.Opt[string]               `json:"default_project_id" valid:"null"`
	Password         rest.Opt[string]               `json:"password" valid:"null"`
	Options          map[string]any                 `json:"options"`
	Federated        rest.Opt[[]identity.Federated] `json:"federated"`
	Extra            map[string]any                 `json:"-" extra:"true"`
}

func (f *userFields) change() identity.UserChange {
	return identity.UserChange{Name: ptr(f.Name), DomainID: ptr(f.DomainID), Enabled: ptr(f.Enabled), DefaultProjectID: ptr(f.DefaultProjectID),
		Password: ptr(f.Password), Federated: ptr(f.Federated), Options: f.Options, Extra: unknown(f.Extra)}
}

type passwordBody struct {
	User struct {
		Original string `json:"original_password" valid:"required"`
		Password string `json:"password" valid:"required"`
	} `json:"user" valid:"required"`
}

type userBody struct {
	identity.User
	PasswordExpires rest.Naive `json:"password_expires_at"`
	Links           links      `json:"links"`
}

func userView(r *rest.Request, u *identity.User) userBody {
	return userBody{*u, naive(u.PasswordExpires), self(r, "users", u.ID)}
}

func naive(t *time.Time) rest.Naive {
	if t == nil {
		return rest.Naive{}
	}
	return rest.Naive(*t)
}

func userID(u *identity.User) string { return u.ID }

func (h *handlers) groupRoutes() []rest.Route {
	return []rest.Route{
		{Method: "POST", Path: "/v3/groups", Status: http.StatusCreated, Policy: id("create_group"), Unknown: rest.Keep, Statements: 5, Op: rest.In(func(r *rest.Request, b *groupEnvelope) (any, error) {
			if err := required("name", "group", b.Group.Name.Set); err != nil {
				return nil, err
			}
			g, err := h.svc.CreateGroup(r.Context(), b.Group.change())
			return object{"group": groupView(r, &g)}, err
		})},
		{Method: "GET", Path: "/v3/groups", Policy: id("list_groups"), Op: rest.Do(func(r *rest.Request) (any, error) {
			q, err := query(r)
			if err != nil {
				return nil, err
			}
			gs, err := h.svc.ListGroups(r.Context(), q)
			return collection(r, "groups", q, gs, groupView, groupID), err
		})},
		{Method: "GET", Path: "/v3/groups/{id}", Policy: id("get_group"), Op: rest.Do(func(r *rest.Request) (any, error) {
			g, err := h.svc.GetGroup(r.Context(), r.Var("id"))
			return object{"group": groupView(r, &g)}, err
		})},
		{Method: "PATCH", Path: "/v3/groups/{id}", Policy: id("update_group"), Unknown: rest.Keep, Statements: 5, Op: rest.In(func(r *rest.Request, b *groupEnvelope) (any, error) {
			if err := matching(r, b.Group.Extra, "group"); err != nil {
				return nil, err
			}
			g, err := h.svc.UpdateGroup(r.Context(), r.Var("id"), b.Group.change())
			return object{"group": groupView(r, &g)}, err
		})},
		{Method: "DELETE", Path: "/v3/groups/{id}", Policy: id("delete_group"), Statements: 8, Op: rest.Do(func(r *rest.Request) (any, error) {
			return nil, h.svc.DeleteGroup(r.Context(), r.Var("id"))
		})},
		{Method: "GET", Path: "/v3/groups/{id}/users", Policy: id("list_users_in_group"), Op: rest.Do(func(r *rest.Request) (any, error) {
			q, err := query(r)
			if err != nil {
				return nil, err
			}
			us, err := h.svc.ListMembers(r.Context(), r.Var("id"), q)
			return collection(r, "users", q, us, userView, userID), err
		})},
		{Method: "PUT", Path: "/v3/groups/{id}/users/{user}", Policy: id("add_user_to_group"), Statements: 8, Op: rest.Do(func(r *rest.Request) (any, error) {
			return nil, h.svc.AddToGroup(r.Context(), r.Var("user"), r.Var("id"))
		})},
		{Method: "GET", Path: "/v3/groups/{id}/users/{user}", Status: http.StatusNoContent, Policy: id("check_user_in_group"), Op: rest.Do(func(r *rest.Request) (any, error) {
			return nil, h.svc.InGroup(r.Context(), r.Var("user"), r.Var("id"))
		})},
		{Method: "DELETE", Path: "/v3/groups/{id}/users/{user}", Policy: id("remove_user_from_group"), Statements: 8, Op: rest.Do(func(r *rest.Request) (any, error) {
			return nil, h.svc.RemoveFromGroup(r.Context(), r.Var("user"), r.Var("id"))
		})},
	}
}

type groupEnvelope struct {
	Group groupFields `json:"group" valid:"required"`
}

type groupFields struct {
	Name        rest.Opt[string] `json:"name"`
	Description rest.Opt[string] `json:"description" valid:"null"`
	DomainID    rest.Opt[string] `json:"domain_id"`
	Extra       map[string]any   `json:"-" extra:"true"`
}

func (f *groupFields) change() identity.GroupChange {
	return identity.GroupChange{Name: ptr(f.Name), Description: ptr(f.Description), DomainID: ptr(f.DomainID), Extra: unknown(f.Extra)}
}

type groupBody struct {
	identity.Group
	Links links `json:"links"`
}

func groupView(r *rest.Request, g *identity.Group) groupBody {
	return groupBody{*g, self(r, "groups", g.ID)}
}

func groupID(g *identity.Group) string { return g.ID }
