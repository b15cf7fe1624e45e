package compute

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/internal/policy"
	"github.com/nacre-cloud/nacre/store"
)

// Flavor is a size of server.
type Flavor struct {
	ID          string `store:"id,pk" json:"id"`
	Name        string `store:"name,unique=flavor_name" json:"name"`
	Description string `store:"description" json:"description"`
	// RAM and Swap in MiB; Disk and Ephemeral in GiB.
	RAM        int     `store:"ram,index=flavor_ram" json:"ram"`
	VCPUs      int     `store:"vcpus" json:"vcpus"`
	Disk       int     `store:"disk" json:"disk"`
	Ephemeral  int     `store:"ephemeral" json:"ephemeral"`
	Swap       int     `store:"swap" json:"swap"`
	RXTXFactor float64 `store:"rxtx_factor" json:"rxtx_factor"`
	Public     bool    `store:"is_public" json:"is_public"`
	Disabled   bool    `store:"disabled" json:"disabled"`
	// ExtraSpecs ask for more of a host ("hw:cpu_policy").
	ExtraSpecs map[string]string `store:"extra_specs,json" json:"extra_specs"`
	Created    time.Time         `store:"created_at" json:"-"`
}

// FlavorAccess lets a project use a flavor that is not public.
type FlavorAccess struct {
	// ID is "<flavor>/<project>".
	ID        string `store:"id,pk"`
	FlavorID  string `store:"flavor_id,index=flavor_access_flavor"`
	ProjectID string `store:"project_id,index=flavor_access_project"`
}

func flavorNotFound(id string) *nacre.Error {
	return nacre.Errorf(nacre.NotFound, "FlavorNotFound", "Flavor %s could not be found.", id)
}

// visibleFlavors is what the caller may see. public: nil is the default of
// nova's is_public (public ones and those that the project has access to).
func (s *Service) visibleFlavors(c *nacre.Caller) store.Where {
	return store.Or(store.Eq("is_public", true), store.InSelect("id", s.flavorAccess, "flavor_id", store.Eq("project_id", c.ProjectID)))
}

// Flavors lists flavors. Filters: minDisk, minRam, is_public ("None" for all,
// administrators only). A name not known is ignored.
func (s *Service) Flavors(ctx context.Context, q nacre.Query) ([]Flavor, error) {
	c, err := s.caller(ctx)
	if err != nil {
		return nil, err
	}
	w := s.visibleFlavors(c)
	if s.allowed(ctx, "os_compute_api:os-flavor-access", policy.Map{}) && c.HasRole("admin") {
		pub, given := q.Get("is_public")
		switch strings.ToLower(pub) {
		case "none":
			w = store.All()
		case "false", "0", "f", "no", "off":
			w = store.Eq("is_public", false)
		case "true", "1", "t", "yes", "on":
			w = store.Eq("is_public", true)
		default:
			if given {
				return nil, nacre.Errorf(nacre.Invalid, "", "Invalid is_public filter [%s]", pub)
			}
		}
	}
	for name, col := range map[string]string{"minDisk": "disk", "minRam": "ram"} {
		if v, ok := q.Get(name); ok {
			n, err := atoi(v)
			if err != nil {
				return nil, nacre.Errorf(nacre.Invalid, "", "Invalid %s filter [%s]", name, v)
			}
			w = store.And(w, store.GreaterEq(col, n))
		}
	}
	order, err := sortOrder(q.Sort, map[string]string{"flavorid": "id", "id": "id", "name": "name", "memory_mb": "ram", "ram": "ram", "vcpus": "vcpus", "root_gb": "disk", "disk": "disk",
		"ephemeral_gb": "ephemeral", "swap": "swap", "created_at": "created_at", "rxtx_factor": "rxtx_factor", "is_public": "is_public", "disabled": "disabled", "updated_at": "created_at", "deleted_at": "created_at", "vcpu_weight": "vcpus"}, store.Order{Column: "id"})
	if err != nil {
		return nil, err
	}
	fs, err := s.flavors.Page(ctx, store.Select{Where: w, Order: order, Limit: q.Limit}, q.Marker)
	if errors.Is(err, store.ErrNoRow) {
		return nil, nacre.Errorf(nacre.Invalid, "", "marker [%s] not found", q.Marker)
	}
	return fs, err
}

// Flavor is one flavor that the caller may see.
func (s *Service) Flavor(ctx context.Context, id string) (Flavor, error) {
	c, err := s.caller(ctx)
	if err != nil {
		return Flavor{}, err
	}
	f, err := s.flavors.Get(ctx, id)
	if err != nil {
		return f, store.WrapNotFound(err, func() *nacre.Error { return flavorNotFound(id) })
	}
	if !f.Public && !c.HasRole("admin") {
		ok, err := s.flavorAccess.Exists(ctx, store.Eq("id", id+"/"+c.ProjectID))
		if err != nil {
			return f, err
		}
		if !ok {
			return f, flavorNotFound(id)
		}
	}
	return f, nil
}

var flavorIDRE = regexp.MustCompile(`^[a-zA-Z0-9. _-]*$`)

// CreateFlavor makes a flavor. An empty ID is made up.
func (s *Service) CreateFlavor(ctx context.Context, f Flavor) (Flavor, error) {
	if err := s.enforce(ctx, "os_compute_api:os-flavor-manage:create", nil); err != nil {
		return f, err
	}
	if f.ID == "" || f.ID == "auto" {
		f.ID = s.c.IDs.NewID()
	}
	if !flavorIDRE.MatchString(f.ID) || strings.TrimSpace(f.ID) != f.ID {
		return f, nacre.Errorf(nacre.Invalid, "", "Flavor id '%s' may only contain letters, digits, periods, dashes, underscores and spaces.", f.ID)
	}
	if f.ExtraSpecs == nil {
		f.ExtraSpecs = map[string]string{}
	}
	if f.RXTXFactor == 0 {
		f.RXTXFactor = 1
	}
	f.Created = time.Now().UTC()
	err := s.flavors.Insert(ctx, f)
	switch {
	case store.IsDuplicate(err, "flavor_name"):
		return f, nacre.Errorf(nacre.Conflict, "FlavorExists", "Flavor with name %s already exists.", f.Name)
	case store.IsDuplicate(err):
		return f, nacre.Errorf(nacre.Conflict, "FlavorIdExists", "Flavor with ID %s already exists.", f.ID)
	}
	return f, err
}

// UpdateFlavor changes the description.
func (s *Service) UpdateFlavor(ctx context.Context, id, description string) (Flavor, error) {
	if err := s.enforce(ctx, "os_compute_api:os-flavor-manage:update", nil); err != nil {
		return Flavor{}, err
	}
	f, err := s.flavors.Update(ctx, id, func(f *Flavor) error { f.Description = description; return nil })
	return f, store.WrapNotFound(err, func() *nacre.Error { return flavorNotFound(id) })
}

// DeleteFlavor removes a flavor. Servers keep what they were made with.
func (s *Service) DeleteFlavor(ctx context.Context, id string) error {
	if err := s.enforce(ctx, "os_compute_api:os-flavor-manage:delete", nil); err != nil {
		return err
	}
	return store.InTx(ctx, s.c.Engine, func(ctx context.Context) error {
		if _, err := s.flavorAccess.DeleteWhere(ctx, store.Eq("flavor_id", id)); err != nil {
			return err
		}
		return store.WrapNotFound(s.flavors.Delete(ctx, id), func() *nacre.Error { return flavorNotFound(id) })
	})
}

// SetExtraSpecs adds to or replaces a flavor's extra specs.
func (s *Service) SetExtraSpecs(ctx context.Context, id string, specs map[string]string, rule string) (map[string]string, error) {
	if err := s.enforce(ctx, rule, nil); err != nil {
		return nil, err
	}
	f, err := s.flavors.Update(ctx, id, func(f *Flavor) error {
		if f.ExtraSpecs == nil {
			f.ExtraSpecs = map[string]string{}
		}
		for k, v := range specs {
			f.ExtraSpecs[k] = v
		}
		return nil
	})
	return f.ExtraSpecs, store.WrapNotFound(err, func() *nacre.Error { return flavorNotFound(id) })
}

// DeleteExtraSpec removes one extra spec.
func (s *Service) DeleteExtraSpec(ctx context.Context, id, key string) error {
	if err := s.enforce(ctx, "os_compute_api:os-flavor-extra-specs:delete", nil); err != nil {
		return err
	}
	_, err := s.flavors.Update(ctx, id, func(f *Flavor) error {
		if _, ok := f.ExtraSpecs[key]; !ok {
			return nacre.Errorf(nacre.NotFound, "", "Flavor %s has no extra specs with key %s.", id, key)
		}
		delete(f.ExtraSpecs, key)
		return nil
	})
	return store.WrapNotFound(err, func() *nacre.Error { return flavorNotFound(id) })
}

// FlavorProjects lists the projects that may use a flavor that is not public.
func (s *Service) FlavorProjects(ctx context.Context, id string) ([]string, error) {
	if err := s.enforce(ctx, "os_compute_api:os-flavor-access", nil); err != nil {
		return nil, err
	}
	f, err := s.flavors.Get(ctx, id)
	if err != nil {
		return nil, store.WrapNotFound(err, func() *nacre.Error { return flavorNotFound(id) })
	}
	if f.Public {
		return nil, nacre.Errorf(nacre.NotFound, "", "Access list not available for public flavors.")
	}
	return s.accessOf(ctx, id)
}

func (s *Service) accessOf(ctx context.Context, id string) ([]string, error) {
	rows, err := s.flavorAccess.Where(ctx, store.Eq("flavor_id", id))
	ps := make([]string, len(rows))
	for i, r := range rows {
		ps[i] = r.ProjectID
	}
	slices.Sort(ps)
	return ps, err
}

// SetFlavorAccess lets a project use a flavor, or no longer.
func (s *Service) SetFlavorAccess(ctx context.Context, id, project string, add bool) ([]string, error) {
	rule := "os_compute_api:os-flavor-access:remove_tenant_access"
	if add {
		rule = "os_compute_api:os-flavor-access:add_tenant_access"
	}
	if err := s.enforce(ctx, rule, nil); err != nil {
		return nil, err
	}
	f, err := s.flavors.Get(ctx, id)
	if err != nil {
		return nil, store.WrapNotFound(err, func() *nacre.Error { return flavorNotFound(id) })
	}
	row := FlavorAccess{ID: id + "/" + project, FlavorID: id, ProjectID: project}
	if add {
		if f.Public {
			return nil, nacre.Errorf(nacre.Conflict, "", "Can not add access to a public flavor.")
		}
		err = s.flavorAccess.Insert(ctx, row)
		if store.IsDuplicate(err) {
			return nil, nacre.Errorf(nacre.Conflict, "FlavorAccessExists", "Flavor access already exists for flavor %s and project %s combination.", id, project)
		}
	} else if err = s.flavorAccess.Delete(ctx, row.ID); errors.Is(err, store.ErrNoRow) {
		return nil, nacre.Errorf(nacre.NotFound, "FlavorAccessNotFound", "Flavor access not found for %s / %s combination.", id, project)
	}
	if err != nil {
		return nil, err
	}
	return s.accessOf(ctx, id)
}

// atoi reads a whole number without sign.
func atoi(s string) (int, error) {
	n := 0
	if s == "" || len(s) > 9 {
		return 0, fmt.Errorf("%q is no number", s)
	}
	for _, c := range s {
		if c < '0' || c > '9' {
			return 0, fmt.Errorf("%q is no number", s)
		}
		n = n*10 + int(c-'0')
	}
	return n, nil
}

// sortOrder turns a user's sort keys into columns; unknown ones are refused.
func sortOrder(keys []nacre.SortKey, cols map[string]string, def ...store.Order) ([]store.Order, error) {
	if len(keys) == 0 {
		return def, nil
	}
	var out []store.Order
	for _, k := range keys {
		col, ok := cols[k.Field]
		if !ok {
			return nil, nacre.Errorf(nacre.Invalid, "InvalidSortKey", "Sort key supplied was not valid.")
		}
		if !slices.ContainsFunc(out, func(o store.Order) bool { return o.Column == col }) {
			out = append(out, store.Order{Column: col, Desc: k.Desc})
		}
	}
	return out, nil
}

// MayReadExtraSpecs enforces one of the extra specs' rules.
func (s *Service) MayReadExtraSpecs(ctx context.Context, rule string) error {
	return s.enforce(ctx, rule, nil)
}
