// Package rbd keeps images as Ceph block devices, in Glance's own layout, so that a
// hypervisor clones a guest's disk from an image instead of copying it.
//
//	d, err := rbd.New(rbd.Options{ConfigFile: "/etc/ceph/ceph.conf", User: "glance", Pool: "images"})
//
// It links Ceph's C libraries and is therefore behind a build tag: build with cgo
// and -tags "ceph pacific" (the second is the oldest release of Ceph's headers that
// is expected, 16.2 as in Debian 12). In any other build New fails and says so. The
// user needs `profile rbd` on the pool.
//
// An image is an RBD image of the key's name with the protected snapshot "snap",
// which is what is read and cloned; its location is rbd://fsid/pool/key/snap. One
// without that snapshot is an upload that did not end, and not there for Open. An
// upload needs not say its size: the device grows as bytes come, and is cut to the
// size at the end.
//
// Delete of an image with clones, or with snapshots that others made, fails with
// nacre.Conflict of Code "InUse" and changes nothing. One that is being read is gone
// at once but for its space, which the pool's trash holds until the reader has left:
// its reading fails.
//
// What Ceph does not answer within Options.Timeout is nacre.Unavailable.
package rbd
