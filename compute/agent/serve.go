package agent

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/compute/hypervisor"
)

// Migrations serves other hosts with what a move needs of this one. Whoever asks
// shows the ticket that compute gave both hosts for this one move:
//
//	GET  /{server}/files         what the server consists of
//	GET  /{server}/files/{name}  one of it; of a running server only what does not change
//	POST /{server}/guest         a guest that comes running, for drivers that land it
//	POST /{server}/flows         its connections, for the data plane
func (a *Agent) Migrations() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{server}/files", a.serve(false, a.serveFiles))
	mux.HandleFunc("GET /{server}/files/{name}", a.serve(false, a.serveFile))
	mux.HandleFunc("POST /{server}/guest", a.serve(true, a.serveGuest))
	mux.HandleFunc("POST /{server}/flows", a.serve(true, a.serveFlows))
	return mux
}

// serve lets in who shows the ticket of a move that the server is on, with this host
// at the end that is asked for.
func (a *Agent) serve(target bool, f func(http.ResponseWriter, *http.Request, hypervisor.Mover, *hypervisor.Move) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ticket, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		a.mu.Lock()
		var m *hypervisor.Move
		if s := a.servers[r.PathValue("server")]; s != nil && s.want != nil && !s.want.Gone {
			m = s.want.Move
		}
		a.mu.Unlock()
		mover, ok := a.cfg.Driver.(hypervisor.Mover)
		if !ok || m == nil || m.Target != target || m.Ticket == "" || subtle.ConstantTimeCompare([]byte(m.Ticket), []byte(ticket)) != 1 {
			http.Error(w, "no such move", http.StatusForbidden)
			return
		}
		if err := f(w, r, mover, m); err != nil {
			a.log.WarnContext(r.Context(), "another host's request failed", "path", r.URL.Path, "err", err)
			var e *nacre.Error
			status, message := http.StatusBadGateway, "the host failed"
			if errors.As(err, &e) {
				message = e.Message
				if e.Kind != nacre.Unavailable && e.Kind != nacre.Internal {
					status = http.StatusConflict
				}
			}
			http.Error(w, message, status)
		}
	}
}

func (a *Agent) serveFiles(w http.ResponseWriter, r *http.Request, mover hypervisor.Mover, _ *hypervisor.Move) error {
	files, err := mover.Files(r.Context(), r.PathValue("server"))
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(files)
}

func (a *Agent) serveFile(w http.ResponseWriter, r *http.Request, mover hypervisor.Mover, m *hypervisor.Move) error {
	id, name := r.PathValue("server"), r.PathValue("name")
	files, err := mover.Files(r.Context(), id)
	if err != nil {
		return err
	}
	for _, f := range files {
		if f.Name != name {
			continue
		}
		if m.Kind == hypervisor.Live && !f.Shared && !f.Fixed {
			break
		}
		if m.Kind == hypervisor.Cold {
			if in, err := a.cfg.Driver.Get(r.Context(), id); err != nil || in.Power == hypervisor.Running || in.Power == hypervisor.Paused {
				return errors.Join(err, nacre.Errorf(nacre.Unavailable, "fault", "The server is not off yet."))
			}
		}
		body, err := mover.OpenFile(r.Context(), id, name)
		if err != nil {
			return err
		}
		defer body.Close() //nolint:errcheck // only read
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Content-Length", strconv.FormatInt(f.Size, 10))
		if _, err := io.Copy(w, body); err != nil {
			a.log.WarnContext(r.Context(), "a file for another host broke off", "server", id, "file", name, "err", err)
			panic(http.ErrAbortHandler) // what was sent must not look whole
		}
		return nil
	}
	return nacre.Errorf(nacre.NotFound, "file", "The server has no file %s to give.", name)
}

func (a *Agent) serveGuest(w http.ResponseWriter, r *http.Request, mover hypervisor.Mover, m *hypervisor.Move) error {
	l, ok := mover.(hypervisor.Lander)
	if !ok || m.Kind != hypervisor.Live || m.Cancel {
		return nacre.Errorf(nacre.Conflict, "migration", "No guest is expected here.")
	}
	if err := l.Land(r.Context(), r.PathValue("server"), r.Body); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// peer is the other host of a move.
func (a *Agent) peer(server string, m *hypervisor.Move) peer {
	return peer{a.cfg.Client, strings.TrimRight(m.Peer, "/") + "/" + url.PathEscape(server), m.Ticket}
}

type peer struct {
	client       *http.Client
	base, ticket string
}

// Files implements hypervisor.Peer.
func (p peer) Files(ctx context.Context) ([]hypervisor.File, error) {
	body, err := p.do(ctx, http.MethodGet, "/files", nil)
	if err != nil {
		return nil, err
	}
	defer body.Close() //nolint:errcheck // only read
	var files []hypervisor.File
	if err := json.NewDecoder(io.LimitReader(body, 1<<20)).Decode(&files); err != nil {
		return nil, unreachable(err)
	}
	return files, nil
}

// Open implements hypervisor.Peer.
func (p peer) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	return p.do(ctx, http.MethodGet, "/files/"+url.PathEscape(name), nil)
}

// Send implements hypervisor.Peer.
func (p peer) Send(ctx context.Context, guest io.Reader) error {
	body, err := p.do(ctx, http.MethodPost, "/guest", guest)
	if err != nil {
		return err
	}
	return body.Close()
}

func unreachable(err error) error {
	return &nacre.Error{Kind: nacre.Unavailable, Code: "peer", Message: "The other host does not answer.", Err: err}
}

func (p peer) do(ctx context.Context, method, path string, body io.Reader) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, method, p.base+path, body)
	if err != nil {
		return nil, nacre.Errorf(nacre.Invalid, "peer", "The other host has no address to be reached at.")
	}
	req.Header.Set("Authorization", "Bearer "+p.ticket)
	resp, err := p.client.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, unreachable(err)
	}
	if resp.StatusCode < 300 {
		return resp.Body, nil
	}
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 1000))
	_ = resp.Body.Close()
	err = fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, strings.TrimSpace(string(text)))
	if resp.StatusCode == http.StatusConflict {
		return nil, &nacre.Error{Kind: nacre.Conflict, Code: "peer", Message: "The other host refuses: " + strings.TrimSpace(string(text)), Err: err}
	}
	return nil, unreachable(err)
}
