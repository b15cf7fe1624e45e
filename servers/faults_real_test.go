//go:build realtest

package servers_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// clients is how many make and delete servers at once while there are faults.
const clients = 16

// backWithin is how soon after a part is back every function is to answer well again. The
// short form, which runs anywhere, asserts a bound that a busy machine keeps, too.
const (
	backWithin      = 2 * time.Second
	backWithinShort = 15 * time.Second
)

// TestCopies has two copies of each function, behind HAProxy, over PostgreSQL and
// RabbitMQ, and two hosts in processes of their own. It runs the conformance suite, and
// then faults of each kind under a load of creates and deletes, each kind for
// NACRE_FAULT_SECONDS (20): soon after a part is back all answers well, what was
// acknowledged is there, every server comes to rest within a lease and a period of
// reports, and the audit finds nothing.
func TestCopies(t *testing.T) {
	c := startCopies(t, onPostgres(t))
	t.Run("Apart", c.apart)
	t.Run("Conformance", c.conformance)
	t.Run("Faults", c.faults)
}

// TestCopiesOnMariaDB is TestCopies over MariaDB and NATS.
func TestCopiesOnMariaDB(t *testing.T) {
	c := startCopies(t, onMariaDB(t))
	t.Run("Apart", c.apart)
	t.Run("Conformance", c.conformance)
	t.Run("Faults", c.faults)
}

// fault is something that happens; do returns when the part is back.
type fault struct {
	name string
	do   func() error
}

// faults runs each kind of faults.
func (c *copies) faults(t *testing.T) {
	seconds := 20
	if v := os.Getenv("NACRE_FAULT_SECONDS"); v != "" {
		var err error
		seconds, err = strconv.Atoi(v)
		require.NoError(t, err)
	}
	long := seconds >= 300
	c.unlimited(t)
	image := c.begin(t)
	for _, kind := range []struct {
		name   string
		faults []fault
		// least is how many there are, whatever time they take; pause is the time
		// between them.
		least int
		pause time.Duration
	}{
		{"Kills", c.kills(), len(c.kills()), 500 * time.Millisecond},
		{"Database", outages(c.on.db, long), 1, 5 * time.Second},
		{"Broker", outages(c.on.broker, long), 1, 5 * time.Second},
		{"Cut", c.cuts(long), 1, 10 * time.Second},
	} {
		t.Run(kind.name, func(t *testing.T) {
			l := startLoad(t, c, image)
			p := startProber(t, c)
			var back, out []time.Duration
			var when []time.Time
			end := time.Now().Add(time.Duration(seconds) * time.Second)
			for n := 0; n < kind.least || time.Now().Before(end); n++ {
				f := kind.faults[n%len(kind.faults)]
				begun := time.Now()
				require.NoError(t, f.do(), f.name)
				over := time.Now()
				good, ok := p.wait(t.Context(), over)
				require.True(t, ok, "%s: all does not answer well within a minute: %s", f.name, p.state())
				back, out, when = append(back, max(0, good.Sub(over))), append(out, max(0, good.Sub(begun))), append(when, over)
				t.Logf("%-16s took %v, back in %v", f.name, over.Sub(begun).Round(time.Millisecond), back[n].Round(time.Millisecond))
				within := backWithinShort
				if long {
					within = backWithin
				}
				assert.Less(t, back[n], within, "%s: %s", f.name, p.state())
				pause(t.Context(), kind.pause+rand.N(kind.pause))
			}
			p.stop()
			l.stop()
			rest := l.settle(t)
			t.Logf("%d faults in %d s: all answers well again %s after the part is back, %s after the fault; the next boot ends %s after the part is back", len(back), seconds, spread(back), spread(out), spread(l.nextBoots(when)))
			t.Logf("%d servers made, %d deleted; %d requests failed: %v; of %d probes failed: %v; all at rest %v after the end", l.total.Load(), l.gone.Load(), l.failed.Load(), l.why, p.count(), p.failures(), rest.Round(10*time.Millisecond))
		})
	}
}

// spread is the middle and the most of some times.
func spread(ds []time.Duration) string {
	if len(ds) == 0 {
		return "never"
	}
	ds = slices.Sorted(slices.Values(ds))
	return fmt.Sprintf("%v (median; %v at most)", ds[len(ds)/2].Round(time.Millisecond), ds[len(ds)-1].Round(time.Millisecond))
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// kills are kill -9 of one copy of each kind, whose twin goes on, and of both.
func (c *copies) kills() []fault {
	var out []fault
	for _, of := range append(slices.Clone(functions), "host") {
		out = append(out, fault{"one " + of, func() error { return again(c.both(of)[rand.IntN(2)]) }},
			fault{"both " + of, func() error { return again(c.both(of)...) }})
	}
	return out
}

// again kills programs and starts them again.
func again(ps ...*program) error {
	for _, p := range ps {
		p.kill()
	}
	return startAll(ps)
}

// outages are stops of a server, short ones and long ones.
func outages(s server, long bool) []fault {
	for_ := func(d time.Duration) fault {
		return fault{"away for " + d.String(), func() error { s.Stop(); time.Sleep(d); s.Start(); return nil }}
	}
	if !long {
		return []fault{for_(3 * time.Second)}
	}
	return []fault{for_(2 * time.Second), for_(15 * time.Second)}
}

// cuts have a host's connections go dead, without their ends being told, for longer than
// the broker takes to notice (two heartbeats of 10 s).
func (c *copies) cuts(long bool) []fault {
	away := 22 * time.Second
	if long {
		away = 30 * time.Second
	}
	var out []fault
	for _, name := range hostNames {
		l := c.hosts[name]
		out = append(out, fault{name, func() error {
			l.control.Cut()
			l.broker.Cut()
			time.Sleep(away)
			l.control.Mend()
			l.broker.Mend()
			return nil
		}})
	}
	return out
}
