package image

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/image/backend"
	"github.com/nacre-cloud/nacre/internal/reconcile"
	"github.com/nacre-cloud/nacre/store"
)

// Store is one of several places for the bytes of images.
type Store struct {
	// ID is what users call it; lower-case letters, digits, dashes, underscores.
	ID          string
	Description string
	Driver      backend.Driver
	// ReadOnly stores take no bytes, only URLs (glance's http store).
	ReadOnly bool
	// Weight prefers a store for downloads of an image that has several copies.
	Weight int
}

// StoreInfo is a store as discovery shows it.
type StoreInfo struct {
	ID, Description   string
	Default, ReadOnly bool
	// Type, Weight and Properties are for administrators.
	Type       string
	Weight     int
	Properties map[string]any
}

var storeIDRE = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$`)

// setStores checks the configured stores. The first is the default.
func (s *Service) setStores() error {
	if len(s.c.Stores) == 0 && s.c.Backend != nil {
		s.c.Stores = []Store{{ID: "default", Driver: s.c.Backend}}
	}
	s.stores = map[string]*Store{}
	for i := range s.c.Stores {
		st := &s.c.Stores[i]
		_, remote := st.Driver.(backend.Remote)
		switch {
		case st.Driver == nil:
			return fmt.Errorf("image: store %q has no Driver", st.ID)
		case !storeIDRE.MatchString(st.ID) || strings.HasPrefix(st.ID, "os_glance_"):
			return fmt.Errorf("image: %q is no store id", st.ID)
		case s.stores[st.ID] != nil:
			return fmt.Errorf("image: two stores are called %q", st.ID)
		case i == 0 && st.ReadOnly:
			return fmt.Errorf("image: the default store %q is read-only", st.ID)
		case st.ReadOnly && !remote:
			return fmt.Errorf("image: read-only store %q can't read URLs", st.ID)
		}
		s.stores[st.ID] = st
	}
	if s.c.Staging == nil {
		s.c.Staging = s.c.Stores[0].Driver
	}
	return nil
}

// stagingStore is how references name Config.Staging.
const stagingStore = "os_glance_staging_store"

// driver is the store's driver; "" is the default store.
func (s *Service) driver(id string) (backend.Driver, error) {
	switch {
	case id == stagingStore:
		return s.c.Staging, nil
	case id == cacheStore:
		return s.cacheDriver(), nil
	case id == "":
		return s.c.Stores[0].Driver, nil
	case s.stores[id] == nil:
		return nil, fmt.Errorf("image: no store %q is configured", id)
	}
	return s.stores[id].Driver, nil
}

// drivers are the different drivers, by the name of one store that uses each.
func (s *Service) drivers() map[string]backend.Driver {
	out := map[string]backend.Driver{}
	var seen []backend.Driver
	for _, st := range s.c.Stores {
		if !st.ReadOnly && !slices.Contains(seen, st.Driver) {
			seen = append(seen, st.Driver)
			out[st.ID] = st.Driver
		}
	}
	if !slices.Contains(seen, s.c.Staging) {
		seen = append(seen, s.c.Staging)
		out[stagingStore] = s.c.Staging
	}
	if !slices.Contains(seen, s.cacheDriver()) {
		out[cacheStore] = s.cacheDriver()
	}
	return out
}

// StoreIDs are the stores' ids, the default first.
func (s *Service) StoreIDs() []string {
	ids := make([]string, len(s.c.Stores))
	for i, st := range s.c.Stores {
		ids[i] = st.ID
	}
	return ids
}

// Stores lists the stores; with detail what only administrators and services see.
func (s *Service) Stores(ctx context.Context, detail bool) ([]StoreInfo, error) {
	if _, err := s.caller(ctx); err != nil {
		return nil, err
	}
	if detail {
		if err := s.enforce(ctx, "stores_info_detail", &Image{}); err != nil {
			return nil, err
		}
	}
	out := make([]StoreInfo, len(s.c.Stores))
	for i, st := range s.c.Stores {
		out[i] = StoreInfo{ID: st.ID, Description: st.Description, Default: i == 0, ReadOnly: st.ReadOnly}
		if !detail {
			continue
		}
		out[i].Weight, out[i].Properties = st.Weight, map[string]any{}
		if d, ok := st.Driver.(backend.Described); ok {
			out[i].Type, out[i].Properties = d.Kind(), d.Properties()
		}
	}
	return out, nil
}

// target checks a store that a user named for bytes; "" is the default.
func (s *Service) target(id string) (*Store, error) {
	if id == "" {
		return &s.c.Stores[0], nil
	}
	st := s.stores[id]
	if st == nil {
		return nil, nacre.Errorf(nacre.Invalid, "UnknownStore", "Store for identifier %s not found", id)
	}
	if st.ReadOnly {
		return nil, nacre.Errorf(nacre.Invalid, "ReadOnlyStore", "Store %s is read-only.", id)
	}
	return st, nil
}

// DeleteFromStore removes an active image's copy from one of the several stores
// that hold it.
func (s *Service) DeleteFromStore(ctx context.Context, storeID, id string) error {
	if s.stores[storeID] == nil {
		return nacre.Errorf(nacre.Conflict, "", "The selected store %s is not available on this node.", storeID)
	}
	im, err := s.forChange(ctx, id, "get_image_location")
	if err != nil {
		return err
	}
	if err := s.enforce(ctx, "delete_image_location", &im); err != nil {
		return err
	}
	if l := im.in(storeID); l != nil && len(im.Locations) > 1 {
		if err := s.free(ctx, "The data for Image", id, *l); err != nil {
			return err
		}
	}
	return s.changeImage(ctx, id, "image.update", func(ctx context.Context, im *Image) error {
		switch {
		case im.Status != Active:
			return nacre.Errorf(nacre.Conflict, "", "It's not allowed to remove image data from store if image status is not 'active'")
		case im.ImportTask != "":
			return nacre.Errorf(nacre.Conflict, "", "Image has active task")
		case len(im.Locations) == 1:
			return nacre.Errorf(nacre.Forbidden, "", "Cannot delete image data from the only store containing it. Consider deleting the image instead.")
		}
		i := slices.IndexFunc(im.Locations, func(l Location) bool { return l.Store == storeID })
		if i < 0 {
			return nacre.Errorf(nacre.NotFound, "", "Image %s is not stored in store %s.", id, storeID)
		}
		gone := im.Locations[i]
		im.Locations = slices.Delete(slices.Clone(im.Locations), i, i+1)
		return s.discard(ctx, gone.Store, gone.Key, reconcile.Begin{})
	})
}

// changeImage changes an image and emits typ, in one transaction. fn gets the
// transaction's context and may write more in it.
func (s *Service) changeImage(ctx context.Context, id, typ string, fn func(ctx context.Context, im *Image) error) error {
	return store.InTx(ctx, s.c.Engine, func(ctx context.Context) error {
		im, err := s.images.Update(ctx, id, func(im *Image) error { return fn(ctx, im) })
		if err != nil {
			return store.WrapNotFound(err, func() *nacre.Error { return notFound(id) })
		}
		return s.events.Emit(ctx, typ, im.ID, im.OwnerID, eventOf(&im))
	})
}

// discard has a blob removed, in the context's transaction.
func (s *Service) discard(ctx context.Context, storeID, key string, b reconcile.Begin) error {
	if key == "" {
		return nil
	}
	b.Step, b.Data = "remove", blobData{Store: storeID}
	return s.work.Put(ctx, kindBlob, key, b)
}
