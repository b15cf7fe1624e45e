package api

import (
	"crypto/rand"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/compute"
	"github.com/nacre-cloud/nacre/internal/rest"
	"github.com/nacre-cloud/nacre/store"
)

// serverMigrationView is a live migration as its server shows it.
type serverMigrationView struct {
	Created         rest.Naive `json:"created_at"`
	DestCompute     *string    `json:"dest_compute"`
	DestHost        *string    `json:"dest_host"`
	DestNode        *string    `json:"dest_node"`
	DiskProcessed   *int64     `json:"disk_processed_bytes"`
	DiskRemaining   *int64     `json:"disk_remaining_bytes"`
	DiskTotal       *int64     `json:"disk_total_bytes"`
	ID              int64      `json:"id"`
	MemoryProcessed *int64     `json:"memory_processed_bytes"`
	MemoryRemaining *int64     `json:"memory_remaining_bytes"`
	MemoryTotal     *int64     `json:"memory_total_bytes"`
	ServerUUID      string     `json:"server_uuid"`
	SourceCompute   *string    `json:"source_compute"`
	SourceNode      *string    `json:"source_node"`
	Status          string     `json:"status"`
	Updated         rest.Naive `json:"updated_at"`
	UUID            string     `json:"uuid" since:"2.59"`
	UserID          string     `json:"user_id" since:"2.80"`
	ProjectID       string     `json:"project_id" since:"2.80"`
}

// migrationView is a migration as the list of all shows it.
type migrationView struct {
	Created       rest.Naive `json:"created_at"`
	DestCompute   *string    `json:"dest_compute"`
	DestHost      *string    `json:"dest_host"`
	DestNode      *string    `json:"dest_node"`
	ID            int64      `json:"id"`
	InstanceUUID  string     `json:"instance_uuid"`
	NewFlavor     *int64     `json:"new_instance_type_id"`
	OldFlavor     *int64     `json:"old_instance_type_id"`
	SourceCompute *string    `json:"source_compute"`
	SourceNode    *string    `json:"source_node"`
	Status        string     `json:"status"`
	Updated       rest.Naive `json:"updated_at"`
	Type          string     `json:"migration_type" since:"2.23"`
	Links         *[]link    `json:"links,omitempty" since:"2.23"`
	UUID          string     `json:"uuid" since:"2.59"`
	UserID        string     `json:"user_id" since:"2.80"`
	ProjectID     string     `json:"project_id" since:"2.80"`
}

// flavorNumber stands for nova's internal number of a flavor: the id where that is a
// number, else null.
func flavorNumber(id string) *int64 {
	n, err := strconv.ParseInt(id, 10, 64)
	if err != nil {
		return nil
	}
	return &n
}

func bytesOf(n int64) *int64 {
	if n == 0 {
		return nil
	}
	return &n
}

func serverMigrationOf(m compute.Migration, hosts bool) serverMigrationView {
	p := m.Progress
	v := serverMigrationView{Created: rest.Naive(m.Created), DiskProcessed: bytesOf(p.DiskDone), DiskRemaining: bytesOf(p.DiskLeft), DiskTotal: bytesOf(p.DiskTotal), ID: m.Number,
		MemoryProcessed: bytesOf(p.MemoryDone), MemoryRemaining: bytesOf(p.MemoryLeft), MemoryTotal: bytesOf(p.MemoryTotal), ServerUUID: m.ServerID, Status: m.Status,
		Updated: rest.Naive(m.Updated), UUID: m.ID, UserID: m.UserID, ProjectID: m.ProjectID}
	if hosts {
		v.DestCompute, v.DestHost, v.DestNode, v.SourceCompute, v.SourceNode = null(m.Dest), null(m.DestIP), null(m.Dest), null(m.Source), null(m.Source)
	}
	return v
}

func migrationOf(r *rest.Request, m compute.Migration, hosts bool) migrationView {
	v := migrationView{Created: rest.Naive(m.Created), ID: m.Number, InstanceUUID: m.ServerID, NewFlavor: flavorNumber(m.NewFlavor), OldFlavor: flavorNumber(m.OldFlavor),
		Status: m.Status, Updated: rest.Naive(m.Updated), Type: m.Type, UUID: m.ID, UserID: m.UserID, ProjectID: m.ProjectID}
	if hosts {
		v.DestCompute, v.DestHost, v.DestNode, v.SourceCompute, v.SourceNode = null(m.Dest), null(m.DestIP), null(m.Dest), null(m.Source), null(m.Source)
	}
	if m.Type == compute.TypeLive && slices.Contains(compute.InProgress, m.Status) {
		ls := links(r, "servers/"+m.ServerID+"/migrations/"+strconv.FormatInt(m.Number, 10))
		v.Links = &ls
	}
	return v
}

// migrationFilters are the columns behind the list's filters.
var migrationFilters = map[string]string{"host": "host", "instance_uuid": "server_id", "source_compute": "source", "status": "status", "migration_type": "type", "user_id": "user_id", "project_id": "project_id"}

func (a *api) listMigrations(r *rest.Request) (any, error) {
	names := []string{"hidden", "host", "instance_uuid", "source_compute", "status", "migration_type", "changes-since"}
	if r.Version >= rest.V("2.66") {
		names = append(names, "changes-before")
	}
	if r.Version >= rest.V("2.80") {
		names = append(names, "user_id", "project_id")
	}
	q, err := r.Query(strictQuery(r, 1000, "2.59", names...))
	if err != nil {
		return nil, err
	}
	var ws []store.Where
	var since, before time.Time
	asked := nacre.Query{Limit: q.Limit, Marker: q.Marker}
	for _, f := range q.Filters {
		switch column := migrationFilters[f.Name]; {
		case column != "":
			asked.Filters = append(asked.Filters, nacre.Filter{Name: column, Value: f.Value})
		case f.Name == "changes-since" && r.Version >= rest.V("2.59") || f.Name == "changes-before" && r.Version >= rest.V("2.66"):
			t, err := rest.ParseTime(f.Value)
			if err != nil {
				return nil, badQuery(f.Name, f.Value, rest.PyRepr(f.Value)+" is not a 'date-time'")
			}
			if f.Name == "changes-since" {
				since = t
				ws = append(ws, store.GreaterEq("updated_at", t))
			} else {
				before = t
				ws = append(ws, store.LessEq("updated_at", t))
			}
		}
	}
	if !before.IsZero() && before.Before(since) {
		return nil, bad("The value of changes-since must be less than or equal to changes-before.")
	}
	if r.Version < rest.V("2.59") {
		asked.Limit, asked.Marker = 0, ""
	} else if asked.Limit == 0 {
		asked.Limit = 1000
	}
	ms, err := a.s.Migrations(r.Context(), asked, ws...)
	if err != nil {
		return nil, err
	}
	hosts := a.s.SeesMigrationHosts(r.Context(), "os_compute_api:os-migrations:index", "")
	out := make([]migrationView, len(ms))
	for i, m := range ms {
		out[i] = migrationOf(r, m, hosts)
	}
	return struct {
		Migrations []migrationView `json:"migrations"`
		Links      []link          `json:"migrations_links,omitempty"`
	}{out, next(r, len(ms), asked.Limit, func() string { return ms[len(ms)-1].ID })}, nil
}

const serverMigrationRule = "os_compute_api:servers:migrations:"

// migrationNumber is the migration that the path names; a path that names none that can
// be is one that is not there.
func migrationNumber(r *rest.Request) int64 {
	n, err := strconv.ParseInt(r.Var("migration"), 10, 64)
	if err != nil {
		return -1
	}
	return n
}

func (a *api) migrationRoutes() []rest.Route {
	const base = "/v2.1/servers/{id}/migrations"
	type force struct {
		Force *struct{} `json:"force_complete" valid:"null"`
	}
	return []rest.Route{
		{Method: "GET", Path: "/v2.1/os-migrations", Policy: []string{"os_compute_api:os-migrations:index"}, View: migrationView{}, Op: rest.Do(a.listMigrations)},
		{Method: "GET", Path: base, Min: "2.23", Policy: []string{serverMigrationRule + "index"}, View: serverMigrationView{}, Op: rest.Do(func(r *rest.Request) (any, error) {
			ms, err := a.s.ServerMigrations(r.Context(), r.Var("id"), serverMigrationRule+"index")
			if err != nil {
				return nil, err
			}
			out := make([]serverMigrationView, len(ms))
			for i, m := range ms {
				out[i] = serverMigrationOf(m, a.s.SeesMigrationHosts(r.Context(), serverMigrationRule+"index", m.ProjectID))
			}
			return map[string]any{"migrations": out}, nil
		})},
		{Method: "GET", Path: base + "/{migration}", Min: "2.23", Policy: []string{serverMigrationRule + "show"}, View: serverMigrationView{}, Op: rest.Do(func(r *rest.Request) (any, error) {
			m, err := a.s.ServerMigration(r.Context(), r.Var("id"), migrationNumber(r), serverMigrationRule+"show")
			if err != nil {
				return nil, err
			}
			return map[string]any{"migration": serverMigrationOf(m, true)}, nil
		})},
		{Method: "DELETE", Path: base + "/{migration}", Min: "2.24", Status: 202, Policy: []string{serverMigrationRule + "delete"}, Op: rest.Do(func(r *rest.Request) (any, error) {
			return nil, a.s.AbortMigration(r.Context(), r.Var("id"), migrationNumber(r), r.Version < rest.V("2.65"))
		})},
		{Method: "POST", Path: base + "/{migration}/action", Action: "force_complete", Min: "2.22", Status: 202, Policy: []string{serverMigrationRule + "force_complete"}, Op: rest.In(func(r *rest.Request, _ *force) (any, error) {
			return nil, a.s.ForceMigration(r.Context(), r.Var("id"), migrationNumber(r))
		})},
	}
}

// laxBool reads what nova takes for a boolean.
func laxBool(v any) (on, ok bool) {
	switch x := v.(type) {
	case bool:
		return x, true
	case string:
		switch strings.ToLower(x) {
		case "1", "t", "true", "on", "y", "yes":
			return true, true
		case "0", "f", "false", "off", "n", "no":
			return false, true
		}
	}
	return false, false
}

type liveBody struct {
	Live struct {
		Host  *string `json:"host" valid:"required,null,min=1,max=255"`
		Block any     `json:"block_migration" valid:"required"`
		Over  *bool   `json:"disk_over_commit" valid:"required,lax" until:"2.24"`
		Force bool    `json:"force" valid:"lax" since:"2.30" until:"2.67"`
	} `json:"os-migrateLive" valid:"required"`
}

// liveMigrate takes block_migration as nova does; guests' disks are always copied, for
// hosts share none.
func (a *api) liveMigrate(r *rest.Request, b *liveBody) (any, error) {
	in := b.Live
	block, ok := laxBool(in.Block)
	if auto := in.Block == "auto" && r.Version >= rest.V("2.25"); !ok && !auto {
		return nil, bad("Invalid input for field/attribute block_migration. Value: %v. %s is not one of [True, 'True', 'TRUE', 'true', '1', 'ON', 'On', 'on', 'YES', 'Yes', 'yes', False, 'False', 'FALSE', 'false', '0', 'OFF', 'Off', 'off', 'NO', 'No', 'no']", in.Block, rest.PyRepr(in.Block))
	} else if !auto && !block {
		return nil, nacre.Errorf(nacre.Invalid, "InvalidSharedStorage", "%s is not on shared storage: Live migration can not be used without shared storage except a booted from volume VM which does not have a local disk.", r.Var("id"))
	}
	host := ""
	if in.Host != nil {
		host = *in.Host
	}
	if in.Force && host == "" {
		return nil, bad("Can't force to a non-provided destination")
	}
	return nil, a.s.LiveMigrate(r.Context(), r.Var("id"), host)
}

type evacuateBody struct {
	Evacuate struct {
		Host      *string `json:"host" valid:"min=1,max=255"`
		Shared    *bool   `json:"onSharedStorage" valid:"required,lax" until:"2.13"`
		AdminPass string  `json:"adminPass"`
		Force     bool    `json:"force" valid:"lax" since:"2.29" until:"2.67"`
	} `json:"evacuate" valid:"required"`
}

func (a *api) evacuate(r *rest.Request, b *evacuateBody) (any, error) {
	in := b.Evacuate
	host := ""
	if in.Host != nil {
		host = *in.Host
	}
	switch shared := in.Shared != nil && *in.Shared; {
	case shared && in.AdminPass != "":
		return nil, bad("admin password can't be changed on existing disk")
	case shared:
		return nil, nacre.Errorf(nacre.Invalid, "InvalidSharedStorage", "Invalid state of instance files on shared storage: hosts here share none.")
	case in.Force && host == "":
		return nil, bad("Can't force to a non-provided destination")
	}
	if err := a.s.Evacuate(r.Context(), r.Var("id"), host, r.Version >= rest.V("2.95")); err != nil {
		return nil, err
	}
	if r.Version >= rest.V("2.14") {
		return nil, nil
	}
	if in.AdminPass == "" {
		in.AdminPass = rand.Text()[:12]
	}
	return map[string]string{"adminPass": in.AdminPass}, nil
}

// noCertificates refuses what nova's drivers would check an image's signature with: to
// take it and check nothing would promise what nobody keeps.
const noCertificates = "Image certificate validation is not supported here: trusted_image_certificates can't be given."

type rebuildBody struct {
	Rebuild struct {
		Image       string            `json:"imageRef" valid:"required"`
		Name        *string           `json:"name" valid:"min=1,max=255"`
		AdminPass   string            `json:"adminPass"`
		Metadata    map[string]string `json:"metadata" valid:"max=255"`
		Preserve    bool              `json:"preserve_ephemeral" valid:"lax"`
		DiskConfig  *string           `json:"OS-DCF:diskConfig" valid:"enum=AUTO|MANUAL"`
		AccessIPv4  *string           `json:"accessIPv4"`
		AccessIPv6  *string           `json:"accessIPv6"`
		Personality []injected        `json:"personality" until:"2.56"`
		Description rest.Opt[string]  `json:"description" since:"2.19" valid:"null,max=255"`
		Key         rest.Opt[string]  `json:"key_name" since:"2.54" valid:"null,max=255"`
		UserData    rest.Opt[string]  `json:"user_data" since:"2.57" valid:"null,max=65535"`
		Certs       []string          `json:"trusted_image_certificates" since:"2.63" valid:"null"`
		Hostname    *string           `json:"hostname" since:"2.90"`
	} `json:"rebuild" valid:"required"`
}

func (a *api) rebuild(r *rest.Request, b *rebuildBody) (compute.Server, string, error) {
	in := b.Rebuild
	fail := func(err error) (compute.Server, string, error) { return compute.Server{}, "", err }
	if err := accessAddresses(in.AccessIPv4, in.AccessIPv6); err != nil {
		return fail(err)
	}
	if err := checkHostname(r, in.Hostname); err != nil {
		return fail(err)
	}
	if err := checkMeta(in.Metadata); err != nil {
		return fail(err)
	}
	image := lastPart(in.Image)
	if !uuidRE.MatchString(image) {
		return fail(bad("Invalid input for field/attribute imageRef. Value: %s. %s is not a 'uuid'", in.Image, rest.PyRepr(in.Image)))
	}
	if in.Name != nil {
		if *in.Name = strings.TrimSpace(*in.Name); *in.Name == "" {
			return fail(bad("Invalid input for field/attribute name. Value: . '' is too short"))
		}
	}
	switch {
	case len(in.Personality) > 0:
		return fail(bad("Personality files are not taken by a rebuild here."))
	case in.Preserve:
		return fail(bad("The current driver does not support preserving ephemeral partitions."))
	case len(in.Certs) > 0:
		return fail(bad(noCertificates))
	}
	u := compute.Rebuild{ImageID: image, Name: in.Name, Description: in.Description.Ptr(), Hostname: in.Hostname, DiskConfig: in.DiskConfig, AccessIPv4: in.AccessIPv4, AccessIPv6: in.AccessIPv6,
		UserData: in.UserData.Ptr(), Metadata: in.Metadata}
	if key := in.Key.Ptr(); key != nil {
		u.HasKey, u.KeyName = true, *key
	}
	if in.AdminPass == "" {
		in.AdminPass = rand.Text()[:12]
	}
	sv, err := a.s.RebuildServer(r.Context(), r.Var("id"), u)
	return sv, in.AdminPass, err
}

func (a *api) moveActions(action func(name, rule string, op rest.Op, more ...func(*rest.Route)) rest.Route) []rest.Route {
	type resize struct {
		Resize struct {
			Flavor     string `json:"flavorRef" valid:"required,lax,min=1"`
			DiskConfig string `json:"OS-DCF:diskConfig" valid:"enum=AUTO|MANUAL"`
		} `json:"resize" valid:"required"`
	}
	type migrate struct {
		Migrate *struct {
			Host *string `json:"host" valid:"null,min=1,max=255"`
		} `json:"migrate" valid:"null"`
	}
	between := func(minimum, maximum string) func(*rest.Route) {
		return func(rt *rest.Route) { rt.Min, rt.Max = minimum, maximum }
	}
	return []rest.Route{
		action("resize", "os_compute_api:servers:resize", rest.In(func(r *rest.Request, b *resize) (any, error) {
			return nil, a.s.Resize(r.Context(), r.Var("id"), lastPart(b.Resize.Flavor), b.Resize.DiskConfig)
		})),
		action("confirmResize", "os_compute_api:servers:confirm_resize", rest.Do(func(r *rest.Request) (any, error) { return nil, a.s.ConfirmResize(r.Context(), r.Var("id")) }),
			func(rt *rest.Route) { rt.Status = 204 }),
		action("revertResize", "os_compute_api:servers:revert_resize", rest.Do(func(r *rest.Request) (any, error) { return nil, a.s.RevertResize(r.Context(), r.Var("id")) })),
		action("migrate", "os_compute_api:os-migrate-server:migrate", rest.Do(func(r *rest.Request) (any, error) { return nil, a.s.Migrate(r.Context(), r.Var("id"), "") }), between("", "2.55")),
		action("migrate", "os_compute_api:os-migrate-server:migrate", rest.In(func(r *rest.Request, b *migrate) (any, error) {
			host := ""
			if b.Migrate != nil && b.Migrate.Host != nil {
				host = *b.Migrate.Host
			}
			return nil, a.s.Migrate(r.Context(), r.Var("id"), host)
		}), between("2.56", "")),
		action("os-migrateLive", "os_compute_api:os-migrate-server:migrate_live", rest.In(a.liveMigrate)),
		action("evacuate", "os_compute_api:os-evacuate", rest.In(a.evacuate), func(rt *rest.Route) { rt.Status = 200 }),
		action("rebuild", "os_compute_api:servers:rebuild", rest.In(func(r *rest.Request, b *rebuildBody) (any, error) {
			sv, pass, err := a.rebuild(r, b)
			if err != nil {
				return nil, err
			}
			v, err := a.viewer(r)
			r.Set("Location", links(r, "servers/"+sv.ID)[0].Href)
			return map[string]any{"server": rebuiltView{updatedView: v.updated(&sv), AdminPass: pass, KeyName: null(sv.KeyName), UserData: null(sv.UserData)}}, err
		}), between("", "2.74")),
		action("rebuild", "os_compute_api:servers:rebuild", rest.In(func(r *rest.Request, b *rebuildBody) (any, error) {
			sv, pass, err := a.rebuild(r, b)
			if err != nil {
				return nil, err
			}
			v, err := a.viewer(r)
			r.Set("Location", links(r, "servers/"+sv.ID)[0].Href)
			out := rebuiltServer{v.server(&sv), pass, null(sv.UserData)}
			if out.adminView != nil {
				out.adminView.UserData = nil
			}
			return map[string]any{"server": out}, err
		}), between("2.75", "")),
	}
}

// rebuiltView is what a rebuild answers before 2.75, rebuiltServer since.
type rebuiltView struct {
	updatedView
	AdminPass string  `json:"adminPass"`
	KeyName   *string `json:"key_name" since:"2.54"`
	UserData  *string `json:"user_data" since:"2.57"`
}

type rebuiltServer struct {
	serverView
	AdminPass string  `json:"adminPass"`
	UserData  *string `json:"user_data"`
}
