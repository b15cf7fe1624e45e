package api_test

import (
	"encoding/json"
	"os"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

func (w *world) put(status int, token, method, path, body string) map[string]any {
	w.Helper()
	var out map[string]any
	if b := w.want(status, token, method, path, body, "Content-Type", "application/json"); b != "" && b[0] == '{' {
		require.NoError(w, json.Unmarshal([]byte(b), &out))
	}
	return out
}

func TestMetadefs(t *testing.T) {
	onEach(t, func(w *world) {
		const all = "/v2/metadefs/namespaces"
		for body, status := range map[string]int{
			`{}`: 400, `{"namespace":"a","odd":1}`: 400, `{"namespace":"a","self":"x"}`: 403, `{"namespace":"a","visibility":"shared"}`: 400,
			`{"namespace":"a","properties":{"p":{"type":"string"}}}`:             400,
			`{"namespace":"a","properties":{"p":{"title":"t","type":"floppy"}}}`: 400,
			`{"namespace":"a","objects":[{"description":"nameless"}]}`:           400,
			`{"namespace":"a","tags":[{"name":"x"},{"name":"X"}]}`:               409,
			`{"namespace":"a","display_name":"A"}`:                               201,
			`[]`:                                                                 400,
		} {
			w.put(status, "admin", "POST", all, body)
		}
		w.put(403, "one", "POST", all, `{"namespace":"mine"}`)
		w.put(409, "admin", "POST", all, `{"namespace":"a"}`)
		w.put(201, "admin", "POST", all, `{"namespace":"of one","owner":"p1"}`)
		ns := w.put(201, "admin", "POST", all, `{"namespace":"pub","visibility":"public","resource_type_associations":[{"name":"OS::Nova::Flavor","prefix":"hw:"}],
			"properties":{"cpu":{"title":"CPU","type":"integer","minimum":1}},"objects":[{"name":"o","required":["x"],"properties":{"x":{"title":"X","type":"string"}}}],"tags":[{"name":"t"}]}`)
		require.Equal(w, "/v2/metadefs/namespaces/pub", ns["self"])

		// Who sees what.
		names := func(token, query string) (out []string) {
			for _, n := range w.json(token, all+query)["namespaces"].([]any) {
				out = append(out, n.(map[string]any)["namespace"].(string))
			}
			return out
		}
		require.Equal(w, []string{"pub", "of one", "a"}, names("admin", ""))
		require.Equal(w, []string{"pub", "of one"}, names("one", ""))
		require.Equal(w, []string{"pub"}, names("two", ""))
		require.Equal(w, []string{"pub"}, names("admin", "?resource_types=OS::Nova::Flavor,x"))
		require.Equal(w, []string{"of one"}, names("one", "?visibility=private"))
		require.Equal(w, []string{"a", "of one"}, names("admin", "?sort_key=namespace&sort_dir=asc&limit=2"))
		require.Equal(w, []string{"pub"}, names("admin", "?sort_key=namespace&sort_dir=asc&limit=2&marker=of%20one"))
		w.want(404, "two", "GET", all+"/of%20one", "")
		w.want(404, "two", "GET", all+"/of%20one/objects", "")
		w.want(200, "one", "GET", all+"/of%20one", "")
		w.want(403, "one", "DELETE", all+"/of%20one", "")
		w.want(404, "two", "DELETE", all+"/a", "")
		w.want(400, "admin", "GET", all+"?visibility=odd", "")
		w.want(404, "admin", "GET", all+"?marker=nope", "")

		// With a resource type, names carry its prefix.
		one := w.json("two", all+"/pub?resource_type=OS::Nova::Flavor")
		require.Contains(w, one["properties"], "hw:cpu")
		require.Contains(w, one["objects"].([]any)[0].(map[string]any)["properties"], "hw:x")
		require.Equal(w, []any{"hw:x"}, one["objects"].([]any)[0].(map[string]any)["required"])
		require.Equal(w, "cpu", w.json("two", all+"/pub/properties/hw:cpu?resource_type=OS::Nova::Flavor")["name"])
		w.want(404, "two", "GET", all+"/pub/properties/cpu?resource_type=OS::Nova::Flavor", "")

		// Objects, properties, tags, associations.
		const pub = all + "/pub"
		w.put(403, "one", "POST", pub+"/objects", `{"name":"x"}`)
		w.put(409, "admin", "POST", pub+"/objects", `{"name":"o"}`)
		w.put(400, "admin", "POST", pub+"/objects", `{"name":"x","properties":{"y":{}}}`)
		w.put(201, "admin", "POST", pub+"/objects", `{"name":"x","description":"d"}`)
		up := w.put(200, "admin", "PUT", pub+"/objects/x", `{"name":"y"}`)
		require.NotContains(w, up, "description", "replaced, not merged")
		w.put(404, "admin", "PUT", pub+"/objects/x", `{"name":"y"}`)
		w.put(409, "admin", "PUT", pub+"/objects/y", `{"name":"o"}`)
		require.Len(w, w.json("two", pub+"/objects")["objects"], 2)
		w.want(204, "admin", "DELETE", pub+"/objects/y", "")
		w.want(404, "admin", "DELETE", pub+"/objects/y", "")

		p := w.put(201, "admin", "POST", pub+"/properties", `{"name":"ram","title":"RAM","type":"integer"}`)
		require.Equal(w, "ram", p["name"])
		w.put(400, "admin", "PUT", pub+"/properties/ram", `{"name":"ram","title":"RAM"}`)
		w.put(200, "admin", "PUT", pub+"/properties/ram", `{"name":"memory","title":"Memory","type":"number"}`)
		require.Equal(w, "Memory", w.json("two", pub+"/properties")["properties"].(map[string]any)["memory"].(map[string]any)["title"])
		w.want(204, "admin", "DELETE", pub+"/properties/memory", "")

		w.put(201, "admin", "POST", pub+"/tags/Loud", "")
		w.put(409, "admin", "POST", pub+"/tags/loud", "")
		w.put(200, "admin", "PUT", pub+"/tags/LOUD", `{"name":"quiet"}`)
		require.Len(w, w.json("two", pub+"/tags")["tags"], 2)
		w.put(201, "admin", "POST", pub+"/tags", `{"tags":[{"name":"a"},{"name":"b"}]}`)
		require.Len(w, w.json("two", pub+"/tags")["tags"], 2)
		w.want(201, "admin", "POST", pub+"/tags", `{"tags":[{"name":"c"}]}`, "X-Openstack-Append", "true")
		require.Len(w, w.json("two", pub+"/tags?sort_key=name&sort_dir=asc")["tags"], 3)
		w.want(204, "admin", "DELETE", pub+"/tags/A", "")
		w.want(404, "admin", "GET", pub+"/tags/a", "")

		w.put(201, "admin", "POST", pub+"/resource_types", `{"name":"Nacre::Thing","prefix":"x_"}`)
		w.put(409, "admin", "POST", pub+"/resource_types", `{"name":"Nacre::Thing"}`)
		require.Contains(w, w.want(200, "two", "GET", "/v2/metadefs/resource_types", ""), "Nacre::Thing")
		w.want(204, "admin", "DELETE", pub+"/resource_types/Nacre::Thing", "")
		w.want(404, "admin", "DELETE", pub+"/resource_types/Nacre::Thing", "")
		require.Len(w, w.json("two", pub+"/resource_types")["resource_type_associations"], 1)

		// Protected: nothing goes. Then all goes.
		w.put(200, "admin", "PUT", pub, `{"namespace":"pub","visibility":"public","protected":true}`)
		for _, path := range []string{"", "/objects", "/properties", "/tags", "/objects/o", "/tags/b", "/properties/cpu", "/resource_types/OS::Nova::Flavor"} {
			w.want(403, "admin", "DELETE", pub+path, "")
		}
		w.put(200, "admin", "PUT", pub, `{"namespace":"public","visibility":"public"}`)
		for _, kind := range []string{"objects", "properties", "tags"} {
			w.want(204, "admin", "DELETE", all+"/public/"+kind, "")
			require.Empty(w, w.json("two", all+"/public/"+kind)[kind])
		}
		w.want(204, "admin", "DELETE", all+"/public", "")
		w.want(404, "admin", "GET", all+"/public", "")
		for _, s := range []string{"namespace", "namespaces", "object", "objects", "property", "properties", "tag", "tags", "resource_type", "resource_types"} {
			require.NotEmpty(w, w.json("one", "/v2/schemas/metadefs/"+s)["name"])
		}
		w.want(404, "one", "GET", "/v2/schemas/metadefs/odd", "")
	})
}

func TestMetadefFiles(t *testing.T) {
	onEach(t, func(w *world) {
		dir := os.DirFS("../metadefs/testdata")
		n, err := w.s.Metadefs.Load(w.Context(), dir)
		require.ErrorContains(w, err, "broken.json")
		require.Equal(w, 1, n, "the others are loaded")
		n, err = w.s.Metadefs.Load(w.Context(), fstest.MapFS{})
		require.NoError(w, err)
		require.Zero(w, n)
		rack := w.json("one", "/v2/metadefs/namespaces/Nacre::Test::Rack?resource_type=OS::Glance::Image")
		require.Contains(w, rack["properties"], "rack_row")
		require.Len(w, rack["tags"], 2)
		require.Equal(w, true, rack["protected"])
		n, err = w.s.Metadefs.Load(w.Context(), dir)
		require.Error(w, err)
		require.Zero(w, n, "what is there stays")
	})
}
