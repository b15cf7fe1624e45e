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
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
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
	// Timeout bounds each operation; 0 is ten seconds. PoolSize is how many idle
	// connections are kept; 0 is 10.
	Timeout  time.Duration
	PoolSize int

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
	// ("cn=enabled_users" and UserTree) are enabled, and nobody else.
	UserEnabledEmulation   bool
	UserEnabledEmulationDN string
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
	cfg  Config
	idle chan *goldap.Conn
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
	if cfg.Scope != "one" && cfg.Scope != "sub" {
		return nil, fmt.Errorf("ldap: query_scope %q is neither one nor sub", cfg.Scope)
	}
	if cfg.UserEnabledMask != 0 {
		if _, err := strconv.Atoi(cfg.UserEnabledDefault); err != nil {
			return nil, fmt.Errorf("ldap: with a mask user_enabled_default is a number, not %q", cfg.UserEnabledDefault)
		}
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = 10 * time.Second
	}
	if cfg.PoolSize <= 0 {
		cfg.PoolSize = 10
	}
	return &Driver{cfg, make(chan *goldap.Conn, cfg.PoolSize)}, nil
}

// Close ends idle connections.
func (d *Driver) Close() error {
	for {
		select {
		case c := <-d.idle:
			c.Close() //nolint:errcheck // idle
		default:
			return nil
		}
	}
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

// conn is a connection that may search.
func (d *Driver) conn(ctx context.Context) (*goldap.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	select {
	case c := <-d.idle:
		if !c.IsClosing() {
			return c, nil
		}
	default:
	}
	return d.bound()
}

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

func (d *Driver) release(c *goldap.Conn) {
	select {
	case d.idle <- c:
	default:
		c.Close() //nolint:errcheck // one too many
	}
}

// search finds entries; a base that is not there has none. A connection that the
// server has closed meanwhile is tried anew once.
func (d *Driver) search(ctx context.Context, base string, scope int, filter string, attrs []string) ([]*goldap.Entry, error) {
	req := goldap.NewSearchRequest(base, scope, goldap.NeverDerefAliases, 0, int(d.cfg.Timeout.Seconds()), false, filter, attrs, nil)
	for try := 0; ; try++ {
		c, err := d.conn(ctx)
		if try > 0 {
			c, err = d.bound()
		}
		if err != nil {
			return nil, err
		}
		var res *goldap.SearchResult
		if d.cfg.PageSize > 0 && scope != goldap.ScopeBaseObject {
			res, err = c.SearchWithPaging(req, uint32(d.cfg.PageSize)) //nolint:gosec // a small positive number
		} else {
			res, err = c.Search(req)
		}
		switch {
		case err == nil:
			d.release(c)
			return res.Entries, nil
		case goldap.IsErrorWithCode(err, goldap.LDAPResultNoSuchObject):
			d.release(c)
			return nil, nil
		}
		c.Close() //nolint:errcheck // of no use
		if try > 0 || !goldap.IsErrorWithCode(err, goldap.ErrorNetwork) {
			return nil, unavailable(err)
		}
	}
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

// Open makes a Driver of a domain's configuration: the options of its group
// "ldap", by Keystone's names. It fits identity.Config.OpenDirectory.
func Open(_ context.Context, c identity.DomainConfig) (identity.Directory, error) {
	o := options(c["ldap"])
	cfg := Config{
		URL: o.text("url"), User: o.text("user"), Password: o.text("password"), Suffix: o.text("suffix"), Scope: o.text("query_scope"), PageSize: o.number("page_size"),
		StartTLS: o.yes("use_tls"), Timeout: time.Duration(max(0, o.number("pool_connection_timeout"))) * time.Second, PoolSize: o.number("pool_size"),
		UserTree: o.text("user_tree_dn"), UserFilter: o.text("user_filter"), UserObjectClass: o.text("user_objectclass"),
		UserIDAttribute: o.text("user_id_attribute"), UserNameAttribute: o.text("user_name_attribute"), UserMailAttribute: o.text("user_mail_attribute"),
		UserDescriptionAttribute: o.text("user_description_attribute"), UserDefaultProjectAttribute: o.text("user_default_project_id_attribute"),
		UserEnabledAttribute: o.text("user_enabled_attribute"), UserEnabledDefault: o.text("user_enabled_default"), UserEnabledInvert: o.yes("user_enabled_invert"),
		UserEnabledMask: o.number("user_enabled_mask"), UserEnabledEmulation: o.yes("user_enabled_emulation"), UserEnabledEmulationDN: o.text("user_enabled_emulation_dn"),
		UserAttributeIgnore: o.list("user_attribute_ignore"),
		GroupTree:           o.text("group_tree_dn"), GroupFilter: o.text("group_filter"), GroupObjectClass: o.text("group_objectclass"),
		GroupIDAttribute: o.text("group_id_attribute"), GroupNameAttribute: o.text("group_name_attribute"), GroupDescriptionAttribute: o.text("group_desc_attribute"),
		GroupMemberAttribute: o.text("group_member_attribute"), GroupMembersAreIDs: o.yes("group_members_are_ids"), GroupADNesting: o.yes("group_ad_nesting"),
	}
	orDefault(&cfg.URL, "ldap://localhost")
	var err error
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
	switch o.text("tls_req_cert") {
	case "never", "allow":
		cfg.InsecureSkipVerify = true //nolint:gosec // the operator says so
	}
	if file := o.text("tls_cacertfile"); file != "" {
		pem, err := os.ReadFile(file) //nolint:gosec // the operator names it
		if err != nil {
			return nil, err
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
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
