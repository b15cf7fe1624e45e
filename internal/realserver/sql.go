//go:build realtest

package realserver

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Areas makes a database and an account for each area, each account the owner of its
// own and locked out of the others, and gives their DSN with {area} for the area.
func (p *PostgreSQL) Areas(t testing.TB, areas ...string) string {
	t.Helper()
	for _, a := range areas {
		for _, s := range []string{
			"CREATE ROLE nacre_" + a + " LOGIN",
			"CREATE DATABASE nacre_" + a + " OWNER nacre_" + a,
			"REVOKE CONNECT ON DATABASE nacre_" + a + " FROM PUBLIC",
		} {
			out, err := exec.Command(filepath.Join(p.bin, "psql"), "-h", p.dir, "-p", strconv.Itoa(p.port), "-U", "postgres", "-v", "ON_ERROR_STOP=1", "-c", s).CombinedOutput()
			require.NoError(t, err, "%s", out)
		}
	}
	return fmt.Sprintf("host=%s port=%d user=nacre_{area} dbname=nacre_{area} sslmode=disable", p.dir, p.port)
}

// TLS is what Areas gave for connections over TCP, with TLS and a certificate that is
// checked.
func (p *PostgreSQL) TLS(areas string) string {
	return strings.NewReplacer("host="+p.dir, "host=127.0.0.1", "sslmode=disable", "sslmode=verify-full sslrootcert="+p.cert).Replace(areas)
}

// Areas makes a database and an account for each area, each account good for its own
// database only, and gives their URL with {area} for the area.
func (m *Maria) Areas(t testing.TB, areas ...string) string {
	t.Helper()
	for _, a := range areas {
		name := "nacre_" + a
		m.SQL(t, fmt.Sprintf("CREATE DATABASE %s; CREATE USER %[1]s@localhost; GRANT ALL ON %[1]s.* TO %[1]s@localhost", name))
	}
	return fmt.Sprintf("mariadb://nacre_{area}@localhost/nacre_{area}?socket=%s", m.Socket())
}
