package api

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/compute"
	"github.com/nacre-cloud/nacre/internal/rest"
)

// flexID is a number in old microversions and a uuid in new ones.
type flexID struct {
	number int64
	uuid   string
}

// MarshalJSON writes whichever is set.
func (f flexID) MarshalJSON() ([]byte, error) {
	if f.uuid != "" {
		return json.Marshal(f.uuid)
	}
	return json.Marshal(f.number)
}

func hostRef(r *rest.Request, h compute.Host) flexID { return ref(r, h.ID, h.Number) }

func ref(r *rest.Request, id string, number int64) flexID {
	if r.Version >= rest.V("2.53") {
		return flexID{uuid: id}
	}
	return flexID{number: number}
}

type hypervisorView struct {
	ID       flexID `json:"id"`
	Hostname string `json:"hypervisor_hostname"`
	State    string `json:"state"`
	Status   string `json:"status"`
	*hypervisorDetail
	Servers *[]serverRef `json:"servers,omitempty"`
}

type serverRef struct {
	UUID string `json:"uuid"`
	Name string `json:"name"`
}

type hypervisorDetail struct {
	Type        string         `json:"hypervisor_type"`
	Version     int            `json:"hypervisor_version"`
	HostIP      string         `json:"host_ip"`
	Service     map[string]any `json:"service"`
	CPUInfo     any            `json:"cpu_info" until:"2.87"`
	LeastDisk   int            `json:"disk_available_least" until:"2.87"`
	FreeDisk    int64          `json:"free_disk_gb" until:"2.87"`
	FreeRAM     int64          `json:"free_ram_mb" until:"2.87"`
	LocalGB     int            `json:"local_gb" until:"2.87"`
	LocalGBUsed int64          `json:"local_gb_used" until:"2.87"`
	MemoryMB    int            `json:"memory_mb" until:"2.87"`
	MemoryUsed  int64          `json:"memory_mb_used" until:"2.87"`
	VCPUs       int            `json:"vcpus" until:"2.87"`
	VCPUsUsed   int64          `json:"vcpus_used" until:"2.87"`
	VMs         int64          `json:"running_vms" until:"2.87"`
	Workload    int64          `json:"current_workload" until:"2.87"`
	Uptime      *string        `json:"uptime" since:"2.88"`
}

func (a *api) hypervisor(r *rest.Request, h compute.Host, uses map[string]compute.HostUse, detail bool) hypervisorView {
	v := hypervisorView{ID: hostRef(r, h), Hostname: h.Name, State: "down", Status: "enabled"}
	if a.s.Up(h) {
		v.State = "up"
	}
	if h.Disabled {
		v.Status = "disabled"
	}
	if !detail {
		return v
	}
	u, in := uses[h.Name], h.Info
	service := map[string]any{"host": h.Name, "id": hostRef(r, h), "disabled_reason": null(h.DisabledReason)}
	cpu := map[string]any{"arch": in.Arch, "model": in.CPUModel, "vendor": in.CPUVendor, "features": slices.Clone(in.CPUFeatures), "topology": map[string]int{"cores": in.Cores, "threads": in.Threads, "sockets": in.Sockets}}
	if in.CPUFeatures == nil {
		cpu["features"] = []string{}
	}
	d := &hypervisorDetail{Type: in.Type, Version: in.Version, HostIP: in.Address, Service: service, CPUInfo: cpu, LeastDisk: in.DiskFreeGB, FreeDisk: int64(in.DiskGB) - u.DiskGB, FreeRAM: int64(in.MemoryMB) - u.MemoryMB,
		LocalGB: in.DiskGB, LocalGBUsed: u.DiskGB, MemoryMB: in.MemoryMB, MemoryUsed: u.MemoryMB, VCPUs: in.VCPUs, VCPUsUsed: u.VCPUs, VMs: u.Servers, Workload: u.Building, Uptime: null(in.Uptime)}
	if r.Version < rest.V("2.28") {
		// Before 2.28 it is the same document, as text.
		text, _ := json.Marshal(cpu)
		d.CPUInfo = string(text)
	}
	v.hypervisorDetail = d
	return v
}

const hyperRule = "os_compute_api:os-hypervisors:"

func (a *api) listHypervisors(r *rest.Request, detail bool) (any, error) {
	rule := hyperRule + "list"
	if detail {
		rule += "-detail"
	}
	hosts, err := a.s.Hosts(r.Context(), rule)
	if err != nil {
		return nil, err
	}
	uses, err := a.s.HostUses(r.Context())
	if err != nil {
		return nil, err
	}
	q, err := r.Query(strictQuery(r, 0, "2.53", "hypervisor_hostname_pattern", "with_servers"))
	if err != nil {
		return nil, err
	}
	pattern, with := "", false
	if r.Version >= rest.V("2.53") {
		pattern, _ = q.Get("hypervisor_hostname_pattern")
		w, _ := q.Get("with_servers")
		with, _ = strconv.ParseBool(w)
	}
	if pattern != "" && (q.Limit > 0 || q.Marker != "") {
		return nil, bad("Paging over hypervisors with the hypervisor_hostname_pattern query parameter is not supported.")
	}
	hosts = slices.DeleteFunc(hosts, func(h compute.Host) bool { return !strings.Contains(h.Name, pattern) })
	if pattern != "" && len(hosts) == 0 {
		return nil, nacre.Errorf(nacre.NotFound, "", "No hypervisor matching '%s' could be found.", pattern)
	}
	var more []link
	if r.Version >= rest.V("2.33") {
		if hosts, more, err = pageHosts(r, hosts, q); err != nil {
			return nil, err
		}
	}
	out := make([]hypervisorView, len(hosts))
	for i, h := range hosts {
		out[i] = a.hypervisor(r, h, uses, detail)
	}
	if with {
		err = a.addServers(r, out)
	}
	return struct {
		Hypervisors []hypervisorView `json:"hypervisors"`
		Links       []link           `json:"hypervisors_links,omitempty"`
	}{out, more}, err
}

// pageHosts cuts a page out of the hosts (2.33).
func pageHosts(r *rest.Request, hosts []compute.Host, q nacre.Query) ([]compute.Host, []link, error) {
	name := func(h compute.Host) string {
		if r.Version >= rest.V("2.53") {
			return h.ID
		}
		return strconv.FormatInt(h.Number, 10)
	}
	if q.Marker != "" {
		i := slices.IndexFunc(hosts, func(h compute.Host) bool { return name(h) == q.Marker })
		if i < 0 {
			return nil, nil, bad("marker [%s] not found", q.Marker)
		}
		hosts = hosts[i+1:]
	}
	limit := q.Limit
	if limit == 0 || limit > 1000 {
		limit = 1000
	}
	hosts = hosts[:min(limit, len(hosts))]
	return hosts, next(r, len(hosts), limit, func() string { return name(hosts[len(hosts)-1]) }), nil
}

// addServers shows the hosts' servers. Until 2.75 a host without any shows no
// list.
func (a *api) addServers(r *rest.Request, vs []hypervisorView) error {
	names := make([]string, len(vs))
	for i := range vs {
		names[i] = vs[i].Hostname
	}
	byHost, err := a.s.ServersOn(r.Context(), names...)
	for i := range vs {
		refs := []serverRef{}
		for _, s := range byHost[vs[i].Hostname] {
			refs = append(refs, serverRef{s.ID, s.Name})
		}
		if len(refs) > 0 || r.Version >= rest.V("2.75") {
			vs[i].Servers = &refs
		}
	}
	return err
}

// findHost reads the host of a path that names it by number or uuid.
func (a *api) findHost(r *rest.Request, rule string) (compute.Host, error) {
	hosts, err := a.s.Hosts(r.Context(), rule)
	if err != nil {
		return compute.Host{}, err
	}
	id := r.Var("id")
	for _, h := range hosts {
		if r.Version >= rest.V("2.53") && h.ID == id || r.Version < rest.V("2.53") && strconv.FormatInt(h.Number, 10) == id {
			return h, nil
		}
	}
	return compute.Host{}, nacre.Errorf(nacre.NotFound, "", "Hypervisor with ID '%s' could not be found.", id)
}

func (a *api) hostRoutes() []rest.Route {
	const hyper = "/v2.1/os-hypervisors"
	search := func(servers bool) rest.Op {
		rule := hyperRule + "search"
		if servers {
			rule = hyperRule + "servers"
		}
		return rest.Do(func(r *rest.Request) (any, error) {
			hosts, err := a.s.Hosts(r.Context(), rule)
			if err != nil {
				return nil, err
			}
			out := []hypervisorView{}
			for _, h := range hosts {
				if !strings.Contains(h.Name, r.Var("id")) {
					continue
				}
				out = append(out, a.hypervisor(r, h, nil, false))
			}
			if len(out) == 0 {
				return nil, nacre.Errorf(nacre.NotFound, "", "No hypervisor matching '%s' could be found.", r.Var("id"))
			}
			if servers {
				err = a.addServers(r, out)
			}
			return map[string]any{"hypervisors": out}, err
		})
	}
	return append([]rest.Route{
		{Method: "GET", Path: hyper, Policy: []string{hyperRule + "list"}, View: hypervisorView{}, Op: rest.Do(func(r *rest.Request) (any, error) { return a.listHypervisors(r, false) })},
		{Method: "GET", Path: hyper + "/detail", Policy: []string{hyperRule + "list-detail"}, View: hypervisorView{}, Op: rest.Do(func(r *rest.Request) (any, error) { return a.listHypervisors(r, true) })},
		{Method: "GET", Path: hyper + "/statistics", Max: "2.87", Policy: []string{hyperRule + "statistics"}, Op: rest.Do(a.statistics)},
		{Method: "GET", Path: hyper + "/{id}", Policy: []string{hyperRule + "show"}, View: hypervisorView{}, Op: rest.Do(func(r *rest.Request) (any, error) {
			h, err := a.findHost(r, hyperRule+"show")
			if err != nil {
				return nil, err
			}
			uses, err := a.s.HostUses(r.Context())
			if err != nil {
				return nil, err
			}
			vs := []hypervisorView{a.hypervisor(r, h, uses, true)}
			if with, _ := strconv.ParseBool(r.URL.Query().Get("with_servers")); with && r.Version >= rest.V("2.53") {
				err = a.addServers(r, vs)
			}
			return map[string]any{"hypervisor": vs[0]}, err
		})},
		{Method: "GET", Path: hyper + "/{id}/uptime", Max: "2.87", Policy: []string{hyperRule + "uptime"}, Op: rest.Do(func(r *rest.Request) (any, error) {
			h, err := a.findHost(r, hyperRule+"uptime")
			if err != nil {
				return nil, err
			}
			if h.Info.Uptime == "" {
				return nil, nacre.Errorf(nacre.NotImplemented, "", "Virt driver does not implement uptime function.")
			}
			v := a.hypervisor(r, h, nil, false)
			return map[string]any{"hypervisor": map[string]any{"id": v.ID, "hypervisor_hostname": v.Hostname, "state": v.State, "status": v.Status, "uptime": h.Info.Uptime}}, nil
		})},
		{Method: "GET", Path: hyper + "/{id}/search", Max: "2.52", Policy: []string{hyperRule + "search"}, Op: search(false)},
		{Method: "GET", Path: hyper + "/{id}/servers", Max: "2.52", Policy: []string{hyperRule + "servers"}, Op: search(true)},
	}, a.serviceRoutes()...)
}

func (a *api) statistics(r *rest.Request) (any, error) {
	hosts, err := a.s.Hosts(r.Context(), hyperRule+"statistics")
	if err != nil {
		return nil, err
	}
	uses, err := a.s.HostUses(r.Context())
	if err != nil {
		return nil, err
	}
	sum := map[string]int64{"count": 0, "current_workload": 0, "disk_available_least": 0, "free_disk_gb": 0, "free_ram_mb": 0, "local_gb": 0, "local_gb_used": 0, "memory_mb": 0, "memory_mb_used": 0, "running_vms": 0, "vcpus": 0, "vcpus_used": 0}
	for _, h := range hosts {
		if h.Disabled {
			continue
		}
		u, in := uses[h.Name], h.Info
		for k, n := range map[string]int64{"count": 1, "current_workload": u.Building, "disk_available_least": int64(in.DiskFreeGB), "free_disk_gb": int64(in.DiskGB) - u.DiskGB, "free_ram_mb": int64(in.MemoryMB) - u.MemoryMB,
			"local_gb": int64(in.DiskGB), "local_gb_used": u.DiskGB, "memory_mb": int64(in.MemoryMB), "memory_mb_used": u.MemoryMB, "running_vms": u.Servers, "vcpus": int64(in.VCPUs), "vcpus_used": u.VCPUs} {
			sum[k] += n
		}
	}
	return map[string]any{"hypervisor_statistics": sum}, nil
}

type serviceView struct {
	ID         flexID     `json:"id"`
	Binary     string     `json:"binary"`
	Host       string     `json:"host"`
	Zone       string     `json:"zone"`
	Status     string     `json:"status"`
	State      string     `json:"state"`
	UpdatedAt  rest.Naive `json:"updated_at"`
	Reason     *string    `json:"disabled_reason"`
	ForcedDown bool       `json:"forced_down" since:"2.11"`
}

func (a *api) service(r *rest.Request, h compute.Host) serviceView {
	v := serviceView{ID: hostRef(r, h), Binary: "nova-compute", Host: h.Name, Zone: h.Zone, Status: "enabled", State: "down", UpdatedAt: rest.Naive(h.Seen), Reason: null(h.DisabledReason), ForcedDown: h.ForcedDown}
	if h.Disabled {
		v.Status = "disabled"
	}
	if a.s.Up(h) {
		v.State = "up"
	}
	return v
}

func (a *api) serviceRoutes() []rest.Route {
	const base, rule = "/v2.1/os-services", "os_compute_api:os-services:"
	type update struct {
		Status     *string `json:"status" valid:"enum=enabled|disabled"`
		Reason     *string `json:"disabled_reason" valid:"min=1,max=255"`
		ForcedDown *bool   `json:"forced_down" valid:"lax"`
	}
	type old struct {
		Host       string  `json:"host" valid:"required"`
		Binary     string  `json:"binary" valid:"required"`
		Reason     *string `json:"disabled_reason" valid:"min=1,max=255"`
		ForcedDown *bool   `json:"forced_down" since:"2.11" valid:"lax"`
	}
	find := func(r *rest.Request, host, rule string) (compute.Host, error) {
		hosts, err := a.s.Hosts(r.Context(), rule)
		i := slices.IndexFunc(hosts, func(h compute.Host) bool { return h.Name == host })
		if err == nil && i < 0 {
			err = nacre.Errorf(nacre.NotFound, "", "Could not find binary nova-compute on host %s.", host)
		}
		if err != nil {
			return compute.Host{}, err
		}
		return hosts[i], nil
	}
	zones := func(detail bool) rest.Op {
		rule := "os_compute_api:os-availability-zone:list"
		if detail {
			rule = "os_compute_api:os-availability-zone:detail"
		}
		return rest.Do(func(r *rest.Request) (any, error) {
			zs, err := a.s.Zones(r.Context(), rule)
			if err != nil {
				return nil, err
			}
			names := []string{}
			for z := range zs {
				names = append(names, z)
			}
			slices.Sort(names)
			out := []map[string]any{}
			for _, z := range names {
				up := slices.ContainsFunc(zs[z], func(h compute.Host) bool { return a.s.Up(h) && !h.Disabled })
				v := map[string]any{"zoneName": z, "zoneState": map[string]bool{"available": up}, "hosts": nil}
				if detail {
					hosts := map[string]any{}
					for _, h := range zs[z] {
						hosts[h.Name] = map[string]any{"nova-compute": map[string]any{"available": a.s.Up(h), "active": !h.Disabled, "updated_at": rest.Naive(h.Seen)}}
					}
					v["hosts"] = hosts
				}
				out = append(out, v)
			}
			if detail {
				hosts := map[string]map[string]any{}
				for _, c := range a.s.ControlServices() {
					if hosts[c.Host] == nil {
						hosts[c.Host] = map[string]any{}
					}
					hosts[c.Host][c.Binary] = map[string]any{"available": true, "active": true, "updated_at": rest.Naive(c.Seen)}
				}
				out = append(out, map[string]any{"zoneName": compute.InternalZone, "zoneState": map[string]bool{"available": true}, "hosts": hosts})
			}
			return map[string]any{"availabilityZoneInfo": out}, nil
		})
	}
	set := func(name string, fn func(h *compute.Host, b *old), max string) rest.Route {
		return rest.Route{Method: "PUT", Path: base + "/" + name, Max: max, Policy: []string{rule + "update"}, Op: rest.In(func(r *rest.Request, b *old) (any, error) {
			h, err := find(r, b.Host, rule+"update")
			if err != nil {
				return nil, err
			}
			if h, err = a.s.UpdateHost(r.Context(), h.ID, func(h *compute.Host) { fn(h, b) }); err != nil {
				return nil, err
			}
			v := map[string]any{"host": h.Name, "binary": "nova-compute", "status": a.service(r, h).Status}
			if b.Reason != nil {
				v["disabled_reason"] = *b.Reason
			}
			if b.ForcedDown != nil {
				v["forced_down"] = h.ForcedDown
			}
			return map[string]any{"service": v}, nil
		})}
	}
	routes := []rest.Route{
		{Method: "GET", Path: base, Policy: []string{rule + "list"}, View: serviceView{}, Op: rest.Do(func(r *rest.Request) (any, error) {
			hosts, err := a.s.Hosts(r.Context(), rule+"list")
			if err != nil {
				return nil, err
			}
			if _, err := r.Query(strictQuery(r, 0, "2.75", "binary", "host")); err != nil {
				return nil, err
			}
			q := r.URL.Query()
			out := []serviceView{}
			for _, c := range a.s.ControlServices() {
				if b := q.Get("binary"); b != "" && b != c.Binary || q.Get("host") != "" && q.Get("host") != c.Host {
					continue
				}
				out = append(out, serviceView{ID: ref(r, c.ID, c.Number), Binary: c.Binary, Host: c.Host, Zone: compute.InternalZone, Status: "enabled", State: "up", UpdatedAt: rest.Naive(c.Seen)})
			}
			for _, h := range hosts {
				if b := q.Get("binary"); b != "" && b != "nova-compute" || q.Get("host") != "" && q.Get("host") != h.Name {
					continue
				}
				out = append(out, a.service(r, h))
			}
			return map[string]any{"services": out}, nil
		})},
		{Method: "PUT", Path: base + "/{id}", Min: "2.53", Policy: []string{rule + "update"}, View: serviceView{}, Op: rest.In(func(r *rest.Request, b *update) (any, error) {
			if b.Status == nil && b.Reason == nil && b.ForcedDown == nil {
				return nil, bad("No updates were requested. Fields 'status' or 'forced_down' should be specified.")
			}
			if b.Reason != nil && (b.Status == nil || *b.Status != "disabled") {
				return nil, bad("Specifying disabled_reason requires that status is 'disabled'.")
			}
			for _, c := range a.s.ControlServices() {
				if c.ID == r.Var("id") {
					return nil, bad("Updating a %s service is not supported. Only nova-compute services can be updated.", c.Binary)
				}
			}
			h, err := a.s.UpdateHost(r.Context(), r.Var("id"), func(h *compute.Host) {
				if b.Status != nil {
					h.Disabled, h.DisabledReason = *b.Status == "disabled", ""
				}
				if b.Reason != nil {
					h.DisabledReason = *b.Reason
				}
				if b.ForcedDown != nil {
					h.ForcedDown = *b.ForcedDown
				}
			})
			return map[string]any{"service": a.service(r, h)}, err
		})},
		set("enable", func(h *compute.Host, _ *old) { h.Disabled, h.DisabledReason = false, "" }, "2.52"),
		set("disable", func(h *compute.Host, _ *old) { h.Disabled = true }, "2.52"),
		set("disable-log-reason", func(h *compute.Host, b *old) {
			h.Disabled = true
			if b.Reason != nil {
				h.DisabledReason = *b.Reason
			}
		}, "2.52"),
		set("force-down", func(h *compute.Host, b *old) { h.ForcedDown = b.ForcedDown != nil && *b.ForcedDown }, "2.52"),
		{Method: "DELETE", Path: base + "/{id}", Policy: []string{rule + "delete"}, Op: rest.Do(func(r *rest.Request) (any, error) {
			id := r.Var("id")
			if r.Version < rest.V("2.53") {
				h, err := a.findHost(r, rule+"delete")
				if err != nil {
					return nil, err
				}
				id = h.ID
			}
			return nil, a.s.DeleteHost(r.Context(), id)
		})},
		{Method: "GET", Path: "/v2.1/os-availability-zone", Policy: []string{"os_compute_api:os-availability-zone:list"}, Op: zones(false)},
		{Method: "GET", Path: "/v2.1/os-availability-zone/detail", Policy: []string{"os_compute_api:os-availability-zone:detail"}, Op: zones(true)},
	}
	return routes
}
