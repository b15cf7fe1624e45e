package identity

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/store"
)

// DomainConfig is a domain's own configuration: options by group.
type DomainConfig map[string]map[string]any

// domainOption is one option of a domain's configuration.
type domainOption struct {
	Key      string `store:"key,pk"`
	DomainID string `store:"domain_id,index=domain_config_domain"`
	Group    string `store:"group"`
	Option   string `store:"option"`
	Value    any    `store:"value,json"`
}

// configDefaults are the options that a domain may have, with what holds without
// (Keystone's whitelisted_options).
var configDefaults = DomainConfig{
	"identity": {"driver": "sql", "list_limit": nil},
	"ldap": {
		"url": "ldap://localhost", "user": nil, "suffix": "cn=example,cn=com", "query_scope": "one", "page_size": 0, "alias_dereferencing": "default",
		"debug_level": nil, "chase_referrals": nil,
		"user_tree_dn": nil, "user_filter": nil, "user_objectclass": "inetOrgPerson", "user_id_attribute": "cn", "user_name_attribute": "sn",
		"user_mail_attribute": "mail", "user_description_attribute": "description", "user_pass_attribute": "userPassword", "user_enabled_attribute": "enabled",
		"user_enabled_invert": false, "user_enabled_mask": 0, "user_enabled_default": "True", "user_attribute_ignore": []any{"default_project_id"},
		"user_default_project_id_attribute": nil, "user_enabled_emulation": false, "user_enabled_emulation_dn": nil,
		"user_enabled_emulation_use_group_config": false, "user_additional_attribute_mapping": []any{},
		"group_tree_dn": nil, "group_filter": nil, "group_objectclass": "groupOfNames", "group_id_attribute": "cn", "group_name_attribute": "ou",
		"group_members_are_ids": false, "group_member_attribute": "member", "group_desc_attribute": "description", "group_attribute_ignore": []any{},
		"group_additional_attribute_mapping": []any{},
		"tls_cacertfile":                     nil, "tls_cacertdir": nil, "use_tls": false, "tls_req_cert": "demand",
		"use_pool": true, "pool_size": 10, "pool_retry_max": 3, "pool_retry_delay": 0.1, "pool_connection_timeout": -1, "pool_connection_lifetime": 600,
		"use_auth_pool": true, "auth_pool_size": 100, "auth_pool_connection_lifetime": 60,
	},
}

// sensitive reports whether an option is kept but never shown.
func sensitive(group, option string) bool { return group == "ldap" && option == "password" }

func badConfig(format string, args ...any) *nacre.Error {
	return forbidden("Invalid domain specific configuration: %s.", fmt.Sprintf(format, args...))
}

// checkOption refuses a group or option that domains don't have; either may be
// empty.
func checkOption(group, option string) error {
	options, ok := configDefaults[group]
	switch {
	case group == "":
		return nil
	case !ok:
		return badConfig("Group %s is not supported for domain specific configurations", group)
	case option == "":
		return nil
	}
	if _, ok := options[option]; !ok && !sensitive(group, option) {
		return badConfig("Option %s in group %s is not supported for domain specific configurations", option, group)
	}
	return nil
}

// check refuses what is no configuration.
func (c DomainConfig) check() error {
	if len(c) == 0 {
		return badConfig("No options specified")
	}
	for group, options := range c {
		if len(options) == 0 {
			return badConfig("The value of group %s specified in the config should be a dictionary of options", group)
		}
		for option := range options {
			if err := checkOption(group, option); err != nil {
				return err
			}
		}
	}
	return nil
}

// tried refuses a configuration that is none, or whose directory can't be opened.
func (c DomainConfig) tried(open func(context.Context, DomainConfig) (Directory, error)) error {
	if err := c.check(); err != nil {
		return err
	}
	if c["identity"]["driver"] != "ldap" || open == nil {
		return nil
	}
	dir, err := open(context.Background(), c)
	if closer, ok := dir.(io.Closer); ok && err == nil {
		_ = closer.Close()
	}
	return err
}

func noConfig(domainID, group, option string) *nacre.Error {
	what := "any options"
	switch {
	case option != "":
		what = "option " + option + " in group " + group
	case group != "":
		what = "group " + group
	}
	return nacre.Errorf(nacre.NotFound, "DomainConfigNotFound", "Could not find %s in domain configuration for domain %s.", what, domainID)
}

func configWhere(domainID, group, option string) store.Where {
	ws := []store.Where{store.Eq("domain_id", domainID)}
	if group != "" {
		ws = append(ws, store.Eq("group", group))
	}
	if option != "" {
		ws = append(ws, store.Eq("option", option))
	}
	return store.And(ws...)
}

// PutDomainConfig replaces a domain's configuration. created is whether there was
// none before.
func (s *Service) PutDomainConfig(ctx context.Context, domainID string, c DomainConfig) (out DomainConfig, created bool, err error) {
	if err := s.enforceAlone(ctx, "create_domain_config"); err != nil {
		return nil, false, err
	}
	if _, err := s.getDomain(ctx, domainID); err != nil {
		return nil, false, orNotFound(err, "domain", domainID)
	}
	if err := c.check(); err != nil {
		return nil, false, err
	}
	if err := c.tried(s.directories.open); err != nil {
		return nil, false, badConfig("%s", err)
	}
	err = s.tx(ctx, func(ctx context.Context) error {
		n, err := s.domainOptions.DeleteWhere(ctx, store.Eq("domain_id", domainID))
		if err != nil {
			return err
		}
		created = n == 0
		return s.writeConfig(ctx, domainID, c)
	})
	return c.shown(), created, err
}

func (s *Service) writeConfig(ctx context.Context, domainID string, c DomainConfig) error {
	for group, options := range c {
		for option, v := range options {
			row := domainOption{Key: joined(domainID, group, option), DomainID: domainID, Group: group, Option: option, Value: v}
			if _, err := s.domainOptions.DeleteWhere(ctx, store.Eq("key", row.Key)); err != nil {
				return err
			}
			if err := s.domainOptions.Insert(ctx, row); err != nil {
				return err
			}
		}
	}
	return s.emit(ctx, "domain_config", "updated", domainID)
}

// shown is a configuration without what is kept secret.
func (c DomainConfig) shown() DomainConfig {
	out := DomainConfig{}
	for group, options := range c {
		for option, v := range options {
			if sensitive(group, option) {
				continue
			}
			if out[group] == nil {
				out[group] = map[string]any{}
			}
			out[group][option] = v
		}
	}
	return out
}

// readConfig is a domain's configuration with its secrets.
func (s *Service) readConfig(ctx context.Context, domainID, group, option string) (DomainConfig, error) {
	rows, err := s.domainOptions.Where(ctx, configWhere(domainID, group, option))
	out := DomainConfig{}
	for _, r := range rows {
		if out[r.Group] == nil {
			out[r.Group] = map[string]any{}
		}
		out[r.Group][r.Option] = r.Value
	}
	return out, err
}

// GetDomainConfig shows a domain's configuration, one group of it, or one option;
// empty is all. Group security_compliance is the cloud's rules for passwords, which
// anybody may read for the default domain.
func (s *Service) GetDomainConfig(ctx context.Context, domainID, group, option string) (DomainConfig, error) {
	_, missing := s.getDomain(ctx, domainID)
	if group == "security_compliance" {
		if err := s.enforceAlone(ctx, "get_security_compliance_domain_config"); err != nil {
			return nil, err
		}
		return s.complianceConfig(domainID, option)
	}
	if err := s.enforceAlone(ctx, "get_domain_config"); err != nil {
		return nil, err
	}
	if missing != nil {
		return nil, orNotFound(missing, "domain", domainID)
	}
	if err := checkOption(group, option); err != nil {
		return nil, err
	}
	c, err := s.readConfig(ctx, domainID, group, option)
	if c = c.shown(); err == nil && len(c) == 0 {
		err = noConfig(domainID, group, option)
	}
	return c, err
}

func (s *Service) complianceConfig(domainID, option string) (DomainConfig, error) {
	if domainID != DefaultDomain {
		return nil, badConfig("Reading security compliance information for any domain other than the default domain is not allowed or supported.")
	}
	orNull := func(text string) any {
		if text == "" {
			return nil
		}
		return text
	}
	all := map[string]any{"password_regex": orNull(s.compliance.PasswordRegex), "password_regex_description": orNull(s.compliance.PasswordRules)}
	if option == "" {
		return DomainConfig{"security_compliance": all}, nil
	}
	v, ok := all[option]
	if !ok {
		return nil, badConfig("Reading security compliance values other than password_regex and password_regex_description is not allowed.")
	}
	return DomainConfig{"security_compliance": {option: v}}, nil
}

// UpdateDomainConfig changes options of a domain's configuration; with a group, or a
// group and option, only those, which must be there already. It returns the whole.
func (s *Service) UpdateDomainConfig(ctx context.Context, domainID, group, option string, c DomainConfig) (DomainConfig, error) {
	if err := s.enforceAlone(ctx, "update_domain_config"); err != nil {
		return nil, err
	}
	if _, err := s.getDomain(ctx, domainID); err != nil {
		return nil, orNotFound(err, "domain", domainID)
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	if err := checkOption(group, option); err != nil {
		return nil, err
	}
	if err := c.only(group, option); err != nil {
		return nil, err
	}
	var out DomainConfig
	err := s.tx(ctx, func(ctx context.Context) error {
		if group != "" {
			have, err := s.domainOptions.Exists(ctx, configWhere(domainID, group, option))
			if err != nil {
				return err
			}
			if !have {
				return noConfig(domainID, group, option)
			}
		}
		if err := s.writeConfig(ctx, domainID, c); err != nil {
			return err
		}
		all, err := s.readConfig(ctx, domainID, "", "")
		if err != nil {
			return err
		}
		if out = all.shown(); len(out) == 0 {
			return noConfig(domainID, "", "")
		}
		if err := all.tried(s.directories.open); err != nil {
			return badConfig("%s", err)
		}
		return nil
	})
	return out, err
}

// only refuses a change that holds more, or something else, than it is about.
func (c DomainConfig) only(group, option string) error {
	if group == "" {
		return nil
	}
	options, ok := c[group]
	switch {
	case len(c) != 1 || option != "" && len(options) > 1:
		if option != "" {
			return badConfig("Trying to update option %s in group %s, so that, and only that, option must be specified  in the config", option, group)
		}
		return badConfig("Trying to update group %s, so that, and only that, group must be specified in the config", group)
	case !ok:
		return badConfig("request to update group %s, but config provided contains group %s instead", group, first(c))
	}
	if _, ok := options[option]; option != "" && !ok {
		return badConfig("Trying to update option %s in group %s, but config provided contains option %s instead", option, group, first(options))
	}
	return nil
}

func first[V any](m map[string]V) string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	if len(keys) == 0 {
		return ""
	}
	return keys[0]
}

// DeleteDomainConfig removes a domain's configuration, one group of it, or one
// option; empty is all.
func (s *Service) DeleteDomainConfig(ctx context.Context, domainID, group, option string) error {
	if err := s.enforceAlone(ctx, "delete_domain_config"); err != nil {
		return err
	}
	if _, err := s.getDomain(ctx, domainID); err != nil {
		return orNotFound(err, "domain", domainID)
	}
	if err := checkOption(group, option); err != nil {
		return err
	}
	return s.tx(ctx, func(ctx context.Context) error {
		n, err := s.domainOptions.DeleteWhere(ctx, configWhere(domainID, group, option))
		if err != nil {
			return err
		}
		if n == 0 && group != "" {
			return noConfig(domainID, group, option)
		}
		return s.emit(ctx, "domain_config", "deleted", domainID)
	})
}

// DomainConfigDefaults shows what holds where a domain says nothing, of a group or
// option; empty is all.
func (s *Service) DomainConfigDefaults(ctx context.Context, group, option string) (DomainConfig, error) {
	if err := s.enforceAlone(ctx, "get_domain_config_default"); err != nil {
		return nil, err
	}
	if err := checkOption(group, option); err != nil {
		return nil, err
	}
	switch {
	case group == "":
		return configDefaults, nil
	case option == "":
		return DomainConfig{group: configDefaults[group]}, nil
	}
	v, ok := configDefaults[group][option]
	if !ok {
		return nil, badConfig("Reading the default for option %s in group %s is not supported", option, group)
	}
	return DomainConfig{group: {option: v}}, nil
}

var configReference = regexp.MustCompile(`%\(([a-z_]+)\)s`)

// DriverConfig is a domain's configuration as its driver uses it: with secrets, and
// with those filled in where another option refers to one ("%(password)s"). It asks
// no policy and is never shown.
func (s *Service) driverConfig(ctx context.Context, domainID string) (DomainConfig, error) {
	c, err := s.configured(ctx, domainID)
	if err != nil {
		return nil, err
	}
	out := DomainConfig{}
	for group, options := range c {
		out[group] = maps.Clone(options)
		for option, v := range options {
			text, ok := v.(string)
			if !ok || sensitive(group, option) {
				continue
			}
			out[group][option] = configReference.ReplaceAllStringFunc(text, func(ref string) string {
				name := configReference.FindStringSubmatch(ref)[1]
				if secret, ok := options[name].(string); ok && sensitive(group, name) {
					return secret
				}
				return ref
			})
		}
	}
	return out, nil
}

// configured is a domain's configuration: its file's, or else what the API has set.
func (s *Service) configured(ctx context.Context, domainID string) (DomainConfig, error) {
	if len(s.directories.files) > 0 {
		d, err := s.getDomain(ctx, domainID)
		if err != nil && !errors.Is(err, nacre.NotFound) {
			return nil, err
		}
		if c, ok := s.directories.files[d.Name]; ok && err == nil {
			return c, nil
		}
	}
	return s.readConfig(ctx, domainID, "", "")
}

// domainConfigRules are the policy of domain configuration.
func domainConfigRules() []nacre.Rule {
	read := func(paths ...string) []string {
		var out []string
		for _, p := range paths {
			out = append(out, "GET "+p, "HEAD "+p)
		}
		return out
	}
	write := func(method string) []string {
		return []string{method + " /v3/domains/{domain_id}/config", method + " /v3/domains/{domain_id}/config/{group}", method + " /v3/domains/{domain_id}/config/{group}/{option}"}
	}
	rules := []nacre.Rule{
		{Name: "create_domain_config", Check: admin, Description: "Set a domain's configuration", Operations: []string{"PUT /v3/domains/{domain_id}/config"}},
		{Name: "get_domain_config", Check: adminOrSystemReader, Description: "Show a domain's configuration", Operations: read("/v3/domains/{domain_id}/config", "/v3/domains/{domain_id}/config/{group}", "/v3/domains/{domain_id}/config/{group}/{option}")},
		{Name: "get_security_compliance_domain_config", Scopes: anyScope, Description: "Show the rules for passwords", Operations: read("/v3/domains/{domain_id}/config/security_compliance", "/v3/domains/{domain_id}/config/security_compliance/{option}")},
		{Name: "update_domain_config", Check: admin, Description: "Change a domain's configuration", Operations: write("PATCH")},
		{Name: "delete_domain_config", Check: admin, Description: "Delete a domain's configuration", Operations: write("DELETE")},
		{Name: "get_domain_config_default", Check: adminOrSystemReader, Description: "Show what holds where a domain says nothing", Operations: read("/v3/domains/config/default", "/v3/domains/config/{group}/default", "/v3/domains/config/{group}/{option}/default")},
	}
	for i := range rules {
		r := &rules[i]
		r.Name = "identity:" + r.Name
		if r.Scopes == nil {
			r.Scopes = systemOrProject
			r.DeprecatedName, r.DeprecatedCheck = r.Name, admin
		}
	}
	return rules
}
