package servers_test

import (
	"path/filepath"
	"testing"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/compute/hypervisor"
	"github.com/nacre-cloud/nacre/internal/released"
	"github.com/nacre-cloud/nacre/network/dataplane"
	"github.com/nacre-cloud/nacre/servers"
)

// What goes over the bus, and between hosts, is understood by the previous release.
func TestReleasedMessages(t *testing.T) {
	released.Values(t, "testdata/released/messages.json", map[string]any{
		"compute.host":             []hypervisor.Desired{},
		"compute.report":           hypervisor.Report{},
		"compute.call":             hypervisor.Call{},
		"compute.call answer":      hypervisor.ConsoleReply{},
		"compute's image of hosts": hypervisor.Image{},
		"files of a move":          []hypervisor.File{},
		"network.host":             []dataplane.Desired{},
		"network.report":           dataplane.Report{},
		"notifications":            nacre.Event{},
		"caller":                   nacre.Caller{},
	})
}

// What messages and rows say in words is understood too.
func TestReleasedWords(t *testing.T) {
	words := []string{}
	for _, w := range []hypervisor.Phase{hypervisor.Working, hypervisor.Done, hypervisor.Failed, hypervisor.Absent} {
		words = append(words, "phase "+string(w))
	}
	for _, w := range []dataplane.Kind{dataplane.KindNetwork, dataplane.KindPort, dataplane.KindRouter, dataplane.KindSecurityGroup} {
		words = append(words, "kind "+string(w))
	}
	for _, w := range []hypervisor.MoveKind{hypervisor.Cold, hypervisor.Live} {
		words = append(words, "move "+string(w))
	}
	released.Names(t, "testdata/released/words.json", words)
}

// The previous release goes on with a database that this one has migrated.
func TestReleasedSchemas(t *testing.T) {
	released.Commit(t, "testdata/released/commit", "../tools/previous-release")
	for _, area := range servers.Areas() {
		released.Schema(t, filepath.Join("testdata/released", area+".json"), servers.Schema(area))
	}
}
