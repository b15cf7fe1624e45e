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
// Service behind HTTP, and identity/authn protects other services with it.
// identity/fernet is the token format, identity/jws another one (Config.Tokens),
// identity/passhash the forms of password hashes.
//
// What it is made of are sub-areas, each with its own service, tables and policy, over
// one engine, so that one transaction covers what changes in several:
//
//	identity/catalog        Catalog          services, endpoints, regions, OS-EP-FILTER, policies
//	identity/assignment     Assignments      roles, implied roles, grants, effective assignments
//	identity/limit          Limits           registered limits and limits
//	identity/credential     Credentials      EC2 keys, TOTP secrets, and what else is kept for users
//	identity/appcred        AppCredentials   application credentials and access rules
//	identity/password       Passwords        hashes, and the rules for passwords and accounts
//	identity/revoke         Revocations      which tokens have ended
//	identity/domainconfig   DomainConfigs    domains' own configurations
//	identity/federation     Federation       who vouches for users, and for whom we do
//	identity/oauth1         OAuth            consumers that users let act for them
//
// The Service itself has domains, projects, users, groups and trusts, and makes and
// checks tokens. A domain's users and groups may be kept by a [Directory], such as
// identity/ldap's: they are read there and repeated here, so that roles are given to
// them as to any other, and what the directory no longer says is gone at the next look,
// within five minutes for tokens.
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
// Passwords are kept as bcrypt, or as Config.PasswordHash says; each form that
// Keystone keeps is good for logging in. An unknown user, a locked one and a wrong
// password give the same answer after the same time. At most as many passwords are
// hashed at once as there are processors. Config.Compliance has the rules for passwords
// and accounts: strength, age, history, expiry, lock-out, inactivity.
//
// # Authentication
//
// A method ("password", "totp", …) is a function in the table authMethods that
// finds out whom a request proves and what bounds the token. A user whose option
// multi_factor_auth_rules asks for more than was shown gets a [ReceiptError],
// whose text goes with the rest as AuthRequest.Receipt. What was made by
// delegation (a trust, an application credential, an OAuth token, an EC2
// credential) never gives more than what it was made from, and ends with it.
package identity
