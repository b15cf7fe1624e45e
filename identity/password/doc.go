// Package password keeps users' passwords and holds them to rules: strength, age,
// history, expiry, lock-out, inactivity (Keystone's [security_compliance], PCI-DSS).
//
//	svc, err := password.New(password.Config{Area: area, Parent: parent, Hasher: bcrypt, Rules: rules})
//	ok, err := svc.Compare(ctx, hash, shown)
//
// It is a part of package identity that shares its Engine; identity.Service has it as
// Passwords, and decides who may log in or set a password. Package passhash has the
// forms of hashes.
//
// # What it promises
//
// At most as many passwords are hashed at once as there are processors; who waits can
// give up. A comparison without a hash, or with one of another cost, takes as long as
// any. Failures are counted under the user's row, so that guesses at the same time
// count each. The history has no more than the rules compare with.
package password
