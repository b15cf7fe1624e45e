// Package parts has all that a cloud can be made of, by the names that a configuration
// uses: what the all-in-one links, and what the operator's command opens a cloud's state
// with. A node links package servers/drivers alone.
package parts

import (
	"context"
	"log/slog"
	"path/filepath"
	"strings"

	"github.com/nacre-cloud/nacre/image/backend"
	"github.com/nacre-cloud/nacre/objectstore/blob"
	"github.com/nacre-cloud/nacre/objectstore/blob/fs"
	"github.com/nacre-cloud/nacre/objectstore/blob/rados"
	"github.com/nacre-cloud/nacre/servers"
	"github.com/nacre-cloud/nacre/servers/drivers"
	"github.com/nacre-cloud/nacre/servers/kit"
	"github.com/nacre-cloud/nacre/store"
	"github.com/nacre-cloud/nacre/store/bunstore"
)

// All are the engines, stores, buses and drivers that there are.
var All = servers.Parts{
	Engines: map[string]func(cfg kit.Config, area, path string) (store.Engine, error){
		"sqlite": func(_ kit.Config, _, path string) (store.Engine, error) {
			return bunstore.OpenSQLite(path+".db", bunstore.Options{})
		},
		"mariadb": func(cfg kit.Config, area, _ string) (store.Engine, error) {
			return bunstore.OpenMariaDB(strings.ReplaceAll(cfg.EngineURL, "{area}", area), bunstore.Options{})
		},
		"postgres": func(cfg kit.Config, area, _ string) (store.Engine, error) {
			return bunstore.OpenPostgres(strings.ReplaceAll(cfg.EngineURL, "{area}", area), bunstore.Options{})
		},
	},
	Images:   map[string]func(context.Context, servers.ImageStore) (backend.Driver, error){"file": fileImages, "s3": s3Images, "swift": swiftImages, "rbd": rbdImages},
	Objects:  map[string]func(string) (blob.Store, error){"fs": func(dir string) (blob.Store, error) { return fs.New(dir, fs.Options{}) }, "rados": radosObjects},
	Host:     drivers.Parts,
	Identity: identitySetup,
}

// radosObjects keeps objects in the Ceph cluster that a file in their directory names.
func radosObjects(dir string) (blob.Store, error) {
	return rados.FromFile(context.Background(), filepath.Join(dir, "rados.yaml"), slog.Default())
}
