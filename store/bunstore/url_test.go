package bunstore_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/store/bunstore"
)

// What a MariaDB URL can't mean is an error, never left out silently.
func TestMariaDBURL(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(empty, []byte("none"), 0o600))
	for _, url := range []string{"", "user@host/db", "mysql://h/d", "mariadb://h/d?tls=perhaps", "mariadb://h/d?sslmode=require",
		"mariadb://h/d?tls=true&ca=" + empty, "mariadb://h/d?tls=true&ca=/no/such/file"} {
		_, err := bunstore.OpenMariaDB(url, bunstore.Options{})
		require.Error(t, err, url)
	}
	for _, url := range []string{"mariadb://u:p@h/d", "mariadb://u:p@h:3307/d?tls=true", "mariadb://u@localhost/d?socket=/run/s"} {
		e, err := bunstore.OpenMariaDB(url, bunstore.Options{})
		require.NoError(t, err, url)
		require.NoError(t, e.Close())
	}
}
