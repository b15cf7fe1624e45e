// Package identity is Keystone: domains, projects, users, groups, roles, role
// assignments, the service catalog, and the tokens by which every other area
// knows who asks.
//
//	svc, err := identity.New(identity.Config{Engine: engine})
//	admin, err := svc.Bootstrap(ctx, identity.Bootstrap{Password: secret, …})
//	go svc.Run(ctx)
//	http.ListenAndServe(addr, api.New(svc, api.Config{}))
//
// The engine must be at the schema (see [Schema]). Package identity/api puts the
// Service behind HTTP, identity/authn protects other services with it, and
// identity/fernet is the token format.
//
// # What it promises
//
// Every method but Authenticate, ValidateToken, ChangePassword and Bootstrap (and
// those that say so) asks the policy about the context's caller; rule names and defaults are those of
// Keystone 2025.1. Errors carry Keystone's words. Each change is one
// transaction, with its event in the outbox and its revocations.
//
// A token is checked without a statement when it has been seen before. What ends
// or changes tokens (their deletion, a password changed, a user, project or
// domain disabled, a role taken away) is a row in the revocation table, which
// every process reads again each second: a revocation holds at once in the
// process that made it and within seconds in all others. A process that could
// not read the table for ten seconds refuses all tokens as Unavailable.
//
// Passwords are kept as bcrypt. An unknown user and a wrong password give the
// same answer after the same time. At most as many passwords are hashed at once
// as there are processors.
package identity
