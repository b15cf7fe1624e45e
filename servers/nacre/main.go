// Command nacre is the operator's tool for a cloud that keeps its state in a
// directory, running or not.
//
//	nacre audit                       what does not hold that always must
//	nacre host add compute-1          what the node of a new host needs
//	nacre policy list compute         the rules of an area with their defaults
//	nacre policy explain RULE --role member --project P --target project_id=P
//
// And what keystone-manage does for a Keystone:
//
//	nacre db migrate                  bring the databases to this program's schema
//	nacre bootstrap                   the administrator, roles and identity endpoints
//	nacre fernet setup|rotate         the keys of tokens; receipt, of auth receipts
//	nacre credential setup|rotate|migrate
//	nacre mapping test --rules rules.json --input assertion.txt
//	nacre doctor                      settings that nobody wants
//
// audit and doctor end with status 1 when they find something; -o json is for
// programs.
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/nacre-cloud/nacre/servers/kit"
)

type cli struct {
	StateDir string `help:"The cloud's state directory, if not the one of its configuration (NACRE_STATE_DIR, --config)." type:"path"`
	Config   string `help:"The cloud's configuration file; its other settings are read from the environment, as by the cloud." env:"NACRE_CONFIG" type:"path"`
	Output   string `short:"o" help:"table or json." enum:"table,json" default:"table"`

	Audit  auditCmd  `cmd:"" help:"Look for what does not hold that always must."`
	Policy policyCmd `cmd:"" help:"Show and explain policy rules."`

	Host hostCmd `cmd:"" help:"Hosts in processes of their own."`

	DB         dbCmd         `cmd:"" name:"db" help:"The databases."`
	Bootstrap  bootstrapCmd  `cmd:"" help:"Make the administrator, the roles and the identity endpoints (keystone-manage bootstrap)."`
	Fernet     fernetCmd     `cmd:"" help:"The keys of tokens."`
	Receipt    receiptCmd    `cmd:"" help:"The keys of auth receipts."`
	Credential credentialCmd `cmd:"" help:"The keys of credentials."`
	Token      tokenCmd      `cmd:"" help:"The keys of JWS tokens."`
	Mapping    mappingCmd    `cmd:"" help:"Mappings of federation."`
	Doctor     doctorCmd     `cmd:"" help:"Look for settings that nobody wants."`

	// settings are the cloud's.
	settings kit.Config
	// repository is the key repository that the command is about.
	repository string
}

// errFound says that the audit found something, which has been printed.
var errFound = errors.New("the audit found something")

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		if !errors.Is(err, errFound) {
			fmt.Fprintln(os.Stderr, "nacre:", err)
		}
		os.Exit(1)
	}
}
