// Command cloud embeds a whole OpenStack cloud in a program: SQLite files in a
// directory, one simulated host, one listener.
//
//	go run ./examples/cloud /tmp/cloud
package main

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"os"
	"path/filepath"

	hypervisor "github.com/nacre-cloud/nacre/compute/hypervisor/fake"
	"github.com/nacre-cloud/nacre/image/backend/file"
	dataplane "github.com/nacre-cloud/nacre/network/dataplane/fake"
	"github.com/nacre-cloud/nacre/objectstore/blob/fs"
	"github.com/nacre-cloud/nacre/servers"
	"github.com/nacre-cloud/nacre/store"
	"github.com/nacre-cloud/nacre/store/bunstore"
)

// open makes or opens the cloud that a directory holds.
func open(ctx context.Context, dir, url, password string) (*servers.Cloud, error) {
	engines := map[string]store.Engine{}
	for _, area := range servers.Areas() {
		e, err := bunstore.OpenSQLite(filepath.Join(dir, area+".db"), bunstore.Options{})
		if err != nil {
			return nil, err
		}
		engines[area] = e
	}
	if err := servers.Migrate(ctx, engines, true); err != nil {
		return nil, err
	}
	images, err := file.New(filepath.Join(dir, "images"), file.Options{})
	if err != nil {
		return nil, err
	}
	objects, err := fs.New(filepath.Join(dir, "objects"), fs.Options{})
	if err != nil {
		return nil, err
	}
	guests, err := hypervisor.New(hypervisor.Config{Dir: filepath.Join(dir, "guests")})
	if err != nil {
		return nil, err
	}
	packets, err := dataplane.New(dataplane.Config{StateDir: dir})
	if err != nil {
		return nil, err
	}
	cloud, err := servers.New(ctx, servers.Config{
		Engines: engines, Images: images, Objects: objects, URL: url, AdminPassword: password,
		Hosts: []servers.Host{{Name: "node1", Hypervisor: guests, Dataplane: packets}},
	})
	if err != nil {
		return nil, err
	}
	if _, err := cloud.Seed(ctx, servers.Seed{Flavors: servers.DefaultFlavors()}); err != nil {
		return nil, err
	}
	return cloud, cloud.Ready(ctx)
}

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: cloud DIRECTORY")
	}
	cloud, err := open(context.Background(), os.Args[1], "http://127.0.0.1:5000", "secret")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("openstack --os-auth-url http://127.0.0.1:5000/identity/v3 --os-username admin --os-password secret --os-project-name admin --os-user-domain-id default --os-project-domain-id default flavor list")
	log.Fatal(http.ListenAndServe("127.0.0.1:5000", cloud.Handler())) //nolint:gosec // an example
}
