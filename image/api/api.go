// Package api is image's HTTP face: Glance's API v2.
//
//	h := api.New(api.Config{Image: svc, Tokens: identity})
//
// The links in images (self, file, schema, next, first) are paths from /v2/ on,
// without a mount prefix: clients add the endpoint's own, as with glance.
package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/image"
	"github.com/nacre-cloud/nacre/internal/rest"
)

// Config of the API. Image is required.
type Config struct {
	Image   *image.Service
	Tokens  nacre.TokenValidator
	AuthURI string
	Observe func(method, route string, status int, took time.Duration)
	Log     *slog.Logger
}

type api struct{ s *image.Service }

// Operations is the table of what is built.
func Operations() []nacre.Operation { return service(Config{}).Operations() }

// New serves the API.
func New(c Config) http.Handler { return service(c).Handler() }

func service(c Config) *rest.Service {
	a := &api{s: c.Image}
	return &rest.Service{Name: "image", Dialect: rest.Glance(), Tokens: c.Tokens, AuthURI: c.AuthURI, Observe: c.Observe, Log: c.Log, Routes: a.routes()}
}

// versions that glance 2025.1 announces, newest first.
var versions = []string{"v2.17", "v2.16", "v2.15", "v2.13", "v2.9", "v2.8", "v2.7", "v2.6", "v2.5", "v2.4", "v2.3", "v2.2", "v2.1", "v2.0"}

func versionDocument(r *rest.Request, status int) (any, error) {
	type link struct {
		Rel  string `json:"rel"`
		Href string `json:"href"`
	}
	type version struct {
		ID     string `json:"id"`
		Status string `json:"status"`
		Links  []link `json:"links"`
	}
	var out []version
	for i, v := range versions {
		st := "SUPPORTED"
		if i == 0 {
			st = "CURRENT"
		}
		out = append(out, version{v, st, []link{{"self", r.Base() + "/v2/"}}})
	}
	r.SetStatus(status)
	return map[string]any{"versions": out}, nil
}

func (a *api) routes() []rest.Route {
	const one = "/v2/images/{id}"
	versions := func(status int) rest.Op {
		return rest.Do(func(r *rest.Request) (any, error) { return versionDocument(r, status) })
	}
	return []rest.Route{
		{Method: "GET", Path: "/", Public: true, Op: versions(http.StatusMultipleChoices)},
		{Method: "GET", Path: "/versions", Public: true, Op: versions(http.StatusOK)},
		{Method: "GET", Path: "/v2", Public: true, Op: versions(http.StatusOK)},
		{Method: "POST", Path: "/v2/images", Status: 201, Policy: []string{"add_image"}, View: view{}, Op: rest.In(a.create)},
		{Method: "GET", Path: "/v2/images", Policy: []string{"get_images"}, View: view{}, Op: rest.Do(a.list)},
		{Method: "GET", Path: one, Policy: []string{"get_image"}, View: view{}, Op: rest.Do(func(r *rest.Request) (any, error) {
			im, err := a.s.Get(r.Context(), r.Var("id"))
			return viewOf(im), err
		})},
		{Method: "PATCH", Path: one, Policy: []string{"modify_image"}, View: view{}, Op: rest.Raw(a.patch)},
		{Method: "DELETE", Path: one, Policy: []string{"delete_image"}, Op: rest.Do(func(r *rest.Request) (any, error) {
			return nil, a.s.Delete(r.Context(), r.Var("id"))
		})},
		{Method: "PUT", Path: one + "/file", Policy: []string{"upload_image"}, Op: rest.Raw(a.upload)},
		{Method: "GET", Path: one + "/file", Policy: []string{"download_image"}, Op: rest.Raw(a.download)},
		{Method: "POST", Path: one + "/actions/deactivate", Status: 204, Policy: []string{"deactivate"}, Op: rest.Do(func(r *rest.Request) (any, error) {
			return nil, a.s.SetActive(r.Context(), r.Var("id"), false)
		})},
		{Method: "POST", Path: one + "/actions/reactivate", Status: 204, Policy: []string{"reactivate"}, Op: rest.Do(func(r *rest.Request) (any, error) {
			return nil, a.s.SetActive(r.Context(), r.Var("id"), true)
		})},
		{Method: "GET", Path: one + "/members", Policy: []string{"get_members"}, View: memberList{}, Op: rest.Do(a.listMembers)},
		{Method: "POST", Path: one + "/members", Status: 200, Policy: []string{"add_member"}, View: memberView{}, Unknown: rest.Ignore, Op: rest.In(a.addMember)},
		{Method: "GET", Path: one + "/members/{member}", Policy: []string{"get_member"}, View: memberView{}, Op: rest.Do(a.getMember)},
		{Method: "PUT", Path: one + "/members/{member}", Policy: []string{"modify_member"}, View: memberView{}, Unknown: rest.Ignore, Op: rest.In(a.setMember)},
		{Method: "DELETE", Path: one + "/members/{member}", Status: 204, Policy: []string{"delete_member"}, Op: rest.Do(func(r *rest.Request) (any, error) {
			return nil, a.s.RemoveMember(r.Context(), r.Var("id"), r.Var("member"))
		})},
		{Method: "GET", Path: "/v2/schemas/{name}", Op: rest.Do(schema)},
		{Method: "PUT", Path: one + "/tags/{tag}", Status: 204, Policy: []string{"modify_image"}, Op: rest.Do(func(r *rest.Request) (any, error) {
			return nil, a.s.SetTag(r.Context(), r.Var("id"), r.Var("tag"), true)
		})},
		{Method: "DELETE", Path: one + "/tags/{tag}", Status: 204, Policy: []string{"modify_image"}, Op: rest.Do(func(r *rest.Request) (any, error) {
			return nil, a.s.SetTag(r.Context(), r.Var("id"), r.Var("tag"), false)
		})},
	}
}

// view is an image as the API shows it; custom properties stand beside the others.
type view struct {
	ID              string         `json:"id"`
	Name            *string        `json:"name"`
	Status          string         `json:"status"`
	Visibility      string         `json:"visibility"`
	Protected       bool           `json:"protected"`
	Hidden          bool           `json:"os_hidden"`
	Tags            []string       `json:"tags"`
	Owner           string         `json:"owner"`
	ContainerFormat *string        `json:"container_format"`
	DiskFormat      *string        `json:"disk_format"`
	MinDisk         int            `json:"min_disk"`
	MinRAM          int            `json:"min_ram"`
	Size            *int64         `json:"size"`
	VirtualSize     *int64         `json:"virtual_size"`
	Checksum        *string        `json:"checksum"`
	HashAlgo        *string        `json:"os_hash_algo"`
	HashValue       *string        `json:"os_hash_value"`
	Created         rest.Seconds   `json:"created_at"`
	Updated         rest.Seconds   `json:"updated_at"`
	Self            string         `json:"self"`
	File            string         `json:"file"`
	Schema          string         `json:"schema"`
	Properties      map[string]any `json:"-" extra:"true"`
}

// fixed are the names that are no custom properties.
var fixed = []string{"id", "name", "status", "visibility", "protected", "os_hidden", "tags", "owner", "container_format", "disk_format", "min_disk", "min_ram", "size", "virtual_size",
	"checksum", "os_hash_algo", "os_hash_value", "created_at", "updated_at", "self", "file", "schema", "direct_url", "locations", "stores", "first", "next"}

// readOnly are those that a user can't set.
var readOnly = []string{"status", "size", "virtual_size", "checksum", "os_hash_algo", "os_hash_value", "created_at", "updated_at", "self", "file", "schema", "direct_url", "first", "next"}

func null[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

func viewOf(im image.Image) view {
	v := view{ID: im.ID, Name: null(im.Name), Status: im.Status, Visibility: im.Visibility, Protected: im.Protected, Hidden: im.Hidden, Tags: im.Tags, Owner: im.OwnerID,
		ContainerFormat: null(im.ContainerFormat), DiskFormat: null(im.DiskFormat), MinDisk: im.MinDisk, MinRAM: im.MinRAM, VirtualSize: null(im.VirtualSize), Checksum: null(im.Checksum),
		HashAlgo: null(im.HashAlgo), HashValue: null(im.HashValue), Created: rest.Seconds(im.Created), Updated: rest.Seconds(im.Updated),
		Self: "/v2/images/" + im.ID, File: "/v2/images/" + im.ID + "/file", Schema: "/v2/schemas/image", Properties: map[string]any{}}
	if im.HasSize {
		v.Size = &im.Size
	}
	for k, p := range im.Properties {
		v.Properties[k] = p
	}
	return v
}

type createBody struct {
	ID              string         `json:"id"`
	Name            string         `json:"name" valid:"null,max=255"`
	Visibility      string         `json:"visibility" valid:"enum=community|public|private|shared"`
	Protected       bool           `json:"protected"`
	Hidden          bool           `json:"os_hidden"`
	Tags            []string       `json:"tags"`
	Owner           string         `json:"owner" valid:"null,max=255"`
	ContainerFormat string         `json:"container_format" valid:"null"`
	DiskFormat      string         `json:"disk_format" valid:"null"`
	MinDisk         int            `json:"min_disk" valid:"min=0,max=2147483647"`
	MinRAM          int            `json:"min_ram" valid:"min=0,max=2147483647"`
	Properties      map[string]any `json:"-" extra:"true"`
}

func property(name string, v any) (string, error) {
	s, ok := v.(string)
	if !ok {
		return "", nacre.Errorf(nacre.Invalid, "", "Provided object does not match schema 'image': %s is not of type 'string' (%s)", rest.PyRepr(v), name)
	}
	if len(name) > 255 || name == "" || len(s) > 65535 {
		return "", nacre.Errorf(nacre.Invalid, "", "Property %s is too long.", name)
	}
	return s, nil
}

func (a *api) create(r *rest.Request, b *createBody) (any, error) {
	im := image.Image{ID: b.ID, Name: b.Name, OwnerID: b.Owner, Visibility: b.Visibility, Protected: b.Protected, Hidden: b.Hidden, Tags: b.Tags, ContainerFormat: b.ContainerFormat,
		DiskFormat: b.DiskFormat, MinDisk: b.MinDisk, MinRAM: b.MinRAM, Properties: map[string]string{}}
	for k, v := range b.Properties {
		if slices.Contains(readOnly, k) {
			return nil, nacre.Errorf(nacre.Forbidden, "", "Attribute '%s' is read-only.", k)
		}
		if slices.Contains(fixed, k) || strings.HasPrefix(k, "os_glance_") {
			return nil, nacre.Errorf(nacre.Forbidden, "", "Attribute '%s' is reserved.", k)
		}
		s, err := property(k, v)
		if err != nil {
			return nil, err
		}
		im.Properties[k] = s
	}
	im, err := a.s.Create(r.Context(), im)
	if err != nil {
		return nil, err
	}
	r.Set("Location", r.Base()+"/v2/images/"+im.ID)
	return viewOf(im), nil
}

func (a *api) list(r *rest.Request) (any, error) {
	q, err := r.Query(rest.QueryRules{ColonSort: true, Operators: []string{"id", "name", "status", "disk_format", "container_format", "created_at", "updated_at"},
		Invalid: func(name, value, why string) *nacre.Error {
			return nacre.Errorf(nacre.Invalid, "", "Invalid value for %s: %s: %s", name, value, why)
		}})
	if err != nil {
		return nil, err
	}
	asked := q.Limit
	if q.Limit == 0 && !r.URL.Query().Has("limit") {
		q.Limit, asked = 25, 0
	}
	zero := r.URL.Query().Get("limit") == "0"
	if q.Limit > 1000 {
		q.Limit = 1000
	}
	defaultSort(&q, r.URL.Query())
	var ims []image.Image
	if !zero {
		if ims, err = a.s.List(r.Context(), q); err != nil {
			return nil, err
		}
	}
	vals := r.URL.Query()
	vals.Del("marker")
	if vals.Get("limit") == "" && asked == 0 {
		vals.Del("limit")
	}
	out := struct {
		Images []view `json:"images"`
		First  string `json:"first"`
		Next   string `json:"next,omitempty"`
		Schema string `json:"schema"`
	}{Images: make([]view, len(ims)), First: "/v2/images" + withQuery(vals), Schema: "/v2/schemas/images"}
	for i, im := range ims {
		out.Images[i] = viewOf(im)
	}
	if len(ims) > 0 && len(ims) == q.Limit {
		vals.Set("marker", ims[len(ims)-1].ID)
		out.Next = "/v2/images" + withQuery(vals)
	}
	return out, nil
}

// defaultSort gives keys without a direction glance's own, which is descending,
// and a direction without a key to created_at.
func defaultSort(q *nacre.Query, vals url.Values) {
	if dirs := vals["sort_dir"]; len(dirs) > 0 {
		if len(q.Sort) == 0 {
			q.Sort = []nacre.SortKey{{Field: "created_at", Desc: dirs[0] == "desc"}}
		}
		return
	}
	given := map[string]bool{}
	for _, v := range vals["sort"] {
		for part := range strings.SplitSeq(v, ",") {
			if key, dir, _ := strings.Cut(part, ":"); dir != "" {
				given[key] = true
			}
		}
	}
	for i, k := range q.Sort {
		if !given[k.Field] {
			q.Sort[i].Desc = true
		}
	}
}

func withQuery(v url.Values) string {
	if len(v) == 0 {
		return ""
	}
	return "?" + v.Encode()
}

func (a *api) upload(r *rest.Request) error {
	if ct, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); ct != "application/octet-stream" {
		return nacre.Errorf(nacre.UnsupportedMedia, "", "The Content-Type must be application/octet-stream")
	}
	size := r.ContentLength
	if size == 0 {
		size = -1 // in-process requests do not tell an unknown length from none
	}
	if _, err := a.s.Upload(r.Context(), r.Var("id"), r.Body, size); err != nil {
		var ne *nacre.Error
		if !errors.As(err, &ne) {
			if errors.Is(err, io.ErrUnexpectedEOF) {
				return nacre.Errorf(nacre.Invalid, "", "The upload was cut off.")
			}
			return err
		}
		return err
	}
	r.W.WriteHeader(http.StatusNoContent)
	return nil
}

func (a *api) download(r *rest.Request) error {
	im, body, ok, err := a.s.Open(r.Context(), r.Var("id"))
	if err != nil {
		return err
	}
	if !ok {
		r.W.WriteHeader(http.StatusNoContent)
		return nil
	}
	defer body.Close() //nolint:errcheck // read only
	h := r.W.Header()
	h.Set("Content-Type", "application/octet-stream")
	if im.Checksum != "" {
		h.Set("Content-Md5", im.Checksum)
	}
	if seeker, can := body.(io.ReadSeeker); can {
		http.ServeContent(r.W, r.Request, "", time.Time{}, seeker)
		return nil
	}
	h.Set("Content-Length", strconv.FormatInt(im.Size, 10))
	r.W.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		_, err = io.Copy(r.W, body)
	}
	return err
}

type patchOp struct {
	op    string
	path  []string
	value any
}

// readPatch reads a JSON patch in one of glance's two media types.
func readPatch(r *rest.Request) ([]patchOp, error) {
	ct, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	old := ct == "application/openstack-images-v2.0-json-patch"
	if !old && ct != "application/openstack-images-v2.1-json-patch" {
		return nil, nacre.Errorf(nacre.UnsupportedMedia, "", "Unsupported Content-Type; use application/openstack-images-v2.1-json-patch")
	}
	b, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		return nil, err
	}
	var in []map[string]any
	if json.Unmarshal(b, &in) != nil {
		return nil, nacre.Errorf(nacre.Invalid, "", "Request body must be a JSON array of operation objects.")
	}
	out := make([]patchOp, len(in))
	for i, m := range in {
		op, _ := m["op"].(string)
		path, _ := m["path"].(string)
		if old {
			for _, name := range []string{"add", "remove", "replace"} {
				if p, ok := m[name].(string); ok {
					op, path = name, p
				}
			}
		}
		value, has := m["value"]
		switch {
		case !slices.Contains([]string{"add", "remove", "replace"}, op):
			return nil, nacre.Errorf(nacre.Invalid, "", "Operations must be add, remove or replace.")
		case !strings.HasPrefix(path, "/") || strings.HasSuffix(path, "/") || strings.Contains(path, "//"):
			return nil, nacre.Errorf(nacre.Invalid, "", "Pointer `%s` does not start with \"/\" or is malformed.", path)
		case op != "remove" && !has:
			return nil, nacre.Errorf(nacre.Invalid, "", "Operation \"%s\" requires a member named \"value\".", op)
		}
		for part := range strings.SplitSeq(path[1:], "/") {
			out[i].path = append(out[i].path, strings.NewReplacer("~1", "/", "~0", "~").Replace(part))
		}
		out[i].op, out[i].value = op, value
		if len(out[i].path) > 1 && out[i].path[0] != "locations" && out[i].path[0] != "tags" {
			return nil, nacre.Errorf(nacre.Invalid, "", "Invalid JSON pointer for this resource: '%s'", path)
		}
	}
	return out, nil
}

func (a *api) patch(r *rest.Request) error {
	ops, err := readPatch(r)
	if err != nil {
		return err
	}
	im, err := a.s.Update(r.Context(), r.Var("id"), func(im *image.Image) error {
		for _, op := range ops {
			if err := apply(im, op, r.Caller().HasRole("admin")); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	b, err := rest.JSON(viewOf(im), 0)
	if err != nil {
		return err
	}
	r.Set("Content-Type", "application/json")
	_, err = r.W.Write(b)
	return err
}

func apply(im *image.Image, op patchOp, admin bool) error {
	name := op.path[0]
	switch {
	case slices.Contains(readOnly, name) || name == "id":
		return nacre.Errorf(nacre.Forbidden, "", "Attribute '%s' is read-only.", name)
	case name == "locations":
		return nacre.Errorf(nacre.Forbidden, "", "It's not allowed to %s locations if locations are invisible.", op.op)
	case name == "owner" && !admin:
		return nacre.Errorf(nacre.Forbidden, "", "Owner can't be updated by non admin.")
	case name == "stores" || strings.HasPrefix(name, "os_glance_"):
		return nacre.Errorf(nacre.Forbidden, "", "Attribute '%s' is reserved.", name)
	}
	if slices.Contains(fixed, name) {
		if op.op == "remove" {
			return nacre.Errorf(nacre.Forbidden, "", "Property %s may not be removed.", name)
		}
		return setFixed(im, name, op.value)
	}
	_, exists := im.Properties[name]
	switch {
	case op.op == "remove" && !exists:
		return nacre.Errorf(nacre.Conflict, "", "Property %s does not exist.", name)
	case op.op == "remove":
		delete(im.Properties, name)
		return nil
	case op.op == "replace" && !exists:
		return nacre.Errorf(nacre.Conflict, "", "Property %s does not exist.", name)
	}
	s, err := property(name, op.value)
	if err == nil {
		im.Properties[name] = s
	}
	return err
}

func setFixed(im *image.Image, name string, v any) error {
	wrong := func(want string) error {
		return nacre.Errorf(nacre.Invalid, "", "Provided object does not match schema 'image': %s is not of type '%s' (%s)", rest.PyRepr(v), want, name)
	}
	texts := map[string]*string{"name": &im.Name, "visibility": &im.Visibility, "container_format": &im.ContainerFormat, "disk_format": &im.DiskFormat, "owner": &im.OwnerID}
	if p, ok := texts[name]; ok {
		if strings.HasSuffix(name, "_format") && im.Status != image.Queued {
			return nacre.Errorf(nacre.Forbidden, "", "Attribute %s can be only replaced for a queued image.", name)
		}
		s, isText := v.(string)
		if !isText && (v != nil || name == "visibility") {
			return wrong("string")
		}
		if len(s) > 255 {
			return nacre.Errorf(nacre.Invalid, "", "Provided object does not match schema 'image': '%s' is too long (%s)", s, name)
		}
		*p = s
		return nil
	}
	switch name {
	case "protected", "os_hidden":
		b, ok := v.(bool)
		if !ok {
			return wrong("boolean")
		}
		if name == "protected" {
			im.Protected = b
		} else {
			im.Hidden = b
		}
	case "min_disk", "min_ram":
		f, ok := v.(float64)
		if !ok || f != float64(int64(f)) {
			return wrong("integer")
		}
		if name == "min_disk" {
			im.MinDisk = int(f)
		} else {
			im.MinRAM = int(f)
		}
	case "tags":
		list, ok := v.([]any)
		if !ok {
			return wrong("array")
		}
		im.Tags = nil
		for _, t := range list {
			s, ok := t.(string)
			if !ok {
				return wrong("array")
			}
			im.Tags = append(im.Tags, s)
		}
	default:
		return fmt.Errorf("image: no way to set %s", name)
	}
	return nil
}
