//go:build realtest

package authn_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/authn"
)

// serve runs Debian's real Keystone on a port of its own.
const serve = `
import sys
from socketserver import ThreadingMixIn
from wsgiref.simple_server import make_server, WSGIServer, WSGIRequestHandler
sys.argv[1:], port = ["--config-file", sys.argv[1]], int(sys.argv[2])
from keystone.server.wsgi import initialize_public_application
class Server(ThreadingMixIn, WSGIServer): daemon_threads = True
class Quiet(WSGIRequestHandler):
    def log_message(self, *args): pass
make_server("127.0.0.1", port, initialize_public_application(), Server, Quiet).serve_forever()
`

// realKeystone starts one and returns its URL.
func realKeystone(t *testing.T) string {
	dir := t.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	port := l.Addr().(*net.TCPAddr).Port
	require.NoError(t, l.Close())
	url := fmt.Sprintf("http://127.0.0.1:%d", port)
	conf := filepath.Join(dir, "keystone.conf")
	require.NoError(t, os.WriteFile(conf, fmt.Appendf(nil, `[DEFAULT]
log_dir = %[1]s
[database]
connection = sqlite:///%[1]s/keystone.sqlite
[fernet_tokens]
key_repository = %[1]s/fernet
[fernet_receipts]
key_repository = %[1]s/fernet
[credential]
key_repository = %[1]s/credential
[identity]
password_hash_rounds = 4
`, dir), 0o600))
	manage := func(args ...string) {
		cmd := exec.Command("/usr/bin/python3", append([]string{"-c", "import sys; from keystone.cmd.manage import main; sys.argv[0] = 'keystone-manage'; main()", "--config-file", conf}, args...)...)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, string(out))
	}
	manage("db_sync")
	manage("fernet_setup", "--keystone-user", "root", "--keystone-group", "root")
	manage("credential_setup", "--keystone-user", "root", "--keystone-group", "root")
	manage("bootstrap", "--bootstrap-password", "secret", "--bootstrap-public-url", url+"/v3", "--bootstrap-region-id", "RegionOne")
	// A request's connection that is not collected yet would keep a later one from
	// writing: with a write-ahead log readers keep nobody.
	out, err := exec.Command("/usr/bin/python3", "-c", "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('PRAGMA journal_mode=WAL')", filepath.Join(dir, "keystone.sqlite")).CombinedOutput()
	require.NoError(t, err, string(out))
	var log bytes.Buffer
	cmd := exec.Command("/usr/bin/python3", "-W", "ignore", "-c", serve, conf, fmt.Sprint(port))
	cmd.Stderr = &log
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("keystone: %s", log.Bytes()[max(0, log.Len()-4000):])
		}
	})
	require.Eventually(t, func() bool {
		resp, err := http.Get(url + "/v3")
		if err == nil {
			err = resp.Body.Close()
		}
		return err == nil
	}, 60*time.Second, 100*time.Millisecond, "keystone: %s", &log)
	return url
}

// ask sends JSON to the Keystone.
func ask(t *testing.T, method, url, token, body string) (http.Header, map[string]any) {
	req, err := http.NewRequest(method, url, bytes.NewBufferString(body))
	require.NoError(t, err)
	req.Header.Set("X-Auth-Token", token)
	req.Header.Set("X-Subject-Token", token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close() //nolint:errcheck // read
	raw, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Less(t, resp.StatusCode, 300, string(raw))
	var m map[string]any
	if len(raw) > 0 {
		require.NoError(t, json.Unmarshal(raw, &m))
	}
	return resp.Header, m
}

// TestRealKeystone protects a handler with tokens of Debian's real Keystone.
func TestRealKeystone(t *testing.T) {
	url := realKeystone(t)
	login := func(user, password, project string) string {
		h, _ := ask(t, "POST", url+"/v3/auth/tokens", "", `{"auth":{"identity":{"methods":["password"],"password":{"user":{"name":"`+user+`","domain":{"id":"default"},"password":"`+password+`"}}},
			"scope":{"project":{"name":"`+project+`","domain":{"id":"default"}}}}}`)
		return h.Get("X-Subject-Token")
	}
	admin := login("admin", "secret", "admin")
	_, m := ask(t, "POST", url+"/v3/projects", admin, `{"project":{"name":"p","domain_id":"default"}}`)
	project := m["project"].(map[string]any)["id"].(string)
	_, m = ask(t, "POST", url+"/v3/users", admin, `{"user":{"name":"u","domain_id":"default","password":"pw"}}`)
	user := m["user"].(map[string]any)["id"].(string)
	_, m = ask(t, "GET", url+"/v3/roles?name=member", admin, "")
	role := m["roles"].([]any)[0].(map[string]any)["id"].(string)
	ask(t, "PUT", url+"/v3/projects/"+project+"/users/"+user+"/roles/"+role, admin, "")

	remote, err := authn.NewRemote(authn.RemoteConfig{URL: url + "/v3", Username: "admin", Password: "secret", Project: "admin"})
	require.NoError(t, err)
	var got *nacre.Caller
	h := authn.Middleware(remote, authn.Options{AuthURI: url + "/v3"})(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = nacre.CallerFrom(r.Context()) }))
	path := "/"
	status := func(token string) int {
		r := httptest.NewRequest("GET", "http://service"+path, http.NoBody)
		r.Header.Set("X-Auth-Token", token)
		r.Header.Set("X-Roles", "admin")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code
	}
	token := login("u", "pw", "p")
	require.Equal(t, 200, status(token))
	require.Equal(t, user, got.UserID)
	require.Equal(t, project, got.ProjectID)
	require.ElementsMatch(t, []string{"member", "reader"}, got.Roles)
	require.Equal(t, 401, status("nonsense"))
	require.Equal(t, 401, status(""))

	_, m = ask(t, "POST", url+"/v3/users/"+user+"/application_credentials", token, `{"application_credential":{"name":"robot","access_rules":[{"service":"compute","method":"GET","path":"/v2.1/servers"}]}}`)
	app := m["application_credential"].(map[string]any)
	header, _ := ask(t, "POST", url+"/v3/auth/tokens", "", fmt.Sprintf(`{"auth":{"identity":{"methods":["application_credential"],"application_credential":{"id":"%s","secret":"%s"}}}}`, app["id"], app["secret"]))
	robot := header.Get("X-Subject-Token")
	require.Equal(t, 401, status(robot), "a service without a type")
	h = authn.Middleware(remote, authn.Options{AuthURI: url + "/v3", ServiceType: "compute"})(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	require.Equal(t, 401, status(robot), "not what the rule allows")
	path = "/v2.1/servers"
	require.Equal(t, 200, status(robot))

	ask(t, "DELETE", url+"/v3/auth/tokens", token, "")
	require.Equal(t, 401, status(token))
}
