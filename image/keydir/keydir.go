// Package keydir keeps the certificates by which images are signed as files in a
// directory: the certificate with the id that an image names in
// img_signature_certificate_uuid is the file of that name, with or without ".pem",
// in PEM or DER. Files are read at each use, so they can be added, replaced and
// taken away while a cloud runs.
package keydir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/image"
)

// Dir implements image.KeyManager.
type Dir struct{ path string }

var _ image.KeyManager = (*Dir)(nil)

// Open opens a directory, which must be there. No id, and no link in the
// directory, leads out of it.
func Open(path string) (*Dir, error) {
	info, err := os.Stat(path)
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("%s is no directory", path)
	}
	if err != nil {
		return nil, err
	}
	return &Dir{path}, nil
}

var idRE = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,127}$`)

// maxCertificate in bytes; a certificate has a few thousand.
const maxCertificate = 64 << 10

// Certificate implements image.KeyManager.
func (d *Dir) Certificate(_ context.Context, id string) ([]byte, error) {
	missing := nacre.Errorf(nacre.NotFound, "", "There is no certificate %q.", id)
	if !idRE.MatchString(id) {
		return nil, missing
	}
	f, err := os.OpenInRoot(d.path, id+".pem")
	if errors.Is(err, fs.ErrNotExist) {
		f, err = os.OpenInRoot(d.path, id)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, missing
	}
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // read only
	b, err := io.ReadAll(io.LimitReader(f, maxCertificate+1))
	if err == nil && len(b) > maxCertificate {
		err = fmt.Errorf("keydir: %s is too large for a certificate", id)
	}
	return b, err
}
