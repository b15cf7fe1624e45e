// Package file keeps images as files in a directory. A blob is written to a
// temporary name, synced, and renamed: it is whole or not there.
package file

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/image/backend"
)

// Driver implements backend.Driver on a directory.
type Driver struct {
	dir  string
	sync bool
}

// Options of New.
type Options struct {
	// NoSync leaves out fsync, for tests.
	NoSync bool
}

// New opens, or makes, the directory.
func New(dir string, o Options) (*Driver, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, err
	}
	return &Driver{dir: dir, sync: !o.NoSync}, nil
}

const partial = ".part"

var keyRE = regexp.MustCompile(`^[0-9a-f][0-9a-f-]{3,79}$`)

func (d *Driver) path(key string) (string, error) {
	if !keyRE.MatchString(key) {
		return "", fmt.Errorf("bad key %q", key)
	}
	return filepath.Join(d.dir, key[:2], key), nil
}

// Put implements backend.Driver.
func (d *Driver) Put(ctx context.Context, key string, r io.Reader) (n int64, err error) {
	path, err := d.path(key)
	if err != nil {
		return 0, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return 0, full(err)
	}
	f, err := os.OpenFile(path+partial, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o640)
	if err != nil {
		return 0, full(err)
	}
	defer func() {
		_ = f.Close()
		if err != nil {
			_ = os.Remove(path + partial)
			err = full(err)
		}
	}()
	w := &flushing{ctx: ctx, f: f}
	if d.sync {
		w.each = flushEach
	}
	var buf []byte
	if _, itself := r.(io.WriterTo); !itself {
		buf = make([]byte, 256<<10)
	}
	if n, err = io.CopyBuffer(w, r, buf); err != nil {
		return n, err
	}
	if d.sync {
		if err = f.Sync(); err != nil {
			return n, err
		}
	}
	if err = f.Close(); err != nil {
		return n, err
	}
	if err = os.Rename(path+partial, path); err != nil {
		return n, err
	}
	return n, d.syncDir(filepath.Dir(path))
}

// flushEach is how many bytes are written before the disk is asked to take them.
const flushEach = 8 << 20

// flushing has what was written go to the disk while more is written, so that the
// fsync at the end finds little to do.
type flushing struct {
	ctx  context.Context
	f    *os.File
	each int64
	// at is what was written, and asked what the disk has been asked to take.
	at, asked int64
}

func (w *flushing) Write(p []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := w.f.Write(p)
	w.at += int64(n)
	if w.each > 0 && w.at-w.asked >= w.each {
		writeBack(w.f, w.asked, w.at-w.asked)
		w.asked = w.at
	}
	return n, err
}

func (d *Driver) syncDir(dir string) error {
	if !d.sync {
		return nil
	}
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // read only
	return f.Sync()
}

// full words a full disk.
func full(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return backend.Full(err)
	}
	return err
}

// Open implements backend.Driver.
func (d *Driver) Open(_ context.Context, key string) (io.ReadCloser, int64, error) {
	path, err := d.path(key)
	if err != nil {
		return nil, 0, err
	}
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, 0, nacre.Errorf(nacre.NotFound, "", "no blob %s", key)
	}
	if err != nil {
		return nil, 0, err
	}
	st, err := f.Stat()
	if err != nil {
		_ = f.Close()
		return nil, 0, err
	}
	return f, st.Size(), nil
}

// Delete implements backend.Driver.
func (d *Driver) Delete(_ context.Context, key string) error {
	path, err := d.path(key)
	if err != nil {
		return err
	}
	for _, p := range []string{path + partial, path} {
		if err := os.Remove(p); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	// The directory goes when it is empty; the error says that it isn't.
	_ = os.Remove(filepath.Dir(path))
	return nil
}

// Kind implements backend.Described.
func (d *Driver) Kind() string { return "file" }

// Properties implements backend.Described.
func (d *Driver) Properties() map[string]any {
	return map[string]any{"data_dir": d.dir, "chunk_size": 256 << 10, "thin_provisioning": false}
}

// URL implements backend.Addresser.
func (d *Driver) URL(key string) string {
	path, err := d.path(key)
	if err != nil {
		return ""
	}
	return "file://" + path
}

// List implements backend.Driver.
func (d *Driver) List(ctx context.Context) ([]string, error) {
	var keys []string
	err := filepath.WalkDir(d.dir, func(_ string, e os.DirEntry, err error) error {
		if err != nil || ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
		if name := strings.TrimSuffix(e.Name(), partial); !e.IsDir() && keyRE.MatchString(name) {
			keys = append(keys, name)
		}
		return nil
	})
	return keys, err
}
