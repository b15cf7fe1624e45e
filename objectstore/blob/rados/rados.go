//go:build ceph && cgo

package rados

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/ceph/go-ceph/rados"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/objectstore/blob"
)

// Store implements blob.Store.
type Store struct {
	o    Options
	conn *rados.Conn
	// objects, loose and rotten are the three namespaces.
	objects, loose, rotten *rados.IOContext

	use    sync.RWMutex // held while the cluster is used
	closed bool
	stop   chan struct{}
	done   chan struct{}
}

var _ blob.Store = (*Store)(nil)

// loose is an entry among the loose: a large blob that is being written, or was
// deleted.
type loose struct {
	// Key is that of the blob; empty until all parts are there.
	Key string `json:"key,omitempty"`
	// Deleted is when it was, in seconds; 0 while it is being written.
	Deleted int64 `json:"deleted,omitempty"`
}

// Open connects to the cluster, until ctx ends or Options.Timeout is over.
func Open(ctx context.Context, o Options) (*Store, error) {
	if o.ConfigFile == "" || o.Pool == "" {
		return nil, errors.New("rados: Options.ConfigFile and Pool are required")
	}
	if o.User == "" {
		o.User = "admin"
	}
	if o.Namespace == "" {
		o.Namespace = "nacre"
	}
	if o.Timeout == 0 {
		o.Timeout = 30 * time.Second
	}
	if o.Grace == 0 {
		o.Grace = 6 * time.Hour
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	wait := o.Timeout
	if d, ok := ctx.Deadline(); ok {
		wait = min(wait, time.Until(d))
	}
	s := &Store{o: o, stop: make(chan struct{}), done: make(chan struct{})}
	if err := s.connect(wait); err != nil {
		return nil, fmt.Errorf("rados: pool %s: %w", o.Pool, err)
	}
	go s.reap()
	return s, nil
}

func (s *Store) connect(wait time.Duration) (err error) {
	if s.conn, err = rados.NewConnWithUser(s.o.User); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			s.conn.Shutdown()
		}
	}()
	if err = s.conn.ReadConfigFile(s.o.ConfigFile); err != nil {
		return err
	}
	seconds := func(d time.Duration) string { return strconv.Itoa(max(1, int(d.Seconds()))) }
	for option, value := range map[string]string{"client_mount_timeout": seconds(wait), "rados_mon_op_timeout": seconds(s.o.Timeout), "rados_osd_op_timeout": seconds(s.o.Timeout)} {
		if err = s.conn.SetConfigOption(option, value); err != nil {
			return err
		}
	}
	if err = s.conn.Connect(); err != nil {
		return err
	}
	for suffix, at := range map[string]**rados.IOContext{"": &s.objects, ".loose": &s.loose, ".rotten": &s.rotten} {
		if *at, err = s.conn.OpenIOContext(s.o.Pool); err != nil {
			return err
		}
		(*at).SetNamespace(s.o.Namespace + suffix)
		if err = (*at).SetPoolFullTry(); err != nil { // a full pool is an error, not a wait
			return err
		}
	}
	return nil
}

// Close implements blob.Store. It waits for operations, not for readers.
func (s *Store) Close() error {
	s.use.Lock()
	was := s.closed
	s.closed = true
	s.use.Unlock()
	if was {
		return nil
	}
	close(s.stop)
	<-s.done
	for _, c := range []*rados.IOContext{s.objects, s.loose, s.rotten} {
		c.Destroy()
	}
	s.conn.Shutdown()
	return nil
}

var errClosed = &nacre.Error{Kind: nacre.Unavailable, Code: "closed", Message: "The object store is closed."}

// with runs an operation on the cluster, which can't be cut short.
func (s *Store) with(ctx context.Context, fn func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.use.RLock()
	defer s.use.RUnlock()
	if s.closed {
		return errClosed
	}
	return fault(fn())
}

// write makes an object, or all of it anew. go-ceph can't write nothing.
func write(in *rados.IOContext, name string, data []byte) error {
	if len(data) == 0 {
		return in.Create(name, rados.CreateIdempotent)
	}
	return in.WriteFull(name, data)
}

// fault words an error of Ceph's.
func fault(err error) error {
	switch errno(err) {
	case syscall.ENOSPC, syscall.EDQUOT:
		return fmt.Errorf("%w: %w", blob.ErrFull, err)
	case syscall.ETIMEDOUT, syscall.ENOTCONN, syscall.ESHUTDOWN:
		return &nacre.Error{Kind: nacre.Unavailable, Code: "ceph", Message: "The object store does not answer; please retry", Err: err}
	}
	return err
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

// Put implements blob.Store.
func (s *Store) Put(ctx context.Context, r io.Reader, size int64) (string, int64, error) {
	hint := int64(partSize) + 1
	if size >= 0 && size < partSize {
		hint = size + 1
	}
	first, err := read(r, make([]byte, 0, hint), partSize+1)
	if err != nil {
		return "", 0, err
	}
	ref := ref{id: newID(time.Now()), size: int64(len(first))}
	if !ref.cut() {
		err := s.with(ctx, func() error { return write(s.objects, ref.key(), pack(ref.id, 0, first)) })
		if err != nil {
			s.undo(func() error { return s.objects.Delete(ref.key()) })
			return "", 0, err
		}
		return ref.key(), ref.size, nil
	}
	if ref.size, err = s.putParts(ctx, ref.id, first, r); err == nil {
		err = s.finish(ctx, ref)
	}
	if err != nil {
		s.undo(func() error { return s.clear(ref.id, loose{Key: ref.key()}) })
		return "", 0, err
	}
	return ref.key(), ref.size, nil
}

// read fills b up to limit bytes; the reader's end is no error.
func read(r io.Reader, b []byte, limit int) ([]byte, error) {
	for len(b) < limit {
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
		n, err := r.Read(b[len(b):min(cap(b), limit)])
		b = b[:len(b)+n]
		if err == io.EOF {
			break
		}
		if err != nil {
			return b, err
		}
	}
	return b, nil
}

// putParts writes the parts of a large blob, whose beginning was read: a whole part
// and a byte.
func (s *Store) putParts(ctx context.Context, id string, b []byte, r io.Reader) (size int64, err error) {
	if err := s.note(ctx, id, loose{}); err != nil {
		return 0, err
	}
	for n := int64(0); len(b) > 0; n++ {
		part := b[:min(partSize, len(b))]
		if err := s.with(ctx, func() error { return write(s.objects, partName(id, n), pack(id, n, part)) }); err != nil {
			return size, err
		}
		size += int64(len(part))
		rest := copy(b, b[len(part):])
		if b, err = read(r, b[:rest], partSize+1); err != nil {
			return size, err
		}
	}
	return size, nil
}

// finish makes a large blob be there. Its entry names the head first: so whoever
// finds the entry knows which head to look for.
func (s *Store) finish(ctx context.Context, r ref) error {
	if err := s.note(ctx, r.id, loose{Key: r.key()}); err != nil {
		return err
	}
	if err := s.with(ctx, func() error { return write(s.objects, r.key(), nil) }); err != nil {
		return err
	}
	err := s.with(context.WithoutCancel(ctx), func() error { return s.loose.Delete(r.id) })
	if err != nil {
		s.o.Log.Warn("an entry is left over; it does no harm", "blob", r.key(), "error", err)
	}
	return nil
}

func (s *Store) note(ctx context.Context, id string, l loose) error {
	text, err := json.Marshal(l)
	if err != nil {
		return err
	}
	return s.with(ctx, func() error { return write(s.loose, id, text) })
}

// undo takes away what a failed Put left, as well as it can: what it can't is shown
// by Walk.
func (s *Store) undo(fn func() error) {
	if err := s.with(context.Background(), fn); err != nil && !missing(err) {
		s.o.Log.Warn("a failed upload left something", "error", err)
	}
}

// clear removes a large blob's head, its parts and at last its entry.
func (s *Store) clear(id string, l loose) error {
	if l.Key != "" {
		if err := s.objects.Delete(l.Key); err != nil && !missing(err) {
			return err
		}
	}
	parts := int64(-1)
	if r, ok := parse(l.Key); ok {
		parts = (r.size + partSize - 1) / partSize
	}
	for n := int64(0); ; n++ {
		err := s.objects.Delete(partName(id, n))
		// Parts are written one after another: behind the first that lacks is none.
		if missing(err) && n >= parts {
			break
		}
		if err != nil && !missing(err) {
			return err
		}
	}
	if err := s.loose.Delete(id); err != nil && !missing(err) {
		return err
	}
	return nil
}

// Delete implements blob.Store.
func (s *Store) Delete(ctx context.Context, keys ...string) error {
	for _, key := range keys {
		var err error
		if m := lostRE.FindStringSubmatch(key); m != nil {
			err = s.deleteLost(ctx, m[1])
		} else if r, ok := parse(key); ok {
			err = s.delete(ctx, r)
		}
		if err != nil && !missing(err) {
			return err
		}
	}
	return nil
}

// deleteLost clears what an unfinished Put left, unless the blob is there after all.
func (s *Store) deleteLost(ctx context.Context, id string) error {
	return s.with(ctx, func() error {
		l, err := s.entry(id)
		if err != nil || l.Deleted != 0 {
			return err
		}
		if l.Key != "" {
			if _, err := s.objects.Stat(l.Key); err == nil {
				return s.loose.Delete(id)
			}
		}
		return s.clear(id, l)
	})
}

func (s *Store) delete(ctx context.Context, r ref) error {
	if r.cut() {
		err := s.with(ctx, func() error { _, err := s.objects.Stat(r.key()); return err })
		if err == nil {
			err = s.note(ctx, r.id, loose{Key: r.key(), Deleted: time.Now().Unix()})
		}
		if err != nil {
			return err
		}
	}
	return s.with(ctx, func() error { return s.objects.Delete(r.key()) })
}

// entry reads one among the loose.
func (s *Store) entry(id string) (loose, error) {
	b := make([]byte, 512)
	n, err := s.loose.Read(id, b, 0)
	if err != nil {
		return loose{}, err
	}
	var l loose
	if n > 0 {
		err = json.Unmarshal(b[:n], &l)
	}
	return l, err
}

// reap gives the parts of deleted blobs back to the disk.
func (s *Store) reap() {
	defer close(s.done)
	tick := time.NewTicker(min(s.o.Grace, time.Minute))
	defer tick.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-tick.C:
		}
		err := s.eachLoose(context.Background(), func(id string, l loose) error {
			if l.Deleted == 0 || time.Since(time.Unix(l.Deleted, 0)) < s.o.Grace {
				return nil
			}
			return s.with(context.Background(), func() error { return s.clear(id, l) })
		})
		if err != nil && !errors.Is(err, errClosed) {
			s.o.Log.Warn("deleted blobs are still on the disk", "error", err)
		}
	}
}

// eachLoose goes through the entries; those that vanish meanwhile are left out.
func (s *Store) eachLoose(ctx context.Context, fn func(id string, l loose) error) error {
	return s.names(ctx, s.loose, func(id string) error {
		if !idRE.MatchString(id) {
			return nil
		}
		var l loose
		err := s.with(ctx, func() (err error) { l, err = s.entry(id); return err })
		if missing(err) {
			return nil
		}
		if err == nil {
			err = fn(id, l)
		}
		return err
	})
}

// pageSize is how many names are read from the cluster at once.
const pageSize = 1000

// names lists the objects of a namespace. fn may use the cluster.
func (s *Store) names(ctx context.Context, in *rados.IOContext, fn func(name string) error) error {
	var it *rados.Iter
	if err := s.with(ctx, func() (err error) { it, err = in.Iter(); return err }); err != nil {
		return err
	}
	defer func() { _ = s.with(context.Background(), func() error { it.Close(); return nil }) }()
	for more := true; more; {
		var page []string
		err := s.with(ctx, func() error {
			for len(page) < pageSize {
				if more = it.Next(); !more {
					return it.Err()
				}
				page = append(page, it.Value())
			}
			return nil
		})
		if err != nil {
			return err
		}
		for _, name := range page {
			if err := fn(name); err != nil {
				return err
			}
		}
	}
	return nil
}

// Walk implements blob.Store. What an unfinished Put left is shown with size 0.
func (s *Store) Walk(ctx context.Context, fn func(blob.Info) error) error {
	err := s.names(ctx, s.objects, func(name string) error {
		if isPart(name) {
			return nil
		}
		r, ok := parse(name)
		if !ok {
			return nil
		}
		return fn(blob.Info{Key: name, Size: r.size, At: made(r.id)})
	})
	if err != nil {
		return err
	}
	return s.eachLoose(ctx, func(id string, l loose) error {
		if l.Deleted != 0 {
			return nil
		}
		if l.Key != "" {
			err := s.with(ctx, func() error { _, err := s.objects.Stat(l.Key); return err })
			if err == nil || !missing(err) {
				return err
			}
		}
		return fn(blob.Info{Key: lostKey(id), At: made(id)})
	})
}
