package kit

import (
	"errors"
	"fmt"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/store"
)

// NotFound words a missing thing as Keystone does.
func NotFound(what, id string) *nacre.Error {
	return nacre.Errorf(nacre.NotFound, what, "Could not find %s: %s.", what, id)
}

// OrNotFound turns store.ErrNoRow into the words for that thing.
func OrNotFound(err error, what, id string) error {
	return store.WrapNotFound(err, func() *nacre.Error { return NotFound(what, id) })
}

// Conflict words what is in the way of something new.
func Conflict(what, format string, args ...any) *nacre.Error {
	return nacre.Errorf(nacre.Conflict, what, "Conflict occurred attempting to store %s - %s.", what, fmt.Sprintf(format, args...))
}

// OrConflict turns a violated unique index into Keystone's words.
func OrConflict(err error, what, name, domain string) error {
	switch {
	case !store.IsDuplicate(err):
		return err
	case name == "":
		return Conflict(what, "Duplicate entry")
	case domain == "":
		return Conflict(what, "Duplicate entry found with name %s", name)
	}
	return Conflict(what, "Duplicate entry found with name %s at domain ID %s", name, domain)
}

// Invalid words what Keystone's schemas refuse.
func Invalid(format string, args ...any) *nacre.Error {
	return nacre.Errorf(nacre.Invalid, "ValidationError", format, args...)
}

// Expecting words a missing attribute.
func Expecting(attr, where string) *nacre.Error {
	return Invalid("Expecting to find %s in %s. The server could not comply with the request since it is either malformed or otherwise incorrect. The client is assumed to be in error.", attr, where)
}

// Forbidden words what nobody may.
func Forbidden(format string, args ...any) *nacre.Error {
	return nacre.Errorf(nacre.Forbidden, "Forbidden", format, args...)
}

// Unauthenticated is the one answer to every failed authentication. why goes to the log.
func Unauthenticated(why string) *nacre.Error {
	return &nacre.Error{Kind: nacre.Unauthenticated, Code: "Unauthorized", Message: "The request you have made requires authentication.", Err: errors.New(why)}
}

// Immutable words the refusal to change what its options protect.
func Immutable(verb, what, id string) *nacre.Error {
	return Forbidden("Unable to %s immutable %s resource: `%s. Set resource option \"immutable\" to false first.", verb, what, id)
}

// Gone turns a missing row into the answer to a bad token.
func Gone(err error, why string) error {
	if errors.Is(err, nacre.NotFound) {
		return Unauthenticated(why)
	}
	return err
}
