package api_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/attributestags"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/external"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/floatingips"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/routers"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/portsbinding"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/provider"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/quotas"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/security/groups"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/security/rules"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/networks"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/subnets"
	"github.com/gophercloud/gophercloud/v2/pagination"
	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/bus"
	"github.com/nacre-cloud/nacre/internal/rest"
	"github.com/nacre-cloud/nacre/network"
	"github.com/nacre-cloud/nacre/network/api"
	"github.com/nacre-cloud/nacre/store"
	"github.com/nacre-cloud/nacre/store/memstore"
)

// people are the tokens that the API knows.
type people map[string]*nacre.Caller

func (p people) ValidateToken(_ context.Context, token string) (*nacre.Caller, error) {
	c, ok := p[token]
	if !ok {
		return nil, nacre.Errorf(nacre.Unauthenticated, "", "no such token")
	}
	return c, nil
}

func person(project string, roles ...string) *nacre.Caller {
	return &nacre.Caller{UserID: project, ProjectID: project, Roles: roles}
}

// cloud is the API without a socket.
type cloud struct {
	t                 testing.TB
	svc               *network.Service
	h                 http.Handler
	admin, alice, bob *gophercloud.ServiceClient
}

func newCloud(t testing.TB) *cloud {
	t.Helper()
	e := memstore.New(memstore.Options{})
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	require.NoError(t, e.Migrate(t.Context(), network.Schema(), true))
	svc, err := network.New(network.Config{Engine: e, Bus: bus.New(bus.NewMemory(bus.MemoryOptions{}), nil)})
	require.NoError(t, err)
	_, err = svc.AddHost(t.Context(), "node1")
	require.NoError(t, err)
	c := &cloud{t: t, svc: svc, h: api.New(api.Config{Network: svc, AuthURI: "http://cloud/identity", Tokens: people{
		"admin": person("admin", "admin", "member", "reader"), "alice": person("alice", "member", "reader"), "bob": person("bob", "member", "reader"), "eve": person("alice", "reader"), "service": person("service", "service", "member", "reader"),
	}})}
	client := func(token string) *gophercloud.ServiceClient {
		p := &gophercloud.ProviderClient{TokenID: token, HTTPClient: http.Client{Transport: rest.Transport(c.h)}}
		return &gophercloud.ServiceClient{ProviderClient: p, Endpoint: "http://cloud/", ResourceBase: "http://cloud/v2.0/"}
	}
	c.admin, c.alice, c.bob = client("admin"), client("alice"), client("bob")
	return c
}

// do sends a request and returns status, headers and decoded body.
func (c *cloud) do(method, path, token, body string, headers ...string) (int, http.Header, map[string]any) {
	c.t.Helper()
	r := httptest.NewRequestWithContext(c.t.Context(), method, "http://cloud/v2.0"+path, strings.NewReader(body))
	r.Header.Set("X-Auth-Token", token)
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	c.h.ServeHTTP(w, r)
	var m map[string]any
	if w.Body.Len() > 0 && strings.HasPrefix(w.Header().Get("Content-Type"), "application/json") {
		require.NoError(c.t, json.Unmarshal(w.Body.Bytes(), &m), w.Body.String())
	}
	return w.Code, w.Header(), m
}

// fails asserts the status and neutron's name of an error.
func (c *cloud) fails(code int, typ, method, path, token, body string, headers ...string) {
	c.t.Helper()
	got, _, m := c.do(method, path, token, body, headers...)
	require.Equal(c.t, code, got, "%v", m)
	e, ok := m["NeutronError"].(map[string]any)
	require.True(c.t, ok, "%v", m)
	require.Equal(c.t, typ, e["type"], "%v", e)
	require.NotEmpty(c.t, e["message"])
}

func pages[T any](t testing.TB, p pagination.Pager, extract func(pagination.Page) ([]T, error)) []T {
	t.Helper()
	all, err := p.AllPages(t.Context())
	require.NoError(t, err)
	out, err := extract(all)
	require.NoError(t, err)
	return out
}

func ptr[T any](v T) *T { return &v }

// A project's whole way to a machine that can be reached.
func TestStory(t *testing.T) {
	c := newCloud(t)
	ctx := t.Context()
	pub, err := networks.Create(ctx, c.admin, provider.CreateOptsExt{
		CreateOptsBuilder: external.CreateOptsExt{CreateOptsBuilder: networks.CreateOpts{Name: "public"}, External: ptr(true)},
		Segments:          []provider.Segment{{NetworkType: "flat", PhysicalNetwork: "public"}},
	}).Extract()
	require.NoError(t, err)
	_, err = subnets.Create(ctx, c.admin, subnets.CreateOpts{NetworkID: pub.ID, CIDR: "172.24.4.0/24", IPVersion: 4, EnableDHCP: ptr(false)}).Extract()
	require.NoError(t, err)

	n, err := networks.Create(ctx, c.alice, networks.CreateOpts{Name: "net", AdminStateUp: ptr(true)}).Extract()
	require.NoError(t, err)
	require.Equal(t, "alice", n.ProjectID)
	sn, err := subnets.Create(ctx, c.alice, subnets.CreateOpts{NetworkID: n.ID, CIDR: "10.0.0.0/24", IPVersion: 4, DNSNameservers: []string{"1.1.1.1"}}).Extract()
	require.NoError(t, err)
	r, err := routers.Create(ctx, c.alice, routers.CreateOpts{Name: "r", GatewayInfo: &routers.GatewayInfo{NetworkID: pub.ID}}).Extract()
	require.NoError(t, err)
	require.Len(t, r.GatewayInfo.ExternalFixedIPs, 1)
	leg, err := routers.AddInterface(ctx, c.alice, r.ID, routers.AddInterfaceOpts{SubnetID: sn.ID}).Extract()
	require.NoError(t, err)
	require.Equal(t, sn.ID, leg.SubnetID)
	g, err := groups.Create(ctx, c.alice, groups.CreateOpts{Name: "ssh"}).Extract()
	require.NoError(t, err)
	require.Len(t, g.Rules, 2)
	_, err = rules.Create(ctx, c.alice, rules.CreateOpts{SecGroupID: g.ID, Direction: "ingress", EtherType: "IPv4", Protocol: "tcp", PortRangeMin: 22, PortRangeMax: 22}).Extract()
	require.NoError(t, err)
	p, err := ports.Create(ctx, c.alice, ports.CreateOpts{NetworkID: n.ID, SecurityGroups: &[]string{g.ID}}).Extract()
	require.NoError(t, err)
	require.Equal(t, "10.0.0.3", p.FixedIPs[0].IPAddress)
	f, err := floatingips.Create(ctx, c.alice, floatingips.CreateOpts{FloatingNetworkID: pub.ID, PortID: p.ID}).Extract()
	require.NoError(t, err)
	require.Equal(t, r.ID, f.RouterID)
	require.Equal(t, "10.0.0.3", f.FixedIP)

	// What administrators see and others don't.
	var bound struct {
		ports.Port
		portsbinding.PortsBindingExt
	}
	require.NoError(t, ports.Get(ctx, c.admin, p.ID).ExtractInto(&bound))
	require.Equal(t, "unbound", bound.VIFType)
	_, _, m := c.do("GET", "/ports/"+p.ID, "alice", "")
	require.NotContains(t, m["port"], "binding:host_id")
	require.Contains(t, m["port"], "binding:vnic_type")
	_, _, m = c.do("GET", "/networks/"+n.ID, "alice", "")
	require.NotContains(t, m["network"], "provider:segmentation_id")
	_, _, m = c.do("GET", "/networks/"+n.ID, "admin", "")
	require.Equal(t, "vxlan", m["network"].(map[string]any)["provider:network_type"])

	require.Empty(t, pages(t, ports.List(c.bob, ports.ListOpts{}), ports.ExtractPorts))
	seen := pages(t, networks.List(c.bob, networks.ListOpts{}), networks.ExtractNetworks)
	require.Len(t, seen, 1)
	require.Equal(t, "public", seen[0].Name)

	// Everything goes again.
	require.True(t, gophercloud.ResponseCodeIs(networks.Delete(ctx, c.alice, n.ID).ExtractErr(), 409))
	require.NoError(t, floatingips.Delete(ctx, c.alice, f.ID).ExtractErr())
	require.NoError(t, ports.Delete(ctx, c.alice, p.ID).ExtractErr())
	_, err = routers.RemoveInterface(ctx, c.alice, r.ID, routers.RemoveInterfaceOpts{SubnetID: sn.ID}).Extract()
	require.NoError(t, err)
	require.NoError(t, routers.Delete(ctx, c.alice, r.ID).ExtractErr())
	require.NoError(t, networks.Delete(ctx, c.alice, n.ID).ExtractErr())
	require.NoError(t, groups.Delete(ctx, c.alice, g.ID).ExtractErr())
	found, err := c.svc.Audit(nacre.AsService(ctx, "network"))
	require.NoError(t, err)
	require.Empty(t, found)
}

func TestErrors(t *testing.T) {
	c := newCloud(t)
	code, h, _ := c.do("GET", "/networks", "stranger", "")
	require.Equal(t, 401, code)
	require.NotEmpty(t, h.Get("WWW-Authenticate"))
	code, _, _ = c.do("GET", "/nowhere", "alice", "")
	require.Equal(t, 404, code)
	code, _, m := c.do("POST", "/networks", "alice", `{"network":{"name":"n"}}`)
	require.Equal(t, 201, code)
	id := m["network"].(map[string]any)["id"].(string)

	c.fails(404, "NetworkNotFound", "GET", "/networks/"+id, "bob", "")
	c.fails(403, "PolicyNotAuthorized", "POST", "/networks", "eve", `{"network":{}}`)
	c.fails(403, "PolicyNotAuthorized", "POST", "/networks", "alice", `{"network":{"project_id":"bob"}}`)
	c.fails(403, "PolicyNotAuthorized", "PUT", "/networks/"+id, "alice", `{"network":{"shared":true}}`)
	c.fails(403, "PolicyNotAuthorized", "GET", "/agents/"+id, "alice", "")
	code, _, m = c.do("GET", "/agents", "alice", "")
	require.Equal(t, 200, code)
	require.Empty(t, m["agents"])
	c.fails(400, "HTTPBadRequest", "POST", "/networks", "alice", `{"network":{"colour":"red"}}`)
	c.fails(400, "HTTPBadRequest", "POST", "/networks", "alice", `{"net":{}}`)
	c.fails(400, "HTTPBadRequest", "POST", "/networks", "alice", `{"network":{"admin_state_up":"perhaps"}}`)
	c.fails(400, "HTTPBadRequest", "POST", "/subnets", "alice", `{"subnet":{"cidr":"10.0.0.0/24","ip_version":4}}`)
	c.fails(400, "HTTPBadRequest", "PUT", "/networks/"+id, "alice", `{"network":{"name":"x"}}`, "If-Match", "nonsense")
	c.fails(412, "RevisionNumberConstraintFailed", "PUT", "/networks/"+id, "alice", `{"network":{"name":"x"}}`, "If-Match", "revision_number=77")
	c.fails(400, "HTTPBadRequest", "GET", "/networks?admin_state_up=perhaps", "alice", "")
	c.fails(404, "PortNotFound", "GET", "/ports/"+id, "alice", "")
	c.fails(404, "SubnetNotFound", "DELETE", "/subnets/"+id, "alice", "")
	c.fails(404, "RouterNotFound", "PUT", "/routers/"+id, "alice", `{"router":{}}`)
	c.fails(404, "FloatingIPNotFound", "GET", "/floatingips/"+id, "alice", "")
	c.fails(404, "SecurityGroupNotFound", "GET", "/security-groups/"+id, "alice", "")
	c.fails(404, "SecurityGroupRuleNotFound", "GET", "/security-group-rules/"+id, "alice", "")
	c.fails(400, "BadRequest", "POST", "/floatingips", "alice", `{"floatingip":{"floating_network_id":"`+id+`"}}`)
	c.fails(400, "InvalidInput", "POST", "/networks", "admin", `{"network":{"provider:network_type":"vlan","provider:segmentation_id":3}}`)
	code, _, _ = c.do("PUT", "/quotas/alice", "admin", `{"quota":{"network":1}}`)
	require.Equal(t, 200, code)
	c.fails(409, "OverQuota", "POST", "/networks", "alice", `{"network":{}}`)
	c.fails(409, "OverQuota", "POST", "/networks", "alice", `{"networks":[{"name":"a"},{"name":"b"}]}`)
	c.fails(403, "PolicyNotAuthorized", "GET", "/quotas/alice/details", "bob", "")
}

func TestBulkFieldsAndPages(t *testing.T) {
	c := newCloud(t)
	code, _, m := c.do("POST", "/networks", "alice", `{"networks":[{"name":"a"},{"name":"b"},{"name":"c"},{"name":"d"}]}`)
	require.Equal(t, 201, code, "%v", m)
	require.Len(t, m["networks"], 4)
	// One that fails takes the others with it.
	c.fails(400, "InvalidInput", "POST", "/networks", "alice", `{"networks":[{"name":"e"},{"mtu":9000}]}`)

	c.fails(404, "SecurityGroupNotFound", "POST", "/ports", "alice", `{"ports":[{"network_id":"`+m["networks"].([]any)[0].(map[string]any)["id"].(string)+`"},{"network_id":"`+m["networks"].([]any)[1].(map[string]any)["id"].(string)+`","security_groups":["00000000-0000-0000-0000-000000000000"]}]}`)
	require.Empty(t, pages(t, ports.List(c.alice, ports.ListOpts{}), ports.ExtractPorts))

	_, _, m = c.do("GET", "/networks?fields=name&fields=id&sort_key=name&sort_dir=desc", "alice", "")
	list := m["networks"].([]any)
	require.Len(t, list, 4)
	require.Len(t, list[0], 2)
	require.Equal(t, "d", list[0].(map[string]any)["name"])

	var names []string
	path := "/networks?limit=3&sort_key=name&sort_dir=asc"
	for path != "" {
		_, _, m = c.do("GET", path, "alice", "")
		for _, x := range m["networks"].([]any) {
			names = append(names, x.(map[string]any)["name"].(string))
		}
		path = ""
		links, _ := m["networks_links"].([]any)
		for _, l := range links {
			if l := l.(map[string]any); l["rel"] == "next" {
				path = strings.TrimPrefix(l["href"].(string), "http://cloud/v2.0")
			}
		}
	}
	require.Equal(t, []string{"a", "b", "c", "d"}, names)
	all := pages(t, networks.List(c.alice, networks.ListOpts{Limit: 1}), networks.ExtractNetworks)
	require.Len(t, all, 4)
}

func TestTags(t *testing.T) {
	c := newCloud(t)
	ctx := t.Context()
	n, err := networks.Create(ctx, c.alice, networks.CreateOpts{Name: "n"}).Extract()
	require.NoError(t, err)
	tags, err := attributestags.ReplaceAll(ctx, c.alice, "networks", n.ID, attributestags.ReplaceAllOpts{Tags: []string{"b", "a", "b"}}).Extract()
	require.NoError(t, err)
	require.Equal(t, []string{"a", "b"}, tags)
	require.NoError(t, attributestags.Add(ctx, c.alice, "networks", n.ID, "c").ExtractErr())
	has, err := attributestags.Confirm(ctx, c.alice, "networks", n.ID, "c").Extract()
	require.NoError(t, err)
	require.True(t, has)
	require.Len(t, pages(t, networks.List(c.alice, networks.ListOpts{Tags: "a,c"}), networks.ExtractNetworks), 1)
	require.Empty(t, pages(t, networks.List(c.alice, networks.ListOpts{NotTagsAny: "a"}), networks.ExtractNetworks))
	require.NoError(t, attributestags.Delete(ctx, c.alice, "networks", n.ID, "c").ExtractErr())
	c.fails(404, "TagNotFound", "GET", "/networks/"+n.ID+"/tags/c", "alice", "")
	c.fails(404, "NetworkNotFound", "PUT", "/networks/"+n.ID+"/tags", "bob", `{"tags":["x"]}`)
	require.NoError(t, attributestags.DeleteAll(ctx, c.alice, "networks", n.ID).ExtractErr())
	n, err = networks.Get(ctx, c.alice, n.ID).Extract()
	require.NoError(t, err)
	require.Empty(t, n.Tags)
}

func TestQuotas(t *testing.T) {
	c := newCloud(t)
	ctx := t.Context()
	q, err := quotas.Get(ctx, c.alice, "alice").Extract()
	require.NoError(t, err)
	require.Equal(t, 100, q.Network)
	require.Equal(t, 500, q.Port)
	q, err = quotas.Update(ctx, c.admin, "alice", quotas.UpdateOpts{Network: ptr(5)}).Extract()
	require.NoError(t, err)
	require.Equal(t, 5, q.Network)
	_, err = networks.Create(ctx, c.alice, networks.CreateOpts{}).Extract()
	require.NoError(t, err)
	d, err := quotas.GetDetail(ctx, c.alice, "alice").Extract()
	require.NoError(t, err)
	require.Equal(t, quotas.QuotaDetail{Used: 1, Limit: 5}, d.Network)
	require.NoError(t, quotas.Delete(ctx, c.admin, "alice").ExtractErr())
	c.fails(404, "TenantQuotaNotFound", "DELETE", "/quotas/alice", "admin", "")
	c.fails(400, "HTTPBadRequest", "PUT", "/quotas/alice", "admin", `{"quota":{"network":-2}}`)
}

// A null takes an attribute away.
func TestNulls(t *testing.T) {
	c := newCloud(t)
	_, _, m := c.do("POST", "/networks", "alice", `{"network":{}}`)
	id := m["network"].(map[string]any)["id"].(string)
	_, _, m = c.do("POST", "/subnets", "alice", `{"subnet":{"network_id":"`+id+`","cidr":"10.0.0.0/24","ip_version":4,"gateway_ip":null,"dns_nameservers":["1.1.1.1"]}}`)
	sn := m["subnet"].(map[string]any)
	require.Nil(t, sn["gateway_ip"])
	_, _, m = c.do("PUT", "/subnets/"+sn["id"].(string), "alice", `{"subnet":{"dns_nameservers":null,"host_routes":null}}`)
	require.Empty(t, m["subnet"].(map[string]any)["dns_nameservers"])
	_, _, m = c.do("POST", "/ports", "admin", `{"port":{"network_id":"`+id+`","binding:profile":{"a":1},"allowed_address_pairs":[{"ip_address":"10.9.0.0/24"}]}}`)
	p := m["port"].(map[string]any)
	require.Len(t, p["binding:profile"], 1)
	_, _, m = c.do("PUT", "/ports/"+p["id"].(string), "admin", `{"port":{"binding:profile":null,"allowed_address_pairs":null}}`)
	require.Empty(t, m["port"].(map[string]any)["binding:profile"])
	require.Empty(t, m["port"].(map[string]any)["allowed_address_pairs"])
}

// Every list keeps to the statements that its route declares.
func TestStatements(t *testing.T) {
	c := newCloud(t)
	_, _, m := c.do("POST", "/networks", "admin", `{"networks":[{"name":"a"},{"name":"b"},{"name":"c"}]}`)
	for _, n := range m["networks"].([]any) {
		id := n.(map[string]any)["id"].(string)
		code, _, _ := c.do("POST", "/ports", "admin", `{"ports":[{"network_id":"`+id+`"},{"network_id":"`+id+`"}]}`)
		require.Equal(t, 201, code)
	}
	most := map[string]int{}
	for _, op := range api.Operations() {
		if op.Method == "GET" && !strings.Contains(op.Path, "{id}") {
			most[op.Path] = 3
		}
	}
	most["/v2.0/quotas/{project}/details"] = 9 // limits, and a count for each of eight
	for path, limit := range most {
		path = strings.NewReplacer("{project}", "admin", "{alias}", "router").Replace(path)
		ctx, n := store.CountStatements(t.Context())
		r := httptest.NewRequestWithContext(ctx, "GET", "http://cloud"+path, nil)
		r.Header.Set("X-Auth-Token", "admin")
		w := httptest.NewRecorder()
		c.h.ServeHTTP(w, r)
		require.Equal(t, 200, w.Code, path)
		require.LessOrEqual(t, n.Load(), int64(limit), path)
	}
}
