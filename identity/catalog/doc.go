// Package catalog is Keystone's catalog: services, their endpoints, regions, which
// endpoints a project sees (OS-EP-FILTER), and policy documents with what they are
// for (OS-ENDPOINT-POLICY).
//
//	svc, err := catalog.New(catalog.Config{Area: area, Parent: parent})
//	entries, err := svc.For(ctx, userID, projectID)
//
// It is a part of package identity that shares its Engine; identity.Service has it
// as Catalog. Instead of what is stored it can be a file, as the classic install
// guides have it (ParseTemplate): then it can't be changed.
//
// # What it promises
//
// A change shows in every token's catalog, in this process at once and in others
// within seconds; between changes a catalog costs no statement. A service takes its
// endpoints with it; a region that has endpoints, itself or below it, stays. URLs may
// name the project and the user, and nothing else.
package catalog
