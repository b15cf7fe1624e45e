//go:build ceph && cgo

package rbd

import (
	"context"
	"errors"
	"fmt"

	"github.com/ceph/go-ceph/rbd"

	"github.com/nacre-cloud/nacre/image/backend"
)

var _ backend.Lender = (*Driver)(nil)

// InUse implements backend.Lender: clones, and snapshots that others made, hold on to
// an image.
func (d *Driver) InUse(ctx context.Context, key string) error {
	if !keyRE.MatchString(key) {
		return fmt.Errorf("bad key %q", key)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	image, err := rbd.OpenImageReadOnly(d.io, key, rbd.NoSnapshot)
	if missing(err) {
		return nil
	}
	if err != nil {
		return fault(err)
	}
	return fault(errors.Join(held(image, key), image.Close()))
}

func held(image *rbd.Image, key string) error {
	snaps, err := image.GetSnapshotNames()
	if err != nil {
		return err
	}
	for _, s := range snaps {
		if s.Name != snapshot {
			return inUse(key, fmt.Errorf("there is a snapshot %q", s.Name))
		}
	}
	if len(snaps) == 0 {
		return nil
	}
	return childless(image, key)
}
