package image

import (
	"bufio"
	"context"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/internal/diskimage"
	"github.com/nacre-cloud/nacre/internal/reconcile"
	"github.com/nacre-cloud/nacre/store"
)

const kindImport = "import"

// importData is what the work of an import remembers. What it has written stands
// in the image's row and in the watches over the keys.
type importData struct {
	Task    string        `json:"task"`
	Request ImportRequest `json:"request"`
	Targets []string      `json:"targets"`
	// Had are the stores that the image was in before; Roles the user's.
	Had   []string `json:"had,omitempty"`
	Roles []string `json:"roles,omitempty"`
	// Made says that the import made the image, and takes it away when it fails.
	Made bool `json:"made,omitempty"`
	// URL and Want are an added location and the hash that it shall have.
	URL      string `json:"url,omitempty"`
	WantAlgo string `json:"want_algo,omitempty"`
	Want     string `json:"want,omitempty"`
}

func (s *Service) importHandler() reconcile.Handler {
	return reconcile.Handler{
		Steps:  map[string]reconcile.Step{"fetch": s.stepFetch, "transform": s.stepTransform, "store": s.stepStore, "finish": s.stepFinish, "locate": s.stepLocate},
		Expire: s.importFailed,
	}
}

// importing reads the job's data and its image, and marks the task as running.
// ErrLost means that the image is not this import's any more.
func (s *Service) importing(ctx context.Context, j *reconcile.Job) (d importData, im Image, err error) {
	if err = j.Decode(&d); err != nil {
		return d, im, reconcile.Fail(err)
	}
	im, err = s.images.Get(ctx, j.ObjectID)
	if errors.Is(err, store.ErrNoRow) || err == nil && im.ImportTask != d.Task {
		return d, im, reconcile.Fail(errors.New("the image is gone"))
	}
	if err != nil {
		return d, im, err
	}
	_, err = s.tasks.UpdateWhere(ctx, store.And(store.Eq("id", d.Task), store.Eq("status", "pending")), store.Set{"status": "processing", "updated_at": time.Now().UTC()})
	return d, im, err
}

// final makes an error that ends the import, unless it is only that we are
// stopping, or that somebody else has the work.
func final(ctx context.Context, err error) error {
	if ctx.Err() != nil || errors.Is(err, reconcile.ErrLost) {
		return err
	}
	return reconcile.Fail(err)
}

// newKey notes a key that the import is about to write, under a watch. As the
// image's blob in hand (inRow) it replaces one that an earlier try left.
func (s *Service) newKey(ctx context.Context, j *reconcile.Job, d *importData, storeID string, inRow bool) (string, error) {
	key := s.c.IDs.NewID()
	s.mu.Lock()
	s.uploading[key] = true
	s.mu.Unlock()
	err := j.Tx(ctx, func(ctx context.Context) error {
		_, err := s.images.Update(ctx, j.ObjectID, func(im *Image) error {
			im.Heartbeat = time.Now().UTC()
			if inRow {
				if err := s.discard(ctx, im.BlobStore, im.BlobKey, reconcile.Begin{After: s.c.UploadTimeout}); err != nil {
					return err
				}
				im.BlobKey, im.BlobStore, im.Staged = key, storeID, false
			}
			return nil
		})
		if err != nil {
			return err
		}
		return s.work.Put(ctx, kindBlob, key, reconcile.Begin{Step: "watch", After: s.c.UploadTimeout, Data: blobData{Image: j.ObjectID, Store: storeID, Task: d.Task}})
	})
	if err != nil {
		s.forget(key)
	}
	return key, err
}

// keep ends the watch over a key that the image now uses. It fails when the watch
// has given the key up already: its bytes may be gone.
func (s *Service) keep(ctx context.Context, key string) error {
	w, ok, err := s.work.Pending(ctx, kindBlob, key)
	if err != nil {
		return err
	}
	if !ok || w.Step != "watch" {
		return errors.New("image: the bytes were given up while they were written")
	}
	return s.work.Drop(ctx, kindBlob, key)
}

// stepFetch brings the bytes from where the user said into staging.
func (s *Service) stepFetch(ctx context.Context, j *reconcile.Job) (reconcile.Next, error) {
	d, im, err := s.importing(ctx, j)
	if err != nil {
		return reconcile.Next{}, err
	}
	outside := nacre.AsService(ctx, "image")
	var body io.ReadCloser
	var remote *RemoteImage
	size := int64(-1)
	if d.Request.Method == GlanceDownload {
		asker := s.asked(d.Task)
		if asker == nil && !s.c.Alone && time.Since(im.Heartbeat) < s.c.UploadTimeout {
			return reconcile.Again(time.Second), nil // the process that was asked will come by
		}
		if remote, body, err = s.openRemote(nacre.WithCaller(ctx, asker), &d.Request); err == nil {
			size = remote.Size
		}
	} else {
		body, size, err = s.c.Fetcher.Fetch(outside, d.Request.URI)
	}
	if err != nil {
		return reconcile.Next{}, final(ctx, err)
	}
	defer body.Close() //nolint:errcheck // read only
	trial := im
	if err := s.takeOver(&trial, remote); err != nil {
		return reconcile.Next{}, reconcile.Fail(err)
	}
	limits, err := s.limits(outside, im.OwnerID)
	if err != nil {
		return reconcile.Next{}, err
	}
	left, err := s.room(ctx, limits, &im, Uploading, size)
	if err != nil {
		return reconcile.Next{}, final(ctx, err)
	}
	key, err := s.newKey(ctx, j, &d, stagingStore, true)
	if err != nil {
		return reconcile.Next{}, err
	}
	defer s.forget(key)
	in := s.newIntake(im.ID, key, body, left, store.And(store.Eq("id", im.ID), store.Eq("import_task", d.Task)))
	in.inspect = nil
	got, err := s.receive(ctx, in, s.c.Staging, size)
	if err != nil {
		return reconcile.Next{}, final(ctx, err)
	}
	return j.Commit(ctx, reconcile.Goto("transform"), func(ctx context.Context) error {
		if err := s.keep(ctx, key); err != nil {
			return err
		}
		return s.importChange(ctx, &d, im.ID, func(im *Image) error {
			im.Staged, im.Size, im.HasSize = true, got.size, true
			return s.takeOver(im, remote)
		})
	})
}

// takeOver gives an image the formats and properties of a remote one, which may be
// nil.
func (s *Service) takeOver(im *Image, remote *RemoteImage) error {
	if remote == nil {
		return nil
	}
	im.DiskFormat, im.ContainerFormat = remote.DiskFormat, remote.ContainerFormat
	im.Properties = maps.Clone(im.Properties)
	for k, v := range remote.Properties {
		if s.c.Import.takesProperty(k) {
			im.Properties[k] = v
		}
	}
	return s.check(im)
}

// openRemote opens an image of another region as the user who asked for it.
func (s *Service) openRemote(ctx context.Context, q *ImportRequest) (*RemoteImage, io.ReadCloser, error) {
	if nacre.CallerFrom(ctx) == nil {
		return nil, nil, conflict("The service was restarted before the image was fetched, and the user's token is not kept. Ask for the import again.")
	}
	r, body, err := s.c.Remote.Open(ctx, q.Region, q.Interface, q.RemoteID)
	if err == nil && r.Status != Active {
		err = errors.Join(invalid("Source image status should be active instead of %s", r.Status), body.Close())
	}
	return &r, body, err
}

// importChange changes the image of an import that still has it, with the rows
// that mirror it, in the context's transaction.
func (s *Service) importChange(ctx context.Context, d *importData, id string, fn func(im *Image) error) error {
	im, err := s.images.Update(ctx, id, func(im *Image) error {
		if im.ImportTask != d.Task {
			return reconcile.ErrLost
		}
		im.Heartbeat = time.Now().UTC()
		return fn(im)
	})
	if errors.Is(err, store.ErrNoRow) {
		return reconcile.ErrLost
	}
	if err != nil {
		return err
	}
	return s.mirror(ctx, &im)
}

// stepTransform unpacks and converts what is staged, where that is configured, and
// injects properties.
func (s *Service) stepTransform(ctx context.Context, j *reconcile.Job) (reconcile.Next, error) {
	d, im, err := s.importing(ctx, j)
	if err != nil {
		return reconcile.Next{}, err
	}
	body, convert, err := s.transformed(ctx, &im)
	if err != nil {
		return reconcile.Next{}, final(ctx, err)
	}
	done := func(im *Image) error {
		if o := &s.c.Import; len(o.Inject) > 0 && !slices.ContainsFunc(d.Roles, func(r string) bool { return slices.Contains(o.InjectIgnoreRoles, r) }) {
			im.Properties = maps.Clone(im.Properties)
			for k, v := range o.Inject {
				if !strings.HasPrefix(k, reservedPrefix) {
					im.Properties[k] = v
				}
			}
		}
		if convert {
			im.DiskFormat, im.ContainerFormat = s.c.Import.ConvertTo, "bare"
		}
		return nil
	}
	if body == nil {
		return j.Commit(ctx, reconcile.Goto("store"), func(ctx context.Context) error {
			return s.importChange(ctx, &d, im.ID, done)
		})
	}
	defer body.Close() //nolint:errcheck // read only
	key, err := s.newKey(ctx, j, &d, stagingStore, false)
	if err != nil {
		return reconcile.Next{}, err
	}
	defer s.forget(key)
	in := s.newIntake(im.ID, key, body, s.c.MaxSize, store.And(store.Eq("id", im.ID), store.Eq("import_task", d.Task)))
	in.inspect = nil
	got, err := s.receive(ctx, in, s.c.Staging, -1)
	if err != nil {
		return reconcile.Next{}, final(ctx, err)
	}
	return j.Commit(ctx, reconcile.Goto("store"), func(ctx context.Context) error {
		if err := s.keep(ctx, key); err != nil {
			return err
		}
		return s.importChange(ctx, &d, im.ID, func(im *Image) error {
			if err := s.discard(ctx, im.BlobStore, im.BlobKey, reconcile.Begin{}); err != nil {
				return err
			}
			im.BlobKey, im.BlobStore, im.Staged, im.Size = key, stagingStore, true, got.size
			return done(im)
		})
	})
}

// transformed is the staged bytes unpacked and converted, or nil where neither is
// to be done.
func (s *Service) transformed(ctx context.Context, im *Image) (r io.ReadCloser, converted bool, err error) {
	open := func() (io.ReadCloser, error) {
		r, _, err := s.c.Staging.Open(ctx, im.BlobKey)
		return r, err
	}
	unpack := func(raw io.ReadCloser) (io.ReadCloser, bool, error) { return raw, false, nil }
	if s.c.Import.Decompress && im.ContainerFormat != "compressed" {
		unpack = func(raw io.ReadCloser) (io.ReadCloser, bool, error) { return decompressed(raw, s.c.MaxSize) }
	}
	raw, err := open()
	if err != nil {
		return nil, false, err
	}
	body, unpacked, err := unpack(raw)
	if err != nil {
		_ = raw.Close()
		return nil, false, err
	}
	if s.c.Import.ConvertTo == "" || s.c.Converter == nil {
		if unpacked {
			return body, false, nil
		}
		return nil, false, body.Close()
	}
	// Nothing is handed to the converter that was not seen to be safe, and to be
	// what it is declared to be.
	info, err := diskimage.Inspect(body)
	if err = errors.Join(err, body.Close()); err != nil {
		return nil, false, err
	}
	if err := info.Match(im.DiskFormat); err != nil {
		return nil, false, err
	}
	same := im.DiskFormat == "iso" || im.DiskFormat == s.c.Import.ConvertTo
	if same && !unpacked {
		return nil, false, nil
	}
	if raw, err = open(); err != nil {
		return nil, false, err
	}
	if body, _, err = unpack(raw); err != nil {
		_ = raw.Close()
		return nil, false, err
	}
	if same {
		return body, false, nil
	}
	defer body.Close() //nolint:errcheck // read only
	out, err := s.c.Converter.Convert(ctx, bufio.NewReaderSize(body, 1<<20), im.DiskFormat, s.c.Import.ConvertTo)
	return out, err == nil, err
}

// stepStore writes one copy, and goes on until there is one in each target.
func (s *Service) stepStore(ctx context.Context, j *reconcile.Job) (reconcile.Next, error) {
	d, im, err := s.importing(ctx, j)
	if err != nil {
		return reconcile.Next{}, err
	}
	i := slices.IndexFunc(d.Targets, func(t string) bool { return im.in(t) == nil && !slices.Contains(im.FailedImport, t) })
	if i < 0 {
		return reconcile.Goto("finish"), nil
	}
	target := d.Targets[i]
	next, err := s.storeOne(ctx, j, &d, &im, target)
	if err == nil || ctx.Err() != nil || errors.Is(err, reconcile.ErrLost) {
		return next, err
	}
	s.log.Warn("an import to a store failed", "image", im.ID, "store", target, "error", err)
	fail := func(ctx context.Context) error {
		return s.importChange(ctx, &d, im.ID, func(im *Image) error {
			im.FailedImport = append(slices.Clone(im.FailedImport), target)
			im.ImportingTo = slices.DeleteFunc(slices.Clone(im.ImportingTo), func(t string) bool { return t == target })
			return nil
		})
	}
	if d.Request.SomeStores {
		return j.Commit(ctx, reconcile.Goto("store"), fail)
	}
	if ferr := j.Tx(ctx, fail); ferr != nil {
		return reconcile.Next{}, ferr
	}
	return reconcile.Next{}, reconcile.Fail(err)
}

func (s *Service) storeOne(ctx context.Context, j *reconcile.Job, d *importData, im *Image, target string) (reconcile.Next, error) {
	st := s.stores[target]
	if st == nil || st.ReadOnly {
		return reconcile.Next{}, invalid("Store for identifier %s not found", target)
	}
	var body io.ReadCloser
	verify := (*verifier)(nil)
	if d.Request.Method == CopyImage {
		c, err := s.openAny(ctx, im, nil)
		if err != nil {
			return reconcile.Next{}, err
		}
		body = c.ReadCloser
	} else {
		r, _, err := s.c.Staging.Open(ctx, im.BlobKey)
		if err != nil {
			return reconcile.Next{}, err
		}
		body = r
		if verify, err = s.verifier(nacre.AsService(ctx, "image"), im); err != nil {
			_ = r.Close()
			return reconcile.Next{}, err
		}
	}
	defer body.Close() //nolint:errcheck // read only
	key, err := s.newKey(ctx, j, d, target, false)
	if err != nil {
		return reconcile.Next{}, err
	}
	defer s.forget(key)
	in := s.newIntake(im.ID, key, body, s.c.MaxSize, store.And(store.Eq("id", im.ID), store.Eq("import_task", d.Task)))
	in.check(verify)
	if d.Request.Method == CopyImage {
		in.inspect = nil // it was inspected when it came
	}
	size := im.Size
	if !im.HasSize {
		size = -1
	}
	got, err := s.receive(ctx, in, st.Driver, size)
	if err != nil {
		return reconcile.Next{}, err
	}
	if d.Request.Method != CopyImage {
		if err := s.matches(im, got.info); err != nil {
			return reconcile.Next{}, err
		}
	}
	if im.HashValue != "" && im.HashAlgo == "sha512" && im.HashValue != got.hashed {
		return reconcile.Next{}, errors.New("the copy does not have the image's hash")
	}
	last := !slices.ContainsFunc(d.Targets, func(t string) bool {
		return t != target && im.in(t) == nil && !slices.Contains(im.FailedImport, t)
	})
	return j.Commit(ctx, reconcile.Goto("store"), func(ctx context.Context) error {
		if err := s.keep(ctx, key); err != nil {
			return err
		}
		return s.importChange(ctx, d, im.ID, func(im *Image) error {
			im.Locations = append(slices.Clone(im.Locations), Location{Store: target, Key: key})
			im.ImportingTo = slices.DeleteFunc(slices.Clone(im.ImportingTo), func(t string) bool { return t == target })
			if d.Request.Method == CopyImage {
				return nil
			}
			status := im.Status
			s.settle(im, got)
			if status != Active && !last && !d.Request.SomeStores {
				im.Status = status
			}
			return nil
		})
	})
}

// stepFinish gives back what was staged and ends the task.
func (s *Service) stepFinish(ctx context.Context, j *reconcile.Job) (reconcile.Next, error) {
	d, im, err := s.importing(ctx, j)
	if err != nil {
		return reconcile.Next{}, err
	}
	if len(im.Locations) == 0 || im.Status == Importing && !d.Request.SomeStores && slices.ContainsFunc(d.Targets, func(t string) bool { return im.in(t) == nil }) {
		return reconcile.Next{}, reconcile.Fail(errors.New("None of the uploads finished!")) //nolint:staticcheck // glance's words
	}
	return j.Commit(ctx, reconcile.Done(), func(ctx context.Context) error {
		if err := s.importChange(ctx, &d, im.ID, func(im *Image) error {
			if err := s.discard(ctx, im.BlobStore, im.BlobKey, reconcile.Begin{}); err != nil {
				return err
			}
			im.BlobKey, im.BlobStore, im.Staged, im.ImportTask, im.ImportingTo = "", "", false, "", []string{}
			if im.Status == Importing {
				im.Status = Active
			}
			return s.events.Emit(ctx, "image.upload", im.ID, im.OwnerID, eventOf(im))
		}); err != nil {
			return err
		}
		return s.endTask(ctx, d.Task, "success", "")
	})
}

// importFailed brings the image to where it was: queued without bytes or, when it
// was to be copied, active with the copies that it had.
func (s *Service) importFailed(ctx context.Context, j *reconcile.Job, cause error) error {
	var d importData
	if err := j.Decode(&d); err != nil {
		return err
	}
	msg := cause.Error()
	var ne *nacre.Error
	if errors.As(cause, &ne) {
		msg = ne.Message
	}
	return j.Tx(ctx, func(ctx context.Context) error {
		err := s.importChange(ctx, &d, j.ObjectID, func(im *Image) error {
			b := reconcile.Begin{}
			if !im.Staged {
				b.After = s.c.UploadTimeout // it may still be written
			}
			if err := s.discard(ctx, im.BlobStore, im.BlobKey, b); err != nil {
				return err
			}
			keep := []Location{}
			for _, l := range im.Locations {
				if slices.Contains(d.Had, l.Store) || d.Request.SomeStores {
					keep = append(keep, l)
				} else if err := s.discard(ctx, l.Store, l.Key, reconcile.Begin{}); err != nil {
					return err
				}
			}
			if len(im.FailedImport) == 0 {
				// It did not get as far as any one store.
				im.FailedImport = d.Targets
			}
			if len(keep) == 0 {
				im.empty()
			}
			im.Locations, im.ImportTask, im.ImportingTo = keep, "", []string{}
			im.BlobKey, im.BlobStore, im.Staged = "", "", false
			if len(keep) > 0 && im.Status == Importing {
				im.Status = Active
			}
			im.Updated = time.Now().UTC()
			return nil
		})
		if err != nil && !errors.Is(err, reconcile.ErrLost) {
			return err
		}
		if d.Made && err == nil {
			if err := s.erase(ctx, j.ObjectID); err != nil {
				return err
			}
		}
		return s.endTask(ctx, d.Task, "failure", msg)
	})
}
