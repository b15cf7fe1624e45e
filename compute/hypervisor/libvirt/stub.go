//go:build !libvirt || !cgo

package libvirt

import (
	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/compute/hypervisor"
)

// Driver is not in this build.
type Driver struct{ hypervisor.Driver }

// New fails in this build: it was made without libvirt.
func New(Config) (*Driver, error) {
	return nil, nacre.Errorf(nacre.NotImplemented, "libvirt",
		`This program was built without libvirt; build it with cgo and -tags "libvirt libvirt_dlopen".`)
}

// Close does nothing in this build.
func (*Driver) Close() error { return nil }
