// Package hostapi is what a host in another process asks compute for: the bytes of
// images and its guests' metadata. A host shows its name and the secret that
// compute issued to it as HTTP Basic authentication, and sees nothing of other
// hosts' images.
//
//	h := hostapi.Handler{Compute: svc}
//
// serves
//
//	GET /images/{server}/{image}   the image's bytes; header Nacre-Image describes it
//	*   /metadata/…                the metadata service, for the host's proxies
//
// Metadata is any instance's whose id and project the host knows: the host that
// answers for a network need not be the server's. The proxies sign the instance's id,
// as Neutron's do, by [hypervisor.CredentialHash] of the secret. Package servers/host
// is the other side.
package hostapi

import (
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

// Handler serves hosts. Compute is required.
type Handler struct {
	Compute *compute.Service
	// Log gets what is not told to the host; nil is slog's default.
	Log *slog.Logger
}

// ServeHTTP implements http.Handler.
func (h Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h.Log == nil {
		h.Log = slog.Default()
	}
	name, secret, _ := r.BasicAuth()
	hash := hypervisor.CredentialHash(secret)
	if err := h.Compute.CheckCredential(r.Context(), name, hash); err != nil {
		h.fail(w, r, err)
		return
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /images/{server}/{image}", func(w http.ResponseWriter, r *http.Request) { h.image(w, r, name) })
	mux.Handle("/metadata/", http.StripPrefix("/metadata", &metadata.Handler{Lookup: h.Compute.Guest, Secret: []byte(hash), Log: h.Log}))
	mux.ServeHTTP(w, r)
}

func (h Handler) image(w http.ResponseWriter, r *http.Request, host string) {
	rc, about, err := h.Compute.HostImage(r.Context(), host, r.PathValue("server"), r.PathValue("image"))
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
		h.Log.WarnContext(r.Context(), "an image for a host broke off", "host", host, "image", r.PathValue("image"), "error", err)
		panic(http.ErrAbortHandler)
	}
}

var statuses = map[nacre.Kind]int{nacre.Unauthenticated: 401, nacre.Forbidden: 403, nacre.NotFound: 404, nacre.Unavailable: 503}

func (h Handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	var e *nacre.Error
	status, message := http.StatusInternalServerError, "internal error"
	if errors.As(err, &e) && statuses[e.Kind] != 0 {
		status, message = statuses[e.Kind], e.Message
	} else {
		h.Log.ErrorContext(r.Context(), "a host's request failed", "path", r.URL.Path, "error", err)
	}
	if status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Basic realm="nacre host"`)
	}
	http.Error(w, message, status)
}
