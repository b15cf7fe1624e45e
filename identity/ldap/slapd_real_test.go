//go:build realtest

package ldap

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	goldap "github.com/go-ldap/ldap/v3"
	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity"
	"github.com/nacre-cloud/nacre/store/memstore"
)

const suffix, rootPW = "dc=example,dc=com", "root secret"

// server is Debian's slapd on a port of its own.
type server struct {
	url, ldaps string
	pool       *x509.CertPool
	stop       func()
}

func freePort(t *testing.T) int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close() //nolint:errcheck // only for its number
	return l.Addr().(*net.TCPAddr).Port
}

// certificate makes one for 127.0.0.1, and the pool that trusts it.
func certificate(t *testing.T, dir string) *x509.CertPool {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "slapd"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	require.NoError(t, err)
	raw, err := x509.MarshalECPrivateKey(key)
	require.NoError(t, err)
	crt := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	require.NoError(t, os.WriteFile(filepath.Join(dir, "crt"), crt, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "key"), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: raw}), 0o600))
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(crt))
	return pool
}

func startSlapd(t *testing.T) *server {
	dir := t.TempDir()
	s := &server{pool: certificate(t, dir), url: fmt.Sprintf("ldap://127.0.0.1:%d", freePort(t)), ldaps: fmt.Sprintf("ldaps://127.0.0.1:%d", freePort(t))}
	require.NoError(t, os.Mkdir(filepath.Join(dir, "db"), 0o700))
	conf := fmt.Sprintf(`include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
attributetype ( 1.3.6.1.4.1.99999.1 NAME 'enabled' EQUALITY caseIgnoreMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 SINGLE-VALUE )
objectclass ( 1.3.6.1.4.1.99999.2 NAME 'nacreUser' SUP top AUXILIARY MAY ( enabled ) )
pidfile %[1]s/pid
modulepath /usr/lib/ldap
moduleload back_mdb
TLSCertificateFile %[1]s/crt
TLSCertificateKeyFile %[1]s/key
sizelimit size.soft=10 size.hard=unlimited size.prtotal=unlimited
database mdb
suffix %[2]q
rootdn "cn=root,%[2]s"
rootpw %[3]q
directory %[1]s/db
`, dir, suffix, rootPW)
	file := filepath.Join(dir, "slapd.conf")
	require.NoError(t, os.WriteFile(file, []byte(conf), 0o600))
	var log strings.Builder
	cmd := exec.Command("/usr/sbin/slapd", "-d", "0", "-f", file, "-h", s.url+" "+s.ldaps)
	cmd.Stderr = &log
	require.NoError(t, cmd.Start())
	s.stop = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	t.Cleanup(s.stop)
	require.Eventually(t, func() bool {
		c, err := goldap.DialURL(s.url)
		if err == nil {
			err = c.Bind("cn=root,"+suffix, rootPW)
			c.Close() //nolint:errcheck // a probe
		}
		return err == nil
	}, 20*time.Second, 50*time.Millisecond, "slapd: %s", &log)
	return s
}

func (s *server) root(t *testing.T) *goldap.Conn {
	c, err := goldap.DialURL(s.url)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() }) //nolint:errcheck // at the end
	require.NoError(t, c.Bind("cn=root,"+suffix, rootPW))
	return c
}

func add(t *testing.T, c *goldap.Conn, dn string, attrs map[string][]string) {
	req := goldap.NewAddRequest(dn, nil)
	for k, v := range attrs {
		req.Attribute(k, v)
	}
	require.NoError(t, c.Add(req), dn)
}

// fill makes alice (enabled), bob (not), 25 others, and groups dev and ops.
func fill(t *testing.T, c *goldap.Conn) {
	add(t, c, suffix, map[string][]string{"objectClass": {"dcObject", "organization"}, "dc": {"example"}, "o": {"Example"}})
	for _, ou := range []string{"Users", "UserGroups"} {
		add(t, c, "ou="+ou+","+suffix, map[string][]string{"objectClass": {"organizationalUnit"}, "ou": {ou}})
	}
	person := func(cn, name, enabled string) {
		add(t, c, "cn="+cn+",ou=Users,"+suffix, map[string][]string{"objectClass": {"inetOrgPerson", "nacreUser"}, "cn": {cn}, "sn": {name}, "mail": {name + "@example.com"},
			"userPassword": {"pw of " + name}, "enabled": {enabled}})
	}
	person("a1", "alice", "TRUE")
	person("b1", "bob", "FALSE")
	for i := range 25 {
		person(fmt.Sprintf("u%02d", i), fmt.Sprintf("user%02d", i), "TRUE")
	}
	group := func(cn, name string, members ...string) {
		var dns []string
		for _, m := range members {
			dns = append(dns, "cn="+m+",ou=Users,"+suffix)
		}
		add(t, c, "cn="+cn+",ou=UserGroups,"+suffix, map[string][]string{"objectClass": {"groupOfNames"}, "cn": {cn}, "ou": {name}, "member": dns})
	}
	group("g1", "dev", "a1", "u00")
	group("g2", "ops", "b1")
}

func TestSlapd(t *testing.T) {
	s := startSlapd(t)
	fill(t, s.root(t))
	for name, cfg := range map[string]Config{
		"plain":    {URL: s.url, PageSize: 5},
		"ldaps":    {URL: s.ldaps, PageSize: 100, TLS: &tls.Config{RootCAs: s.pool, MinVersion: tls.VersionTLS12}},
		"starttls": {URL: s.url, StartTLS: true, PageSize: 7, TLS: &tls.Config{RootCAs: s.pool, MinVersion: tls.VersionTLS12}},
		"second":   {URL: "ldap://127.0.0.1:1," + s.url, PageSize: 5, Scope: "sub"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg.Suffix, cfg.User, cfg.Password = suffix, "cn=root,"+suffix, rootPW
			d, err := New(cfg)
			require.NoError(t, err)
			defer d.Close() //nolint:errcheck // of nothing
			check(t, d)
		})
	}
	t.Run("a certificate that nobody trusts", func(t *testing.T) {
		d, err := New(Config{URL: s.ldaps, Suffix: suffix})
		require.NoError(t, err)
		_, err = d.Users(t.Context())
		require.ErrorIs(t, err, nacre.Unavailable)
	})
	t.Run("a wrong password of ours", func(t *testing.T) {
		d, err := New(Config{URL: s.url, Suffix: suffix, User: "cn=root," + suffix, Password: "wrong"})
		require.NoError(t, err)
		_, err = d.Users(t.Context())
		require.ErrorIs(t, err, nacre.Unavailable)
	})
	t.Run("through identity", func(t *testing.T) { throughIdentity(t, s) })
}

func check(t *testing.T, d *Driver) {
	ctx := t.Context()
	us, err := d.Users(ctx)
	require.NoError(t, err)
	require.Len(t, us, 27)
	alice, err := d.UserByName(ctx, "alice")
	require.NoError(t, err)
	require.Equal(t, identity.DirectoryUser{ID: "a1", Name: "alice", Email: "alice@example.com", Enabled: true}, alice)
	bob, err := d.User(ctx, "b1")
	require.NoError(t, err)
	require.False(t, bob.Enabled)
	for _, name := range []string{"eve", "*", "alice)(sn=*", "\x00", ""} {
		_, err = d.UserByName(ctx, name)
		require.ErrorIs(t, err, nacre.NotFound, name)
	}
	for _, tc := range []struct {
		id, pw string
		want   bool
	}{{"a1", "pw of alice", true}, {"a1", "no", false}, {"a1", "", false}, {"nobody", "pw of alice", false}, {"*", "pw of alice", false}} {
		ok, err := d.Authenticate(ctx, tc.id, tc.pw)
		require.NoError(t, err)
		require.Equal(t, tc.want, ok, tc)
	}
	gs, err := d.Groups(ctx)
	require.NoError(t, err)
	require.Len(t, gs, 2)
	gs, err = d.GroupsOf(ctx, "a1")
	require.NoError(t, err)
	require.Equal(t, []identity.DirectoryGroup{{ID: "g1", Name: "dev"}}, gs)
	g, err := d.Group(ctx, "g2")
	require.NoError(t, err)
	require.Equal(t, "ops", g.Name)
	_, err = d.Group(ctx, "g3")
	require.ErrorIs(t, err, nacre.NotFound)
	ms, err := d.Members(ctx, "g1")
	require.NoError(t, err)
	require.Len(t, ms, 2)
}

// throughIdentity logs in by a domain's configuration, and again once the server
// is gone.
func throughIdentity(t *testing.T, s *server) {
	e := memstore.New(memstore.Options{})
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	require.NoError(t, e.Migrate(t.Context(), identity.Schema(), true))
	svc, err := identity.New(identity.Config{Engine: e, BcryptCost: 4, OpenDirectory: Open})
	require.NoError(t, err)
	ids, err := svc.Bootstrap(t.Context(), identity.Bootstrap{Password: "secret"})
	require.NoError(t, err)
	ctx := nacre.WithCaller(t.Context(), &nacre.Caller{UserID: ids.UserID, Roles: []string{"admin"}, System: "all"})
	name := "corp"
	domain, err := svc.CreateDomain(ctx, identity.ProjectChange{Name: &name})
	require.NoError(t, err)
	_, _, err = svc.PutDomainConfig(ctx, domain.ID, identity.DomainConfig{"identity": {"driver": "ldap"},
		"ldap": {"url": s.url, "suffix": suffix, "user": "cn=root," + suffix, "password": rootPW, "page_size": 5}})
	require.NoError(t, err)
	login := func(ctx context.Context, pw string) error {
		_, info, err := svc.Authenticate(ctx, identity.AuthRequest{Methods: []string{"password"}, Password: pw,
			User: identity.NameRef{Name: "alice", Domain: identity.DomainRef{Name: "corp"}}})
		if err == nil {
			require.Equal(t, "alice", info.User.Name)
		}
		return err
	}
	require.NoError(t, login(t.Context(), "pw of alice"))
	require.ErrorIs(t, login(t.Context(), "wrong"), nacre.Unauthenticated)
	us, err := svc.ListUsers(ctx, nacre.Query{Filters: []nacre.Filter{{Name: "domain_id", Value: domain.ID}}})
	require.NoError(t, err)
	require.Len(t, us, 27)
	s.stop()
	require.ErrorIs(t, login(t.Context(), "pw of alice"), nacre.Unavailable)
}
