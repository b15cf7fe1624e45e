package image

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/image/backend"
	"github.com/nacre-cloud/nacre/internal/reconcile"
	"github.com/nacre-cloud/nacre/store"
)

// CacheOptions configure the image cache: copies of images in a driver that is
// nearer than their stores.
type CacheOptions struct {
	// Driver keeps the copies; nil uses the default store's.
	Driver backend.Driver
	// MaxSize in bytes is what prune brings the cache down to; 0 means 10 GiB,
	// glance's image_cache_max_size.
	MaxSize int64
	// OnDownload has each image cached that is downloaded, not only those that an
	// administrator asks for.
	OnDownload bool
}

// Cached is an image in the cache, or queued for it.
type Cached struct {
	// ID is the image's.
	ID string `store:"id,pk"`
	// Whole says that the copy is there; until then the image is queued.
	Whole    bool      `store:"whole"`
	Key      string    `store:"blob_key"`
	Size     int64     `store:"size"`
	Hits     int64     `store:"hits"`
	Accessed time.Time `store:"accessed_at"`
	Modified time.Time `store:"modified_at"`
}

const (
	kindCache  = "cache"
	cacheStore = "os_glance_cache"
)

func (s *Service) cacheDriver() backend.Driver {
	if s.c.Cache.Driver != nil {
		return s.c.Cache.Driver
	}
	return s.c.Stores[0].Driver
}

// cacheMay enforces a rule of the cache; the image may be gone.
func (s *Service) cacheMay(ctx context.Context, rule string) error {
	if _, err := s.caller(ctx); err != nil {
		return err
	}
	return s.enforce(ctx, rule, &Image{})
}

// CacheState lists what is in the cache and what is queued for it.
func (s *Service) CacheState(ctx context.Context) (cached []Cached, queued []string, err error) {
	if err := s.cacheMay(ctx, "cache_list"); err != nil {
		return nil, nil, err
	}
	rows, err := s.cached.Select(ctx, store.Select{Order: []store.Order{{Column: "modified_at"}}})
	if err != nil {
		return nil, nil, err
	}
	queued = []string{}
	for _, c := range rows {
		if c.Whole {
			cached = append(cached, c)
		} else {
			queued = append(queued, c.ID)
		}
	}
	return cached, queued, nil
}

// CacheImage queues an active image for the cache.
func (s *Service) CacheImage(ctx context.Context, id string) error {
	im, err := s.get(ctx, id)
	if nacre.KindOf(err) == nacre.NotFound && err != nil {
		return nacre.Errorf(nacre.NotFound, "", "Image %s not found.", id)
	}
	if err != nil {
		return err
	}
	if err := s.enforce(ctx, "cache_image", &im); err != nil {
		return err
	}
	if im.Status != Active {
		return invalid("Only images with status active can be targeted for queueing")
	}
	return s.queueCache(ctx, id)
}

func (s *Service) queueCache(ctx context.Context, id string) error {
	err := store.InTx(ctx, s.c.Engine, func(ctx context.Context) error {
		im, err := s.images.GetForUpdate(ctx, id)
		if err != nil || im.Status != Active {
			return err
		}
		if have, err := s.cached.Exists(ctx, store.Eq("id", id)); err != nil || have {
			return err
		}
		now := time.Now().UTC()
		if err := s.cached.Insert(ctx, Cached{ID: id, Accessed: now, Modified: now}); err != nil {
			return err
		}
		// Glance's prefetcher looks now and then: who queues an image finds it in the queue.
		return s.work.Put(ctx, kindCache, id, reconcile.Begin{Step: "copy", After: time.Second, Within: 24 * time.Hour})
	})
	if store.IsDuplicate(err) {
		return nil // somebody else has queued it
	}
	return err
}

// UncacheImage removes an image from the cache, or from its queue.
func (s *Service) UncacheImage(ctx context.Context, id string) error {
	if err := s.cacheMay(ctx, "cache_delete"); err != nil {
		return err
	}
	if _, err := s.get(ctx, id); err != nil {
		have, herr := s.cached.Exists(ctx, store.Eq("id", id))
		if herr != nil {
			return herr
		}
		if !have {
			return nacre.Errorf(nacre.NotFound, "", "Image %s not found.", id)
		}
	}
	return store.InTx(ctx, s.c.Engine, func(ctx context.Context) error { return s.uncache(ctx, id) })
}

// uncache removes an image from the cache in the context's transaction.
func (s *Service) uncache(ctx context.Context, id string) error {
	c, err := s.cached.Get(ctx, id)
	if errors.Is(err, store.ErrNoRow) {
		return nil
	}
	if err != nil {
		return err
	}
	b := reconcile.Begin{}
	if !c.Whole {
		b.After = s.c.UploadTimeout
	}
	if err := s.discard(ctx, cacheStore, c.Key, b); err != nil {
		return err
	}
	if err := s.work.Drop(ctx, kindCache, id); err != nil {
		return err
	}
	_, err = s.cached.DeleteWhere(ctx, store.Eq("id", id))
	return err
}

// ClearCache empties the cache, its queue, or both; it counts what went.
func (s *Service) ClearCache(ctx context.Context, whole, queue bool) (cached, queued int, err error) {
	if err := s.cacheMay(ctx, "cache_delete"); err != nil {
		return 0, 0, err
	}
	rows, err := s.cached.Where(ctx)
	if err != nil {
		return 0, 0, err
	}
	for _, c := range rows {
		if c.Whole && !whole || !c.Whole && !queue {
			continue
		}
		if err := store.InTx(ctx, s.c.Engine, func(ctx context.Context) error { return s.uncache(ctx, c.ID) }); err != nil {
			return cached, queued, err
		}
		if c.Whole {
			cached++
		} else {
			queued++
		}
	}
	return cached, queued, nil
}

// CleanCache removes what is of no use: copies of images that are no longer
// active, and queued ones that nothing works on.
func (s *Service) CleanCache(ctx context.Context) error {
	if err := s.cacheMay(ctx, "cache_clean"); err != nil {
		return err
	}
	rows, err := s.cached.Where(ctx)
	if err != nil {
		return err
	}
	for _, c := range rows {
		im, err := s.images.Get(ctx, c.ID)
		if err != nil && !errors.Is(err, store.ErrNoRow) {
			return err
		}
		_, busy, werr := s.work.Pending(ctx, kindCache, c.ID)
		if werr != nil {
			return werr
		}
		if err == nil && (im.Status == Active || im.Status == Deactivated) && (c.Whole || busy) {
			continue
		}
		if err := store.InTx(ctx, s.c.Engine, func(ctx context.Context) error { return s.uncache(ctx, c.ID) }); err != nil {
			return err
		}
	}
	return nil
}

// PruneCache removes the copies that were not used for longest until the cache is
// within its size.
func (s *Service) PruneCache(ctx context.Context) (files, bytes int64, err error) {
	if err := s.cacheMay(ctx, "cache_prune"); err != nil {
		return 0, 0, err
	}
	rows, err := s.cached.Where(ctx, store.Eq("whole", true))
	if err != nil {
		return 0, 0, err
	}
	slices.SortFunc(rows, func(a, b Cached) int { return a.Accessed.Compare(b.Accessed) })
	var sum int64
	for _, c := range rows {
		sum += c.Size
	}
	for _, c := range rows {
		if sum <= s.c.Cache.MaxSize {
			break
		}
		if err := store.InTx(ctx, s.c.Engine, func(ctx context.Context) error { return s.uncache(ctx, c.ID) }); err != nil {
			return files, bytes, err
		}
		sum, files, bytes = sum-c.Size, files+1, bytes+c.Size
	}
	return files, bytes, nil
}

// fromCache opens an image's copy, nil when there is none that can be read. The
// caller's right to the image has been checked.
func (s *Service) fromCache(ctx context.Context, im *Image) *Content {
	c, err := s.cached.Get(ctx, im.ID)
	if err != nil || !c.Whole {
		return nil
	}
	r, size, err := s.cacheDriver().Open(ctx, c.Key)
	if err != nil || im.HasSize && size != im.Size {
		if err == nil {
			_ = r.Close()
		}
		s.log.Warn("a cached copy can't be used", "image", im.ID, "error", err)
		return nil
	}
	if _, err := s.cached.UpdateWhere(ctx, store.Eq("id", im.ID), store.Set{"hits": store.Increment(1), "accessed_at": time.Now().UTC()}); err != nil {
		s.log.Warn("counting a cache hit", "image", im.ID, "error", err)
	}
	return &Content{r, size, ""}
}

// seen is told of an image that was read from its store.
func (s *Service) seen(ctx context.Context, im *Image) {
	if !s.c.Cache.OnDownload {
		return
	}
	if err := s.queueCache(ctx, im.ID); err != nil {
		s.log.Warn("queueing an image for the cache", "image", im.ID, "error", err)
	}
}

func (s *Service) cacheHandler() reconcile.Handler {
	return reconcile.Handler{
		Steps: map[string]reconcile.Step{"copy": s.stepCache},
		Expire: func(ctx context.Context, j *reconcile.Job, _ error) error {
			return j.Tx(ctx, func(ctx context.Context) error {
				c, err := s.cached.Get(ctx, j.ObjectID)
				if errors.Is(err, store.ErrNoRow) {
					return nil
				}
				if err != nil {
					return err
				}
				if err := s.discard(ctx, cacheStore, c.Key, reconcile.Begin{After: s.c.UploadTimeout}); err != nil {
					return err
				}
				_, err = s.cached.DeleteWhere(ctx, store.Eq("id", j.ObjectID))
				return err
			})
		},
	}
}

// stepCache copies an image into the cache.
func (s *Service) stepCache(ctx context.Context, j *reconcile.Job) (reconcile.Next, error) {
	im, err := s.images.Get(ctx, j.ObjectID)
	if errors.Is(err, store.ErrNoRow) || err == nil && im.Status != Active {
		return reconcile.Next{}, reconcile.Fail(errors.New("the image is not active any more"))
	}
	if err != nil {
		return reconcile.Next{}, err
	}
	key := s.c.IDs.NewID()
	s.mu.Lock()
	s.uploading[key] = true
	s.mu.Unlock()
	defer s.forget(key)
	if err := j.Tx(ctx, func(ctx context.Context) error {
		_, err := s.cached.Update(ctx, im.ID, func(c *Cached) error {
			if err := s.discard(ctx, cacheStore, c.Key, reconcile.Begin{After: s.c.UploadTimeout}); err != nil {
				return err
			}
			c.Key, c.Modified = key, time.Now().UTC()
			return nil
		})
		return err
	}); err != nil {
		return reconcile.Next{}, err
	}
	body, err := s.openAny(ctx, &im, nil)
	if err != nil {
		return reconcile.Next{}, err
	}
	defer body.Close() //nolint:errcheck // read only
	in := s.newIntake(im.ID, key, body, s.c.MaxSize, store.Eq("id", im.ID))
	in.inspect = nil
	size := im.Size
	if !im.HasSize {
		size = -1
	}
	got, err := s.receive(ctx, in, s.cacheDriver(), size)
	if err != nil {
		return reconcile.Next{}, err
	}
	if im.HashAlgo == "sha512" && im.HashValue != got.hashed {
		return reconcile.Next{}, reconcile.Fail(errors.New("the copy does not have the image's hash"))
	}
	return j.Commit(ctx, reconcile.Done(), func(ctx context.Context) error {
		_, err := s.cached.Update(ctx, im.ID, func(c *Cached) error {
			if c.Key != key {
				return reconcile.ErrLost
			}
			c.Whole, c.Size, c.Modified = true, got.size, time.Now().UTC()
			return nil
		})
		return err
	})
}
