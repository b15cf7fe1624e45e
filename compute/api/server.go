package api

import (
	"crypto/rand"
	"encoding/base64"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/compute"
	"github.com/nacre-cloud/nacre/internal/rest"
)

type serverCreate struct {
	Name            string            `json:"name" valid:"required,min=1,max=255"`
	Flavor          string            `json:"flavorRef" valid:"required,lax,min=1"`
	Image           string            `json:"imageRef"`
	AdminPass       string            `json:"adminPass"`
	KeyName         string            `json:"key_name" valid:"null,max=255"`
	UserData        string            `json:"user_data" valid:"null,max=65535"`
	ConfigDrive     *bool             `json:"config_drive" valid:"lax,null"`
	Metadata        map[string]string `json:"metadata" valid:"max=255"`
	MinCount        int               `json:"min_count" valid:"lax,min=1"`
	MaxCount        int               `json:"max_count" valid:"lax,min=1"`
	ReservationOnly bool              `json:"return_reservation_id" valid:"lax"`
	Zone            string            `json:"availability_zone" valid:"null,max=255"`
	Groups          []groupName       `json:"security_groups"`
	Networks        any               `json:"networks"`
	BDM             []map[string]any  `json:"block_device_mapping"`
	BDMv2           []blockDevice     `json:"block_device_mapping_v2"`
	DiskConfig      string            `json:"OS-DCF:diskConfig" valid:"enum=AUTO|MANUAL"`
	AccessIPv4      string            `json:"accessIPv4"`
	AccessIPv6      string            `json:"accessIPv6"`
	Personality     []injected        `json:"personality" until:"2.56"`
	Description     string            `json:"description" since:"2.19" valid:"null,max=255"`
	Tags            []string          `json:"tags" since:"2.52" valid:"max=50"`
	Certificates    []string          `json:"trusted_image_certificates" since:"2.63" valid:"null"`
	Host            string            `json:"host" since:"2.74"`
	HypervisorHost  string            `json:"hypervisor_hostname" since:"2.74"`
	Hostname        *string           `json:"hostname" since:"2.90"`
}

// injected is a file for the guest; what else is in the object, nova ignores.
type injected struct {
	Path     string         `json:"path" valid:"required"`
	Contents string         `json:"contents" valid:"required"`
	Rest     map[string]any `json:"-" extra:"true"`
}

type groupName struct {
	Name string `json:"name" valid:"required,min=1,max=255"`
}

type blockDevice struct {
	BootIndex   any            `json:"boot_index"`
	UUID        string         `json:"uuid" valid:"null"`
	Source      string         `json:"source_type" valid:"enum=volume|image|snapshot|blank"`
	Destination string         `json:"destination_type" valid:"enum=local|volume"`
	Delete      bool           `json:"delete_on_termination" valid:"lax"`
	Size        any            `json:"volume_size"`
	Rest        map[string]any `json:"-" extra:"true"`
}

type createBody struct {
	Server serverCreate   `json:"server" valid:"required"`
	Hints  map[string]any `json:"os:scheduler_hints"`
	Hints2 map[string]any `json:"OS-SCH-HNT:scheduler_hints"`
}

type createdView struct {
	ID         string     `json:"id"`
	Links      []link     `json:"links"`
	DiskConfig string     `json:"OS-DCF:diskConfig"`
	Groups     []nameView `json:"security_groups"`
	AdminPass  string     `json:"adminPass,omitempty"`
}

func bad(format string, args ...any) error { return nacre.Errorf(nacre.Invalid, "", format, args...) }

func (a *api) create(r *rest.Request, b *createBody) (any, error) {
	in := b.Server
	n := compute.NewServer{
		Name: strings.TrimSpace(in.Name), Description: in.Description, ImageID: lastPart(in.Image), FlavorID: lastPart(in.Flavor), KeyName: in.KeyName, UserData: in.UserData,
		ConfigDrive: in.ConfigDrive != nil && *in.ConfigDrive, Metadata: in.Metadata, Tags: in.Tags, AvailabilityZone: in.Zone, Host: in.Host, DiskConfig: in.DiskConfig, Min: in.MinCount, Max: in.MaxCount,
	}
	if err := checkHostname(r, in.Hostname); err != nil {
		return nil, err
	}
	if in.Hostname != nil {
		n.Hostname = *in.Hostname
	}
	if n.Name == "" {
		return nil, bad("Invalid input for field/attribute name. Value: %s. '%s' does not match the format of a name", in.Name, in.Name)
	}
	if n.Description == "" && r.Version < rest.V("2.19") {
		n.Description = n.Name
	}
	if n.Host == "" {
		n.Host = in.HypervisorHost
	}
	if n.Host != "" && strings.Contains(n.AvailabilityZone, ":") {
		return nil, bad("One mechanism with host and/or hypervisor_hostname and another mechanism with zone:host:node are mutually exclusive.")
	}
	if n.Max > 0 && n.Min > n.Max {
		return nil, bad("min_count must be <= max_count")
	}
	if n.Max == 0 && n.Min > 1 {
		n.Max = n.Min
	}
	if len(in.Certificates) > 0 {
		return nil, bad(noCertificates)
	}
	if err := injectedFiles(in.Personality, &n); err != nil {
		return nil, err
	}
	if err := accessAddresses(&in.AccessIPv4, &in.AccessIPv6); err != nil {
		return nil, err
	}
	if err := checkMeta(in.Metadata); err != nil {
		return nil, err
	}
	n.AccessIPv4, n.AccessIPv6 = in.AccessIPv4, in.AccessIPv6
	if err := groupHint(b, &n); err != nil {
		return nil, err
	}
	if n.ImageID != "" && !uuidRE.MatchString(n.ImageID) {
		return nil, bad("Invalid imageRef provided.")
	}
	if err := blockDevices(in, &n); err != nil {
		return nil, err
	}
	if err := networks(r, in, &n); err != nil {
		return nil, err
	}
	servers, err := a.s.CreateServers(r.Context(), n)
	if err != nil {
		return nil, err
	}
	if in.ReservationOnly {
		return map[string]string{"reservation_id": servers[0].ReservationID}, nil
	}
	sv := servers[0]
	out := createdView{ID: sv.ID, Links: links(r, "servers/"+sv.ID), DiskConfig: sv.DiskConfig, AdminPass: in.AdminPass, Groups: []nameView{}}
	if out.AdminPass == "" {
		out.AdminPass = rand.Text()[:12]
	}
	names := n.Networks.SecurityGroups
	if len(names) == 0 {
		names = []string{"default"}
	}
	for _, g := range names {
		out.Groups = append(out.Groups, nameView{g})
	}
	r.Set("Location", out.Links[0].Href)
	return map[string]createdView{"server": out}, nil
}

// injectedFiles decodes personality.
func injectedFiles(in []injected, n *compute.NewServer) error {
	for _, f := range in {
		data, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(f.Contents), ""))
		if err != nil {
			return bad("Invalid input for field/attribute contents. Value: %s. %s is not a 'base64'", f.Contents, rest.PyRepr(f.Contents))
		}
		n.Injected = append(n.Injected, compute.InjectedFile{Path: f.Path, Content: data})
	}
	return nil
}

// What a hostname may be: from 2.94 on it may have a domain.
var (
	shortHostRE = regexp.MustCompile("^[a-zA-Z0-9]+[a-zA-Z0-9-]*[a-zA-Z0-9]+$")
	fullHostRE  = regexp.MustCompile("^[a-zA-Z0-9-._]*$")
)

func checkHostname(r *rest.Request, h *string) error {
	if h == nil {
		return nil
	}
	re, shortest, longest := shortHostRE, 2, 63
	if r.Version >= rest.V("2.94") {
		re, shortest, longest = fullHostRE, 1, 255
	}
	why := ""
	switch {
	case len(*h) < shortest:
		why = "is too short"
	case len(*h) > longest:
		why = "is too long"
	case !re.MatchString(*h):
		why = "does not match '" + re.String() + "'"
	default:
		return nil
	}
	return bad("Invalid input for field/attribute hostname. Value: %s. %s %s", *h, rest.PyRepr(*h), why)
}

// accessAddresses checks accessIPv4 and accessIPv6, and brings them into their
// canonical form; nil and "" are none.
func accessAddresses(v4, v6 *string) error {
	for _, x := range []struct {
		v    *string
		name string
		ok   func(netip.Addr) bool
	}{{v4, "4", netip.Addr.Is4}, {v6, "6", netip.Addr.Is6}} {
		if x.v == nil || *x.v == "" {
			continue
		}
		if a, err := netip.ParseAddr(*x.v); err != nil || !x.ok(a) || a.Zone() != "" {
			return bad("Invalid input for field/attribute accessIPv%s. Value: %s. %s is not a 'ipv%s'", x.name, *x.v, rest.PyRepr(*x.v), x.name)
		} else {
			*x.v = a.String() // as RFC 5952 writes it
		}
	}
	return nil
}

// groupHint takes the server group out of the scheduler hints; other hints are
// for filters that nova does not enable by default, and have no effect.
func groupHint(b *createBody, n *compute.NewServer) error {
	hints := b.Hints
	if hints == nil {
		hints = b.Hints2
	}
	v, ok := hints["group"]
	if !ok {
		return nil
	}
	if list, isList := v.([]any); isList {
		if len(list) == 0 {
			return nil
		}
		v = list[0]
	}
	s, _ := v.(string)
	if !uuidRE.MatchString(s) {
		return bad("Invalid input for field/attribute group. Value: %v. %s is not valid under any of the given schemas", v, rest.PyRepr(v))
	}
	n.GroupID = s
	return nil
}

// blockDevices accepts the one form that needs no volume: the image on a local disk.
func blockDevices(in serverCreate, n *compute.NewServer) error {
	if len(in.BDM) > 0 && len(in.BDMv2) > 0 {
		return bad("Using different block_device_mapping syntaxes is not allowed in the same request.")
	}
	n.VolumeForm = len(in.BDM) > 0
	for _, d := range in.BDMv2 {
		local := d.Destination == "local" || d.Destination == "" && d.Source == "image"
		if d.Source != "image" || !local {
			n.VolumeForm = true
			continue
		}
		if n.ImageID == "" {
			n.ImageID = d.UUID
		} else if d.UUID != n.ImageID {
			return bad("Block Device Mapping is Invalid: Boot sequence for the instance and image/block device mapping combination is not valid.")
		}
	}
	return nil
}

// networks reads what was asked: a list, "auto" or "none". From 2.37 it is required.
func networks(r *rest.Request, in serverCreate, n *compute.NewServer) error {
	for _, g := range in.Groups {
		n.Networks.SecurityGroups = append(n.Networks.SecurityGroups, g.Name)
	}
	switch v := in.Networks.(type) {
	case nil:
		if r.Version >= rest.V("2.37") {
			return bad("Invalid input for field/attribute server. Value: %s. 'networks' is a required property", n.Name)
		}
		return nil
	case string:
		if r.Version < rest.V("2.37") || v != "auto" && v != "none" {
			return bad("Invalid input for field/attribute networks. Value: %s. '%s' is not of type 'array'", v, v)
		}
		n.Networks.Mode = v
		return nil
	case []any:
		// An empty list is as if there were none: the only network, or a conflict.
		if len(v) > 0 {
			n.Networks.Mode = "list"
		}
		for _, item := range v {
			nic, err := nicRequest(r, item)
			if err != nil {
				return err
			}
			if nic.PortID != "" && slices.ContainsFunc(n.Networks.NICs, func(o compute.NICRequest) bool { return o.PortID == nic.PortID }) {
				return bad("Port ID '%s' was specified twice: you cannot attach a port multiple times.", nic.PortID)
			}
			n.Networks.NICs = append(n.Networks.NICs, nic)
		}
		return nil
	}
	return bad("Invalid input for field/attribute networks. Value: %v. %s is not of type 'array'", in.Networks, rest.PyRepr(in.Networks))
}

func nicRequest(r *rest.Request, item any) (compute.NICRequest, error) {
	var nic compute.NICRequest
	m, ok := item.(map[string]any)
	if !ok {
		return nic, bad("Invalid input for field/attribute networks. Value: %v. %s is not of type 'object'", item, rest.PyRepr(item))
	}
	for k, v := range m {
		s, isText := v.(string)
		if v == nil && (k == "port" || k == "uuid") {
			continue
		}
		if !isText {
			return nic, bad("Invalid input for field/attribute %s. Value: %v. %s is not of type 'string'", k, v, rest.PyRepr(v))
		}
		switch k {
		case "uuid", "port":
			if k == "uuid" && !uuidRE.MatchString(s) && r.Version < rest.V("2.37") {
				return nic, bad("Bad networks format: network uuid is not in proper format (%s)", s)
			}
			if !uuidRE.MatchString(s) {
				return nic, bad("Invalid input for field/attribute %s. Value: %s. '%s' is not a 'uuid'", k, s, s)
			}
			if k == "uuid" {
				nic.NetworkID = s
			} else {
				nic.PortID = s
			}
		case "fixed_ip":
			ip, err := netip.ParseAddr(s)
			if err != nil {
				return nic, bad("Invalid input for field/attribute fixed_ip. Value: %s. '%s' is not a 'ip-address'", s, s)
			}
			nic.FixedIP = ip
		case "tag":
			if r.Version < rest.V("2.32") || r.Version > rest.V("2.36") && r.Version < rest.V("2.42") {
				return nic, bad("Additional properties are not allowed ('tag' was unexpected)")
			}
			nic.Tag = s
		default:
			return nic, bad("Invalid input for field/attribute 0. Value: %s. Additional properties are not allowed ('%s' was unexpected)", rest.PyRepr(m), k)
		}
	}
	switch {
	case nic.PortID != "" && nic.FixedIP.IsValid():
		return nic, bad("Specified Fixed IP '%s' cannot be used with port '%s': the two cannot be specified together.", nic.FixedIP, nic.PortID)
	case nic.PortID != "":
		nic.NetworkID = ""
	case nic.NetworkID == "":
		return nic, bad("Bad network format: missing 'uuid'")
	}
	return nic, nil
}

func (a *api) listServers(r *rest.Request, detail bool) (any, error) {
	rule := "os_compute_api:servers:index"
	if detail {
		rule = "os_compute_api:servers:detail"
	}
	q, err := a.serverListQuery(r)
	if err != nil {
		return nil, err
	}
	if st := q.All("status"); r.Version >= rest.V("2.38") && len(st) > 0 && !slices.ContainsFunc(st, func(v string) bool { return slices.Contains(knownStatuses, strings.ToUpper(v)) }) {
		return nil, bad("Invalid status value")
	}
	servers, err := a.s.Servers(r.Context(), q, rule)
	if err != nil {
		return nil, err
	}
	if q.Limit == 0 {
		servers = nil // limit=0 is none, not all
	}
	nextLinks := next(r, len(servers), q.Limit, func() string { return servers[len(servers)-1].ID })
	if !detail {
		type short struct {
			ID    string `json:"id"`
			Name  string `json:"name"`
			Links []link `json:"links"`
		}
		out := make([]short, len(servers))
		for i, s := range servers {
			out[i] = short{s.ID, s.Name, links(r, "servers/"+s.ID)}
		}
		return struct {
			Servers []short `json:"servers"`
			Links   []link  `json:"servers_links,omitempty"`
		}{out, nextLinks}, nil
	}
	v, err := a.viewer(r)
	if err != nil {
		return nil, err
	}
	out := make([]serverView, len(servers))
	for i := range servers {
		out[i] = v.server(&servers[i])
		out[i].ServerGroups = nil // only one server's own view has them
	}
	return struct {
		Servers []serverView `json:"servers"`
		Links   []link       `json:"servers_links,omitempty"`
	}{out, nextLinks}, nil
}

func (a *api) show(r *rest.Request, s compute.Server, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	v, err := a.viewer(r)
	if err != nil {
		return nil, err
	}
	return map[string]serverView{"server": v.server(&s)}, nil
}

type updateBody struct {
	Server struct {
		Name        *string          `json:"name" valid:"min=1,max=255"`
		Description rest.Opt[string] `json:"description" since:"2.19" valid:"null,max=255"`
		Hostname    *string          `json:"hostname" since:"2.90"`
		DiskConfig  *string          `json:"OS-DCF:diskConfig" valid:"enum=AUTO|MANUAL"`
		AccessIPv4  *string          `json:"accessIPv4"`
		AccessIPv6  *string          `json:"accessIPv6"`
	} `json:"server" valid:"required"`
}

func (a *api) update(r *rest.Request, b *updateBody) (compute.Server, error) {
	in := b.Server
	if err := accessAddresses(in.AccessIPv4, in.AccessIPv6); err != nil {
		return compute.Server{}, err
	}
	if in.Name != nil {
		if *in.Name = strings.TrimSpace(*in.Name); *in.Name == "" {
			return compute.Server{}, bad("Invalid input for field/attribute name. Value: . '' is too short")
		}
	}
	if err := checkHostname(r, in.Hostname); err != nil {
		return compute.Server{}, err
	}
	return a.s.UpdateServer(r.Context(), r.Var("id"), compute.ServerUpdate{Name: in.Name, Description: in.Description.Ptr(), Hostname: in.Hostname, DiskConfig: in.DiskConfig,
		AccessIPv4: in.AccessIPv4, AccessIPv6: in.AccessIPv6})
}

func (a *api) serverRoutes() []rest.Route {
	return []rest.Route{
		{Method: "GET", Path: "/v2.1/servers", Policy: []string{"os_compute_api:servers:index"}, View: serverView{}, Op: rest.Do(func(r *rest.Request) (any, error) { return a.listServers(r, false) })},
		{Method: "GET", Path: "/v2.1/servers/detail", Policy: []string{"os_compute_api:servers:detail"}, View: serverView{}, Op: rest.Do(func(r *rest.Request) (any, error) { return a.listServers(r, true) })},
		{Method: "POST", Path: "/v2.1/servers", Status: 202, Policy: []string{"os_compute_api:servers:create"}, View: createdView{}, Op: rest.In(a.create)},
		{Method: "GET", Path: "/v2.1/servers/{id}", Policy: []string{"os_compute_api:servers:show"}, View: serverView{}, Op: rest.Do(func(r *rest.Request) (any, error) {
			s, err := a.s.Server(r.Context(), r.Var("id"))
			return a.show(r, s, err)
		})},
		{Method: "PUT", Path: "/v2.1/servers/{id}", Max: "2.74", Policy: []string{"os_compute_api:servers:update"}, View: updatedView{}, Op: rest.In(func(r *rest.Request, b *updateBody) (any, error) {
			s, err := a.update(r, b)
			if err != nil {
				return nil, err
			}
			v, err := a.viewer(r)
			return map[string]updatedView{"server": v.updated(&s)}, err
		})},
		{Method: "PUT", Path: "/v2.1/servers/{id}", Min: "2.75", Policy: []string{"os_compute_api:servers:update"}, View: serverView{}, Op: rest.In(func(r *rest.Request, b *updateBody) (any, error) {
			s, err := a.update(r, b)
			return a.show(r, s, err)
		})},
		{Method: "DELETE", Path: "/v2.1/servers/{id}", Policy: []string{"os_compute_api:servers:delete"}, Op: rest.Do(func(r *rest.Request) (any, error) {
			return nil, a.s.DeleteServer(r.Context(), r.Var("id"), "os_compute_api:servers:delete")
		})},
	}
}

func (a *api) actionRoutes() []rest.Route {
	action := func(name, rule string, op rest.Op, more ...func(*rest.Route)) rest.Route {
		rt := rest.Route{Method: "POST", Path: "/v2.1/servers/{id}/action", Action: name, Status: 202, Policy: []string{rule}, Op: op}
		for _, f := range more {
			f(&rt)
		}
		return rt
	}
	deed := func(d compute.Deed) rest.Op {
		return rest.Do(func(r *rest.Request) (any, error) { return nil, a.s.Do(r.Context(), r.Var("id"), d) })
	}
	type reboot struct {
		Reboot struct {
			Type string `json:"type" valid:"required,enum=HARD|Hard|hard|SOFT|Soft|soft"`
		} `json:"reboot" valid:"required"`
	}
	type lockBody struct {
		Lock *struct {
			Reason string `json:"locked_reason" valid:"min=1,max=255"`
		} `json:"lock" valid:"null"`
	}
	type reset struct {
		State struct {
			State string `json:"state" valid:"required,enum=active|error"`
		} `json:"os-resetState" valid:"required"`
	}
	type console struct {
		Console *struct {
			Length *int `json:"length" valid:"lax,null,min=-1"`
		} `json:"os-getConsoleOutput" valid:"null"`
	}
	return append([]rest.Route{
		action("os-start", "os_compute_api:servers:start", deed(compute.Start)),
		action("os-stop", "os_compute_api:servers:stop", deed(compute.Stop)),
		action("pause", "os_compute_api:os-pause-server:pause", deed(compute.Pause)),
		action("unpause", "os_compute_api:os-pause-server:unpause", deed(compute.Unpause)),
		action("reboot", "os_compute_api:servers:reboot", rest.In(func(r *rest.Request, b *reboot) (any, error) {
			return nil, a.s.Do(r.Context(), r.Var("id"), compute.Deed(strings.ToUpper(b.Reboot.Type)))
		})),
		action("lock", "os_compute_api:os-lock-server:lock", rest.In(func(r *rest.Request, b *lockBody) (any, error) {
			reason := ""
			if b.Lock != nil {
				reason = b.Lock.Reason
			}
			return nil, a.s.SetLock(r.Context(), r.Var("id"), true, reason)
		})),
		action("unlock", "os_compute_api:os-lock-server:unlock", rest.Do(func(r *rest.Request) (any, error) { return nil, a.s.SetLock(r.Context(), r.Var("id"), false, "") })),
		action("forceDelete", "os_compute_api:os-deferred-delete:force", rest.Do(func(r *rest.Request) (any, error) {
			return nil, a.s.DeleteServer(r.Context(), r.Var("id"), "os_compute_api:os-deferred-delete:force")
		})),
		action("os-resetState", "os_compute_api:os-admin-actions:reset_state", rest.In(func(r *rest.Request, b *reset) (any, error) {
			return nil, a.s.ResetState(r.Context(), r.Var("id"), b.State.State)
		})),
		action("addSecurityGroup", "os_compute_api:os-security-groups:add", rest.In(func(r *rest.Request, b *struct {
			Group groupName `json:"addSecurityGroup" valid:"required"`
		}) (any, error) {
			return nil, a.s.SetGroup(r.Context(), r.Var("id"), b.Group.Name, true)
		})),
		action("removeSecurityGroup", "os_compute_api:os-security-groups:remove", rest.In(func(r *rest.Request, b *struct {
			Group groupName `json:"removeSecurityGroup" valid:"required"`
		}) (any, error) {
			return nil, a.s.SetGroup(r.Context(), r.Var("id"), b.Group.Name, false)
		})),
		action("os-getConsoleOutput", "os_compute_api:os-console-output", rest.In(func(r *rest.Request, b *console) (any, error) {
			lines := 0
			if b.Console != nil && b.Console.Length != nil {
				if lines = *b.Console.Length; lines == 0 {
					return map[string]any{"output": ""}, nil
				}
			}
			out, err := a.s.Console(r.Context(), r.Var("id"), lines)
			if err != nil {
				return nil, err
			}
			return map[string]string{"output": out}, nil
		}), func(rt *rest.Route) { rt.Status = 200 }),
	}, a.moveActions(action)...)
}
