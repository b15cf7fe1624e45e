package domainconfig

import (
	"errors"
	"fmt"

	"github.com/nacre-cloud/nacre/identity/kit"
	"github.com/nacre-cloud/nacre/store"
)

// Config is what a Service is made of. Area and Parent must be set.
type Config struct {
	kit.Area
	Parent Parent
	// Files are configurations by the domains' names, as files of Keystone's
	// domain_config_dir are; what the API sets for such a domain is kept, but without
	// effect.
	Files map[string]Options
	// Try refuses what a driver can't use; nil is for a program that has no drivers.
	Try func(Options) error
	// PasswordRegex and PasswordRules are the cloud's rules for passwords, which are
	// shown as the default domain's.
	PasswordRegex, PasswordRules string
}

// Service is domains' configurations. Its methods are safe for concurrent use.
type Service struct {
	area         kit.Area
	parent       Parent
	files        map[string]Options
	try          func(Options) error
	regex, rules string
	options      *store.Table[optionRow]
}

// New makes a Service; files that are no configurations are an error. It reads nothing
// from the engine yet.
func New(cfg Config) (*Service, error) {
	if err := cfg.Check("domainconfig"); err != nil {
		return nil, err
	}
	if cfg.Parent == nil {
		return nil, errors.New("domainconfig: Config.Parent is missing")
	}
	s := &Service{area: cfg.Area, parent: cfg.Parent, files: cfg.Files, try: cfg.Try, regex: cfg.PasswordRegex, rules: cfg.PasswordRules, options: newTable(cfg.Engine)}
	for name, c := range cfg.Files {
		if err := s.tried(c); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return s, nil
}

// Audit says which configurations are of nothing. projects are those that there are,
// domains among them.
func (s *Service) Audit(a *kit.Audit, projects map[string]bool) {
	kit.Each(a, "domain_config", s.options, func(o optionRow) string { return o.Key }, func(o optionRow) { a.Refers(o.Key, "domain", o.DomainID, projects) })
}

// tried refuses a configuration that is none, or that its driver can't use.
func (s *Service) tried(c Options) error {
	if err := c.check(); err != nil || s.try == nil {
		return err
	}
	return s.try(c)
}
