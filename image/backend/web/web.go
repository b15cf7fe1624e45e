// Package web is glance's http store: read-only, the bytes of an image are at a URL
// that somebody gave by the locations API. It fetches under internal/netguard, so
// nobody reaches inner addresses through it, at the time of a download no more than
// at the time when the location was added.
package web

import (
	"context"
	"io"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/image/backend"
	"github.com/nacre-cloud/nacre/internal/netguard"
)

// Options of New; see glance's import_filtering_opts. AllowNets (CIDR) may be
// reached though they are not public, on AllowPorts.
type Options struct {
	AllowHosts, DenyHosts []string
	// AllowPorts nil means 80 and 443, empty any.
	AllowPorts []int
	AllowNets  []string
}

// Driver implements backend.Driver and backend.Remote.
type Driver struct{ guard *netguard.Guard }

var (
	_ backend.Driver    = (*Driver)(nil)
	_ backend.Remote    = (*Driver)(nil)
	_ backend.Described = (*Driver)(nil)
)

// New makes the driver.
func New(o Options) (*Driver, error) {
	nets, err := netguard.ParseNets(o.AllowNets)
	if err != nil {
		return nil, err
	}
	g, err := netguard.New(netguard.Config{AllowHosts: o.AllowHosts, DenyHosts: o.DenyHosts, AllowPorts: o.AllowPorts, AllowNets: nets})
	return &Driver{g}, err
}

// Put implements backend.Driver: nothing can be stored.
func (d *Driver) Put(context.Context, string, io.Reader) (int64, error) {
	return 0, nacre.Errorf(nacre.NotImplemented, "", "Adding images to this store is disabled.")
}

// Open implements backend.Driver: there are no blobs.
func (d *Driver) Open(_ context.Context, key string) (io.ReadCloser, int64, error) {
	return nil, 0, nacre.Errorf(nacre.NotFound, "", "no blob %s", key)
}

// Delete implements backend.Driver.
func (d *Driver) Delete(context.Context, string) error { return nil }

// List implements backend.Driver.
func (d *Driver) List(context.Context) ([]string, error) { return nil, nil }

// Kind implements backend.Described.
func (d *Driver) Kind() string { return "http" }

// Properties implements backend.Described.
func (d *Driver) Properties() map[string]any { return map[string]any{} }

// CheckURL implements backend.Remote.
func (d *Driver) CheckURL(_ context.Context, url string) error {
	_, err := d.guard.Check(url)
	return err
}

// OpenURL implements backend.Remote.
func (d *Driver) OpenURL(ctx context.Context, url string) (io.ReadCloser, int64, error) {
	return d.guard.Get(ctx, url)
}
