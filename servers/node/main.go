// Command node is a host: the agents of compute and network on a machine that runs
// guests for a control plane elsewhere. It has no database and opens no port.
//
//	nacre host add compute-1 >node.yaml    # beside the control plane, once
//	node -config node.yaml                 # on the machine
//
// -h lists the settings. Ctrl-C stops it and leaves guests running; starting it again
// finds everything as it was.
package main

import (
	"github.com/nacre-cloud/nacre/servers/drivers"
	"github.com/nacre-cloud/nacre/servers/host"
)

func main() { host.Main("node", drivers.Parts) }
