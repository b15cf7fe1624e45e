// Command image serves image: images and their bytes, alone: a
// function of a cloud whose others are other processes, joined by a broker. Any number
// of copies may run over one database.
//
//	nacre db migrate --config image.yaml    # once, and after an upgrade
//	image -config image.yaml
//
// It asks other functions over HTTP, at the addresses that identity's catalog has, as
// the user service_user with service_password. -h lists the settings.
package main

import (
	"github.com/nacre-cloud/nacre/servers"
	"github.com/nacre-cloud/nacre/servers/parts"
)

func main() { servers.Main("image", parts.All, "image") }
