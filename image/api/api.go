// Package api is image's HTTP face: Glance's API v2.
//
//	h := api.New(api.Config{Image: svc, Tokens: identity})
//
// The links in images (self, file, schema, next, first) are paths from /v2/ on,
// without a mount prefix: clients add the endpoint's own, as with glance.
package api

import (
	"log/slog"
	"net/http"
	"slices"
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
	return &rest.Service{Name: "image", StrictSlash: true, Dialect: rest.Glance(), Tokens: c.Tokens, AuthURI: c.AuthURI, Observe: c.Observe, Log: c.Log, Routes: a.routes()}
}

// versions that glance with several stores and a cache announces, newest first.
var versions = []string{"v2.18", "v2.17", "v2.16", "v2.15", "v2.14", "v2.13", "v2.12", "v2.11", "v2.10", "v2.9", "v2.8", "v2.7", "v2.6", "v2.5", "v2.4", "v2.3", "v2.2", "v2.1", "v2.0"}

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
	return slices.Concat([]rest.Route{
		{Method: "GET", Path: "/", Public: true, Op: versions(http.StatusMultipleChoices)},
		{Method: "GET", Path: "/versions", Public: true, Op: versions(http.StatusOK)},
		{Method: "GET", Path: "/v2", Public: true, Op: versions(http.StatusOK)},
		{Method: "POST", Path: "/v2/images", Status: 201, Policy: []string{"add_image"}, View: view{}, Unknown: rest.Keep, Op: rest.In(a.create)},
		{Method: "GET", Path: "/v2/images", Policy: []string{"get_images"}, View: view{}, Op: rest.Do(a.list)},
		{Method: "GET", Path: one, Policy: []string{"get_image"}, View: view{}, Op: rest.Do(func(r *rest.Request) (any, error) {
			im, err := a.s.Get(r.Context(), r.Var("id"))
			if err != nil {
				return nil, err
			}
			return a.view(r, im), nil
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
		{Method: "GET", Path: "/v2/schemas/{name}", Op: rest.Do(a.schema)},
		{Method: "GET", Path: "/v2/schemas/metadefs/{name}", Op: rest.Do(metadefSchema)},
		{Method: "PUT", Path: one + "/tags/{tag}", Status: 204, Policy: []string{"modify_image"}, Op: rest.Do(func(r *rest.Request) (any, error) {
			return nil, a.s.SetTag(r.Context(), r.Var("id"), r.Var("tag"), true)
		})},
		{Method: "DELETE", Path: one + "/tags/{tag}", Status: 204, Policy: []string{"modify_image"}, Op: rest.Do(func(r *rest.Request) (any, error) {
			return nil, a.s.SetTag(r.Context(), r.Var("id"), r.Var("tag"), false)
		})},
	}, a.importRoutes(), a.cacheRoutes(), a.metadefRoutes())
}
