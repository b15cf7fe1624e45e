// Package mem keeps images in memory, for tests and the embedded cloud.
package mem

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"slices"
	"sync"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/image/backend"
)

// Driver implements backend.Driver. The zero value works.
type Driver struct {
	// Limit bounds all blobs together, in bytes; 0 means no bound. Over it, Put
	// fails as on a full disk.
	Limit int64

	mu    sync.Mutex
	blobs map[string][]byte
	used  int64
}

type reader struct{ *bytes.Reader }

func (reader) Close() error { return nil }

// Put implements backend.Driver.
func (d *Driver) Put(ctx context.Context, key string, r io.Reader) (int64, error) {
	var buf bytes.Buffer
	chunk := make([]byte, 64<<10)
	for {
		n, err := r.Read(chunk)
		buf.Write(chunk[:n])
		d.mu.Lock()
		full := d.Limit > 0 && d.used+int64(buf.Len()) > d.Limit
		d.mu.Unlock()
		if full {
			return 0, backend.Full(nil)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return 0, err
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.blobs == nil {
		d.blobs = map[string][]byte{}
	}
	d.used += int64(buf.Len()) - int64(len(d.blobs[key]))
	d.blobs[key] = buf.Bytes()
	return int64(buf.Len()), nil
}

// Open implements backend.Driver.
func (d *Driver) Open(_ context.Context, key string) (io.ReadCloser, int64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	b, ok := d.blobs[key]
	if !ok {
		return nil, 0, nacre.Errorf(nacre.NotFound, "", "no blob %s", key)
	}
	return reader{bytes.NewReader(b)}, int64(len(b)), nil
}

// Delete implements backend.Driver.
func (d *Driver) Delete(_ context.Context, key string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.used -= int64(len(d.blobs[key]))
	delete(d.blobs, key)
	return nil
}

// Kind implements backend.Described.
func (d *Driver) Kind() string { return "mem" }

// Properties implements backend.Described.
func (d *Driver) Properties() map[string]any { return map[string]any{} }

// List implements backend.Driver.
func (d *Driver) List(context.Context) ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Sorted(maps.Keys(d.blobs)), nil
}
