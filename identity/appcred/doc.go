// Package appcred is Keystone's application credentials: some of a user's roles on one
// project, for a program that shows a secret; and the access rules by which one is
// narrowed to single requests.
//
//	svc, err := appcred.New(appcred.Config{Area: area, Parent: parent})
//	made, err := svc.Create(ctx, userID, appcred.Wanted{Name: "ci", Roles: []appcred.Role{{Name: "member"}}})
//
// It is a part of package identity that shares its Engine; identity.Service has it as
// AppCredentials, and makes tokens for who shows one.
//
// # What it promises
//
// A secret is told at the creation alone. An application credential never gives a role
// that its user has lost, and goes with the user's role on the project. One that is not
// unrestricted makes no other, and neither does what else was made by delegation.
// Tokens of one with access rules are shown to services that enforce them alone.
package appcred
