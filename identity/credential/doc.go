// Package credential keeps secrets of users: EC2 key pairs (also OS-EC2), TOTP secrets,
// certificates and whatever else somebody stores (v3 credentials).
//
//	svc, err := credential.New(credential.Config{Area: area, Parent: parent, Keys: keys})
//	signer, err := svc.SignerOf(ctx, accessKey)
//	ok, err := svc.CheckTOTP(ctx, userID, passcode, time.Now())
//
// It is a part of package identity that shares its Engine; identity.Service has it as
// Credentials. What a signature or a passcode is good for is decided there.
//
// # What it promises
//
// A blob is in the database under the primary key of Config.Keys alone; Migrate brings
// all under a new one. A key pair that was made with a delegated token says so in its
// blob, and nobody can change that. Callers see their own, and with a delegated token
// those of its project. A passcode (RFC 6238) is good once, in its half minute and the
// next.
package credential
