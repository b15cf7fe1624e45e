//go:build linux

package linux

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"

	"github.com/nacre-cloud/nacre/network/dataplane"
)

// metadataServer is the metadata proxy of one network.
type metadataServer struct {
	owners atomic.Pointer[map[netip.Addr]dataplane.Port]
	stop   func()
}

func (m *metadataServer) close() { m.stop() }

// startMetadata listens at 169.254.169.254 in the network's namespace.
func (d *Driver) startMetadata(n *network) (*metadataServer, error) {
	var listener net.Listener
	err := n.space.do(func() error {
		var lc net.ListenConfig
		var err error
		listener, err = lc.Listen(context.Background(), "tcp4", net.JoinHostPort(metadataText, "80"))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("metadata proxy in namespace %s: %w", n.space.name, err)
	}
	m := &metadataServer{}
	server, err := newProxy(d.c, d.log.With("network", n.id), func(a netip.Addr) (dataplane.Port, bool) {
		owners := m.owners.Load()
		if owners == nil {
			return dataplane.Port{}, false
		}
		p, ok := (*owners)[a]
		return p, ok
	})
	if err != nil {
		_ = listener.Close()
		return nil, err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(limit(listener, proxyConnections))
	}()
	m.stop = func() {
		_ = server.Close()
		<-done
	}
	return m, nil
}

// ownersOf maps fixed addresses to ports.
func ownersOf(ports []dataplane.Port) map[netip.Addr]dataplane.Port {
	owners := map[netip.Addr]dataplane.Port{}
	for _, p := range ports {
		for _, ip := range p.FixedIPs {
			owners[ip.Address] = p
		}
	}
	return owners
}
