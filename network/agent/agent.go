// Package agent is network's hand on one host. It takes the desired state that
// network sends, applies it through a data plane driver, and reports what became
// of it. It never touches a database, and imports the contract only.
//
//	a, err := agent.New(agent.Config{Host: "node1", Driver: d, Report: publish})
//	go a.Run(ctx)
//	…
//	a.Handle(ctx, desired) // for each message from network
//
// It promises:
//
//   - Messages may be lost, doubled, late or out of order. Of each object the
//     highest generation wins, and a tombstone wins over the generations before it.
//   - Different objects are applied at the same time, one object's changes one
//     after another; what was overtaken while it waited is left out.
//   - What fails is tried again, with growing, jittered pauses, until it works or a
//     newer generation comes. The report says why it fails meanwhile.
//   - Only a tombstone removes. What desired state omits is reported, not touched.
//   - A full report on start and at intervals lists everything in place, so that
//     network sees what differs. The agent keeps nothing over a restart; the driver does.
package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/network/dataplane"
)

// Config is what an agent needs. Driver and Report are required; the zero value
// of the rest works.
type Config struct {
	// Host is the host's name, for logs and reasons.
	Host string
	// Driver does the work. The agent does not close it.
	Driver dataplane.Driver
	// Report tells network. An error means that it may not have arrived: the
	// states are sent again later, as they are then.
	Report func(ctx context.Context, r dataplane.Report) error
	Log    *slog.Logger
	// Interval is the time between full reports, give or take a tenth; 20 s. It must
	// be well below network's HostTimeout: a host that is not heard counts as down.
	Interval time.Duration
	// Retry is the first pause after a failure, 500 ms; MaxRetry the longest, 30 s.
	Retry, MaxRetry time.Duration
	// Batch is how long changed states are gathered before they are sent; 20 ms.
	Batch time.Duration
	// Workers bounds how many objects are applied at once; 8.
	Workers int
	// Rand gives numbers in [0,1) for jitter; nil is math/rand's.
	Rand func() float64
}

// forget is how long a tombstone is remembered against late older messages.
const forget = time.Hour

type key struct {
	kind dataplane.Kind
	id   string
}

// object is what the agent knows of one object.
type object struct {
	desired dataplane.Desired
	// queued: it is to be applied at due. busy: a worker has it.
	queued, busy bool
	due          time.Time
	failures     int
	reason       string
	// done is when a tombstone was carried out.
	done time.Time
}

// Agent applies and reports. Its methods are safe for concurrent use.
type Agent struct {
	c Config

	mu      sync.Mutex
	objects map[key]*object
	// pending are the objects that are queued.
	pending map[key]*object
	// changed is what the next report tells of.
	changed map[key]struct{}
	// work and news wake the two loops of Run.
	work, news chan struct{}
	running    bool
}

// New makes an agent; Run lets it work.
func New(c Config) (*Agent, error) {
	if c.Driver == nil {
		return nil, errors.New("network agent: no Driver")
	}
	if c.Report == nil {
		return nil, errors.New("network agent: no Report")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.Log = c.Log.With("host", c.Host)
	if c.Rand == nil {
		c.Rand = rand.Float64
	}
	for _, d := range []struct {
		value *time.Duration
		usual time.Duration
	}{
		{&c.Interval, 20 * time.Second}, {&c.Retry, 500 * time.Millisecond},
		{&c.MaxRetry, 30 * time.Second}, {&c.Batch, 20 * time.Millisecond},
	} {
		if *d.value <= 0 {
			*d.value = d.usual
		}
	}
	if c.Workers <= 0 {
		c.Workers = 8
	}
	return &Agent{
		c:       c,
		objects: map[key]*object{},
		pending: map[key]*object{},
		changed: map[key]struct{}{},
		work:    make(chan struct{}, 1),
		news:    make(chan struct{}, 1),
	}, nil
}

// Handle takes desired state in. It does not wait for the work; the report tells
// of it. The error names messages that make no sense, the others are taken.
func (a *Agent) Handle(_ context.Context, desired []dataplane.Desired) error {
	var bad []error
	now := time.Now()
	a.mu.Lock()
	for _, d := range desired {
		if err := check(d); err != nil {
			bad = append(bad, err)
			continue
		}
		k := key{d.Kind, d.ID}
		o := a.objects[k]
		if o == nil {
			o = &object{}
			a.objects[k] = o
		} else if overtaken(d, o.desired) {
			continue
		}
		o.desired, o.queued, o.due = d, true, now
		o.failures, o.reason, o.done = 0, "", time.Time{}
		a.pending[k] = o
	}
	a.mu.Unlock()
	wake(a.work)
	return errors.Join(bad...)
}

// overtaken says that d is older than what is known. A tombstone is final for
// its generation: the object it removed does not come back by a late message.
func overtaken(d, known dataplane.Desired) bool {
	if d.Generation != known.Generation {
		return d.Generation < known.Generation
	}
	return known.Gone && !d.Gone
}

func check(d dataplane.Desired) error {
	set, id, generation := 0, d.ID, d.Generation
	kind := d.Kind
	if d.Network != nil {
		set, kind, id, generation = set+1, dataplane.KindNetwork, d.Network.ID, d.Network.Generation
	}
	if d.Port != nil {
		set, kind, id, generation = set+1, dataplane.KindPort, d.Port.ID, d.Port.Generation
	}
	if d.Router != nil {
		set, kind, id, generation = set+1, dataplane.KindRouter, d.Router.ID, d.Router.Generation
	}
	if d.SecurityGroup != nil {
		set, kind, id, generation = set+1, dataplane.KindSecurityGroup, d.SecurityGroup.ID, d.SecurityGroup.Generation
	}
	if d.Gone {
		set++
	}
	switch {
	case d.ID == "":
		return fmt.Errorf("network agent: a %s without id", d.Kind)
	case set != 1:
		return fmt.Errorf("network agent: %s %s must carry one object or a tombstone", d.Kind, d.ID)
	case kind != d.Kind || id != d.ID || generation != d.Generation:
		return fmt.Errorf("network agent: %s %s generation %d carries %s %s generation %d", d.Kind, d.ID, d.Generation, kind, id, generation)
	}
	return nil
}

// Run works until ctx ends, and returns when nothing of it runs any more. It
// may be called once.
func (a *Agent) Run(ctx context.Context) error {
	a.mu.Lock()
	if a.running {
		a.mu.Unlock()
		return errors.New("network agent: runs already")
	}
	a.running = true
	a.mu.Unlock()
	var loops sync.WaitGroup
	loops.Go(func() { a.watch(ctx) })
	loops.Go(func() { a.report(ctx) })
	a.apply(ctx)
	loops.Wait()
	return nil
}

// apply hands due objects to workers.
func (a *Agent) apply(ctx context.Context) {
	var workers sync.WaitGroup
	defer workers.Wait()
	free := make(chan struct{}, a.c.Workers)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		k, pause := a.next()
		if k.id != "" {
			select {
			case <-ctx.Done():
				return
			case free <- struct{}{}:
			}
			workers.Go(func() {
				a.carryOut(ctx, k)
				<-free
				wake(a.work)
			})
			continue
		}
		timer.Reset(pause)
		select {
		case <-ctx.Done():
			return
		case <-a.work:
		case <-timer.C:
		}
	}
}

// next is an object that is due, marked busy; or how long until one is.
func (a *Agent) next() (key, time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	pause := a.c.Interval
	for k, o := range a.pending {
		if o.busy {
			continue
		}
		if wait := o.due.Sub(now); wait > 0 {
			pause = min(pause, wait)
			continue
		}
		o.queued, o.busy = false, true
		delete(a.pending, k)
		return k, 0
	}
	for k, o := range a.objects {
		if !o.done.IsZero() && now.Sub(o.done) > forget && !o.queued && !o.busy {
			delete(a.objects, k)
		}
	}
	return key{}, pause
}

// carryOut applies what is wanted of one object now.
func (a *Agent) carryOut(ctx context.Context, k key) {
	a.mu.Lock()
	o := a.objects[k]
	d := o.desired
	a.mu.Unlock()

	err := a.do(ctx, d)
	if ctx.Err() != nil {
		// Stopped in the middle: that is no failure of the object's.
		return
	}

	a.mu.Lock()
	o.busy = false
	if !o.queued {
		if err != nil {
			o.queued, o.due = true, time.Now().Add(a.backoff(o.failures))
			a.pending[k] = o
			o.failures++
			o.reason = a.reason(err)
		} else {
			o.failures, o.reason = 0, ""
			if d.Gone {
				o.done = time.Now()
			}
		}
		a.changed[k] = struct{}{}
	}
	failures := o.failures
	a.mu.Unlock()
	if err != nil {
		a.c.Log.Warn("the data plane refused a change", "kind", k.kind, "id", k.id, "generation", d.Generation,
			"gone", d.Gone, "failures", failures, "error", err)
	}
	wake(a.news)
}

func (a *Agent) do(ctx context.Context, d dataplane.Desired) error {
	switch {
	case d.Gone:
		return a.c.Driver.Delete(ctx, d.Kind, d.ID)
	case d.Network != nil:
		return a.c.Driver.ApplyNetwork(ctx, *d.Network)
	case d.Port != nil:
		return a.c.Driver.ApplyPort(ctx, *d.Port)
	case d.Router != nil:
		return a.c.Driver.ApplyRouter(ctx, *d.Router)
	default:
		return a.c.Driver.ApplySecurityGroup(ctx, *d.SecurityGroup)
	}
}

// backoff doubles from Retry to MaxRetry, less up to a quarter of jitter.
func (a *Agent) backoff(failures int) time.Duration {
	pause := a.c.MaxRetry
	if failures < 20 {
		pause = min(pause, a.c.Retry<<failures)
	}
	return pause - time.Duration(float64(pause)*a.c.Rand()/4)
}

// reason is what a user may read of an error.
func (a *Agent) reason(err error) string {
	var known *nacre.Error
	if errors.As(err, &known) && known.Message != "" {
		return known.Message
	}
	return fmt.Sprintf("the data plane of host %s failed; it is tried again", a.c.Host)
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
