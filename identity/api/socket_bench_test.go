package api_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/store"
)

// clients is how many ask at a time.
const clients = 16

// socket measures a request of 16 clients with keep-alive connections, who share
// the machine's cores with the server. cpu-µs/op is the time of both on the cores,
// which other work on the machine does not stretch.
func socket(b *testing.B, h http.Handler, want int, method, path, body string, headers ...string) {
	b.Helper()
	srv := httptest.NewServer(h)
	defer srv.Close()
	tr := &http.Transport{MaxIdleConnsPerHost: clients}
	defer tr.CloseIdleConnections()
	header := http.Header{}
	for i := 0; i < len(headers); i += 2 {
		header.Set(headers[i], headers[i+1])
	}
	warm := httptest.NewRecorder()
	r := httptest.NewRequest(method, base+path, strings.NewReader(body))
	r.Header = header
	h.ServeHTTP(warm, r)
	require.Equal(b, want, warm.Code)
	b.SetParallelism((clients + runtime.GOMAXPROCS(0) - 1) / runtime.GOMAXPROCS(0))
	b.ReportAllocs()
	b.ResetTimer()
	before := cpu(b)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			r, err := http.NewRequest(method, srv.URL+"/identity"+path, strings.NewReader(body))
			if err != nil {
				b.Error(err)
				return
			}
			r.Header = header
			resp, err := tr.RoundTrip(r)
			if err != nil {
				b.Error(err)
				return
			}
			_, err = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
			if err != nil || resp.StatusCode != want {
				b.Error(err, resp.Status)
				return
			}
		}
	})
	b.ReportMetric(float64(cpu(b)-before)/float64(time.Microsecond)/float64(b.N), "cpu-µs/op")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "op/s")
}

// cpu is the time that this process had on the cores.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkSocket is identity over HTTP on SQLite, and a bare handler that sends
// the bytes of a validation.
func BenchmarkSocket(b *testing.B) {
	const validate = "/v3/auth/tokens"
	e := sqlite(b)
	c, token := crowd(b, e)
	w := httptest.NewRecorder()
	r := httptest.NewRequest("GET", base+validate, http.NoBody)
	r.Header.Set("X-Auth-Token", token)
	r.Header.Set("X-Subject-Token", token)
	c.h.ServeHTTP(w, r)
	require.Equal(b, 200, w.Code)
	sent, header := bytes.Clone(w.Body.Bytes()), w.Header()
	b.Run("bare", func(b *testing.B) {
		socket(b, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			for k, v := range header {
				w.Header()[k] = v
			}
			_, _ = w.Write(sent)
		}), 200, "GET", validate, "", "X-Auth-Token", token, "X-Subject-Token", token)
	})
	b.Run("validate", func(b *testing.B) {
		socket(b, c.h, 200, "GET", validate, "", "X-Auth-Token", token, "X-Subject-Token", token)
	})
	b.Run("token-for-token", func(b *testing.B) {
		socket(b, c.h, 201, "POST", validate, `{"auth":{"identity":{"methods":["token"],"token":{"id":"`+token+`"}},"scope":{"project":{"id":"`+c.ids.ProjectID+`"}}}}`)
	})
	b.Run("list-100-of-100000-users", func(b *testing.B) {
		socket(b, c.h, 200, "GET", "/v3/users?limit=100&marker="+at(manyUsers/2), "", "X-Auth-Token", token)
	})
	revoked(b, e, 100_000)
	c, token = bench(b, e, nil)
	b.Run("validate-with-100000-revocations", func(b *testing.B) {
		socket(b, c.h, 200, "GET", validate, "", "X-Auth-Token", token, "X-Subject-Token", token)
	})
}

// revoked adds revocations to the table: those of two days, as many as matter at
// a time.
func revoked(b *testing.B, e store.Engine, n int) {
	now := time.Now().UTC()
	fill(b, store.NewTable[ended](e, "revocation"), n, func(i int) ended {
		at := now.Add(-48 * time.Hour / time.Duration(n) * time.Duration(i))
		return ended{ID: fmt.Sprintf("%08d", i), At: at, AuditID: fmt.Sprintf("audit-%d", i), IssuedBefore: at}
	})
}
