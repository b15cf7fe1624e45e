// Package ldap is a [identity.Directory] over LDAP: users and groups of a domain
// are read from a directory server, and users log in by binding there. Nothing is
// written.
//
//	dir, err := ldap.New(ldap.Config{URL: "ldaps://ldap.example.com", Suffix: "dc=example,dc=com", UserNameAttribute: "uid"})
//	svc, err := identity.New(identity.Config{Engine: engine, Directories: map[string]identity.Directory{domainID: dir}})
//
// Options and their defaults are those of Keystone's [ldap]; Open reads them from a
// domain's configuration, so that identity.Config.OpenDirectory = ldap.Open gives
// each domain whose driver is "ldap" its own.
//
// An empty password never logs in, whatever the server makes of it. Names and
// passwords are escaped. A server that does not answer is nacre.Unavailable.
package ldap

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	goldap "github.com/go-ldap/ldap/v3"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity"
)

// Config is Keystone's [ldap]. Zero values are its defaults.
type Config struct {
	// URL is the server's, or several, tried in order, with commas between.
	URL string
	// User and Password are whom we are when we search; empty is anonymous.
	User, Password string
	// Suffix is the tree that others default to lie in; empty is "cn=example,cn=com".
	Suffix string
	// Scope is "one" (the default) or "sub": how far below a tree is looked.
	Scope string
	// PageSize is how many entries are asked for at once; 0 is all.
	PageSize int
	// StartTLS turns a plain connection into TLS; ldaps is TLS from the start.
	StartTLS bool
	// TLS is how; nil checks the server's certificate against the system's.
	TLS *tls.Config
	// Timeout bounds each operation; 0 is ten seconds.
	Timeout time.Duration
	// PoolSize is how many idle connections are kept for searching, for PoolLifetime
	// each: 0 is 10 and ten minutes, less than 0 none. AuthPoolSize and
	// AuthPoolLifetime are for users' logging in: 100 and a minute.
	PoolSize, AuthPoolSize         int
	PoolLifetime, AuthPoolLifetime time.Duration
	// Retries is how often a server that does not answer is asked in all, RetryDelay
	// the time between: 0 is three times, 100 ms apart.
	Retries    int
	RetryDelay time.Duration
	// Aliases says when aliases are followed: "never" (also "default", and the
	// default), "searching", "finding" or "always".
	Aliases string

	// Users are below UserTree ("ou=Users" and Suffix), of UserObjectClass
	// ("inetOrgPerson"), and match UserFilter.
	UserTree, UserFilter, UserObjectClass string
	// The attributes of users: cn, sn, mail and description. UserDefaultProject has
	// none.
	UserIDAttribute, UserNameAttribute, UserMailAttribute, UserDescriptionAttribute, UserDefaultProjectAttribute string
	// UserEnabledAttribute ("enabled") says whether a user is enabled: by "true", or
	// with a mask, by all of its bits being unset. UserEnabledDefault ("True") holds
	// where there is none. Invert turns it around, but for a mask.
	UserEnabledAttribute, UserEnabledDefault string
	UserEnabledInvert                        bool
	UserEnabledMask                          int
	// UserEnabledEmulation says that the members of UserEnabledEmulationDN
	// ("cn=enabled_users" and UserTree) are enabled, and nobody else. It is a
	// groupOfNames, unless UserEnabledEmulationAsGroups says that it is like other groups.
	UserEnabledEmulation         bool
	UserEnabledEmulationDN       string
	UserEnabledEmulationAsGroups bool
	// UserAttributeIgnore are attributes that are not read: "enabled", "email",
	// "description"; nil is "default_project_id".
	UserAttributeIgnore []string

	// Groups are below GroupTree ("ou=UserGroups" and Suffix), of GroupObjectClass
	// ("groupOfNames"), and match GroupFilter.
	GroupTree, GroupFilter, GroupObjectClass string
	// The attributes of groups: cn, ou, description and member. With MembersAreIDs
	// members are users' ids, not their names in the tree.
	GroupIDAttribute, GroupNameAttribute, GroupDescriptionAttribute, GroupMemberAttribute string
	GroupMembersAreIDs                                                                    bool
	// UserExtra and GroupExtra are further attributes, by the directory's name: as
	// what they are shown.
	UserExtra, GroupExtra map[string]string
	// GroupAttributeIgnore are attributes that are not read: "description".
	GroupAttributeIgnore []string
	// GroupADNesting asks Active Directory for members of members too.
	GroupADNesting bool
}

func orDefault(s *string, def string) {
	if *s == "" {
		*s = def
	}
}

// Driver reads one directory. It is safe for concurrent use.
type Driver struct {
	cfg    Config
	search pool // connections of ours
	auth   pool // connections of users
}

var _ identity.Directory = (*Driver)(nil)

// New makes a Driver. It connects to nobody yet.
func New(cfg Config) (*Driver, error) {
	if cfg.URL == "" {
		return nil, errors.New("ldap: Config.URL is missing")
	}
	orDefault(&cfg.Suffix, "cn=example,cn=com")
	orDefault(&cfg.Scope, "one")
	orDefault(&cfg.UserTree, "ou=Users,"+cfg.Suffix)
	orDefault(&cfg.UserObjectClass, "inetOrgPerson")
	orDefault(&cfg.UserIDAttribute, "cn")
	orDefault(&cfg.UserNameAttribute, "sn")
	orDefault(&cfg.UserMailAttribute, "mail")
	orDefault(&cfg.UserDescriptionAttribute, "description")
	orDefault(&cfg.UserEnabledAttribute, "enabled")
	orDefault(&cfg.UserEnabledDefault, "True")
	orDefault(&cfg.UserEnabledEmulationDN, "cn=enabled_users,"+cfg.UserTree)
	orDefault(&cfg.GroupTree, "ou=UserGroups,"+cfg.Suffix)
	orDefault(&cfg.GroupObjectClass, "groupOfNames")
	orDefault(&cfg.GroupIDAttribute, "cn")
	orDefault(&cfg.GroupNameAttribute, "ou")
	orDefault(&cfg.GroupDescriptionAttribute, "description")
	orDefault(&cfg.GroupMemberAttribute, "member")
	if cfg.UserAttributeIgnore == nil {
		cfg.UserAttributeIgnore = []string{"default_project_id"}
	}
	orDefault(&cfg.Aliases, "never")
	if _, ok := aliases[cfg.Aliases]; !ok {
		return nil, fmt.Errorf("ldap: alias_dereferencing can't be %q", cfg.Aliases)
	}
	if cfg.Scope != "one" && cfg.Scope != "sub" {
		return nil, fmt.Errorf("ldap: query_scope %q is neither one nor sub", cfg.Scope)
	}
	if cfg.UserEnabledMask != 0 {
		if _, err := strconv.Atoi(cfg.UserEnabledDefault); err != nil {
			return nil, fmt.Errorf("ldap: with a mask user_enabled_default is a number, not %q", cfg.UserEnabledDefault)
		}
	}
	for _, n := range []struct {
		to  *time.Duration
		def time.Duration
	}{{&cfg.Timeout, 10 * time.Second}, {&cfg.PoolLifetime, 10 * time.Minute}, {&cfg.AuthPoolLifetime, time.Minute}, {&cfg.RetryDelay, 100 * time.Millisecond}} {
		if *n.to <= 0 {
			*n.to = n.def
		}
	}
	for _, n := range []struct {
		to  *int
		def int
	}{{&cfg.PoolSize, 10}, {&cfg.AuthPoolSize, 100}, {&cfg.Retries, 3}} {
		if *n.to == 0 {
			*n.to = n.def
		}
	}
	if err := cfg.extra(); err != nil {
		return nil, err
	}
	return &Driver{cfg, newPool(cfg.PoolSize, cfg.PoolLifetime), newPool(cfg.AuthPoolSize, cfg.AuthPoolLifetime)}, nil
}

// ours are what a user or group has of its own.
var ours = []string{"id", "name", "domain_id", "enabled", "email", "description", "default_project_id", "password", "password_expires_at", "options", "links", "federated"}

// extra refuses further attributes that would be shown as what something else is.
func (c *Config) extra() error {
	for _, m := range []map[string]string{c.UserExtra, c.GroupExtra} {
		for attr, name := range m {
			if attr == "" || name == "" || slices.Contains(ours, name) {
				return fmt.Errorf("ldap: attribute %q can't be shown as %q", attr, name)
			}
		}
	}
	return nil
}

var aliases = map[string]int{"never": goldap.NeverDerefAliases, "default": goldap.NeverDerefAliases, "searching": goldap.DerefInSearching, "finding": goldap.DerefFindingBaseObj, "always": goldap.DerefAlways}

// Close ends idle connections.
func (d *Driver) Close() error {
	d.search.close()
	d.auth.close()
	return nil
}

func unavailable(err error) error {
	return &nacre.Error{Kind: nacre.Unavailable, Code: "ServiceUnavailable", Message: "The directory of the domain does not answer.", Err: err}
}

// dial connects to the first server that answers.
func (d *Driver) dial() (*goldap.Conn, error) {
	var last error
	for u := range strings.SplitSeq(d.cfg.URL, ",") {
		opts := []goldap.DialOpt{goldap.DialWithDialer(&net.Dialer{Timeout: d.cfg.Timeout})}
		if d.cfg.TLS != nil {
			opts = append(opts, goldap.DialWithTLSConfig(d.cfg.TLS))
		}
		c, err := goldap.DialURL(strings.TrimSpace(u), opts...)
		if err != nil {
			last = err
			continue
		}
		c.SetTimeout(d.cfg.Timeout)
		if d.cfg.StartTLS {
			if err := c.StartTLS(d.tlsFor(u)); err != nil {
				c.Close() //nolint:errcheck // of no use
				last = err
				continue
			}
		}
		return c, nil
	}
	return nil, unavailable(last)
}

func (d *Driver) tlsFor(u string) *tls.Config {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if d.cfg.TLS != nil {
		cfg = d.cfg.TLS.Clone()
	}
	if cfg.ServerName == "" {
		host := strings.TrimPrefix(strings.TrimSpace(u), "ldap://")
		host, _, _ = strings.Cut(host, "/")
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		cfg.ServerName = host
	}
	return cfg
}

// bound is a new connection that may search.
func (d *Driver) bound() (*goldap.Conn, error) {
	c, err := d.dial()
	if err != nil {
		return nil, err
	}
	if d.cfg.User != "" {
		if err := c.Bind(d.cfg.User, d.cfg.Password); err != nil {
			c.Close() //nolint:errcheck // of no use
			return nil, unavailable(err)
		}
	}
	return c, nil
}

// find finds entries; a base that is not there has none.
func (d *Driver) find(ctx context.Context, base string, scope int, filter string, attrs []string) (es []*goldap.Entry, err error) {
	req := goldap.NewSearchRequest(base, scope, aliases[d.cfg.Aliases], 0, int(d.cfg.Timeout.Seconds()), false, filter, attrs, nil)
	err = d.use(ctx, &d.search, d.bound, func(c *goldap.Conn) error {
		var res *goldap.SearchResult
		var err error
		if d.cfg.PageSize > 0 && scope != goldap.ScopeBaseObject {
			res, err = c.SearchWithPaging(req, uint32(d.cfg.PageSize)) //nolint:gosec // a small positive number
		} else {
			res, err = c.Search(req)
		}
		if err == nil {
			es = res.Entries
		}
		return err
	})
	switch {
	case goldap.IsErrorWithCode(err, goldap.LDAPResultNoSuchObject):
		return nil, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		return nil, unavailable(err)
	}
	return es, nil
}

func (d *Driver) scope() int {
	if d.cfg.Scope == "sub" {
		return goldap.ScopeWholeSubtree
	}
	return goldap.ScopeSingleLevel
}

// all is the filter for entries of a class that match every part; empty ones say
// nothing.
func all(class string, parts ...string) string {
	out := "(objectClass=" + goldap.EscapeFilter(class) + ")"
	for _, p := range parts {
		if p != "" {
			out += p
		}
	}
	return "(&" + out + ")"
}

func equal(attr, value string) string { return "(" + attr + "=" + goldap.EscapeFilter(value) + ")" }

func notFound(what, id string) error {
	return nacre.Errorf(nacre.NotFound, what, "Could not find %s: %s.", what, id)
}

// one is the only entry.
func one(es []*goldap.Entry, what, id string) (*goldap.Entry, error) {
	switch len(es) {
	case 0:
		return nil, notFound(what, id)
	case 1:
		return es[0], nil
	}
	return nil, fmt.Errorf("ldap: %d entries are %s %q", len(es), what, id)
}

func (d *Driver) ignored(name string) bool { return slices.Contains(d.cfg.UserAttributeIgnore, name) }
