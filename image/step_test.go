package image_test

import (
	"bytes"
	"io"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/image"
	"github.com/nacre-cloud/nacre/image/backend/mem"
	"github.com/nacre-cloud/nacre/store"
	"github.com/nacre-cloud/nacre/store/bunstore"
	"github.com/nacre-cloud/nacre/store/memstore"
)

// imageV0 is an image as the first release kept it: in the one store there was,
// under its row's own key.
type imageV0 struct {
	ID              string            `store:"id,pk"`
	Name            string            `store:"name,index=image_name"`
	OwnerID         string            `store:"owner,index=image_owner"`
	Status          string            `store:"status"`
	Visibility      string            `store:"visibility,index=image_visibility"`
	Protected       bool              `store:"protected"`
	Hidden          bool              `store:"os_hidden"`
	ContainerFormat string            `store:"container_format"`
	DiskFormat      string            `store:"disk_format"`
	Tags            []string          `store:"tags,json"`
	MinDisk         int               `store:"min_disk"`
	MinRAM          int               `store:"min_ram"`
	Size            int64             `store:"size"`
	HasSize         bool              `store:"has_size"`
	VirtualSize     int64             `store:"virtual_size"`
	Checksum        string            `store:"checksum"`
	HashAlgo        string            `store:"os_hash_algo"`
	HashValue       string            `store:"os_hash_value"`
	Properties      map[string]string `store:"properties,json"`
	BlobKey         string            `store:"blob_key"`
	Heartbeat       time.Time         `store:"heartbeat"`
	Created         time.Time         `store:"created_at,index=image_created"`
	Updated         time.Time         `store:"updated_at"`
}

// TestStepFromV0 brings a database of the first release forward: its images are
// where they were, and can be read and deleted.
func TestStepFromV0(t *testing.T) {
	sqlite, err := bunstore.OpenSQLite(filepath.Join(t.TempDir(), "image.db"), bunstore.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, sqlite.Close()) })
	for name, e := range map[string]store.Engine{"memstore": memstore.New(memstore.Options{}), "sqlite": sqlite} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			now := image.Schema()
			old := *now
			old.Version, old.Steps = 0, nil
			old.Tables = slices.Clone(now.Tables)
			for i, def := range old.Tables {
				if def.Name == "image" {
					old.Tables[i] = store.Define[imageV0]("image")
				}
			}
			require.NoError(t, e.Migrate(ctx, &old, true))
			bytesOf := &mem.Driver{}
			_, err := bytesOf.Put(ctx, "key-1", bytes.NewReader([]byte("old bytes")))
			require.NoError(t, err)
			require.NoError(t, store.NewTable[imageV0](e, "image").Insert(ctx,
				imageV0{ID: "i1", Name: "old", OwnerID: "p", Status: image.Active, Visibility: "private", ContainerFormat: "bare", DiskFormat: "raw", Size: 9, HasSize: true, BlobKey: "key-1", Created: time.Now(), Updated: time.Now()},
				imageV0{ID: "i2", Name: "empty", OwnerID: "p", Status: image.Queued, Visibility: "private", Created: time.Now(), Updated: time.Now()}))
			require.NoError(t, e.Migrate(ctx, now, true))
			require.NoError(t, e.Migrate(ctx, now, false))

			svc, err := image.New(image.Config{Engine: e, Backend: bytesOf})
			require.NoError(t, err)
			me := nacre.WithCaller(ctx, &nacre.Caller{UserID: "u", ProjectID: "p", Roles: []string{"member", "reader"}})
			_, c, ok, err := svc.Open(me, "i1")
			require.NoError(t, err)
			require.True(t, ok)
			got, err := io.ReadAll(c)
			require.NoError(t, err)
			require.NoError(t, c.Close())
			require.Equal(t, "old bytes", string(got))
			im, err := svc.Get(me, "i2")
			require.NoError(t, err)
			require.Empty(t, im.Locations)
			require.NoError(t, svc.Delete(me, "i1"))
		})
	}
}
