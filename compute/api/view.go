package api

import (
	"strings"
	"time"

	"github.com/nacre-cloud/nacre/compute"
	"github.com/nacre-cloud/nacre/internal/rest"
)

type serverView struct {
	ID       string            `json:"id"`
	Name     string            `json:"name"`
	Status   string            `json:"status"`
	TenantID string            `json:"tenant_id"`
	UserID   string            `json:"user_id"`
	Metadata map[string]string `json:"metadata"`
	HostID   string            `json:"hostId"`
	Image    any               `json:"image"`
	// Flavor is a flavorRef up to 2.46, then a flavorInServer.
	Flavor      any                  `json:"flavor"`
	Created     rest.Seconds         `json:"created"`
	Updated     rest.Seconds         `json:"updated"`
	Addresses   map[string][]address `json:"addresses"`
	AccessIPv4  string               `json:"accessIPv4"`
	AccessIPv6  string               `json:"accessIPv6"`
	Links       []link               `json:"links"`
	DiskConfig  string               `json:"OS-DCF:diskConfig"`
	Progress    *int                 `json:"progress,omitempty"`
	Fault       *faultView           `json:"fault,omitempty"`
	Zone        string               `json:"OS-EXT-AZ:availability_zone"`
	Pinned      *string              `json:"pinned_availability_zone" since:"2.96"`
	ConfigDrive string               `json:"config_drive"`
	KeyName     *string              `json:"key_name"`
	Launched    rest.Naive           `json:"OS-SRV-USG:launched_at"`
	Terminated  rest.Naive           `json:"OS-SRV-USG:terminated_at"`
	*adminView
	Hostname     *string    `json:"OS-EXT-SRV-ATTR:hostname,omitempty" since:"2.90"`
	TaskState    *string    `json:"OS-EXT-STS:task_state"`
	VMState      string     `json:"OS-EXT-STS:vm_state"`
	PowerState   int        `json:"OS-EXT-STS:power_state"`
	Volumes      []struct{} `json:"os-extended-volumes:volumes_attached"`
	Groups       []nameView `json:"security_groups,omitempty"`
	Locked       bool       `json:"locked" since:"2.9"`
	LockedReason *string    `json:"locked_reason" since:"2.73"`
	Description  *string    `json:"description" since:"2.19"`
	Tags         []string   `json:"tags" since:"2.26"`
	Certificates *[]string  `json:"trusted_image_certificates" since:"2.63"`
	ServerGroups *[]string  `json:"server_groups,omitempty" since:"2.71"`
	HostStatus   *string    `json:"host_status,omitempty" since:"2.16"`
}

// adminView is what only administrators see of a server.
type adminView struct {
	Host          *string `json:"OS-EXT-SRV-ATTR:host"`
	InstanceName  string  `json:"OS-EXT-SRV-ATTR:instance_name"`
	Hypervisor    *string `json:"OS-EXT-SRV-ATTR:hypervisor_hostname"`
	ReservationID string  `json:"OS-EXT-SRV-ATTR:reservation_id" since:"2.3"`
	LaunchIndex   int     `json:"OS-EXT-SRV-ATTR:launch_index" since:"2.3"`
	Hostname      string  `json:"OS-EXT-SRV-ATTR:hostname" since:"2.3" until:"2.89"`
	KernelID      string  `json:"OS-EXT-SRV-ATTR:kernel_id" since:"2.3"`
	RamdiskID     string  `json:"OS-EXT-SRV-ATTR:ramdisk_id" since:"2.3"`
	RootDevice    string  `json:"OS-EXT-SRV-ATTR:root_device_name" since:"2.3"`
	// UserData is left out where nova shows it elsewhere.
	UserData **string `json:"OS-EXT-SRV-ATTR:user_data,omitempty" since:"2.3"`
}

type nameView struct {
	Name string `json:"name"`
}

type flavorRef struct {
	ID    string `json:"id"`
	Links []link `json:"links"`
}

type flavorInServer struct {
	VCPUs      int               `json:"vcpus"`
	RAM        int               `json:"ram"`
	Disk       int               `json:"disk"`
	Ephemeral  int               `json:"ephemeral"`
	Swap       int               `json:"swap"`
	Name       string            `json:"original_name"`
	ExtraSpecs map[string]string `json:"extra_specs"`
}

type address struct {
	Addr    string `json:"addr"`
	Version int    `json:"version"`
	Type    string `json:"OS-EXT-IPS:type,omitempty"`
	MAC     string `json:"OS-EXT-IPS-MAC:mac_addr,omitempty"`
}

type faultView struct {
	Code    int          `json:"code"`
	Created rest.Seconds `json:"created"`
	Message string       `json:"message"`
	Details *string      `json:"details,omitempty"`
}

func null(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// viewer knows what the caller may see.
type viewer struct {
	r     *rest.Request
	admin bool
	hosts map[string]string // status by host, 2.16
}

func (a *api) viewer(r *rest.Request) (viewer, error) {
	v := viewer{r: r, admin: a.s.SeesHosts(r.Context())}
	if v.admin && r.Version >= rest.V("2.16") {
		hosts, err := a.s.HostStatus(r.Context())
		if err != nil {
			return v, err
		}
		v.hosts = hosts
	}
	return v, nil
}

func (v viewer) server(s *compute.Server) serverView {
	out := serverView{
		ID: s.ID, Name: s.Name, Status: s.Status(), TenantID: s.ProjectID, UserID: s.UserID, Metadata: s.Metadata, HostID: s.HostID(), Image: "",
		Created: rest.Seconds(s.Created), Updated: rest.Seconds(s.Updated), Addresses: addresses(s, true), Links: links(v.r, "servers/"+s.ID), DiskConfig: s.DiskConfig,
		Zone: s.AvailabilityZone, Pinned: null(s.RequestedZone), KeyName: null(s.KeyName), Launched: rest.Naive(s.Launched), Terminated: rest.Naive(s.Terminated),
		TaskState: null(s.TaskState), VMState: s.VMState, PowerState: int(s.PowerState), Locked: s.Locked, LockedReason: null(s.LockedReason),
		Description: null(s.Description), Tags: s.Tags, Hostname: &s.Hostname, AccessIPv4: s.AccessIPv4, AccessIPv6: s.AccessIPv6, ServerGroups: &[]string{},
	}
	if s.GroupID != "" {
		*out.ServerGroups = []string{s.GroupID}
	}
	if out.Metadata == nil {
		out.Metadata = map[string]string{}
	}
	if s.ImageID != "" {
		out.Image = flavorRef{s.ImageID, []link{bookmark(v.r, "images/"+s.ImageID)}}
	}
	if s.ConfigDrive {
		out.ConfigDrive = "True"
	}
	if v.r.Version < rest.V("2.47") {
		out.Flavor = flavorRef{s.FlavorID, []link{bookmark(v.r, "flavors/"+s.FlavorID)}}
	} else {
		in := flavorInServer{s.Flavor.VCPUs, s.Flavor.RAM, s.Flavor.Disk, s.Flavor.Ephemeral, s.Flavor.Swap, s.Flavor.Name, s.Flavor.ExtraSpecs}
		if in.ExtraSpecs == nil {
			in.ExtraSpecs = map[string]string{}
		}
		out.Flavor = in
	}
	switch out.Status {
	case "ACTIVE", "BUILD", "DELETED", "MIGRATING", "RESIZE", "VERIFY_RESIZE":
		out.Progress = new(int)
	}
	if s.Fault != nil && (out.Status == "ERROR" || out.Status == "DELETED") {
		out.Fault = &faultView{Code: s.Fault.Code, Created: rest.Seconds(s.Fault.Created), Message: s.Fault.Message}
		if s.Fault.Details != "" && (v.admin || s.Fault.Code != 500) {
			out.Fault.Details = &s.Fault.Details
		}
	}
	for _, name := range groups(s) {
		out.Groups = append(out.Groups, nameView{name})
	}
	if v.admin {
		userData := null(s.UserData)
		out.adminView = &adminView{Host: null(s.Host), InstanceName: "instance-" + s.ID[:8], Hypervisor: null(s.Host), ReservationID: s.ReservationID, LaunchIndex: s.LaunchIndex,
			Hostname: s.Hostname, RootDevice: "/dev/vda", UserData: &userData}
		status := v.hosts[s.Host]
		out.HostStatus = &status
	}
	return out
}

// updatedView is what PUT answered before 2.75: without addresses' types and what
// had been extensions.
type updatedView struct {
	ID           string               `json:"id"`
	Name         string               `json:"name"`
	Status       string               `json:"status"`
	TenantID     string               `json:"tenant_id"`
	UserID       string               `json:"user_id"`
	Metadata     map[string]string    `json:"metadata"`
	HostID       string               `json:"hostId"`
	Image        any                  `json:"image"`
	Flavor       any                  `json:"flavor"`
	Created      rest.Seconds         `json:"created"`
	Updated      rest.Seconds         `json:"updated"`
	Addresses    map[string][]address `json:"addresses"`
	AccessIPv4   string               `json:"accessIPv4"`
	AccessIPv6   string               `json:"accessIPv6"`
	Links        []link               `json:"links"`
	DiskConfig   string               `json:"OS-DCF:diskConfig"`
	Progress     *int                 `json:"progress,omitempty"`
	Fault        *faultView           `json:"fault,omitempty"`
	Locked       bool                 `json:"locked" since:"2.9"`
	Description  *string              `json:"description" since:"2.19"`
	Tags         []string             `json:"tags" since:"2.26"`
	Certificates *[]string            `json:"trusted_image_certificates" since:"2.63"`
	ServerGroups *[]string            `json:"server_groups" since:"2.71"`
	LockedReason *string              `json:"locked_reason" since:"2.73"`
}

func (v viewer) updated(s *compute.Server) updatedView {
	x := v.server(s)
	return updatedView{ID: x.ID, Name: x.Name, Status: x.Status, TenantID: x.TenantID, UserID: x.UserID, Metadata: x.Metadata, HostID: x.HostID, Image: x.Image, Flavor: x.Flavor,
		Created: x.Created, Updated: x.Updated, Addresses: addresses(s, false), AccessIPv4: x.AccessIPv4, AccessIPv6: x.AccessIPv6, Links: x.Links, DiskConfig: x.DiskConfig,
		Progress: x.Progress, Fault: x.Fault, Locked: x.Locked, Description: x.Description, Tags: x.Tags, ServerGroups: x.ServerGroups, LockedReason: x.LockedReason}
}

func groups(s *compute.Server) []string {
	var names []string
	seen := map[string]bool{}
	for _, p := range s.Ports {
		for _, g := range p.SecurityGroups {
			if !seen[g] {
				seen[g] = true
				names = append(names, g)
			}
		}
	}
	return names
}

// addresses are a server's by network name, fixed ones first, each followed by
// the floating ones that lead to it.
func addresses(s *compute.Server, ext bool) map[string][]address {
	out := map[string][]address{}
	for _, p := range s.Ports {
		add := func(addr string, typ string) {
			a := address{Addr: addr, Version: 4}
			if strings.Contains(addr, ":") {
				a.Version = 6
			}
			if ext {
				a.Type, a.MAC = typ, p.MAC
			}
			out[p.NetworkName] = append(out[p.NetworkName], a)
		}
		for _, a := range p.Addresses {
			add(a.Address.String(), "fixed")
			for _, f := range a.Floating {
				add(f.String(), "floating")
			}
		}
	}
	return out
}

// seconds is a helper for views of durations.
func seconds(d time.Duration) int64 { return int64(d / time.Second) }
