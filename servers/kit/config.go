package kit

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/user"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Config is how a server is run. Each field can be set in a YAML file, by a
// variable (NACRE_STATE_DIR) and by a flag (-state-dir); the later wins.
type Config struct {
	Listen        string   `yaml:"listen" doc:"address and port to listen on"`
	ObjectListen  string   `yaml:"object_listen" doc:"address and port of the object store's own listener; auto is port 8080 where listen is the default, else none; none serves it below the main address only"`
	ObjectURL     string   `yaml:"object_url" doc:"the object store's address as clients see it; empty is that of its listener"`
	ObjectDomains []string `yaml:"object_domains" doc:"host names below which containers and S3 buckets are served as hosts"`
	ObjectSecrets string   `yaml:"object_secrets" doc:"file of the root secrets that objects are encrypted with, as Swift's keymaster.conf; empty is keymaster.conf in shared_dir, if it is there"`
	ObjectService string   `yaml:"object_service_prefix" doc:"beginning of the names of the accounts in which services keep objects for projects, as SERVICE_; empty is none"`
	ObjectCNAME   bool     `yaml:"object_cname_lookup" doc:"ask the name service whether other host names are aliases of one below object_domains (Swift's cname_lookup)"`
	ObjectOrigins []string `yaml:"object_cors_origins" doc:"origins whose scripts may use the object store everywhere (Swift's cors_allow_origin); containers name their own"`
	ObjectWrites  string   `yaml:"object_write_rate" doc:"changes a second that each account may make in the object store (Swift's account_ratelimit); empty or 0 is no bound"`
	ObjectReap    string   `yaml:"object_reap_delay" doc:"how long the objects of a deleted project are kept: 24h, 0s"`
	URL           string   `yaml:"url" doc:"address as clients see it, for the catalog; empty is http:// (or https://) and listen"`
	StateDir      string   `yaml:"state_dir" doc:"directory of databases, images, keys and clouds.yaml"`
	Region        string   `yaml:"region" doc:"region of the catalog's endpoints"`

	Areas           []string `yaml:"areas" doc:"functions that this process serves: identity, image, compute, network, objectstore; empty is all of them, or the program's own"`
	SharedDir       string   `yaml:"shared_dir" doc:"directory that all copies of a function share: keys of tokens, the administrator's password, images, objects, keymaster.conf; empty is state_dir"`
	IdentityURL     string   `yaml:"identity_url" doc:"where identity in another process is, with /v3; empty is below url"`
	Endpoints       []string `yaml:"endpoints" doc:"where functions in other processes are, as network=http://10.0.0.1:9696; the others are looked for in the catalog (interface internal)"`
	ServiceUser     string   `yaml:"service_user" doc:"the user as whom this process asks functions in others; empty is nova, glance, neutron or swift"`
	ServicePassword string   `yaml:"service_password" doc:"that user's password"`
	ServiceProject  string   `yaml:"service_project" doc:"that user's project"`
	ServiceUsers    []string `yaml:"service_users" doc:"identity: users to make for functions in other processes, as nova=PASSWORD, with the roles admin and service on the project service"`

	Engine          string   `yaml:"engine" doc:"database engine of every area: sqlite, postgres, mariadb"`
	EngineURL       string   `yaml:"engine_url" doc:"where the databases are, for engines that are servers; {area} stands for identity, image and so on: each has its own database, and its own account"`
	Bus             string   `yaml:"bus" doc:"message bus: memory, amqp, nats"`
	BusURL          string   `yaml:"bus_url" doc:"where the broker is, for a bus that has one: amqp://user:password@host/vhost, nats://user:password@host; several are separated by commas"`
	Images          string   `yaml:"images" doc:"where the bytes of images are kept"`
	Objects         string   `yaml:"objects" doc:"where the bytes of objects are kept"`
	ImageStores     []string `yaml:"image_stores" doc:"names of further stores for images, beside the default one; each is like it"`
	ImageConfig     string   `yaml:"image_config" doc:"file of image's settings (stores of several types, imports, limits, cache, signatures) under glance-api.conf's names; empty is image.yaml in state_dir, if it is there"`
	ImageAnyFormat  bool     `yaml:"image_any_format" doc:"take images whose bytes are not of the declared format; unsafe ones are refused all the same"`
	ImageLocations  bool     `yaml:"image_locations" doc:"show where images are, and let images be at URLs (glance's show_multiple_locations and http store)"`
	ImageFetchNets  []string `yaml:"image_fetch_nets" doc:"networks (CIDR) that web-download may reach though they are not public, on any port"`
	Hypervisor      string   `yaml:"hypervisor" doc:"driver that runs guests: fake, libvirt"`
	Dataplane       string   `yaml:"dataplane" doc:"driver that carries packets: fake, linux"`
	Hosts           []string `yaml:"hosts" doc:"names of the hosts in this process; real drivers serve one; none is a control plane whose hosts are other processes"`
	Control         string   `yaml:"control" doc:"node: address of the control plane, without a path"`
	HostSecret      string   `yaml:"host_secret" doc:"node: the secret that nacre host add gave this host"`
	MyIP            string   `yaml:"my_ip" doc:"this host's own address, as other hosts reach it and operators see it"`
	MigrationListen string   `yaml:"migration_listen" doc:"node: address and port at which other hosts fetch what servers have that move to them (10.0.0.2:6083), with TLS where tls_cert is set; empty is that no server moves from or to this host"`
	LiveURI         string   `yaml:"live_migration_uri" doc:"libvirt: where other hosts' libvirtd reaches this one's, as qemu+tls://10.0.0.2/system; empty is that no running server comes here"`
	LiveTLS         bool     `yaml:"live_migration_with_native_tls" doc:"libvirt: running servers leave this host encrypted by QEMU's own TLS, disks too; both hosts' QEMU needs certificates (migrate_tls_x509_cert_dir in qemu.conf)"`
	TunnelAddress   string   `yaml:"tunnel_address" doc:"linux: this host's address for the tunnels (VXLAN, UDP port 4789) by which its tenant networks reach other hosts; empty is my_ip, and without that they stay on this host"`

	External  string   `yaml:"external" doc:"subnet of the network public; empty makes none"`
	Private   string   `yaml:"private" doc:"subnet of the network demo; empty makes none"`
	DNS       []string `yaml:"dns" doc:"name servers for the network demo"`
	Image     string   `yaml:"image" doc:"file of an image to be there from the start"`
	ImageName string   `yaml:"image_name" doc:"its name; empty is the file's"`
	Accel     string   `yaml:"accel" doc:"libvirt: auto, kvm or tcg"`
	Instances string   `yaml:"instances_dir" doc:"libvirt: directory of the guests' disks"`

	RouterFailover bool   `yaml:"allow_automatic_l3agent_failover" doc:"network: routers of a host that is down move to another (of a disabled one they always do)"`
	ConfirmWindow  string `yaml:"resize_confirm_window" doc:"compute: after what time a resized server is confirmed by itself (24h, or a number of seconds); 0 is never"`
	MoveTimeout    string `yaml:"live_migration_completion_timeout" doc:"compute: how long a move to another host may take, live or not, before it is called off (1h, or a number of seconds)"`

	PolicyDir         string   `yaml:"policy_dir" doc:"directory of policy files, compute.yaml and so on, read again when they change; empty is policy in state_dir"`
	PolicyNoScope     []string `yaml:"policy_no_scope" doc:"areas that do not enforce the scope of tokens"`
	PolicyOldDefaults []string `yaml:"policy_old_defaults" doc:"areas that honour the rules' deprecated defaults too"`

	Identity        string `yaml:"identity" doc:"file of identity's settings (password rules, hashes, tokens, limits) under keystone.conf's names; empty is identity.yaml in state_dir, if it is there"`
	Federation      string `yaml:"federation" doc:"file that says how users of identity providers come in; empty is federation.yaml in state_dir, if it is there"`
	CatalogTemplate string `yaml:"catalog_template" doc:"file of a catalog to serve instead of the stored one, in Keystone's format"`

	LogLevel  string `yaml:"log_level" doc:"debug, info, warn or error"`
	LogFormat string `yaml:"log_format" doc:"text or json"`
	TLSCert   string `yaml:"tls_cert" doc:"file of the certificate chain; with tls_key it turns TLS on"`
	TLSKey    string `yaml:"tls_key" doc:"file of the private key"`
	TLSCA     string `yaml:"tls_ca" doc:"file of the certificates to trust in a broker and a control plane; empty is the system's"`
}

// None is what a setting says that has a default and is to have nothing.
const None = "none"

// Default is a configuration before any file.
func Default() Config {
	return Config{Listen: "127.0.0.1:5000", StateDir: defaultStateDir(), ServiceProject: "service", Region: "RegionOne", Engine: "sqlite", Bus: "memory", Images: "file", Objects: "fs", ObjectListen: "auto", ObjectReap: "24h", RouterFailover: true, ConfirmWindow: "0", MoveTimeout: "1h",
		Hypervisor: "fake", Dataplane: "fake", Hosts: []string{"node1"}, External: "172.24.4.0/24", Private: "10.20.0.0/24", Accel: "auto",
		Instances: "/var/lib/nacre/instances", LogLevel: "warn", LogFormat: "text"}
}

// defaultStateDir is ~/.local/state/nacre, of the calling user also under sudo.
func defaultStateDir() string {
	home, err := os.UserHomeDir()
	if name := os.Getenv("SUDO_USER"); name != "" && os.Geteuid() == 0 {
		if u, uerr := user.Lookup(name); uerr == nil {
			home, err = u.HomeDir, nil
		}
	}
	if err != nil {
		return ""
	}
	return filepath.Join(home, ".local", "state", "nacre")
}

// ErrPrinted says that what was asked (-h, -print-config) is done: exit well.
var ErrPrinted = errors.New("printed")

// Load reads a program's configuration: defaults, then the file of -config or
// NACRE_CONFIG, then variables, then flags. Unknown names are errors.
func Load(program string, args []string, getenv func(string) string, out io.Writer) (Config, error) {
	c := Default()
	fs := flag.NewFlagSet(program, flag.ContinueOnError)
	fs.SetOutput(out)
	file := fs.String("config", getenv("NACRE_CONFIG"), "`file` to read, in YAML")
	show := fs.Bool("print-config", false, "write the configuration in force, commented, and end")
	given := map[string]string{}
	for _, f := range fields(&c) {
		fs.Func(f.flag(), fmt.Sprintf("%s (%s; default %q)", f.doc, f.env(), f.text()), func(s string) error {
			given[f.name] = s
			return nil
		})
	}
	switch err := fs.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return c, ErrPrinted
	case err != nil:
		return c, err
	case fs.NArg() > 0:
		return c, fmt.Errorf("%s takes no arguments: %q", program, fs.Arg(0))
	}
	if *file != "" {
		if err := c.read(*file); err != nil {
			return c, err
		}
	}
	for _, f := range fields(&c) {
		for from, text := range map[string]string{f.env(): getenv(f.env())} {
			if text != "" {
				if err := f.set(text); err != nil {
					return c, fmt.Errorf("%s: %w", from, err)
				}
			}
		}
		if text, ok := given[f.name]; ok {
			if err := f.set(text); err != nil {
				return c, fmt.Errorf("-%s: %w", f.flag(), err)
			}
		}
	}
	if *show {
		return c, errors.Join(ErrPrinted, c.Write(out))
	}
	return c, c.check()
}

func (c *Config) read(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // read only
	d := yaml.NewDecoder(f)
	d.KnownFields(true)
	if err := d.Decode(c); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

func (c *Config) check() error {
	switch {
	case c.StateDir == "":
		return errors.New("state_dir is not set, and there is no home directory")
	case len(c.Hosts) == 0:
		return errors.New("hosts is empty: a cloud needs a host")
	case (c.TLSCert == "") != (c.TLSKey == ""):
		return errors.New("tls_cert and tls_key go together")
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.LogLevel)); err != nil {
		return fmt.Errorf("log_level: %w", err)
	}
	if c.LogFormat != "text" && c.LogFormat != "json" {
		return fmt.Errorf("log_format is %q, neither text nor json", c.LogFormat)
	}
	return nil
}

// Shared is the directory of what all copies of a function share.
func (c *Config) Shared() string { return cmp.Or(c.SharedDir, c.StateDir) }

// Write writes the configuration as a file that Load reads, with a comment above
// each setting.
func (c *Config) Write(w io.Writer) error {
	for _, f := range fields(c) {
		value, err := yaml.Marshal(map[string]any{f.name: f.v.Interface()})
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(w, "# %s (%s, -%s)\n%s\n", f.doc, f.env(), f.flag(), value); err != nil {
			return err
		}
	}
	return nil
}

// Logger is a logger as the configuration says.
func (c *Config) Logger(w io.Writer) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(c.LogLevel)) // check has seen it
	o := &slog.HandlerOptions{Level: level}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

// setting is a field of Config.
type setting struct {
	name, doc string
	v         reflect.Value
}

func fields(c *Config) []setting {
	v := reflect.ValueOf(c).Elem()
	out := make([]setting, v.NumField())
	for i := range out {
		f := v.Type().Field(i)
		out[i] = setting{f.Tag.Get("yaml"), f.Tag.Get("doc"), v.Field(i)}
	}
	return out
}

func (s setting) flag() string { return strings.ReplaceAll(s.name, "_", "-") }
func (s setting) env() string  { return "NACRE_" + strings.ToUpper(s.name) }

func (s setting) text() string {
	if s.v.Kind() == reflect.Slice {
		return strings.Join(s.v.Interface().([]string), ",")
	}
	return fmt.Sprint(s.v.Interface())
}

func (s setting) set(text string) error {
	switch s.v.Kind() {
	case reflect.String:
		s.v.SetString(text)
	case reflect.Slice:
		var list []string
		for part := range strings.SplitSeq(text, ",") {
			if part = strings.TrimSpace(part); part != "" {
				list = append(list, part)
			}
		}
		s.v.Set(reflect.ValueOf(list))
	case reflect.Bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return err
		}
		s.v.SetBool(b)
	default:
		return fmt.Errorf("%s can't be set from text", s.name)
	}
	return nil
}
