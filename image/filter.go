package image

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/internal/rest"
	"github.com/nacre-cloud/nacre/store"
)

// sortKeys are glance's, in its order; each is the column's name.
var sortKeys = []string{"name", "status", "container_format", "disk_format", "size", "id", "created_at", "updated_at"}

// List lists the images that the caller may see, newest first unless sorted.
func (s *Service) List(ctx context.Context, q nacre.Query) ([]Image, error) {
	c, err := s.caller(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.enforce(ctx, "get_images", &Image{OwnerID: c.ProjectID}); err != nil {
		return nil, err
	}
	w, err := s.filter(ctx, c, q)
	if err != nil {
		return nil, err
	}
	var order []store.Order
	for _, k := range q.Sort {
		if !slices.Contains(sortKeys, k.Field) {
			return nil, nacre.Errorf(nacre.Invalid, "", "Invalid sort key: %s. It must be one of the following: %s.", k.Field, strings.Join(sortKeys, ", "))
		}
		order = append(order, store.Order{Column: k.Field, Desc: k.Desc})
	}
	if !slices.ContainsFunc(order, func(o store.Order) bool { return o.Column == "created_at" }) {
		// As glance: equal ones newest first, unless sorted upwards.
		order = append(order, store.Order{Column: "created_at", Desc: len(order) == 0 || order[len(order)-1].Desc})
	}
	ims, err := s.images.Page(ctx, store.Select{Where: w, Order: order, Limit: q.Limit}, q.Marker, s.visible(ctx, c))
	if errors.Is(err, store.ErrNoRow) {
		return nil, nacre.Errorf(nacre.Invalid, "", "Invalid marker: %s could not be found.", q.Marker)
	}
	for i := range ims {
		s.hide(ctx, &ims[i])
	}
	return ims, err
}

// visible are the images that the caller may see by their ids (as Get has it): any of
// them may be a marker, as in glance, whatever the list is of.
func (s *Service) visible(ctx context.Context, c *nacre.Caller) store.Where {
	if s.isAdmin(ctx) {
		return store.All()
	}
	return store.Or(store.Eq("owner", c.ProjectID), store.In("visibility", []string{"public", "community"}),
		store.And(store.Eq("visibility", "shared"), store.InSelect("id", s.members, "image_id", store.Eq("member_id", c.ProjectID))))
}

// filter is what a list is of.
func (s *Service) filter(ctx context.Context, c *nacre.Caller, q nacre.Query) (store.Where, error) {
	mine := store.Eq("owner", c.ProjectID)
	membership := store.Eq("member_id", c.ProjectID)
	if v, _ := q.Get("member_status"); v != "all" {
		if v == "" {
			v = "accepted"
		}
		membership = store.And(membership, store.Eq("status", v))
	}
	listed := store.Or(mine, store.Eq("visibility", "public"), store.And(store.Eq("visibility", "shared"), store.InSelect("id", s.members, "image_id", membership)))
	if s.isAdmin(ctx) {
		listed = store.Not(store.And(store.Eq("visibility", "community"), store.Not(mine)))
	}
	hidden := false
	ws := []store.Where{}
	for _, f := range q.Filters {
		v := f.Value
		switch f.Name {
		case "visibility":
			switch v {
			case "all":
				listed = store.Or(listed, store.Eq("visibility", "community"))
			case "community":
				listed = store.Eq("visibility", v)
			case "public", "private", "shared":
				ws = append(ws, store.Eq("visibility", v))
			default:
				return store.Where{}, nacre.Errorf(nacre.Invalid, "", "Invalid visibility value: %s", v)
			}
		case "os_hidden":
			if v := strings.ToLower(v); v != "true" && v != "false" {
				return store.Where{}, boolFilter(f)
			}
			hidden = strings.EqualFold(v, "true")
		case "protected":
			if v != "true" && v != "false" {
				return store.Where{}, boolFilter(f)
			}
			ws = append(ws, store.Eq("protected", v == "true"))
		default:
			w, err := s.filterOne(f)
			if err != nil {
				return w, err
			}
			ws = append(ws, w)
		}
	}
	return store.And(append(ws, listed, store.Eq("os_hidden", hidden))...), nil
}

func boolFilter(f nacre.Filter) error {
	return nacre.Errorf(nacre.Invalid, "", "Invalid value '%s' for '%s' filter. Valid values are 'true' or 'false'.", f.Value, f.Name)
}

// filterOne is a filter that does not depend on who asks.
func (s *Service) filterOne(f nacre.Filter) (store.Where, error) {
	v := f.Value
	switch f.Name {
	case "member_status":
		if !slices.Contains([]string{"pending", "accepted", "rejected", "all"}, v) {
			return store.Where{}, nacre.Errorf(nacre.Invalid, "", "Invalid status: %s", v)
		}
		return store.All(), nil
	case "changes-since":
		return store.Where{}, nacre.Errorf(nacre.Invalid, "", `The "changes-since" filter is no longer available on v2.`)
	case "tag":
		return store.InSelect("id", s.tags, "image_id", store.Eq("tag", strings.TrimSpace(v))), nil
	case "size_min", "size_max":
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || n < 0 {
			return store.Where{}, nacre.Errorf(nacre.Invalid, "", "Unable to filter on a range with a non-numeric value: %s", v)
		}
		if f.Name == "size_min" {
			return store.GreaterEq("size", n), nil
		}
		return store.And(store.LessEq("size", n), store.Eq("has_size", true)), nil
	case "created_at", "updated_at":
		return timeFilter(f)
	case "name", "status", "id", "disk_format", "container_format":
		return textFilter(f)
	case "owner", "checksum", "os_hash_value", "os_hash_algo":
		return store.Eq(f.Name, v), nil
	case "min_disk", "min_ram", "size":
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			// Nothing has that value; as glance's databases say.
			return store.Not(store.All()), nil
		}
		return store.Eq(f.Name, n), nil
	}
	return store.InSelect("id", s.properties, "image_id", store.And(store.Eq("name", f.Name), store.Eq("value", v))), nil
}

// textFilter is equality, or "in:a,b" with quotes around values that hold commas.
func textFilter(f nacre.Filter) (store.Where, error) {
	switch f.Op {
	case "", "eq":
		return store.Eq(f.Name, f.Value), nil
	case "neq":
		return store.Ne(f.Name, f.Value), nil
	case "in":
	default:
		return store.Where{}, nacre.Errorf(nacre.Invalid, "", "Unable to filter by unknown operator '%s'.", f.Op)
	}
	var vals []string
	for rest, more := f.Value, true; more; {
		var v string
		if quoted, ok := strings.CutPrefix(rest, `"`); ok {
			v, rest, ok = strings.Cut(quoted, `"`)
			if !ok || rest != "" && rest[0] != ',' {
				return store.Where{}, nacre.Errorf(nacre.Invalid, "", "Invalid filter value %s. The quote is not closed.", f.Value)
			}
			rest, more = strings.CutPrefix(rest, ",")
		} else if v, rest, more = strings.Cut(rest, ","); strings.Contains(v, `"`) {
			return store.Where{}, nacre.Errorf(nacre.Invalid, "", "Invalid filter value %s. There is no comma before opening quotation mark.", f.Value)
		}
		vals = append(vals, v)
	}
	return store.In(f.Name, vals), nil
}

func timeFilter(f nacre.Filter) (store.Where, error) {
	t, err := rest.ParseTime(f.Value)
	if err != nil {
		return store.Where{}, nacre.Errorf(nacre.Invalid, "", "Bad \"%s\" query filter format. Use ISO 8601 DateTime notation.", f.Name)
	}
	// Stored times have microseconds, the API's have not: a second is a range.
	next := t.Add(time.Second)
	switch f.Op {
	case "gt":
		return store.GreaterEq(f.Name, next), nil
	case "gte":
		return store.GreaterEq(f.Name, t), nil
	case "lt":
		return store.Less(f.Name, t), nil
	case "lte":
		return store.Less(f.Name, next), nil
	case "neq":
		return store.Or(store.Less(f.Name, t), store.GreaterEq(f.Name, next)), nil
	case "", "eq":
		return store.And(store.GreaterEq(f.Name, t), store.Less(f.Name, next)), nil
	}
	return store.Where{}, nacre.Errorf(nacre.Invalid, "", "Unable to filter by unknown operator '%s'.", f.Op)
}
