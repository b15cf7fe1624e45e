package realserver

import (
	"crypto/x509"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/go-ldap/ldap/v3"
	"github.com/stretchr/testify/require"
)

// Slapd is OpenLDAP's server with an empty tree.
type Slapd struct {
	process
	// URL is plain, LDAPS with a certificate that Pool trusts and CertFile holds.
	URL, LDAPS, CertFile string
	Pool                 *x509.CertPool
	// Suffix is the tree; RootDN with RootPassword may do all.
	Suffix, RootDN, RootPassword string
}

// OpenLDAP starts a server (Debian's slapd). Its schema has inetOrgPerson, and
// nacreUser with the attribute enabled.
func OpenLDAP(t testing.TB) *Slapd {
	t.Helper()
	const server = "/usr/sbin/slapd"
	require.FileExists(t, server, "OpenLDAP is not installed (apt-get install slapd)")
	dir := t.TempDir()
	s := &Slapd{URL: fmt.Sprintf("ldap://127.0.0.1:%d", Port(t)), LDAPS: fmt.Sprintf("ldaps://127.0.0.1:%d", Port(t)),
		Suffix: "dc=example,dc=com", RootDN: "cn=root,dc=example,dc=com", RootPassword: "root secret"}
	var key string
	s.CertFile, key = certificate(t, dir, nil)
	crt, err := os.ReadFile(s.CertFile)
	require.NoError(t, err)
	s.Pool = x509.NewCertPool()
	require.True(t, s.Pool.AppendCertsFromPEM(crt))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "db"), 0o700))
	file := filepath.Join(dir, "slapd.conf")
	require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, `include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
attributetype ( 1.3.6.1.4.1.99999.1 NAME 'enabled' EQUALITY caseIgnoreMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 SINGLE-VALUE )
objectclass ( 1.3.6.1.4.1.99999.2 NAME 'nacreUser' SUP top AUXILIARY MAY ( enabled ) )
pidfile %[1]s/pid
modulepath /usr/lib/ldap
moduleload back_mdb
TLSCertificateFile %[2]s
TLSCertificateKeyFile %[6]s
sizelimit size.soft=10 size.hard=unlimited size.prtotal=unlimited
database mdb
suffix %[3]q
rootdn %[4]q
rootpw %[5]q
directory %[1]s/db
`, dir, s.CertFile, s.Suffix, s.RootDN, s.RootPassword, key), 0o600))
	s.process = process{t: t, make: func() *exec.Cmd {
		c := exec.Command(server, "-d", "0", "-f", file, "-h", s.URL+" "+s.LDAPS)
		c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
		return c
	}, up: func() error {
		c, err := ldap.DialURL(s.URL)
		if err == nil {
			err = c.Bind(s.RootDN, s.RootPassword)
			_ = c.Close()
		}
		return err
	}}
	s.begin(t)
	return s
}

// Root is a connection that may do all.
func (s *Slapd) Root(t testing.TB) *ldap.Conn {
	t.Helper()
	c, err := ldap.DialURL(s.URL)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	require.NoError(t, c.Bind(s.RootDN, s.RootPassword))
	return c
}
