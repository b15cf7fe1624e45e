// Command identity serves identity: users, projects, tokens, the catalog, alone: a
// function of a cloud whose others are other processes, joined by a broker. Any number
// of copies may run over one database.
//
//	nacre db migrate --config identity.yaml    # once, and after an upgrade
//	identity -config identity.yaml
//
// It makes the administrator and, by service_users, the users as whom the others ask. -h lists the settings.
package main

import (
	"github.com/nacre-cloud/nacre/servers"
	"github.com/nacre-cloud/nacre/servers/parts"
)

func main() { servers.Main("identity", parts.All, "identity") }
