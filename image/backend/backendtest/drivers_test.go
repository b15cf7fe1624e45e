package backendtest_test

import (
	"context"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/image/backend"
	"github.com/nacre-cloud/nacre/image/backend/backendtest"
	"github.com/nacre-cloud/nacre/image/backend/file"
	"github.com/nacre-cloud/nacre/image/backend/mem"
	"github.com/nacre-cloud/nacre/image/backend/object"
	"github.com/nacre-cloud/nacre/image/backend/s3"
	"github.com/nacre-cloud/nacre/objectstore"
	objectapi "github.com/nacre-cloud/nacre/objectstore/api"
	blobmem "github.com/nacre-cloud/nacre/objectstore/blob/mem"
	"github.com/nacre-cloud/nacre/objectstore/s3api"
	"github.com/nacre-cloud/nacre/store/memstore"
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

// objects is our own object store, by S3's API and by Swift's.
type objectKeys struct{ c *nacre.Caller }

func (k objectKeys) Key(_ context.Context, access string) (string, *nacre.Caller, error) {
	if access != "access" {
		return "", nil, nacre.Errorf(nacre.NotFound, "", "no such key")
	}
	return "secret", k.c, nil
}

func (k objectKeys) ValidateToken(context.Context, string) (*nacre.Caller, error) { return k.c, nil }

func objectStore(t *testing.T) string {
	e := memstore.New(memstore.Options{})
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	require.NoError(t, e.Migrate(t.Context(), objectstore.Schema(), true))
	s, err := objectstore.New(objectstore.Config{Engine: e, Blobs: &blobmem.Store{}})
	require.NoError(t, err)
	k := objectKeys{&nacre.Caller{UserID: "u", ProjectID: "p", Roles: []string{"admin", "member"}}}
	srv := httptest.NewServer(objectapi.New(objectapi.Config{Service: s, Tokens: k, S3: s3api.New(s3api.Config{Service: s, Keys: k})}))
	t.Cleanup(srv.Close)
	return srv.URL
}

func TestS3(t *testing.T) {
	backendtest.Run(t, func(t *testing.T) backend.Driver {
		d, err := s3.New(s3.Options{CreateBucket: true, Endpoint: strings.TrimPrefix(objectStore(t), "http://"), Bucket: "images", Prefix: "im/", AccessKey: "access", SecretKey: "secret", PartSize: 5 << 20})
		require.NoError(t, err)
		return d
	})
}

func TestObject(t *testing.T) {
	backendtest.Run(t, func(t *testing.T) backend.Driver {
		p := &gophercloud.ProviderClient{TokenID: "t"}
		c := &gophercloud.ServiceClient{ProviderClient: p, Endpoint: objectStore(t) + "/v1/AUTH_p/"}
		return object.New(func(context.Context) (*gophercloud.ServiceClient, error) { return c, nil }, object.Options{SegmentSize: 1 << 20, CreateContainer: true})
	})
}
