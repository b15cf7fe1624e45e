package api

import (
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/image"
	"github.com/nacre-cloud/nacre/internal/rest"
)

func (a *api) importRoutes() []rest.Route {
	const one = "/v2/images/{id}"
	return []rest.Route{
		{Method: "PUT", Path: one + "/stage", Policy: []string{"modify_image"}, Op: rest.Raw(a.stage)},
		{Method: "POST", Path: one + "/import", Status: 202, Policy: []string{"modify_image", "copy_image"}, Unknown: rest.Ignore, Op: rest.In(a.doImport)},
		{Method: "GET", Path: one + "/tasks", Policy: []string{"get_image"}, View: imageTasks{}, Op: rest.Do(a.imageTasks)},
		{Method: "GET", Path: one + "/locations", Policy: []string{"fetch_image_location"}, Op: rest.Do(func(r *rest.Request) (any, error) {
			return a.s.Locations(r.Context(), r.Var("id"))
		})},
		{Method: "POST", Path: one + "/locations", Status: 202, Policy: []string{"add_image_location"}, Unknown: rest.Ignore, Op: rest.In(a.addLocation)},
		{Method: "DELETE", Path: "/v2/stores/{store}/{id}", Status: 204, Policy: []string{"get_image_location", "delete_image_location"}, Op: rest.Do(func(r *rest.Request) (any, error) {
			return nil, a.s.DeleteFromStore(r.Context(), r.Var("store"), r.Var("id"))
		})},
		{Method: "GET", Path: "/v2/tasks", Policy: []string{"tasks_api_access", "get_tasks"}, View: taskList{}, Op: rest.Do(a.listTasks)},
		{Method: "POST", Path: "/v2/tasks", Status: 201, Policy: []string{"tasks_api_access", "add_task"}, View: taskView{}, Unknown: rest.Ignore, Op: rest.In(a.createTask)},
		{Method: "GET", Path: "/v2/tasks/{id}", Policy: []string{"tasks_api_access", "get_task"}, View: taskView{}, Op: rest.Do(func(r *rest.Request) (any, error) {
			t, err := a.s.Task(r.Context(), r.Var("id"))
			if err != nil {
				return nil, err
			}
			return taskOf(t), nil
		})},
		{Method: "GET", Path: "/v2/info/import", Op: rest.Do(func(*rest.Request) (any, error) {
			return object{"import-methods": object{"description": "Import methods available.", "type": "array", "value": a.s.ImportMethods()}}, nil
		})},
		{Method: "GET", Path: "/v2/info/stores", Op: rest.Do(func(r *rest.Request) (any, error) { return a.stores(r, false) })},
		{Method: "GET", Path: "/v2/info/stores/detail", Policy: []string{"stores_info_detail"}, Op: rest.Do(func(r *rest.Request) (any, error) { return a.stores(r, true) })},
		{Method: "GET", Path: "/v2/info/usage", Op: rest.Do(func(r *rest.Request) (any, error) {
			u, err := a.s.UsageOf(r.Context())
			if err != nil {
				return nil, err
			}
			return object{"usage": u}, nil
		})},
	}
}

func (a *api) stores(r *rest.Request, detail bool) (any, error) {
	list, err := a.s.Stores(r.Context(), detail)
	if err != nil {
		return nil, err
	}
	out := make([]object, len(list))
	for i, st := range list {
		o := object{"id": st.ID}
		if st.Description != "" {
			o["description"] = st.Description
		}
		// Glance says so in words.
		if st.Default {
			o["default"] = "true"
		}
		if st.ReadOnly {
			o["read-only"] = "true"
		}
		if detail {
			o["type"], o["weight"], o["properties"] = st.Type, st.Weight, st.Properties
		}
		out[i] = o
	}
	return object{"stores": out}, nil
}

type importBody struct {
	Method rest.Opt[struct {
		Name      rest.Opt[string] `json:"name"`
		URI       string           `json:"uri" valid:"null"`
		Region    string           `json:"glance_region" valid:"null"`
		RemoteID  string           `json:"glance_image_id" valid:"null"`
		Interface string           `json:"glance_service_interface" valid:"null"`
	}] `json:"method"`
	Stores    []string      `json:"stores" valid:"null"`
	AllStores rest.Opt[any] `json:"all_stores"`
	AllMust   rest.Opt[any] `json:"all_stores_must_succeed"`
}

func flag(o rest.Opt[any], name string, def bool) (bool, error) {
	if !o.Set {
		return def, nil
	}
	b, ok := o.Value.(bool)
	if !ok {
		return false, bad("'%s' must be boolean value only", name)
	}
	return b, nil
}

func (a *api) doImport(r *rest.Request, b *importBody) (any, error) {
	if !b.Method.Set {
		return nil, bad("Import request requires a 'method' field.")
	}
	m := b.Method.Value
	if !m.Name.Set {
		return nil, bad("Import request requires a 'name' field.")
	}
	must, err := flag(b.AllMust, "all_stores_must_succeed", true)
	if err != nil {
		return nil, err
	}
	all, err := flag(b.AllStores, "all_stores", false)
	if err != nil {
		return nil, err
	}
	q := image.ImportRequest{Method: m.Name.Value, URI: m.URI, Region: m.Region, RemoteID: m.RemoteID, Interface: m.Interface, Stores: b.Stores, AllStores: all, SomeStores: !must}
	if h := r.Header.Get("X-Image-Meta-Store"); h != "" {
		if len(b.Stores) > 0 || all {
			return nil, bad("Stores parameter and x-image-meta-store header can't be both specified")
		}
		q.Stores = []string{h}
	}
	_, err = a.s.Import(r.Context(), r.Var("id"), q)
	return nil, err
}

type taskView struct {
	ID        string       `json:"id"`
	Type      string       `json:"type"`
	Status    string       `json:"status"`
	Owner     string       `json:"owner"`
	Input     any          `json:"input"`
	Result    any          `json:"result"`
	Message   string       `json:"message"`
	ImageID   *string      `json:"image_id,omitempty"`
	RequestID *string      `json:"request_id,omitempty"`
	UserID    *string      `json:"user_id,omitempty"`
	Expires   *expiry      `json:"expires_at,omitempty"`
	Created   rest.Seconds `json:"created_at"`
	Updated   rest.Seconds `json:"updated_at"`
	Self      string       `json:"self"`
	Schema    string       `json:"schema"`
}

// expiry is a time that may be missing.
type expiry = rest.Seconds

func expires(t time.Time) *expiry {
	if t.IsZero() {
		return nil
	}
	s := rest.Seconds(t)
	return &s
}

func taskOf(t image.Task) taskView {
	v := taskView{ID: t.ID, Type: t.Type, Status: t.Status, Owner: t.OwnerID, Message: t.Message, ImageID: null(t.ImageID), RequestID: null(t.RequestID), UserID: null(t.UserID),
		Expires: expires(t.Expires), Created: rest.Seconds(t.Created), Updated: rest.Seconds(t.Updated), Self: "/v2/tasks/" + t.ID, Schema: "/v2/schemas/task"}
	if t.Input != nil {
		v.Input = t.Input
	}
	if t.Result != nil {
		v.Result = t.Result
	}
	return v
}

type taskStub struct {
	ID      string       `json:"id"`
	Type    string       `json:"type"`
	Status  string       `json:"status"`
	Owner   string       `json:"owner"`
	Expires *expiry      `json:"expires_at,omitempty"`
	Created rest.Seconds `json:"created_at"`
	Updated rest.Seconds `json:"updated_at"`
	Self    string       `json:"self"`
	Schema  string       `json:"schema"`
}

type taskList struct {
	Tasks  []taskStub `json:"tasks"`
	First  string     `json:"first"`
	Next   string     `json:"next,omitempty"`
	Schema string     `json:"schema"`
}

func (a *api) listTasks(r *rest.Request) (any, error) {
	size, most := a.s.Pages()
	q, err := r.Query(rest.QueryRules{MaxLimit: most, Invalid: badQuery})
	if err != nil {
		return nil, err
	}
	vals := r.URL.Query()
	if !vals.Has("limit") {
		q.Limit = min(size, most)
	}
	defaultSort(&q, vals)
	ts, err := a.s.Tasks(r.Context(), q)
	if err != nil {
		return nil, err
	}
	vals.Del("marker")
	out := taskList{Tasks: make([]taskStub, len(ts)), First: "/v2/tasks" + withQuery(vals), Schema: "/v2/schemas/tasks"}
	for i, t := range ts {
		out.Tasks[i] = taskStub{ID: t.ID, Type: t.Type, Status: t.Status, Owner: t.OwnerID, Expires: expires(t.Expires), Created: rest.Seconds(t.Created),
			Updated: rest.Seconds(t.Updated), Self: "/v2/tasks/" + t.ID, Schema: "/v2/schemas/task"}
	}
	if len(ts) > 0 && len(ts) == q.Limit {
		vals.Set("marker", ts[len(ts)-1].ID)
		out.Next = "/v2/tasks" + withQuery(vals)
	}
	return out, nil
}

type imageTasks struct {
	Tasks []object `json:"tasks"`
}

func (a *api) imageTasks(r *rest.Request) (any, error) {
	ts, err := a.s.ImageTasks(r.Context(), r.Var("id"))
	if err != nil {
		return nil, err
	}
	out := imageTasks{Tasks: make([]object, len(ts))}
	for i, t := range ts {
		o := object{"id": t.ID, "type": t.Type, "status": t.Status, "owner": t.OwnerID, "image_id": t.ImageID, "request_id": t.RequestID, "user_id": t.UserID,
			"input": t.Input, "message": t.Message, "created_at": rest.Naive(t.Created), "updated_at": rest.Naive(t.Updated), "expires_at": rest.Naive(t.Expires), "result": nil,
			"deleted": false, "deleted_at": nil}
		if t.Result != nil {
			o["result"] = t.Result
		}
		out.Tasks[i] = o
	}
	return out, nil
}

type taskBody struct {
	Type  rest.Opt[string]         `json:"type"`
	Input rest.Opt[map[string]any] `json:"input"`
}

func (a *api) createTask(r *rest.Request, b *taskBody) (any, error) {
	if !b.Type.Set {
		return nil, bad("Task 'type' is required")
	}
	if !b.Input.Set {
		return nil, bad("Task 'input' is required")
	}
	in := b.Input.Value
	from, _ := in["import_from"].(string)
	format, _ := in["import_from_format"].(string)
	props, _ := in["image_properties"].(map[string]any)
	for _, missing := range []struct {
		name string
		ok   bool
	}{{"import_from", from != ""}, {"import_from_format", format != ""}, {"image_properties", props != nil}} {
		if !missing.ok {
			return nil, bad("Input does not contain '%s' field", missing.name)
		}
	}
	if u, err := url.Parse(from); err != nil || u.Scheme == "" {
		return nil, bad("%s is not a URL", from)
	}
	im := image.Image{DiskFormat: format, ContainerFormat: "bare", Properties: map[string]string{}}
	for _, name := range slices.Sorted(maps.Keys(props)) {
		op := patchOp{op: "add", path: []string{name}, value: props[name]}
		if err := mayPatch(op); err != nil {
			return nil, err
		}
		im.Status = image.Queued
		if err := apply(&im, op, r.Caller().HasRole("admin")); err != nil {
			return nil, err
		}
	}
	t, err := a.s.CreateTask(r.Context(), b.Type.Value, in, from, im)
	if err != nil {
		return nil, err
	}
	r.Set("Location", "/v2/tasks/"+t.ID)
	return taskOf(t), nil
}

type locationBody struct {
	URL        rest.Opt[string] `json:"url"`
	Validation *struct {
		Algo  rest.Opt[string] `json:"os_hash_algo"`
		Value rest.Opt[string] `json:"os_hash_value"`
	} `json:"validation_data" valid:"null"`
}

func (a *api) addLocation(r *rest.Request, b *locationBody) (any, error) {
	if !b.URL.Set {
		return nil, bad("Provided object does not match schema 'location': 'url' is a required property")
	}
	var v *image.Validation
	if x := b.Validation; x != nil && (x.Algo.Set || x.Value.Set) {
		if !x.Algo.Set || !x.Value.Set {
			return nil, bad("Provided object does not match schema 'location': os_hash_algo and os_hash_value depend on each other")
		}
		if !slices.Contains([]string{"sha1", "sha256", "sha512", "md5"}, x.Algo.Value) {
			return nil, bad("Provided object does not match schema 'location': '%s' is not one of ['sha1', 'sha256', 'sha512', 'md5']", x.Algo.Value)
		}
		v = &image.Validation{HashAlgo: x.Algo.Value, HashValue: x.Value.Value}
	}
	_, err := a.s.AddLocation(r.Context(), r.Var("id"), b.URL.Value, v)
	return nil, err
}

func (a *api) cacheRoutes() []rest.Route {
	return []rest.Route{
		{Method: "GET", Path: "/v2/cache", Policy: []string{"cache_list"}, Op: rest.Do(a.cacheState)},
		{Method: "DELETE", Path: "/v2/cache", Policy: []string{"cache_delete"}, Op: rest.Do(a.clearCache)},
		{Method: "PUT", Path: "/v2/cache/{id}", Status: 202, Policy: []string{"cache_image"}, Op: rest.Do(func(r *rest.Request) (any, error) {
			return nil, a.s.CacheImage(r.Context(), r.Var("id"))
		})},
		{Method: "DELETE", Path: "/v2/cache/{id}", Status: 204, Policy: []string{"cache_delete"}, Op: rest.Do(func(r *rest.Request) (any, error) {
			return nil, a.s.UncacheImage(r.Context(), r.Var("id"))
		})},
		{Method: "POST", Path: "/v2/cache/clean", Status: 204, Policy: []string{"cache_clean"}, Op: rest.Do(func(r *rest.Request) (any, error) {
			return nil, a.s.CleanCache(r.Context())
		})},
		{Method: "POST", Path: "/v2/cache/prune", Policy: []string{"cache_prune"}, Op: rest.Do(func(r *rest.Request) (any, error) {
			files, bytes, err := a.s.PruneCache(r.Context())
			if err != nil {
				return nil, err
			}
			return object{"total_files_pruned": files, "total_bytes_pruned": bytes}, nil
		})},
	}
}

func (a *api) cacheState(r *rest.Request) (any, error) {
	cached, queued, err := a.s.CacheState(r.Context())
	if err != nil {
		return nil, err
	}
	seconds := func(t time.Time) float64 { return float64(t.UnixMicro()) / 1e6 }
	list := make([]object, len(cached))
	for i, c := range cached {
		list[i] = object{"image_id": c.ID, "hits": c.Hits, "last_accessed": seconds(c.Accessed), "last_modified": seconds(c.Modified), "size": c.Size}
	}
	return object{"cached_images": list, "queued_images": queued}, nil
}

func (a *api) clearCache(r *rest.Request) (any, error) {
	target := strings.ToLower(r.Header.Get("X-Image-Cache-Clear-Target"))
	if target != "" && target != "cache" && target != "queue" {
		return nil, nacre.Errorf(nacre.Invalid, "", "If provided 'x-image-cache-clear-target' must be 'cache', 'queue' or empty string.")
	}
	_, _, err := a.s.ClearCache(r.Context(), target != "queue", target != "cache")
	return nil, err
}
