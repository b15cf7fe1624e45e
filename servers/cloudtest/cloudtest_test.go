package cloudtest_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/imagedata"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/images"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/network"
	"github.com/nacre-cloud/nacre/servers/cloudtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// upload gives the demo project an image to boot from.
func upload(tb testing.TB, cloud *cloudtest.Cloud) string {
	tb.Helper()
	ctx := tb.Context()
	im, err := images.Create(ctx, cloud.Demo.Image, images.CreateOpts{Name: "small", DiskFormat: "raw", ContainerFormat: "bare"}).Extract()
	require.NoError(tb, err)
	require.NoError(tb, imagedata.Upload(ctx, cloud.Demo.Image, im.ID, bytes.NewReader(make([]byte, 4096))).ExtractErr())
	return im.ID
}

// boot boots a server and waits until it is ACTIVE.
func boot(tb testing.TB, cloud *cloudtest.Cloud, image, name string) *servers.Server {
	tb.Helper()
	sv, err := servers.Create(tb.Context(), cloud.Demo.Compute, servers.CreateOpts{Name: name, ImageRef: image, FlavorRef: "42"}, nil).Extract()
	require.NoError(tb, err)
	return active(tb, cloud, sv.ID)
}

func active(tb testing.TB, cloud *cloudtest.Cloud, id string) *servers.Server {
	tb.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; {
		sv, err := servers.Get(tb.Context(), cloud.Demo.Compute, id).Extract()
		require.NoError(tb, err)
		require.NotEqual(tb, "ERROR", sv.Status, "%+v", sv.Fault)
		if sv.Status == "ACTIVE" {
			return sv
		}
		require.True(tb, time.Now().Before(deadline), "still %s", sv.Status)
		time.Sleep(time.Millisecond)
	}
}

func TestStart(t *testing.T) {
	cloud := cloudtest.Start(t, cloudtest.Options{Hosts: 3})
	require.Len(t, cloud.Hypervisors, 3)
	require.Len(t, cloud.Demo.ProjectID, 32)
	sv := boot(t, cloud, upload(t, cloud), "one")
	require.Contains(t, sv.Addresses, "demo", "the project's only network is the server's")
	require.NoError(t, servers.Delete(t.Context(), cloud.Demo.Compute, sv.ID).ExtractErr())
}

func TestBare(t *testing.T) {
	cloud := cloudtest.Start(t, cloudtest.Options{NoSeed: true})
	require.Nil(t, cloud.Demo)
	ns, _, err := cloud.Network.Networks(nacre.AsService(t.Context(), "test"), nacre.Query{})
	require.NoError(t, err)
	require.Empty(t, ns)
}

// TestTwoClouds shows that clouds share nothing.
func TestTwoClouds(t *testing.T) {
	a, b := cloudtest.Start(t), cloudtest.Start(t)
	im := upload(t, a)
	_, err := images.Get(t.Context(), a.Demo.Image, im).Extract()
	require.NoError(t, err)
	_, err = images.Get(t.Context(), b.Demo.Image, im).Extract()
	require.Error(t, err)
}

// recorder stands for a test, to see what the end of a cloud says.
type recorder struct {
	testing.TB
	ends  []func()
	wrong []string
}

func (r *recorder) Cleanup(f func())               { r.ends = append(r.ends, f) }
func (r *recorder) Failed() bool                   { return false }
func (r *recorder) Errorf(format string, a ...any) { r.wrong = append(r.wrong, format) }
func (r *recorder) end() {
	for i := len(r.ends) - 1; i >= 0; i-- {
		r.ends[i]()
	}
}

// TestAuditFails shows that damage fails the test: a port of a server that does
// not exist.
func TestAuditFails(t *testing.T) {
	r := &recorder{TB: t}
	cloud := cloudtest.Start(r)
	_, err := cloud.Network.EnsureServerPort(nacre.AsService(t.Context(), "test"), network.ServerPortRequest{ProjectID: cloud.Demo.ProjectID,
		ServerID: "11111111-1111-4111-8111-111111111111", NIC: network.ServerNIC{NetworkID: cloud.Seeded.DemoNetworkID}, Host: "node1", Zone: "nova"})
	require.NoError(t, err)
	r.end()
	require.Len(t, r.wrong, 1)
	require.True(t, strings.HasPrefix(r.wrong[0], "cloudtest: audit"), r.wrong[0])
}

// TestPages holds the pages beside the APIs to what they promise.
func TestPages(t *testing.T) {
	cloud := cloudtest.Start(t)
	get := func(path string) (int, string) {
		resp, err := cloud.HTTPClient().Get("http://any.host" + path)
		require.NoError(t, err)
		defer resp.Body.Close() //nolint:errcheck // read only
		var b bytes.Buffer
		_, err = b.ReadFrom(resp.Body)
		require.NoError(t, err)
		return resp.StatusCode, b.String()
	}
	for _, path := range []string{"/healthz", "/readyz"} {
		code, body := get(path)
		require.Equal(t, http.StatusOK, code, body)
	}
	code, body := get("/")
	require.Equal(t, http.StatusOK, code)
	var index struct {
		AuthURL  string `json:"auth_url"`
		Services []struct{ Type, URL string }
	}
	require.NoError(t, json.Unmarshal([]byte(body), &index))
	require.Equal(t, "http://any.host/identity/v3", index.AuthURL)
	for _, s := range index.Services {
		code, body := get(strings.TrimPrefix(s.URL, "http://any.host"))
		require.Contains(t, []int{200, 300}, code, "%s: version documents need no token: %s", s.Type, body)
	}
	code, _ = get("/nothing")
	require.Equal(t, http.StatusNotFound, code)
	_, body = get("/metrics")
	require.Contains(t, body, `nacre_http_request_seconds_count{method="POST",route="POST /v3/auth/tokens",service="identity",status="201"} 2`)
}
