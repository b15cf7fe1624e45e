package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity"
	"github.com/nacre-cloud/nacre/identity/federation"
	"github.com/nacre-cloud/nacre/identity/fernet"
	"github.com/nacre-cloud/nacre/identity/jws"
	"github.com/nacre-cloud/nacre/identity/ldap"
	"github.com/nacre-cloud/nacre/servers"
	"github.com/nacre-cloud/nacre/servers/host"
	"github.com/nacre-cloud/nacre/servers/parts"
	"github.com/nacre-cloud/nacre/store"
)

// openArea opens the database of an area; with make it may be new.
func (c *cli) openArea(area string, make bool) (store.Engine, error) {
	if err := c.there(area); err != nil && !make {
		return nil, err
	}
	dir := filepath.Join(c.StateDir, "db")
	if make {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	open, err := host.Choose("engine", c.settings.Engine, parts.All.Engines)
	if err != nil {
		return nil, err
	}
	return open(c.settings, area, filepath.Join(dir, area))
}

// there is nil when the state directory holds the database of an area, or a server
// elsewhere has it.
func (c *cli) there(area string) error {
	path := filepath.Join(c.StateDir, "db", area+".db")
	if _, err := os.Stat(path); err != nil && c.settings.Engine == "sqlite" {
		return fmt.Errorf("%s holds no cloud: there is no %s", c.StateDir, path)
	}
	return nil
}

// keysDir is the directory of a key repository.
func (c *cli) keysDir(name string) string { return filepath.Join(c.settings.Shared(), name) }

// noKeys says what makes a key repository.
func noKeys(name string) string {
	return "there is no key repository: nacre " + strings.TrimSuffix(name, "-keys") + " setup makes it"
}

// keys opens a key repository; nil where there is none.
func (c *cli) keys(name string) (*fernet.Keys, error) {
	dir := c.keysDir(name)
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return fernet.Open(dir)
}

// withIdentity opens the identity service for f.
func (c *cli) withIdentity(f func(ctx context.Context, svc *identity.Service) error) error {
	ctx := context.Background()
	e, err := c.openArea("identity", false)
	if err != nil {
		return err
	}
	defer e.Close() //nolint:errcheck // nothing is pending
	if err := e.Migrate(ctx, identity.Schema(), false); err != nil {
		return err
	}
	cfg := identity.Config{Engine: e, OpenDirectory: ldap.Open}
	for name, to := range map[string]**fernet.Keys{"fernet-keys": &cfg.Keys, "credential-keys": &cfg.CredentialKeys} {
		if *to, err = c.keys(name); err != nil {
			return err
		}
	}
	svc, err := identity.New(cfg)
	if err != nil {
		return err
	}
	return f(ctx, svc)
}

type dbCmd struct {
	Migrate dbMigrate `cmd:"" help:"Bring the databases to the schema of this program (keystone-manage db_sync)."`
}

type dbMigrate struct {
	Check bool   `help:"Change nothing, and fail when something is missing."`
	Area  string `help:"One area only."`
}

// Run implements the command.
func (d *dbMigrate) Run(c *cli, out io.Writer) error {
	if d.Area != "" && !slices.Contains(servers.Areas(), d.Area) {
		return fmt.Errorf("there is no area %q: the areas are %s", d.Area, strings.Join(servers.Areas(), ", "))
	}
	for _, area := range servers.Areas() {
		if d.Area != "" && d.Area != area || d.Area == "" && len(c.settings.Areas) > 0 && !slices.Contains(c.settings.Areas, area) {
			continue
		}
		e, err := c.openArea(area, !d.Check)
		if err != nil {
			return err
		}
		err = errors.Join(e.Migrate(context.Background(), servers.Schema(area), !d.Check), e.Close())
		if err != nil {
			return fmt.Errorf("%s: %w", area, err)
		}
		fmt.Fprintf(out, "%s: up to date\n", area)
	}
	return nil
}

type bootstrapCmd struct {
	Username    string `name:"bootstrap-username" env:"OS_BOOTSTRAP_USERNAME" default:"admin" help:"The administrator's name."`
	Password    string `name:"bootstrap-password" env:"OS_BOOTSTRAP_PASSWORD" required:"" help:"The administrator's password; better given in the environment."`
	ProjectName string `name:"bootstrap-project-name" env:"OS_BOOTSTRAP_PROJECT_NAME" default:"admin" help:"Its project's name."`
	ServiceName string `name:"bootstrap-service-name" env:"OS_BOOTSTRAP_SERVICE_NAME" default:"keystone" help:"The identity service's name."`
	AdminURL    string `name:"bootstrap-admin-url" env:"OS_BOOTSTRAP_ADMIN_URL" help:"The identity endpoints."`
	PublicURL   string `name:"bootstrap-public-url" env:"OS_BOOTSTRAP_PUBLIC_URL"`
	InternalURL string `name:"bootstrap-internal-url" env:"OS_BOOTSTRAP_INTERNAL_URL"`
	RegionID    string `name:"bootstrap-region-id" env:"OS_BOOTSTRAP_REGION_ID" default:"RegionOne" help:"The endpoints' region."`
}

// Run implements the command.
func (b *bootstrapCmd) Run(c *cli, out io.Writer) error {
	return c.withIdentity(func(ctx context.Context, svc *identity.Service) error {
		boot := identity.Bootstrap{Password: b.Password, User: b.Username, Project: b.ProjectName, Region: b.RegionID}
		if b.PublicURL+b.InternalURL+b.AdminURL != "" {
			boot.Services = []identity.BootstrapService{{Type: "identity", Name: b.ServiceName, Public: b.PublicURL, Internal: b.InternalURL, Admin: b.AdminURL}}
		}
		ids, err := svc.Bootstrap(ctx, boot)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "user %s, project %s\n", ids.UserID, ids.ProjectID)
		return nil
	})
}

// repository is a key repository's commands.
type repository struct {
	Setup  keySetup  `cmd:"" help:"Make the key repository, unless it is there."`
	Rotate keyRotate `cmd:"" help:"Make the staged key the primary one, stage a new one and remove the oldest."`
}

type fernetCmd struct{ repository }

type receiptCmd struct{ repository }

type keySetup struct{}

// Run implements the command.
func (*keySetup) Run(c *cli, out io.Writer) error {
	dir := c.keysDir(c.repository)
	if err := fernet.Init(dir); err != nil {
		return err
	}
	fmt.Fprintln(out, dir)
	return nil
}

type keyRotate struct {
	MaxActiveKeys int `default:"3" help:"How many keys remain (max_active_keys)."`
}

// Run implements the command.
func (r *keyRotate) Run(c *cli, out io.Writer) error {
	dir := c.keysDir(c.repository)
	if err := fernet.Rotate(dir, r.MaxActiveKeys); err != nil {
		return err
	}
	fmt.Fprintln(out, dir)
	return nil
}

type credentialCmd struct {
	Setup   keySetup         `cmd:"" help:"Make the key repository, unless it is there."`
	Rotate  credentialRotate `cmd:"" help:"Rotate the keys and encrypt all credentials anew, so that none is lost with the oldest key."`
	Migrate credMigrate      `cmd:"" help:"Encrypt all credentials under the primary key."`
}

type credMigrate struct{}

// Run implements the command.
func (*credMigrate) Run(c *cli, out io.Writer) error {
	if keys, err := c.keys(c.repository); err != nil || keys == nil {
		return cmp.Or(err, errors.New(noKeys(c.repository)))
	}
	return c.withIdentity(func(ctx context.Context, svc *identity.Service) error {
		n, err := svc.Credentials.Migrate(ctx)
		if err == nil {
			fmt.Fprintf(out, "%d credentials under the primary key\n", n)
		}
		return err
	})
}

type credentialRotate struct{}

// Run implements the command.
func (*credentialRotate) Run(c *cli, out io.Writer) error {
	m := &credMigrate{}
	if err := m.Run(c, io.Discard); err != nil {
		return err
	}
	if err := fernet.Rotate(c.keysDir("credential-keys"), fernet.MaxActiveKeys); err != nil {
		return err
	}
	return m.Run(c, out)
}

type tokenCmd struct {
	Setup tokenKeys `cmd:"" help:"Make a key pair for JWS tokens (keystone-manage create_jws_keypair): jws-keys/private and jws-keys/public, beside identity's settings."`
}

type tokenKeys struct{}

// Run implements the command.
func (*tokenKeys) Run(c *cli, out io.Writer) error {
	dir := filepath.Join(c.StateDir, "jws-keys")
	if c.settings.Identity != "" {
		dir = filepath.Join(filepath.Dir(c.settings.Identity), "jws-keys")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := jws.Create(dir); err != nil {
		return err
	}
	fmt.Fprintln(out, dir)
	return nil
}

type doctorCmd struct{}

// Run implements the command: what an operator would rather know. It ends with
// status 1 when it finds something.
func (*doctorCmd) Run(c *cli, out io.Writer) error {
	var found []nacre.Finding
	texts := map[string]string{}
	for _, name := range []string{"fernet-keys", "credential-keys", "receipt-keys"} {
		dir := c.keysDir(name)
		st, err := os.Stat(dir)
		switch {
		case err != nil && name == "receipt-keys":
			continue // then the keys of tokens do
		case err != nil:
			found = append(found, nacre.Finding{Area: "identity", Kind: "keys", ID: name, Problem: noKeys(name)})
			continue
		case st.Mode().Perm()&0o077 != 0:
			found = append(found, nacre.Finding{Area: "identity", Kind: "keys", ID: name, Problem: fmt.Sprintf("others may look into %s (mode %o)", dir, st.Mode().Perm())})
		}
		files, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, f := range files {
			b, err := os.ReadFile(filepath.Join(dir, f.Name()))
			if err != nil {
				return err
			}
			if other, twice := texts[string(b)]; twice {
				found = append(found, nacre.Finding{Area: "identity", Kind: "keys", ID: name + "/" + f.Name(), Problem: "it is the same key as " + other})
			}
			texts[string(b)] = name + "/" + f.Name()
		}
	}
	err := c.withIdentity(func(ctx context.Context, svc *identity.Service) error {
		more, err := svc.Symptoms(ctx)
		found = append(found, more...)
		return err
	})
	if err != nil {
		return err
	}
	if err := show(out, c.Output, found); err != nil {
		return err
	}
	if len(found) > 0 {
		return errFound
	}
	return nil
}

type mappingCmd struct {
	Test mappingTest `cmd:"" help:"Say what a mapping makes of an assertion (keystone-manage mapping_engine)."`
}

type mappingTest struct {
	Rules         string `required:"" type:"existingfile" help:"The rules, as JSON: a list, or an object with rules."`
	Input         string `required:"" type:"existingfile" help:"The assertion: a line \"name: value\" per attribute; several values are joined by ';'."`
	Prefix        string `help:"Only attributes whose name begins so count (assertion_prefix)."`
	SchemaVersion string `name:"mapping-schema-version" help:"1.0, 2.0 or 3.0; empty is the rules' own, else 1.0."`
}

// Run implements the command.
func (m *mappingTest) Run(out io.Writer) error {
	raw, err := os.ReadFile(m.Rules)
	if err != nil {
		return err
	}
	var doc struct {
		Rules   []any  `json:"rules"`
		Version string `json:"schema_version"`
	}
	if err := json.Unmarshal(raw, &doc.Rules); err != nil {
		if err := json.Unmarshal(raw, &doc); err != nil {
			return fmt.Errorf("%s: %w", m.Rules, err)
		}
	}
	mapping := federation.Mapping{ID: filepath.Base(m.Rules), Rules: doc.Rules, SchemaVersion: doc.Version}
	if m.SchemaVersion != "" {
		mapping.SchemaVersion = m.SchemaVersion
	}
	if mapping.SchemaVersion == "" {
		mapping.SchemaVersion = federation.DefaultSchemaVersion
	}
	if wrong := federation.CheckMapping(mapping.Rules, mapping.SchemaVersion); len(wrong) > 0 {
		return fmt.Errorf("%s: %s", m.Rules, strings.Join(wrong, "; "))
	}
	attributes, err := m.attributes()
	if err != nil {
		return err
	}
	got, err := mapping.Evaluate(federation.Split(attributes))
	if err != nil {
		return err
	}
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	return e.Encode(mappedView(&got))
}

func (m *mappingTest) attributes() (map[string]string, error) {
	f, err := os.Open(m.Input)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	out := map[string]string{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		name, value, ok := strings.Cut(lines.Text(), ":")
		if name = strings.TrimSpace(name); ok && strings.HasPrefix(name, m.Prefix) {
			out[name] = strings.TrimSpace(value)
		}
	}
	return out, lines.Err()
}

// mappedView is what keystone-manage prints.
func mappedView(m *federation.Mapped) map[string]any {
	domain := func(d *federation.DomainRef) map[string]string {
		if d == nil {
			return nil
		}
		out := map[string]string{}
		for k, v := range map[string]string{"id": d.ID, "name": d.Name} {
			if v != "" {
				out[k] = v
			}
		}
		return out
	}
	user := map[string]any{"type": "ephemeral"}
	if m.Local {
		user["type"] = "local"
	}
	for k, v := range map[string]string{"id": m.UserID, "name": m.UserName, "email": m.Email} {
		if v != "" {
			user[k] = v
		}
	}
	if d := domain(m.UserDomain); d != nil {
		user["domain"] = d
	}
	groups, projects := []any{}, []any{}
	for _, g := range m.Groups {
		groups = append(groups, map[string]any{"name": g.Name, "domain": domain(&g.Domain)})
	}
	for _, p := range m.Projects {
		v := map[string]any{"name": p.Name, "roles": p.Roles}
		if d := domain(p.Domain); d != nil {
			v["domain"] = d
		}
		projects = append(projects, v)
	}
	ids := m.GroupIDs
	if ids == nil {
		ids = []string{}
	}
	return map[string]any{"user": user, "group_ids": ids, "group_names": groups, "projects": projects}
}
