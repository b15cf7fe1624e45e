package remote

import (
	"encoding/json"
	"errors"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/gophercloud/gophercloud/v2"

	"github.com/nacre-cloud/nacre"
)

// kinds are what errors' types say that statuses don't: neutron's exceptions by name.
var kinds = map[string]nacre.Kind{
	"OverQuota": nacre.QuotaExceeded, "RevisionNumberConstraintFailed": nacre.Precondition, "PortBindingError": nacre.Unavailable,
	"IpAddressGenerationFailure": nacre.Conflict, "ExternalIpAddressExhausted": nacre.Conflict, "MacAddressGenerationFailure": nacre.Unavailable,
	"PolicyNotAuthorized": nacre.Forbidden,
}

var statuses = map[int]nacre.Kind{
	http.StatusBadRequest: nacre.Invalid, http.StatusUnauthorized: nacre.Unauthenticated, http.StatusForbidden: nacre.Forbidden, http.StatusNotFound: nacre.NotFound,
	http.StatusNotAcceptable: nacre.NotAcceptable, http.StatusConflict: nacre.Conflict, http.StatusPreconditionFailed: nacre.Precondition, http.StatusGone: nacre.NotFound,
	http.StatusRequestEntityTooLarge: nacre.TooLarge, http.StatusUnsupportedMediaType: nacre.UnsupportedMedia, http.StatusNotImplemented: nacre.NotImplemented,
}

// fault turns what gophercloud says into an error of ours.
func (a *api) fault(err error) error {
	down := &nacre.Error{Kind: nacre.Unavailable, Code: a.typ, Message: "The " + a.typ + " service does not answer.", Err: err}
	var code gophercloud.ErrUnexpectedResponseCode
	if !errors.As(err, &code) {
		return down
	}
	typ, message := parseFault(code.Body)
	kind, known := statuses[code.Actual]
	if k, ok := kinds[typ]; ok {
		kind, known = k, true
	}
	switch {
	case !known, code.Actual >= 500 && kind != nacre.NotImplemented && kinds[typ] == 0:
		return down
	case kind == nacre.Unauthenticated && a.by != nil && a.user == nil:
		// Our own token is refused: nothing that a user could mend.
		return down
	case kind == nacre.Forbidden && strings.HasPrefix(message, "Quota exceeded"),
		kind == nacre.TooLarge && (a.typ == "image" || a.typ == "compute"):
		kind = nacre.QuotaExceeded
	}
	if message == "" {
		message = http.StatusText(code.Actual)
	}
	return &nacre.Error{Kind: kind, Code: typ, Message: message, Err: err}
}

var tag = regexp.MustCompile(`(?s)<(title|h1)>.*?</(title|h1)>|<[^>]*>`)

// parseFault reads an error in the dialect of any service: its type, if it has one, and
// its message.
func parseFault(body []byte) (typ, message string) {
	var doc map[string]json.RawMessage
	if json.Unmarshal(body, &doc) != nil {
		// Glance's small pages.
		return "", strings.TrimSpace(html.UnescapeString(tag.ReplaceAllString(string(body), " ")))
	}
	for name, raw := range doc {
		var one struct {
			Type    string `json:"type"`
			Message string `json:"message"`
		}
		if json.Unmarshal(raw, &one) == nil && one.Message != "" {
			if name != "NeutronError" {
				one.Type = ""
			}
			return one.Type, one.Message
		}
	}
	_ = json.Unmarshal(doc["message"], &message)
	return "", message
}

// jsonRaw is a part of an answer.
type jsonRaw json.RawMessage

// UnmarshalJSON implements json.Unmarshaler.
func (r *jsonRaw) UnmarshalJSON(b []byte) error { *r = append((*r)[:0], b...); return nil }

// MarshalJSON implements json.Marshaler.
func (r jsonRaw) MarshalJSON() ([]byte, error) { return json.RawMessage(r).MarshalJSON() }

func (r jsonRaw) decode(into any) error {
	if len(r) == 0 {
		return nil
	}
	return json.Unmarshal(r, into)
}

// nextPage is the path of the page after this one, as neutron says it.
func nextPage(page map[string]jsonRaw, name string) (string, error) {
	var link string
	var links []struct{ Rel, Href string }
	if err := page[name+"_links"].decode(&links); err != nil {
		return "", err
	}
	for _, l := range links {
		if l.Rel == "next" {
			link = l.Href
		}
	}
	if link == "" {
		return "", nil
	}
	u, err := url.Parse(link)
	if err != nil {
		return "", err
	}
	_, last, _ := strings.Cut(u.Path, "/v2.0/")
	return last + "?" + u.RawQuery, nil
}
