// Package image is Glance as a library: images, their properties, and their bytes
// behind backend.Drivers.
//
//	svc, err := image.New(image.Config{Engine: engine, Backend: files})
//	go svc.Run(ctx)
//
// The API is image/api; image/setup reads an operator's settings from a file. Run
// does what outlives a request: imports, copies, the removal of bytes that nobody
// needs.
//
// # What it promises
//
// An active image always has its bytes and their hashes. Bytes are written under
// a key of the upload's own before the image names them, and the key is noted
// with the work that would remove them, so that neither a broken upload, nor a
// full disk, nor a crash at any moment leaves anything behind or an image in a
// state that does not end. Uploads and downloads stream; memory does not grow with
// the image.
//
// Every image is inspected while it streams into a store: one whose bytes are not
// of the declared format is refused, and so is one that reads other files (a qcow2
// with a backing file or a data file, a VMDK with a path), whatever it claims to
// be and whichever way it comes. Config.AnyFormat switches off the former, nothing
// the latter.
//
// # Stores
//
// Config.Stores are several places for bytes; an image may be in more than one.
// Uploads and imports name the store that they want, copy-image adds copies,
// DeleteFromStore takes one away but never the last. A read-only store reads URLs
// (glance's http store): such images are given their bytes by AddLocation or, with
// Config.ShowLocations, ChangeLocations. No other URL is ever opened, file:// least.
//
// # Imports
//
// Stage takes bytes to be imported later; Import moves them (glance-direct), fetches
// them (web-download by Config.Fetcher, glance-download by Config.Remote), or copies
// an active image (copy-image), as work that goes on after a crash. Only a
// glance-download does not: it reads with the token of the user who asked, which is
// kept in memory alone, and after a crash ends as failed. On the way it
// unpacks, converts and adds properties as ImportOptions say. It ends in an active
// image or, with a Task that says why, in one that is queued and has nothing.
//
// # Quotas
//
// Config.Limits are unified limits, Config.StorageQuota bounds bytes. Use is counted
// under a lock when data begins to come and again when it is there, so two uploads
// can't share what one may take.
//
// # More
//
// Protections guard properties by role or policy. Images that carry a signature are
// verified while they stream (Config.Keys; image/keydir keeps certificates in files). The cache keeps copies of images in a
// nearer driver; who may not read an image may not read its copy. Metadata
// definitions are the sub-area image/metadefs, in the same database.
package image
