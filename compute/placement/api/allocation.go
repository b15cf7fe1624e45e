package api

import (
	"time"

	"github.com/nacre-cloud/nacre/compute/placement"
	"github.com/nacre-cloud/nacre/internal/rest"
)

func (a *api) allocationRoutes() []rest.Route {
	const consumer = "/allocations/{consumer_uuid}"
	update := []string{"placement:allocations:update"}
	return []rest.Route{
		{Method: "GET", Path: consumer, Policy: []string{"placement:allocations:list"}, View: consumerView{}, Op: rest.Do(a.getAllocations)},
		{Method: "PUT", Path: consumer, Max: "1.7", Status: 204, Policy: update, Op: in(a.setAllocations10)},
		{Method: "PUT", Path: consumer, Min: "1.8", Max: "1.11", Status: 204, Policy: update, Op: in(a.setAllocations18)},
		{Method: "PUT", Path: consumer, Min: "1.12", Status: 204, Policy: update, Op: in(a.setAllocations)},
		{Method: "DELETE", Path: consumer, Status: 204, Policy: []string{"placement:allocations:delete"}, Op: rest.Do(func(r *rest.Request) (any, error) {
			return nil, a.s.DeleteAllocations(r.Context(), r.Var("consumer_uuid"))
		})},
		{Method: "POST", Path: "/allocations", Min: "1.13", Status: 204, Policy: []string{"placement:allocations:manage"}, Op: in(a.manageAllocations)},
		{Method: "POST", Path: "/reshaper", Min: "1.30", Status: 204, Policy: []string{"placement:reshaper:reshape"}, Op: in(a.reshape)},
		{Method: "GET", Path: one + "/allocations", Policy: []string{"placement:resource_providers:allocations:list"}, View: providerAllocationsView{}, Op: rest.Do(a.providerAllocations)},
		{Method: "GET", Path: one + "/usages", Policy: []string{"placement:resource_providers:usages"}, View: providerUsagesView{}, Op: rest.Do(a.providerUsages)},
		{Method: "GET", Path: "/usages", Min: "1.9", Max: "1.37", Policy: []string{"placement:usages"}, Op: rest.Do(a.usages)},
		{Method: "GET", Path: "/usages", Min: "1.38", Policy: []string{"placement:usages"}, Op: rest.Do(a.usagesByType)},
	}
}

type allocationView struct {
	Resources  map[string]int64 `json:"resources"`
	Generation int64            `json:"generation"`
}

type consumerView struct {
	Allocations map[string]allocationView `json:"allocations"`
	Project     *string                   `json:"project_id,omitempty" since:"1.12"`
	User        *string                   `json:"user_id,omitempty" since:"1.12"`
	Generation  *int64                    `json:"consumer_generation,omitempty" since:"1.28"`
	Type        *string                   `json:"consumer_type,omitempty" since:"1.38"`
}

func typeOf(c *placement.Consumer) string {
	if c.Type == "" {
		return placement.UnknownType
	}
	return c.Type
}

func (a *api) getAllocations(r *rest.Request) (any, error) {
	as, ps, c, err := a.s.Allocations(r.Context(), r.Var("consumer_uuid"))
	if err != nil {
		return nil, err
	}
	out := consumerView{Allocations: map[string]allocationView{}}
	for _, x := range as {
		v, ok := out.Allocations[x.ProviderID]
		if !ok {
			v = allocationView{map[string]int64{}, ps[x.ProviderID].Generation}
			out.Allocations[x.ProviderID] = v
		}
		v.Resources[x.Class] = x.Used
	}
	var modified time.Time
	if c != nil {
		typ := typeOf(c)
		out.Project, out.User, out.Generation, out.Type, modified = &c.ProjectID, &c.UserID, &c.Generation, &typ, c.UpdatedAt
	}
	fresh(r, modified)
	return out, nil
}

// incomplete stands for the project and user of consumers made before 1.8.
const incomplete = "00000000-0000-0000-0000-000000000000"

type oldAllocations struct {
	Allocations []struct {
		Provider struct {
			UUID string `json:"uuid" valid:"required,format=uuid"`
		} `json:"resource_provider" valid:"required"`
		Resources map[string]int64 `json:"resources" valid:"required,min=1"`
	} `json:"allocations" valid:"required,min=1"`
}

type oldAllocations18 struct {
	oldAllocations
	Project string `json:"project_id" valid:"required,min=1,max=255"`
	User    string `json:"user_id" valid:"required,min=1,max=255"`
}

func (a *api) setAllocations10(r *rest.Request, b *oldAllocations) (any, error) {
	return a.setOld(r, b, incomplete, incomplete)
}

func (a *api) setAllocations18(r *rest.Request, b *oldAllocations18) (any, error) {
	return a.setOld(r, &b.oldAllocations, b.Project, b.User)
}

func (a *api) setOld(r *rest.Request, b *oldAllocations, project, user string) (any, error) {
	body := wishBody{Project: project, User: user, Allocations: map[string]share{}}
	for _, x := range b.Allocations {
		body.Allocations[x.Provider.UUID] = share{Resources: x.Resources}
	}
	return a.setAllocations(r, &body)
}

type share struct {
	Resources  map[string]int64 `json:"resources" valid:"required,min=1"`
	Generation rest.Opt[int64]  `json:"generation"`
}

type wishBody struct {
	Allocations map[string]share    `json:"allocations" valid:"required"`
	Project     string              `json:"project_id" valid:"required,min=1,max=255"`
	User        string              `json:"user_id" valid:"required,min=1,max=255"`
	Generation  rest.Opt[int64]     `json:"consumer_generation" since:"1.28" valid:"required,null"`
	Mappings    map[string][]string `json:"mappings" since:"1.34" valid:"min=1"`
	Type        string              `json:"consumer_type" since:"1.38" valid:"required,min=1,max=255,pattern=^[A-Z0-9_]+$"`
}

// wish checks what the body's types can't say.
func (b *wishBody) wish(r *rest.Request) (placement.Wish, error) {
	w := placement.Wish{ProjectID: b.Project, User: b.User, Type: b.Type, Allocations: map[string]placement.Resources{}}
	if r.Version >= rest.V("1.28") {
		w.Checked = true
		if !b.Generation.Null {
			w.Generation = &b.Generation.Value
		}
	}
	for id, x := range b.Allocations {
		provider := dashed(id)
		if provider == "" {
			return w, invalid("JSON does not validate: %s does not match any of the regexes: '^[0-9a-fA-F-]{36}$'", rest.PyRepr(id))
		}
		for class, n := range x.Resources {
			switch {
			case !namePattern.MatchString(class):
				return w, invalid("JSON does not validate: %s does not match any of the regexes: '^[A-Z0-9_]+$'", rest.PyRepr(class))
			case n < 1:
				return w, invalid("JSON does not validate: %d is less than the minimum of 1", n)
			}
		}
		w.Allocations[provider] = x.Resources
	}
	return w, nil
}

func (a *api) setAllocations(r *rest.Request, b *wishBody) (any, error) {
	id := dashed(r.Var("consumer_uuid"))
	if id == "" {
		return nil, invalid("Malformed consumer_uuid: %s", r.Var("consumer_uuid"))
	}
	if len(b.Allocations) == 0 && r.Version < rest.V("1.28") {
		return nil, invalid("JSON does not validate: {} does not have enough properties")
	}
	w, err := b.wish(r)
	if err != nil {
		return nil, err
	}
	return nil, a.s.SetAllocations(r.Context(), id, w)
}

func wishes(r *rest.Request, in map[string]wishBody) (map[string]placement.Wish, error) {
	out := make(map[string]placement.Wish, len(in))
	for id, b := range in {
		consumer := dashed(id)
		if consumer == "" {
			return nil, invalid("JSON does not validate: %s does not match any of the regexes: '^[0-9a-fA-F-]{36}$'", rest.PyRepr(id))
		}
		w, err := b.wish(r)
		if err != nil {
			return nil, err
		}
		out[consumer] = w
	}
	return out, nil
}

func (a *api) manageAllocations(r *rest.Request, b *map[string]wishBody) (any, error) {
	if len(*b) == 0 {
		return nil, invalid("JSON does not validate: {} does not have enough properties")
	}
	ws, err := wishes(r, *b)
	if err != nil {
		return nil, err
	}
	return nil, a.s.ManageAllocations(r.Context(), ws)
}

type reshapeBody struct {
	Inventories map[string]setInventories `json:"inventories" valid:"required"`
	Allocations map[string]wishBody       `json:"allocations" valid:"required"`
}

func (a *api) reshape(r *rest.Request, b *reshapeBody) (any, error) {
	shapes := map[string]placement.Shape{}
	for id, x := range b.Inventories {
		provider := dashed(id)
		if provider == "" {
			return nil, invalid("JSON does not validate: %s does not match any of the regexes: '^[0-9a-fA-F-]{36}$'", rest.PyRepr(id))
		}
		invs, err := inventories(r, x.Inventories)
		if err != nil {
			return nil, err
		}
		shapes[provider] = placement.Shape{Generation: x.Generation, Inventories: invs}
	}
	ws, err := wishes(r, b.Allocations)
	if err != nil {
		return nil, err
	}
	return nil, a.s.Reshape(r.Context(), shapes, ws)
}

type holdingView struct {
	Resources  map[string]int64 `json:"resources"`
	Generation int64            `json:"consumer_generation" since:"1.28"`
}

type providerAllocationsView struct {
	Allocations map[string]holdingView `json:"allocations"`
	Generation  int64                  `json:"resource_provider_generation"`
}

func (a *api) providerAllocations(r *rest.Request) (any, error) {
	p, as, cs, err := a.s.ProviderAllocations(r.Context(), r.Var("uuid"))
	if err != nil {
		return nil, err
	}
	out := providerAllocationsView{map[string]holdingView{}, p.Generation}
	for _, x := range as {
		v, ok := out.Allocations[x.ConsumerID]
		if !ok {
			v = holdingView{map[string]int64{}, cs[x.ConsumerID].Generation}
			out.Allocations[x.ConsumerID] = v
		}
		v.Resources[x.Class] = x.Used
	}
	fresh(r, time.Time{})
	return out, nil
}

type providerUsagesView struct {
	Generation int64            `json:"resource_provider_generation"`
	Usages     map[string]int64 `json:"usages"`
}

func (a *api) providerUsages(r *rest.Request) (any, error) {
	p, used, err := a.s.ProviderUsages(r.Context(), r.Var("uuid"))
	if err != nil {
		return nil, err
	}
	fresh(r, time.Time{})
	return providerUsagesView{p.Generation, used}, nil
}

func (a *api) projectUsages(r *rest.Request) (map[string]placement.Usage, error) {
	vals, err := parameters(r, map[string]string{"project_id": "1.9", "user_id": "1.9", "consumer_type": "1.38"})
	if err != nil {
		return nil, err
	}
	project, user, typ := last(vals, "project_id"), last(vals, "user_id"), last(vals, "consumer_type")
	switch {
	case !vals.Has("project_id"):
		return nil, invalid("Invalid query string parameters: 'project_id' is a required property")
	case project == "" || len(project) > 255:
		return nil, invalid("Invalid query string parameters: %s is too short", rest.PyRepr(project))
	case vals.Has("consumer_type") && typ != "all" && typ != placement.UnknownType && !namePattern.MatchString(typ):
		return nil, invalid("Invalid query string parameters: %s does not match '^[A-Z0-9_]+$|^all|^unknown$'", rest.PyRepr(typ))
	}
	us, err := a.s.Usages(r.Context(), project, user, typ)
	fresh(r, time.Time{})
	return us, err
}

func (a *api) usages(r *rest.Request) (any, error) {
	us, err := a.projectUsages(r)
	if err != nil {
		return nil, err
	}
	out := map[string]int64{}
	for _, u := range us {
		for class, n := range u.Resources {
			out[class] += n
		}
	}
	return map[string]any{"usages": out}, nil
}

func (a *api) usagesByType(r *rest.Request) (any, error) {
	us, err := a.projectUsages(r)
	if err != nil {
		return nil, err
	}
	out := map[string]map[string]int64{}
	for typ, u := range us {
		out[typ] = map[string]int64{"consumer_count": u.Consumers}
		for class, n := range u.Resources {
			out[typ][class] = n
		}
	}
	return map[string]any{"usages": out}, nil
}
