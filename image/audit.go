package image

import (
	"context"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"io"

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
	keys, err := s.c.Backend.List(ctx)
	if err != nil {
		return nil, err
	}
	works, err := s.work.All(ctx)
	if err != nil {
		return nil, err
	}
	images, err := s.images.Where(ctx)
	if err != nil {
		return nil, err
	}
	known, blobs := map[string]bool{}, map[string]bool{}
	for _, w := range works {
		known[w.ObjectID] = true
	}
	for _, k := range keys {
		blobs[k] = true
	}
	for i := range images {
		im := &images[i]
		if im.BlobKey != "" && im.Status == Saving && !known[im.BlobKey] {
			found("image", im.ID, "is being saved and nothing watches it")
		}
		if im.BlobKey != "" {
			known[im.BlobKey] = true
		}
		if im.Status != Active && im.Status != Deactivated {
			continue
		}
		if !blobs[im.BlobKey] {
			found("image", im.ID, "is %s but its bytes are gone", im.Status)
			continue
		}
		if err := s.auditBytes(ctx, im, deep, found); err != nil {
			return nil, err
		}
	}
	for k := range blobs {
		if !known[k] {
			found("blob", k, "belongs to no image")
		}
	}
	return out, nil
}

func (s *Service) auditBytes(ctx context.Context, im *Image, deep bool, found func(kind, id, format string, args ...any)) error {
	r, size, err := s.c.Backend.Open(ctx, im.BlobKey)
	if err != nil {
		return err
	}
	defer r.Close() //nolint:errcheck // read only
	if size != im.Size {
		found("image", im.ID, "shows a size of %d, its bytes are %d", im.Size, size)
	}
	if !deep {
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

// Waiting counts the work that is not done.
func (s *Service) Waiting(ctx context.Context) (int64, error) {
	ws, err := s.work.All(ctx)
	return int64(len(ws)), err
}
