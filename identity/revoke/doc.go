// Package revoke knows which tokens have ended before their time (OS-REVOKE), and of
// which what is remembered must be looked up again.
//
//	svc, err := revoke.New(revoke.Config{Area: area, TTL: time.Hour})
//	err = svc.Record(ctx, revoke.Row{UserID: user})  // in the change's transaction
//	ended, stale := svc.Check(&subject, seq)          // without a statement
//
// It is a part of package identity that shares its Engine; identity.Service has it as
// Revocations.
//
// # What it promises
//
// A row holds at once in the process that wrote it, once its transaction is committed,
// and in all others when they read the table again: Sync does, and identity calls it
// each second. Check does not slow with the number of rows. A process that could not
// read for ten seconds says Unavailable (Fresh) rather than what it does not know.
package revoke
