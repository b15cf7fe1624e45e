//go:build realtest

package placement_test

import (
	"testing"

	"github.com/nacre-cloud/nacre/internal/realserver"
)

// The tests of the service on the databases of several processes, where writers are
// not serial and READ COMMITTED is all there is.
func TestOnDatabaseServers(t *testing.T) {
	for name, prepare := range realserver.Engines(t) {
		t.Run(name, func(t *testing.T) {
			elsewhere = prepare
			defer func() { elsewhere = nil }()
			for name, test := range map[string]func(*testing.T){
				"TestCandidates": TestCandidates,
				"TestClaimRace":  TestClaimRace,
				"TestReport":     TestReport,
			} {
				t.Run(name, test)
			}
		})
	}
}
