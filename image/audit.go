package image

import (
	"context"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/nacre-cloud/nacre"
)

// Audit says what does not hold that always must: an active image has its bytes,
// of the size and hash that it shows; each blob is an image's or has work that
// removes it; an image that is being saved has work. With deep false bytes are
// not read.
func (s *Service) Audit(ctx context.Context, deep bool) ([]nacre.Finding, error) {
	var out []nacre.Finding
	found := func(kind, id, format string, args ...any) {
		out = append(out, nacre.Finding{Area: "image", Kind: kind, ID: id, Problem: fmt.Sprintf(format, args...)})
	}
	// Blobs first: what comes into being meanwhile is then seen with its image.
	blobs := map[string]map[string]bool{}
	for name, d := range s.drivers() {
		keys, err := d.List(ctx)
		if err != nil {
			return nil, err
		}
		blobs[name] = map[string]bool{}
		for _, k := range keys {
			blobs[name][k] = true
		}
	}
	works, err := s.work.All(ctx)
	if err != nil {
		return nil, err
	}
	images, err := s.images.Where(ctx)
	if err != nil {
		return nil, err
	}
	cached, err := s.cached.Where(ctx)
	if err != nil {
		return nil, err
	}
	known, busy := map[string]bool{}, map[string]bool{}
	for _, w := range works {
		known[w.ObjectID], busy[w.Kind+"/"+w.ObjectID] = true, true
	}
	for _, c := range cached {
		known[c.Key] = true
		if !c.Whole && !busy[kindCache+"/"+c.ID] {
			found("image", c.ID, "is queued for the cache and nothing works on it")
		}
	}
	for i := range images {
		im := &images[i]
		switch {
		case im.ImportTask != "" && !busy[kindImport+"/"+im.ID]:
			found("image", im.ID, "is being imported and nothing works on it")
		case im.Status == Importing && im.ImportTask == "":
			found("image", im.ID, "is importing without a task")
		case (im.Status == Saving || im.Status == Uploading && !im.Staged) && !known[im.BlobKey]:
			found("image", im.ID, "is being saved and nothing watches it")
		}
		if im.BlobKey != "" {
			known[im.BlobKey] = true
		}
		for _, l := range im.Locations {
			known[l.Key] = true
		}
		if im.Status != Active && im.Status != Deactivated {
			continue
		}
		if len(im.Locations) == 0 {
			found("image", im.ID, "is %s and has no bytes", im.Status)
		}
		for _, l := range im.Locations {
			if l.Key == "" {
				continue
			}
			if err := s.auditBytes(ctx, im, l, deep, found); err != nil {
				return nil, err
			}
		}
	}
	for name, keys := range blobs {
		for k := range keys {
			if !known[k] {
				found("blob", k, "belongs to no image (store %s)", name)
			}
		}
	}
	return out, nil
}

func (s *Service) auditBytes(ctx context.Context, im *Image, l Location, deep bool, found func(kind, id, format string, args ...any)) error {
	d, err := s.driver(l.Store)
	if err != nil {
		found("image", im.ID, "is in store %s, which is not configured", l.Store)
		return nil
	}
	r, size, err := d.Open(ctx, l.Key)
	if errors.Is(err, nacre.NotFound) {
		found("image", im.ID, "is %s but its bytes are gone from store %s", im.Status, l.Store)
		return nil
	}
	if err != nil {
		return err
	}
	defer r.Close() //nolint:errcheck // read only
	if im.HasSize && size != im.Size {
		found("image", im.ID, "shows a size of %d, its bytes are %d", im.Size, size)
	}
	if !deep || im.HashAlgo != "sha512" {
		return nil
	}
	h := sha512.New()
	if _, err := io.Copy(h, r); err != nil {
		return err
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != im.HashValue {
		found("image", im.ID, "its bytes do not have the hash that it shows")
	}
	return nil
}

// Waiting counts the work that is not done, but for what only waits for its day:
// finished tasks, and bytes that are kept for an operator.
func (s *Service) Waiting(ctx context.Context) (int64, error) {
	ws, err := s.work.All(ctx)
	n := int64(0)
	for _, w := range ws {
		if w.Kind == kindTask || w.Kind == kindBlob && w.Step == "remove" && s.c.ScrubAfter > 0 && time.Until(w.Due) > s.c.UploadTimeout {
			continue
		}
		n++
	}
	return n, err
}
