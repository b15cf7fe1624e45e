package identity

import (
	"errors"
	"fmt"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/store"
)

// notFound words a missing thing as Keystone does.
func notFound(what, id string) *nacre.Error {
	return nacre.Errorf(nacre.NotFound, what, "Could not find %s: %s.", what, id)
}

// orNotFound turns store.ErrNoRow into the words for that thing.
func orNotFound(err error, what, id string) error {
	return store.WrapNotFound(err, func() *nacre.Error { return notFound(what, id) })
}

func conflict(what, format string, args ...any) *nacre.Error {
	return nacre.Errorf(nacre.Conflict, what, "Conflict occurred attempting to store %s - %s.", what, fmt.Sprintf(format, args...))
}

// orConflict turns a violated unique index into Keystone's words.
func orConflict(err error, what, name, domain string) error {
	switch {
	case !store.IsDuplicate(err):
		return err
	case name == "":
		return conflict(what, "Duplicate entry")
	case domain == "":
		return conflict(what, "Duplicate entry found with name %s", name)
	}
	return conflict(what, "Duplicate entry found with name %s at domain ID %s", name, domain)
}

func invalid(format string, args ...any) *nacre.Error {
	return nacre.Errorf(nacre.Invalid, "ValidationError", format, args...)
}

// expecting words a missing attribute.
func expecting(attr, where string) *nacre.Error {
	return invalid("Expecting to find %s in %s. The server could not comply with the request since it is either malformed or otherwise incorrect. The client is assumed to be in error.", attr, where)
}

func forbidden(format string, args ...any) *nacre.Error {
	return nacre.Errorf(nacre.Forbidden, "Forbidden", format, args...)
}

// errAuth is the one answer to every failed authentication. why goes to the log.
func errAuth(why string) *nacre.Error {
	return &nacre.Error{Kind: nacre.Unauthenticated, Code: "Unauthorized", Message: "The request you have made requires authentication.", Err: errors.New(why)}
}

func immutable(verb, what, id string) *nacre.Error {
	return forbidden("Unable to %s immutable %s resource: `%s. Set resource option \"immutable\" to false first.", verb, what, id)
}
