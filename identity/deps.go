package identity

import (
	"context"

	"github.com/nacre-cloud/nacre/identity/fernet"
)

// TokenFormat makes a token's text and reads it again: fernet.ErrToken for what is
// none, whatever its expiry. A fernet.Keys is one, and so is a jws.Keys.
type TokenFormat interface {
	Pack(fernet.Token) (string, error)
	Unpack(text string) (fernet.Token, error)
}

// Directory is where somebody else keeps a domain's users and groups. Nothing is
// written there. What is not there is nacre.NotFound, a directory that does not
// answer nacre.Unavailable. Its methods refuse a context in a transaction.
type Directory interface {
	// User finds a user by the directory's id, UserByName by name.
	User(ctx context.Context, id string) (DirectoryUser, error)
	UserByName(ctx context.Context, name string) (DirectoryUser, error)
	// Users are all of them.
	Users(ctx context.Context) ([]DirectoryUser, error)
	// Authenticate reports whether that is the user's password.
	Authenticate(ctx context.Context, id, password string) (bool, error)
	// Group finds a group by the directory's id.
	Group(ctx context.Context, id string) (DirectoryGroup, error)
	// Groups are all of them, GroupsOf those of a user.
	Groups(ctx context.Context) ([]DirectoryGroup, error)
	GroupsOf(ctx context.Context, userID string) ([]DirectoryGroup, error)
	// Members are a group's users.
	Members(ctx context.Context, groupID string) ([]DirectoryUser, error)
}

// DirectoryUser is a user as a directory knows it.
type DirectoryUser struct {
	// ID and Name are never empty.
	ID, Name           string
	Email, Description string
	DefaultProjectID   string
	Enabled            bool
	// Extra are further attributes, shown with the user's own; an empty one is none.
	Extra map[string]string
}

// DirectoryGroup is a group as a directory knows it.
type DirectoryGroup struct {
	ID, Name, Description string
	Extra                 map[string]string
}
