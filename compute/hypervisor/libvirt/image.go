package libvirt

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/compute/hypervisor"
)

// base is the cache of image copies.
type base struct {
	dir string

	mu    sync.Mutex
	fills map[string]chan struct{} // closed when the copy is there, or its fill failed
}

const partSuffix = ".part"

func openBase(dir string) (*base, error) {
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		// A download that was cut off.
		if strings.HasSuffix(e.Name(), partSuffix) {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return nil, err
			}
		}
	}
	return &base{dir: dir, fills: map[string]chan struct{}{}}, nil
}

// baseName is the copy's file name: one for each content and format.
func baseName(img hypervisor.Image) string {
	sum := sha256.Sum256([]byte(img.ID + "\n" + img.Hash + "\n" + img.Format))
	return hex.EncodeToString(sum[:20])
}

func (b *base) path(name string) string { return filepath.Join(b.dir, name) }

// fill makes sure that the copy is there, out of r if need be. Of many at once
// one reads and the others wait; if that one fails the next one tries.
func (b *base) fill(ctx context.Context, name string, img hypervisor.Image, r io.Reader) error {
	for {
		b.mu.Lock()
		if _, err := os.Stat(b.path(name)); err == nil {
			b.mu.Unlock()
			return nil
		}
		wait, busy := b.fills[name]
		if !busy {
			done := make(chan struct{})
			b.fills[name] = done
			b.mu.Unlock()
			err := b.download(ctx, name, img, r)
			b.mu.Lock()
			delete(b.fills, name)
			b.mu.Unlock()
			close(done)
			return err
		}
		b.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// download copies, checks size and hash, makes durable, and then shows the copy
// under its name.
func (b *base) download(ctx context.Context, name string, img hypervisor.Image, r io.Reader) (err error) {
	f, err := os.CreateTemp(b.dir, name+".*"+partSuffix)
	if err != nil {
		return hostFault(err)
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	h := sha512.New()
	n, err := io.Copy(io.MultiWriter(f, h), contextReader{ctx, r})
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.Is(err, syscall.EIO):
		return hostFault(err)
	case err != nil:
		return &nacre.Error{Kind: nacre.Unavailable, Code: "fault", Message: fmt.Sprintf("The image %s could not be read.", img.ID), Err: err}
	case n != img.Size && img.Size > 0:
		return hypervisor.Fault("The image %s has %d bytes, of which %d came.", img.ID, img.Size, n)
	}
	if want, ok := strings.CutPrefix(img.Hash, "sha512:"); ok && want != hex.EncodeToString(h.Sum(nil)) {
		return hypervisor.Fault("The image %s does not match its hash.", img.ID)
	}
	if err := f.Sync(); err != nil {
		return hostFault(err)
	}
	if err := f.Close(); err != nil {
		return hostFault(err)
	}
	if err := os.Rename(f.Name(), b.path(name)); err != nil {
		return hostFault(err)
	}
	return syncDir(b.dir)
}

// sweep removes the copies that are not in use. It is called under the lock that
// also covers the choice of a copy, so none is removed between choice and use.
func (b *base) sweep(used map[string]bool) error {
	entries, err := os.ReadDir(b.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := e.Name()
		if !e.Type().IsRegular() || used[name] || strings.HasSuffix(name, partSuffix) {
			continue
		}
		if err := os.Remove(b.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// hostFault is a failure of this host's disk, in words for a user.
func hostFault(err error) error {
	msg := "The host's disk failed."
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		msg = "The host has no space left for the server's disks."
	}
	return &nacre.Error{Kind: nacre.Unavailable, Code: "fault", Message: msg, Err: err}
}

// virtualSize is the size in bytes of the disk that a copy holds, and refuses
// (nacre.Invalid) what must not be booted from: a qcow2 that refers to other
// files of the host. The format is the given one; a header that claims another
// is not looked at.
func virtualSize(path, format string) (int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	switch format {
	case "raw":
		info, err := f.Stat()
		if err != nil {
			return 0, err
		}
		return info.Size(), nil
	case "qcow2":
		head := make([]byte, 104)
		n, err := io.ReadFull(f, head)
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) || n < 72 || string(head[:4]) != "QFI\xfb" {
			return 0, nacre.Errorf(nacre.Invalid, "ImageUnacceptable", "The image is not a qcow2 file, though it is said to be.")
		}
		version := binary.BigEndian.Uint32(head[4:])
		size := binary.BigEndian.Uint64(head[24:])
		const dirty, corrupt, compression, extendedL2 = 1 << 0, 1 << 1, 1 << 3, 1 << 4
		switch {
		case version < 2 || version > 3:
			return 0, nacre.Errorf(nacre.Invalid, "ImageUnacceptable", "The image is qcow2 of an unknown version.")
		case binary.BigEndian.Uint64(head[8:]) != 0:
			return 0, nacre.Errorf(nacre.Invalid, "ImageUnacceptable", "The image has a backing file.")
		case version == 3 && binary.BigEndian.Uint64(head[72:])&^(dirty|corrupt|compression|extendedL2) != 0:
			return 0, nacre.Errorf(nacre.Invalid, "ImageUnacceptable", "The image has a data file or another feature that is not allowed.")
		case size > 1<<62:
			return 0, nacre.Errorf(nacre.Invalid, "ImageUnacceptable", "The image claims an impossible size.")
		}
		return int64(size), nil
	}
	return 0, nacre.Errorf(nacre.Invalid, "ImageUnacceptable", "Images of the format %q can't be booted on this host.", format)
}
