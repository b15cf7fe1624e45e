//go:build realtest

package identity_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/internal/realserver"
	"github.com/nacre-cloud/nacre/store"
	"github.com/nacre-cloud/nacre/store/bunstore"
)

// TestPostgres is the tests of the service on PostgreSQL, where writers are not
// serial and READ COMMITTED is all there is.
func TestPostgres(t *testing.T) {
	db := realserver.Postgres(t)
	onServer(t, db.Database, bunstore.OpenPostgres)
}

// TestMariaDB is the same on MariaDB.
func TestMariaDB(t *testing.T) {
	db := realserver.MariaDB(t)
	onServer(t, db.Database, bunstore.OpenMariaDB)
}

func onServer(t *testing.T, database func(testing.TB) string, open func(string, bunstore.Options) (*bunstore.Engine, error)) {
	elsewhere = func(t *testing.T) func(t *testing.T) store.Engine {
		dsn := database(t)
		return func(t *testing.T) store.Engine {
			e, err := open(dsn, bunstore.Options{})
			require.NoError(t, err)
			return e
		}
	}
	defer func() { elsewhere = nil }()
	for name, test := range map[string]func(t *testing.T, e store.Engine){"concurrent writers": concurrentWriters, "storm": func(t *testing.T, e store.Engine) { storm(t, e, 8, 800) }} {
		t.Run(name, func(t *testing.T) {
			e := elsewhere(t)(t)
			defer func() { require.NoError(t, e.Close()) }()
			test(t, e)
		})
	}
	for name, test := range map[string]func(*testing.T){
		"TestCatalogTemplate":                TestCatalogTemplate,
		"TestNoOtherReferences":              TestNoOtherReferences,
		"TestLockout":                        TestLockout,
		"TestPasswordRules":                  TestPasswordRules,
		"TestFirstUseAndInactivity":          TestFirstUseAndInactivity,
		"TestOptions":                        TestOptions,
		"TestHashForms":                      TestHashForms,
		"TestPasscodes":                      TestPasscodes,
		"TestMFADoesNotLockOut":              TestMFADoesNotLockOut,
		"TestRedelegation":                   TestRedelegation,
		"TestTrustsAndOtherDelegation":       TestTrustsAndOtherDelegation,
		"TestRescoping":                      TestRescoping,
		"TestEC2Tokens":                      TestEC2Tokens,
		"TestDirectory":                      TestDirectory,
		"TestDirectoryFromDomainConfig":      TestDirectoryFromDomainConfig,
		"TestDirectoryFromFile":              TestDirectoryFromFile,
		"TestTokenForToken":                  TestTokenForToken,
		"TestBootstrapAgainChangesNothing":   TestBootstrapAgainChangesNothing,
		"TestCaller":                         TestCaller,
		"TestScopes":                         TestScopes,
		"TestInheritance":                    TestInheritance,
		"TestTokenMethod":                    TestTokenMethod,
		"TestRevocation":                     TestRevocation,
		"TestRolesFollowGroups":              TestRolesFollowGroups,
		"TestWarmValidationCostsNoStatement": TestWarmValidationCostsNoStatement,
		"TestPolicy":                         TestPolicy,
		"TestConflictsAndLimits":             TestConflictsAndLimits,
		"TestDeletedDomainLeavesNothing":     TestDeletedDomainLeavesNothing,
		"TestCatalogFollowsItsTables":        TestCatalogFollowsItsTables,
		"TestAppCredential":                  TestAppCredential,
		"TestListsFilterAndPage":             TestListsFilterAndPage,
		"TestTrust":                          TestTrust,
		"TestCredentials":                    TestCredentials,
		"TestLimits":                         TestLimits,
		"TestAccessRulesAreNotIgnored":       TestAccessRulesAreNotIgnored,
		"TestForeignTokenWithOurKeys":        TestForeignTokenWithOurKeys,
		"TestAuditFindsDamage":               TestAuditFindsDamage,
		"TestKeepOnly":                       TestKeepOnly,
		"TestWhatHangsOnProjects":            TestWhatHangsOnProjects,
		"TestMarkerThatLeftTheFilters":       TestMarkerThatLeftTheFilters,
	} {
		t.Run(name, test)
	}
}
