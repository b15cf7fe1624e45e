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
	"github.com/nacre-cloud/nacre/servers"
	"github.com/nacre-cloud/nacre/servers/parts"
)

func main() { servers.Main("allinone", parts.All) }
