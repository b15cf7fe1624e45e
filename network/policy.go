package network

import "github.com/nacre-cloud/nacre"

// Neutron's base checks (neutron/conf/policies/base.py, 2025.1).
const (
	adminOnly = "rule:admin_only"
	reader    = "(rule:admin_only) or (role:reader and project_id:%(project_id)s)"
	member    = "(rule:admin_only) or (role:member and project_id:%(project_id)s)"
	// parent is who owns the network that a subnet or port is on.
	parentReader = reader + " or (role:reader and project_id:%(network:project_id)s)"
	parentMember = member + " or (role:member and project_id:%(network:project_id)s)"
	parentOwner  = "(rule:admin_only) or (role:member and project_id:%(network:project_id)s)"
	service      = "rule:admin_only or role:service"
)

type ruleRow struct{ name, check, desc string }

var ruleTable = []ruleRow{
	{"create_network", member, "Create a network"},
	{"create_network:shared", adminOnly, "Create a shared network"},
	{"create_network:router:external", adminOnly, "Create an external network"},
	{"create_network:is_default", adminOnly, "Specify is_default attribute when creating a network"},
	{"create_network:provider:network_type", adminOnly, "Specify provider:network_type when creating a network"},
	{"get_network", reader + " or rule:shared or rule:external", "Get a network"},
	{"get_network:provider:network_type", adminOnly, "Get provider attributes of a network"},
	{"update_network", member, "Update a network"},
	{"update_network:shared", adminOnly, "Update shared attribute of a network"},
	{"update_network:router:external", adminOnly, "Update router:external attribute of a network"},
	{"update_network:is_default", adminOnly, "Update is_default attribute of a network"},
	{"update_network:provider:network_type", adminOnly, "Update provider attributes of a network"},
	{"delete_network", member, "Delete a network"},
	{"create_subnet", parentOwner, "Create a subnet"},
	{"get_subnet", parentReader + " or rule:shared", "Get a subnet"},
	{"update_subnet", parentMember, "Update a subnet"},
	{"delete_subnet", parentMember, "Delete a subnet"},
	{"create_subnetpool", member, "Create a subnetpool"},
	{"create_subnetpool:shared", adminOnly, "Create a shared subnetpool"},
	{"create_subnetpool:is_default", adminOnly, "Specify is_default attribute when creating a subnetpool"},
	{"get_subnetpool", reader + " or rule:shared", "Get a subnetpool"},
	{"update_subnetpool", member, "Update a subnetpool"},
	{"update_subnetpool:is_default", adminOnly, "Update is_default attribute of a subnetpool"},
	{"delete_subnetpool", member, "Delete a subnetpool"},
	{"create_port", member + " or " + service, "Create a port"},
	{"create_port:device_owner", "not rule:network_device or " + service + " or rule:network_owner_member", "Specify device_owner attribute when creating a port"},
	{"create_port:mac_address", service + " or rule:network_owner_member", "Specify mac_address attribute when creating a port"},
	{"create_port:fixed_ips", service + " or rule:network_owner_member or rule:shared_network", "Specify fixed_ips information when creating a port"},
	{"create_port:fixed_ips:ip_address", service + " or rule:network_owner_member", "Specify IP address in fixed_ips when creating a port"},
	{"create_port:port_security_enabled", service + " or rule:network_owner_member", "Specify port_security_enabled attribute when creating a port"},
	{"create_port:binding:host_id", service, "Specify binding:host_id attribute when creating a port"},
	{"create_port:binding:profile", "role:service or rule:admin_only", "Specify binding:profile attribute when creating a port"},
	{"create_port:allowed_address_pairs", adminOnly + " or rule:network_owner_member", "Specify allowed_address_pairs when creating a port"},
	{"create_port:trusted", adminOnly, "Specify trusted attribute when creating a port"},
	{"get_port", parentReader + " or " + service, "Get a port"},
	{"get_port:binding:host_id", service, "Get binding attributes of a port"},
	{"update_port", member + " or " + service, "Update a port"},
	{"update_port:device_owner", "not rule:network_device or " + service + " or rule:network_owner_member", "Update device_owner attribute of a port"},
	{"update_port:mac_address", service, "Update mac_address attribute of a port"},
	{"update_port:fixed_ips", service + " or rule:network_owner_member", "Specify fixed_ips information when updating a port"},
	{"update_port:fixed_ips:ip_address", service + " or rule:network_owner_member", "Specify IP address in fixed_ips information when updating a port"},
	{"update_port:port_security_enabled", service + " or rule:network_owner_member", "Update port_security_enabled attribute of a port"},
	{"update_port:binding:host_id", service, "Update binding:host_id attribute of a port"},
	{"update_port:binding:profile", "role:service or rule:admin_only", "Update binding:profile attribute of a port"},
	{"update_port:allowed_address_pairs", adminOnly + " or rule:network_owner_member", "Update allowed_address_pairs attribute of a port"},
	{"update_port:trusted", adminOnly, "Update trusted attribute of a port"},
	{"delete_port", parentMember + " or " + service, "Delete a port"},
	{"get_port_binding", service, "Get port binding information"},
	{"create_port_binding", "role:service", "Create port binding on the host"},
	{"delete_port_binding", "role:service", "Delete port binding on the host"},
	{"activate", "role:service", "Activate port binding on the host"},
	{"create_router", member, "Create a router"},
	{"create_router:external_gateway_info:enable_snat", adminOnly, "Specify enable_snat in external_gateway_info when creating a router"},
	{"create_router:external_gateway_info:external_fixed_ips", adminOnly, "Specify external_fixed_ips in external_gateway_info when creating a router"},
	{"get_router", reader, "Get a router"},
	{"update_router", member, "Update a router"},
	{"update_router:external_gateway_info:enable_snat", adminOnly, "Update enable_snat of a router's gateway"},
	{"update_router:external_gateway_info:external_fixed_ips", adminOnly, "Update external_fixed_ips of a router's gateway"},
	{"delete_router", member, "Delete a router"},
	{"add_router_interface", member, "Add an interface to a router"},
	{"remove_router_interface", member, "Remove an interface from a router"},
	{"create_floatingip", member, "Create a floating IP"},
	{"create_floatingip:floating_ip_address", adminOnly, "Create a floating IP with a specific IP address"},
	{"get_floatingip", reader, "Get a floating IP"},
	{"update_floatingip", member, "Update a floating IP"},
	{"delete_floatingip", member, "Delete a floating IP"},
	{"create_security_group", member, "Create a security group"},
	{"get_security_group", reader, "Get a security group"},
	{"update_security_group", member, "Update a security group"},
	{"delete_security_group", member, "Delete a security group"},
	{"create_security_group_rule", member, "Create a security group rule"},
	{"get_security_group_rule", reader, "Get a security group rule"},
	{"delete_security_group_rule", member, "Delete a security group rule"},
	{"create_address_group", member, "Create an address group"},
	{"get_address_group", reader, "Get an address group"},
	{"update_address_group", member, "Update an address group"},
	{"delete_address_group", member, "Delete an address group"},
	{"get_quota", "rule:admin_only or (role:manager and project_id:%(project_id)s)", "Get a resource quota"},
	{"update_quota", adminOnly, "Update a resource quota"},
	{"delete_quota", adminOnly, "Delete a resource quota"},
	{"get_agent", adminOnly, "Get an agent"},
	{"update_agent", adminOnly, "Update an agent"},
	{"delete_agent", adminOnly, "Delete an agent"},
	{"create_l3-router", adminOnly, "Add a router to an L3 agent"},
	{"get_l3-routers", adminOnly, "List routers on an L3 agent"},
	{"delete_l3-router", adminOnly, "Remove a router from an L3 agent"},
	{"get_l3-agents", adminOnly, "List L3 agents hosting a router"},
	{"get_network_ip_availability", adminOnly, "Get network IP availability"},
	{"get_availability_zone", "@", "List availability zones"},
}

// Rules are neutron's policy rules with their 2025.1 defaults, for the operations
// that are built.
func Rules() []nacre.Rule {
	out := []nacre.Rule{
		{Name: "context_is_admin", Check: "role:admin", Description: "Rule for cloud admin access"},
		{Name: "admin_only", Check: "rule:context_is_admin", Description: "Rule for admin-only access"},
		{Name: "shared", Check: "'True':%(shared)s", Description: "Rule of shared resources"},
		{Name: "external", Check: "'True':%(router:external)s", Description: "Rule of external networks"},
		{Name: "shared_network", Check: "'True':%(network:shared)s", Description: "Rule of shared networks"},
		{Name: "network_owner_member", Check: "role:member and project_id:%(network:project_id)s", Description: "Rule for common network owner access"},
		{Name: "network_device", Check: "field:port:device_owner=~^network:", Description: "Rule for network devices"},
	}
	for _, r := range ruleTable {
		out = append(out, nacre.Rule{Name: r.name, Check: r.check, Scopes: []string{"project"}, Description: r.desc})
	}
	return out
}
