package api

import (
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/compute"
	"github.com/nacre-cloud/nacre/internal/rest"
)

// quotaNames are the resources that a microversion shows: the network ones went
// with 2.36, file injection with 2.57.
func quotaNames(r *rest.Request) []string {
	names := []string{"cores", "instances", "key_pairs", "metadata_items", "ram", "server_group_members", "server_groups"}
	if r.Version < rest.V("2.36") {
		names = append(names, "fixed_ips", "floating_ips", "security_group_rules", "security_groups")
	}
	if r.Version < rest.V("2.57") {
		names = append(names, "injected_file_content_bytes", "injected_file_path_bytes", "injected_files")
	}
	return names
}

func pick[V any](r *rest.Request, m map[string]V, id string) map[string]any {
	out := map[string]any{}
	for _, n := range quotaNames(r) {
		out[n] = m[n]
	}
	if id != "" {
		out["id"] = id
	}
	return out
}

func (a *api) quotaRoutes() []rest.Route {
	const rule = "os_compute_api:os-quota-sets:"
	type body struct {
		Set map[string]any `json:"quota_set" valid:"required"`
	}
	type classBody struct {
		Set map[string]any `json:"quota_class_set" valid:"required"`
	}
	limitsOf := func(m map[string]compute.QuotaUse) map[string]int64 {
		out := map[string]int64{}
		for k, v := range m {
			out[k] = v.Limit
		}
		return out
	}
	return append([]rest.Route{
		{Method: "GET", Path: "/v2.1/os-quota-sets/{project}", Policy: []string{rule + "show"}, Op: rest.Do(func(r *rest.Request) (any, error) {
			m, err := a.s.Quota(r.Context(), r.Var("project"), rule+"show")
			return map[string]any{"quota_set": pick(r, limitsOf(m), r.Var("project"))}, err
		})},
		{Method: "GET", Path: "/v2.1/os-quota-sets/{project}/detail", Policy: []string{rule + "detail"}, Op: rest.Do(func(r *rest.Request) (any, error) {
			m, err := a.s.Quota(r.Context(), r.Var("project"), rule+"detail")
			return map[string]any{"quota_set": pick(r, m, r.Var("project"))}, err
		})},
		{Method: "GET", Path: "/v2.1/os-quota-sets/{project}/defaults", Policy: []string{rule + "defaults"}, Op: rest.Do(func(r *rest.Request) (any, error) {
			m, err := a.s.DefaultQuota(r.Context(), rule+"defaults")
			return map[string]any{"quota_set": pick(r, m, r.Var("project"))}, err
		})},
		{Method: "PUT", Path: "/v2.1/os-quota-sets/{project}", Policy: []string{rule + "update"}, Op: rest.In(func(r *rest.Request, b *body) (any, error) {
			limits, force, err := readQuota(r, b.Set)
			if err != nil {
				return nil, err
			}
			if err := a.s.SetQuota(r.Context(), r.Var("project"), limits, force); err != nil {
				return nil, err
			}
			m, err := a.s.Quota(r.Context(), r.Var("project"), rule+"show")
			return map[string]any{"quota_set": pick(r, limitsOf(m), "")}, err
		})},
		{Method: "DELETE", Path: "/v2.1/os-quota-sets/{project}", Status: 202, Policy: []string{rule + "delete"}, Op: rest.Do(func(r *rest.Request) (any, error) {
			return nil, a.s.ClearQuota(r.Context(), r.Var("project"))
		})},
		{Method: "GET", Path: "/v2.1/os-quota-class-sets/{class}", Policy: []string{"os_compute_api:os-quota-class-sets:show"}, Op: rest.Do(func(r *rest.Request) (any, error) {
			m, err := a.s.DefaultQuota(r.Context(), "os_compute_api:os-quota-class-sets:show")
			return map[string]any{"quota_class_set": pick(r, m, r.Var("class"))}, err
		})},
		{Method: "PUT", Path: "/v2.1/os-quota-class-sets/{class}", Policy: []string{"os_compute_api:os-quota-class-sets:update"}, Op: rest.In(func(r *rest.Request, b *classBody) (any, error) {
			limits, _, err := readQuota(r, b.Set)
			if err != nil {
				return nil, err
			}
			if err := a.s.SetClassQuota(r.Context(), r.Var("class"), limits); err != nil {
				return nil, err
			}
			m, err := a.s.DefaultQuota(r.Context(), "os_compute_api:os-quota-class-sets:update")
			return map[string]any{"quota_class_set": pick(r, m, "")}, err
		})},
		{Method: "GET", Path: "/v2.1/limits", Policy: []string{"os_compute_api:limits"}, Op: rest.Do(a.limits)},
	}, a.usageRoutes()...)
}

func readQuota(r *rest.Request, in map[string]any) (limits map[string]int64, force bool, err error) {
	limits = map[string]int64{}
	known := quotaNames(r)
	for _, k := range slices.Sorted(maps.Keys(in)) {
		if k == "force" {
			switch v := in[k].(type) {
			case bool:
				force = v
			case string:
				force, _ = strconv.ParseBool(v)
			}
			continue
		}
		if !slices.Contains(known, k) {
			return nil, false, bad("Invalid input for field/attribute quota_set. Value: %s. Additional properties are not allowed ('%s' was unexpected)", rest.PyRepr(map[string]any{k: in[k]}), k)
		}
		var n int64
		switch v := in[k].(type) {
		case int64:
			n = v
		case string:
			if n, err = strconv.ParseInt(v, 10, 64); err != nil {
				return nil, false, bad("Invalid input for field/attribute %s. Value: %s. '%s' is not of type 'integer'", k, v, v)
			}
		default:
			return nil, false, bad("Invalid input for field/attribute %s. Value: %v. %s is not of type 'integer'", k, v, rest.PyRepr(v))
		}
		if n < -1 || n > 0x7fffffff {
			return nil, false, bad("Invalid input for field/attribute %s. Value: %d. %d is less than the minimum of -1", k, n, n)
		}
		limits[k] = n
	}
	return limits, force, nil
}

func (a *api) limits(r *rest.Request) (any, error) {
	project, rule := r.Caller().ProjectID, "os_compute_api:limits"
	if p := r.URL.Query().Get("tenant_id"); p != "" && p != project {
		project, rule = p, "os_compute_api:limits:other_project"
	}
	m, err := a.s.Quota(r.Context(), project, rule)
	if err != nil {
		return nil, err
	}
	abs := map[string]int64{
		"maxTotalInstances": m["instances"].Limit, "maxTotalCores": m["cores"].Limit, "maxTotalRAMSize": m["ram"].Limit, "maxServerMeta": m["metadata_items"].Limit,
		"maxTotalKeypairs": m["key_pairs"].Limit, "maxServerGroups": m["server_groups"].Limit, "maxServerGroupMembers": m["server_group_members"].Limit,
		"totalInstancesUsed": m["instances"].InUse, "totalCoresUsed": m["cores"].InUse, "totalRAMUsed": m["ram"].InUse, "totalServerGroupsUsed": m["server_groups"].InUse,
	}
	if r.Version < rest.V("2.36") {
		abs["maxSecurityGroups"], abs["maxSecurityGroupRules"], abs["maxTotalFloatingIps"] = m["security_groups"].Limit, m["security_group_rules"].Limit, m["floating_ips"].Limit
		abs["totalSecurityGroupsUsed"], abs["totalFloatingIpsUsed"] = 0, 0
	}
	if r.Version < rest.V("2.39") {
		abs["maxImageMeta"] = m["metadata_items"].Limit
	}
	if r.Version < rest.V("2.57") {
		abs["maxPersonality"], abs["maxPersonalitySize"] = m["injected_files"].Limit, m["injected_file_content_bytes"].Limit
	}
	return map[string]any{"limits": map[string]any{"rate": []any{}, "absolute": abs}}, nil
}

type usageView struct {
	TenantID string           `json:"tenant_id"`
	Hours    float64          `json:"total_hours"`
	VCPUs    float64          `json:"total_vcpus_usage"`
	MemoryMB float64          `json:"total_memory_mb_usage"`
	LocalGB  float64          `json:"total_local_gb_usage"`
	Start    rest.Naive       `json:"start"`
	Stop     rest.Naive       `json:"stop"`
	Servers  *[]serverUseView `json:"server_usages,omitempty"`
}

type serverUseView struct {
	InstanceID string     `json:"instance_id"`
	Name       string     `json:"name"`
	Hours      float64    `json:"hours"`
	TenantID   string     `json:"tenant_id"`
	Flavor     string     `json:"flavor"`
	VCPUs      int64      `json:"vcpus"`
	MemoryMB   int64      `json:"memory_mb"`
	LocalGB    int64      `json:"local_gb"`
	State      string     `json:"state"`
	Started    rest.Naive `json:"started_at"`
	Ended      rest.Naive `json:"ended_at"`
	Uptime     int64      `json:"uptime"`
}

func (a *api) usageRoutes() []rest.Route {
	period := func(r *rest.Request) (from, to time.Time, err error) {
		to = time.Now().UTC()
		from = to.AddDate(0, 0, -28)
		for name, t := range map[string]*time.Time{"start": &from, "end": &to} {
			if v := r.URL.Query().Get(name); v != "" {
				if *t, err = rest.ParseTime(v); err != nil {
					return from, to, bad("Datetime is in invalid format")
				}
			}
		}
		if !from.Before(to) {
			return from, to, bad("Invalid start time. The start time cannot occur after the end time.")
		}
		return from, to, nil
	}
	build := func(us []compute.Usage, project string, from, to time.Time, detail bool) usageView {
		v := usageView{TenantID: project, Start: rest.Naive(from), Stop: rest.Naive(to)}
		servers := []serverUseView{}
		for _, u := range us {
			s := u.Server
			v.Hours += u.Hours
			v.VCPUs += u.Hours * float64(s.VCPUs)
			v.MemoryMB += u.Hours * float64(s.RAM)
			v.LocalGB += u.Hours * float64(s.Disk)
			state := s.VMState
			if s.Deleted {
				state = "terminated"
			}
			servers = append(servers, serverUseView{s.ID, s.Name, u.Hours, s.ProjectID, s.Flavor.Name, s.VCPUs, s.RAM, s.Disk, state, rest.Naive(s.Launched), rest.Naive(s.Terminated), seconds(u.Uptime)})
		}
		if detail {
			v.Servers = &servers
		}
		return v
	}
	return []rest.Route{
		{Method: "GET", Path: "/v2.1/os-simple-tenant-usage", Policy: []string{"os_compute_api:os-simple-tenant-usage:list"}, View: usageView{}, Op: rest.Do(func(r *rest.Request) (any, error) {
			from, to, err := period(r)
			if err != nil {
				return nil, err
			}
			us, err := a.s.Usages(r.Context(), "", from, to, "os_compute_api:os-simple-tenant-usage:list")
			if err != nil {
				return nil, err
			}
			out := []usageView{}
			for i := 0; i < len(us); {
				j := i
				for j < len(us) && us[j].Server.ProjectID == us[i].Server.ProjectID {
					j++
				}
				out = append(out, build(us[i:j], us[i].Server.ProjectID, from, to, r.URL.Query().Get("detailed") == "1"))
				i = j
			}
			return map[string]any{"tenant_usages": out}, nil
		})},
		{Method: "GET", Path: "/v2.1/os-simple-tenant-usage/{project}", Policy: []string{"os_compute_api:os-simple-tenant-usage:show"}, View: usageView{}, Op: rest.Do(func(r *rest.Request) (any, error) {
			from, to, err := period(r)
			if err != nil {
				return nil, err
			}
			us, err := a.s.Usages(r.Context(), r.Var("project"), from, to, "os_compute_api:os-simple-tenant-usage:show")
			if err != nil {
				return nil, err
			}
			if len(us) == 0 {
				return map[string]any{"tenant_usage": map[string]any{}}, nil
			}
			return map[string]any{"tenant_usage": build(us, r.Var("project"), from, to, true)}, nil
		})},
		{Method: "GET", Path: "/v2.1/extensions", Policy: []string{"os_compute_api:extensions"}, Op: rest.Do(func(*rest.Request) (any, error) {
			return map[string]any{"extensions": extensions}, nil
		})},
		{Method: "GET", Path: "/v2.1/extensions/{alias}", Policy: []string{"os_compute_api:extensions"}, Op: rest.Do(func(r *rest.Request) (any, error) {
			for _, e := range extensions {
				if e.Alias == r.Var("alias") {
					return map[string]any{"extension": e}, nil
				}
			}
			return nil, nacre.Errorf(nacre.NotFound, "", "The resource could not be found.")
		})},
	}
}

// extension is nova's older way to say what is there. What is listed is built.
type extension struct {
	Name        string `json:"name"`
	Alias       string `json:"alias"`
	Description string `json:"description"`
	Links       []link `json:"links"`
	Updated     string `json:"updated"`
	Namespace   string `json:"namespace"`
}

var extensions = func() []extension {
	var out []extension
	for _, e := range [][2]string{{"AccessIPs", "os-access-ips"}, {"AdminActions", "os-admin-actions"}, {"Aggregates", "os-aggregates"}, {"AvailabilityZone", "os-availability-zone"},
		{"ConfigDrive", "os-config-drive"}, {"ConsoleOutput", "os-console-output"}, {"DiskConfig", "OS-DCF"}, {"ExtendedAvailabilityZone", "OS-EXT-AZ"}, {"ExtendedIps", "OS-EXT-IPS"},
		{"ExtendedIpsMac", "OS-EXT-IPS-MAC"}, {"ExtendedServerAttributes", "OS-EXT-SRV-ATTR"}, {"ExtendedStatus", "OS-EXT-STS"}, {"FlavorAccess", "os-flavor-access"},
		{"FlavorDisabled", "OS-FLV-DISABLED"}, {"FlavorExtraData", "OS-FLV-EXT-DATA"}, {"FlavorExtraSpecs", "os-flavor-extra-specs"}, {"FlavorManage", "os-flavor-manage"},
		{"FlavorRxtx", "os-flavor-rxtx"}, {"FlavorSwap", "os-flavor-swap"}, {"Hypervisors", "os-hypervisors"}, {"InstanceActions", "os-instance-actions"}, {"Keypairs", "os-keypairs"},
		{"LockServer", "os-lock-server"}, {"MultipleCreate", "os-multiple-create"}, {"PauseServer", "os-pause-server"}, {"Personality", "os-personality"},
		{"QuotaClasses", "os-quota-class-sets"}, {"Quotas", "os-quota-sets"}, {"SchedulerHints", "OS-SCH-HNT"}, {"ServerGroups", "os-server-groups"}, {"ServerUsage", "OS-SRV-USG"},
		{"Services", "os-services"}, {"SimpleTenantUsage", "os-simple-tenant-usage"}, {"UsedLimits", "os-used-limits"}, {"UserData", "os-user-data"}} {
		out = append(out, extension{e[0], e[1], e[0] + ".", []link{}, "2014-12-03T00:00:00Z", "http://docs.openstack.org/compute/ext/fake_xml"})
	}
	return out
}()
