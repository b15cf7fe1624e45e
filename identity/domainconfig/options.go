package domainconfig

import (
	"fmt"
	"slices"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/kit"
	"github.com/nacre-cloud/nacre/store"
)

// Options are a domain's own configuration: options by group.
type Options map[string]map[string]any

// defaults are the options that a domain may have, with what holds without
// (Keystone's whitelisted_options).
var defaults = Options{
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
	return kit.Forbidden("Invalid domain specific configuration: %s.", fmt.Sprintf(format, args...))
}

// checkOption refuses a group or option that domains don't have; either may be
// empty.
func checkOption(group, option string) error {
	options, ok := defaults[group]
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
func (c Options) check() error {
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

// shown is a configuration without what is kept secret.
func (c Options) shown() Options {
	out := Options{}
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

// only refuses a change that holds more, or something else, than it is about.
func (c Options) only(group, option string) error {
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
