package api_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/imagedata"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/images"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/members"
	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/image"
	"github.com/nacre-cloud/nacre/image/api"
	"github.com/nacre-cloud/nacre/image/backend"
	"github.com/nacre-cloud/nacre/image/backend/file"
	"github.com/nacre-cloud/nacre/image/backend/mem"
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
	"admin": {UserID: "u0", ProjectID: "p0", Roles: []string{"admin", "member", "reader"}},
	"one":   {UserID: "u1", ProjectID: "p1", Roles: []string{"member", "reader"}},
	"two":   {UserID: "u2", ProjectID: "p2", Roles: []string{"member", "reader"}},
}

type world struct {
	*testing.T
	h http.RoundTripper
	s *image.Service
}

func onEach(t *testing.T, test func(w *world)) { onEachWith(t, func(*image.Config) {}, test) }

// onEachWith changes the configuration before the service is made.
func onEachWith(t *testing.T, setup func(*image.Config), test func(w *world)) {
	for name, open := range map[string]func(t *testing.T) (store.Engine, backend.Driver, error){
		"memstore": func(*testing.T) (store.Engine, backend.Driver, error) {
			return memstore.New(memstore.Options{}), &mem.Driver{}, nil
		},
		"sqlite": func(t *testing.T) (store.Engine, backend.Driver, error) {
			e, err := bunstore.OpenSQLite(filepath.Join(t.TempDir(), "i.db"), bunstore.Options{Synchronous: "OFF"})
			if err != nil {
				return nil, nil, err
			}
			b, err := file.New(t.TempDir(), file.Options{NoSync: true})
			return e, b, err
		},
	} {
		t.Run(name, func(t *testing.T) {
			e, b, err := open(t)
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, e.Close()) })
			require.NoError(t, e.Migrate(t.Context(), image.Schema(), true))
			c := image.Config{Engine: e, Backend: b}
			setup(&c)
			s, err := image.New(c)
			require.NoError(t, err)
			test(&world{T: t, s: s, h: rest.Transport(rest.Mount("/image", api.New(api.Config{Image: s, Tokens: callers})))})
		})
	}
}

func (w *world) client(token string) *gophercloud.ServiceClient {
	p := &gophercloud.ProviderClient{TokenID: token}
	p.HTTPClient = http.Client{Transport: w.h}
	return &gophercloud.ServiceClient{ProviderClient: p, Type: "image", Endpoint: "http://cloud/image/", ResourceBase: "http://cloud/image/v2/"}
}

func (w *world) do(token, method, path, body string, header ...string) (*http.Response, string) {
	w.Helper()
	req, err := http.NewRequestWithContext(w.Context(), method, "http://cloud/image"+path, strings.NewReader(body))
	require.NoError(w, err)
	if token != "" {
		req.Header.Set("X-Auth-Token", token)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := w.h.RoundTrip(req)
	require.NoError(w, err)
	defer res.Body.Close() //nolint:errcheck // read whole
	b, err := io.ReadAll(res.Body)
	require.NoError(w, err)
	return res, string(b)
}

func (w *world) want(status int, token, method, path, body string, header ...string) string {
	w.Helper()
	res, b := w.do(token, method, path, body, header...)
	require.Equal(w, status, res.StatusCode, "%s %s: %s", method, path, b)
	return b
}

func code(err error) int {
	var e gophercloud.ErrUnexpectedResponseCode
	if errors.As(err, &e) {
		return e.Actual
	}
	return 0
}

func (w *world) create(token string, o images.CreateOpts) *images.Image {
	w.Helper()
	im, err := images.Create(w.Context(), w.client(token), o).Extract()
	require.NoError(w, err)
	return im
}

func TestLifeOfAnImage(t *testing.T) {
	onEach(t, func(w *world) {
		ctx, c := w.Context(), w.client("one")
		hidden := false
		im := w.create("one", images.CreateOpts{Name: "cirros", DiskFormat: "raw", ContainerFormat: "bare", MinDisk: 1, Tags: []string{"b", "a"}, Hidden: &hidden,
			Properties: map[string]string{"hw_rng_model": "virtio"}})
		require.Equal(w, images.ImageStatusQueued, im.Status)
		require.Equal(w, images.ImageVisibilityShared, im.Visibility)
		require.Equal(w, "p1", im.Owner)
		require.ElementsMatch(w, []string{"a", "b"}, im.Tags)
		require.Equal(w, "virtio", im.Properties["hw_rng_model"])
		require.Equal(w, "/v2/images/"+im.ID+"/file", im.File)
		raw := w.want(200, "one", "GET", "/v2/images/"+im.ID, "")
		require.Contains(w, raw, `"size":null`)
		require.Contains(w, raw, `"checksum":null`)

		w.want(204, "one", "GET", "/v2/images/"+im.ID+"/file", "")
		data := bytes.Repeat([]byte("0123456789"), 50_000)
		require.NoError(w, imagedata.Upload(ctx, c, im.ID, bytes.NewReader(data)).ExtractErr())
		require.Equal(w, 409, code(imagedata.Upload(ctx, c, im.ID, bytes.NewReader(data)).ExtractErr()))
		got, err := images.Get(ctx, c, im.ID).Extract()
		require.NoError(w, err)
		require.Equal(w, images.ImageStatusActive, got.Status)
		require.EqualValues(w, len(data), got.SizeBytes)
		r, err := imagedata.Download(ctx, c, im.ID).Extract()
		require.NoError(w, err)
		back, err := io.ReadAll(r)
		require.NoError(w, err)
		require.True(w, bytes.Equal(data, back))

		file := "/v2/images/" + im.ID + "/file"
		res, b := w.do("one", "GET", file, "", "Range", "bytes=3-7")
		require.Equal(w, 206, res.StatusCode)
		require.Equal(w, "34567", b)
		require.Equal(w, fmt.Sprintf("bytes 3-7/%d", len(data)), res.Header.Get("Content-Range"))
		res, b = w.do("one", "GET", file, "", "Range", "bytes=-4")
		require.Equal(w, 206, res.StatusCode)
		require.Equal(w, "6789", b)
		w.want(416, "one", "GET", file, "", "Range", "bytes=9999999-")
		res, b = w.do("one", "HEAD", file, "")
		require.Equal(w, 200, res.StatusCode)
		require.Empty(w, b)
		require.Equal(w, fmt.Sprint(len(data)), res.Header.Get("Content-Length"))
		require.Equal(w, got.Checksum, res.Header.Get("Content-Md5"))
		require.Equal(w, "application/octet-stream", res.Header.Get("Content-Type"))
		w.want(415, "one", "PUT", file, "x", "Content-Type", "application/json")
		w.want(404, "two", "GET", file, "")

		// Deactivated: only administrators download.
		w.want(404, "two", "POST", "/v2/images/"+im.ID+"/actions/deactivate", "")
		w.want(204, "one", "POST", "/v2/images/"+im.ID+"/actions/deactivate", "")
		w.want(403, "one", "GET", file, "")
		w.want(200, "admin", "GET", file, "")
		w.want(204, "admin", "POST", "/v2/images/"+im.ID+"/actions/reactivate", "")
		w.want(200, "one", "GET", file, "")

		_, err = images.Update(ctx, c, im.ID, images.UpdateOpts{images.ReplaceImageProtected{NewProtected: true}}).Extract()
		require.NoError(w, err)
		require.Equal(w, 403, code(images.Delete(ctx, c, im.ID).ExtractErr()))
		_, err = images.Update(ctx, c, im.ID, images.UpdateOpts{images.ReplaceImageProtected{NewProtected: false}}).Extract()
		require.NoError(w, err)
		require.NoError(w, images.Delete(ctx, c, im.ID).ExtractErr())
		w.want(404, "one", "GET", "/v2/images/"+im.ID, "")
		w.want(404, "one", "DELETE", "/v2/images/"+im.ID, "")
	})
}

func TestPatch(t *testing.T) {
	onEach(t, func(w *world) {
		ctx, c := w.Context(), w.client("one")
		im := w.create("one", images.CreateOpts{Name: "a"})
		got, err := images.Update(ctx, c, im.ID, images.UpdateOpts{
			images.ReplaceImageName{NewName: "b"}, images.ReplaceImageTags{NewTags: []string{"x"}}, images.ReplaceImageMinDisk{NewMinDisk: 3},
			images.UpdateImageProperty{Op: images.AddOp, Name: "p", Value: "1"}, images.UpdateVisibility{Visibility: images.ImageVisibilityPrivate},
		}).Extract()
		require.NoError(w, err)
		require.Equal(w, "b", got.Name)
		require.Equal(w, []string{"x"}, got.Tags)
		require.Equal(w, 3, got.MinDiskGigabytes)
		require.Equal(w, "1", got.Properties["p"])
		require.Equal(w, images.ImageVisibilityPrivate, got.Visibility)
		at := "/v2/images/" + im.ID
		const v21, v20 = "application/openstack-images-v2.1-json-patch", "application/openstack-images-v2.0-json-patch"
		for body, status := range map[string]int{
			`[{"op":"replace","path":"/p","value":"2"}]`:                 200,
			`[{"op":"replace","path":"/nope","value":"2"}]`:              409,
			`[{"op":"remove","path":"/nope"}]`:                           409,
			`[{"op":"remove","path":"/name"}]`:                           403,
			`[{"op":"replace","path":"/status","value":"active"}]`:       403,
			`[{"op":"replace","path":"/id","value":"x"}]`:                403,
			`[{"op":"replace","path":"/owner","value":"p2"}]`:            403,
			`[{"op":"replace","path":"/locations","value":[]}]`:          403,
			`[{"op":"replace","path":"/visibility","value":"public"}]`:   403,
			`[{"op":"replace","path":"/visibility","value":"nonsense"}]`: 400,
			`[{"op":"replace","path":"/visibility","value":null}]`:       400,
			`[{"op":"replace","path":"/min_disk","value":-1}]`:           400,
			`[{"op":"replace","path":"/min_ram","value":"many"}]`:        400,
			`[{"op":"replace","path":"/protected","value":"yes"}]`:       400,
			`[{"op":"add","path":"/p2","value":7}]`:                      400,
			`[{"op":"move","path":"/p","value":"2"}]`:                    400,
			`[{"op":"replace","path":"p","value":"2"}]`:                  400,
			`[{"op":"replace","path":"/p"}]`:                             400,
			`{"op":"replace"}`:                                           400,
			`[{"op":"replace","path":"/disk_format","value":"qcow2"}]`:   200,
			`[{"op":"replace","path":"/disk_format","value":"floppy"}]`:  400,
		} {
			w.want(status, "one", "PATCH", at, body, "Content-Type", v21)
		}
		w.want(200, "one", "PATCH", at, `[{"replace":"/name","value":"old"}]`, "Content-Type", v20)
		w.want(415, "one", "PATCH", at, `[]`, "Content-Type", "application/json")
		w.want(404, "two", "PATCH", at, `[]`, "Content-Type", v21)
		w.want(200, "admin", "PATCH", at, `[{"op":"replace","path":"/visibility","value":"public"}]`, "Content-Type", v21)
		w.want(403, "two", "PATCH", at, `[{"op":"replace","path":"/name","value":"mine"}]`, "Content-Type", v21)
		w.want(204, "one", "PUT", at+"/tags/green", "")
		w.want(204, "one", "DELETE", at+"/tags/green", "")
		w.want(404, "one", "DELETE", at+"/tags/green", "")
		got, err = images.Get(ctx, c, im.ID).Extract()
		require.NoError(w, err)
		require.Equal(w, "old", got.Name)
		require.Equal(w, "qcow2", got.DiskFormat)
	})
}

func TestCreateRefused(t *testing.T) {
	onEach(t, func(w *world) {
		im := w.create("one", images.CreateOpts{Name: "a"})
		for body, status := range map[string]int{
			`{"id":"` + im.ID + `"}`:                      409,
			`{"id":"x"}`:                                  400,
			`{"visibility":"public"}`:                     403,
			`{"visibility":"odd"}`:                        400,
			`{"owner":"p2"}`:                              403,
			`{"disk_format":"floppy"}`:                    400,
			`{"status":"active"}`:                         403,
			`{"size":3}`:                                  403,
			`{"min_disk":-1}`:                             400,
			`{"min_disk":"one"}`:                          400,
			`{"custom":3}`:                                400,
			`{"name":"` + strings.Repeat("x", 256) + `"}`: 400,
			`{"tags":"x"}`:                                400,
			`not json`:                                    400,
			`{"name":null}`:                               201,
			`{}`:                                          201,
		} {
			w.want(status, "one", "POST", "/v2/images", body, "Content-Type", "application/json")
		}
		w.want(401, "", "GET", "/v2/images", "")
		w.want(401, "bad", "GET", "/v2/images", "")
		w.want(404, "one", "GET", "/v2/nonsense", "")
	})
}

func (w *world) list(token, query string) []string {
	w.Helper()
	names := []string{}
	pages, err := images.List(w.client(token), listQuery(query)).AllPages(w.Context())
	require.NoError(w, err, query)
	ims, err := images.ExtractImages(pages)
	require.NoError(w, err)
	for _, im := range ims {
		names = append(names, im.Name)
	}
	return names
}

type listQuery string

func (q listQuery) ToImageListQuery() (string, error) { return "?" + string(q), nil }

func TestList(t *testing.T) {
	onEach(t, func(w *world) {
		for i, name := range []string{"a", "b", "c", "d", "e"} {
			im := w.create("one", images.CreateOpts{Name: name, DiskFormat: "raw", ContainerFormat: "bare", MinRAM: i, Tags: []string{"all", "tag" + name}, Properties: map[string]string{"kind": fmt.Sprint(i % 2)}})
			require.NoError(w, imagedata.Upload(w.Context(), w.client("one"), im.ID, bytes.NewReader(make([]byte, 100*(i+1)))).ExtractErr())
		}
		hidden := true
		w.create("one", images.CreateOpts{Name: "ghost", Hidden: &hidden})
		community, public := images.ImageVisibilityCommunity, images.ImageVisibilityPublic
		w.create("two", images.CreateOpts{Name: "theirs"})
		w.create("two", images.CreateOpts{Name: "community", Visibility: &community})
		w.create("admin", images.CreateOpts{Name: "public", Visibility: &public})
		for query, want := range map[string][]string{
			"":                                    {"public", "e", "d", "c", "b", "a"},
			"limit=2":                             {"public", "e", "d", "c", "b", "a"},
			"limit=2&sort=name:asc":               {"a", "b", "c", "d", "e", "public"},
			"sort=name":                           {"public", "e", "d", "c", "b", "a"},
			"sort_key=name&sort_dir=asc":          {"a", "b", "c", "d", "e", "public"},
			"sort_dir=asc":                        {"a", "b", "c", "d", "e", "public"},
			"sort=size:asc,name&limit=3":          {"public", "a", "b", "c", "d", "e"},
			"sort_key=size&sort_dir=desc&limit=4": {"e", "d", "c", "b", "a", "public"},
			"name=b":                              {"b"},
			"name=in:b,d&sort=name:asc":           {"b", "d"},
			"tag=tagc":                            {"c"},
			"tag=all&tag=tagc":                    {"c"},
			"kind=1":                              {"d", "b"},
			"visibility=public":                   {"public"},
			"visibility=shared":                   {"e", "d", "c", "b", "a"},
			"visibility=community":                {"community"},
			"visibility=all&status=queued":        {"public", "community"},
			"os_hidden=true":                      {"ghost"},
			"size_min=200&size_max=400":           {"d", "c", "b"},
			"status=active&disk_format=raw&min_ram=2":    {"c"},
			"created_at=gte:2020-01-01T00:00:00Z&name=a": {"a"},
			"created_at=lt:2020-01-01T00:00:00Z":         {},
			"owner=p2":                                   {},
			"name=basca&sort=name":                       {},
		} {
			require.Equal(w, want, w.list("one", query), query)
		}
		for _, query := range []string{"limit=-1", "limit=x", "marker=00000000-0000-0000-0000-000000000000", "sort=nonsense:asc", "sort=name:up", "visibility=odd", "os_hidden=perhaps", "size_min=x", "created_at=yesterday", "member_status=odd", "name=gt:a"} {
			w.want(400, "one", "GET", "/v2/images?"+query, "")
		}
		b := w.want(200, "one", "GET", "/v2/images?limit=2&sort=name:asc", "")
		require.Contains(w, b, `"next":"/v2/images?limit=2&marker=`)
		require.Contains(w, b, `"first":"/v2/images?limit=2&sort=name%3Aasc"`)
		require.Contains(w, b, `"schema":"/v2/schemas/images"`)
		for _, name := range []string{"image", "images", "member", "members"} {
			require.Contains(w, w.want(200, "one", "GET", "/v2/schemas/"+name, ""), `"name":"`+name+`"`)
		}
		w.want(404, "one", "GET", "/v2/schemas/nonsense", "")
		w.want(300, "", "GET", "/", "")
		require.Contains(w, w.want(200, "", "GET", "/versions", ""), `"href":"http://cloud/image/v2/"`)
	})
}

func TestMembers(t *testing.T) {
	onEach(t, func(w *world) {
		ctx, mine, theirs := w.Context(), w.client("one"), w.client("two")
		im := w.create("one", images.CreateOpts{Name: "shared"})
		m, err := members.Create(ctx, mine, im.ID, "p2").Extract()
		require.NoError(w, err)
		require.Equal(w, "pending", m.Status)
		require.Equal(w, "p2", m.MemberID)
		_, err = members.Create(ctx, mine, im.ID, "p2").Extract()
		require.Equal(w, 409, code(err))
		require.Empty(w, w.list("two", ""))
		_, err = members.Update(ctx, mine, im.ID, "p2", members.UpdateOpts{Status: "accepted"}).Extract()
		require.Equal(w, 403, code(err))
		m, err = members.Update(ctx, theirs, im.ID, "p2", members.UpdateOpts{Status: "accepted"}).Extract()
		require.NoError(w, err)
		require.Equal(w, "accepted", m.Status)
		require.Equal(w, []string{"shared"}, w.list("two", ""))
		page, err := members.List(theirs, im.ID).AllPages(ctx)
		require.NoError(w, err)
		all, err := members.ExtractMembers(page)
		require.NoError(w, err)
		require.Len(w, all, 1)
		_, err = members.Get(ctx, mine, im.ID, "p2").Extract()
		require.NoError(w, err)
		w.want(400, "one", "POST", "/v2/images/"+im.ID+"/members", `{}`, "Content-Type", "application/json")
		w.want(400, "two", "PUT", "/v2/images/"+im.ID+"/members/p2", `{"status":"odd"}`, "Content-Type", "application/json")
		require.Equal(w, 403, code(members.Delete(ctx, theirs, im.ID, "p2").ExtractErr()))
		require.NoError(w, members.Delete(ctx, mine, im.ID, "p2").ExtractErr())
		require.Equal(w, 404, code(members.Delete(ctx, mine, im.ID, "p2").ExtractErr()))
	})
}
