package compute

import "github.com/nacre-cloud/nacre"

// Nova's base rules (nova/policies/base.py, 2025.1).
const (
	ruleAdmin  = "rule:context_is_admin"
	ruleReader = "rule:project_reader_or_admin"
	ruleMember = "rule:project_member_or_admin"
	// A project's manager moves its servers.
	ruleManager = "rule:project_manager_or_admin"
	ruleAny     = "@"
)

type ruleRow struct{ name, check, desc, ops string }

var baseRules = []ruleRow{
	{"context_is_admin", "role:admin", "Decides what is required for the 'is_admin:True' check to succeed.", ""},
	{"admin_api", "is_admin:True or role:admin", "Default rule for most Admin APIs.", ""},
	{"project_reader_api", "role:reader and project_id:%(project_id)s", "Default rule for Project level read only APIs.", ""},
	{"project_member_api", "role:member and project_id:%(project_id)s", "Default rule for Project level non admin APIs.", ""},
	{"project_manager_api", "role:manager and project_id:%(project_id)s", "Default rule for project level privileged APIs.", ""},
	{"project_reader_or_admin", "rule:project_reader_api or rule:context_is_admin", "Default rule for Project reader or admin APIs.", ""},
	{"project_member_or_admin", "rule:project_member_api or rule:context_is_admin", "Default rule for Project Member or admin APIs.", ""},
	{"project_manager_or_admin", "rule:project_manager_api or rule:context_is_admin", "Default rule for Project Manager or admin APIs.", ""},
	{"service_or_admin", "role:service or rule:context_is_admin", "Default rule for service or admin APIs.", ""},
}

var ruleTable = []ruleRow{
	{"os_compute_api:servers:index", ruleReader, "List all servers.", "GET /servers"},
	{"os_compute_api:servers:detail", ruleReader, "List all servers with detailed information.", "GET /servers/detail"},
	{"os_compute_api:servers:index:get_all_tenants", ruleAdmin, "List all servers for all projects.", "GET /servers"},
	{"os_compute_api:servers:detail:get_all_tenants", ruleAdmin, "List all servers with detailed information for all projects.", "GET /servers/detail"},
	{"os_compute_api:servers:allow_all_filters", ruleAdmin, "Allow all filters when listing servers.", "GET /servers"},
	{"os_compute_api:servers:show", ruleReader, "Show a server.", "GET /servers/{server_id}"},
	{"os_compute_api:servers:show:host_status", ruleAdmin, "Show a server with additional host status information.", "GET /servers/{server_id}"},
	{"os_compute_api:servers:create", ruleMember, "Create a server.", "POST /servers"},
	{"os_compute_api:servers:create:forced_host", ruleAdmin, "Create a server on the specified host and/or node.", "POST /servers"},
	{"compute:servers:create:requested_destination", ruleAdmin, "Create a server on the requested compute service host.", "POST /servers"},
	{"os_compute_api:servers:create:attach_network", ruleMember, "Create a server with the requested network attached to it.", "POST /servers"},
	{"os_compute_api:servers:delete", ruleMember, "Delete a server.", "DELETE /servers/{server_id}"},
	{"os_compute_api:os-deferred-delete:force", ruleMember, "Force delete a server.", "POST /servers/{server_id}/action (forceDelete)"},
	{"os_compute_api:servers:update", ruleMember, "Update a server.", "PUT /servers/{server_id}"},
	{"os_compute_api:servers:reboot", ruleMember, "Reboot a server.", "POST /servers/{server_id}/action (reboot)"},
	{"os_compute_api:servers:start", ruleMember, "Start a server.", "POST /servers/{server_id}/action (os-start)"},
	{"os_compute_api:servers:stop", ruleMember, "Stop a server.", "POST /servers/{server_id}/action (os-stop)"},
	{"os_compute_api:os-pause-server:pause", ruleMember, "Pause a server.", "POST /servers/{server_id}/action (pause)"},
	{"os_compute_api:os-pause-server:unpause", ruleMember, "Unpause a paused server.", "POST /servers/{server_id}/action (unpause)"},
	{"os_compute_api:os-lock-server:lock", ruleMember, "Lock a server.", "POST /servers/{server_id}/action (lock)"},
	{"os_compute_api:os-lock-server:unlock", ruleMember, "Unlock a server.", "POST /servers/{server_id}/action (unlock)"},
	{"os_compute_api:os-lock-server:unlock:unlock_override", ruleAdmin, "Unlock a server, regardless who locked the server.", "POST /servers/{server_id}/action (unlock)"},
	{"os_compute_api:os-admin-actions:reset_state", ruleAdmin, "Reset the state of a given server.", "POST /servers/{server_id}/action (os-resetState)"},
	{"os_compute_api:os-console-output", ruleMember, "Show console output for a server.", "POST /servers/{server_id}/action (os-getConsoleOutput)"},
	{"os_compute_api:os-instance-actions:list", ruleReader, "List actions for a server.", "GET /servers/{server_id}/os-instance-actions"},
	{"os_compute_api:os-instance-actions:show", ruleReader, "Show action details for a server.", "GET /servers/{server_id}/os-instance-actions/{request_id}"},
	{"os_compute_api:os-instance-actions:events", ruleAdmin, "Add events details in action details for a server.", "GET /servers/{server_id}/os-instance-actions/{request_id}"},
	{"os_compute_api:os-instance-actions:events:details", ruleAdmin, "Add the details field of events.", "GET /servers/{server_id}/os-instance-actions/{request_id}"},
	{"os_compute_api:os-extended-server-attributes", ruleAdmin, "Return extended attributes for server.", "GET /servers/{id}"},
	{"os_compute_api:server-metadata:index", ruleReader, "List all metadata of a server.", "GET /servers/{server_id}/metadata"},
	{"os_compute_api:server-metadata:show", ruleReader, "Show metadata for a server.", "GET /servers/{server_id}/metadata/{key}"},
	{"os_compute_api:server-metadata:create", ruleMember, "Create metadata for a server.", "POST /servers/{server_id}/metadata"},
	{"os_compute_api:server-metadata:update_all", ruleMember, "Replace metadata for a server.", "PUT /servers/{server_id}/metadata"},
	{"os_compute_api:server-metadata:update", ruleMember, "Update metadata from a server.", "PUT /servers/{server_id}/metadata/{key}"},
	{"os_compute_api:server-metadata:delete", ruleMember, "Delete metadata from a server.", "DELETE /servers/{server_id}/metadata/{key}"},
	{"os_compute_api:os-server-tags:index", ruleReader, "List all tags for given server.", "GET /servers/{server_id}/tags"},
	{"os_compute_api:os-server-tags:show", ruleReader, "Check tag existence on the server.", "GET /servers/{server_id}/tags/{tag}"},
	{"os_compute_api:os-server-tags:update_all", ruleMember, "Replace all tags on specified server.", "PUT /servers/{server_id}/tags"},
	{"os_compute_api:os-server-tags:update", ruleMember, "Add a single tag to the specified server.", "PUT /servers/{server_id}/tags/{tag}"},
	{"os_compute_api:os-server-tags:delete", ruleMember, "Delete a single tag from the specified server.", "DELETE /servers/{server_id}/tags/{tag}"},
	{"os_compute_api:os-server-tags:delete_all", ruleMember, "Delete all the server tags.", "DELETE /servers/{server_id}/tags"},
	{"os_compute_api:ips:index", ruleReader, "List IP addresses that are assigned to a server.", "GET /servers/{server_id}/ips"},
	{"os_compute_api:ips:show", ruleReader, "Show IP addresses details for a network label of a server.", "GET /servers/{server_id}/ips/{network_label}"},
	{"os_compute_api:os-attach-interfaces:list", ruleReader, "List port interfaces attached to a server.", "GET /servers/{server_id}/os-interface"},
	{"os_compute_api:os-attach-interfaces:show", ruleReader, "Show details of a port interface attached to a server.", "GET /servers/{server_id}/os-interface/{port_id}"},
	{"os_compute_api:os-attach-interfaces:create", ruleMember, "Attach an interface to a server.", "POST /servers/{server_id}/os-interface"},
	{"os_compute_api:os-attach-interfaces:delete", ruleMember, "Detach an interface from a server.", "DELETE /servers/{server_id}/os-interface/{port_id}"},
	{"os_compute_api:os-security-groups:add", ruleMember, "Add security groups to server.", "POST /servers/{server_id}/action (addSecurityGroup)"},
	{"os_compute_api:os-security-groups:remove", ruleMember, "Remove security groups from server.", "POST /servers/{server_id}/action (removeSecurityGroup)"},
	{"os_compute_api:os-security-groups:get", ruleReader, "List security groups.", "GET /os-security-groups"},
	{"os_compute_api:os-security-groups:show", ruleReader, "Show security group.", "GET /os-security-groups/{security_group_id}"},
	{"os_compute_api:os-security-groups:create", ruleMember, "Create security group.", "POST /os-security-groups"},
	{"os_compute_api:os-security-groups:update", ruleMember, "Update security group.", "PUT /os-security-groups/{security_group_id}"},
	{"os_compute_api:os-security-groups:delete", ruleMember, "Delete security group.", "DELETE /os-security-groups/{security_group_id}"},
	{"os_compute_api:os-security-groups:rule:create", ruleMember, "Create security group rule.", "POST /os-security-group-rules"},
	{"os_compute_api:os-security-groups:rule:delete", ruleMember, "Delete security group rule.", "DELETE /os-security-group-rules/{security_group_id}"},
	{"os_compute_api:os-security-groups:list", ruleReader, "List security groups of server.", "GET /servers/{server_id}/os-security-groups"},
	{"os_compute_api:os-flavor-manage:create", ruleAdmin, "Create a flavor.", "POST /flavors"},
	{"os_compute_api:os-flavor-manage:update", ruleAdmin, "Update a flavor.", "PUT /flavors/{flavor_id}"},
	{"os_compute_api:os-flavor-manage:delete", ruleAdmin, "Delete a flavor.", "DELETE /flavors/{flavor_id}"},
	{"os_compute_api:os-flavor-access", ruleAdmin, "List flavor access information.", "GET /flavors/{flavor_id}/os-flavor-access"},
	{"os_compute_api:os-flavor-access:add_tenant_access", ruleAdmin, "Add flavor access to a tenant.", "POST /flavors/{flavor_id}/action (addTenantAccess)"},
	{"os_compute_api:os-flavor-access:remove_tenant_access", ruleAdmin, "Remove flavor access from a tenant.", "POST /flavors/{flavor_id}/action (removeTenantAccess)"},
	{"os_compute_api:os-flavor-extra-specs:index", ruleReader, "List extra specs for a flavor.", "GET /flavors/{flavor_id}/os-extra_specs"},
	{"os_compute_api:os-flavor-extra-specs:show", ruleReader, "Show an extra spec for a flavor.", "GET /flavors/{flavor_id}/os-extra_specs/{key}"},
	{"os_compute_api:os-flavor-extra-specs:create", ruleAdmin, "Create extra specs for a flavor.", "POST /flavors/{flavor_id}/os-extra_specs"},
	{"os_compute_api:os-flavor-extra-specs:update", ruleAdmin, "Update an extra spec for a flavor.", "PUT /flavors/{flavor_id}/os-extra_specs/{key}"},
	{"os_compute_api:os-flavor-extra-specs:delete", ruleAdmin, "Delete an extra spec for a flavor.", "DELETE /flavors/{flavor_id}/os-extra_specs/{key}"},
	{"os_compute_api:os-keypairs:index", "rule:context_is_admin or user_id:%(user_id)s", "List all keypairs.", "GET /os-keypairs"},
	{"os_compute_api:os-keypairs:show", "rule:context_is_admin or user_id:%(user_id)s", "Show details of a keypair.", "GET /os-keypairs/{keypair_name}"},
	{"os_compute_api:os-keypairs:create", "rule:context_is_admin or user_id:%(user_id)s", "Create a keypair.", "POST /os-keypairs"},
	{"os_compute_api:os-keypairs:delete", "rule:context_is_admin or user_id:%(user_id)s", "Delete a keypair.", "DELETE /os-keypairs/{keypair_name}"},
	{"os_compute_api:os-hypervisors:list", ruleAdmin, "List all hypervisors.", "GET /os-hypervisors"},
	{"os_compute_api:os-hypervisors:list-detail", ruleAdmin, "List all hypervisors with details.", "GET /os-hypervisors/detail"},
	{"os_compute_api:os-hypervisors:statistics", ruleAdmin, "Show summary statistics for all hypervisors.", "GET /os-hypervisors/statistics"},
	{"os_compute_api:os-hypervisors:show", ruleAdmin, "Show details for a hypervisor.", "GET /os-hypervisors/{hypervisor_id}"},
	{"os_compute_api:os-hypervisors:uptime", ruleAdmin, "Show the uptime of a hypervisor.", "GET /os-hypervisors/{hypervisor_id}/uptime"},
	{"os_compute_api:os-hypervisors:search", ruleAdmin, "Search hypervisor by hypervisor_hostname pattern.", "GET /os-hypervisors/{pattern}/search"},
	{"os_compute_api:os-hypervisors:servers", ruleAdmin, "List all servers on hypervisors.", "GET /os-hypervisors/{pattern}/servers"},
	{"os_compute_api:os-server-external-events:create", "rule:service_or_admin", "Create one or more external events", "POST /os-server-external-events"},
	{"os_compute_api:os-services:list", ruleAdmin, "List all running Compute services.", "GET /os-services"},
	{"os_compute_api:os-services:update", ruleAdmin, "Update a Compute service.", "PUT /os-services/{service_id}"},
	{"os_compute_api:os-services:delete", ruleAdmin, "Delete a Compute service.", "DELETE /os-services/{service_id}"},
	{"os_compute_api:os-availability-zone:list", ruleAny, "List availability zone information without host information.", "GET /os-availability-zone"},
	{"os_compute_api:os-availability-zone:detail", ruleAdmin, "List detailed availability zone information with host information.", "GET /os-availability-zone/detail"},
	{"os_compute_api:limits", ruleAny, "Show rate and absolute limits for the current user project.", "GET /limits"},
	{"os_compute_api:limits:other_project", ruleAdmin, "Show limits of other projects.", "GET /limits"},
	{"os_compute_api:servers:resize", ruleMember, "Resize a server.", "POST /servers/{server_id}/action (resize)"},
	{"os_compute_api:servers:confirm_resize", ruleMember, "Confirm a server resize.", "POST /servers/{server_id}/action (confirmResize)"},
	{"os_compute_api:servers:revert_resize", ruleMember, "Revert a server resize.", "POST /servers/{server_id}/action (revertResize)"},
	{"os_compute_api:servers:rebuild", ruleMember, "Rebuild a server.", "POST /servers/{server_id}/action (rebuild)"},
	{"os_compute_api:os-migrate-server:migrate", ruleManager, "Cold migrate a server without specifying a host.", "POST /servers/{server_id}/action (migrate)"},
	{"os_compute_api:os-migrate-server:migrate:host", ruleAdmin, "Cold migrate a server to a specified host.", "POST /servers/{server_id}/action (migrate)"},
	{"os_compute_api:os-migrate-server:migrate_live", ruleManager, "Live migrate a server to a new host without a reboot without specifying a host.", "POST /servers/{server_id}/action (os-migrateLive)"},
	{"os_compute_api:os-migrate-server:migrate_live:host", ruleAdmin, "Live migrate a server to a specified host without a reboot.", "POST /servers/{server_id}/action (os-migrateLive)"},
	{"os_compute_api:os-evacuate", ruleAdmin, "Evacuate a server from a failed host to a new host.", "POST /servers/{server_id}/action (evacuate)"},
	{"os_compute_api:os-migrations:index", ruleManager, "List migrations without host info.", "GET /os-migrations"},
	{"os_compute_api:os-migrations:index:all_projects", ruleAdmin, "List migrations for all or cross projects.", "GET /os-migrations"},
	{"os_compute_api:os-migrations:index:host", ruleAdmin, "List migrations with host info.", "GET /os-migrations"},
	{"os_compute_api:servers:migrations:index", ruleManager, "List in-progress live migrations for a given server without host info.", "GET /servers/{server_id}/migrations"},
	{"os_compute_api:servers:migrations:index:host", ruleAdmin, "List in-progress live migrations for a given server with host info.", "GET /servers/{server_id}/migrations"},
	{"os_compute_api:servers:migrations:show", ruleAdmin, "Show details for an in-progress live migration for a given server.", "GET /servers/{server_id}/migrations/{migration_id}"},
	{"os_compute_api:servers:migrations:force_complete", ruleManager, "Force an in-progress live migration for a given server to complete.", "POST /servers/{server_id}/migrations/{migration_id}/action (force_complete)"},
	{"os_compute_api:servers:migrations:delete", ruleManager, "Delete (abort) an in-progress live migration.", "DELETE /servers/{server_id}/migrations/{migration_id}"},
	{"os_compute_api:os-quota-sets:show", ruleReader, "Show a quota.", "GET /os-quota-sets/{tenant_id}"},
	{"os_compute_api:os-quota-sets:detail", ruleReader, "Show the detail of quota.", "GET /os-quota-sets/{tenant_id}/detail"},
	{"os_compute_api:os-quota-sets:defaults", ruleAny, "List default quotas.", "GET /os-quota-sets/{tenant_id}/defaults"},
	{"os_compute_api:os-quota-sets:update", ruleAdmin, "Update the quotas.", "PUT /os-quota-sets/{tenant_id}"},
	{"os_compute_api:os-quota-sets:delete", ruleAdmin, "Revert quotas to defaults.", "DELETE /os-quota-sets/{tenant_id}"},
	{"os_compute_api:os-quota-class-sets:show", ruleAdmin, "List quotas for specific quota class.", "GET /os-quota-class-sets/{quota_class}"},
	{"os_compute_api:os-quota-class-sets:update", ruleAdmin, "Update quotas for specific quota class.", "PUT /os-quota-class-sets/{quota_class}"},
	{"os_compute_api:os-simple-tenant-usage:show", ruleReader, "Show usage statistics for a specific tenant.", "GET /os-simple-tenant-usage/{tenant_id}"},
	{"os_compute_api:os-simple-tenant-usage:list", ruleAdmin, "List per tenant usage statistics for all tenants.", "GET /os-simple-tenant-usage"},
	{"os_compute_api:os-server-groups:create", ruleMember, "Create a new server group.", "POST /os-server-groups"},
	{"os_compute_api:os-server-groups:delete", ruleMember, "Delete a server group.", "DELETE /os-server-groups/{server_group_id}"},
	{"os_compute_api:os-server-groups:index", ruleReader, "List all server groups.", "GET /os-server-groups"},
	{"os_compute_api:os-server-groups:index:all_projects", ruleAdmin, "List all server groups for all projects.", "GET /os-server-groups"},
	{"os_compute_api:os-server-groups:show", ruleReader, "Show details of a server group.", "GET /os-server-groups/{server_group_id}"},
	{"os_compute_api:os-aggregates:index", ruleAdmin, "List all aggregates.", "GET /os-aggregates"},
	{"os_compute_api:os-aggregates:create", ruleAdmin, "Create an aggregate.", "POST /os-aggregates"},
	{"os_compute_api:os-aggregates:show", ruleAdmin, "Show details for an aggregate.", "GET /os-aggregates/{aggregate_id}"},
	{"os_compute_api:os-aggregates:update", ruleAdmin, "Update name and/or availability zone for an aggregate.", "PUT /os-aggregates/{aggregate_id}"},
	{"os_compute_api:os-aggregates:delete", ruleAdmin, "Delete an aggregate.", "DELETE /os-aggregates/{aggregate_id}"},
	{"os_compute_api:os-aggregates:add_host", ruleAdmin, "Add a host to an aggregate.", "POST /os-aggregates/{aggregate_id}/action (add_host)"},
	{"os_compute_api:os-aggregates:remove_host", ruleAdmin, "Remove a host from an aggregate.", "POST /os-aggregates/{aggregate_id}/action (remove_host)"},
	{"os_compute_api:os-aggregates:set_metadata", ruleAdmin, "Create or replace metadata for an aggregate.", "POST /os-aggregates/{aggregate_id}/action (set_metadata)"},
	{"os_compute_api:extensions", ruleAny, "List available extensions and show information for an extension.", "GET /extensions"},
}

// Rules are nova's policy rules with their 2025.1 defaults, for the operations
// that are built.
func Rules() []nacre.Rule {
	out := make([]nacre.Rule, 0, len(baseRules)+len(ruleTable))
	for _, r := range baseRules {
		out = append(out, nacre.Rule{Name: r.name, Check: r.check, Description: r.desc})
	}
	for _, r := range ruleTable {
		out = append(out, nacre.Rule{Name: r.name, Check: r.check, Scopes: []string{"project"}, Description: r.desc, Operations: []string{r.ops}})
	}
	return out
}
