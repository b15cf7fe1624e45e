package image

import (
	"context"
	"errors"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/image/backend"
	"github.com/nacre-cloud/nacre/internal/reconcile"
	"github.com/nacre-cloud/nacre/store"
)

func notFound(id string) *nacre.Error {
	return nacre.Errorf(nacre.NotFound, "ImageNotFound", "Failed to find image %s", id)
}

var uuidRE = regexp.MustCompile(`^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$`)

// Create records an image without bytes.
func (s *Service) Create(ctx context.Context, im Image) (Image, error) {
	c, err := s.caller(ctx)
	if err != nil {
		return im, err
	}
	if im.OwnerID == "" {
		im.OwnerID = c.ProjectID
	}
	if im.Visibility == "" {
		im.Visibility = "shared"
	}
	if im.ID == "" {
		im.ID = s.c.IDs.NewID()
	} else if !uuidRE.MatchString(im.ID) {
		return im, nacre.Errorf(nacre.Invalid, "", "Invalid image id format")
	}
	if err := s.c.Policy.Enforce(ctx, "add_image", target(c, &im, false)); err != nil {
		if im.OwnerID != c.ProjectID {
			err = nacre.Errorf(nacre.KindOf(err), "", "You are not permitted to create images owned by '%s'", im.OwnerID)
		}
		return im, err
	}
	if err := s.mayShow(ctx, &im, ""); err != nil {
		return im, err
	}
	if err := s.check(&im); err != nil {
		return im, err
	}
	if err := s.mayProperties(ctx, nil, im.Properties); err != nil {
		return im, err
	}
	limits, err := s.limits(ctx, im.OwnerID)
	if err != nil {
		return im, err
	}
	now := time.Now().UTC()
	im.empty()
	im.Locations, im.ImportTask, im.ImportingTo, im.FailedImport = nil, "", nil, nil
	im.Created, im.Updated = now, now
	err = store.InTx(ctx, s.c.Engine, func(ctx context.Context) error {
		if err := store.Lock(ctx, s.c.Engine, "quota/"+im.OwnerID); err != nil {
			return err
		}
		if err := s.mayCreate(ctx, limits, im.OwnerID); err != nil {
			return err
		}
		if err := s.images.Insert(ctx, im); err != nil {
			return err
		}
		if err := s.mirror(ctx, &im); err != nil {
			return err
		}
		return s.events.Emit(ctx, "image.create", im.ID, im.OwnerID, eventOf(&im))
	})
	if store.IsDuplicate(err) {
		err = nacre.Errorf(nacre.Conflict, "", "Image ID %s already exists!", im.ID)
	}
	s.hide(ctx, &im)
	return im, err
}

// mayShow enforces what guards a change of visibility.
func (s *Service) mayShow(ctx context.Context, im *Image, before string) error {
	if im.Visibility == before {
		return nil
	}
	switch im.Visibility {
	case "public":
		return s.enforce(ctx, "publicize_image", im)
	case "community":
		return s.enforce(ctx, "communitize_image", im)
	}
	return nil
}

// check validates what the user may set.
func (s *Service) check(im *Image) error {
	if im.Properties == nil {
		im.Properties = map[string]string{}
	}
	slices.Sort(im.Tags)
	im.Tags = slices.Compact(im.Tags)
	if im.Tags == nil {
		im.Tags = []string{}
	}
	one := func(v string, list []string, what string) error {
		if v != "" && !slices.Contains(list, v) {
			return nacre.Errorf(nacre.Invalid, "", "Provided object does not match schema 'image': '%s' is not one of ['%s'] (%s)", v, strings.Join(list, "', '"), what)
		}
		return nil
	}
	switch {
	case len(im.Properties) > s.c.MaxProperties:
		return nacre.Errorf(nacre.TooLarge, "", "The limit has been exceeded on the number of allowed image properties. Attempted: %d, Maximum: %d", len(im.Properties), s.c.MaxProperties)
	case len(im.Tags) > s.c.MaxTags:
		return nacre.Errorf(nacre.TooLarge, "", "The limit has been exceeded on the number of allowed image tags. Attempted: %d, Maximum: %d", len(im.Tags), s.c.MaxTags)
	case im.MinDisk < 0 || im.MinRAM < 0 || im.MinDisk > 1<<31-1 || im.MinRAM > 1<<31-1:
		return nacre.Errorf(nacre.Invalid, "", "Invalid value for option min_disk or min_ram: must be between 0 and 2147483647")
	}
	for _, t := range im.Tags {
		if t == "" || len(t) > 255 {
			return nacre.Errorf(nacre.Invalid, "", "Provided object does not match schema 'image': '%s' is too long or empty (tags)", t)
		}
	}
	return errors.Join(one(im.DiskFormat, s.c.DiskFormats, "disk_format"), one(im.ContainerFormat, s.c.ContainerFormats, "container_format"),
		one(im.Visibility, []string{"community", "public", "private", "shared"}, "visibility"))
}

// mirror writes the rows that filters look at; in the caller's transaction.
func (s *Service) mirror(ctx context.Context, im *Image) error {
	if _, err := s.tags.DeleteWhere(ctx, store.Eq("image_id", im.ID)); err != nil {
		return err
	}
	if _, err := s.properties.DeleteWhere(ctx, store.Eq("image_id", im.ID)); err != nil {
		return err
	}
	var ts []Tag
	for _, t := range im.Tags {
		ts = append(ts, Tag{ID: im.ID + "/" + t, ImageID: im.ID, Tag: t})
	}
	var ps []Property
	for _, n := range slices.Sorted(maps.Keys(im.Properties)) {
		ps = append(ps, Property{ID: im.ID + "/" + n, ImageID: im.ID, Name: n, Value: im.Properties[n]})
	}
	if err := s.tags.Insert(ctx, ts...); err != nil {
		return err
	}
	return s.properties.Insert(ctx, ps...)
}

func eventOf(im *Image) map[string]any {
	return map[string]any{"id": im.ID, "name": im.Name, "status": im.Status, "owner": im.OwnerID, "visibility": im.Visibility, "size": im.Size, "checksum": im.Checksum,
		"disk_format": im.DiskFormat, "container_format": im.ContainerFormat, "created_at": im.Created, "updated_at": im.Updated}
}

// Get is one image that the caller may see.
func (s *Service) Get(ctx context.Context, id string) (Image, error) {
	im, err := s.get(ctx, id)
	if err == nil {
		s.hide(ctx, &im)
	}
	return im, err
}

// get is Get with the properties that are hidden from the caller.
func (s *Service) get(ctx context.Context, id string) (Image, error) {
	c, err := s.caller(ctx)
	if err != nil {
		return Image{}, err
	}
	im, err := s.images.Get(ctx, id)
	if err != nil {
		return im, store.WrapNotFound(err, func() *nacre.Error { return notFound(id) })
	}
	// A shared image that is not shared with the caller is not there.
	member := false
	if im.Visibility == "private" || im.Visibility == "shared" {
		if member, err = s.isMember(ctx, c, &im); err != nil {
			return Image{}, err
		}
		if im.OwnerID != c.ProjectID && !member && !s.isAdmin(ctx) {
			return Image{}, notFound(id)
		}
	}
	if err := s.c.Policy.Enforce(ctx, "get_image", target(c, &im, member)); err != nil {
		return Image{}, notFound(id)
	}
	return im, nil
}

// forChange reads an image that the caller may do rule to: one that can only be
// seen is forbidden, one that can't be seen is not found.
func (s *Service) forChange(ctx context.Context, id, rule string) (Image, error) {
	im, err := s.get(ctx, id)
	if err != nil {
		return im, err
	}
	return im, s.enforce(ctx, rule, &im)
}

// Update changes an image by fn, which may return an error to refuse.
func (s *Service) Update(ctx context.Context, id string, fn func(*Image) error) (Image, error) {
	if _, err := s.forChange(ctx, id, "modify_image"); err != nil {
		return Image{}, err
	}
	c := nacre.CallerFrom(ctx)
	var out Image
	err := store.InTx(ctx, s.c.Engine, func(ctx context.Context) error {
		im, err := s.images.Update(ctx, id, func(im *Image) error {
			before := *im
			im.Properties = maps.Clone(im.Properties)
			s.hide(ctx, im)
			if err := fn(im); err != nil {
				return err
			}
			if err := s.mayProperties(ctx, before.Properties, im.Properties); err != nil {
				return err
			}
			s.unhide(ctx, im, before.Properties)
			if err := s.mayShow(ctx, im, before.Visibility); err != nil {
				return err
			}
			if before.OwnerID != im.OwnerID && !c.HasRole("admin") {
				return nacre.Errorf(nacre.Forbidden, "", "Owner can't be updated by non admin.")
			}
			im.Updated = time.Now().UTC()
			return s.check(im)
		})
		if err != nil {
			return store.WrapNotFound(err, func() *nacre.Error { return notFound(id) })
		}
		out = im
		if err := s.mirror(ctx, &im); err != nil {
			return err
		}
		return s.events.Emit(ctx, "image.update", im.ID, im.OwnerID, eventOf(&im))
	})
	s.hide(ctx, &out)
	return out, err
}

// Delete removes an image; its bytes follow. An image whose bytes others hold on to
// is nacre.Conflict; who begins to do so meanwhile keeps bytes of no image until they
// let go.
func (s *Service) Delete(ctx context.Context, id string) error {
	if err := store.Outside(ctx); err != nil {
		return err
	}
	im, err := s.forChange(ctx, id, "delete_image")
	if err != nil {
		return err
	}
	if !im.Protected { // that is said first
		if err := s.free(ctx, "Image", id, im.Locations...); err != nil {
			return err
		}
	}
	return store.InTx(ctx, s.c.Engine, func(ctx context.Context) error {
		im, err := s.images.GetForUpdate(ctx, id)
		if err != nil {
			return store.WrapNotFound(err, func() *nacre.Error { return notFound(id) })
		}
		if im.Protected {
			return nacre.Errorf(nacre.Forbidden, "", "Image %s is protected and cannot be deleted.", id)
		}
		if err := s.erase(ctx, id); err != nil {
			return err
		}
		if err := s.dropBytes(ctx, &im); err != nil {
			return err
		}
		if err := s.uncache(ctx, id); err != nil {
			return err
		}
		return s.events.Emit(ctx, "image.delete", im.ID, im.OwnerID, eventOf(&im))
	})
}

// free is a Conflict while somebody holds on to one of an image's blobs.
func (s *Service) free(ctx context.Context, what, id string, locations ...Location) error {
	for _, l := range locations {
		d, err := s.driver(l.Store)
		if err != nil {
			continue // the store is no longer configured
		}
		lender, ok := d.(backend.Lender)
		if !ok || l.Key == "" {
			continue
		}
		switch err := lender.InUse(ctx, l.Key); {
		case errors.Is(err, nacre.Conflict):
			return conflict("%s %s could not be deleted because it is in use: %s", what, id, message(err))
		case err != nil: // the bytes follow when the store answers again
			s.log.Warn("whether an image's bytes are in use", "image", id, "store", l.Store, "error", err)
		}
	}
	return nil
}

// erase removes an image's rows, in the context's transaction.
func (s *Service) erase(ctx context.Context, id string) error {
	if _, err := s.tags.DeleteWhere(ctx, store.Eq("image_id", id)); err != nil {
		return err
	}
	if _, err := s.properties.DeleteWhere(ctx, store.Eq("image_id", id)); err != nil {
		return err
	}
	if _, err := s.members.DeleteWhere(ctx, store.Eq("image_id", id)); err != nil {
		return err
	}
	_, err := s.images.DeleteWhere(ctx, store.Eq("id", id))
	return err
}

// dropBytes has all bytes of an image removed, and ends the import that writes
// more; in the context's transaction.
func (s *Service) dropBytes(ctx context.Context, im *Image) error {
	if im.BlobKey != "" {
		b := reconcile.Begin{}
		if !im.Staged {
			// The writer notices at its next heartbeat and removes what it
			// wrote; this is for one that died.
			b.After = s.c.UploadTimeout
		}
		if err := s.discard(ctx, im.BlobStore, im.BlobKey, b); err != nil {
			return err
		}
	}
	if im.ImportTask != "" {
		// What it has in hand has work of its own, which finds the image gone.
		if err := s.work.Drop(ctx, kindImport, im.ID); err != nil {
			return err
		}
		if err := s.endTask(ctx, im.ImportTask, "failure", "Image has been deleted, aborting import."); err != nil {
			return err
		}
	}
	for _, l := range im.Locations {
		if err := s.discard(ctx, l.Store, l.Key, reconcile.Begin{After: s.c.ScrubAfter}); err != nil {
			return err
		}
	}
	return nil
}

// SetActive deactivates an image, so that only administrators can download it,
// or makes it active again.
func (s *Service) SetActive(ctx context.Context, id string, active bool) error {
	rule, from, to := "deactivate", Active, Deactivated
	if active {
		rule, from, to = "reactivate", Deactivated, Active
	}
	if _, err := s.forChange(ctx, id, rule); err != nil {
		return err
	}
	return s.changeImage(ctx, id, "image."+rule, func(_ context.Context, im *Image) error {
		if im.Status != from && im.Status != to {
			return nacre.Errorf(nacre.Forbidden, "", "Not allowed to %s image in status '%s'", rule, im.Status)
		}
		im.Status = to
		return nil
	})
}

// SetTag adds or removes one tag.
func (s *Service) SetTag(ctx context.Context, id, tag string, on bool) error {
	_, err := s.Update(ctx, id, func(im *Image) error {
		i := slices.Index(im.Tags, tag)
		switch {
		case on && i < 0:
			im.Tags = append(im.Tags, tag)
		case !on && i < 0:
			return nacre.Errorf(nacre.NotFound, "", "Failed to find tag %s of image %s", tag, id)
		case !on:
			im.Tags = slices.Delete(im.Tags, i, i+1)
		}
		return nil
	})
	return err
}
