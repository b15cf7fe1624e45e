package kit_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.yaml.in/yaml/v3"

	"github.com/nacre-cloud/nacre/servers/kit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func env(m map[string]string) func(string) string { return func(k string) string { return m[k] } }

func TestLoad(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c.yaml")
	require.NoError(t, os.WriteFile(file, []byte("listen: 127.0.0.1:1\nregion: FromFile\nhosts: [a, b]\nimages: fromfile\n"), 0o600))
	c, err := kit.Load("x", []string{"-config", file, "-images", "fromflag", "-hosts", "c, d"}, env(map[string]string{"NACRE_REGION": "FromEnv", "NACRE_IMAGES": "fromenv"}), io.Discard)
	require.NoError(t, err)
	require.Equal(t, "127.0.0.1:1", c.Listen, "the file is over the default")
	require.Equal(t, "FromEnv", c.Region, "a variable is over the file")
	require.Equal(t, "fromflag", c.Images, "a flag is over a variable")
	require.Equal(t, []string{"c", "d"}, c.Hosts)
	require.Equal(t, "fake", c.Hypervisor)

	for what, args := range map[string][]string{
		"takes no arguments":    {"word"},
		"flag provided but not": {"-nothing", "x"},
		"log_format is":         {"-log-format", "xml"},
		"log_level":             {"-log-level", "loud"},
		"go together":           {"-tls-cert", "x"},
		"no such file":          {"-config", file + ".gone"},
		"hosts is empty":        {"-hosts", ","},
		"state_dir is not set":  {"-state-dir", ""},
	} {
		_, err := kit.Load("x", args, env(nil), io.Discard)
		require.ErrorContains(t, err, what)
	}
	require.NoError(t, os.WriteFile(file, []byte("lissen: x\n"), 0o600))
	_, err = kit.Load("x", nil, env(map[string]string{"NACRE_CONFIG": file}), io.Discard)
	require.ErrorContains(t, err, "lissen")
	var help bytes.Buffer
	_, err = kit.Load("x", []string{"-h"}, env(nil), &help)
	require.ErrorIs(t, err, kit.ErrPrinted)
	require.Contains(t, help.String(), "NACRE_STATE_DIR")
}

// TestPrintConfig shows that what is written is read again as the same.
func TestPrintConfig(t *testing.T) {
	var out bytes.Buffer
	want, err := kit.Load("x", []string{"-print-config", "-hosts", "a,b", "-state-dir", "/somewhere"}, env(nil), &out)
	require.ErrorIs(t, err, kit.ErrPrinted)
	file := filepath.Join(t.TempDir(), "c.yaml")
	require.NoError(t, os.WriteFile(file, out.Bytes(), 0o600))
	got, err := kit.Load("x", []string{"-config", file}, env(nil), io.Discard)
	require.NoError(t, err)
	require.Equal(t, want.Hosts, got.Hosts)
	require.Equal(t, want.StateDir, got.StateDir)
	require.Contains(t, out.String(), "# address and port to listen on")
}

func TestState(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	s, err := kit.OpenState(dir)
	require.NoError(t, err)
	info, err := os.Stat(dir)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), info.Mode().Perm())
	_, err = kit.OpenState(dir)
	require.ErrorContains(t, err, "in use by another process")

	one, err := s.Secrets("x")
	require.NoError(t, err)
	require.Len(t, one["x"], 26, "128 bits in base 32")
	two, err := s.Secrets("x", "y")
	require.NoError(t, err)
	require.Equal(t, one["x"], two["x"])
	require.NotEqual(t, two["x"], two["y"])
	name, err := s.Instance()
	require.NoError(t, err)
	two, err = s.Secrets("x", "y")
	require.NoError(t, err)
	require.NoError(t, s.Close())
	copied := t.TempDir()
	require.NoError(t, os.CopyFS(copied, os.DirFS(dir)))
	c, err := kit.OpenState(copied)
	require.NoError(t, err)
	other, err := c.Instance()
	require.NoError(t, err)
	require.NotEqual(t, name, other, "two processes of one name")
	require.NoError(t, c.Close())
	s, err = kit.OpenState(dir)
	require.NoError(t, err)
	again, err := s.Instance()
	require.NoError(t, err)
	require.Equal(t, name, again)
	three, err := s.Secrets("x", "y")
	require.NoError(t, err)
	require.Equal(t, two, three)
	require.NoError(t, os.WriteFile(s.Path("secrets.json"), []byte("{"), 0o600))
	_, err = s.Secrets("x")
	require.Error(t, err, "a damaged file is no reason for new secrets")

	require.NoError(t, kit.WriteClouds(s.Path("clouds.yaml"), kit.Credentials{Name: "n", AuthURL: "http://u", Username: "u", Password: "p: #", Project: "q", Region: "r"}))
	info, err = os.Stat(s.Path("clouds.yaml"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	var doc struct {
		Clouds map[string]struct{ Auth map[string]string }
	}
	data, err := os.ReadFile(s.Path("clouds.yaml"))
	require.NoError(t, err)
	require.NoError(t, yaml.Unmarshal(data, &doc))
	require.Equal(t, "p: #", doc.Clouds["n"].Auth["password"])
	require.NoError(t, s.Close())
}

// TestServe shows that a request that runs when the server is told to stop is
// answered.
func TestServe(t *testing.T) {
	c := kit.Default()
	c.Listen = "127.0.0.1:0"
	l, err := kit.Listen(&c)
	require.NoError(t, err)
	require.Regexp(t, `^http://127\.0\.0\.1:[1-9]\d*$`, c.URL)
	m := kit.NewMetrics()
	ctx, stop := context.WithCancel(t.Context())
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		stop()
		<-ctx.Done()
		m.Observer("test")(r.Method, "GET /thing/{id}", 200, time.Millisecond)
		_, _ = w.Write([]byte("done"))
	})
	served := make(chan error, 1)
	go func() { served <- kit.Serve(ctx, l, h, c, slog.New(slog.DiscardHandler)) }()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(c.URL + "/thing/7")
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, "done", string(body))
	require.NoError(t, <-served)
	_, err = client.Get(c.URL) //nolint:bodyclose // there is none
	require.Error(t, err)
}

// The files that deploy shows are configurations: each of their settings is one.
func TestDeployedConfigurations(t *testing.T) {
	controller, err := kit.Load("compute", []string{"-config", "../../deploy/controller.yaml"}, env(nil), io.Discard)
	require.NoError(t, err)
	require.Equal(t, "/var/lib/nacre/shared", controller.SharedDir)
	compute, err := kit.Load("node", []string{"-config", "../../deploy/compute.yaml"}, env(nil), io.Discard)
	require.NoError(t, err)
	require.Equal(t, "10.0.0.31:6083", compute.MigrationListen)
}
