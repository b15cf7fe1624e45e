// Command network serves network: networks, ports, routers, floating IPs, alone: a
// function of a cloud whose others are other processes, joined by a broker. Any number
// of copies may run over one database.
//
//	nacre db migrate --config network.yaml    # once, and after an upgrade
//	network -config network.yaml
//
// It asks other functions over HTTP, at the addresses that identity's catalog has, as
// the user service_user with service_password. -h lists the settings.
package main

import (
	"github.com/nacre-cloud/nacre/servers"
	"github.com/nacre-cloud/nacre/servers/parts"
)

func main() { servers.Main("network", parts.All, "network") }
