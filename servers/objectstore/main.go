// Command objectstore serves the object store, by Swift's API and S3's, alone: a
// function of a cloud whose others are other processes, joined by a broker. Any number
// of copies may run over one database where the bytes lie in Ceph (objects: rados); those
// in files are one process's, and a second is refused.
//
//	nacre db migrate --config objectstore.yaml    # once, and after an upgrade
//	objectstore -config objectstore.yaml
//
// It asks other functions over HTTP, at the addresses that identity's catalog has, as
// the user service_user with service_password. -h lists the settings.
package main

import (
	"github.com/nacre-cloud/nacre/servers"
	"github.com/nacre-cloud/nacre/servers/parts"
)

func main() { servers.Main("objectstore", parts.All, "objectstore") }
