package limit

import (
	"errors"
	"fmt"

	"github.com/nacre-cloud/nacre/identity/kit"
)

// lockKey is held by who compares limits.
const lockKey = "identity limits"

// Config is what a Service is made of. All but Model must be set, as kit.Area says.
type Config struct {
	kit.Area
	Parent Parent
	// Model is Flat or Strict; empty is flat.
	Model string
}

// Service is unified limits. Its methods are safe for concurrent use.
type Service struct {
	area   kit.Area
	parent Parent
	model  string
	tables
}

// New makes a Service. It reads nothing from the engine yet.
func New(cfg Config) (*Service, error) {
	if err := cfg.Check("limit"); err != nil {
		return nil, err
	}
	if cfg.Parent == nil {
		return nil, errors.New("limit: Config.Parent is missing")
	}
	if cfg.Model == "" {
		cfg.Model = Flat
	}
	if models[cfg.Model] == "" {
		return nil, fmt.Errorf("limit: Config.Model: there is no %q", cfg.Model)
	}
	return &Service{area: cfg.Area, parent: cfg.Parent, model: cfg.Model, tables: newTables(cfg.Engine)}, nil
}
