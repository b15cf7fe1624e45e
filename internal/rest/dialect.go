package rest

import (
	"fmt"
	"html"
	"net/http"
	"strings"

	"github.com/nacre-cloud/nacre"
)

// Dialect is how one service words its errors.
type Dialect struct {
	// NoRoute is the message where nothing matches.
	NoRoute string
	// Statuses maps kinds to statuses where they differ from the common ones.
	Statuses map[nacre.Kind]int
	// Body renders an error.
	Body func(ErrorInfo) (contentType string, body []byte)
	// Invalid words a wrong body; nil takes JSON schema's words.
	Invalid func(*FieldError) *nacre.Error
	// Malformed is the message for a body that is no JSON.
	Malformed string
	// InternalMessage is shown for a 500; %s is the request id.
	InternalMessage string
	// Type is the content type of answers; empty is application/json.
	Type string
	// EmptyType is the content type of an answer without a body.
	EmptyType string
	// NoMethod404 answers a method that a path does not have with 404, not 405 (nova).
	NoMethod404 bool
	// Middleware401 answers a missing token as keystonemiddleware does, which
	// stands in front of every service but keystone.
	Middleware401 bool
	// Lax takes numbers and booleans as text everywhere (neutron).
	Lax bool
}

// ErrorInfo is what a dialect renders.
type ErrorInfo struct {
	Status    int
	Err       *nacre.Error
	RequestID string
	Versions  *Microversions
}

var commonStatus = map[nacre.Kind]int{
	nacre.Invalid: 400, nacre.Unauthenticated: 401, nacre.Forbidden: 403, nacre.NotFound: 404, nacre.NotAcceptable: 406,
	nacre.Conflict: 409, nacre.QuotaExceeded: 403, nacre.TooLarge: 413, nacre.UnsupportedMedia: 415,
	nacre.Precondition: 412, nacre.NotImplemented: 501, nacre.Unavailable: 503,
}

func (d *Dialect) status(e *nacre.Error) int {
	if s, ok := d.Statuses[e.Kind]; ok {
		return s
	}
	if s, ok := commonStatus[e.Kind]; ok {
		return s
	}
	return http.StatusInternalServerError
}

func (d *Dialect) contentType() string {
	if d.Type != "" {
		return d.Type
	}
	return "application/json"
}

func (d *Dialect) internal(id string) string {
	if strings.Contains(d.InternalMessage, "%s") {
		return fmt.Sprintf(d.InternalMessage, id)
	}
	return d.InternalMessage
}

func (d *Dialect) malformed(error) error {
	return nacre.Errorf(nacre.Invalid, "malformed", "%s", d.Malformed)
}

func (d *Dialect) invalid(fe *FieldError) error {
	if d.Invalid != nil {
		return d.Invalid(fe)
	}
	return nacre.Errorf(nacre.Invalid, "validation", "%s", fe.Message)
}

// Keystone is the identity service's dialect.
func Keystone() *Dialect {
	return &Dialect{
		NoRoute:         "The resource could not be found.",
		Malformed:       "Expecting to find valid JSON in request body. The server could not comply with the request since it is either malformed or otherwise incorrect. The client is assumed to be in error.",
		InternalMessage: "An unexpected error prevented the server from fulfilling your request.",
		Statuses:        map[nacre.Kind]int{nacre.QuotaExceeded: 403},
		Invalid: func(fe *FieldError) *nacre.Error {
			if len(fe.Path) == 0 {
				return nacre.Errorf(nacre.Invalid, "SchemaValidationError", "%s", fe.Message)
			}
			return nacre.Errorf(nacre.Invalid, "SchemaValidationError", "Invalid input for field '%s': %s", strings.Join(fe.Path, "/"), fe.Message)
		},
		Body: func(i ErrorInfo) (string, []byte) {
			title := http.StatusText(i.Status)
			return "application/json", mustJSON(map[string]any{"error": map[string]any{"code": i.Status, "message": i.Err.Message, "title": title}})
		},
	}
}

var novaFaults = map[int]string{
	400: "badRequest", 401: "unauthorized", 403: "forbidden", 404: "itemNotFound", 405: "badMethod", 409: "conflictingRequest",
	413: "overLimit", 415: "badMediaType", 429: "overLimit", 501: "notImplemented", 503: "serviceUnavailable",
}

// Nova is the compute service's dialect.
func Nova() *Dialect {
	return &Dialect{
		NoRoute:         "The resource could not be found.",
		Malformed:       "Malformed request body",
		InternalMessage: "Unexpected API Error. Please report this to the operator of this cloud, with the request id %s.",
		Statuses:        map[nacre.Kind]int{nacre.QuotaExceeded: 403},
		NoMethod404:     true,
		Middleware401:   true,
		EmptyType:       "application/json",
		Invalid: func(fe *FieldError) *nacre.Error {
			if len(fe.Path) == 0 {
				return nacre.Errorf(nacre.Invalid, "validation", "%s", fe.Message)
			}
			return nacre.Errorf(nacre.Invalid, "validation", "Invalid input for field/attribute %s. Value: %s. %s", fe.Path[len(fe.Path)-1], pyStr(fe.Value), fe.Message)
		},
		Body: func(i ErrorInfo) (string, []byte) {
			name := novaFaults[i.Status]
			if name == "" {
				name = "computeFault"
			}
			return "application/json; charset=UTF-8", mustJSON(map[string]any{name: map[string]any{"code": i.Status, "message": i.Err.Message}})
		},
	}
}

// Placement is placement's dialect.
func Placement() *Dialect {
	return &Dialect{
		NoRoute:         "The resource could not be found.",
		Malformed:       "Malformed JSON",
		InternalMessage: "The server has either erred or is incapable of performing the requested operation.",
		Middleware401:   true,
		Invalid: func(fe *FieldError) *nacre.Error {
			return nacre.Errorf(nacre.Invalid, "", "JSON does not validate: %s", fe.Message)
		},
		Body: func(i ErrorInfo) (string, []byte) {
			code := i.Err.Code
			if !strings.HasPrefix(code, "placement.") {
				code = "placement.undefined_code"
			}
			e := map[string]any{"status": i.Status, "request_id": i.RequestID, "detail": i.Err.Message, "title": http.StatusText(i.Status), "code": code}
			if i.Status == 406 && i.Versions != nil {
				e["max_version"], e["min_version"] = i.Versions.Max.String(), i.Versions.Min.String()
			}
			return "application/json", mustJSON(map[string]any{"errors": []any{e}})
		},
	}
}

// Neutron is the network service's dialect. An error's Code is the exception's
// name, which becomes the body's type.
func Neutron() *Dialect {
	return &Dialect{
		NoRoute:         "The resource could not be found.",
		Malformed:       "The server could not comply with the request since it is either malformed or otherwise incorrect.",
		InternalMessage: "Request Failed: internal server error while processing your request.",
		Statuses:        map[nacre.Kind]int{nacre.QuotaExceeded: 409},
		Middleware401:   true,
		Lax:             true,
		Invalid: func(fe *FieldError) *nacre.Error {
			switch fe.Problem {
			case Extra:
				return nacre.Errorf(nacre.Invalid, "HTTPBadRequest", "Unrecognized attribute(s) '%s'", strings.Join(fe.Names, ", "))
			case Missing:
				return nacre.Errorf(nacre.Invalid, "HTTPBadRequest", "Failed to parse request. Required attribute '%s' not specified", fe.Names[0])
			}
			name := "body"
			if len(fe.Path) > 1 {
				name = fe.Path[1]
			}
			msg := fe.Message
			if fe.Problem == WrongType {
				msg = strings.Replace(msg, "is not of type '", "is not a valid ", 1)
				msg = strings.TrimSuffix(msg, "'")
			}
			return nacre.Errorf(nacre.Invalid, "HTTPBadRequest", "Invalid input for %s. Reason: %s.", name, msg)
		},
		Body: func(i ErrorInfo) (string, []byte) {
			typ := i.Err.Code
			switch {
			case typ == "no_route" || typ == "method_not_allowed":
				return "text/plain; charset=UTF-8", []byte(fmt.Sprintf("%d %s\n\n%s\n\n   ", i.Status, http.StatusText(i.Status), i.Err.Message))
			case i.Status >= 500 && typ == "":
				typ = "HTTPInternalServerError"
			case typ == "" || typ == "malformed" || typ == "body":
				typ = "HTTPBadRequest"
			}
			return "application/json", mustJSON(map[string]any{"NeutronError": map[string]any{"type": typ, "message": i.Err.Message, "detail": i.Err.Detail}})
		},
	}
}

// Glance is the image service's dialect: WebOb's small HTML pages.
func Glance() *Dialect {
	return &Dialect{
		NoRoute:         "The resource could not be found.",
		Malformed:       "Malformed JSON in request body.",
		InternalMessage: "The server has either erred or is incapable of performing the requested operation.",
		Statuses:        map[nacre.Kind]int{nacre.QuotaExceeded: 413},
		Middleware401:   true,
		EmptyType:       "text/html; charset=UTF-8",
		Invalid: func(fe *FieldError) *nacre.Error {
			return nacre.Errorf(nacre.Invalid, "", "Provided object does not match schema 'image': %s", fe.Message)
		},
		Body: func(i ErrorInfo) (string, []byte) {
			line := fmt.Sprintf("%d %s", i.Status, http.StatusText(i.Status))
			return "text/html; charset=UTF-8", []byte("<html>\n <head>\n  <title>" + line + "</title>\n </head>\n <body>\n  <h1>" + line + "</h1>\n  " +
				html.EscapeString(i.Err.Message) + "<br /><br />\n\n\n\n </body>\n</html>")
		},
	}
}

func mustJSON(v any) []byte {
	b, err := JSON(v, 0)
	if err != nil {
		return []byte(`{}`)
	}
	return b
}

// pyStr is Python's str(): like repr, but text stands bare.
func pyStr(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	return PyRepr(v)
}
