package setup

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/nacre-cloud/nacre/image"
	"github.com/nacre-cloud/nacre/image/backend/file"
	"github.com/nacre-cloud/nacre/image/importer"
	"github.com/nacre-cloud/nacre/image/keydir"
)

type document struct {
	Stores []Store `yaml:"stores"`
	Store  struct {
		Default string `yaml:"default_backend"`
	} `yaml:"glance_store"`
	Default struct {
		SizeCap        int64    `yaml:"image_size_cap"`
		Properties     *int     `yaml:"image_property_quota"`
		Tags           *int     `yaml:"image_tag_quota"`
		Members        *int     `yaml:"image_member_quota"`
		Locations      *int     `yaml:"image_location_quota"`
		PageSize       int      `yaml:"limit_param_default"`
		MaxPage        int      `yaml:"api_limit_max"`
		StorageQuota   string   `yaml:"user_storage_quota"`
		Limits         *bool    `yaml:"use_keystone_limits"`
		DirectURL      bool     `yaml:"show_image_direct_url"`
		ShowLocations  bool     `yaml:"show_multiple_locations"`
		SecureHash     *bool    `yaml:"do_secure_hash"`
		Methods        []string `yaml:"enabled_import_methods"`
		Protections    string   `yaml:"property_protection_file"`
		ProtectionRule string   `yaml:"property_protection_rule_format"`
		Delayed        bool     `yaml:"delayed_delete"`
		ScrubTime      int      `yaml:"scrub_time"`
		Definitions    string   `yaml:"metadata_source_path"`
		CacheDir       string   `yaml:"image_cache_dir"`
		CacheSize      int64    `yaml:"image_cache_max_size"`
		CacheOnRead    bool     `yaml:"image_cache_on_download"`
		UploadTimeout  int      `yaml:"upload_timeout"`
	} `yaml:"default"`
	Format struct {
		Disk      []string `yaml:"disk_formats"`
		Container []string `yaml:"container_formats"`
		Match     *bool    `yaml:"require_image_format_match"`
	} `yaml:"image_format"`
	Staging struct {
		Dir string `yaml:"filesystem_store_datadir"`
	} `yaml:"os_glance_staging_store"`
	Import struct {
		Plugins []string `yaml:"image_import_plugins"`
	} `yaml:"image_import_opts"`
	Conversion struct {
		Format     string `yaml:"output_format"`
		QemuImg    string `yaml:"qemu_img"`
		Dir        string `yaml:"work_dir"`
		MaxOutput  int64  `yaml:"max_output"`
		MaxVirtual int64  `yaml:"max_virtual_size"`
		MaxMemory  int64  `yaml:"max_memory"`
		CPU        int    `yaml:"cpu_time"`
		Timeout    int    `yaml:"timeout"`
	} `yaml:"image_conversion"`
	Inject struct {
		Properties map[string]string `yaml:"inject"`
		Ignore     []string          `yaml:"ignore_user_roles"`
	} `yaml:"inject_metadata_properties"`
	Filter struct {
		AllowSchemes []string `yaml:"allowed_schemes"`
		DenySchemes  []string `yaml:"disallowed_schemes"`
		AllowHosts   []string `yaml:"allowed_hosts"`
		DenyHosts    []string `yaml:"disallowed_hosts"`
		AllowPorts   []int    `yaml:"allowed_ports"`
		DenyPorts    []int    `yaml:"disallowed_ports"`
		AllowNets    []string `yaml:"allowed_nets"`
	} `yaml:"import_filtering_opts"`
	Download struct {
		Properties []string `yaml:"extra_properties"`
	} `yaml:"glance_download_properties"`
	Task struct {
		Hours   int `yaml:"task_time_to_live"`
		Timeout int `yaml:"import_timeout"`
	} `yaml:"task"`
	Keys struct {
		Backend string `yaml:"backend"`
		Dir     string `yaml:"directory"`
	} `yaml:"key_manager"`
}

// Store is a store as the file describes it. Its driver is made by whoever knows
// the type.
type Store struct {
	Name        string `yaml:"name"`
	Type        string `yaml:"type"`
	Description string `yaml:"store_description"`
	Weight      int    `yaml:"weight"`
	// Rest are the settings of its type.
	Rest map[string]any `yaml:",inline"`

	dir string
}

// Decode fills a struct with yaml tags with the settings of the store's type. Unknown
// names are errors. What ends in _file, _datadir or _cacert is made relative to the
// file that was read.
func (s *Store) Decode(into any) error {
	rest := map[string]any{}
	for name, v := range s.Rest {
		path, is := v.(string)
		if is && path != "" && !filepath.IsAbs(path) && slices.ContainsFunc([]string{"_file", "_datadir", "_cacert"}, func(e string) bool { return strings.HasSuffix(name, e) }) {
			v = filepath.Join(s.dir, path)
		}
		rest[name] = v
	}
	b, err := yaml.Marshal(rest)
	if err != nil {
		return err
	}
	return strict(bytes.NewReader(b), into)
}

func strict(r io.Reader, into any) error {
	d := yaml.NewDecoder(r)
	d.KnownFields(true)
	if err := d.Decode(into); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// Settings are what a file says.
type Settings struct {
	// Stores, the default one first; empty says nothing about them.
	Stores []Store
	// Fetch is what web-download and http stores may reach.
	Fetch importer.FetchConfig
	// Definitions is a directory of metadata definitions to load; empty is none.
	Definitions string

	doc         document
	storage     int64
	protections *image.Protections
	staging     *file.Driver
	cache       *file.Driver
	keys        *keydir.Dir
	converter   *importer.QemuImg
}

// Read reads a file and opens the directories that it names. Settings that image.New
// refuses (an unknown disk format, say) are refused there.
func Read(path string) (*Settings, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	s := &Settings{}
	err = strict(f, &s.doc)
	if err == nil {
		err = s.complete(filepath.Dir(path))
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

func (s *Settings) complete(dir string) error {
	at := func(path string) string {
		if path == "" || filepath.IsAbs(path) {
			return path
		}
		return filepath.Join(dir, path)
	}
	for _, step := range []func(func(string) string) error{s.numbers, s.stores, s.dirs, s.guards, s.plugins} {
		if err := step(at); err != nil {
			return err
		}
	}
	d := &s.doc
	s.Fetch = importer.FetchConfig(d.Filter)
	_, err := importer.NewFetcher(s.Fetch)
	return err
}

// numbers refuses numbers that can't be meant.
func (s *Settings) numbers(func(string) string) error {
	d := &s.doc
	for name, n := range map[string]int64{"image_size_cap": d.Default.SizeCap, "scrub_time": int64(d.Default.ScrubTime), "limit_param_default": int64(d.Default.PageSize), "api_limit_max": int64(d.Default.MaxPage), "image_cache_max_size": d.Default.CacheSize,
		"upload_timeout": int64(d.Default.UploadTimeout), "max_output": d.Conversion.MaxOutput, "max_virtual_size": d.Conversion.MaxVirtual,
		"max_memory": d.Conversion.MaxMemory, "cpu_time": int64(d.Conversion.CPU), "timeout": int64(d.Conversion.Timeout),
		"task_time_to_live": int64(d.Task.Hours), "import_timeout": int64(d.Task.Timeout)} {
		if n < 0 {
			return fmt.Errorf("%s is negative", name)
		}
	}
	for name, n := range map[string]*int{"image_property_quota": d.Default.Properties, "image_tag_quota": d.Default.Tags, "image_member_quota": d.Default.Members, "image_location_quota": d.Default.Locations} {
		if n != nil && *n == 0 {
			return fmt.Errorf("%s is 0; leave it out for glance's own, or -1 is no bound", name)
		}
	}
	var err error
	if s.storage, err = bytesOf(d.Default.StorageQuota); err != nil {
		return fmt.Errorf("user_storage_quota: %w", err)
	}
	return nil
}

// bytesOf reads glance's way of sizes: a number, and B, KB, MB, GB or TB.
func bytesOf(text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	digits, unit := strings.TrimRight(text, "BKMGT"), int64(1)
	switch suffix := text[len(digits):]; suffix {
	case "", "B":
	case "KB", "MB", "GB", "TB":
		unit = 1 << (10 * (1 + strings.Index("KMGT", suffix[:1])))
	default:
		return 0, fmt.Errorf("%q is no size", text)
	}
	n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/unit {
		return 0, fmt.Errorf("%q is no size", text)
	}
	return n * unit, nil
}

func (s *Settings) stores(at func(string) string) error {
	d := &s.doc
	def := 0
	for i := range d.Stores {
		st := &d.Stores[i]
		st.dir = at(".")
		if st.Name == "" || st.Type == "" {
			return fmt.Errorf("stores: the store at %d lacks a name or a type", i+1)
		}
		if st.Name == d.Store.Default {
			def = i
		}
	}
	if want := d.Store.Default; want != "" && (len(d.Stores) == 0 || d.Stores[def].Name != want) {
		return fmt.Errorf("default_backend: there is no store %q", want)
	}
	s.Stores = slices.Clone(d.Stores)
	if def > 0 {
		first := s.Stores[def]
		s.Stores = slices.Insert(slices.Delete(s.Stores, def, def+1), 0, first)
	}
	return nil
}

func (s *Settings) dirs(at func(string) string) error {
	d, err := &s.doc, error(nil)
	if d.Staging.Dir != "" {
		if s.staging, err = file.New(at(d.Staging.Dir), file.Options{}); err != nil {
			return fmt.Errorf("os_glance_staging_store: %w", err)
		}
	}
	if d.Default.CacheDir != "" {
		if s.cache, err = file.New(at(d.Default.CacheDir), file.Options{}); err != nil {
			return fmt.Errorf("image_cache_dir: %w", err)
		}
	}
	if s.Definitions = at(d.Default.Definitions); s.Definitions != "" {
		if info, err := os.Stat(s.Definitions); err != nil || !info.IsDir() {
			return fmt.Errorf("metadata_source_path: %w", cmp.Or(err, fmt.Errorf("%s is no directory", s.Definitions)))
		}
	}
	switch d.Keys.Backend {
	case "":
		if d.Keys.Dir != "" {
			return errors.New("key_manager: directory needs backend: file")
		}
	case "file":
		if s.keys, err = keydir.Open(at(d.Keys.Dir)); err != nil {
			return fmt.Errorf("key_manager: %w", err)
		}
	default:
		return fmt.Errorf("key_manager: backend %q is not file", d.Keys.Backend)
	}
	return nil
}

// guards reads the property protections.
func (s *Settings) guards(at func(string) string) error {
	d := &s.doc.Default
	byPolicy := d.ProtectionRule == "policies"
	if !byPolicy && d.ProtectionRule != "" && d.ProtectionRule != "roles" {
		return fmt.Errorf("property_protection_rule_format is %q, neither roles nor policies", d.ProtectionRule)
	}
	if d.Protections == "" {
		return nil
	}
	b, err := os.ReadFile(at(d.Protections))
	if err != nil {
		return fmt.Errorf("property_protection_file: %w", err)
	}
	s.protections, err = image.ParseProtections(string(b), byPolicy)
	return err
}

const (
	decompression = "image_decompression"
	conversion    = "image_conversion"
	injection     = "inject_image_metadata"
)

func (s *Settings) has(plugin string) bool { return slices.Contains(s.doc.Import.Plugins, plugin) }

func (s *Settings) plugins(at func(string) string) error {
	d := &s.doc
	for _, p := range d.Import.Plugins {
		if !slices.Contains([]string{decompression, conversion, injection, "no_op"}, p) {
			return fmt.Errorf("image_import_plugins: there is no %q", p)
		}
	}
	if !s.has(conversion) {
		return nil
	}
	c := &d.Conversion
	c.Format = cmp.Or(c.Format, "raw")
	for _, program := range []string{cmp.Or(c.QemuImg, "qemu-img"), "prlimit"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("image_conversion: %w", err)
		}
	}
	if dir := at(c.Dir); dir != "" {
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			return fmt.Errorf("image_conversion: work_dir: %w", cmp.Or(err, fmt.Errorf("%s is no directory", dir)))
		}
	}
	s.converter = &importer.QemuImg{Path: c.QemuImg, Dir: at(c.Dir), MaxOutput: c.MaxOutput, MaxVirtual: c.MaxVirtual, MaxMemory: c.MaxMemory,
		CPU: time.Duration(c.CPU) * time.Second, Timeout: time.Duration(c.Timeout) * time.Second}
	return nil
}

// Apply changes image's configuration; what the file does not name is left as it
// is. Stores and Fetch are not looked at: they take drivers.
func (s *Settings) Apply(c *image.Config) {
	d := &s.doc.Default
	c.MaxSize = cmp.Or(d.SizeCap, c.MaxSize)
	for _, q := range []struct {
		from *int
		to   *int
	}{{d.Properties, &c.MaxProperties}, {d.Tags, &c.MaxTags}, {d.Members, &c.MaxMembers}, {d.Locations, &c.MaxLocations}} {
		if q.from != nil {
			if *q.to = *q.from; *q.to < 0 {
				*q.to = math.MaxInt32
			}
		}
	}
	c.PageSize, c.MaxPage = cmp.Or(d.PageSize, c.PageSize), cmp.Or(d.MaxPage, c.MaxPage)
	c.StorageQuota = cmp.Or(s.storage, c.StorageQuota)
	if d.Limits != nil && !*d.Limits {
		c.Limits = nil
	}
	c.ShowDirectURL, c.ShowLocations = c.ShowDirectURL || d.DirectURL, c.ShowLocations || d.ShowLocations
	c.NoSecureHash = c.NoSecureHash || d.SecureHash != nil && !*d.SecureHash
	if s.protections != nil {
		c.Protections = s.protections
	}
	if d.Delayed {
		c.ScrubAfter = time.Duration(d.ScrubTime) * time.Second
	}
	if s.staging != nil {
		c.Staging = s.staging
	}
	if s.cache != nil {
		c.Cache.Driver = s.cache
	}
	c.Cache.MaxSize, c.Cache.OnDownload = cmp.Or(d.CacheSize, c.Cache.MaxSize), c.Cache.OnDownload || d.CacheOnRead
	c.UploadTimeout = cmp.Or(time.Duration(d.UploadTimeout)*time.Second, c.UploadTimeout)
	f := &s.doc.Format
	if f.Disk != nil {
		c.DiskFormats = f.Disk
	}
	if f.Container != nil {
		c.ContainerFormats = f.Container
	}
	c.AnyFormat = c.AnyFormat || f.Match != nil && !*f.Match
	if s.keys != nil {
		c.Keys = s.keys
	}
	s.applyImports(c)
}

func (s *Settings) applyImports(c *image.Config) {
	d := &s.doc
	if d.Default.Methods != nil {
		c.Import.Methods = d.Default.Methods
	}
	c.Import.Decompress = c.Import.Decompress || s.has(decompression)
	if s.has(conversion) {
		c.Import.ConvertTo, c.Converter = d.Conversion.Format, s.converter
	}
	if s.has(injection) {
		c.Import.Inject, c.Import.InjectIgnoreRoles = d.Inject.Properties, d.Inject.Ignore
		if d.Inject.Ignore == nil {
			c.Import.InjectIgnoreRoles = []string{"admin"}
		}
	}
	if d.Download.Properties != nil {
		c.Import.RemoteProperties = d.Download.Properties
	}
	c.TaskTTL = cmp.Or(time.Duration(d.Task.Hours)*time.Hour, c.TaskTTL)
	c.Import.Timeout = cmp.Or(time.Duration(d.Task.Timeout)*time.Second, c.Import.Timeout)
}
