package importer_test

import (
	"bytes"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/image/importer"
)

// Convert can't be tested in full without qemu-img (see the realtest); what does
// not reach it is here.
func TestConvertRefuses(t *testing.T) {
	dir := t.TempDir()
	q := &importer.QemuImg{Dir: dir}
	for _, f := range [][2]string{{"iso", "raw"}, {"raw", "json:{}"}, {"", "raw"}, {"host_device", "raw"}} {
		_, err := q.Convert(t.Context(), bytes.NewReader(nil), f[0], f[1])
		require.ErrorIs(t, err, nacre.Invalid, f)
	}
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left)
}

// A program that hangs, and one that is not there, leave nothing.
func TestConvertFails(t *testing.T) {
	dir := t.TempDir()
	script := dir + "/slow"
	require.NoError(t, os.WriteFile(script, []byte("#!/bin/sh\nexec sleep 60\n"), 0o700)) //nolint:gosec // it is run
	work := t.TempDir()
	q := &importer.QemuImg{Path: script, Dir: work, Timeout: 50 * time.Millisecond}
	began := time.Now()
	_, err := q.Convert(t.Context(), bytes.NewReader(make([]byte, 512)), "raw", "qcow2")
	require.ErrorIs(t, err, nacre.UnsupportedMedia)
	require.Less(t, time.Since(began), 30*time.Second)
	q = &importer.QemuImg{Path: dir + "/none", Dir: work}
	_, err = q.Convert(t.Context(), bytes.NewReader(make([]byte, 512)), "raw", "qcow2")
	require.Error(t, err)
	left, err := os.ReadDir(work)
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestFetcher(t *testing.T) {
	f, err := importer.NewFetcher(importer.FetchConfig{})
	require.NoError(t, err)
	require.NoError(t, f.Check(t.Context(), "https://example.org/x.img"))
	require.ErrorIs(t, f.Check(t.Context(), "file:///etc/passwd"), nacre.Invalid)
	_, _, err = f.Fetch(t.Context(), "http://127.0.0.1/")
	require.ErrorIs(t, err, nacre.Invalid)
	_, err = importer.NewFetcher(importer.FetchConfig{AllowNets: []string{"here"}})
	require.Error(t, err)
}
