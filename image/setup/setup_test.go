package setup_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/image"
	"github.com/nacre-cloud/nacre/image/backend/mem"
	"github.com/nacre-cloud/nacre/image/importer"
	"github.com/nacre-cloud/nacre/image/setup"
	"github.com/nacre-cloud/nacre/store/memstore"
)

func read(t *testing.T, text string) (*setup.Settings, error) {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "image.yaml"), []byte(text), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "protections"), []byte("[.*]\ncreate = @\nread = @\nupdate = @\ndelete = boss\n"), 0o600))
	for _, d := range []string{"defs", "certs"} {
		require.NoError(t, os.Mkdir(filepath.Join(dir, d), 0o700))
	}
	return setup.Read(filepath.Join(dir, "image.yaml"))
}

// programs puts something that can be run by these names first in the path.
func programs(t *testing.T, names ...string) {
	dir := t.TempDir()
	for _, n := range names {
		require.NoError(t, os.WriteFile(filepath.Join(dir, n), []byte("#!/bin/sh\n"), 0o700))
	}
	t.Setenv("PATH", dir)
}

const full = `
stores:
  - {name: cold, type: s3, s3_store_host: "https://s3.test", s3_store_secret_key_file: key, weight: 3}
  - {name: fast, type: file, store_description: on flash, filesystem_store_datadir: /srv/x}
glance_store: {default_backend: fast}
default:
  image_size_cap: 1000
  image_property_quota: 5
  image_tag_quota: -1
  image_member_quota: 7
  image_location_quota: 2
  limit_param_default: 3
  api_limit_max: 4
  user_storage_quota: 3GB
  use_keystone_limits: false
  show_image_direct_url: true
  show_multiple_locations: true
  do_secure_hash: false
  enabled_import_methods: [web-download]
  property_protection_file: protections
  delayed_delete: true
  scrub_time: 60
  metadata_source_path: defs
  image_cache_dir: cache
  image_cache_max_size: 4096
  image_cache_on_download: true
  upload_timeout: 9
image_format: {disk_formats: [raw], container_formats: [bare, ova], require_image_format_match: false}
os_glance_staging_store: {filesystem_store_datadir: staging}
image_import_opts: {image_import_plugins: [image_decompression, image_conversion, inject_image_metadata]}
image_conversion: {output_format: qcow2, max_output: 11, max_virtual_size: 12, max_memory: 13, cpu_time: 14, timeout: 15}
inject_metadata_properties: {inject: {a: b}, ignore_user_roles: [boss]}
import_filtering_opts: {allowed_ports: [8080], disallowed_hosts: [bad.test], allowed_nets: [10.0.0.0/8]}
glance_download_properties: {extra_properties: [hw_]}
task: {task_time_to_live: 3, import_timeout: 600}
key_manager: {backend: file, directory: certs}
`

func TestRead(t *testing.T) {
	programs(t, "qemu-img", "prlimit")
	limits := image.FixedLimits{"x": 1}
	s, err := read(t, "")
	require.NoError(t, err)
	c := image.Config{Limits: limits, AnyFormat: true}
	s.Apply(&c)
	require.Equal(t, image.Config{Limits: limits, AnyFormat: true}, c, "an empty file changes nothing")
	require.Empty(t, s.Stores)
	require.Equal(t, importer.FetchConfig{}, s.Fetch)

	s, err = read(t, full)
	require.NoError(t, err)
	require.Equal(t, "fast", s.Stores[0].Name, "the default one is first")
	require.Equal(t, "on flash", s.Stores[0].Description)
	require.Equal(t, 3, s.Stores[1].Weight)
	require.Equal(t, importer.FetchConfig{AllowPorts: []int{8080}, DenyHosts: []string{"bad.test"}, AllowNets: []string{"10.0.0.0/8"}}, s.Fetch)
	require.DirExists(t, s.Definitions)
	var s3 struct {
		Host string `yaml:"s3_store_host"`
		Key  string `yaml:"s3_store_secret_key_file"`
	}
	require.NoError(t, s.Stores[1].Decode(&s3))
	require.Equal(t, "https://s3.test", s3.Host)
	require.Equal(t, filepath.Join(filepath.Dir(s.Definitions), "key"), s3.Key, "relative to the file")
	require.ErrorContains(t, s.Stores[0].Decode(&s3), "filesystem_store_datadir", "an unknown name")

	c = image.Config{Limits: limits, Engine: memstore.New(memstore.Options{}), Backend: &mem.Driver{}}
	s.Apply(&c)
	require.Nil(t, c.Limits)
	require.NotNil(t, c.Protections)
	require.NotNil(t, c.Keys)
	require.Equal(t, []any{int64(1000), 3, 4, 5, 7, 2, int64(3 << 30)}, []any{c.MaxSize, c.PageSize, c.MaxPage, c.MaxProperties, c.MaxMembers, c.MaxLocations, c.StorageQuota})
	require.Greater(t, c.MaxTags, 1<<30)
	require.True(t, c.ShowDirectURL && c.ShowLocations && c.NoSecureHash && c.AnyFormat && c.Cache.OnDownload)
	require.EqualValues(t, 4096, c.Cache.MaxSize)
	require.Equal(t, []time.Duration{time.Minute, 9 * time.Second, 3 * time.Hour, 10 * time.Minute}, []time.Duration{c.ScrubAfter, c.UploadTimeout, c.TaskTTL, c.Import.Timeout})
	require.Equal(t, []string{"raw"}, c.DiskFormats)
	require.Equal(t, []string{"bare", "ova"}, c.ContainerFormats)
	require.Equal(t, image.ImportOptions{Methods: []string{"web-download"}, Decompress: true, ConvertTo: "qcow2", Inject: map[string]string{"a": "b"}, InjectIgnoreRoles: []string{"boss"},
		RemoteProperties: []string{"hw_"}, Timeout: 10 * time.Minute}, c.Import)
	require.Equal(t, &importer.QemuImg{MaxOutput: 11, MaxVirtual: 12, MaxMemory: 13, CPU: 14 * time.Second, Timeout: 15 * time.Second}, c.Converter)
	for name, d := range map[string]any{"staging": c.Staging, "cache": c.Cache.Driver} {
		require.Contains(t, d.(interface{ Properties() map[string]any }).Properties()["data_dir"], name)
	}
	_, err = image.New(c)
	require.NoError(t, err)
}

func TestMistakes(t *testing.T) {
	programs(t)
	for text, want := range map[string]string{
		"defaults: {}":                                                          "defaults",
		"default: {image_size_cap: -1}":                                         "image_size_cap is negative",
		"default: {image_tag_quota: 0}":                                         "image_tag_quota is 0",
		"default: {user_storage_quota: 3XB}":                                    `"3XB" is no size`,
		"default: {user_storage_quota: 9999999TB}":                              "is no size",
		"default: {metadata_source_path: gone}":                                 "metadata_source_path",
		"default: {property_protection_file: gone}":                             "property_protection_file",
		"default: {property_protection_rule_format: x}":                         "property_protection_rule_format",
		"default: {image_cache_dir: image.yaml}":                                "image_cache_dir",
		"os_glance_staging_store: {filesystem_store_datadir: image.yaml}":       "os_glance_staging_store",
		"stores: [{name: a}]":                                                   "lacks a name or a type",
		"glance_store: {default_backend: a}":                                    `there is no store "a"`,
		"{stores: [{name: b, type: file}], glance_store: {default_backend: a}}": `there is no store "a"`,
		"image_import_opts: {image_import_plugins: [magic]}":                    `there is no "magic"`,
		"image_import_opts: {image_import_plugins: [image_conversion]}":         "qemu-img",
		"import_filtering_opts: {allowed_nets: [x]}":                            "x",
		"key_manager: {backend: barbican}":                                      "barbican",
		"key_manager: {backend: file, directory: gone}":                         "key_manager",
		"key_manager: {directory: certs}":                                       "needs backend: file",
	} {
		_, err := read(t, text)
		require.ErrorContains(t, err, want, text)
	}
	_, err := setup.Read(filepath.Join(t.TempDir(), "gone"))
	require.ErrorIs(t, err, os.ErrNotExist)

	// What image itself refuses.
	for _, text := range []string{"image_format: {disk_formats: [floppy]}", "image_format: {container_formats: [box]}", "default: {enabled_import_methods: [teleport]}"} {
		s, err := read(t, text)
		require.NoError(t, err)
		c := image.Config{Engine: memstore.New(memstore.Options{}), Backend: &mem.Driver{}}
		s.Apply(&c)
		_, err = image.New(c)
		require.Error(t, err, text)
	}
}
