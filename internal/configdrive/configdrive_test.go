package configdrive_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/internal/configdrive"
)

func TestRoundTrip(t *testing.T) {
	dir := t.TempDir()
	dst := filepath.Join(dir, "disk.config")
	want := map[string][]byte{
		"openstack/latest/meta_data.json":          []byte(`{"uuid": "x"}`),
		"openstack/latest/user_data":               bytes.Repeat([]byte("#!/bin/sh\n"), 6000),
		"openstack/latest/network_data.json":       []byte("{}"),
		"openstack/latest/vendor_data.json":        []byte("{}"),
		"openstack/latest/vendor_data2.json":       []byte("{}"),
		"openstack/2012-08-10/meta_data.json":      []byte("{}"),
		"openstack/content/0000":                   {},
		"ec2/2009-04-04/meta-data.json":            []byte("{}"),
		"ec2/latest/" + strings.Repeat("long-", 9): []byte("1"),
	}
	for range 2 { // the second replaces the first
		require.NoError(t, configdrive.Write(dst, want))
		got, err := configdrive.Read(dst)
		require.NoError(t, err)
		require.Len(t, got, len(want))
		for name, data := range want {
			require.Equal(t, string(data), string(got[name]), name)
		}
	}
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 1, "nothing is left beside the image")
	info, err := os.Stat(dst)
	require.NoError(t, err)
	require.Zero(t, info.Size()%2048)
	require.Equal(t, os.FileMode(0o600), info.Mode())
	raw, err := os.ReadFile(dst)
	require.NoError(t, err)
	require.Equal(t, "config-2"+strings.Repeat(" ", 24), string(raw[0x8028:0x8048]), "the primary volume's label")
	require.Equal(t, "\x00c\x00o\x00n\x00f\x00i\x00g\x00-\x002\x00 ", string(raw[0x8828:0x883a]), "Joliet's label")
}

func TestRefusesPaths(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"../x", "/etc/passwd", "a//b", ".", "", `a\b`} {
		require.Error(t, configdrive.Write(filepath.Join(dir, "d"), map[string][]byte{name: nil}), name)
	}
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, entries)
}
