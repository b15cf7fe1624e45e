// Package hostapi is what a host in another process asks compute for: the bytes of
// images and its guests' metadata. A host shows its name and the secret that
// compute issued to it as HTTP Basic authentication, and sees nothing of other
// hosts' images.
//
//	h := hostapi.New(svc, log)
//
// serves
//
//	GET /images/{server}/{image}   the image's bytes; header Nacre-Image describes it
//	*   /metadata/…                the metadata service, for the host's proxies
//
// Metadata is that of the servers on the host, and of those that are on their way to it:
// each host answers its own guests. The proxies sign the instance's id, as Neutron's do, by
// [hypervisor.CredentialHash] of the secret. Package servers/host is the other side.
package hostapi

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/compute"
	"github.com/nacre-cloud/nacre/compute/hypervisor"
	"github.com/nacre-cloud/nacre/compute/metadata"
)

type handler struct {
	svc *compute.Service
	log *slog.Logger
}

// New serves hosts. log gets what is not told to the host; nil is slog's default.
func New(svc *compute.Service, log *slog.Logger) http.Handler {
	if log == nil {
		log = slog.Default()
	}
	h := handler{svc, log}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /images/{server}/{image}", h.image)
	mux.Handle("/metadata/", http.StripPrefix("/metadata", http.HandlerFunc(h.metadata)))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, secret, _ := r.BasicAuth()
		if err := svc.CheckCredential(r.Context(), name, hypervisor.CredentialHash(secret)); err != nil {
			h.fail(w, r, err)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func (h handler) metadata(w http.ResponseWriter, r *http.Request) {
	host, secret, _ := r.BasicAuth()
	own := func(ctx context.Context, server, project string) (*metadata.Instance, error) {
		return h.svc.HostGuest(ctx, host, server, project)
	}
	(&metadata.Handler{Lookup: own, Secret: []byte(hypervisor.CredentialHash(secret)), Log: h.log}).ServeHTTP(w, r)
}

func (h handler) image(w http.ResponseWriter, r *http.Request) {
	host, _, _ := r.BasicAuth()
	rc, about, err := h.svc.HostImage(r.Context(), host, r.PathValue("server"), r.PathValue("image"))
	if err != nil {
		h.fail(w, r, err)
		return
	}
	defer rc.Close() //nolint:errcheck // only read
	text, err := json.Marshal(about)
	if err != nil {
		h.fail(w, r, err)
		return
	}
	w.Header().Set(hypervisor.ImageHeader, string(text))
	w.Header().Set("Content-Type", "application/octet-stream")
	if _, err := io.Copy(w, rc); err != nil {
		// What was sent must not look whole.
		h.log.WarnContext(r.Context(), "an image for a host broke off", "host", host, "image", r.PathValue("image"), "error", err)
		panic(http.ErrAbortHandler)
	}
}

var statuses = map[nacre.Kind]int{nacre.Unauthenticated: 401, nacre.Forbidden: 403, nacre.NotFound: 404, nacre.Unavailable: 503}

func (h handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	var e *nacre.Error
	status, message := http.StatusInternalServerError, "internal error"
	if errors.As(err, &e) && statuses[e.Kind] != 0 {
		status, message = statuses[e.Kind], e.Message
	} else {
		h.log.ErrorContext(r.Context(), "a host's request failed", "path", r.URL.Path, "error", err)
	}
	if status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Basic realm="nacre host"`)
	}
	http.Error(w, message, status)
}
