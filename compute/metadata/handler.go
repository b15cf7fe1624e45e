package metadata

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"html"
	"io"
	"log/slog"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/nacre-cloud/nacre"
)

// maxPassword is Nova's bound on a password that a guest leaves, in bytes.
const maxPassword = 4 * 255

// Handler is the metadata service behind Neutron's metadata proxy. A request
// carries X-Instance-ID, X-Tenant-ID and X-Instance-ID-Signature (see [Sign]);
// without them it is 400, with a wrong signature 403, for an instance that is
// not there or is another project's 404. Only the version list at "/" needs
// no headers.
type Handler struct {
	// Lookup finds an instance; nacre.NotFound (or nil without an error) is 404.
	Lookup func(ctx context.Context, instanceID, projectID string) (*Instance, error)
	// Secret is shared with the proxy. While it is empty every request is refused.
	Secret []byte
	// SetPassword keeps the encrypted password that a guest posts, once; nil
	// refuses it.
	SetPassword func(ctx context.Context, instanceID, password string) error
	// Log gets what is not told to the guest; nil is slog's default.
	Log *slog.Logger
	// Now is the clock that hides versions of the future; nil is the real one.
	Now func() time.Time
}

// Sign is the signature that the proxy adds: HMAC-SHA256 of the instance id with
// the shared secret, in hex.
func Sign(secret []byte, instanceID string) string {
	m := hmac.New(sha256.New, secret)
	m.Write([]byte(instanceID))
	return hex.EncodeToString(m.Sum(nil))
}

// refusal is an answer other than 200, in the words that the guest sees.
type refusal struct {
	status int
	text   string
}

func (r *refusal) Error() string { return r.text }

const (
	notThere = "The resource could not be found."
	unknown  = "An unknown error has occurred. Please try your request again."
)

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d, err := h.answer(w, r)
	if err != nil {
		var no *refusal
		if !errors.As(err, &no) {
			cmp.Or(h.Log, slog.Default()).ErrorContext(r.Context(), "metadata failed", "path", r.URL.Path, "err", err)
			no = &refusal{http.StatusInternalServerError, unknown}
		}
		title := fmt.Sprintf("%d %s", no.status, http.StatusText(no.status))
		w.Header().Set("Content-Type", "text/html; charset=UTF-8")
		w.WriteHeader(no.status)
		fmt.Fprintf(w, "<html>\n <head>\n  <title>%s</title>\n </head>\n <body>\n  <h1>%s</h1>\n  %s\n </body>\n</html>\n",
			title, title, html.EscapeString(no.text))
		return
	}
	mime := d.mime
	if mime == plain {
		mime += "; charset=UTF-8"
	}
	w.Header().Set("Content-Type", mime)
	w.Header().Set("Content-Length", fmt.Sprint(len(d.body)))
	_, _ = w.Write(d.body)
}

func (h *Handler) answer(w http.ResponseWriter, r *http.Request) (document, error) {
	if path.Clean("/"+r.URL.Path) == "/" {
		return listing(append(append([]string{}, ec2Versions...), "latest")...), nil
	}
	id, project, err := h.identify(r.Header)
	if err != nil {
		return document{}, err
	}
	in, err := h.Lookup(r.Context(), id, project)
	switch {
	case errors.Is(err, nacre.NotFound), err == nil && (in == nil || in.ProjectID != project):
		return document{}, &refusal{http.StatusNotFound, notThere}
	case err != nil:
		return document{}, err
	}
	now := time.Now
	if h.Now != nil {
		now = h.Now
	}
	d, ok := face{in: in}.lookup(r.URL.Path, now())
	if !ok {
		return document{}, &refusal{http.StatusNotFound, notThere}
	}
	if d.password {
		return h.password(w, r, in, d)
	}
	return d, nil
}

// identify is the instance and project that the proxy's headers name.
func (h *Handler) identify(header http.Header) (id, project string, err error) {
	one := map[string]string{}
	for _, name := range []string{"X-Instance-ID", "X-Instance-ID-Signature", "X-Tenant-ID"} {
		values := header.Values(name)
		switch {
		case len(values) == 0:
			return "", "", &refusal{http.StatusBadRequest, name + " header is missing from request."}
		case len(values) > 1 || strings.Contains(values[0], ","):
			return "", "", &refusal{http.StatusBadRequest, "Multiple " + name + " headers found within request."}
		}
		one[name] = values[0]
	}
	id = one["X-Instance-ID"]
	want := Sign(h.Secret, id)
	if len(h.Secret) == 0 || !hmac.Equal([]byte(want), []byte(one["X-Instance-ID-Signature"])) {
		return "", "", &refusal{http.StatusForbidden, "Invalid proxy request signature."}
	}
	return id, one["X-Tenant-ID"], nil
}

func (h *Handler) password(w http.ResponseWriter, r *http.Request, in *Instance, d document) (document, error) {
	switch {
	case r.Method == http.MethodGet || r.Method == http.MethodHead:
		return d, nil
	case r.Method != http.MethodPost:
		return document{}, &refusal{http.StatusBadRequest, "GET and POST only are supported."}
	case in.Password != "":
		return document{}, &refusal{http.StatusConflict, "There was a conflict when trying to complete your request."}
	case h.SetPassword == nil:
		return document{}, &refusal{http.StatusBadRequest, "Passwords are not kept here."}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxPassword))
	var big *http.MaxBytesError
	if errors.As(err, &big) {
		return document{}, &refusal{http.StatusBadRequest, "Request is too large."}
	} else if err != nil {
		return document{}, &refusal{http.StatusBadRequest, "The request could not be read."}
	}
	return document{mime: plain}, h.SetPassword(r.Context(), in.UUID, string(body))
}
