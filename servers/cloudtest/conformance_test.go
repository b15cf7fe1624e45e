package cloudtest_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/compute/metadata"
	"github.com/nacre-cloud/nacre/servers/cloudtest"
	"github.com/nacre-cloud/nacre/servers/conformance"
	"github.com/nacre-cloud/nacre/store"
	"github.com/nacre-cloud/nacre/store/bunstore"
	"github.com/nacre-cloud/nacre/store/memstore"
)

// sqlite is the embedded default, in a file that is gone at the end.
func sqlite(tb testing.TB, _ string) store.Engine {
	e, err := bunstore.OpenSQLite("", bunstore.Options{})
	require.NoError(tb, err)
	return e
}

// readCommitted shows the anomalies that a database at that level shows.
func readCommitted(testing.TB, string) store.Engine {
	return memstore.New(memstore.Options{ReadCommitted: true})
}

// target is a cloudtest cloud for the suite.
func target(cloud *cloudtest.Cloud) conformance.Target {
	return conformance.Target{
		Admin: cloud.Admin.ProviderClient, User: cloud.Demo.ProviderClient, UserAuth: cloud.AuthOptions("demo", cloudtest.DemoPassword, "demo"), Endpoint: cloud.Endpoint(),
		External: "public", Flavor: "m1.nano", Image: func() io.Reader { return bytes.NewReader(make([]byte, 64<<10)) }, ImageFormat: "raw",
		Timeout: 20 * time.Second, Poll: 2 * time.Millisecond,
		Metadata: func(ctx context.Context, server, project, path string) (int, string, error) {
			m := cloud.Config().Metadata
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, m.URL()+path, nil)
			if err != nil {
				return 0, "", err
			}
			r.Header.Set("X-Instance-ID", server)
			r.Header.Set("X-Tenant-ID", project)
			r.Header.Set("X-Instance-ID-Signature", metadata.Sign([]byte(m.Secret()), server))
			resp, err := m.RoundTrip(r)
			if err != nil {
				return 0, "", err
			}
			defer resp.Body.Close() //nolint:errcheck // read only
			body, err := io.ReadAll(resp.Body)
			return resp.StatusCode, string(body), err
		},
		Audit: func(ctx context.Context) error {
			if err := cloud.Rest(ctx); err != nil {
				return err
			}
			findings, err := cloud.Audit(ctx)
			if err == nil && len(findings) > 0 {
				err = fmt.Errorf("%d findings: %+v", len(findings), findings)
			}
			for _, h := range cloud.Hypervisors {
				if taps := h.Taps(); len(taps) > 0 {
					err = fmt.Errorf("taps are left: %v", taps)
				}
			}
			return err
		},
	}
}

func TestConformanceMemory(t *testing.T) { conformance.Run(t, target(cloudtest.Start(t))) }

func TestConformanceReadCommitted(t *testing.T) {
	conformance.Run(t, target(cloudtest.Start(t, cloudtest.Options{Engine: readCommitted})))
}

func TestConformanceSQLite(t *testing.T) {
	conformance.Run(t, target(cloudtest.Start(t, cloudtest.Options{Engine: sqlite})))
}
