//go:build !unix

package kit

import "os"

// lockFile does nothing where there is no flock: the databases' own locks must do.
func lockFile(*os.File) error { return nil }
