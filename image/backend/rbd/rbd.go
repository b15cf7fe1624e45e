//go:build ceph && cgo

package rbd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"net/url"
	"regexp"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/ceph/go-ceph/rados"
	"github.com/ceph/go-ceph/rbd"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/image/backend"
)

// Driver implements backend.Driver on a pool.
type Driver struct {
	o    Options
	conn *rados.Conn
	io   *rados.IOContext
	fsid string

	closing sync.Once
}

var (
	_ backend.Driver    = (*Driver)(nil)
	_ backend.Described = (*Driver)(nil)
	_ backend.Addresser = (*Driver)(nil)

	keyRE = regexp.MustCompile(`^[0-9a-f][0-9a-f-]{3,79}$`)
)

// snapshot is the name of the one that is read and cloned; clients look for it.
const snapshot = "snap"

// New connects to the cluster.
func New(o Options) (*Driver, error) {
	if o.ConfigFile == "" || o.Pool == "" {
		return nil, errors.New("rbd: Options.ConfigFile and Pool are required")
	}
	if o.User == "" {
		o.User = "admin"
	}
	if o.ChunkSize == 0 {
		o.ChunkSize = 8 << 20
	}
	if o.ChunkSize < 1<<16 || o.ChunkSize&(o.ChunkSize-1) != 0 {
		return nil, fmt.Errorf("rbd: a chunk of %d bytes is no power of two from 64 KiB on", o.ChunkSize)
	}
	if o.Timeout == 0 {
		o.Timeout = time.Minute
	}
	d := &Driver{o: o}
	if err := d.connect(); err != nil {
		return nil, fmt.Errorf("rbd: pool %s: %w", o.Pool, err)
	}
	d.emptyTrash()
	return d, nil
}

func (d *Driver) connect() (err error) {
	if d.conn, err = rados.NewConnWithUser(d.o.User); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			d.conn.Shutdown()
		}
	}()
	if err = d.conn.ReadConfigFile(d.o.ConfigFile); err != nil {
		return err
	}
	for _, option := range []string{"client_mount_timeout", "rados_mon_op_timeout", "rados_osd_op_timeout"} {
		if err = d.conn.SetConfigOption(option, strconv.Itoa(max(1, int(d.o.Timeout.Seconds())))); err != nil {
			return err
		}
	}
	if err = d.conn.Connect(); err != nil {
		return err
	}
	if d.fsid, err = d.conn.GetFSID(); err != nil {
		return err
	}
	if d.io, err = d.conn.OpenIOContext(d.o.Pool); err != nil {
		return err
	}
	return d.io.SetPoolFullTry() // a full pool is an error, not a wait
}

// Close ends all use. Nothing may be in use.
func (d *Driver) Close() error {
	d.closing.Do(func() {
		d.io.Destroy()
		d.conn.Shutdown()
	})
	return nil
}

// errno is the system's name for an error of Ceph's, 0 for any other.
func errno(err error) syscall.Errno {
	var e interface{ ErrorCode() int }
	if errors.As(err, &e) {
		return syscall.Errno(max(e.ErrorCode(), -e.ErrorCode())) //nolint:gosec // an errno
	}
	return 0
}

func missing(err error) bool { return errno(err) == syscall.ENOENT }

// fault words an error of Ceph's.
func fault(err error) error {
	switch errno(err) {
	case syscall.ENOSPC, syscall.EDQUOT:
		return backend.Full(err)
	case syscall.ETIMEDOUT, syscall.ENOTCONN, syscall.ESHUTDOWN:
		return &nacre.Error{Kind: nacre.Unavailable, Code: "ceph", Message: "The image store does not answer; please retry", Err: err}
	}
	return err
}

func inUse(key string, err error) error {
	return &nacre.Error{Kind: nacre.Conflict, Code: "InUse", Message: fmt.Sprintf("The image data %s is in use.", key), Err: err}
}

// Put implements backend.Driver.
func (d *Driver) Put(ctx context.Context, key string, r io.Reader) (n int64, err error) {
	if !keyRE.MatchString(key) {
		return 0, fmt.Errorf("bad key %q", key)
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if err := d.create(key); err != nil {
		return 0, fault(err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fault(err), d.remove(key))
		}
	}()
	image, err := rbd.OpenImage(d.io, key, rbd.NoSnapshot)
	if err != nil {
		return 0, err
	}
	if n, err = d.fill(ctx, image, r); err == nil {
		err = seal(image)
	}
	return n, errors.Join(err, image.Close())
}

// create makes an empty image. What an upload left that did not end makes room.
func (d *Driver) create(key string) error {
	opts := rbd.NewRbdImageOptions()
	defer opts.Destroy()
	if err := opts.SetUint64(rbd.ImageOptionOrder, uint64(bits.TrailingZeros(uint(d.o.ChunkSize)))); err != nil { //nolint:gosec // New checked it
		return err
	}
	err := rbd.CreateImage(d.io, key, 0, opts)
	if errno(err) != syscall.EEXIST {
		return err
	}
	image, there := rbd.OpenImageReadOnly(d.io, key, snapshot)
	if there == nil {
		return errors.Join(err, image.Close())
	}
	if err := d.remove(key); err != nil {
		return err
	}
	return rbd.CreateImage(d.io, key, 0, opts)
}

// maxGrowth bounds by how much the device grows at once.
const maxGrowth = 8 << 30

// fill writes all of r. The device grows ahead of the bytes, by as much as it has.
func (d *Driver) fill(ctx context.Context, image *rbd.Image, r io.Reader) (n int64, err error) {
	buf := make([]byte, d.o.ChunkSize)
	size := int64(0)
	for {
		if err := ctx.Err(); err != nil {
			return n, err
		}
		got, err := io.ReadFull(r, buf)
		if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF { //nolint:errorlint // these are the end, if they come as they are
			return n, err
		}
		data := buf[:got]
		if end := n + int64(got); end > size {
			size = max(end, size+min(size, maxGrowth))
			if err := image.Resize(uint64(size)); err != nil { //nolint:gosec // not negative
				return n, err
			}
		}
		if got > 0 && !(d.o.Thin && zero(data)) {
			if _, err := image.WriteAt(data, n); err != nil {
				return n, err
			}
		}
		n += int64(got)
		if err != nil {
			break
		}
	}
	if size != n {
		err = image.Resize(uint64(n)) //nolint:gosec // not negative
	}
	return n, err
}

func zero(b []byte) bool {
	return len(b) == 0 || b[0] == 0 && bytes.Equal(b[:len(b)-1], b[1:])
}

// seal makes the image be there, and cloneable.
func seal(image *rbd.Image) error {
	if err := image.Flush(); err != nil {
		return err
	}
	snap, err := image.CreateSnapshot(snapshot)
	if err != nil {
		return err
	}
	return snap.Protect()
}

// Open implements backend.Driver.
func (d *Driver) Open(_ context.Context, key string) (io.ReadCloser, int64, error) {
	if !keyRE.MatchString(key) {
		return nil, 0, fmt.Errorf("bad key %q", key)
	}
	// Not "read only": that would leave no watch on the image, by which Delete sees that
	// it is open, and a device that was deleted reads as zeros.
	image, err := rbd.OpenImage(d.io, key, snapshot)
	if missing(err) {
		return nil, 0, nacre.Errorf(nacre.NotFound, "", "no blob %s", key)
	}
	if err != nil {
		return nil, 0, fault(err)
	}
	size, err := image.GetSize()
	if err != nil {
		return nil, 0, errors.Join(fault(err), image.Close())
	}
	return &reader{image: image, size: int64(size)}, int64(size), nil //nolint:gosec // RBD's bound is lower
}

// Delete implements backend.Driver.
func (d *Driver) Delete(ctx context.Context, key string) error {
	if !keyRE.MatchString(key) {
		return fmt.Errorf("bad key %q", key)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	d.emptyTrash()
	return fault(d.remove(key))
}

func (d *Driver) remove(key string) error {
	image, err := rbd.OpenImage(d.io, key, rbd.NoSnapshot)
	if missing(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := errors.Join(unseal(image, key), image.Close()); err != nil {
		return err
	}
	err = rbd.RemoveImage(d.io, key)
	switch {
	case missing(err):
		return nil
	case errno(err) != syscall.EBUSY:
		return err
	}
	// Somebody has it open: a reader, or an upload whose process died just now.
	trash := rbd.GetImage(d.io, key)
	if err := trash.Trash(0); err != nil && !missing(err) {
		return err
	}
	return nil
}

// unseal takes the snapshot away, unless the image is in use.
func unseal(image *rbd.Image, key string) error {
	snaps, err := image.GetSnapshotNames()
	if err != nil {
		return err
	}
	sealed := false
	for _, s := range snaps {
		if s.Name != snapshot {
			return inUse(key, fmt.Errorf("there is a snapshot %q", s.Name))
		}
		sealed = true
	}
	if !sealed {
		return nil
	}
	if err := childless(image, key); err != nil {
		return err
	}
	snap := image.GetSnapshot(snapshot)
	protected, err := snap.IsProtected()
	if err == nil && protected {
		err = snap.Unprotect()
	}
	if err == nil {
		err = snap.Remove()
	}
	if errno(err) == syscall.EBUSY {
		return inUse(key, err)
	}
	return err
}

// childless is an error where clones depend on the snapshot, also of the kind that
// need no protected one.
func childless(image *rbd.Image, key string) error {
	if err := image.SetSnapshot(snapshot); err != nil {
		return err
	}
	children, err := image.ListChildrenAttributes()
	if err == nil && len(children) > 0 {
		err = inUse(key, fmt.Errorf("%d clones, one of them %s/%s", len(children), children[0].PoolName, children[0].ImageName))
	}
	return errors.Join(err, image.SetSnapshot(""))
}

// emptyTrash gives back the space of those that were open when they were deleted.
func (d *Driver) emptyTrash() {
	list, err := rbd.GetTrashList(d.io)
	if err != nil {
		return // what is there is given back the next time
	}
	for _, t := range list {
		if keyRE.MatchString(t.Name) {
			_ = rbd.TrashRemove(d.io, t.Id, false) // still open
		}
	}
}

// List implements backend.Driver.
func (d *Driver) List(ctx context.Context) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	names, err := rbd.GetImageNames(d.io)
	if err != nil {
		return nil, fault(err)
	}
	var keys []string
	for _, name := range names {
		if keyRE.MatchString(name) {
			keys = append(keys, name)
		}
	}
	return keys, nil
}

// Kind implements backend.Described.
func (d *Driver) Kind() string { return "rbd" }

// Properties implements backend.Described.
func (d *Driver) Properties() map[string]any {
	return map[string]any{"chunk_size": d.o.ChunkSize, "pool": d.o.Pool, "thin_provisioning": d.o.Thin, "fsid": d.fsid}
}

// URL implements backend.Addresser.
func (d *Driver) URL(key string) string {
	return "rbd://" + d.fsid + "/" + url.PathEscape(d.o.Pool) + "/" + key + "/" + snapshot
}
