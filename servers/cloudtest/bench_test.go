package cloudtest_test

import (
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/quotasets"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/quotas"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/networks"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/subnets"
	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/servers/cloudtest"
)

// BenchmarkStart is the time to a cloud that is seeded, ready and logged in to.
func BenchmarkStart(b *testing.B) {
	for name, o := range engines {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				r := &recorder{TB: b}
				cloudtest.Start(r, o)
				b.StopTimer()
				r.end()
				require.Empty(b, r.wrong)
				b.StartTimer()
			}
		})
	}
}

var engines = map[string]cloudtest.Options{"memory": {}, "sqlite": {Engine: sqlite}}

// unlimited lifts the demo project's quotas.
func unlimited(b *testing.B, cloud *cloudtest.Cloud) {
	no := -1
	_, err := quotasets.Update(b.Context(), cloud.Admin.Compute, cloud.Demo.ProjectID, quotasets.UpdateOpts{Instances: &no, Cores: &no, RAM: &no}).Extract()
	require.NoError(b, err)
	_, err = quotas.Update(b.Context(), cloud.Admin.Network, cloud.Demo.ProjectID, quotas.UpdateOpts{Port: &no}).Extract()
	require.NoError(b, err)
}

// roomy is a network with room for many ports.
func roomy(b *testing.B, cloud *cloudtest.Cloud) string {
	n, err := networks.Create(b.Context(), cloud.Demo.Network, networks.CreateOpts{Name: "roomy"}).Extract()
	require.NoError(b, err)
	_, err = subnets.Create(b.Context(), cloud.Demo.Network, subnets.CreateOpts{NetworkID: n.ID, CIDR: "10.0.0.0/14", IPVersion: 4}).Extract()
	require.NoError(b, err)
	return n.ID
}

func create(b *testing.B, cloud *cloudtest.Cloud, image, network, name string) string {
	sv, err := servers.Create(b.Context(), cloud.Demo.Compute, servers.CreateOpts{Name: name, ImageRef: image, FlavorRef: "42", Networks: []servers.Network{{UUID: network}}}, nil).Extract()
	if err != nil {
		b.Errorf("create %s: %v", name, err)
		return ""
	}
	return sv.ID
}

// waitActive waits until all of the demo project's servers are ACTIVE, and says
// how many there are.
func waitActive(b *testing.B, cloud *cloudtest.Cloud, want int) {
	for deadline := time.Now().Add(5 * time.Minute); ; {
		n := 0
		for _, st := range []string{"ACTIVE", "ERROR"} {
			pages, err := servers.List(cloud.Demo.Compute, servers.ListOpts{Status: st, Limit: 1000}).AllPages(b.Context())
			require.NoError(b, err)
			ss, err := servers.ExtractServers(pages)
			require.NoError(b, err)
			if st == "ERROR" {
				require.Empty(b, ss, "servers in error")
			} else {
				n = len(ss)
			}
		}
		if n == want {
			return
		}
		require.True(b, time.Now().Before(deadline), "%d of %d are ACTIVE", n, want)
		time.Sleep(200 * time.Millisecond) // a list of a thousand is work too
	}
}

// BenchmarkBoot boots servers on simulated hosts, each with a port of its own, to
// ACTIVE; eight clients ask for them, none waits.
func BenchmarkBoot(b *testing.B) {
	for name, o := range map[string]cloudtest.Options{"memory": {Hosts: 4}, "sqlite": {Hosts: 4, Engine: sqlite}, "thousand_hosts": {Hosts: 1000}} {
		b.Run(name, func(b *testing.B) {
			cloud := cloudtest.Start(b, o)
			unlimited(b, cloud)
			image, network := upload(b, cloud), roomy(b, cloud)
			b.ResetTimer()
			var wg sync.WaitGroup
			var next atomic.Int64
			for range 8 {
				wg.Go(func() {
					for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
						create(b, cloud, image, network, fmt.Sprint("s", i))
					}
				})
			}
			wg.Wait()
			waitActive(b, cloud, b.N)
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "boots/s")
		})
	}
}

// listen serves a handler on a loopback port.
func listen(b *testing.B, h http.Handler) (url string, client *http.Client) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	srv := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	tr := &http.Transport{MaxIdleConnsPerHost: 64}
	b.Cleanup(func() { tr.CloseIdleConnections(); _ = srv.Close(); <-done })
	return "http://" + l.Addr().String(), &http.Client{Transport: tr}
}

// BenchmarkValidateToken is GET /v3/auth/tokens over loopback, beside a bare
// handler that sends the same bytes.
func BenchmarkValidateToken(b *testing.B) {
	cloud := cloudtest.Start(b)
	token := cloud.Demo.Token()
	req := func(url string) *http.Request {
		r, err := http.NewRequestWithContext(b.Context(), http.MethodGet, url+"/identity/v3/auth/tokens", nil)
		require.NoError(b, err)
		r.Header.Set("X-Auth-Token", token)
		r.Header.Set("X-Subject-Token", token)
		return r
	}
	url, client := listen(b, cloud.Handler())
	resp, err := client.Do(req(url))
	require.NoError(b, err)
	require.Equal(b, 200, resp.StatusCode)
	body := readAll(b, resp)
	bare := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Content-Type"] = resp.Header["Content-Type"]
		_, _ = w.Write(body)
	})
	for name, h := range map[string]http.Handler{"nacre": cloud.Handler(), "bare": bare} {
		b.Run(name, func(b *testing.B) {
			url, client := listen(b, h)
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					resp, err := client.Do(req(url))
					if err != nil || resp.StatusCode != 200 {
						b.Errorf("%v %v", resp, err)
						return
					}
					readAll(b, resp)
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "validations/s")
		})
	}
}

func readAll(b *testing.B, resp *http.Response) []byte {
	var buf []byte
	chunk := make([]byte, 4096)
	for {
		n, err := resp.Body.Read(chunk)
		buf = append(buf, chunk[:n]...)
		if err != nil {
			break
		}
	}
	if err := resp.Body.Close(); err != nil {
		b.Error(err)
	}
	return buf
}

// BenchmarkListServers lists 100 servers in detail.
func BenchmarkListServers(b *testing.B) {
	for name, o := range engines {
		b.Run(name, func(b *testing.B) {
			o.Hosts = 2
			cloud := cloudtest.Start(b, o)
			unlimited(b, cloud)
			image, network := upload(b, cloud), roomy(b, cloud)
			for i := range 100 {
				create(b, cloud, image, network, fmt.Sprint("s", i))
			}
			waitActive(b, cloud, 100)
			get(b, cloud, "/compute/v2.1/servers/detail")
		})
	}
}

// BenchmarkListPorts lists 200 ports.
func BenchmarkListPorts(b *testing.B) {
	for name, o := range engines {
		b.Run(name, func(b *testing.B) {
			cloud := cloudtest.Start(b, o)
			unlimited(b, cloud)
			network := roomy(b, cloud)
			for i := range 200 {
				_, err := ports.Create(b.Context(), cloud.Demo.Network, ports.CreateOpts{NetworkID: network, Name: fmt.Sprint("p", i)}).Extract()
				require.NoError(b, err)
			}
			get(b, cloud, "/network/v2.0/ports")
		})
	}
}

// get asks for a path again and again, over loopback, as the demo user.
func get(b *testing.B, cloud *cloudtest.Cloud, path string) {
	url, client := listen(b, cloud.Handler())
	b.ResetTimer()
	size := 0
	for range b.N {
		r, err := http.NewRequestWithContext(b.Context(), http.MethodGet, url+path, nil)
		require.NoError(b, err)
		r.Header.Set("X-Auth-Token", cloud.Demo.Token())
		resp, err := client.Do(r)
		require.NoError(b, err)
		require.Equal(b, 200, resp.StatusCode)
		size = len(readAll(b, resp))
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "lists/s")
	b.ReportMetric(float64(size), "bytes")
}
