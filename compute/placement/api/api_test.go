package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/google/uuid"
	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/placement/v1/allocationcandidates"
	"github.com/gophercloud/gophercloud/v2/openstack/placement/v1/allocations"
	"github.com/gophercloud/gophercloud/v2/openstack/placement/v1/resourceclasses"
	"github.com/gophercloud/gophercloud/v2/openstack/placement/v1/resourceproviders"
	"github.com/gophercloud/gophercloud/v2/openstack/placement/v1/traits"
	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/compute/placement"
	"github.com/nacre-cloud/nacre/compute/placement/api"
	"github.com/nacre-cloud/nacre/internal/rest"
	"github.com/nacre-cloud/nacre/store"
	"github.com/nacre-cloud/nacre/store/bunstore"
	"github.com/nacre-cloud/nacre/store/memstore"
)

type tokens map[string]*nacre.Caller

func (t tokens) ValidateToken(_ context.Context, token string) (*nacre.Caller, error) {
	if c, ok := t[token]; ok {
		return c, nil
	}
	return nil, nacre.Errorf(nacre.Unauthenticated, "", "no")
}

var callers = tokens{
	"admin":   {UserID: "u0", ProjectID: "p0", Roles: []string{"admin", "member", "reader"}},
	"service": {UserID: "u9", ProjectID: "p9", Roles: []string{"service"}},
	"reader":  {UserID: "u1", ProjectID: "p1", Roles: []string{"reader"}},
}

// world is a placement with its API.
type world struct {
	*testing.T
	s *placement.Service
	h http.RoundTripper
}

func onEach(t *testing.T, test func(w *world)) {
	for name, open := range map[string]func() (store.Engine, error){
		"memstore":      func() (store.Engine, error) { return memstore.New(memstore.Options{}), nil },
		"readCommitted": func() (store.Engine, error) { return memstore.New(memstore.Options{ReadCommitted: true}), nil },
		"sqlite": func() (store.Engine, error) {
			return bunstore.OpenSQLite(filepath.Join(t.TempDir(), "p.db"), bunstore.Options{Synchronous: "OFF"})
		},
	} {
		t.Run(name, func(t *testing.T) {
			e, err := open()
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, e.Close()) })
			require.NoError(t, e.Migrate(t.Context(), &store.Schema{Area: "placement", Tables: placement.Tables()}, true))
			s, err := placement.New(placement.Config{Engine: e})
			require.NoError(t, err)
			h := rest.Mount("/placement", api.New(api.Config{Placement: s, Tokens: callers}))
			test(&world{t, s, rest.Transport(h)})
		})
	}
}

// client is gophercloud's, at a microversion.
func (w *world) client(version string) *gophercloud.ServiceClient {
	p := &gophercloud.ProviderClient{TokenID: "admin"}
	p.HTTPClient = http.Client{Transport: w.h}
	return &gophercloud.ServiceClient{ProviderClient: p, Type: "placement", Endpoint: "http://cloud/placement/", Microversion: version}
}

// do sends a raw request.
func (w *world) do(token, version, method, path, body string) (*http.Response, string) {
	w.Helper()
	req, err := http.NewRequestWithContext(w.Context(), method, "http://cloud/placement"+path, bytes.NewBufferString(body))
	require.NoError(w, err)
	if token != "" {
		req.Header.Set("X-Auth-Token", token)
	}
	if version != "" {
		req.Header.Set("OpenStack-API-Version", "placement "+version)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := w.h.RoundTrip(req)
	require.NoError(w, err)
	defer res.Body.Close() //nolint:errcheck // read whole
	b, err := io.ReadAll(res.Body)
	require.NoError(w, err)
	return res, string(b)
}

// want sends as admin at the newest version and checks status and error code.
func (w *world) want(status int, code, method, path, body string) string {
	w.Helper()
	res, b := w.do("admin", "1.39", method, path, body)
	require.Equal(w, status, res.StatusCode, "%s %s: %s", method, path, b)
	if code != "" {
		var e struct {
			Errors []struct {
				Status       int
				Code, Detail string
			}
		}
		require.NoError(w, json.Unmarshal([]byte(b), &e))
		require.Equal(w, code, e.Errors[0].Code)
		require.Equal(w, status, e.Errors[0].Status)
		require.NotEmpty(w, e.Errors[0].Detail)
	}
	return b
}

func (w *world) make(name, parent string, inv map[string]int, traits ...string) string {
	w.Helper()
	body := map[string]any{"name": name, "parent_provider_uuid": nil}
	if parent != "" {
		body["parent_provider_uuid"] = parent
	}
	b, err := json.Marshal(body)
	require.NoError(w, err)
	var p struct{ UUID string }
	require.NoError(w, json.Unmarshal([]byte(w.want(200, "", "POST", "/resource_providers", string(b))), &p))
	invs := map[string]any{}
	for class, n := range inv {
		invs[class] = map[string]int{"total": n}
	}
	b, err = json.Marshal(map[string]any{"resource_provider_generation": 0, "inventories": invs})
	require.NoError(w, err)
	w.want(200, "", "PUT", "/resource_providers/"+p.UUID+"/inventories", string(b))
	if len(traits) > 0 {
		b, err = json.Marshal(map[string]any{"resource_provider_generation": 1, "traits": traits})
		require.NoError(w, err)
		w.want(200, "", "PUT", "/resource_providers/"+p.UUID+"/traits", string(b))
	}
	return p.UUID
}

func code(err error) int {
	var e gophercloud.ErrUnexpectedResponseCode
	if errors.As(err, &e) {
		return e.Actual
	}
	return 0
}

func TestRootAndVersions(t *testing.T) {
	onEach(t, func(w *world) {
		res, b := w.do("", "", "GET", "/", "")
		require.Equal(w, 200, res.StatusCode)
		require.JSONEq(w, `{"versions":[{"id":"v1.0","min_version":"1.0","max_version":"1.39","status":"CURRENT","links":[{"rel":"self","href":""}]}]}`, b)
		require.Equal(w, "placement 1.0", res.Header.Get("OpenStack-API-Version"))
		res, _ = w.do("", "", "GET", "/resource_providers", "")
		require.Equal(w, 401, res.StatusCode)
		res, b = w.do("admin", "1.40", "GET", "/resource_providers", "")
		require.Equal(w, 406, res.StatusCode)
		require.Contains(w, b, `"max_version":"1.39"`)
		res, _ = w.do("admin", "latest", "GET", "/resource_providers", "")
		require.Equal(w, "placement 1.39", res.Header.Get("OpenStack-API-Version"))
		require.NotEmpty(w, res.Header.Get("Last-Modified"))
		require.Equal(w, "no-cache", res.Header.Get("Cache-Control"))
		res, _ = w.do("admin", "1.14", "GET", "/resource_providers", "")
		require.Empty(w, res.Header.Get("Last-Modified"))
		for path, since := range map[string]string{"/resource_classes": "1.2", "/traits": "1.6", "/usages?project_id=p": "1.9", "/allocation_candidates?resources=VCPU:1": "1.10"} {
			var before string
			var major, minor int
			_, err := fmt.Sscanf(since, "%d.%d", &major, &minor)
			require.NoError(w, err)
			before = fmt.Sprintf("%d.%d", major, minor-1)
			res, _ = w.do("admin", before, "GET", path, "")
			require.Equal(w, 404, res.StatusCode, path)
			res, b = w.do("admin", since, "GET", path, "")
			require.Equal(w, 200, res.StatusCode, "%s: %s", path, b)
		}
		for _, token := range []string{"reader"} {
			res, b = w.do(token, "1.39", "GET", "/resource_providers", "")
			require.Equal(w, 403, res.StatusCode)
			require.Contains(w, b, "Policy does not allow placement:resource_providers:list to be performed.")
		}
		res, _ = w.do("service", "1.39", "GET", "/resource_providers", "")
		require.Equal(w, 200, res.StatusCode)
		res, _ = w.do("reader", "1.39", "GET", "/usages?project_id=p1", "")
		require.Equal(w, 200, res.StatusCode, "one's own project")
		res, _ = w.do("reader", "1.39", "GET", "/usages?project_id=p2", "")
		require.Equal(w, 403, res.StatusCode)
	})
}

func TestProviders(t *testing.T) {
	onEach(t, func(w *world) {
		ctx, c := w.Context(), w.client("1.20")
		root, err := resourceproviders.Create(ctx, c, resourceproviders.CreateOpts{Name: "root"}).Extract()
		require.NoError(w, err)
		require.Equal(w, root.UUID, root.RootProviderUUID)
		require.Empty(w, root.ParentProviderUUID)
		require.Len(w, root.Links, 6)
		require.Equal(w, "/placement/resource_providers/"+root.UUID, root.Links[0].Href)
		child, err := resourceproviders.Create(ctx, c, resourceproviders.CreateOpts{Name: "child", ParentProviderUUID: root.UUID}).Extract()
		require.NoError(w, err)
		require.Equal(w, root.UUID, child.RootProviderUUID)

		_, err = resourceproviders.Create(ctx, c, resourceproviders.CreateOpts{Name: "child"}).Extract()
		require.Equal(w, 409, code(err))
		w.want(409, placement.CodeDuplicateName, "POST", "/resource_providers", `{"name":"child"}`)
		w.want(409, placement.CodeDuplicateName, "POST", "/resource_providers", fmt.Sprintf(`{"name":"x","uuid":%q}`, child.UUID))
		w.want(400, "", "POST", "/resource_providers", `{"name":"x","uuid":"bad"}`)
		w.want(400, "", "POST", "/resource_providers", `{"name":""}`)
		w.want(400, "", "POST", "/resource_providers", `{"name":"x","colour":"red"}`)
		w.want(400, "", "POST", "/resource_providers", fmt.Sprintf(`{"name":"x","parent_provider_uuid":%q}`, uuid.NewString()))
		w.want(404, placement.CodeProviderNotFound, "GET", "/resource_providers/"+uuid.NewString(), "")

		name := "renamed"
		got, err := resourceproviders.Update(ctx, c, child.UUID, resourceproviders.UpdateOpts{Name: &name}).Extract()
		require.NoError(w, err)
		require.Equal(w, "renamed", got.Name)
		require.Equal(w, root.UUID, got.ParentProviderUUID)
		one, other := w.make("other", "", nil), w.make("third", "", nil)
		res, b := w.do("admin", "1.36", "PUT", "/resource_providers/"+child.UUID, fmt.Sprintf(`{"name":"renamed","parent_provider_uuid":%q}`, one))
		require.Equal(w, 400, res.StatusCode)
		require.Contains(w, b, "re-parenting a provider is not currently allowed.")
		grand := w.make("grand", child.UUID, nil)
		w.want(400, "", "PUT", "/resource_providers/"+child.UUID, fmt.Sprintf(`{"name":"renamed","parent_provider_uuid":%q}`, grand))
		w.want(200, "", "PUT", "/resource_providers/"+child.UUID, fmt.Sprintf(`{"name":"renamed","parent_provider_uuid":%q}`, other))
		require.Contains(w, w.want(200, "", "GET", "/resource_providers/"+grand, ""), `"root_provider_uuid":"`+other, "the whole subtree moves")
		w.want(409, placement.CodeProviderParent, "DELETE", "/resource_providers/"+child.UUID, "")
		w.want(200, "", "PUT", "/resource_providers/"+child.UUID, `{"name":"renamed","parent_provider_uuid":null}`)
		require.Contains(w, w.want(200, "", "GET", "/resource_providers/"+grand, ""), `"root_provider_uuid":"`+child.UUID)
		for _, id := range []string{grand, child.UUID, one, other, root.UUID} {
			require.NoError(w, resourceproviders.Delete(ctx, c, id).ExtractErr())
		}
		require.Equal(w, 404, code(resourceproviders.Delete(ctx, c, root.UUID).ExtractErr()))
	})
}

func (w *world) names(query string) []string {
	w.Helper()
	var l struct {
		RPs []struct{ Name string } `json:"resource_providers"`
	}
	require.NoError(w, json.Unmarshal([]byte(w.want(200, "", "GET", "/resource_providers?"+query, "")), &l))
	out := []string{}
	for _, p := range l.RPs {
		out = append(out, p.Name)
	}
	return out
}

func TestProviderFilters(t *testing.T) {
	onEach(t, func(w *world) {
		a := w.make("a", "", map[string]int{"VCPU": 8}, "COMPUTE_NODE", "STORAGE_DISK_SSD")
		b := w.make("b", a, map[string]int{"VGPU": 2}, "HW_GPU_API_VULKAN")
		w.make("c", "", map[string]int{"VCPU": 2, "MEMORY_MB": 512}, "COMPUTE_NODE")
		agg1, agg2 := uuid.NewString(), uuid.NewString()
		w.want(200, "", "PUT", "/resource_providers/"+a+"/aggregates", fmt.Sprintf(`{"aggregates":[%q,%q],"resource_provider_generation":2}`, agg1, agg2))
		w.want(409, placement.CodeConcurrentUpdate, "PUT", "/resource_providers/"+a+"/aggregates", fmt.Sprintf(`{"aggregates":[%q],"resource_provider_generation":2}`, agg1))
		w.want(200, "", "PUT", "/resource_providers/"+b+"/aggregates", fmt.Sprintf(`{"aggregates":[%q],"resource_provider_generation":2}`, agg2))
		for query, want := range map[string][]string{
			"":                             {"a", "b", "c"},
			"name=b":                       {"b"},
			"uuid=" + b:                    {"b"},
			"in_tree=" + b:                 {"a", "b"},
			"in_tree=" + uuid.NewString():  {},
			"resources=VCPU:3":             {"a"},
			"resources=VCPU:2":             {"a", "c"},
			"resources=VCPU:1,MEMORY_MB:1": {"c"},
			"required=COMPUTE_NODE":        {"a", "c"},
			"required=COMPUTE_NODE,!STORAGE_DISK_SSD":                               {"c"},
			"required=in:HW_GPU_API_VULKAN,STORAGE_DISK_SSD":                        {"a", "b"},
			"required=in:HW_GPU_API_VULKAN,COMPUTE_NODE&required=!STORAGE_DISK_SSD": {"b", "c"},
			"member_of=" + agg2:                        {"a", "b"},
			"member_of=" + agg2 + "&member_of=" + agg1: {"a"},
			"member_of=in:" + agg1 + "," + agg2:        {"a", "b"},
			"member_of=!" + agg1:                       {"b", "c"},
			"member_of=" + agg2 + "&member_of=!in:" + agg1 + "," + uuid.NewString(): {"b"},
		} {
			require.Equal(w, want, w.names(query), query)
		}
		for _, query := range []string{"colour=red", "uuid=x", "resources=", "resources=VCPU", "resources=VCPU:0", "resources=VCPU:x", "resources=NOPE:1", "required=NOPE", "required=", "required=A,,B",
			"required=in:COMPUTE_NODE,!STORAGE_DISK_SSD", "member_of=x", "member_of=" + agg1 + "," + agg2} {
			w.want(400, placement.CodeUndefined, "GET", "/resource_providers?"+query, "")
		}
		res, _ := w.do("admin", "1.17", "GET", "/resource_providers?required=COMPUTE_NODE", "")
		require.Equal(w, 400, res.StatusCode, "before its version")
	})
}

func TestInventories(t *testing.T) {
	onEach(t, func(w *world) {
		ctx, c := w.Context(), w.client("1.26")
		id := w.make("a", "", nil)
		at := "/resource_providers/" + id + "/inventories"
		b := w.want(201, "", "POST", at, `{"resource_class":"VCPU","total":8,"allocation_ratio":2.5}`)
		require.JSONEq(w, `{"total":8,"reserved":0,"min_unit":1,"max_unit":2147483647,"step_size":1,"allocation_ratio":2.5,"resource_provider_generation":2}`, b)
		w.want(409, placement.CodeConcurrentUpdate, "POST", at, `{"resource_class":"VCPU","total":8}`)
		w.want(400, "", "POST", at, `{"resource_class":"CUSTOM_NOPE","total":8}`)
		w.want(400, "", "POST", at, `{"resource_class":"DISK_GB","total":8,"reserved":9}`)
		w.want(400, "", "POST", at, `{"resource_class":"DISK_GB","total":0}`)
		res, _ := w.do("admin", "1.25", "POST", at, `{"resource_class":"DISK_GB","total":8,"reserved":8}`)
		require.Equal(w, 400, res.StatusCode)
		w.want(201, "", "POST", at, `{"resource_class":"DISK_GB","total":8,"reserved":8}`)
		got, err := resourceproviders.GetInventories(ctx, c, id).Extract()
		require.NoError(w, err)
		require.Len(w, got.Inventories, 2)
		w.want(409, placement.CodeConcurrentUpdate, "PUT", at+"/VCPU", `{"resource_provider_generation":1,"total":4}`)
		_, err = resourceproviders.UpdateInventory(ctx, c, id, "VCPU", resourceproviders.UpdateInventoryOpts{ResourceProviderGeneration: got.ResourceProviderGeneration,
			Inventory: resourceproviders.Inventory{AllocationRatio: 1, MaxUnit: 4, MinUnit: 1, StepSize: 1, Total: 4}}).Extract()
		require.NoError(w, err)
		w.want(400, "", "PUT", at+"/PCPU", fmt.Sprintf(`{"resource_provider_generation":%d,"total":4}`, got.ResourceProviderGeneration+1))
		w.want(404, "", "GET", at+"/PCPU", "")
		w.want(404, "", "DELETE", at+"/PCPU", "")

		consumer := uuid.NewString()
		w.want(204, "", "PUT", "/allocations/"+consumer, fmt.Sprintf(`{"allocations":{%q:{"resources":{"VCPU":2}}},"project_id":"p","user_id":"u","consumer_generation":null,"consumer_type":"INSTANCE"}`, id))
		w.want(409, placement.CodeConcurrentUpdate, "DELETE", at+"/VCPU", "")
		w.want(409, placement.CodeInventoryInUse, "DELETE", at, "")
		p, err := resourceproviders.Get(ctx, c, id).Extract()
		require.NoError(w, err)
		w.want(409, placement.CodeInventoryInUse, "PUT", at, fmt.Sprintf(`{"resource_provider_generation":%d,"inventories":{"DISK_GB":{"total":1}}}`, p.Generation))
		w.want(409, placement.CodeConcurrentUpdate, "PUT", at, `{"resource_provider_generation":0,"inventories":{}}`)
		w.want(409, placement.CodeProviderInUse, "DELETE", "/resource_providers/"+id, "")
		w.want(204, "", "DELETE", "/allocations/"+consumer, "")
		w.want(204, "", "DELETE", at+"/VCPU", "")
		w.want(204, "", "DELETE", at, "")
		res, _ = w.do("admin", "1.4", "DELETE", at, "")
		require.Equal(w, 405, res.StatusCode)
		w.want(404, placement.CodeProviderNotFound, "GET", "/resource_providers/"+uuid.NewString()+"/inventories", "")
		req, err := http.NewRequestWithContext(ctx, "PUT", "http://cloud/placement"+at, bytes.NewBufferString(`{"resource_provider_generation":0,"inventories":{}}`))
		require.NoError(w, err)
		req.Header.Set("X-Auth-Token", "admin")
		res, err = w.h.RoundTrip(req)
		require.NoError(w, err)
		require.NoError(w, res.Body.Close())
		require.Equal(w, 415, res.StatusCode)
	})
}

func TestAllocations(t *testing.T) {
	onEach(t, func(w *world) {
		ctx, c := w.Context(), w.client("1.28")
		a, b := w.make("a", "", map[string]int{"VCPU": 8, "MEMORY_MB": 1024}), w.make("b", "", map[string]int{"VCPU": 8})
		one, two := uuid.NewString(), uuid.NewString()
		empty, err := allocations.Get(ctx, c, one).Extract()
		require.NoError(w, err)
		require.Empty(w, empty.Allocations)
		put := func(consumer, provider string, n int, gen *int) error {
			return allocations.Update(ctx, c, consumer, allocations.UpdateOpts{Allocations: map[string]allocations.ProviderAllocationsOpts{provider: {Resources: map[string]int{"VCPU": n}}},
				ProjectID: "p1", UserID: "u1", ConsumerGeneration: gen}).ExtractErr()
		}
		require.NoError(w, put(one, a, 2, nil))
		got, err := allocations.Get(ctx, c, one).Extract()
		require.NoError(w, err)
		require.Equal(w, map[string]int{"VCPU": 2}, got.Allocations[a].Resources)
		require.Equal(w, "p1", *got.ProjectID)
		require.Equal(w, 1, *got.ConsumerGeneration)
		require.Equal(w, 409, code(put(one, a, 3, nil)), "it has something already")
		bad := 7
		require.Equal(w, 409, code(put(one, a, 3, &bad)))
		require.Equal(w, 409, code(put(two, a, 3, &bad)))
		require.NoError(w, put(one, b, 8, got.ConsumerGeneration), "moved, within its own place")
		require.Equal(w, 409, code(put(two, b, 1, nil)), "full")
		require.Equal(w, 400, code(put(two, uuid.NewString(), 1, nil)))
		w.want(409, placement.CodeUndefined, "PUT", "/allocations/"+two, fmt.Sprintf(`{"allocations":{%q:{"resources":{"DISK_GB":1}}},"project_id":"p","user_id":"u","consumer_generation":null,"consumer_type":"INSTANCE"}`, a))
		w.want(400, "", "PUT", "/allocations/xyz", fmt.Sprintf(`{"allocations":{%q:{"resources":{"VCPU":1}}},"project_id":"p","user_id":"u","consumer_generation":null,"consumer_type":"INSTANCE"}`, a))
		w.want(400, "", "PUT", "/allocations/"+two, fmt.Sprintf(`{"allocations":{%q:{"resources":{"VCPU":0}}},"project_id":"p","user_id":"u","consumer_generation":null,"consumer_type":"INSTANCE"}`, a))
		w.want(400, "", "PUT", "/allocations/"+two, fmt.Sprintf(`{"allocations":{%q:{"resources":{"VCPU":1}}},"project_id":"p","user_id":"u","consumer_type":"INSTANCE"}`, a))

		// Two at once: all or nothing.
		swap := func(x, y int) string {
			return fmt.Sprintf(`{%q:{"allocations":{%q:{"resources":{"VCPU":%d}}},"project_id":"p1","user_id":"u1","consumer_generation":2,"consumer_type":"INSTANCE"},
				%q:{"allocations":{%q:{"resources":{"VCPU":%d}}},"project_id":"p1","user_id":"u2","consumer_generation":null,"consumer_type":"MIGRATION"}}`, one, a, x, two, b, y)
		}
		w.want(409, placement.CodeUndefined, "POST", "/allocations", swap(8, 9))
		require.Contains(w, w.want(200, "", "GET", "/allocations/"+one, ""), b)
		w.want(204, "", "POST", "/allocations", swap(8, 8))
		require.Contains(w, w.want(200, "", "GET", "/resource_providers/"+a+"/allocations", ""), one)
		require.JSONEq(w, `{"usages":{"INSTANCE":{"VCPU":8,"consumer_count":1},"MIGRATION":{"VCPU":8,"consumer_count":1}}}`, w.want(200, "", "GET", "/usages?project_id=p1", ""))
		require.JSONEq(w, `{"usages":{"all":{"VCPU":16,"consumer_count":2}}}`, w.want(200, "", "GET", "/usages?project_id=p1&consumer_type=all", ""))
		require.JSONEq(w, `{"usages":{"MIGRATION":{"VCPU":8,"consumer_count":1}}}`, w.want(200, "", "GET", "/usages?project_id=p1&user_id=u2", ""))
		_, old := w.do("admin", "1.37", "GET", "/usages?project_id=p1", "")
		require.JSONEq(w, `{"usages":{"VCPU":16}}`, old)
		w.want(400, "", "GET", "/usages", "")
		usage, err := resourceproviders.GetUsages(ctx, c, a).Extract()
		require.NoError(w, err)
		require.Equal(w, map[string]int{"VCPU": 8, "MEMORY_MB": 0}, usage.Usages)

		// An empty list gives back; so does DELETE.
		w.want(204, "", "PUT", "/allocations/"+one, `{"allocations":{},"project_id":"p1","user_id":"u1","consumer_generation":3,"consumer_type":"INSTANCE"}`)
		require.JSONEq(w, `{"allocations":{}}`, w.want(200, "", "GET", "/allocations/"+one, ""))
		w.want(204, "", "DELETE", "/allocations/"+two, "")
		w.want(404, "", "DELETE", "/allocations/"+two, "")
		all, err := w.s.Allocated(ctx)
		require.NoError(w, err)
		require.Empty(w, all)

		// The forms of old.
		res, msg := w.do("admin", "1.0", "PUT", "/allocations/"+one, fmt.Sprintf(`{"allocations":[{"resource_provider":{"uuid":%q},"resources":{"VCPU":1}}]}`, a))
		require.Equal(w, 204, res.StatusCode, msg)
		res, msg = w.do("admin", "1.8", "PUT", "/allocations/"+one, fmt.Sprintf(`{"allocations":[{"resource_provider":{"uuid":%q},"resources":{"VCPU":2}}],"project_id":"p","user_id":"u"}`, a))
		require.Equal(w, 204, res.StatusCode, msg)
		require.Contains(w, w.want(200, "", "GET", "/allocations/"+one, ""), `"consumer_type":"unknown"`)
	})
}

func TestClassesAndTraits(t *testing.T) {
	onEach(t, func(w *world) {
		ctx, c := w.Context(), w.client("1.7")
		require.NoError(w, resourceclasses.Create(ctx, c, resourceclasses.CreateOpts{Name: "CUSTOM_A"}).ExtractErr())
		require.Equal(w, 409, code(resourceclasses.Create(ctx, c, resourceclasses.CreateOpts{Name: "CUSTOM_A"}).ExtractErr()))
		w.want(201, "", "PUT", "/resource_classes/CUSTOM_B", "")
		w.want(204, "", "PUT", "/resource_classes/CUSTOM_B", "")
		w.want(400, "", "PUT", "/resource_classes/VCPU", "")
		w.want(400, "", "DELETE", "/resource_classes/VCPU", "")
		w.want(404, "", "DELETE", "/resource_classes/CUSTOM_NOPE", "")
		id := w.make("a", "", map[string]int{"CUSTOM_A": 5})
		consumer := uuid.NewString()
		w.want(204, "", "PUT", "/allocations/"+consumer, fmt.Sprintf(`{"allocations":{%q:{"resources":{"CUSTOM_A":2}}},"project_id":"p","user_id":"u","consumer_generation":null,"consumer_type":"INSTANCE"}`, id))
		w.want(409, "", "DELETE", "/resource_classes/CUSTOM_A", "")
		res, b := w.do("admin", "1.6", "PUT", "/resource_classes/CUSTOM_A", `{"name":"CUSTOM_C"}`)
		require.Equal(w, 200, res.StatusCode, b)
		res, _ = w.do("admin", "1.6", "PUT", "/resource_classes/CUSTOM_C", `{"name":"CUSTOM_B"}`)
		require.Equal(w, 409, res.StatusCode)
		require.Contains(w, w.want(200, "", "GET", "/allocations/"+consumer, ""), "CUSTOM_C")
		require.Contains(w, w.want(200, "", "GET", "/resource_classes", ""), "CUSTOM_C")
		w.want(404, "", "GET", "/resource_classes/CUSTOM_A", "")

		require.NoError(w, traits.Create(ctx, c, "CUSTOM_T").ExtractErr())
		w.want(204, "", "PUT", "/traits/CUSTOM_T", "")
		w.want(400, "", "PUT", "/traits/bad", "")
		w.want(204, "", "GET", "/traits/COMPUTE_NODE", "")
		w.want(404, "", "GET", "/traits/CUSTOM_NOPE", "")
		w.want(400, "", "DELETE", "/traits/COMPUTE_NODE", "")
		got, err := resourceproviders.Get(ctx, w.client("1.14"), id).Extract()
		require.NoError(w, err)
		w.want(400, "", "PUT", "/resource_providers/"+id+"/traits", fmt.Sprintf(`{"resource_provider_generation":%d,"traits":["CUSTOM_NOPE"]}`, got.Generation))
		w.want(200, "", "PUT", "/resource_providers/"+id+"/traits", fmt.Sprintf(`{"resource_provider_generation":%d,"traits":["CUSTOM_T"]}`, got.Generation))
		w.want(409, placement.CodeConcurrentUpdate, "PUT", "/resource_providers/"+id+"/traits", fmt.Sprintf(`{"resource_provider_generation":%d,"traits":[]}`, got.Generation))
		w.want(409, "", "DELETE", "/traits/CUSTOM_T", "")
		require.JSONEq(w, `{"traits":["CUSTOM_T"]}`, w.want(200, "", "GET", "/traits?associated=true", ""))
		require.JSONEq(w, `{"traits":["COMPUTE_NODE","CUSTOM_T"]}`, w.want(200, "", "GET", "/traits?name=in:CUSTOM_T,COMPUTE_NODE,NOPE", ""))
		require.JSONEq(w, `{"traits":["STORAGE_DISK_HDD","STORAGE_DISK_SSD"]}`, w.want(200, "", "GET", "/traits?name=startswith:STORAGE_", ""))
		w.want(400, "", "GET", "/traits?name=x", "")
		w.want(400, "", "GET", "/traits?associated=maybe", "")
		w.want(204, "", "DELETE", "/resource_providers/"+id+"/traits", "")
		w.want(204, "", "DELETE", "/traits/CUSTOM_T", "")
		w.want(404, "", "DELETE", "/traits/CUSTOM_T", "")
	})
}

func TestReshape(t *testing.T) {
	onEach(t, func(w *world) {
		root := w.make("root", "", map[string]int{"VCPU": 4, "VGPU": 2})
		child := w.make("child", root, nil)
		consumer := uuid.NewString()
		w.want(204, "", "PUT", "/allocations/"+consumer, fmt.Sprintf(`{"allocations":{%q:{"resources":{"VCPU":1,"VGPU":1}}},"project_id":"p","user_id":"u","consumer_generation":null,"consumer_type":"INSTANCE"}`, root))
		body := fmt.Sprintf(`{"inventories":{%q:{"resource_provider_generation":2,"inventories":{"VCPU":{"total":4}}},%q:{"resource_provider_generation":1,"inventories":{"VGPU":{"total":2}}}},
			"allocations":{%q:{"allocations":{%[1]q:{"resources":{"VCPU":1}},%[2]q:{"resources":{"VGPU":1}}},"project_id":"p","user_id":"u","consumer_generation":1,"consumer_type":"INSTANCE"}}}`, root, child, consumer)
		w.want(403, "", "POST", "/reshaper", body)
		res, b := w.do("service", "1.39", "POST", "/reshaper", body)
		require.Equal(w, 204, res.StatusCode, b)
		require.Contains(w, w.want(200, "", "GET", "/allocations/"+consumer, ""), child)
		res, b = w.do("service", "1.39", "POST", "/reshaper", body)
		require.Equal(w, 409, res.StatusCode, b)
		require.Contains(w, b, placement.CodeConcurrentUpdate)
	})
}

func TestCandidatesWithGophercloud(t *testing.T) {
	onEach(t, func(w *world) {
		id := w.make("a", "", map[string]int{"VCPU": 8}, "COMPUTE_NODE")
		for _, version := range []string{"1.17", "1.34"} {
			page, err := allocationcandidates.List(w.client(version), allocationcandidates.ListOpts{Resources: "VCPU:1"}).AllPages(w.Context())
			require.NoError(w, err)
			got, err := allocationcandidates.ExtractAllocationCandidates(page)
			require.NoError(w, err)
			require.Len(w, got.AllocationRequests, 1)
			require.Equal(w, 1, got.AllocationRequests[0].Allocations[id].Resources["VCPU"])
			require.Equal(w, 8, got.ProviderSummaries[id].Resources["VCPU"].Capacity)
			require.Equal(w, version == "1.34", got.ProviderSummaries[id].RootProviderUUID != nil)
			require.Equal(w, version == "1.34", got.AllocationRequests[0].Mappings != nil)
		}
		page, err := allocationcandidates.List(w.client("1.10"), allocationcandidates.ListOpts{Resources: "VCPU:1"}).AllPages(w.Context())
		require.NoError(w, err)
		old, err := allocationcandidates.ExtractAllocationCandidates110(page)
		require.NoError(w, err)
		require.Equal(w, id, old.AllocationRequests[0].Allocations[0].ResourceProvider.UUID)
		page, err = allocationcandidates.List(w.client("1.10"), allocationcandidates.ListOpts{Resources: "MEMORY_MB:1"}).AllPages(w.Context())
		require.NoError(w, err)
		empty, err := page.IsEmpty()
		require.NoError(w, err)
		require.True(w, empty)
	})
}
