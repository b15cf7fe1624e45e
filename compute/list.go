package compute

import (
	"context"
	"errors"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/internal/policy"
	"github.com/nacre-cloud/nacre/internal/rest"
	"github.com/nacre-cloud/nacre/store"
)

// ServerTag mirrors Server.Tags, for filters.
type ServerTag struct {
	// ID is "<server>/<tag>".
	ID       string `store:"id,pk"`
	ServerID string `store:"server_id,index=server_tag_server"`
	Tag      string `store:"tag,index=server_tag_tag"`
}

// putTags writes a server's tag rows; in the caller's transaction.
func (s *Service) putTags(ctx context.Context, server string, tags []string) error {
	rows := make([]ServerTag, len(tags))
	for i, t := range tags {
		rows[i] = ServerTag{ID: server + "/" + t, ServerID: server, Tag: t}
	}
	return s.serverTags.Insert(ctx, rows...)
}

var serverSortColumns = map[string]string{
	"created_at": "created_at", "updated_at": "updated_at", "display_name": "name", "name": "name", "uuid": "id", "id": "id", "hostname": "hostname", "host": "host",
	"vm_state": "vm_state", "status": "vm_state", "task_state": "task_state", "power_state": "power_state", "instance_type_id": "flavor_id", "flavor": "flavor_id",
	"image_ref": "image_id", "image": "image_id", "key_name": "key_name", "project_id": "project_id", "tenant_id": "project_id", "user_id": "user_id",
	"availability_zone": "availability_zone", "launched_at": "launched_at", "launch_index": "launch_index", "display_description": "description",
	"config_drive": "config_drive", "locked": "locked", "progress": "created_at", "terminated_at": "terminated_at", "root_device_name": "created_at",
	"access_ip_v4": "created_at", "access_ip_v6": "created_at", "auto_disk_config": "disk_config", "node": "host", "locked_by": "locked", "kernel_id": "created_at", "ramdisk_id": "created_at",
}

// Servers lists servers as nova filters, sorts and pages them. The list is at
// most 1,000 long.
func (s *Service) Servers(ctx context.Context, q nacre.Query, rule string) ([]Server, error) {
	c, err := s.caller(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.enforce(ctx, rule, nil); err != nil {
		return nil, err
	}
	admin := s.allowed(ctx, rule+":get_all_tenants", policy.Map{})
	w, visible, keep, err := s.serverFilter(ctx, c, q, admin)
	if err != nil {
		return nil, err
	}
	order, err := sortOrder(q.Sort, serverSortColumns, store.Order{Column: "created_at", Desc: true})
	if err != nil {
		return nil, err
	}
	if len(order) > 0 && !slices.ContainsFunc(order, func(o store.Order) bool { return o.Column == "created_at" }) {
		order = append(order, store.Order{Column: "created_at", Desc: true})
	}
	limit := q.Limit
	if keep != nil {
		limit = 0
	}
	out, err := s.servers.Page(ctx, store.Select{Where: w, Order: order, Limit: limit}, q.Marker, visible)
	if errors.Is(err, store.ErrNoRow) {
		return nil, nacre.Errorf(nacre.Invalid, "MarkerNotFound", "marker [%s] not found", q.Marker)
	}
	if err != nil {
		return nil, err
	}
	if keep != nil {
		out = slices.DeleteFunc(out, func(sv Server) bool { return !keep(&sv) })
		if q.Limit > 0 && len(out) > q.Limit {
			out = out[:q.Limit]
		}
	}
	return out, nil
}

// serverFilter turns the user's filters into a condition, and a function for
// what the store can't see. visible is the part of the condition that a marker must
// match.
func (s *Service) serverFilter(ctx context.Context, c *nacre.Caller, q nacre.Query, admin bool) (w, visible store.Where, keep func(*Server) bool, err error) {
	var ws []store.Where
	var keeps []func(*Server) bool
	all, deleted, since, chosen := false, false, false, false
	var from, until time.Time
	project := ""
	for _, f := range q.Filters {
		v := f.Value
		switch f.Name {
		case "all_tenants", "all_projects":
			on, err := boolean(v)
			if err != nil && v != "" {
				return w, visible, nil, nacre.Errorf(nacre.Invalid, "", "Invalid value '%s' for all_tenants", v)
			}
			all = on || v == ""
		case "name", "display_name":
			if _, err := regexp.Compile(v); err != nil {
				return w, visible, nil, nacre.Errorf(nacre.Invalid, "", "Invalid filter field: name.")
			}
			ws = append(ws, store.Match("name", v))
		case "status":
			// Several statuses are or'ed; they are gathered once.
			if w := statusWhere(q.All("status")); !slices.ContainsFunc(ws, func(x store.Where) bool { return x.Op == w.Op && x.Column == "vm_state" }) {
				ws = append(ws, w)
			}
			if slices.ContainsFunc(q.All("status"), func(v string) bool { return strings.EqualFold(v, "DELETED") }) {
				if !admin {
					return w, visible, nil, nacre.Errorf(nacre.Forbidden, "", "Only administrators may list deleted instances")
				}
				deleted = true
			}
		case "flavor":
			ws = append(ws, store.Eq("flavor_id", v))
		case "image", "image_ref":
			ws = append(ws, store.Eq("image_id", v[strings.LastIndex(v, "/")+1:]))
		case "ip", "ip6":
			re, err := regexp.Compile(v)
			if err != nil {
				return w, visible, nil, nacre.Errorf(nacre.Invalid, "", "Invalid filter field: %s.", f.Name)
			}
			six := f.Name == "ip6"
			keeps = append(keeps, func(sv *Server) bool { return hasAddress(sv, re, six) })
		case "reservation_id":
			keeps = append(keeps, func(sv *Server) bool { return sv.ReservationID == v })
		case "key_name", "user_id", "power_state", "vm_state", "task_state", "description", "hostname", "availability_zone", "uuid", "launch_index", "locked", "config_drive":
			w, use, err := columnFilter(f.Name, v, admin)
			if err != nil {
				return w, visible, nil, err
			}
			if use {
				ws = append(ws, w)
			}
		case "host", "node":
			if admin {
				ws = append(ws, store.Eq("host", v))
			}
		case "project_id", "tenant_id":
			if admin {
				project = v
			}
		case "tags", "not-tags", "tags-any", "not-tags-any":
			ws = append(ws, s.tagFilter(f.Name, strings.Split(v, ",")))
		case "changes-since", "changes-before":
			t, err := rest.ParseTime(v)
			if err != nil {
				return w, visible, nil, nacre.Errorf(nacre.Invalid, "", "Invalid filter field: %s.", f.Name)
			}
			since = true // what was deleted meanwhile changed too
			if f.Name == "changes-since" {
				from = t
				ws = append(ws, store.GreaterEq("updated_at", t))
			} else {
				until = t
				ws = append(ws, store.LessEq("updated_at", t))
			}
		case "deleted":
			// What is no boolean counts as false.
			on, _ := boolean(v)
			deleted, chosen = on && admin, true
		}
	}
	if !until.IsZero() && until.Before(from) {
		return w, visible, nil, nacre.Errorf(nacre.Invalid, "", "The value of changes-since must be less than or equal to changes-before.")
	}
	if all && !admin {
		return w, visible, nil, nacre.Errorf(nacre.Forbidden, "", "Policy doesn't allow os_compute_api:servers:index:get_all_tenants to be performed.")
	}
	if !all {
		project = c.ProjectID // a project that was asked for counts with all_tenants only
	}
	visible = store.All()
	if project != "" {
		visible = store.Eq("project_id", project)
	}
	ws = append(ws, visible)
	if !since || deleted || chosen {
		ws = append(ws, store.Eq("deleted", deleted))
	}
	if len(keeps) == 0 {
		return store.And(ws...), visible, nil, nil
	}
	return store.And(ws...), visible, func(sv *Server) bool {
		return !slices.ContainsFunc(keeps, func(k func(*Server) bool) bool { return !k(sv) })
	}, nil
}

func statusWhere(statuses []string) store.Where {
	var ors []store.Where
	for _, st := range statuses {
		vm, task := statusStates(strings.ToUpper(st))
		w := store.In("vm_state", vm)
		if len(task) > 0 {
			w = store.And(w, store.In("task_state", task))
		}
		ors = append(ors, w)
	}
	return store.Or(ors...)
}

// columnFilter is a filter on a plain column; what only administrators may use
// has no effect for others (nova's list of 2.90).
func columnFilter(name, v string, admin bool) (store.Where, bool, error) {
	switch name {
	case "key_name", "description", "hostname", "availability_zone", "user_id", "vm_state", "task_state":
		if name == "task_state" && v == "None" {
			v = ""
		}
		return store.Eq(name, v), admin || name != "description", nil
	case "uuid":
		return store.Eq("id", v), true, nil
	case "locked", "config_drive":
		on, err := boolean(v)
		if err != nil {
			return store.Where{}, false, nacre.Errorf(nacre.Invalid, "", "Invalid filter field: %s.", name)
		}
		return store.Eq(name, on), true, nil
	}
	n, err := atoi(v)
	if err != nil {
		names := map[string]int{"NOSTATE": 0, "RUNNING": 1, "PAUSED": 3, "SHUTDOWN": 4, "CRASHED": 6, "SUSPENDED": 7}
		p, ok := names[strings.ToUpper(v)]
		if !ok {
			return store.Where{}, false, nacre.Errorf(nacre.Invalid, "", "Invalid filter field: %s.", name)
		}
		n = p
	}
	return store.Eq(name, n), true, nil
}

func (s *Service) tagFilter(kind string, tags []string) store.Where {
	has := func(t string) store.Where { return store.InSelect("id", s.serverTags, "server_id", store.Eq("tag", t)) }
	var ws []store.Where
	for _, t := range tags {
		ws = append(ws, has(t))
	}
	switch kind {
	case "tags":
		return store.And(ws...)
	case "tags-any":
		return store.Or(ws...)
	case "not-tags":
		return store.Not(store.And(ws...))
	}
	return store.Not(store.Or(ws...))
}

func hasAddress(sv *Server, re *regexp.Regexp, six bool) bool {
	for _, p := range sv.Ports {
		for _, a := range p.Addresses {
			for _, ip := range append([]netip.Addr{a.Address}, a.Floating...) {
				if ip.Is6() == six && re.MatchString(ip.String()) {
					return true
				}
			}
		}
	}
	return false
}

func boolean(v string) (bool, error) {
	switch strings.ToLower(v) {
	case "1", "t", "true", "on", "y", "yes":
		return true, nil
	case "0", "f", "false", "off", "n", "no":
		return false, nil
	}
	return false, nacre.Errorf(nacre.Invalid, "", "Unrecognized value '%s'", v)
}

// SetMetadata replaces a server's metadata, or adds to it.
func (s *Service) SetMetadata(ctx context.Context, id string, m map[string]string, replace bool, rule string) (map[string]string, error) {
	c, err := s.caller(ctx)
	if err != nil {
		return nil, err
	}
	sv, err := s.serverFor(ctx, id, rule)
	if err != nil {
		return nil, err
	}
	if err := s.unlocked(ctx, &sv); err != nil {
		return nil, err
	}
	limits, err := s.quota.Limits(ctx, c.ProjectID)
	if err != nil {
		return nil, err
	}
	sv, err = s.servers.Update(ctx, id, func(sv *Server) error {
		if sv.Deleted {
			return serverNotFound(id)
		}
		next := map[string]string{}
		if !replace {
			for k, v := range sv.Metadata {
				next[k] = v
			}
		}
		for k, v := range m {
			next[k] = v
		}
		if l := limits["metadata_items"]; l >= 0 && int64(len(next)) > l {
			return nacre.Errorf(nacre.QuotaExceeded, "MetadataLimitExceeded", "Maximum number of metadata items exceeds %d", l)
		}
		sv.Metadata, sv.Updated = next, time.Now().UTC()
		return nil
	})
	return sv.Metadata, err
}

// DeleteMetadata removes one item.
func (s *Service) DeleteMetadata(ctx context.Context, id, key string) error {
	sv, err := s.serverFor(ctx, id, "os_compute_api:server-metadata:delete")
	if err != nil {
		return err
	}
	if err := s.unlocked(ctx, &sv); err != nil {
		return err
	}
	_, err = s.servers.Update(ctx, id, func(sv *Server) error {
		if _, ok := sv.Metadata[key]; !ok || sv.Deleted {
			return nacre.Errorf(nacre.NotFound, "", "Metadata item was not found")
		}
		delete(sv.Metadata, key)
		sv.Updated = time.Now().UTC()
		return nil
	})
	return err
}

// MaxTags is how many tags a server may have (nova's MAX_TAG_COUNT).
const MaxTags = 50

// SetTags replaces a server's tags.
func (s *Service) SetTags(ctx context.Context, id, rule string, change func(tags []string) ([]string, error)) ([]string, error) {
	sv, err := s.serverFor(ctx, id, rule)
	if err != nil {
		return nil, err
	}
	var out []string
	err = store.InTx(ctx, s.c.Engine, func(ctx context.Context) error {
		got, err := s.servers.Update(ctx, sv.ID, func(sv *Server) error {
			if sv.Deleted {
				return serverNotFound(id)
			}
			tags, err := change(slices.Clone(sv.Tags))
			if err != nil {
				return err
			}
			slices.Sort(tags)
			tags = slices.Compact(tags)
			if len(tags) > MaxTags {
				return nacre.Errorf(nacre.Invalid, "", "The number of tags exceeded the per-server limit %d", MaxTags)
			}
			sv.Tags, sv.Updated = tags, time.Now().UTC()
			return nil
		})
		if err != nil {
			return err
		}
		if _, err := s.serverTags.DeleteWhere(ctx, store.Eq("server_id", sv.ID)); err != nil {
			return err
		}
		out = got.Tags
		return s.putTags(ctx, sv.ID, out)
	})
	return out, err
}
