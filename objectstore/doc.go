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
// listings don't lag. Changes that come at the same time are committed together, and
// made ready while the bytes that they name go to the disk. What is deleted or replaced
// gives its room back a second later.
//
// Bodies stream; memory does not grow with an object's size. A body that ends early
// leaves nothing.
//
// # Encryption at rest
//
// With Config.Secrets each new object is encrypted: its body under a key of its own,
// and that key, the headers that users set and the entity tags under a key of the
// container's, which is derived from a root secret. [ReadSecrets] reads them from a
// file in the format of Swift's keymaster.conf:
//
//	[keymaster]
//	encryption_root_secret = <openssl rand -base64 32>
//	encryption_root_secret_2026 = <another>
//	active_root_secret_id = 2026
//
// A new secret is added beside the old ones and made active; what the old ones
// encrypted stays readable as long as they are there. Objects that were put before
// are read as they are. Names, sizes, types, times and the metadata of accounts and
// containers are not encrypted, as in Swift. Users see none of this, nor does /info
// tell of it. An object whose secret is missing is listed with the tag "<unknown>",
// can't be read (500), and can be replaced and deleted.
//
// # What goes by itself
//
// Objects expire (X-Delete-At). Lifecycles, which S3's front end sets, delete what is
// old ([Service.Age]). The account of a project that identity no longer has is gone
// for everybody at once, and what it holds after Config.ReapDelay: events only hint at
// that ([Service.ProjectChanged]), the edge Config.Projects is asked, and now and then
// it is asked of all ([Service.Compare]), which deletes nothing where identity misses
// more of the projects than it has. Only accounts that were a project's own once go
// with it, never those that the reseller made by other names.
//
// Bytes are read now and then ([Service.Scrub]). A rotten blob is set aside by whoever
// meets it: the object is listed still, GET says 404, the audit names it, and a new PUT
// mends it.
//
// # Who may
//
// Swift has no policy file. Rules are those of its keystoneauth: operators (the
// roles of Config.OperatorRoles in the account's project) own the account; the
// reseller's administrator owns all; readers read; container ACLs (".r:*",
// ".rlistings", "project:user", roles) admit others. [Service.Rules] shows them.
package objectstore
