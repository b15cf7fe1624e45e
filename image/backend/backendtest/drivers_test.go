package backendtest_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/image/backend"
	"github.com/nacre-cloud/nacre/image/backend/backendtest"
	"github.com/nacre-cloud/nacre/image/backend/file"
	"github.com/nacre-cloud/nacre/image/backend/mem"
)

func TestMem(t *testing.T) {
	backendtest.Run(t, func(*testing.T) backend.Driver { return &mem.Driver{} })
}

func TestFile(t *testing.T) {
	backendtest.Run(t, func(t *testing.T) backend.Driver {
		d, err := file.New(t.TempDir(), file.Options{NoSync: true})
		require.NoError(t, err)
		return d
	})
}
