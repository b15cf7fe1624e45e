//go:build realtest

package network_test

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
				"TestAuditFindsDamage":                  TestAuditFindsDamage,
				"TestCheckServerNetworks":               TestCheckServerNetworks,
				"TestServerPorts":                       TestServerPorts,
				"TestServerPortWithoutSubnet":           TestServerPortWithoutSubnet,
				"TestPlaces":                            TestPlaces,
				"TestFirstHostGetsRouters":              TestFirstHostGetsRouters,
				"TestOnlyWhatChangedIsSent":             TestOnlyWhatChangedIsSent,
				"TestHostForgets":                       TestHostForgets,
				"TestTombstonesWaitForTheirHost":        TestTombstonesWaitForTheirHost,
				"TestBackBeforeTheTombstoneWasSeen":     TestBackBeforeTheTombstoneWasSeen,
				"TestHostRefuses":                       TestHostRefuses,
				"TestStrayReports":                      TestStrayReports,
				"TestHostIsAhead":                       TestHostIsAhead,
				"TestAgents":                            TestAgents,
				"TestAddressesRunOut":                   TestAddressesRunOut,
				"TestFreedAddressIsNotGivenOutAtOnce":   TestFreedAddressIsNotGivenOutAtOnce,
				"TestPools":                             TestPools,
				"TestConcurrentPorts":                   TestConcurrentPorts,
				"TestSelfMadeAddresses":                 TestSelfMadeAddresses,
				"TestListFilters":                       TestListFilters,
				"TestPaging":                            TestPaging,
				"TestStatements":                        TestStatements,
				"TestNetworks":                          TestNetworks,
				"TestSharedNetworkStaysSharedWhileUsed": TestSharedNetworkStaysSharedWhileUsed,
				"TestSubnets":                           TestSubnets,
				"TestDHCPPort":                          TestDHCPPort,
				"TestSubnetPools":                       TestSubnetPools,
				"TestDefaultSubnetPool":                 TestDefaultSubnetPool,
				"TestConcurrentCuts":                    TestConcurrentCuts,
				"TestAddressGroups":                     TestAddressGroups,
				"TestPorts":                             TestPorts,
				"TestFailedPortLeavesNothing":           TestFailedPortLeavesNothing,
				"TestPortOfAHostThatIsNotThere":         TestPortOfAHostThatIsNotThere,
				"TestQuota":                             TestQuota,
				"TestNetworkWithLooseFloatingIPs":       TestNetworkWithLooseFloatingIPs,
				"TestRouters":                           TestRouters,
				"TestRoutersAndDisabledHosts":           TestRoutersAndDisabledHosts,
				"TestRoutersComeBackToTheirGateway":     TestRoutersComeBackToTheirGateway,
				"TestRouterLeavesWithItsOldGateway":     TestRouterLeavesWithItsOldGateway,
				"TestFloatingIPs":                       TestFloatingIPs,
				"TestDefaultGroup":                      TestDefaultGroup,
				"TestSecurityGroupRules":                TestSecurityGroupRules,
				"TestGroupsOnHosts":                     TestGroupsOnHosts,
			} {
				t.Run(name, test)
			}
		})
	}
}
