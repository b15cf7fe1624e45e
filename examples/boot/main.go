// Command boot boots a server with gophercloud on the cloud that the usual
// variables name, says where it is, and deletes it.
//
//	export OS_AUTH_URL=http://127.0.0.1:5000/identity/v3 OS_USERNAME=demo OS_PASSWORD=… OS_PROJECT_NAME=demo OS_DOMAIN_ID=default
//	go run ./examples/boot IMAGE
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/networks"
)

// boot boots a server on a network and waits until it runs.
func boot(ctx context.Context, compute *gophercloud.ServiceClient, name, image, flavor, network string) (*servers.Server, error) {
	sv, err := servers.Create(ctx, compute, servers.CreateOpts{
		Name: name, ImageRef: image, FlavorRef: flavor, Networks: []servers.Network{{UUID: network}},
	}, nil).Extract()
	if err != nil {
		return nil, err
	}
	for {
		got, err := servers.Get(ctx, compute, sv.ID).Extract()
		switch {
		case err != nil:
			return nil, err
		case got.Status == "ACTIVE":
			return got, nil
		case got.Status == "ERROR":
			return got, fmt.Errorf("server %s: %s", sv.ID, got.Fault.Message)
		}
		select {
		case <-ctx.Done():
			return got, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	auth, err := openstack.AuthOptionsFromEnv()
	check(err)
	client, err := openstack.AuthenticatedClient(ctx, auth)
	check(err)
	endpoint := gophercloud.EndpointOpts{Region: os.Getenv("OS_REGION_NAME")}
	network, err := openstack.NewNetworkV2(client, endpoint)
	check(err)
	pages, err := networks.List(network, networks.ListOpts{Name: "demo"}).AllPages(ctx)
	check(err)
	ns, err := networks.ExtractNetworks(pages)
	check(err)
	compute, err := openstack.NewComputeV2(client, endpoint)
	check(err)
	sv, err := boot(ctx, compute, "hello", os.Args[1], "42", ns[0].ID)
	check(err)
	fmt.Printf("%s is %s at %v\n", sv.Name, sv.Status, sv.Addresses)
	check(servers.Delete(ctx, compute, sv.ID).ExtractErr())
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
