//go:build !ceph || !cgo

package rados

import (
	"context"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/objectstore/blob"
)

// Store is not in this build.
type Store struct{ blob.Store }

// Open fails in this build: it was made without Ceph.
func Open(context.Context, Options) (*Store, error) {
	return nil, nacre.Errorf(nacre.NotImplemented, "ceph", `This program was built without Ceph; build it with cgo and -tags "ceph pacific".`)
}
