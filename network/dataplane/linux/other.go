//go:build !linux

package linux

import (
	"context"
	"errors"

	"github.com/nacre-cloud/nacre/network/dataplane"
)

// Driver is the Linux data plane; it exists on Linux only.
type Driver struct{ dataplane.Driver }

var errOther = errors.New("the linux data plane runs on Linux only")

// New fails on this operating system.
func New(context.Context, Config) (*Driver, error) { return nil, errOther }

// Clean fails on this operating system.
func Clean(context.Context, string) error { return errOther }
