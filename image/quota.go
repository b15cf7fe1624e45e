package image

import (
	"context"
	"errors"
	"maps"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/store"
)

// Glance's limited resources. Sizes are in MiB.
const (
	QuotaSize      = "image_size_total"
	QuotaStage     = "image_stage_total"
	QuotaCount     = "image_count_total"
	QuotaUploading = "image_count_uploading"
)

const mib = 1 << 20

// Usage is what a project has of a resource, and may have; -1 is no limit.
type Usage struct {
	Usage int64 `json:"usage"`
	Limit int64 `json:"limit"`
}

// limits asks the edge, outside any transaction.
func (s *Service) limits(ctx context.Context, project string) (map[string]int64, error) {
	if s.c.Limits == nil {
		return nil, nil
	}
	if err := store.Outside(ctx); err != nil {
		return nil, err
	}
	got, err := s.c.Limits.Limits(ctx, project)
	if err != nil {
		return nil, err
	}
	out := map[string]int64{}
	for _, name := range []string{QuotaSize, QuotaStage, QuotaCount, QuotaUploading} {
		if v, ok := got[name]; ok && v >= 0 {
			out[name] = v
		}
	}
	return out, nil
}

// withLimits changes an image in a transaction in which its owner's use can be
// counted: the project's lock is held.
func (s *Service) withLimits(ctx context.Context, id string, fn func(ctx context.Context, limits map[string]int64, im *Image) error) error {
	im, err := s.images.Get(ctx, id)
	if err != nil {
		return store.WrapNotFound(err, func() *nacre.Error { return notFound(id) })
	}
	limits, err := s.limits(ctx, im.OwnerID)
	if err != nil {
		return err
	}
	return store.InTx(ctx, s.c.Engine, func(ctx context.Context) error {
		if err := store.Lock(ctx, s.c.Engine, "quota/"+im.OwnerID); err != nil {
			return err
		}
		_, err := s.images.Update(ctx, id, func(im *Image) error { return fn(ctx, limits, im) })
		if errors.Is(err, store.ErrNoRow) {
			return notFound(id)
		}
		return err
	})
}

// used is what a project has, in the units of the limits; bytes is the exact sum
// of what it stores.
type used struct {
	size, stage, count, uploading, bytes int64
}

// used counts what a project has, but for one image ("" for none).
func (s *Service) used(ctx context.Context, project, but string) (used, error) {
	var u used
	rows, err := s.images.Select(ctx, store.Select{Where: store.Eq("owner", project)})
	if err != nil {
		return u, err
	}
	var stored, staged int64
	for i := range rows {
		im := &rows[i]
		if im.ID == but {
			continue
		}
		u.count++
		copies := int64(0)
		for _, l := range im.Locations {
			if l.Key != "" {
				copies++
			}
		}
		stored += im.Size * copies
		switch {
		case im.Status == Saving:
			u.uploading++
			stored += im.Reserved
		case im.Status == Uploading:
			u.uploading++
			staged += max(im.Size, im.Reserved)
		case im.Status == Importing || len(im.ImportingTo) > 0:
			u.uploading++
			staged += max(im.Size, im.Reserved)
		}
	}
	u.size, u.stage, u.bytes = stored/mib, staged/mib, stored+staged
	return u, nil
}

func over(project, resource string, limit, have, more int64) error {
	return nacre.Errorf(nacre.QuotaExceeded, "", "Project %s is over a limit for [Resource %s is over limit of %d due to current usage %d and delta %d]", project, resource, limit, have, more)
}

// room checks, under the project's lock, whether data for the image of size bytes (-1:
// unknown) may come, and how many bytes at most. status is what the image is about
// to be; saved stands for bytes that are here.
func (s *Service) room(ctx context.Context, limits map[string]int64, im *Image, status string, size int64) (int64, error) {
	left := s.c.MaxSize
	if size > left {
		return 0, nacre.Errorf(nacre.TooLarge, "", "The incoming image is too large: The provided image is too large: %d bytes of %d.", size, left)
	}
	if s.c.StorageQuota <= 0 && len(limits) == 0 {
		return left, nil
	}
	u, err := s.used(ctx, im.OwnerID, im.ID)
	if err != nil {
		return 0, err
	}
	known := max(size, 0)
	if q := s.c.StorageQuota; q > 0 {
		if free := q - u.bytes; free < known || free <= 0 {
			return 0, nacre.Errorf(nacre.TooLarge, "", "Image exceeds the storage quota: The size of the data %d will exceed the limit. %d bytes remaining.", known, max(free, 0))
		}
		left = min(left, q-u.bytes)
	}
	name, have := QuotaSize, u.size
	if status == Uploading {
		name, have = QuotaStage, u.stage
	}
	if limit, ok := limits[name]; ok {
		if more := (known + mib - 1) / mib; have+more > limit || have >= limit && size < 0 {
			return 0, over(im.OwnerID, name, limit, have, more)
		}
		left = min(left, (limit-have)*mib)
	}
	if limit, ok := limits[QuotaUploading]; ok && status != saved && u.uploading+1 > limit {
		return 0, over(im.OwnerID, QuotaUploading, limit, u.uploading, 1)
	}
	return left, nil
}

// saved is room's status for bytes that have come already.
const saved = Saving + "d"

// mayCreate checks the number of a project's images, under its lock.
func (s *Service) mayCreate(ctx context.Context, limits map[string]int64, project string) error {
	limit, ok := limits[QuotaCount]
	if !ok {
		return nil
	}
	n, err := s.images.Count(ctx, store.Eq("owner", project))
	if err != nil {
		return err
	}
	if n+1 > limit {
		return over(project, QuotaCount, limit, n, 1)
	}
	return nil
}

// UsageOf is what the caller's project uses and may use, by resource; nothing
// where no unified limits are configured.
func (s *Service) UsageOf(ctx context.Context) (map[string]Usage, error) {
	c, err := s.caller(ctx)
	if err != nil {
		return nil, err
	}
	out := map[string]Usage{}
	if s.c.Limits == nil {
		return out, nil
	}
	limits, err := s.limits(ctx, c.ProjectID)
	if err != nil {
		return nil, err
	}
	u, err := s.used(ctx, c.ProjectID, "")
	if err != nil {
		return nil, err
	}
	for name, have := range map[string]int64{QuotaSize: u.size, QuotaStage: u.stage, QuotaCount: u.count, QuotaUploading: u.uploading} {
		out[name] = Usage{Usage: have, Limit: -1}
		if l, ok := limits[name]; ok {
			out[name] = Usage{Usage: have, Limit: l}
		}
	}
	return out, nil
}

// FixedLimits is a Limits that gives every project the same.
type FixedLimits map[string]int64

// Limits implements the interface of that name.
func (f FixedLimits) Limits(context.Context, string) (map[string]int64, error) {
	return maps.Clone(f), nil
}
