package agent

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"time"

	"github.com/nacre-cloud/nacre/compute/hypervisor"
)

// Flows is what a data plane knows of the connections of a server's guest, for that of
// the host that it moves to: text that only data planes of one kind understand.
type Flows interface {
	Flows(ctx context.Context, server string) ([]byte, error)
	AddFlows(ctx context.Context, server string, flows []byte) error
}

const (
	// flowsWithin bounds the hand-over: connections must not hold up the guest.
	flowsWithin = 5 * time.Second
	// flowsSize bounds what is read of another host.
	flowsSize = 32 << 20
)

// sendFlows tells the other host of a live move of the guest's connections. What fails
// costs these and not the move.
func (a *Agent) sendFlows(ctx context.Context, server string, m *hypervisor.Move) {
	if a.cfg.Flows == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, flowsWithin)
	defer cancel()
	text, err := a.cfg.Flows.Flows(ctx, server)
	if err == nil {
		err = a.peer(server, m).sendFlows(ctx, text)
	}
	if err != nil {
		a.log.WarnContext(ctx, "connections can't be taken along", "server", server, "err", err)
	}
}

func (p peer) sendFlows(ctx context.Context, text []byte) error {
	body, err := p.do(ctx, http.MethodPost, "/flows", bytes.NewReader(text))
	if err != nil {
		return err
	}
	return body.Close()
}

func (a *Agent) serveFlows(w http.ResponseWriter, r *http.Request, _ hypervisor.Mover, _ *hypervisor.Move) error {
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, flowsSize))
	if err == nil && a.cfg.Flows != nil {
		err = a.cfg.Flows.AddFlows(r.Context(), r.PathValue("server"), text)
	}
	if err == nil {
		w.WriteHeader(http.StatusNoContent)
	}
	return err
}
