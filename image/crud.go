package image

import (
	"context"
	"errors"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/internal/reconcile"
	"github.com/nacre-cloud/nacre/internal/rest"
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
	if err := s.enforce(ctx, "add_image", &im); err != nil {
		return im, err
	}
	if err := s.mayShow(ctx, &im, ""); err != nil {
		return im, err
	}
	if err := s.check(&im); err != nil {
		return im, err
	}
	now := time.Now().UTC()
	im.Status, im.Created, im.Updated = Queued, now, now
	err = store.InTx(ctx, s.c.Engine, func(ctx context.Context) error {
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
	return errors.Join(one(im.DiskFormat, DiskFormats, "disk_format"), one(im.ContainerFormat, ContainerFormats, "container_format"),
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
	c, err := s.caller(ctx)
	if err != nil {
		return Image{}, err
	}
	im, err := s.images.Get(ctx, id)
	if err != nil {
		return im, store.WrapNotFound(err, func() *nacre.Error { return notFound(id) })
	}
	// A shared image that is not shared with the caller is not there.
	if im.Visibility == "private" || im.Visibility == "shared" {
		member, err := s.isMember(ctx, c, &im)
		if err != nil {
			return Image{}, err
		}
		if im.OwnerID != c.ProjectID && !c.HasRole("admin") && !member {
			return Image{}, notFound(id)
		}
	}
	if err := s.enforce(ctx, "get_image", &im); err != nil {
		return Image{}, notFound(id)
	}
	return im, nil
}

// forChange reads an image that the caller may do rule to: one that can only be
// seen is forbidden, one that can't be seen is not found.
func (s *Service) forChange(ctx context.Context, id, rule string) (Image, error) {
	im, err := s.Get(ctx, id)
	if err != nil {
		return im, err
	}
	return im, s.enforce(ctx, rule, &im)
}

var sortColumns = map[string]string{"name": "name", "status": "status", "container_format": "container_format", "disk_format": "disk_format", "size": "size", "id": "id",
	"created_at": "created_at", "updated_at": "updated_at", "os_hidden": "os_hidden", "min_ram": "min_ram", "min_disk": "min_disk", "owner": "owner", "visibility": "visibility", "protected": "protected", "virtual_size": "virtual_size"}

// List lists the images that the caller may see, newest first unless sorted.
func (s *Service) List(ctx context.Context, q nacre.Query) ([]Image, error) {
	c, err := s.caller(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.enforce(ctx, "get_images", &Image{OwnerID: c.ProjectID}); err != nil {
		return nil, err
	}
	w, err := s.filter(c, q)
	if err != nil {
		return nil, err
	}
	var order []store.Order
	for _, k := range q.Sort {
		col, ok := sortColumns[k.Field]
		if !ok {
			return nil, nacre.Errorf(nacre.Invalid, "", "Invalid sort key: %s. It must be one of the following: %s.", k.Field, strings.Join(slices.Sorted(maps.Keys(sortColumns)), ", "))
		}
		order = append(order, store.Order{Column: col, Desc: k.Desc})
	}
	if len(order) == 0 {
		order = append(order, store.Order{Column: "created_at", Desc: true})
	}
	ims, err := s.images.Page(ctx, store.Select{Where: w, Order: order, Limit: q.Limit}, q.Marker)
	if errors.Is(err, store.ErrNoRow) {
		return nil, nacre.Errorf(nacre.Invalid, "", "Invalid marker: %s could not be found.", q.Marker)
	}
	return ims, err
}

func (s *Service) filter(c *nacre.Caller, q nacre.Query) (store.Where, error) {
	mine := store.Eq("owner", c.ProjectID)
	membership := store.Eq("member_id", c.ProjectID)
	if v, _ := q.Get("member_status"); v != "all" {
		if v == "" {
			v = "accepted"
		}
		membership = store.And(membership, store.Eq("status", v))
	}
	visible := store.Or(mine, store.Eq("visibility", "public"), store.And(store.Eq("visibility", "shared"), store.InSelect("id", s.members, "image_id", membership)))
	if c.HasRole("admin") {
		visible = store.Not(store.And(store.Eq("visibility", "community"), store.Not(mine)))
	}
	hidden := false
	ws := []store.Where{}
	for _, f := range q.Filters {
		v := f.Value
		switch f.Name {
		case "visibility":
			switch v {
			case "all":
				if !c.HasRole("admin") {
					visible = store.Or(visible, store.Eq("visibility", "community"))
				} else {
					visible = store.All()
				}
			case "community":
				visible = store.Eq("visibility", v)
			case "public", "private", "shared":
				ws = append(ws, store.Eq("visibility", v))
			default:
				return store.Where{}, nacre.Errorf(nacre.Invalid, "", "Invalid visibility value: %s", v)
			}
		case "member_status":
			if !slices.Contains([]string{"pending", "accepted", "rejected", "all"}, v) {
				return store.Where{}, nacre.Errorf(nacre.Invalid, "", "Invalid status: %s", v)
			}
		case "os_hidden", "protected":
			on, err := strconv.ParseBool(strings.ToLower(v))
			if err != nil {
				return store.Where{}, nacre.Errorf(nacre.Invalid, "", "Invalid value '%s' for '%s' filter: must be 'true' or 'false'", v, f.Name)
			}
			if f.Name == "os_hidden" {
				hidden = on
			} else {
				ws = append(ws, store.Eq("protected", on))
			}
		case "tag":
			ws = append(ws, store.InSelect("id", s.tags, "image_id", store.Eq("tag", v)))
		case "size_min", "size_max":
			n, err := strconv.ParseInt(v, 10, 64)
			if err != nil || n < 0 {
				return store.Where{}, nacre.Errorf(nacre.Invalid, "", "Invalid value for %s: %s", f.Name, v)
			}
			if f.Name == "size_min" {
				ws = append(ws, store.GreaterEq("size", n))
			} else {
				ws = append(ws, store.LessEq("size", n))
			}
		case "created_at", "updated_at":
			w, err := timeFilter(f)
			if err != nil {
				return store.Where{}, err
			}
			ws = append(ws, w)
		case "name", "status", "id", "owner", "disk_format", "container_format", "checksum", "os_hash_value", "os_hash_algo":
			if f.Op != "" && f.Op != "in" && f.Op != "eq" {
				return store.Where{}, nacre.Errorf(nacre.Invalid, "", "Unable to filter on a unknown operator.")
			}
			ws = append(ws, textFilter(f))
		case "min_disk", "min_ram", "size":
			n, err := strconv.ParseInt(v, 10, 64)
			if err != nil {
				return store.Where{}, nacre.Errorf(nacre.Invalid, "", "Invalid value for %s: %s", f.Name, v)
			}
			ws = append(ws, store.Eq(f.Name, n))
		default:
			ws = append(ws, store.InSelect("id", s.properties, "image_id", store.And(store.Eq("name", f.Name), store.Eq("value", v))))
		}
	}
	return store.And(append(ws, visible, store.Eq("os_hidden", hidden))...), nil
}

// textFilter is equality, or "in:a,b" with quotes around values that hold commas.
func textFilter(f nacre.Filter) store.Where {
	if f.Op != "in" {
		return store.Eq(f.Name, f.Value)
	}
	var vals []string
	rest := f.Value
	for rest != "" {
		if strings.HasPrefix(rest, `"`) {
			v, after, ok := strings.Cut(rest[1:], `"`)
			if ok {
				vals = append(vals, v)
				rest = strings.TrimPrefix(after, ",")
				continue
			}
		}
		v, after, _ := strings.Cut(rest, ",")
		vals = append(vals, v)
		rest = after
	}
	return store.In(f.Name, vals)
}

func timeFilter(f nacre.Filter) (store.Where, error) {
	t, err := rest.ParseTime(f.Value)
	if err != nil {
		return store.Where{}, nacre.Errorf(nacre.Invalid, "", "Invalid time format for %s: %s", f.Name, f.Value)
	}
	switch f.Op {
	case "gt":
		return store.Greater(f.Name, t), nil
	case "gte":
		return store.GreaterEq(f.Name, t), nil
	case "lt":
		return store.Less(f.Name, t), nil
	case "lte":
		return store.LessEq(f.Name, t), nil
	case "neq":
		return store.Ne(f.Name, t), nil
	}
	// Stored times have microseconds, the API's have not.
	return store.And(store.GreaterEq(f.Name, t), store.Less(f.Name, t.Add(time.Second))), nil
}

// Update changes an image by fn, which may return an error to refuse.
func (s *Service) Update(ctx context.Context, id string, fn func(*Image) error) (Image, error) {
	if _, err := s.forChange(ctx, id, "modify_image"); err != nil {
		return Image{}, err
	}
	var out Image
	err := store.InTx(ctx, s.c.Engine, func(ctx context.Context) error {
		im, err := s.images.Update(ctx, id, func(im *Image) error {
			before := im.Visibility
			im.Properties = maps.Clone(im.Properties)
			if err := fn(im); err != nil {
				return err
			}
			if err := s.mayShow(ctx, im, before); err != nil {
				return err
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
	return out, err
}

// Delete removes an image; its bytes follow.
func (s *Service) Delete(ctx context.Context, id string) error {
	if _, err := s.forChange(ctx, id, "delete_image"); err != nil {
		return err
	}
	return store.InTx(ctx, s.c.Engine, func(ctx context.Context) error {
		im, err := s.images.GetForUpdate(ctx, id)
		if err != nil {
			return store.WrapNotFound(err, func() *nacre.Error { return notFound(id) })
		}
		if im.Protected {
			return nacre.Errorf(nacre.Forbidden, "", "Image %s is protected and cannot be deleted.", id)
		}
		if _, err := s.tags.DeleteWhere(ctx, store.Eq("image_id", id)); err != nil {
			return err
		}
		if _, err := s.properties.DeleteWhere(ctx, store.Eq("image_id", id)); err != nil {
			return err
		}
		if _, err := s.members.DeleteWhere(ctx, store.Eq("image_id", id)); err != nil {
			return err
		}
		if err := s.images.Delete(ctx, id); err != nil {
			return err
		}
		if im.BlobKey != "" {
			b := reconcile.Begin{Step: "remove"}
			if im.Status == Saving {
				// The upload notices at its next heartbeat and removes what it
				// wrote; this is for one that died.
				b.After = s.c.UploadTimeout
			}
			if err := s.work.Put(ctx, kindBlob, im.BlobKey, b); err != nil {
				return err
			}
		}
		return s.events.Emit(ctx, "image.delete", im.ID, im.OwnerID, eventOf(&im))
	})
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
	_, err := s.images.Update(ctx, id, func(im *Image) error {
		if im.Status != from && im.Status != to {
			return nacre.Errorf(nacre.Forbidden, "", "Not allowed to %s image in status '%s'", rule, im.Status)
		}
		im.Status = to
		return nil
	})
	return err
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
