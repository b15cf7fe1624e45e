package oauth1

import (
	"errors"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/kit"
	"github.com/nacre-cloud/nacre/store"
)

// Keystone's request_token_duration and access_token_duration.
const (
	requestTokenLife = 8 * time.Hour
	accessTokenLife  = 24 * time.Hour
)

// Config is what a Service is made of. Area and Parent must be set.
type Config struct {
	kit.Area
	Parent Parent
}

// Service is OS-OAUTH1. Its methods are safe for concurrent use.
type Service struct {
	area   kit.Area
	parent Parent
	tables
}

// New makes a Service. It reads nothing from the engine yet.
func New(cfg Config) (*Service, error) {
	if err := cfg.Check("oauth1"); err != nil {
		return nil, err
	}
	if cfg.Parent == nil {
		return nil, errors.New("oauth1: Config.Parent is missing")
	}
	return &Service{area: cfg.Area, parent: cfg.Parent, tables: newTables(cfg.Engine)}, nil
}

// newSecret never comes from Area.IDs, which may be predictable.
func newSecret() string { return strings.ReplaceAll(uuid.NewString(), "-", "") }

func orNotFound(err error, message string) error {
	return store.WrapNotFound(err, func() *nacre.Error { return nacre.Errorf(nacre.NotFound, "NotFound", "%s", message) })
}

func unauthorized(message string) error {
	return &nacre.Error{Kind: nacre.Unauthenticated, Code: "Unauthorized", Message: message}
}
