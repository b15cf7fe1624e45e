package servers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/nacre-cloud/nacre/image"
	"github.com/nacre-cloud/nacre/image/backend/web"
	"github.com/nacre-cloud/nacre/image/setup"
	"github.com/nacre-cloud/nacre/servers/host"
	"github.com/nacre-cloud/nacre/servers/kit"
)

// ImageStore is what a store for images is made with.
type ImageStore struct {
	// Name is the store's. Dir is a directory of its own, for types that keep files.
	Name, Dir string
	// Decode fills a struct with yaml tags with what the configuration says of the
	// store, and refuses names that the struct does not have.
	Decode func(into any) error
}

// defaultStore is the store of a configuration that names none.
const defaultStore = "default"

// imageSettings reads the file of image's settings; one that nobody named need not
// be there.
func imageSettings(cfg kit.Config) (*setup.Settings, error) {
	if cfg.ImageConfig != "" {
		return setup.Read(cfg.ImageConfig)
	}
	s, err := setup.Read(filepath.Join(cfg.StateDir, "image.yaml"))
	if errors.Is(err, fs.ErrNotExist) {
		if _, serr := os.Stat(filepath.Join(cfg.StateDir, "image.yaml")); serr != nil {
			return &setup.Settings{}, nil
		}
	}
	return s, err
}

// openImages opens the stores for images and takes what else the configuration says
// of image. place gives a directory below the state's. Drivers that are io.Closers
// are to be closed, also after an error.
func openImages(ctx context.Context, c *Config, cfg kit.Config, parts Parts, place func(parts ...string) (string, error)) (closes []func() error, err error) {
	settings, err := imageSettings(cfg)
	if err != nil {
		return nil, err
	}
	list := settings.Stores
	if len(list) > 0 && len(cfg.ImageStores) > 0 {
		return nil, errors.New("image_stores and the stores of image's settings exclude each other")
	}
	if len(list) == 0 {
		for _, name := range append([]string{defaultStore}, cfg.ImageStores...) {
			list = append(list, setup.Store{Name: name, Type: cfg.Images})
		}
	}
	c.ImageFetch = settings.Fetch
	if len(cfg.ImageFetchNets) > 0 {
		c.ImageFetch.AllowNets, c.ImageFetch.AllowPorts = append(c.ImageFetch.AllowNets, cfg.ImageFetchNets...), []int{}
	}
	if cfg.ImageLocations {
		list = append(list, setup.Store{Name: "http", Type: "http"})
	}
	var stores []image.Store
	for _, s := range list {
		st, err := openImageStore(ctx, s, c, parts, place)
		if err != nil {
			return closes, fmt.Errorf("the store %s for images: %w", s.Name, err)
		}
		if closer, ok := st.Driver.(io.Closer); ok {
			closes = append(closes, closer.Close)
		}
		stores = append(stores, st)
	}
	c.Images = stores[0].Driver
	if settings.Definitions != "" {
		c.ImageDefinitions = os.DirFS(settings.Definitions)
	}
	c.ImageSetup = func(ic *image.Config) {
		ic.Stores, ic.AnyFormat, ic.ShowLocations = stores, cfg.ImageAnyFormat, cfg.ImageLocations
		settings.Apply(ic)
	}
	return closes, nil
}

// openImageStore opens one store. The read-only http one is known here: it reaches
// what web-download may reach.
func openImageStore(ctx context.Context, s setup.Store, c *Config, parts Parts, place func(parts ...string) (string, error)) (image.Store, error) {
	out := image.Store{ID: s.Name, Description: s.Description, Weight: s.Weight}
	if s.Name != filepath.Base(s.Name) || strings.HasPrefix(s.Name, ".") {
		return out, fmt.Errorf("%q can't be a store's name", s.Name)
	}
	var err error
	if s.Type == "http" {
		f := &c.ImageFetch
		if err := s.Decode(&struct{}{}); err != nil {
			return out, err
		}
		out.ReadOnly = true
		out.Driver, err = web.New(web.Options{AllowHosts: f.AllowHosts, DenyHosts: f.DenyHosts, AllowPorts: f.AllowPorts, AllowNets: f.AllowNets})
		return out, err
	}
	open, err := host.Choose("images", s.Type, parts.Images)
	if err != nil {
		return out, err
	}
	dir := []string{"images"}
	if s.Name != defaultStore {
		dir = []string{"image-stores", s.Name}
	}
	in := ImageStore{Name: s.Name, Decode: s.Decode}
	if in.Dir, err = place(dir...); err != nil {
		return out, err
	}
	out.Driver, err = open(ctx, in)
	return out, err
}
