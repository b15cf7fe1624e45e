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

	"github.com/nacre-cloud/nacre/bus"
	"github.com/nacre-cloud/nacre/compute/hypervisor"
	"github.com/nacre-cloud/nacre/image/backend"
	"github.com/nacre-cloud/nacre/image/backend/file"
	"github.com/nacre-cloud/nacre/network/dataplane"
	"github.com/nacre-cloud/nacre/objectstore/blob"
	"github.com/nacre-cloud/nacre/objectstore/blob/fs"
	"github.com/nacre-cloud/nacre/servers"
	"github.com/nacre-cloud/nacre/servers/kit"
	"github.com/nacre-cloud/nacre/store"
	"github.com/nacre-cloud/nacre/store/bunstore"
)

// parts are all that this program links, by name.
var parts = servers.Parts{
	Engines: map[string]func(string) (store.Engine, error){
		"sqlite": func(path string) (store.Engine, error) { return bunstore.OpenSQLite(path+".db", bunstore.Options{}) },
	},
	Transports: map[string]func(kit.Config) (bus.Transport, error){
		"memory": func(kit.Config) (bus.Transport, error) { return bus.NewMemory(bus.MemoryOptions{}), nil },
	},
	Images: map[string]func(string) (backend.Driver, error){
		"file": func(dir string) (backend.Driver, error) { return file.New(dir, file.Options{}) },
	},
	Objects:     map[string]func(string) (blob.Store, error){"fs": func(dir string) (blob.Store, error) { return fs.New(dir, fs.Options{}) }},
	Hypervisors: map[string]func(context.Context, servers.Site) (hypervisor.Driver, error){"fake": fakeHypervisor, "libvirt": libvirtHypervisor},
	Dataplanes:  map[string]func(context.Context, servers.Site) (dataplane.Driver, error){"fake": fakeDataplane, "linux": linuxDataplane},
	Identity:    identitySetup,
}

func main() { servers.Main("allinone", parts) }
