// Package agent drives one host's hypervisor to the state that compute wants.
//
// It takes [hypervisor.Desired] messages, one per server, in any order and any
// number of times; it sends [hypervisor.Report]s. It knows no database, no bus
// and no area: both directions are functions, so that it runs in the cloud's own
// process or on a host far away.
//
//	a, err := agent.New(agent.Config{Host: "compute-1", Driver: driver, Images: images,
//		Report: publish, Dir: "/var/lib/nacre/agent"})
//	go a.Run(ctx)
//	a.Handle(ctx, desired)
//
// What it promises:
//
//   - Work on one server is serial, work on different servers parallel and bounded.
//   - The newest generation wins; an older one is ignored; the same one again only
//     has its state reported again.
//   - Only a tombstone (Gone) destroys. What it finds and was never told of is
//     reported with generation 0 and left alone.
//   - A guest that turned itself off is reported, not started again, until a newer
//     generation says so; over a restart of the agent too, if Dir is set.
//   - What can't be is Failed, with a reason that a user can read. What may pass is
//     tried again with growing, jittered pauses.
//   - A server that moves is served to its new host, and fetched from its old one,
//     with the ticket of that one move ([Agent.Migrations]).
//   - Reports may be lost: each state is repeated in full reports.
package agent

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"runtime"
	"sync"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/compute/hypervisor"
)

// Config says what an agent works with. Driver and Report are required.
type Config struct {
	// Host names the host in the log.
	Host   string
	Driver hypervisor.Driver
	// Images is handed to the driver for Create.
	Images hypervisor.Images
	// Migration is this host's address for [Agent.Migrations], as other hosts reach it;
	// empty says that servers neither leave this host nor come. Client reaches others;
	// nil is http.DefaultClient.
	Migration string
	Client    *http.Client
	// Flows is the host's data plane, if it can take a guest's connections along; nil is
	// that those of guests that move running may break.
	Flows Flows
	// Report sends a report to compute; an error has it sent again later.
	Report func(context.Context, hypervisor.Report) error
	// Dir remembers, in a small file per server, which generation was reached. It
	// lets an agent that starts anew tell a guest that turned itself off from one
	// that is yet to be started, a reboot done from one still due, and a server
	// that vanished from one never built. Empty: memory only.
	Dir string
	Log *slog.Logger
	// Interval between full reports, give or take a tenth; 0 means DefaultInterval. It must
	// be well below compute's HostTimeout: a host that is not heard counts as down.
	Interval time.Duration
	// Batch is how long changes gather before they are reported; 0 means 10 ms.
	Batch time.Duration
	// Workers bounds the driver calls at one time, builds excepted; 0 means 32.
	Workers int
	// Builds bounds the creates at one time; 0 means twice the processors, at least 4.
	Builds int
	// Tries is how often a Fault (nacre.Unavailable) is tried before it is Failed;
	// 0 means 5. RetryMin and RetryMax bound the pauses; 0 means 1 s and 30 s.
	Tries              int
	RetryMin, RetryMax time.Duration
}

// DefaultInterval is the time between full reports.
const DefaultInterval = 20 * time.Second

// forget is how long a tombstone is remembered, so that messages that were late
// don't build the server again.
const forget = time.Hour

// Agent drives one host. Its methods are safe for concurrent use.
type Agent struct {
	cfg     Config
	log     *slog.Logger
	started int64
	workers chan struct{}
	builds  chan struct{}

	mu      sync.Mutex
	run     context.Context // nil until Run has taken stock
	servers map[string]*server
	dirty   map[string]bool
	full    bool
	// sequence is the last report's.
	sequence int64
	wake     chan struct{}
	wg       sync.WaitGroup
}

// server is what the agent knows of one server.
type server struct {
	id     string
	want   *hypervisor.Desired // newest taken in; nil until there is one
	done   int64               // generation that want was last settled at (Done, Failed or Absent)
	record record              // what was reached, as Dir remembers it
	known  bool                // record was read or written, not guessed
	state  hypervisor.State
	gone   time.Time // when it was destroyed
	look   bool      // its power may have changed by itself
	busy   bool
	newer  chan struct{}      // pinged when want changes
	cancel context.CancelFunc // of the work at hand
}

// New makes an agent and reads Dir; nothing else happens until Run.
func New(cfg Config) (*Agent, error) {
	switch {
	case cfg.Driver == nil:
		return nil, errors.New("agent: Config.Driver is missing")
	case cfg.Report == nil:
		return nil, errors.New("agent: Config.Report is missing")
	}
	cfg.Client = cmp.Or(cfg.Client, http.DefaultClient)
	cfg.Interval = cmp.Or(cfg.Interval, DefaultInterval)
	cfg.Batch = cmp.Or(cfg.Batch, 10*time.Millisecond)
	cfg.Workers = cmp.Or(cfg.Workers, 32)
	cfg.Builds = cmp.Or(cfg.Builds, max(4, 2*runtime.NumCPU()))
	cfg.Tries = cmp.Or(cfg.Tries, 5)
	cfg.RetryMin = cmp.Or(cfg.RetryMin, time.Second)
	cfg.RetryMax = cmp.Or(cfg.RetryMax, 30*time.Second)
	log := cmp.Or(cfg.Log, slog.Default()).With("host", cfg.Host)
	a := &Agent{
		cfg: cfg, log: log, started: time.Now().UnixNano(),
		workers: make(chan struct{}, cfg.Workers), builds: make(chan struct{}, cfg.Builds),
		servers: map[string]*server{}, dirty: map[string]bool{}, wake: make(chan struct{}, 1),
	}
	return a, a.readDir()
}

// Run takes stock of the host and works until ctx ends; then it waits for the
// driver calls at hand, which are cancelled. Guests go on running. It returns
// ctx's error.
func (a *Agent) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer a.wg.Wait()
	defer stop()
	watch, err := a.takeStock(ctx)
	if err != nil {
		return err
	}
	a.mu.Lock()
	a.run = ctx
	a.full = true
	for _, s := range a.servers {
		a.kick(s)
	}
	a.mu.Unlock()
	a.poke()
	a.wg.Go(func() { a.report(ctx) })
	a.wg.Go(func() { a.follow(ctx, watch) })
	<-ctx.Done()
	a.mu.Lock()
	a.run = nil
	a.mu.Unlock()
	return ctx.Err()
}

// takeStock subscribes to power changes and then lists what is there, so that
// no change falls between. It insists: a hypervisor may come up after us.
func (a *Agent) takeStock(ctx context.Context) (<-chan string, error) {
	for try := 0; ; try++ {
		watch, err := a.cfg.Driver.Watch(ctx)
		if err == nil {
			var list []hypervisor.Instance
			if list, err = a.cfg.Driver.List(ctx); err == nil {
				a.adopt(list)
				return watch, nil
			}
		}
		a.log.ErrorContext(ctx, "the hypervisor can't be listed", "err", err)
		if !sleep(ctx, a.pause(try)) {
			return nil, ctx.Err()
		}
	}
}

func (a *Agent) adopt(list []hypervisor.Instance) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, in := range list {
		s := a.get(in.ID)
		s.state = hypervisor.State{ID: in.ID, Phase: hypervisor.Done, Power: in.Power, Boot: s.record.Boot}
		if s.want != nil {
			s.state.Generation = s.want.Generation
		}
		if in.Partial {
			s.state.Phase = hypervisor.Working
		}
		s.record.Built = s.record.Built || !in.Partial
	}
}

// get is the server of an id, made if need be; a.mu is held.
func (a *Agent) get(id string) *server {
	s := a.servers[id]
	if s == nil {
		s = &server{id: id, newer: make(chan struct{}, 1), state: hypervisor.State{ID: id, Phase: hypervisor.Absent}}
		a.servers[id] = s
	}
	return s
}

// Handle takes in what compute wants. It returns at once; reports tell how it
// went. Messages that name no usable id are refused (nacre.Invalid), the others
// of the same call are taken in.
func (a *Agent) Handle(_ context.Context, desired []hypervisor.Desired) error {
	var bad error
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, d := range desired {
		if !hypervisor.SafeID(d.ID) || !d.Gone && d.Spec.ID != d.ID {
			bad = nacre.Errorf(nacre.Invalid, "desired", "The desired state of %q names the server %q.", d.ID, d.Spec.ID)
			continue
		}
		a.take(d)
	}
	return bad
}

func (a *Agent) take(d hypervisor.Desired) {
	s := a.get(d.ID)
	newest := s.record.Generation
	if s.want != nil {
		newest = max(newest, s.want.Generation)
	}
	switch {
	case d.Generation < newest, d.Generation == newest && s.record.Gone && !d.Gone:
		return
	case s.want != nil && d.Generation == newest:
		if s.done == newest {
			a.mark(s)
		}
		return
	}
	moving := s.want != nil && s.want.Move != nil
	s.want = &d
	s.state.Generation = d.Generation
	if d.Move == nil || d.Move.ID != s.state.Move.ID {
		s.state.Move = hypervisor.MoveState{}
	}
	select {
	case s.newer <- struct{}{}:
	default:
	}
	if !d.Gone {
		s.gone = time.Time{}
	}
	if (d.Gone || moving) && s.cancel != nil {
		s.cancel()
	}
	a.kick(s)
}

// kick sees to it that somebody works on the server; a.mu is held.
func (a *Agent) kick(s *server) {
	if s.busy || a.run == nil || s.want == nil && !s.look || s.want != nil && s.done == s.want.Generation && !s.look {
		return
	}
	s.busy = true
	run := a.run
	a.wg.Go(func() { a.work(run, s) })
}

// work brings a server to rest, one generation after the other.
func (a *Agent) work(run context.Context, s *server) {
	for {
		a.mu.Lock()
		want, look := s.want, s.look
		due := want != nil && s.done != want.Generation
		s.look = false
		if run.Err() != nil || !due && !look {
			s.busy, s.cancel = false, nil
			a.mu.Unlock()
			return
		}
		ctx, cancel := context.WithCancel(run)
		s.cancel = cancel
		a.mu.Unlock()
		if due {
			a.settle(ctx, s, want)
		} else {
			a.refresh(ctx, s)
		}
		cancel()
	}
}

// mark has the server's state reported; a.mu is held.
func (a *Agent) mark(s *server) {
	a.dirty[s.id] = true
	a.poke()
}

func (a *Agent) poke() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// set changes a server's state, and has it reported if it differs.
func (a *Agent) set(s *server, f func(*hypervisor.State)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	old := s.state
	f(&s.state)
	if s.state != old {
		a.mark(s)
	}
}

// refresh looks at the power of a server that may have changed by itself.
func (a *Agent) refresh(ctx context.Context, s *server) {
	for try := 0; ; try++ {
		in, err := a.look(ctx, s.id)
		switch {
		case err == nil:
			a.mu.Lock()
			want := s.want
			a.mu.Unlock()
			here := want != nil && want.Move != nil && want.Move.Target && landed(in)
			if here {
				a.arrived(s, want)
			}
			a.set(s, func(st *hypervisor.State) {
				st.Power = in.Power
				st.Move.Landed = st.Move.Landed || here && st.Move.ID == want.Move.ID
				if st.Phase == hypervisor.Absent {
					st.Phase = hypervisor.Done
				}
			})
			return
		case errors.Is(err, nacre.NotFound):
			a.missing(s)
			return
		}
		a.log.WarnContext(ctx, "a server can't be looked at", "server", s.id, "err", err)
		if !sleep(ctx, a.pause(try)) {
			return
		}
	}
}

// missing notes that a server is not on the host. One that was only a name in a
// notice, of which neither compute nor we ever knew, is dropped instead.
func (a *Agent) missing(s *server) {
	a.mu.Lock()
	stranger := s.want == nil && !s.known && !s.record.Built
	if stranger && a.servers[s.id] == s {
		delete(a.servers, s.id)
		delete(a.dirty, s.id)
	}
	a.mu.Unlock()
	if !stranger {
		a.set(s, func(st *hypervisor.State) { st.Power, st.Phase = hypervisor.NoState, hypervisor.Absent })
	}
}

// follow turns the driver's notices into looks.
func (a *Agent) follow(ctx context.Context, watch <-chan string) {
	for try := 0; ; {
		for id := range watch {
			try = 0
			a.mu.Lock()
			s := a.get(id)
			s.look = true
			a.kick(s)
			a.mu.Unlock()
		}
		var err error
		for {
			if !sleep(ctx, a.pause(try)) {
				return
			}
			try++
			if watch, err = a.cfg.Driver.Watch(ctx); err == nil {
				break
			}
			a.log.WarnContext(ctx, "the hypervisor can't be watched", "err", err)
		}
		// What happened while nobody watched is found by looking at all.
		a.mu.Lock()
		for _, s := range a.servers {
			s.look = true
			a.kick(s)
		}
		a.mu.Unlock()
	}
}

// Console is the tail of a server's console.
func (a *Agent) Console(ctx context.Context, r hypervisor.ConsoleRequest) (hypervisor.ConsoleReply, error) {
	out, err := a.cfg.Driver.Console(ctx, r.ID, r.Limit)
	return hypervisor.ConsoleReply{Output: out}, err
}

// Resync has a full report sent soon, as when the connection to compute is new.
func (a *Agent) Resync() {
	a.mu.Lock()
	a.full = true
	a.mu.Unlock()
	a.poke()
}

// pause is the jittered wait before the next try.
func (a *Agent) pause(try int) time.Duration {
	d := a.cfg.RetryMax
	if try < 16 {
		d = min(d, a.cfg.RetryMin<<try)
	}
	return d/2 + rand.N(d/2+1)
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
