package image

import (
	"context"
	"errors"
	"io"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/image/backend"
	"github.com/nacre-cloud/nacre/internal/diskimage"
	"github.com/nacre-cloud/nacre/internal/reconcile"
	"github.com/nacre-cloud/nacre/store"
)

// Upload stores an image's bytes in the default store. It streams, inspects while
// it does, and makes the image active only when all bytes are durable; otherwise
// the image is queued again and nothing is left. size is how many bytes are
// announced, or -1; other than that many are an error.
func (s *Service) Upload(ctx context.Context, id string, r io.Reader, size int64) (Image, error) {
	return s.UploadTo(ctx, id, "", r, size)
}

// UploadTo is Upload to a store of choice ("" is the default one).
func (s *Service) UploadTo(ctx context.Context, id, storeID string, r io.Reader, size int64) (Image, error) {
	if err := store.Outside(ctx); err != nil {
		return Image{}, err
	}
	st, err := s.target(storeID)
	if err != nil {
		return Image{}, err
	}
	im, err := s.forChange(ctx, id, "upload_image")
	if err != nil {
		return im, err
	}
	if err := formatsSet(&im); err != nil {
		return im, err
	}
	verify, err := s.verifier(ctx, &im)
	if err != nil {
		return im, err
	}
	key := s.c.IDs.NewID()
	left, err := s.beginData(ctx, id, Saving, st.ID, key, size)
	if err != nil {
		return im, err
	}
	defer s.forget(key)
	in := s.newIntake(id, key, r, left, store.And(store.Eq("id", id), store.Eq("status", Saving), store.Eq("blob_key", key)))
	in.check(verify)
	got, err := s.receive(ctx, in, st.Driver, size)
	if err == nil {
		err = s.matches(&im, got.info)
	}
	if err == nil {
		im, err = s.activate(ctx, id, st.ID, key, got)
	}
	if err != nil {
		s.undo(ctx, id, st.ID, key, Saving)
	}
	return im, err
}

func formatsSet(im *Image) error {
	var missing []string
	if im.DiskFormat == "" {
		missing = append(missing, "disk_format")
	}
	if im.ContainerFormat == "" {
		missing = append(missing, "container_format")
	}
	switch len(missing) {
	case 0:
		return nil
	case 1:
		return nacre.Errorf(nacre.Invalid, "", "Property %s must be set prior to saving data.", missing[0])
	}
	return nacre.Errorf(nacre.Invalid, "", "Properties %s must be set prior to saving data.", strings.Join(missing, ", "))
}

// beginData takes an image from queued to saving or uploading, notes the key that
// will be written with the work that would remove it, and counts the quota. It
// returns how many bytes may come.
func (s *Service) beginData(ctx context.Context, id, status, storeID, key string, size int64) (left int64, err error) {
	s.mu.Lock()
	s.uploading[key] = true
	s.mu.Unlock()
	err = s.withLimits(ctx, id, func(ctx context.Context, limits map[string]int64, im *Image) error {
		if im.Status != Queued {
			return nacre.Errorf(nacre.Conflict, "", "Image status transition from %s to %s is not allowed", im.Status, status)
		}
		if im.ImportTask != "" {
			return nacre.Errorf(nacre.Conflict, "", "Image has active task")
		}
		var err error
		if left, err = s.room(ctx, limits, im, status, size); err != nil {
			return err
		}
		im.Status, im.BlobStore, im.BlobKey, im.Staged, im.Heartbeat = status, storeID, key, false, time.Now().UTC()
		im.Reserved = max(size, 0)
		if err := s.work.Put(ctx, kindBlob, key, reconcile.Begin{Step: "watch", After: s.c.UploadTimeout, Data: blobData{Image: id, Store: storeID}}); err != nil {
			return err
		}
		return s.events.Emit(ctx, "image.prepare", im.ID, im.OwnerID, eventOf(im))
	})
	if err != nil {
		s.forget(key)
	}
	return left, err
}

func (s *Service) forget(key string) {
	s.mu.Lock()
	delete(s.uploading, key)
	s.mu.Unlock()
}

// received is what came in.
type received struct {
	size             int64
	info             diskimage.Info
	checksum, hashed string
}

// receive streams the bytes into a driver.
func (s *Service) receive(ctx context.Context, in *intake, d backend.Driver, size int64) (received, error) {
	in.ctx = ctx
	defer in.sums.stop()
	n, err := d.Put(ctx, in.key, in)
	if in.refused != nil {
		return received{}, in.refused
	}
	if err != nil {
		return received{}, err
	}
	if size >= 0 && n != size {
		return received{}, nacre.Errorf(nacre.Invalid, "", "The size of the data is %d bytes, %d were announced.", n, size)
	}
	out := received{size: n}
	if in.inspect != nil {
		if out.info, err = in.inspect.Finish(); err != nil {
			return out, err
		}
	}
	out.checksum, out.hashed = in.sums.sum()
	if in.verify != nil {
		if err := in.verify.check(); err != nil {
			return out, err
		}
	}
	return out, nil
}

// activate settles an upload.
func (s *Service) activate(ctx context.Context, id, storeID, key string, got received) (Image, error) {
	var out Image
	err := s.withLimits(ctx, id, func(ctx context.Context, limits map[string]int64, im *Image) error {
		if im.Status != Saving || im.BlobKey != key {
			return nacre.Errorf(nacre.Conflict, "", "Image %s is no longer being saved", id)
		}
		im.Reserved = 0
		if _, err := s.room(ctx, limits, im, saved, got.size); err != nil {
			return err
		}
		im.Locations = []Location{{Store: storeID, Key: key}}
		im.BlobKey, im.BlobStore, im.Staged = "", "", false
		s.settle(im, got)
		out = *im
		if err := s.work.Drop(ctx, kindBlob, key); err != nil {
			return err
		}
		return s.events.Emit(ctx, "image.upload", im.ID, im.OwnerID, eventOf(im))
	})
	if nacre.KindOf(err) == nacre.NotFound {
		err = gone(id)
	}
	return out, err
}

// settle makes an image active with what it now has.
func (s *Service) settle(im *Image, got received) {
	im.Status, im.Size, im.HasSize, im.Reserved = Active, got.size, true, 0
	if im.ContainerFormat == "bare" {
		im.VirtualSize = got.info.DiskSize(im.DiskFormat)
	}
	im.Checksum, im.HashAlgo, im.HashValue, im.Updated = got.checksum, "sha512", got.hashed, time.Now().UTC()
}

func gone(id string) error {
	return nacre.Errorf(nacre.NotFound, "ImageGone", "Image %s could not be found after upload. The image may have been deleted during the upload, cleaning up the chunks uploaded.", id)
}

// matches holds the declared format against what the bytes are.
func (s *Service) matches(im *Image, info diskimage.Info) error {
	if im.ContainerFormat != "bare" || s.c.AnyFormat {
		return nil
	}
	return info.Match(im.DiskFormat)
}

// undo brings an image back to queued and removes the bytes, unless the image has
// become active after all: a commit may succeed and its caller not learn of it.
// What it can't do now the work that watches the key does.
func (s *Service) undo(ctx context.Context, id, storeID, key, status string) {
	ctx, cancel := context.WithTimeout(store.Detach(ctx), 30*time.Second)
	defer cancel()
	if err := s.undoData(ctx, id, storeID, key, status); err != nil {
		s.log.Error("undoing an upload", "image", id, "error", err)
	}
}

func (s *Service) undoData(ctx context.Context, id, storeID, key, status string) error {
	kept := false
	if err := store.InTx(ctx, s.c.Engine, func(ctx context.Context) error {
		kept = false
		_, err := s.images.Update(ctx, id, func(im *Image) error {
			kept = im.uses(key) && !(im.Status == status && im.BlobKey == key && !im.Staged)
			if !kept && im.BlobKey == key {
				im.empty()
				im.Updated = time.Now().UTC()
			}
			return nil
		})
		if errors.Is(err, store.ErrNoRow) {
			return nil
		}
		return err
	}); err != nil || kept {
		return err
	}
	d, err := s.driver(storeID)
	if err != nil {
		return err
	}
	if err := d.Delete(ctx, key); err != nil {
		return err
	}
	return store.InTx(ctx, s.c.Engine, func(ctx context.Context) error { return s.work.Drop(ctx, kindBlob, key) })
}

// uses reports whether the image has a blob under the key.
func (im *Image) uses(key string) bool {
	return im.BlobKey == key || slices.ContainsFunc(im.Locations, func(l Location) bool { return l.Key == key })
}

// Content is an image's bytes, to be read and closed.
type Content struct {
	io.ReadCloser
	// Size in bytes, -1 where nobody knows it.
	Size int64
	// Store is where they come from, "" for the cache.
	Store string
}

// Open reads an active image's bytes, from one of the preferred stores if the
// image is in one. A queued image has none: ok is false.
func (s *Service) Open(ctx context.Context, id string, prefer ...string) (im Image, c *Content, ok bool, err error) {
	if err := store.Outside(ctx); err != nil {
		return im, nil, false, err
	}
	if im, err = s.get(ctx, id); err != nil {
		return im, nil, false, err
	}
	// The policy is asked before the cache, and for each request.
	if err := s.enforce(ctx, "download_image", &im); err != nil {
		return im, nil, false, err
	}
	if im.Status == Deactivated && !s.isAdmin(ctx) {
		return im, nil, false, nacre.Errorf(nacre.Forbidden, "", "The requested image has been deactivated. Image data download is forbidden.")
	}
	if len(prefer) > 0 {
		if err := s.enforce(ctx, "download_from_store", &im); err != nil {
			return im, nil, false, err
		}
		for _, p := range prefer {
			if s.stores[p] == nil {
				return im, nil, false, nacre.Errorf(nacre.Invalid, "", "Store '%s' is not configured.", p)
			}
		}
	}
	if im.Status != Active && im.Status != Deactivated || len(im.Locations) == 0 {
		return im, nil, false, nil
	}
	if len(prefer) == 0 {
		if c := s.fromCache(ctx, &im); c != nil {
			return im, c, true, nil
		}
	}
	c, err = s.openAny(ctx, &im, prefer)
	if err == nil {
		s.seen(ctx, &im)
	}
	return im, c, err == nil, err
}

// openAny reads the first copy of an image that can be read.
func (s *Service) openAny(ctx context.Context, im *Image, prefer []string) (*Content, error) {
	locations := slices.Clone(im.Locations)
	rank := func(l Location) int {
		if i := slices.Index(prefer, l.Store); i >= 0 {
			return i - len(prefer) - 1<<20
		}
		if st := s.stores[l.Store]; st != nil {
			return -st.Weight
		}
		return 0
	}
	sort.SliceStable(locations, func(i, k int) bool { return rank(locations[i]) < rank(locations[k]) })
	var errs []error
	for _, l := range locations {
		c, err := s.openLocation(ctx, l)
		if err == nil {
			return c, nil
		}
		errs = append(errs, err)
		s.log.Warn("a copy of an image can't be read", "image", im.ID, "store", l.Store, "error", err)
	}
	return nil, errors.Join(errs...)
}

func (s *Service) openLocation(ctx context.Context, l Location) (*Content, error) {
	d, err := s.driver(l.Store)
	if err != nil {
		return nil, err
	}
	if l.URL != "" {
		r, ok := d.(backend.Remote)
		if !ok {
			return nil, errors.New("image: the store does not read URLs")
		}
		body, size, err := r.OpenURL(ctx, l.URL)
		if err != nil {
			return nil, err
		}
		return &Content{body, size, l.Store}, nil
	}
	body, size, err := d.Open(ctx, l.Key)
	if err != nil {
		return nil, err
	}
	return &Content{body, size, l.Store}, nil
}

const kindBlob = "blob"

// blobData is what the work over a blob remembers.
type blobData struct {
	Image string `json:"image,omitempty"`
	Store string `json:"store,omitempty"`
	// Task is set for what an import writes.
	Task string `json:"task,omitempty"`
}

// blobHandler stands for bytes: those that are being written are watched, those of
// no image are removed.
func (s *Service) blobHandler() reconcile.Handler {
	return reconcile.Handler{
		Steps: map[string]reconcile.Step{"watch": s.stepWatch, "remove": s.stepRemove},
		Expire: func(ctx context.Context, j *reconcile.Job, _ error) error {
			return s.remove(ctx, j)
		},
	}
}

// wakeWatches makes the watches over bytes due now.
func (s *Service) wakeWatches(ctx context.Context) error {
	works, err := s.work.All(ctx)
	if err != nil {
		return err
	}
	for _, w := range works {
		if w.Kind != kindBlob || w.Step != "watch" {
			continue
		}
		if err := s.work.Wake(ctx, kindBlob, w.ObjectID); err != nil {
			return err
		}
	}
	return nil
}

// stepWatch looks whether bytes still come; what died with its process gives its
// image back.
func (s *Service) stepWatch(ctx context.Context, j *reconcile.Job) (reconcile.Next, error) {
	s.mu.Lock()
	ours := s.uploading[j.ObjectID]
	s.mu.Unlock()
	if ours {
		return reconcile.Again(s.c.UploadTimeout), nil
	}
	var d blobData
	if err := j.Decode(&d); err != nil {
		return reconcile.Next{}, err
	}
	im, err := s.images.Get(ctx, d.Image)
	if err != nil && !errors.Is(err, store.ErrNoRow) {
		return reconcile.Next{}, err
	}
	here := err == nil
	// Alone, what is not ours is dead at once.
	moving := here && !s.c.Alone && time.Since(im.Heartbeat) < s.c.UploadTimeout
	switch {
	case !here:
	case im.uses(j.ObjectID) && (im.BlobKey != j.ObjectID || im.Staged):
		return reconcile.Done(), nil
	case moving && im.BlobKey == j.ObjectID:
		return reconcile.Again(s.c.UploadTimeout / 4), nil
	case moving && d.Task != "" && im.ImportTask == d.Task:
		return reconcile.Again(s.c.UploadTimeout / 4), nil
	}
	return j.Commit(ctx, reconcile.Goto("remove"), func(ctx context.Context) error {
		if d.Task != "" {
			return nil // its import settles the image
		}
		_, err := s.images.Update(ctx, d.Image, func(im *Image) error {
			if (im.Status == Saving || im.Status == Uploading) && im.BlobKey == j.ObjectID && !im.Staged {
				im.empty()
			}
			return nil
		})
		if errors.Is(err, store.ErrNoRow) {
			return nil
		}
		return err
	})
}

func (s *Service) stepRemove(ctx context.Context, j *reconcile.Job) (reconcile.Next, error) {
	s.mu.Lock()
	ours := s.uploading[j.ObjectID]
	s.mu.Unlock()
	if ours {
		// What is still being written would come back.
		return reconcile.Again(time.Second), nil
	}
	return reconcile.Done(), s.remove(ctx, j)
}

func (s *Service) remove(ctx context.Context, j *reconcile.Job) error {
	var b blobData
	if err := j.Decode(&b); err != nil {
		return err
	}
	d, err := s.driver(b.Store)
	if err != nil {
		return err
	}
	return d.Delete(ctx, j.ObjectID)
}
