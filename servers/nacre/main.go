// Command nacre is the operator's tool for a cloud that keeps its state in a
// directory, running or not.
//
//	nacre audit                       what does not hold that always must
//	nacre policy list compute         the rules of an area with their defaults
//	nacre policy explain RULE --role member --project P --target project_id=P
//
// audit ends with status 1 when it finds something; -o json is for programs.
package main

import (
	"errors"
	"fmt"
	"os"
)

type cli struct {
	StateDir string `help:"The cloud's state directory." default:"${state}" env:"NACRE_STATE_DIR" type:"path"`
	Output   string `short:"o" help:"table or json." enum:"table,json" default:"table"`

	Audit  auditCmd  `cmd:"" help:"Look for what does not hold that always must."`
	Policy policyCmd `cmd:"" help:"Show and explain policy rules."`
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
