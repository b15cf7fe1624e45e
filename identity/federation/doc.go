// Package federation is Keystone's OS-FEDERATION: which identity providers the
// cloud trusts, by which protocols their users come, how what is asserted of a
// user is mapped to users, groups and projects here, and which clouds ours vouches
// for its own users at (service providers).
//
//	svc, err := federation.New(federation.Config{Area: area, Parent: parent})
//
// It is a part of package identity that shares its Engine, so that one transaction
// covers both; identity.Service has it as Federation. It decides what an
// [Assertion] comes to (Service.Evaluate); that an assertion is true is the
// matter of a [Verifier], a [Login] or a front proxy, of packages
// identity/federation/oidc and identity/federation/saml.
//
// # Mappings
//
// A mapping is a list of rules in Keystone's language, schema versions 1.0, 2.0
// (domains for projects) and 3.0 (projects_json, and projects that are no longer
// asserted are taken away). A rule holds when each of its remote requirements does;
// its local part then names the user, groups and projects, where {0} is the first
// plain, whitelisted or blacklisted requirement's value. Regular expressions are
// RE2; one that is not fails the login, it never holds.
//
// # What it promises
//
// Each method but Evaluate and those that say so asks the policy; names and
// defaults are Keystone's. Deleting an identity provider or protocol ends the
// users that came by it, and their tokens, in the same transaction.
package federation
