package agent_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/compute/hypervisor"
)

// wires is a data plane that remembers what it was told.
type wires struct {
	mu   sync.Mutex
	has  []byte
	told []string
}

func (w *wires) Flows(context.Context, string) ([]byte, error) { return w.has, nil }

func (w *wires) AddFlows(_ context.Context, server string, flows []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.told = append(w.told, server+" "+string(flows))
	return nil
}

func (w *wires) heard() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.told
}

// A guest that moves running has its connections told to its new host, before it is sent
// and after. Who does not show the move's ticket tells nothing.
func TestFlowsGoAlong(t *testing.T) {
	hosts := map[string]*host{}
	var mu sync.Mutex
	var urls = map[string]string{}
	for _, name := range []string{"from", "to"} {
		h := newHost(t)
		var served http.Handler
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { served.ServeHTTP(w, r) }))
		t.Cleanup(server.Close)
		h.cfg.Migration, h.cfg.Flows = server.URL, &wires{has: []byte("flows of " + name)}
		h.start()
		served = h.agent.Migrations()
		t.Cleanup(h.stop)
		mu.Lock()
		hosts[name], urls[name] = h, server.URL
		mu.Unlock()
	}
	from, to := hosts["from"], hosts["to"]
	until := func(what string, f func() bool) {
		t.Helper()
		require.Eventually(t, f, 20*time.Second, 5*time.Millisecond, what)
	}
	handle := func(h *host, d hypervisor.Desired) {
		t.Helper()
		require.NoError(t, h.agent.Handle(t.Context(), []hypervisor.Desired{d}))
	}
	handle(from, want("vm", 1, hypervisor.Running))
	until("it runs", func() bool { s := from.state("vm"); return s.Phase == hypervisor.Done && s.Power == hypervisor.Running })

	move := func(target bool, peer, offer string) *hypervisor.Move {
		return &hypervisor.Move{ID: "m", Kind: hypervisor.Live, Target: target, Peer: urls[peer], Ticket: "ticket", Offer: offer}
	}
	d := want("vm", 2, hypervisor.Running)
	d.Move = move(false, "to", "")
	handle(from, d)
	d.Move = move(true, "from", "")
	handle(to, d)
	until("the target is ready", func() bool { return to.state("vm").Move.Offer != "" })

	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, urls["to"]+"/vm/flows", http.NoBody)
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer another")
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusForbidden, resp.StatusCode)

	d.Generation, d.Move = 3, move(false, "to", to.state("vm").Move.Offer)
	handle(from, d)
	until("it is sent", func() bool { return from.state("vm").Move.Moved })
	until("it landed", func() bool { s := to.state("vm"); return s.Move.Landed && s.Power == hypervisor.Running })
	require.Equal(t, []string{"vm flows of from", "vm flows of from"}, to.cfg.Flows.(*wires).heard())
	require.Empty(t, from.cfg.Flows.(*wires).heard())
}
