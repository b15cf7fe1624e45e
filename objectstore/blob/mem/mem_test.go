package mem_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/objectstore/blob"
	"github.com/nacre-cloud/nacre/objectstore/blob/blobtest"
	"github.com/nacre-cloud/nacre/objectstore/blob/mem"
)

func TestStore(t *testing.T) {
	blobtest.Run(t, func(testing.TB) blob.Store { return &mem.Store{} })
}

func TestDamageIsFound(t *testing.T) {
	s := &mem.Store{}
	key := blobtest.Put(t, s, blobtest.Bytes(100))
	require.NoError(t, s.Damage(key))
	_, err := blobtest.Get(s, key, 0, -1)
	require.ErrorIs(t, err, blob.ErrRotten)
	require.ErrorIs(t, s.Verify(t.Context(), key), blob.ErrRotten)
}
