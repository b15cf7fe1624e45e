package network

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/store"
)

// TagRow mirrors an object's tags, for filters.
type TagRow struct {
	// ID is "<object>/<tag>".
	ID       string `store:"id,pk"`
	ObjectID string `store:"object_id,index=tag_object"`
	Tag      string `store:"tag,index=tag_tag"`
}

// std is what all lists filter and sort by.
var stdColumns = map[string]string{"id": "id", "name": "name", "project_id": "project_id", "tenant_id": "project_id", "description": "description",
	"revision_number": "revision_number", "created_at": "created_at", "updated_at": "updated_at"}

func columns(more map[string]string) map[string]string {
	out := map[string]string{}
	for k, v := range stdColumns {
		out[k] = v
	}
	for k, v := range more {
		out[k] = v
	}
	return out
}

// special turns the values of one filter into a condition.
type special map[string]func(values []string) (store.Where, error)

// list runs a list query: filters and sort keys through the allow-list cols,
// tags and specials, paging in both directions.
func list[T any](ctx context.Context, s *Service, t *store.Table[T], q nacre.Query, visible store.Where, cols map[string]string, sp special) ([]T, error) {
	ws := []store.Where{visible}
	seen := map[string]bool{}
	for _, f := range q.Filters {
		if seen[f.Name] {
			continue
		}
		seen[f.Name] = true
		vals := q.All(f.Name)
		var w store.Where
		var err error
		switch {
		case sp[f.Name] != nil:
			w, err = sp[f.Name](vals)
		case cols[f.Name] != "":
			w, err = columnIn(t.Def(), f.Name, cols[f.Name], vals)
		case strings.HasSuffix(f.Name, "tags") || strings.HasSuffix(f.Name, "tags-any"):
			w = s.tagFilter(f.Name, vals)
		default:
			continue
		}
		if err != nil {
			return nil, err
		}
		ws = append(ws, w)
	}
	var order []store.Order
	for _, k := range q.Sort {
		col, ok := cols[k.Field]
		if !ok {
			return nil, nacre.Errorf(nacre.Invalid, "HTTPBadRequest", "'%s' is an invalid attribute for sort key", k.Field)
		}
		order = append(order, store.Order{Column: col, Desc: k.Desc != q.Reverse})
	}
	if q.Reverse && len(order) == 0 {
		order = []store.Order{{Column: "id", Desc: true}}
	}
	out, err := t.Page(ctx, store.Select{Where: store.And(ws...), Order: order, Limit: q.Limit}, q.Marker, visible)
	if errors.Is(err, store.ErrNoRow) {
		return nil, nacre.Errorf(nacre.Invalid, "HTTPBadRequest", "The resource could not be found: marker %s", q.Marker)
	}
	if q.Reverse {
		slices.Reverse(out)
	}
	return out, err
}

func columnIn(def *store.TableDef, name, col string, vals []string) (store.Where, error) {
	typ := def.Columns[def.Pos(col)].Type
	var ors []store.Where
	for _, v := range vals {
		switch typ {
		case store.Bool:
			b, err := strconv.ParseBool(strings.ToLower(v))
			if err != nil {
				return store.Where{}, nacre.Errorf(nacre.Invalid, "HTTPBadRequest", "Invalid input for %s. Reason: '%s' cannot be converted to boolean.", name, v)
			}
			ors = append(ors, store.Eq(col, b))
		case store.Int:
			n, err := strconv.ParseInt(v, 10, 64)
			if err != nil {
				return store.Where{}, nacre.Errorf(nacre.Invalid, "HTTPBadRequest", "Invalid input for %s. Reason: '%s' is not an integer.", name, v)
			}
			ors = append(ors, store.Eq(col, n))
		default:
			w := store.Eq(col, v)
			if v == "" && def.Columns[def.Pos(col)].Null {
				w = store.Or(store.IsNull(col), w)
			}
			ors = append(ors, w)
		}
	}
	return store.Or(ors...), nil
}

func (s *Service) tagFilter(kind string, vals []string) store.Where {
	var ws []store.Where
	for _, v := range vals {
		for t := range strings.SplitSeq(v, ",") {
			ws = append(ws, store.InSelect("id", s.tags, "object_id", store.Eq("tag", t)))
		}
	}
	switch kind {
	case "tags":
		return store.And(ws...)
	case "tags-any":
		return store.Or(ws...)
	case "not-tags":
		return store.Not(store.And(ws...))
	case "not-tags-any":
		return store.Not(store.Or(ws...))
	}
	return store.All()
}

// setTags writes an object's tag rows; in the caller's transaction.
func (s *Service) setTags(ctx context.Context, id string, tags []string) error {
	if _, err := s.tags.DeleteWhere(ctx, store.Eq("object_id", id)); err != nil {
		return err
	}
	rows := make([]TagRow, len(tags))
	for i, t := range tags {
		rows[i] = TagRow{ID: id + "/" + t, ObjectID: id, Tag: t}
	}
	return s.tags.Insert(ctx, rows...)
}

// UpdateTags changes the tags of any resource: collection is the API's name of
// its kind ("networks").
func (s *Service) UpdateTags(ctx context.Context, collection, id string, change func(tags []string) ([]string, error)) ([]string, error) {
	var out []string
	apply := func(o *Std) error {
		tags, err := change(slices.Clone(o.Tags))
		if err != nil {
			return err
		}
		slices.Sort(tags)
		o.Tags = slices.Compact(tags)
		if o.Tags == nil {
			o.Tags = []string{}
		}
		for _, t := range o.Tags {
			if t == "" || len(t) > 255 {
				return nacre.Errorf(nacre.Invalid, "HTTPBadRequest", "Invalid input for tags. Reason: '%s' is empty or longer than 255 characters.", t)
			}
		}
		touched(o)
		out = o.Tags
		return nil
	}
	err := s.tx(ctx, func(ctx context.Context) error {
		var err error
		switch collection {
		case "networks":
			_, err = s.UpdateNetwork(ctx, id, func(n *Network) error { return apply(&n.Std) })
		case "subnets":
			_, err = s.UpdateSubnet(ctx, id, func(n *Subnet) error { return apply(&n.Std) })
		case "subnetpools":
			_, err = s.UpdateSubnetPool(ctx, id, func(p *SubnetPool) error { return apply(&p.Std) })
		case "ports":
			_, err = s.UpdatePort(ctx, id, PortChange{Tags: apply})
		case "routers":
			_, err = s.UpdateRouter(ctx, id, RouterChange{Tags: apply})
		case "floatingips":
			_, err = s.UpdateFloatingIP(ctx, id, FloatingIPChange{Tags: apply})
		case "security-groups", "security_groups":
			_, err = s.UpdateSecurityGroup(ctx, id, func(g *SecurityGroup) error { return apply(&g.Std) })
		default:
			return nacre.Errorf(nacre.NotFound, "HTTPNotFound", "The resource could not be found.")
		}
		if err != nil {
			return err
		}
		return s.setTags(ctx, id, out)
	})
	return out, err
}

// Tags are the tags of any resource.
func (s *Service) Tags(ctx context.Context, collection, id string) ([]string, error) {
	var o Std
	var err error
	switch collection {
	case "networks":
		var x Network
		x, err = s.Network(ctx, id)
		o = x.Std
	case "subnets":
		var x Subnet
		x, err = s.Subnet(ctx, id)
		o = x.Std
	case "subnetpools":
		var x SubnetPool
		x, err = s.SubnetPool(ctx, id)
		o = x.Std
	case "ports":
		var x Port
		x, err = s.Port(ctx, id)
		o = x.Std
	case "routers":
		var x Router
		x, err = s.Router(ctx, id)
		o = x.Std
	case "floatingips":
		var x FloatingIP
		x, err = s.FloatingIP(ctx, id)
		o = x.Std
	case "security-groups", "security_groups":
		var x SecurityGroup
		x, err = s.SecurityGroup(ctx, id)
		o = x.Std
	default:
		err = nacre.Errorf(nacre.NotFound, "HTTPNotFound", "The resource could not be found.")
	}
	return o.Tags, err
}
