// Package diskimage tells what a disk image really is, while it streams by, and
// whether it is safe to hand to a hypervisor.
//
//	in := diskimage.NewInspector()
//	n, err := io.Copy(io.MultiWriter(file, in), upload)
//	info, err := in.Finish()      // err: unsafe, truncated or ambiguous content
//	err = info.Match("qcow2")     // err: not what was declared
//
// An Inspector is an io.Writer that never fails and never keeps more than 2 MB,
// whatever is written; most formats are known within 34 KiB. Check tells
// midway whether going on is of any use. [InspectAt] does the same with a file,
// reading only the parts that matter.
//
// # What is refused, and why
//
// Formats such as qcow2 and VMDK can name other files, which the host would then
// open on the guest's behalf: backing files, external data files, parent disks,
// extents with a path. An image that does so is unsafe, whatever it is declared
// to be. So are features and variants that this package does not know, since it
// can't tell what they mean; headers that end early; sizes that no disk has; and
// content that is several formats at once, which two programs could take for two
// different things.
//
// The checks are those of oslo.utils' format_inspector, which Glance, Nova and
// Cinder use, and stricter where QEMU's own block drivers follow a reference that
// it does not look for: VMDK's parentFileNameHint and descriptor-only files, the
// parents of VHD, VHDX and VDI images.
//
// Errors are nacre.UnsupportedMedia (415, as Glance answers), their Message
// Glance's; Detail has what was found.
package diskimage
