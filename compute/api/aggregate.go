package api

import (
	"strconv"
	"strings"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/compute"
	"github.com/nacre-cloud/nacre/internal/rest"
)

type aggregateView struct {
	ID        int64      `json:"id"`
	UUID      string     `json:"uuid" since:"2.41"`
	Name      string     `json:"name"`
	Zone      *string    `json:"availability_zone"`
	Created   rest.Naive `json:"created_at"`
	Updated   rest.Naive `json:"updated_at"`
	Deleted   bool       `json:"deleted"`
	DeletedAt rest.Naive `json:"deleted_at"`
	*aggregateParts
}

// aggregateParts are what the answer to a creation leaves out.
type aggregateParts struct {
	Hosts    []string          `json:"hosts"`
	Metadata map[string]string `json:"metadata"`
}

func aggregateOf(x compute.HostAggregate) aggregateView {
	return aggregateView{ID: x.Number, UUID: x.ID, Name: x.Name, Zone: null(x.Zone()), Created: rest.Naive(x.Created), Updated: rest.Naive(x.Updated), aggregateParts: &aggregateParts{x.Hosts, x.Metadata}}
}

// zoneName checks the name of a zone: no colon in it, which separates zone and host.
func zoneName(z string) error {
	if strings.Contains(z, ":") || strings.TrimSpace(z) != z {
		return bad("Invalid input for field/attribute availability_zone. Value: %s. %s is not valid under any of the given schemas", z, rest.PyRepr(z))
	}
	return nil
}

func (a *api) aggregateRoutes() []rest.Route {
	const base, rule = "/v2.1/os-aggregates", "os_compute_api:os-aggregates:"
	type create struct {
		Aggregate struct {
			Name string           `json:"name" valid:"required,min=1,max=255"`
			Zone rest.Opt[string] `json:"availability_zone" valid:"null,min=1,max=255"`
		} `json:"aggregate" valid:"required"`
	}
	type update struct {
		Aggregate struct {
			Name *string          `json:"name" valid:"min=1,max=255"`
			Zone rest.Opt[string] `json:"availability_zone" valid:"null,min=1,max=255"`
		} `json:"aggregate" valid:"required"`
	}
	type addHost struct {
		Add struct {
			Host string `json:"host" valid:"required,min=1,max=255"`
		} `json:"add_host" valid:"required"`
	}
	type removeHost struct {
		Remove struct {
			Host string `json:"host" valid:"required,min=1,max=255"`
		} `json:"remove_host" valid:"required"`
	}
	type setMetadata struct {
		Set struct {
			Metadata map[string]*string `json:"metadata" valid:"required,null"`
		} `json:"set_metadata" valid:"required"`
	}
	number := func(r *rest.Request) (int64, error) {
		n, err := strconv.ParseInt(r.Var("id"), 10, 32)
		if err != nil {
			return 0, nacre.Errorf(nacre.Invalid, "InvalidInput", "Invalid input received: id must be an integer")
		}
		return n, nil
	}
	one := func(f func(r *rest.Request, n int64) (compute.HostAggregate, error)) func(r *rest.Request) (any, error) {
		return func(r *rest.Request) (any, error) {
			n, err := number(r)
			if err != nil {
				return nil, err
			}
			x, err := f(r, n)
			return map[string]aggregateView{"aggregate": aggregateOf(x)}, err
		}
	}
	action := func(name string, op rest.Op) rest.Route {
		return rest.Route{Method: "POST", Path: base + "/{id}/action", Action: name, Policy: []string{rule + name}, View: aggregateView{}, Op: op}
	}
	return []rest.Route{
		{Method: "GET", Path: base, Policy: []string{rule + "index"}, View: aggregateView{}, Op: rest.Do(func(r *rest.Request) (any, error) {
			xs, err := a.s.Aggregates(r.Context())
			if err != nil {
				return nil, err
			}
			out := make([]aggregateView, len(xs))
			for i, x := range xs {
				out[i] = aggregateOf(x)
			}
			return map[string]any{"aggregates": out}, nil
		})},
		{Method: "POST", Path: base, Policy: []string{rule + "create"}, View: aggregateView{}, Op: rest.In(func(r *rest.Request, b *create) (any, error) {
			if err := zoneName(b.Aggregate.Zone.Value); err != nil {
				return nil, err
			}
			if strings.TrimSpace(b.Aggregate.Name) != b.Aggregate.Name {
				return nil, bad("Invalid input for field/attribute name. Value: %s. %s does not match a name without spaces around it", b.Aggregate.Name, rest.PyRepr(b.Aggregate.Name))
			}
			x, err := a.s.CreateAggregate(r.Context(), b.Aggregate.Name, b.Aggregate.Zone.Value)
			v := aggregateOf(x)
			v.aggregateParts = nil
			return map[string]aggregateView{"aggregate": v}, err
		})},
		{Method: "GET", Path: base + "/{id}", Policy: []string{rule + "show"}, View: aggregateView{}, Op: rest.Do(one(func(r *rest.Request, n int64) (compute.HostAggregate, error) {
			return a.s.Aggregate(r.Context(), n)
		}))},
		{Method: "PUT", Path: base + "/{id}", Policy: []string{rule + "update"}, View: aggregateView{}, Op: rest.In(func(r *rest.Request, b *update) (any, error) {
			if b.Aggregate.Name == nil && !b.Aggregate.Zone.Set {
				return nil, bad("Invalid input for field/attribute aggregate. Value: {}. {} is not valid under any of the given schemas")
			}
			if err := zoneName(b.Aggregate.Zone.Value); err != nil {
				return nil, err
			}
			if b.Aggregate.Name != nil {
				*b.Aggregate.Name = strings.TrimSpace(*b.Aggregate.Name)
			}
			return one(func(r *rest.Request, n int64) (compute.HostAggregate, error) {
				return a.s.UpdateAggregate(r.Context(), n, b.Aggregate.Name, b.Aggregate.Zone.Ptr())
			})(r)
		})},
		{Method: "DELETE", Path: base + "/{id}", Status: 200, Policy: []string{rule + "delete"}, Op: rest.Do(func(r *rest.Request) (any, error) {
			n, err := number(r)
			if err != nil {
				return nil, err
			}
			return nil, a.s.DeleteAggregate(r.Context(), n)
		})},
		action("add_host", rest.In(func(r *rest.Request, b *addHost) (any, error) {
			return one(func(r *rest.Request, n int64) (compute.HostAggregate, error) {
				return a.s.AddAggregateHost(r.Context(), n, b.Add.Host)
			})(r)
		})),
		action("remove_host", rest.In(func(r *rest.Request, b *removeHost) (any, error) {
			return one(func(r *rest.Request, n int64) (compute.HostAggregate, error) {
				return a.s.RemoveAggregateHost(r.Context(), n, b.Remove.Host)
			})(r)
		})),
		action("set_metadata", rest.In(func(r *rest.Request, b *setMetadata) (any, error) {
			for k, v := range b.Set.Metadata {
				if k == "" || len(k) > 255 || v != nil && len(*v) > 255 {
					return nil, bad("Invalid input for field/attribute metadata. Value: %s. a key has 1 to 255 characters, a value at most 255", k)
				}
			}
			return one(func(r *rest.Request, n int64) (compute.HostAggregate, error) {
				return a.s.SetAggregateMetadata(r.Context(), n, b.Set.Metadata)
			})(r)
		})),
	}
}
