package servers

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/servers/host"
	"github.com/nacre-cloud/nacre/servers/kit"
	"github.com/nacre-cloud/nacre/store"
)

// AuditLocal audits the cloud that a state directory holds, whether it runs or
// not: it opens the databases and images, and starts and changes nothing. In a
// running cloud it may see the middle of a change; ask again then.
func AuditLocal(ctx context.Context, cfg kit.Config, parts Parts) (_ []nacre.Finding, err error) {
	if _, err := os.Stat(filepath.Join(cfg.StateDir, "db")); err != nil {
		return nil, err
	}
	open, err := host.Choose("engine", cfg.Engine, parts.Engines)
	if err != nil {
		return nil, err
	}
	c := Config{Engines: map[string]store.Engine{}}
	for _, area := range Areas() {
		e, err := open(cfg, area, filepath.Join(cfg.StateDir, "db", area))
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, e.Close()) }()
		c.Engines[area] = e
	}
	if cfg.ImageStores, err = auditedStores(cfg); err != nil {
		return nil, err
	}
	closes, err := openImages(ctx, &c, cfg, parts, func(parts ...string) (string, error) {
		return filepath.Join(append([]string{cfg.Shared()}, parts...)...), nil
	})
	defer func() {
		for _, f := range closes {
			err = errors.Join(err, f())
		}
	}()
	if err != nil {
		return nil, err
	}
	objects, err := host.Choose("objects", cfg.Objects, parts.Objects)
	if err != nil {
		return nil, err
	}
	if c.Objects, err = objects(filepath.Join(cfg.Shared(), "objects")); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.Objects.Close()) }()
	if c.ObjectSetup, err = objectSetup(cfg); err != nil {
		return nil, err
	}
	return Audit(ctx, c)
}

// auditedStores are the further stores for images: whatever the cloud was run with,
// where nothing is said their directories are there.
func auditedStores(cfg kit.Config) ([]string, error) {
	settings, err := imageSettings(cfg)
	if err != nil || len(settings.Stores) > 0 || cfg.ImageStores != nil {
		return cfg.ImageStores, err
	}
	dirs, err := os.ReadDir(filepath.Join(cfg.Shared(), "image-stores"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	var names []string
	for _, d := range dirs {
		names = append(names, d.Name())
	}
	return names, err
}

// Audit audits what engines, images and objects hold, without starting anything: a cloud
// that is stopped, or one that another process runs (then what is just under way
// there may be found, too). Only Engines, Images and Objects of the Config are needed.
func Audit(ctx context.Context, c Config) ([]nacre.Finding, error) {
	cl, err := assemble(ctx, c)
	if err != nil {
		return nil, err
	}
	fs, err := cl.Audit(ctx)
	return fs, errors.Join(err, cl.Close())
}
