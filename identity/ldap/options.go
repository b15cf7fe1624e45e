package ldap

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/nacre-cloud/nacre/identity"
	"github.com/nacre-cloud/nacre/identity/domainconfig"
)

// Open makes a Driver of a domain's configuration: the options of its group
// "ldap", by Keystone's names. It fits identity.Config.OpenDirectory. It connects to
// nobody. What it can't do it refuses by name: chase_referrals, debug_level, and the
// domain's list_limit; user_pass_attribute is for writing, which nobody does here.
func Open(_ context.Context, c domainconfig.Options) (identity.Directory, error) {
	o := options(c["ldap"])
	switch {
	case o.yes("chase_referrals"):
		return nil, errors.New("ldap: chase_referrals: referrals are not followed")
	case o.number("debug_level") != 0:
		return nil, errors.New("ldap: debug_level: there is none")
	case c["identity"]["list_limit"] != nil:
		return nil, errors.New("ldap: list_limit: lists are paged, not cut off")
	}
	cfg := Config{
		URL: o.text("url"), User: o.text("user"), Password: o.text("password"), Suffix: o.text("suffix"), Scope: o.text("query_scope"), PageSize: o.number("page_size"),
		StartTLS: o.yes("use_tls"), Timeout: o.seconds("pool_connection_timeout"), PoolSize: o.size("use_pool", "pool_size"),
		PoolLifetime: o.seconds("pool_connection_lifetime"), AuthPoolSize: o.size("use_auth_pool", "auth_pool_size"), AuthPoolLifetime: o.seconds("auth_pool_connection_lifetime"),
		Retries: o.number("pool_retry_max"), RetryDelay: o.seconds("pool_retry_delay"), Aliases: o.text("alias_dereferencing"),
		UserTree: o.text("user_tree_dn"), UserFilter: o.text("user_filter"), UserObjectClass: o.text("user_objectclass"),
		UserIDAttribute: o.text("user_id_attribute"), UserNameAttribute: o.text("user_name_attribute"), UserMailAttribute: o.text("user_mail_attribute"),
		UserDescriptionAttribute: o.text("user_description_attribute"), UserDefaultProjectAttribute: o.text("user_default_project_id_attribute"),
		UserEnabledAttribute: o.text("user_enabled_attribute"), UserEnabledDefault: o.text("user_enabled_default"), UserEnabledInvert: o.yes("user_enabled_invert"),
		UserEnabledMask: o.number("user_enabled_mask"), UserEnabledEmulation: o.yes("user_enabled_emulation"), UserEnabledEmulationDN: o.text("user_enabled_emulation_dn"),
		UserEnabledEmulationAsGroups: o.yes("user_enabled_emulation_use_group_config"), GroupAttributeIgnore: o.list("group_attribute_ignore"),
		UserAttributeIgnore: o.list("user_attribute_ignore"),
		GroupTree:           o.text("group_tree_dn"), GroupFilter: o.text("group_filter"), GroupObjectClass: o.text("group_objectclass"),
		GroupIDAttribute: o.text("group_id_attribute"), GroupNameAttribute: o.text("group_name_attribute"), GroupDescriptionAttribute: o.text("group_desc_attribute"),
		GroupMemberAttribute: o.text("group_member_attribute"), GroupMembersAreIDs: o.yes("group_members_are_ids"), GroupADNesting: o.yes("group_ad_nesting"),
	}
	orDefault(&cfg.URL, "ldap://localhost")
	var err error
	if cfg.UserExtra, err = o.mapping("user_additional_attribute_mapping"); err != nil {
		return nil, err
	}
	if cfg.GroupExtra, err = o.mapping("group_additional_attribute_mapping"); err != nil {
		return nil, err
	}
	if cfg.TLS, err = o.tls(); err != nil {
		return nil, err
	}
	return New(cfg)
}

// options are a domain's, as JSON or text has them.
type options map[string]any

func (o options) text(name string) string {
	switch v := o[name].(type) {
	case nil:
		return ""
	case string:
		return v
	default:
		return fmt.Sprint(v)
	}
}

func (o options) number(name string) int {
	n, err := strconv.ParseFloat(o.text(name), 64)
	if err != nil {
		return 0
	}
	return int(n)
}

// seconds is a time; what is not positive is 0.
func (o options) seconds(name string) time.Duration {
	n, err := strconv.ParseFloat(o.text(name), 64)
	if err != nil || n <= 0 {
		return 0
	}
	return time.Duration(n * float64(time.Second))
}

// size is a pool's, which a switch may turn off; it is on where it is not named.
func (o options) size(on, name string) int {
	if o[on] != nil && !o.yes(on) {
		return -1
	}
	return o.number(name)
}

// mapping reads "theirs:ours" pairs.
func (o options) mapping(name string) (map[string]string, error) {
	out := map[string]string{}
	for _, pair := range o.list(name) {
		theirs, as, ok := strings.Cut(pair, ":")
		if !ok {
			return nil, fmt.Errorf("ldap: %s: %q is not of the form attribute:name", name, pair)
		}
		out[strings.TrimSpace(theirs)] = strings.TrimSpace(as)
	}
	return out, nil
}

func (o options) yes(name string) bool {
	b, _ := truth(o.text(name))
	return b
}

func (o options) list(name string) []string {
	var out []string
	switch v := o[name].(type) {
	case []any:
		for _, e := range v {
			out = append(out, fmt.Sprint(e))
		}
	case string:
		for e := range strings.SplitSeq(v, ",") {
			out = append(out, strings.TrimSpace(e))
		}
	}
	return out
}

func (o options) tls() (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	switch v := o.text("tls_req_cert"); v {
	case "", "demand":
	case "never", "allow":
		cfg.InsecureSkipVerify = true //nolint:gosec // the operator says so
	default:
		return nil, fmt.Errorf("ldap: tls_req_cert can't be %q", v)
	}
	var files []string
	if file := o.text("tls_cacertfile"); file != "" {
		files = append(files, file)
	}
	if dir := o.text("tls_cacertdir"); dir != "" {
		es, err := os.ReadDir(dir)
		if err != nil {
			return nil, err
		}
		for _, e := range es {
			if !e.IsDir() {
				files = append(files, filepath.Join(dir, e.Name()))
			}
		}
	}
	for _, file := range files {
		pem, err := os.ReadFile(file) //nolint:gosec // the operator names it
		if err != nil {
			return nil, err
		}
		if cfg.RootCAs == nil {
			cfg.RootCAs = x509.NewCertPool()
		}
		if !cfg.RootCAs.AppendCertsFromPEM(pem) && file == o.text("tls_cacertfile") {
			return nil, fmt.Errorf("ldap: %s holds no certificate", file)
		}
	}
	return cfg, nil
}

// truth reads a directory's boolean: text in any case, or a number. ok is whether
// it is one.
func truth(s string) (b, ok bool) {
	switch strings.ToLower(strings.TrimSpace(s)) {
	case "true", "yes", "on":
		return true, true
	case "false", "no", "off", "":
		return false, s != ""
	}
	n, err := strconv.Atoi(strings.TrimSpace(s))
	return err == nil && n != 0, err == nil
}
