package api

import (
	"net/http"

	"github.com/nacre-cloud/nacre/internal/rest"
)

func (h *handlers) versionRoutes() []rest.Route {
	return []rest.Route{
		{Method: "GET", Path: "/", Status: http.StatusMultipleChoices, Public: true, Op: rest.Do(func(r *rest.Request) (any, error) {
			r.Set("Vary", "Accept")
			if wantsHome(r) {
				return home(r, "/v3"), nil
			}
			r.Set("Location", r.Base()+"/v3/")
			return object{"versions": object{"values": []any{version(r)}}}, nil
		})},
		{Method: "GET", Path: "/v3", Public: true, Op: rest.Do(func(r *rest.Request) (any, error) {
			r.Set("Vary", "Accept")
			if wantsHome(r) {
				return home(r, ""), nil
			}
			return object{"version": version(r)}, nil
		})},
	}
}

func version(r *rest.Request) object {
	return object{
		"id": "v3.14", "status": "stable", "updated": "2020-04-07T00:00:00Z",
		"links":       []any{object{"rel": "self", "href": r.Base() + "/v3/"}},
		"media-types": []any{object{"base": "application/json", "type": "application/vnd.openstack.identity-v3+json"}},
	}
}
