package image

import (
	"context"
	"crypto/md5" //nolint:gosec // glance's checksum is MD5
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"sync"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/internal/diskimage"
	"github.com/nacre-cloud/nacre/internal/reconcile"
	"github.com/nacre-cloud/nacre/store"
)

const kindBlob = "blob"

// Upload stores an image's bytes. It streams, inspects while it does, and makes
// the image active only when all bytes are durable; otherwise the image is queued
// again and nothing is left. size is how many bytes are announced, or -1; other
// than that many are an error.
func (s *Service) Upload(ctx context.Context, id string, r io.Reader, size int64) (Image, error) {
	if err := store.Outside(ctx); err != nil {
		return Image{}, err
	}
	im, err := s.forChange(ctx, id, "upload_image")
	if err != nil {
		return im, err
	}
	if size > s.c.MaxSize {
		return im, nacre.Errorf(nacre.TooLarge, "", "Image exceeds the storage quota: The size of the data %d will exceed the limit. %d bytes remaining.", size, s.c.MaxSize)
	}
	if im.DiskFormat == "" || im.ContainerFormat == "" {
		return im, nacre.Errorf(nacre.Invalid, "", "Properties disk_format, container_format must be set prior to saving data.")
	}
	key := s.c.IDs.NewID()
	if err := s.beginUpload(ctx, id, key); err != nil {
		return im, err
	}
	defer s.forget(key)
	im, err = s.receive(ctx, im, key, r, size)
	if err != nil {
		// The bytes go now if they can; the work that stands for them makes sure.
		undo, cancel := context.WithTimeout(store.Detach(ctx), 30*time.Second)
		defer cancel()
		if uerr := s.undoUpload(undo, id, key); uerr != nil {
			s.log.Error("undoing an upload", "image", id, "error", uerr)
		}
	}
	return im, err
}

func (s *Service) beginUpload(ctx context.Context, id, key string) error {
	s.mu.Lock()
	s.uploading[key] = true
	s.mu.Unlock()
	err := store.InTx(ctx, s.c.Engine, func(ctx context.Context) error {
		im, err := s.images.Update(ctx, id, func(im *Image) error {
			if im.Status != Queued {
				return nacre.Errorf(nacre.Conflict, "", "Image status transition from %s to saving is not allowed", im.Status)
			}
			im.Status, im.BlobKey, im.Heartbeat = Saving, key, time.Now().UTC()
			return nil
		})
		if err != nil {
			return store.WrapNotFound(err, func() *nacre.Error { return notFound(id) })
		}
		if err := s.work.Put(ctx, kindBlob, key, reconcile.Begin{Step: "watch", After: s.c.UploadTimeout, Data: blobData{Image: im.ID}}); err != nil {
			return err
		}
		return s.events.Emit(ctx, "image.prepare", im.ID, im.OwnerID, eventOf(&im))
	})
	if err != nil {
		s.forget(key)
	}
	return err
}

func (s *Service) forget(key string) {
	s.mu.Lock()
	delete(s.uploading, key)
	s.mu.Unlock()
}

// receive streams the bytes into the backend and settles the image.
func (s *Service) receive(ctx context.Context, im Image, key string, r io.Reader, size int64) (Image, error) {
	inspect := diskimage.NewInspector()
	sums := newSums()
	defer sums.stop()
	tee := &intake{s: s, ctx: ctx, im: im, key: key, r: r, sums: sums, inspect: inspect, left: s.c.MaxSize, beat: time.Now()}
	n, err := s.c.Backend.Put(ctx, key, tee)
	if tee.refused != nil {
		return im, tee.refused
	}
	if err != nil {
		return im, err
	}
	if size >= 0 && n != size {
		return im, nacre.Errorf(nacre.Invalid, "", "The size of the data is %d bytes, %d were announced.", n, size)
	}
	info, err := inspect.Finish()
	if err != nil {
		return im, err
	}
	if err := s.matches(im, info); err != nil {
		return im, err
	}
	checksum, hashed := sums.sum()
	var out Image
	err = store.InTx(ctx, s.c.Engine, func(ctx context.Context) error {
		got, err := s.images.Update(ctx, im.ID, func(x *Image) error {
			if x.Status != Saving || x.BlobKey != key {
				return nacre.Errorf(nacre.Conflict, "", "Image %s is no longer being saved", im.ID)
			}
			x.Status, x.Size, x.HasSize, x.VirtualSize = Active, n, true, info.VirtualSize
			x.Checksum, x.HashAlgo, x.HashValue, x.Updated = checksum, "sha512", hashed, time.Now().UTC()
			return nil
		})
		if errors.Is(err, store.ErrNoRow) {
			return gone(im.ID)
		}
		if err != nil {
			return err
		}
		out = got
		if err := s.work.Drop(ctx, kindBlob, key); err != nil {
			return err
		}
		return s.events.Emit(ctx, "image.upload", im.ID, im.OwnerID, eventOf(&out))
	})
	return out, err
}

func gone(id string) error {
	return nacre.Errorf(nacre.NotFound, "ImageGone", "Image %s could not be found after upload. The image may have been deleted during the upload.", id)
}

// matches holds the declared format against what the bytes are.
func (s *Service) matches(im Image, info diskimage.Info) error {
	if im.ContainerFormat != "bare" {
		return nil
	}
	if err := info.Match(im.DiskFormat); err != nil && !s.c.AnyFormat {
		return err
	}
	return nil
}

// undoUpload brings the image back to queued and removes the bytes, unless the
// image has become active after all: a commit may succeed and its caller not
// learn of it.
func (s *Service) undoUpload(ctx context.Context, id, key string) error {
	kept := false
	if err := store.InTx(ctx, s.c.Engine, func(ctx context.Context) error {
		_, err := s.images.Update(ctx, id, func(im *Image) error {
			kept = im.BlobKey == key && im.Status != Saving
			if im.Status == Saving && im.BlobKey == key {
				im.Status, im.BlobKey, im.Updated = Queued, "", time.Now().UTC()
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
	if err := s.c.Backend.Delete(ctx, key); err != nil {
		return err
	}
	return store.InTx(ctx, s.c.Engine, func(ctx context.Context) error { return s.work.Drop(ctx, kindBlob, key) })
}

// intake is the stream on its way: hashed, inspected, bounded and alive.
type intake struct {
	s       *Service
	ctx     context.Context
	im      Image
	key     string
	r       io.Reader
	sums    *sums
	inspect *diskimage.Inspector
	left    int64
	beat    time.Time
	refused error
}

func (t *intake) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	if n > 0 {
		t.left -= int64(n)
		if t.left < 0 {
			t.refused = nacre.Errorf(nacre.TooLarge, "", "Image exceeds the storage quota: The size of the data will exceed the limit. %d bytes allowed.", t.s.c.MaxSize)
			return 0, t.refused
		}
		t.sums.write(p[:n])
		if _, ierr := t.inspect.Write(p[:n]); ierr != nil {
			t.refused = ierr
			return 0, t.refused
		}
		if time.Since(t.beat) > t.s.c.UploadTimeout/4 {
			t.beat = time.Now()
			mine := store.And(store.Eq("id", t.im.ID), store.Eq("status", Saving), store.Eq("blob_key", t.key))
			switch n, herr := t.s.images.UpdateWhere(t.ctx, mine, store.Set{"heartbeat": time.Now().UTC()}); {
			case herr != nil:
				t.s.log.Warn("upload heartbeat", "image", t.im.ID, "error", herr)
			case n == 0:
				t.refused = gone(t.im.ID)
				return 0, t.refused
			}
		}
	}
	return n, err
}

// sums hashes in two goroutines of their own, so that an upload runs at the speed
// of the slower hash, not of both together.
type sums struct {
	in   [2]chan []byte
	h    [2]hash.Hash
	wg   sync.WaitGroup
	once sync.Once
}

func newSums() *sums {
	s := &sums{h: [2]hash.Hash{md5.New(), sha512.New()}} //nolint:gosec // as above
	for i := range s.in {
		s.in[i] = make(chan []byte, 4)
		s.wg.Go(func() {
			for b := range s.in[i] {
				s.h[i].Write(b)
			}
		})
	}
	return s
}

func (s *sums) write(p []byte) {
	b := append([]byte(nil), p...)
	for i := range s.in {
		s.in[i] <- b
	}
}

func (s *sums) stop() {
	s.once.Do(func() {
		for i := range s.in {
			close(s.in[i])
		}
		s.wg.Wait()
	})
}

func (s *sums) sum() (md5sum, sha512sum string) {
	s.stop()
	return hex.EncodeToString(s.h[0].Sum(nil)), hex.EncodeToString(s.h[1].Sum(nil))
}

// Open reads an active image's bytes. A queued image has none: ok is false.
func (s *Service) Open(ctx context.Context, id string) (im Image, r io.ReadCloser, ok bool, err error) {
	if err := store.Outside(ctx); err != nil {
		return im, nil, false, err
	}
	if im, err = s.forChange(ctx, id, "download_image"); err != nil {
		return im, nil, false, err
	}
	switch {
	case im.Status == Deactivated && !nacre.CallerFrom(ctx).HasRole("admin"):
		return im, nil, false, nacre.Errorf(nacre.Forbidden, "", "The requested image has been deactivated. Image data download is forbidden.")
	case im.Status != Active && im.Status != Deactivated:
		return im, nil, false, nil
	}
	r, _, err = s.c.Backend.Open(ctx, im.BlobKey)
	return im, r, err == nil, err
}

type blobData struct {
	Image string `json:"image"`
}

// blobHandler stands for bytes: those of a running upload are watched, those of
// no image are removed.
func (s *Service) blobHandler() reconcile.Handler {
	return reconcile.Handler{
		Steps: map[string]reconcile.Step{"watch": s.stepWatch, "remove": s.stepRemove},
		Expire: func(ctx context.Context, j *reconcile.Job, _ error) error {
			return s.c.Backend.Delete(ctx, j.ObjectID)
		},
	}
}

// stepWatch looks whether an upload still moves; one that died with its process
// gives its image back.
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
	if err == nil && im.BlobKey == j.ObjectID {
		switch {
		case im.Status != Saving:
			return reconcile.Done(), nil
		case time.Since(im.Heartbeat) < s.c.UploadTimeout:
			return reconcile.Again(s.c.UploadTimeout / 4), nil
		}
	}
	return j.Commit(ctx, reconcile.Goto("remove"), func(ctx context.Context) error {
		_, err := s.images.Update(ctx, d.Image, func(im *Image) error {
			if im.Status == Saving && im.BlobKey == j.ObjectID {
				im.Status, im.BlobKey = Queued, ""
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
	return reconcile.Done(), s.c.Backend.Delete(ctx, j.ObjectID)
}
