package image_test

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/image"
	"github.com/nacre-cloud/nacre/image/backend/mem"
)

// lender is a store whose blobs are cloned.
type lender struct {
	mem.Driver
	err error
}

func (l *lender) InUse(context.Context, string) error { return l.err }

func (l *lender) Delete(ctx context.Context, key string) error {
	return errors.Join(l.err, l.Driver.Delete(ctx, key))
}

// An image with clones is not deleted, as with a real Glance on Ceph.
func TestInUse(t *testing.T) {
	onEach(t, func(w *world) {
		ceph, files, staging := &lender{}, &mem.Driver{}, &mem.Driver{}
		w.setup = func(c *image.Config) {
			c.Backend, c.Staging = nil, staging
			c.Stores = []image.Store{{ID: "ceph", Driver: ceph}, {ID: "files", Driver: files}}
		}
		w.s = w.service(w.engine)
		ctx := w.mine()
		id := w.create(ctx, "raw")
		require.NoError(w, w.s.Stage(ctx, id, bytes.NewReader(make([]byte, 600)), -1))
		_, err := w.s.Import(ctx, id, image.ImportRequest{Method: image.GlanceDirect, AllStores: true})
		require.NoError(w, err)
		require.Equal(w, image.Active, w.settled(id).Status)
		ceph.err = &nacre.Error{Kind: nacre.Conflict, Code: "InUse", Message: "two clones"}
		err = w.s.Delete(ctx, id)
		require.ErrorIs(w, err, nacre.Conflict)
		require.ErrorContains(w, err, "Image "+id+" could not be deleted because it is in use: two clones")
		err = w.s.DeleteFromStore(w.admin(), "ceph", id)
		require.ErrorIs(w, err, nacre.Conflict)
		require.ErrorContains(w, err, "The data for Image "+id)
		require.Equal(w, image.Active, w.get(id).Status)
		require.Equal(w, 2, keysOf(w, &ceph.Driver, files))
		require.NoError(w, w.s.DeleteFromStore(w.admin(), "files", id), "nobody holds on to that copy")

		// A store that does not answer is no reason to keep an image; its bytes go
		// when it does.
		ceph.err = &nacre.Error{Kind: nacre.Unavailable, Message: "away"}
		require.NoError(w, w.s.Delete(ctx, id))
		_, err = w.s.Get(ctx, id)
		require.ErrorIs(w, err, nacre.NotFound)
		ceph.err = nil
		w.clean()
		require.Zero(w, keysOf(w, &ceph.Driver, files))
	})
}
