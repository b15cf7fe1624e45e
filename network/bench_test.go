package network_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/store"
	"github.com/nacre-cloud/nacre/store/bunstore"
	"github.com/nacre-cloud/nacre/store/memstore"
)

// onEngines runs a benchmark on both stores that run in a process.
func onEngines(b *testing.B, f func(b *testing.B, c *cloud)) {
	b.Run("mem", func(b *testing.B) {
		e := memstore.New(memstore.Options{})
		b.Cleanup(func() { _ = e.Close() })
		f(b, newCloud(b, e, false))
	})
	b.Run("sqlite", func(b *testing.B) {
		e, err := bunstore.OpenSQLite(filepath.Join(b.TempDir(), "network.db"), bunstore.Options{})
		require.NoError(b, err)
		b.Cleanup(func() { _ = e.Close() })
		f(b, newCloud(b, store.Engine(e), false))
	})
}

// BenchmarkPort makes and deletes a port that is bound to a host.
func BenchmarkPort(b *testing.B) {
	onEngines(b, func(b *testing.B, c *cloud) {
		_, err := c.AddHost(c.admin, "node1")
		require.NoError(b, err)
		_, err = c.SetQuota(c.admin, "alice", map[string]int64{"port": -1})
		require.NoError(b, err)
		n := c.network(c.alice, "net")
		c.subnet(c.alice, n, "10.0.0.0/16")
		c.port(c.admin, n, of("alice"), on("node1"))
		for b.Loop() {
			p, err := c.newPort(c.admin, n, of("alice"), on("node1"))
			if err != nil {
				b.Fatal(err)
			}
			if err := c.DeletePort(c.admin, p.ID); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkPorts lists 200 ports.
func BenchmarkPorts(b *testing.B) {
	onEngines(b, func(b *testing.B, c *cloud) {
		n := c.network(c.alice, "net")
		c.subnet(c.alice, n, "10.0.0.0/16")
		for range 200 {
			c.port(c.alice, n)
		}
		for b.Loop() {
			ps, err := c.Ports(c.alice, nacre.Query{})
			if err != nil || len(ps) != 201 {
				b.Fatal(len(ps), err)
			}
		}
	})
}
