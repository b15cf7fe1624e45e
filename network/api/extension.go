package api

import (
	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/internal/rest"
)

type extensionView struct {
	Alias       string   `json:"alias"`
	Name        string   `json:"name"`
	Description string   `json:"description"`
	Updated     string   `json:"updated"`
	Links       []string `json:"links"`
}

// extensions are those whose fields and filters work here.
var extensions = func() []extensionView {
	var out []extensionView
	for _, e := range [][3]string{
		{"address-group", "Address group", "Support address group"},
		{"agent", "agent", "The agent management extension."},
		{"allowed-address-pairs", "Allowed Address Pairs", "Provides allowed address pairs"},
		{"availability_zone", "Availability Zone", "The availability zone extension."},
		{"binding-extended", "Port Bindings Extended", "Expose port bindings of a virtual port to external application"},
		{"binding", "Port Binding", "Expose port bindings of a virtual port to external application"},
		{"default-subnetpools", "Default Subnetpools", "Provides ability to mark and use a subnetpool as the default."},
		{"dns-integration", "DNS Integration", "Provides integration with DNS."},
		{"ext-gw-mode", "Neutron L3 Configurable external gateway mode", "Extension of the router abstraction for specifying whether SNAT should occur on the external gateway"},
		{"external-net", "Neutron external network", "Adds external network attribute to network resource."},
		{"extra_dhcp_opt", "Neutron Extra DHCP options", "Extra options configuration for DHCP."},
		{"extraroute", "Neutron Extra Route", "Extra routes configuration for L3 router"},
		{"extraroute-atomic", "Atomically add/remove extra routes", "Edit extra routes of a router on server side by atomically adding/removing extra routes"},
		{"fip-port-details", "Floating IP Port Details Extension", "Add port_details attribute to Floating IP resource"},
		{"l3_agent_scheduler", "L3 Agent Scheduler", "Schedule routers among l3 agents"},
		{"multi-provider", "Multi Provider Network", "Expose mapping of virtual networks to multiple physical networks"},
		{"net-mtu", "Network MTU", "Provides MTU attribute for a network resource."},
		{"net-mtu-writable", "Network MTU (writable)", "Provides a writable MTU attribute for a network resource."},
		{"network-ip-availability", "Network IP Availability", "Provides IP availability data for each network and subnet."},
		{"network_availability_zone", "Network Availability Zone", "Availability zone support for network."},
		{"pagination", "Pagination support", "Extension that indicates that pagination is enabled."},
		{"port-security", "Port Security", "Provides port security"},
		{"port-trusted-vif", "Port trusted vif", "Expose port 'trusted' attribute in the API"},
		{"project-id", "project_id field enabled", "Extension that indicates that project_id field is enabled."},
		{"provider", "Provider Network", "Expose mapping of virtual networks to physical networks"},
		{"quotas", "Quota management support", "Expose functions for quotas management per project"},
		{"quota_details", "Quota details management support", "Expose functions for quotas usage statistics per project"},
		{"revision-if-match", "If-Match constraints based on revision_number", "Extension indicating that If-Match based on revision_number is supported."},
		{"router", "Neutron L3 Router", "Router abstraction for basic L3 forwarding between L2 Neutron networks and access to external networks via a NAT gateway."},
		{"router_availability_zone", "Router Availability Zone", "Availability zone support for router."},
		{"security-groups-remote-address-group", "Remote address group id field for security group rules", "Add new field of remote address group id in SG rules"},
		{"security-group", "security-group", "The security groups extension."},
		{"sorting", "Sorting support", "Extension that indicates that sorting is enabled."},
		{"standard-attr-description", "standard-attr-description", "Extension to add descriptions to standard attributes"},
		{"standard-attr-revisions", "Resource revision numbers", "This extension will display the revision number of neutron resources."},
		{"standard-attr-tag", "Tag support for resources with standard attribute: network, subnet, port, router, floatingip, security_group", "Enables to set tag on resources with standard attribute."},
		{"standard-attr-timestamp", "Resource timestamps", "Adds created_at and updated_at fields to all Neutron resources that have Neutron standard attributes."},
		{"subnet_allocation", "Subnet Allocation", "Enables allocation of subnets from a subnet pool"},
		{"subnetpool-prefix-ops", "Subnet Pool Prefix Operations", "Provides support for adjusting the prefix list of subnet pools"},
		{"stateful-security-group", "Stateful security group", "Indicates if the security group is stateful or not"},
	} {
		out = append(out, extensionView{e[0], e[1], e[2], "2017-01-01T00:00:00-00:00", []string{}})
	}
	return out
}()

func (a *api) extensionRoutes() []rest.Route {
	return []rest.Route{
		{Method: "GET", Path: "/v2.0/extensions", Op: rest.Do(func(*rest.Request) (any, error) { return map[string]any{"extensions": extensions}, nil })},
		{Method: "GET", Path: "/v2.0/extensions/{alias}", Op: rest.Do(func(r *rest.Request) (any, error) {
			for _, e := range extensions {
				if e.Alias == r.Var("alias") {
					return map[string]any{"extension": e}, nil
				}
			}
			return nil, nacre.Errorf(nacre.NotFound, "HTTPNotFound", "Extension with alias %s does not exist", r.Var("alias"))
		})},
	}
}
