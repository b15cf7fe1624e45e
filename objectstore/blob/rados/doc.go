// Package rados keeps blobs in a pool of a Ceph cluster, for whoever outgrows one
// machine: Ceph replicates, this package names, cuts and checks.
//
//	s, err := rados.Open(ctx, rados.Options{ConfigFile: "/etc/ceph/ceph.conf", User: "swift", Pool: "objects"})
//
// [FromFile] reads the options from a YAML file; the mains look for rados.yaml in the
// directory that they give to objects.
//
// It links Ceph's C libraries and is therefore behind a build tag: build with cgo
// and -tags "ceph pacific" (the second is the oldest release of Ceph's headers that
// is expected, 16.2 as in Debian 12). In any other build Open fails and says so. Any
// number of processes may use one pool; the user needs `allow rwx` on it.
//
// # What is in the pool
//
// A blob of up to 4 MiB is one RADOS object, written in one atomic operation, whose
// name is its key. A larger one is cut: its parts of 4 MiB are objects "id.n", and an
// empty object named by the key is written when they all are; until then the blob is
// not there. The key holds the id, when it was made and the size, so that no blob
// needs an index and a list costs nothing but the listing of names. Each 64 KiB
// carries a checksum over itself and its place, which every read checks.
//
// Three namespaces keep this apart: Options.Namespace (objects), the same with
// ".loose" (one entry for each large blob that is being written or taken away) and
// with ".rotten" (what Verify set aside).
//
// # What it promises
//
// That of blob.Store. Put returns when every replica has the blob on disk. What a
// crash leaves of a large blob is an entry among the loose ones, which Walk shows
// and Delete clears. The parts of a deleted blob stay for Options.Grace, so that
// those who read it get to its end; whoever reads longer than that is cut off. The
// memory of a Put or a read is at most two parts.
//
// An operation that Ceph does not answer within Options.Timeout is nacre.Unavailable.
package rados
