package identity_test

import (
	"path/filepath"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/store"
	"github.com/nacre-cloud/nacre/store/bunstore"
	"github.com/nacre-cloud/nacre/store/memstore"
)

// elsewhere, where it is set, prepares the engine that eachEngine uses instead.
var elsewhere func(t *testing.T) (open func(t *testing.T) store.Engine)

// eachEngine runs a test on every engine, in time that passes only when all wait.
func eachEngine(t *testing.T, f func(t *testing.T, c *cloud)) {
	if elsewhere != nil {
		open := elsewhere(t)
		synctest.Test(t, func(t *testing.T) {
			e := open(t)
			defer func() { require.NoError(t, e.Close()) }()
			c := newCloud(t, e)
			f(t, c)
			c.clean()
		})
		return
	}
	t.Run("memstore", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			e := memstore.New(memstore.Options{})
			defer func() { require.NoError(t, e.Close()) }()
			c := newCloud(t, e)
			f(t, c)
			c.clean()
		})
	})
	t.Run("sqlite", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "identity.db")
		synctest.Test(t, func(t *testing.T) {
			e, err := bunstore.OpenSQLite(file, bunstore.Options{})
			require.NoError(t, err)
			defer func() { require.NoError(t, e.Close()) }()
			c := newCloud(t, e)
			f(t, c)
			c.clean()
		})
	})
}
