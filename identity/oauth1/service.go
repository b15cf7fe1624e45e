package oauth1

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/store"
)

// Keystone's request_token_duration and access_token_duration.
const (
	requestTokenLife = 8 * time.Hour
	accessTokenLife  = 24 * time.Hour
)

// Role is a role as far as authorization names it.
type Role struct{ ID, Name string }

// Parent is what oauth1 needs of the area that it is a part of.
type Parent interface {
	// CheckProject is NotFound when there is no such project.
	CheckProject(ctx context.Context, id string) error
	// Held are the roles that a user has on a project.
	Held(ctx context.Context, userID, projectID string) ([]Role, error)
	// Delegated reports whether the caller's token was made by delegation: a trust,
	// an application credential, an access token.
	Delegated(ctx context.Context) (bool, error)
	// Lost has a user's tokens looked up again, within the change's transaction.
	Lost(ctx context.Context, userIDs ...string) error
	// Happened records an event within the change's transaction.
	Happened(ctx context.Context, resource, what, id string) error
}

// Config is what a Service is made of. All but IDs must be set.
type Config struct {
	// Engine holds the tables of Tables.
	Engine store.Engine
	// Policy decides; its rules include Rules.
	Policy nacre.Enforcer
	Parent Parent
	// IDs makes identifiers and secrets; nil is random.
	IDs nacre.IDs
}

// Service is OS-OAUTH1. Its methods are safe for concurrent use.
type Service struct {
	engine store.Engine
	policy nacre.Enforcer
	parent Parent
	ids    nacre.IDs
	tables
}

// New makes a Service. It reads nothing from the engine yet.
func New(cfg Config) (*Service, error) {
	switch {
	case cfg.Engine == nil:
		return nil, errors.New("oauth1: Config.Engine is missing")
	case cfg.Policy == nil:
		return nil, errors.New("oauth1: Config.Policy is missing")
	case cfg.Parent == nil:
		return nil, errors.New("oauth1: Config.Parent is missing")
	}
	if cfg.IDs == nil {
		cfg.IDs = randomIDs{}
	}
	return &Service{cfg.Engine, cfg.Policy, cfg.Parent, cfg.IDs, newTables(cfg.Engine)}, nil
}

type randomIDs struct{}

func (randomIDs) NewID() string { return uuid.NewString() }

func (s *Service) newID() string { return strings.ReplaceAll(s.ids.NewID(), "-", "") }

// newSecret never comes from Config.IDs, which may be predictable.
func newSecret() string { return strings.ReplaceAll(uuid.NewString(), "-", "") }

type target map[string]string

// Attr implements nacre.Target.
func (t target) Attr(name string) (string, bool) { v, ok := t[name]; return v, ok }

func (s *Service) enforce(ctx context.Context, rule string, t target) error {
	return s.policy.Enforce(ctx, "identity:"+rule, t)
}

func (s *Service) tx(ctx context.Context, fn func(ctx context.Context) error) error {
	return store.InTx(ctx, s.engine, fn)
}

func orNotFound(err error, message string) error {
	return store.WrapNotFound(err, func() *nacre.Error { return nacre.Errorf(nacre.NotFound, "NotFound", "%s", message) })
}

func unauthorized(message string) error {
	return &nacre.Error{Kind: nacre.Unauthenticated, Code: "Unauthorized", Message: message}
}

func missing(attr string) error {
	return nacre.Errorf(nacre.Invalid, "ValidationError", "Expecting to find %s in request. The server could not comply with the request since it is either malformed or otherwise incorrect. The client is assumed to be in error.", attr)
}

// Rules are the policy defaults of Keystone 2025.1 for OAuth; they build on its
// rule admin_required.
func Rules() []nacre.Rule {
	const admin = "rule:admin_required"
	const reader = "rule:admin_required or (role:reader and system_scope:all)"
	both, project := []string{"system", "project"}, []string{"project"}
	var out []nacre.Rule
	for _, r := range []struct {
		name, check, description, operations string
		scopes                               []string
	}{
		{"get_consumer", reader, "Show a consumer", "GET /v3/OS-OAUTH1/consumers/{consumer_id}", both},
		{"list_consumers", reader, "List consumers", "GET /v3/OS-OAUTH1/consumers", both},
		{"create_consumer", admin, "Create a consumer", "POST /v3/OS-OAUTH1/consumers", both},
		{"update_consumer", admin, "Change a consumer", "PATCH /v3/OS-OAUTH1/consumers/{consumer_id}", both},
		{"delete_consumer", admin, "Delete a consumer", "DELETE /v3/OS-OAUTH1/consumers/{consumer_id}", both},
		{"authorize_request_token", admin, "Authorize a request token", "PUT /v3/OS-OAUTH1/authorize/{request_token_id}", project},
		{"get_access_token", admin, "Show an access token", "GET /v3/users/{user_id}/OS-OAUTH1/access_tokens/{access_token_id}", project},
		{"get_access_token_role", admin, "Show a role of an access token", "GET /v3/users/{user_id}/OS-OAUTH1/access_tokens/{access_token_id}/roles/{role_id}", project},
		{"list_access_tokens", admin, "List a user's access tokens", "GET /v3/users/{user_id}/OS-OAUTH1/access_tokens", project},
		{"list_access_token_roles", admin, "List the roles of an access token", "GET /v3/users/{user_id}/OS-OAUTH1/access_tokens/{access_token_id}/roles", project},
		{"delete_access_token", admin, "Delete an access token", "DELETE /v3/users/{user_id}/OS-OAUTH1/access_tokens/{access_token_id}", project},
	} {
		rule := nacre.Rule{Name: "identity:" + r.name, Check: r.check, Scopes: r.scopes, Description: r.description, Operations: []string{r.operations}}
		if r.check == reader {
			rule.DeprecatedName, rule.DeprecatedCheck = rule.Name, admin
		}
		out = append(out, rule)
	}
	return out
}
