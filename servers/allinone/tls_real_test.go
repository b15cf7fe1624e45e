//go:build realtest

package main

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	computeapi "github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/nacre-cloud/nacre/internal/realserver"
	"github.com/nacre-cloud/nacre/servers"
)

// TestTLS has TLS on all that crosses a network: the API, the database, the bus, and a
// host's way to the control plane. A server boots; who does not trust the certificate
// speaks to nobody.
func TestTLS(t *testing.T) {
	rabbit, pg := realserver.RabbitMQ(t), realserver.Postgres(t)
	cert, key := realserver.Certificate(t)
	s := &spread{process: newProcess(t), db: pg, broker: rabbit, address: "amqps://" + strings.SplitN(rabbit.TLSURL(), "@", 2)[1], tell: rabbit.Tell}
	s.cfg.Engine, s.cfg.EngineURL, s.cfg.Bus, s.cfg.BusURL = "postgres", pg.TLS(pg.Areas(t, servers.Areas()...)), "amqp", rabbit.TLSURL()
	s.trust, s.key = cert, key
	s.run(t, "compute-1")

	clouds, err := os.ReadFile(filepath.Join(s.state, "clouds.yaml"))
	require.NoError(t, err)
	require.Contains(t, string(clouds), "cacert: "+cert)
	require.Contains(t, string(clouds), "https://")
	text, err := os.ReadFile(cert)
	require.NoError(t, err)
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(text))
	auth := s.auth("nacre")
	auth.AllowReauth = false
	provider, err := openstack.NewClient(auth.IdentityEndpoint)
	require.NoError(t, err)
	require.Error(t, openstack.Authenticate(t.Context(), provider, auth), "the certificate was not checked")
	provider.HTTPClient = http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}}
	require.NoError(t, openstack.Authenticate(t.Context(), provider, auth))
	c, err := openstack.NewComputeV2(provider, gophercloud.EndpointOpts{Region: "RegionOne"})
	require.NoError(t, err)
	c.Microversion = "2.60"
	im, err := openstack.NewImageV2(provider, gophercloud.EndpointOpts{Region: "RegionOne"})
	require.NoError(t, err)
	var list struct{ Images []struct{ ID string } }
	got, err := im.Get(t.Context(), im.ServiceURL("images"), &list, nil)
	require.NoError(t, err)
	require.NoError(t, got.Body.Close())
	require.Len(t, list.Images, 1)
	image := list.Images[0].ID
	require.Eventually(t, func() bool {
		sv, err := computeapi.Create(t.Context(), c, computeapi.CreateOpts{Name: "vm", ImageRef: image, FlavorRef: "42", Networks: "auto"}, nil).Extract()
		if err != nil {
			return false
		}
		for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
			if sv, err = computeapi.Get(t.Context(), c, sv.ID).Extract(); err != nil || sv.Status == "ERROR" {
				return false // the host was not up yet
			}
			if sv.Status == "ACTIVE" {
				return true
			}
		}
		return false
	}, time.Minute, 100*time.Millisecond, "no server becomes ACTIVE")
	// Nobody answers in the clear where TLS is on.
	resp, err := http.Get("http://" + s.listen + "/") //nolint:noctx // loopback
	if err == nil {
		_ = resp.Body.Close()
		require.Equal(t, http.StatusBadRequest, resp.StatusCode)
	}
	realserver.SpeaksOnlyTo(t, s.nodes[0].cmd.Process.Pid, s.listen, "127.0.0.1:"+rabbit.TLSPort())

	// A host that does not trust the certificate does not serve.
	n := s.nodes[0]
	n.stop()
	var conf map[string]any
	text, err = os.ReadFile(n.config)
	require.NoError(t, err)
	require.NoError(t, yaml.Unmarshal(text, &conf))
	delete(conf, "tls_ca")
	text, err = yaml.Marshal(conf)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(n.config, text, 0o600))
	out, err := exec.Command(n.binary, "-config", n.config).CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "certificate signed by unknown authority")
	s.process.stop()
}
