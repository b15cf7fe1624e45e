package objectstore

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/store"
)

// commits gathers changes of objects that come at the same time and makes one
// transaction of them. Each of them is decided in that transaction, by rows as
// they are there, after those before it; one that is refused leaves nothing.
type commits struct {
	s       *Service
	mu      sync.Mutex
	queue   []*change
	running bool
	last    time.Time
}

// change is a change of objects in containers.
type change struct {
	ctx context.Context
	// containers are the ids of all that are touched; objects are the ids of rows
	// that will surely be looked at.
	containers, objects []string
	// alone changes look at rows of versions or at listings, which a batch does not
	// show as it goes: each has a transaction to itself.
	alone bool
	// apply decides and writes. It may run more than once.
	apply func(*batch) error
	// durable, if set, returns once the bytes are on the disk that the change names: the
	// transaction is made ready meanwhile, and committed after it.
	durable func() error
	err     error
	done    chan struct{}
}

// batchMax bounds a transaction.
const batchMax = 128

// commit runs a change and returns what became of it. A change whose context has
// ended before its turn is not made.
func (s *Service) commit(ctx context.Context, c *change) error {
	if err := store.Outside(ctx); err != nil {
		return err
	}
	c.ctx, c.done = ctx, make(chan struct{})
	q := &s.commits
	q.mu.Lock()
	q.queue = append(q.queue, c)
	lead := !q.running
	q.running = true
	q.mu.Unlock()
	if lead {
		q.run()
	}
	// Whether it was made must be known, so the context doesn't end the wait.
	<-c.done
	return c.err
}

// run makes transactions until nothing waits. Only one goroutine does it at a
// time; it is one of those that wait, and hands the rest to a new one after its own
// turn.
func (q *commits) run() {
	q.mu.Lock()
	n := 1
	for !q.queue[0].alone && n < min(len(q.queue), batchMax) && !q.queue[n].alone {
		n++
	}
	turn := q.queue[:n:n]
	q.queue = q.queue[n:]
	q.mu.Unlock()
	q.turn(turn)
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.queue) == 0 {
		q.queue, q.running = nil, false
		return
	}
	go q.run()
}

func (q *commits) turn(turn []*change) {
	ctx := context.Background()
	live := turn[:0:0]
	for _, c := range turn {
		if c.err = c.ctx.Err(); c.err == nil {
			live = append(live, c)
		}
	}
	if len(live) > 0 {
		if err := q.together(ctx, live); err != nil {
			// Something is wrong with one of them, or with all: each on its own.
			for _, c := range live {
				if err := q.together(ctx, []*change{c}); err != nil {
					c.err = &unsure{err}
				}
			}
		}
	}
	for _, c := range turn {
		close(c.done)
	}
}

// unsure is a transaction that failed, maybe after it was committed.
type unsure struct{ error }

func (u *unsure) Unwrap() error { return u.error }

// together runs changes in one transaction. Its error is the transaction's; what
// each of them was refused for is in the change.
func (q *commits) together(ctx context.Context, cs []*change) error {
	var noted bool
	err := store.InTx(ctx, q.s.c.Engine, func(ctx context.Context) error {
		b := &batch{s: q.s, ctx: ctx, q: q}
		var err error
		if err = b.open(cs); err != nil {
			return err
		}
		for _, c := range cs {
			c.err = b.one(c)
			if b.failed != nil {
				return b.failed
			}
		}
		noted = len(b.trash) > 0
		if err := b.write(); err != nil {
			return err
		}
		return durable(cs)
	})
	if err == nil && noted {
		q.s.wake()
	}
	return err
}

// durable waits for the bytes that changes name.
func durable(cs []*change) error {
	for _, c := range cs {
		if c.err == nil && c.durable != nil {
			if err := c.durable(); err != nil {
				return err
			}
		}
	}
	return nil
}

// wake tells Run that there is something to clean up.
func (s *Service) wake() {
	select {
	case s.hint <- struct{}{}:
	default:
	}
}

// batch is a transaction over objects. Rows are read once and written at the end.
type batch struct {
	s   *Service
	ctx context.Context
	q   *commits
	now time.Time

	containers map[string]*Container
	// rows are as the changes so far leave them; nil is no row. were are as read.
	rows, were map[string]*Object
	counts     map[string]*counts
	trash      []string
	fresh      []Version
	oldGone    []string

	// undo is what the present change did.
	undo []func()
	// failed is a failure of the store: the transaction is over.
	failed error
}

type counts struct{ objects, bytes, versions, versionBytes int64 }

func (b *batch) open(cs []*change) error {
	b.containers, b.rows, b.were, b.counts = map[string]*Container{}, map[string]*Object{}, map[string]*Object{}, map[string]*counts{}
	var ids, objs, locks []string
	for _, c := range cs {
		ids, objs = append(ids, c.containers...), append(objs, c.objects...)
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	for _, id := range ids {
		locks = append(locks, "container/"+id)
	}
	if err := store.Lock(b.ctx, b.s.c.Engine, locks...); err != nil {
		return err
	}
	conts, err := byID(b.ctx, b.s.containers, ids)
	if err != nil {
		return err
	}
	for i := range conts {
		b.containers[conts[i].ID], b.counts[conts[i].ID] = &conts[i], &counts{}
	}
	slices.Sort(objs)
	objs = slices.Compact(objs)
	found, err := byID(b.ctx, b.s.objects, objs)
	if err != nil {
		return err
	}
	for _, id := range objs {
		b.rows[id], b.were[id] = nil, nil
	}
	for i := range found {
		b.rows[found[i].ID], b.were[found[i].ID] = &found[i], &found[i]
	}
	return nil
}

// byID are the rows of these ids that are there: one statement at most. The common
// case, a single row, is the cheapest one.
func byID[T any](ctx context.Context, t *store.Table[T], ids []string) ([]T, error) {
	switch len(ids) {
	case 0:
		return nil, nil
	case 1:
		v, err := t.Get(ctx, ids[0])
		if errors.Is(err, store.ErrNoRow) {
			return nil, nil
		}
		return []T{v}, err
	}
	return t.Where(ctx, store.In("id", ids))
}

// one runs one change; one that is refused is undone.
func (b *batch) one(c *change) error {
	b.undo = b.undo[:0]
	b.now = b.tick()
	for _, id := range c.containers {
		if b.containers[id] == nil {
			return notFound()
		}
	}
	err := c.apply(b)
	if err != nil {
		for _, u := range slices.Backward(b.undo) {
			u()
		}
	}
	return err
}

// tick is the time of a change: later than that of every one before it, in steps
// of ten microseconds, which is what Swift's timestamps tell.
func (b *batch) tick() time.Time {
	b.q.mu.Lock()
	defer b.q.mu.Unlock()
	t := b.s.c.Now().UTC().Truncate(10 * time.Microsecond)
	if !t.After(b.q.last) {
		t = b.q.last.Add(10 * time.Microsecond)
	}
	b.q.last = t
	return t
}

func (b *batch) fail(err error) error {
	b.failed = err
	return err
}

// get is an object as it is now, or nil; one that has expired is nil as well, but
// it still counts until it is taken away.
func (b *batch) get(id string) (*Object, error) {
	o, ok := b.rows[id]
	if !ok {
		v, err := b.s.objects.Get(b.ctx, id)
		switch {
		case err == nil:
			o = &v
		case !errors.Is(err, store.ErrNoRow):
			return nil, b.fail(err)
		}
		b.rows[id], b.were[id] = o, o
	}
	if o != nil && expired(&o.Data, b.now) {
		return nil, nil
	}
	return o, nil
}

func expired(d *Data, now time.Time) bool { return !d.Expires.IsZero() && !d.Expires.After(now) }

// set replaces an object's row; nil takes it away. keep says that the old row's
// blob lives on elsewhere.
func (b *batch) set(container, id string, o *Object, keep bool) error {
	if _, err := b.get(id); err != nil {
		return err
	}
	old, n := b.rows[id], b.counts[container]
	was, trash := *n, len(b.trash)
	if old != nil {
		n.objects, n.bytes = n.objects-1, n.bytes-old.Bytes
		if !keep && old.Blob != "" && (o == nil || o.Blob != old.Blob) {
			b.trash = append(b.trash, old.Blob)
		}
	}
	if o != nil {
		n.objects, n.bytes = n.objects+1, n.bytes+o.Bytes
	}
	b.rows[id] = o
	b.undo = append(b.undo, func() { b.rows[id], *n, b.trash = old, was, b.trash[:trash] })
	return nil
}

// stash adds an older version.
func (b *batch) stash(v Version) {
	n := b.counts[v.Container]
	was, at := *n, len(b.fresh)
	n.versions, n.versionBytes = n.versions+1, n.versionBytes+v.Bytes
	b.fresh = append(b.fresh, v)
	b.undo = append(b.undo, func() { *n, b.fresh = was, b.fresh[:at] })
}

// unstash takes an older version away. keep says that its blob lives on.
func (b *batch) unstash(v Version, keep bool) {
	n := b.counts[v.Container]
	was, trash, gone := *n, len(b.trash), len(b.oldGone)
	n.versions, n.versionBytes = n.versions-1, n.versionBytes-v.Bytes
	if !keep && v.Blob != "" {
		b.trash = append(b.trash, v.Blob)
	}
	b.oldGone = append(b.oldGone, v.ID)
	b.undo = append(b.undo, func() { *n, b.trash, b.oldGone = was, b.trash[:trash], b.oldGone[:gone] })
}

// write writes what has been decided.
func (b *batch) write() error {
	ctx := b.ctx
	var gone []string
	var add []Object
	for _, id := range slices.Sorted(maps.Keys(b.rows)) {
		was, o := b.were[id], b.rows[id]
		switch {
		case was == o:
		case o == nil:
			gone = append(gone, id)
		case was == nil:
			add = append(add, *o)
		default:
			if err := b.s.objects.Replace(ctx, was, o); err != nil {
				return err
			}
		}
	}
	if len(gone) > 0 {
		if _, err := b.s.objects.DeleteWhere(ctx, store.In("id", gone)); err != nil {
			return err
		}
	}
	if err := b.s.objects.Insert(ctx, add...); err != nil {
		if store.IsDuplicate(err) {
			return errors.Join(store.ErrRaced, err)
		}
		return err
	}
	if len(b.oldGone) > 0 {
		if _, err := b.s.versions.DeleteWhere(ctx, store.In("id", b.oldGone)); err != nil {
			return err
		}
	}
	if err := b.s.versions.Insert(ctx, b.fresh...); err != nil {
		return err
	}
	var trash []garbage
	for _, k := range b.trash {
		trash = append(trash, garbage{Blob: k, At: b.now})
	}
	if err := b.s.garbage.Insert(ctx, trash...); err != nil {
		return err
	}
	for id, n := range b.counts {
		if *n == (counts{}) {
			continue
		}
		if _, err := b.s.containers.UpdateWhere(ctx, store.Eq("id", id), store.Set{"objects": store.Increment(n.objects), "bytes": store.Increment(n.bytes),
			"version_count": store.Increment(n.versions), "version_bytes": store.Increment(n.versionBytes)}); err != nil {
			return err
		}
	}
	return nil
}

// conflict is a change that the state forbids.
func conflict(format string, args ...any) error {
	return nacre.Errorf(nacre.Conflict, "", format, args...)
}
