package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/alecthomas/kong"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/servers"
	"github.com/nacre-cloud/nacre/servers/kit"
	"github.com/nacre-cloud/nacre/servers/parts"
)

// run parses and does a command; -h prints and ends it.
func run(args []string, out io.Writer) error {
	var c cli
	exited := false
	p, err := kong.New(&c, kong.Name("nacre"), kong.Description("The operator's tool for a Nacre cloud."),
		kong.Writers(out, out), kong.Exit(func(int) { exited = true }), kong.BindTo(out, (*io.Writer)(nil)))
	if err != nil {
		return err
	}
	ctx, err := p.Parse(args)
	if exited {
		return nil // help was asked for and shown
	}
	if err != nil {
		return err
	}
	if err := c.load(); err != nil {
		return err
	}
	if of, ok := map[string]string{"fernet": "fernet-keys", "receipt": "receipt-keys", "credential": "credential-keys"}[strings.Fields(ctx.Command())[0]]; ok {
		c.repository = of
	}
	return ctx.Run(&c)
}

// load reads the cloud's configuration: the file, the environment, the state directory
// that was named.
func (c *cli) load() (err error) {
	var args []string
	if c.StateDir != "" {
		args = append(args, "-state-dir", c.StateDir)
	}
	if c.Config != "" {
		args = append(args, "-config", c.Config)
	}
	if c.settings, err = kit.Load("nacre", args, os.Getenv, io.Discard); err == nil {
		c.StateDir = c.settings.StateDir
	}
	return err
}

type auditCmd struct {
	Settle time.Duration `help:"How long what is under way may take to be done: only what is found throughout is reported." default:"5s"`
}

// Run implements the command.
func (a *auditCmd) Run(c *cli, out io.Writer) error {
	ctx := context.Background()
	for _, area := range servers.Areas() {
		if err := c.there(area); err != nil {
			return err
		}
	}
	findings, err := a.look(ctx, c.settings)
	if err != nil {
		return err
	}
	if err := show(out, c.Output, findings); err != nil {
		return err
	}
	if len(findings) > 0 {
		return errFound
	}
	return nil
}

// look audits until nothing is found, and reports what was found every time.
func (a *auditCmd) look(ctx context.Context, cfg kit.Config) ([]nacre.Finding, error) {
	var lasting []nacre.Finding
	for end, n := time.Now().Add(a.Settle), 0; ; n++ {
		found, err := servers.AuditLocal(ctx, cfg, parts.All)
		if err != nil {
			return nil, err
		}
		if n > 0 {
			found = slices.DeleteFunc(found, func(f nacre.Finding) bool { return !slices.Contains(lasting, f) })
		}
		if lasting = found; len(found) == 0 || time.Now().After(end) {
			return lasting, nil
		}
		time.Sleep(500 * time.Millisecond)
	}
}

func show(out io.Writer, format string, findings []nacre.Finding) error {
	if format == "json" {
		if findings == nil {
			findings = []nacre.Finding{}
		}
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return e.Encode(findings)
	}
	if len(findings) == 0 {
		_, err := fmt.Fprintln(out, "nothing found")
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "AREA\tKIND\tID\tPROBLEM")
	for _, f := range findings {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", f.Area, f.Kind, f.ID, f.Problem)
	}
	return w.Flush()
}
