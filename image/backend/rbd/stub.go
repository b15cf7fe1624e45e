//go:build !ceph || !cgo

package rbd

import (
	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/image/backend"
)

// Driver is not in this build.
type Driver struct{ backend.Driver }

// New fails in this build: it was made without Ceph.
func New(Options) (*Driver, error) {
	return nil, nacre.Errorf(nacre.NotImplemented, "ceph", `This program was built without Ceph; build it with cgo and -tags "ceph pacific".`)
}

// Close does nothing in this build.
func (*Driver) Close() error { return nil }
