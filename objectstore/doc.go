// Package objectstore is Swift: accounts, containers and objects.
//
// # Use
//
//	svc, err := objectstore.New(objectstore.Config{Engine: engine, Blobs: blobs})
//	go svc.Run(ctx)
//	o, err := svc.Put(ctx, objectstore.NewObject{Ref: objectstore.Ref{Account: "AUTH_p", Container: "c", Object: "o"}, Body: r, Size: -1})
//
// Who asks is the context's caller (nacre.WithCaller); how the request comes, a
// referrer or a signed URL, is [WithAccess]. Packages objectstore/api (Swift's
// HTTP) and objectstore/s3api (Amazon's) are in front of it.
//
// # What it promises
//
// The index is rows: accounts, containers (with their counts), objects, versions.
// The bytes are blobs (package objectstore/blob) that are durable before the row
// that names them is committed. So an object that was acknowledged reads back, and
// one that is listed has its bytes; a crash leaves at worst a blob that no row
// names, which Run sweeps. A row that goes leaves a note of its blob in the same
// transaction, and Run deletes what is noted.
//
// Counts change in the transaction that changes the rows, and cannot drift. An
// account, container or object is seen as it is as soon as its change is answered:
// listings don't lag. Changes that come at the same time are committed together.
//
// Bodies stream; memory does not grow with an object's size. A body that ends early
// leaves nothing.
//
// # Who may
//
// Swift has no policy file. Rules are those of its keystoneauth: operators (the
// roles of Config.OperatorRoles in the account's project) own the account; the
// reseller's administrator owns all; readers read; container ACLs (".r:*",
// ".rlistings", "project:user", roles) admit others. [Service.Rules] shows them.
package objectstore
