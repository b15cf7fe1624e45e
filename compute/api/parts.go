package api

import (
	"net/http"
	"slices"
	"strings"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/compute"
	"github.com/nacre-cloud/nacre/internal/rest"
	"github.com/nacre-cloud/nacre/store"
)

type metadataBody struct {
	Metadata map[string]string `json:"metadata" valid:"required"`
}

type metaBody struct {
	Meta map[string]string `json:"meta" valid:"required,min=1,max=1"`
}

func (a *api) metadata(rule string, f func(r *rest.Request, s compute.Server) (any, error)) rest.Op {
	return rest.Do(func(r *rest.Request) (any, error) {
		s, err := a.s.ServerFor(r.Context(), r.Var("id"), rule)
		if err != nil {
			return nil, err
		}
		return f(r, s)
	})
}

func checkMeta(m map[string]string) error {
	for k, v := range m {
		switch {
		case k == "":
			return bad("Invalid input for field/attribute metadata. Value: %v. '' does not match any of the regexes", m)
		case len(k) > 255:
			return nacre.Errorf(nacre.Invalid, "", "Metadata property key greater than 255 characters")
		case len(v) > 255:
			return nacre.Errorf(nacre.Invalid, "", "Metadata property value greater than 255 characters")
		}
	}
	return nil
}

func (a *api) setMeta(r *rest.Request, m map[string]string, replace bool, rule string) (any, error) {
	if err := checkMeta(m); err != nil {
		return nil, err
	}
	out, err := a.s.SetMetadata(r.Context(), r.Var("id"), m, replace, rule)
	return metadataBody{out}, err
}

func (a *api) serverPartRoutes() []rest.Route {
	const base = "/v2.1/servers/{id}"
	routes := []rest.Route{
		{Method: "GET", Path: base + "/metadata", Policy: []string{"os_compute_api:server-metadata:index"}, Op: a.metadata("os_compute_api:server-metadata:index", func(_ *rest.Request, s compute.Server) (any, error) {
			return metadataBody{s.Metadata}, nil
		})},
		{Method: "POST", Path: base + "/metadata", Policy: []string{"os_compute_api:server-metadata:create"}, Op: rest.In(func(r *rest.Request, b *metadataBody) (any, error) {
			return a.setMeta(r, b.Metadata, false, "os_compute_api:server-metadata:create")
		})},
		{Method: "PUT", Path: base + "/metadata", Policy: []string{"os_compute_api:server-metadata:update_all"}, Op: rest.In(func(r *rest.Request, b *metadataBody) (any, error) {
			return a.setMeta(r, b.Metadata, true, "os_compute_api:server-metadata:update_all")
		})},
		{Method: "GET", Path: base + "/metadata/{key}", Policy: []string{"os_compute_api:server-metadata:show"}, Op: a.metadata("os_compute_api:server-metadata:show", func(r *rest.Request, s compute.Server) (any, error) {
			v, ok := s.Metadata[r.Var("key")]
			if !ok {
				return nil, nacre.Errorf(nacre.NotFound, "", "Metadata item was not found")
			}
			return metaBody{map[string]string{r.Var("key"): v}}, nil
		})},
		{Method: "PUT", Path: base + "/metadata/{key}", Policy: []string{"os_compute_api:server-metadata:update"}, Op: rest.In(func(r *rest.Request, b *metaBody) (any, error) {
			if _, ok := b.Meta[r.Var("key")]; !ok {
				return nil, bad("Request body and URI mismatch")
			}
			if _, err := a.setMeta(r, b.Meta, false, "os_compute_api:server-metadata:update"); err != nil {
				return nil, err
			}
			return b, nil
		})},
		{Method: "DELETE", Path: base + "/metadata/{key}", Policy: []string{"os_compute_api:server-metadata:delete"}, Op: rest.Do(func(r *rest.Request) (any, error) {
			return nil, a.s.DeleteMetadata(r.Context(), r.Var("id"), r.Var("key"))
		})},
		{Method: "GET", Path: base + "/ips", Policy: []string{"os_compute_api:ips:index"}, Op: a.metadata("os_compute_api:ips:index", func(_ *rest.Request, s compute.Server) (any, error) {
			return map[string]any{"addresses": addresses(&s, false)}, nil
		})},
		{Method: "GET", Path: base + "/ips/{label}", Policy: []string{"os_compute_api:ips:show"}, Op: a.metadata("os_compute_api:ips:show", func(r *rest.Request, s compute.Server) (any, error) {
			list, ok := addresses(&s, false)[r.Var("label")]
			if !ok {
				return nil, nacre.Errorf(nacre.NotFound, "", "Instance is not a member of specified network")
			}
			return map[string]any{r.Var("label"): list}, nil
		})},
	}
	return slices.Concat(routes, a.interfaceRoutes(base), a.tagRoutes(base), a.instanceActionRoutes(base))
}

type interfaceView struct {
	NetID string           `json:"net_id"`
	Port  string           `json:"port_id"`
	MAC   string           `json:"mac_addr"`
	State string           `json:"port_state"`
	IPs   []map[string]any `json:"fixed_ips"`
	Tag   *string          `json:"tag" since:"2.70"`
}

func interfaceOf(p compute.Port) interfaceView {
	v := interfaceView{NetID: p.NetworkID, Port: p.ID, MAC: p.MAC, State: "DOWN", IPs: []map[string]any{}, Tag: null(p.Tag)}
	if p.Active {
		v.State = "ACTIVE"
	}
	for _, a := range p.Addresses {
		v.IPs = append(v.IPs, map[string]any{"ip_address": a.Address.String(), "subnet_id": a.SubnetID})
	}
	return v
}

func (a *api) interfaceRoutes(base string) []rest.Route {
	// Guests have the cards they were built with: the hypervisor contract can't
	// plug one into a guest, nor out of it. Nova says so of drivers that can't.
	const refused = "Attaching interfaces is not supported for instance %s."
	refuse := func(op string) rest.Op {
		return a.metadata("os_compute_api:os-attach-interfaces:"+op, func(r *rest.Request, s compute.Server) (any, error) {
			if port := r.Var("port"); port != "" && !slices.ContainsFunc(s.Ports, func(p compute.Port) bool { return p.ID == port }) {
				return nil, nacre.Errorf(nacre.NotFound, "PortNotFound", "Port id %s could not be found.", port)
			}
			return nil, nacre.Errorf(nacre.Invalid, "AttachInterfaceNotSupported", refused, s.ID)
		})
	}
	return []rest.Route{
		{Method: "POST", Path: base + "/os-interface", Policy: []string{"os_compute_api:os-attach-interfaces:create"}, Op: refuse("create")},
		{Method: "DELETE", Path: base + "/os-interface/{port}", Status: 202, Policy: []string{"os_compute_api:os-attach-interfaces:delete"}, Op: refuse("delete")},
		{Method: "GET", Path: base + "/os-interface", Policy: []string{"os_compute_api:os-attach-interfaces:list"}, View: interfaceView{}, Op: a.metadata("os_compute_api:os-attach-interfaces:list", func(r *rest.Request, s compute.Server) (any, error) {
			ports, err := a.s.ServerPorts(r.Context(), &s)
			if err != nil {
				return nil, err
			}
			out := make([]interfaceView, len(ports))
			for i, p := range ports {
				out[i] = interfaceOf(p)
			}
			return map[string]any{"interfaceAttachments": out}, nil
		})},
		{Method: "GET", Path: base + "/os-interface/{port}", Policy: []string{"os_compute_api:os-attach-interfaces:show"}, View: interfaceView{}, Op: a.metadata("os_compute_api:os-attach-interfaces:show", func(r *rest.Request, s compute.Server) (any, error) {
			ports, err := a.s.ServerPorts(r.Context(), &s)
			if err != nil {
				return nil, err
			}
			i := slices.IndexFunc(ports, func(p compute.Port) bool { return p.ID == r.Var("port") })
			if i < 0 {
				return nil, nacre.Errorf(nacre.NotFound, "", "Instance %s does not have a port with id %s", s.ID, r.Var("port"))
			}
			return map[string]any{"interfaceAttachment": interfaceOf(ports[i])}, nil
		})},
	}
}

func badTag(t string) error {
	if t == "" || len(t) > 60 || strings.ContainsAny(t, "/,") {
		return bad("Invalid input for field/attribute tag. Value: %s. '%s' is not a valid tag: 1 to 60 characters, without '/' and ','", t, t)
	}
	return nil
}

func (a *api) tagRoutes(base string) []rest.Route {
	type body struct {
		Tags []string `json:"tags" valid:"required,max=50"`
	}
	rt := func(method, path, rule string, status int, op rest.Op) rest.Route {
		return rest.Route{Method: method, Path: base + path, Min: "2.26", Status: status, Policy: []string{"os_compute_api:os-server-tags:" + rule}, Op: op}
	}
	const rule = "os_compute_api:os-server-tags:"
	return []rest.Route{
		rt("GET", "/tags", "index", 0, a.metadata(rule+"index", func(_ *rest.Request, s compute.Server) (any, error) { return body{s.Tags}, nil })),
		rt("GET", "/tags/{tag}", "show", 204, a.metadata(rule+"show", func(r *rest.Request, s compute.Server) (any, error) {
			if !slices.Contains(s.Tags, r.Var("tag")) {
				return nil, nacre.Errorf(nacre.NotFound, "", "Server %s has no tag '%s'", s.ID, r.Var("tag"))
			}
			return nil, nil
		})),
		rt("PUT", "/tags", "update_all", 0, rest.In(func(r *rest.Request, b *body) (any, error) {
			for _, t := range b.Tags {
				if err := badTag(t); err != nil {
					return nil, err
				}
			}
			tags, err := a.s.SetTags(r.Context(), r.Var("id"), rule+"update_all", func([]string) ([]string, error) { return b.Tags, nil })
			return body{tags}, err
		})),
		rt("PUT", "/tags/{tag}", "update", 201, rest.Do(func(r *rest.Request) (any, error) {
			tag, had := r.Var("tag"), false
			if err := badTag(tag); err != nil {
				return nil, err
			}
			if _, err := a.s.SetTags(r.Context(), r.Var("id"), rule+"update", func(tags []string) ([]string, error) {
				had = slices.Contains(tags, tag)
				return append(tags, tag), nil
			}); err != nil {
				return nil, err
			}
			if had {
				r.SetStatus(http.StatusNoContent)
			}
			r.Set("Location", r.Base()+r.URL.Path)
			return nil, nil
		})),
		rt("DELETE", "/tags/{tag}", "delete", 204, rest.Do(func(r *rest.Request) (any, error) {
			_, err := a.s.SetTags(r.Context(), r.Var("id"), rule+"delete", func(tags []string) ([]string, error) {
				i := slices.Index(tags, r.Var("tag"))
				if i < 0 {
					return nil, nacre.Errorf(nacre.NotFound, "", "Server %s has no tag '%s'", r.Var("id"), r.Var("tag"))
				}
				return slices.Delete(tags, i, i+1), nil
			})
			return nil, err
		})),
		rt("DELETE", "/tags", "delete_all", 204, rest.Do(func(r *rest.Request) (any, error) {
			_, err := a.s.SetTags(r.Context(), r.Var("id"), rule+"delete_all", func([]string) ([]string, error) { return []string{}, nil })
			return nil, err
		})),
	}
}

type actionView struct {
	Action       string      `json:"action"`
	InstanceUUID string      `json:"instance_uuid"`
	Message      *string     `json:"message"`
	ProjectID    string      `json:"project_id"`
	RequestID    string      `json:"request_id"`
	StartTime    rest.Naive  `json:"start_time"`
	UserID       string      `json:"user_id"`
	UpdatedAt    rest.Naive  `json:"updated_at" since:"2.58"`
	Events       []eventView `json:"events,omitempty"`
}

type eventView struct {
	Event      string     `json:"event"`
	StartTime  rest.Naive `json:"start_time"`
	FinishTime rest.Naive `json:"finish_time"`
	Result     *string    `json:"result"`
	HostID     string     `json:"hostId" since:"2.62"`
	*eventInside
}

// eventInside is what only administrators see of an event.
type eventInside struct {
	Traceback *string `json:"traceback"`
	Host      *string `json:"host" since:"2.62"`
	Details   *string `json:"details" since:"2.84"`
}

func actionOf(x compute.Action) actionView {
	v := actionView{Action: x.Name, InstanceUUID: x.ServerID, ProjectID: x.ProjectID, RequestID: x.RequestID, StartTime: rest.Naive(x.Start), UserID: x.UserID, UpdatedAt: rest.Naive(x.Updated)}
	if x.Result == "Error" {
		msg := "Error"
		v.Message = &msg
	}
	return v
}

func (a *api) instanceActionRoutes(base string) []rest.Route {
	list := func(r *rest.Request) (any, error) {
		q, err := r.Query(rest.QueryRules{})
		if err != nil {
			return nil, err
		}
		var ws []store.Where
		for _, f := range q.Filters {
			if f.Name != "changes-since" && f.Name != "changes-before" || r.Version < rest.V("2.58") {
				continue
			}
			t, err := rest.ParseTime(f.Value)
			if err != nil {
				return nil, bad("Invalid input for query parameters %s. Value: %s. '%s' is not a 'date-time'", f.Name, f.Value, f.Value)
			}
			if f.Name == "changes-since" {
				ws = append(ws, store.GreaterEq("updated_at", t))
			} else {
				ws = append(ws, store.LessEq("updated_at", t))
			}
		}
		if r.Version < rest.V("2.58") {
			q.Limit, q.Marker = 0, ""
		} else if q.Limit == 0 {
			q.Limit = 1000
		}
		as, err := a.s.Actions(r.Context(), r.Var("id"), q, ws...)
		if err != nil {
			return nil, err
		}
		out := make([]actionView, len(as))
		for i, x := range as {
			out[i] = actionOf(x)
		}
		return struct {
			Actions []actionView `json:"instanceActions"`
			Links   []link       `json:"links,omitempty"`
		}{out, next(r, len(as), q.Limit, func() string { return as[len(as)-1].RequestID })}, nil
	}
	show := func(r *rest.Request) (any, error) {
		x, err := a.s.ActionByRequest(r.Context(), r.Var("id"), r.Var("request"))
		if err != nil {
			return nil, err
		}
		v := actionOf(x)
		if r.Version >= rest.V("2.51") || a.s.SeesHosts(r.Context()) {
			e := eventView{Event: "compute__do_" + x.Name, StartTime: rest.Naive(x.Start), FinishTime: rest.Naive(x.Finish), Result: null(x.Result)}
			if x.Host != "" {
				e.HostID = x.HostID()
			}
			if a.s.SeesHosts(r.Context()) {
				e.eventInside = &eventInside{Host: null(x.Host), Details: null(x.Message)}
			}
			v.Events = []eventView{e}
		}
		return map[string]actionView{"instanceAction": v}, nil
	}
	return []rest.Route{
		{Method: "GET", Path: base + "/os-instance-actions", Policy: []string{"os_compute_api:os-instance-actions:list"}, View: actionView{}, Op: rest.Do(list)},
		{Method: "GET", Path: base + "/os-instance-actions/{request}", Policy: []string{"os_compute_api:os-instance-actions:show"}, View: actionView{}, Op: rest.Do(show)},
	}
}
