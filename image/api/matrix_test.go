package api_test

import (
	"context"
	"io"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/image"
	"github.com/nacre-cloud/nacre/image/api"
	"github.com/nacre-cloud/nacre/image/backend/mem"
	"github.com/nacre-cloud/nacre/internal/matrix"
	"github.com/nacre-cloud/nacre/internal/rest"
	"github.com/nacre-cloud/nacre/store/memstore"
)

// matrixCallers are who asks, in the order of the file's columns. The images are
// p1's, and shared with p2.
var matrixCallers = []struct {
	name string
	c    *nacre.Caller
}{
	{"nobody", nil},
	{"reader", &nacre.Caller{UserID: "r", ProjectID: "p1", Roles: []string{"reader"}}},
	{"member", &nacre.Caller{UserID: "m", ProjectID: "p1", Roles: []string{"member", "reader"}}},
	{"sharee", &nacre.Caller{UserID: "s", ProjectID: "p2", Roles: []string{"member", "reader"}}},
	{"stranger", &nacre.Caller{UserID: "x", ProjectID: "p3", Roles: []string{"member", "reader"}}},
	{"service", &nacre.Caller{UserID: "v", ProjectID: "services", Roles: []string{"service"}}},
	{"admin", &nacre.Caller{UserID: "a", ProjectID: "p0", Roles: []string{"admin", "manager", "member", "reader"}}},
	{"system", &nacre.Caller{UserID: "y", System: "all", Roles: []string{"admin", "member", "reader"}}},
}

const (
	octets = "application/octet-stream"
	patch  = "application/openstack-images-v2.1-json-patch"
	plain  = "application/json"
)

// matrixBodies are what goes with a route: a content type and a body.
var matrixBodies = map[string][2]string{
	"POST /v2/images":                                    {plain, `{"name":"new"}`},
	"PATCH /v2/images/{id}":                              {patch, `[{"op":"replace","path":"/name","value":"n"}]`},
	"PUT /v2/images/{id}/file":                           {octets, "bytes"},
	"PUT /v2/images/{id}/stage":                          {octets, "bytes"},
	"POST /v2/images/{id}/members":                       {plain, `{"member":"p4"}`},
	"PUT /v2/images/{id}/members/{member}":               {plain, `{"status":"accepted"}`},
	"POST /v2/images/{id}/import":                        {plain, `{"method":{"name":"glance-direct"}}`},
	"POST /v2/images/{id}/locations":                     {plain, `{"url":"http://ok.test/x"}`},
	"POST /v2/tasks":                                     {plain, `{"type":"import","input":{"import_from":"http://ok.test/x","import_from_format":"raw","image_properties":{}}}`},
	"POST /v2/metadefs/namespaces":                       {plain, `{"namespace":"new"}`},
	"PUT /v2/metadefs/namespaces/{ns}":                   {plain, `{"namespace":"ns","owner":"p1"}`},
	"POST /v2/metadefs/namespaces/{ns}/objects":          {plain, `{"name":"new"}`},
	"PUT /v2/metadefs/namespaces/{ns}/objects/{name}":    {plain, `{"name":"new"}`},
	"POST /v2/metadefs/namespaces/{ns}/properties":       {plain, `{"name":"new","title":"t","type":"string"}`},
	"PUT /v2/metadefs/namespaces/{ns}/properties/{name}": {plain, `{"name":"new","title":"t","type":"string"}`},
	"POST /v2/metadefs/namespaces/{ns}/tags":             {plain, `{"tags":[{"name":"new"}]}`},
	"POST /v2/metadefs/namespaces/{ns}/tags/{name}":      {plain, ``},
	"PUT /v2/metadefs/namespaces/{ns}/tags/{name}":       {plain, `{"name":"new"}`},
	"POST /v2/metadefs/namespaces/{ns}/resource_types":   {plain, `{"name":"new"}`},
}

// matrixWorld is a small cloud's images, made anew for each request.
type matrixWorld struct {
	*world
	queued, active, staged, task string
}

func newMatrixWorld(t *testing.T) *matrixWorld {
	e := memstore.New(memstore.Options{})
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	require.NoError(t, e.Migrate(t.Context(), image.Schema(), true))
	s, err := image.New(image.Config{Engine: e, Stores: []image.Store{{ID: "fast", Driver: &mem.Driver{}}, {ID: "slow", Driver: &mem.Driver{}}, {ID: "http", Driver: pages{&mem.Driver{}}, ReadOnly: true}}, Fetcher: fetcher{}})
	require.NoError(t, err)
	callers := tokens{}
	for _, c := range matrixCallers {
		if c.c != nil {
			callers[c.name] = c.c
		}
	}
	w := &matrixWorld{world: &world{T: t, s: s, h: rest.Transport(rest.Mount("/image", api.New(api.Config{Image: s, Tokens: callers})))}}
	ctx := nacre.WithCaller(t.Context(), callers["member"])
	make := func() string {
		im, err := s.Create(ctx, image.Image{DiskFormat: "raw", ContainerFormat: "bare", Tags: []string{"tag"}})
		require.NoError(t, err)
		_, err = s.AddMember(ctx, im.ID, "p2")
		require.NoError(t, err)
		return im.ID
	}
	w.queued, w.active, w.staged = make(), make(), make()
	_, err = s.Upload(ctx, w.active, strings.NewReader("bytes"), -1)
	require.NoError(t, err)
	require.NoError(t, s.Stage(ctx, w.staged, strings.NewReader("bytes"), -1))
	other := make()
	require.NoError(t, s.Stage(ctx, other, strings.NewReader("bytes"), -1))
	task, err := s.Import(ctx, other, image.ImportRequest{Method: image.GlanceDirect})
	require.NoError(t, err)
	w.task = task.ID
	w.put(201, "admin", "POST", "/v2/metadefs/namespaces", `{"namespace":"ns","owner":"p1","resource_type_associations":[{"name":"item"}],"properties":{"item":{"title":"t","type":"string"}},"objects":[{"name":"item"}],"tags":[{"name":"item"}]}`)
	return w
}

// fill puts things into a route's path.
func (w *matrixWorld) fill(op nacre.Operation) string {
	id := w.active
	switch op.Method + " " + op.Path {
	case "PUT /v2/images/{id}/file", "PUT /v2/images/{id}/stage", "POST /v2/images/{id}/locations", "PATCH /v2/images/{id}":
		id = w.queued
	case "POST /v2/images/{id}/import":
		id = w.staged
	}
	if strings.HasPrefix(op.Path, "/v2/tasks/") {
		id = w.task
	}
	name := "item"
	switch {
	case strings.HasPrefix(op.Path, "/v2/schemas/metadefs"):
		name = "tag"
	case strings.HasPrefix(op.Path, "/v2/schemas"):
		name = "image"
	case op.Method == "POST":
		name = "fresh"
	}
	return strings.NewReplacer("{id}", id, "{member}", "p2", "{tag}", "tag", "{store}", "fast", "{ns}", "ns", "{name}", name).Replace(op.Path)
}

// pages is a read-only store for URLs that fetcher knows.
type pages struct{ *mem.Driver }

func (pages) CheckURL(ctx context.Context, url string) error { return fetcher{}.Check(ctx, url) }

func (pages) OpenURL(ctx context.Context, url string) (io.ReadCloser, int64, error) {
	return fetcher{}.Fetch(ctx, url)
}

// TestMatrix has each caller try each route.
func TestMatrix(t *testing.T) {
	names := make([]string, len(matrixCallers))
	for i, c := range matrixCallers {
		names[i] = c.name
	}
	m := matrix.New("The status of each route for each kind of caller, by Glance's default rules.\n"+
		"The images are of the project of reader and member, and shared with the sharee's.", names...)
	for _, op := range api.Operations() {
		cells := make([]string, len(matrixCallers))
		for i, c := range matrixCallers {
			w := newMatrixWorld(t)
			token := c.name
			if c.c == nil {
				token = ""
			}
			b := matrixBodies[op.Method+" "+op.Path]
			var header []string
			if b[0] != "" {
				header = []string{"Content-Type", b[0]}
			}
			res, body := w.do(token, op.Method, w.fill(op), b[1], header...)
			require.Less(t, res.StatusCode, 500, "%s %s as %s: %s", op.Method, op.Path, c.name, body)
			cells[i] = strconv.Itoa(res.StatusCode)
		}
		m.Row(op.Method+" "+op.Path, cells...)
	}
	m.Check(t)
}
