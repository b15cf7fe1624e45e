//go:build realtest

package compute_test

import (
	"testing"

	"github.com/nacre-cloud/nacre/compute/internal/computetest"
	"github.com/nacre-cloud/nacre/internal/realserver"
)

// The tests of the service on the databases of several processes, where writers are
// not serial and READ COMMITTED is all there is.
func TestOnDatabaseServers(t *testing.T) {
	for name, prepare := range realserver.Engines(t) {
		t.Run(name, func(t *testing.T) {
			computetest.Elsewhere = prepare
			defer func() { computetest.Elsewhere = nil }()
			for name, test := range map[string]func(*testing.T){
				"TestMessagesAreLostDoubledAndReordered":  TestMessagesAreLostDoubledAndReordered,
				"TestLifeOfAServer":                       TestLifeOfAServer,
				"TestGuestTurnsItselfOff":                 TestGuestTurnsItselfOff,
				"TestNoValidHost":                         TestNoValidHost,
				"TestBuildFailsOnOneHostAndGoesToAnother": TestBuildFailsOnOneHostAndGoesToAnother,
				"TestPortsFail":                           TestPortsFail,
				"TestPortsAreNeverWired":                  TestPortsAreNeverWired,
				"TestDeleteInEveryState":                  TestDeleteInEveryState,
				"TestResetState":                          TestResetState,
				"TestDeleteWhileTheHostIsDown":            TestDeleteWhileTheHostIsDown,
				"TestQuota":                               TestQuota,
				"TestRefusals":                            TestRefusals,
				"TestAuditFindsDamage":                    TestAuditFindsDamage,
				"TestMessagesAreLost":                     TestMessagesAreLost,
			} {
				t.Run(name, test)
			}
		})
	}
}
