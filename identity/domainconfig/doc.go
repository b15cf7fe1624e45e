// Package domainconfig is the configuration that a domain may have of its own: where
// its users and groups are kept (groups "identity" and "ldap"), by the API or by files,
// as Keystone's domain-specific drivers have it.
//
//	svc, err := domainconfig.New(domainconfig.Config{Area: area, Parent: parent})
//	options, err := svc.ForDriver(ctx, domainID)
//
// It is a part of package identity that shares its Engine; identity.Service has it as
// DomainConfigs, and opens the directories that are configured.
//
// # What it promises
//
// Only options that a domain may have are kept, and only such as the driver can use:
// Config.Try has tried them. A directory's password is kept and never shown; it is
// filled in where another option refers to it ("%(password)s") for the driver alone.
package domainconfig
