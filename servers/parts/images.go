package parts

import (
	"context"

	"github.com/nacre-cloud/nacre/image/backend"
	"github.com/nacre-cloud/nacre/image/backend/file"
	"github.com/nacre-cloud/nacre/image/backend/object"
	"github.com/nacre-cloud/nacre/image/backend/rbd"
	"github.com/nacre-cloud/nacre/image/backend/s3"
	"github.com/nacre-cloud/nacre/servers"
)

func fileImages(_ context.Context, s servers.ImageStore) (backend.Driver, error) {
	return file.FromSettings(s.Dir, s.Decode)
}

func s3Images(_ context.Context, s servers.ImageStore) (backend.Driver, error) {
	return s3.FromSettings(s.Decode)
}

func swiftImages(_ context.Context, s servers.ImageStore) (backend.Driver, error) {
	return object.FromSettings(s.Name, s.Decode)
}

func rbdImages(_ context.Context, s servers.ImageStore) (backend.Driver, error) {
	return rbd.FromSettings(s.Decode)
}
