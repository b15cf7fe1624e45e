package nacre

import (
	"errors"
	"fmt"
)

// Kind says what went wrong, independent of any protocol. A Kind is itself an
// error, so that errors.Is(err, nacre.NotFound) asks for it.
type Kind uint8

// The closed set of kinds. Each service's dialect maps them to a status; the
// usual one stands beside each.
const (
	// Internal is a fault of ours (500). An error that is no *Error counts as one.
	Internal Kind = iota
	// Invalid is input that the service refuses (400).
	Invalid
	// Unauthenticated is a missing or bad credential (401).
	Unauthenticated
	// Forbidden is a caller who may not (403).
	Forbidden
	// NotFound is an object that is not there for this caller (404).
	NotFound
	// NotAcceptable is a version or representation we do not speak (406).
	NotAcceptable
	// Conflict is a state that forbids the request, or a name taken (409).
	Conflict
	// QuotaExceeded is a limit of the project reached (403 in nova, 409 in
	// neutron, 413 in glance and cinder).
	QuotaExceeded
	// TooLarge is a body over its bound (413).
	TooLarge
	// UnsupportedMedia is a body of the wrong type (415).
	UnsupportedMedia
	// Precondition is a failed condition such as If-Match (412).
	Precondition
	// NotImplemented is an operation or variant that no driver serves (501, or
	// 400 where the real service answers that).
	NotImplemented
	// Unavailable is a dependency that does not answer just now, or a race lost
	// too often (503). A retry may help.
	Unavailable
)

var kindNames = [...]string{
	"internal error", "invalid", "unauthenticated", "forbidden", "not found", "not acceptable", "conflict",
	"quota exceeded", "too large", "unsupported media type", "precondition failed", "not implemented", "unavailable",
}

// Error names the kind, for messages of last resort.
func (k Kind) Error() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Error is a failure that means something to the caller.
type Error struct {
	// Kind decides the status.
	Kind Kind
	// Code narrows Kind in the service's own terms, for instance neutron's
	// exception name ("NetworkInUse") or the index of a store conflict. May be empty.
	Code string
	// Message is safe to show to the user, in the service's own words.
	Message string
	// Detail is carried to dialects that show more than a message
	// (neutron's "detail"); never secrets.
	Detail string
	// Err is the cause; logged, never shown.
	Err error
}

// Errorf makes an *Error. A %w verb wraps a cause; its text becomes part of the
// message, so use it only for causes that are safe to show. Otherwise set Err.
func Errorf(kind Kind, code, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Kind: kind, Code: code, Message: err.Error(), Err: errors.Unwrap(err)}
}

// Error is for logs: the message, and the cause where the message hides it.
func (e *Error) Error() string {
	msg := e.Message
	if msg == "" {
		msg = e.Kind.Error()
	}
	if e.Err != nil && e.Err.Error() != msg {
		return msg + ": " + e.Err.Error()
	}
	return msg
}

// Unwrap gives errors.Is and errors.As both the kind and the cause.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Err}
}

// KindOf is the kind of the outermost *Error or Kind in err's tree, or Internal.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	var k Kind
	if errors.As(err, &k) {
		return k
	}
	return Internal
}
