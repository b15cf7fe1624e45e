package domainconfig

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"strings"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/kit"
	"github.com/nacre-cloud/nacre/store"
)

// Put replaces a domain's configuration. created is whether there was
// none before.
func (s *Service) Put(ctx context.Context, domainID string, c Options) (out Options, created bool, err error) {
	if err := s.area.Enforce(ctx, "create_domain_config", nil); err != nil {
		return nil, false, err
	}
	if err := s.parent.CheckDomain(ctx, domainID); err != nil {
		return nil, false, err
	}
	if err := c.check(); err != nil {
		return nil, false, err
	}
	if err := s.tried(c); err != nil {
		return nil, false, badConfig("%s", err)
	}
	err = s.area.Tx(ctx, func(ctx context.Context) error {
		if err := s.parent.HoldDomain(ctx, domainID); err != nil {
			return err
		}
		n, err := s.options.DeleteWhere(ctx, store.Eq("domain_id", domainID))
		if err != nil {
			return err
		}
		created = n == 0
		return s.writeConfig(ctx, domainID, c)
	})
	return c.shown(), created, err
}

func (s *Service) writeConfig(ctx context.Context, domainID string, c Options) error {
	for group, options := range c {
		for option, v := range options {
			row := optionRow{Key: kit.Joined(domainID, group, option), DomainID: domainID, Group: group, Option: option, Value: v}
			if _, err := s.options.DeleteWhere(ctx, store.Eq("key", row.Key)); err != nil {
				return err
			}
			if err := s.options.Insert(ctx, row); err != nil {
				return err
			}
		}
	}
	return s.area.Happened(ctx, "domain_config", "updated", domainID)
}

// readConfig is a domain's configuration with its secrets.
func (s *Service) readConfig(ctx context.Context, domainID, group, option string) (Options, error) {
	rows, err := s.options.Where(ctx, configWhere(domainID, group, option))
	out := Options{}
	for _, r := range rows {
		if out[r.Group] == nil {
			out[r.Group] = map[string]any{}
		}
		out[r.Group][r.Option] = r.Value
	}
	return out, err
}

// Get shows a domain's configuration, one group of it, or one option;
// empty is all. Group security_compliance is the cloud's rules for passwords, which
// anybody may read for the default domain.
func (s *Service) Get(ctx context.Context, domainID, group, option string) (Options, error) {
	missing := s.parent.CheckDomain(ctx, domainID)
	if group == "security_compliance" {
		if err := s.area.Enforce(ctx, "get_security_compliance_domain_config", nil); err != nil {
			return nil, err
		}
		return s.complianceConfig(domainID, option)
	}
	if err := s.area.Enforce(ctx, "get_domain_config", nil); err != nil {
		return nil, err
	}
	if missing != nil {
		return nil, missing
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

func (s *Service) complianceConfig(domainID, option string) (Options, error) {
	if domainID != kit.DefaultDomain {
		return nil, badConfig("Reading security compliance information for any domain other than the default domain is not allowed or supported.")
	}
	orNull := func(text string) any {
		if text == "" {
			return nil
		}
		return text
	}
	all := map[string]any{"password_regex": orNull(s.regex), "password_regex_description": orNull(s.rules)}
	if option == "" {
		return Options{"security_compliance": all}, nil
	}
	v, ok := all[option]
	if !ok {
		return nil, badConfig("Reading security compliance values other than password_regex and password_regex_description is not allowed.")
	}
	return Options{"security_compliance": {option: v}}, nil
}

// Update changes options of a domain's configuration; with a group, or a
// group and option, only those, which must be there already. It returns the whole.
func (s *Service) Update(ctx context.Context, domainID, group, option string, c Options) (Options, error) {
	if err := s.area.Enforce(ctx, "update_domain_config", nil); err != nil {
		return nil, err
	}
	if err := s.parent.CheckDomain(ctx, domainID); err != nil {
		return nil, err
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
	var out Options
	err := s.area.Tx(ctx, func(ctx context.Context) error {
		if err := s.parent.HoldDomain(ctx, domainID); err != nil {
			return err
		}
		if group != "" {
			have, err := s.options.Exists(ctx, configWhere(domainID, group, option))
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
		if err := s.tried(all); err != nil {
			return badConfig("%s", err)
		}
		return nil
	})
	return out, err
}

// Delete removes a domain's configuration, one group of it, or one
// option; empty is all.
func (s *Service) Delete(ctx context.Context, domainID, group, option string) error {
	if err := s.area.Enforce(ctx, "delete_domain_config", nil); err != nil {
		return err
	}
	if err := s.parent.CheckDomain(ctx, domainID); err != nil {
		return err
	}
	if err := checkOption(group, option); err != nil {
		return err
	}
	return s.area.Tx(ctx, func(ctx context.Context) error {
		n, err := s.options.DeleteWhere(ctx, configWhere(domainID, group, option))
		if err != nil {
			return err
		}
		if n == 0 && group != "" {
			return noConfig(domainID, group, option)
		}
		return s.area.Happened(ctx, "domain_config", "deleted", domainID)
	})
}

// Defaults shows what holds where a domain says nothing, of a group or
// option; empty is all.
func (s *Service) Defaults(ctx context.Context, group, option string) (Options, error) {
	if err := s.area.Enforce(ctx, "get_domain_config_default", nil); err != nil {
		return nil, err
	}
	if err := checkOption(group, option); err != nil {
		return nil, err
	}
	switch {
	case group == "":
		return defaults, nil
	case option == "":
		return Options{group: defaults[group]}, nil
	}
	v, ok := defaults[group][option]
	if !ok {
		return nil, badConfig("Reading the default for option %s in group %s is not supported", option, group)
	}
	return Options{group: {option: v}}, nil
}

var configReference = regexp.MustCompile(`%\(([a-z_]+)\)s`)

// ForDriver is a domain's configuration as its driver uses it: with secrets, and
// with those filled in where another option refers to one ("%(password)s"). It asks
// no policy and is never shown.
func (s *Service) ForDriver(ctx context.Context, domainID string) (Options, error) {
	c, err := s.configured(ctx, domainID)
	if err != nil {
		return nil, err
	}
	out := Options{}
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
func (s *Service) configured(ctx context.Context, domainID string) (Options, error) {
	if len(s.files) > 0 {
		name, err := s.parent.DomainName(ctx, domainID)
		if err != nil && !errors.Is(err, nacre.NotFound) {
			return nil, err
		}
		if c, ok := s.files[name]; ok && err == nil {
			return c, nil
		}
	}
	return s.readConfig(ctx, domainID, "", "")
}

// DomainDeleted removes a domain's configuration, within the transaction in which the
// domain goes.
func (s *Service) DomainDeleted(ctx context.Context, domainID string) error {
	_, err := s.options.DeleteWhere(ctx, store.Eq("domain_id", domainID))
	return err
}

// Symptoms are what an operator would want to know of domains' drivers. It asks no
// policy.
func (s *Service) Symptoms(ctx context.Context) ([]nacre.Finding, error) {
	var out []nacre.Finding
	rows, err := s.options.Where(ctx, store.Eq("group", "ldap"), store.Eq("option", "url"))
	for _, r := range rows {
		add := func(problem string) {
			out = append(out, nacre.Finding{Area: "identity", Kind: "domain", ID: r.DomainID, Problem: problem})
		}
		c, err := s.readConfig(ctx, r.DomainID, "", "")
		if err != nil {
			return nil, err
		}
		ldap := c["ldap"]
		if url, _ := r.Value.(string); strings.HasPrefix(url, "ldap://") && ldap["use_tls"] != true {
			add("its directory is asked without TLS: passwords of users who log in cross the network in the clear")
		}
		if ldap["tls_req_cert"] == "never" || ldap["tls_req_cert"] == "allow" {
			add("the certificate of its directory is not checked")
		}
		if ldap["user"] != nil && ldap["password"] == nil {
			add(fmt.Sprintf("its directory is searched as %v without a password", ldap["user"]))
		}
		if s.try == nil && c["identity"]["driver"] == "ldap" {
			add("it asks for a directory, and this program can open none")
		}
	}
	return out, err
}
