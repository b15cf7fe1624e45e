package image

import (
	"context"
	"crypto/md5"  //nolint:gosec // hashes that users may name
	"crypto/sha1" //nolint:gosec // as above
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/image/backend"
	"github.com/nacre-cloud/nacre/internal/diskimage"
	"github.com/nacre-cloud/nacre/internal/policy"
	"github.com/nacre-cloud/nacre/internal/reconcile"
	"github.com/nacre-cloud/nacre/store"
)

// Where is a location as users see it.
type Where struct {
	URL      string         `json:"url"`
	Metadata map[string]any `json:"metadata"`
}

// Validation is the hash that a user says a location's bytes have.
type Validation struct {
	Checksum, HashAlgo, HashValue string
}

// AddedLocation is a location as a user gives it.
type AddedLocation struct {
	URL        string
	Metadata   map[string]any
	Validation *Validation
}

// where words a location, nil for one whose store can't.
func (s *Service) where(l Location) *Where {
	w := &Where{URL: l.URL, Metadata: map[string]any{"store": l.Store}}
	for k, v := range l.Metadata {
		w.Metadata[k] = v
	}
	if l.URL == "" {
		d, err := s.driver(l.Store)
		if err != nil {
			return nil
		}
		a, ok := d.(backend.Addresser)
		if !ok {
			return nil
		}
		w.URL = a.URL(l.Key)
	}
	return w
}

func (s *Service) wheres(im *Image) []Where {
	out := []Where{}
	for _, l := range im.Locations {
		if w := s.where(l); w != nil {
			out = append(out, *w)
		}
	}
	return out
}

// ShownLocations are an image's locations where images show them and the caller
// may see them, and its direct URL; shown is false where they are not shown.
func (s *Service) ShownLocations(ctx context.Context, im *Image) (list []Where, direct string, shown bool) {
	if !s.c.ShowLocations && !s.c.ShowDirectURL {
		return nil, "", false
	}
	// Without a look at memberships: lists show many images.
	if c := nacre.CallerFrom(ctx); c != nil && s.c.Policy.Enforce(ctx, "get_image_location", target(c, im, false)) == nil {
		list = s.wheres(im)
	}
	if s.c.ShowDirectURL && len(list) > 0 {
		direct = list[0].URL
	}
	return list, direct, s.c.ShowLocations
}

// Locations lists where an image's bytes are, to services.
func (s *Service) Locations(ctx context.Context, id string) ([]Where, error) {
	im, err := s.forChange(ctx, id, "fetch_image_location")
	if err != nil {
		return nil, err
	}
	return s.wheres(&im), nil
}

// remoteStore is the store that reads a user's URL. Only stores that say so do:
// file:// and the like never pass.
func (s *Service) remoteStore(ctx context.Context, url string) (*Store, backend.Remote, error) {
	err := invalid("Invalid location: %s", url)
	for i := range s.c.Stores {
		r, ok := s.c.Stores[i].Driver.(backend.Remote)
		if !ok {
			continue
		}
		if err = r.CheckURL(ctx, url); err == nil {
			return &s.c.Stores[i], r, nil
		}
	}
	return nil, nil, err
}

func newHash(algo string) (hash.Hash, bool) {
	switch algo {
	case "md5":
		return md5.New(), true //nolint:gosec // as above
	case "sha1":
		return sha1.New(), true //nolint:gosec // as above
	case "sha256":
		return sha256.New(), true
	case "sha512":
		return sha512.New(), true
	}
	return nil, false
}

func checkValidation(v *Validation, only string) error {
	h, ok := newHash(v.HashAlgo)
	if !ok || only != "" && v.HashAlgo != only {
		return conflict("os_hash_algo must be %s, not %s", only, v.HashAlgo)
	}
	b, err := hex.DecodeString(v.HashValue)
	if err != nil {
		return invalid("os_hash_value (%s) is not a valid hexadecimal value", v.HashValue)
	}
	if len(b) != h.Size() {
		return invalid("os_hash_value: (%s) is not the correct size for (%s) (should be (%d) bytes)", v.HashValue, v.HashAlgo, h.Size())
	}
	if v.Checksum == "" {
		return nil
	}
	if b, err := hex.DecodeString(v.Checksum); err != nil || len(b) != md5.Size {
		return conflict("checksum (%s) is not the correct size for md5 (should be 16 bytes)", v.Checksum)
	}
	return nil
}

// AddLocation gives a queued image bytes that are at a URL already; a task tells
// how it goes. v may be nil.
func (s *Service) AddLocation(ctx context.Context, id, url string, v *Validation) (*Task, error) {
	if err := store.Outside(ctx); err != nil {
		return nil, err
	}
	im, err := s.get(ctx, id)
	if err != nil {
		return nil, err
	}
	notNow := func(im *Image) error {
		if im.Status != Queued {
			return conflict("It's not allowed to add locations if image status is %s.", im.Status)
		}
		if im.ImportTask != "" {
			return conflict("Image has active task")
		}
		return formatsSet(im)
	}
	if err := notNow(&im); err != nil {
		return nil, err
	}
	if err := s.enforce(ctx, "add_image_location", &im); err != nil {
		return nil, err
	}
	st, _, err := s.remoteStore(ctx, url)
	if err != nil {
		if s.c.Policy.Enforce(ctx, "service_api", policy.Map{}) != nil {
			err = nacre.Errorf(nacre.Forbidden, "", "http store must be enabled to use location API by normal user.")
		}
		return nil, err
	}
	d := importData{Request: ImportRequest{Method: locationImport}, URL: url, Targets: []string{st.ID}}
	if v != nil {
		if err := checkValidation(v, ""); err != nil {
			return nil, err
		}
		d.WantAlgo, d.Want = v.HashAlgo, v.HashValue
	}
	task, err := s.newTask(ctx, TaskLocation, id, map[string]any{"image_id": id, "loc_url": url})
	if err != nil {
		return nil, err
	}
	d.Task = task.ID
	err = s.withLimits(ctx, id, func(ctx context.Context, _ map[string]int64, im *Image) error {
		if err := notNow(im); err != nil {
			return err
		}
		return s.startImport(ctx, im, task, d)
	})
	if err != nil {
		return nil, err
	}
	return &task, nil
}

// stepLocate looks at what is at an added location. Its bytes are inspected and
// hashed before the image is active, unless hashes are switched off.
func (s *Service) stepLocate(ctx context.Context, j *reconcile.Job) (reconcile.Next, error) {
	d, im, err := s.importing(ctx, j)
	if err != nil {
		return reconcile.Next{}, err
	}
	st, remote, err := s.remoteStore(ctx, d.URL)
	if err != nil {
		return reconcile.Next{}, reconcile.Fail(err)
	}
	body, size, err := remote.OpenURL(ctx, d.URL)
	if err != nil {
		return reconcile.Next{}, final(ctx, err)
	}
	defer body.Close() //nolint:errcheck // read only
	got := received{size: max(size, 0)}
	if !s.c.NoSecureHash {
		if got, err = s.look(ctx, &im, &d, body); err != nil {
			return reconcile.Next{}, final(ctx, err)
		}
	}
	return j.Commit(ctx, reconcile.Goto("finish"), func(ctx context.Context) error {
		return s.importChange(ctx, &d, im.ID, func(im *Image) error {
			im.Locations = []Location{{Store: st.ID, URL: d.URL}}
			im.ImportingTo = nil
			s.settle(im, got)
			if s.c.NoSecureHash {
				im.HasSize, im.Checksum, im.HashAlgo, im.HashValue = size >= 0, "", d.WantAlgo, d.Want
			}
			return nil
		})
	})
}

// look reads bytes that stay where they are.
func (s *Service) look(ctx context.Context, im *Image, d *importData, body io.Reader) (received, error) {
	in := s.newIntake(im.ID, "", body, s.c.MaxSize, store.And(store.Eq("id", im.ID), store.Eq("import_task", d.Task)))
	in.ctx = ctx
	defer in.sums.stop()
	want, ok := newHash(d.WantAlgo)
	if !ok {
		want = sha512.New()
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{want}, struct{ io.Reader }{in}, make([]byte, 256<<10))
	if in.refused != nil {
		return received{}, in.refused
	}
	if err != nil {
		return received{}, err
	}
	out := received{size: n}
	if out.info, err = in.inspect.Finish(); err != nil {
		return out, err
	}
	if err := s.matches(im, out.info); err != nil {
		return out, err
	}
	out.checksum, out.hashed = in.sums.sum()
	if sum := hex.EncodeToString(want.Sum(nil)); d.Want != "" && sum != d.Want {
		return out, invalid("os_hash_value: (%s) not matched with actual os_hash_value: (%s)", d.Want, sum)
	}
	return out, nil
}

// head inspects the beginning of what is at a URL and gives its size.
func (s *Service) head(ctx context.Context, url string) (*Store, int64, error) {
	st, remote, err := s.remoteStore(ctx, url)
	if err != nil {
		return nil, 0, err
	}
	body, size, err := remote.OpenURL(ctx, url)
	if err != nil {
		return nil, 0, invalid("Invalid location: %s can't be read", url)
	}
	defer body.Close() //nolint:errcheck // read only
	in := diskimage.NewInspector()
	if _, err := io.Copy(in, io.LimitReader(body, 2<<20)); err != nil {
		return nil, 0, invalid("Invalid location: %s can't be read", url)
	}
	return st, size, in.Check()
}

// LocationChange is one operation on an image's list of locations (the old
// locations API): Op is add, replace or remove; Pos a position, "-" or empty.
type LocationChange struct {
	Op, Pos   string
	Locations []AddedLocation
}

// ChangeLocations changes the locations of an image by hand.
func (s *Service) ChangeLocations(ctx context.Context, id string, ch LocationChange) error {
	if err := store.Outside(ctx); err != nil {
		return err
	}
	im, err := s.get(ctx, id)
	if err != nil {
		return err
	}
	rule, verb := "set_image_location", map[string]string{"add": "add", "replace": "update", "remove": "remove"}[ch.Op]
	if ch.Op == "remove" {
		rule = "delete_image_location"
	}
	if ch.Op == "replace" && len(ch.Locations) == 0 {
		return nacre.Errorf(nacre.Forbidden, "", "Cannot set locations to empty list.")
	}
	if err := s.enforce(ctx, rule, &im); err != nil {
		return err
	}
	if !s.c.ShowLocations {
		return nacre.Errorf(nacre.Forbidden, "", "It's not allowed to %s locations if locations are invisible.", verb)
	}
	added, size, val, err := s.lookAtAll(ctx, &im, ch.Locations)
	if err != nil {
		return err
	}
	return s.changeImage(ctx, id, "image.update", func(ctx context.Context, im *Image) error {
		if im.Status != Active && (im.Status != Queued || ch.Op == "remove") || im.ImportTask != "" {
			return conflict("It's not allowed to %s locations if image status is %s.", ch.Op, im.Status)
		}
		before := im.Locations
		if err := applyLocations(im, ch, added); err != nil {
			return err
		}
		if n := len(im.Locations); n > s.c.MaxLocations && n > len(before) {
			return nacre.Errorf(nacre.TooLarge, "", "The limit has been exceeded on the number of allowed image locations. Attempted: %d, Maximum: %d", n, s.c.MaxLocations)
		}
		for _, l := range before {
			if !slices.ContainsFunc(im.Locations, func(x Location) bool { return x.Store == l.Store && x.Key == l.Key && x.URL == l.URL }) {
				if err := s.discard(ctx, l.Store, l.Key, reconcile.Begin{}); err != nil {
					return err
				}
			}
		}
		if im.Status == Queued {
			if err := formatsSet(im); err != nil {
				return err
			}
			im.Status, im.Size, im.HasSize = Active, max(size, 0), size >= 0
			if val != nil {
				im.Checksum, im.HashAlgo, im.HashValue = val.Checksum, val.HashAlgo, val.HashValue
			}
		}
		im.Updated = time.Now().UTC()
		return nil
	})
}

// lookAtAll checks the locations that a user gives.
func (s *Service) lookAtAll(ctx context.Context, im *Image, given []AddedLocation) (out []Location, size int64, val *Validation, err error) {
	for _, a := range given {
		if v := a.Validation; v != nil {
			fresh := false
			for _, x := range []struct{ name, have, given string }{{"checksum", im.Checksum, v.Checksum}, {"os_hash_algo", im.HashAlgo, v.HashAlgo}, {"os_hash_value", im.HashValue, v.HashValue}} {
				if x.have != "" && x.have != x.given && (x.given != "" || x.name != "checksum") {
					return nil, 0, nil, conflict("%s is already set with a different value", x.name)
				}
				fresh = fresh || x.have == "" && x.given != ""
			}
			if fresh && im.Status != Queued {
				return nil, 0, nil, conflict("New value(s) for os_hash_value may only be provided when image status is 'queued'")
			}
			if err := checkValidation(v, "sha512"); err != nil {
				return nil, 0, nil, err
			}
			if val != nil && *val != *v {
				return nil, 0, nil, conflict("Conflicting values for os_hash_value")
			}
			val = v
		}
		i := slices.IndexFunc(im.Locations, func(l Location) bool { w := s.where(l); return w != nil && w.URL == a.URL })
		meta := map[string]any{}
		for k, v := range a.Metadata {
			if k != "store" {
				meta[k] = v
			}
		}
		if i >= 0 {
			same := im.Locations[i]
			same.Metadata = meta
			out = append(out, same)
			continue
		}
		st, n, err := s.head(ctx, a.URL)
		if err != nil {
			return nil, 0, nil, err
		}
		if im.HasSize && n >= 0 && n != im.Size {
			return nil, 0, nil, invalid("Invalid location: %s has another size than the image", a.URL)
		}
		size = n
		if slices.ContainsFunc(out, func(l Location) bool { return l.URL == a.URL }) {
			return nil, 0, nil, invalid("The location %s already exists", a.URL)
		}
		out = append(out, Location{Store: st.ID, URL: a.URL, Metadata: meta})
	}
	return out, size, val, nil
}

// applyLocations does a change to an image's list.
func applyLocations(im *Image, ch LocationChange, added []Location) error {
	list := slices.Clone(im.Locations)
	pos := len(list)
	if ch.Op == "remove" {
		pos--
	}
	if ch.Op != "replace" && ch.Pos != "-" {
		n, err := strconv.Atoi(ch.Pos)
		if err != nil || n < 0 || ch.Op == "remove" && n >= len(list) {
			return invalid("Invalid position for %sing a location.", map[string]string{"add": "add", "remove": "remov"}[ch.Op])
		}
		pos = min(n, pos)
	}
	switch ch.Op {
	case "replace":
		same := func(in []Location) func(Location) bool {
			return func(l Location) bool {
				return !slices.ContainsFunc(in, func(x Location) bool { return x.Store == l.Store && x.Key == l.Key && x.URL == l.URL })
			}
		}
		if len(list) > 0 && (len(list) != len(added) || slices.ContainsFunc(added, same(list)) || slices.ContainsFunc(list, same(added))) {
			return invalid("Original locations is not empty: only their metadata can be replaced.")
		}
		im.Locations = added
	case "add":
		if len(added) != 1 {
			return errors.New("image: one location is added at a time")
		}
		if slices.ContainsFunc(list, func(l Location) bool { return l.URL == added[0].URL && l.Key == added[0].Key }) {
			return invalid("The location %s already exists", added[0].URL)
		}
		im.Locations = slices.Insert(list, pos, added[0])
	case "remove":
		if len(list) == 1 {
			return nacre.Errorf(nacre.Forbidden, "", "Cannot remove last location in the image.")
		}
		im.Locations = slices.Delete(list, pos, pos+1)
	}
	return nil
}
