package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/alecthomas/kong"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/image/backend"
	"github.com/nacre-cloud/nacre/image/backend/file"
	"github.com/nacre-cloud/nacre/image/backend/object"
	"github.com/nacre-cloud/nacre/image/backend/rbd"
	"github.com/nacre-cloud/nacre/image/backend/s3"
	"github.com/nacre-cloud/nacre/objectstore/blob"
	"github.com/nacre-cloud/nacre/objectstore/blob/fs"
	"github.com/nacre-cloud/nacre/objectstore/blob/rados"
	"github.com/nacre-cloud/nacre/servers"
	"github.com/nacre-cloud/nacre/servers/kit"
	"github.com/nacre-cloud/nacre/store"
	"github.com/nacre-cloud/nacre/store/bunstore"
)

// run parses and does a command; -h prints and ends it.
func run(args []string, out io.Writer) error {
	var c cli
	exited := false
	p, err := kong.New(&c, kong.Name("nacre"), kong.Description("The operator's tool for a Nacre cloud."), kong.Vars{"state": kit.Default().StateDir},
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
	if of, ok := map[string]string{"fernet": "fernet-keys", "receipt": "receipt-keys", "credential": "credential-keys"}[strings.Fields(ctx.Command())[0]]; ok {
		c.repository = of
	}
	return ctx.Run(&c)
}

// audited opens what an all-in-one keeps.
var audited = servers.Parts{
	Engines: map[string]func(kit.Config, string, string) (store.Engine, error){
		"sqlite": func(_ kit.Config, _, path string) (store.Engine, error) {
			return bunstore.OpenSQLite(path+".db", bunstore.Options{})
		},
	},
	Images: map[string]func(context.Context, servers.ImageStore) (backend.Driver, error){
		"file": func(_ context.Context, s servers.ImageStore) (backend.Driver, error) {
			return file.FromSettings(s.Dir, s.Decode)
		},
		"s3": func(_ context.Context, s servers.ImageStore) (backend.Driver, error) {
			return s3.FromSettings(s.Decode)
		},
		"swift": func(_ context.Context, s servers.ImageStore) (backend.Driver, error) {
			return object.FromSettings(s.Name, s.Decode)
		},
		"rbd": func(_ context.Context, s servers.ImageStore) (backend.Driver, error) {
			return rbd.FromSettings(s.Decode)
		},
	},
	Objects: map[string]func(string) (blob.Store, error){
		"fs": func(dir string) (blob.Store, error) { return fs.New(dir, fs.Options{}) },
		"rados": func(dir string) (blob.Store, error) {
			return rados.FromFile(context.Background(), filepath.Join(dir, "rados.yaml"), slog.Default())
		},
	},
}

type auditCmd struct {
	Settle time.Duration `help:"How long what is under way may take to be done: only what is found throughout is reported." default:"5s"`
}

// Run implements the command.
func (a *auditCmd) Run(c *cli, out io.Writer) error {
	ctx := context.Background()
	for _, area := range servers.Areas() {
		path := filepath.Join(c.StateDir, "db", area)
		if found, err := filepath.Glob(path + ".db"); err != nil || len(found) == 0 {
			return fmt.Errorf("%s holds no cloud: there is no %s.db", c.StateDir, path)
		}
	}
	cfg := kit.Default()
	cfg.StateDir = c.StateDir
	findings, err := a.look(ctx, cfg)
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
		found, err := servers.AuditLocal(ctx, cfg, audited)
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
