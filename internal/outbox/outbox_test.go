package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/internal/outbox"
	"github.com/nacre-cloud/nacre/store"
	"github.com/nacre-cloud/nacre/store/bunstore"
	"github.com/nacre-cloud/nacre/store/memstore"
	"github.com/nacre-cloud/nacre/store/storetest"
)

func onEach(t *testing.T, test func(t *testing.T, e store.Engine)) {
	for name, open := range map[string]func(dir string) (store.Engine, error){
		"memstore": func(string) (store.Engine, error) { return memstore.New(memstore.Options{}), nil },
		"sqlite": func(dir string) (store.Engine, error) {
			return bunstore.OpenSQLite(filepath.Join(dir, "o.db"), bunstore.Options{Synchronous: "OFF"})
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				e, err := open(dir)
				require.NoError(t, err)
				t.Cleanup(func() { require.NoError(t, e.Close()) })
				require.NoError(t, e.Migrate(t.Context(), &store.Schema{Area: "test", Tables: []*store.TableDef{outbox.Table()}}, true))
				test(t, e)
			})
		})
	}
}

// emit commits one transaction with these events.
func emit(t *testing.T, e store.Engine, o *outbox.Outbox, resources ...string) {
	t.Helper()
	ctx := nacre.WithCaller(context.Background(), &nacre.Caller{UserID: "u1", RequestID: "req-1", Token: "secret"})
	require.NoError(t, store.InTx(ctx, e, func(ctx context.Context) error {
		for _, r := range resources {
			if err := o.Emit(ctx, "thing.create", r, "p1", map[string]int{"size": 1}); err != nil {
				return err
			}
		}
		return nil
	}))
}

// sink collects what is published.
type sink struct {
	mu   sync.Mutex
	got  []nacre.Event
	fail func(e nacre.Event) error
}

func (s *sink) publish(ctx context.Context, e nacre.Event) error {
	if err := store.Outside(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		if err := s.fail(e); err != nil {
			return err
		}
	}
	s.got = append(s.got, e)
	return nil
}

func (s *sink) resources() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, e := range s.got {
		out = append(out, e.Resource)
	}
	return out
}

func run(o *outbox.Outbox, s *sink) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { o.Run(ctx, s.publish) })
	return func() { cancel(); wg.Wait() }
}

func TestEmit(t *testing.T) {
	onEach(t, func(t *testing.T, e store.Engine) {
		o, s := outbox.New("test", e, nil), &sink{}
		require.ErrorIs(t, o.Emit(t.Context(), "thing.create", "x", "p", nil), store.ErrTx)
		stop := run(o, s)
		emit(t, e, o, "a", "b")
		synctest.Wait()
		require.Equal(t, []string{"a", "b"}, s.resources(), "at once, in order")
		ev := s.got[0]
		require.NotEmpty(t, ev.ID)
		require.NotEqual(t, ev.ID, s.got[1].ID)
		require.Equal(t, time.Now().UTC(), ev.At)
		ev.ID, ev.At = "", time.Time{}
		require.Equal(t, nacre.Event{Area: "test", Type: "thing.create", Resource: "a", ProjectID: "p1", UserID: "u1", RequestID: "req-1", Payload: []byte(`{"size":1}`)}, ev)
		n, err := store.NewTable[outbox.Row](e, "outbox").Count(t.Context())
		require.NoError(t, err)
		require.Zero(t, n, "what was sent is deleted")

		// A change that never was has no event.
		require.Error(t, store.InTx(t.Context(), e, func(ctx context.Context) error {
			require.NoError(t, o.Emit(ctx, "thing.create", "never", "p1", nil))
			return errors.New("no")
		}))
		time.Sleep(time.Minute)
		require.Len(t, s.resources(), 2)
		stop()
	})
}

// Events wait for the bus, in order and in any number.
func TestBusAway(t *testing.T) {
	onEach(t, func(t *testing.T, e store.Engine) {
		o := outbox.New("test", e, nil)
		var want []string
		for i := range 450 {
			r := fmt.Sprint(i)
			want = append(want, r)
			emit(t, e, o, r)
			time.Sleep(2 * time.Millisecond)
		}
		away := true
		s := &sink{}
		s.fail = func(ev nacre.Event) error {
			if away && ev.Resource == "7" {
				return errors.New("no broker")
			}
			return nil
		}
		stop := run(o, s)
		time.Sleep(time.Minute)
		require.Equal(t, want[:7], s.resources(), "none overtakes the one that fails, and none is doubled")
		s.mu.Lock()
		away = false
		s.mu.Unlock()
		time.Sleep(3 * time.Second)
		synctest.Wait()
		require.Equal(t, want, s.resources())
		stop()
	})
}

// Whatever store call the relay dies at, each event arrives at least once, and
// doubles have the same id.
func TestCrash(t *testing.T) {
	onEach(t, func(t *testing.T, e store.Engine) {
		for n := 1; n <= 4; n++ {
			calls := 0
			sick := storetest.Faulty(e, func(string, string) error {
				if calls++; calls >= n {
					return errors.New("crashed")
				}
				return nil
			})
			emit(t, e, outbox.New("test", e, nil), "a", "b", "c")
			s := &sink{}
			stop := run(outbox.New("test", sick, nil), s)
			time.Sleep(time.Second)
			stop()
			stop = run(outbox.New("test", e, nil), s)
			time.Sleep(time.Second)
			stop()
			ids := map[string]string{}
			for _, ev := range s.got {
				ids[ev.Resource] += ev.ID + " "
			}
			require.Len(t, ids, 3)
			for _, list := range ids {
				var first string
				var rest int
				rest, err := fmt.Sscan(list, &first)
				require.NoError(t, err)
				require.Equal(t, 1, rest)
				require.Contains(t, []string{first + " ", first + " " + first + " "}, list)
			}
		}
	})
}
