// Package image is Glance as a library: images, their properties, and their bytes
// behind a backend.Driver.
//
//	svc, err := image.New(image.Config{Engine: engine, Backend: files})
//	go svc.Run(ctx)
//
// The API is image/api.
//
// # What it promises
//
// An active image always has its bytes and their hashes. Bytes are written under
// a key of the upload's own before the image names them, and the key is noted
// with the work that would remove them, so that neither a broken upload nor a
// crash leaves anything behind. Uploads and downloads stream; memory does not
// grow with the image.
//
// Every upload is inspected while it streams: an image whose bytes are not of the
// declared format is refused, and so is one that reads other files (a qcow2 with
// a backing file or a data file), whatever it claims to be.
package image
