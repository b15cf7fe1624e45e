//go:build ceph && cgo

package rados

import (
	"bytes"
	"context"
	"errors"
	"io"

	"github.com/nacre-cloud/nacre/objectstore/blob"
)

// Open implements blob.Store. What one RADOS object holds is read at once, since it
// goes when the blob is deleted.
func (s *Store) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	r, ok := parse(key)
	if !ok {
		return nil, blob.NotFound(key)
	}
	off = min(max(off, 0), r.size)
	end := r.size
	if n >= 0 {
		end = min(end, off+n)
	}
	if r.cut() || off == end {
		err := s.with(ctx, func() error { _, err := s.objects.Stat(key); return err })
		if err != nil {
			return nil, gone(err, key)
		}
		return &reader{ctx: ctx, s: s, ref: r, off: off, end: end}, nil
	}
	data, err := s.part(ctx, r, 0, off, end)
	if err != nil {
		return nil, gone(err, key)
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

func gone(err error, key string) error {
	if missing(err) {
		return blob.NotFound(key)
	}
	return err
}

// part reads the bytes from off up to end of part n, counted from its beginning.
func (s *Store) part(ctx context.Context, r ref, n, off, end int64) ([]byte, error) {
	name, size := r.object(n)
	from, to := span(off, end, size)
	b := make([]byte, to-from)
	got := 0
	err := s.with(ctx, func() (err error) {
		got, err = s.objects.Read(name, b, uint64(from)) //nolint:gosec // not negative
		return err
	})
	if err != nil {
		return nil, err
	}
	if got < len(b) {
		return nil, blob.ErrRotten
	}
	first := off / blockSize
	data, err := unpack(r.id, n, first, b)
	if err != nil {
		return nil, err
	}
	return data[off-first*blockSize : end-first*blockSize], nil
}

// reader reads a large blob part by part.
type reader struct {
	ctx      context.Context
	s        *Store
	ref      ref
	off, end int64
	data     []byte // read and not handed out
	err      error
}

func (r *reader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	if len(r.data) == 0 {
		if r.off >= r.end {
			return 0, io.EOF
		}
		n := r.off / partSize
		r.data, r.err = r.s.part(r.ctx, r.ref, n, r.off-n*partSize, min(r.end-n*partSize, partSize))
		if missing(r.err) { // a part may not be missing
			r.err = blob.ErrRotten
		}
		if r.err != nil {
			return 0, r.err
		}
		r.off += int64(len(r.data))
	}
	n := copy(p, r.data)
	r.data = r.data[n:]
	return n, nil
}

func (r *reader) Close() error {
	r.err, r.data = errClosed, nil
	return nil
}

// Verify implements blob.Store.
func (s *Store) Verify(ctx context.Context, key string) error {
	r, err := s.Open(ctx, key, 0, -1)
	if err == nil {
		_, err = io.Copy(io.Discard, r)
		err = errors.Join(err, r.Close())
	}
	if errors.Is(err, blob.ErrRotten) {
		if aside := s.setAside(ctx, key); aside != nil {
			return aside
		}
	}
	return err
}

// setAside takes the blob's head into the namespace of the rotten; the parts of a
// large one stay where they are.
func (s *Store) setAside(ctx context.Context, key string) error {
	b := make([]byte, partSize/blockSize*stride)
	return s.with(ctx, func() error {
		n, err := s.objects.Read(key, b, 0)
		if err != nil {
			return err
		}
		if err := write(s.rotten, key, b[:n]); err != nil {
			return err
		}
		return s.objects.Delete(key)
	})
}
