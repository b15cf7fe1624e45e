package image

import (
	"context"
	"io"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/store"
)

// Stage takes an image's bytes to be imported later. The image is uploading from
// then on; bytes that break off leave it queued with nothing.
func (s *Service) Stage(ctx context.Context, id string, r io.Reader, size int64) error {
	if err := store.Outside(ctx); err != nil {
		return err
	}
	if _, err := s.forChange(ctx, id, "modify_image"); err != nil {
		return err
	}
	key := s.c.IDs.NewID()
	left, err := s.beginData(ctx, id, Uploading, stagingStore, key, size)
	if err != nil {
		return err
	}
	defer s.forget(key)
	in := s.newIntake(id, key, r, left, store.And(store.Eq("id", id), store.Eq("status", Uploading), store.Eq("blob_key", key)))
	in.inspect = nil // what is staged may still be unpacked; the import inspects
	got, err := s.receive(ctx, in, s.c.Staging, size)
	if err == nil {
		err = s.withLimits(ctx, id, func(ctx context.Context, limits map[string]int64, im *Image) error {
			if im.Status != Uploading || im.BlobKey != key {
				return conflict("Image %s is no longer being staged", id)
			}
			if _, err := s.room(ctx, limits, im, Uploading, got.size); err != nil {
				return err
			}
			im.Staged, im.Size, im.HasSize, im.Reserved, im.Updated = true, got.size, true, 0, time.Now().UTC()
			if err := s.work.Drop(ctx, kindBlob, key); err != nil {
				return err
			}
			return s.events.Emit(ctx, "image.stage", im.ID, im.OwnerID, eventOf(im))
		})
		if nacre.KindOf(err) == nacre.NotFound {
			err = gone(id)
		}
	}
	if err != nil {
		s.undo(ctx, id, stagingStore, key, Uploading)
	}
	return err
}
