package authn

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/nacre-cloud/nacre"
)

// reserved are the headers by which keystonemiddleware tells a service who asks,
// old names too. Nobody else may set them.
var reserved = func() []string {
	names := []string{"X-IDENTITY-STATUS", "X-SERVICE-IDENTITY-STATUS", "X-SERVICE-CATALOG", "X-IS-ADMIN-PROJECT", "OPENSTACK-SYSTEM-SCOPE", "X-USER", "X-TENANT", "X-TENANT-ID", "X-TENANT-NAME", "X-ROLE"}
	for _, who := range []string{"X-", "X-SERVICE-"} {
		for _, what := range []string{
			"DOMAIN-ID", "DOMAIN-NAME", "PROJECT-ID", "PROJECT-NAME", "PROJECT-DOMAIN-ID", "PROJECT-DOMAIN-NAME",
			"USER-ID", "USER-NAME", "USER-DOMAIN-ID", "USER-DOMAIN-NAME", "ROLES",
		} {
			names = append(names, who+what)
		}
	}
	return names
}()

// clean is a copy without reserved headers. A gateway that turns names into
// environment variables can't tell "-" from "_", so neither is told apart here.
func clean(h http.Header) http.Header {
	h = h.Clone()
	for name := range h {
		if slices.Contains(reserved, strings.ToUpper(strings.ReplaceAll(name, "_", "-"))) {
			delete(h, name)
		}
	}
	return h
}

// tell sets the headers; who is empty for the user, "Service-" for a service.
func tell(h http.Header, who string, c *nacre.Caller) {
	set := func(name, v string) {
		if v != "" {
			h.Set("X-"+who+name, v)
		}
	}
	set("Identity-Status", "Confirmed")
	set("User-Id", c.UserID)
	set("User-Name", c.UserName)
	set("User-Domain-Id", c.UserDomainID)
	set("User-Domain-Name", c.UserDomainName)
	set("Project-Id", c.ProjectID)
	set("Project-Name", c.ProjectName)
	set("Project-Domain-Id", c.ProjectDomainID)
	set("Project-Domain-Name", c.ProjectDomainName)
	set("Domain-Id", c.DomainID)
	set("Domain-Name", c.DomainName)
	set("Roles", strings.Join(c.Roles, ","))
	if who == "" {
		h.Set("X-Is-Admin-Project", strconv.FormatBool(c.AdminProject))
		if c.System != "" {
			h.Set("Openstack-System-Scope", c.System)
		}
		// Names of long ago that some services still read.
		set("Tenant-Id", c.ProjectID)
		set("Tenant-Name", c.ProjectName)
		set("Tenant", c.ProjectName)
		set("User", c.UserName)
		set("Role", strings.Join(c.Roles, ","))
	}
}
