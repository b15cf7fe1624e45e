package objectstore

import (
	"context"
	"crypto/md5" //nolint:gosec // Swift's entity tags are MD5 sums
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/objectstore/blob"
	"github.com/nacre-cloud/nacre/store"
)

// Audit says what does not hold that always must: each object and version lies in
// a container that is there and has its bytes; each container's counts are those of
// its rows; no account lacks a row. With deep it reads every byte. It changes
// nothing.
func (s *Service) Audit(ctx context.Context, deep bool) ([]nacre.Finding, error) {
	var out []nacre.Finding
	found := func(kind, id, format string, args ...any) {
		out = append(out, nacre.Finding{Area: "objectstore", Kind: kind, ID: id, Problem: fmt.Sprintf(format, args...)})
	}
	cs, err := s.containers.Where(ctx)
	if err != nil {
		return nil, err
	}
	as, err := s.accounts.Where(ctx)
	if err != nil {
		return nil, err
	}
	there := map[string]bool{}
	for _, a := range as {
		there[a.Name] = true
	}
	names, sums, vers := map[string]string{}, map[string]*Usage{}, map[string]*Usage{}
	for _, c := range cs {
		names[c.ID], sums[c.ID], vers[c.ID] = c.Account+"/"+c.Name, &Usage{}, &Usage{}
		if !there[c.Account] {
			found("container", names[c.ID], "its account has no row")
		}
	}
	check := func(kind, container, name string, d *Data, sum map[string]*Usage) error {
		id := names[container] + "/" + name
		if sum[container] == nil {
			found(kind, container+"/"+name, "it lies in no container")
			return nil
		}
		sum[container].Objects, sum[container].Bytes = sum[container].Objects+1, sum[container].Bytes+d.Bytes
		problem, err := s.checkBlob(ctx, d, deep)
		if problem != "" {
			found(kind, id, "%s", problem)
		}
		return err
	}
	last := ""
	for {
		os, err := s.objects.Select(ctx, store.Select{Where: store.Greater("id", last), Limit: page})
		if err != nil {
			return nil, err
		}
		for i := range os {
			if err := check("object", os[i].ID[:idLen], os[i].Name(), &os[i].Data, sums); err != nil {
				return nil, err
			}
		}
		if len(os) < page {
			break
		}
		last = os[len(os)-1].ID
	}
	last = ""
	for {
		vs, err := s.versions.Select(ctx, store.Select{Where: store.Greater("id", last), Limit: page})
		if err != nil {
			return nil, err
		}
		for i := range vs {
			if err := check("version", vs[i].Container, vs[i].Name, &vs[i].Data, vers); err != nil {
				return nil, err
			}
		}
		if len(vs) < page {
			break
		}
		last = vs[len(vs)-1].ID
	}
	for _, c := range cs {
		if u := *sums[c.ID]; u != (Usage{c.Objects, c.Bytes}) {
			found("container", names[c.ID], "it counts %d objects of %d bytes, and has %d of %d", c.Objects, c.Bytes, u.Objects, u.Bytes)
		}
		if u := *vers[c.ID]; u != (Usage{c.VersionCount, c.VersionBytes}) {
			found("container", names[c.ID], "it counts %d versions of %d bytes, and has %d of %d", c.VersionCount, c.VersionBytes, u.Objects, u.Bytes)
		}
	}
	return out, nil
}

// checkBlob says what is wrong with the bytes of a row.
func (s *Service) checkBlob(ctx context.Context, d *Data, deep bool) (string, error) {
	if d.Blob == "" {
		if d.Size != 0 {
			return "it has a size and no bytes", nil
		}
		return "", nil
	}
	n, got := int64(0), int64(0)
	if deep {
		n = -1
	}
	plain := *d
	s.vault.reveal(&plain)
	if plain.locked != nil {
		return "it can't be decrypted", nil
	}
	tag := md5.New() //nolint:gosec // see the import
	r, err := s.c.Blobs.Open(ctx, d.Blob, 0, n)
	if err == nil {
		r, err = decrypted(r, plain.key, 0)
	}
	if err == nil {
		got, err = io.Copy(tag, r)
		err = errors.Join(err, r.Close())
	}
	if err == nil && deep && got != d.Size {
		return fmt.Sprintf("it has %d bytes and not %d", got, d.Size), nil
	}
	if err == nil && deep && hex.EncodeToString(tag.Sum(nil)) != plain.Etag {
		return "its bytes are not those of its entity tag", nil
	}
	switch {
	case errors.Is(err, nacre.NotFound):
		return "its bytes are gone (blob " + d.Blob + ")", nil
	case errors.Is(err, blob.ErrRotten):
		return "its bytes are damaged (blob " + d.Blob + ")", nil
	}
	return "", err
}

// Waiting is how many blobs are yet to be deleted and objects to expire.
func (s *Service) Waiting(ctx context.Context) (int64, error) {
	return s.garbage.Count(ctx)
}
