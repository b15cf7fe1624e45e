package api

import (
	"maps"
	"slices"
	"strconv"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/internal/rest"
)

func (a *api) quotaRoutes() []rest.Route {
	const base = "/v2.0/quotas"
	return []rest.Route{
		{Method: "GET", Path: base, Policy: []string{"get_quota"}, Op: rest.Do(func(r *rest.Request) (any, error) {
			all, err := a.s.Quotas(r.Context())
			if err != nil {
				return nil, err
			}
			out := []map[string]any{}
			for _, p := range slices.Sorted(maps.Keys(all)) {
				m := map[string]any{"project_id": p, "tenant_id": p}
				for k, v := range all[p] {
					m[k] = v
				}
				out = append(out, m)
			}
			return map[string]any{"quotas": out}, nil
		})},
		{Method: "GET", Path: base + "/{project}", Policy: []string{"get_quota"}, Op: rest.Do(func(r *rest.Request) (any, error) {
			q, err := a.s.Quota(r.Context(), r.Var("project"))
			return map[string]any{"quota": q}, err
		})},
		{Method: "GET", Path: base + "/{project}/default", Policy: []string{"get_quota"}, Op: rest.Do(func(r *rest.Request) (any, error) {
			q, err := a.s.DefaultQuota(r.Context())
			return map[string]any{"quota": q}, err
		})},
		{Method: "GET", Path: base + "/{project}/details", Policy: []string{"get_quota"}, Statements: 9, Op: rest.Do(func(r *rest.Request) (any, error) {
			q, err := a.s.Quota(r.Context(), r.Var("project"))
			if err != nil {
				return nil, err
			}
			used, err := a.s.QuotaUse(r.Context(), r.Var("project"))
			out := map[string]any{}
			for k, v := range q {
				out[k] = map[string]int64{"limit": v, "used": used[k], "reserved": 0}
			}
			return map[string]any{"quota": out}, err
		})},
		{Method: "PUT", Path: base + "/{project}", Policy: []string{"update_quota"}, Op: change("quota", func(r *rest.Request, b *map[string]any) (any, error) {
			limits := map[string]int64{}
			for k, v := range *b {
				switch x := v.(type) {
				case int64:
					limits[k] = x
				case string:
					n, err := strconv.ParseInt(x, 10, 64)
					if err != nil {
						return nil, nacre.Errorf(nacre.Invalid, "HTTPBadRequest", "Invalid input for %s. Reason: '%s' is not an integer.", k, x)
					}
					limits[k] = n
				case bool:
					if k != "force" && k != "check_limit" {
						return nil, nacre.Errorf(nacre.Invalid, "HTTPBadRequest", "Invalid input for %s. Reason: it is not an integer.", k)
					}
				default:
					if k == "project_id" || k == "tenant_id" {
						continue
					}
					return nil, nacre.Errorf(nacre.Invalid, "HTTPBadRequest", "Invalid input for %s. Reason: %s is not an integer.", k, rest.PyRepr(v))
				}
				if n, ok := limits[k]; ok && (n < -1 || n > 0x7fffffff) {
					return nil, nacre.Errorf(nacre.Invalid, "HTTPBadRequest", "Invalid input for %s. Reason: Quota limit exceeds integer range.", k)
				}
			}
			return a.s.SetQuota(r.Context(), r.Var("project"), limits)
		})},
		{Method: "DELETE", Path: base + "/{project}", Policy: []string{"delete_quota"}, Op: rest.Do(func(r *rest.Request) (any, error) {
			return nil, a.s.ClearQuota(r.Context(), r.Var("project"))
		})},
	}
}
