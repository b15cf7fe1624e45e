// Package oauth1 is Keystone's OS-OAUTH1: consumers (programs) that users let act
// for them on a project with some of their roles, by OAuth 1.0a (RFC 5849).
//
//	svc, err := oauth1.New(oauth1.Config{Area: area, Parent: parent})
//
// A consumer asks for a request token, a user authorizes it with roles and gets a
// verifier, the consumer exchanges both for an access token; with that it signs
// requests for tokens (method oauth1). The package is a part of package identity
// that shares its Engine; identity.Service has it as OAuth.
//
// # What it promises
//
// Each signed request is good once and for ten minutes. What an access token gives
// are the roles that were authorized, as far as the user still has them. A token
// that was itself made by delegation can neither authorize nor look at access
// tokens. Signatures are HMAC-SHA1, HMAC-SHA256 and PLAINTEXT, as in Keystone.
package oauth1
