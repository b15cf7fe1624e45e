// Package fs keeps blobs as files in a directory.
//
// # What is where
//
// Small blobs (64 KiB at most) are appended to segment files, many to a file;
// larger ones have a file of their own. Concurrent Puts of small blobs share one
// write and one sync, so that a Put is durable when it returns and yet costs a
// fraction of a sync. Each segment's record and each 64 KiB of a large blob
// carries a CRC-32C, which every reading checks.
//
//	segments/000000000001.seg    records, aligned to 64 bytes
//	large/ab/ab31…               a large blob: its bytes, the sums, a trailer
//	rotten/…                     what Verify has set aside
//
// A key says where its blob is; there is no index. Keys are never used again: a
// store that is opened begins a new segment. Deleting a small blob punches a hole
// into its segment, which gives whole blocks back to the disk, and a segment
// without blobs is removed. What a crash cut off is no blob: Walk does not show a
// record that isn't whole, and shows a large file that isn't whole with size -1
// so that it is swept.
//
// A directory belongs to one Store at a time.
package fs

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/nacre-cloud/nacre/objectstore/blob"
)

// Options of New. The zero value works.
type Options struct {
	// NoSync leaves out every sync, for tests.
	NoSync bool
	// Segment is the size at which a new segment is begun; 0 means 64 MiB.
	Segment int64
	// Reserve is how many bytes of the disk are left free, so that what else is on
	// it (the databases, without which nothing can be deleted) goes on; as with
	// Swift's fallocate_reserve 0 is a hundredth of the disk. Less than 0 is none.
	Reserve int64
}

// Small is the size up to which blobs share segments.
const Small = 64 << 10

// Store implements blob.Store.
type Store struct {
	dir     string
	sync    bool
	reserve int64
	segs    segments
	bufs    sync.Pool
}

var (
	_ blob.Store    = (*Store)(nil)
	_ blob.Starter  = (*Store)(nil)
	_ blob.Reporter = (*Store)(nil)
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// New opens, or makes, the directory.
func New(dir string, o Options) (*Store, error) {
	if o.Segment == 0 {
		o.Segment = 64 << 20
	}
	s := &Store{dir: dir, sync: !o.NoSync}
	s.bufs.New = func() any { b := make([]byte, chunk); return &b }
	for _, sub := range []string{"segments", "large", "rotten"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return nil, err
		}
	}
	if s.reserve = o.Reserve; o.Reserve == 0 {
		all, _, err := space(dir)
		if err != nil {
			return nil, err
		}
		s.reserve = all / 100
	}
	if err := s.syncDir(dir); err != nil {
		return nil, err
	}
	if err := s.segs.open(filepath.Join(dir, "segments"), o.Segment, s.sync); err != nil {
		return nil, err
	}
	return s, nil
}

// Put implements blob.Store.
func (s *Store) Put(ctx context.Context, r io.Reader, size int64) (string, int64, error) {
	key, n, wait, err := s.Start(ctx, r, size)
	if err == nil && wait != nil {
		err = wait()
	}
	if err != nil {
		return "", 0, err
	}
	return key, n, nil
}

// Start implements blob.Starter.
func (s *Store) Start(ctx context.Context, r io.Reader, _ int64) (string, int64, func() error, error) {
	buf := s.bufs.Get().(*[]byte)
	defer s.bufs.Put(buf)
	n, err := readChunk(r, *buf)
	if err != nil {
		return "", 0, nil, err
	}
	if err := s.room(n); err != nil {
		// What is deleted from a segment is given back once it is no longer written to.
		s.segs.seal()
		return "", 0, nil, err
	}
	if n == chunk {
		key, n, err := s.putLarge(ctx, *buf, r)
		return key, n, nil, err
	}
	if err := ctx.Err(); err != nil {
		return "", 0, nil, err
	}
	w, err := s.segs.put((*buf)[:n])
	if err != nil {
		return "", 0, nil, full(err)
	}
	return w.at.key(), int64(n), func() error { return full(w.wait()) }, nil
}

// room is ErrFull when n more bytes would take of what is to stay free.
func (s *Store) room(n int) error {
	if s.reserve <= 0 {
		return nil
	}
	_, free, err := space(s.dir)
	if err == nil && free-int64(n) < s.reserve {
		err = full(syscall.ENOSPC)
	}
	return err
}

// Open implements blob.Store.
func (s *Store) Open(_ context.Context, key string, off, n int64) (io.ReadCloser, error) {
	if off < 0 {
		off = 0
	}
	if at, ok := parseSmall(key); ok {
		return s.segs.read(key, at, off, n)
	}
	path, ok := s.largePath(key)
	if !ok {
		return nil, blob.NotFound(key)
	}
	return openLarge(key, path, off, n)
}

// Delete implements blob.Store.
func (s *Store) Delete(ctx context.Context, keys ...string) error {
	for _, k := range keys {
		if err := ctx.Err(); err != nil {
			return err
		}
		if at, ok := parseSmall(k); ok {
			if err := s.segs.remove(at, false); err != nil {
				return err
			}
			continue
		}
		if path, ok := s.largePath(k); ok {
			if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
	}
	return s.segs.squeeze()
}

// Walk implements blob.Store.
func (s *Store) Walk(ctx context.Context, fn func(blob.Info) error) error {
	if err := s.segs.walk(ctx, fn); err != nil {
		return err
	}
	return s.walkLarge(ctx, fn)
}

// Verify implements blob.Store.
func (s *Store) Verify(ctx context.Context, key string) error {
	r, err := s.Open(ctx, key, 0, -1)
	if err == nil {
		_, err = io.Copy(io.Discard, r)
		err = errors.Join(err, r.Close())
	}
	if !errors.Is(err, blob.ErrRotten) {
		return err
	}
	return errors.Join(blob.ErrRotten, s.setAside(key))
}

// setAside moves a rotten blob out of the way.
func (s *Store) setAside(key string) error {
	to := filepath.Join(s.dir, "rotten", key)
	if at, ok := parseSmall(key); ok {
		data, err := s.segs.raw(at)
		if err != nil {
			return err
		}
		if err := os.WriteFile(to, data, 0o600); err != nil {
			return err
		}
		return s.segs.remove(at, true)
	}
	path, _ := s.largePath(key)
	return os.Rename(path, to)
}

// Rotten names the blobs that Verify has set aside.
func (s *Store) Rotten() ([]string, error) {
	es, err := os.ReadDir(filepath.Join(s.dir, "rotten"))
	var out []string
	for _, e := range es {
		out = append(out, e.Name())
	}
	return out, err
}

// Usage implements blob.Reporter.
func (s *Store) Usage() (blob.Usage, error) {
	var u blob.Usage
	rotten, err := s.Rotten()
	if err == nil {
		u.Rotten = len(rotten)
		u.Size, u.Free, err = space(s.dir)
	}
	return u, err
}

// Close implements blob.Store.
func (s *Store) Close() error { return s.segs.close() }

func (s *Store) syncDir(dir string) error {
	if !s.sync {
		return nil
	}
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// full words a full disk.
func full(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w", blob.ErrFull, err)
	}
	return err
}

func (s *Store) largePath(key string) (string, bool) {
	if len(key) != 33 || key[0] != 'b' || strings.ToLower(key) != key {
		return "", false
	}
	if _, err := hex.DecodeString(key[1:]); err != nil {
		return "", false
	}
	return filepath.Join(s.dir, "large", key[1:3], key), true
}
