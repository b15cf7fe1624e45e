// Package mem keeps blobs in memory: for tests, and for clouds that end with
// their process.
package mem

import (
	"bytes"
	"context"
	"fmt"
	"hash/crc32"
	"io"
	"sync"
	"time"

	"github.com/nacre-cloud/nacre/objectstore/blob"
)

// Store implements blob.Store. The zero value is ready.
type Store struct {
	mu    sync.RWMutex
	last  int64
	blobs map[string]*kept
	// set aside as rotten
	aside map[string]*kept
}

type kept struct {
	data []byte
	sum  uint32
	at   time.Time
}

var _ blob.Store = (*Store)(nil)

var table = crc32.MakeTable(crc32.Castagnoli)

// Put implements blob.Store.
func (s *Store) Put(ctx context.Context, r io.Reader, size int64) (string, int64, error) {
	var b bytes.Buffer
	if size > 0 {
		b.Grow(int(min(size, 1<<20)))
	}
	if _, err := b.ReadFrom(r); err != nil {
		return "", 0, err
	}
	if err := ctx.Err(); err != nil {
		return "", 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.blobs == nil {
		s.blobs, s.aside = map[string]*kept{}, map[string]*kept{}
	}
	s.last++
	key := fmt.Sprintf("m%012x", s.last)
	s.blobs[key] = &kept{data: b.Bytes(), sum: crc32.Checksum(b.Bytes(), table), at: time.Now()}
	return key, int64(b.Len()), nil
}

func (s *Store) get(key string) (*kept, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if k := s.blobs[key]; k != nil {
		return k, nil
	}
	return nil, blob.NotFound(key)
}

// Open implements blob.Store.
func (s *Store) Open(_ context.Context, key string, off, n int64) (io.ReadCloser, error) {
	k, err := s.get(key)
	if err != nil {
		return nil, err
	}
	if crc32.Checksum(k.data, table) != k.sum {
		return nil, blob.ErrRotten
	}
	data := k.data[min(max(off, 0), int64(len(k.data))):]
	if n >= 0 {
		data = data[:min(n, int64(len(data)))]
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

// Delete implements blob.Store.
func (s *Store) Delete(_ context.Context, keys ...string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range keys {
		delete(s.blobs, k)
	}
	return nil
}

// Walk implements blob.Store.
func (s *Store) Walk(ctx context.Context, fn func(blob.Info) error) error {
	s.mu.RLock()
	var all []blob.Info
	for k, b := range s.blobs {
		all = append(all, blob.Info{Key: k, Size: int64(len(b.data)), At: b.at})
	}
	s.mu.RUnlock()
	for _, i := range all {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := fn(i); err != nil {
			return err
		}
	}
	return nil
}

// Verify implements blob.Store.
func (s *Store) Verify(_ context.Context, key string) error {
	k, err := s.get(key)
	if err != nil {
		return err
	}
	if crc32.Checksum(k.data, table) == k.sum {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.aside[key] = k
	delete(s.blobs, key)
	return blob.ErrRotten
}

// Damage changes a byte of a blob, for tests of what finds that.
func (s *Store) Damage(key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.blobs[key]
	if k == nil || len(k.data) == 0 {
		return blob.NotFound(key)
	}
	data := bytes.Clone(k.data)
	data[len(data)/2] ^= 1
	s.blobs[key] = &kept{data: data, sum: k.sum, at: k.at}
	return nil
}

// Close implements blob.Store.
func (s *Store) Close() error { return nil }
