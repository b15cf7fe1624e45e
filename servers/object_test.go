package servers_test

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/objectstore"
	nacreservers "github.com/nacre-cloud/nacre/servers"
	"github.com/nacre-cloud/nacre/servers/parts"
)

// A cloud whose state directory has a keymaster.conf encrypts objects; the audit of
// the stopped cloud reads them, and without the secret it says of which it can't.
func TestObjectsAreEncryptedByKeymasterConf(t *testing.T) {
	c := config(t)
	require.NoError(t, os.MkdirAll(c.StateDir, 0o700))
	secret := make([]byte, 32)
	_, _ = rand.Read(secret)
	conf := filepath.Join(c.StateDir, "keymaster.conf")
	require.NoError(t, os.WriteFile(conf, []byte("[keymaster]\nencryption_root_secret = "+base64.StdEncoding.EncodeToString(secret)+"\n"), 0o600))
	cloud := open(t, c)
	ctx := nacre.AsService(t.Context(), "test")
	r := objectstore.Ref{Account: "AUTH_p", Container: "c", Object: "o"}
	_, err := cloud.Objects.PutContainer(ctx, r, objectstore.ContainerChange{})
	require.NoError(t, err)
	_, err = cloud.Objects.Put(ctx, objectstore.NewObject{Ref: r, Body: strings.NewReader("the plain text"), Size: -1})
	require.NoError(t, err)
	_, body, err := cloud.Objects.Read(ctx, r, objectstore.GetOptions{})
	require.NoError(t, err)
	got, err := io.ReadAll(body)
	require.NoError(t, err)
	require.NoError(t, body.Close())
	require.Equal(t, "the plain text", string(got))
	require.NoError(t, cloud.Close())

	segments, err := filepath.Glob(filepath.Join(c.StateDir, "objects", "segments", "*"))
	require.NoError(t, err)
	require.NotEmpty(t, segments)
	for _, s := range segments {
		b, err := os.ReadFile(s)
		require.NoError(t, err)
		require.False(t, bytes.Contains(b, []byte("plain text")))
	}
	found, err := nacreservers.AuditLocal(t.Context(), c, parts.All)
	require.NoError(t, err)
	require.Empty(t, found)
	require.NoError(t, os.Remove(conf))
	found, err = nacreservers.AuditLocal(t.Context(), c, parts.All)
	require.NoError(t, err)
	require.Equal(t, []nacre.Finding{{Area: "objectstore", Kind: "object", ID: "AUTH_p/c/o", Problem: "it can't be decrypted"}}, found)

	c.ObjectSecrets = conf
	_, err = nacreservers.AuditLocal(t.Context(), c, parts.All)
	require.ErrorIs(t, err, os.ErrNotExist)
	c.ObjectSecrets, c.ObjectReap = "", "soon"
	_, err = nacreservers.AuditLocal(t.Context(), c, parts.All)
	require.ErrorContains(t, err, "object_reap_delay")
}

// Copies that keep objects in files exclude each other, for as long as one runs; the
// audit looks on.
func TestObjectsInFilesHaveOneWriter(t *testing.T) {
	c, other := config(t), config(t)
	c.SharedDir = filepath.Join(t.TempDir(), "shared")
	other.SharedDir = c.SharedDir
	cloud := open(t, c)
	_, err := nacreservers.OpenLocal(t.Context(), other, parts.All, slog.New(slog.DiscardHandler))
	require.ErrorContains(t, err, "objects in files are one process's")
	require.ErrorContains(t, err, "in use by another process")
	found, err := nacreservers.AuditLocal(t.Context(), c, parts.All)
	require.NoError(t, err)
	require.Empty(t, found)
	require.NoError(t, cloud.Close())
	require.NoError(t, open(t, other).Close())
}

// All copies read one keymaster.conf, or none: one that some of them don't see is refused.
func TestKeymasterConfIsShared(t *testing.T) {
	c := config(t)
	c.SharedDir = filepath.Join(t.TempDir(), "shared")
	secret := func(dir string) string {
		require.NoError(t, os.MkdirAll(dir, 0o700))
		conf := filepath.Join(dir, "keymaster.conf")
		require.NoError(t, os.WriteFile(conf, []byte("[keymaster]\nencryption_root_secret = "+base64.StdEncoding.EncodeToString(make([]byte, 32))+"\n"), 0o600))
		return conf
	}
	own := secret(c.StateDir)
	_, err := nacreservers.OpenLocal(t.Context(), c, parts.All, slog.New(slog.DiscardHandler))
	require.ErrorContains(t, err, own)
	require.ErrorContains(t, err, "shared_dir")
	require.NoError(t, os.Remove(own))

	secret(c.SharedDir)
	cloud := open(t, c)
	ctx := nacre.AsService(t.Context(), "test")
	r := objectstore.Ref{Account: "AUTH_p", Container: "c", Object: "o"}
	_, err = cloud.Objects.PutContainer(ctx, r, objectstore.ContainerChange{})
	require.NoError(t, err)
	_, err = cloud.Objects.Put(ctx, objectstore.NewObject{Ref: r, Body: strings.NewReader("the plain text"), Size: -1})
	require.NoError(t, err)
	require.NoError(t, cloud.Close())
	segments, err := filepath.Glob(filepath.Join(c.SharedDir, "objects", "segments", "*"))
	require.NoError(t, err)
	require.NotEmpty(t, segments)
	for _, s := range segments {
		b, err := os.ReadFile(s)
		require.NoError(t, err)
		require.NotContains(t, string(b), "plain text")
	}
}

// What the settings say of the object store's API is in force, and told by /info.
func TestObjectAPISettings(t *testing.T) {
	c := config(t)
	c.ObjectWrites = "many"
	_, err := nacreservers.OpenLocal(t.Context(), c, parts.All, slog.New(slog.DiscardHandler))
	require.ErrorContains(t, err, "object_write_rate")
	c.ObjectWrites, c.ObjectCNAME, c.ObjectOrigins = "25", true, []string{"http://a.test"}
	cloud := open(t, c)
	defer func() { require.NoError(t, cloud.Close()) }()
	h := cloud.ObjectHandler()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/info", nil))
	require.Contains(t, w.Body.String(), `"account_ratelimit":25`)
	require.Contains(t, w.Body.String(), `"cname_lookup"`)
	r := httptest.NewRequest(http.MethodOptions, "/v1/AUTH_p/c", nil)
	r.Header.Set("Origin", "http://a.test")
	r.Header.Set("Access-Control-Request-Method", "GET")
	w = httptest.NewRecorder()
	h.ServeHTTP(w, r)
	require.Equal(t, "http://a.test", w.Header().Get("Access-Control-Allow-Origin"))
}
