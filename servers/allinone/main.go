// Command allinone is a whole cloud in one process: identity, image, compute,
// placement and network over SQLite files, with the agents of its hosts.
//
//	go run ./servers/allinone
//
// runs it with simulated guests and networks and needs neither root nor libvirt.
// With -hypervisor libvirt and -dataplane linux (as root, built with the tags
// libvirt and libvirt_dlopen) guests are real. -h lists the settings.
//
// It prints one line when it is ready. Ctrl-C stops it and leaves guests running;
// starting it again finds everything as it was.
package main

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

// parts are all that this program links, by name.
var parts = servers.Parts{
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

func main() { servers.Main("allinone", parts) }
